//! The agent's life, and its minder: the shell that `agent::minder` is to the rules, played without waiting.

use std::time::Duration;

use dstor_sync::dstor::Lease;
use dstor_sync::ledger::{LedgerError, Push, Urgency, Watching};
use dstor_sync::local::{Difference, RuleBook, Scan, ScanSummary, Tree as _};
use dstor_sync::mirror::{Jump, MirrorPath, Moment, Pace, Reaction, ScanEnd, Sessions, TICK, Vigil, Ways, passed};
use dstor_sync::upload::{ReconcileError, SAMPLE, is_familiar, push_of, walk};

use crate::disk::{Disk, Held};
use crate::reach::Rare;
use crate::run::{Happening, RESCAN, Run};
use crate::sending::Sort;
use crate::shipping::Asks;
use crate::worker::{Load, Stage, Task, Worker};

const LOOK_AGAIN: Duration = Duration::from_secs(2);
const STILL_THERE: Duration = Duration::from_secs(5);
/// Differences pushed at a time: fewer than in life, so that a crash falls between.
const BATCH: usize = 3;
/// Walks within walks that let other things happen.
const DEEPEST: u32 = 2;

pub(crate) enum Minder {
    /// No agent runs.
    Absent,
    /// The mirror's directory is not there.
    Missing,
    /// It is; the vigil's times count from the second.
    Present(Vigil, Duration),
}

impl Run {
    pub(crate) fn start(&self) {
        if self.is_running.get() {
            return;
        }
        self.tell(|| "the agent starts".into());
        self.check_all_rows();
        let who = self.incarnation.get() + 1;
        self.incarnation.set(who);
        self.is_running.set(true);
        self.is_stopping.set(false);
        self.failures.borrow_mut().clear();
        let now = self.wall_ms();
        let latest = now + i64::try_from(self.patience.retry_max_delay.as_millis()).expect("minutes");
        self.ledger.begin_agent(who, "simulated", now).expect("written");
        self.ledger.recover_changes(latest).expect("written");
        self.believed.set(None);
        self.pace.replace(Pace::new(self.setting.workers));
        self.ways.replace(Ways::new(self.setting.sessions));
        self.lease.replace(Lease::default());
        self.rules.replace(RuleBook::new(&[], true));
        // As `Plan::hands` has it.
        let hands = match self.setting.sessions {
            Sessions::Never => self.setting.workers,
            Sessions::Auto | Sessions::Always => 2 * self.setting.workers,
        };
        *self.workers.borrow_mut() = (0..hands).map(|_| Worker::default()).collect();
        for worker in 0..hands {
            self.wake_worker(worker);
        }
        self.recognise();
        self.after(STILL_THERE, Happening::RootLook(who));
        self.moment.set(self.moment_now());
        self.after(TICK, Happening::Keeper(who));
    }

    fn moment_now(&self) -> Moment {
        Moment { of_day: self.wall_ms(), elapsed: self.now.get() }
    }

    pub(crate) fn keep_time(&self) {
        let now = self.moment_now();
        if let Some(jump) = passed(self.moment.replace(now), now).jump {
            if matches!(jump, Jump::Back(_)) {
                self.meet(Rare::ClockNoticed);
            }
            let longest = i64::try_from(self.patience.retry_max_delay.as_millis()).expect("minutes");
            self.ledger.follow_clock(jump, self.wall_ms() + longest).expect("written");
            self.wake_queue();
        }
        if self.is_calm.get() {
            self.accept_emptied();
        }
        self.after(TICK, Happening::Keeper(self.incarnation.get()));
    }

    /// A person says that what is empty is right.
    fn accept_emptied(&self) {
        if self.ledger.accept_emptied(self.mirror, &MirrorPath::top()).expect("written") > 0 {
            self.tell(|| "a person accepts the emptied files".into());
            self.meet(Rare::EmptiedAccepted);
            self.wake_queue();
        }
    }

    pub(crate) fn crash(&self, how: u32) {
        let wait = [1, 900, 20_000][how as usize % 3];
        if !self.is_running.get() {
            self.after(Duration::from_millis(wait), Happening::Start);
            return;
        }
        self.tell(|| "CRASH".into());
        if !self.recorded_since_crash.replace(false) {
            self.meet(Rare::CrashTwice);
        }
        if self.walks.get() > 0 {
            self.meet(Rare::CrashInScan);
        }
        self.cut_off();
        self.is_running.set(false);
        self.after(Duration::from_millis(wait), Happening::Start);
    }

    pub(crate) fn stop(&self) {
        if self.is_running.get() && !self.is_stopping.replace(true) {
            self.tell(|| "the agent is told to stop".into());
            self.after(Duration::from_secs(1), Happening::Stopped(self.incarnation.get()));
        }
    }

    pub(crate) fn end_in_order(&self) {
        self.tell(|| "the agent has stopped".into());
        self.cut_off();
        self.ledger.recover_changes(i64::MAX).expect("written");
        self.is_running.set(false);
        self.meet(Rare::StoppedInOrder);
        self.after(Duration::from_secs(3), Happening::Start);
    }

