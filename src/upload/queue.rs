//! The queue: push, claim, settle, postpone, over the ledger's rows.

use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::{Notify, watch};

use crate::desktop::Meter;
use crate::ledger::{
    Claim, FirstDue, Ledger, LedgerError, Millis, MirrorId, Outlook, Push, SharedLedger, UNTIL_RESUMED, Urgency,
};
use crate::mirror::Timestamp;

use super::pack::claim_beside;
use super::turns::{self, Turn, Turns};
use super::{Ending, Folder, Stop};

/// How often a full disk is tried again.
pub(super) const WHILE_FULL: Duration = Duration::from_secs(5);

/// The time of day, where times are recorded. Waiting goes by the runtime's monotonic clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock;

impl Clock {
    /// Milliseconds since 1970.
    #[must_use]
    pub fn now(self) -> Millis {
        let now = self.timestamp();
        now.seconds.saturating_mul(1000).saturating_add(i64::from(now.nanos / 1_000_000))
    }

    /// The same as file systems write it.
    #[must_use]
    pub fn timestamp(self) -> Timestamp {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp { seconds: i64::try_from(now.as_secs()).unwrap_or(i64::MAX), nanos: now.subsec_nanos() }
    }
}

/// The queue that pushers fill and workers drain.
pub struct Queue {
    ledger: SharedLedger,
    ledger_path: PathBuf,
    readers: Mutex<Vec<Ledger>>,
    filled: Notify,
    turns: Arc<Turns>,
    clock: Clock,
    /// No change is claimed before then.
    paused_until: AtomicI64,
    /// Changes that were handed out so far.
    claims: AtomicU64,
    /// Nothing is handed out while it says that the connection is metered.
    meter: Option<Arc<Meter>>,
}

impl Queue {
    /// The queue in `ledger`, whose file is at `ledger_path`.
    #[must_use]
    pub fn new(ledger: SharedLedger, ledger_path: PathBuf, clock: Clock) -> Self {
        Self {
            ledger,
            ledger_path,
            readers: Mutex::default(),
            filled: Notify::new(),
            turns: Arc::default(),
            clock,
            paused_until: AtomicI64::new(Millis::MIN),
            claims: AtomicU64::new(0),
            meter: None,
        }
    }

    /// Hands out nothing while the connection is metered.
    #[must_use]
    pub fn heeding(self, meter: Option<Arc<Meter>>) -> Self {
        Self { meter, ..self }
    }

    /// Who tells whether the connection is metered, if anybody wants to know.
    #[must_use]
    pub fn meter(&self) -> Option<&Arc<Meter>> {
        self.meter.as_ref()
    }

    /// Whether whatever uses the network without being told to has to wait: the connection is metered.
    pub async fn is_metered(&self) -> bool {
        match &self.meter {
            Some(meter) => meter.is_metered().await,
            None => false,
        }
    }

    /// The ledger it lives in.
    #[must_use]
    pub fn ledger(&self) -> &SharedLedger {
        &self.ledger
    }

    /// The clock that its times are by.
    #[must_use]
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// Puts paths into the queue.
    ///
    /// # Errors
    /// The ledger's.
    pub async fn push(&self, mirror: MirrorId, pushes: Vec<Push>, urgency: Urgency) -> Result<(), LedgerError> {
        let now = self.clock.now();
        self.with_room(move |ledger| ledger.push(mirror, &pushes, urgency, now)).await?;
        self.filled.notify_waiters();
        Ok(())
    }

    /// Blocking: as [`push`](Self::push).
    ///
    /// # Errors
    /// The ledger's.
    pub fn push_blocking(&self, mirror: MirrorId, pushes: Vec<Push>, urgency: Urgency) -> Result<(), LedgerError> {
        let now = self.clock.now();
        self.ledger.with_blocking(move |ledger| ledger.push(mirror, &pushes, urgency, now))?;
        self.filled.notify_waiters();
        Ok(())
    }

