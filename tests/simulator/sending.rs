//! What lies between a worker and dStor: a file that is read while it may change, and a request that may end in any way.

use std::time::Duration;

use dstor_sync::dstor::Granted;
use dstor_sync::ledger::Claim;
use dstor_sync::local::{Content, ReadError, Tree as _};
use dstor_sync::mirror::{CidBuilder, Digest, EMPTIED, Fault, MirrorPath, Observed, Placement, Stat, State};

use crate::disk::Held;
use crate::reach::Rare;
use crate::remote::{Fate, Remote, Said, Service, TOKEN_LIFE, read};
use crate::run::Run;
use crate::shipping::{Asks, Cargo, Request, Shipment};
use crate::worker::{Load, Stage, Task, Work};

/// A request in which nothing moves is given up after this.
pub(crate) const STALL: Duration = Duration::from_secs(60);
/// A session is asked about first after so long.
pub(crate) const FIRST_WAIT: Duration = Duration::from_millis(10);

/// Sorts of requests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sort {
    Direct,
    Open,
    Chunk,
    Status,
}

impl Run {
    /// Opens the file if it is this version: what its bytes are at first.
    pub(crate) fn read_begin(&self, tree: usize, path: &MirrorPath, version: &Stat) -> Option<Vec<u8>> {
        let looked = Held { disk: &self.disk, tree }.look(path).expect("memory can be read");
        let bytes = self.disk.borrow().content(tree, path).map(<[u8]>::to_vec);
        bytes.filter(|_| looked.observed == Observed::File(*version))
    }

    /// Reads it to the end: half of it as it was at first and half as it is now, if it is still this version.
    pub(crate) fn read_end(
        &self,
        tree: usize,
        path: &MirrorPath,
        version: &Stat,
        first: Option<Vec<u8>>,
    ) -> (Result<Content, ReadError>, Vec<u8>) {
        let Some(first) = first else {
            self.meet(Rare::MovedBeforeRead);
            return (Err(ReadError::Moved), Vec::new());
        };
        let Some(last) = self.read_begin(tree, path, version) else {
            self.meet(Rare::MovedInRead);
            return (Err(ReadError::Moved), Vec::new());
        };
        if first != last {
            self.meet(Rare::Torn);
        }
        let half = first.len() / 2;
        let bytes = [&first[..half], &last[half..]].concat();
        let mut cid = CidBuilder::new();
        cid.update(&bytes);
        (Ok(Content { digest: Digest::of(&bytes), sealed: None, cid: Some(cid.finish()) }), bytes)
    }

