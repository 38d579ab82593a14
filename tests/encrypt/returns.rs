//! The way back of what was encrypted.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::{encrypt_to, encrypted, hash_of, key, object};
use crate::world::{Said, World, said, sync};

fn dest(world: &World) -> PathBuf {
    world.base().join("dest")
}

/// `restore --json` with this identity: the result of each file by its path, and how it ended.
fn restore(world: &World, identity: Option<&Path>, more: &[&str]) -> (BTreeMap<String, String>, Said) {
    let dest = dest(world);
    let mut all = vec!["restore".as_ref(), "--json".as_ref(), dest.as_os_str()];
    if let Some(identity) = identity {
        all.extend(["--identity".as_ref(), identity.as_os_str()]);
    }
    all.extend(more.iter().map(std::ffi::OsStr::new));
    let said = world.run(&all);
    let top = format!("{}/", dest.display());
    let mut results = BTreeMap::new();
    for line in said.stdout.lines() {
        let line: Value = serde_json::from_str(line).expect("JSON");
        if let (Some(path), Some(result)) = (line["path"].as_str(), line["result"].as_str()) {
            results.insert(path.trim_start_matches(&top).to_owned(), result.to_owned());
        }
    }
    (results, said)
}

fn is_whole(world: &World) -> bool {
    let mut diff = Command::new("diff");
    diff.arg("-r").args([world.mirror(), dest(world)]);
    said(diff).code == 0
}

fn all_are(results: &BTreeMap<String, String>, all: &str) -> bool {
    !results.is_empty() && results.values().all(|result| result == all)
}

// P1
#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_comes_back_with_its_key_and_age_itself_opens_what_dstor_holds() {
    let (world, identity) = encrypted().await;
    for (path, len) in [("empty", 0), ("d/small", 20), ("d/chunk", 65_536), ("d/more", 65_537), ("large", 3_000_000)] {
        world.write(path, (0..len).map(|at| u8::try_from(at % 251).expect("small")).collect::<Vec<u8>>());
    }
    sync(&world);
    for (path, bytes) in world.local() {
        let path = String::from_utf8(path).expect("text");
        let mut age = Command::new("age");
        age.args(["--decrypt", "--identity"]).arg(&identity).arg(object(&world, &hash_of(&world, &path)));
        let opened = age.output().expect("age is installed: apt-get install age");
        assert!(
            opened.status.success() && opened.stdout == bytes,
            "{path}: {}",
            String::from_utf8_lossy(&opened.stderr)
        );
    }

    // Without the key nothing is asked for, and with another one nothing comes of it.
    let (results, told) = restore(&world, None, &[]);
    assert!(all_are(&results, "locked") && told.code == 1, "{told:?}");
    assert!(told.stderr.contains("5 files are encrypted, and no key was given"), "{told:?}");
    assert!(told.stderr.contains("`--identity FILE`"), "{told:?}");
    assert_eq!(world.sandbox().requests(dstor_sync::sandbox::Phase::Read), 0);
    let (stranger, _) = key(&world, "stranger");
    let (results, told) = restore(&world, Some(&stranger), &[]);
    assert!(all_are(&results, "locked") && told.code == 1, "{told:?}");
    assert!(told.stderr.contains("encrypted to another key than those in the identity file"), "{told:?}");
    assert!(!dest(&world).exists() || super::files(&dest(&world)).is_empty(), "something was left");

    let (results, told) = restore(&world, Some(&identity), &[]);
    assert!(all_are(&results, "restored") && told.code == 0, "{told:?}");
    assert!(is_whole(&world));
    // What is there is compared by its bytes, for which nobody needs a key.
    let (results, told) = restore(&world, None, &[]);
    assert!(all_are(&results, "there") && told.code == 0, "{told:?}");

    // By a pipe, as from a place that keeps secrets.
    fs::remove_dir_all(dest(&world)).expect("removed");
    let mut piped = world.command(&["restore".as_ref(), dest(&world).as_os_str(), "--identity".as_ref(), "-".as_ref()]);
    piped.stdin(fs::File::open(&identity).expect("opened"));
    let piped = tokio::task::block_in_place(|| said(piped));
    assert!(piped.code == 0 && is_whole(&world), "{piped:?}");
}

