//! The ledger's daily copy beside it, and what may be believed of it when it has to stand in for a damaged ledger.

use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rusqlite::{Connection, OpenFlags};

use super::file::{beside, private, put_in_place, remove_if_there, remove_with_companions, sync_directory};
use super::files::at_and_below;
use super::{Ledger, LedgerError, Millis, MirrorId};
use crate::local::OpenRoot;
use crate::mirror::{MirrorPath, Timestamp, is_unmoved};

/// Why there is no new copy.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The ledger's own trouble, found by reading all of it.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// It cannot be written.
    #[error("cannot write the ledger's copy")]
    Io(#[from] io::Error),
    /// The disk has no room to spare for it.
    #[error("the disk has too little room for a copy of the ledger")]
    NoRoom,
}

/// Ends the reading of a ledger that is being copied.
pub type Interrupt = Box<dyn Fn() + Send>;

/// Where the copy of the ledger at `path` is.
fn copy_of(path: &Path) -> PathBuf {
    beside(path, ".copy")
}

/// Blocking: when the ledger at `path` was last copied; `None`: never.
#[must_use]
pub fn copied_at(path: &Path) -> Option<SystemTime> {
    copy_of(path).metadata().ok()?.modified().ok()
}

/// Blocking: writes a whole new copy of the ledger at `path` beside it, checks it, and puts it in the place of the one
/// before. Reads over a connection of its own: the writer goes on. `begun` is given what interrupts the reading.
///
/// # Errors
/// [`CopyError`]; the copy before is then still there. [`LedgerError::Damaged`] if the ledger cannot be read as a whole.
pub fn make_copy(path: &Path, now: Millis, begun: impl FnOnce(Interrupt)) -> Result<(), CopyError> {
    let new = beside(path, ".copy.new");
    let made = fill(path, &new, now, begun);
    if made.is_err() {
        // Half of a copy is of no use; if it cannot be removed either, the next one begins by that.
        let _ = remove_with_companions(&new);
        return made;
    }
    fs::rename(&new, copy_of(path))?;
    sync_directory(path)?;
    Ok(())
}

/// Blocking: removes the copy of the ledger at `path`, if there is one.
///
/// # Errors
/// As the file system says.
pub fn discard_copy(path: &Path) -> io::Result<()> {
    remove_if_there(&copy_of(path))
}

