//! Files that look like secrets are held before they are public. All that looks like one here is made up as the test runs.

use std::collections::BTreeSet;
use std::fs;

use bip39::{Language, Mnemonic};
use dstor_sync::sandbox::Phase;
use serde_json::Value;

use crate::encrypt::object;
use crate::world::{World, sync};

/// A private key in PEM, of random letters.
fn key() -> String {
    let line = |word: &str| format!("{0}{word} PRIVATE KEY{0}\n", "-".repeat(5));
    let letters: String = std::iter::repeat_with(fastrand::alphanumeric).take(64).collect();
    format!("{}{letters}\n{}", line("BEGIN"), line("END"))
}

/// The words of a wallet that nobody has.
fn words() -> String {
    let entropy: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(16).collect();
    Mnemonic::from_entropy_in(Language::English, &entropy).expect("entropy").to_string()
}

/// Names of all that dStor ever stored.
fn sent(world: &World) -> BTreeSet<String> {
    world.sandbox().versions().expect("versions").into_iter().map(|version| version.name).collect()
}

fn names(all: &[&str]) -> BTreeSet<String> {
    all.iter().map(|name| (*name).to_owned()).collect()
}

fn state(world: &World, path: &str) -> Value {
    world.ls()[path]["state"].clone()
}

/// Requests that may hold bytes of files.
fn requests(world: &World) -> u64 {
    world.sandbox().requests(Phase::Upload) + world.sandbox().requests(Phase::Chunk)
}

// G13
#[tokio::test(flavor = "multi_thread")]
async fn what_looks_like_a_secret_is_not_sent_until_a_person_allows_it_and_is_told_of() {
    let mut world = World::new().await;
    // Enough in one directory for a session; and one that goes by itself, whose beginning alone is looked at.
    for name in ["a", "b", "c", "d", "e"] {
        world.write(name, name);
    }
    world.write("key.pem", key());
    world.write("wallet.txt", format!("my words: {}\n", words()));
    world.write("deep/home/vault.kdbx", "not looked into");
    world.write("large.txt", [key(), "x".repeat(3 << 20)].concat());
    world.write("deep/.env", format!("DEBUG=1\nAPI_TOKEN={}\n", "t".repeat(20)));
    let said = world.run(&["sync"]);
    assert_eq!(said.code, 0, "{said:?}");
    // One that was saved just before it was read is looked at, and told of, twice.
    let held: BTreeSet<&str> = said.stdout.lines().filter(|line| line.starts_with("held ")).collect();
    assert_eq!(held.len(), 5, "{said:?}");
    assert_eq!(sent(&world), names(&["a", "b", "c", "d", "e"]));
    let files = world.status()["mirrors"][0]["files"].clone();
    assert_eq!((&files["secrets"], &files["skipped"], &files["failed"]), (&5.into(), &5.into(), &0.into()));

    // Where people look.
    for path in ["key.pem", "wallet.txt", "deep/home/vault.kdbx", "large.txt", "deep/.env"] {
        assert_eq!(state(&world, path), "skipped", "{path}");
    }
    for (path, sign) in [
        ("key.pem", "a private key in PEM"),
        ("wallet.txt", "the words of a wallet (BIP-39)"),
        ("deep/home/vault.kdbx", "*.kdbx"),
        ("deep/.env", "a variable with a secret"),
    ] {
        let why = world.run(&["why".as_ref(), world.path(path).as_os_str()]);
        assert!(why.stdout.contains(&format!("it looks like a secret ({sign})")), "{why:?}");
        assert!(why.stdout.contains("`allow_secrets`") && why.stdout.contains("`exclude`"), "{why:?}");
    }
    assert!(world.run(&["status"]).stdout.contains("5 files held, not uploaded: they look like secrets"));
    let doctor = world.run(&["doctor", "--json"]).stdout;
    assert!(doctor.contains("5 files held, as they look like secrets") && doctor.contains("allow_secrets"), "{doctor}");
    let log = world.run(&["log", "--json"]).stdout;
    let told = log.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let paths = told.filter(|line| line["event"] == "skipped").map(|line| line["path"].to_string());
    assert_eq!(paths.collect::<BTreeSet<_>>().len(), 5);
    let waited = world.run(&["wait".as_ref(), world.path("key.pem").as_os_str()]);
    assert!(waited.code == 1 && waited.stderr.contains("will not be stored"), "{waited:?}");

    // At rest nothing is done about them.
    let (before, ledger) = (requests(&world), fs::metadata(world.state_dir().join("log.jsonl")).expect("there").len());
    let dry = world.run(&["sync", "--dry-run"]);
    assert!(dry.stdout.contains("0 to look at"), "{dry:?}");
    sync(&world);
    let told = fs::read_to_string(world.state_dir().join("log.jsonl")).expect("read");
    assert_eq!(
        (requests(&world), told[usize::try_from(ledger).expect("small")..].contains("skipped")),
        (before, false)
    );

    // One that is changed is looked at anew; one that is allowed goes up as it is.
    world.write("wallet.txt", "moved to a safe place\n");
    sync(&world);
    assert_eq!(state(&world, "wallet.txt"), "stored");
    let allow =
        world.config().replace("remote = \"Docs\"", "remote = \"Docs\"\nallow_secrets = [\"*.pem\", \"/deep/home/\"]");
    world.set_config(allow);
    sync(&world);
    assert_eq!((state(&world, "key.pem"), state(&world, "deep/home/vault.kdbx")), ("stored".into(), "stored".into()));
    assert_eq!(world.remote()[b"key.pem".as_slice()], fs::read(world.path("key.pem")).expect("read"));
    assert_eq!(
        (state(&world, "large.txt"), &world.status()["mirrors"][0]["files"]["secrets"]),
        ("skipped".into(), &2.into())
    );

    // What was public once is no secret any more.
    world.write("a", key());
    sync(&world);
    assert_eq!(state(&world, "a"), "stored");
    // A rule that is taken back holds nothing that dStor has already.
    let taken_back = world.config().replace("\"*.pem\", ", "");
    world.set_config(taken_back);
    sync(&world);
    assert_eq!(state(&world, "key.pem"), "stored");
}

