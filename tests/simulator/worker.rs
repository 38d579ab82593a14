//! The workers: the shell that `upload::worker` is to the rules, played a step at a time.

use std::time::Duration;

use dstor_sync::ledger::{Below, Claim, Settlement};
use dstor_sync::local::{Look, Tree as _};
use dstor_sync::mirror::{Digest, Enter, Fault, Included, Left, MirrorPath, Observed, Ticket, Timestamp};
use dstor_sync::upload::{Ending, Errand, Failure, GateWord, Next, ToSend};

use crate::packs::Many;
use crate::reach::Rare;
use crate::run::{Happening, Run};
use crate::shipping::{Asks, Cargo, Shipment};

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
    pub(crate) work: Work,
    pub(crate) stage: Stage,
}

/// What a worker works on, and by what right.
pub(crate) struct Work {
    pub(crate) load: Load,
    pub(crate) ticket: Option<Ticket>,
    pub(crate) tree: usize,
    /// Whether dStor gave a sign of life just before the file was sent.
    pub(crate) has_sign: bool,
}

pub(crate) enum Load {
    One(Claim),
    Many(Box<Many>),
}

/// Where the work is.
pub(crate) enum Stage {
    Claimed,
    Comparing {
        at: usize,
        file: ToSend,
        known: Digest,
        read_from: Timestamp,
        first: Option<Vec<u8>>,
    },
    /// A pack is read.
    Reading {
        files: Vec<(usize, ToSend, Option<Vec<u8>>)>,
        read_from: Timestamp,
    },
    Asking(Box<Shipment>, Asks),
    Recording(Vec<(Claim, Ending)>),
}

impl Work {
    pub(crate) fn claims(&self) -> &[Claim] {
        match &self.load {
            Load::One(claim) => std::slice::from_ref(claim),
            Load::Many(many) => many.pack.claims(),
        }
    }

    pub(crate) fn claim(&self, at: usize) -> &Claim {
        &self.claims()[at]
    }

    pub(crate) fn errand<'a>(&'a self, run: &'a Run, at: usize) -> Errand<'a> {
        Errand::new(self.claim(at), &run.policy, &run.patience)
    }
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

    pub(crate) fn wake_those_who_wait_for_a_token(&self) {
        self.wake_those_who(Waits::ForToken);
    }

    pub(crate) fn wait_for_token(&self, worker: usize) {
        self.wait(worker, Waits::ForToken);
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
        let work = Work { load: Load::One(claim), ticket: Some(ticket), tree: 0, has_sign: false };
        self.put(worker, Task { work, stage: Stage::Claimed }, self.latency());
    }

