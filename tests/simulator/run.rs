//! One run: a world without threads, sockets or real time, in which one script makes everything happen.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use dstor_sync::dstor::Lease;
use dstor_sync::ledger::{Ledger, Millis, MirrorId, MirrorSettings};
use dstor_sync::local::RuleBook;
use dstor_sync::mirror::{MirrorPath, Moment, Pace, Placement, Policy, RemoteDir, Timestamp, Ways};
use dstor_sync::upload::Patience;

use crate::disk::{Disk, Held};
use crate::minder::Minder;
use crate::reach::{Rare, Reach};
use crate::remote::{Fate, Remote};
use crate::tape::{Deed, Faults, Script, Setting};
use crate::worker::Worker;

/// 2023-11-14T22:13:20Z, in seconds since 1970.
const BEGIN: i64 = 1_700_000_000;
/// Files larger than this are skipped; bytes.
pub(crate) const LARGEST: u64 = 64;
pub(crate) const SETTLE: Duration = Duration::from_secs(2);
pub(crate) const RESCAN: Duration = Duration::from_secs(120);
/// After faults have stopped, everything has to be at rest within this: two scans, the longest back-off and a closed gate.
const UNTIL_REST: Duration = Duration::from_secs(1500);
/// A run that does more than this has gone round in circles.
const MOST_HAPPENINGS: u32 = 60_000;

/// A ledger serves so many runs.
const RUNS_A_LEDGER: u32 = 10;

/// Something that happens at a time.
#[derive(Clone, Debug)]
pub(crate) enum Happening {
    /// The next deed of the tape.
    Deed,
    /// A program goes on writing to a file: so often more.
    KeepWriting(MirrorPath, u32),
    /// A file gets these bytes.
    Write(MirrorPath, Vec<u8>),
    /// The system writes back what was written through a memory map, and the file's times show it.
    WriteBack(MirrorPath),
    /// The agent starts.
    Start,
    /// The agent, told to stop, ends.
    Stopped(u32),
    /// Word from the watcher for the agent of this number; no path: events were lost.
    Heard(u32, Option<MirrorPath>),
    /// The minder has something due.
    Minder(u32),
    /// The minder looks whether the root is there.
    RootLook(u32),
    /// The keeper reads the clocks.
    Keeper(u32),
    /// A worker goes on, if it is still at this step.
    Worker(u32, usize, u64),
}

/// How a run ended.
pub(crate) struct Outcome {
    /// What was promised and not kept.
    pub(crate) broken: Option<String>,
    pub(crate) reach: Reach,
    /// The same for the same script, and for no other.
    pub(crate) trace: u64,
    pub(crate) faults: Vec<u32>,
    pub(crate) story: Vec<String>,
    /// How often a row that says `stored` was held against what dStor acknowledged.
    pub(crate) rows_checked: u64,
}

