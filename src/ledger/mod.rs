//! What we know: the SQLite file that maps local paths to what dStor holds, and the queue of paths to look at.
//!
//! Everything here is synchronous and belongs to one connection. [`SharedLedger`] lends that connection to async code
//! and commits in groups. Other processes read the file with [`Ledger::open_read_only`] at any time; only the holder of
//! [`AgentLock`] writes.

mod changes;
mod checkup;
mod copy;
mod due;
mod emptied;
mod entries;
mod file;
mod files;
mod forms;
mod history;
mod holdings;
mod lock;
mod manifests;
mod mirrors;
mod readings;
mod rescue;
mod sealing;
mod settle;
mod shared;
mod state;
mod steering;
mod stragglers;
#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use rusqlite_migration::Migrations;

pub use changes::{Claim, FirstDue, Push, Urgency};
pub use checkup::written_at;
pub use copy::{CopyError, Interrupt, copied_at, discard_copy, make_copy};
pub use due::{HELD, Outlook};
pub use entries::{Entry, EntryState};
pub use files::{Below, FileRow, Held, Listing};
pub use history::{Moment, Turn};
pub use holdings::{Holding, Holdings, Shelved};
pub use lock::{AgentLock, LockError};
pub use manifests::{ManifestRow, SealedRoot};
pub use mirrors::{MirrorId, MirrorRow, MirrorSettings, Watching};
pub use readings::{DIFFERENT, Found, MISSING, Mark, Proof, Readable, Reading, Scopes};
pub use rescue::{Rescue, SetAside, set_aside_in};
pub use settle::{Settlement, Stored};
pub use shared::SharedLedger;
pub use state::{AgentRow, AgentState, Auth, Counts, DstorFacts, Problem, Tally};
pub use steering::{Steering, UNTIL_RESUMED};

use crate::local::Identity;
use crate::mirror::MirrorPath;
use forms::MIGRATIONS;

/// Milliseconds since 1970, UTC, by this machine's clock.
pub type Millis = i64;

/// Marks a SQLite file as a ledger: "dSyn".
const APPLICATION_ID: i64 = 0x6453_796e;
/// Directories whose row number is remembered. A scan goes through one after the other; more would not be met again.
const DIRECTORIES_REMEMBERED: usize = 10_000;

/// Why the ledger cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// There is no such file.
    #[error("there is no ledger at `{}`", .0.display())]
    None(PathBuf),
    /// This user may not look.
    #[error("cannot look at the ledger `{}`", path.display())]
    Forbidden {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is something else.
    #[error("`{}` is not a ledger of dstor-sync; it was left as it is", .0.display())]
    Foreign(PathBuf),
    /// Written by a later version.
    #[error("the ledger `{}` was written by a newer dstor-sync (its form is {found}, this one knows {known})", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// The form it has.
        found: i64,
        /// The newest form that this version knows.
        known: i64,
    },
    /// Written by an earlier version that does not know what is to be written.
    #[error("the ledger `{}` is that of an older dstor-sync, which does not know this", .0.display())]
    Older(PathBuf),
    /// The file is damaged.
    #[error("the ledger `{}` is damaged; it was left as it is", path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// It turned out to be damaged while it was in use.
    #[error("the ledger is damaged")]
    Damaged(#[source] Arc<rusqlite::Error>),
    /// It was damaged again and again: not the ledger is at fault but what it lies on.
    #[error("the ledger `{}` was damaged {times} times within a day; it was left as it is", path.display())]
    Hopeless {
        /// The file.
        path: PathBuf,
        /// How often.
        times: usize,
    },
    /// A file beside it cannot be written.
    #[error("cannot write `{}`", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The disk is full.
    #[error("the disk that holds the ledger is full")]
    Full,
    /// Anything else that SQLite says.
    #[error("the ledger cannot be used")]
    Sqlite(#[source] Arc<rusqlite::Error>),
    /// A migration failed.
    #[error("the ledger cannot be brought to this version's form: {0}")]
    Migration(String),
    /// A row that this version cannot have written.
    #[error("the ledger holds a row that makes no sense: {0}")]
    Nonsense(String),
    /// The thread that writes the ledger has ended before those who use it.
    #[error("the thread that writes the ledger has ended")]
    Closed,
    /// The file was deleted or replaced while it was in use.
    #[error("the ledger `{}` was deleted or replaced while it was in use", .0.display())]
    Replaced(PathBuf),
}

impl LedgerError {
    /// What a person can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::None(_) => "start `dstor-sync run` first, or name its state directory with --state-dir".into(),
            Self::Forbidden { .. } => "run this as the user that the agent runs as".into(),
            Self::Foreign(path) => format!("move `{}` away, or choose another --state-dir", path.display()),
            Self::Older(_) => "start the agent again, with this version: that brings the ledger up to date".into(),
            Self::Newer { .. } => "use the newer dstor-sync, or another --state-dir".into(),
            Self::Broken { .. } | Self::Damaged(_) => {
                "look at its disk, and start `dstor-sync run`: it sets the damaged file aside and makes a new ledger"
                    .into()
            }
            Self::Hopeless { .. } => {
                "its disk or this machine's memory is at fault; mend that, or choose another --state-dir".into()
            }
            Self::Full => "make room; nothing is lost, and it goes on by itself".into(),
            Self::Replaced(_) => "start dstor-sync again: it looks at every file again".into(),
            Self::Closed => {
                "that is a fault in dstor-sync itself: start it again, and please report it, with the log, which says where"
                    .into()
            }
            Self::Unwritable { .. } => "let this user write there, or choose another --state-dir".into(),
            Self::Sqlite(_) | Self::Migration(_) | Self::Nonsense(_) => return None,
        })
    }
}

