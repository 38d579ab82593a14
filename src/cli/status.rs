//! `status`: the answer first, then the numbers, then what to do.

mod watch;

use crate::ledger::Millis;
use crate::mirror::EMPTIED;
use crate::status::{FileCounts, MirrorStatus, Status};
use crate::upload::Clock;
use crate::wording::{bytes, distance, files, shown};

use super::args::{Global, Status as Command};
use super::exit::{Exit, Failure};
use super::output::{Output, Tone};
use super::places;

/// Problems that fit on a screen; the rest is for `ls`.
const SHOWN: usize = 10;

pub(super) fn run(global: &Global, command: &Command, output: &Output) -> Result<Exit, Failure> {
    let state_dir = places::state_dir(global, &command.which)?;
    if command.watch {
        return watch::run(&state_dir, command.json, output);
    }
    let status = Status::read(&state_dir)?;
    if command.json {
        output.line(serde_json::to_string_pretty(&status).map_err(std::io::Error::from)?);
    } else {
        lines(&status, Clock.now(), output).into_iter().for_each(|line| output.line(line));
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

/// What a person is told, a line each.
fn lines(status: &Status, now: Millis, output: &Output) -> Vec<String> {
    let (answer, tone) = answer(status, now);
    let mut lines = vec![output.paint(&answer, tone)];
    if let Some(as_of) = status.as_of {
        let start = "`dstor-sync run`, or its service, starts it";
        lines.push(format!("what is shown is as of {}; {start}", as_of.shown(now)));
    }
    lines.push(String::new());
    let agent = &status.agent;
    let since =
        agent.since.filter(|_| status.is_alive()).map(|at| format!(" since {}", at.shown(now))).unwrap_or_default();
    let pid = agent.pid.map(|pid| format!(", process {pid}")).unwrap_or_default();
    lines.push(format!("agent    {}{since}{pid}", agent.state));
    let dstor = &status.dstor;
    let reach = match dstor.reachable {
        Some(true) => "reachable",
        Some(false) => "not reachable",
        None => "not asked yet",
    };
    let url = dstor.url.as_deref().map_or("—".into(), shown);
    lines.push(format!("dStor    {url}, {reach}, credentials {}", dstor.auth));
    if let Some(error) = &dstor.last_error {
        lines.push(format!("         {}", shown(error)));
    }
    for mirror in &status.mirrors {
        lines.extend(mirror_lines(mirror, status, now, output));
    }
    for aside in &status.set_aside {
        let when = aside.at.shown(now);
        let what = format!(
            "ledger   was damaged at {when}, and begun anew; look at its disk, then remove {}*",
            aside.path.shown()
        );
        lines.push(output.paint(&what, Tone::Bad));
    }
    lines.extend(problem_lines(status, now, output));
    lines
}

/// Each problem, and what to do once for all of a kind that follow each other.
fn problem_lines(status: &Status, now: Millis, output: &Output) -> Vec<String> {
    let mut lines = Vec::new();
    if status.problems.is_empty() {
        return lines;
    }
    lines.push(String::new());
    let told = &status.problems[..status.problems.len().min(SHOWN)];
    for (at, problem) in told.iter().enumerate() {
        let tone = if matches!(problem.state, "failed" | "stored") { Tone::Bad } else { Tone::Busy };
        let next = problem.next_attempt_at.filter(|next| next.0 > now);
        let next = next.map(|next| format!("; next try {}", distance(next.0, now))).unwrap_or_default();
        lines.push(format!(
            "{}  {}: {}{next}",
            output.paint(&format!("{:<8}", problem.state), tone),
            problem.path.shown(),
            shown(&problem.message)
        ));
        if told.get(at + 1).is_none_or(|after| after.hint != problem.hint) {
            lines.push(format!("          {} {}", output.paint("hint:", Tone::Faint), problem.hint));
        }
    }
    if status.problems.len() > SHOWN {
        let more = status.problems.len() - SHOWN;
        lines.push(format!(
            "… and {more} more: `dstor-sync ls --state failed`, `dstor-sync ls --state pending`, `dstor-sync verify`"
        ));
    }
    lines
}

fn mirror_lines(mirror: &MirrorStatus, status: &Status, now: Millis, output: &Output) -> Vec<String> {
    let remote = match (&mirror.remote, mirror.remote_id) {
        (Some(path), _) if path.is_empty() => "/".to_owned(),
        (Some(path), _) => shown(path),
        (None, Some(id)) => format!("#{id}"),
        (None, None) => "?".to_owned(),
    };
    let scanned = mirror.last_scan_at.map_or("never".to_owned(), |at| at.shown(now));
    let mut lines = vec![
        format!("mirror   {} → {remote}", mirror.path.shown()),
        format!("         watched by {}, last full scan {scanned}", watch_word(mirror.watch, status.is_alive())),
    ];
    if let Some(note) = &mirror.watch_note {
        lines.push(output.paint(&format!("         {}", shown(note)), Tone::Busy));
    }
    let counts = &mirror.files;
    lines.push(format!(
        "         {} stored ({}), {} of them proved",
        files(counts.stored),
        bytes(mirror.bytes.stored),
        counts.proved
    ));
    lines.extend(encryption(counts, status).map(|line| format!("         {line}")));
    if let Some(at) = mirror.last_stored_at {
        lines.push(format!("         last stored {}", at.shown(now)));
    }
    if let Some(note) = mirror.proof_note {
        lines.push(format!("         {note}"));
    }
    if let Some(manifest) = &mirror.manifest {
        let (count, at) = (files(manifest.files), manifest.published_at.shown(now));
        lines.push(format!("         manifest {} of {at}, {count}", manifest.hash));
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
        lines.push(format!("         {}", others.join(", ")));
    }
    if counts.secrets > 0 {
        lines.push(format!("         {} held, not uploaded: they look like secrets;", files(counts.secrets)));
        lines.push("         `dstor-sync ls --state skipped` lists them".to_owned());
    }
    lines
}

/// What of the stored files is encrypted, where there is anything to say of that.
fn encryption(counts: &FileCounts, status: &Status) -> Option<String> {
    let FileCounts { stored, encrypted, .. } = *counts;
    match (stored.saturating_sub(encrypted), status.encrypt.recipients.is_empty()) {
        (0, true) if stored == 0 => None,
        (0, false) if stored == 0 => Some("new files are encrypted".to_owned()),
        (0, _) => Some("all of them encrypted".to_owned()),
        (_, true) if encrypted == 0 => None,
        (_, true) => Some(format!("{encrypted} of them encrypted; new files are not")),
        // It stays so until they change: nobody has asked to have them sent again.
        (open, false) => Some(format!("{open} of them not encrypted: stored before encryption was turned on")),
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
pub(super) fn answer(status: &Status, now: Millis) -> (String, Tone) {
    let sum = |of: fn(&MirrorStatus) -> u64| status.mirrors.iter().map(of).sum::<u64>();
    let failed = sum(|mirror| mirror.files.failed);
    let waiting = sum(|mirror| mirror.files.pending + mirror.files.uploading);
    let missing: Vec<String> =
        status.mirrors.iter().filter(|mirror| mirror.watch == "missing").map(|mirror| mirror.path.shown()).collect();
    if !status.is_alive() {
        let left = if waiting > 0 { format!("; {waiting} waiting") } else { String::new() };
        return match status.agent.state {
            "dead" => (format!("not running: the agent ended unexpectedly{left}"), Tone::Bad),
            _ => (format!("not running{left}"), Tone::Busy),
        };
    }
    match status.dstor.auth {
        "refused" => {
            return ("needs you: dStor refuses the credentials; `dstor-sync login` stores others".into(), Tone::Bad);
        }
        "missing" => {
            let hint = "`dstor-sync login` stores them";
            return (format!("needs you: there are no credentials; {hint}"), Tone::Bad);
        }
        _ => {}
    }
    if let Some(why) = &status.agent.config_error {
        return (
            format!("needs you: the new configuration cannot be used: {}; the old one goes on", shown(why)),
            Tone::Bad,
        );
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
        let end = status.agent.paused_until.map_or("`dstor-sync resume`".to_owned(), |at| at.shown(now));
        return (format!("paused until {end}: {waiting} waiting"), Tone::Busy);
    }
    if status.agent.metered && waiting > 0 {
        let hint = "`metered = \"go\"` in [upload] has them go all the same";
        return (format!("waiting: the connection is metered; {waiting} waiting; {hint}"), Tone::Busy);
    }
    let next = status.next_attempt_at.filter(|at| at.0 > now && waiting > 0);
    let next = next.map(|at| format!(", the next try {}", distance(at.0, now))).unwrap_or_default();
    if waiting > 0 && status.dstor.reachable == Some(false) {
        return (format!("dStor cannot be reached; {waiting} waiting{next}"), Tone::Busy);
    }
    match (status.agent.state, waiting) {
        ("starting", _) => ("starting: the first scan is under way".into(), Tone::Busy),
        (_, 0) => ("in sync".into(), Tone::Good),
        (_, waiting) => (format!("working: {waiting} waiting{next}"), Tone::Busy),
    }
}