pub(crate) struct Run {
    pub(crate) now: Cell<Duration>,
    pub(crate) skew_ms: Cell<i64>,
    agenda: RefCell<BTreeMap<(Duration, u64), Happening>>,
    order: Cell<u64>,
    deeds: RefCell<std::vec::IntoIter<Deed>>,
    pub(crate) faults: RefCell<Faults>,
    pub(crate) setting: Setting,
    pub(crate) disk: RefCell<Disk>,
    pub(crate) remote: RefCell<Remote>,
    pub(crate) ledger: Rc<Ledger>,
    pub(crate) mirror: MirrorId,
    pub(crate) policy: Policy,
    pub(crate) patience: Patience,
    /// The number of the agent that runs, or ran last.
    pub(crate) incarnation: Cell<u32>,
    pub(crate) is_running: Cell<bool>,
    pub(crate) is_stopping: Cell<bool>,
    /// The clocks when the keeper last read them.
    pub(crate) moment: Cell<Moment>,
    /// Whether faults have stopped.
    pub(crate) is_calm: Cell<bool>,
    /// The tree that is believed to be the mirror.
    pub(crate) believed: Cell<Option<usize>>,
    pub(crate) minder: RefCell<Minder>,
    pub(crate) workers: RefCell<Vec<Worker>>,
    pub(crate) pace: RefCell<Pace>,
    pub(crate) ways: RefCell<Ways>,
    /// Whether another dStor took the place of the first.
    pub(crate) is_changed_service: Cell<bool>,
    /// How much longer than usual the next deed is waited for.
    pub(crate) idle: Cell<Duration>,
    pub(crate) lease: RefCell<Lease<u64, u64>>,
    /// The key in the agent's configuration.
    pub(crate) key_file: Cell<u64>,
    pub(crate) rules: RefCell<RuleBook>,
    pub(crate) reach: RefCell<Reach>,
    trace: Cell<u64>,
    story: Option<RefCell<Vec<String>>>,
    pub(crate) broken: RefCell<Option<String>>,
    pub(crate) walks: Cell<u32>,
    pub(crate) scans_done: Cell<u32>,
    pub(crate) recorded_since_crash: Cell<bool>,
    pub(crate) written: Cell<u64>,
    pub(crate) rows_checked: Cell<u64>,
    /// What dStor does wrong to every request.
    pub(crate) illness: Cell<Option<Fate>>,
    /// When requests failed for the account's or the service's sake, since one went well or the agent started.
    pub(crate) failures: RefCell<VecDeque<Duration>>,
}

thread_local! {
    /// A ledger, and how many runs used it. To make one takes longer than a run, so each run is another mirror in it: the
    /// rows of those before it are none of its business, which is a thing to try, too.
    static LEDGER: RefCell<Option<(Rc<Ledger>, u32)>> = const { RefCell::new(None) };
}

fn ledger_for_a_run() -> (Rc<Ledger>, u32) {
    LEDGER.with_borrow_mut(|kept| {
        let (ledger, runs) = kept
            .take()
            .filter(|(_, runs)| *runs < RUNS_A_LEDGER)
            .unwrap_or_else(|| (Rc::new(Ledger::in_memory().expect("a ledger")), 0));
        *kept = Some((Rc::clone(&ledger), runs + 1));
        (ledger, runs)
    })
}

/// Plays a script to its end; with a story, if someone wants to read it.
pub(crate) fn play(script: &Script, tells: bool) -> Outcome {
    let run = Run::new(script, tells);
    if script.setting.is_stocked {
        run.stock();
    }
    run.at(Duration::ZERO, Happening::Start);
    run.at(Duration::from_millis(5), Happening::Deed);
    run.go_on(|run| run.deeds.borrow().len() == 0);
    run.calm_down();
    // A dStor that breaks off what is large is asked for each such file some times more.
    let deadline = run.now.get() + UNTIL_REST * if script.setting.cuts_above.is_some() { 2 } else { 1 };
    run.go_on(|run| run.now.get() > deadline || run.is_at_rest());
    run.check_all_rows();
    if !run.is_broken()
        && let Err(what) = run.invariant()
    {
        run.break_promise(what);
    }
    if run.is_broken() {
        // What it left in the queue would be another run's.
        LEDGER.take();
    }
    Outcome {
        broken: run.broken.take(),
        reach: run.reach.take(),
        trace: run.trace.get(),
        faults: run.faults.borrow().recorded().to_vec(),
        story: run.story.map(RefCell::into_inner).unwrap_or_default(),
        rows_checked: run.rows_checked.get(),
    }
}

