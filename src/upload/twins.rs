//! Whether a file has to leave its name on dStor to another one beside it (B19).

use super::{Folder, ReconcileError};
use crate::ledger::{Ledger, LedgerError};
use crate::local::Tree;
use crate::mirror::{MirrorPath, Observed, State, are_twins, leaves_its_name, may_have_twins};

/// Blocking: whether the file at `path` is left out because of its name. Costs a look at its directory, but only for the
/// few names that can have a twin.
///
/// # Errors
/// As the file system and the ledger say.
pub fn has_to_leave_its_name(
    ledger: &Ledger,
    folder: &Folder,
    root: &dyn Tree,
    path: &MirrorPath,
) -> Result<bool, ReconcileError> {
    let Some((dir, name)) = path.split().filter(|(_, name)| may_have_twins(name)) else { return Ok(false) };
    let place = folder.policy.placement.of_directory(&dir);
    let is_stored = |path: &MirrorPath| -> Result<bool, LedgerError> {
        Ok(ledger.recorded(folder.id, path)?.is_some_and(|row| row.state == State::Stored))
    };
    let mut twins = Vec::new();
    for other in root.list(&dir).map_err(ReconcileError::Unreadable)? {
        let Observed::File(stat) = other.look.observed else { continue };
        if !are_twins(name, &other.bytes) || folder.policy.admit(stat.size, &other.bytes, &place).is_err() {
            continue;
        }
        let Some(twin) = dir.join(&other.bytes) else { continue };
        if folder.rules.judge(root, &twin, false).map_err(ReconcileError::Unreadable)?.is_yes() {
            let is_stored = is_stored(&twin)?;
            twins.push((other.bytes, is_stored));
        }
    }
    let twins = twins.iter().map(|(name, is_stored)| (&**name, *is_stored));
    Ok(leaves_its_name(name, is_stored(path)?, twins))
}
