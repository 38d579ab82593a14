//! The minder of one mirror: listens, waits until paths are quiet, scans, and notices when the directory is not there.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tracing::{info, warn};

use crate::ledger::{Ledger, LedgerError, Push, Urgency, Watching};
use crate::local::{Heard, Hearing, ScanSummary, Watcher, sends_no_events};
use crate::mirror::{Canary, MirrorPath, Pulse, Reaction, ScanEnd, Vigil};
use crate::upload::{Folder, Queue, Recognised, ReconcileError, Reconciler, Stop, recognise};

/// How often a missing directory is looked for.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// How often a directory that is there is looked at: nobody tells when a disk is unmounted (A9).
const STILL_THERE: Duration = Duration::from_secs(5);
/// How often file systems that send no events are scanned.
const POLL: Duration = Duration::from_secs(30);
/// A watcher that ended by itself is followed by another one after this.
const BEFORE_ANOTHER_WATCHER: Duration = Duration::from_secs(2);
/// Where no events come, although they should, another watcher is tried after this.
const TRY_EVENTS_AGAIN: Duration = Duration::from_secs(600);

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
    /// The watcher is gone, or hangs (A18).
    WatcherLost,
    /// The watcher never heard anything.
    NoEvents,
    /// Events may come by now.
    TryEvents,
}

type Scanning = JoinHandle<Result<ScanSummary, ReconcileError>>;

