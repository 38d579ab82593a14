//! Files that travel together: small ones of one directory that are due at the same time, in one upload session.
//!
//! Each has its own errand, from being looked at to its own end. They are read whole before any is sent, so that one that
//! moves never spoils the session of the others.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt as _, stream};

use super::Folder;
use super::errand::{Ending, Errand, Failure, GateWord, ToSend};
use super::pace::Pass;
use super::worker::{Looked, Prepared, Trouble, Uploader, blocking, look, open};
use crate::dstor::{Files, SessionFailure, Stage};
use crate::ledger::{Claim, LedgerError};
use crate::local::{Content, OpenRoot, ReadError, Reading};
use crate::mirror::{Cid, Fault, Placement, RemoteDir, Room, Scope, Timestamp};

/// A file that is read and not sent yet.
struct Parcel {
    /// Its place among the claims.
    at: usize,
    root: Arc<OpenRoot>,
    file: ToSend,
    read_from: Timestamp,
    content: Content,
    bytes: Bytes,
}

/// Claims of one mirror, and how the work on each ended so far.
struct Pack<'a> {
    uploader: &'a Uploader,
    folder: &'a Arc<Folder>,
    claims: &'a Arc<Vec<Claim>>,
    endings: Vec<Option<Ending>>,
}

impl Uploader {
    /// Claims what may go along with a file, if it is worth it.
    pub(super) async fn companions(
        &self,
        claim: &Claim,
        file: &ToSend,
        pass: &Pass<'_>,
    ) -> Result<Vec<Claim>, LedgerError> {
        match self.roads.fewest_others(claim, file) {
            // Whether dStor is back is for one file to see: many would have failed together.
            Some(fewest) if !pass.is_probe() => self.queue.claim_beside(claim, file.stat.size, fewest).await,
            _ => Ok(Vec::new()),
        }
    }

    /// The work on a change whose file is to be sent to its `placement`, and on others beside it.
    pub(super) async fn work_on_pack(
        &self,
        first: Claim,
        ready: (Arc<OpenRoot>, ToSend),
        others: Vec<Claim>,
        folder: &Arc<Folder>,
        pass: Pass<'_>,
    ) -> Result<(), LedgerError> {
        let claims: Arc<Vec<Claim>> = Arc::new(std::iter::once(first).chain(others).collect());
        let mut pack = Pack { uploader: self, folder, claims: &claims, endings: vec![None; claims.len()] };
        // A fault of ours must not end the work on all others (F4).
        let done = AssertUnwindSafe(pack.carry_out(ready, pass)).catch_unwind().await;
        let endings = std::mem::take(&mut pack.endings);
        if let Ok(Err(error)) = done {
            return Err(error);
        }
        let errand = |claim| Errand::new(claim, &folder.policy, &self.patience);
        let ended = claims.iter().zip(endings).map(|(claim, ending)| {
            let ending = ending.unwrap_or_else(|| errand(claim).broke());
            (claim.clone(), ending)
        });
        self.end(folder, ended.collect()).await
    }
}