    /// A request comes to its end: what dStor says to it, and when the answer is here.
    pub(crate) fn arrive(
        &self,
        work: &Work,
        shipment: &mut Shipment,
        token: u64,
        first: Option<Vec<u8>>,
    ) -> (Said, Duration) {
        let wait = self.latency();
        let mut files = Vec::new();
        match (&shipment.cargo, shipment.sort()) {
            (Cargo::Lone { at, file, .. }, Sort::Direct | Sort::Chunk) => {
                let claim = work.claim(*at);
                let (read, bytes) = self.read_end(work.tree, &claim.path, &file.stat, first);
                let is_whole = read.is_ok();
                shipment.read = Some(read);
                if !is_whole {
                    // A body that ends with an error leaves nothing on dStor.
                    return (None, wait);
                }
                self.check_not_emptied(claim, &bytes);
                files.push((file.name.clone(), bytes));
            }
            (Cargo::Heap(heap), Sort::Chunk) => {
                let Load::Many(many) = &work.load else { unreachable!("a heap is part of a pack") };
                for parcel in heap.parcels() {
                    let bytes = many.bytes[&parcel.at()].clone();
                    self.check_not_emptied(work.claim(parcel.at()), &bytes);
                    files.push((parcel.file().name.clone(), bytes));
                }
            }
            _ => {}
        }
        let sort = shipment.sort();
        let fates = match sort {
            Sort::Direct => Fate::DIRECT,
            Sort::Open => Fate::OPENING,
            Sort::Chunk => Fate::CHUNK,
            Sort::Status => Fate::STATUS,
        };
        let mut faults = self.faults.borrow_mut();
        let fate = fates[faults.harm(fates.len() as u32) as usize];
        let ill = self.illness.get().map(|ill| match (ill, sort) {
            // Who only asks has nothing stored: it is the answer that does not come.
            (Fate::StoredUnheard, Sort::Status) => Fate::ResetBefore,
            (Fate::StalledAfter, Sort::Status | Sort::Open) => Fate::StalledBefore,
            (ill, _) => ill,
        });
        let fate = if fate == Fate::Well { ill.unwrap_or(fate) } else { fate };
        let size = files.iter().map(|(_, bytes)| bytes.len()).sum::<usize>();
        let cuts = self.remote.borrow().cuts_above.is_some_and(|most| size > most);
        let fate = if cuts && fate == Fate::Well { Fate::CutShort } else { fate };
        let is_early = fate != Fate::Well && faults.harm(4) == 1;
        drop(faults);
        // Nobody is told once that it has sessions only and then that it has none.
        let is_nonsense = fate == Fate::NoSessions && self.remote.borrow().service == Service::OnlySessions;
        let fate = if is_nonsense { Fate::Well } else { fate };
        self.tell(|| format!("{sort:?} of {} arrives: {fate:?}", self.names(work, shipment)));
        self.leave_trace(64 + fate as u64 + ((sort as u64) << 8));
        self.note_fate(sort, fate, token);
        self.note_request(sort, fate);
        let said = self.answer(shipment, &files, token, fate);
        if is_early && matches!(fate, Fate::Error500 | Fate::TooLarge413 | Fate::Quota403) && shipment.read.is_some() {
            self.meet(Rare::EarlyAnswer);
            shipment.read = Some(Err(ReadError::Abandoned));
        }
        if fate == Fate::CutShort && shipment.read.is_some() {
            shipment.read = Some(Err(ReadError::Abandoned));
        }
        shipment.has_stalled = matches!(fate, Fate::StalledBefore | Fate::StalledAfter);
        let wait = if shipment.has_stalled { STALL } else { wait };
        (said, wait)
    }

    /// What dStor says to a request.
    fn answer(&self, shipment: &Shipment, files: &[(String, Vec<u8>)], token: u64, fate: Fate) -> Said {
        let (mut remote, now) = (self.remote.borrow_mut(), self.now.get());
        match &shipment.request {
            Request::Direct => {
                let (name, bytes) = &files[0];
                remote.take(&Remote::path(shipment.placement(), name), bytes, token, fate, now)
            }
            Request::Open(_) => {
                let Placement::Path(dir) = shipment.placement() else {
                    unreachable!("no session has a number's place")
                };
                remote.open(dir.as_str(), token, fate, now)
            }
            Request::Chunk(session, _) => remote.fill(*session, files.to_vec(), token, fate, now),
            Request::Status(session, _) => remote.status(*session, token, fate, now),
        }
    }

    fn check_not_emptied(&self, claim: &Claim, bytes: &[u8]) {
        // One that counts as gone by now, as another directory was accepted meanwhile, is a new file when it is back.
        let was_stored = claim.recorded.is_some_and(|row| row.state == State::Stored);
        if bytes.is_empty() && was_stored && claim.code.as_deref() == Some(EMPTIED) {
            self.break_promise(format!("{} is sent empty although nobody accepted that", claim.path));
        }
    }

