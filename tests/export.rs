//! What dStor holds, for other programs: lists, sums and archives.

mod car;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use dstor_sync::sandbox::{Options, Phase, Sandbox};
use rustix::process::Signal;
use serde_json::Value;

use crate::world::{Said, World, stored, sync};

/// Where exports go in these tests.
fn file(world: &World, name: &str) -> PathBuf {
    let dir = world.base().join("out");
    fs::create_dir_all(&dir).expect("made");
    dir.join(name)
}

fn export(world: &World, more: &[&str]) -> Said {
    world.run(&[&["export"], more].concat())
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// What the directory of exports holds besides these names.
fn others(world: &World, names: &[&str]) -> Vec<String> {
    let dir = fs::read_dir(file(world, "x").parent().expect("a directory")).expect("read");
    let all = dir.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"));
    all.filter(|name| !names.contains(&name.as_str())).collect()
}

/// The rows of a table by RFC 4180, read by its grammar and by nothing of ours.
fn table(csv: &str) -> Vec<Vec<String>> {
    let (mut rows, mut row, mut rest) = (Vec::new(), Vec::new(), csv);
    while !rest.is_empty() {
        let mut value = String::new();
        if let Some(quoted) = rest.strip_prefix('"') {
            rest = quoted;
            loop {
                let end = rest.find('"').expect("a closing quote");
                value.push_str(&rest[..end]);
                rest = &rest[end + 1..];
                match rest.strip_prefix('"') {
                    Some(more) => {
                        value.push('"');
                        rest = more;
                    }
                    None => break,
                }
            }
        } else {
            let end = rest.find([',', '\r']).expect("an end");
            assert!(!rest[..end].contains(['"', '\n']), "a value that has to be quoted: {}", &rest[..end]);
            value.push_str(&rest[..end]);
            rest = &rest[end..];
        }
        row.push(value);
        match rest.strip_prefix(',') {
            Some(more) => rest = more,
            None => {
                rest = rest.strip_prefix("\r\n").expect("the end of a row");
                rows.push(std::mem::take(&mut row));
            }
        }
    }
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_say_of_each_stored_file_what_ls_says_and_name_nothing_else() {
    let odd = "=d, \"q\"/a\r\n\u{e9} b";
    let world = stored(&[("a", "1"), (odd, "22"), ("gone", "3")]).await;
    fs::remove_file(world.path("gone")).expect("removed");
    sync(&world);
    world.misbehave("upload 400 name=never");
    world.write("never", "4");
    assert_eq!(world.run(&["sync", "-q"]).code, 1);

    let said = export(&world, &["--json"]);
    assert_eq!(said.code, 1, "one is not stored: {said:?}");
    assert!(said.stderr.contains("1 file not in it") && said.stderr.contains("`--gone` takes these"), "{said:?}");
    let json: Vec<Value> = said.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let mut listed = world.ls();
    for line in &json {
        let below =
            line["path"].as_str().expect("a path").trim_start_matches(&format!("{}/", world.mirror().display()));
        let ls = listed.remove(below).expect("listed");
        for (key, value) in line.as_object().expect("an object") {
            assert_eq!(*value, ls[key], "{key} of {below}");
        }
    }
    assert_eq!(listed.into_keys().collect::<Vec<_>>(), ["gone", "never"]);

    let rows = table(&export(&world, &["--csv"]).stdout);
    let head =
        "path path_bytes state size modified_at blake3 hash proof encrypted url remote_dir stored_at remote_name";
    assert_eq!(rows[0].join(" "), head);
    for (row, line) in rows[1..].iter().zip(&json) {
        for (name, value) in rows[0].iter().zip(row) {
            let wanted = line.get(name).map_or(String::new(), |value| match value {
                Value::String(text) => text.clone(),
                Value::Null => String::new(),
                other => other.to_string(),
            });
            assert_eq!(*value, wanted, "{name}");
        }
    }
    assert_eq!(rows.len(), 1 + json.len());

    let gone = world.path("gone");
    let said = export(&world, &["--json", text(&gone)]);
    let line: Value = serde_json::from_str(&said.stdout).expect("one line");
    assert_eq!((said.code, &line["state"], &line["size"]), (0, &"gone".into(), &Value::Null), "named, and so told of");
    assert!(line["hash"].is_string());
    assert_eq!(export(&world, &["--json", "--gone"]).stdout.lines().count(), 3);

    let pins = export(&world, &["--pins"]).stdout;
    let pins: BTreeMap<&str, &str> = pins.lines().map(|line| line.split_once('\t').expect("two fields")).collect();
    let hash = world.ls()[odd]["hash"].as_str().expect("a hash").to_owned();
    assert_eq!(pins[hash.as_str()], "=d, \"q\"/a\\u{d}\\u{a}\u{e9} b");
    assert_eq!(pins.len(), 2);
    let nothing = world.path("nothing");
    let said = export(&world, &["--pins", text(&nothing), text(&world.path("a"))]);
    assert!(said.code == 1 && said.stderr.contains("nothing is known of") && said.stdout.lines().count() == 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn sums_of_what_dstor_holds_are_taken_by_sha256sum_also_where_the_mirror_has_other_files() {
    let names = ["plain", "with space", "new\nline", "back\\slash", "\u{e9}\u{65e5}", "d/-dash", "empty"];
    let files: Vec<(&str, &str)> =
        names.iter().map(|name| (*name, if *name == "empty" { "" } else { *name })).collect();
    let world = stored(&files).await;
    let list = file(&world, "sums");
    let check = |dir: &Path| {
        let mut check = Command::new("sha256sum");
        check.args(["--check", "--strict", "--quiet"]).arg(&list).current_dir(dir);
        crate::world::said(check)
    };
    let said = export(&world, &["--sha256sum", "-o", text(&list)]);
    assert_eq!((said.code, world.sandbox().requests(Phase::Read)), (0, 0), "{said:?}");
    assert_eq!(fs::read_to_string(&list).expect("read").lines().count(), names.len());
    let checked = check(&world.mirror());
    assert_eq!(checked.code, 0, "{checked:?}");

    // One that was changed here since, of the same length, and one that is not here: dStor has both as they were.
    world.write("plain", "other");
    fs::remove_file(world.path("new\nline")).expect("removed");
    let before = fs::read(&list).expect("read");
    let said = export(&world, &["--sha256sum", "-o", text(&list), "--force"]);
    assert_eq!((said.code, world.sandbox().requests(Phase::Read)), (0, 2), "{said:?}");
    assert_eq!(fs::read(&list).expect("read"), before);
    assert_eq!(check(&world.mirror()).code, 1, "the check is one");

    // What neither has is named and left out.
    world.misbehave("read 404 name=plain");
    let said = export(&world, &["--sha256sum"]);
    assert_eq!((said.code, said.stdout.lines().count()), (1, names.len() - 1), "{said:?}");
    assert!(said.stderr.contains("left out") && said.stderr.contains("does not have it any more"), "{said:?}");
    world.sandbox().behave();
    world.misbehave("read flip-bit name=plain");
    let said = export(&world, &["--sha256sum", text(&world.path("plain"))]);
    assert!(said.code == 1 && said.stderr.contains("gives other bytes") && said.stdout.is_empty(), "{said:?}");
    world.sandbox().behave();
    world.misbehave("read 500 name=plain");
    let said = export(&world, &["--sha256sum", text(&world.path("plain"))]);
    assert!(said.code == 5 && said.stderr.contains("no answer"), "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_written_whole_or_not_at_all_and_never_over_another_unasked() {
    let world = stored(&[("a", "1"), ("d/b", "2")]).await;
    let list = file(&world, "list");
    fs::write(&list, "mine").expect("written");
    for form in [["--csv", "-o"], ["--json", "-o"], ["--sha256sum", "-o"], ["--pins", "-o"]] {
        let said = export(&world, &[form[0], form[1], text(&list)]);
        assert!(said.code == 1 && said.stderr.contains("--force"), "{said:?}");
    }
    let said = export(&world, &["--car", text(&list)]);
    assert!(said.code == 1 && said.stderr.contains("is there already"), "{said:?}");
    assert_eq!(fs::read(&list).expect("read"), b"mine");
    assert_eq!(export(&world, &["--pins", "-o", text(&list), "--force"]).code, 0);
    assert_eq!(fs::read_to_string(&list).expect("read").lines().count(), 2);

    for inside in [world.path("x.car"), world.path("d/x.car"), world.state_dir().join("x.car")] {
        let said = export(&world, &["--car", text(&inside), "--force"]);
        assert!(said.code == 2 && said.stderr.contains("where nothing is written"), "{said:?}");
        assert!(!inside.exists());
    }
    for wrong in [&["--car", "-"][..], &["--csv", "--json"], &["--csv", "--car", "x"], &["--car", "x", "-o", "y"], &[]]
    {
        assert_eq!(export(&world, wrong).code, 2, "{wrong:?}");
    }
    // Stopped in the midst of it.
    fs::remove_file(world.path("a")).expect("removed");
    world.misbehave("read stall name=a");
    let before = world.sandbox().requests(Phase::Read);
    let archive = file(&world, "x.car");
    let mut run = world.start_with(&["export", "--car", text(&archive)]);
    world.until("it waits for dStor", || world.sandbox().requests(Phase::Read) > before).await;
    run.signal(Signal::INT);
    assert_eq!(run.end().code(), Some(130));
    assert_eq!(others(&world, &["list"]), [""; 0]);
    let none = World::new().await;
    assert_eq!(export(&none, &["--csv"]).code, 3, "there is no ledger");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_holds_the_files_as_blocks_under_the_very_hashes_that_dstor_gave() {
    let world = World::new().await;
    // Two levels of links: 175 chunks, most of them alike, and so one block.
    let deep = vec![7; 175 * 256 * 1024 - 5];
    let chunks: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
    for (path, content) in
        [("empty", &b""[..]), ("small", b"small"), ("d/same", b"small"), ("chunks", &chunks), ("deep", &deep)]
    {
        world.write(path, content);
    }
    sync(&world);
    let archive = file(&world, "all.car");
    let said = export(&world, &["--car", text(&archive)]);
    assert_eq!((said.code, world.sandbox().requests(Phase::Read)), (0, 0), "{said:?}");
    assert!(said.stdout.starts_with("5 files in `") && said.stdout.ends_with("under 4 hashes.\n"), "{said:?}");
    let hash_of = |path: &str| world.ls()[path]["hash"].as_str().expect("a hash").to_owned();
    let read = car::read(&fs::read(&archive).expect("read"));
    let contents = car::files(&read);
    for (path, content) in world.local() {
        let path = String::from_utf8(path).expect("UTF-8");
        assert!(contents[&hash_of(&path)] == content, "{path}");
    }
    assert_eq!(contents.len(), 4);
    assert_eq!(read.blocks.len(), 1 + 1 + (4 + 1) + (2 + 1 + 2), "each block once");

    // From dStor, where the mirror has it no more, or another: the same archive.
    fs::remove_file(world.path("chunks")).expect("removed");
    world.write("small", "SMALL");
    fs::remove_file(world.path("d/same")).expect("removed");
    let again = file(&world, "again.car");
    let said = export(&world, &["--car", text(&again)]);
    assert_eq!((said.code, world.sandbox().requests(Phase::Read)), (0, 2), "{said:?}");
    assert_eq!(car::files(&car::read(&fs::read(&again).expect("read"))), contents);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_had_is_named_and_leaves_nothing_of_itself_in_the_archive() {
    let world = World::new().await;
    let large: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    for (path, content) in [("a", &b"first"[..]), ("large", &large), ("z", b"last")] {
        world.write(path, content);
    }
    sync(&world);
    let archive = file(&world, "rest.car");
    // Its length is that of what is stored, and only its last bytes differ: most of it is written before that shows.
    let mut other = large.clone();
    *other.last_mut().expect("a byte") ^= 1;
    world.write("large", &other);
    for (fault, why) in [("404", "does not have it any more"), ("cut", "gives other bytes"), ("500", "no answer")] {
        world.misbehave(&format!("read {fault} name=large"));
        let said = export(&world, &["--car", text(&archive), "--force"]);
        assert_eq!(said.code, if fault == "500" { 5 } else { 1 }, "{fault}: {said:?}");
        assert!(said.stderr.contains("large") && said.stderr.contains(why), "{fault}: {said:?}");
        let read = car::read(&fs::read(&archive).expect("read"));
        let contents: Vec<Vec<u8>> = car::files(&read).into_values().collect();
        assert!(contents.len() == 2 && contents.contains(&b"first".to_vec()) && contents.contains(&b"last".to_vec()));
        assert_eq!((read.blocks.len(), read.roots.len()), (2, 3), "{fault}: the third root is one of the others");
        world.sandbox().behave();
    }
    // With nothing in it there is none.
    fs::remove_file(&archive).expect("removed");
    world.misbehave("read 404 name=large");
    let said = export(&world, &["--car", text(&archive), text(&world.path("large"))]);
    assert!(said.code == 1 && said.stderr.contains("it was not written"), "{said:?}");
    assert_eq!(others(&world, &[]), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_dstor_cut_otherwise_is_left_out_of_an_archive() {
    let mut world = World::new().await;
    let mut options = Options::new(world.base().join("other"));
    options.chunk_bytes = 4;
    world.use_sandbox(Sandbox::start(options).await.expect("a sandbox"));
    world.write("short", "1234");
    world.write("long", "12345");
    sync(&world);
    let archive = file(&world, "x.car");
    let said = export(&world, &["--car", text(&archive)]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.stderr.contains("/long  dStor cut it otherwise"), "{said:?}");
    let contents = car::files(&car::read(&fs::read(&archive).expect("read")));
    assert_eq!(contents.into_values().collect::<Vec<_>>(), [b"1234"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_encrypted_files_an_archive_has_what_was_sent_and_a_list_of_sums_what_can_be_read_here() {
    let mut world = World::new().await;
    let identity = world.base().join("identity");
    let key = world.run(&["key", "generate", text(&identity)]);
    world.set_config(format!("{}\n[encrypt]\nrecipients = [{:?}]\n", world.config(), key.stdout.trim()));
    for (path, content) in [("changed", "as it was stored"), ("same", "as it is")] {
        world.write(path, content);
    }
    sync(&world);
    world.write("changed", "as it is no longer");
    let archive = file(&world, "sealed.car");
    let said = export(&world, &["--car", text(&archive)]);
    assert_eq!((said.code, world.sandbox().requests(Phase::Read)), (0, 2), "{said:?}");
    let contents = car::files(&car::read(&fs::read(&archive).expect("read")));
    for line in export(&world, &["--json"]).stdout.lines() {
        let line: Value = serde_json::from_str(line).expect("JSON");
        let sent = &contents[line["hash"].as_str().expect("a hash")];
        assert!(line["encrypted"] == true && sent.starts_with(b"age-encryption.org/v1\n"), "{line}");
    }
    let said = export(&world, &["--sha256sum"]);
    assert!(said.code == 1 && said.stdout.ends_with("  same\n") && said.stdout.lines().count() == 1, "{said:?}");
    assert!(said.stderr.contains("changed") && said.stderr.contains("dStor has it encrypted"), "{said:?}");
}
