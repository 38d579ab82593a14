//! What the agent is doing and what needs attention, read from the ledger and its lock: no socket, no PID file.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use serde::Serialize;

use crate::ledger::{
    AgentLock, AgentState, Auth, Counts, DIFFERENT, Ledger, LedgerError, MISSING, Millis, MirrorId, MirrorRow,
    UNTIL_RESUMED, Watching, set_aside_in, written_at,
};
use crate::mirror::{EMPTIED, Placement};
use crate::plan::LEDGER;
use crate::upload::Clock;
use crate::verify::{LOOK_AT, NAMES_OTHERWISE, names_otherwise};
use crate::wording::{JsonPath, JsonTime};

/// The form of the JSON below.
const SCHEMA: u32 = 1;
/// Problems that are listed of each kind; their number is in the counts.
const MOST_PROBLEMS: u32 = 1000;

/// Where the agent leaves word that it was told to read a configuration that cannot be used, in the state directory. A file
/// of its own, as the ledger's form is not to change for it.
const REFUSED: &str = "configuration-refused";
/// Where the agent leaves word that it uploads nothing as the connection is metered; there only while that is so. For the same
/// reason a file.
const METERED: &str = "metered";
/// Bytes of it that are told.
const LONGEST_WORD: u64 = 4096;

/// Blocking: leaves word for [`Status`] why the agent in `state_dir` goes on with an older configuration; `None`: it does
/// not.
///
/// # Errors
/// As the file system says.
pub fn note_refused_configuration(state_dir: &Path, why: Option<&str>) -> io::Result<()> {
    let path = state_dir.join(REFUSED);
    match why {
        Some(why) => {
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(true).mode(0o600).open(path)?.write_all(why.as_bytes())
        }
        None => match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        },
    }
}

