//! Planted secrets, searched wherever the program leaves something behind.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;

use super::all_below;
use super::tap::Tap;
use crate::world::{World, private, said};

/// A key that could be one, and that is found again.
fn canary(name: &str) -> String {
    format!("canary{name}{}", "k".repeat(58 - name.len()))
}

/// Everything that the program said or kept, each with where it was.
#[derive(Default)]
struct Left(Vec<(String, Vec<u8>)>);

impl Left {
    fn take(&mut self, place: impl Into<String>, bytes: impl Into<Vec<u8>>) {
        self.0.push((place.into(), bytes.into()));
    }

    /// Runs a command with all words that it has, and keeps what it says.
    fn run(&mut self, mut command: Command) -> i32 {
        command.env("DSTOR_SYNC_LOG", "trace").env("RUST_BACKTRACE", "1").env("RUST_LOG", "trace");
        let place = format!("{:?}", command.get_args().collect::<Vec<_>>());
        let said = tokio::task::block_in_place(|| said(command));
        self.take(place, format!("{}{}", said.stdout, said.stderr));
        said.code
    }

    fn files_below(&mut self, top: &Path) {
        for path in all_below(top) {
            if path.is_file() {
                self.take(path.display().to_string(), fs::read(&path).unwrap_or_default());
            }
        }
    }

    /// What the system tells everyone of a process; that it has no child; that no dump of it can be made.
    fn process(&mut self, pid: u32) {
        let read = |what: &str| fs::read(format!("/proc/{pid}/{what}")).expect("its process is there");
        for what in ["cmdline", "comm", "maps"] {
            self.take(format!("/proc/PID/{what}"), read(what));
        }
        let limits = String::from_utf8(read("limits")).expect("UTF-8");
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("a limit");
        assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
        for other in fs::read_dir("/proc").expect("read").flatten() {
            let Ok(status) = fs::read_to_string(other.path().join("status")) else { continue };
            let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
            assert_ne!(parent.map(str::trim), Some(pid.to_string().as_str()), "it has a child: {status}");
        }
    }

    fn assert_without(&self, secrets: &[&str]) {
        assert!(self.0.iter().any(|(_, bytes)| !bytes.is_empty()));
        for (place, bytes) in &self.0 {
            for secret in secrets {
                assert!(secret.len() >= 16, "too short to be sure of: {secret}");
                let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
                assert!(!found, "a secret is in {place}: {}", String::from_utf8_lossy(bytes));
            }
        }
    }
}

// P6, G1: key and token, at every level of the log, in every command, file and process.
#[tokio::test(flavor = "multi_thread")]
async fn neither_the_key_nor_the_token_is_in_any_output_file_or_process() {
    let mut world = World::new().await;
    let tap = Tap::on(&world.sandbox().url()).await;
    world.point_to(&tap.url());
    let key = canary("api");
    world.sandbox().replace_api_key(&key);
    fs::write(world.base().join("key"), &key).expect("written");
    for fault in
        ["upload 500 x1", "upload 401 x1", "upload html x1", "upload reset x1", "upload 413 name=bad", "token 503 x1"]
    {
        world.misbehave(fault);
    }
    for name in ["a", "b", "bad", "d/e"] {
        world.write(name, name);
    }
    let mut left = Left::default();
    let mut command = world.command(&["run", "-vv"]);
    command.env("DSTOR_SYNC_LOG", "trace").env("RUST_LOG", "trace");
    let agent = world.start_command(command);
    world
        .until("three are stored and one is refused", || (world.count("stored"), world.count("failed")) == (3, 1))
        .await;
    let token = tap.token().expect("a token went by");
    assert!(tap.heard(key.as_bytes()) && token.len() > 60, "{token}");
    left.process(agent.pid());
    for arguments in [
        &["status", "-vv"][..],
        &["status", "--json", "-vv"],
        &["ls", "-vv"],
        &["ls", "--json"],
        &["why", "mirror/bad"],
        &["why", "mirror/a"],
        &["wait", "--timeout", "1s"],
        &["config", "check", "-vv"],
        &["config", "show", "-vv"],
        &["root", "accept", "mirror"],
        &["sync", "-vv"],
        &["help"],
    ] {
        left.run(world.command(arguments));
    }
    // While it runs and after it was killed, with all that is in the write-ahead log.
    left.files_below(&world.state_dir());
    agent.signal(Signal::KILL);
    left.take("its log", agent.log());
    left.files_below(&world.state_dir());
    left.run(world.command(&["sync", "-vv"]));
    left.files_below(&world.state_dir());
    left.assert_without(&[&key, &token, token.rsplit('.').next().expect("a signature")]);
    // The search does find: the key is in its own file.
    let mut own = Left::default();
    own.files_below(&world.base().join("key"));
    assert!(own.0[0].1 == key.as_bytes());
}

