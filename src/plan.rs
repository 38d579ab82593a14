//! What is to be mirrored, where to and how: the parts that an agent or a single pass is put together from.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;
use tokio::sync::watch;
use tracing::error;

use crate::desktop::{Bus, Meter};
use crate::dstor::{Authorities, Client, ClientError, ClientOptions, CredentialSource};
use crate::ledger::{AgentLock, Ledger, LedgerError, LockError, Millis, MirrorSettings, Rescue, SharedLedger};
use crate::local::unfit_for_a_ledger;
use crate::mirror::{NameKey, Names, Sessions, Timetable};
use crate::seal::{Recipients, drawn_key};
use crate::upload::{Clock, Folder, Gate, Patience, Queue, Report, Roads, Stop, Uploader};

/// The ledger's name in the state directory.
pub const LEDGER: &str = "ledger.db";

/// One directory to mirror.
#[derive(Clone, Debug)]
pub struct MirrorPlan {
    /// The directory, what it takes and where it goes.
    pub settings: MirrorSettings,
    /// Kept on dStor with each file; empty: none.
    pub comment: String,
    /// Scan this often instead of listening for events.
    pub poll: Option<Duration>,
    /// Scan this often beside listening.
    pub rescan: Duration,
}

/// Whom an agent tells that something needs them, and how.
#[derive(Clone, Default, Debug)]
pub struct Alerts {
    /// Run by a shell when something needs a person.
    pub on_problem: Option<String>,
    /// Run by a shell when nothing does any more.
    pub on_recovered: Option<String>,
    /// Fetched after each scan that left everything stored.
    pub heartbeat: Option<Url>,
    /// The session whose desktop shows a notice for either.
    pub desktop: Option<Bus>,
    /// Commands for problems are run no more often.
    pub between: Duration,
}

impl Alerts {
    /// Whether anybody is to be told anything.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.on_problem.is_some() || self.on_recovered.is_some() || self.heartbeat.is_some() || self.desktop.is_some()
    }
}

/// Everything that a run needs to know.
pub struct Plan {
    /// dStor's base address.
    pub url: Url,
    /// Whose word on certificates counts beside the system's.
    pub authorities: Authorities,
    /// Where credentials come from.
    pub credentials: CredentialSource,
    /// The life that is asked for access tokens.
    pub token_lifetime: Duration,
    /// A request in which nothing moved for so long is dead.
    pub stall_timeout: Duration,
    /// What to mirror.
    pub mirrors: Vec<MirrorPlan>,
    /// Files and directories of ours that no mirror takes; absolute, without links. The state directory is one in any case.
    pub own: Vec<PathBuf>,
    /// To whom files are encrypted before they leave this machine; `None`: they go as they are.
    pub recipients: Option<Recipients>,
    /// Whether names travel as pseudonyms.
    pub hides_names: bool,
    /// Quiet time before a changed file is looked at.
    pub settle: Duration,
    /// A file that never goes quiet is looked at anyway after this.
    pub max_delay: Duration,
    /// Uploads at the same time; as many sessions, at the most, that dStor is still at work on come on top.
    pub workers: usize,
    /// Whether many small files go in one request.
    pub sessions: Sessions,
    /// How fast uploads may go, all of them together.
    pub bandwidth: Timetable,
    /// The system's bus, on which it is asked whether the connection is metered: nothing goes up then. `None`: all the same.
    pub heeds_metered: Option<Bus>,
    /// No back-off is longer.
    pub retry_max_delay: Duration,
    /// How long uploads under way may go on when it is time to stop.
    pub shutdown_grace: Duration,
    /// Bytes of stored files that are read back in a day; `None`: nothing.
    pub read_a_day: Option<u64>,
    /// The list of a mirror's files is stored on dStor no more often; `None`: not by the agent.
    pub list_every: Option<Duration>,
    /// Whom the agent tells.
    pub alerts: Alerts,
}

