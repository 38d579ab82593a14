//! Tells a person who does not look: runs their commands when something needs them and when it is over, and fetches their
//! heartbeat address after each scan that left everything stored.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use reqwest::{Url, redirect};
use rustix::process::{Pid, Signal, kill_process_group};
use serde::Serialize;
use tokio::sync::watch;
use tracing::{debug, warn};

use crate::desktop::{Urgency, notify};
use crate::ledger::{LedgerError, Millis};
use crate::local::uptime;
use crate::mirror::{Alarm, Alert};
use crate::plan::Alerts;
use crate::status::Status;
use crate::upload::Stop;

/// How often it looks how things stand.
const LOOK: Duration = Duration::from_secs(5);
/// A command that takes longer is ended.
const LONGEST_COMMAND: Duration = Duration::from_secs(60);
/// How often it is looked whether a command has ended.
const ENDED: Duration = Duration::from_millis(50);
/// A heartbeat that takes longer has failed.
const LONGEST_BEAT: Duration = Duration::from_secs(30);
/// After a heartbeat that failed.
const BEAT_AGAIN: Duration = Duration::from_secs(60);
/// The form of what commands are given.
const SCHEMA: u32 = 1;
/// Credentials in our environment are nothing for a command of somebody's.
const SECRETS: [&str; 3] = ["DSTOR_API_KEY", "DSTOR_EMAIL", "DSTOR_PASSWORD"];

pub(super) struct Alerter {
    pub(super) alerts: Alerts,
    /// What was told so far, by this plan or one before it.
    pub(super) told: Arc<Mutex<Told>>,
    pub(super) state_dir: PathBuf,
    pub(super) stop: watch::Receiver<Stop>,
}

/// What was told, and by which means.
#[derive(Default)]
pub(super) struct Told {
    alarm: Alarm,
    by: Option<Means>,
}

/// Commands for a problem and for its end, and whether a desktop shows them.
type Means = (Option<String>, Option<String>, bool);

impl Told {
    fn look(&mut self, alerts: &Alerts, status: &Status) -> Option<Alert> {
        let by = (alerts.on_problem.clone(), alerts.on_recovered.clone(), alerts.desktop.is_some());
        if self.by.as_ref() != Some(&by) {
            // Who is asked to tell from now on was told nothing.
            *self = Self { alarm: Alarm::default(), by: Some(by) };
        }
        self.alarm.look(problem(status), alerts.between, uptime())
    }
}

/// What a command reads.
#[derive(Serialize)]
struct Facts<'a> {
    schema: u32,
    event: &'a str,
    status: &'a Status,
}

impl Alerter {
    pub(super) async fn alert(self) -> Result<(), LedgerError> {
        // The scan that the last heartbeat was for.
        let (mut beat_for, mut beat_failed_at) = (None, None);
        while self.alerts.is_wanted() && !Stop::within(&self.stop, LOOK).await {
            let state_dir = self.state_dir.clone();
            let read = tokio::task::spawn_blocking(move || Status::read(&state_dir)).await;
            // What the ledger cannot tell now it tells next time.
            let Ok(Ok(status)) = read else { continue };
            let alert = self.told.lock().unwrap_or_else(PoisonError::into_inner).look(&self.alerts, &status);
            if let Some(alert) = alert {
                self.run(alert, &status).await;
            }
            let scanned = last_scan(&status);
            let may_beat = beat_failed_at.is_none_or(|at: Instant| at.elapsed() >= BEAT_AGAIN);
            if let Some(url) =
                self.alerts.heartbeat.as_ref().filter(|_| scanned.is_some() && scanned != beat_for && may_beat)
            {
                match beat(url).await {
                    Ok(()) => (beat_for, beat_failed_at) = (scanned, None),
                    Err(error) => {
                        if beat_failed_at.is_none() {
                            // Without the address: who knows it can send heartbeats in our name.
                            warn!(error = %error.without_url(), "the heartbeat address cannot be fetched; trying again");
                        }
                        beat_failed_at = Some(Instant::now());
                    }
                }
            }
        }
        Ok(())
    }

