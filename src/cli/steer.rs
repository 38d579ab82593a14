//! `pause`, `resume`, `rescan`, `retry`: words to the agent, or to the next one that starts.

use crate::ledger::{AgentLock, Ledger, LedgerError, UNTIL_RESUMED};
use crate::mirror::MirrorPath;
use crate::plan::LEDGER;
use crate::upload::Clock;
use crate::wording::{files, shown, time};

use super::args::{Global, Pause, Retry, Which};
use super::exit::{Exit, Failure};
use super::output::Output;
use super::places;

pub(super) fn pause(global: &Global, command: &Pause, output: &Output) -> Result<Exit, Failure> {
    let until = command.length.map_or(UNTIL_RESUMED, |length| {
        Clock.now().saturating_add(i64::try_from(length.as_millis()).unwrap_or(UNTIL_RESUMED))
    });
    tell(global, &command.which, output, |ledger| {
        ledger.pause_until(Some(until))?;
        let end = if until == UNTIL_RESUMED { "`dstor-sync resume`".into() } else { time(until) };
        output.line(format_args!("paused until {end}; what is being uploaded goes on to its end"));
        Ok(Exit::Fine)
    })
}

pub(super) fn resume(global: &Global, command: &Which, output: &Output) -> Result<Exit, Failure> {
    tell(global, command, output, |ledger| {
        let was_paused = ledger.steering()?.pause_at(Clock.now()).is_some();
        ledger.pause_until(None)?;
        output.line(if was_paused { "going on" } else { "it was not paused" });
        Ok(Exit::Fine)
    })
}

pub(super) fn rescan(global: &Global, command: &Which, output: &Output) -> Result<Exit, Failure> {
    tell(global, command, output, |ledger| {
        ledger.ask_for_scans()?;
        output.line("every mirror will be scanned; `dstor-sync status` tells when the last scan ended");
        Ok(Exit::Fine)
    })
}

pub(super) fn retry(global: &Global, command: &Retry, output: &Output) -> Result<Exit, Failure> {
    tell(global, &command.which, output, |ledger| {
        let mirrors = ledger.active_mirrors()?;
        let mut wanted = Vec::new();
        for path in &command.paths {
            let (mirror, below) = places::find(&mirrors, path)?;
            wanted.push((mirror.id, below, shown(path)));
        }
        if command.paths.is_empty() {
            wanted.extend(mirrors.iter().map(|mirror| (mirror.id, MirrorPath::top(), shown(&mirror.settings.path))));
        }
        let encrypts = !ledger.sealing()?.is_empty();
        if command.unencrypted && !encrypts {
            return Err(Failure::new(Exit::Attention, "no file is encrypted now, so they would go as they are again")
                .with_hint("name recipients under [encrypt], and start the agent or have it read its configuration"));
        }
        let (none, again) = match (command.unencrypted, command.stored) {
            (true, _) => ("is stored unencrypted", "sent again, encrypted"),
            (_, true) if encrypts => ("is stored", "sent again"),
            (_, true) => ("is stored unencrypted", "sent again"),
            _ => ("failed", "tried again"),
        };
        let mut exit = Exit::Fine;
        for (mirror, below, name) in wanted {
            let tried = if command.unencrypted || command.stored {
                // What went encrypted does not go in the open for a word that says nothing of that.
                ledger.send_stored_again(mirror, &below, command.unencrypted || !encrypts, Clock.now())?
            } else {
                ledger.retry(mirror, &below, Clock.now())?
            };
            match tried {
                0 if command.paths.is_empty() => output.line(format_args!("`{name}`: nothing {none}")),
                0 => {
                    output.note(format_args!("`{name}`: nothing there {none}"));
                    exit = Exit::Attention;
                }
                tried => output.line(format_args!("`{name}`: {} will be {again}", files(tried))),
            }
        }
        ledger.ask_at_once()?;
        Ok(exit)
    })
}

/// Leaves a word, and says so if nobody is there to hear it.
pub(super) fn tell(
    global: &Global,
    which: &Which,
    output: &Output,
    word: impl FnOnce(&Ledger) -> Result<Exit, Failure>,
) -> Result<Exit, Failure> {
    let state_dir = places::state_dir(global, which)?;
    let path = state_dir.join(LEDGER);
    let ledger = Ledger::open_for_a_word(&path)?;
    if ledger.is_of_an_older_form()? {
        return Err(LedgerError::Older(path).into());
    }
    let exit = word(&ledger)?;
    // What could not be done takes effect nowhere.
    if exit != Exit::Fine || AgentLock::is_held(&state_dir) {
        return Ok(exit);
    }
    output.note("note: the agent is not running; this takes effect when one starts");
    if let Some(other) = places::other_agent(&state_dir) {
        output.note(format_args!("hint: {other}"));
    }
    Ok(Exit::NotRunning)
}
