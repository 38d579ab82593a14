//! The mirror's directory going away and coming back: nothing counts as gone.

use std::fs;

use crate::world::{Mount, World};

async fn mirrored_world() -> World {
    let world = World::new().await;
    for at in 0..20 {
        world.write(&format!("d{}/f{at}", at % 3), at.to_string());
    }
    world
}

// A7, A8
#[tokio::test(flavor = "multi_thread")]
async fn a_root_renamed_while_it_runs_is_missing_until_it_is_back() {
    let world = mirrored_world().await;
    let agent = world.start();
    world.until_mirrored().await;
    fs::rename(world.mirror(), world.base().join("away")).expect("renamed");
    fs::write(world.base().join("away/d0/new"), "new").expect("written");
    world.until("status says so", || world.status()["mirrors"][0]["watch"] == "missing").await;
    assert_eq!((world.count("gone"), world.run(&["status"]).code), (0, 1));
    fs::rename(world.base().join("away"), world.mirror()).expect("renamed back");
    world.until_mirrored().await;
    assert_eq!((world.count("stored"), world.count("gone")), (21, 0));
    world.write("d9/after", "events come again");
    world.until_mirrored().await;
    assert_eq!(world.sent(), 22);
    assert_eq!(agent.stop(), 0);
}

// A7, F15
#[tokio::test(flavor = "multi_thread")]
async fn a_root_renamed_while_it_is_stopped_is_missing_until_it_is_back() {
    let world = mirrored_world().await;
    let agent = world.start();
    world.until_mirrored().await;
    assert_eq!(agent.stop(), 0);
    fs::rename(world.mirror(), world.base().join("away")).expect("renamed");
    let agent = world.start();
    world
        .until("status says so", || {
            let status = world.status();
            status["mirrors"][0]["watch"] == "missing" && status["agent"]["state"] == "running"
        })
        .await;
    assert_eq!(world.count("gone"), 0);
    fs::rename(world.base().join("away"), world.mirror()).expect("renamed back");
    world.write("late", "late");
    world.until_mirrored().await;
    assert_eq!((world.count("stored"), world.count("gone")), (21, 0));
    assert_eq!(agent.stop(), 0);
}

// A11: an empty directory in its place is a disk that is not mounted, until a person says otherwise.
#[tokio::test(flavor = "multi_thread")]
async fn another_directory_in_its_place_is_not_believed_until_it_is_accepted() {
    let world = mirrored_world().await;
    let agent = world.start();
    world.until_mirrored().await;
    fs::rename(world.mirror(), world.base().join("away")).expect("renamed");
    fs::create_dir(world.mirror()).expect("made");
    world.write("d0/f0", "other");
    world
        .until("status says so, and what to do", || {
            let mirror = world.status()["mirrors"][0].clone();
            mirror["watch"] == "missing"
                && mirror["watch_note"].as_str().is_some_and(|note| note.contains("dstor-sync root accept"))
        })
        .await;
    assert_eq!(world.count("gone"), 0);

    let accepted = world.run(&["root".as_ref(), "accept".as_ref(), world.mirror().as_os_str()]);
    assert_eq!(accepted.code, 0, "{accepted:?}");
    world.until("it is the mirror now", || (world.count("stored"), world.count("gone")) == (1, 19)).await;
    world.until_mirrored().await;

    // What was accepted is this directory, not whatever comes after it.
    assert_eq!(world.run(&["root".as_ref(), "accept".as_ref(), world.mirror().as_os_str()]).code, 0);
    fs::rename(world.mirror(), world.base().join("second")).expect("renamed");
    fs::create_dir(world.mirror()).expect("made");
    world.until("a third one is not believed", || world.status()["mirrors"][0]["watch"] == "missing").await;
    assert_eq!((world.count("stored"), world.count("gone")), (1, 19));
    assert_eq!(agent.stop(), 0);
}

// A9: no event tells of an unmount.
#[tokio::test(flavor = "multi_thread")]
async fn an_unmounted_root_is_missing_while_it_runs_and_while_it_is_stopped() {
    let world = World::new().await;
    let image = world.base().join("disk");
    fs::create_dir(&image).expect("made");
    let mount = Mount { at: world.mirror() };
    if !mount.bind(&image) {
        // Only root may mount; the same is seen by renaming, above.
        return;
    }
    world.write("a", "a");
    let agent = world.start();
    world.until_mirrored().await;
    mount.unmount();
    world.until("status says so", || world.status()["mirrors"][0]["watch"] == "missing").await;
    assert_eq!(agent.stop(), 0);
    let agent = world.start();
    world.until("it still says so", || world.status()["agent"]["state"] == "running").await;
    assert_eq!((world.count("stored"), world.count("gone")), (1, 0));
    assert!(mount.bind(&image));
    world.write("b", "b");
    world.until_mirrored().await;
    assert_eq!((world.count("stored"), world.count("gone")), (2, 0));
    assert_eq!(agent.stop(), 0);
    mount.unmount();
}
