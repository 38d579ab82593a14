//! One token for all, over real HTTP.

use tokio::sync::Barrier;

use super::*;

const MANY: usize = 1_000;

/// A world for many connections at a time.
async fn crowded() -> Arc<World> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    // Both ends of each connection are in this process.
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).expect("allowed up to the maximum");
    Arc::new(World::new(Duration::from_secs(60)).await)
}

// E10
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_who_come_back_with_a_refused_token_cost_one_request() {
    let world = crowded().await;
    let refused = world.client.tokens().get(None).await.expect("a token").number;
    world.sandbox.revoke_tokens();
    let together = Arc::new(Barrier::new(MANY));
    let tasks: Vec<_> = (0..MANY)
        .map(|_| {
            let (world, together) = (Arc::clone(&world), Arc::clone(&together));
            tokio::spawn(async move {
                together.wait().await;
                world.client.tokens().get(Some(refused)).await.expect("another token").number
            })
        })
        .collect();
    for task in tasks {
        assert_eq!(in_time(task).await.expect("no panic"), refused + 1);
    }
    assert_eq!(world.sandbox.requests(Phase::Token), 2);
}

// E9, E10: the same with the requests that are refused.
#[expect(clippy::print_stdout, reason = "the figure is what the test is for")]
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_uploads_that_meet_a_revoked_token_cost_one_request_and_are_stored() {
    let world = crowded().await;
    world.upload(0).await.expect("stored");
    world.sandbox.revoke_tokens();
    // All have been sent by the time when the first is refused, or nearly so.
    world.sandbox.set_delay(Duration::from_secs(2));
    let uploads: Vec<_> = (0..MANY)
        .map(|_| {
            let world = Arc::clone(&world);
            tokio::spawn(async move { world.upload(10).await })
        })
        .collect();
    world.until_requests(Phase::Upload, 1 + MANY as u64).await;
    world.sandbox.set_delay(Duration::ZERO);
    for upload in uploads {
        in_time(upload).await.expect("no panic").expect("stored");
    }
    assert_eq!(world.sandbox.requests(Phase::Token), 2);
    let refused = world.sandbox.requests(Phase::Upload) - 1 - MANY as u64;
    assert!(refused > 0, "none was refused");
    println!("{refused} uploads of {MANY} at a time met a revoked token: 1 token request");
}

// E10: nor does a failure multiply.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_request_that_fails_is_not_made_again_by_each_who_waited() {
    let world = crowded().await;
    let refused = world.client.tokens().get(None).await.expect("a token").number;
    world.misbehave("token 500");
    // Those who ask while it is under way share its end; a machine may be too busy for all of them to do so.
    world.sandbox.set_delay(Duration::from_secs(2));
    let tasks: Vec<_> = (0..MANY)
        .map(|_| {
            let world = Arc::clone(&world);
            tokio::spawn(async move { world.client.tokens().get(Some(refused)).await.map(|leased| leased.number) })
        })
        .collect();
    for task in tasks {
        assert_eq!(in_time(task).await.expect("no panic"), Err(Fault::ServerError(500)));
        assert!(world.sandbox.requests(Phase::Token) < 10, "{} requests", world.sandbox.requests(Phase::Token));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_who_stops_waiting_for_a_token_leaves_it_to_the_next() {
    let world = crowded().await;
    world.misbehave("token stall x1");
    let first = tokio::spawn({
        let world = Arc::clone(&world);
        async move { world.client.tokens().get(None).await.map(|leased| leased.number) }
    });
    world.until_requests(Phase::Token, 1).await;
    let second = tokio::spawn({
        let world = Arc::clone(&world);
        async move { world.client.tokens().get(None).await.map(|leased| leased.number) }
    });
    first.abort();
    assert_eq!(in_time(second).await.expect("no panic"), Ok(2));
}