// P6, G1
#[tokio::test(flavor = "multi_thread")]
async fn neither_a_password_nor_a_key_in_the_environment_is_told_of() {
    let mut world = World::new().await;
    let tap = Tap::on(&world.sandbox().url()).await;
    world.point_to(&tap.url());
    world.write("a", "a");
    let (email, password) = {
        let (email, password) = world.sandbox().login();
        (email.to_owned(), password.to_owned())
    };
    let mut left = Left::default();
    let mut by_login = world.command(&["run", "-vv"]);
    by_login.env("DSTOR_EMAIL", &email).env("DSTOR_PASSWORD", &password).env("DSTOR_SYNC_LOG", "trace");
    let agent = world.start_command(by_login);
    world.until_mirrored().await;
    assert!(tap.heard(password.as_bytes()));
    left.process(agent.pid());
    for arguments in [&["config", "check", "-vv"][..], &["config", "show", "-vv"], &["sync", "-vv"], &["status", "-vv"]]
    {
        let mut command = world.command(arguments);
        command.env("DSTOR_EMAIL", &email).env("DSTOR_PASSWORD", &password);
        left.run(command);
    }
    left.take("its log", agent.log());
    assert_eq!(agent.stop(), 0);

    world.write("b", "b");
    let (refused, broken) = (canary("refused"), format!("{} two words", canary("broken")));
    for key in [&refused, &broken] {
        for arguments in [&["sync", "-vv"][..], &["config", "check", "-vv"], &["config", "show"], &["status"]] {
            let mut command = world.command(arguments);
            command.env("DSTOR_API_KEY", key);
            left.run(command);
        }
    }
    assert!(tap.heard(refused.as_bytes()), "it was never tried");
    left.files_below(&world.state_dir());
    left.assert_without(&[&password, &refused, &broken, &canary("broken")]);
}

// P6, G1: a secret in the wrong place is refused by its place.
#[tokio::test(flavor = "multi_thread")]
async fn no_complaint_about_the_config_repeats_a_secret_in_it() {
    let mut world = World::new().await;
    let secret = canary("stray");
    let good = world.config().to_owned();
    let url = world.sandbox().url();
    let mut left = Left::default();
    for bad in [
        good.replace("[dstor]", &format!("[dstor]\napi_key = \"{secret}\"")),
        good.replace("[dstor]", &format!("[dstor]\npassword = \"{secret}\"")),
        good.replace("[dstor]", &format!("[dstor]\napi_key = {secret}")),
        good.replace("[dstor]", &format!("[dstor]\ntoken_lifetime = 1\napi_key = \"{secret}\nworkers")),
        good.replace(&url, &format!("https://user:{secret}@example.org")),
        good.replace(&url, &format!("https://{secret}@example.org")),
        good.replace(&url, &format!("https://example.org/?key={secret}")),
        good.replace(&url, &format!("https://example.org:{secret}")),
        good.replace(&url, &format!("http://user:{secret}@example.org")),
    ] {
        assert_ne!(bad, good);
        world.set_config(bad);
        for arguments in [&["run", "-vv"][..], &["sync", "-vv"], &["config", "check", "-vv"], &["config", "show"]] {
            assert_eq!(left.run(world.command(arguments)), 78, "{}", world.config());
        }
    }
    world.set_config(good);
    for address in [format!("https://user:{secret}@example.org"), format!("https://example.org/#{secret}")] {
        let mut command = world.command(&["sync", "-vv"]);
        command.env("DSTOR_URL", address);
        assert_eq!(left.run(command), 78);
    }
    let key = world.base().join("key");
    for (content, mode) in [(format!("{secret} x"), 0o600), (format!("{secret}\n\n"), 0o600), (secret.clone(), 0o644)] {
        fs::write(&key, content).expect("written");
        private(&key);
        fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(mode)).expect("ours");
        for arguments in [&["run", "-vv"][..], &["sync", "-vv"], &["config", "check", "-vv"], &["config", "show"]] {
            assert_eq!(left.run(world.command(arguments)), 78);
        }
    }
    left.assert_without(&[&secret]);
}

// G2: the system gives a process whose memory is its own to root; other programs of the same user cannot look into it.
#[tokio::test(flavor = "multi_thread")]
async fn no_other_program_of_the_same_user_can_look_into_the_agent() {
    let mut world = World::new().await;
    world.become_ordinary();
    let agent = world.start();
    world.until("it runs", || world.status()["agent"]["state"] == "running").await;
    let owner = fs::metadata(format!("/proc/{}/environ", agent.pid())).expect("looked").uid();
    assert_eq!(owner, 0, "its memory is open to its user");
    assert_eq!(agent.stop(), 0);
}