/// Blocking: leaves word for [`Status`] whether the agent in `state_dir` uploads nothing as the connection is metered.
///
/// # Errors
/// As the file system says.
pub fn note_metered(state_dir: &Path, is_metered: bool) -> io::Result<()> {
    let path = state_dir.join(METERED);
    if is_metered {
        return OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path).map(|_| ());
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Blocking: whether the agent in `state_dir` last left word that it uploads nothing as the connection is metered.
#[must_use]
pub fn is_metered(state_dir: &Path) -> bool {
    state_dir.join(METERED).exists()
}

fn refused_configuration(state_dir: &Path) -> Option<String> {
    let mut word = Vec::new();
    fs::File::open(state_dir.join(REFUSED)).ok()?.take(LONGEST_WORD).read_to_end(&mut word).ok()?;
    Some(String::from_utf8_lossy(&word).into_owned())
}

/// Everything that `status` tells; its JSON form is fixed.
#[derive(Serialize, Debug)]
pub struct Status {
    schema: u32,
    /// When the ledger was last written, while no agent runs: what is told is as of then. Null: one runs, it is as of now.
    pub as_of: Option<JsonTime>,
    /// When the next change is due; null: none, or one is by now.
    pub next_attempt_at: Option<JsonTime>,
    /// The agent.
    pub agent: AgentStatus,
    /// The service.
    pub dstor: DstorStatus,
    /// To whom files are encrypted.
    pub encrypt: EncryptStatus,
    /// The mirrors of the agent that ran last.
    pub mirrors: Vec<MirrorStatus>,
    /// What failed, what dStor does not give back as it was stored, and what waits after a failure.
    pub problems: Vec<ProblemStatus>,
    /// Damaged ledgers that were set aside, the oldest first. They are told of until a person has removed them.
    pub set_aside: Vec<AsideStatus>,
}

/// A damaged ledger that was set aside.
#[derive(Serialize, Debug)]
pub struct AsideStatus {
    /// The file.
    #[serde(flatten)]
    pub path: JsonPath,
    /// When.
    pub at: JsonTime,
}

/// The agent.
#[derive(Serialize, Debug)]
pub struct AgentStatus {
    /// `running`, `starting`, `stopping`, `stopped` or `dead`.
    pub state: &'static str,
    /// Its process, while it runs.
    pub pid: Option<u32>,
    /// When it last started.
    pub since: Option<JsonTime>,
    /// Its version.
    pub version: Option<String>,
    /// Whether it was told to pause, or the next one is.
    pub paused: bool,
    /// When it goes on by itself; null: not paused, or until `resume`.
    pub paused_until: Option<JsonTime>,
    /// Whether it uploads nothing as the connection is metered. Known as of when it last had something to upload.
    pub metered: bool,
    /// Why it goes on with an older configuration than it was told to read.
    pub config_error: Option<String>,
}

/// The service.
#[derive(Serialize, Debug)]
pub struct DstorStatus {
    /// Its base address.
    pub url: Option<String>,
    /// `ok`, `refused`, `missing` or `unknown`.
    pub auth: &'static str,
    /// Whether the last request was answered; null: none was made.
    pub reachable: Option<bool>,
    /// When the access token expires.
    pub token_expires_at: Option<JsonTime>,
    /// Requests for a token since the agent started.
    pub token_requests: u64,
    /// The last failure that concerned the whole account.
    pub last_error: Option<String>,
}

/// To whom files are encrypted before they are sent.
#[derive(Serialize, Debug)]
pub struct EncryptStatus {
    /// Public keys, as the agent that ran last had them; none: files go as they are.
    pub recipients: Vec<String>,
    /// Whether that agent hides names.
    pub names: bool,
}

/// One mirror.
#[derive(Serialize, Debug)]
pub struct MirrorStatus {
    /// Its directory.
    #[serde(flatten)]
    pub path: JsonPath,
    /// The dStor directory's path; null for one placed by number.
    pub remote: Option<String>,
    /// The dStor directory's number; null for one placed by path.
    pub remote_id: Option<u64>,
    /// `events`, `polling` or `missing`.
    pub watch: &'static str,
    /// What a person should know about that.
    pub watch_note: Option<String>,
    /// When a full scan last ended well.
    pub last_scan_at: Option<JsonTime>,
    /// When dStor last took a file of it.
    pub last_stored_at: Option<JsonTime>,
    /// What a person should know about the proofs.
    pub proof_note: Option<&'static str>,
    /// The list of its files that was stored on dStor last; null: none.
    pub manifest: Option<ManifestStatus>,
    /// Files by state.
    pub files: FileCounts,
    /// Their bytes.
    pub bytes: ByteCounts,
}

/// A list of a mirror's files on dStor.
#[derive(Serialize, Debug)]
pub struct ManifestStatus {
    /// The hash of its root.
    pub hash: String,
    /// When it was stored, or found to be still right.
    pub published_at: JsonTime,
    /// Files in it.
    pub files: u64,
}

/// Files by state.
#[derive(Serialize, Debug)]
#[expect(missing_docs, reason = "each is the number of files in the state of that name")]
pub struct FileCounts {
    pub stored: u64,
    pub proved: u64,
    /// Those of the stored that are encrypted there.
    pub encrypted: u64,
    pub pending: u64,
    pub uploading: u64,
    pub failed: u64,
    pub skipped: u64,
    pub gone: u64,
    /// Skipped, because they look like they hold secrets.
    pub secrets: u64,
    /// Stored, but dStor did not have them when they were last read back.
    pub missing: u64,
    /// Stored, but other bytes came when they were last read back.
    pub different: u64,
}

/// Bytes by state.
#[derive(Serialize, Debug)]
pub struct ByteCounts {
    /// Of what dStor holds.
    pub stored: u64,
    /// Of what waits or is under way.
    pub pending: u64,
}

/// A path that failed, that dStor does not give back as it was stored, or that waits after a failure.
#[derive(Serialize, Debug)]
pub struct ProblemStatus {
    /// The path.
    #[serde(flatten)]
    pub path: JsonPath,
    /// `failed`, `stored`, `pending` or `uploading`.
    pub state: &'static str,
    /// A fixed word.
    pub code: String,
    /// For a person.
    pub message: String,
    /// What a person can do about it.
    pub hint: &'static str,
    /// Failures so far.
    pub attempts: u32,
    /// Since when.
    pub since: JsonTime,
    /// When it is tried next.
    pub next_attempt_at: Option<JsonTime>,
}

impl Status {
    /// Blocking: reads how things stand from the ledger in `state_dir`.
    ///
    /// # Errors
    /// The ledger's.
    pub fn read(state_dir: &Path) -> Result<Self, LedgerError> {
        Self::of(&Ledger::open_read_only(&state_dir.join(LEDGER))?, state_dir)
    }

    /// Blocking: the same, over a connection to the ledger in `state_dir` that is there already.
    ///
    /// # Errors
    /// The ledger's.
    pub fn of(ledger: &Ledger, state_dir: &Path) -> Result<Self, LedgerError> {
        let path = state_dir.join(LEDGER);
        // The lock first: an agent that ends between the two reads is then told as running, not as dead.
        let is_alive = AgentLock::is_held(state_dir);
        let row = ledger.agent()?;
        let mirrors = ledger.active_mirrors()?;
        let state = match (is_alive, row.as_ref().map(|row| row.state)) {
            (true, Some(AgentState::Stopped) | None) => "starting",
            (true, Some(state)) => state.word(),
            (false, Some(AgentState::Stopped) | None) => "stopped",
            (false, Some(AgentState::Starting | AgentState::Running | AgentState::Stopping)) => "dead",
        };
        let paused_until = ledger.steering()?.pause_at(Clock.now());
        let problems = ledger.problems(MOST_PROBLEMS)?;
        let path_of = |id| mirrors.iter().find(|mirror| mirror.id == id).map(|mirror| &mirror.settings.path);
        let (now, outlook) = (Clock.now(), ledger.outlook()?);
        Ok(Self {
            schema: SCHEMA,
            as_of: written_at(&path).filter(|_| !is_alive).map(|at| JsonTime(millis(at))),
            next_attempt_at: outlook.next_due_at.filter(|at| *at > now).map(JsonTime),
            set_aside: set_aside_in(&path)
                .into_iter()
                .map(|aside| AsideStatus { path: JsonPath::new(&aside.path), at: JsonTime(aside.at) })
                .collect(),
            agent: AgentStatus {
                state,
                pid: row.as_ref().filter(|_| is_alive).map(|row| row.pid),
                since: row.as_ref().map(|row| JsonTime(row.since)),
                version: row.as_ref().map(|row| row.version.clone()),
                paused: paused_until.is_some(),
                paused_until: paused_until.filter(|until| *until != UNTIL_RESUMED).map(JsonTime),
                metered: is_alive && is_metered(state_dir),
                config_error: if is_alive { refused_configuration(state_dir) } else { None },
            },
            dstor: DstorStatus {
                url: row.as_ref().map(|row| row.url.trim_end_matches('/').to_owned()),
                auth: row.as_ref().map_or(Auth::Unknown, |row| row.dstor.auth).word(),
                reachable: row.as_ref().and_then(|row| row.dstor.reachable),
                token_expires_at: row.as_ref().and_then(|row| row.dstor.token_expires_at).map(JsonTime),
                token_requests: row.as_ref().map_or(0, |row| row.dstor.token_requests),
                last_error: row.and_then(|row| row.dstor.last_error),
            },
            encrypt: EncryptStatus { recipients: ledger.sealing()?, names: ledger.hides_names()? },
            problems: problems
                .into_iter()
                .filter_map(|problem| {
                    let mut path = path_of(problem.mirror)?.clone();
                    path.push(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(&problem.path));
                    Some(ProblemStatus {
                        path: JsonPath::new(&path),
                        state: problem.state,
                        hint: what_to_do(&problem.code),
                        code: problem.code,
                        message: problem.message,
                        attempts: problem.attempts,
                        since: JsonTime(problem.since),
                        next_attempt_at: problem.next_attempt_at.map(JsonTime),
                    })
                })
                .collect(),
            mirrors: mirrors
                .into_iter()
                .map(|mirror| MirrorStatus::read(ledger, mirror, is_alive))
                .collect::<Result<_, LedgerError>>()?,
        })
    }

    /// Whether the agent runs.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.agent.pid.is_some()
    }

    /// Whether a person has to do something, whatever waiting would bring.
    #[must_use]
    pub fn needs_attention(&self) -> bool {
        // Quota and permissions do not mend themselves; what does is no problem of a person.
        let needs_hands = |problem: &ProblemStatus| matches!(problem.code.as_str(), "quota" | "unreadable" | EMPTIED);
        // The mirrors are well without the damaged ledger; but what damaged it may damage the next one, or the files.
        !self.set_aside.is_empty()
            || self.agent.config_error.is_some()
            || matches!(self.dstor.auth, "refused" | "missing")
            || self.problems.iter().any(needs_hands)
            || self.mirrors.iter().any(|mirror| {
                let FileCounts { failed, missing, different, .. } = mirror.files;
                failed + missing + different > 0 || mirror.watch == Watching::Missing.word()
            })
    }
}

