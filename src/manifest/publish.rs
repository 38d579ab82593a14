//! Storing the list of a mirror's files on dStor: the parts that changed since the last one, and a root over all.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Instant;

use bytes::Bytes;
use futures_util::stream;
use tokio::sync::mpsc;

use super::{Cutter, Draft, FetchError, Part, fetch_root, root};
use crate::dstor::{Client, Files, Upload};
use crate::ledger::{EntryState, Ledger, LedgerError, ManifestRow, MirrorRow, Shelved};
use crate::mirror::{
    BadRemoteDir, Cid, CidBuilder, Digest, Fault, MirrorPath, Placement, RemoteDir, Sessions, State, Way, Ways,
};
use crate::restore::Wanted;
use crate::upload::Gate;

/// What gets no good answer this often ends it.
const TRIES: u32 = 4;
/// The directory for the lists, in that of the mirror on dStor.
const DIRECTORY: &str = ".dstor-sync";
/// What their names begin with.
const NAME: &str = "dstor-sync-manifest-";
/// Parts that are cut ahead.
const AHEAD: usize = 2;

/// Why no list was stored.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The ledger's.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// dStor did not take it; why.
    #[error("{}", .0.message())]
    Fault(Fault),
    /// There is no place for it.
    #[error("the mirror's directory on dStor cannot hold another one")]
    Place(#[from] BadRemoteDir),
    /// A thread of ours broke off.
    #[error("the list of files could not be read to its end")]
    Broke,
}

/// A list that is stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Published {
    /// The hash of its root: with it alone everything can be restored.
    pub hash: Cid,
    /// The digest of the root's bytes.
    pub digest: Digest,
    /// Files in it.
    pub files: u64,
    /// Bytes in these.
    pub bytes: u64,
    /// Its parts, and how many of these were sent.
    pub parts: u64,
    /// Parts that were sent; the others are there already.
    pub sent: u64,
    /// Bytes that were sent, with the root.
    pub sent_bytes: u64,
    /// Whether dStor's hashes of what was sent are those of its bytes.
    pub is_proved: bool,
    /// Files that are not in it, as dStor holds nothing of them.
    pub left_out: u64,
}

/// What stores lists.
pub struct Publisher<'a> {
    /// dStor.
    pub client: &'a Client,
    /// The gate before it.
    pub gate: &'a Gate,
    /// Whether files go in sessions.
    pub sessions: Sessions,
    /// The ledger's file, which is only read.
    pub ledger: PathBuf,
}

struct Sender<'a> {
    publisher: &'a Publisher<'a>,
    placement: Placement,
    ways: Mutex<Ways>,
    begun: Instant,
    sent: u64,
    sent_bytes: u64,
    is_proved: bool,
}

impl Publisher<'_> {
    /// Stores the list of what dStor holds of a mirror; `last` is the one that was stored last, whose parts are not sent again
    /// where they are the same. `made_at` is the time, in RFC 3339.
    ///
    /// # Errors
    /// [`PublishError`]; parts that were sent stay, and are in nobody's way.
    pub async fn publish(
        &self,
        mirror: &MirrorRow,
        last: Option<&ManifestRow>,
        made_at: &str,
    ) -> Result<Published, PublishError> {
        let known = self.known(last).await?;
        let placement = match &mirror.settings.policy.placement {
            Placement::Path(dir) => Placement::Path(RemoteDir::parse(&format!("{}/{DIRECTORY}", dir.as_str()))?),
            // The API names no way to make a directory below a number.
            by_id @ Placement::Id(_) => by_id.clone(),
        };
        let mut sender = Sender {
            publisher: self,
            placement,
            ways: Mutex::new(Ways::new(self.sessions)),
            begun: Instant::now(),
            sent: 0,
            sent_bytes: 0,
            is_proved: true,
        };
        let (send, mut drafts) = mpsc::channel(AHEAD);
        let (path, id, longest) = (self.ledger.clone(), mirror.id, mirror.settings.policy.max_file_size);
        let cutting = tokio::task::spawn_blocking(move || cut(path, id, longest, &send));
        let mut parts = Vec::new();
        while let Some(draft) = drafts.recv().await {
            let digest = draft.digest();
            let part = match known.get(digest.as_bytes()) {
                Some(part) if part.bytes == draft.text.len() as u64 => part.clone(),
                _ => sender.send_part(draft, digest).await?,
            };
            parts.push(part);
        }
        let (bytes, left_out) = cutting.await.map_err(|_| PublishError::Broke)??;
        let files = parts.iter().map(|part| part.files).sum();
        let count = parts.len() as u64;
        if let Some(last) = last.filter(|_| sender.sent == 0 && known.len() as u64 == count && !parts.is_empty()) {
            // Not one part is another, and none is gone: the last list is this one.
            let (hash, digest) = (last.hash.clone(), last.digest);
            let (sent, sent_bytes, is_proved) = (0, 0, true);
            return Ok(Published { hash, digest, files, bytes, parts: count, sent, sent_bytes, is_proved, left_out });
        }
        let packed = root(&mirror.settings.path.to_string_lossy(), made_at, bytes, &parts);
        let digest = Digest::of(&packed);
        let name = format!("{NAME}{}.gz", made_at.replace(':', "-"));
        let hash = sender.send(&name, packed.into()).await?;
        let Sender { sent, sent_bytes, is_proved, .. } = sender;
        Ok(Published { hash, digest, files, bytes, parts: count, sent, sent_bytes, is_proved, left_out })
    }

    /// The parts of the last list, by their digests; none if it is not there as it was.
    async fn known(&self, last: Option<&ManifestRow>) -> Result<HashMap<[u8; 32], Part>, PublishError> {
        let Some(last) = last else { return Ok(HashMap::new()) };
        let fetched = match fetch_root(self.client, self.gate, &last.hash).await {
            Ok(fetched) if Digest::of(&fetched.packed) == last.digest => fetched,
            Ok(_) | Err(FetchError::Missing(_) | FetchError::Form(..)) => return Ok(HashMap::new()),
            Err(FetchError::Fault(fault)) => return Err(PublishError::Fault(fault)),
        };
        let parts = fetched.parts().unwrap_or_default();
        Ok(parts.into_iter().map(|part| (*part.digest.as_bytes(), part)).collect())
    }
}

