//! `export`: what dStor holds, for other programs.

mod bytes;
mod out;

use std::path::{Path, PathBuf};

use crate::dstor::link;
use crate::export::{CSV_HEAD, Record, pin};
use crate::ledger::{Entry, EntryState, Held, Ledger, MirrorRow};
use crate::mirror::{MirrorPath, State, shell_word};
use crate::wording::{JsonPath, file_time, files, shown, time};

use super::args::{Export, Global};
use super::exit::{Exit, Failure};
use super::output::Output;
use super::remote::Whereabouts;
use super::{logs, places};
use out::Out;

/// Files that are named one by one where the reason is the same for all; the rest is a number.
const SHOWN: u64 = 10;

/// Everything that a run works with.
struct Run<'a> {
    global: &'a Global,
    command: &'a Export,
    output: &'a Output,
    ledger: &'a Ledger,
    /// What is to be told of. None lies within another.
    scopes: Vec<(&'a MirrorRow, MirrorPath)>,
    tally: Tally,
}

/// How many files came to what.
#[derive(Default)]
struct Tally {
    /// In the list or the archive.
    taken: u64,
    /// dStor holds nothing of them yet.
    not_stored: u64,
    /// No longer in the mirror, and not asked for.
    gone: u64,
    /// Named to the person, with the reason.
    left_out: u64,
    /// dStor gave no answer.
    unknown: u64,
    /// Paths that were named, and of which nothing is known.
    unheard: Vec<PathBuf>,
}

/// A file that is told of.
struct Told<'a> {
    mirror: &'a MirrorRow,
    entry: &'a Entry,
    held: &'a Held,
}

/// Whether there is use in going on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Go {
    On,
    /// Nobody reads on, or it was asked to stop.
    Home,
}

pub(super) fn run(global: &Global, command: &Export, output: &Output) -> Result<Exit, Failure> {
    logs::start(global, None, output);
    let state_dir = places::state_dir(global, &command.which)?;
    let ledger = places::open(&state_dir)?;
    let mirrors = ledger.active_mirrors()?;
    // Sums name files below the mirror, and an archive is read from one dStor.
    let of_one = match (command.sha256sum, &command.car) {
        (true, _) => Some(("each has sums of its own", "dstor-sync export --sha256sum")),
        (false, Some(_)) => Some(("each has an archive of its own", "dstor-sync export --car FILE")),
        (false, None) => None,
    };
    let mut wanted: Vec<(&MirrorRow, MirrorPath)> = Vec::new();
    if let Some(several) = of_one {
        let (mirror, paths) = places::only(&mirrors, &command.paths, several)?;
        wanted.extend(paths.into_iter().map(|path| (mirror, path)));
    } else if command.paths.is_empty() {
        wanted.extend(mirrors.iter().map(|mirror| (mirror, MirrorPath::top())));
    } else {
        for path in &command.paths {
            wanted.push(places::find(&mirrors, path)?);
        }
    }
    let run = Run { global, command, output, ledger: &ledger, scopes: without_nested(wanted), tally: Tally::default() };
    match &command.car {
        Some(file) => {
            let file = out::admitted(global, file, &mirrors)?;
            run.archive(&state_dir, &file)
        }
        None => {
            let to = command.output.as_deref().map(|file| out::admitted(global, file, &mirrors)).transpose()?;
            let out = Out::begin(output, to.as_deref(), command.force)?;
            if command.sha256sum { run.sums(&state_dir, out) } else { run.list(out) }
        }
    }
}

/// The same without what lies in another of them.
fn without_nested(wanted: Vec<(&MirrorRow, MirrorPath)>) -> Vec<(&MirrorRow, MirrorPath)> {
    let is_within = |at: usize, (mirror, path): &(&MirrorRow, MirrorPath)| {
        wanted.iter().enumerate().any(|(other, (of, above))| {
            other != at && of.id == mirror.id && path.is_within(above) && (path != above || other < at)
        })
    };
    let kept: Vec<bool> = wanted.iter().enumerate().map(|(at, one)| !is_within(at, one)).collect();
    wanted.into_iter().zip(kept).filter_map(|(one, is_kept)| is_kept.then_some(one)).collect()
}