    /// Blocking: takes the emptied files that a whole scan found; returns how many are held.
    ///
    /// # Errors
    /// The ledger's.
    pub fn hold_emptied_blocking(&self, mirror: MirrorId, found: Vec<Push>) -> Result<u64, LedgerError> {
        let now = self.clock.now();
        let held = self.ledger.with_blocking(move |ledger| ledger.hold_emptied(mirror, found, now))?;
        self.filled.notify_waiters();
        Ok(held)
    }

    /// Wakes the workers: changes may be due that were held.
    pub fn wake(&self) {
        self.filled.notify_waiters();
    }

    /// Hands out no change before `until`; `None`: goes on. What workers have is ended all the same.
    pub fn pause_until(&self, until: Option<Millis>) {
        self.paused_until.store(until.unwrap_or(Millis::MIN), Ordering::Relaxed);
        self.filled.notify_waiters();
    }

    fn opens_at(&self) -> Millis {
        self.paused_until.load(Ordering::Relaxed)
    }

    /// Waits until some change is due; `false` when it is time to stop. Another worker may be faster to claim it.
    pub(super) async fn wait_for_due(&self, stop: &mut watch::Receiver<Stop>) -> Result<bool, LedgerError> {
        loop {
            let filled = self.filled.notified();
            tokio::pin!(filled);
            filled.as_mut().enable();
            let due_at = self.outlook().await?.next_due_at.map(|due_at| due_at.max(self.opens_at()));
            let wait = match due_at {
                // Asked only now that there is something to do: at rest nobody is.
                Some(due_at) if due_at <= self.clock.now() && self.is_metered().await => Some(Meter::FRESH),
                Some(due_at) if due_at <= self.clock.now() => return Ok(*stop.borrow() == Stop::Go),
                Some(UNTIL_RESUMED) => None,
                // Never for very long: the time of day may jump (D14).
                Some(due_at) => Some(millis(due_at - self.clock.now()).min(Duration::from_secs(30))),
                None => None,
            };
            let sleep = async {
                match wait {
                    Some(wait) => tokio::time::sleep(wait).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = Stop::wait(stop) => return Ok(false),
                () = filled => {}
                () = sleep => {}
            }
        }
    }

    /// Takes one change that is due; none during a pause, nor while the connection is metered. Who `gathers` has the turn to
    /// do so in its directory, and waits for it if somebody else has it.
    pub(super) async fn claim(&self, gathers: bool) -> Result<Option<(Claim, Option<Turn>)>, LedgerError> {
        let patience = tokio::time::Instant::now() + turns::PATIENCE;
        loop {
            let now = self.clock.now();
            if now < self.opens_at() || self.is_metered().await {
                return Ok(None);
            }
            let freed = self.turns.freed();
            let turns = (gathers && tokio::time::Instant::now() < patience).then(|| Arc::clone(&self.turns));
            let claimed = self.with_room(move |ledger| {
                let mut turn = None;
                let first = ledger.claim_if(now, |claim| {
                    turn = turns.as_ref().and_then(|turns| turns.begin(claim));
                    turns.is_none() || turn.is_some()
                });
                Ok((first?, turn))
            });
            match claimed.await? {
                (FirstDue::Taken(claim), turn) => {
                    self.claims.fetch_add(1, Ordering::Relaxed);
                    return Ok(Some((claim, turn)));
                }
                (FirstDue::Nothing, _) => return Ok(None),
                // Whether it was freed or not, it is looked at again.
                (FirstDue::Refused, _) => drop(tokio::time::timeout_at(patience, freed).await),
            }
        }
    }

    /// How many changes were handed out so far, those that went along with others not counted.
    #[must_use]
    pub fn claims(&self) -> u64 {
        self.claims.load(Ordering::Relaxed)
    }

    /// Whether there is something to hand out now, by this outlook, and nobody has anything.
    #[must_use]
    pub fn is_waiting(&self, outlook: Outlook) -> bool {
        let due_at = outlook.next_due_at.map(|due_at| due_at.max(self.opens_at()));
        let is_metered = self.meter.as_ref().is_some_and(|meter| *meter.facts().borrow());
        outlook.claimed == 0 && !is_metered && due_at.is_some_and(|due_at| due_at <= self.clock.now())
    }

    /// Takes what is due beside a change and may go along with its file of `size` bytes; nothing if there are fewer than
    /// `fewest`.
    pub(super) async fn claim_beside(
        &self,
        claim: &Claim,
        size: u64,
        fewest: usize,
    ) -> Result<Vec<Claim>, LedgerError> {
        let (now, claim) = (self.clock.now(), claim.clone());
        self.with_room(move |ledger| claim_beside(ledger, &claim, size, fewest, now)).await
    }

    /// Ends the work on changes, in one transaction; all of one mirror, which may not be configured any more.
    pub(super) async fn end(
        &self,
        ended: Vec<(Claim, Ending)>,
        folder: Option<&Arc<Folder>>,
    ) -> Result<(), LedgerError> {
        let (now, ended, folder) = (self.clock.now(), Arc::new(ended), folder.cloned());
        // Those that are due again later have to be known to whoever sleeps. One that was pushed again meanwhile is due
        // now, and this worker is the next to look.
        let is_over = ended.iter().all(|(_, ending)| matches!(ending, Ending::Settled(_, None, _)));
        self.with_room(move |ledger| {
            let is_back = || folder.as_ref().is_some_and(|folder| folder.is_believed());
            ended.iter().try_for_each(|(claim, ending)| ending.record(ledger, claim, is_back, now))
        })
        .await?;
        if !is_over {
            self.filled.notify_waiters();
        }
        Ok(())
    }

    /// Runs `work` on the ledger, again and again while its disk is full: nothing is lost meanwhile, and it goes on when
    /// there is room (D2). What only reads may meet a full disk, too: by a commit that it shares with others.
    ///
    /// # Errors
    /// The ledger's others.
    pub async fn with_room<T: Send + 'static>(
        &self,
        work: impl Fn(&Ledger) -> Result<T, LedgerError> + Clone + Send + 'static,
    ) -> Result<T, LedgerError> {
        let mut was_full = false;
        loop {
            match self.ledger.with(work.clone()).await {
                Err(LedgerError::Full) => {
                    if !was_full {
                        tracing::error!("the disk that holds the ledger is full; make room, and it goes on");
                        was_full = true;
                    }
                    // What was written ahead takes room itself. If it cannot be folded in, that is no other trouble.
                    let _ = self.ledger.fold().await;
                    tokio::time::sleep(WHILE_FULL).await;
                }
                other => return other,
            }
        }
    }

