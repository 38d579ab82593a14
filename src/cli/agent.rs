//! `run`: the agent in the foreground.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::{Notify, mpsc};
use tracing::{error, info, warn};

use crate::agent::{Orders, Vitals};
use crate::config::Config;
use crate::dstor::{Client, link};
use crate::mirror::{MirrorPath, Skip};
use crate::plan::{AssembleError, Plan};
use crate::service::Manager;
use crate::upload::{Folder, Happened, Report};
use crate::wording::{shown, span};

use super::args::{Global, Run};
use super::exit::{Exit, Failure};
use super::output::Output;
use super::{logs, manager, setup, signals};

pub(super) fn run(global: &Global, run: &Run, output: &Output) -> Result<Exit, Failure> {
    logs::start(global, run.log_format, output);
    let (stop, reread) = signals::listen_for_an_agent()?;
    let runtime = setup::runtime()?;
    let result = runtime.block_on(async {
        let setup::Setup { plan, config, drafting, state_dir, sandbox } = setup::prepare(global, run, output).await?;
        for mirror in &plan.mirrors {
            let settings = &mirror.settings;
            output.line(format_args!("mirror   {} → {}", shown(&settings.path), settings.policy.placement));
        }
        match &sandbox {
            Some(sandbox) => output.line(format_args!(
                "dStor    {} (a sandbox on this machine; look at it with a browser)",
                sandbox.url()
            )),
            None => output.line(format_args!("dStor    {}", plan.url.as_str().trim_end_matches('/'))),
        }
        let service = Manager::of_process().map(Arc::new);
        // Where a service manager chose it, nobody else finds it by themselves.
        let is_named = global.state_dir.is_some() || std::env::var_os("STATE_DIRECTORY").is_some();
        let base = if sandbox.is_some() { state_dir.parent() } else { Some(state_dir.as_path()) };
        let named = base.filter(|_| is_named).map(|dir| format!(" --state-dir {}", shown(dir))).unwrap_or_default();
        let sandboxed = if sandbox.is_some() { " --sandbox" } else { "" };
        output.line(format_args!("status   dstor-sync status{named}{sandboxed}"));
        if service.is_none() {
            output.line("stop     Ctrl-C");
        }
        let vitals = Arc::new(Vitals::default());
        let (plans_in, plans) = mpsc::channel(1);
        let orders = Orders {
            stop,
            plans,
            reports: Box::new(|plan| report(plan.url.to_string())),
            tell: manager::tell(service.clone()),
            vitals: Arc::clone(&vitals),
        };
        let service = service.as_deref();
        let reloading = Reloading { drafting, state_dir: &state_dir, reread: &reread, plans: plans_in, service };
        let attending = async {
            match service {
                Some(service) => manager::attend(service, &state_dir, &vitals).await,
                None => std::future::pending().await,
            }
        };
        // A task of its own, so that what blocks in it keeps nobody from saying that it does.
        let dir = state_dir.clone();
        let running = tokio::spawn(async move { crate::agent::run(plan, &dir, orders).await });
        let ended = tokio::select! {
            ended = running => ended.unwrap_or_else(|broke| std::panic::resume_unwind(broke.into_panic())),
            never = reloading.follow(config) => match never {},
            never = attending => match never {},
        };
        if let Some(sandbox) = sandbox {
            sandbox.stop().await;
        }
        ended.map_err(Failure::from)
    });
    // Reads that hang (a dead network share) must not keep the process (F1).
    runtime.shutdown_background();
    result.map(|()| Exit::Fine)
}

/// Reads the configuration again whenever it is told to.
struct Reloading<'a> {
    drafting: setup::Drafting,
    state_dir: &'a Path,
    /// Rings when it is to be read.
    reread: &'a Notify,
    /// Where other plans go, with the client for their dStor.
    plans: mpsc::Sender<(Plan, Client)>,
    service: Option<&'a Manager>,
}

impl Reloading<'_> {
    /// Hands over the plan of each new configuration, if it is another one than that before, first `config`, and can be
    /// used.
    async fn follow(self, mut config: Config) -> Infallible {
        note_refused(self.state_dir, None);
        loop {
            self.reread.notified().await;
            info!("reading the configuration again");
            if let Some(service) = self.service {
                service.reloading();
            }
            if let Some((new, plan, client)) = self.read().await
                && new != config
            {
                config = new;
                // Nobody takes it any more where the agent is ending, and so is this. It tells when it is at work by it.
                let _ = self.plans.send((plan, client)).await;
                continue;
            }
            info!("going on with the configuration that it has");
            if let Some(service) = self.service {
                service.ready();
            }
        }
    }

    /// The configuration as it is now, and all that is to be tried before anything is given up for it. `None`: it cannot be
    /// used, and was told of.
    async fn read(&self) -> Option<(Config, Plan, Client)> {
        let drafting = self.drafting.clone();
        // On a thread of its own: it may lie on a disk that hangs, and the agent must not.
        let read = tokio::task::spawn_blocking(move || {
            let (config, warnings) = drafting.read()?;
            let plan = drafting.plan(&config)?;
            let client = plan.client().map_err(AssembleError::from)?;
            Ok((config, warnings, plan, client))
        });
        match read.await.unwrap_or_else(|broke| Err(Failure::new(Exit::Attention, broke.to_string()))) {
            Ok((config, warnings, plan, client)) => {
                note_refused(self.state_dir, None);
                for warning in warnings {
                    warn!("{warning}");
                }
                Some((config, plan, client))
            }
            Err(failure) => {
                for (what, hint) in &failure.said {
                    error!(error = %what, hint = hint.as_deref(), "the new configuration cannot be used");
                }
                note_refused(self.state_dir, failure.said.first().map(|(what, _)| what.as_str()));
                None
            }
        }
    }
}

/// Leaves word for `status`; the log has it in any case.
fn note_refused(state_dir: &Path, why: Option<&str>) {
    if let Err(error) = crate::status::note_refused_configuration(state_dir, why) {
        warn!(%error, "`status` cannot be told about the configuration");
    }
}

/// Tells the log what happened to each path.
fn report(url: String) -> Report {
    Arc::new(move |_: &Folder, path: &MirrorPath, happened: &Happened| match happened {
        Happened::Stored { hash, bytes } => info!(%path, bytes, link = %link(&url, hash), "stored"),
        Happened::Failed(reason) => warn!(%path, %reason, "failed"),
        Happened::Skipped(skip @ Skip::Secret(_)) => warn!(%path, reason = %skip.message(), "held"),
        Happened::Skipped(skip) => info!(%path, reason = %skip.message(), "skipped"),
        Happened::Gone => info!(%path, "gone; dStor keeps it"),
        Happened::Refreshed => tracing::debug!(%path, "touched, not changed"),
        Happened::Postponed(reason, wait) => tracing::debug!(%path, %reason, wait = %span(*wait), "postponed"),
    })
}