impl Run {
    fn new(script: &Script, tells: bool) -> Self {
        let placement = Placement::Path(RemoteDir::parse(script.setting.place).expect("a path"));
        let policy = Policy { max_file_size: LARGEST, ..Policy::new(placement) };
        let (ledger, number) = ledger_for_a_run();
        let settings = MirrorSettings {
            service: "simulated".into(),
            path: format!("/mirror/{number}").into(),
            policy: policy.clone(),
            exclude: Vec::new(),
            hidden: true,
        };
        let mirror = ledger.activate_mirrors(&[settings]).expect("a mirror")[0];
        Self {
            now: Cell::default(),
            skew_ms: Cell::default(),
            agenda: RefCell::default(),
            order: Cell::default(),
            deeds: RefCell::new(script.deeds.clone().into_iter()),
            faults: RefCell::new(script.faults.clone()),
            setting: script.setting,
            disk: RefCell::new(Disk::new(script.setting.tick_ms)),
            remote: RefCell::new(Remote::new(script.setting.service, script.setting.cuts_above)),
            ledger,
            mirror,
            policy,
            patience: Patience {
                settle: SETTLE,
                max_delay: Duration::from_secs(10),
                retry_max_delay: Duration::from_secs(60),
            },
            incarnation: Cell::default(),
            is_running: Cell::default(),
            is_stopping: Cell::default(),
            moment: Cell::new(Moment { of_day: 0, elapsed: Duration::ZERO }),
            is_calm: Cell::default(),
            believed: Cell::default(),
            minder: RefCell::new(Minder::Absent),
            workers: RefCell::default(),
            pace: RefCell::new(Pace::new(1)),
            ways: RefCell::new(Ways::new(script.setting.sessions)),
            is_changed_service: Cell::default(),
            idle: Cell::default(),
            lease: RefCell::default(),
            key_file: Cell::default(),
            rules: RefCell::new(RuleBook::new(&[], true)),
            reach: RefCell::default(),
            trace: Cell::new(0xcbf2_9ce4_8422_2325),
            story: tells.then(RefCell::default),
            broken: RefCell::default(),
            walks: Cell::default(),
            scans_done: Cell::default(),
            recorded_since_crash: Cell::default(),
            written: Cell::default(),
            rows_checked: Cell::default(),
            illness: Cell::new(script.setting.illness),
            failures: RefCell::default(),
        }
    }

    /// Lets happen what comes, until `until`, or until a promise is broken.
    fn go_on(&self, until: impl Fn(&Self) -> bool) {
        for _ in 0..MOST_HAPPENINGS {
            if self.is_broken() || until(self) {
                return;
            }
            let Some(((at, _), happening)) = self.agenda.borrow_mut().pop_first() else { return };
            self.now.set(at.max(self.now.get()));
            self.happen(happening);
        }
        self.break_promise(format!("it goes round in circles: {MOST_HAPPENINGS} things happened"));
    }

    /// Lets happen what comes within a moment, while a walk is under way: `choice` of it. What belongs to whoever walks
    /// waits until the walk has ended.
    pub(crate) fn meanwhile(&self) {
        let (most, until) = (self.faults.borrow_mut().choice(4), self.now.get() + Duration::from_millis(200));
        let mut waits = Vec::new();
        for _ in 0..most {
            let first = self.agenda.borrow_mut().first_key_value().map(|((at, _), _)| *at);
            if first.is_none_or(|at| at > until) || self.is_broken() {
                break;
            }
            let Some(((at, _), happening)) = self.agenda.borrow_mut().pop_first() else { break };
            match happening {
                Happening::Minder(_) | Happening::RootLook(_) | Happening::Start => waits.push((at, happening)),
                other => {
                    self.now.set(at.max(self.now.get()));
                    if matches!(other, Happening::Deed | Happening::Write(..)) {
                        self.meet(Rare::ChangedInScan);
                    }
                    self.happen(other);
                }
            }
        }
        for (at, happening) in waits {
            self.at(at, happening);
        }
    }