impl LedgerError {
    /// Whether whoever made the file was killed in the midst of it.
    fn is_half_made(&self) -> bool {
        matches!(self, Self::Sqlite(error) if error.sqlite_error().is_some_and(|error|
            error.extended_code == rusqlite::ffi::SQLITE_READONLY_ROLLBACK))
    }

    /// Whether the file is a ledger of ours that cannot be relied on any more.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Broken { .. } | Self::Damaged(_))
    }

    /// The same error once more, for each of those whose work it took back.
    fn again(&self) -> Self {
        match self {
            Self::Full => Self::Full,
            Self::Replaced(path) => Self::Replaced(path.clone()),
            Self::Damaged(error) => Self::Damaged(Arc::clone(error)),
            Self::Sqlite(error) => Self::Sqlite(Arc::clone(error)),
            Self::Nonsense(why) => Self::Nonsense(why.clone()),
            Self::Closed => Self::Closed,
            other => Self::Nonsense(other.to_string()),
        }
    }
}

impl From<rusqlite::Error> for LedgerError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full,
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Damaged(Arc::new(error)),
            _ => Self::Sqlite(Arc::new(error)),
        }
    }
}

/// KiB of pages that a connection keeps which writes at most a word: scans read each page of the files' once, in order, and
/// an agent has several such connections.
const READERS_PAGES_KIB: i64 = 256;

/// The ledger over one connection.
pub struct Ledger {
    db: Connection,
    path: PathBuf,
    /// Row numbers of directories met lately. Forgotten when a transaction is rolled back.
    directories: RefCell<HashMap<(MirrorId, MirrorPath), i64>>,
    /// What was written last of when a mirror's file was stored. Forgotten at the same time.
    latest: Cell<Option<(MirrorId, Millis)>>,
}

impl Ledger {
    /// Opens the ledger at `path` for writing, makes it if there is none, and brings an older one to this version's form.
    ///
    /// # Errors
    /// A foreign, damaged or newer file is refused and not touched; see [`open_or_rescue`](Self::open_or_rescue).
    pub fn open(path: &Path) -> Result<Self, LedgerError> {
        if path.metadata().is_ok_and(|meta| meta.len() > 0) {
            match Self::open_any(path, OpenFlags::SQLITE_OPEN_READ_ONLY) {
                // What a killed process began has to be taken back before anyone can look, and readers may not. Every
                // program that opens such a file does so, whoever began it.
                Err(error) if error.is_half_made() => drop(Self::open_any(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?),
                checked => drop(checked?),
            }
        } else {
            file::create(path)?;
        }
        file::make_private(path).map_err(|source| LedgerError::Unwritable { path: path.to_owned(), source })?;
        Self::over(Self::writable(path)?, path)
    }

    /// Opens a database of ours for writing, and brings it to this version's form.
    fn writable(path: &Path) -> Result<Connection, LedgerError> {
        let mut db =
            Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        db.busy_timeout(Duration::from_secs(10))?;
        db.pragma_update(None, "journal_mode", "WAL")?;
        // Enough because the order is acknowledged, then committed: power loss can drop the last commits and then costs
        // an upload, never a false row (D7).
        db.pragma_update(None, "synchronous", "NORMAL")?;
        db.pragma_update(None, "journal_size_limit", 16 * 1024 * 1024)?;
        // What a statement or a job that fails would need to be taken back: in files it was 16 writes for each file that
        // was stored.
        db.pragma_update(None, "temp_store", "MEMORY")?;
        db.pragma_update(None, "foreign_keys", "ON")?;
        Migrations::from_slice(MIGRATIONS).to_latest(&mut db).map_err(of_migration)?;
        Ok(db)
    }

    /// A ledger that is never on a disk and ends with its process: for trying the rules over it.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn in_memory() -> Result<Self, LedgerError> {
        let mut db = Connection::open_in_memory_with_flags(
            OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        )?;
        db.pragma_update(None, "foreign_keys", "ON")?;
        Migrations::from_slice(MIGRATIONS).to_latest(&mut db).map_err(of_migration)?;
        Self::over(db, Path::new(":memory:"))
    }