    async fn run(&self, alert: Alert, status: &Status) {
        let (command, event) = match alert {
            Alert::Problem => (&self.alerts.on_problem, "problem"),
            Alert::Recovered => (&self.alerts.on_recovered, "recovered"),
        };
        self.show(alert).await;
        let Some(command) = command.clone() else { return };
        let facts = serde_json::to_vec(&Facts { schema: SCHEMA, event, status });
        let Ok(facts) = facts else { return };
        debug!(event, "running the command for it");
        let ran = tokio::task::spawn_blocking(move || run(&command, event, facts)).await;
        match ran {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(event, %error, "the command that tells of it failed"),
            Err(error) => warn!(event, %error, "the command that tells of it was not run"),
        }
    }
}

impl Alerter {
    /// Shows it on the desktop.
    async fn show(&self, alert: Alert) {
        let Some(bus) = &self.alerts.desktop else { return };
        let (summary, urgency) = match alert {
            Alert::Problem => ("dstor-sync needs you", Urgency::Critical),
            Alert::Recovered => ("dstor-sync: all is well again", Urgency::Normal),
        };
        if let Err(error) = notify(bus, summary, "dstor-sync status tells more", urgency).await {
            warn!(%error, "the desktop shows no notice of it");
        }
    }
}

/// What needs a person, as a number: another one for another problem.
fn problem(status: &Status) -> Option<u64> {
    if !status.needs_attention() {
        return None;
    }
    let mut hasher = DefaultHasher::new();
    status.dstor.auth.hash(&mut hasher);
    status.set_aside.len().hash(&mut hasher);
    for mirror in &status.mirrors {
        (mirror.watch, mirror.files.failed > 0, mirror.files.missing > 0, mirror.files.different > 0).hash(&mut hasher);
    }
    let mut codes: Vec<&str> = status.problems.iter().map(|problem| problem.code.as_str()).collect();
    codes.sort_unstable();
    codes.dedup();
    codes.hash(&mut hasher);
    Some(hasher.finish())
}

/// When all mirrors were last scanned, if what was found is stored to the last file.
fn last_scan(status: &Status) -> Option<Millis> {
    let is_stored = status.mirrors.iter().all(|mirror| {
        let files = &mirror.files;
        files.pending + files.uploading + files.failed + files.missing + files.different == 0
    });
    if !is_stored || status.needs_attention() {
        return None;
    }
    let scans: Option<Vec<Millis>> = status.mirrors.iter().map(|mirror| Some(mirror.last_scan_at?.0)).collect();
    // The one that was scanned longest ago speaks for all.
    scans?.into_iter().min()
}

async fn beat(url: &Url) -> reqwest::Result<()> {
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("dstor-sync/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::limited(3))
        .timeout(LONGEST_BEAT);
    if url.scheme() == "http" {
        // Else a machine without CA certificates could not fetch it.
        builder = builder.tls_certs_only([]);
    }
    builder.build()?.get(url.clone()).send().await?.error_for_status().map(|_| ())
}

/// Blocking: runs `command` with `facts` on its standard input, for at most [`LONGEST_COMMAND`].
fn run(command: &str, event: &str, facts: Vec<u8>) -> io::Result<()> {
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", command]).env("DSTOR_SYNC_EVENT", event).process_group(0);
    for secret in SECRETS {
        shell.env_remove(secret);
    }
    let mut child = shell.stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
    if let Some(mut input) = child.stdin.take() {
        // A command need not read: what it leaves in the pipe must not keep us. Ends with the command at the latest.
        std::thread::Builder::new().name("facts".into()).spawn(move || input.write_all(&facts))?;
    }
    let begun = Instant::now();
    while begun.elapsed() < LONGEST_COMMAND {
        match child.try_wait()? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(io::Error::other(status.to_string())),
            None => std::thread::sleep(ENDED),
        }
    }
    end(&mut child);
    Err(io::Error::other(format!("it took longer than {} s", LONGEST_COMMAND.as_secs())))
}

/// Ends a command and whatever it has started.
fn end(child: &mut Child) {
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        // It may have ended just now.
        let _ = kill_process_group(pid, Signal::KILL);
    }
    let _ = child.wait();
}
