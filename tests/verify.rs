//! Proof: what `verify` finds when dStor flips a bit, truncates, swaps, loses and lies, and that it is mended.

mod agent;
mod budget;
mod faults;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use dstor_sync::ledger::AgentLock;
use dstor_sync::sandbox::{Options, Phase, Sandbox};
use serde_json::Value;

use crate::world::{Said, World, stored, sync};

/// `verify --json` with these arguments: result and proof of each file by its path below the mirror, the summary, and how
/// it ended.
fn verify(world: &World, arguments: &[&str]) -> (BTreeMap<String, (String, Value)>, Value, Said) {
    let mut all = vec!["verify", "--json"];
    all.extend(arguments);
    let said = world.run(&all);
    let top = format!("{}/", world.mirror().display());
    let mut files = BTreeMap::new();
    let mut summary = Value::Null;
    for line in said.stdout.lines() {
        let line: Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(line["schema"], 1);
        match line["path"].as_str() {
            Some(path) => {
                let result = line["result"].as_str().expect("a result").to_owned();
                let path = path.trim_start_matches(&top).to_owned();
                assert!(files.insert(path, (result, line["proof"].clone())).is_none(), "told twice: {line}");
            }
            None => summary = line["summary"].clone(),
        }
    }
    (files, summary, said)
}

/// The results alone.
fn results(files: &BTreeMap<String, (String, Value)>) -> BTreeMap<&str, &str> {
    files.iter().map(|(path, (result, _))| (path.as_str(), result.as_str())).collect()
}

/// Where the sandbox keeps the bytes of a stored file.
fn object(world: &World, path: &str) -> PathBuf {
    let hash = world.ls()[path]["hash"].as_str().expect("a hash").to_owned();
    let mut found = Vec::new();
    let mut dirs = vec![world.base().join("dstor/objects")];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).expect("read").flatten() {
            if entry.path().is_dir() {
                dirs.push(entry.path());
            } else if entry.file_name().to_string_lossy().contains(&hash) {
                found.push(entry.path());
            }
        }
    }
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

