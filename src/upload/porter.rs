//! Does what a pack asks for: looks at its files, reads them, and sends them.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{FutureExt as _, stream};

use super::Folder;
use super::errand::{Ending, Failure, ToSend};
use super::pace::Pass;
use super::pack::{Fared, Heap, Pack};
use super::reader::read_whole;
use super::worker::{Looked, Prepared, Recording, Trouble, Uploader, blocking, look, open};
use crate::dstor::wire::Listing;
use crate::dstor::{Files, Measured, SessionFailure};
use crate::ledger::{Claim, LedgerError};
use crate::local::OpenRoot;
use crate::mirror::{Fault, MirrorPath, Placement, RemoteDir};

/// A pack on its way to its directory.
struct Porter<'a> {
    uploader: &'a Uploader,
    folder: &'a Arc<Folder>,
    dir: RemoteDir,
    /// What is read, by its place in the pack.
    read: HashMap<usize, (Arc<OpenRoot>, Bytes)>,
}

impl Uploader {
    /// Claims what may go along with a file, if it is worth it.
    pub(super) async fn companions(
        &self,
        claim: &Claim,
        file: &ToSend,
        pass: &Pass<'_>,
    ) -> Result<Vec<Claim>, LedgerError> {
        match self.roads.fewest_others(claim, file, pass.is_probe()) {
            Some(fewest) => self.queue.claim_beside(claim, file.stat.size, fewest).await,
            None => Ok(Vec::new()),
        }
    }

    /// The work on a change whose file is to be sent, and on others beside it. What it returns records how they ended.
    pub(super) async fn work_on_pack<'a>(
        &'a self,
        first: Claim,
        (root, file): (Arc<OpenRoot>, ToSend),
        others: Vec<Claim>,
        folder: &'a Arc<Folder>,
        pass: Pass<'_>,
    ) -> Result<Recording<'a>, LedgerError> {
        let mut pack = Pack::new(first, &file, others, &folder.policy, &self.patience);
        // Nobody goes along with a file whose directory has only a number.
        if let Placement::Path(dir) = file.placement.clone() {
            let mut porter = Porter { uploader: self, folder, dir, read: HashMap::new() };
            // A fault of ours must not end the work on all others (F4).
            let done = AssertUnwindSafe(porter.carry(&mut pack, (root, file), pass)).catch_unwind().await;
            if let Ok(Err(error)) = done {
                return Err(error);
            }
        }
        Ok(self.end(folder, pack.ended()).boxed())
    }
}