// G8, G10: whoever answers in dStor's place can seal something else to the same key, which is no secret.
#[tokio::test(flavor = "multi_thread")]
async fn no_fault_in_reading_leaves_a_wrong_file_under_an_encrypted_ones_name() {
    let (mut world, identity) = encrypted().await;
    world.write("a", vec![b'a'; 200_000]);
    world.write("b", vec![b'b'; 200_000]);
    sync(&world);
    // The very bytes, in the open: nobody who can seal has given them.
    let config = world.config().to_owned();
    encrypt_to(&mut world, &[]);
    world.write("open", vec![b'a'; 200_000]);
    sync(&world);
    world.set_config(config);
    let (other, open) = (hash_of(&world, "b"), hash_of(&world, "open"));
    let (swapped, opened) = (format!("swap={other}"), format!("swap={open}"));
    for (fault, result) in [
        ("flip-bit", "different"),
        ("cut", "different"),
        (swapped.as_str(), "different"),
        (opened.as_str(), "different"),
        ("endless", "different"),
        ("404", "missing"),
        ("html", "unknown"),
        ("500", "unknown"),
        ("reset", "unknown"),
        ("reset-after-store", "unknown"),
    ] {
        world.misbehave(&format!("read {fault} name=a"));
        let (results, told) = restore(&world, Some(&identity), &[]);
        assert_eq!((results["a"].as_str(), results["b"].as_str()), (result, "restored"), "{fault}: {told:?}");
        assert_eq!(told.code, if result == "unknown" { 5 } else { 1 }, "{fault}: {told:?}");
        let names = super::files(&dest(&world));
        assert!(
            names.iter().all(|path| !path.ends_with("a") && !path.to_string_lossy().contains("part-")),
            "{names:?}"
        );
        world.sandbox().behave();
        fs::remove_dir_all(dest(&world)).expect("removed");
    }
    // Each bit of the beginning, where keys are, and of the end, where the last word is.
    let object = object(&world, &hash_of(&world, "a"));
    let whole = fs::read(&object).expect("read");
    for at in [0, 30, 60, 150, whole.len() - 1] {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        fs::write(&object, &bytes).expect("written");
        let (results, told) = restore(&world, Some(&identity), &[world.path("a").to_str().expect("UTF-8")]);
        assert!(matches!(results["a"].as_str(), "different" | "locked") && told.code == 1, "{at}: {told:?}");
        assert!(!dest(&world).join("a").exists(), "{at}");
    }
    fs::write(&object, &whole).expect("written");
    let (results, told) = restore(&world, Some(&identity), &[]);
    assert!(all_are(&results, "restored") && told.code == 0 && is_whole(&world), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_of_before_and_after_and_for_others_come_back_together() {
    let mut world = World::new().await;
    let ((one, to_one), (two, to_two)) = (key(&world, "one"), key(&world, "two"));
    world.write("open", "before encryption");
    sync(&world);
    for (name, to) in [("first", &to_one), ("second", &to_two)] {
        encrypt_to(&mut world, &[to]);
        world.write(name, name);
        sync(&world);
    }
    let (results, told) = restore(&world, Some(&one), &[]);
    let expected = [("first", "restored"), ("open", "restored"), ("second", "locked")];
    assert_eq!(results, expected.map(|(path, result)| (path.to_owned(), result.to_owned())).into());
    assert!(told.code == 1 && told.stderr.contains("1 file is encrypted to another key"), "{told:?}");
    // One file may hold several keys.
    let both = world.base().join("both");
    fs::write(&both, [fs::read(&one).expect("read"), fs::read(&two).expect("read")].concat()).expect("written");
    crate::world::private(&both);
    let (results, told) = restore(&world, Some(&both), &[]);
    assert!(results["second"] == "restored" && told.code == 0 && is_whole(&world), "{told:?}");
}
