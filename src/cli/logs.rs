//! Where log lines go: stderr, at the level that was asked for.

use tracing::field::Field;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{Writer, debug_fn};

use super::args::Global;
use super::output::Output;
use crate::wording::shown;

/// Starts logging. `DSTOR_SYNC_LOG` takes a filter such as `debug` or `dstor_sync::upload=debug` and beats the flags.
pub(super) fn start(global: &Global, output: &Output) {
    let level = match (global.quiet, global.verbose) {
        (true, _) => "notify=error,warn",
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
        .fmt_fields(debug_fn(write_field))
        // Where stderr is gone it cannot tell so either, and would end the agent for it (F14).
        .log_internal_errors(false)
        .try_init();
}

/// Writes a field so that nothing in it acts on a terminal, whoever logged it: paths and servers' words are in them (B17).
fn write_field(out: &mut Writer<'_>, field: &Field, value: &dyn std::fmt::Debug) -> std::fmt::Result {
    let value = shown(format!("{value:?}"));
    match field.name() {
        "message" => out.write_str(&value),
        // Where a line of another library came from: that is in its head.
        name if name.starts_with("log.") => Ok(()),
        name => write!(out, " {name}={value}"),
    }
}
