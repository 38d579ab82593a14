//! A world for one test: a real directory, a real dStor on loopback, and the real program.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use dstor_sync::sandbox::{Options, Sandbox, SandboxError};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpSocket;

/// How long a condition may take to come true on a busy machine. Nothing waits this long when all is well.
const DEADLINE: Duration = Duration::from_secs(90);

pub(crate) struct World {
    dir: TempDir,
    sandbox: Option<Sandbox>,
    /// Where a sandbox listened that was stopped: kept from other tests until it listens again.
    kept: Option<TcpSocket>,
    config: String,
    uid: Option<u32>,
}

/// What a command printed, and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// The agent. Killed at the end of the test, if it still runs.
pub(crate) struct Agent {
    child: Child,
    log: PathBuf,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with("", "").await
    }

    /// A world whose config has these lines more, in the mirror's section and at its end.
    pub(crate) async fn with(mirror: &str, more: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir(dir.path().join("mirror")).expect("made");
        let mut world = Self { sandbox: None, kept: None, config: String::new(), uid: None, dir };
        world.start_sandbox(0).await;
        let sandbox = world.sandbox();
        let key = world.base().join("key");
        fs::write(&key, sandbox.api_key()).expect("written");
        private(&key);
        world.config = format!(
            "[dstor]\nurl = \"{}\"\napi_key_file = \"{}\"\n\n[[mirror]]\npath = \"{}\"\nremote = \"Docs\"\n{mirror}\n\n\
             [watch]\nsettle = \"100ms\"\nmax_delay = \"2s\"\n\n[upload]\nretry_max_delay = \"1s\"\n{more}\n",
            sandbox.url(),
            key.display(),
            world.mirror().display(),
        );
        fs::write(world.base().join("config.toml"), &world.config).expect("written");
        private(&world.base().join("config.toml"));
        world
    }

    /// From now on the program runs as an ordinary user, whom permissions hold for; as it does anyway if this is none.
    pub(crate) fn become_ordinary(&mut self) {
        const NOBODY: u32 = 65_534;
        if !rustix::process::geteuid().is_root() {
            return;
        }
        self.uid = Some(NOBODY);
        let mut all = vec![self.base().to_owned()];
        while let Some(path) = all.pop() {
            std::os::unix::fs::chown(&path, Some(NOBODY), Some(NOBODY)).expect("given away");
            if path.is_dir() {
                all.extend(fs::read_dir(&path).expect("read").map(|entry| entry.expect("an entry").path()));
            }
        }
    }

    pub(crate) async fn start_sandbox(&mut self, port: u16) {
        let mut options = Options::new(self.base().join("dstor"));
        options.listen.set_port(port);
        let begun = Instant::now();
        self.sandbox = Some(loop {
            match Sandbox::start(options.clone()).await {
                // A process that another test is just starting still has the last one's socket.
                Err(SandboxError::Listen { .. }) if begun.elapsed() < DEADLINE => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                started => break started.expect("a sandbox"),
            }
        });
        self.kept = None;
    }

    /// Another sandbox from now on; the config names it.
    pub(crate) fn use_sandbox(&mut self, sandbox: Sandbox) {
        let line = self.config.lines().find(|line| line.starts_with("url = ")).expect("an address").to_owned();
        self.set_config(self.config.replace(&line, &format!("url = \"{}\"", sandbox.url())));
        fs::write(self.base().join("key"), sandbox.api_key()).expect("written");
        self.sandbox = Some(sandbox);
    }

    /// As long as it runs.
    pub(crate) fn running_sandbox(&self) -> Option<&Sandbox> {
        self.sandbox.as_ref()
    }

    pub(crate) async fn stop_sandbox(&mut self) -> u16 {
        let sandbox = self.sandbox.take().expect("a sandbox");
        let port = sandbox.url().rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
        sandbox.stop().await;
        // Nobody listens there, but who asks for any free port is given another one.
        let begun = Instant::now();
        self.kept = Some(loop {
            let socket = TcpSocket::new_v4().expect("a socket");
            socket.set_reuseaddr(true).expect("set");
            match socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))) {
                // A process that another test is just starting still has the sandbox's.
                Err(_) if begun.elapsed() < DEADLINE => tokio::time::sleep(Duration::from_millis(10)).await,
                bound => break bound.map(|()| socket).expect("its port"),
            }
        });
        port
    }

    pub(crate) fn sandbox(&self) -> &Sandbox {
        self.sandbox.as_ref().expect("a sandbox")
    }

    pub(crate) fn misbehave(&self, rule: &str) {
        self.sandbox().misbehave(rule.parse().expect("a rule"));
    }

    pub(crate) fn base(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn mirror(&self) -> PathBuf {
        self.base().join("mirror")
    }

    pub(crate) fn state_dir(&self) -> PathBuf {
        self.base().join("state")
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.mirror().join(below)
    }

    /// Writes a file of the mirror, and the directories above it.
    pub(crate) fn write(&self, below: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(below);
        fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        fs::write(&path, content).expect("written");
        path
    }

    /// The same in one step, so that nobody sees half of it.
    pub(crate) fn put(&self, below: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let (path, beside) = (self.path(below), self.base().join(format!("beside-{}", fastrand::u32(..))));
        fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        fs::write(&beside, content).expect("written");
        fs::rename(&beside, &path).expect("moved in");
        path
    }

    pub(crate) fn config(&self) -> &str {
        &self.config
    }

    pub(crate) fn set_config(&mut self, config: String) {
        fs::write(self.base().join("config.toml"), &config).expect("written");
        self.config = config;
    }

    pub(crate) fn command<S: AsRef<std::ffi::OsStr>>(&self, arguments: &[S]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dstor-sync"));
        command
            .args(arguments)
            .env_clear()
            .env("HOME", self.base())
            .env("PATH", "/usr/bin:/bin")
            .env("DSTOR_SYNC_CONFIG", self.base().join("config.toml"))
            .env("DSTOR_SYNC_STATE_DIR", self.state_dir())
            // This machine's connection may be metered.
            .env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nobody/listens")
            .current_dir(self.base())
            .stdin(Stdio::null());
        if let Some(uid) = self.uid {
            use std::os::unix::process::CommandExt as _;
            command.uid(uid).gid(uid);
        }
        command
    }

    /// Runs a command to its end. The sandbox lives on another thread of this process and goes on meanwhile.
    pub(crate) fn run<S: AsRef<std::ffi::OsStr>>(&self, arguments: &[S]) -> Said {
        tokio::task::block_in_place(|| said(self.command(arguments)))
    }

    pub(crate) fn start(&self) -> Agent {
        self.start_with(&["run"])
    }

    pub(crate) fn start_with(&self, arguments: &[&str]) -> Agent {
        self.start_command(self.command(arguments))
    }

    pub(crate) fn start_command(&self, mut command: Command) -> Agent {
        let log = self.base().join(format!("log-{}", fastrand::u32(..)));
        let open = || fs::OpenOptions::new().create(true).append(true).open(&log).expect("a log");
        let child = command.stdout(open()).stderr(open()).spawn().expect("started");
        Agent { child, log }
    }

    pub(crate) fn status(&self) -> Value {
        let said = self.run(&["status", "--json"]);
        if said.stdout.is_empty() { Value::Null } else { serde_json::from_str(&said.stdout).expect("JSON") }
    }

    /// The first mirror's number of files in a state.
    pub(crate) fn count(&self, state: &str) -> u64 {
        self.status()["mirrors"][0]["files"][state].as_u64().unwrap_or(u64::MAX)
    }

    /// The lines of `ls --json`, by path below the mirror.
    pub(crate) fn ls(&self) -> BTreeMap<String, Value> {
        let said = self.run(&["ls", "--json"]);
        let top = format!("{}/", self.mirror().display());
        let lines = said.stdout.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        lines.map(|line| (line["path"].as_str().expect("a path").trim_start_matches(&top).to_owned(), line)).collect()
    }

    /// The state of each path, as `ls` tells it.
    pub(crate) fn states(&self) -> BTreeMap<String, String> {
        self.ls().into_iter().map(|(path, line)| (path, line["state"].as_str().expect("a state").to_owned())).collect()
    }

    /// How many files dStor has stored so far, one that was sent twice counted twice.
    pub(crate) fn sent(&self) -> usize {
        self.sandbox().versions().expect("versions").len()
    }

    /// Path and bytes of all files that dStor holds below the mirror's directory there.
    pub(crate) fn remote(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let files = self.sandbox().files().expect("files");
        files
            .into_iter()
            .map(|file| {
                let below =
                    file.directory.strip_prefix("Docs").expect("in the mirror's directory").trim_start_matches('/');
                let path = if below.is_empty() { file.name } else { format!("{below}/{}", file.name) };
                (path.into_bytes(), self.sandbox().content(&file.hash).expect("its content"))
            })
            .collect()
    }

    /// Path and bytes of all regular files in the mirror.
    pub(crate) fn local(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let mut files = BTreeMap::new();
        let mut dirs = vec![self.mirror()];
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(dir).expect("read") {
                let path = entry.expect("an entry").path();
                let kind = path.symlink_metadata().expect("looked").file_type();
                if kind.is_dir() {
                    dirs.push(path);
                } else if kind.is_file() {
                    let below = path.strip_prefix(self.mirror()).expect("below").as_os_str().as_bytes().to_vec();
                    files.insert(below, fs::read(&path).expect("read"));
                }
            }
        }
        files
    }

    /// Waits until the queue is empty and dStor holds exactly these paths and bytes under their names.
    pub(crate) async fn until_mirrored(&self) {
        self.until_mirrored_save(&[]).await;
    }

    /// The same, save for paths that begin so.
    pub(crate) async fn until_mirrored_save(&self, left_out: &[&str]) {
        let mut wanted = self.local();
        wanted.retain(|path, _| !left_out.iter().any(|out| path.starts_with(out.as_bytes())));
        self.until("dStor holds every file of the mirror and the queue is empty", || {
            let remote = self.remote();
            let all = wanted.iter().all(|(path, bytes)| remote.get(path) == Some(bytes));
            // Both of one moment.
            let files = self.status()["mirrors"][0]["files"].clone();
            all && files["pending"] == 0 && files["uploading"] == 0
        })
        .await;
    }

    /// Waits until `condition` holds. Fails with the agent's log after the deadline.
    pub(crate) async fn until(&self, what: &str, mut condition: impl FnMut() -> bool) {
        let begun = Instant::now();
        while !condition() {
            assert!(begun.elapsed() < DEADLINE, "never came true: {what}\n{}", self.story());
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    /// What a person would look at to see what went wrong.
    pub(crate) fn story(&self) -> String {
        let mut story = format!("{:#}\n", self.status());
        for entry in fs::read_dir(self.base()).expect("read").flatten() {
            if entry.file_name().as_bytes().starts_with(b"log-") {
                story.push_str(&String::from_utf8_lossy(&fs::read(entry.path()).expect("read")));
            }
        }
        story
    }
}

/// A world in which these files are stored and no agent runs.
pub(crate) async fn stored(files: &[(&str, &str)]) -> World {
    let world = World::new().await;
    for (path, content) in files {
        world.write(path, content);
    }
    sync(&world);
    world
}

/// One pass of uploads, after which nothing waits.
pub(crate) fn sync(world: &World) {
    let said = world.run(&["sync", "-q"]);
    assert_eq!(said.code, 0, "{said:?}");
}

impl Agent {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).expect("the log")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("a small number")).expect("a process");
        kill_process(pid, signal).expect("signalled");
    }

    /// Waits for its end.
    pub(crate) fn end(&mut self) -> ExitStatus {
        tokio::task::block_in_place(|| {
            let begun = Instant::now();
            loop {
                if let Some(status) = self.child.try_wait().expect("waited") {
                    return status;
                }
                assert!(begun.elapsed() < DEADLINE, "it does not end:\n{}", self.log());
                std::thread::sleep(Duration::from_millis(10));
            }
        })
    }

    /// Asks it to stop and waits for its end.
    pub(crate) fn stop(mut self) -> i32 {
        self.signal(Signal::TERM);
        self.end().code().expect("an exit status")
    }

    pub(crate) fn kill(mut self) {
        self.signal(Signal::KILL);
        self.end();
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn said(mut command: Command) -> Said {
    let output = command.output().expect("started");
    Said {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).expect("UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("UTF-8"),
    }
}

/// Prints a line that is seen also when the test goes well: a figure, and how many tries it stands on.
pub(crate) fn tell(line: &str) {
    // Not through the test's captured output. Nobody to read it is no failure.
    let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("\n{line}\n").as_bytes());
}