/// Blocking: cuts what dStor holds of a mirror into parts, until nobody takes them. Returns the bytes in all files, and how many
/// paths are left out.
fn cut(
    path: PathBuf,
    mirror: crate::ledger::MirrorId,
    longest: u64,
    send: &mpsc::Sender<Draft>,
) -> Result<(u64, u64), LedgerError> {
    let ledger = Ledger::open_read_only(&path)?;
    let mut holdings = ledger.holdings(mirror, &MirrorPath::top())?;
    let (mut cutter, mut bytes, mut left_out) = (Cutter::default(), 0_u64, 0);
    loop {
        let page = holdings.next_page()?;
        if page.is_empty() {
            break;
        }
        for shelved in page {
            match shelved {
                Shelved::Held(holding) if holding.state != EntryState::Settled(State::Gone) => {
                    bytes = bytes.saturating_add(holding.size);
                    if let Some(draft) = cutter.add(&Wanted::of(holding, longest))
                        && send.blocking_send(draft).is_err()
                    {
                        return Ok((bytes, left_out));
                    }
                }
                Shelved::Held(_) | Shelved::NotHeld(_, EntryState::Settled(State::Skipped)) => {}
                Shelved::NotHeld(..) | Shelved::Nonsense(_) => left_out += 1,
            }
        }
    }
    if let Some(draft) = cutter.end() {
        // Nobody takes it any more: whoever did says why.
        let _ = send.blocking_send(draft);
    }
    Ok((bytes, left_out))
}

impl Sender<'_> {
    async fn send_part(&mut self, draft: Draft, digest: Digest) -> Result<Part, PublishError> {
        let (bytes, files) = (draft.text.len() as u64, draft.files);
        let packed = Bytes::from(tokio::task::block_in_place(|| draft.packed()));
        let length = packed.len() as u64;
        let hash = self.send(&format!("{NAME}{}.gz", &digest.to_string()[..32]), packed).await?;
        self.sent += 1;
        Ok(Part { hash, packed: length, bytes, digest, files })
    }

    async fn send(&mut self, name: &str, packed: Bytes) -> Result<Cid, PublishError> {
        let mut cid = CidBuilder::new();
        cid.update(&packed);
        let (cid, size) = (cid.finish(), packed.len() as u64);
        let mut tries = 0;
        loop {
            let pass = self.publisher.gate.pass().await;
            match self.send_once(name, &packed).await {
                Ok(hash) => {
                    pass.succeed();
                    self.is_proved &= hash == cid;
                    self.sent_bytes += size;
                    return Ok(hash);
                }
                Err(fault) if self.has_another_way(&fault) => drop(pass),
                Err(fault) => {
                    pass.fail(&fault);
                    tries += 1;
                    if tries == TRIES || matches!(fault, Fault::Credentials(_) | Fault::Refused { .. }) {
                        return Err(PublishError::Fault(fault));
                    }
                }
            }
        }
    }

    async fn send_once(&self, name: &str, packed: &Bytes) -> Result<Cid, Fault> {
        let size = packed.len() as u64;
        let body = || stream::iter([Ok::<_, std::io::Error>(packed.clone())]);
        let way = self.ways().alone(size, &self.placement, self.begun.elapsed());
        match (way, &self.placement) {
            (Way::Session, Placement::Path(dir)) => {
                let files = Files { dir, comment: "", names: &[name], bytes: size };
                match self.publisher.client.session(&files, |_| body()).await {
                    Ok(listing) => {
                        let missing = || Fault::Protocol("its session has no usable hash for the file".into());
                        listing.hash(name).cloned().ok_or_else(missing)
                    }
                    Err(failure) if failure.is_for_lack_of_sessions() => {
                        self.ways().lacks_sessions(self.begun.elapsed());
                        Err(failure.fault)
                    }
                    Err(failure) => Err(failure.fault),
                }
            }
            (Way::Direct, placement) | (Way::Session, placement @ Placement::Id(_)) => {
                let upload = Upload { name, placement, comment: "", size };
                self.publisher.client.upload(&upload, body).await
            }
        }
    }

    /// Whether the service takes files in sessions only, and they go so from now on.
    fn has_another_way(&self, fault: &Fault) -> bool {
        matches!(fault, Fault::NeedsSession(_)) && self.ways().lacks_direct(&self.placement, self.begun.elapsed())
    }

    fn ways(&self) -> std::sync::MutexGuard<'_, Ways> {
        self.ways.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