fn flip_a_bit(object: &PathBuf) {
    let mut bytes = fs::read(object).expect("read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    fs::write(object, bytes).expect("written");
}

/// Files of all sorts, with content that differs.
const FILES: &[(&str, &str)] = &[
    ("a", "the first"),
    ("b", "the second"),
    ("dir/c", "the third one is longer"),
    ("dir/d", "the fourth"),
    ("dir/e", "the fifth"),
    ("dir/deep/f", "the sixth"),
    ("dir/deep/empty", ""),
    ("z", "the last"),
];

#[tokio::test(flavor = "multi_thread")]
async fn without_reading_it_tells_what_the_hash_proves_and_asks_dstor_nothing() {
    let world = stored(FILES).await;
    let (files, summary, said) = verify(&world, &[]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(files.values().all(|(result, proof)| (result.as_str(), proof) == ("proved", &"cid".into())), "{files:?}");
    assert_eq!((&summary["proved"], &summary["by_hash"]), (&8.into(), &8.into()));
    assert_eq!(world.sandbox().requests(Phase::Read), 0);
    let told = world.run(&["verify"]);
    assert_eq!(told.stdout, "8 files proved by the hash, 0 by reading back; 0 not proved, 0 missing, 0 different.\n");
    assert!(told.stderr.contains("Whether it still has them, `--read` shows."), "{}", told.stderr);
}

// E30, P1
#[tokio::test(flavor = "multi_thread")]
async fn what_is_damaged_on_dstor_is_named_exactly_and_mended() {
    let world = stored(FILES).await;
    flip_a_bit(&object(&world, "a"));
    let short = object(&world, "dir/c");
    fs::write(&short, &fs::read(&short).expect("read")[..7]).expect("written");
    let (one, other) = (object(&world, "dir/d"), object(&world, "dir/e"));
    let between = world.base().join("between");
    fs::rename(&one, &between).expect("moved");
    fs::rename(&other, &one).expect("moved");
    fs::rename(&between, &other).expect("moved");
    fs::remove_file(object(&world, "z")).expect("removed");
    fs::write(object(&world, "dir/deep/empty"), "not empty").expect("written");

    let (files, summary, said) = verify(&world, &["--read"]);
    let expected = BTreeMap::from([
        ("a", "different"),
        ("b", "proved"),
        ("dir/c", "different"),
        ("dir/d", "different"),
        ("dir/e", "different"),
        ("dir/deep/f", "proved"),
        ("dir/deep/empty", "different"),
        ("z", "missing"),
    ]);
    assert_eq!(results(&files), expected);
    assert_eq!(said.code, 1);
    assert_eq!((&summary["proved"], &summary["missing"], &summary["different"]), (&2.into(), &1.into(), &5.into()));

    // It is remembered, told of, and no proof any more.
    let (again, _, said) = verify(&world, &[]);
    assert_eq!((results(&again), said.code), (expected, 1));
    let status = world.status();
    let now = &status["mirrors"][0]["files"];
    assert_eq!(
        (&now["stored"], &now["proved"], &now["missing"], &now["different"]),
        (&8.into(), &2.into(), &1.into(), &5.into())
    );
    let problems = status["problems"].as_array().expect("problems");
    assert_eq!(problems.len(), 6);
    assert!(problems.iter().all(|problem| problem["message"].as_str().expect("words").contains("verify --repair")));
    let why = world.run(&["why", world.path("z").to_str().expect("UTF-8")]);
    assert!(why.stdout.contains("does not have it any more") && why.code == 1, "{why:?}");

    let (_, summary, said) = verify(&world, &["--repair"]);
    assert_eq!((&summary["repaired"], said.code), (&6.into(), 1));
    let before = world.sent();
    sync(&world);
    assert_eq!(world.sent() - before, 6, "those, and no others");
    assert_eq!(world.remote(), world.local());
    let (files, _, said) = verify(&world, &["--read"]);
    assert!(files.values().all(|(result, _)| result == "proved"), "{files:?}");
    assert_eq!(said.code, 0);
    let status = world.status();
    assert_eq!(status["mirrors"][0]["files"]["proved"], 8);
    assert_eq!(status["problems"], serde_json::json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_named_is_read_and_mended() {
    let world = stored(FILES).await;
    for path in ["a", "dir/c", "dir/deep/f"] {
        fs::remove_file(object(&world, path)).expect("removed");
    }
    let named = |path: &str| world.path(path).to_str().expect("UTF-8").to_owned();
    let (files, ..) = verify(&world, &["--read", &named("dir/deep"), &named("a")]);
    let expected = BTreeMap::from([("a", "missing"), ("dir/deep/f", "missing"), ("dir/deep/empty", "proved")]);
    assert_eq!(results(&files), expected);
    let (_, summary, _) = verify(&world, &["--repair", &named("dir")]);
    assert_eq!(summary["repaired"], 1, "what is known of below the path, and nothing else");
    let (_, _, said) = verify(&world, &["--read", &named("nothing")]);
    assert_eq!(said.code, 1);
    assert!(said.stderr.contains("nothing of"), "{}", said.stderr);
}

// P1: a file that changed since it was found missing is sent as it is now; one that is gone here cannot be mended.
#[tokio::test(flavor = "multi_thread")]
async fn mending_sends_what_is_here_now_and_touching_a_lost_file_does_not_make_it_whole() {
    let world = stored(FILES).await;
    for path in ["a", "b"] {
        fs::remove_file(object(&world, path)).expect("removed");
    }
    let (_, _, said) = verify(&world, &["--read"]);
    assert_eq!(said.code, 1);
    let file = fs::File::options().write(true).open(world.path("a")).expect("opened");
    file.set_modified(std::time::SystemTime::UNIX_EPOCH).expect("touched");
    sync(&world);
    assert_eq!(world.status()["mirrors"][0]["files"]["missing"], 2, "comparing with the record proves nothing");
    world.write("b", "another second");
    let (_, summary, _) = verify(&world, &["--repair"]);
    assert_eq!(summary["repaired"], 2);
    sync(&world);
    assert_eq!(world.remote(), world.local());
    assert_eq!(verify(&world, &["--read"]).2.code, 0);
}

/// A service that cuts files otherwise gives other hashes: no file is proved by them, none is uploaded again for it, and
/// reading back proves them.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_with_other_hashes_is_recognised_and_proved_by_reading_back() {
    let mut world = World::new().await;
    let mut options = Options::new(world.base().join("otherwise"));
    options.chunk_bytes = 4;
    world.use_sandbox(Sandbox::start(options).await.expect("a sandbox"));
    for (path, content) in FILES {
        if content.len() > 4 {
            world.write(path, content);
        }
    }
    sync(&world);
    let before = world.sent();
    let (files, _, said) = verify(&world, &[]);
    assert!(files.values().all(|(result, _)| result == "unproved"), "{files:?}");
    assert_eq!(said.code, 1, "not proved");
    let note = world.status()["mirrors"][0]["proof_note"].as_str().unwrap_or_default().to_owned();
    assert!(note.contains("by other rules"), "{note}");
    let agent = world.start();
    world.until("the agent says so", || agent.log().contains("by other rules")).await;
    let (files, _, said) = verify(&world, &["--read"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(files.values().all(|(_, proof)| proof == "read"), "{files:?}");
    let (files, _, said) = verify(&world, &[]);
    assert_eq!(said.code, 0);
    assert!(files.values().all(|(result, proof)| (result.as_str(), proof) == ("proved", &"read".into())), "{files:?}");
    assert_eq!(world.sent(), before, "nothing is uploaded for it");
    assert_eq!(agent.log().matches("by other rules").count(), 1, "said once");
    assert_eq!(agent.stop(), 0);
}

// D9, F10
#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_of_an_older_version_is_read_as_it_is_and_brought_up_where_no_agent_has_it() {
    let world = stored(FILES).await;
    let path = world.state_dir().join("ledger.db");
    rusqlite::Connection::open(&path)
        .and_then(|db| {
            db.execute_batch(
                "DROP TRIGGER file_stored_anew; DROP TRIGGER file_not_to_be_read; DROP TABLE readings;
                 DROP TABLE stragglers; DROP TABLE steering; ALTER TABLE changes DROP COLUMN breaks;
                 DROP TABLE latest; DROP TABLE manifests; DROP TABLE history;
                 DROP TABLE unrecorded; DROP TABLE allowances;
                 DROP INDEX reasons_secret; DROP TABLE sealing; DROP TABLE sealed_manifests;
                 DROP TRIGGER mirror_counts; DROP TRIGGER file_in; DROP TRIGGER file_out; DROP TRIGGER file_changed;
                 DROP TRIGGER change_in; DROP TRIGGER change_out; DROP TRIGGER change_moved;
                 CREATE TEMP TABLE counted AS SELECT * FROM counts WHERE slot < 7;
                 DROP VIEW counts; DROP TABLE totals;
                 ALTER TABLE files DROP COLUMN sealed_size; ALTER TABLE files DROP COLUMN sealed_blake3;
                 DROP TABLE name_keys; ALTER TABLE files DROP COLUMN pseudonym;
                 ALTER TABLE directories ADD COLUMN remote TEXT",
            )?;
            let first = include_str!("../migrations/0001_ledger.sql");
            db.execute_batch(&first[first.find("CREATE TABLE counts").expect("it counts")..])?;
            db.execute_batch("INSERT INTO counts SELECT * FROM counted; PRAGMA user_version = 1")
        })
        .expect("made old");
    assert_eq!(verify(&world, &[]).2.code, 0);
    assert_eq!(world.count("proved"), 8);
    {
        let _agent = AgentLock::take(&world.state_dir()).expect("free");
        let (_, _, said) = verify(&world, &["--read"]);
        assert_eq!(said.code, 1);
        assert!(said.stderr.contains("restart the agent with this version"), "{}", said.stderr);
        assert_eq!(world.sandbox().requests(Phase::Read), 0);
    }
    let (files, _, said) = verify(&world, &["--read"]);
    assert_eq!((files.len(), said.code), (8, 0), "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_sandbox_in_the_program_stored_is_read_back_from_there() {
    let world = World::new().await;
    world.write("a", "the first");
    let mirror = world.mirror();
    let mirror = mirror.to_str().expect("UTF-8");
    assert_eq!(world.run(&["sync", "-q", "--sandbox", mirror]).code, 0);
    let said = world.run(&["verify", "--read", "--sandbox"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.stdout.starts_with("1 file proved by reading back (9 B)"), "{}", said.stdout);
    assert_eq!(world.sandbox().requests(Phase::Read), 0, "not from the other one");
}
