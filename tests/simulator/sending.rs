//! What lies between a worker and dStor: a file that is read while it may change, and a request that may end in any way.

use std::time::Duration;

use dstor_sync::dstor::Granted;
use dstor_sync::ledger::Claim;
use dstor_sync::local::{Content, ReadError, Tree as _};
use dstor_sync::mirror::{CidBuilder, Digest, EMPTIED, Fault, MirrorPath, Observed, Stat, State};
use dstor_sync::upload::ToSend;

use crate::disk::Held;
use crate::reach::Rare;
use crate::remote::{Fate, Remote, Said, TOKEN_LIFE, read};
use crate::run::Run;
use crate::worker::{Stage, Task};

/// A request in which nothing moves is given up after this.
const STALL: Duration = Duration::from_secs(60);

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
        (Ok(Content { digest: Digest::of(&bytes), cid: Some(cid.finish()) }), bytes)
    }

    /// A request's body comes to its end: what dStor says to it, what was read for it, and when the answer is here.
    pub(crate) fn arrive(
        &self,
        claim: &Claim,
        tree: usize,
        file: &ToSend,
        token: u64,
        first: Option<Vec<u8>>,
    ) -> (Said, Result<Content, ReadError>, Duration) {
        let wait = self.latency();
        let (read, bytes) = self.read_end(tree, &claim.path, &file.stat, first);
        if read.is_err() {
            // A body that ends with an error leaves nothing on dStor.
            return (None, read, wait);
        }
        // One that counts as gone by now, as another directory was accepted meanwhile, is a new file when it is back.
        let was_stored = claim.recorded.is_some_and(|row| row.state == State::Stored);
        if bytes.is_empty() && was_stored && claim.code.as_deref() == Some(EMPTIED) {
            self.break_promise(format!("{} is sent empty although nobody accepted that", claim.path));
        }
        let mut faults = self.faults.borrow_mut();
        let fate = Fate::ALL[faults.harm(Fate::ALL.len() as u32) as usize];
        let fate = if fate == Fate::Well { self.illness.get().unwrap_or(fate) } else { fate };
        let is_early = fate != Fate::Well && faults.harm(4) == 1;
        drop(faults);
        self.tell(|| format!("{} arrives: {fate:?}", claim.path));
        self.leave_trace(64 + fate as u64);
        self.note_fate(fate, token);
        self.note_request(fate);
        if is_early && matches!(fate, Fate::Error500 | Fate::TooLarge413 | Fate::Quota403) {
            self.meet(Rare::EarlyAnswer);
            let said = self.remote.borrow_mut().take("", &[], token, fate, self.now.get());
            return (said, Err(ReadError::Abandoned), wait);
        }
        let path = Remote::path(&file.placement, &file.name);
        let said = self.remote.borrow_mut().take(&path, &bytes, token, fate, self.now.get());
        let wait = if matches!(fate, Fate::StalledBefore | Fate::StalledAfter) { STALL } else { wait };
        (said, read, wait)
    }

    fn note_fate(&self, fate: Fate, token: u64) {
        if fate == Fate::Well && !self.remote.borrow().takes(token, self.now.get()) {
            self.meet(Rare::TokenExpired);
        }
        match fate {
            Fate::Well | Fate::Error500 => {}
            Fate::ResetBefore => self.meet(Rare::ResetBeforeStore),
            Fate::StoredUnheard => self.meet(Rare::StoredUnheard),
            Fate::StalledBefore | Fate::StalledAfter => self.meet(Rare::Stalled),
            Fate::RevokeAll => self.meet(Rare::TokenRevoked),
            Fate::Busy503 | Fate::Busy429Date | Fate::Busy429Garbage => self.meet(Rare::ToldToWait),
            Fate::Quota403 => self.meet(Rare::Quota),
            Fate::TooLarge413 | Fate::Refused400 => self.meet(Rare::RefusedFile),
            Fate::Portal | Fate::Redirect | Fate::Truncated => self.meet(Rare::Portal),
            Fate::NoHash => {}
            Fate::ForeignHash => self.meet(Rare::ForeignHash),
            Fate::KeyRevoked => self.meet(Rare::KeyRefused),
        }
    }

    pub(crate) fn met_refusal(&self, token: u64) {
        let workers = self.workers.borrow();
        let others = workers.iter().filter_map(|worker| worker.task.as_ref()).filter(|task| match &task.stage {
            Stage::Sending { sends, .. } | Stage::Answering { sends, .. } => *sends.token() == token,
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

    /// The agent is gone in the middle of a request: it may have come through all the same.
    pub(crate) fn arrives_all_the_same(&self, task: Task) {
        if let Stage::Sending { file, sends, first, .. } = task.stage
            && self.faults.borrow_mut().choice(2) == 1
        {
            let (read, bytes) = self.read_end(task.tree, &task.claim.path, &file.stat, first);
            if read.is_ok() {
                let path = Remote::path(&file.placement, &file.name);
                let token = *sends.token();
                self.remote.borrow_mut().take(&path, &bytes, token, Fate::StoredUnheard, self.now.get());
            }
        }
    }
}
