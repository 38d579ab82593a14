//! A tree, a ledger that knows it, a sandbox, the program and its peers, all below one directory.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use dstor_sync::ledger::{Ledger, MirrorId, Push, Settlement, SharedLedger, Stored, Urgency};
use dstor_sync::local::{Name, OpenRoot, Tree as _};
use dstor_sync::mirror::{CidBuilder, Digest, MirrorPath, Observed};
use dstor_sync::sandbox::{Options, Phase, Sandbox};

use crate::measure::{Contender, figure, program_in_path};

/// Files in each directory; directories in each directory of directories.
const FAN: usize = 100;

pub(crate) struct World {
    scratch: tempfile::TempDir,
    sandbox: Sandbox,
}

impl World {
    pub(crate) async fn new() -> Self {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        std::fs::create_dir(scratch.path().join("tree")).expect("made");
        let sandbox = Sandbox::start(Options::new(scratch.path().join("dstor"))).await.expect("a sandbox");
        Self { scratch, sandbox }
    }

    fn tree(&self) -> PathBuf {
        self.scratch.path().join("tree")
    }

    fn ledger(&self) -> PathBuf {
        self.scratch.path().join("state/ledger.db")
    }

    /// Makes `files` files of `size` bytes, each unlike the others.
    pub(crate) fn make_tree(&self, files: usize, size: usize) {
        make(&self.tree(), "p", files, Some(size));
    }

    /// Makes the directories of such a tree, without files.
    pub(crate) fn make_directories(&self, files: usize) {
        make(&self.tree(), "p", files, None);
    }

    /// As many more, elsewhere in the tree.
    pub(crate) fn make_more(&self, files: usize, size: usize) {
        make(&self.tree(), "q", files, Some(size));
    }

    /// Brings the ledger to where it is after a first sync of the tree: every file stored as it is.
    pub(crate) fn know_everything(&self) {
        let mirror = Ledger::open_read_only(&self.ledger()).expect("a ledger").active_mirrors().expect("read")[0].id;
        let ledger = SharedLedger::open(&self.ledger()).expect("a ledger");
        let root = OpenRoot::open(&self.tree(), None).expect("open");
        let mut dirs = vec![MirrorPath::top()];
        while let Some(dir) = dirs.pop() {
            let mut names = root.list(&dir).expect("listed");
            names.sort_by(|one, other| one.bytes.cmp(&other.bytes));
            let is_directory = |name: &Name| name.look.observed.is_directory();
            dirs.extend(names.iter().filter(|name| is_directory(name)).filter_map(|name| dir.join(&name.bytes)));
            let known = || ledger.with_blocking(move |ledger| know(ledger, mirror, &dir, &names));
            tokio::task::block_in_place(known).expect("recorded");
        }
    }

    /// One pass, which has to go well.
    pub(crate) fn pass(&self) {
        let status = self.program(&["--quiet", "sync"], true).stdout(Stdio::null()).status().expect("started");
        assert!(status.success(), "{status}");
    }

