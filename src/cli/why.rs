//! `why`: the exact reason for a path's state.

use crate::dstor::link;
use crate::ledger::{Entry, EntryState, Found, Ledger, MirrorRow, Reading};
use crate::local::{OpenRoot, Tree as _};
use crate::mirror::{Decision, EMPTIED, Included, MirrorPath, Observed, State, decide};
use crate::upload::Folder;
use crate::wording::{bytes, shown, time};

use super::args::{Global, Why};
use super::exit::{Exit, Failure};
use super::output::Output;
use super::places;
use super::remote::{Remote, Whereabouts};

pub(super) fn run(global: &Global, command: &Why, output: &Output) -> Result<Exit, Failure> {
    let state_dir = places::state_dir(global, &command.which)?;
    let ledger = places::open(&state_dir)?;
    let mirrors = ledger.active_mirrors()?;
    let (mirror, path) = places::find(&mirrors, &command.path)?;
    let name = shown(path.under(&mirror.settings.path));

    let root = match OpenRoot::open(&mirror.settings.path, mirror.root) {
        Ok(root) => root,
        Err(error) => {
            output.line(format_args!("{name}: its mirror is missing: {error}. Nothing in it counts as gone."));
            return Ok(Exit::Attention);
        }
    };
    let folder = Folder::new(mirror.id, &mirror.settings, String::new());
    let unreadable = |error: std::io::Error| {
        Failure::new(Exit::Attention, format!("cannot look at `{name}`: {error}"))
            .with_hint("let this user read it, and enter the directories above it; it waits until then")
    };
    let look = root.look(&path).map_err(unreadable)?;
    if look.observed != Observed::Missing
        && let Included::No(rule) =
            folder.rules.judge(&root, &path, look.observed.is_directory()).map_err(unreadable)?
    {
        output.line(format_args!("{name}: excluded by the rule {rule}"));
        return Ok(Exit::Fine);
    }
    let mut entry = None;
    if !path.is_top() && look.observed != Observed::Directory {
        ledger.entries(mirror.id, &path, |found| {
            entry = Some(found).filter(|found| found.path == path);
            false
        })?;
    }
    let url = ledger.agent()?.map(|agent| agent.url).unwrap_or_default();
    match entry {
        Some(entry) => {
            let exit = explain(&name, &entry, &look.observed, &folder, &url, output);
            if entry.row.as_ref().and_then(|row| row.held.as_ref()).is_some_and(|held| held.is_name_hidden) {
                let Remote { dir, name } = Whereabouts::new(&ledger)?.of(mirror, &path, Some(true));
                let (dir, name) = (dir.unwrap_or_default(), name.unwrap_or_default());
                output.line(format_args!("name     hidden; on dStor it is {name}"));
                output.line(format_args!("         in {}", shown(if dir.is_empty() { "/" } else { &dir })));
            }
            Ok(exit)
        }
        None => unknown(&name, &look.observed, &ledger, mirror, &path, output),
    }
}