    fn note_fate(&self, sort: Sort, fate: Fate, token: u64) {
        if fate == Fate::Well && !self.remote.borrow().takes(token, self.now.get()) {
            self.meet(Rare::TokenExpired);
        }
        let is_direct = sort == Sort::Direct;
        match fate {
            Fate::Well | Fate::Error500 => {}
            Fate::ResetBefore if sort == Sort::Chunk => self.meet(Rare::SessionResetBefore),
            Fate::ResetBefore => self.meet(Rare::ResetBeforeStore),
            Fate::CutShort => self.meet(Rare::CutShort),
            Fate::StoredUnheard if sort == Sort::Chunk => self.meet(Rare::SessionUnheard),
            Fate::StoredUnheard if is_direct => self.meet(Rare::StoredUnheard),
            Fate::StalledBefore | Fate::StalledAfter => self.meet(Rare::Stalled),
            Fate::RevokeAll => self.meet(Rare::TokenRevoked),
            Fate::Busy503 | Fate::Busy429Date | Fate::Busy429Garbage if !is_direct => {
                self.meet(Rare::SessionToldToWait)
            }
            Fate::Busy503 | Fate::Busy429Date | Fate::Busy429Garbage => self.meet(Rare::ToldToWait),
            Fate::Quota403 => self.meet(Rare::Quota),
            Fate::TooLarge413 | Fate::Refused400 if is_direct => self.meet(Rare::RefusedFile),
            Fate::Portal | Fate::Redirect | Fate::Truncated => self.meet(Rare::Portal),
            Fate::ForeignHash | Fate::HashesSwapped if sort == Sort::Chunk => self.meet(Rare::SessionForeignHash),
            Fate::ForeignHash => self.meet(Rare::ForeignHash),
            Fate::KeyRevoked => self.meet(Rare::KeyRefused),
            Fate::SessionSlow if sort == Sort::Chunk => self.meet(Rare::SessionSlow),
            Fate::StoredUnheard
            | Fate::TooLarge413
            | Fate::Refused400
            | Fate::NoHash
            | Fate::NoSessions
            | Fate::SessionFails
            | Fate::SessionStuck
            | Fate::SessionSlow
            | Fate::SessionLate
            | Fate::NameMissing
            | Fate::HashesSwapped
            | Fate::Restarts => {}
        }
    }

    pub(crate) fn met_refusal(&self, token: u64) {
        let workers = self.workers.borrow();
        let others = workers.iter().filter_map(|worker| worker.task.as_ref()).filter(|task| match &task.stage {
            Stage::Asking(_, Asks::Sending { sends, .. } | Asks::Answering { sends, .. }) => *sends.token() == token,
            _ => false,
        });
        if others.count() > 0 {
            self.meet(Rare::TokenRefusedToMany);
        }
    }

    /// dStor's answer to a request for a token.
    pub(crate) fn fetch(&self, key: u64) -> Result<Granted<u64>, Fault> {
        let refused = |status: u16| read(&(status, None, Vec::new())).of_token_request("API key", 0);
        let said = match self.faults.borrow_mut().harm(5) {
            1 => return Err(Fault::Unreachable("the connection broke".into())),
            2 => Err(500),
            3 => Err(503),
            4 => {
                self.remote.borrow_mut().revoke_key();
                self.meet(Rare::KeyRefused);
                Err(401)
            }
            _ => self.remote.borrow_mut().issue(key, self.now.get()),
        };
        match said {
            Ok(token) => Ok(Granted { token, lifetime: Some(TOKEN_LIFE) }),
            Err(status) => Err(refused(status).expect_err("no success has such a status")),
        }
    }

    /// Whether dStor answers to something small.
    pub(crate) fn is_there(&self) -> bool {
        self.meet(Rare::AskedForASign);
        let is_there = self.illness.get().is_none() && self.faults.borrow_mut().harm(2) == 0;
        if is_there {
            self.failures.borrow_mut().clear();
            self.pace.borrow_mut().gave_sign();
        } else {
            self.meet(Rare::NoSign);
            self.failures.borrow_mut().push_back(self.now.get());
            self.check_pace();
        }
        is_there
    }

    /// The agent is gone in the middle of a request: it may have come through all the same.
    pub(crate) fn arrives_all_the_same(&self, task: Task) {
        let Task { work, stage } = task;
        let Stage::Asking(shipment, Asks::Sending { sends, first }) = stage else { return };
        if !matches!(shipment.sort(), Sort::Direct | Sort::Chunk) || self.faults.borrow_mut().choice(2) == 0 {
            return;
        }
        let mut files = Vec::new();
        match (&shipment.cargo, &work.load) {
            (Cargo::Lone { at, file, .. }, _) => {
                let (read, bytes) = self.read_end(work.tree, &work.claim(*at).path, &file.stat, first);
                if read.is_err() {
                    return;
                }
                files.push((file.name.clone(), bytes));
            }
            (Cargo::Heap(heap), Load::Many(many)) => {
                let each = heap.parcels().iter();
                files.extend(each.map(|parcel| (parcel.file().name.clone(), many.bytes[&parcel.at()].clone())));
            }
            (Cargo::Heap(_), Load::One(_)) => {}
        }
        self.answer(&shipment, &files, *sends.token(), Fate::StoredUnheard);
    }
}
