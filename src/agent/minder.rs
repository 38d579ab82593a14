//! The minder of one mirror: listens, waits until paths are quiet, scans, and notices when the directory is not there.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tracing::{info, warn};

use crate::ledger::{LedgerError, Push, Urgency, Watching};
use crate::local::{Heard, Hearing, ScanSummary, Tree as _, Watcher, sends_no_events};
use crate::mirror::{DSTORIGNORE, Debouncer, MirrorPath};
use crate::upload::{Folder, Queue, Recognised, ReconcileError, Reconciler, Stop, recognise};

/// How often a missing directory is looked for.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// How often a directory that is there is looked at: nobody tells when a disk is unmounted (A9).
const STILL_THERE: Duration = Duration::from_secs(5);
/// How often file systems that send no events are scanned.
const POLL: Duration = Duration::from_secs(30);
/// More paths than that at once are left to a scan.
const MOST_WAITING: usize = 100_000;
/// Scans for lost events begin at least this long after one another.
const BETWEEN_SCANS: Duration = Duration::from_secs(2);

pub(super) struct Minder {
    pub(super) folder: Arc<Folder>,
    pub(super) queue: Arc<Queue>,
    pub(super) settle: Duration,
    pub(super) max_delay: Duration,
    pub(super) poll: Option<Duration>,
    pub(super) rescan: Duration,
    pub(super) stop: watch::Receiver<Stop>,
}

enum Ended {
    Stopped,
    RootLost,
}

type Scanning = JoinHandle<Result<ScanSummary, ReconcileError>>;

impl Minder {
    /// Minds the mirror until told to stop. Drops `ready` once the first scan is through or the directory is missing.
    pub(super) async fn mind(self, ready: mpsc::Sender<()>) -> Result<(), LedgerError> {
        let mut ready = Some(ready);
        let mut was_missing = false;
        loop {
            match recognise(&self.folder, self.queue.ledger()).await? {
                Recognised::Missing(note) => {
                    if !was_missing {
                        warn!(mirror = %self.folder.path.display(), reason = %note, "the mirror's directory is missing");
                        was_missing = true;
                    }
                    self.set_missing(note).await?;
                    ready = None;
                    if self.stopped_within(LOOK_AGAIN).await {
                        return Ok(());
                    }
                }
                Recognised::Here => {
                    if was_missing {
                        info!(mirror = %self.folder.path.display(), "the mirror's directory is back");
                        was_missing = false;
                    }
                    match self.mind_present(&mut ready).await? {
                        Ended::Stopped => return Ok(()),
                        Ended::RootLost => {}
                    }
                }
            }
        }
    }

    async fn set_missing(&self, note: String) -> Result<(), LedgerError> {
        self.folder.watch_with(None);
        let id = self.folder.id;
        self.queue
            .with_room(move |ledger| {
                ledger.set_watching(id, Watching::Missing, Some(&note))?;
                ledger.hold(id)
            })
            .await
    }

