//! Uploads that are slow, and uploads that are dead.

use super::*;

/// What becomes of an upload of so many bytes in which nothing moves.
async fn dead(world: &World, size: usize) -> Fault {
    in_time(world.upload(size)).await.expect_err("nothing was stored")
}

// E6: it takes several times as long as nothing may move.
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_goes_on_slowly_is_not_given_up() {
    let world = World::new(Duration::from_secs(3)).await;
    world.misbehave("upload slow=400000");
    world.upload(4_000_000).await.expect("stored");
    assert_eq!(world.sandbox.files().expect("files").len(), 1);
}

// E6, E29: neither one that fills all buffers nor one that fits in them.
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_in_which_nothing_moves_is_given_up() {
    for size in [8_000_000, 20_000, 0] {
        let world = World::new(Duration::from_secs(1)).await;
        world.misbehave("upload stall");
        assert_eq!(dead(&world, size).await.code(), "unreachable", "{size} bytes");
    }
}

// E26
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_stops_half_way_is_given_up() {
    for phase in ["token", "upload"] {
        let world = World::new(Duration::from_secs(1)).await;
        world.misbehave(&format!("{phase} stall-in-answer"));
        assert_eq!(dead(&world, 4_000_000).await.code(), "unreachable", "{phase}");
    }
}

// E6: a service may think about a file for longer than nothing may move on the way to it.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_may_come_the_later_the_larger_the_file() {
    let world = World::new(Duration::from_secs(1)).await;
    world.misbehave("upload late=3000");
    assert_eq!(dead(&world, 0).await.code(), "unreachable");
    world.upload(2_000_000).await.expect("stored");
}

// E6, B24
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_not_read_any_further_ends_its_upload() {
    let world = World::new(Duration::from_secs(1)).await;
    let stuck = || pieces(20_000).chain(stream::pending());
    let ended = in_time(world.upload_from(40_000, stuck)).await;
    assert_eq!(ended.expect_err("nothing was stored").code(), "unreachable");
    assert!(world.sandbox.files().expect("files").is_empty());
}

// E6: each waits for its turn for longer than nothing may move.
#[tokio::test(flavor = "multi_thread")]
async fn all_uploads_together_keep_to_the_limit_and_none_is_given_up_for_waiting() {
    let mut world = World::new(Duration::from_secs(2)).await;
    world.client = world.client.limited_to(Timetable::always(512));
    let begun = Instant::now();
    let stored = tokio::join!(world.upload(1_000), world.upload(1_000), world.upload(1_000));
    assert!(stored.0.is_ok() && stored.1.is_ok() && stored.2.is_ok(), "{stored:?}");
    assert!(begun.elapsed() > Duration::from_secs(5), "3,000 bytes at 512 a second in {:?}", begun.elapsed());
}
