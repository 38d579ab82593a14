//! A mirror at work: its directory, its rules, what it takes, and who its directory is.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use crate::ledger::{MirrorId, MirrorSettings};
use crate::local::{Calls, Identity, OpenRoot, Own, RootError, RuleBook, Watcher};
use crate::mirror::Policy;

/// A mirror at work, shared by those who scan, watch and upload it.
pub struct Folder {
    /// Its number in the ledger.
    pub id: MirrorId,
    /// Its directory, absolute.
    pub path: PathBuf,
    /// What it takes, and where it goes.
    pub policy: Policy,
    /// Kept on dStor with each file; empty: none.
    pub comment: String,
    /// What it leaves out.
    pub rules: RuleBook,
    /// Rung when a worker finds the directory missing or another one.
    pub root_lost: Notify,
    /// Rung when events may have been lost and everything is to be compared.
    pub rescan: Notify,
    own: Arc<[PathBuf]>,
    calls: Arc<Calls>,
    /// Walks of the whole mirror that are under way.
    walks: AtomicUsize,
    root: Mutex<Option<Identity>>,
    watcher: Mutex<Option<Arc<Watcher>>>,
}

/// Somebody walks all of a folder.
pub struct Walk<'a>(&'a Folder);

impl Drop for Walk<'_> {
    fn drop(&mut self) {
        self.0.walks.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Folder {
    /// A folder whose directory nobody has looked at yet.
    #[must_use]
    pub fn new(id: MirrorId, settings: &MirrorSettings, comment: String) -> Self {
        let MirrorSettings { path, policy, exclude, hidden, service: _ } = settings;
        Self {
            id,
            path: path.clone(),
            policy: policy.clone(),
            comment,
            rules: RuleBook::new(exclude, *hidden),
            root_lost: Notify::new(),
            rescan: Notify::new(),
            own: Arc::default(),
            calls: Arc::default(),
            walks: AtomicUsize::new(0),
            root: Mutex::default(),
            watcher: Mutex::default(),
        }
    }

    /// The same folder, with these files and directories of ours never taken for its own; absolute, without links.
    #[must_use]
    pub fn without(self, own: Arc<[PathBuf]>) -> Self {
        Self { own, ..self }
    }

    /// Blocking: opens the directory, if it is the one that is believed in.
    ///
    /// # Errors
    /// [`RootError::Missing`] also while nobody is believed in.
    pub fn open(&self) -> Result<OpenRoot, RootError> {
        let believed = *self.root.lock().unwrap_or_else(PoisonError::into_inner);
        let _call = self.calls.begin();
        let root = match believed {
            Some(identity) => OpenRoot::open(&self.path, Some(identity)),
            None => Err(RootError::Missing(self.path.clone())),
        };
        Ok(root?.without(self.own_now()).counted(Arc::clone(&self.calls)))
    }

    /// The calls to its file system.
    #[must_use]
    pub fn calls(&self) -> &Calls {
        &self.calls
    }

    /// Says that somebody walks all of it, until what it returns is dropped.
    pub fn walk(&self) -> Walk<'_> {
        self.walks.fetch_add(1, Ordering::Relaxed);
        Walk(self)
    }

    /// Whether somebody walks all of it.
    #[must_use]
    pub fn is_walked(&self) -> bool {
        self.walks.load(Ordering::Relaxed) > 0
    }

    /// Who our own files are: looked up each time, as any of them may be saved anew as another one.
    fn own_now(&self) -> Vec<Own> {
        self.own.iter().map(|own| Own::now(own, &self.path)).collect()
    }

    /// Believes from now on that the directory is this one; `None`: that it is not there.
    pub fn believe(&self, root: Option<Identity>) {
        *self.root.lock().unwrap_or_else(PoisonError::into_inner) = root;
    }

    /// Whether the directory is believed to be there.
    #[must_use]
    pub fn is_believed(&self) -> bool {
        self.root.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Has every directory that is walked from now on watched by `watcher`.
    pub fn watch_with(&self, watcher: Option<Arc<Watcher>>) {
        *self.watcher.lock().unwrap_or_else(PoisonError::into_inner) = watcher;
    }

    pub(super) fn watcher(&self) -> Option<Arc<Watcher>> {
        self.watcher.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::ledger::Ledger;
    use crate::mirror::{Placement, RemoteDir};

    // A7, A11: a worker may come between the swap and whoever notices it.
    #[test]
    fn nobody_looks_into_a_directory_that_is_not_the_one_believed_in() {
        let base = tempfile::tempdir().expect("a directory");
        let (path, away) = (base.path().join("mirror"), base.path().join("away"));
        fs::create_dir(&path).expect("made");
        let placement = Placement::Path(RemoteDir::parse("Docs").expect("a place"));
        let settings = MirrorSettings {
            service: "s".into(),
            path: path.clone(),
            policy: Policy::new(placement),
            exclude: Vec::new(),
            hidden: true,
        };
        let ledger = Ledger::in_memory().expect("a ledger");
        let id = ledger.activate_mirrors(std::slice::from_ref(&settings)).expect("a mirror")[0];
        let folder = Folder::new(id, &settings, String::new());
        assert!(matches!(folder.open(), Err(RootError::Missing(_))), "nobody is believed in");
        folder.believe(Some(Identity::of_path(&path).expect("it is there")));
        assert!(folder.open().is_ok());
        fs::rename(&path, &away).expect("moved");
        fs::create_dir(&path).expect("made");
        assert!(matches!(folder.open(), Err(RootError::Another(_))));
        fs::remove_dir(&path).expect("removed");
        assert!(matches!(folder.open(), Err(RootError::Missing(_))));
        fs::rename(&away, &path).expect("moved back");
        assert!(folder.open().is_ok());
    }
}
