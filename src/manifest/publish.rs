//! Storing the list of a mirror's files on dStor: the parts that changed since the last one, and a root over all.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Instant;

use bytes::Bytes;
use futures_util::stream;
use tokio::sync::mpsc;

use super::fetch::{get, parts_of};
use super::{Cutter, Draft, FetchError, LONGEST_ROOT, MOST_PARTS, Packing, Part, root};
use crate::dstor::{Client, Files, Measured, Upload};
use crate::ledger::{EntryState, Ledger, LedgerError, ManifestRow, MirrorRow, SealedRoot, Shelved};
use crate::mirror::{
    BadRemoteDir, Cid, CidBuilder, Digest, Fault, MirrorPath, Placement, RemoteDir, Sessions, State, Way, Ways,
};
use crate::restore::Wanted;
use crate::seal::{Recipients, seal};
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
    /// It is not to be encrypted, and would say which file goes by which pseudonym.
    #[error("the names of files are hidden on dStor, and a list that is not encrypted would tell them")]
    Hidden,
    /// It would have more parts than are read.
    #[error("the mirror has more files than a list can hold")]
    TooMany,
    /// A thread of ours broke off.
    #[error("the list of files could not be read to its end")]
    Broke,
}

/// A list that is stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Published {
    /// The hash of its root: with it alone everything can be restored.
    pub hash: Cid,
    /// The digest of the root's bytes, as they were sent.
    pub digest: Digest,
    /// What the next one needs of it, if it is encrypted.
    pub sealed: Option<SealedRoot>,
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
    /// To whom lists are encrypted; `None`: they are not.
    pub recipients: Option<Recipients>,
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
        let (ledger, id, is_open) = (self.ledger.clone(), mirror.id, self.recipients.is_none());
        let would_tell =
            move || Ok::<_, LedgerError>(is_open && Ledger::open_read_only(&ledger)?.has_hidden_names(id)?);
        if tokio::task::spawn_blocking(would_tell).await.map_err(|_| PublishError::Broke)?? {
            return Err(PublishError::Hidden);
        }
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
            let ManifestRow { hash, digest, sealed, .. } = last.clone();
            let (sent, sent_bytes, is_proved) = (0, 0, true);
            return Ok(Published {
                hash,
                digest,
                sealed,
                files,
                bytes,
                parts: count,
                sent,
                sent_bytes,
                is_proved,
                left_out,
            });
        }
        if parts.len() as u64 > MOST_PARTS {
            return Err(PublishError::TooMany);
        }
        let root = root(&mirror.settings.path.to_string_lossy(), made_at, bytes, &parts, self.packing());
        let stored = self.sealed(&root);
        let digest = Digest::of(&stored);
        let hash = sender.send(&self.name(&made_at.replace(':', "-")), stored).await?;
        let sealed = self.recipients.as_ref().map(|to| SealedRoot { recipients: to.names().collect(), root });
        let Sender { sent, sent_bytes, is_proved, .. } = sender;
        Ok(Published { hash, digest, sealed, files, bytes, parts: count, sent, sent_bytes, is_proved, left_out })
    }

    /// The parts of the last list, by their digests; none if it is not there as it was, or not for those to whom this one is
    /// encrypted.
    async fn known(&self, last: Option<&ManifestRow>) -> Result<HashMap<[u8; 32], Part>, PublishError> {
        let Some(last) = last else { return Ok(HashMap::new()) };
        let to: Vec<String> = self.recipients.iter().flat_map(Recipients::names).collect();
        if last.sealed.as_ref().map_or(&[][..], |sealed| &sealed.recipients) != to {
            return Ok(HashMap::new());
        }
        let there = match get(self.client, self.gate, &last.hash, LONGEST_ROOT).await {
            Ok(there) if Digest::of(&there) == last.digest => there,
            Ok(_) | Err(FetchError::Missing(_) | FetchError::Locked(..) | FetchError::Form(..)) => {
                return Ok(HashMap::new());
            }
            Err(FetchError::Fault(fault)) => return Err(PublishError::Fault(fault)),
        };
        // What is there is for those with a private key, which is not here; the ledger has what it was made of.
        let packed = last.sealed.as_ref().map_or(&there, |sealed| &sealed.root);
        let parts = parts_of(packed).unwrap_or_default();
        Ok(parts.into_iter().map(|part| (*part.digest.as_bytes(), part)).collect())
    }

    fn packing(&self) -> Packing {
        if self.recipients.is_some() { Packing::ToSeal } else { Packing::Small }
    }

    /// What is stored of these bytes.
    fn sealed(&self, packed: &[u8]) -> Bytes {
        match &self.recipients {
            Some(recipients) => seal(recipients, packed),
            None => Bytes::copy_from_slice(packed),
        }
    }

    /// The name on dStor of what is called so here.
    fn name(&self, this: &str) -> String {
        let end = if self.recipients.is_some() { ".gz.age" } else { ".gz" };
        format!("{NAME}{this}{end}")
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
        let publisher = self.publisher;
        let stored = tokio::task::block_in_place(|| publisher.sealed(&draft.packed(publisher.packing())));
        let length = stored.len() as u64;
        // By what is there to be seen: the digest of an encrypted part's text would tell who guesses the text.
        let named_after = if publisher.recipients.is_some() { Digest::of(&stored) } else { digest };
        let hash = self.send(&publisher.name(&named_after.to_string()[..32]), stored).await?;
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
        let body = || Measured { bytes: size, pieces: stream::iter([Ok::<_, std::io::Error>(packed.clone())]) };
        let way = self.ways().alone(size, &self.placement, self.begun.elapsed());
        match (way, &self.placement) {
            (Way::Session, Placement::Path(dir)) => {
                let files = Files { dir, comment: "", names: &[name], bytes: size };
                match self.publisher.client.session(&files, |_| body(), || ()).await {
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
                let upload = Upload { name, placement, comment: "" };
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