impl Porter<'_> {
    async fn carry(
        &mut self,
        pack: &mut Pack,
        ready: (Arc<OpenRoot>, ToSend),
        mut pass: Pass<'_>,
    ) -> Result<(), LedgerError> {
        let files = self.prepare(pack, ready).await?;
        self.read(pack, files).await;
        while let Some(heap) = pack.take_next() {
            pass.rise();
            if let Fared::Stopped(stopped) = self.send(pack, heap, &mut pass).await {
                let word = self.uploader.gate_word(pass.fail(stopped.fault()));
                pack.stopped(stopped, word, fastrand::f64);
                return Ok(());
            }
        }
        if pack.is_answered() {
            pass.succeed();
        }
        Ok(())
    }

    /// Looks at all but the first, which is ready. Returns those that are to be sent, with their place.
    async fn prepare(
        &self,
        pack: &mut Pack,
        ready: (Arc<OpenRoot>, ToSend),
    ) -> Result<Vec<(usize, Arc<OpenRoot>, ToSend)>, LedgerError> {
        let (folder, others) = (Arc::clone(self.folder), pack.claims()[1..].to_vec());
        let looks = blocking(move || {
            let root = open(&folder);
            let each = |claim: &Claim| look(&folder, root.clone()?, &claim.path);
            others.iter().map(each).collect::<Vec<Result<Looked, Fault>>>()
        })
        .await;
        let mut files = vec![(0, ready.0, ready.1)];
        for (at, looked) in (1..).zip(looks) {
            let prepared = match looked {
                Ok(looked) => {
                    self.uploader.prepare(pack.errand(at), self.folder, &pack.claims()[at], looked, &mut None).await
                }
                Err(fault) => Err(fault.into()),
            };
            match prepared {
                Ok(Prepared::ToSend(root, file)) => {
                    if pack.takes(at, &file) {
                        files.push((at, root, file));
                    }
                }
                Ok(Prepared::Ended(ending)) => pack.end(at, ending),
                Err(Trouble::Failure(failure)) => {
                    pack.fail(at, failure, self.uploader.gate_word(None), fastrand::f64());
                }
                Err(Trouble::Ledger(error)) => return Err(error),
            }
        }
        Ok(files)
    }

    /// Reads the files whole.
    async fn read(&mut self, pack: &mut Pack, files: Vec<(usize, Arc<OpenRoot>, ToSend)>) {
        let clock = self.uploader.queue.clock();
        let files: Vec<_> =
            files.into_iter().map(|(at, root, file)| (at, root, file, pack.claims()[at].path.clone())).collect();
        let recipients = self.uploader.recipients.clone();
        let read = blocking(move || {
            let each = |(at, root, file, path): (usize, Arc<OpenRoot>, ToSend, MirrorPath)| {
                let read_from = clock.timestamp();
                let read = read_whole(&root, &path, &file, recipients.as_ref());
                (at, root, file, read_from, read)
            };
            files.into_iter().map(each).collect::<Vec<_>>()
        })
        .await;
        for (at, root, file, read_from, read) in read {
            let content = read.map(|(content, bytes)| {
                self.read.insert(at, (root, bytes));
                content
            });
            let luck = (self.uploader.gate_word(None), fastrand::f64());
            pack.read(at, file, content, read_from, clock.now(), luck);
        }
    }

    async fn send(&mut self, pack: &mut Pack, heap: Heap, pass: &mut Pass<'_>) -> Fared {
        let uploader = self.uploader;
        let word = || uploader.gate_word(None);
        match heap.parcels() {
            [parcel] => {
                let at = parcel.at();
                let ended = self.send_one(pack, at, parcel.file()).await;
                pack.alone_ended(heap, ended, word(), fastrand::f64)
            }
            _ => {
                let ended = self.send_many(&heap, pass).await;
                let (now, roads) = (uploader.queue.clock().now(), &uploader.roads);
                pack.session_ended(heap, ended, now, || roads.lacks_sessions(), word(), fastrand::f64)
            }
        }
    }

    /// Sends one by itself. It is read once more: what was read before may be another version by now.
    async fn send_one(&self, pack: &Pack, at: usize, file: &ToSend) -> Result<Ending, Failure> {
        match self.read.get(&at) {
            Some((root, _)) => self.uploader.send(pack.errand(at), self.folder, &pack.claims()[at], root, file).await,
            None => Err(Fault::Moved.into()),
        }
    }

    /// Sends several in a session. Their bytes are kept until dStor has them.
    async fn send_many(&mut self, heap: &Heap, pass: &mut Pass<'_>) -> Result<Listing, SessionFailure> {
        let Self { uploader, folder, dir, read } = self;
        let names: Vec<&str> = heap.parcels().iter().map(|parcel| parcel.file().name.as_str()).collect();
        let pieces: Vec<Bytes> =
            heap.parcels().iter().filter_map(|parcel| Some(read.get(&parcel.at())?.1.clone())).collect();
        let bytes = pieces.iter().map(|bytes| bytes.len() as u64).sum();
        let files = Files { dir, comment: &folder.comment, names: &names, bytes };
        let body = move |place: usize| {
            let piece: Bytes = pieces[place].clone();
            Measured { bytes: piece.len() as u64, pieces: stream::iter([Ok(piece)]) }
        };
        let handed_over = || {
            heap.parcels().iter().for_each(|parcel| drop(read.remove(&parcel.at())));
            pass.rest();
        };
        uploader.client.session(&files, body, handed_over).await
    }
}
