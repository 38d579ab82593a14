//! The peers that are a command each, and what is installed of all of them.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::shared::measure::Cost;
use crate::shared::process::Process;
use crate::shared::receiver;
use crate::stop;

/// Programs that are looked for, each in Debian's package of its name.
const PEERS: [&str; 8] = ["b3sum", "curl", "lsyncd", "rclone", "restic", "rsync", "syncthing", "time"];
/// How long servers and daemons may take to be there.
const LONGEST_START: Duration = Duration::from_secs(60);

/// Installs what is missing, as Debian has it. Returns whether that went well.
pub(crate) fn install() -> bool {
    let missing: Vec<&str> = PEERS.into_iter().filter(|name| !is_here(name)).collect();
    let apt = |arguments: &[&str]| {
        let status = Command::new("apt-get").args(arguments).env("DEBIAN_FRONTEND", "noninteractive").status();
        status.is_ok_and(|status| status.success())
    };
    let install = ["install", "--yes", "--quiet", "--no-install-recommends"];
    missing.is_empty() || (apt(&["update", "--quiet"]) && apt(&[&install, missing.as_slice()].concat()))
}

/// Whether a program is found in PATH.
pub(crate) fn is_here(name: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(name).exists()))
}

/// Which machine it is, how busy it is, and which peers it has.
pub(crate) fn surroundings() -> String {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').take(3).collect::<Vec<_>>().join(" ");
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let mut text = format!("{cores} processors; load {load}; data below {}", std::env::temp_dir().display());
    let versions = [("rclone", "version"), ("restic", "version"), ("syncthing", "--version"), ("lsyncd", "--version")];
    for (name, how) in versions.into_iter().chain(["rsync", "curl", "b3sum"].map(|name| (name, "--version"))) {
        let said = Command::new(name).arg(how).output().map(|output| output.stdout).unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        let line = said.lines().next().filter(|_| is_here(name)).unwrap_or("not installed");
        text.push_str(&format!("\n{name}: {}", line.chars().take(60).collect::<String>()));
    }
    text
}

/// A port that nobody listens on.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    listener.local_addr().expect("an address").port()
}

/// Waits until `is_so`, for as long as `longest`.
pub(crate) fn wait_until(what: &str, longest: Duration, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        stop::if_asked();
        assert!(begun.elapsed() < longest, "{what}: not after {longest:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A server or daemon of a peer. Ended when dropped.
pub(crate) struct Daemon(Child);

impl Daemon {
    pub(crate) fn start(command: &mut Command) -> Self {
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(quiet.spawn().expect("started"))
    }

    pub(crate) fn process(&self) -> Process {
        Process(self.0.id())
    }

    /// Waits until it takes connections.
    pub(crate) fn wait_for(self, port: u16) -> Self {
        let connects = || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok();
        wait_until("it listens", LONGEST_START, connects);
        self
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended by itself, which whoever waited for it has seen.
        if matches!(self.0.try_wait(), Ok(None)) {
            self.process().signal("TERM");
        }
        let _ = self.0.wait();
    }
}

/// Regular files below a directory, and bytes in them. What begins with a dot at the top is a peer's own.
pub(crate) fn content(dir: &Path) -> (u64, u64) {
    let (mut files, mut bytes) = (0, 0);
    let mut dirs = vec![dir.to_owned()];
    while let Some(next) = dirs.pop() {
        for entry in std::fs::read_dir(&next).into_iter().flatten().flatten() {
            let kind = entry.file_type();
            if next == dir && entry.file_name().as_encoded_bytes().starts_with(b".") {
            } else if kind.as_ref().is_ok_and(std::fs::FileType::is_dir) {
                dirs.push(entry.path());
            } else if kind.is_ok_and(|kind| kind.is_file()) {
                files += 1;
                bytes += entry.metadata().map_or(0, |meta| meta.len());
            }
        }
    }
    (files, bytes)
}

/// `find` over a tree, asking of each file what a scan asks.
pub(crate) fn find(tree: &Path) -> Command {
    let mut command = Command::new("find");
    command.arg(tree).args(["-printf", "%p %s %T@ %C@ %i\\n"]);
    command
}

/// A copy of a tree that shares its files, for those who compare with one.
pub(crate) fn copy(tree: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-al").arg(tree).arg(to).status();
    assert!(copied.is_ok_and(|status| status.success()), "cp -al");
}

/// Whether two trees have the same files, by content, and with the same times.
pub(crate) fn is_same(tree: &Path, other: &Path) -> bool {
    let mut compare = Command::new("rsync");
    compare.args(["-rtcn", "--delete", "--omit-dir-times", "--out-format=%n"]).arg(tree.join("")).arg(other);
    let compared = compare.output().expect("started");
    compared.status.success() && compared.stdout.is_empty()
}

/// `rsync -a` to a directory.
pub(crate) fn rsync(tree: &Path, to: &Path) -> Command {
    let mut command = Command::new("rsync");
    command.arg("-a").arg(tree.join("")).arg(to);
    command
}

/// A repository of restic's.
pub(crate) struct Restic {
    dir: tempfile::TempDir,
}

impl Restic {
    pub(crate) fn new() -> Self {
        let restic = Self { dir: receiver::directory() };
        assert!(restic.command(&["init"]).status().expect("started").success());
        restic
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("restic");
        command.args(["--quiet", "--repo"]).arg(self.dir.path().join("repository"));
        command.arg("--cache-dir").arg(self.dir.path().join("cache")).env("RESTIC_PASSWORD", "none").args(words);
        command
    }

    /// Backs a tree up; then it has to have `wanted`, files and bytes.
    pub(crate) fn backup(&self, tree: &Path, wanted: (u64, u64)) -> Cost {
        let cost = Cost::of(self.command(&["backup"]).arg(tree));
        let told = self.command(&["stats", "--json", "latest"]).output().expect("started").stdout;
        let told: serde_json::Value = serde_json::from_slice(&told).expect("JSON");
        // It counts directories among the files.
        assert_eq!(told["total_size"].as_u64(), Some(wanted.1), "{told}");
        assert!(told["total_file_count"].as_u64().is_some_and(|files| files >= wanted.0), "{told}");
        cost
    }

    /// Brings the newest backup back below `dest`, where it lies by its whole path.
    pub(crate) fn restore(&self, dest: &Path) -> Command {
        let mut command = self.command(&["restore", "latest", "--target"]);
        command.arg(dest);
        command
    }
}

/// lsyncd over a tree and a copy of it.
pub(crate) struct Lsyncd {
    daemon: Daemon,
    log: PathBuf,
    begun: Instant,
    _dir: tempfile::TempDir,
}

impl Lsyncd {
    pub(crate) fn start(tree: &Path, copy: &Path) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let log = dir.path().join("log");
        let begun = Instant::now();
        let mut command = Command::new("lsyncd");
        command.args(["-nodaemon", "-delay", "1", "-log", "Normal", "-logfile"]).arg(&log).arg("-rsync");
        let daemon = Daemon::start(command.arg(tree).arg(copy));
        Self { daemon, log, begun, _dir: dir }
    }

    /// How long it took from its start until it had compared everything and watched, and its process.
    pub(crate) fn wait_until_watching(&self) -> (Duration, Process) {
        wait_until("lsyncd watches", Duration::from_secs(600), || {
            let said = std::fs::read_to_string(&self.log).unwrap_or_default();
            said.lines().any(|line| line.contains("Startup of") && line.contains("finished"))
        });
        (self.begun.elapsed(), self.daemon.process())
    }
}
