//! From the configuration to a plan, and the sandbox beside it where one is asked for.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use reqwest::Url;
use secrecy::SecretString;

use crate::config::{self, Config, CredentialSources, Environment, Metered, Overrides, Poll};
use crate::dstor::{Authorities, CredentialSource, Credentials};
use crate::ledger::{AgentLock, MirrorSettings};
use crate::plan::{Alerts, LEDGER, MirrorPlan, Plan};
use crate::sandbox::{Options, Sandbox, SandboxError};
use crate::wording::shown;

use super::args::{Global, Run};
use super::exit::{Exit, Failure};
use super::output::Output;
use super::places::{SANDBOX, overrides};

/// The sandbox inside the agent listens here if it can, so that its links stay the same from run to run.
const SANDBOX_PORT: u16 = 4747;

/// What a run or a pass needs.
pub(super) struct Setup {
    pub(super) plan: Plan,
    /// What the plan was made from.
    pub(super) config: Config,
    pub(super) drafting: Drafting,
    pub(super) state_dir: PathBuf,
    pub(super) sandbox: Option<Sandbox>,
}

/// How this process comes to its plans: the same way each time that the configuration is read.
#[derive(Clone)]
pub(super) struct Drafting {
    overrides: Overrides,
    environment: Environment,
    /// The local dStor, where that takes everything: its address and its key.
    sandbox: Option<(Url, SecretString)>,
}

/// The runtime. Its threads wait most of the time: few are enough.
pub(super) fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(4).max_blocking_threads(128).enable_all().build()
}

/// Reads the configuration and starts the sandbox, if one is asked for.
pub(super) async fn prepare(global: &Global, run: &Run, output: &Output) -> Result<Setup, Failure> {
    let (overrides, environment) = (overrides(global, Some(run)), Environment::of_process());
    let mut drafting = Drafting { overrides, environment, sandbox: None };
    let (config, warnings) = drafting.read()?;
    for warning in warnings {
        output.note(format_args!("warning: {warning}"));
    }
    let state_dir = drafting.state_dir()?;
    if AgentLock::is_held(&state_dir) {
        return Err(crate::plan::AssembleError::Lock(crate::ledger::LockError::Held(state_dir)).into());
    }
    let mut sandbox = None;
    if run.sandbox {
        let started = start_sandbox(&state_dir).await?;
        let url =
            Url::parse(&started.url()).map_err(|_| Failure::new(Exit::Attention, "the sandbox has no address"))?;
        drafting.sandbox = Some((url, SecretString::from(started.api_key())));
        sandbox = Some(started);
    }
    let plan = drafting.plan(&config)?;
    Ok(Setup { plan, config, drafting, state_dir, sandbox })
}

impl Drafting {
    /// Blocking: reads the configuration, and what in it may not be what was meant.
    ///
    /// # Errors
    /// Why nothing can run by it.
    pub(super) fn read(&self) -> Result<(Config, Vec<String>), Failure> {
        let config = Config::load(&self.overrides, &self.environment)?;
        let mut warnings: Vec<String> = config.warnings().iter().map(ToString::to_string).collect();
        warnings.extend(never_seen(&config, &self.state_dir()?)?);
        if !self.overrides.sandbox {
            // Asked once now, so that a file that others can read is refused before anything begins.
            CredentialSources::new(&config, &self.environment).check()?;
        }
        Ok((config, warnings))
    }

    fn state_dir(&self) -> Result<PathBuf, Failure> {
        let base = config::state_dir(&self.overrides, &self.environment)?;
        Ok(if self.overrides.sandbox { base.join(SANDBOX) } else { base })
    }

