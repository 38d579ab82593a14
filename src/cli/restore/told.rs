//! What a restore tells: of each file, at its end, and by its exit status.

use std::path::Path;

use serde::Serialize;

use crate::mirror::MirrorPath;
use crate::restore::{EndedBy, Fate, Item, Listed, Summary};
use crate::wording::{JsonPath, bytes, files, shown, time};

use super::super::exit::{Exit, Failure};
use super::super::output::Tone;
use super::super::signals;
use super::Run;

/// The form of the lines below.
const SCHEMA: u32 = 1;
/// Paths that are told of one by one where the reason is the same for all; the rest is a number.
const SHOWN: u64 = 10;

/// A line of `restore --json`; its form is fixed.
#[derive(Serialize)]
struct Line {
    schema: u32,
    #[serde(flatten)]
    path: JsonPath,
    /// `restored`, `there`, `due` (with `--dry-run`), `kept`, `missing`, `different`, `locked`, `unknown`, `failed`, `not_stored`,
    /// `skipped` or `nonsense`.
    result: &'static str,
    size: Option<u64>,
    hash: Option<String>,
    /// Whether a later version was seen than dStor holds.
    is_older: bool,
    error: Option<String>,
}

/// The last line of `restore --json`.
#[derive(Serialize)]
struct LastLine<'a> {
    schema: u32,
    summary: &'a Tally,
}

/// How many files came to what.
#[derive(Serialize, Default)]
pub(super) struct Tally {
    restored: u64,
    there: u64,
    due: u64,
    kept: u64,
    missing: u64,
    different: u64,
    /// Encrypted, and no key that was given opens them.
    locked: u64,
    unknown: u64,
    failed: u64,
    not_stored: u64,
    skipped: u64,
    nonsense: u64,
    /// Of those that are there: in an older version than was last seen.
    older: u64,
    /// Of those that were restored: without their time or mode.
    bare: u64,
    /// No longer in the mirror, and not asked for.
    gone: u64,
    bytes_read: u64,
}

