//! The command line: exit statuses, what is said, and JSON.

use std::fs;
use std::time::Duration;

use rustix::process::Signal;

use dstor_sync::sandbox::Phase;

use crate::world::{World, said};

#[test]
fn without_a_home_each_command_says_what_it_needs_and_how_to_name_it() {
    let all = "run;run d;sync d;sync --sandbox d;status;ls;log;why f;wait;verify;restore d;export --json;config check;\
               config show;manifest publish;login;logout;pause;resume;rescan;retry;accept f;root accept d;sandbox;init d";
    for line in all.split(';') {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_dstor-sync"));
        command.args(line.split(' ')).env_clear().env("PATH", "/usr/bin:/bin").stdin(std::process::Stdio::null());
        let said = crate::world::said(command);
        assert_eq!(said.code, 78, "{line}: {said:?}");
        let is_clear =
            said.stderr.contains("there is no home directory") && said.stderr.contains("hint: set HOME, or name");
        assert!(is_clear && said.stdout.is_empty(), "{line}: {said:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_pass_stores_everything_and_says_so() {
    let world = World::new().await;
    world.write("a", "a");
    world.write("d/b", "bb");
    let dry = world.run(&["sync", "--dry-run"]);
    assert_eq!(dry.code, 0, "{dry:?}");
    assert!(dry.stdout.contains("2 to look at"), "{dry:?}");
    assert_eq!(world.sandbox().requests(Phase::Token), 0);

    let pass = world.run(&["sync"]);
    assert_eq!(pass.code, 0, "{pass:?}");
    assert!(pass.stdout.ends_with("2 files stored (3 B), 0 waiting, 0 failed.\n"), "{pass:?}");
    assert!(pass.stdout.contains(&format!("stored   {}  http://127.0.0.1:", world.path("d/b").display())), "{pass:?}");
    world.until_mirrored().await;
    let again = world.run(&["sync"]);
    assert_eq!((again.code, again.stdout.as_str()), (0, "0 files stored (0 B), 0 waiting, 0 failed.\n"), "{again:?}");
    assert_eq!(world.sandbox().requests(Phase::Upload), 2);
    assert_eq!(world.run(&["wait"]).code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pass_with_a_failed_file_exits_with_1() {
    let world = World::new().await;
    world.misbehave("upload 400 name=bad");
    world.write("bad", "1");
    world.write("good", "2");
    let pass = world.run(&["sync"]);
    assert_eq!(pass.code, 1, "{pass:?}");
    assert!(pass.stdout.contains("1 file stored (1 B), 0 waiting, 1 failed."), "{pass:?}");
    let listed = world.run(&["ls", "--state", "failed"]);
    assert_eq!(listed.stdout.lines().count(), 1);
    assert_eq!(world.run(&["wait"]).code, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_credentials_exit_with_4_and_an_absent_dstor_with_5() {
    let mut world = World::new().await;
    world.write("a", "1");
    let key = world.base().join("key");
    let good = fs::read(&key).expect("read");
    fs::write(&key, "z".repeat(64)).expect("written");
    let pass = world.run(&["sync"]);
    assert_eq!(pass.code, 4, "{pass:?}");
    assert!(pass.stderr.contains("dStor refuses the API key"), "{pass:?}");
    fs::write(&key, good).expect("written");
    world.stop_sandbox().await;
    let pass = world.run(&["sync"]);
    assert_eq!(pass.code, 5, "{pass:?}");
    assert!(pass.stderr.contains("dStor cannot be reached"), "{pass:?}");
    assert!(pass.stdout.contains("1 waiting"), "{pass:?}");
    let none = world.config().lines().filter(|line| !line.starts_with("api_key_file")).collect::<Vec<_>>().join("\n");
    world.set_config(none);
    assert_eq!(world.run(&["config", "check"]).code, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pass_that_is_interrupted_says_by_what() {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let world = World::new().await;
        world.misbehave("upload stall");
        world.write("a", "1");
        let mut pass = world.start_with(&["sync"]);
        world.until("the upload hangs", || world.sandbox().requests(Phase::Upload) == 1).await;
        pass.signal(signal);
        assert_eq!(pass.end().code(), Some(code));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_config_that_cannot_be_used_exits_with_78_and_says_why() {
    let mut world = World::new().await;
    let good = world.config().to_owned();
    for (from, to, says) in [
        ("settle", "settel", "settle"),
        ("\"100ms\"", "\"soon\"", "settle"),
        ("remote = \"Docs\"", "remote = \"Docs\"\nremote_id = 1", "remote_id"),
        ("http://127.0.0.1", "http://example.org", "https"),
        ("/mirror\"", "/nowhere\"", "does not exist"),
    ] {
        world.set_config(good.replace(from, to));
        let said = world.run(&["run"]);
        assert_eq!(said.code, 78, "{to}: {said:?}");
        assert!(said.stderr.starts_with("error: ") && said.stderr.contains("hint: "), "{to}: {said:?}");
        assert!(said.stderr.contains(says), "{to}: {said:?}");
    }
    assert!(!world.state_dir().exists(), "a config that was refused left something behind");
}

// P1: what one dStor holds says nothing of another.
#[tokio::test(flavor = "multi_thread")]
async fn another_dstor_is_sent_everything_again() {
    let mut world = World::new().await;
    world.write("a", "a");
    assert_eq!(world.run(&["sync"]).code, 0);
    let first = world.sandbox().url();
    world.stop_sandbox().await;
    fs::rename(world.base().join("dstor"), world.base().join("other-dstor")).expect("renamed");
    let other = dstor_sync::sandbox::Options::new(world.base().join("dstor"));
    world.use_sandbox(dstor_sync::sandbox::Sandbox::start(other).await.expect("a sandbox"));
    assert_ne!(world.sandbox().url(), first);
    let pass = world.run(&["sync"]);
    assert!(pass.stdout.contains("1 file stored"), "{pass:?}");
    world.until_mirrored().await;
    assert_eq!(world.count("stored"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_that_does_not_exist_does_not_hold_up_the_others() {
    let mut world = World::new().await;
    world.set_config(world.config().replace(
        "[watch]",
        &format!("[[mirror]]\npath = \"{}\"\nremote = \"none\"\n\n[watch]", world.base().join("none").display()),
    ));
    world.write("a", "a");
    let pass = world.run(&["sync"]);
    assert_eq!(pass.code, 1, "{pass:?}");
    assert!(pass.stdout.contains("1 file stored") && pass.stderr.contains("does not exist"), "{pass:?}");
    let mirrors = world.status()["mirrors"].clone();
    assert!(mirrors.as_array().is_some_and(|all| all.iter().any(|one| one["watch"] == "missing")), "{mirrors}");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_usage_exits_with_2_and_no_agent_with_3() {
    let world = World::new().await;
    assert_eq!(world.run(&["frobnicate"]).code, 2);
    assert_eq!(world.run(&["wait", "--timeout", "soon"]).code, 2);
    for reading in [&["status"][..], &["ls"], &["wait"]] {
        let said = world.run(reading);
        assert_eq!(said.code, 3, "{said:?}");
        assert!(said.stderr.contains("there is no ledger"), "{said:?}");
    }
    assert!(!world.state_dir().exists(), "reading made a state directory");
}

// A foreign, newer or broken ledger: D4, D9
#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_is_none_is_refused_and_left_as_it_is() {
    let world = World::new().await;
    fs::create_dir(world.state_dir()).expect("made");
    let ledger = world.state_dir().join("ledger.db");
    for (content, says) in [(b"my letters".repeat(500), "is not a ledger"), (newer_ledger(), "newer")] {
        fs::write(&ledger, &content).expect("written");
        for command in [&["run"][..], &["sync"], &["status"]] {
            let said = world.run(command);
            assert_eq!(said.code, 1, "{said:?}");
            assert!(said.stderr.contains(says) && said.stderr.contains("hint: "), "{said:?}");
        }
        assert_eq!(fs::read(&ledger).expect("read"), content);
    }
}

fn newer_ledger() -> Vec<u8> {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("ledger.db");
    drop(dstor_sync::ledger::Ledger::open(&path).expect("a ledger"));
    let db = rusqlite::Connection::open(&path).expect("opened");
    db.pragma_update(None, "journal_mode", "DELETE").expect("set");
    db.pragma_update(None, "user_version", 99).expect("set");
    drop(db);
    fs::read(&path).expect("read")
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_for_a_file_ends_when_it_is_stored() {
    let world = World::new().await;
    let _agent = world.start();
    world.until("it runs", || world.status()["agent"]["state"] == "running").await;
    for round in 0..5 {
        let path = world.write("a", format!("version {round}"));
        let waited = world.run(&["wait".as_ref(), "--timeout".as_ref(), "60s".as_ref(), path.as_os_str()]);
        assert_eq!(waited.code, 0, "{waited:?}\n{}", world.story());
        assert_eq!(world.remote()[b"a".as_slice()], format!("version {round}").into_bytes());
    }
    world.write("b", "b");
    assert_eq!(world.run(&["wait", "--timeout", "60s"]).code, 0);
    assert!(world.remote().contains_key(b"b".as_slice()));
    world.write("c.txt~", "excluded");
    let excluded = world.run(&["wait".as_ref(), world.path("c.txt~").as_os_str()]);
    assert_eq!(excluded.code, 1, "{excluded:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_that_is_interrupted_does_not_claim_that_all_is_stored() {
    let mut world = World::new().await;
    world.set_config(world.config().replace("settle = \"100ms\"", "settle = \"60s\"").replace("\"2s\"", "\"60s\""));
    let _agent = world.start();
    world.until("it runs", || world.status()["agent"]["state"] == "running").await;
    world.write("a", "not stored for a minute");
    let mut wait = world.start_with(&["wait"]);
    let process = format!("/proc/{}/status", wait.pid());
    world
        .until("it listens for signals", || {
            let status = std::fs::read_to_string(&process).expect("read");
            let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).expect("there").trim();
            u64::from_str_radix(caught, 16).expect("a number") & (1 << (Signal::TERM.as_raw() - 1)) != 0
        })
        .await;
    wait.signal(Signal::TERM);
    assert_eq!(wait.end().code(), Some(143));
}

// A pass over several mirrors once waited for ever for what an earlier one had left behind.
#[tokio::test(flavor = "multi_thread")]
async fn a_pass_ends_also_when_what_an_earlier_one_left_is_gone() {
    let mut world = World::new().await;
    let second = world.base().join("second");
    fs::create_dir(&second).expect("made");
    world.set_config(world.config().replace(
        "[watch]",
        &format!("[[mirror]]\npath = \"{}\"\nremote = \"Docs/second\"\n\n[watch]", second.display()),
    ));
    fs::write(second.join("a"), "a").expect("written");
    world.write("b", "b");
    let port = world.stop_sandbox().await;
    assert_eq!(world.run(&["sync"]).code, 5);
    fs::remove_file(second.join("a")).expect("removed");
    fs::remove_file(world.path("b")).expect("removed");
    world.start_sandbox(port).await;
    let mut pass = world.start_with(&["sync"]);
    assert_eq!(pass.end().code(), Some(0), "{}", world.story());
    assert_eq!(world.count("pending"), 0);
}

// B17, F14
#[tokio::test(flavor = "multi_thread")]
async fn nothing_acts_on_the_terminal_and_a_closed_pipe_kills_nobody() {
    let world = World::new().await;
    world.write("\u{1b}]0;owned\u{7}\u{202e}", "x");
    assert_eq!(world.run(&["sync"]).code, 0);
    for command in [&["ls"][..], &["status"]] {
        let said = world.run(command);
        assert!(!said.stdout.contains('\u{1b}') && !said.stdout.contains('\u{202e}'), "{said:?}");
    }
    assert!(world.run(&["ls"]).stdout.contains(r"\u{1b}]0;owned\u{7}\u{202e}"));
    let mut shell = std::process::Command::new("sh");
    shell.arg("-c").arg(format!(
        "{} --state-dir {} ls | true; echo ${{PIPESTATUS:-done}}",
        env!("CARGO_BIN_EXE_dstor-sync"),
        world.state_dir().display()
    ));
    assert!(!said(shell).stderr.contains("panicked"));
}

#[tokio::test(flavor = "multi_thread")]
async fn help_names_only_commands_that_work() {
    let world = World::new().await;
    let help = world.run(&["--help"]).stdout;
    let commands: Vec<&str> = help
        .lines()
        .skip_while(|line| !line.starts_with("Commands:"))
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    let known = "run init login logout sync status ls log why wait verify doctor restore export manifest key config root accept pause resume retry rescan service completions man sandbox help";
    assert_eq!(commands.join(" "), known);
    for command in commands.iter().filter(|command| **command != "help") {
        let help = world.run(&[command, &"--help"]);
        assert_eq!(help.code, 0);
        assert_eq!(help.stdout.matches("\n  dstor-sync ").count(), 2, "{command} has two examples: {}", help.stdout);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sandbox_by_itself_serves_an_agent_by_its_address() {
    let world = World::new().await;
    let store = world.base().join("own-store");
    let store_text = store.to_str().expect("UTF-8").to_owned();
    let sandbox = world.start_with(&["sandbox", "--listen", "127.0.0.1:0", "--store", &store_text]);
    world.until("it listens", || sandbox.log().contains("stop     Ctrl-C")).await;
    let log = sandbox.log();
    let url = log.split_whitespace().find(|word| word.starts_with("http://")).expect("its address");
    world.write("a", "1");
    let mut pass = world.command(&["sync"]);
    pass.env("DSTOR_URL", url).env("DSTOR_API_KEY", fs::read_to_string(store.join("api-key")).expect("a key").trim());
    let pass = tokio::task::block_in_place(|| said(pass));
    assert_eq!(pass.code, 0, "{pass:?}");
    tokio::time::sleep(Duration::ZERO).await;
    assert_eq!(sandbox.stop(), 0);
    let refused = world.run(&["sandbox", "--listen", "0.0.0.0:0"]);
    assert_eq!(refused.code, 2, "{refused:?}");
}
