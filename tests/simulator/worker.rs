//! The workers: the shell that `upload::worker` is to the rules, played a step at a time.

use std::time::Duration;

use dstor_sync::dstor::exchange::{self, Next as Answered, Sends, WantsToken};
use dstor_sync::dstor::{Standing, Want, Wish};
use dstor_sync::ledger::{Below, Claim, Settlement};
use dstor_sync::local::{Content, ReadError, Tree as _};
use dstor_sync::mirror::{Digest, Enter, Fault, Included, Left, MirrorPath, Observed, Ticket, Timestamp};
use dstor_sync::upload::{Ending, Errand, Failure, GateWord, Next, ToSend};

use crate::reach::Rare;
use crate::remote::{Said, read};
use crate::run::{Happening, Run};

/// The queue is looked at again at least this often.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);

/// A worker between two steps.
#[derive(Default)]
pub(crate) struct Worker {
    pub(crate) task: Option<Task>,
    waits: Waits,
    /// Counts its steps: an alarm set for an earlier one is no use.
    step: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Waits {
    #[default]
    No,
    ForGate,
    ForQueue,
    ForToken,
}

pub(crate) struct Task {
    pub(crate) claim: Claim,
    ticket: Option<Ticket>,
    pub(crate) tree: usize,
    pub(crate) stage: Stage,
}

/// Where the work on a change is.
pub(crate) enum Stage {
    Claimed,
    Comparing { file: ToSend, known: Digest, read_from: Timestamp, first: Option<Vec<u8>> },
    WantsToken { file: ToSend, read_from: Timestamp, wants: WantsToken, wish: Wish },
    Fetching { file: ToSend, read_from: Timestamp, wants: WantsToken, order: dstor_sync::dstor::Order<u64> },
    Sending { file: ToSend, read_from: Timestamp, sends: Sends<u64>, first: Option<Vec<u8>> },
    Answering { file: ToSend, read_from: Timestamp, sends: Sends<u64>, said: Said, read: Result<Content, ReadError> },
    Recording(Ending),
}

impl Run {
    pub(crate) fn wake_worker(&self, worker: usize) {
        self.wake_worker_after(worker, Duration::ZERO);
    }

    fn wake_worker_after(&self, worker: usize, wait: Duration) {
        let step = match self.workers.borrow_mut().get_mut(worker) {
            Some(worker) => {
                worker.step += 1;
                worker.step
            }
            None => return,
        };
        self.after(wait, Happening::Worker(self.incarnation.get(), worker, step));
    }

    fn wake_those_who(&self, waits: Waits) {
        let woken: Vec<usize> = {
            let mut workers = self.workers.borrow_mut();
            let mut waiting = workers.iter_mut().enumerate().filter(|(_, worker)| worker.waits == waits);
            let mut woken = Vec::new();
            for (at, worker) in &mut waiting {
                worker.waits = Waits::No;
                woken.push(at);
            }
            woken
        };
        for worker in woken {
            self.wake_worker(worker);
        }
    }

    pub(crate) fn wake_queue(&self) {
        self.wake_those_who(Waits::ForQueue);
    }

    fn wait(&self, worker: usize, waits: Waits) {
        self.workers.borrow_mut()[worker].waits = waits;
    }

    pub(crate) fn work(&self, worker: usize, step: u64) {
        let task = {
            let mut workers = self.workers.borrow_mut();
            let Some(worker) = workers.get_mut(worker).filter(|worker| worker.step == step) else { return };
            worker.waits = Waits::No;
            worker.task.take()
        };
        match task {
            None => self.seek(worker),
            Some(task) => self.go_on_with(worker, task),
        }
    }

