//! What happened, for who asks later: one line of JSON each, in a file of the state directory that is renewed by size.
//!
//! It tells of what was settled, after it was settled. It is no part of what the agent knows: nothing reads it but `log`,
//! and a line that could not be written is lost, while the ledger has the fact.

mod reader;
mod writer;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::ledger::Millis;
use crate::upload::Happened;
use crate::wording::{JsonPath, time};

pub use reader::Reader;
pub use writer::Writer;

/// The file in the state directory. The one before it has `.1` at its end.
pub const JOURNAL: &str = "log.jsonl";
/// A file that has grown to this many bytes is set aside, and the one that was set aside before is dropped.
const RENEWED_AT: u64 = 4 << 20;

/// One line.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct Line {
    /// When it was written; RFC 3339 in UTC.
    pub at: String,
    /// What happened.
    pub event: Event,
    /// To which file; absent if it happened to none.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub path: Option<JsonPath>,
    /// Bytes that were sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// The hash that dStor gave.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
    /// Where anyone can read it; only of versions that the ledger tells of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Why, for a person.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When it is tried next; RFC 3339 in UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_attempt_at: Option<String>,
    /// How many lines are missing here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lines: Option<u64>,
}

/// What can happen. The words are part of the file's form.
#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The agent began.
    Started,
    /// The agent ended in order.
    Stopped,
    /// dStor stored a file.
    Stored,
    /// A file could not be stored yet, and will be tried again.
    Retried,
    /// A file was given up until it changes.
    Failed,
    /// A file is left out on purpose.
    Skipped,
    /// A stored file is no longer here.
    Gone,
    /// It is here again, with the bytes of the last version. Told by the ledger, never written.
    Returned,
    /// dStor takes nothing, or does not answer.
    Away,
    /// dStor answers again.
    Back,
    /// More happened at a time than could be written.
    Omitted,
}

impl Event {
    /// Its word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Stopped => "stopped",
            Self::Stored => "stored",
            Self::Retried => "retried",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::Gone => "gone",
            Self::Returned => "returned",
            Self::Away => "away",
            Self::Back => "back",
            Self::Omitted => "omitted",
        }
    }
}

impl Line {
    /// Something that happened to no file.
    #[must_use]
    pub fn of(event: Event, reason: Option<String>, now: Millis) -> Self {
        let at = time(now);
        Self { at, event, path: None, size: None, hash: None, url: None, reason, next_attempt_at: None, lines: None }
    }

    /// What happened to the file at `path`; `None` for what nobody would look for later: that it was touched.
    #[must_use]
    pub fn of_file(path: &Path, happened: &Happened, now: Millis) -> Option<Self> {
        let blank = |event| Self { path: Some(JsonPath::new(path)), ..Self::of(event, None, now) };
        Some(match happened {
            Happened::Refreshed => return None,
            Happened::Stored { hash, bytes } => {
                Self { size: Some(*bytes), hash: Some(hash.to_string()), ..blank(Event::Stored) }
            }
            Happened::Gone => blank(Event::Gone),
            Happened::Skipped(skip) => Self { reason: Some(skip.message().into_owned()), ..blank(Event::Skipped) },
            Happened::Failed(reason) => Self { reason: Some(reason.clone()), ..blank(Event::Failed) },
            Happened::Postponed(reason, wait) => {
                let next = now.saturating_add(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX));
                Self { reason: Some(reason.clone()), next_attempt_at: Some(time(next)), ..blank(Event::Retried) }
            }
        })
    }
}

/// Where the older lines of the journal at `path` are.
fn older(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    name.into()
}
