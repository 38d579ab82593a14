//! One writer per ledger: a kernel lock that ends with the process, so that nothing stale is left after a crash.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

const TRIES: u32 = 5;
const BETWEEN_TRIES: Duration = Duration::from_millis(100);

/// The right to write the ledger of a state directory, held until dropped.
#[derive(Debug)]
pub struct AgentLock {
    _file: File,
}

/// Why the lock is not ours.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another agent holds it.
    #[error("another dstor-sync works with the ledger in `{}`", .0.display())]
    Held(PathBuf),
    /// The lock's file cannot be used.
    #[error("cannot lock `{}`", path.display())]
    Io {
        /// The lock's file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl AgentLock {
    /// Blocking: takes the lock of `state_dir`, waiting half a second at most: whoever asks whether it is held has it
    /// for a moment.
    ///
    /// # Errors
    /// [`LockError::Held`] if another process has it.
    pub fn take(state_dir: &Path) -> Result<Self, LockError> {
        let path = state_dir.join("agent.lock");
        let io = |source| LockError::Io { path: path.clone(), source };
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&path).map_err(io)?;
        for _ in 0..TRIES {
            match uninterrupted(|| file.try_lock()) {
                Ok(()) => return Ok(Self { _file: file }),
                Err(TryLockError::WouldBlock) => std::thread::sleep(BETWEEN_TRIES),
                Err(TryLockError::Error(source)) => return Err(io(source)),
            }
        }
        Err(LockError::Held(state_dir.to_owned()))
    }

    /// Whether some process holds the lock of `state_dir` right now.
    #[must_use]
    pub fn is_held(state_dir: &Path) -> bool {
        let Ok(file) = File::open(state_dir.join("agent.lock")) else { return false };
        matches!(uninterrupted(|| file.try_lock_shared()), Err(TryLockError::WouldBlock))
    }
}

/// Locks again where a signal came in between: that says nothing of the lock.
fn uninterrupted(mut lock: impl FnMut() -> Result<(), TryLockError>) -> Result<(), TryLockError> {
    loop {
        match lock() {
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            locked => return locked,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // B24
    #[test]
    fn a_signal_is_no_answer() {
        let interrupted = || Err(TryLockError::Error(io::ErrorKind::Interrupted.into()));
        let mut answers = vec![Err(TryLockError::WouldBlock), interrupted(), interrupted()];
        let mut lock = || answers.pop().expect("asked once too often");
        assert!(matches!(uninterrupted(&mut lock), Err(TryLockError::WouldBlock)));
    }

    // D10, F11
    #[test]
    fn only_one_holds_the_lock_and_nothing_stale_is_left() {
        let dir = tempfile::tempdir().expect("a directory");
        assert!(!AgentLock::is_held(dir.path()));
        let held = AgentLock::take(dir.path()).expect("free");
        assert!(AgentLock::is_held(dir.path()));
        assert!(matches!(AgentLock::take(dir.path()), Err(LockError::Held(_))));
        drop(held);
        assert!(!AgentLock::is_held(dir.path()));
        AgentLock::take(dir.path()).expect("free again");
    }
}