    async fn mind_present(&self, ready: &mut Option<mpsc::Sender<()>>) -> Result<Ended, LedgerError> {
        let (watching, mut hearing, interval) = self.begin_watching().await?;
        let mut stop = self.stop.clone();
        let begun = Instant::now();
        let mut debouncer = Debouncer::new(self.settle, self.max_delay);
        let mut scan: Option<Scanning> = Some(self.scan());
        // Set when a scan begins: what is asked for while it runs is behind it, and needs the next one.
        let mut next_scan = begun + jittered(interval);
        let mut still_there = tokio::time::interval_at((begun + STILL_THERE).into(), STILL_THERE);
        loop {
            let due = debouncer.next_due().map(|due| begun + due);
            tokio::select! {
                biased;
                () = Stop::wait(&mut stop) => {
                    if let Some(scan) = scan {
                        // It sees the same word and ends soon.
                        let _ = scan.await;
                    }
                    // What is not due yet is found by the scan at the next start.
                    return Ok(Ended::Stopped);
                }
                scanned = finished(&mut scan) => {
                    match scanned {
                        Ok(summary) => {
                            self.scanned(watching, &hearing, &summary, ready.is_some()).await?;
                            *ready = None;
                        }
                        Err(ReconcileError::Root(_)) => return Ok(Ended::RootLost),
                        Err(ReconcileError::Unreadable(error)) => {
                            warn!(mirror = %self.folder.path.display(), %error, "the mirror's directory cannot be read");
                            *ready = None;
                            next_scan = next_scan.min(Instant::now() + POLL);
                        }
                        Err(ReconcileError::Ledger(LedgerError::Full)) => {
                            next_scan = next_scan.min(Instant::now() + POLL);
                        }
                        Err(ReconcileError::Ledger(error)) => return Err(error),
                        Err(ReconcileError::Stopped) => {}
                    }
                }
                () = until(due), if due.is_some() => self.push_due(&mut debouncer, begun).await?,
                heard = next_heard(&mut hearing) => match heard {
                    // A watcher that ended by itself hears nothing any more: everything is set up anew (A18).
                    None => {
                        self.stopped_within(BETWEEN_SCANS).await;
                        return Ok(Ended::RootLost);
                    }
                    Some(Heard::Path(path)) if path.is_top() => {
                        if self.folder_is_lost() {
                            return Ok(Ended::RootLost);
                        }
                        // It may have been removed and made again with the same number, and is not watched then.
                        next_scan = next_scan.min(Instant::now() + self.settle.max(BETWEEN_SCANS));
                    }
                    Some(Heard::Path(path)) => {
                        if self.hear(path, begun, &mut debouncer) {
                            next_scan = next_scan.min(Instant::now() + self.settle);
                        }
                    }
                    Some(Heard::Lost) => {
                        info!(mirror = %self.folder.path.display(), "events were lost; scanning");
                        next_scan = next_scan.min(Instant::now() + BETWEEN_SCANS);
                    }
                },
                () = self.folder.root_lost.notified() => {
                    if self.folder_is_lost() {
                        return Ok(Ended::RootLost);
                    }
                }
                _ = still_there.tick() => {
                    if self.folder_is_lost() {
                        return Ok(Ended::RootLost);
                    }
                }
                () = tokio::time::sleep_until(next_scan.into()), if scan.is_none() => {
                    next_scan = Instant::now() + jittered(interval);
                    scan = Some(self.scan());
                }
            }
        }
    }

    /// Sets up the watcher, if events come here, and lets held changes go on. Returns how it is watched, where to listen
    /// and how often to scan.
    async fn begin_watching(&self) -> Result<(Watching, Option<(Arc<Watcher>, Hearing)>, Duration), LedgerError> {
        let path = &self.folder.path;
        let (id, now) = (self.folder.id, self.queue.clock().now());
        let silent = tokio::task::block_in_place(|| sends_no_events(path));
        let mut note = None;
        let hearing = match self.poll {
            Some(_) => None,
            None if silent => {
                note = Some("its file system sends no events for what other machines do".to_owned());
                None
            }
            None => match Watcher::new(path) {
                Ok((watcher, hearing)) => Some((Arc::new(watcher), hearing)),
                Err(error) => {
                    warn!(mirror = %path.display(), error = %anyhow::Error::from(error).root_cause(), "no events; scanning instead");
                    note =
                        Some("the system gives no more watchers; raise `sysctl fs.inotify.max_user_instances`".into());
                    None
                }
            },
        };
        self.folder.watch_with(hearing.as_ref().map(|(watcher, _)| Arc::clone(watcher)));
        let watching = if hearing.is_some() { Watching::Events } else { Watching::Polling };
        self.queue
            .with_room(move |ledger| {
                ledger.set_watching(id, watching, note.as_deref())?;
                ledger.release(id, now)
            })
            .await?;
        self.queue.wake();
        let interval = match (watching, self.poll) {
            (Watching::Events, _) => self.rescan,
            (_, Some(poll)) => poll.min(self.rescan),
            (_, None) => POLL.min(self.rescan),
        };
        Ok((watching, hearing, interval))
    }