impl Run<'_> {
    pub(super) fn tell(&mut self, item: &Item, fate: Option<&Fate>) {
        let tally = &mut self.tally;
        let path_of = |path: &MirrorPath| JsonPath::new(&path.under(&self.dest));
        let line =
            |path, result| Line { schema: SCHEMA, path, result, size: None, hash: None, is_older: false, error: None };
        let (line, tone) = match item {
            Item::NotStored(path) => {
                tally.not_stored += 1;
                (line(path_of(path), "not_stored"), Some(Tone::Busy))
            }
            Item::Skipped(path) => {
                tally.skipped += 1;
                (line(path_of(path), "skipped"), None)
            }
            Item::Nonsense(path) => {
                use std::os::unix::ffi::OsStrExt as _;
                tally.nonsense += 1;
                let path = JsonPath::new(Path::new(std::ffi::OsStr::from_bytes(path)));
                let why = "its record makes no sense; nothing is done about it".to_owned();
                (Line { error: Some(why), ..line(path, "nonsense") }, Some(Tone::Bad))
            }
            Item::Wanted(wanted) => {
                let Some(fate) = fate else { return };
                let (result, tone, error) = match fate {
                    Fate::Restored { is_dressed, .. } => {
                        tally.restored += 1;
                        tally.bare += u64::from(!is_dressed);
                        ("restored", None, None)
                    }
                    Fate::There => {
                        tally.there += 1;
                        ("there", None, None)
                    }
                    Fate::Due => {
                        tally.due += 1;
                        ("due", Some(Tone::Good), None)
                    }
                    Fate::Kept(why) => {
                        tally.kept += 1;
                        ("kept", Some(Tone::Bad), Some(why.clone()))
                    }
                    Fate::Missing => {
                        tally.missing += 1;
                        ("missing", Some(Tone::Bad), Some("dStor does not have it any more".to_owned()))
                    }
                    Fate::Different => {
                        tally.different += 1;
                        ("different", Some(Tone::Bad), Some("dStor gives other bytes than were stored".to_owned()))
                    }
                    Fate::Locked(why) => {
                        tally.locked += 1;
                        let tone = (tally.locked <= SHOWN).then_some(Tone::Bad);
                        ("locked", tone, Some((*why).to_owned()))
                    }
                    Fate::NotAnswered(why) => {
                        tally.unknown += 1;
                        let tone = (tally.unknown <= SHOWN).then_some(Tone::Busy);
                        ("unknown", tone, Some(why.clone()))
                    }
                    Fate::Failed(why) => {
                        tally.failed += 1;
                        ("failed", Some(Tone::Bad), Some(why.clone()))
                    }
                };
                let is_there = matches!(fate, Fate::Restored { .. } | Fate::There | Fate::Due);
                let is_older = is_there && wanted.is_older;
                tally.older += u64::from(is_older);
                if let Some(bar) = &self.bar {
                    bar.inc(1);
                    bar.set_message(wanted.path.to_string());
                }
                let (size, hash) = (Some(wanted.size), Some(wanted.hash.to_string()));
                let line = Line { size, hash, is_older, error, ..line(path_of(&wanted.path), result) };
                (line, tone.or(is_older.then_some(Tone::Busy)))
            }
        };
        self.line(&line, tone);
    }

    /// In JSON of each, else of those of which a person has to know.
    fn line(&self, line: &Line, tone: Option<Tone>) {
        if self.command.json {
            return self.output.line(serde_json::to_string(line).unwrap_or_default());
        }
        let Some(tone) = tone else { return };
        let (word, why) = match (line.result, line.error.as_deref()) {
            ("not_stored", _) => ("not stored", "dStor holds no version of it"),
            ("restored" | "there", _) => ("older", "dStor holds an older version than was last seen"),
            (word, why) => (word, why.unwrap_or_default()),
        };
        let word = self.output.paint(&format!("{word:<10}"), tone);
        let text = format!("{word}  {}  {}", line.path.shown(), shown(why));
        match &self.bar {
            Some(bar) => bar.suspend(|| self.output.line_if_read(text.trim_end())),
            None => self.output.line_if_read(text.trim_end()),
        };
    }

    /// Whether there was nothing to some path that was named.
    pub(super) fn told_of_all(&mut self, listed: &[Listed]) -> bool {
        let command = self.command;
        let mut is_short = false;
        for (at, found) in listed.iter().enumerate() {
            self.tally.gone += found.gone;
            if found.files > 0 || found.within.is_some() {
                continue;
            }
            let named = command.paths.get(at).map(shown);
            let Some(named) = named.filter(|_| found.gone == 0) else {
                if found.gone > 0 {
                    self.output.note(format_args!(
                        "error: of `{}` there are only files that are no longer in the mirror",
                        command.paths.get(at).map_or_else(|| "the mirror".into(), shown)
                    ));
                    self.output.note("hint: `--gone` restores them");
                    is_short = true;
                }
                continue;
            };
            match command.at {
                None => {
                    self.output.note(format_args!("error: nothing of `{named}` is stored"));
                    self.output.note(format_args!("hint: `dstor-sync why {named}` tells more"));
                }
                Some(at) => {
                    self.output.note(format_args!("error: by {} dStor held nothing of `{named}`", time(at)));
                    self.output.note(format_args!("hint: `dstor-sync log {named}` tells of its versions"));
                }
            }
            is_short = true;
        }
        is_short
    }

    /// The last line, and what it means.
    pub(super) fn conclude(&mut self, summary: &Summary) -> Result<(), Failure> {
        self.tally.bytes_read = summary.bytes;
        let Tally { restored, there, due, kept, missing, different, locked, unknown, failed, .. } = &self.tally;
        let Tally { not_stored, skipped, nonsense, older, bare, gone, bytes_read, .. } = &self.tally;
        if self.command.json {
            let last = LastLine { schema: SCHEMA, summary: &self.tally };
            self.output.line(serde_json::to_string(&last).map_err(std::io::Error::from)?);
        } else if self.command.dry_run {
            self.output.line(format_args!(
                "{} would be restored, {there} already there, {kept} left as they are.",
                files(*due)
            ));
        } else {
            let mut text = format!("{} restored ({}), {there} already there", files(*restored), bytes(*bytes_read));
            for (count, what) in [
                (kept, "left as they are"),
                (missing, "missing"),
                (different, "different"),
                (locked, "still encrypted"),
                (unknown, "without an answer"),
                (failed, "not written"),
                (not_stored, "never stored"),
                (nonsense, "with a record that makes no sense"),
            ] {
                if *count > 0 {
                    text.push_str(&format!(", {count} {what}"));
                }
            }
            self.output.line(format_args!("{text}."));
        }
        let note = |count: u64, what: &str| {
            if count > 0 && !self.command.json {
                self.output.note(format_args!("{}{what}", files(count)));
            }
        };
        note(*older, ": dStor holds an older version than was last seen here.");
        note(*bare, " could not be given the time or permissions: this file system does not take them.");
        note(
            *skipped,
            " never mirrored, such as links and pipes; `dstor-sync ls --state skipped` lists what was left out.",
        );
        note(*gone, " no longer in the mirror; `--gone` restores these, too.");
        if *locked > 0 {
            let (what, hint) = match self.identities {
                None => ("encrypted, and no key was given", "name the file with the private key: `--identity FILE`"),
                Some(_) => (
                    "encrypted to another key than those in the identity file",
                    "name the file with the private key that belongs to it; one file may hold several, a line each",
                ),
            };
            self.output.note(format_args!("error: {} {what}", are(*locked)));
            self.output.note(format_args!("hint: {hint}"));
        }
        match &summary.ended_by {
            Some(EndedBy::Unreachable(why)) => {
                self.output.note(format_args!("error: {}", shown(why)));
                self.output.note("hint: the same command goes on where this one ended");
            }
            Some(EndedBy::Full(why)) => {
                self.output.note(format_args!("error: cannot write to `{}`: {}", shown(&self.dest), shown(why)));
                self.output.note("hint: make room; the same command goes on where this one ended");
            }
            Some(EndedBy::Stopped) | None => {}
        }
        Ok(())
    }

    pub(super) fn exit(&self, summary: &Summary, signal: &signals::Signal, is_short: bool) -> Exit {
        let Tally { kept, missing, different, locked, unknown, failed, not_stored, nonsense, older, .. } = &self.tally;
        match &summary.ended_by {
            Some(EndedBy::Stopped) => signal.exit(),
            Some(EndedBy::Full(_)) => Exit::Attention,
            _ if kept + missing + different + locked + failed + nonsense > 0 => Exit::Attention,
            Some(EndedBy::Unreachable(_)) => Exit::Unreachable,
            None if *unknown > 0 => Exit::Unreachable,
            None if not_stored + older > 0 || is_short => Exit::Attention,
            None => Exit::Fine,
        }
    }
}

/// So many files are …
fn are(count: u64) -> String {
    format!("{} {}", files(count), if count == 1 { "is" } else { "are" })
}
