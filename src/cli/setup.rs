//! From the configuration to a plan, and the sandbox beside it where one is asked for.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use reqwest::Url;
use secrecy::SecretString;

use crate::config::{self, Config, CredentialSources, Environment, Poll};
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
    pub(super) state_dir: PathBuf,
    pub(super) sandbox: Option<Sandbox>,
}

/// The runtime. Its threads wait most of the time: few are enough.
pub(super) fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(4).max_blocking_threads(128).enable_all().build()
}

/// Reads the configuration and starts the sandbox, if one is asked for.
pub(super) async fn prepare(global: &Global, run: &Run, output: &Output) -> Result<Setup, Failure> {
    let overrides = overrides(global, Some(run));
    let environment = Environment::of_process();
    let config = Config::load(&overrides, &environment)?;
    for warning in config.warnings() {
        output.note(format_args!("warning: {warning}"));
    }
    let base = config::state_dir(&overrides, &environment)?;
    let state_dir = if run.sandbox { base.join(SANDBOX) } else { base };
    never_seen(&config, &state_dir, output)?;
    if AgentLock::is_held(&state_dir) {
        return Err(crate::plan::AssembleError::Lock(crate::ledger::LockError::Held(state_dir)).into());
    }
    if !run.sandbox {
        let sources = CredentialSources::new(&config, &environment);
        // Asked once now, so that a file that others can read is refused before anything begins.
        sources.load()?;
        let credentials: CredentialSource = Arc::new(move || {
            let found = sources.load().map_err(|error| error.to_string())?;
            Ok(found.map(|(credentials, _)| credentials))
        });
        let url = config.dstor.url.clone();
        let authorities = config.dstor.authorities()?;
        let plan = Plan { authorities, ..plan(url.clone(), url.as_str(), credentials, &config, &environment) };
        return Ok(Setup { plan, state_dir, sandbox: None });
    }
    let sandbox = start_sandbox(&state_dir).await?;
    let key = SecretString::from(sandbox.api_key());
    let credentials: CredentialSource = Arc::new(move || Ok(Some(Credentials::ApiKey(key.clone()))));
    let url = Url::parse(&sandbox.url()).map_err(|_| Failure::new(Exit::Attention, "the sandbox has no address"))?;
    // Its port may differ from run to run; what it holds does not.
    let plan = plan(url, SANDBOX, credentials, &config, &environment);
    Ok(Setup { plan, state_dir, sandbox: Some(sandbox) })
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

/// A mirror's directory that is not there and never was is a mistyped path; one that was is a disk to wait for.
fn never_seen(config: &Config, state_dir: &std::path::Path, output: &Output) -> Result<(), Failure> {
    let known = crate::ledger::Ledger::open_read_only(&state_dir.join(LEDGER))
        .and_then(|ledger| ledger.active_mirrors())
        .unwrap_or_default();
    const HINT: &str = "make the directory, mount its disk, or correct the path";
    let missing = config.missing_mirrors();
    for mirror in &missing {
        let is_known = known.iter().any(|row| row.settings.path == mirror.path && row.root.is_some());
        let what = format!("the mirror `{}` does not exist", shown(&mirror.path));
        if !is_known && missing.len() == config.mirrors.len() {
            return Err(Failure::new(Exit::Config, what).with_hint(HINT));
        }
        // The others must not wait for it.
        output.note(format_args!("warning: {what}; {HINT}"));
    }
    Ok(())
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
            between: config.alerts.every,
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
        settle: config.watch.settle,
        max_delay: config.watch.max_delay,
        workers: config.upload.workers,
        sessions: config.upload.sessions,
        retry_max_delay: config.upload.retry_max_delay,
        shutdown_grace: config.upload.shutdown_grace,
        read_a_day: config.verify.budget,
    }
}