    /// What there is to do.
    ///
    /// # Errors
    /// The ledger's.
    pub async fn outlook(&self) -> Result<Outlook, LedgerError> {
        self.with_room(|ledger| ledger.outlook()).await
    }

    /// Blocking: lends a connection that only reads, so that a scan does not hold up the writer.
    pub(super) fn read<T>(&self, work: impl FnOnce(&Ledger) -> Result<T, LedgerError>) -> Result<T, LedgerError> {
        self.read_with(1, |readers| readers.first().map_or(Err(LedgerError::Closed), work))
    }

    /// Blocking: as [`read`](Self::read), with `count` connections, for as many threads.
    pub(super) fn read_with<T>(
        &self,
        count: usize,
        work: impl FnOnce(&mut [Ledger]) -> Result<T, LedgerError>,
    ) -> Result<T, LedgerError> {
        let idle = || self.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let reader = |_| idle().map_or_else(|| Ledger::open_read_only(&self.ledger_path), Ok);
        let mut readers = (0..count).map(reader).collect::<Result<Vec<Ledger>, _>>()?;
        let result = work(&mut readers);
        // Each keeps some pages in memory: those of a scan are many, and the next one comes in an hour.
        if count > 1 {
            readers.clear();
        }
        self.readers.lock().unwrap_or_else(PoisonError::into_inner).append(&mut readers);
        result
    }
}

