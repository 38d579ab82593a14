//! When dStor does not give what it should, or the disk does not take it: nothing wrong ever has a file's name.

use std::fs;

use dstor_sync::sandbox::Phase;

use super::{dest, has_parts, restore, stored, sync, tree};
use crate::world::{Mount, World};

// E2, E5, E17, E26, E27, E30
#[tokio::test(flavor = "multi_thread")]
async fn no_fault_in_reading_leaves_a_wrong_file_and_each_is_named() {
    no_fault_leaves_a_wrong(1).await;
}

// Written as it comes, where a small one is written once it is whole.
#[tokio::test(flavor = "multi_thread")]
async fn no_fault_in_reading_leaves_a_wrong_large_file_and_each_is_named() {
    no_fault_leaves_a_wrong(20_000).await;
}

/// The file has nine bytes, so often.
async fn no_fault_leaves_a_wrong(times: usize) {
    let sixth = "the sixth".repeat(times);
    let files = [("a", "the first"), ("dir/c", "the third one is longer"), ("dir/f", sixth.as_str()), ("e", "")];
    let world = stored(&files).await;
    let other = world.ls()["dir/c"]["hash"].as_str().expect("a hash").to_owned();
    let swap = format!("swap={other}");
    for (fault, result) in [
        ("404", "missing"),
        ("410", "missing"),
        ("flip-bit", "different"),
        ("cut", "different"),
        (swap.as_str(), "different"),
        ("endless", "different"),
        ("500", "unknown"),
        ("403", "unknown"),
        ("206", "unknown"),
        ("html", "unknown"),
        ("redirect=http://127.0.0.1:1/", "unknown"),
        ("gzip-bomb", "unknown"),
        ("reset", "unknown"),
        ("reset-after-store", "unknown"),
    ] {
        world.misbehave(&format!("read {fault} name=dir/f"));
        let (results, summary, said) = restore(&world, &[]);
        assert_eq!(results["dir/f"], result, "{fault}");
        let others = ["a", "dir/c", "e"].iter().all(|path| results[*path] == "restored");
        assert!(others && summary["restored"] == 3, "{fault}: {results:?}");
        assert_eq!(said.code, if result == "unknown" { 5 } else { 1 }, "{fault}: {said:?}");
        assert!(!dest(&world).join("dir/f").exists() && !has_parts(&dest(&world)), "{fault}");
        world.sandbox().behave();
        let (results, _, said) = restore(&world, &[]);
        assert_eq!((results["dir/f"].as_str(), results["a"].as_str(), said.code), ("restored", "there", 0), "{fault}");
        assert_eq!(tree(&dest(&world)), tree(&world.mirror()), "{fault}");
        fs::remove_dir_all(dest(&world)).expect("removed");
    }
}

// By force, too: a good file is not given for a bad one.
#[tokio::test(flavor = "multi_thread")]
async fn what_lies_there_stays_until_the_right_bytes_are_there() {
    let world = stored(&[("a", "the first")]).await;
    fs::create_dir(dest(&world)).expect("made");
    for fault in ["flip-bit", "404", "500", "cut"] {
        fs::write(dest(&world).join("a"), "mine").expect("written");
        world.misbehave(&format!("read {fault}"));
        assert_ne!(restore(&world, &["--force"]).2.code, 0, "{fault}");
        assert_eq!(fs::read(dest(&world).join("a")).expect("read"), b"mine", "{fault}");
        world.sandbox().behave();
    }
    assert_eq!(restore(&world, &["--force"]).2.code, 0);
    assert_eq!(fs::read(dest(&world).join("a")).expect("read"), b"the first");
}

// E6, E15
#[tokio::test(flavor = "multi_thread")]
async fn trouble_that_passes_is_waited_for() {
    let world = World::with("", "stall_timeout = \"3s\"").await;
    for at in 0..5 {
        world.write(&format!("f{at}"), format!("content {at}"));
    }
    sync(&world);
    // Two: three in a row, whoever meets them, mean that dStor is not there.
    for rule in ["read 503 retry-after=1 x1", "read stall-in-answer x1"] {
        world.misbehave(rule);
    }
    let (_, summary, said) = restore(&world, &[]);
    assert_eq!((said.code, &summary["restored"]), (0, &5.into()), "{said:?}");
    assert_eq!(world.sandbox().requests(Phase::Read), 7);
    assert_eq!(tree(&dest(&world)), tree(&world.mirror()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_ends_it_and_leaves_nothing_wrong() {
    a_full_disk(8, 400 * 1024).await;
    a_full_disk(60, 40 * 1024).await;
}

async fn a_full_disk(files: u8, bytes: usize) {
    let world = World::new().await;
    for at in 0..files {
        world.write(&format!("f{at}"), vec![at; bytes]);
    }
    sync(&world);
    let mount = Mount { at: dest(&world) };
    fs::create_dir(&mount.at).expect("made");
    if !mount.memory("1m") {
        crate::world::tell("not tried: this user may not mount");
        return;
    }
    let (_, _, said) = restore(&world, &[]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.stderr.contains("cannot write to") && said.stderr.contains("make room"), "{}", said.stderr);
    let (there, wanted) = (tree(&mount.at), tree(&world.mirror()));
    assert!(there.iter().all(|(path, file)| wanted.get(path) == Some(file)), "something wrong has a name");
    assert!(there.len() < usize::from(files) && !has_parts(&mount.at));
}
