//! `run`: the agent in the foreground.

use std::sync::Arc;

use tracing::{info, warn};

use crate::dstor::link;
use crate::mirror::MirrorPath;
use crate::upload::{Folder, Happened, Report};
use crate::wording::{shown, span};

use super::args::{Global, Run};
use super::exit::{Exit, Failure};
use super::output::Output;
use super::{logs, setup, signals};

pub(super) fn run(global: &Global, run: &Run, output: &Output) -> Result<Exit, Failure> {
    logs::start(global, output);
    let (stop, _) = signals::listen()?;
    let runtime = setup::runtime()?;
    let result = runtime.block_on(async {
        let setup::Setup { plan, state_dir, sandbox } = setup::prepare(global, run, output).await?;
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
        let report = report(plan.url.to_string());
        let ended = crate::agent::run(&plan, &state_dir, report, stop).await;
        if let Some(sandbox) = sandbox {
            sandbox.stop().await;
        }
        ended.map_err(Failure::from)
    });
    // Reads that hang (a dead network share) must not keep the process (F1).
    runtime.shutdown_background();
    result.map(|()| Exit::Fine)
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
