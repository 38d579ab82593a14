//! `sync`: one pass, with progress bars on a terminal and plain lines otherwise.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use indicatif::ProgressBar;
use tokio::sync::watch;

use crate::dstor::link;
use crate::ledger::Counts;
use crate::local::{Difference, ScanSummary};
use crate::mirror::{MirrorPath, Observed, Skip};
use crate::plan::Plan;
use crate::sync::{EndedBy, SyncOutcome};
use crate::upload::{Clock, Folder, Happened, Report, Stop};
use crate::wording::{bytes, counted, files, shown, span};

use super::args::{Global, Sync};
use super::exit::{Exit, Failure};
use super::output::{Output, bar};
use super::{logs, setup, signals};

pub(super) fn run(global: &Global, command: &Sync, output: &Output) -> Result<Exit, Failure> {
    logs::start(global, command.run.log_format, output);
    let (stop, signal) = signals::listen()?;
    let runtime = setup::runtime()?;
    let result = runtime.block_on(async {
        let setup::Setup { mut plan, state_dir, sandbox, .. } = setup::prepare(global, &command.run, output).await?;
        // One pass looks at everything now; what is written meanwhile is noticed while it is read.
        plan.settle = Duration::ZERO;
        // Whoever starts it wants it now, whatever the connection costs.
        plan.heeds_metered = None;
        let exit = if command.dry_run {
            dry_run(&plan, &state_dir, stop, &signal, output).await
        } else {
            let progress = Arc::new(Progress::new(output, global.quiet));
            let (told, scanned) = (Arc::clone(&progress), Arc::clone(&progress));
            let url = plan.url.to_string();
            let report: Report = Arc::new(move |folder, path, happened| told.tell(&url, folder, path, happened));
            let scanned = Arc::new(move |folder: &Folder, summary: &ScanSummary| scanned.scanned(folder, summary));
            let outcome = crate::sync::run(&plan, &state_dir, report, scanned, stop).await?;
            progress.finish();
            Ok(conclude(&outcome, &progress, &signal, output))
        };
        if let Some(sandbox) = sandbox {
            sandbox.stop().await;
        }
        exit
    });
    runtime.shutdown_background();
    result
}

/// What is seen while it goes on.
struct Progress {
    bar: Option<ProgressBar>,
    is_quiet: bool,
    stored: AtomicU64,
    stored_bytes: AtomicU64,
}

impl Progress {
    fn new(output: &Output, is_quiet: bool) -> Self {
        let bar = (output.is_interactive() && !is_quiet).then(|| bar(Some(0)));
        Self { bar, is_quiet, stored: AtomicU64::new(0), stored_bytes: AtomicU64::new(0) }
    }

    fn scanned(&self, folder: &Folder, summary: &ScanSummary) {
        if let Some(bar) = &self.bar {
            bar.inc_length(summary.differences);
        } else if !self.is_quiet {
            let ScanSummary { directories, files: seen, bytes: size, differences, .. } = *summary;
            tracing::info!(mirror = %folder.path.display(), directories, files = seen, bytes = size, differences, "scanned");
        }
    }

    fn tell(&self, url: &str, folder: &Folder, path: &MirrorPath, happened: &Happened) {
        let line = match happened {
            Happened::Stored { hash, bytes } => {
                self.stored.fetch_add(1, Ordering::Relaxed);
                self.stored_bytes.fetch_add(*bytes, Ordering::Relaxed);
                self.step(path);
                if self.bar.is_some() {
                    return;
                }
                format!("stored   {}  {}", shown(path.under(&folder.path)), link(url, hash))
            }
            Happened::Skipped(skip @ Skip::Secret(_)) => {
                self.step(path);
                format!("held     {}  {}", shown(path.under(&folder.path)), skip.message())
            }
            Happened::Refreshed | Happened::Gone | Happened::Skipped(_) => return self.step(path),
            Happened::Failed(reason) => {
                self.step(path);
                format!("failed   {}  {reason}", shown(path.under(&folder.path)))
            }
            Happened::Postponed(reason, wait) => {
                format!("waiting  {}  {reason} (next try in {})", shown(path.under(&folder.path)), span(*wait))
            }
        };
        match &self.bar {
            Some(bar) => bar.println(line),
            None if self.is_quiet => {}
            None => {
                use std::io::Write as _;
                // A reader who has gone is no fault.
                let _ = writeln!(std::io::stdout().lock(), "{line}");
            }
        }
    }

