//! `doctor`: what it finds, what it says to do, and that it leaves everything as it is.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use dstor_sync::sandbox::Phase;
use serde_json::Value;

use crate::security::all_below;
use crate::world::{Mount, Said, World, said};

/// What `doctor --json` says, and how it ends.
struct Found(Value, Said);

impl Found {
    /// The results of all checks of this name.
    fn results(&self, name: &str) -> Vec<&str> {
        self.checks(name).map(|check| check["result"].as_str().expect("a word")).collect()
    }

    /// Message and hint of all checks of this name.
    fn told(&self, name: &str) -> String {
        self.checks(name)
            .map(|check| {
                format!("{}\n{}\n", check["message"].as_str().expect("text"), check["hint"].as_str().unwrap_or("-"))
            })
            .collect()
    }

    fn checks(&self, name: &str) -> impl Iterator<Item = &Value> {
        self.0["checks"].as_array().expect("checks").iter().filter(move |check| check["check"] == name)
    }

    /// That exactly these checks are `bad`.
    #[track_caller]
    fn assert_bad(&self, names: &[&str], code: i32) {
        let all = self.0["checks"].as_array().expect("checks").iter();
        let bad: Vec<&str> = all
            .filter(|check| check["result"] == "bad")
            .map(|check| check["check"].as_str().expect("a word"))
            .collect();
        assert_eq!((bad.as_slice(), self.1.code), (names, code), "{:#}\n{}", self.0, self.1.stderr);
    }
}

fn examine(world: &World, more: &[&str]) -> Found {
    examined(world.command(&[&["doctor", "--json"], more].concat()))
}

fn examined(command: Command) -> Found {
    let said = tokio::task::block_in_place(|| said(command));
    let json: Value = serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error}: {said:?}"));
    for check in json["checks"].as_array().expect("checks") {
        let is_hinted = check["hint"].as_str().is_some_and(|hint| !hint.is_empty());
        assert_eq!(is_hinted, check["result"] == "warn" || check["result"] == "bad", "{check}");
    }
    Found(json, said)
}

/// Everything in a directory: names, digests of the content, and times.
fn image(top: &Path) -> Vec<(std::path::PathBuf, String, SystemTime)> {
    let mut all: Vec<_> = all_below(top)
        .into_iter()
        .map(|path| {
            let modified = path.symlink_metadata().and_then(|found| found.modified()).expect("looked");
            (path.clone(), blake3::hash(&fs::read(&path).unwrap_or_default()).to_string(), modified)
        })
        .collect();
    all.sort();
    all
}

/// A server that gives every request this answer.
fn server(answer: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let url = format!("http://{}", listener.local_addr().expect("its address"));
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let mut head = [0; 16 * 1024];
            // Whoever asks sends no body; whether they still listen is their business.
            let _ = client.read(&mut head).and_then(|_| client.write_all(answer.as_bytes()));
        }
    });
    url
}

