//! What there is to bring back, by the ledger: listed on a thread of its own, no faster than it is brought.

use std::path::PathBuf;

use tokio::sync::mpsc;

use super::{Item, Wanted};
use crate::ledger::{EntryState, Ledger, LedgerError, Millis, MirrorId, Shelved};
use crate::mirror::{MirrorPath, State};

/// What is wanted of a mirror.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Scope {
    /// The mirror.
    pub mirror: MirrorId,
    /// Files, and directories with all below them.
    pub paths: Vec<MirrorPath>,
    /// Whether what is no longer here is wanted too. A file that is named is wanted in any case.
    pub with_gone: bool,
    /// As of when, in the versions that dStor held by then; `None`: now.
    pub at: Option<Millis>,
    /// No version of a file has more bytes, beside those whose size is on record.
    pub longest: u64,
}

/// Blocking: sends what the ledger at `path` has of `scope`, until nobody takes it. Returns for each of the scope's paths how
/// many files there were, with those that are gone and were not wanted.
///
/// # Errors
/// The ledger's; what was sent before counts.
pub fn list(path: PathBuf, scope: &Scope, send: &mpsc::Sender<Item>) -> Result<Vec<Listed>, LedgerError> {
    let ledger = Ledger::open_read_only(&path)?;
    let mut all = Vec::new();
    for (at, path) in scope.paths.iter().enumerate() {
        let mut listed = Listed::default();
        // What lies below a path that is named as well comes once.
        let is_within = |(other, above): (usize, &MirrorPath)| {
            other != at && path.is_within(above) && (path != above || other < at)
        };
        if let Some((first, _)) = scope.paths.iter().enumerate().find(|(other, above)| is_within((*other, above))) {
            listed.within = Some(first);
            all.push(listed);
            continue;
        }
        if let Some(shelved) = ledger.holding(scope.mirror, path, scope.at)?
            && !tell(shelved, scope.longest, true, &mut listed, send)
        {
            return Ok(all);
        }
        let (mut holdings, with_gone) = match scope.at {
            None => (ledger.holdings(scope.mirror, path)?, scope.with_gone),
            // Gone since, or of a size that nobody knows.
            Some(at) => (ledger.holdings_at(scope.mirror, path, at)?, true),
        };
        loop {
            let page = holdings.next_page()?;
            if page.is_empty() {
                break;
            }
            for shelved in page {
                if !tell(shelved, scope.longest, with_gone, &mut listed, send) {
                    return Ok(all);
                }
            }
        }
        all.push(listed);
    }
    Ok(all)
}

/// What was found at and below a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Listed {
    /// Files that were wanted, and those that dStor does not hold.
    pub files: u64,
    /// Files that are no longer here, and were not wanted.
    pub gone: u64,
    /// The number of the path that it lies in, and with which it came.
    pub within: Option<usize>,
}

/// `false` if nobody takes it.
fn tell(shelved: Shelved, longest: u64, with_gone: bool, listed: &mut Listed, send: &mpsc::Sender<Item>) -> bool {
    let item = match shelved {
        Shelved::Held(holding) if holding.state == EntryState::Settled(State::Gone) && !with_gone => {
            listed.gone += 1;
            return true;
        }
        Shelved::Held(holding) => Item::Wanted(Wanted::of(holding, longest)),
        Shelved::NotHeld(path, EntryState::Settled(State::Skipped)) => Item::Skipped(path),
        Shelved::NotHeld(path, _) => Item::NotStored(path),
        Shelved::Nonsense(path) => Item::Nonsense(path),
    };
    listed.files += 1;
    send.blocking_send(item).is_ok()
}
