//! The ground that the agent stands on: directories that cannot be read, mounts, an old ledger, a network that is away.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;

use crate::security::all_below;
use crate::world::{Mount, World};

// A5: a watch that covered all would fail as a whole.
#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_cannot_be_read_keeps_no_event_from_the_others() {
    let mut world = World::with("rescan = \"1h\"", "").await;
    world.write("closed/inside", "1");
    world.write("open/a", "1");
    world.become_ordinary();
    fs::set_permissions(world.path("closed"), Permissions::from_mode(0o000)).expect("ours");
    let agent = world.start();
    world.until("the open one is stored", || world.count("stored") == 1).await;
    world.write("open/b", "2");
    fs::set_permissions(world.path("open/b"), Permissions::from_mode(0o644)).expect("ours");
    world.until("an event told of a new file", || world.count("stored") == 2).await;
    fs::set_permissions(world.path("closed"), Permissions::from_mode(0o755)).expect("ours");
    world.until_mirrored().await;
    assert_eq!(agent.stop(), 0);
}

// A12: what is mounted below is another file system's, and what it hides is not gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_system_mounted_below_a_mirror_is_not_entered_and_hides_nothing_for_good() {
    let world = World::new().await;
    world.write("d/below", "1");
    world.write("a", "1");
    assert_eq!(world.run(&["sync"]).code, 0);
    let mount = Mount { at: world.path("d") };
    if !mount.memory("1m") {
        // Only root may mount. `src/ledger/tests/paths.rs` tries the same on rows.
        return;
    }
    fs::write(world.path("d/of another disk"), "x").expect("written");
    let agent = world.start();
    world.until("the mount is left out", || world.count("skipped") == 1).await;
    fs::write(world.path("d/of another disk, too"), "x").expect("written");
    world.write("b", "1");
    world
        .until("what lies beside it is stored", || world.states().get("b").is_some_and(|state| state == "stored"))
        .await;
    let skipped = world.ls()["d"]["error"].clone();
    assert!(skipped.as_str().is_some_and(|why| why.contains("another file system")), "{skipped}");
    assert_eq!((world.count("gone"), world.states()["d/below"].as_str()), (0, "stored"));
    mount.unmount();
    assert_eq!(agent.stop(), 0);
    assert_eq!(world.run(&["sync"]).code, 0);
    world.until_mirrored().await;
    assert_eq!((world.count("skipped"), world.count("gone")), (0, 0));
}

// D13: a ledger from yesterday knows too little, never too much.
#[tokio::test(flavor = "multi_thread")]
async fn an_older_ledger_put_back_costs_uploads_and_says_nothing_false() {
    let world = World::new().await;
    for name in ["same", "changed", "removed"] {
        world.write(name, name);
    }
    assert_eq!(world.run(&["sync"]).code, 0);
    let backup = world.base().join("backup");
    fs::copy(world.state_dir().join("ledger.db"), &backup).expect("copied");
    world.write("changed", "for another time");
    world.write("new", "new");
    fs::remove_file(world.path("removed")).expect("removed");
    assert_eq!(world.run(&["sync"]).code, 0);
    for name in ["ledger.db", "ledger.db-wal", "ledger.db-shm"] {
        // Some are not there after a stop in order.
        let _ = fs::remove_file(world.state_dir().join(name));
    }
    fs::copy(backup, world.state_dir().join("ledger.db")).expect("put back");
    let pass = world.run(&["sync"]);
    assert!(pass.stdout.contains("2 files stored"), "{pass:?}");
    world.until_mirrored().await;
    assert_eq!((world.count("stored"), world.count("gone")), (3, 1));
}

// E33: being offline is a state, not a line a second.
#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_is_away_is_one_line_in_the_log_however_often_it_is_tried() {
    let mut world = World::new().await;
    let agent = world.start();
    world.write("before", "1");
    world.until_mirrored().await;
    let port = world.stop_sandbox().await;
    for at in 0..50 {
        world.write(&format!("f{at}"), at.to_string());
    }
    world
        .until("it was tried a few times", || {
            let problems = world.status()["problems"].clone();
            let attempts = problems.as_array().into_iter().flatten().filter_map(|problem| problem["attempts"].as_u64());
            attempts.sum::<u64>() >= 5
        })
        .await;
    let lines = |text: &str| agent.log().lines().filter(|line| line.contains(text)).count();
    assert_eq!(lines("dStor cannot be reached"), 1, "{}", agent.log());
    let said = agent.log().lines().count();
    assert!(said < 30, "{said} lines: {}", agent.log());
    world.start_sandbox(port).await;
    world.until_mirrored().await;
    world.until("it says that it is back", || lines("dStor can be reached again") == 1).await;
    assert_eq!(agent.stop(), 0);
}

// P3: the system keeps a time for each inode that nobody can set back.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_below_a_mirror_is_ever_written() {
    let world = World::with("", "sessions = \"never\"").await;
    for name in ["a", "d/b", "d/e/c", ".dstorignore", "x.tmp", "bad"] {
        world.write(name, name);
    }
    fs::write(world.path(".dstorignore"), "*.tmp\n").expect("written");
    std::os::unix::fs::symlink("a", world.path("link")).expect("linked");
    let seen = || -> BTreeMap<PathBuf, (u64, i64, i64, u32, u64)> {
        let below = all_below(&world.mirror()).into_iter();
        below
            .map(|path| {
                let found = path.symlink_metadata().expect("looked");
                (path, (found.ino(), found.ctime(), found.ctime_nsec(), found.mode(), found.size()))
            })
            .collect()
    };
    let before = seen();
    assert_eq!(before.len(), 10);
    for fault in ["upload 500 x1", "upload reset-in-body x1", "upload 413 name=bad", "upload 401 x1"] {
        world.misbehave(fault);
    }
    let agent = world.start();
    world.until("all but one are stored", || (world.count("stored"), world.count("failed")) == (4, 1)).await;
    agent.kill();
    for arguments in
        [&["sync"][..], &["sync", "--dry-run"], &["ls"], &["why", "mirror/bad"], &["root", "accept", "mirror"]]
    {
        world.run(arguments);
    }
    assert_eq!(seen(), before);
}