    /// Opens the ledger for reading beside a running agent. Changes nothing in it and never checkpoints; SQLite's
    /// companions of the file are made if they are not there, and stay.
    ///
    /// # Errors
    /// As [`open`](Self::open); a missing file is [`LedgerError::None`], and so is one whose tables are yet to be made.
    pub fn open_read_only(path: &Path) -> Result<Self, LedgerError> {
        match path.try_exists() {
            Ok(true) => {}
            Ok(false) => return Err(LedgerError::None(path.to_owned())),
            Err(source) => return Err(LedgerError::Forbidden { path: path.to_owned(), source }),
        }
        let ledger = match Self::open_any(path, OpenFlags::SQLITE_OPEN_READ_ONLY) {
            // Only the very first write goes by a journal that would be taken back: there is nothing in it yet.
            Err(error) if error.is_half_made() => return Err(LedgerError::None(path.to_owned())),
            opened => opened?,
        };
        ledger.db.busy_timeout(Duration::from_secs(10))?;
        if ledger.form()? == 0 {
            return Err(LedgerError::None(path.to_owned()));
        }
        Ok(ledger)
    }

    /// Opens the ledger for one small write beside a running agent, which notices it.
    ///
    /// # Errors
    /// As [`open_read_only`](Self::open_read_only).
    pub fn open_for_a_word(path: &Path) -> Result<Self, LedgerError> {
        drop(Self::open_read_only(path)?);
        let ledger = Self::open_any(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        ledger.db.busy_timeout(Duration::from_secs(10))?;
        Ok(ledger)
    }

    /// Whether the ledger has the form of an older version: it can be read, and takes what that version takes.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn is_of_an_older_form(&self) -> Result<bool, LedgerError> {
        Ok(self.form()? < Self::NEWEST_FORM)
    }

    /// Opens an existing file after making sure that it is a ledger this version can read.
    fn open_any(path: &Path, flags: OpenFlags) -> Result<Self, LedgerError> {
        Self::open_as(path, path, flags)
    }

