//! A damaged ledger is set aside, never deleted, and a new one begins: from the daily copy where there is a sound one,
//! else with nothing. Either way everything is compared again, and what is not sure is sent again (D4).

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rusqlite::OpenFlags;

use super::copy::{check, restore};
use super::file::{COMPANIONS, beside, sync_directory};
use super::{AgentState, Ledger, LedgerError, Millis};

/// What comes before the time in the name of a ledger that was set aside.
const BROKEN: &str = ".broken-";
/// A ledger that is damaged this often within a day lies on a disk that damages files.
const MOST_A_DAY: usize = 3;
const DAY: Millis = 24 * 3600 * 1000;

/// What became of a damaged ledger.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rescue {
    /// Where it is now.
    pub aside: PathBuf,
    /// When the copy was made that the new one began with; `None`: it began empty.
    pub copied_at: Option<Millis>,
    /// What was wrong, in SQLite's words.
    pub damage: String,
}

/// A damaged ledger that lies beside the one in use.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SetAside {
    /// The file.
    pub path: PathBuf,
    /// When it was set aside.
    pub at: Millis,
}

impl Ledger {
    /// Opens the ledger at `path` as [`open`](Self::open) does; a damaged one is set aside first, and a new one made. One
    /// that was not closed in order is read as a whole before it is believed.
    ///
    /// # Errors
    /// As [`open`](Self::open), save for damage; [`LedgerError::Hopeless`] if that happened too often.
    pub fn open_or_rescue(path: &Path, now: Millis) -> Result<(Self, Option<Rescue>), LedgerError> {
        let unwritable = |source| LedgerError::Unwritable { path: path.to_owned(), source };
        let is_orphaned = || COMPANIONS.iter().any(|companion| beside(path, companion).exists());
        if !path.try_exists().map_err(unwritable)? && is_orphaned() {
            // What belongs to no ledger any more: whoever set one aside was stopped in the middle, or someone deleted it.
            set_aside(path, now).map_err(unwritable)?;
        }
        let damage = match Self::open(path).and_then(Self::checked_unless_closed) {
            Err(error) if error.is_damage() => error,
            opened => return opened.map(|ledger| (ledger, None)),
        };
        let before = set_aside_in(path).into_iter().filter(|aside| (now - DAY..=now).contains(&aside.at)).count();
        if before >= MOST_A_DAY {
            return Err(LedgerError::Hopeless { path: path.to_owned(), times: before + 1 });
        }
        let aside = set_aside(path, now).map_err(unwritable)?;
        let copied_at = restore(path, now)?;
        let damage = std::error::Error::source(&damage).map_or_else(|| damage.to_string(), ToString::to_string);
        Ok((Self::open(path)?, Some(Rescue { aside, copied_at, damage })))
    }

    /// Whoever ended without a word may have ended for a reason, such as power that failed.
    fn checked_unless_closed(self) -> Result<Self, LedgerError> {
        if self.agent()?.is_some_and(|agent| agent.state != AgentState::Stopped) {
            check(&self.db)?;
        }
        Ok(self)
    }
}

/// Blocking: the damaged ledgers that were set aside beside the one at `path`, the oldest first.
#[must_use]
pub fn set_aside_in(path: &Path) -> Vec<SetAside> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else { return Vec::new() };
    let before = [name.as_bytes(), BROKEN.as_bytes()].concat();
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut found: Vec<SetAside> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            let at = time_of(name.as_bytes().strip_prefix(before.as_slice())?)?;
            Some(SetAside { path: directory.join(name), at })
        })
        .collect();
    found.sort_by(|a, b| (a.at, &a.path).cmp(&(b.at, &b.path)));
    found
}

/// Moves the ledger and its companions aside. The ledger goes first: without its companions it could be taken for a sound
/// older one, and its companions without it are moved by the next who comes.
fn set_aside(path: &Path, now: Millis) -> io::Result<PathBuf> {
    let stamp = stamp(now);
    let name = |number: u32| match number {
        1 => beside(path, &format!("{BROKEN}{stamp}")),
        number => beside(path, &format!("{BROKEN}{stamp}.{number}")),
    };
    let mut number = 1;
    while name(number).symlink_metadata().is_ok() {
        number += 1;
    }
    let aside = name(number);
    for part in [""].into_iter().chain(COMPANIONS) {
        match fs::rename(beside(path, part), beside(&aside, part)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    sync_directory(path)?;
    Ok(aside)
}

/// `20260131T120000Z`.
fn stamp(at: Millis) -> String {
    jiff::Timestamp::from_millisecond(at)
        .map_or_else(|_| "unknown".into(), |at| at.strftime("%Y%m%dT%H%M%SZ").to_string())
}

/// The time in what follows [`BROKEN`]; `None` also for companions.
fn time_of(rest: &[u8]) -> Option<Millis> {
    let text = std::str::from_utf8(rest).ok()?;
    let (stamp, number) = text.split_once('.').unwrap_or((text, "2"));
    number.parse::<u32>().ok()?;
    let time = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", stamp).ok()?;
    jiff::tz::TimeZone::UTC.to_timestamp(time).ok().map(jiff::Timestamp::as_millisecond)
}

/// Whether a file that is no database was a ledger of ours before something overwrote its beginning: it is empty of
/// anything, or what is left of it shows it, or a copy of ours lies beside it. Anything else may be somebody's letters.
pub(super) fn was_ours(path: &Path) -> bool {
    const ENOUGH: u64 = 1024 * 1024;
    // Of which form it is says which of them stands near its beginning: a copy has its tables first and its triggers last.
    const MARKS: [&[u8]; 2] =
        [b"CREATE TRIGGER mirror_counts", b"CREATE TABLE totals (\n  mirror_id       INTEGER PRIMARY KEY"];
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(ENOUGH).read_to_end(&mut bytes));
    let has = |mark: &[u8]| memchr::memmem::find(&bytes, mark).is_some();
    let shows = read.is_ok() && (bytes.iter().all(|byte| *byte == 0) || MARKS.into_iter().any(has));
    let is_copy = path.extension() == Some(OsStr::new("copy"));
    shows || (!is_copy && Ledger::open_any(&beside(path, ".copy"), OpenFlags::SQLITE_OPEN_READ_ONLY).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_set_aside_tells_when_and_its_companions_are_not_counted() {
        let at = 1_769_860_800_000;
        assert_eq!(stamp(at), "20260131T120000Z");
        assert_eq!(time_of(b"20260131T120000Z"), Some(at));
        assert_eq!(time_of(b"20260131T120000Z.2"), Some(at));
        for other in ["20260131T120000Z-wal", "20260131T120000Z.2-shm", "unknown", "", "\u{e9}"] {
            assert_eq!(time_of(other.as_bytes()), None, "{other}");
        }
    }
}
