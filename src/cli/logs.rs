//! Where log lines go: stderr, at the level that was asked for.

use tracing_subscriber::EnvFilter;

use super::args::Global;
use super::output::Output;

/// Starts logging. `DSTOR_SYNC_LOG` takes a filter such as `debug` or `dstor_sync::upload=debug` and beats the flags.
pub(super) fn start(global: &Global, output: &Output) {
    let level = match (global.quiet, global.verbose) {
        (true, _) => "warn",
        (false, 0) => "dstor_sync=info,notify=error,warn",
        (false, 1) => "dstor_sync=debug,notify=error,info",
        (false, _) => "trace",
    };
    let filter = EnvFilter::try_from_env("DSTOR_SYNC_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    // Started once a process; a second start (in tests) changes nothing.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(output.colors_stderr())
        .with_target(false)
        .try_init();
}