impl Pack<'_> {
    async fn carry_out(&mut self, ready: (Arc<OpenRoot>, ToSend), pass: Pass<'_>) -> Result<(), LedgerError> {
        let Placement::Path(dir) = ready.1.placement.clone() else {
            // Nobody goes along with a file whose directory has only a number.
            return Ok(());
        };
        let files = self.prepare(ready).await?;
        let parcels = self.read(files).await;
        self.send(&dir, parcels, pass).await;
        Ok(())
    }

    /// Looks at all but the first, which is ready. Returns those that are to be sent, with their place.
    async fn prepare(
        &mut self,
        ready: (Arc<OpenRoot>, ToSend),
    ) -> Result<Vec<(usize, Arc<OpenRoot>, ToSend)>, LedgerError> {
        let (folder, claims) = (Arc::clone(self.folder), Arc::clone(self.claims));
        let looks = blocking(move || {
            let root = open(&folder);
            let each = |claim: &Claim| look(&folder, root.clone()?, &claim.path);
            claims.iter().skip(1).map(each).collect::<Vec<Result<Looked, Fault>>>()
        })
        .await;
        let mut room = Room::whole();
        room.take(ready.1.stat.size);
        let mut files = vec![(0, ready.0, ready.1)];
        for (at, looked) in (1..).zip(looks) {
            let errand = self.errand(at);
            let prepared = match looked {
                Ok(looked) => self.uploader.prepare(errand, self.folder, &self.claims[at], Some(looked)).await,
                Err(fault) => Err(fault.into()),
            };
            let ending = match prepared {
                Ok(Prepared::ToSend(root, file)) if room.take(file.stat.size) => {
                    files.push((at, root, file));
                    continue;
                }
                // Larger than it was: it has its own turn.
                Ok(Prepared::ToSend(..)) => put_back(),
                Ok(Prepared::Ended(ending)) => ending,
                Err(Trouble::Failure(failure)) => self.uploader.failed(errand, failure, None),
                Err(Trouble::Ledger(error)) => return Err(error),
            };
            self.endings[at] = Some(ending);
        }
        Ok(files)
    }

    /// Reads the files whole. Those that cannot be read, or are another version by now, have ended.
    async fn read(&mut self, files: Vec<(usize, Arc<OpenRoot>, ToSend)>) -> Vec<Parcel> {
        let (claims, clock) = (Arc::clone(self.claims), self.uploader.queue.clock());
        let read = blocking(move || {
            let each = |(at, root, file): (usize, Arc<OpenRoot>, ToSend)| {
                let read_from = clock.timestamp();
                let read = read_whole(&root, &claims[at], &file);
                (at, root, file, read_from, read)
            };
            files.into_iter().map(each).collect::<Vec<_>>()
        })
        .await;
        let mut parcels = Vec::new();
        for (at, root, file, read_from, read) in read {
            match read {
                Ok((content, bytes)) => parcels.push(Parcel { at, root, file, read_from, content, bytes }),
                Err(error) => {
                    let nothing_sent = Err(Fault::Moved);
                    match self.errand(at).sent(&file, nothing_sent, Some(Err(error)), read_from, clock.now()) {
                        Ok(ending) => self.endings[at] = Some(ending),
                        Err(failure) => self.fail(at, failure, self.uploader.gate_word(None)),
                    }
                }
            }
        }
        parcels
    }

    /// Sends what was read: all together, and in halves as long as they are refused.
    async fn send(&mut self, dir: &RemoteDir, parcels: Vec<Parcel>, pass: Pass<'_>) {
        let mut heaps = vec![parcels];
        let mut is_asked = false;
        while let Some(mut heap) = heaps.pop() {
            let failure = match heap.as_slice() {
                [] => continue,
                [parcel] => match self.send_one(parcel).await {
                    Some(failure) => failure,
                    None => {
                        is_asked = true;
                        continue;
                    }
                },
                [_, _, ..] => match self.send_many(dir, &heap).await {
                    Ok(()) => {
                        is_asked = true;
                        continue;
                    }
                    Err(failure) if failure.is_about_the_files() => {
                        let rest = heap.split_off(heap.len() / 2);
                        heaps.extend([rest, heap]);
                        continue;
                    }
                    Err(failure) if failure.is_for_lack_of_sessions() && self.uploader.roads.lacks_sessions() => {
                        is_asked = true;
                        self.put_back(&heap);
                        continue;
                    }
                    Err(failure) => Failure { is_unsure: failure.is_unsure(), ..failure.fault.into() },
                },
            };
            // The others would fare no better now, and have not failed.
            heaps.iter().for_each(|heap| self.put_back(heap));
            let word = self.uploader.gate_word(pass.fail(&failure.fault));
            let is_alone = heap.len() == 1;
            let is_over_some_time =
                matches!(failure.fault, Fault::Unreachable(_) | Fault::Busy { .. } | Fault::Credentials(_));
            if is_over_some_time && !failure.is_unsure {
                // Nothing of them was sent, and sessions have no part in it: one file is enough to tell of the trouble, and
                // the others may go together again when it is over.
                self.put_back(&heap.split_off(1));
            }
            for parcel in &heap {
                let failure = if is_alone { failure.clone() } else { of_one(&failure, parcel) };
                self.fail(parcel.at, failure, word);
            }
            return;
        }
        if is_asked {
            pass.succeed();
        }
    }

    /// Sends one by itself. Returns its failure if that concerns the whole account.
    async fn send_one(&mut self, parcel: &Parcel) -> Option<Failure> {
        let Parcel { at, root, file, .. } = parcel;
        match self.uploader.send(self.errand(*at), self.folder, &self.claims[*at], root, file).await {
            Ok(ending) => self.endings[*at] = Some(ending),
            Err(failure) if failure.fault.scope() == Scope::Account => return Some(failure),
            Err(failure) => self.fail(*at, failure, self.uploader.gate_word(None)),
        }
        None
    }

    /// Sends several in a session.
    async fn send_many(&mut self, dir: &RemoteDir, heap: &[Parcel]) -> Result<(), SessionFailure> {
        let names: Vec<&str> = heap.iter().map(|parcel| parcel.file.name.as_str()).collect();
        let bytes = heap.iter().map(|parcel| parcel.bytes.len() as u64).sum();
        let files = Files { dir, comment: &self.folder.comment, names: &names, bytes };
        let body = |at: usize| stream::iter([Ok(heap[at].bytes.clone())]);
        let listing = self.uploader.client.session(&files, body).await?;
        let hashes: Vec<Option<Cid>> = names.iter().map(|name| listing.hash(name).cloned()).collect();
        if hashes.iter().all(Option::is_none) {
            let fault = Fault::Protocol("its session has no usable hash for any file".into());
            return Err(SessionFailure { fault, stage: Stage::Waiting });
        }
        let stored_at = self.uploader.queue.clock().now();
        for (Parcel { at, file, read_from, content, .. }, hash) in heap.iter().zip(hashes) {
            let ended = match hash {
                Some(hash) => self.errand(*at).sent(file, Ok(hash), Some(Ok(content.clone())), *read_from, stored_at),
                None => Err(Fault::Session("it has no usable hash for it".into()).into()),
            };
            match ended {
                Ok(ending) => self.endings[*at] = Some(ending),
                Err(failure) => self.fail(*at, failure, self.uploader.gate_word(None)),
            }
        }
        Ok(())
    }

    fn errand(&self, at: usize) -> Errand<'_> {
        Errand::new(&self.claims[at], &self.folder.policy, &self.uploader.patience)
    }

    fn fail(&mut self, at: usize, failure: Failure, word: GateWord) {
        let ending = self.errand(at).failed(failure, word, fastrand::f64());
        self.endings[at] = Some(ending);
    }

    fn put_back(&mut self, heap: &[Parcel]) {
        for parcel in heap {
            self.endings[parcel.at] = Some(put_back());
        }
    }
}

/// What the failure of a session of many is to one of them: it says nothing of any, and parks none.
fn of_one(failure: &Failure, parcel: &Parcel) -> Failure {
    let fault = match &failure.fault {
        Fault::Protocol(why) => Fault::Session(why.clone()),
        other => other.clone(),
    };
    Failure { fault, sent: None, is_unsure: failure.is_unsure, whole: Some(parcel.content.digest) }
}

fn put_back() -> Ending {
    Ending::Deferred(Duration::ZERO)
}

/// Blocking: reads a small file to its end, if it is the version that was looked at.
fn read_whole(root: &OpenRoot, claim: &Claim, file: &ToSend) -> Result<(Content, Bytes), ReadError> {
    let mut pieces = Vec::new();
    let content = Reading::open(root, &claim.path, file.stat)?.send(|piece| {
        pieces.push(piece);
        Ok(())
    })?;
    // Most files are one piece, which need not be copied.
    let bytes = if pieces.len() == 1 { pieces.remove(0) } else { pieces.concat().into() };
    Ok((content, bytes))
}