    /// What is under way ends at once; dStor may have got a request or not.
    fn cut_off(&self) {
        let workers = std::mem::take(&mut *self.workers.borrow_mut());
        let mut was_busy = false;
        for worker in workers {
            let Some(task) = worker.task else { continue };
            was_busy = true;
            self.meet(rare_of_crash(&task));
            self.arrives_all_the_same(task);
        }
        if !was_busy {
            self.meet(Rare::CrashIdle);
        }
        self.disk.borrow_mut().unwatch_all();
        *self.minder.borrow_mut() = Minder::Absent;
    }

    /// Looks who is at the mirror's path, and begins to watch or to wait.
    pub(crate) fn recognise(&self) {
        let who = self.incarnation.get();
        let known = self.ledger.mirror(self.mirror).expect("read").root;
        self.disk.borrow_mut().unwatch_all();
        let mounted = self.disk.borrow().mounted;
        let tree = mounted.filter(|tree| {
            known.is_none_or(|known| known == Disk::identity(*tree)) || {
                let sample = self.ledger.some_stored(self.mirror, SAMPLE).expect("read");
                is_familiar(&Held { disk: &self.disk, tree: *tree }, &sample)
            }
        });
        let was = self.believed.replace(tree);
        let Some(tree) = tree else {
            if mounted.is_some() {
                self.meet(Rare::OtherRootNotBelieved);
            }
            self.tell(|| "the mirror's directory is missing".into());
            self.meet(Rare::RootMissing);
            self.ledger.set_watching(self.mirror, Watching::Missing, None).expect("written");
            self.ledger.hold(self.mirror).expect("written");
            *self.minder.borrow_mut() = Minder::Missing;
            return;
        };
        let identity = Disk::identity(tree);
        if known != Some(identity) {
            self.ledger.believe_root(self.mirror, Some(identity)).expect("written");
        }
        if was.is_none() && matches!(*self.minder.borrow(), Minder::Missing) {
            self.meet(Rare::RootBack);
        }
        self.ledger.set_watching(self.mirror, Watching::Events, None).expect("written");
        self.ledger.release(self.mirror, self.wall_ms()).expect("written");
        self.wake_queue();
        let vigil = Vigil::new(self.patience.settle, self.patience.max_delay, RESCAN, Duration::ZERO);
        *self.minder.borrow_mut() = Minder::Present(vigil, self.now.get());
        self.after(Duration::ZERO, Happening::Minder(who));
    }

    pub(crate) fn look_at_root(&self) {
        let who = self.incarnation.get();
        let is_missing = matches!(*self.minder.borrow(), Minder::Missing);
        if is_missing || self.open_root().is_none() {
            self.recognise();
        }
        let is_missing = matches!(*self.minder.borrow(), Minder::Missing);
        self.after(if is_missing { LOOK_AGAIN } else { STILL_THERE }, Happening::RootLook(who));
    }

    pub(crate) fn hear(&self, path: Option<MirrorPath>) {
        let reaction = match &mut *self.minder.borrow_mut() {
            Minder::Absent | Minder::Missing => return,
            Minder::Present(vigil, begun) => {
                let now = self.now.get().saturating_sub(*begun);
                match path {
                    Some(path) => {
                        if !self.disk.borrow().nodes().contains_key(&path) {
                            self.meet(Rare::EventOfNothing);
                        }
                        vigil.hear(path, now)
                    }
                    None => {
                        vigil.hear_of_loss(now);
                        Reaction::Wait
                    }
                }
            }
        };
        match reaction {
            Reaction::Wait => {}
            Reaction::LookAtRoot if self.open_root().is_none() => return self.recognise(),
            Reaction::LookAtRoot => {
                if let Minder::Present(vigil, begun) = &mut *self.minder.borrow_mut() {
                    vigil.root_is_there(self.now.get().saturating_sub(*begun));
                }
            }
        }
        self.set_minders_alarm();
    }

    fn set_minders_alarm(&self) {
        if let Minder::Present(vigil, begun) = &*self.minder.borrow()
            && let Some(wake) = vigil.next_wake()
        {
            self.at((*begun + wake).max(self.now.get()), Happening::Minder(self.incarnation.get()));
        }
    }

    pub(crate) fn mind(&self) {
        let chance = self.faults.borrow_mut().chance();
        let (due, scans) = match &mut *self.minder.borrow_mut() {
            Minder::Absent | Minder::Missing => return,
            Minder::Present(vigil, begun) => {
                let now = self.now.get().saturating_sub(*begun);
                if vigil.next_wake().is_none_or(|wake| wake > now) {
                    // An alarm that was set before something else changed.
                    return;
                }
                (vigil.take_due(now), vigil.take_scan(now, chance))
            }
        };
        self.push_due(due);
        if scans {
            self.scan();
        } else {
            self.set_minders_alarm();
        }
    }