fn millis(value: Millis) -> Duration {
    Duration::from_millis(u64::try_from(value).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::mpsc;

    use super::*;
    use crate::ledger::MirrorSettings;
    use crate::mirror::{MirrorPath, Placement, Policy, RemoteDir};

    fn ledger_with_a_mirror(path: &Path) -> (Ledger, MirrorId) {
        let ledger = Ledger::open(path).expect("a ledger");
        let placement = Placement::Path(RemoteDir::parse("Docs").expect("a place"));
        let policy = Policy::new(placement);
        let (service, path_of) = ("s".to_owned(), "/m".into());
        let settings = MirrorSettings { service, path: path_of, policy, exclude: Vec::new(), hidden: true };
        let mirror = ledger.activate_mirrors(&[settings]).expect("a mirror")[0];
        (ledger, mirror)
    }

    fn push_of(path: &str) -> Push {
        Push { path: MirrorPath::from_bytes(path.as_bytes()).expect("a path"), size: 1, due_at: 0 }
    }

    #[tokio::test]
    async fn one_worker_at_a_time_gathers_in_a_directory_unless_it_is_held_up() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("ledger.db");
        let (ledger, mirror) = ledger_with_a_mirror(&path);
        let queue = &Queue::new(SharedLedger::new(ledger).expect("a thread"), path, Clock);
        let pushes = ["a/1", "a/2", "a/3", "a/4"].map(push_of).to_vec();
        queue.push(mirror, pushes, Urgency::Event).await.expect("pushed");
        let turn = |gathers| async move { queue.claim(gathers).await.expect("claimed").expect("one is due").1 };

        let first = turn(true).await;
        assert!(first.is_some(), "nobody else has it");
        let waiting = turn(true);
        tokio::pin!(waiting);
        assert!(tokio::time::timeout(Duration::from_millis(50), &mut waiting).await.is_err(), "two have it");
        drop(first);
        let second = waiting.await;
        assert!(second.is_some(), "the second has it after the first");
        assert!(turn(false).await.is_none(), "who does not gather waits for nobody");
        let begun = tokio::time::Instant::now();
        assert!(turn(true).await.is_none(), "whoever has it is held up, and the others go on");
        assert!(begun.elapsed() >= turns::PATIENCE);
    }

    // D2
    #[tokio::test(flavor = "multi_thread")]
    async fn who_only_reads_waits_for_room_as_well_when_a_commit_is_shared() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("ledger.db");
        let (ledger, mirror) = ledger_with_a_mirror(&path);
        ledger.set_room(1).expect("no room");
        let queue = Queue::new(SharedLedger::new(ledger).expect("a thread"), path, Clock);
        let pushes: Vec<Push> = (0..2000).map(|at| push_of(&format!("{at:0200}/x"))).collect();

        // Whatever is sent while the ledger's thread is busy becomes one group.
        let (free, wait) = mpsc::channel::<()>();
        let busy = queue.ledger().with(move |_| {
            let _ = wait.recv();
            Ok(())
        });
        let free_and_make_room = async {
            drop(free);
            queue.with_room(|ledger| ledger.set_room(u32::MAX - 1)).await
        };
        let push = queue.push(mirror, pushes, Urgency::Event);
        let all = async { tokio::join!(busy, push, queue.outlook(), free_and_make_room) };
        let (.., pushed, outlook, roomy) = tokio::time::timeout(Duration::from_secs(60), all).await.expect("in time");
        pushed.expect("pushed when there is room");
        outlook.expect("read when there is room");
        roomy.expect("room");
    }
}