/// What a person can do about a problem of this code.
fn what_to_do(code: &str) -> &'static str {
    match code {
        "changing" => "wait: it goes up when it is quiet",
        "unreachable" | "busy" | "server_error" | "session" => {
            "wait: it is tried again by itself; `dstor-sync doctor` looks for the cause"
        }
        "unreadable" => "let the user that the agent runs as read it; it is noticed by itself",
        "mirror_missing" => "mount its disk; `dstor-sync doctor` tells more",
        "credentials" => "put the right ones in their place; `dstor-sync doctor` tells where they are looked for",
        "quota" => "look at the account in dStor's dashboard, then `dstor-sync retry`",
        "too_large_for_dstor" => "leave it out with `exclude`, or split it",
        "needs_session" => "set `sessions = \"auto\"`, and give the mirror's directory by its path, with `remote`",
        EMPTIED => "restore it, or `dstor-sync accept PATH` if it is meant to be empty",
        MISSING | DIFFERENT => "`dstor-sync verify --repair` sends it again from here",
        "refused" | "protocol" => "change it or leave it out with `exclude`; `dstor-sync retry PATH` tries it as it is",
        _ => "`dstor-sync why PATH` tells more",
    }
}

/// A time of the file system, as the ledger has times.
fn millis(at: std::time::SystemTime) -> Millis {
    let since_1970 = at.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Millis::try_from(since_1970.as_millis()).unwrap_or(Millis::MAX)
}

