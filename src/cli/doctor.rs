//! `doctor`: one line a check, what to do below it, and a summary.

use std::time::Duration;

use crate::config::{self, Config, Environment};
use crate::doctor::{Check, Needs, Patient, Report, Verdict, examine};
use crate::plan::LEDGER;
use crate::wording::shown;

use super::args::{Doctor, Global};
use super::exit::{Exit, Failure};
use super::output::{Output, Tone};
use super::places::{SANDBOX, overrides};
use super::setup::runtime;

/// Whoever looks at directories for longer than this waits for a file system that hangs.
const ANSWER: Duration = Duration::from_secs(10);

pub(super) fn run(global: &Global, command: &Doctor, output: &Output) -> Result<Exit, Failure> {
    let patient = patient(global, command);
    let runtime = runtime()?;
    let report = runtime.block_on(examine(&patient));
    // What hangs in a share that is away must not keep the answer.
    runtime.shutdown_background();
    if command.json {
        output.line(serde_json::to_string_pretty(&report).map_err(std::io::Error::from)?);
    } else {
        show(&report, output);
    }
    Ok(match report.first_need() {
        None => Exit::Fine,
        Some(Needs::Config) => Exit::Config,
        Some(Needs::Credentials) => Exit::Credentials,
        Some(Needs::Hands) => Exit::Attention,
        Some(Needs::Network) => Exit::Unreachable,
    })
}

fn patient(global: &Global, command: &Doctor) -> Patient {
    let overrides = overrides(global, None);
    let environment = Environment::of_process();
    let base = config::state_dir(&overrides, &environment);
    let named =
        global.config.is_some() || config::config_path(&overrides, &environment).is_ok_and(|path| path.exists());
    let only_sandbox = |base: &std::path::Path| !base.join(LEDGER).exists() && base.join(SANDBOX).join(LEDGER).exists();
    let is_sandbox = command.which.sandbox || (!named && base.as_deref().is_ok_and(only_sandbox));
    Patient {
        config: Config::load_within(ANSWER, overrides, environment.clone()),
        has_config: named,
        state_dir: base.map(|base| if is_sandbox { base.join(SANDBOX) } else { base }),
        environment,
        is_sandbox,
        is_offline: command.offline,
    }
}

fn show(report: &Report, output: &Output) {
    for Check { name, verdict, what } in &report.0 {
        let (word, tone) = match verdict {
            Verdict::Ok => ("ok", Tone::Good),
            Verdict::Skipped => ("skip", Tone::Faint),
            Verdict::Warn(_) => ("warn", Tone::Busy),
            Verdict::Bad(..) => ("bad", Tone::Bad),
        };
        output.line(format_args!("{}  {name:<11}  {}", output.paint(&format!("{word:<4}"), tone), shown(what)));
        match verdict {
            Verdict::Ok | Verdict::Skipped => {}
            Verdict::Warn(hint) | Verdict::Bad(_, hint) => {
                output.line(format_args!("      {} {}", output.paint("hint:", Tone::Faint), shown(hint)));
            }
        }
    }
    output.line("");
    let (bad, warned, skipped) = (report.count("bad"), report.count("warn"), report.count("skip"));
    let (answer, tone) = match (bad, warned) {
        (0, 0) => ("all is well".to_owned(), Tone::Good),
        (0, warned) => (format!("nothing is wrong; {}", things(warned, "to know of")), Tone::Good),
        (bad, 0) => (things(bad, "wrong"), Tone::Bad),
        (bad, warned) => (format!("{}, {}", things(bad, "wrong"), things(warned, "to know of")), Tone::Bad),
    };
    let skipped = if skipped > 0 { format!(" ({skipped} not looked at)") } else { String::new() };
    output.line(format_args!("{}{skipped}", output.paint(&answer, tone)));
}

fn things(count: usize, what: &str) -> String {
    format!("{count} {} {what}", if count == 1 { "thing" } else { "things" })
}
