//! The ledger's file: it is there whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::{Ledger, LedgerError};

/// What SQLite keeps beside a database.
pub(super) const COMPANIONS: [&str; 3] = ["-wal", "-shm", "-journal"];

/// Makes an empty ledger at `path`, where there is none yet or an empty file. It is made under another name first: a
/// start that is killed in the middle leaves a file that nobody takes for a ledger, and no half of one with a journal
/// that only a writer could roll back (D8).
pub(super) fn create(path: &Path) -> Result<(), LedgerError> {
    let unwritable = |source| LedgerError::Unwritable { path: path.to_owned(), source };
    let new = beside(path, ".new");
    remove_with_companions(&new).map_err(unwritable)?;
    drop(private(&new).map_err(unwritable)?);
    drop(Ledger::writable(&new)?);
    put_in_place(&new, path).map_err(unwritable)
}

/// Renames a whole database, that nobody has open, to be the ledger at `path`, where there is none.
pub(super) fn put_in_place(new: &Path, path: &Path) -> io::Result<()> {
    if beside(new, "-wal").metadata().is_ok_and(|wal| wal.len() > 0) {
        return Err(io::Error::other("what was written ahead could not be folded in"));
    }
    File::open(new)?.sync_all()?;
    // Those of an empty file, or of none, belong to nothing, and must not be taken for the new one's.
    for companion in COMPANIONS {
        remove_if_there(&beside(path, companion))?;
    }
    fs::rename(new, path)?;
    sync_directory(path)
}

/// The path with something more at its end.
pub(super) fn beside(path: &Path, more: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(more);
    name.into()
}

/// A new file that only its owner can read and write. SQLite takes its mode for the companions.
pub(super) fn private(path: &Path) -> io::Result<File> {
    OpenOptions::new().create_new(true).write(true).mode(0o600).open(path)
}

/// Takes the right to read and write a database from everyone but its owner. Its companions may have its mode from before
/// that.
pub(super) fn make_private(path: &Path) -> io::Result<()> {
    let owner_only = || fs::Permissions::from_mode(0o600);
    fs::set_permissions(path, owner_only())?;
    for companion in COMPANIONS {
        match fs::set_permissions(beside(path, companion), owner_only()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

pub(super) fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

pub(super) fn remove_with_companions(path: &Path) -> io::Result<()> {
    for part in COMPANIONS.into_iter().chain([""]) {
        remove_if_there(&beside(path, part))?;
    }
    Ok(())
}

/// Makes renames in the directory of `path` outlive a power cut.
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new("."))).and_then(|directory| directory.sync_all())
}