fn fill(path: &Path, new: &Path, now: Millis, begun: impl FnOnce(Interrupt)) -> Result<(), CopyError> {
    remove_with_companions(new)?;
    let bytes = path.metadata()?.len();
    let disk = rustix::fs::statvfs(path).map_err(io::Error::from)?;
    // The ledger itself must not meet a full disk for the sake of its copy.
    if disk.f_bavail.saturating_mul(disk.f_frsize) < bytes.saturating_mul(3) {
        return Err(CopyError::NoRoom);
    }
    // SQLite takes an empty file as it is: private before there is anything in it.
    drop(private(new)?);
    let reader = Ledger::open_read_only(path)?;
    let interrupt = reader.db.get_interrupt_handle();
    begun(Box::new(move || interrupt.interrupt()));
    reader.db.execute("VACUUM INTO CAST(?1 AS TEXT)", [new.as_os_str().as_bytes()]).map_err(LedgerError::from)?;
    drop(reader);
    let mut copy = Connection::open_with_flags(new, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(LedgerError::from)?;
    check(&copy)?;
    let mark = |copy: &mut Connection| -> rusqlite::Result<()> {
        copy.execute_batch("CREATE TABLE copied (at INTEGER NOT NULL) STRICT")?;
        copy.execute("INSERT INTO copied (at) VALUES (?1)", [now])?;
        Ok(())
    };
    mark(&mut copy).map_err(LedgerError::from)?;
    drop(copy);
    File::open(new)?.sync_all()?;
    Ok(())
}

/// Blocking: makes a ledger at `path`, where there is none, of the copy beside it, and returns from when that is. `None`:
/// there is no copy that is sound and of this version.
///
/// dStor may have been sent other bytes since the copy was made, so nothing in it is compared with any more: what is not
/// just as the copy knows it, or may have been moved away and back, is sent again. What is left as `stored` is what
/// nobody can have touched.
///
/// # Errors
/// [`LedgerError::Full`]: a copy that cannot be used for any other reason is done without.
pub(super) fn restore(path: &Path, now: Millis) -> Result<Option<Millis>, LedgerError> {
    let new = beside(path, ".new");
    let restored = restore_by(path, &new, now);
    // Of no use any more, whatever it is; in the place of the ledger it has another name.
    let _ = remove_with_companions(&new);
    match restored {
        Err(LedgerError::Full) => Err(LedgerError::Full),
        Err(error) => {
            tracing::warn!(%error, "the ledger's copy cannot be used");
            Ok(None)
        }
        restored => restored,
    }
}

fn restore_by(path: &Path, new: &Path, now: Millis) -> Result<Option<Millis>, LedgerError> {
    let copy = copy_of(path);
    let Ok(from) = Ledger::open_any(&copy, OpenFlags::SQLITE_OPEN_READ_ONLY) else { return Ok(None) };
    check(&from.db)?;
    drop(from);
    let io = |source: io::Error| LedgerError::Unwritable { path: new.to_owned(), source };
    remove_with_companions(new).map_err(io)?;
    private(new).and_then(|mut file| io::copy(&mut File::open(&copy)?, &mut file).map(|_| ())).map_err(io)?;
    // In the form in which it is used before it gets its name: nothing of that can be interrupted then.
    let ledger = Ledger::over(Ledger::writable(new)?, new)?;
    let copied_at: Millis = ledger.db.query_row("SELECT at FROM copied", [], |row| row.get(0))?;
    ledger.db.execute_batch("BEGIN IMMEDIATE")?;
    ledger.doubt(copied_at, now)?;
    // A clock that was set back since says less than the copy: what is missing lies before its time as well.
    ledger.note_unrecorded(copied_at.min(now), now.max(copied_at))?;
    ledger.db.execute_batch("DROP TABLE copied; COMMIT")?;
    drop(ledger);
    put_in_place(new, path).map_err(io)?;
    Ok(Some(copied_at))
}

impl Ledger {
    /// Marks everything in a copy from `copied_at` as perhaps no longer so (D13).
    fn doubt(&self, copied_at: Millis, now: Millis) -> Result<(), LedgerError> {
        self.db.execute("UPDATE files SET unsure = 1", [])?;
        self.db.execute("UPDATE changes SET unsure = 1, claimed = 0", [])?;
        // A copy from the future says nothing about times.
        let copied_at = if copied_at <= now { timestamp(copied_at) } else { Timestamp { seconds: i64::MIN, nanos: 0 } };
        let mirrors: Vec<i64> =
            self.db.prepare("SELECT id FROM mirrors")?.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        for id in mirrors.into_iter().map(MirrorId) {
            let row = self.mirror(id)?;
            let root = row.root.and_then(|identity| OpenRoot::open(&row.settings.path, Some(identity)).ok());
            let mut directories = self.db.prepare("SELECT path FROM directories WHERE mirror_id = ?1 ORDER BY path")?;
            let paths: Vec<Vec<u8>> =
                directories.query_map([id.0], |row| row.get(0))?.collect::<Result<_, rusqlite::Error>>()?;
            let mut doubted: Option<MirrorPath> = None;
            for path in paths.iter().filter_map(|path| MirrorPath::from_bytes(path)) {
                if doubted.as_ref().is_some_and(|above| is_at_or_below(&path, above)) {
                    continue;
                }
                let changed = root.as_ref().and_then(|root| root.changed_at(&path).ok());
                if !changed.is_some_and(|changed| is_unmoved(changed, copied_at)) {
                    self.doubt_below(id, &path)?;
                    doubted = Some(path);
                }
            }
        }
        Ok(())
    }

    /// Has every file below a directory sent again, whatever its stat says.
    fn doubt_below(&self, mirror: MirrorId, dir: &MirrorPath) -> Result<(), LedgerError> {
        // A time that no file has: see `Stat::to_be_compared`. Only what claims to be stored has anything to lose.
        let sql = format!(
            "UPDATE files SET ctime_ns = 1000000000 WHERE state = 0 AND directory_id IN ({})",
            at_and_below(dir)
        );
        self.db.execute(&sql, (mirror.0, dir.as_bytes()))?;
        Ok(())
    }
}

/// Reads all of a database, and the order of what is in it.
pub(super) fn check(db: &Connection) -> Result<(), LedgerError> {
    check_with(db, "integrity_check")
}

/// The same, by the pragma of this name.
pub(super) fn check_with(db: &Connection, pragma: &str) -> Result<(), LedgerError> {
    let said: String = db.query_row(&format!("PRAGMA {pragma}(1)"), [], |row| row.get(0))?;
    if said == "ok" {
        return Ok(());
    }
    Err(rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT), Some(said)).into())
}

fn is_at_or_below(path: &MirrorPath, above: &MirrorPath) -> bool {
    above.is_top() || path.as_path().starts_with(above.as_path())
}

fn timestamp(at: Millis) -> Timestamp {
    let nanos = u32::try_from(at.rem_euclid(1000)).unwrap_or(0) * 1_000_000;
    Timestamp { seconds: at.div_euclid(1000), nanos }
}
