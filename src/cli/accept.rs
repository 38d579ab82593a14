//! `accept`: a person's word that files which are suddenly empty are meant to be.

use crate::ledger::{AgentLock, Ledger};
use crate::plan::LEDGER;
use crate::wording::{files, shown};

use super::args::{Emptied, Global};
use super::exit::{Exit, Failure};
use super::output::Output;
use super::places;

pub(super) fn run(global: &Global, command: &Emptied, output: &Output) -> Result<Exit, Failure> {
    let state_dir = places::state_dir(global, &command.which)?;
    let mirrors = places::open(&state_dir)?.active_mirrors()?;
    let mut wanted = Vec::new();
    for path in &command.paths {
        let (mirror, below) = places::find(&mirrors, path)?;
        wanted.push((mirror.id, below, path));
    }
    let ledger = Ledger::open_for_a_word(&state_dir.join(LEDGER))?;
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
    if !AgentLock::is_held(&state_dir) {
        output.note("note: the agent is not running; this takes effect when one starts");
    }
    Ok(exit)
}
