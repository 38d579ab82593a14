//! The mirrors: whether their directories are there and who they are, how they are watched, and what a person is to know
//! of their files.

use std::path::Path;
use std::time::{Duration, Instant};

use super::state::State;
use super::{Check, Needs, Patient};
use crate::config::Poll;
use crate::ledger::MirrorRow;
use crate::local::{OpenRoot, RootError, RuleBook, Tree as _, sends_no_events};
use crate::mirror::{EMPTIED, MirrorPath, Observed, Stat, shell_word};
use crate::status::{MirrorStatus, Status};
use crate::upload::is_familiar;
use crate::wording::{files, shown};

const MIRROR: &str = "mirror";
const FILES: &str = "files";
const PROOFS: &str = "proofs";
const SECRETS: &str = "secrets";
const WATCHING: &str = "watching";

/// Directories are not counted for longer than this.
const COUNTING: Duration = Duration::from_secs(5);

/// A mirror, as far as anyone knows it.
struct Subject<'a> {
    path: &'a Path,
    exclude: &'a [String],
    hidden: bool,
    is_polled: bool,
    /// What the ledger has of it; `None`: no agent was given it yet.
    known: Option<Recorded<'a>>,
}

#[derive(Clone, Copy)]
struct Recorded<'a> {
    row: &'a MirrorRow,
    sample: &'a [(MirrorPath, Stat)],
    status: &'a MirrorStatus,
}

pub(super) fn look(patient: &Patient, state: &State) -> Vec<Check> {
    let subjects = subjects(patient, state);
    let mut checks = Vec::new();
    let mut tally = Tally { directories: 0, is_whole: true, watchers: 0 };
    let begun = Instant::now();
    for subject in &subjects {
        let (check, root) = directory(subject);
        checks.push(check);
        if let Some(root) = root.filter(|_| !subject.is_polled && !sends_no_events(subject.path)) {
            tally.watchers += 1;
            tally.is_whole &= count(subject, &root, begun + COUNTING, &mut tally.directories);
        }
        if let (Some(known), Some(state)) = (subject.known, state.known.as_ref()) {
            checks.extend(of_files(subject.path, known.status, &state.status));
        }
    }
    #[cfg(target_os = "linux")]
    if tally.watchers > 0 {
        checks.extend(watching(&tally, &Limits::of_system()));
    }
    checks
}

fn subjects<'a>(patient: &'a Patient, state: &'a State) -> Vec<Subject<'a>> {
    let known = state.known.iter().flat_map(|known| {
        let mirrors = known.mirrors.iter().zip(&known.status.mirrors);
        mirrors.map(|((row, sample), status)| Recorded { row, sample, status })
    });
    if patient.is_sandbox || (patient.config.is_err() && !patient.has_config) {
        return known
            .map(|known| Subject {
                path: &known.row.settings.path,
                exclude: &known.row.settings.exclude,
                hidden: known.row.settings.hidden,
                is_polled: false,
                known: Some(known),
            })
            .collect();
    }
    let known: Vec<Recorded<'_>> = known.collect();
    let mirrors = patient.config.iter().flat_map(|config| &config.mirrors);
    mirrors
        .map(|mirror| Subject {
            path: &mirror.path,
            exclude: &mirror.exclude,
            hidden: mirror.hidden,
            is_polled: mirror.poll != Poll::Events,
            known: known.iter().find(|known| known.row.settings.path == mirror.path).copied(),
        })
        .collect()
}

/// Whether the directory is there, and the one that the ledger knows.
fn directory(subject: &Subject<'_>) -> (Check, Option<OpenRoot>) {
    let path = shown(subject.path);
    let (root, sample) = subject.known.map_or((None, &[][..]), |known| (known.row.root, known.sample));
    let opened = match OpenRoot::open(subject.path, root) {
        // Some systems number their devices anew at each start; the agent believes what is in it.
        Err(RootError::Another(path)) => match OpenRoot::open(subject.path, None) {
            Ok(other) if is_familiar(&other, sample) => Ok(other),
            Ok(_) => Err(RootError::Another(path)),
            failed => failed,
        },
        opened => opened,
    };
    let bad = |what: String, hint: String| (Check::bad(MIRROR, Needs::Hands, what, hint), None);
    let root = match opened {
        Ok(root) => root,
        Err(RootError::Missing(_)) => {
            return bad(
                format!("`{path}` is not there"),
                "mount its disk, make the directory, or correct the path in the configuration".into(),
            );
        }
        Err(RootError::Another(_)) => {
            return bad(
                format!("another directory than before is at `{path}`, as when a disk is not mounted"),
                format!("mount it; or, if this one is right, `dstor-sync root accept {}`", shell_word(subject.path)),
            );
        }
        Err(RootError::Closed { source, .. }) => {
            return bad(
                format!("`{path}` cannot be opened: {source}"),
                "let the user that the agent runs as read and enter it".into(),
            );
        }
    };
    let check = if sends_no_events(subject.path) && !subject.is_polled {
        let what = format!("`{path}` is on a network or FUSE file system: only scans see what changes there");
        Check::warn(MIRROR, what, "`poll = \"30s\"` in its section of the configuration sets how often")
    } else if subject.is_polled {
        Check::ok(MIRROR, format!("`{path}` is there; scans see what changes, as configured"))
    } else if subject.known.is_none() {
        Check::ok(MIRROR, format!("`{path}` is there; no agent was told of it yet"))
    } else {
        Check::ok(MIRROR, format!("`{path}` is there"))
    };
    (check, Some(root))
}