pub(crate) fn private(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("made private");
}

/// Who should answer for a file system, and does not. At its end the file system ends with it.
pub(crate) struct Silent(Child);

impl Drop for Silent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A place where something may be mounted; unmounted at the end of the test.
pub(crate) struct Mount {
    pub(crate) at: PathBuf,
}

impl Mount {
    /// Mounts a directory there; `false` if this user may not.
    pub(crate) fn bind(&self, from: &Path) -> bool {
        self.mount(&["--bind".as_ref(), from.as_os_str()])
    }

    /// Mounts so much memory there; `false` if this user may not.
    pub(crate) fn memory(&self, size: &str) -> bool {
        self.mount(&["-t".as_ref(), "tmpfs".as_ref(), "-o".as_ref(), format!("size={size}").as_ref(), "tmpfs".as_ref()])
    }

    /// Mounts a file system there that keeps times in whole seconds; `false` if this user may not, or cannot make one.
    pub(crate) fn whole_seconds(&self, image: &Path) -> bool {
        fs::File::create(image).and_then(|file| file.set_len(8 << 20)).expect("made");
        let mut make = Command::new("mke2fs");
        make.args(["-q", "-t", "ext4", "-I", "128"]).arg(image);
        let is_made = make.output().is_ok_and(|output| output.status.success());
        is_made && self.mount(&["-o".as_ref(), "loop".as_ref(), image.as_os_str()])
    }