    fn push_due(&self, due: Vec<MirrorPath>) {
        let now = self.wall_ms();
        let root = self.open_root();
        let pushes: Vec<Push> = due
            .into_iter()
            .filter(|path| root.as_ref().is_none_or(|root| self.rules.borrow().may_include(root, path)))
            .map(|path| Push { path, size: 0, due_at: now })
            .collect();
        if !pushes.is_empty() {
            self.tell(|| format!("pushed: {:?}", pushes.iter().map(|push| &push.path).collect::<Vec<_>>()));
            self.ledger.push(self.mirror, &pushes, Urgency::Event, now).expect("written");
            self.wake_queue();
        }
    }

    fn scan(&self) {
        let who = self.incarnation.get();
        self.tell(|| "scan".into());
        let walked = self.walk(&MirrorPath::top());
        if !self.is_current(who) {
            return;
        }
        let end = match walked {
            Ok(summary) => {
                self.tell(|| format!("scanned: {} differ", summary.differences));
                self.ledger.scanned(self.mirror, self.wall_ms()).expect("written");
                self.scans_done.set(self.scans_done.get() + 1);
                if summary.differences > 0 && self.scans_done.get() > 1 {
                    self.meet(Rare::FoundByScan);
                }
                ScanEnd::Whole
            }
            Err(ReconcileError::Root(_)) => return self.recognise(),
            Err(_) => ScanEnd::BrokenOff,
        };
        if let Minder::Present(vigil, begun) = &mut *self.minder.borrow_mut() {
            vigil.scan_ended(end, self.now.get().saturating_sub(*begun));
        }
        self.set_minders_alarm();
    }

    /// Walks a directory, and pushes what differs; other things happen meanwhile.
    pub(crate) fn walk(&self, top: &MirrorPath) -> Result<ScanSummary, ReconcileError> {
        let who = self.incarnation.get();
        let missing = || ReconcileError::Root(dstor_sync::local::RootError::Missing("/mirror".into()));
        let root = self.open_root().ok_or_else(missing)?;
        self.walks.set(self.walks.get() + 1);
        let (mut found, mut emptied) = (Vec::new(), Vec::new());
        let pushes = |found: Vec<Difference>| -> Vec<Push> {
            let now = self.wall_ms();
            found.into_iter().map(|difference| push_of(difference, now, self.patience.settle)).collect()
        };
        let push = |found: &mut Vec<Difference>| -> Result<(), LedgerError> {
            self.ledger.push(self.mirror, &pushes(std::mem::take(found)), Urgency::Scan, self.wall_ms())?;
            self.wake_queue();
            Ok(())
        };
        let mut each = |difference: Difference| {
            if difference.is_emptied && top.is_top() {
                emptied.push(difference);
                return Ok(());
            }
            found.push(difference);
            if found.len() >= BATCH { push(&mut found) } else { Ok(()) }
        };
        let before_reading = |dir: &MirrorPath| {
            self.disk.borrow_mut().watch(root.tree, dir);
            if self.walks.get() <= DEEPEST {
                self.meanwhile();
            }
        };
        let rules = self.rules.borrow();
        let scan = Scan { root: &root, rules: &rules, policy: &self.policy, before_reading: &before_reading };
        let walked = walk(&self.ledger, self.mirror, &scan, top, &|| self.is_current(who), &mut each);
        drop(rules);
        self.walks.set(self.walks.get() - 1);
        let summary = walked?;
        if !self.is_current(who) {
            return Err(ReconcileError::Stopped);
        }
        if self.open_root().is_none_or(|now| now.identity() != root.identity()) {
            self.meet(Rare::RootSwappedInScan);
            return Err(missing());
        }
        if !found.is_empty() {
            push(&mut found)?;
        }
        if top.is_top() && self.ledger.hold_emptied(self.mirror, pushes(emptied), self.wall_ms())? > 0 {
            self.tell(|| "emptied files are held".into());
            self.meet(Rare::EmptiedHeld);
        }
        self.wake_queue();
        Ok(summary)
    }
}

/// What a crash is that meets this.
fn rare_of_crash(task: &Task) -> Rare {
    let is_pack = matches!(task.work.load, Load::Many(_));
    match &task.stage {
        Stage::Claimed => Rare::CrashClaimed,
        Stage::Comparing { .. } | Stage::Reading { .. } if is_pack => Rare::CrashPreparing,
        Stage::Comparing { .. } | Stage::Reading { .. } => Rare::CrashReading,
        Stage::Recording(ended) if ended.len() > 1 => Rare::CrashPackUnrecorded,
        Stage::Recording(_) => Rare::CrashUnrecorded,
        Stage::Asking(shipment, asks) => match (shipment.sort(), asks) {
            (Sort::Open, _) => Rare::CrashOpening,
            (Sort::Chunk, _) => Rare::CrashFilling,
            (Sort::Status, _) => Rare::CrashWaiting,
            (Sort::Direct, Asks::Pausing | Asks::Wants { .. } | Asks::Fetching { .. }) => Rare::CrashReading,
            (Sort::Direct, Asks::Answering { said: Some((200, ..)), .. }) => Rare::CrashUnheard,
            (Sort::Direct, Asks::Sending { .. } | Asks::Answering { .. }) => Rare::CrashSent,
        },
    }
}
