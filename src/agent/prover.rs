//! What the agent does for proofs beside uploading: it notices how dStor names files, and reads back a little each day,
//! when there is nothing else to do.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tracing::{debug, warn};

use crate::ledger::{Found, Ledger, LedgerError, Millis, Proof, Readable, Reading};
use crate::local::uptime;
use crate::mirror::{Backoff, Fault};
use crate::upload::{Folder, Stop, Uploader};
use crate::verify::{Allowance, LOOK_AT, NAMES_OTHERWISE, READ_AGAIN, concerns_uploads, names_otherwise, read_back};

/// How often it looks whether there is something to do.
const LOOK: Duration = Duration::from_secs(2);
/// Where nothing is due to be read, it looks again after this: looking goes through all files.
const LOOK_AGAIN: Duration = Duration::from_secs(600);
/// Files that are listed at a time.
const BATCH: usize = 1000;
/// How often it looks, while it reads, whether something is to be uploaded.
const STILL_QUIET: Duration = Duration::from_millis(200);
/// After a reading that got no answer.
const NO_ANSWER: Backoff = Backoff { first: Duration::from_secs(60), longest: Duration::from_secs(3600) };

pub(super) struct Prover {
    pub(super) uploader: Arc<Uploader>,
    pub(super) folders: Vec<Arc<Folder>>,
    pub(super) ledger: PathBuf,
    /// Bytes that may be read in a day; `None`: nothing is read.
    pub(super) a_day: Option<u64>,
    pub(super) stop: watch::Receiver<Stop>,
}

/// What is read back, as far as it is known.
struct Round {
    allowance: Allowance,
    due: VecDeque<Readable>,
    /// Readings in a row that got no answer.
    failures: u32,
}

/// How a reading ended that dStor did not end.
enum Came {
    Answer(Result<(Found, Proof), Fault>),
    Busy,
    Stopped,
}

impl Prover {
    pub(super) async fn prove(self) -> Result<(), LedgerError> {
        let mut unnamed: Vec<Arc<Folder>> = self.folders.clone();
        let allowance = self.a_day.map(|a_day| Allowance::new(a_day, uptime()));
        let mut round = allowance.map(|allowance| Round { allowance, due: VecDeque::new(), failures: 0 });
        let mut wait = Duration::ZERO;
        while !Stop::within(&self.stop, wait).await {
            self.notice_names(&mut unnamed).await?;
            wait = match &mut round {
                Some(round) => self.read_one(round).await?,
                None if unnamed.is_empty() => return Ok(()),
                None => LOOK,
            };
            if !unnamed.is_empty() {
                wait = wait.min(LOOK);
            }
        }
        Ok(())
    }

    /// Says once of a mirror that its files get other names than could be computed, and forgets those of which it is known.
    async fn notice_names(&self, unnamed: &mut Vec<Arc<Folder>>) -> Result<(), LedgerError> {
        let mut still = Vec::new();
        for folder in unnamed.drain(..) {
            let id = folder.id;
            let (looked_at, alike) =
                self.uploader.queue.ledger().with(move |ledger| ledger.naming(id, LOOK_AT)).await?;
            if names_otherwise(looked_at, alike) {
                warn!(mirror = %folder.path.display(), "{NAMES_OTHERWISE}");
            } else if alike == 0 {
                still.push(folder);
            }
        }
        *unnamed = still;
        Ok(())
    }

    /// Reads the next file back, if it may be read now. Returns how long to wait with the one after.
    async fn read_one(&self, round: &mut Round) -> Result<Duration, LedgerError> {
        let gate = &self.uploader.gate;
        if gate.facts().borrow().failures > 0 || !self.is_quiet().await? {
            return Ok(LOOK);
        }
        if round.due.is_empty() {
            round.due = self.list().await?;
        }
        let Some(next) = round.due.front() else { return Ok(LOOK_AGAIN) };
        let wait = round.allowance.wait_for(next.size, uptime());
        if !wait.is_zero() {
            return Ok(wait.min(LOOK_AGAIN));
        }
        if self.uploader.queue.is_metered().await {
            return Ok(LOOK_AGAIN);
        }
        let Some(file) = round.due.pop_front() else { return Ok(LOOK_AGAIN) };
        let mut stop = self.stop.clone();
        let pass = tokio::select! {
            biased;
            () = Stop::wait(&mut stop) => return Ok(LOOK),
            pass = gate.pass() => pass,
        };
        let mut bytes = 0;
        let came = tokio::select! {
            biased;
            () = Stop::wait(&mut stop) => Came::Stopped,
            answer = read_back(&self.uploader.client, &file, |more| bytes += more) => Came::Answer(answer),
            busy = self.until_busy() => {
                busy?;
                Came::Busy
            }
        };
        round.allowance.spend(bytes);
        match came {
            Came::Answer(Ok((found, proof))) => {
                pass.succeed();
                round.failures = 0;
                self.record(file, found, proof).await?;
                Ok(Duration::ZERO)
            }
            Came::Answer(Err(fault)) => {
                debug!(path = %file.path, reason = %fault.message(), "could not be read back");
                if concerns_uploads(&fault) {
                    pass.fail(&fault);
                }
                round.failures = round.failures.saturating_add(1);
                round.due.push_back(file);
                Ok(NO_ANSWER.delay(round.failures, fastrand::f64()).max(gate.closed_for()))
            }
            // What is to be uploaded comes first. Another file is next: a large one must not keep all others from it.
            Came::Busy => {
                round.due.push_back(file);
                Ok(LOOK)
            }
            Came::Stopped => Ok(LOOK),
        }
    }

    async fn is_quiet(&self) -> Result<bool, LedgerError> {
        super::is_quiet(&self.uploader.queue, Duration::ZERO).await
    }

    async fn until_busy(&self) -> Result<(), LedgerError> {
        while self.is_quiet().await? {
            tokio::time::sleep(STILL_QUIET).await;
        }
        Ok(())
    }

    /// What was not read for long, over a connection that only reads.
    async fn list(&self) -> Result<VecDeque<Readable>, LedgerError> {
        let now = self.uploader.queue.clock().now();
        self.uploader.queue.with_room(move |ledger| ledger.bring_readings_back(now)).await?;
        let before = now.saturating_sub(Millis::try_from(READ_AGAIN.as_millis()).unwrap_or(Millis::MAX));
        let path = self.ledger.clone();
        let listing = tokio::task::spawn_blocking(move || {
            Ledger::open_read_only(&path)?.readable(&[], before, None, BATCH).map(VecDeque::from)
        });
        match listing.await.map_err(tokio::task::JoinError::try_into_panic) {
            Ok(listed) => listed,
            Err(Ok(panic)) => std::panic::resume_unwind(panic),
            // The runtime is ending, and so is this.
            Err(Err(_)) => Ok(VecDeque::new()),
        }
    }

    async fn record(&self, file: Readable, found: Found, proof: Proof) -> Result<(), LedgerError> {
        match found.message() {
            Some(reason) => warn!(path = %file.path, hash = %file.hash, reason, "not on dStor as it was stored"),
            None => debug!(path = %file.path, "read back"),
        }
        let at = self.uploader.queue.clock().now();
        self.uploader
            .queue
            .with_room(move |ledger| ledger.record_readings([(&file, Reading { found, at }, proof)]))
            .await
    }
}