    fn happen(&self, happening: Happening) {
        let code = match &happening {
            Happening::Deed => 1,
            Happening::KeepWriting(..) => 2,
            Happening::Write(..) => 3,
            Happening::WriteBack(..) => 4,
            Happening::Start => 5,
            Happening::Stopped(_) => 6,
            Happening::Heard(..) => 7,
            Happening::Minder(_) => 8,
            Happening::RootLook(_) => 9,
            Happening::Keeper(_) => 10,
            Happening::Worker(_, worker, _) => 16 + *worker as u64,
        };
        self.leave_trace(code);
        match happening {
            Happening::Deed => {
                let next = self.deeds.borrow_mut().next();
                if let Some(deed) = next {
                    self.do_deed(deed);
                    let pause = [0, 1, 3, 30, 400, 1_500, 3_000, 12_000, 45_000][deed.pause as usize % 9];
                    self.after(self.idle.take() + Duration::from_millis(pause), Happening::Deed);
                }
            }
            Happening::KeepWriting(path, more) => self.keep_writing(path, more),
            Happening::Write(path, bytes) => self.write(&path, &bytes),
            Happening::WriteBack(path) => {
                self.disk.borrow_mut().set_mtime(&path, None, self.wall_ns());
                self.deliver_events();
            }
            Happening::Start => self.start(),
            Happening::Stopped(who) if self.is_current(who) => self.end_in_order(),
            Happening::Heard(who, path) if self.is_current(who) => self.hear(path),
            Happening::Minder(who) if self.is_current(who) => self.mind(),
            Happening::RootLook(who) if self.is_current(who) => self.look_at_root(),
            Happening::Keeper(who) if self.is_current(who) => self.keep_time(),
            Happening::Worker(who, worker, step) if self.is_current(who) => self.work(worker, step),
            Happening::Stopped(_)
            | Happening::Heard(..)
            | Happening::Minder(_)
            | Happening::RootLook(_)
            | Happening::Keeper(_)
            | Happening::Worker(..) => {}
        }
    }

    pub(crate) fn is_current(&self, who: u32) -> bool {
        self.is_running.get() && self.incarnation.get() == who
    }

    pub(crate) fn at(&self, at: Duration, happening: Happening) {
        let order = self.order.get();
        self.order.set(order + 1);
        self.agenda.borrow_mut().insert((at, order), happening);
    }

    pub(crate) fn after(&self, wait: Duration, happening: Happening) {
        self.at(self.now.get() + wait, happening);
    }

    /// How long some step takes.
    pub(crate) fn latency(&self) -> Duration {
        Duration::from_millis([1, 1, 4, 50, 700, 3_000][self.faults.borrow_mut().choice(6) as usize])
    }

    pub(crate) fn wall_ns(&self) -> i64 {
        let now = i64::try_from(self.now.get().as_nanos()).expect("days, not centuries");
        BEGIN * 1_000_000_000 + now + self.skew_ms.get() * 1_000_000
    }

    pub(crate) fn wall_ms(&self) -> Millis {
        self.wall_ns() / 1_000_000
    }

    pub(crate) fn wall(&self) -> Timestamp {
        let now = self.wall_ns();
        Timestamp { seconds: now / 1_000_000_000, nanos: u32::try_from(now % 1_000_000_000).expect("below a second") }
    }

    /// The tree at the mirror's path, if it is the one that is believed in.
    pub(crate) fn open_root(&self) -> Option<Held<'_>> {
        let believed = self.believed.get()?;
        (self.disk.borrow().mounted == Some(believed)).then_some(Held { disk: &self.disk, tree: believed })
    }

    pub(crate) fn meet(&self, rare: Rare) {
        self.reach.borrow_mut().meet(rare);
    }

    pub(crate) fn tell(&self, what: impl FnOnce() -> String) {
        if let Some(story) = &self.story {
            story.borrow_mut().push(format!("{:>10.3} {}", self.now.get().as_secs_f64(), what()));
        }
    }

    pub(crate) fn leave_trace(&self, code: u64) {
        let now = self.now.get().as_micros() as u64;
        let mut trace = self.trace.get();
        for part in [now, code] {
            trace = (trace ^ part).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
        }
        self.trace.set(trace);
    }

    pub(crate) fn break_promise(&self, what: String) {
        self.tell(|| format!("BROKEN: {what}"));
        self.broken.borrow_mut().get_or_insert(what);
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.broken.borrow().is_some()
    }
}