/// What a person is to know of a mirror's files.
fn of_files(path: &Path, mirror: &MirrorStatus, status: &Status) -> Vec<Check> {
    let counts = &mirror.files;
    let here = shown(path);
    let mut checks = Vec::new();
    let mut bad = |count: u64, what: &str, hint: &str| {
        if count > 0 {
            checks.push(Check::bad(FILES, Needs::Hands, format!("`{here}`: {} {what}", files(count)), hint));
        }
    };
    bad(
        counts.failed,
        "failed",
        "`dstor-sync ls --state failed` tells which and why; `dstor-sync retry` tries them again",
    );
    bad(
        counts.missing + counts.different,
        "cannot be read back from dStor as stored",
        "`dstor-sync verify --repair` sends them again from here",
    );
    let with = |code: &str| {
        let in_mirror =
            |problem: &&crate::status::ProblemStatus| problem.code == code && problem.path.is_below(&mirror.path);
        status.problems.iter().filter(in_mirror).count() as u64
    };
    bad(
        with(EMPTIED),
        "suddenly empty, and not uploaded for it",
        "restore them, or `dstor-sync accept PATH` if they are meant to be empty",
    );
    bad(with("unreadable"), "waiting until they can be read", "let the user that the agent runs as read them");
    bad(with("quota"), "waiting, as dStor takes no more from this account", "look at the account in dStor's dashboard");
    if checks.is_empty() {
        let waiting = counts.pending + counts.uploading;
        let what = format!("`{here}`: {} stored, {waiting} waiting, {} left out", files(counts.stored), counts.skipped);
        checks.push(Check::ok(FILES, what));
    }
    if counts.secrets > 0 {
        let what = format!("`{here}`: {} held, as they look like secrets", files(counts.secrets));
        let hint =
            "`dstor-sync ls --state skipped` lists them; `allow_secrets` lets them go, `exclude` leaves them out";
        checks.push(Check::warn(SECRETS, what, hint));
    }
    let unproved = counts.stored.saturating_sub(counts.proved);
    if unproved > 0 {
        let why = match mirror.proof_note {
            Some(_) => ", as dStor names files by other rules than the usual ones",
            None => "",
        };
        let what = format!("`{here}`: {} stored without a proof{why}", files(unproved));
        checks.push(Check::warn(PROOFS, what, "`dstor-sync verify --read` proves them by reading them back"));
    }
    if let Some(note) = mirror.watch_note.as_deref().filter(|_| status.is_alive() && mirror.watch != "missing") {
        let hint = "until then scans see what changes; `rescan` and `poll` in the configuration set how often";
        checks.push(Check::warn(WATCHING, format!("`{here}`: {}", shown(note)), hint));
    }
    checks
}

/// What watching takes.
struct Tally {
    directories: u64,
    /// Whether they were counted to the end.
    is_whole: bool,
    watchers: u64,
}

/// Counts the directories that are watched; `false`: it took too long.
fn count(subject: &Subject<'_>, root: &OpenRoot, until: Instant, directories: &mut u64) -> bool {
    let rules = RuleBook::new(subject.exclude, subject.hidden);
    let mut open = vec![MirrorPath::top()];
    while let Some(dir) = open.pop() {
        *directories += 1;
        if Instant::now() > until {
            return false;
        }
        // What cannot be read is not watched, either.
        let Ok(entries) = std::fs::read_dir(subject.path.join(dir.as_path())) else { continue };
        for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            let name = entry.file_name();
            let Some(path) = dir.join(name.as_encoded_bytes()) else { continue };
            let is_directory = root.look(&path).is_ok_and(|look| look.observed == Observed::Directory);
            if is_directory && rules.judge(root, &path, true).is_ok_and(|included| included.is_yes()) {
                open.push(path);
            }
        }
    }
    true
}

/// The system's limits; `None` where it does not tell.
#[cfg(target_os = "linux")]
struct Limits {
    watches: Option<u64>,
    instances: Option<u64>,
    /// Whether this user gets another instance right now.
    gives_one: bool,
}

