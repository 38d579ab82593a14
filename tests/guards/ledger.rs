//! A ledger that is damaged, deleted or half made.

use std::fs;
use std::path::PathBuf;

use serde_json::json;

use crate::world::World;

fn ledger(world: &World) -> PathBuf {
    world.state_dir().join("ledger.db")
}

/// Cuts the ledger off in its middle, as a disk that loses writes does.
fn damage(world: &World) {
    let length = ledger(world).metadata().expect("there").len();
    fs::File::options().write(true).open(ledger(world)).and_then(|file| file.set_len(length / 2)).expect("cut off");
}

/// The damaged ledgers that were set aside, without their companions.
fn set_aside(world: &World) -> Vec<PathBuf> {
    let entries = fs::read_dir(world.state_dir()).expect("read").flatten().map(|entry| entry.path());
    entries
        .filter(|path| path.to_string_lossy().contains(".broken-") && path.to_string_lossy().ends_with('Z'))
        .collect()
}

// D4
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_ledger_is_set_aside_rebuilt_and_told_of_until_it_is_removed() {
    let world = World::new().await;
    for at in 0..40 {
        world.write(&format!("d{}/f{at}", at % 3), at.to_string());
    }
    assert_eq!(world.run(&["sync"]).code, 0);
    damage(&world);
    let bytes = fs::read(ledger(&world)).expect("bytes");
    // Whoever only looks moves nothing.
    for reading in [&["status"][..], &["ls"]] {
        let said = world.run(reading);
        assert!(said.code == 1 && said.stderr.contains("is damaged"), "{said:?}");
        assert!(said.stderr.contains("hint: look at its disk, and start `dstor-sync run`"), "{said:?}");
    }
    assert_eq!(fs::read(ledger(&world)).expect("bytes"), bytes);
    fs::remove_file(world.path("d0/f0")).expect("removed");
    world.write("d1/f1", "changed meanwhile");

    let agent = world.start();
    world.until_mirrored().await;
    world.until("all is on record again", || (world.count("stored"), world.count("gone")) == (39, 0)).await;
    assert!(agent.log().contains("ERROR") && agent.log().contains("the ledger was damaged and is set aside"));
    let aside = set_aside(&world);
    assert_eq!(aside.len(), 1);
    assert_eq!(fs::read(&aside[0]).expect("kept"), bytes);
    assert_eq!(world.status()["set_aside"][0]["path"], aside[0].to_str().expect("UTF-8"));
    let told = world.run(&["status"]);
    assert!(told.code == 1 && told.stdout.starts_with("needs you: the ledger was damaged"), "{told:?}");
    fs::remove_file(&aside[0]).expect("removed");
    world.until("nobody speaks of it", || world.run(&["status"]).code == 0).await;
    assert_eq!(world.status()["set_aside"], json!([]));
    assert_eq!(agent.stop(), 0);
}

/// Stores the files, has the agent copy the ledger, and leaves it running.
async fn copied(world: &World) -> crate::world::Agent {
    assert_eq!(world.run(&["sync"]).code, 0);
    let agent = world.start();
    world.until("the ledger is copied", || world.state_dir().join("ledger.db.copy").exists()).await;
    agent
}

// D13, P1: the copy knows the first version, dStor holds the second, and the disk has the first again.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_copy_calls_stored_is_sent_again_if_anything_else_may_have_been_sent_since() {
    let world = World::new().await;
    world.write("back", "first");
    world.write("sub/moved", "first");
    let agent = copied(&world).await;
    world.write("back", "other");
    fs::rename(world.path("sub"), world.path("away")).expect("moved");
    world.write("sub/moved", "other");
    world.until_mirrored().await;
    assert_eq!(agent.stop(), 0);

    world.write("back", "first");
    fs::remove_dir_all(world.path("sub")).expect("removed");
    fs::rename(world.path("away"), world.path("sub")).expect("and back, with the stat that the copy knows");
    damage(&world);
    let agent = world.start();
    world.until_mirrored().await;
    world.until("it is recorded", || world.count("stored") == 2).await;
    assert_eq!(agent.stop(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_touched_since_the_copy_is_not_sent_again() {
    let world = World::new().await;
    world.write("deleted", "its hash is on record");
    for at in 0..20 {
        world.write(&format!("d{}/f{at}", at % 3), at.to_string());
    }
    assert_eq!(world.run(&["sync"]).code, 0);
    fs::remove_file(world.path("deleted")).expect("removed");
    let agent = copied(&world).await;
    assert_eq!(agent.stop(), 0);
    assert_eq!(world.sent(), 21);
    damage(&world);
    let agent = world.start();
    world.until("it runs", || world.status()["agent"]["state"] == "running").await;
    world.until_mirrored().await;
    assert_eq!((world.count("stored"), world.count("gone")), (20, 1));
    assert_eq!(world.sent(), 21);
    assert!(world.ls()["deleted"]["hash"].is_string());
    assert_eq!(agent.stop(), 0);
}

// D11: an idle agent, too, notices, and ends so that whoever watches over it starts it again.
#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_is_deleted_or_replaced_under_the_agent_ends_it_and_the_next_start_begins_anew() {
    for is_replaced in [false, true] {
        let world = World::new().await;
        world.write("a", "a");
        let mut agent = world.start();
        world.until_mirrored().await;
        // The last thing that it has to do with its ledger for an hour: from here on nothing but looking can notice.
        world.until("the ledger is copied", || world.state_dir().join("ledger.db.copy").exists()).await;
        fs::remove_file(ledger(&world)).expect("deleted");
        if is_replaced {
            fs::write(ledger(&world), "").expect("replaced");
        }
        assert_eq!(agent.end().code(), Some(1), "{}", agent.log());
        assert!(agent.log().contains("was deleted or replaced while it was in use"), "{}", agent.log());
        world.write("b", "b");
        let agent = world.start();
        world.until_mirrored().await;
        assert_eq!(world.count("stored"), 2, "{is_replaced}");
        assert_eq!(agent.stop(), 0);
    }
}

// D4: a page that nobody needed for long is found when the ledger is copied, at the latest.
#[tokio::test(flavor = "multi_thread")]
async fn damage_that_is_found_at_work_ends_the_agent_and_the_next_start_mends_it() {
    let world = World::new().await;
    for at in 0..2000 {
        world.write(&format!("{at:0100}"), "x");
    }
    assert_eq!(world.run(&["sync"]).code, 0);
    let mut bytes = fs::read(ledger(&world)).expect("bytes");
    // One of many leaves full of names; the scan may meet it before the copy does.
    let middle = bytes.len() / 2 / 4096 * 4096;
    bytes[middle..middle + 4096].fill(0xA5);
    fs::write(ledger(&world), bytes).expect("damaged");
    let mut agent = world.start();
    assert_eq!(agent.end().code(), Some(1), "{}", agent.log());
    assert!(agent.log().contains("hint: look at its disk, and start `dstor-sync run`"), "{}", agent.log());
    let agent = world.start();
    world.until_mirrored().await;
    world.until("all is on record again", || world.count("stored") == 2000).await;
    assert_eq!(set_aside(&world).len(), 1);
    assert_eq!(agent.stop(), 0);
}