    fn step(&self, path: &MirrorPath) {
        if let Some(bar) = &self.bar {
            bar.inc(1);
            bar.set_message(path.to_string());
        }
    }

    fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// The last line, and the exit status that tells the same.
fn conclude(outcome: &SyncOutcome, progress: &Progress, signal: &signals::Signal, output: &Output) -> Exit {
    let sum = |of: fn(&Counts) -> u64| outcome.counts.iter().map(of).sum::<u64>();
    let waiting = sum(|counts| counts.pending.files + counts.uploading.files);
    let failed = sum(|counts| counts.failed.files);
    let next = outcome
        .next_due_at
        .filter(|_| waiting > 0)
        .and_then(|at| u64::try_from(at - Clock.now()).ok())
        .map(|wait| format!(" (next try in {})", span(Duration::from_millis(wait))))
        .unwrap_or_default();
    let stored = progress.stored.load(Ordering::Relaxed);
    let size = bytes(progress.stored_bytes.load(Ordering::Relaxed));
    output.line(format_args!("{} stored ({size}), {waiting} waiting{next}, {failed} failed.", files(stored)));
    for (path, why) in &outcome.missing {
        output.note(format_args!("error: the mirror `{}` was not looked at: {why}", shown(path)));
    }
    if !outcome.missing.is_empty() {
        output.note("hint: `dstor-sync doctor` tells what to do");
    }
    match &outcome.ended_by {
        Some(EndedBy::Unreachable(why)) => {
            output.note(format_args!("error: {why}"));
            output.note("hint: what waits is sent by the next `dstor-sync sync`, or by the agent");
            Exit::Unreachable
        }
        Some(EndedBy::Credentials(why)) => {
            output.note(format_args!("error: {why}"));
            output.note(
                "hint: `dstor-sync login` stores others; or set DSTOR_API_KEY, or `api_key_file` in the configuration",
            );
            Exit::Credentials
        }
        Some(EndedBy::Stopped) => signal.exit(),
        None if failed > 0 => {
            output.note("hint: `dstor-sync ls --state failed` tells which and why");
            Exit::Attention
        }
        None if waiting > 0 => {
            output.note(
                "hint: what waits is sent by the next `dstor-sync sync`, or by the agent; `dstor-sync ls --state pending` tells why",
            );
            Exit::Attention
        }
        None if !outcome.missing.is_empty() => Exit::Attention,
        None => Exit::Fine,
    }
}

async fn dry_run(
    plan: &Plan,
    state_dir: &Path,
    stop: watch::Receiver<Stop>,
    signal: &signals::Signal,
    output: &Output,
) -> Result<Exit, Failure> {
    let each = Arc::new(|folder: &Folder, difference: &Difference| {
        use std::io::Write as _;
        let what = match difference.observed {
            Observed::Missing => "gone",
            Observed::Directory => "look",
            Observed::File(_) => "send",
            Observed::Other(..) => "skip",
        };
        let path: PathBuf = difference.path.under(&folder.path);
        // A reader who has gone is no fault.
        let _ = writeln!(std::io::stdout().lock(), "{what}  {}", shown(path));
    });
    let mut exit = Exit::Fine;
    for (path, scanned) in crate::sync::preview(plan, state_dir, each, stop.clone()).await? {
        match scanned {
            Ok(summary) => output.line(format_args!(
                "{}: {} in {} ({}), {} to look at.",
                shown(&path),
                files(summary.files),
                counted(summary.directories, "directory", "directories"),
                bytes(summary.bytes),
                summary.differences
            )),
            Err(why) => {
                output.note(format_args!("error: the mirror `{}` was not looked at: {why}", shown(&path)));
                output.note("hint: `dstor-sync doctor` tells what to do");
                exit = Exit::Attention;
            }
        }
    }
    Ok(if *stop.borrow() == Stop::Go { exit } else { signal.exit() })
}
