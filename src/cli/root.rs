//! `root accept`: a person's word that the directory at a mirror's path is the mirror.

use crate::local::{OpenRoot, Tree as _};
use crate::wording::shown;

use super::args::{Accept, Global};
use super::exit::{Exit, Failure};
use super::output::Output;
use super::places;
use super::steer::tell;

pub(super) fn accept(global: &Global, command: &Accept, output: &Output) -> Result<Exit, Failure> {
    tell(global, &command.which, output, |ledger| {
        let mirrors = ledger.active_mirrors()?;
        let (mirror, below) = places::find(&mirrors, &command.dir)?;
        let name = shown(&mirror.settings.path);
        if !below.is_top() {
            return Err(Failure::new(Exit::Usage, format!("`{}` is no mirror's directory", shown(&command.dir)))
                .with_hint(format!("it lies in the mirror `{name}`: name that one")));
        }
        // This very directory: whatever takes its place later is another one again.
        let Ok(root) = OpenRoot::open(&mirror.settings.path, None) else {
            return Err(Failure::new(Exit::Attention, format!("`{name}` is not there, or cannot be opened"))
                .with_hint("mount its disk, or make the directory"));
        };
        ledger.believe_root(mirror.id, Some(root.identity()))?;
        output.line(format_args!("`{name}` is the mirror's directory from now on"));
        Ok(Exit::Fine)
    })
}