    fn scan(&self) -> Scanning {
        let (folder, queue) = (Arc::clone(&self.folder), Arc::clone(&self.queue));
        let (settle, stop) = (self.settle, self.stop.clone());
        tokio::task::spawn_blocking(move || {
            Reconciler { queue: &queue, settle, stop: &stop }.run(&folder, &MirrorPath::top())
        })
    }

    async fn scanned(
        &self,
        watching: Watching,
        hearing: &Option<(Arc<Watcher>, Hearing)>,
        summary: &ScanSummary,
        is_first: bool,
    ) -> Result<(), LedgerError> {
        let (id, now) = (self.folder.id, self.queue.clock().now());
        let note = hearing.as_ref().and_then(|(watcher, _)| watcher.take_note());
        let ScanSummary { directories, files, bytes, excluded, unreadable, differences } = *summary;
        if is_first || differences > 0 {
            info!(mirror = %self.folder.path.display(), directories, files, bytes, excluded, unreadable, differences, "scanned");
        }
        self.queue
            .with_room(move |ledger| {
                if watching == Watching::Events {
                    ledger.set_watching(id, watching, note.as_deref())?;
                }
                ledger.scanned(id, now)
            })
            .await
    }

    /// Takes a path that something happened at; `true` if it takes a scan to know what follows.
    fn hear(&self, path: MirrorPath, begun: Instant, debouncer: &mut Debouncer<MirrorPath>) -> bool {
        let now = begun.elapsed();
        let mut wants_scan = false;
        if let Some((parent, name)) = path.split()
            && name == DSTORIGNORE.as_bytes()
        {
            // Other rules: everything below may be in or out now.
            if parent.is_top() {
                wants_scan = true;
            } else {
                debouncer.push(parent, now);
            }
        }
        if debouncer.len() < MOST_WAITING {
            debouncer.push(path, now);
        } else {
            wants_scan = true;
        }
        wants_scan
    }

    async fn push_due(&self, debouncer: &mut Debouncer<MirrorPath>, begun: Instant) -> Result<(), LedgerError> {
        let due = debouncer.take_due(begun.elapsed());
        let now = self.queue.clock().now();
        let pushes: Vec<Push> = tokio::task::block_in_place(|| {
            let root = self.folder.open().ok();
            due.into_iter()
                .filter(|path| {
                    // What rules exclude never costs a write: editors' temporary files above all. If in doubt, it is
                    // pushed and a worker decides.
                    root.as_ref().is_none_or(|root| {
                        let is_directory = root.look(path).is_ok_and(|look| look.observed.is_directory());
                        self.folder.rules.judge(root, path, is_directory).map_or(true, |included| included.is_yes())
                    })
                })
                .map(|path| Push { path, size: 0, due_at: now })
                .collect()
        });
        if pushes.is_empty() {
            return Ok(());
        }
        self.queue.push(self.folder.id, pushes, Urgency::Event).await
    }

    fn folder_is_lost(&self) -> bool {
        tokio::task::block_in_place(|| self.folder.open().is_err())
    }

    /// Waits, but not longer than until it is time to stop; `true` if it is.
    async fn stopped_within(&self, wait: Duration) -> bool {
        let mut stop = self.stop.clone();
        tokio::time::timeout(wait, Stop::wait(&mut stop)).await.is_ok()
    }
}

async fn finished(scan: &mut Option<Scanning>) -> Result<ScanSummary, ReconcileError> {
    let Some(running) = scan else { return std::future::pending().await };
    let result = running.await;
    *scan = None;
    match result.map_err(tokio::task::JoinError::try_into_panic) {
        Ok(scanned) => scanned,
        Err(Ok(panic)) => std::panic::resume_unwind(panic),
        Err(Err(_)) => Err(ReconcileError::Stopped),
    }
}

/// `None`: the watcher ended by itself.
async fn next_heard(hearing: &mut Option<(Arc<Watcher>, Hearing)>) -> Option<Heard> {
    match hearing {
        Some((_, hearing)) => hearing.next().await,
        None => std::future::pending().await,
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// Within a tenth of `interval`, so that many machines do not scan a shared disk in step.
fn jittered(interval: Duration) -> Duration {
    interval.mul_f64(0.9 + 0.2 * fastrand::f64())
}
