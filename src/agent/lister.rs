//! Keeps the lists of files on dStor up to date, when there is nothing else to do: with the newest one's hash a mirror comes
//! back where its ledger is lost.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tracing::{info, warn};

use super::is_quiet;
use crate::ledger::{LedgerError, ManifestRow, Millis, MirrorRow};
use crate::manifest::{PublishError, Published, Publisher};
use crate::mirror::Sessions;
use crate::upload::{Folder, Stop, Uploader};
use crate::wording::time;

/// It looks this much more often than a list may be stored, within these bounds.
const LOOKS: u32 = 10;
const LOOK_AT_MOST: Duration = Duration::from_secs(60);
/// Nothing may be due for so long: a list in the midst of a first pass would be old at once.
const QUIET: Duration = Duration::from_secs(2);
/// After a list that dStor did not take.
const AGAIN: Duration = Duration::from_secs(15 * 60);

pub(super) struct Lister {
    pub(super) uploader: Arc<Uploader>,
    pub(super) folders: Vec<Arc<Folder>>,
    pub(super) ledger: PathBuf,
    pub(super) sessions: Sessions,
    /// No list is stored sooner after the one before; `None`: none is.
    pub(super) every: Option<Duration>,
    pub(super) stop: watch::Receiver<Stop>,
}

impl Lister {
    pub(super) async fn list(self) -> Result<(), LedgerError> {
        let Some(every) = self.every else { return Ok(()) };
        let look = (every / LOOKS).clamp(Duration::from_millis(200), LOOK_AT_MOST);
        let mut wait = look;
        while !Stop::within(&self.stop, wait).await {
            wait = look;
            for folder in &self.folders {
                let queue = &self.uploader.queue;
                if self.uploader.gate.facts().borrow().failures > 0 || !is_quiet(queue, QUIET).await? {
                    break;
                }
                let Some((mirror, last)) = self.due(folder, every).await? else { continue };
                if queue.is_metered().await {
                    break;
                }
                let mut stop = self.stop.clone();
                let published = tokio::select! {
                    biased;
                    () = Stop::wait(&mut stop) => return Ok(()),
                    published = self.publish(&mirror, last.as_ref()) => published,
                };
                match published {
                    Ok(()) => {}
                    Err(PublishError::Ledger(error)) => return Err(error),
                    Err(error) => {
                        warn!(mirror = %folder.path.display(), %error, "the list of its files could not be stored; trying again");
                        wait = AGAIN;
                    }
                }
            }
        }
        Ok(())
    }

    /// The mirror of a folder whose list is old enough, and not what the ledger says any more; with that list.
    async fn due(
        &self,
        folder: &Folder,
        every: Duration,
    ) -> Result<Option<(MirrorRow, Option<ManifestRow>)>, LedgerError> {
        let (id, now) = (folder.id, self.uploader.queue.clock().now());
        let every = i64::try_from(every.as_millis()).unwrap_or(i64::MAX);
        self.uploader
            .queue
            .ledger()
            .with(move |ledger| {
                let last = ledger.manifest(id)?;
                let stored = (ledger.counts(id)?.stored.files, ledger.last_stored_at(id)?);
                let is_due = is_due(last.as_ref(), stored, now, every);
                let mirror = ledger.active_mirrors()?.into_iter().find(|mirror| mirror.id == id && is_due);
                Ok(mirror.map(|mirror| (mirror, last)))
            })
            .await
    }

    async fn publish(&self, mirror: &MirrorRow, last: Option<&ManifestRow>) -> Result<(), PublishError> {
        let now = self.uploader.queue.clock().now();
        let publisher = Publisher {
            client: &self.uploader.client,
            gate: &self.uploader.gate,
            recipients: self.uploader.recipients.clone(),
            sessions: self.sessions,
            ledger: self.ledger.clone(),
        };
        let Published { hash, digest, sealed, files, bytes, sent, .. } =
            publisher.publish(mirror, last, &time(now)).await?;
        info!(mirror = %mirror.settings.path.display(), files, sent, hash = %hash, "the list of its files is stored");
        let (id, row) = (mirror.id, ManifestRow { hash, digest, files, bytes, published_at: now, sealed });
        self.uploader.queue.with_room(move |ledger| ledger.set_manifest(id, &row)).await?;
        Ok(())
    }
}

/// Whether a list of what is stored, so many files, the last of them then, is to take the place of the `last` one: that tells
/// something else, and is `every` milliseconds old.
fn is_due(last: Option<&ManifestRow>, (files, last_at): (u64, Option<Millis>), now: Millis, every: Millis) -> bool {
    let Some(last) = last else { return files > 0 };
    // A file that went and another that came make no other number, but the second was stored since.
    let is_another = last.files != files || last_at.is_some_and(|at| at >= last.published_at);
    // By a clock that was ahead, and is not to be waited for.
    let is_ahead = last.published_at > now;
    is_ahead || is_another && now.saturating_sub(last.published_at) >= every
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mirror::{Cid, Digest};

    #[test]
    fn a_list_is_stored_if_it_would_tell_something_else_and_the_last_one_is_old_enough() {
        let hash = Cid::parse("QmT78zSuBmuS4z925WZfrqQ1qHaJ56DQaTfyMUF7F8ff5o").expect("a CID");
        let last = ManifestRow { hash, digest: Digest::of(b""), files: 3, bytes: 9, published_at: 5_000, sealed: None };
        let due = |files, last_at, now| is_due(Some(&last), (files, Some(last_at)), now, 1_000);
        assert!(!due(3, 4_999, 1_000_000), "nothing has changed");
        for (files, last_at) in [(4, 5_500), (2, 4_000), (3, 5_500), (3, 5_000)] {
            assert!(!due(files, last_at, 5_999), "{files} {last_at}: too soon");
            assert!(due(files, last_at, 6_000), "{files} {last_at}");
        }
        assert!(due(3, 4_000, 4_999), "its time has not come yet, by a clock that was ahead");
        assert!(is_due(None, (1, None), 0, 1_000) && !is_due(None, (0, None), 0, 1_000), "the first one");
    }
}