    /// The same, where SQLite is to be given the file at `path` by another name.
    fn open_as(path: &Path, name: &Path, flags: OpenFlags) -> Result<Self, LedgerError> {
        let broken = |source: rusqlite::Error| match source.sqlite_error_code() {
            Some(ErrorCode::NotADatabase) if !rescue::was_ours(path) => LedgerError::Foreign(path.to_owned()),
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
                LedgerError::Broken { path: path.to_owned(), source }
            }
            _ => source.into(),
        };
        let db = Connection::open_with_flags(name, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX).map_err(broken)?;
        let number = |pragma: &str| db.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0)).map_err(broken);
        let (found, known) = (number("user_version")?, MIGRATIONS.len() as i64);
        let ours = number("application_id")? == APPLICATION_ID;
        let tables: i64 = db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(broken)?;
        if !ours && (tables > 0 || found > 0) {
            return Err(LedgerError::Foreign(path.to_owned()));
        }
        if found > known {
            return Err(LedgerError::Newer { path: path.to_owned(), found, known });
        }
        db.pragma_update(None, "cache_size", -READERS_PAGES_KIB)?;
        if let Ok(form @ 1..) = usize::try_from(found) {
            forms::stand_in_for_later(&db, form)?;
        }
        Self::over(db, path)
    }

    fn over(db: Connection, path: &Path) -> Result<Self, LedgerError> {
        // Plans that do not depend on bound values: otherwise a bound LIMIT has its statement prepared anew at each use.
        db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        db.set_prepared_statement_cache_capacity(64);
        Ok(Self { db, path: path.to_owned(), directories: RefCell::default(), latest: Cell::default() })
    }

    /// Whether the file at the ledger's path is still the one that is open: writes to a deleted file "succeed" (D11).
    ///
    /// # Errors
    /// [`LedgerError::Replaced`] if it is another one or none.
    pub fn still_in_place(&self, opened_as: Identity) -> Result<(), LedgerError> {
        if Identity::of_path(&self.path).is_ok_and(|now| now == opened_as) {
            Ok(())
        } else {
            Err(LedgerError::Replaced(self.path.clone()))
        }
    }

    /// A number that changes whenever another connection, as that of a person's command, has written.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn words_of_others(&self) -> Result<i64, LedgerError> {
        Ok(self.db.pragma_query_value(None, "data_version", |row| row.get(0))?)
    }

    /// The row number of a mirror's directory, if there is one.
    pub(crate) fn known_directory(&self, mirror: MirrorId, dir: &MirrorPath) -> Result<Option<i64>, LedgerError> {
        use rusqlite::OptionalExtension as _;
        let key = (mirror, dir.clone());
        if let Some(id) = self.directories.borrow().get(&key) {
            return Ok(Some(*id));
        }
        let id = self
            .db
            .prepare_cached("SELECT id FROM directories WHERE mirror_id = ?1 AND path = ?2")?
            .query_row((mirror.0, dir.as_bytes()), |row| row.get(0))
            .optional()?;
        if let Some(id) = id {
            self.remember_directory(key, id);
        }
        Ok(id)
    }

    /// The row number of a mirror's directory, which gets a row, with all above it, if it has none.
    pub(crate) fn directory(&self, mirror: MirrorId, dir: &MirrorPath) -> Result<i64, LedgerError> {
        if let Some(id) = self.known_directory(mirror, dir)? {
            return Ok(id);
        }
        let mut parent: Option<i64> = None;
        for dir in std::iter::once(MirrorPath::top()).chain(dir.lineage()) {
            parent = Some(match self.known_directory(mirror, &dir)? {
                Some(id) => id,
                None => {
                    let id = self
                        .db
                        .prepare_cached("INSERT INTO directories (mirror_id, parent_id, path) VALUES (?1, ?2, ?3)")?
                        .insert((mirror.0, parent, dir.as_bytes()))?;
                    self.remember_directory((mirror, dir), id);
                    id
                }
            });
        }
        parent.ok_or_else(|| LedgerError::Nonsense("a directory without a top".into()))
    }

    fn remember_directory(&self, key: (MirrorId, MirrorPath), id: i64) {
        let mut known = self.directories.borrow_mut();
        if known.len() >= DIRECTORIES_REMEMBERED {
            known.clear();
        }
        known.insert(key, id);
    }

    /// Has the file grow to so many pages at the most, as on a full disk; never fewer than it has already.
    #[cfg(test)]
    pub(crate) fn set_room(&self, pages: u32) -> Result<(), LedgerError> {
        self.db.pragma_update_and_check(None, "max_page_count", pages, |row| row.get::<_, i64>(0))?;
        Ok(())
    }

    /// Forgets what a transaction that was rolled back may have taught.
    fn forget_cached(&self) {
        self.directories.borrow_mut().clear();
        self.latest.set(None);
    }
}

fn of_migration(error: rusqlite_migration::Error) -> LedgerError {
    match error {
        rusqlite_migration::Error::RusqliteError { err, .. }
            if matches!(
                err.sqlite_error_code(),
                Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::DiskFull)
            ) =>
        {
            err.into()
        }
        rusqlite_migration::Error::RusqliteError { err, .. } => LedgerError::Migration(without_sql(&err)),
        other => LedgerError::Migration(other.to_string()),
    }
}

/// What SQLite says, without the statement that it says it of: that is pages long, and tells a person nothing.
fn without_sql(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqlInputError { msg, .. } => msg.clone(),
        other => other.to_string(),
    }
}

/// A `u64` with the same bits as the `i64` that SQLite keeps.
fn bits_in(value: u64) -> i64 {
    value.cast_signed()
}

fn bits_out(value: i64) -> u64 {
    value.cast_unsigned()
}
