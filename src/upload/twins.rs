//! Whether a file has to leave its name on dStor to another one beside it (B19).

use super::{Folder, ReconcileError};
use crate::ledger::Ledger;
use crate::local::Tree;
use crate::mirror::{MirrorPath, Observed, State, are_twins, leaves_its_name};

/// Whose a file's name is on dStor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ItsName {
    /// The file's own.
    Kept,
    /// Another file's, whose name travels as the same one.
    Taken,
    /// It would be the file's own, but a worker has another one with that name just now, and may be sending it.
    InQuestion,
}

/// Blocking: whose the name of the file at `path` is. Costs a look at its directory, but only for the few names that can
/// have a twin.
///
/// # Errors
/// As the file system and the ledger say.
pub fn whose_name(
    ledger: &Ledger,
    folder: &Folder,
    root: &dyn Tree,
    path: &MirrorPath,
) -> Result<ItsName, ReconcileError> {
    let Some((dir, name)) = path.split().filter(|_| folder.policy.may_have_twins(path)) else {
        return Ok(ItsName::Kept);
    };
    let is_stored =
        |path: &MirrorPath| Ok(ledger.recorded(folder.id, path)?.is_some_and(|row| row.state == State::Stored));
    let (mut twins, mut is_any_claimed) = (Vec::new(), false);
    for other in root.list(&dir).map_err(ReconcileError::Unreadable)? {
        let Observed::File(stat) = other.look.observed else { continue };
        let Some(twin) = dir.join(&other.bytes) else { continue };
        if !are_twins(name, &other.bytes) || folder.policy.admit(stat.size, &twin).is_err() {
            continue;
        }
        if folder.rules.judge(root, &twin, false).map_err(ReconcileError::Unreadable)?.is_yes() {
            // First whether anyone has it: who has stored it meanwhile is then seen to have.
            is_any_claimed |= ledger.is_claimed(folder.id, &twin)?;
            let is_stored: Result<bool, ReconcileError> = is_stored(&twin);
            twins.push((other.bytes, is_stored?));
        }
    }
    let twins = twins.iter().map(|(name, is_stored)| (&**name, *is_stored));
    let is_stored = is_stored(path)?;
    Ok(if leaves_its_name(name, is_stored, twins) {
        ItsName::Taken
    } else if is_any_claimed && !is_stored {
        ItsName::InQuestion
    } else {
        ItsName::Kept
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{MirrorSettings, Push, Settlement, Urgency};
    use crate::local::{Identity, OpenRoot};
    use crate::mirror::{Placement, Policy, RemoteDir};

    // B19
    #[test]
    fn a_name_is_in_question_while_a_worker_has_another_file_with_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let mirror = dir.path().join("mirror");
        std::fs::create_dir(&mirror).expect("made");
        for name in ["a\"b", "a%22b"] {
            std::fs::write(mirror.join(name), name).expect("written");
        }
        let ledger = Ledger::open(&dir.path().join("ledger.db")).expect("a ledger");
        let placement = Placement::Path(RemoteDir::parse("Docs").expect("a place"));
        let settings = MirrorSettings {
            service: "s".into(),
            path: mirror.clone(),
            policy: Policy::new(placement),
            exclude: Vec::new(),
            hidden: true,
        };
        let id = ledger.activate_mirrors(std::slice::from_ref(&settings)).expect("a mirror")[0];
        let folder = Folder::new(id, &settings, String::new());
        folder.believe(Identity::of_path(&mirror).ok());
        let root: OpenRoot = folder.open().expect("it is there");
        let at = |name: &str| MirrorPath::from_bytes(name.as_bytes()).expect("a path");
        let whose = |name: &str| whose_name(&ledger, &folder, &root, &at(name)).expect("looked");
        let claim = |name: &str| {
            ledger.push(id, &[Push { path: at(name), size: 5, due_at: 0 }], Urgency::Event, 0).expect("pushed");
            ledger.claim(0, 1).expect("claimed").remove(0)
        };

        assert_eq!((whose("a\"b"), whose("a%22b")), (ItsName::Kept, ItsName::Taken), "the first in order keeps it");
        let later = claim("a%22b");
        assert_eq!((whose("a\"b"), whose("a%22b")), (ItsName::InQuestion, ItsName::Taken), "the other may be sent now");
        let both = claim("a\"b");
        assert_eq!(
            (whose("a\"b"), whose("a%22b")),
            (ItsName::InQuestion, ItsName::Taken),
            "one of them always goes on"
        );
        ledger.settle(&later, &Settlement::Nothing, None, 0).expect("settled");
        assert_eq!((whose("a\"b"), whose("a%22b")), (ItsName::Kept, ItsName::Taken));
        ledger.settle(&both, &Settlement::Nothing, None, 0).expect("settled");
    }
}
