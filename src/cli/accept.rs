//! `accept`: a person's word that files which are suddenly empty are meant to be.

use crate::wording::{files, shown};

use super::args::{Emptied, Global};
use super::exit::{Exit, Failure};
use super::output::Output;
use super::places;
use super::steer::tell;

pub(super) fn run(global: &Global, command: &Emptied, output: &Output) -> Result<Exit, Failure> {
    tell(global, &command.which, output, |ledger| {
        let mirrors = ledger.active_mirrors()?;
        let mut wanted = Vec::new();
        for path in &command.paths {
            let (mirror, below) = places::find(&mirrors, path)?;
            wanted.push((mirror.id, below, path));
        }
        let mut exit = Exit::Fine;
        for (mirror, below, path) in wanted {
            let accepted = ledger.accept_emptied(mirror, &below)?;
            if accepted == 0 {
                output.note(format_args!("`{}`: nothing there is held for being empty", shown(path)));
                exit = Exit::Attention;
            } else {
                output.line(format_args!("`{}`: {} will be uploaded empty", shown(path), files(accepted)));
            }
        }
        Ok(exit)
    })
}