    /// Passes the gate and claims a change, or waits for either.
    fn seek(&self, worker: usize) {
        if self.is_stopping.get() {
            return;
        }
        let now = self.now.get();
        let entered = self.pace.borrow_mut().enter(now);
        let ticket = match entered {
            Enter::Go(ticket) => ticket,
            Enter::At(at) => {
                self.wait(worker, Waits::ForGate);
                return self.wake_worker_after(worker, at.saturating_sub(now));
            }
            Enter::WhenChanged => return self.wait(worker, Waits::ForGate),
        };
        if ticket.is_probe() {
            self.meet(Rare::Probe);
        }
        let claimed = self.ledger.claim(self.wall_ms(), 1).expect("read").pop();
        let Some(claim) = claimed else {
            if ticket.is_probe() {
                self.meet(Rare::ProbeUnasked);
            }
            self.leave(ticket, Left::Unasked);
            self.wait(worker, Waits::ForQueue);
            let due = self.ledger.outlook().expect("read").next_due_at;
            if let Some(due) = due {
                let wait = u64::try_from(due - self.wall_ms()).unwrap_or(0);
                self.wake_worker_after(worker, Duration::from_millis(wait.max(1)).min(LONGEST_SLEEP));
            }
            return;
        };
        self.tell(|| format!("worker {worker} claims {}", claim.path));
        self.put(worker, Task { claim, ticket: Some(ticket), tree: 0, stage: Stage::Claimed }, self.latency());
    }

    fn leave(&self, ticket: Ticket, how: Left<'_>) -> Option<Duration> {
        let chance = self.faults.borrow_mut().chance();
        let mut pace = self.pace.borrow_mut();
        let limit = pace.in_flight_limit();
        let closed_for = pace.leave(ticket, how, self.now.get(), chance);
        if closed_for.is_some() && pace.in_flight() > 0 {
            self.meet(Rare::GateClosed);
        }
        if pace.in_flight_limit() < limit {
            self.meet(Rare::LimitHalved);
        }
        drop(pace);
        self.wake_those_who(Waits::ForGate);
        closed_for
    }

    fn put(&self, worker: usize, task: Task, wait: Duration) {
        self.workers.borrow_mut()[worker].task = Some(task);
        self.wake_worker_after(worker, wait);
    }

