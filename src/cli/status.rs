//! `status`: the answer first, then the numbers, then what to do.

use crate::mirror::EMPTIED;
use crate::status::{MirrorStatus, Status};
use crate::wording::{bytes, files, shown};

use super::args::{Global, Status as Command};
use super::exit::{Exit, Failure};
use super::output::{Output, Tone};
use super::places;

/// Problems that fit on a screen; the rest is for `ls`.
const SHOWN: usize = 10;

pub(super) fn run(global: &Global, command: &Command, output: &Output) -> Result<Exit, Failure> {
    let state_dir = places::state_dir(global, &command.which)?;
    let status = Status::read(&state_dir)?;
    if command.json {
        output.line(serde_json::to_string_pretty(&status).map_err(std::io::Error::from)?);
    } else {
        show(&status, output);
    }
    let exit = match (status.is_alive(), status.needs_attention()) {
        (false, _) => Exit::NotRunning,
        (true, true) => Exit::Attention,
        (true, false) => Exit::Fine,
    };
    if exit == Exit::NotRunning
        && let Some(other) = places::other_agent(&state_dir)
    {
        output.note(format_args!("hint: {other}"));
    }
    Ok(exit)
}

fn show(status: &Status, output: &Output) {
    let (answer, tone) = answer(status);
    output.line(output.paint(&answer, tone));
    output.line("");
    let agent = &status.agent;
    let since = agent.since.as_deref().map(|since| format!(" since {since}")).unwrap_or_default();
    let pid = agent.pid.map(|pid| format!(", process {pid}")).unwrap_or_default();
    let since = if status.is_alive() { since } else { String::new() };
    output.line(format_args!("agent    {}{since}{pid}", agent.state));
    let dstor = &status.dstor;
    let reach = match dstor.reachable {
        Some(true) => "reachable",
        Some(false) => "not reachable",
        None => "not asked yet",
    };
    let url = dstor.url.as_deref().map_or("—".into(), shown);
    output.line(format_args!("dStor    {url}, {reach}, credentials {}", dstor.auth));
    if let Some(error) = &dstor.last_error {
        output.line(format_args!("         {}", shown(error)));
    }
    for mirror in &status.mirrors {
        show_mirror(mirror, status.is_alive(), output);
    }
    for aside in &status.set_aside {
        output.line(output.paint(
            &format!(
                "ledger   was damaged at {}, and begun anew; look at its disk, then remove {}*",
                aside.at,
                aside.path.shown()
            ),
            Tone::Bad,
        ));
    }
    if status.problems.is_empty() {
        return;
    }
    output.line("");
    for problem in status.problems.iter().take(SHOWN) {
        let tone = if matches!(problem.state, "failed" | "stored") { Tone::Bad } else { Tone::Busy };
        let next = problem.next_attempt_at.as_deref().map(|at| format!("; next try {at}")).unwrap_or_default();
        output.line(format_args!(
            "{}  {}: {}{next}",
            output.paint(&format!("{:<8}", problem.state), tone),
            problem.path.shown(),
            shown(&problem.message)
        ));
    }
    if status.problems.len() > SHOWN {
        let more = status.problems.len() - SHOWN;
        output.line(format_args!(
            "… and {more} more: `dstor-sync ls --state failed`, `dstor-sync ls --state pending`, `dstor-sync verify`"
        ));
    }
}

