//! The state directory, its disk, the ledger in it, and the agent that has the ledger.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD};

use super::{Check, Needs, Patient};
use crate::ledger::{AgentLock, Ledger, LedgerError, MirrorRow, set_aside_in};
use crate::local::unfit_for_a_ledger;
use crate::mirror::{MirrorPath, Stat};
use crate::plan::LEDGER;
use crate::status::Status;
use crate::upload::{Clock, SAMPLE};
use crate::wording::{bytes, shown, time};

const STATE: &str = "state";
const DISK: &str = "disk";
const LEDGER_CHECK: &str = "ledger";
const AGENT: &str = "agent";

/// With less room than this, in bytes, the ledger may not be able to grow for long.
const LITTLE: u64 = 256 << 20;
/// With less than this it hardly can at all.
const NONE: u64 = 16 << 20;

/// What the ledger says, and what was found on the way.
#[derive(Default)]
pub(super) struct State {
    pub(super) checks: Vec<Check>,
    pub(super) known: Option<Known>,
}

/// What the ledger says.
pub(super) struct Known {
    pub(super) status: Status,
    /// Each mirror, with some of what is stored of it.
    pub(super) mirrors: Vec<(MirrorRow, Vec<(MirrorPath, Stat)>)>,
}

impl State {
    pub(super) fn knows_mirrors(&self) -> bool {
        self.known.as_ref().is_some_and(|known| !known.mirrors.is_empty())
    }

    pub(super) fn is_alive(&self) -> bool {
        self.known.as_ref().is_some_and(|known| known.status.is_alive())
    }

    /// The dStor of the agent that ran last.
    pub(super) fn url(&self) -> Option<String> {
        self.known.as_ref()?.status.dstor.url.clone()
    }
}

pub(super) fn look(patient: &Patient) -> State {
    let dir = match &patient.state_dir {
        Ok(dir) => dir.clone(),
        Err(error) => {
            let hint = error.hint().unwrap_or("set HOME");
            let bad = Check::bad(STATE, Needs::Config, error.to_string(), hint);
            return State { checks: vec![bad, skipped(LEDGER_CHECK), skipped(AGENT)], ..State::default() };
        }
    };
    let mut state = State { checks: vec![directory(&dir)], known: None };
    if !dir.is_dir() {
        state.checks.extend([skipped(LEDGER_CHECK), skipped(AGENT)]);
        return state;
    }
    let path = dir.join(LEDGER);
    let ledger_bytes = path.metadata().map_or(0, |found| found.len());
    if let Ok(disk) = rustix::fs::statvfs(&dir) {
        state.checks.push(room(disk.f_bavail.saturating_mul(disk.f_frsize), ledger_bytes));
    }
    let (known, ledger) = match read(&dir) {
        Ok((known, form)) => {
            let (size, newest) = (bytes(ledger_bytes), Ledger::NEWEST_FORM);
            let form = match form < newest {
                true => format!("form {form}, which the agent's next start brings to {newest}"),
                false => format!("form {form}"),
            };
            (Some(known), Check::ok(LEDGER_CHECK, format!("`{}` is whole ({size}, {form})", shown(&path))))
        }
        Err(error) => (None, unreadable(&error)),
    };
    state.checks.push(ledger);
    for aside in set_aside_in(&path) {
        let what = format!("one was damaged at {}, set aside, and begun anew", time(aside.at));
        let hint = format!("look at its disk (`dmesg`, SMART), then remove {}*", shown(&aside.path));
        state.checks.push(Check::bad(LEDGER_CHECK, Needs::Hands, what, hint));
    }
    state.checks.push(agent(&dir, known.as_ref()));
    state.known = known;
    state
}

fn skipped(name: &'static str) -> Check {
    Check::skipped(name, "there is no state directory: nothing ran yet")
}

fn directory(dir: &Path) -> Check {
    let path = shown(dir);
    let found = match dir.metadata() {
        Ok(found) if found.is_dir() => found,
        Ok(_) => {
            let hint = "move it away, or name another with --state-dir";
            return Check::bad(STATE, Needs::Config, format!("`{path}` is no directory"), hint);
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Check::ok(STATE, format!("`{path}` is not there yet; the first run makes it"));
        }
        Err(error) => {
            let hint = "run this as the user that the agent runs as";
            return Check::bad(STATE, Needs::Hands, format!("cannot look at `{path}`: {error}"), hint);
        }
    };
    if let Some(kind) = unfit_for_a_ledger(dir) {
        let hint = "name one on a disk of this machine, with --state-dir";
        return Check::bad(STATE, Needs::Config, format!("`{path}` is on {kind}, where the ledger would break"), hint);
    }
    if rustix::fs::accessat(CWD, dir, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK, AtFlags::empty()).is_err() {
        let hint =
            format!("run this as the user that the agent runs as, or give the directory to this one: `ls -ld {path}`");
        return Check::bad(STATE, Needs::Hands, format!("this user cannot write in `{path}`"), hint);
    }
    let mode = found.mode() & 0o777;
    if mode & 0o077 != 0 {
        let what = format!("others can look into `{path}` (mode {mode:04o})");
        return Check::warn(STATE, what, format!("chmod 700 '{path}'; the agent's next start does so, too"));
    }
    Check::ok(STATE, format!("`{path}` is private"))
}