/// Why a run cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum AssembleError {
    /// The state directory cannot be made.
    #[error("cannot make the state directory `{}`", path.display())]
    StateDir {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The state directory is on a file system on which no ledger holds.
    #[error("the state directory `{}` is on {kind}, where the ledger would break", path.display())]
    Unfit {
        /// The directory.
        path: PathBuf,
        /// The file system.
        kind: &'static str,
    },
    /// Someone else works with the ledger.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The ledger cannot be used.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// There is no HTTP client.
    #[error(transparent)]
    Client(#[from] ClientError),
}

/// The ledger of a state directory, in this process's hands: nobody else writes it meanwhile. It outlives plans.
pub struct Hold {
    /// The ledger.
    pub ledger: SharedLedger,
    path: PathBuf,
    state_dir: PathBuf,
    since: Millis,
    // Last, so that it is given back last.
    _lock: AgentLock,
}

impl Hold {
    /// Blocking: takes the ledger in `state_dir`, which is made if it is not there.
    ///
    /// # Errors
    /// Each names what stands in the way.
    pub fn take(state_dir: &Path) -> Result<Self, AssembleError> {
        private_directory(state_dir)
            .map_err(|source| AssembleError::StateDir { path: state_dir.to_owned(), source })?;
        if let Some(kind) = unfit_for_a_ledger(state_dir) {
            return Err(AssembleError::Unfit { path: state_dir.to_owned(), kind });
        }
        let lock = AgentLock::take(state_dir)?;
        let (path, since) = (state_dir.join(LEDGER), Clock.now());
        let ledger = SharedLedger::new(open(&path, since)?)?;
        let state_dir = state_dir.canonicalize().unwrap_or_else(|_| state_dir.to_owned());
        Ok(Self { ledger, path, state_dir, since, _lock: lock })
    }
}

/// A run that is put together.
pub struct Works {
    /// The workers' shared part.
    pub uploader: Arc<Uploader>,
    /// The folders, in the plan's order.
    pub folders: Vec<Arc<Folder>>,
}

impl Plan {
    /// Tasks that work on changes: one for each upload at the same time, and, where files go in sessions, one for each session
    /// that dStor is at work on meanwhile.
    #[must_use]
    pub fn hands(&self) -> usize {
        match self.sessions {
            Sessions::Never => self.workers,
            Sessions::Auto | Sessions::Always => self.workers.saturating_mul(2),
        }
    }

    /// Blocking: the client for its dStor; it has asked nothing yet.
    ///
    /// # Errors
    /// If TLS cannot be set up.
    pub fn client(&self) -> Result<Client, ClientError> {
        let client = Client::new(ClientOptions {
            url: self.url.clone(),
            token_lifetime: self.token_lifetime,
            credentials: Arc::clone(&self.credentials),
            stall_timeout: self.stall_timeout,
            authorities: self.authorities.clone(),
        })?;
        Ok(client.limited_to(self.bandwidth.clone()))
    }

    /// Blocking: puts everything together over the ledger in `hold`, with [`client`](Self::client); nothing runs yet. What
    /// an earlier run had in its hands is taken back: none may be at work any more.
    ///
    /// # Errors
    /// The ledger's.
    pub fn assemble(
        &self,
        hold: &Hold,
        client: Client,
        report: Report,
        stop: watch::Receiver<Stop>,
    ) -> Result<Works, LedgerError> {
        let clock = Clock;
        let mirrors: Vec<MirrorSettings> = self.mirrors.iter().map(|mirror| mirror.settings.clone()).collect();
        let (now, since, url) = (clock.now(), hold.since, self.url.to_string());
        let latest = now.saturating_add(i64::try_from(self.retry_max_delay.as_millis()).unwrap_or(i64::MAX / 2));
        let straggling = self.straggling();
        let recipients: Vec<String> = self.recipients.iter().flat_map(Recipients::names).collect();
        let hides_names = self.hides_names;
        let (ids, name_key) = hold.ledger.with_blocking(move |ledger| {
            ledger.begin_agent(std::process::id(), &url, since)?;
            let ids = ledger.activate_mirrors(&mirrors)?;
            ledger.set_sealing(&recipients)?;
            let name_key = ledger.set_names_hidden(hides_names, || NameKey::new(drawn_key()))?;
            ledger.recover_changes(latest)?;
            ledger.send_again_after_stragglers(straggling, now)?;
            Ok((ids, name_key))
        })?;
        let own: Arc<[PathBuf]> = self.own.iter().cloned().chain([hold.state_dir.clone()]).collect();
        let folders: Vec<Arc<Folder>> = ids
            .into_iter()
            .zip(&self.mirrors)
            .map(|(id, mirror)| {
                let mut settings = mirror.settings.clone();
                settings.policy.names = name_key.as_ref().map_or(Names::Plain, |key| key.of_mirror(&settings.path));
                Folder::new(id, &settings, mirror.comment.clone()).without(Arc::clone(&own))
            })
            .map(Arc::new)
            .collect();
        let meter = self.heeds_metered.clone().map(|bus| Arc::new(Meter::new(bus)));
        let uploader = Uploader {
            queue: Arc::new(Queue::new(hold.ledger.clone(), hold.path.clone(), clock).heeding(meter)),
            client: Arc::new(client),
            gate: Gate::new(self.workers),
            roads: Roads::new(self.sessions),
            folders: folders.iter().map(|folder| (folder.id, Arc::clone(folder))).collect::<HashMap<_, _>>(),
            recipients: self.recipients.clone(),
            patience: Patience {
                settle: self.settle,
                max_delay: self.max_delay,
                retry_max_delay: self.retry_max_delay,
            },
            report,
            stop,
        };
        Ok(Works { uploader: Arc::new(uploader), folders })
    }
}

impl Plan {
    /// No upload that ended without word is on its way for longer. The kernel gives up what it cannot get rid of for
    /// `stall_timeout`; on a slow line, and before a service that is behind with its work, it takes a few times as long.
    #[must_use]
    pub fn straggling(&self) -> Duration {
        self.stall_timeout * 10
    }
}

/// Opens the ledger; a damaged one gives way to a new one.
fn open(path: &Path, now: Millis) -> Result<Ledger, LedgerError> {
    let (ledger, rescue) = Ledger::open_or_rescue(path, now)?;
    if let Some(Rescue { aside, copied_at, damage }) = rescue {
        let copied_at = copied_at.map(tracing::field::display);
        error!(
            aside = %aside.display(), copied_at_ms = copied_at, %damage,
            "the ledger was damaged and is set aside; everything is compared again, and what is not sure is sent again"
        );
    }
    Ok(ledger)
}

/// Makes a directory that only its owner can enter; one that is there is made so.
fn private_directory(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))
}