    pub(crate) fn leave(&self, ticket: Ticket, how: Left<'_>) -> Option<Duration> {
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

    /// dStor took all of a heap: another one may go while its session is waited for.
    pub(crate) fn rest(&self, work: &mut Work) {
        let Some(ticket) = &mut work.ticket else { return };
        if self.pace.borrow_mut().rest(ticket) {
            self.meet(Rare::Rested);
        }
        self.wake_those_who(Waits::ForGate);
    }

    pub(crate) fn put(&self, worker: usize, task: Task, wait: Duration) {
        self.workers.borrow_mut()[worker].task = Some(task);
        self.wake_worker_after(worker, wait);
    }

    fn go_on_with(&self, worker: usize, task: Task) {
        let Task { mut work, stage } = task;
        match stage {
            Stage::Claimed => {
                let Some(looked) = self.look(work.claim(0)) else { return self.fail(worker, work, 0, root_missing()) };
                work.tree = looked.tree;
                let next = self.after_look(&work, 0, &looked);
                self.go_to(worker, work, 0, next);
            }
            Stage::Comparing { at, file, known, read_from, first } => {
                let claim = work.claim(at);
                let read = self.read_end(work.tree, &claim.path, &file.stat, first).0;
                let was_racy =
                    claim.recorded.is_some_and(|row| row.stat != file.stat && row.stat.mtime == file.stat.mtime);
                match work.errand(self, at).compared(file, known, read, read_from) {
                    Ok(next) => {
                        if matches!(next, Next::Send(_)) && was_racy {
                            self.meet(Rare::RacyCaught);
                        }
                        self.go_to(worker, work, at, next);
                    }
                    Err(failure) => self.fail(worker, work, at, failure),
                }
            }
            Stage::Reading { files, read_from } => self.read_pack(worker, work, files, read_from),
            Stage::Asking(shipment, asks) => self.go_on_asking(worker, work, shipment, asks),
            Stage::Recording(ended) => self.record(worker, ended),
        }
    }

    /// Looks at a claimed path; none if the mirror's directory is not there.
    pub(crate) fn look(&self, claim: &Claim) -> Option<Looked> {
        let Some(root) = self.open_root() else {
            self.meet(Rare::RootMissingInWork);
            return None;
        };
        let look = root.look(&claim.path).expect("memory can be read");
        let is_included = match look.observed {
            Observed::Missing => true,
            observed => {
                let judged = self.rules.borrow().judge(&root, &claim.path, observed.is_directory());
                judged.expect("memory can be read") == Included::Yes
            }
        };
        Some(Looked { tree: root.tree, look, is_included })
    }

    pub(crate) fn after_look(&self, work: &Work, at: usize, looked: &Looked) -> Next {
        let claim = work.claim(at);
        let next = work.errand(self, at).looked(&looked.look, looked.is_included, self.wall_ms());
        if matches!(next, Next::Send(_)) && claim.is_unsure && claim.recorded.is_some_and(|row| row.digest.is_some()) {
            self.meet(Rare::SentForDoubt);
        }
        next
    }

    pub(crate) fn go_to(&self, worker: usize, mut work: Work, at: usize, next: Next) {
        match next {
            Next::End(ending) => self.finish(worker, work, at, ending),
            Next::IfKnownBelow(ending) => {
                let known = self.ledger.has_below(self.mirror, &work.claim(at).path, Below::Present).expect("read");
                self.finish(worker, work, at, if known { ending } else { Ending::nothing() });
            }
            Next::Descend => {
                let who = self.incarnation.get();
                let walked = self.walk(&work.claim(at).path);
                if !self.is_current(who) {
                    return;
                }
                match work.errand(self, at).descended(walked).expect("the ledger is well") {
                    Ok(ending) => self.finish(worker, work, at, ending),
                    Err(failure) => self.fail(worker, work, at, failure),
                }
            }
            Next::Compare(file, known) => {
                let first = self.read_begin(work.tree, &work.claim(at).path, &file.stat);
                let stage = Stage::Comparing { at, file, known, read_from: self.wall(), first };
                self.put(worker, Task { work, stage }, self.latency());
            }
            Next::Send(file) => {
                let claim = work.claim(at);
                if self.wall_ms() - claim.since > 10_000 && claim.attempts == 0 {
                    self.meet(Rare::NeverQuiet);
                }
                if let Load::Many(many) = &mut work.load {
                    if many.pack.takes(at, &file) {
                        many.files.push((at, file));
                    }
                    return self.prepare_next(worker, work);
                }
                let others = self.companions(&work, &file);
                if others.is_empty() {
                    let is_probe = work.ticket.as_ref().is_some_and(Ticket::is_probe);
                    if is_probe && self.pace.borrow().facts().wants_a_sign() {
                        work.has_sign = self.is_there();
                        if !work.has_sign {
                            return self.fail(worker, work, at, Failure::without_a_sign());
                        }
                    }
                    self.ship(worker, work, Cargo::Lone { at, file, heap: None });
                } else {
                    self.begin_pack(worker, work, file, others);
                }
            }
        }
    }

    /// The sending of one that goes by itself has ended.
    pub(crate) fn end_sending(&self, worker: usize, mut work: Work, ended: Result<Ending, Failure>) {
        match ended {
            Ok(ending) => {
                if let Some(ticket) = work.ticket.take() {
                    self.leave(ticket, Left::Answered);
                }
                self.finish(worker, work, 0, ending);
            }
            Err(failure) => self.fail(worker, work, 0, failure),
        }
    }

    pub(crate) fn gate_word(&self, closed_for: Option<Duration>) -> GateWord {
        GateWord { closed_for, failures: self.pace.borrow().facts().failures, is_there: false }
    }

    pub(crate) fn fail(&self, worker: usize, mut work: Work, at: usize, failure: Failure) {
        self.tell(|| format!("{}: {:?}", work.claim(at).path, failure.fault));
        if let Load::Many(many) = &mut work.load {
            let (word, chance) = (self.gate_word(None), self.faults.borrow_mut().chance());
            many.pack.fail(at, failure, word, chance);
            return self.prepare_next(worker, work);
        }
        let closed_for = work.ticket.take().and_then(|ticket| self.leave(ticket, Left::Failed(&failure.fault)));
        let word = GateWord { is_there: work.has_sign, ..self.gate_word(closed_for) };
        let fault = failure.fault.clone();
        let chance = self.faults.borrow_mut().chance();
        let ending = work.errand(self, at).failed(failure, word, chance);
        match (fault, &ending) {
            (Fault::Protocol(_), Ending::Settled(..)) => self.meet(Rare::ParkedForNonsense),
            (Fault::BrokenOff(_), Ending::Settled(..)) => self.meet(Rare::ParkedForBreaks),
            (Fault::BrokenOff(_), Ending::Postponed { breaks, .. }) if *breaks == work.claim(at).breaks => {
                self.meet(Rare::CutForAll);
            }
            _ => {}
        }
        self.finish(worker, work, at, ending);
    }

    /// The work on one claim has ended.
    fn finish(&self, worker: usize, mut work: Work, at: usize, ending: Ending) {
        match work.load {
            Load::One(claim) => {
                if let Some(ticket) = work.ticket.take() {
                    self.leave(ticket, Left::Unasked);
                }
                self.put_record(worker, vec![(claim, ending)]);
            }
            Load::Many(ref mut many) => {
                many.pack.end(at, ending);
                self.prepare_next(worker, work);
            }
        }
    }

    /// Goes on to record how work ended; nothing is left to do but that.
    pub(crate) fn put_record(&self, worker: usize, ended: Vec<(Claim, Ending)>) {
        let work = Work { load: Load::One(ended[0].0.clone()), ticket: None, tree: 0, has_sign: false };
        self.put(worker, Task { work, stage: Stage::Recording(ended) }, self.latency());
    }

    fn record(&self, worker: usize, ended: Vec<(Claim, Ending)>) {
        self.recorded_since_crash.set(true);
        for (claim, ending) in &ended {
            self.tell(|| format!("{} ends: {ending:?}", claim.path));
            self.note_ending(claim, ending);
            ending.record(&self.ledger, claim, || self.believed.get().is_some(), self.wall_ms()).expect("written");
            self.check_row(&claim.path);
        }
        if ended.iter().any(|(_, ending)| *ending == Ending::Held) {
            // A worker found the root missing, and the minder is told.
            let is_present = !matches!(*self.minder.borrow(), crate::minder::Minder::Missing);
            if is_present && self.open_root().is_none() {
                self.recognise();
            }
        }
        if !ended.iter().all(|(_, ending)| matches!(ending, Ending::Settled(_, None, _))) {
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
        let has_it = |task: &&Task| task.work.claims().iter().any(|claim| claim.path == *path);
        for task in workers.iter().filter_map(|worker| worker.task.as_ref()).filter(has_it) {
            match (&task.stage, &task.work.load) {
                (Stage::Asking(shipment, asks), load) => match (asks, load) {
                    (Asks::Wants { .. } | Asks::Fetching { .. }, Load::One(_)) => {}
                    (_, Load::One(_)) => self.meet(Rare::SavedDuringUpload),
                    (_, Load::Many(_)) if matches!(shipment.cargo, Cargo::Heap(_)) => {
                        self.meet(Rare::SavedDuringSession);
                    }
                    (_, Load::Many(_)) => self.meet(Rare::SavedInPack),
                },
                (Stage::Comparing { .. }, Load::One(_)) => self.meet(Rare::SavedDuringCompare),
                (Stage::Comparing { .. } | Stage::Reading { .. }, _) => self.meet(Rare::SavedInPack),
                (Stage::Claimed | Stage::Recording(_), _) => {}
            }
        }
    }
}

/// What was seen of a claimed path.
pub(crate) struct Looked {
    pub(crate) tree: usize,
    look: Look,
    is_included: bool,
}

pub(crate) fn root_missing() -> Failure {
    Fault::RootMissing.into()
}
