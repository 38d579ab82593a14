//! Uploads that arrive at dStor after newer ones of the same file.

use crate::world::World;

/// All versions of a file that dStor was sent, in the order in which it stored them.
fn versions(world: &World) -> Vec<String> {
    let versions = world.sandbox().versions().expect("versions");
    let content = |hash: &str| world.sandbox().content(hash).expect("its content");
    versions.iter().map(|file| String::from_utf8(content(&file.hash)).expect("UTF-8")).collect()
}

// P1, E18, E20: the older request was whole, its connection broke, and it is carried out after the newer one.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_an_older_upload_overtook_is_sent_once_more() {
    let world = World::with("", "stall_timeout = \"1s\"").await;
    world.misbehave("upload straggle=3600000 x1");
    let agent = world.start();
    world.write("a", "older");
    world.until("the older one is put back", || !world.status()["problems"][0].is_null()).await;
    world.write("a", "newer");
    let is_newest = || versions(&world).last().is_some_and(|newest| newest == "newer");
    world.until("the newer one is stored", || world.count("stored") == 1 && is_newest()).await;
    let before = versions(&world);
    // It is remembered beyond the process.
    agent.kill();
    world.sandbox().behave();
    let then = |late: &[&str]| [before.clone(), late.iter().map(ToString::to_string).collect()].concat();
    world.until("the older one comes late", || versions(&world) == then(&["older"])).await;
    let agent = world.start();
    world.until("the newer one is sent once more", || versions(&world) == then(&["older", "newer"])).await;
    world.until_mirrored().await;
    assert_eq!(agent.stop(), 0);
}

/// Most requests that end without word are sent again with the same bytes: whichever comes last, it is the right one.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_sent_twice_unchanged_is_not_sent_a_third_time() {
    let world = World::with("", "stall_timeout = \"2s\"").await;
    world.misbehave("upload reset-after-store x1");
    let agent = world.start();
    world.write("a", "the same");
    world.until("it was sent twice", || world.count("stored") == 1 && versions(&world).len() == 2).await;
    // Others follow later than a third time would.
    let noted = || -> i64 {
        let db = rusqlite::Connection::open(world.state_dir().join("ledger.db")).expect("the ledger");
        db.query_row("SELECT count(*) FROM stragglers", [], |row| row.get(0)).expect("a number")
    };
    world.until("nothing is waited for any more", || noted() == 0).await;
    world.until_mirrored().await;
    assert_eq!(versions(&world), ["the same", "the same"]);
    assert_eq!(agent.stop(), 0);
}