    /// Mounts a file system there whose server says nothing, as long as what it gives is there; `None` if this user may not.
    pub(crate) fn hanging(&self) -> Option<Silent> {
        let mount = "exec 3<>/dev/fuse && mount -i -t fuse -o fd=3,rootmode=40000,user_id=0,group_id=0 silent \"$0\" \
                     && echo mounted && exec sleep 1000";
        let mut server = Command::new("sh");
        server.args(["-c", mount]).arg(&self.at).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut server = Silent(server.spawn().expect("started"));
        let mut said = String::new();
        let out = server.0.stdout.take().expect("piped");
        std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut said).expect("read");
        (said == "mounted\n").then_some(server)
    }

    fn mount(&self, what: &[&std::ffi::OsStr]) -> bool {
        let mut mount = Command::new("mount");
        mount.args(what).arg(&self.at);
        rustix::process::geteuid().is_root() && said(mount).code == 0
    }

    pub(crate) fn unmount(&self) {
        let mut unmount = Command::new("umount");
        unmount.arg("-l").arg(&self.at);
        assert_eq!(said(unmount).code, 0);
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let mut unmount = Command::new("umount");
        unmount.arg("-q").arg("-l").arg(&self.at);
        // Mostly unmounted by then.
        let _ = unmount.output();
    }
}