fn explain(name: &str, entry: &Entry, observed: &Observed, folder: &Folder, url: &str, output: &Output) -> Exit {
    let reason = entry.reason.as_ref().map(|(_, message)| shown(message));
    let since = entry.since.map(|since| format!(" since {}", time(since))).unwrap_or_default();
    match entry.state {
        EntryState::Settled(State::Stored) => {
            if differs(entry, observed, folder) {
                output.line(format_args!(
                    "{name}: it changed since it was stored; it is looked at when it is quiet, or at the next scan"
                ));
            } else {
                output.line(format_args!("{name}: stored, and unchanged since"));
            }
            if let Some(Reading { found, at }) = entry.reading {
                let what = found.message().unwrap_or("dStor gave exactly these bytes");
                output.line(format_args!("read     {}: {what}", time(at)));
            }
        }
        EntryState::Settled(State::Failed) => {
            let tries = entry.attempts;
            output.line(format_args!("{name}: failed{since}, tries: {tries}: {}", reason.unwrap_or_default()));
            output.line("It is tried again when it changes, or with `dstor-sync retry`.");
        }
        EntryState::Settled(State::Skipped) => {
            output.line(format_args!("{name}: skipped{since}: {}", reason.unwrap_or_default()));
        }
        EntryState::Settled(State::Gone) => {
            output.line(format_args!("{name}: no longer here; dStor keeps what was stored"));
        }
        EntryState::Uploading => output.line(format_args!("{name}: uploading now")),
        EntryState::Pending => {
            let is_emptied = entry.reason.as_ref().is_some_and(|(code, _)| code == EMPTIED);
            let held = if is_emptied { "when it is filled again, or accepted" } else { "when its mirror is back" };
            let next = entry.next_attempt_at.map_or(held.into(), time);
            let tries = entry.attempts;
            match reason {
                Some(reason) => {
                    output.line(format_args!("{name}: waiting{since}, tries: {tries}: {reason}; next try {next}"));
                }
                None => output.line(format_args!("{name}: waiting its turn{since}; looked at from {next} on")),
            }
        }
    }
    if let Some(held) = entry.row.as_ref().and_then(|row| row.held.as_ref()) {
        let proof = match held.proof.as_deref() {
            Some("cid") => "the hash is that of the bytes that were sent",
            Some(_) => "read back and compared",
            None if entry.reading.is_some() => "not proved any more: see above",
            None => "not proved: the hash is none that could be computed here",
        };
        output.line(format_args!("stored   {}, {} ({proof})", time(held.at), held.hash));
        output.line(format_args!("link     {}", shown(link(url, &held.hash))));
        if let Some(sealed) = held.sealed {
            let size = bytes(sealed.size);
            output.line(format_args!("form     encrypted, {size}; who has the hash needs the private key as well"));
        }
    }
    let is_lost = entry.reading.is_some_and(|reading| reading.found != Found::Same);
    let needs_you = match entry.state {
        EntryState::Settled(State::Failed) => true,
        EntryState::Settled(State::Stored) => is_lost,
        EntryState::Settled(State::Skipped | State::Gone) | EntryState::Pending | EntryState::Uploading => false,
    };
    if needs_you { Exit::Attention } else { Exit::Fine }
}

fn differs(entry: &Entry, observed: &Observed, folder: &Folder) -> bool {
    let Observed::File(stat) = observed else { return true };
    let admitted = folder.policy.admit(stat.size, &entry.path);
    decide(observed, entry.row.as_ref().map(|row| &row.recorded), admitted) != Decision::Nothing
}

fn unknown(
    name: &str,
    observed: &Observed,
    ledger: &Ledger,
    mirror: &MirrorRow,
    path: &MirrorPath,
    output: &Output,
) -> Result<Exit, Failure> {
    match observed {
        Observed::Missing => {
            return Err(Failure::new(Exit::Attention, format!("`{name}` does not exist, and nothing is known of it"))
                .with_hint("correct the path; `dstor-sync ls` lists what is known"));
        }
        Observed::Directory => {
            let (mut settled, mut waiting, mut failed) = (0_u64, 0_u64, 0_u64);
            ledger.entries(mirror.id, path, |entry| {
                match entry.state {
                    EntryState::Pending | EntryState::Uploading => waiting += 1,
                    EntryState::Settled(State::Failed) => failed += 1,
                    EntryState::Settled(State::Stored) => settled += 1,
                    EntryState::Settled(State::Skipped | State::Gone) => {}
                }
                true
            })?;
            output.line(format_args!(
                "{name}: a directory; of the files in it {settled} are stored, {waiting} wait, {failed} failed"
            ));
        }
        Observed::File(_) | Observed::Other(..) => {
            output.line(format_args!("{name}: not looked at yet; it is when it is quiet, or at the next scan"));
        }
    }
    Ok(Exit::Fine)
}