    /// Blocking: the plan that a configuration makes.
    ///
    /// # Errors
    /// If the authorities that it names cannot be read.
    pub(super) fn plan(&self, config: &Config) -> Result<Plan, Failure> {
        let environment = &self.environment;
        if let Some((url, key)) = &self.sandbox {
            let key = key.clone();
            let credentials: CredentialSource = Arc::new(move || Ok(Some(Credentials::ApiKey(key.clone()))));
            // Its port may differ from run to run; what it holds does not.
            return Ok(Plan { heeds_metered: None, ..plan(url.clone(), SANDBOX, credentials, config, environment) });
        }
        let sources = CredentialSources::new(config, environment);
        let credentials: CredentialSource = Arc::new(move || {
            let found = sources.load().map_err(|error| error.to_string())?;
            Ok(found.map(|(credentials, _)| credentials))
        });
        let url = config.dstor.url.clone();
        let authorities = config.dstor.authorities()?;
        Ok(Plan { authorities, ..plan(url.clone(), url.as_str(), credentials, config, environment) })
    }
}

pub(super) async fn start_sandbox(state_dir: &std::path::Path) -> Result<Sandbox, SandboxError> {
    let mut options = Options::new(state_dir.join("dstor"));
    options.listen = SocketAddr::from((Ipv4Addr::LOCALHOST, SANDBOX_PORT));
    match Sandbox::start(options.clone()).await {
        Err(SandboxError::Listen { .. }) => {
            options.listen.set_port(0);
            Sandbox::start(options).await
        }
        started => started,
    }
}

/// A mirror's directory that is not there and never was is a mistyped path; one that was is a disk to wait for. Returns what
/// to say of those that are not there.
fn never_seen(config: &Config, state_dir: &std::path::Path) -> Result<Vec<String>, Failure> {
    let known = crate::ledger::Ledger::open_read_only(&state_dir.join(LEDGER))
        .and_then(|ledger| ledger.active_mirrors())
        .unwrap_or_default();
    const HINT: &str = "make the directory, mount its disk, or correct the path";
    let missing = config.missing_mirrors();
    let mut warnings = Vec::new();
    for mirror in &missing {
        let is_known = known.iter().any(|row| row.settings.path == mirror.path && row.root.is_some());
        let what = format!("the mirror `{}` does not exist", shown(&mirror.path));
        if !is_known && missing.len() == config.mirrors.len() {
            return Err(Failure::new(Exit::Config, what).with_hint(HINT));
        }
        // The others must not wait for it.
        warnings.push(format!("{what}; {HINT}"));
    }
    Ok(warnings)
}

fn plan(url: Url, service: &str, credentials: CredentialSource, config: &Config, environment: &Environment) -> Plan {
    Plan {
        url,
        authorities: Authorities::default(),
        credentials,
        token_lifetime: config.dstor.token_lifetime,
        stall_timeout: config.upload.stall_timeout,
        bandwidth: config.upload.bandwidth.clone(),
        alerts: Alerts {
            on_problem: config.alerts.on_problem.clone(),
            on_recovered: config.alerts.on_recovered.clone(),
            heartbeat: config.alerts.heartbeat.clone(),
            desktop: environment.session_bus().filter(|_| config.alerts.desktop),
            between: config.alerts.every,
        },
        heeds_metered: match config.upload.metered {
            Metered::Pause => Some(environment.system_bus()),
            Metered::Go => None,
        },
        mirrors: config
            .mirrors
            .iter()
            .map(|mirror| MirrorPlan {
                settings: MirrorSettings {
                    service: service.to_owned(),
                    path: mirror.path.clone(),
                    policy: mirror.policy.clone(),
                    exclude: mirror.exclude.clone(),
                    hidden: mirror.hidden,
                },
                comment: mirror.comment.clone(),
                poll: match mirror.poll {
                    Poll::Events => None,
                    Poll::Every(interval) => Some(interval),
                },
                rescan: mirror.rescan,
            })
            .collect(),
        own: config.own_paths(environment),
        recipients: config.encrypt.recipients.clone(),
        hides_names: config.encrypt.names,
        settle: config.watch.settle,
        max_delay: config.watch.max_delay,
        workers: config.upload.workers,
        sessions: config.upload.sessions,
        retry_max_delay: config.upload.retry_max_delay,
        shutdown_grace: config.upload.shutdown_grace,
        read_a_day: config.verify.budget,
        list_every: config.manifest.every,
    }
}