/// The counts. What a killed agent had in its hands waits again.
fn counts_now(ledger: &Ledger, mirror: MirrorId, is_alive: bool) -> Result<Counts, LedgerError> {
    let mut counts = ledger.counts(mirror)?;
    if !is_alive {
        let left = std::mem::take(&mut counts.uploading);
        counts.pending.files += left.files;
        counts.pending.bytes += left.bytes;
    }
    Ok(counts)
}

impl MirrorStatus {
    fn read(ledger: &Ledger, mirror: MirrorRow, is_alive: bool) -> Result<Self, LedgerError> {
        let counts = counts_now(ledger, mirror.id, is_alive)?;
        let (missing, different) = ledger.count_bad(mirror.id)?;
        let (looked_at, alike) = ledger.naming(mirror.id, LOOK_AT)?;
        let (remote, remote_id) = match &mirror.settings.policy.placement {
            Placement::Path(dir) => (Some(dir.as_str().to_owned()), None),
            Placement::Id(id) => (None, Some(*id)),
        };
        Ok(Self {
            path: JsonPath::new(&mirror.settings.path),
            remote,
            remote_id,
            watch: mirror.watching.word(),
            watch_note: mirror.watch_note,
            last_scan_at: mirror.last_scan_at.map(JsonTime),
            last_stored_at: ledger.last_stored_at(mirror.id)?.map(JsonTime),
            proof_note: names_otherwise(looked_at, alike).then_some(NAMES_OTHERWISE),
            manifest: ledger.manifest(mirror.id)?.map(|row| ManifestStatus {
                hash: row.hash.to_string(),
                published_at: JsonTime(row.published_at),
                files: row.files,
            }),
            files: FileCounts {
                stored: counts.stored.files,
                proved: counts.proved.files,
                encrypted: counts.sealed.files,
                pending: counts.pending.files,
                uploading: counts.uploading.files,
                failed: counts.failed.files,
                skipped: counts.skipped.files,
                gone: counts.gone.files,
                secrets: ledger.count_guarded(mirror.id)?,
                missing,
                different,
            },
            bytes: ByteCounts { stored: counts.stored.bytes, pending: counts.pending.bytes + counts.uploading.bytes },
        })
    }
}