    fn go_on_with(&self, worker: usize, task: Task) {
        let Task { claim, ticket, tree, stage } = task;
        let errand = Errand::new(&claim, &self.policy, &self.patience);
        let next = match stage {
            Stage::Claimed => {
                let Some(root) = self.open_root() else {
                    self.meet(Rare::RootMissingInWork);
                    return self.fail(worker, claim, ticket, Fault::RootMissing.into());
                };
                let tree = root.tree;
                let look = root.look(&claim.path).expect("memory can be read");
                let is_included = match look.observed {
                    Observed::Missing => true,
                    observed => {
                        let judged = self.rules.borrow().judge(&root, &claim.path, observed.is_directory());
                        judged.expect("memory can be read") == Included::Yes
                    }
                };
                let next = errand.looked(&look, is_included, self.wall_ms());
                if matches!(next, Next::Send(_))
                    && claim.is_unsure
                    && claim.recorded.is_some_and(|row| row.digest.is_some())
                {
                    self.meet(Rare::SentForDoubt);
                }
                return self.go_to(worker, claim, ticket, tree, next);
            }
            Stage::Comparing { file, known, read_from, first } => {
                let read = self.read_end(tree, &claim.path, &file.stat, first).0;
                let was_racy =
                    claim.recorded.is_some_and(|row| row.stat != file.stat && row.stat.mtime == file.stat.mtime);
                match errand.compared(file, known, read, read_from) {
                    Ok(next) => {
                        if matches!(next, Next::Send(_)) && was_racy {
                            self.meet(Rare::RacyCaught);
                        }
                        next
                    }
                    Err(failure) => return self.fail(worker, claim, ticket, failure),
                }
            }
            Stage::WantsToken { file, read_from, wants, wish } => {
                let had = self.lease.borrow().standing() == Standing::Accepted;
                let key = self.key_file.get();
                let want = self.lease.borrow_mut().want(&wish, || Ok(Some(key)), self.now.get());
                match want {
                    Want::Use(leased) => {
                        let first = self.read_begin(tree, &claim.path, &file.stat);
                        let stage = Stage::Sending { file, read_from, sends: wants.got(leased), first };
                        return self.put(worker, Task { claim, ticket, tree, stage }, self.latency());
                    }
                    Want::Fetch(order) => {
                        if had && wants.refused().is_none() {
                            self.meet(Rare::TokenRenewed);
                        }
                        let stage = Stage::Fetching { file, read_from, wants, order };
                        return self.put(worker, Task { claim, ticket, tree, stage }, self.latency());
                    }
                    Want::Wait => {
                        self.meet(Rare::TokenWaitedFor);
                        let stage = Stage::WantsToken { file, read_from, wants, wish };
                        self.workers.borrow_mut()[worker].task = Some(Task { claim, ticket, tree, stage });
                        return self.wait(worker, Waits::ForToken);
                    }
                    Want::No(fault) => {
                        let ended = errand.sent(&file, Err(fault), None, read_from, self.wall_ms());
                        return self.end_sending(worker, claim, ticket, ended);
                    }
                }
            }
            Stage::Fetching { file, read_from, wants, order } => {
                let granted = self.fetch(order.credentials);
                let leased = self.lease.borrow_mut().fetched(order, granted, self.now.get());
                self.wake_those_who(Waits::ForToken);
                match leased {
                    Ok(leased) => {
                        let first = self.read_begin(tree, &claim.path, &file.stat);
                        let stage = Stage::Sending { file, read_from, sends: wants.got(leased), first };
                        return self.put(worker, Task { claim, ticket, tree, stage }, self.latency());
                    }
                    Err(fault) => {
                        self.meet(Rare::TokenFetchFailed);
                        let ended = errand.sent(&file, Err(fault), None, read_from, self.wall_ms());
                        return self.end_sending(worker, claim, ticket, ended);
                    }
                }
            }
            Stage::Sending { file, read_from, sends, first } => {
                let (said, read, wait) = self.arrive(&claim, tree, &file, *sends.token(), first);
                let stage = Stage::Answering { file, read_from, sends, said, read };
                return self.put(worker, Task { claim, ticket, tree, stage }, wait);
            }
            Stage::Answering { file, read_from, sends, said, read: content } => {
                let token = *sends.token();
                let answer = match &said {
                    None => Err(Fault::Unreachable("the connection broke".into())),
                    Some(said) => match sends.answered(read(said).of_upload(0)) {
                        Answered::Again(wants) => {
                            self.met_refusal(token);
                            let wish = self.lease.borrow().wish(wants.refused());
                            let stage = Stage::WantsToken { file, read_from, wants, wish };
                            return self.put(worker, Task { claim, ticket, tree, stage }, Duration::ZERO);
                        }
                        Answered::Refused(number) => {
                            self.meet(Rare::TokenRefusedTwice);
                            Err(self.lease.borrow_mut().refused_again(number, self.now.get()))
                        }
                        Answered::Ended(ended) => ended,
                    },
                };
                let ended = errand.sent(&file, answer, Some(content), read_from, self.wall_ms());
                return self.end_sending(worker, claim, ticket, ended);
            }
            Stage::Recording(ending) => return self.record(worker, claim, ending),
        };
        self.go_to(worker, claim, ticket, tree, next);
    }

    fn go_to(&self, worker: usize, claim: Claim, ticket: Option<Ticket>, tree: usize, next: Next) {
        let read_from = self.wall();
        let stage = match next {
            Next::End(ending) => return self.finish(worker, claim, ticket, ending),
            Next::IfKnownBelow(ending) => {
                let known = self.ledger.has_below(self.mirror, &claim.path, Below::Present).expect("read");
                return self.finish(worker, claim, ticket, if known { ending } else { Ending::nothing() });
            }
            Next::Descend => {
                let who = self.incarnation.get();
                let walked = self.walk(&claim.path);
                if !self.is_current(who) {
                    return;
                }
                let errand = Errand::new(&claim, &self.policy, &self.patience);
                return match errand.descended(walked).expect("the ledger is well") {
                    Ok(ending) => self.finish(worker, claim, ticket, ending),
                    Err(failure) => self.fail(worker, claim, ticket, failure),
                };
            }
            Next::Compare(file, known) => {
                let first = self.read_begin(tree, &claim.path, &file.stat);
                Stage::Comparing { file, known, read_from, first }
            }
            Next::Send(file) => {
                if self.wall_ms() - claim.since > 10_000 && claim.attempts == 0 {
                    self.meet(Rare::NeverQuiet);
                }
                let wish = self.lease.borrow().wish(None);
                let stage = Stage::WantsToken { file, read_from, wants: exchange::begin(), wish };
                return self.put(worker, Task { claim, ticket, tree, stage }, Duration::ZERO);
            }
        };
        self.put(worker, Task { claim, ticket, tree, stage }, self.latency());
    }