impl Run<'_> {
    fn list(mut self, mut out: Out<'_>) -> Result<Exit, Failure> {
        let url = self.ledger.agent()?.map(|agent| agent.url);
        let whereabouts = Whereabouts::new(self.ledger)?;
        let Export { csv, pins, .. } = *self.command;
        if csv && out.put(CSV_HEAD.as_bytes())? == Go::Home {
            return Ok(Exit::Fine);
        }
        self.each(|told, tally| {
            tally.taken += 1;
            let line = match (pins, csv) {
                // Whoever is given the list is told no name that dStor was not.
                (true, _) => pin(
                    &told.held.hash,
                    &whereabouts.travelled(told.mirror, &told.entry.path, told.held.is_name_hidden),
                ),
                (false, true) => told.record(url.as_deref(), &whereabouts).csv(),
                (false, false) => told.record(url.as_deref(), &whereabouts).json()?,
            };
            out.put(line.as_bytes())
        })?;
        self.conclude(out)
    }

    /// Calls `each` for every file that is wanted and of which dStor holds something, and counts the others.
    fn each(&mut self, mut each: impl FnMut(Told<'_>, &mut Tally) -> Result<Go, Failure>) -> Result<Go, Failure> {
        let (scopes, tally) = (&self.scopes, &mut self.tally);
        for (mirror, scope) in scopes {
            let (mut went, mut any) = (Ok(Go::On), false);
            self.ledger.entries(mirror.id, scope, |entry| {
                any = true;
                let Some(held) = entry.row.as_ref().and_then(|row| row.held.as_ref()) else {
                    tally.not_stored += u64::from(match entry.state {
                        EntryState::Pending | EntryState::Uploading | EntryState::Settled(State::Failed) => true,
                        EntryState::Settled(State::Stored | State::Skipped | State::Gone) => false,
                    });
                    return true;
                };
                if entry.state == EntryState::Settled(State::Gone) && !self.command.gone && entry.path != *scope {
                    tally.gone += 1;
                    return true;
                }
                went = each(Told { mirror, entry: &entry, held }, tally);
                matches!(went, Ok(Go::On))
            })?;
            if went? == Go::Home {
                return Ok(Go::Home);
            }
            if !any && !scope.is_top() {
                tally.unheard.push(scope.under(&mirror.settings.path));
            }
        }
        Ok(Go::On)
    }

    /// Ends a list.
    fn conclude(self, out: Out<'_>) -> Result<Exit, Failure> {
        if let Some(file) = out.finish()? {
            self.output.line(format_args!("{} in `{}`.", files(self.tally.taken), shown(file)));
        }
        Ok(self.tell_the_rest())
    }

    /// What is not in it, and what that means.
    fn tell_the_rest(&self) -> Exit {
        let Tally { not_stored, gone, left_out, unknown, ref unheard, .. } = self.tally;
        for named in unheard {
            self.output.note(format_args!("error: nothing is known of `{}`", shown(named)));
            self.output.note(format_args!("hint: `dstor-sync why {}` tells more", shell_word(named)));
        }
        if not_stored > 0 {
            self.output.note(format_args!("{} not in it: dStor holds nothing of them yet.", files(not_stored)));
        }
        if gone > 0 {
            self.output.note(format_args!("{} no longer in the mirror; `--gone` takes these, too.", files(gone)));
        }
        if unknown > SHOWN {
            self.output.note(format_args!("{} left out without an answer of dStor, all told.", files(unknown)));
        }
        match (not_stored + left_out > 0 || !unheard.is_empty(), unknown > 0) {
            (true, _) => Exit::Attention,
            (false, true) => Exit::Unreachable,
            (false, false) => Exit::Fine,
        }
    }
}

impl Told<'_> {
    fn path(&self) -> JsonPath {
        JsonPath::new(&self.entry.path.under(&self.mirror.settings.path))
    }

    fn record(&self, url: Option<&str>, whereabouts: &Whereabouts) -> Record {
        let remote = whereabouts.of(self.mirror, &self.entry.path, Some(self.held.is_name_hidden));
        let recorded = self.entry.row.as_ref().map(|row| &row.recorded);
        // Size and time are those of the version that was looked at last: of what dStor holds only while that is it.
        let stored = recorded.filter(|recorded| recorded.state == State::Stored);
        Record {
            path: self.path(),
            state: self.entry.state.word(),
            size: stored.map(|stored| stored.stat.size),
            modified_at: stored.and_then(|stored| file_time(stored.stat.mtime)),
            blake3: self.held.digest.to_string(),
            hash: self.held.hash.to_string(),
            proof: self.held.proof.clone(),
            encrypted: self.held.sealed.is_some(),
            url: url.map(|url| link(url, &self.held.hash)),
            remote_dir: remote.dir,
            stored_at: time(self.held.at),
            remote_name: remote.name,
        }
    }

    /// Bytes in the version that dStor holds, if that is known.
    fn size(&self) -> Option<u64> {
        let recorded = &self.entry.row.as_ref()?.recorded;
        (recorded.state == State::Stored).then_some(recorded.stat.size)
    }

    /// No version of it that dStor holds has more bytes.
    fn longest(&self) -> u64 {
        self.size().unwrap_or_else(|| self.mirror.settings.policy.max_file_size.max(self.entry.size))
    }
}

/// What cannot be written, and what to do.
fn unwritable(path: &Path, error: &std::io::Error) -> Failure {
    let failure = Failure::new(Exit::Attention, format!("cannot write `{}`: {error}", shown(path)));
    match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            Failure::new(Exit::Attention, format!("`{}` is there already", shown(path)))
                .with_hint("choose another name, or say `--force`")
        }
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            failure.with_hint("make room, or choose another place; nothing was left behind")
        }
        _ => failure,
    }
}
