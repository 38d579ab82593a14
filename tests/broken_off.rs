//! Uploads that dStor breaks off in their midst: as one that is too large is answered too early, and all that is heard is
//! a connection that breaks (E7).

use dstor_sync::sandbox::Phase;

use crate::world::World;

/// Larger than all buffers on its way.
const BIG: usize = 8 << 20;

// E7
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_always_broken_off_is_given_up_and_holds_nobody_up() {
    let world = World::with("", "sessions = \"never\"").await;
    world.misbehave("upload reset-in-body name=big");
    world.write("big", vec![b'x'; BIG]);
    let agent = world.start();
    let mut written = 0;
    world
        .until("it is given up", || {
            written += 1;
            world.write(&format!("small{written}"), "s");
            world.count("failed") == 1
        })
        .await;
    let status = world.status();
    let problem = &status["problems"][0];
    assert_eq!((&problem["code"], &problem["state"]), (&"broken_off".into(), &"failed".into()), "{status:#}");
    let message = problem["message"].as_str().expect("words");
    assert!(
        message.starts_with("dStor broke off the upload 6 times; it may be too large for the service"),
        "{message}"
    );
    assert_eq!(world.run(&["status"]).code, 1);
    world.until("all others are stored", || world.count("stored") == written && world.count("pending") == 0).await;
    assert!(world.remote().keys().all(|path| path != b"big"));

    // The same version is left alone until someone asks.
    world.write("another", "a");
    world.until("another one is stored", || world.count("stored") == written + 1).await;
    assert_eq!(world.count("failed"), 1);
    world.sandbox().behave();
    assert_eq!(world.run(&["retry", world.path("big").to_str().expect("text")]).code, 0);
    world.until_mirrored().await;
    assert_eq!(agent.stop(), 0);
}

// E7: nobody else is there to show whether dStor takes anything at all.
#[tokio::test(flavor = "multi_thread")]
async fn before_a_lone_file_is_held_to_be_at_fault_dstor_is_asked_for_a_sign() {
    let world = World::with("", "sessions = \"never\"").await;
    world.misbehave("upload reset-in-body name=big");
    world.write("big", vec![b'x'; BIG]);
    let agent = world.start();
    world.until("dStor is asked for a sign", || world.sandbox().requests(Phase::Read) > 0).await;
    assert!(world.sandbox().requests(Phase::Upload) >= 3, "it has failed more than once by then");
    assert_eq!(world.count("failed"), 0);
    world.sandbox().behave();
    world.until_mirrored().await;
    assert_eq!(agent.stop(), 0);
}
