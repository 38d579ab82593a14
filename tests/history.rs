//! Versions that were replaced, and files that are gone: told of, and brought back as of a time.

use std::collections::BTreeMap;
use std::fs;

use serde_json::Value;

use crate::world::{World, stored, sync};

/// When dStor stored a file, to the second.
fn stored_at(world: &World, path: &str) -> String {
    world.ls()[path]["stored_at"].as_str().expect("a time").to_owned()
}

/// Waits until no more happens in the second that it is, nor in that time's: versions in one second are one to `--at`.
async fn until_later_than(world: &World, time: &str) {
    let time: jiff::Timestamp = time.parse().expect("a time");
    world.until("the second is over", || jiff::Timestamp::now().as_second() > time.as_second()).await;
}

/// What `ls --at` tells: path below the mirror, and hash.
fn then(world: &World, at: &str) -> BTreeMap<String, String> {
    let said = world.run(&["ls", "--json", "--at", at]);
    assert_eq!((said.code, said.stderr.as_str()), (0, ""), "{said:?}");
    let top = format!("{}/", world.mirror().display());
    let lines = said.stdout.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    lines.map(|line| (text(&line["path"]).trim_start_matches(&top).to_owned(), text(&line["hash"]))).collect()
}

fn hash_of(world: &World, path: &str) -> String {
    world.ls()[path]["hash"].as_str().expect("a hash").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_version_is_told_of_and_comes_back_also_when_nothing_else_remembers_it() {
    // What is stored later is stored at a later time, and so it is not there at an earlier one.
    let world = stored(&[("stays", "s"), ("goes", "g")]).await;
    world.write("d/a", "the first version");
    sync(&world);
    let (first, first_at) = (hash_of(&world, "d/a"), stored_at(&world, "d/a"));
    until_later_than(&world, &first_at).await;
    fs::remove_file(world.path("goes")).expect("removed");
    sync(&world);
    world.write("d/a", "the second");
    sync(&world);
    let (second, second_at) = (hash_of(&world, "d/a"), stored_at(&world, "d/a"));
    until_later_than(&world, &second_at).await;
    fs::remove_dir_all(world.path("d")).expect("removed");
    sync(&world);
    // The journal is renewed by size; this is as if it had been, twice.
    for name in ["log.jsonl", "log.jsonl.1"] {
        let _ = fs::remove_file(world.state_dir().join(name));
    }

    let a = world.path("d/a");
    let said = world.run(&["log".as_ref(), "--json".as_ref(), a.as_os_str()]);
    let life: Vec<Value> = said.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let events: Vec<&str> = life.iter().map(|line| line["event"].as_str().expect("a word")).collect();
    assert_eq!(events, ["stored", "stored", "gone"], "{said:?}");
    for (line, (hash, at, size)) in life.iter().zip([(&first, &first_at, 17), (&second, &second_at, 10)]) {
        assert_eq!((line["hash"].as_str(), line["at"].as_str()), (Some(&**hash), Some(&**at)));
        assert_eq!((&line["size"], line["path"].as_str()), (&size.into(), a.to_str()));
        let url = line["url"].as_str().expect("a link");
        assert!(url.starts_with("http://127.0.0.1:") && url.ends_with(hash.as_str()), "{url}");
    }
    let told = world.run(&["log".as_ref(), a.as_os_str()]).stdout;
    assert!(told.contains(&format!("17 B  {first}  http://127.0.0.1:")), "{told}");

    let (stays, goes) = (hash_of(&world, "stays"), hash_of(&world, "goes"));
    let all =
        |files: &[(&str, &String)]| files.iter().map(|(path, hash)| ((*path).to_owned(), (*hash).clone())).collect();
    assert_eq!(then(&world, &first_at), all(&[("d/a", &first), ("goes", &goes), ("stays", &stays)]));
    assert_eq!(then(&world, &second_at), all(&[("d/a", &second), ("stays", &stays)]));
    assert_eq!(then(&world, "2099-01-01"), all(&[("stays", &stays)]));

    for (at, content, count) in [(&first_at, "the first version", 3), (&second_at, "the second", 2)] {
        let dest = world.base().join(format!("as-of-{count}"));
        let said = world.run(&["restore".as_ref(), dest.as_os_str(), "--at".as_ref(), at.as_ref()]);
        assert_eq!(said.code, 0, "{said:?}");
        assert!(said.stdout.starts_with(&format!("{count} files restored")), "{said:?}");
        assert_eq!(fs::read_to_string(dest.join("d/a")).expect("there"), content);
        assert_eq!(dest.join("goes").exists(), count == 3);
    }
    let one = world.base().join("one");
    let run = |at: &str| world.run(&["restore".as_ref(), one.as_os_str(), a.as_os_str(), "--at".as_ref(), at.as_ref()]);
    assert_eq!(run(&first_at).code, 0);
    assert_eq!(fs::read_to_string(one.join("a")).or(fs::read_to_string(one.join("d/a"))).expect("there").len(), 17);
    let said = run("2099-01-01");
    assert!(said.code == 1 && said.stderr.contains("by 2099-01-01T"), "{said:?}");
    assert!(said.stderr.contains("dStor held nothing of") && said.stderr.contains("dstor-sync log"), "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_can_know_is_said() {
    let world = stored(&[("a", "1")]).await;
    // Before the ledger was begun.
    let said = world.run(&["ls", "--at", "2001-01-01"]);
    assert_eq!((said.code, said.stdout.as_str()), (1, ""), "{said:?}");
    assert!(said.stderr.contains("warning: of 2001-01-01T") && said.stderr.contains("not everything is on record"));
    let dest = world.base().join("dest");
    let said = world.run(&["restore".as_ref(), dest.as_os_str(), "--at".as_ref(), "2001-01-01".as_ref()]);
    assert!(said.code == 1 && said.stderr.contains("not everything is on record"), "{said:?}");
    for wrong in [&["ls", "--at", "soon"][..], &["ls", "--at", "2026-01-01", "--state", "stored"]] {
        assert_eq!(world.run(wrong).code, 2, "{wrong:?}");
    }
}

// What was noted and what the ledger knows are one story, in its order, and nothing is told twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_files_log_tells_each_thing_once_in_its_order() {
    let world = stored(&[("a", "1"), ("other", "x")]).await;
    until_later_than(&world, &stored_at(&world, "a")).await;
    world.misbehave("upload 400 name=a");
    world.write("a", "22");
    assert_eq!(world.run(&["sync", "-q"]).code, 1);
    world.sandbox().behave();
    until_later_than(&world, &jiff::Timestamp::now().to_string()).await;
    world.write("a", "333");
    sync(&world);
    until_later_than(&world, &stored_at(&world, "a")).await;
    fs::remove_file(world.path("a")).expect("removed");
    sync(&world);
    let told = |more: &[&str]| -> Vec<String> {
        let said = world.run(&[&["log", "--json", world.path("a").to_str().expect("UTF-8")], more].concat());
        let lines = said.stdout.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        let mut events: Vec<String> = lines.map(|line| line["event"].as_str().expect("a word").to_owned()).collect();
        // A file that was read in the very tick in which it was saved is sent, and refused, once more.
        events.dedup_by(|next, event| next == event && next == "failed");
        events
    };
    assert_eq!(told(&[]), ["stored", "failed", "stored", "gone"]);
    assert_eq!(told(&["-n", "2"]), ["stored", "gone"]);
    assert_eq!(told(&["-n", "all"]), told(&[]));
}
