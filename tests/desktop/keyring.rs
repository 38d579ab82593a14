//! `login` and `logout` with GNOME's keyring, unlocked, locked and absent.

use super::bus::{Bus, GnomeKeyring};
use crate::world::{Said, World, said};

/// A world in the session of a bus.
struct Session<'a> {
    world: &'a World,
    bus: &'a Bus,
}

impl Session<'_> {
    fn command(&self, arguments: &[&str]) -> std::process::Command {
        let mut command = self.world.command(arguments);
        command.env("DBUS_SESSION_BUS_ADDRESS", self.bus.address());
        command
    }

    fn run(&self, arguments: &[&str]) -> Said {
        tokio::task::block_in_place(|| said(self.command(arguments)))
    }

    /// With the sandbox's key in a file, which `login` reads.
    fn login(&self, more: &[&str]) -> Said {
        let key = self.world.base().join("given");
        std::fs::write(&key, self.world.sandbox().api_key()).expect("written");
        std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("ours");
        let key = key.display().to_string();
        self.run(&[&["login", "--api-key-file", &key], more].concat())
    }
}

/// A world whose configuration names no file with credentials.
async fn world() -> World {
    let mut world = World::new().await;
    let without: Vec<&str> = world.config().lines().filter(|line| !line.starts_with("api_key_file")).collect();
    world.set_config(without.join("\n") + "\n");
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn login_keeps_a_key_in_the_keyring_and_the_agent_finds_it_and_logout_forgets_it() {
    let (bus, world) = (Bus::start().await, world().await);
    let _keyring = GnomeKeyring::start(&bus).await;
    let session = Session { world: &world, bus: &bus };
    let login = session.login(&[]);
    assert_eq!(login.code, 0, "{}", login.stderr);
    assert!(login.stdout.ends_with("stored       the desktop's keyring\n"), "{}", login.stdout);
    assert!(!world.base().join("api-key").exists(), "it is in a file as well");
    assert!(!format!("{}{}", login.stdout, login.stderr).contains(world.sandbox().api_key()));
    let shown = session.run(&["config", "show"]);
    assert!(shown.stdout.contains("# credentials: the desktop's keyring\n"), "{}", shown.stdout);
    world.write("f", "1");
    let agent = world.start_command(session.command(&["run"]));
    world.until_mirrored().await;
    assert_eq!(agent.stop(), 0);
    let file = session.login(&["--file"]);
    let kept = world.base().join("api-key").canonicalize().expect("the file");
    assert_eq!(file.code, 0, "{}", file.stderr);
    assert!(file.stdout.ends_with("forgot       what was in the desktop's keyring\n"), "{}", file.stdout);
    assert_eq!(session.login(&["--keyring"]).code, 0);
    assert!(!kept.exists(), "the file would come before the keyring");
    let logout = session.run(&["logout"]);
    assert_eq!((logout.code, logout.stdout.as_str()), (0, "forgot       what was in the desktop's keyring\n"));
    assert_eq!(session.run(&["logout"]).stdout, "nothing was stored\n");
    world.write("g", "2");
    assert_eq!(session.run(&["sync"]).code, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_keyring_is_said_and_an_agent_waits_for_it() {
    let (bus, world) = (Bus::start().await, world().await);
    let keyring = GnomeKeyring::start(&bus).await;
    let session = Session { world: &world, bus: &bus };
    assert_eq!(session.login(&["--keyring"]).code, 0);
    keyring.lock().await;
    world.write("f", "1");
    let pass = session.run(&["sync"]);
    assert!(pass.code == 4 && pass.stderr.contains("the desktop's keyring is locked"), "{} {}", pass.code, pass.stderr);
    let login = session.login(&[]);
    assert_eq!(login.code, 1);
    assert!(login.stderr.contains("error: the desktop's keyring is locked\nhint: unlock it"), "{}", login.stderr);
    let logout = session.run(&["logout"]);
    assert!(logout.code == 1 && logout.stderr.contains("what is in it was left"), "{}", logout.stderr);
    assert_eq!(session.run(&["config", "check"]).code, 4);
    let doctor = session.run(&["doctor"]);
    assert!(
        doctor.code == 4 && doctor.stdout.contains("bad   credentials  the desktop's keyring is locked\n"),
        "{}",
        doctor.stdout
    );
    let agent = world.start_command(session.command(&["run"]));
    world
        .until("status tells of it", || {
            world.status()["dstor"]["last_error"].as_str().is_some_and(|told| told.contains("keyring is locked"))
        })
        .await;
    assert_eq!((world.count("pending"), world.sent()), (1, 0));
    // Whoever unlocks it by logging in is a new daemon with the old keyring.
    drop(keyring);
    let _keyring = GnomeKeyring::start(&bus).await;
    // It would look again by itself within a quarter of a minute.
    assert_eq!(world.run(&["retry"]).code, 0);
    world.until_mirrored().await;
    assert_eq!(agent.stop(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_keyring_login_keeps_a_file_unless_the_keyring_was_asked_for() {
    let (bus, world) = (Bus::start().await, world().await);
    let session = Session { world: &world, bus: &bus };
    let asked = session.login(&["--keyring"]);
    assert_eq!(asked.code, 1);
    let told = "error: there is no desktop keyring here\nhint: `--file` keeps them in a file that only you can read\n";
    assert!(asked.stderr.ends_with(told), "{}", asked.stderr);
    assert!(!world.base().join("api-key").exists());
    let login = session.login(&[]);
    assert_eq!(login.code, 0, "{}", login.stderr);
    assert!(world.base().join("api-key").exists());
    assert_eq!(session.run(&["sync"]).code, 0);
}