// G13
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_holds_what_is_saved_while_it_runs_and_lets_it_go_when_told() {
    let mut world = World::with("", "sessions = \"never\"").await;
    let agent = world.start();
    world.until("it runs", || world.status()["agent"]["state"] == "running").await;
    world.put("notes.txt", format!("# to be hidden\n{}", key()));
    world.until("it is held", || world.status()["mirrors"][0]["files"]["secrets"] == 1).await;
    world.write("other", "o");
    world.until("the other one is stored", || sent(&world).contains("other")).await;
    assert_eq!(sent(&world), names(&["other"]));
    world.until("the status says that dStor answers", || world.status()["dstor"]["reachable"] == true).await;
    assert!(agent.log().contains("held"), "{}", world.story());
    let allow = world.config().replace("remote = \"Docs\"", "remote = \"Docs\"\nallow_secrets = [\"/notes.txt\"]");
    world.set_config(allow);
    agent.signal(rustix::process::Signal::HUP);
    world.until("it is stored", || world.status()["mirrors"][0]["files"]["secrets"] == 0).await;
    assert!(sent(&world).contains("notes.txt"));
    assert_eq!(agent.stop(), 0);
    let mut wrong = world.config().to_owned();
    wrong = wrong.replace("/notes.txt", "a{");
    world.set_config(wrong);
    let said = world.run(&["config", "check"]);
    assert!(said.code == 78 && said.stderr.contains("`allow_secrets`"), "{said:?}");
}

// G13
#[tokio::test(flavor = "multi_thread")]
async fn what_is_encrypted_is_not_held_and_what_was_held_before_goes() {
    let mut world = World::new().await;
    world.write(".netrc", "machine example.org login me");
    let held = world.run(&["sync"]);
    assert!(held.stdout.contains("secret?") || world.ls()[".netrc"]["state"] == "skipped", "{held:?}");
    let identity = world.base().join("identity");
    let key = world.run(&["key".as_ref(), "generate".as_ref(), identity.as_os_str()]);
    world.set_config(format!("{}\n[encrypt]\nrecipients = [{:?}]\n", world.config(), key.stdout.trim()));
    let sent = world.run(&["sync"]);
    let line = &world.ls()[".netrc"];
    assert!(sent.code == 0 && line["state"] == "stored" && line["encrypted"] == true, "{sent:?} {line}");
}

// G13: what dStor holds encrypted is no more public than what it never held.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_stored_encrypted_is_held_as_well_once_nothing_is_encrypted_any_more() {
    let mut world = World::new().await;
    let open = world.config().to_owned();
    let identity = world.base().join("identity");
    let made = world.run(&["key".as_ref(), "generate".as_ref(), identity.as_os_str()]);
    world.set_config(format!("{open}\n[encrypt]\nrecipients = [\"{}\"]\n", made.stdout.trim()));
    let secrets = ["home/id_rsa", "home/notes", "home/once-more", "home/repaired.kdbx"];
    for path in secrets {
        world.write(path, key());
    }
    world.write("home/plain", "plain");
    assert_eq!(world.run(&["sync"]).code, 0);
    assert!(secrets.iter().all(|path| state(&world, path) == "stored"));

    world.set_config(open);
    let before = requests(&world);
    assert_eq!(world.run(&["sync"]).code, 0);
    assert_eq!(requests(&world), before, "what is as it was stays as it is");
    assert!(secrets.iter().all(|path| state(&world, path) == "stored"), "{:?}", world.states());

    for path in &secrets[..3] {
        world.write(path, key());
    }
    world.write("home/plain", "plainer");
    let versions = world.sandbox().versions().expect("versions").len();
    // One has no new version; that dStor lost it, and is to have it again, is no reason either.
    let hash = world.ls()[secrets[3]]["hash"].as_str().expect("a hash").to_owned();
    fs::remove_file(object(&world, &hash)).expect("removed");
    assert_eq!(world.run(&["verify", "--read", "--repair"]).code, 1);
    let said = world.run(&["sync"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(secrets.iter().all(|path| state(&world, path) == "skipped"), "{:?}", world.states());
    let stored = world.sandbox().versions().expect("versions");
    assert_eq!(stored.len(), versions + 1, "one more is there: {stored:?}");
    assert_eq!(state(&world, "home/plain"), "stored");
}
