//! Many files that are suddenly empty, as after a power cut.

use std::fs;

use crate::world::World;

/// Empties these files behind the agent's back, as a crash does: with the time that they had.
fn empty(world: &World, files: std::ops::Range<u32>) {
    for at in files {
        let path = world.path(&format!("d/f{at}"));
        let modified = path.metadata().and_then(|meta| meta.modified()).expect("a time");
        let file = fs::File::options().write(true).truncate(true).open(&path).expect("emptied");
        file.set_modified(modified).expect("set");
    }
}

async fn stored(files: u32) -> World {
    let world = World::new().await;
    for at in 0..files {
        world.write(&format!("d/f{at}"), format!("content {at}"));
    }
    assert_eq!(world.run(&["sync"]).code, 0);
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn many_files_that_are_suddenly_empty_are_held_until_they_are_restored_or_accepted() {
    let world = stored(40).await;
    let good = world.remote();
    empty(&world, 0..20);
    world.write("new", "goes on as usual");
    let agent = world.start();
    world.until("the others go on", || world.remote().contains_key(b"new".as_slice())).await;
    world.until("they are held", || (world.count("stored"), world.count("pending")) == (21, 20)).await;
    let status = world.status();
    let problem = &status["problems"][0];
    assert_eq!((&problem["code"], &problem["state"]), (&"emptied".into(), &"pending".into()), "{problem}");
    assert!(problem["next_attempt_at"].is_null() && problem["message"].as_str().expect("words").contains("accept"));
    let told = world.run(&["status"]);
    assert!(told.code == 1 && told.stdout.starts_with("needs you: many files are suddenly empty"), "{told:?}");
    let why = world.run(&["why".as_ref(), world.path("d/f3").as_os_str()]);
    assert!(why.stdout.contains("when it is filled again, or accepted"), "{why:?}");
    let mut remote = world.remote();
    remote.remove(b"new".as_slice());
    assert_eq!(remote, good, "an empty file took the place of a good one");

    // One is restored, one is touched and still empty; a restart changes nothing about the rest.
    world.write("d/f0", "restored");
    fs::File::options()
        .append(true)
        .open(world.path("d/f1"))
        .expect("opened")
        .set_modified(std::time::SystemTime::now())
        .expect("touched");
    world.until("the restored one goes on", || world.remote()[b"d/f0".as_slice()] == b"restored").await;
    assert_eq!(agent.stop(), 0);
    let agent = world.start();
    world.until("it runs", || world.status()["agent"]["state"] == "running").await;
    world.until("the rest is held", || (world.count("pending"), world.count("uploading")) == (19, 0)).await;
    assert_eq!(world.remote()[b"d/f1".as_slice()], good[b"d/f1".as_slice()]);

    let accepted = world.run(&["accept".as_ref(), world.path("d/f1").as_os_str()]);
    assert!(accepted.code == 0 && accepted.stdout.contains("1 file will be uploaded empty"), "{accepted:?}");
    world.until("the accepted one goes up", || world.remote()[b"d/f1".as_slice()].is_empty()).await;
    assert_eq!(world.run(&["accept".as_ref(), world.mirror().as_os_str()]).code, 0);
    world.until_mirrored().await;
    world.until("all is well", || world.run(&["status"]).code == 0).await;
    assert_eq!(world.run(&["accept".as_ref(), world.mirror().as_os_str()]).code, 1);
    assert_eq!(agent.stop(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_few_files_that_are_empty_go_up_as_they_are_and_so_do_those_that_a_person_empties() {
    let world = stored(40).await;
    empty(&world, 0..9);
    let agent = world.start();
    world.until_mirrored().await;
    world.until("it runs", || world.status()["agent"]["state"] == "running").await;
    empty(&world, 9..40);
    world.until_mirrored().await;
    assert_eq!(agent.stop(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_pass_holds_them_as_well_and_says_so() {
    let world = stored(12).await;
    let good = world.remote();
    empty(&world, 0..12);
    let pass = world.run(&["sync"]);
    assert!(pass.code == 1 && pass.stdout.contains("0 files stored (0 B), 12 waiting"), "{pass:?}");
    assert_eq!(world.remote(), good);
}