    fn end_sending(&self, worker: usize, claim: Claim, ticket: Option<Ticket>, ended: Result<Ending, Failure>) {
        match ended {
            Ok(ending) => {
                if let Some(ticket) = ticket {
                    self.leave(ticket, Left::Answered);
                }
                self.finish(worker, claim, None, ending);
            }
            Err(failure) => self.fail(worker, claim, ticket, failure),
        }
    }

    fn fail(&self, worker: usize, claim: Claim, ticket: Option<Ticket>, failure: Failure) {
        self.tell(|| format!("{}: {:?}", claim.path, failure.fault));
        let closed_for = ticket.and_then(|ticket| self.leave(ticket, Left::Failed(&failure.fault)));
        let word = GateWord { closed_for, failures: self.pace.borrow().facts().failures };
        let is_nonsense = matches!(failure.fault, Fault::Protocol(_));
        let chance = self.faults.borrow_mut().chance();
        let ending = Errand::new(&claim, &self.policy, &self.patience).failed(failure, word, chance);
        if is_nonsense && matches!(ending, Ending::Settled(..)) {
            self.meet(Rare::ParkedForNonsense);
        }
        self.finish(worker, claim, None, ending);
    }

    fn finish(&self, worker: usize, claim: Claim, ticket: Option<Ticket>, ending: Ending) {
        if let Some(ticket) = ticket {
            self.leave(ticket, Left::Unasked);
        }
        self.put(worker, Task { claim, ticket: None, tree: 0, stage: Stage::Recording(ending) }, self.latency());
    }

    fn record(&self, worker: usize, claim: Claim, ending: Ending) {
        self.tell(|| format!("{} ends: {ending:?}", claim.path));
        self.recorded_since_crash.set(true);
        self.note_ending(&claim, &ending);
        ending.record(&self.ledger, &claim, || self.believed.get().is_some(), self.wall_ms()).expect("written");
        self.check_row(&claim.path);
        if ending == Ending::Held {
            // A worker found the root missing, and the minder is told.
            let is_present = !matches!(*self.minder.borrow(), crate::minder::Minder::Missing);
            if is_present && self.open_root().is_none() {
                self.recognise();
            }
        }
        if !matches!(ending, Ending::Settled(_, None, _)) {
            self.wake_queue();
        }
        self.wake_worker(worker);
    }

    fn note_ending(&self, claim: &Claim, ending: &Ending) {
        let Ending::Settled(settlement, again, _) = ending else { return };
        if again.is_some() {
            self.meet(Rare::Racy);
        }
        let was = claim.recorded.map(|row| row.state);
        match settlement {
            Settlement::Refreshed(..) => {
                self.meet(Rare::Refreshed);
                if was == Some(dstor_sync::mirror::State::Gone) {
                    self.meet(Rare::GoneAndBack);
                }
            }
            Settlement::Stored(_) if was == Some(dstor_sync::mirror::State::Failed) => {
                self.meet(Rare::RefusedThenStored)
            }
            _ => {}
        }
    }

    /// Notes what a deed at this path meets.
    pub(crate) fn note_what_is_under_way(&self, path: &MirrorPath) {
        let workers = self.workers.borrow();
        for task in workers.iter().filter_map(|worker| worker.task.as_ref()).filter(|task| task.claim.path == *path) {
            match &task.stage {
                Stage::Sending { .. } | Stage::Answering { .. } => self.meet(Rare::SavedDuringUpload),
                Stage::Comparing { .. } => self.meet(Rare::SavedDuringCompare),
                Stage::Claimed | Stage::WantsToken { .. } | Stage::Fetching { .. } | Stage::Recording(_) => {}
            }
        }
    }
}
