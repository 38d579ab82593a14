//! Whether the directory at a mirror's path is the mirror: "not there" is believed only of what is in it.

use crate::ledger::{LedgerError, MirrorRow};
use crate::local::{Identity, OpenRoot, RootError, Tree};
use crate::mirror::{MirrorPath, Observed, Stat, shell_word};

use super::{Folder, Queue};

/// Stored files that are looked for in a directory with another identity.
pub const SAMPLE: u32 = 32;

/// What is at a mirror's path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Recognised {
    /// The mirror's directory.
    Here,
    /// Nothing, or something else; what a person should know.
    Missing(String),
}

/// Blocking: whether a directory with another identity is the mirror all the same: `sample` is of what the ledger has
/// stored of it. One of which nothing is stored yet is whatever is there.
#[must_use]
pub fn is_familiar(root: &dyn Tree, sample: &[(MirrorPath, Stat)]) -> bool {
    let is_there =
        |(path, stat): &(MirrorPath, Stat)| root.look(path).is_ok_and(|look| look.observed == Observed::File(*stat));
    sample.is_empty() || sample.iter().any(is_there)
}

/// Looks at the folder's directory and believes in it if it is the one that the ledger knows, or the first one ever.
///
/// One with another identity is believed if stored files are in it unchanged, by their inodes, too: some systems number
/// their devices anew at each start. Any other is taken for a disk that is not mounted, until a person accepts it.
///
/// # Errors
/// The ledger's.
pub async fn recognise(folder: &Folder, queue: &Queue) -> Result<Recognised, LedgerError> {
    let id = folder.id;
    let known = queue.with_room(move |ledger| ledger.mirror(id)).await?;
    let sample = match &known {
        MirrorRow { root: Some(_), .. } => queue.with_room(move |ledger| ledger.some_stored(id, SAMPLE)).await?,
        MirrorRow { root: None, .. } => Vec::new(),
    };
    let found = tokio::task::block_in_place(|| {
        let root = match OpenRoot::open(&folder.path, known.root) {
            Err(RootError::Another(_)) => OpenRoot::open(&folder.path, None)?,
            opened => return opened.map(|root| Some(root.identity())),
        };
        Ok(is_familiar(&root, &sample).then(|| root.identity()))
    });
    match found {
        Ok(Some(identity)) => {
            if known.root != Some(identity) {
                queue.with_room(move |ledger| ledger.believe_root(id, Some(identity))).await?;
            }
            folder.believe(Some(identity));
            Ok(Recognised::Here)
        }
        Ok(None) => Ok(missing(
            folder,
            format!(
                "another directory is in its place, as when a disk is not mounted; if it is the right one: `dstor-sync root accept {}`",
                shell_word(&folder.path)
            ),
        )),
        Err(RootError::Closed { source, .. }) => Ok(missing(folder, format!("it cannot be opened: {source}"))),
        Err(RootError::Missing(_) | RootError::Another(_)) => Ok(missing(folder, "it is not there".into())),
    }
}

fn missing(folder: &Folder, note: String) -> Recognised {
    folder.believe(None::<Identity>);
    Recognised::Missing(note)
}