impl Minder {
    /// Minds the mirror until told to stop. Drops `ready` once the first scan is through or the directory is missing.
    pub(super) async fn mind(self, ready: mpsc::Sender<()>) -> Result<(), LedgerError> {
        let mut ready = Some(ready);
        let mut was_missing = false;
        let mut silent_until: Option<Instant> = None;
        loop {
            match recognise(&self.folder, &self.queue).await? {
                Recognised::Missing(note) => {
                    if !was_missing {
                        warn!(mirror = %self.folder.path.display(), reason = %note, "the mirror's directory is missing");
                        was_missing = true;
                    }
                    self.set_missing(note).await?;
                    ready = None;
                    if Stop::within(&self.stop, LOOK_AGAIN).await {
                        return Ok(());
                    }
                }
                Recognised::Here => {
                    if was_missing {
                        info!(mirror = %self.folder.path.display(), "the mirror's directory is back");
                        was_missing = false;
                    }
                    match self.mind_present(&mut ready, silent_until).await? {
                        Ended::Stopped => return Ok(()),
                        Ended::RootLost => {}
                        Ended::WatcherLost => {
                            warn!(mirror = %self.folder.path.display(), "the watcher is silent; another one is set up");
                            let id = self.folder.id;
                            let note = "the watcher was silent; another one is set up";
                            let unwatched =
                                move |ledger: &Ledger| ledger.set_watching(id, Watching::Polling, Some(note));
                            self.queue.with_room(unwatched).await?;
                            if Stop::within(&self.stop, BEFORE_ANOTHER_WATCHER).await {
                                return Ok(());
                            }
                        }
                        Ended::NoEvents => {
                            warn!(mirror = %self.folder.path.display(), "no events come from here; scanning instead");
                            silent_until = Some(Instant::now() + TRY_EVENTS_AGAIN);
                        }
                        Ended::TryEvents => silent_until = None,
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

    async fn mind_present(
        &self,
        ready: &mut Option<mpsc::Sender<()>>,
        silent_until: Option<Instant>,
    ) -> Result<Ended, LedgerError> {
        let (watching, mut hearing, interval) = self.begin_watching(silent_until.is_some()).await?;
        let mut canary = Canary::default();
        let mut stop = self.stop.clone();
        let begun = Instant::now();
        let mut vigil = Vigil::new(self.settle, self.max_delay, interval, Duration::ZERO);
        let mut scan: Option<Scanning> = None;
        let mut still_there = tokio::time::interval_at((begun + STILL_THERE).into(), STILL_THERE);
        // After a stop, looks in a row would leave a living watcher no time to answer.
        still_there.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            if vigil.take_scan(begun.elapsed(), fastrand::f64()) {
                scan = Some(self.scan());
            }
            let wake = vigil.next_wake().map(|wake| begun + wake);
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
                    let end = match scanned {
                        Ok(summary) => {
                            self.scanned(watching, &hearing, &summary, ready.is_some()).await?;
                            *ready = None;
                            ScanEnd::Whole
                        }
                        Err(ReconcileError::Root(_)) => return Ok(Ended::RootLost),
                        Err(ReconcileError::Unreadable(error)) => {
                            warn!(mirror = %self.folder.path.display(), %error, "the mirror's directory cannot be read");
                            *ready = None;
                            ScanEnd::BrokenOff
                        }
                        Err(ReconcileError::Ledger(LedgerError::Full)) | Err(ReconcileError::Stopped) => ScanEnd::BrokenOff,
                        Err(ReconcileError::Ledger(error)) => return Err(error),
                    };
                    vigil.scan_ended(end, begun.elapsed());
                }
                () = until(wake) => self.push_due(vigil.take_due(begun.elapsed())).await?,
                heard = next_heard(&mut hearing) => match heard {
                    // A watcher that ended by itself hears nothing any more: everything is set up anew (A18).
                    None => return Ok(Ended::WatcherLost),
                    Some(Heard::Path(path)) => match vigil.hear(path, begun.elapsed()) {
                        Reaction::Wait => {}
                        Reaction::LookAtRoot if self.folder_is_lost() => return Ok(Ended::RootLost),
                        Reaction::LookAtRoot => vigil.root_is_there(begun.elapsed()),
                    },
                    Some(Heard::Lost) => {
                        info!(mirror = %self.folder.path.display(), "events were lost; scanning");
                        vigil.hear_of_loss(begun.elapsed());
                    }
                },
                () = self.folder.root_lost.notified() => {
                    if self.folder_is_lost() {
                        return Ok(Ended::RootLost);
                    }
                }
                () = self.folder.rescan.notified() => vigil.woke(begun.elapsed()),
                _ = still_there.tick() => {
                    let signs = hearing.as_ref().and_then(|(watcher, _)| watcher.signs());
                    if self.folder_is_lost() {
                        return Ok(Ended::RootLost);
                    }
                    if hearing.as_ref().is_some_and(|(watcher, _)| watcher.is_over()) {
                        return Ok(Ended::WatcherLost);
                    }
                    // Looking whether the directory is there makes an event of its own.
                    match canary.looked(signs) {
                        Pulse::Beats => {}
                        Pulse::Stopped => return Ok(Ended::WatcherLost),
                        Pulse::NeverFelt => return Ok(Ended::NoEvents),
                    }
                    if silent_until.is_some_and(|until| until <= Instant::now()) {
                        return Ok(Ended::TryEvents);
                    }
                }
            }
        }
    }

    /// Sets up the watcher, if events come here, and lets held changes go on. Returns how it is watched, where to listen
    /// and how often to scan.
    async fn begin_watching(
        &self,
        is_silent: bool,
    ) -> Result<(Watching, Option<(Arc<Watcher>, Hearing)>, Duration), LedgerError> {
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
            None if is_silent => {
                note = Some("no events come from it; a watcher is tried again every ten minutes".to_owned());
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
            let _walk = folder.walk();
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

    async fn push_due(&self, due: Vec<MirrorPath>) -> Result<(), LedgerError> {
        if due.is_empty() {
            return Ok(());
        }
        let now = self.queue.clock().now();
        let pushes: Vec<Push> = tokio::task::block_in_place(|| {
            let root = self.folder.open().ok();
            due.into_iter()
                // What rules exclude never costs a write: editors' temporary files above all. If in doubt, it is pushed
                // and a worker decides.
                .filter(|path| root.as_ref().is_none_or(|root| self.folder.rules.may_include(root, path)))
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
