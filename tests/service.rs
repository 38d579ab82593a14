//! The agent as a service: what its manager is told, and when it is not told that all is well.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::world::{Agent, World};

/// How often the manager of these tests wants a sign of life.
const WATCHDOG: Duration = Duration::from_secs(1);
/// Longer than any sign of life takes on its way, and shorter than what is hung up on purpose.
const SILENCE: Duration = Duration::from_millis(1500);

/// A service manager, as far as an agent sees it: a socket, and some words in the environment.
pub(crate) struct Manager {
    socket: UnixDatagram,
    heard: Vec<String>,
}

impl Manager {
    pub(crate) fn new(world: &World) -> Self {
        let socket = UnixDatagram::bind(world.base().join("notify")).expect("bound");
        socket.set_nonblocking(true).expect("set");
        Self { socket, heard: Vec::new() }
    }

    pub(crate) fn start(&self, world: &World, mut command: Command) -> Agent {
        command.env("NOTIFY_SOCKET", world.base().join("notify"));
        command.env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string());
        world.start_command(command)
    }

    /// Takes in what was said, and returns how often something that begins so was.
    fn count(&mut self, word: &str) -> usize {
        let mut buffer = [0; 4096];
        loop {
            match self.socket.recv(&mut buffer) {
                Ok(length) => self.heard.push(String::from_utf8_lossy(&buffer[..length]).into_owned()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
        }
        self.heard.iter().filter(|heard| heard.starts_with(word)).count()
    }

    /// Waits until it is said (once more).
    pub(crate) async fn until_said(&mut self, world: &World, word: &str) {
        let before = self.count(word);
        world.until(&format!("{word} is said"), || self.count(word) > before).await;
    }

    /// Waits until no sign of life has come for a while: one may be on its way.
    async fn until_silent(&mut self, world: &World) {
        let (mut count, mut since) = (self.count("WATCHDOG=1"), Instant::now());
        world
            .until("there is no sign of life any more", || {
                let now = self.count("WATCHDOG=1");
                if now != count {
                    (count, since) = (now, Instant::now());
                }
                since.elapsed() > SILENCE
            })
            .await;
    }
}

// F5
#[tokio::test(flavor = "multi_thread")]
async fn a_manager_is_told_how_the_agent_is_and_that_it_lives_as_long_as_it_does() {
    let mut world = World::new().await;
    world.write("a", "a");
    let mut manager = Manager::new(&world);
    let agent = manager.start(&world, world.command(&["run"]));
    world.until("it is ready", || manager.count("READY=1") == 1).await;
    world.until("it says how it is", || manager.count("STATUS=in sync") > 0).await;
    // At rest, too.
    manager.until_said(&world, "WATCHDOG=1").await;
    manager.until_said(&world, "WATCHDOG=1").await;

    agent.signal(Signal::STOP);
    manager.until_silent(&world).await;
    agent.signal(Signal::CONT);
    manager.until_said(&world, "WATCHDOG=1").await;

    // Whoever holds the ledger's lock holds up its thread.
    let ledger = rusqlite::Connection::open(world.state_dir().join("ledger.db")).expect("opened");
    ledger.execute_batch("BEGIN IMMEDIATE").expect("locked");
    manager.until_silent(&world).await;
    ledger.execute_batch("ROLLBACK").expect("unlocked");
    manager.until_said(&world, "WATCHDOG=1").await;

    world.set_config(world.config().replace("[upload]", "[upload]\nworkers = 2"));
    agent.signal(Signal::HUP);
    world.until("it reads its configuration", || manager.count("RELOADING=1\nMONOTONIC_USEC=") == 1).await;
    world.until("it is ready again", || manager.count("READY=1") == 2).await;
    world.set_config(world.config().replace("workers", "wrokers"));
    agent.signal(Signal::HUP);
    world.until("it goes on with the old one", || manager.count("READY=1") == 3).await;
    world.until("it says so", || manager.count("STATUS=needs you: the new configuration") == 1).await;
    assert_eq!(agent.stop(), 0);
    assert_eq!(manager.count("STOPPING=1\nEXTEND_TIMEOUT_USEC="), 1, "{:?}", manager.heard);
}

// F5: a network share that is dead looks like this. strace has each call that reads a directory of the mirror take long.
#[tokio::test(flavor = "multi_thread")]
async fn a_scan_that_hangs_in_the_file_system_is_no_sign_of_life() {
    let world = World::new().await;
    world.write("d/a", "a");
    let mut manager = Manager::new(&world);
    let run = world.command(&["run"]);
    let mut strace = Command::new("strace");
    strace.args(["-D", "-f", "-o", "/dev/null", "-e", "trace=getdents64", "-e", "inject=getdents64:delay_enter=4s"]);
    strace.arg("-P").arg(world.mirror()).arg(run.get_program()).arg("run");
    strace.env_clear().current_dir(world.base());
    strace.envs(run.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let agent = manager.start(&world, strace);
    world.until("it is ready", || manager.count("READY=1") == 1).await;
    manager.until_silent(&world).await;
    assert_eq!(world.sent(), 0, "the scan went on");
    world.until("the scan has gone on", || world.sent() == 1).await;
    manager.until_said(&world, "WATCHDOG=1").await;
    assert_eq!(agent.stop(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_in_json_is_one_object_a_line_with_its_facts() {
    let world = World::new().await;
    let odd = "a\u{1b}[31m";
    world.write(odd, "12345");
    let mut command = world.command(&["run", "--log-format", "json"]);
    // Of another stream than stderr: nothing goes to a journal.
    command.env("JOURNAL_STREAM", "1:2");
    let agent = world.start_command(command);
    world.until_mirrored().await;
    assert_eq!(agent.stop(), 0);
    let log = fs::read_dir(world.base()).expect("read").flatten();
    let log = log.map(|entry| entry.path()).find(|path| path.to_string_lossy().contains("/log-")).expect("the log");
    let log = fs::read_to_string(log).expect("read");
    // What `run` says at its start goes to stdout.
    let lines =
        log.lines().filter(|line| !["mirror", "dStor", "status", "stop"].iter().any(|word| line.starts_with(word)));
    let lines: Vec<serde_json::Value> = lines.map(|line| serde_json::from_str(line).expect(line)).collect();
    let stored = lines.iter().find(|line| line["message"] == "stored").expect("it was stored");
    assert_eq!((&stored["level"], &stored["bytes"]), (&"info".into(), &5.into()), "{stored}");
    assert!(stored["time"].as_str().is_some_and(|time| time.ends_with('Z')) && stored["path"].is_string(), "{stored}");
    assert!(!log.contains('\u{1b}'), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_manager_can_be_reached_nothing_is_written_and_it_is_said_what_else_to_do() {
    let world = World::new().await;
    for install in [&["service", "install"][..], &["service", "install", "--now", "--force"]] {
        let said = world.run(install);
        assert_eq!(said.code, 1, "{said:?}");
        assert!(said.stderr.starts_with("error: ") && said.stderr.contains("\nhint: "), "{said:?}");
        // Where this test runs under systemd, there is one, but none that a process without a session could ask.
        let is_booted = fs::exists("/run/systemd/system").expect("looked");
        let says = if is_booted { "cannot be reached" } else { "`@reboot dstor-sync run`" };
        assert!(said.stderr.contains(says), "{said:?}");
    }
    assert!(!world.base().join(".config/systemd").exists(), "a unit was written");
    let said = world.run(&["service", "install", "--user", "nobody"]);
    assert_eq!(said.code, 2, "{said:?}");
}
