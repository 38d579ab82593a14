//! `run`: the agent in the foreground.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::{Notify, mpsc};
use tracing::{error, info, warn};

use crate::agent::Orders;
use crate::config::Config;
use crate::dstor::{Client, link};
use crate::mirror::MirrorPath;
use crate::plan::{AssembleError, Plan};
use crate::upload::{Folder, Happened, Report};
use crate::wording::{shown, span};

use super::args::{Global, Run};
use super::exit::{Exit, Failure};
use super::output::Output;
use super::{logs, setup, signals};

pub(super) fn run(global: &Global, run: &Run, output: &Output) -> Result<Exit, Failure> {
    logs::start(global, output);
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
        let whose = global.state_dir.as_ref().map(|dir| format!(" --state-dir {}", shown(dir))).unwrap_or_default();
        let sandboxed = if sandbox.is_some() { " --sandbox" } else { "" };
        output.line(format_args!("status   dstor-sync status{whose}{sandboxed}"));
        output.line("stop     Ctrl-C");
        let (plans_in, plans) = mpsc::channel(1);
        let orders =
            Orders { stop, plans, reports: Box::new(|plan| report(plan.url.to_string())), tell: Arc::new(|_| {}) };
        let ended = tokio::select! {
            ended = crate::agent::run(plan, &state_dir, orders) => ended,
            never = reload(drafting, config, &state_dir, &reread, plans_in) => match never {},
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

/// Reads the configuration again whenever `reread` rings, and hands over the plan that it makes, if it is another one that
/// can be used.
async fn reload(
    drafting: setup::Drafting,
    mut config: Config,
    state_dir: &Path,
    reread: &Notify,
    plans: mpsc::Sender<(Plan, Client)>,
) -> std::convert::Infallible {
    note_refused(state_dir, None);
    loop {
        reread.notified().await;
        info!("reading the configuration again");
        let reader = drafting.clone();
        // On a thread of its own: it may lie on a disk that hangs, and the agent must not.
        let read = tokio::task::spawn_blocking(move || {
            let (config, warnings) = reader.read()?;
            let plan = reader.plan(&config)?;
            let client = plan.client().map_err(AssembleError::from)?;
            Ok((config, warnings, plan, client))
        });
        let read = read.await.unwrap_or_else(|broke| Err(Failure::new(Exit::Attention, broke.to_string())));
        match read {
            Ok((new, warnings, plan, client)) => {
                note_refused(state_dir, None);
                for warning in warnings {
                    warn!("{warning}");
                }
                if new == config {
                    info!("the configuration is what it was; going on");
                    continue;
                }
                config = new;
                // Nobody takes it any more where the agent is ending, and so is this.
                let _ = plans.send((plan, client)).await;
            }
            Err(failure) => {
                for (what, hint) in &failure.said {
                    error!(error = %what, hint = hint.as_deref(), "the new configuration cannot be used; going on with the old one");
                }
                note_refused(state_dir, failure.said.first().map(|(what, _)| what.as_str()));
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
        Happened::Skipped(skip) => info!(%path, reason = skip.message(), "skipped"),
        Happened::Gone => info!(%path, "gone; dStor keeps it"),
        Happened::Refreshed => tracing::debug!(%path, "touched, not changed"),
        Happened::Postponed(reason, wait) => tracing::debug!(%path, %reason, wait = %span(*wait), "postponed"),
    })
}
