//! Keeps the lists of files on dStor up to date, when there is nothing else to do: with the newest one's hash a mirror comes
//! back where its ledger is lost.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tracing::{info, warn};

use super::is_quiet;
use crate::ledger::{LedgerError, ManifestRow, MirrorRow};
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
                let stored = ledger.counts(id)?.stored.files;
                let is_due = match &last {
                    None => stored > 0,
                    Some(last) => {
                        // A file that went and another that came make no other number, but the second was stored since.
                        let is_another = last.files != stored
                            || ledger.last_stored_at(id)?.is_some_and(|at| at >= last.published_at);
                        // By a clock that was ahead, and is not to be waited for.
                        let is_ahead = last.published_at > now;
                        is_ahead || is_another && now.saturating_sub(last.published_at) >= every
                    }
                };
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