fn show_mirror(mirror: &MirrorStatus, is_alive: bool, output: &Output) {
    let remote = match (&mirror.remote, mirror.remote_id) {
        (Some(path), _) if path.is_empty() => "/".to_owned(),
        (Some(path), _) => shown(path),
        (None, Some(id)) => format!("#{id}"),
        (None, None) => "?".to_owned(),
    };
    let scanned = mirror.last_scan_at.as_deref().unwrap_or("never");
    output.line(format_args!("mirror   {} → {remote}", mirror.path.shown()));
    output.line(format_args!("         watched by {}, last full scan {scanned}", watch_word(mirror.watch, is_alive)));
    if let Some(note) = &mirror.watch_note {
        output.line(output.paint(&format!("         {}", shown(note)), Tone::Busy));
    }
    let counts = &mirror.files;
    output.line(format_args!(
        "         {} stored ({}), {} of them proved",
        files(counts.stored),
        bytes(mirror.bytes.stored),
        counts.proved
    ));
    if let Some(note) = mirror.proof_note {
        output.line(format_args!("         {note}"));
    }
    let others = [
        (counts.pending, "pending"),
        (counts.uploading, "uploading"),
        (counts.failed, "failed"),
        (counts.skipped, "skipped"),
        (counts.gone, "gone"),
        (counts.missing, "missing on dStor"),
        (counts.different, "different on dStor"),
    ];
    let others: Vec<String> =
        others.into_iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}")).collect();
    if !others.is_empty() {
        output.line(format_args!("         {}", others.join(", ")));
    }
}

fn watch_word(watch: &str, is_alive: bool) -> &str {
    match watch {
        _ if !is_alive => "nobody",
        "polling" => "scans only",
        "missing" => "nobody: its directory is missing",
        other => other,
    }
}

/// One line: whether all is well, and if not, what it needs.
pub(super) fn answer(status: &Status) -> (String, Tone) {
    let sum = |of: fn(&MirrorStatus) -> u64| status.mirrors.iter().map(of).sum::<u64>();
    let failed = sum(|mirror| mirror.files.failed);
    let waiting = sum(|mirror| mirror.files.pending + mirror.files.uploading);
    let missing: Vec<String> =
        status.mirrors.iter().filter(|mirror| mirror.watch == "missing").map(|mirror| mirror.path.shown()).collect();
    if !status.is_alive() {
        let left = if waiting > 0 { format!("; {waiting} waiting") } else { String::new() };
        return match status.agent.state {
            "dead" => (format!("not running: the agent ended without a word{left}"), Tone::Bad),
            _ => (format!("not running{left}"), Tone::Busy),
        };
    }
    match status.dstor.auth {
        "refused" => return ("needs you: dStor refuses the credentials; give it new ones".into(), Tone::Bad),
        "missing" => {
            let hint = "`dstor-sync login` stores them";
            return (format!("needs you: there are no credentials; {hint}"), Tone::Bad);
        }
        _ => {}
    }
    if let Some(why) = &status.agent.config_error {
        return (format!("needs you: the new configuration cannot be used, the old one is: {}", shown(why)), Tone::Bad);
    }
    if !missing.is_empty() {
        return (format!("needs you: missing: {}", missing.join(", ")), Tone::Bad);
    }
    if failed > 0 {
        return (format!("needs you: {} failed", files(failed)), Tone::Bad);
    }
    let lost = sum(|mirror| mirror.files.missing + mirror.files.different);
    if lost > 0 {
        let hint = "`dstor-sync verify --repair` uploads again";
        return (format!("needs you: dStor does not give back {} as stored; {hint}", files(lost)), Tone::Bad);
    }
    if !status.set_aside.is_empty() {
        return ("needs you: the ledger was damaged; nothing is lost, but look at its disk".into(), Tone::Bad);
    }
    if status.problems.iter().any(|problem| problem.code == EMPTIED) {
        return ("needs you: many files are suddenly empty, and are not uploaded; see below".into(), Tone::Bad);
    }
    if status.needs_attention() {
        return ("needs you: see below".into(), Tone::Bad);
    }
    if status.agent.paused {
        let end = status.agent.paused_until.as_deref().unwrap_or("`dstor-sync resume`");
        return (format!("paused until {end}: {waiting} waiting"), Tone::Busy);
    }
    if waiting > 0 && status.dstor.reachable == Some(false) {
        return (format!("dStor cannot be reached; {waiting} waiting"), Tone::Busy);
    }
    match (status.agent.state, waiting) {
        ("starting", _) => ("starting: the first scan is under way".into(), Tone::Busy),
        (_, 0) => ("in sync".into(), Tone::Good),
        (_, waiting) => (format!("working: {waiting} waiting"), Tone::Busy),
    }
}