fn answer(status: &str, more: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{more}Content-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn where_all_is_well_it_says_so_changes_nothing_and_tells_no_secret() {
    let world = World::new().await;
    world.write("a", "a");
    let agent = world.start();
    world.until_mirrored().await;
    let requests = world.sandbox().requests(Phase::Token);
    let found = examine(&world, &[]);
    found.assert_bad(&[], 0);
    for name in
        ["config", "state", "disk", "ledger", "agent", "credentials", "dstor", "clock", "mirror", "files", "watching"]
    {
        assert_eq!(found.results(name), ["ok"], "{name}: {}", found.told(name));
    }
    assert_eq!(found.0["schema"], 1);
    assert_eq!(world.sandbox().requests(Phase::Token), requests + 1, "it asks for one token");
    assert_eq!(world.sandbox().requests(Phase::Upload), 1);
    let told = world.run(&["doctor", "-vv"]);
    let key = fs::read_to_string(world.base().join("key")).expect("read");
    for text in [&told.stdout, &told.stderr, &found.1.stdout, &found.1.stderr] {
        assert!(!text.contains(key.trim()) && !text.contains('\u{1b}'), "{text}");
    }
    assert!(told.stdout.lines().all(|line| line.is_empty() || !line.starts_with("bad")), "{}", told.stdout);
    assert!(told.stdout.ends_with("\n\nall is well\n") || told.stdout.contains("to know of"), "{}", told.stdout);

    assert_eq!(agent.stop(), 0);
    let ours = || [world.state_dir(), world.mirror(), world.base().join("config.toml")].map(|top| image(&top));
    let before = ours();
    let found = examine(&world, &[]);
    found.assert_bad(&[], 0);
    assert_eq!(found.results("agent"), ["warn"], "{}", found.told("agent"));
    assert_eq!(ours(), before, "it left something behind");

    let agent = world.start();
    world.until("it runs", || world.status()["agent"]["state"] == "running").await;
    assert_eq!(world.run(&["pause"]).code, 0);
    assert!(examine(&world, &["--offline"]).told("agent").contains("is paused\n`dstor-sync resume`"));
    agent.kill();
    let found = examine(&world, &["--offline"]);
    found.assert_bad(&["agent"], 1);
    assert!(found.told("agent").contains("ended unexpectedly; its last word is of "), "{}", found.told("agent"));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_usable_config_it_says_what_is_wrong_and_looks_at_the_rest() {
    let mut world = World::new().await;
    world.write("a", "a");
    assert_eq!(world.run(&["sync"]).code, 0);
    let good = world.config().to_owned();

    world.set_config(good.replace("settle", "settel"));
    let found = examine(&world, &[]);
    found.assert_bad(&["config"], 78);
    assert!(found.told("config").contains("settel"), "{}", found.told("config"));
    assert_eq!((found.results("ledger"), found.results("dstor")), (vec!["ok"], vec!["skip"]));

    world.set_config(good.clone());
    let config = world.base().join("config.toml");
    fs::set_permissions(&config, fs::Permissions::from_mode(0o666)).expect("ours");
    let found = examine(&world, &[]);
    found.assert_bad(&["config"], 78);
    assert!(found.told("config").contains("chmod go-w"), "{}", found.told("config"));

    // None at all: the mirrors are those that the ledger knows, and credentials may be in variables.
    fs::remove_file(&config).expect("removed");
    let bare = |world: &World| {
        let mut command = world.command(&["doctor", "--json"]);
        command.env_remove("DSTOR_SYNC_CONFIG");
        command
    };
    let mut command = bare(&world);
    command.env("DSTOR_API_KEY", world.sandbox().api_key());
    let found = examined(command);
    found.assert_bad(&[], 0);
    assert_eq!((found.results("config"), found.results("mirror")), (vec!["warn"], vec!["ok"]));
    assert!(found.told("credentials").contains("DSTOR_API_KEY"), "{}", found.told("credentials"));
    // Nothing goes where it could be overheard, whoever names the place.
    let mut command = bare(&world);
    command.env("DSTOR_API_KEY", "k".repeat(64)).env("DSTOR_URL", "http://192.0.2.1");
    let found = examined(command);
    found.assert_bad(&["dstor"], 78);
    assert!(found.told("dstor").contains("https"), "{}", found.told("dstor"));
    fs::remove_dir_all(world.state_dir()).expect("removed");
    let mut command = bare(&world);
    command.env("DSTOR_URL", world.sandbox().url());
    examined(command).assert_bad(&["config", "credentials"], 78);

    let mut homeless = bare(&world);
    homeless.arg("--offline").env_remove("HOME").env_remove("DSTOR_SYNC_STATE_DIR");
    let found = examined(homeless);
    found.assert_bad(&["config", "state", "credentials"], 78);
    assert!(found.told("state").contains("HOME"), "{}", found.told("state"));
    assert!(!world.state_dir().exists(), "it made a state directory");
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_are_refused_missing_or_open_to_others_are_told_by_their_place() {
    let mut world = World::new().await;
    let key = world.base().join("key");
    let canary = format!("canary{}", "k".repeat(58));
    fs::write(&key, &canary).expect("written");
    let found = examine(&world, &["-vv"]);
    found.assert_bad(&["credentials"], 4);
    assert_eq!((found.results("dstor"), found.results("clock")), (vec!["ok"], vec!["ok"]));
    let told = found.told("credentials");
    assert!(told.contains(&format!("dStor refuses those from the file `{}`", key.display())), "{told}");
    assert!(!found.1.stdout.contains(&canary) && !found.1.stderr.contains(&canary), "{:?}", found.1);

    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("ours");
    let found = examine(&world, &[]);
    found.assert_bad(&["config"], 78);
    assert!(found.told("config").contains("chmod 600"), "{}", found.told("config"));
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("ours");
    fs::write(&key, format!("{canary} x")).expect("written");
    let found = examine(&world, &[]);
    found.assert_bad(&["credentials"], 78);
    assert!(found.told("credentials").contains("white space") && !found.1.stdout.contains(&canary), "{:?}", found.1);
    assert!(found.told("dstor").contains("takes connections; it was asked nothing"), "{}", found.told("dstor"));

    let none = world.config().lines().filter(|line| !line.starts_with("api_key_file")).collect::<Vec<_>>().join("\n");
    world.set_config(none);
    let found = examine(&world, &[]);
    found.assert_bad(&["credentials"], 4);
    assert!(found.told("credentials").contains("DSTOR_API_KEY"), "{}", found.told("credentials"));
    assert_eq!(world.sandbox().requests(Phase::Token), 1);
}

// E1, E2, E3
#[tokio::test(flavor = "multi_thread")]
async fn what_keeps_it_from_dstor_is_named_and_offline_nothing_is_asked() {
    let mut world = World::new().await;
    examine(&world, &["--offline"]).assert_bad(&[], 0);
    assert_eq!(world.sandbox().requests(Phase::Token), 0);
    for (rule, says) in [
        ("token 503 x1", "dStor asks to wait (status 503)"),
        ("token 404 x1", "status 404"),
        ("token html x1", "takes a connection, but then: "),
        ("token redirect=http://127.0.0.1:9/ x1", "is there a sign-in page?"),
        ("token reset x1", "the connection broke"),
    ] {
        world.misbehave(rule);
        let found = examine(&world, &[]);
        found.assert_bad(&["dstor"], 5);
        assert!(found.told("dstor").contains(says), "{rule}: {}", found.told("dstor"));
        assert_eq!(found.results("credentials"), ["skip"], "{rule}");
    }
    let good = world.config().to_owned();
    let plain = world.sandbox().url();
    for (url, says) in [
        // TLS with whoever does not speak it.
        (plain.replace("http://", "https://"), "no secure connection (TLS) to `https://127.0.0.1:"),
        (format!("https://{}.invalid", "x".repeat(64)), "nobody knows an address for `xxx"),
    ] {
        world.set_config(good.replace(&plain, &url));
        let found = examine(&world, &[]);
        found.assert_bad(&["dstor"], 5);
        assert!(found.told("dstor").contains(says), "{}", found.told("dstor"));
    }
    world.set_config(good);
    world.stop_sandbox().await;
    let found = examine(&world, &[]);
    found.assert_bad(&["dstor"], 5);
    assert!(found.told("dstor").contains("nothing takes a connection at"), "{}", found.told("dstor"));
    assert_eq!((found.results("clock"), found.results("mirror")), (vec!["skip"], vec!["ok"]));
}

// E12
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_not_the_servers_is_told_of_with_how_far_it_is_off() {
    let mut world = World::new().await;
    for (behind, token, results, says) in [
        (0, true, ["ok", "ok", "ok"], "within"),
        (-1800, true, ["ok", "ok", "warn"], "min ahead of dStor's"),
        (1800, true, ["ok", "ok", "warn"], "min behind dStor's"),
        (9000, true, ["ok", "ok", "bad"], "access tokens are asked for that end before they begin"),
        // It is told also by one that refuses, as it may do so for that reason.
        (9000, false, ["bad", "ok", "bad"], "2 h "),
    ] {
        let off = Duration::from_secs(u64::from(i32::unsigned_abs(behind)));
        let now = SystemTime::now();
        let date = httpdate::fmt_http_date(if behind < 0 { now - off } else { now + off });
        let date = format!("Date: {date}\r\n");
        let url = server(match token {
            true => answer("200 OK", &date, r#"{"access_token":"planted-token-4c1f0a"}"#),
            false => answer("401 Unauthorized", &date, "{}"),
        });
        world.point_to(&url);
        let found = examine(&world, &[]);
        let all: Vec<&str> =
            ["credentials", "dstor", "clock"].into_iter().flat_map(|name| found.results(name)).collect();
        assert_eq!(all, results, "{}", found.told("clock"));
        assert!(found.told("clock").contains(says), "{}", found.told("clock"));
        assert!(!found.1.stdout.contains("planted"), "{}", found.1.stdout);
        assert_eq!(found.1.code, if !token { 4 } else { i32::from(results[2] == "bad") });
    }
}

// D4, D9
#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_is_damaged_foreign_or_was_set_aside_is_told_of_and_left_as_it_is() {
    let world = World::new().await;
    for at in 0..200 {
        world.write(&format!("d/{at}"), at.to_string());
    }
    assert_eq!(world.run(&["sync"]).code, 0);
    let ledger = world.state_dir().join("ledger.db");
    let good = fs::read(&ledger).expect("read");
    let page: i64 = rusqlite::Connection::open_with_flags(&ledger, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY)
        .and_then(|db| {
            db.query_row("SELECT max(rootpage) FROM sqlite_schema WHERE name = 'files'", [], |row| row.get(0))
        })
        .expect("a page");
    let mut damaged = good.clone();
    let at = usize::try_from((page - 1) * 4096).expect("small");
    damaged[at..at + 64].fill(0xff);
    for (content, says) in [(damaged, "damaged"), (b"my letters".repeat(500), "is not a ledger")] {
        fs::write(&ledger, &content).expect("written");
        let found = examine(&world, &["--offline"]);
        found.assert_bad(&["ledger"], 1);
        assert!(found.told("ledger").contains(says), "{}", found.told("ledger"));
        assert_eq!(found.results("mirror"), ["ok"]);
        assert_eq!(fs::read(&ledger).expect("read"), content);
    }
    fs::write(&ledger, &good).expect("written");
    fs::write(world.state_dir().join("ledger.db.broken-20260131T120000Z"), "x").expect("written");
    let found = examine(&world, &["--offline"]);
    found.assert_bad(&["ledger"], 1);
    assert_eq!(found.results("ledger"), ["ok", "bad"]);
    assert!(found.told("ledger").contains("damaged at 2026-01-31T12:00:00Z"), "{}", found.told("ledger"));
}

// A7, A11
#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_that_is_gone_closed_or_another_one_is_told_of() {
    let mut world = World::new().await;
    world.write("a", "a");
    assert_eq!(world.run(&["sync"]).code, 0);
    let away = world.base().join("away");
    fs::rename(world.mirror(), &away).expect("renamed");
    let found = examine(&world, &["--offline"]);
    found.assert_bad(&["mirror"], 1);
    assert!(found.told("mirror").contains("is not there"), "{}", found.told("mirror"));
    fs::create_dir(world.mirror()).expect("made");
    let found = examine(&world, &["--offline"]);
    found.assert_bad(&["mirror"], 1);
    assert!(found.told("mirror").contains("dstor-sync root accept"), "{}", found.told("mirror"));
    // What is in it shows who it is, whatever its number.
    fs::rename(away.join("a"), world.path("a")).expect("moved");
    rusqlite::Connection::open(world.state_dir().join("ledger.db"))
        .and_then(|db| db.execute("UPDATE files SET ctime_s = ?1, ctime_ns = ?2", ctime(&world.path("a"))))
        .expect("written");
    examine(&world, &["--offline"]).assert_bad(&[], 0);

    world.become_ordinary();
    fs::set_permissions(world.mirror(), fs::Permissions::from_mode(0o000)).expect("ours");
    let found = examine(&world, &["--offline"]);
    fs::set_permissions(world.mirror(), fs::Permissions::from_mode(0o700)).expect("ours");
    found.assert_bad(&["mirror"], 1);
    assert!(found.told("mirror").contains("cannot be opened"), "{}", found.told("mirror"));
}

// A13
#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_whose_file_system_hangs_is_told_of() {
    let mut world = World::new().await;
    let share = Mount { at: world.base().join("share") };
    fs::create_dir(&share.at).expect("made");
    let another = format!("\n[[mirror]]\npath = \"{}\"\nremote = \"Share\"\n", share.at.display());
    world.set_config(world.config().to_owned() + &another);
    let Some(silent) = share.hanging() else {
        crate::world::tell("not tried: this user may not mount");
        return;
    };
    let found = examine(&world, &["--offline"]);
    drop(silent);
    found.assert_bad(&["config"], 78);
    assert!(found.told("config").contains("does not answer"), "{}", found.told("config"));
}

fn ctime(path: &Path) -> (i64, i64) {
    use std::os::unix::fs::MetadataExt as _;
    let found = path.metadata().expect("there");
    (found.ctime(), found.ctime_nsec())
}

// D2, D16
#[tokio::test(flavor = "multi_thread")]
async fn a_state_directory_that_is_open_closed_or_full_is_told_of() {
    let mut world = World::new().await;
    let state = world.state_dir();
    fs::create_dir(&state).expect("made");
    let mode = |mode| fs::set_permissions(&state, fs::Permissions::from_mode(mode)).expect("ours");
    mode(0o755);
    let found = examine(&world, &["--offline"]);
    assert!(found.results("state") == ["warn"] && found.told("state").contains("chmod 700"), "{}", found.told("state"));
    mode(0o700);
    let mount = Mount { at: state.clone() };
    if mount.memory("8m") {
        let found = examine(&world, &["--offline"]);
        found.assert_bad(&["disk"], 1);
        assert!(found.told("disk").contains("make room"), "{}", found.told("disk"));
        mount.unmount();
    }
    world.become_ordinary();
    mode(0o500);
    let found = examine(&world, &["--offline"]);
    mode(0o700);
    found.assert_bad(&["state"], 1);
    assert!(found.told("state").contains("cannot write in"), "{}", found.told("state"));
}

// G13
#[tokio::test(flavor = "multi_thread")]
async fn files_that_need_somebody_are_told_of_with_what_to_do_and_before_the_network() {
    let mut world = World::new().await;
    world.misbehave("upload 400 name=bad");
    world.write("good", "good");
    world.write("bad", "bad");
    fs::create_dir(world.path(".ssh")).expect("made");
    assert_eq!(world.run(&["sync"]).code, 1);
    rusqlite::Connection::open(world.state_dir().join("ledger.db"))
        .and_then(|db| db.execute("UPDATE files SET proof = NULL", []))
        .expect("written");
    let found = examine(&world, &[]);
    found.assert_bad(&["files"], 1);
    assert!(found.told("files").contains("1 file failed") && found.told("files").contains("ls --state failed"));
    assert!(found.results("proofs") == ["warn"] && found.told("proofs").contains("verify --read"));
    assert!(found.results("config") == ["ok", "warn"] && found.told("config").contains(".ssh"));
    world.stop_sandbox().await;
    examine(&world, &[]).assert_bad(&["dstor", "files"], 1);

    let poll = world.config().replace("remote = \"Docs\"", "remote = \"Docs\"\npoll = true");
    world.set_config(poll);
    let found = examine(&world, &["--offline"]);
    assert!(found.told("mirror").contains("as configured"), "{}", found.told("mirror"));
    assert_eq!(found.results("watching"), [""; 0], "nothing is watched");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_with_a_sandbox_is_looked_at_without_config_and_network() {
    let world = World::new().await;
    fs::remove_file(world.base().join("config.toml")).expect("removed");
    world.write("a", "a");
    let mut pass = world.command(&["sync", "--sandbox", "mirror"]);
    pass.env_remove("DSTOR_SYNC_CONFIG");
    let pass = tokio::task::block_in_place(|| said(pass));
    assert_eq!(pass.code, 0, "{pass:?}");
    let mut command = world.command(&["doctor", "--json"]);
    command.env_remove("DSTOR_SYNC_CONFIG");
    let found = examined(command);
    found.assert_bad(&[], 0);
    assert_eq!((found.results("config"), found.results("mirror")), (vec!["skip"], vec!["ok"]));
}