    /// The program with its arguments, and the tree behind them if it is asked for.
    pub(crate) fn program(&self, arguments: &[&str], with_tree: bool) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dstor-sync"));
        command
            .args(arguments)
            .env_remove("DSTOR_SYNC_CONFIG")
            .env("XDG_CONFIG_HOME", self.scratch.path().join("config"))
            .env("DSTOR_SYNC_STATE_DIR", self.scratch.path().join("state"))
            .env("DSTOR_URL", self.sandbox.url())
            .env("DSTOR_API_KEY", self.sandbox.api_key());
        if with_tree {
            command.arg(self.tree());
        }
        command
    }

    pub(crate) fn find(&self) -> Option<Contender<'_>> {
        let command = || {
            let mut command = Command::new("find");
            command.arg(self.tree()).args(["-printf", "%p %s %T@ %C@ %i\\n"]);
            command
        };
        program_in_path("find").then_some(("find", Box::new(command)))
    }

    /// A copy of the tree that shares its files, for those who compare with one.
    pub(crate) fn make_copy(&self) {
        let copy = self.scratch.path().join("copy");
        std::fs::create_dir(&copy).expect("made");
        let copied = Command::new("cp").arg("-al").arg(self.tree()).arg(&copy).status();
        assert!(copied.is_ok_and(|status| status.success()), "cp -al");
    }

    /// `rsync -a` to a copy that has everything already.
    pub(crate) fn rsync(&self) -> Option<Contender<'_>> {
        let command = || {
            let mut command = Command::new("rsync");
            command.arg("-a").arg(self.tree()).arg(self.scratch.path().join("copy"));
            command
        };
        program_in_path("rsync").then_some(("rsync -a", Box::new(command)))
    }

    pub(crate) fn restic(&self) -> Option<Command> {
        if !program_in_path("restic") {
            return None;
        }
        let command = |words: &[&str]| {
            let mut command = Command::new("restic");
            command
                .args(["--quiet", "--no-cache", "--repo"])
                .arg(self.scratch.path().join("restic"))
                .env("RESTIC_PASSWORD", "none")
                .args(words);
            command
        };
        assert!(command(&["init"]).status().expect("started").success());
        let mut backup = command(&["backup"]);
        backup.arg(self.tree());
        Some(backup)
    }

    /// How long lsyncd needs until it has compared everything with a copy and watches.
    pub(crate) fn lsyncd(&self, rounds: usize) -> Option<Vec<Duration>> {
        if !program_in_path("lsyncd") || !program_in_path("rsync") {
            return None;
        }
        let copy = self.scratch.path().join("copy/tree");
        let once = |_| {
            let begun = Instant::now();
            // Says a line when it is written, and not when a buffer is full.
            let mut command = Command::new("stdbuf");
            command
                .args(["-oL", "lsyncd", "-nodaemon", "-delay", "1", "-log", "Normal", "-rsync"])
                .arg(self.tree())
                .arg(&copy);
            let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("started");
            let said = BufReader::new(child.stdout.take().expect("piped"));
            let line = said
                .lines()
                .map_while(Result::ok)
                .find(|line| line.contains("Startup of") && line.contains("finished"));
            let took = begun.elapsed();
            assert!(line.is_some(), "lsyncd did not start");
            signal(child.id(), "TERM");
            child.wait().expect("ended");
            took
        };
        Some((0..rounds).map(once).collect())
    }

    /// Starts the agent.
    pub(crate) fn start(&self) -> Agent {
        let begun = Instant::now();
        let mut child =
            self.program(&["run"], true).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("started");
        let (watching, watches) = mpsc::channel();
        let said: Arc<Mutex<Vec<String>>> = Arc::default();
        let (pipe, into) = (child.stderr.take().expect("piped"), Arc::clone(&said));
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                if line.ends_with("watching") {
                    // Nobody may wait for it any more.
                    let _ = watching.send(begun.elapsed());
                }
                let mut said = into.lock().unwrap_or_else(PoisonError::into_inner);
                // A burst says a line a file.
                if !line.contains("stored") {
                    said.push(line);
                }
            }
        });
        Agent { child, watches, said, ledger: self.ledger() }
    }

    /// Requests with files so far.
    pub(crate) fn requests(&self) -> u64 {
        self.sandbox.requests(Phase::Upload) + self.sandbox.requests(Phase::Chunk)
    }

    pub(crate) fn ledger_bytes(&self) -> u64 {
        self.ledger().metadata().expect("there").len()
    }

    pub(crate) fn stored(&self) -> u64 {
        let Ok(ledger) = Ledger::open_read_only(&self.ledger()) else { return 0 };
        let mirrors = ledger.active_mirrors().expect("read");
        mirrors.iter().map(|mirror| ledger.counts(mirror.id).expect("read").stored.files).sum()
    }

    pub(crate) fn wait_until_stored(&self, files: u64, longest: Duration) {
        let begun = Instant::now();
        while self.stored() < files {
            assert!(begun.elapsed() < longest, "{} of {files} are stored", self.stored());
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Without a size it makes the directories alone.
fn make(tree: &Path, prefix: &str, files: usize, size: Option<usize>) {
    for first in (0..files).step_by(FAN) {
        let at = first / FAN;
        let dir = tree.join(format!("{prefix}{:03}/d{at:05}", at / FAN));
        std::fs::create_dir_all(&dir).expect("made");
        let Some(size) = size else { continue };
        for file in first..files.min(first + FAN) {
            let bytes = format!("{prefix}{file:015}").into_bytes().repeat(size.div_ceil(16));
            std::fs::write(dir.join(format!("file-{file:07}.txt")), &bytes[..size]).expect("written");
        }
    }
}

fn know(
    ledger: &Ledger,
    mirror: MirrorId,
    dir: &MirrorPath,
    names: &[Name],
) -> Result<(), dstor_sync::ledger::LedgerError> {
    let files = |name: &Name| match name.look.observed {
        Observed::File(stat) => dir.join(&name.bytes).map(|path| (path, stat, name.look.mode)),
        _ => None,
    };
    for (path, stat, mode) in names.iter().filter_map(files) {
        ledger.push(mirror, &[Push { path: path.clone(), size: stat.size, due_at: 0 }], Urgency::Scan, 0)?;
        for claim in ledger.claim(1, 1)? {
            let mut cid = CidBuilder::new();
            cid.update(path.as_bytes());
            let stored = Stored {
                stat,
                mode,
                digest: Digest::of(path.as_bytes()),
                sealed: None,
                hash: cid.finish(),
                is_proved: true,
                at: 1,
            };
            ledger.settle(&claim, &Settlement::Stored(stored), None, 1)?;
        }
    }
    Ok(())
}

fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status();
    assert!(sent.is_ok_and(|status| status.success()), "kill");
}

/// An agent at work. Stopped when dropped.
pub(crate) struct Agent {
    child: Child,
    watches: mpsc::Receiver<Duration>,
    said: Arc<Mutex<Vec<String>>>,
    ledger: PathBuf,
}

impl Agent {
    /// How long it took from its start until it watched and had compared everything; ends it then.
    pub(crate) fn until_watching(mut self) -> Duration {
        self.wait_until_watching()
    }

    pub(crate) fn wait_until_watching(&mut self) -> Duration {
        self.watches.recv_timeout(Duration::from_secs(600)).expect("it watches")
    }

    pub(crate) fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    pub(crate) fn said(&self, what: &str) -> bool {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|line| line.contains(what))
    }

    fn proc(&self, file: &str) -> PathBuf {
        format!("/proc/{}/{file}", self.child.id()).into()
    }

    pub(crate) fn peak_kib(&self) -> u64 {
        figure(&self.proc("status"), "VmHWM:").unwrap_or(0)
    }

    /// A figure of each of its threads, together: `of` takes it from the thread's directory.
    fn of_threads(&self, of: impl Fn(&Path) -> Option<u64>) -> u64 {
        let threads = std::fs::read_dir(self.proc("task")).expect("it lives").flatten();
        threads.filter_map(|thread| of(&thread.path())).sum()
    }

    /// What it does while nothing happens.
    pub(crate) fn idle(&self, length: Duration) -> String {
        let on_disk = |end| std::fs::metadata(format!("{}{end}", self.ledger.display())).map_or(0, |meta| meta.len());
        // Nanoseconds on a processor are the first figure of its only line.
        let cpu = || self.of_threads(|thread| figure(&thread.join("schedstat"), ""));
        let woken = || self.of_threads(|thread| figure(&thread.join("status"), "voluntary_ctxt_switches:"));
        // Pipes and wake-ups within the process are among them; the ledger's files tell of the rest.
        let wrote = || figure(&self.proc("io"), "wchar:");
        let before = (cpu(), woken(), wrote(), on_disk(""), on_disk("-wal"));
        std::thread::sleep(length);
        let after = (cpu(), woken(), wrote(), on_disk(""), on_disk("-wal"));
        format!(
            "memory {} KiB (peak {}), in {} s CPU {:.4} s, woken {} times, wrote {} bytes, ledger grew by {} and its log by {}",
            figure(&self.proc("status"), "VmRSS:").unwrap_or(0),
            self.peak_kib(),
            length.as_secs(),
            (after.0 - before.0) as f64 / 1e9,
            after.1 - before.1,
            before.2.zip(after.2).map_or("?".into(), |(before, after)| (after - before).to_string()),
            after.3.saturating_sub(before.3),
            after.4.saturating_sub(before.4)
        )
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.signal("TERM");
        let _ = self.child.wait();
    }
}