#[cfg(target_os = "linux")]
impl Limits {
    fn of_system() -> Self {
        let number = |name: &str| {
            std::fs::read_to_string(format!("/proc/sys/fs/inotify/{name}")).ok()?.trim().parse::<u64>().ok()
        };
        let given = rustix::fs::inotify::init(rustix::fs::inotify::CreateFlags::CLOEXEC);
        Self { watches: number("max_user_watches"), instances: number("max_user_instances"), gives_one: given.is_ok() }
    }
}

#[cfg(target_os = "linux")]
fn watching(tally: &Tally, limits: &Limits) -> Vec<Check> {
    let Tally { directories, is_whole, watchers } = *tally;
    let counted = if is_whole { format!("{directories}") } else { format!("more than {directories}") };
    let mut checks = Vec::new();
    match limits.watches {
        None => checks.push(Check::skipped(WATCHING, "the system does not tell its limits")),
        Some(most) => {
            // Other programs of this user watch, too.
            let is_close = directories.saturating_mul(5) > most.saturating_mul(4);
            let word = if directories == 1 { "directory" } else { "directories" };
            let what = format!("{counted} {word}, and the system's limit for all programs of a user is {most}");
            // A directory that is watched takes about 1 KiB of the kernel's memory.
            let enough = directories.saturating_mul(2).max(1 << 20).checked_next_power_of_two().unwrap_or(u64::MAX);
            let hint = format!(
                "`sysctl fs.inotify.max_user_watches={enough}`, for good in a file in /etc/sysctl.d/; scans see what \
                 changes in the directories beyond the limit"
            );
            checks.push(match is_close {
                true => Check::warn(WATCHING, what, hint),
                false => Check::ok(WATCHING, what),
            });
        }
    }
    if let Some(most) = limits.instances.filter(|most| *most < watchers || !limits.gives_one) {
        let enough = watchers.saturating_add(most).max(512);
        let hint = format!("`sysctl fs.inotify.max_user_instances={enough}`, for good in a file in /etc/sysctl.d/");
        let what = match limits.gives_one {
            true => format!("{watchers} mirrors, and this user gets {most} watchers"),
            false => format!("this user has all {most} watchers that the system gives one"),
        };
        checks.push(Check::warn(WATCHING, what, hint));
    }
    checks
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::fs;

    use super::*;

    // A4, A26
    #[test]
    fn limits_are_told_of_before_they_are_reached() {
        let words = |directories, watchers, watches, instances, gives_one| {
            let limits = Limits { watches, instances, gives_one };
            let checks = watching(&Tally { directories, is_whole: true, watchers }, &limits);
            checks.iter().map(Check::word).collect::<Vec<_>>()
        };
        assert_eq!(words(800, 1, Some(1000), Some(128), true), ["ok"]);
        assert_eq!(words(801, 1, Some(1000), Some(128), true), ["warn"]);
        assert_eq!(words(1, 3, Some(1000), Some(2), true), ["ok", "warn"]);
        assert_eq!(words(1, 1, Some(1000), Some(128), false), ["ok", "warn"]);
        assert_eq!(words(1, 1, None, None, false), ["skip"]);
        let limits = Limits { watches: Some(8192), instances: None, gives_one: true };
        let check = watching(&Tally { directories: 2_000_000, is_whole: false, watchers: 1 }, &limits).remove(0);
        assert!(check.what.starts_with("more than 2000000 directories"), "{check:?}");
        assert!(check.hint().is_some_and(|hint| hint.contains("max_user_watches=4194304")), "{check:?}");
    }

    #[test]
    fn only_directories_that_are_watched_are_counted() {
        let dir = tempfile::tempdir().expect("a directory");
        for path in ["a/b/c", "node_modules/x/y", ".git/objects", "out/of/rules"] {
            fs::create_dir_all(dir.path().join(path)).expect("made");
        }
        fs::write(dir.path().join(".dstorignore"), "out/\n").expect("written");
        std::os::unix::fs::symlink("a", dir.path().join("link")).expect("linked");
        let count_with = |exclude: &[String], hidden, patience| {
            let subject = Subject { path: dir.path(), exclude, hidden, is_polled: false, known: None };
            let root = OpenRoot::open(dir.path(), None).expect("there");
            let mut directories = 0;
            let is_whole = count(&subject, &root, Instant::now() + patience, &mut directories);
            (directories, is_whole)
        };
        let long = Duration::from_secs(600);
        assert_eq!(count_with(&[], true, long), (9, true));
        assert_eq!(count_with(&["node_modules/".into()], false, long), (4, true));
        assert_eq!(count_with(&[], true, Duration::ZERO), (1, false));
    }
}
