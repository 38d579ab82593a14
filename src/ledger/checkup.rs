//! Whether the ledger is whole: for who looks at it without leaving a trace.

use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rusqlite::OpenFlags;

use super::file::beside;
use super::{Ledger, LedgerError, MIGRATIONS};

impl Ledger {
    /// Opens the ledger for reading, as [`open_read_only`](Self::open_read_only) does, but where nobody works with it no
    /// companions are made. What is read then may be wrong as soon as somebody begins to: whoever finds damage looks once
    /// more by the other way.
    ///
    /// # Errors
    /// As [`open_read_only`](Self::open_read_only).
    pub fn open_untouched(path: &Path) -> Result<Self, LedgerError> {
        // An empty one, as an agent that ended in the midst of a look leaves it, holds nothing.
        let is_all_in_one = match beside(path, "-wal").metadata() {
            Ok(ahead) => ahead.len() == 0,
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        if !is_all_in_one || !path.exists() {
            return Self::open_read_only(path);
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
        let ledger = Self::open_as(path, &immutable(path), flags)?;
        match ledger.form()? {
            0 => Err(LedgerError::None(path.to_owned())),
            _ => Ok(ledger),
        }
    }

    /// Blocking: reads all of the ledger to see whether it is whole. A second or two for a million files.
    ///
    /// # Errors
    /// [`LedgerError::Damaged`] if it is not.
    pub fn check_quickly(&self) -> Result<(), LedgerError> {
        super::copy::check_with(&self.db, "quick_check")
    }

    /// The ledger's form.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn form(&self) -> Result<i64, LedgerError> {
        Ok(self.db.pragma_query_value(None, "user_version", |row| row.get(0))?)
    }

    /// The form that this version writes.
    pub const NEWEST_FORM: i64 = MIGRATIONS.len() as i64;
}

/// When anything was last written to the ledger at `path`; `None`: it is not there.
#[must_use]
pub fn written_at(path: &Path) -> Option<SystemTime> {
    let written = path.metadata().ok()?.modified().ok()?;
    // Whoever only reads makes an empty one.
    let ahead = beside(path, "-wal").metadata().ok().filter(|wal| wal.len() > 0);
    Some(ahead.and_then(|wal| wal.modified().ok()).map_or(written, |ahead| written.max(ahead)))
}

/// The address of a file that nobody writes to, as SQLite takes it.
fn immutable(path: &Path) -> PathBuf {
    let mut uri = String::from("file:");
    for byte in path.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"/._-".contains(byte) {
            uri.push(char::from(*byte));
        } else {
            uri.push_str(&format!("%{byte:02x}"));
        }
    }
    uri.push_str("?immutable=1");
    uri.into()
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::fs;

    use super::*;

    fn names_in(dir: &Path) -> Vec<std::ffi::OsString> {
        let mut names: Vec<_> = fs::read_dir(dir).expect("read").flatten().map(|entry| entry.file_name()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_ledger_that_nobody_works_with_is_looked_at_without_a_trace_whatever_its_name() {
        let dir = tempfile::tempdir().expect("a directory");
        let odd = dir.path().join(OsStr::from_bytes(b"a?b#c%41 \xff"));
        fs::create_dir(&odd).expect("made");
        let path = odd.join("ledger.db");
        drop(Ledger::open(&path).expect("made"));
        let before = (names_in(&odd), written_at(&path));
        let ledger = Ledger::open_untouched(&path).expect("opened");
        ledger.check_quickly().expect("whole");
        assert_eq!(ledger.form().expect("looked"), Ledger::NEWEST_FORM);
        drop(ledger);
        assert_eq!((names_in(&odd), written_at(&path)), before);
        fs::write(beside(&path, "-wal"), "").expect("written");
        Ledger::open_untouched(&path).and_then(|ledger| ledger.check_quickly()).expect("whole");
        assert_eq!(names_in(&odd).len(), 2, "it is there with an empty companion");
        assert_eq!(names_in(dir.path()).len(), 1, "its name led elsewhere");
    }

    #[test]
    fn what_was_written_ahead_is_seen_too() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("ledger.db");
        let writer = Ledger::open(&path).expect("made");
        writer.begin_agent(42, "http://127.0.0.1:1", 0).expect("written");
        let reader = Ledger::open_untouched(&path).expect("opened");
        assert_eq!(reader.agent().expect("looked").map(|agent| agent.pid), Some(42));
        let none = dir.path().join("none.db");
        assert!(matches!(Ledger::open_untouched(&none), Err(LedgerError::None(_))));
        assert_eq!(written_at(&none), None);
    }

    // D4
    #[test]
    fn a_page_that_is_wrong_is_found() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("ledger.db");
        let ledger = Ledger::open(&path).expect("made");
        let page: i64 = ledger
            .db
            .query_row("SELECT rootpage FROM sqlite_schema WHERE name = 'files'", [], |row| row.get(0))
            .expect("a page");
        drop(ledger);
        let mut bytes = fs::read(&path).expect("read");
        let at = usize::try_from((page - 1) * 4096).expect("small");
        bytes[at..at + 64].fill(0xff);
        fs::write(&path, bytes).expect("written");
        let damage = Ledger::open_untouched(&path).and_then(|ledger| ledger.check_quickly());
        assert!(damage.is_err_and(|error| error.is_damage()));
    }
}
