//! `root accept`: a person's word that the directory at a mirror's path is the mirror.

use crate::ledger::{AgentLock, Ledger};
use crate::local::{OpenRoot, Tree as _};
use crate::plan::LEDGER;
use crate::wording::shown;

use super::args::{Accept, Global};
use super::exit::{Exit, Failure};
use super::output::Output;
use super::places;

pub(super) fn accept(global: &Global, command: &Accept, output: &Output) -> Result<Exit, Failure> {
    let state_dir = places::state_dir(global, &command.which)?;
    let mirrors = places::open(&state_dir)?.active_mirrors()?;
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
    Ledger::open_for_a_word(&state_dir.join(LEDGER))?.believe_root(mirror.id, Some(root.identity()))?;
    let when = if AgentLock::is_held(&state_dir) { "within seconds" } else { "when it starts: it is not running" };
    output.line(format_args!("`{name}` is the mirror's directory from now on; the agent looks at it {when}"));
    Ok(Exit::Fine)
}