fn room(free: u64, ledger: u64) -> Check {
    let amount = bytes(free);
    if free < NONE {
        let what = format!("{amount} are left where the ledger is: it can hardly be written");
        return Check::bad(DISK, Needs::Hands, what, "make room; everything waits meanwhile, and nothing is lost");
    }
    if free < ledger.saturating_mul(3) {
        let what = format!("{amount} are left, too little for the daily copy of a ledger of {}", bytes(ledger));
        return Check::warn(DISK, what, "make room, so that there is a copy should the ledger be damaged");
    }
    if free < LITTLE {
        return Check::warn(DISK, format!("{amount} are left where the ledger is"), "make room before it is full");
    }
    Check::ok(DISK, format!("{amount} are left where the ledger is"))
}

/// What the ledger says, its form too, after all of it was read.
fn read(dir: &Path) -> Result<(Known, i64), LedgerError> {
    let path = dir.join(LEDGER);
    // An agent writes to its ledger: that is read beside it. Else nobody does, and no trace of the look is left.
    if AgentLock::is_held(dir) {
        return tell(&Ledger::open_read_only(&path)?, dir);
    }
    match Ledger::open_untouched(&path).and_then(|ledger| tell(&ledger, dir)) {
        // Someone may have begun to write just now.
        Err(error) if error.is_damage() => tell(&Ledger::open_read_only(&path)?, dir),
        told => told,
    }
}

fn tell(ledger: &Ledger, dir: &Path) -> Result<(Known, i64), LedgerError> {
    ledger.check_quickly()?;
    let mirrors = ledger.active_mirrors()?.into_iter().map(|mirror| {
        let sample = ledger.some_stored(mirror.id, SAMPLE)?;
        Ok((mirror, sample))
    });
    let mirrors = mirrors.collect::<Result<_, LedgerError>>()?;
    Ok((Known { status: Status::of(ledger, dir)?, mirrors }, ledger.form()?))
}

fn unreadable(error: &LedgerError) -> Check {
    if let LedgerError::None(_) = error {
        return Check::ok(LEDGER_CHECK, "there is none yet; the first run makes it");
    }
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
    let hint = error.hint().unwrap_or_else(|| "look at the file and its disk; `dstor-sync status` tries again".into());
    Check::bad(LEDGER_CHECK, Needs::Hands, format!("{error}{cause}"), hint)
}

fn agent(dir: &Path, known: Option<&Known>) -> Check {
    let Some(Known { status, .. }) = known else {
        return match AgentLock::is_held(dir) {
            true => Check::ok(AGENT, "one runs"),
            false => Check::warn(AGENT, "none runs", "start it: `dstor-sync run`, or its service"),
        };
    };
    let now = Clock.now();
    let agent = &status.agent;
    if let Some(pid) = agent.pid {
        if agent.paused {
            let until = agent.paused_until.map(|at| format!(" until {}", at.shown(now))).unwrap_or_default();
            return Check::warn(AGENT, format!("process {pid} is paused{until}"), "`dstor-sync resume` has it go on");
        }
        if agent.metered {
            let what = format!("process {pid} uploads nothing: the connection is metered");
            return Check::warn(
                AGENT,
                what,
                "it goes on over another one; `metered = \"go\"` in [upload] has it go on now",
            );
        }
        let since = agent.since.map(|at| format!(" since {}", at.shown(now))).unwrap_or_default();
        return Check::ok(AGENT, format!("{}{since}, process {pid}", agent.state));
    }
    let as_of = status.as_of.map(|at| format!("; its last word is of {}", at.shown(now))).unwrap_or_default();
    if agent.state == "dead" {
        let hint = "start it again: `dstor-sync run`, or its service. If nobody killed it and power did not fail, look \
                    into its log";
        return Check::bad(AGENT, Needs::Hands, format!("it ended unexpectedly{as_of}"), hint);
    }
    Check::warn(AGENT, format!("none runs{as_of}"), "start it: `dstor-sync run`, or its service")
}

#[cfg(test)]
mod tests {
    use super::*;

    // D2
    #[test]
    fn a_disk_is_told_of_before_the_ledger_cannot_grow() {
        for (free, ledger, word) in [
            (10 << 30, 100 << 20, "ok"),
            (200 << 20, 1 << 20, "warn"),
            (1 << 30, 500 << 20, "warn"),
            (15 << 20, 1 << 20, "bad"),
            (0, 0, "bad"),
        ] {
            assert_eq!(room(free, ledger).word(), word, "{free} {ledger}");
        }
        assert!(room(1 << 30, 500 << 20).what.contains("copy"));
    }
}
