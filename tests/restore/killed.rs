//! A restore that is killed, again and again, or asked to stop: the next one completes it.

use std::fs;
use std::time::Duration;

use rustix::process::Signal;

use super::{dest, has_parts, restore, sync, tree};
use crate::world::World;

// P4, F3
#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_is_killed_again_and_again_is_completed_and_never_wrong() {
    let world = World::new().await;
    for at in 0..600 {
        world.write(&format!("d{}/f{at}", at % 7), format!("content {at}").repeat(at));
    }
    world.write("large", vec![7; 2_000_000]);
    sync(&world);
    let wanted = tree(&world.mirror());
    let dest = dest(&world);
    // One that is in the midst of it when it is killed, so that there surely is a part.
    world.misbehave("read stall-in-answer name=large");
    let right = || {
        let mut there = tree(&dest);
        there.retain(|path, _| !path.windows(17).any(|window| window == b".dstor-sync-part-"));
        let wrong: Vec<_> = there.iter().filter(|(path, file)| wanted.get(*path) != Some(*file)).collect();
        assert!(wrong.is_empty(), "{wrong:?}");
        there.len()
    };
    world.sandbox().set_delay(Duration::from_millis(30));
    let mut seen = 0;
    for round in 1..=3 {
        let run = world.start_with(&["restore", dest.to_str().expect("UTF-8")]);
        world.until("it is in the midst of it", || dest.exists() && right() > seen).await;
        if round == 1 {
            world.until("the large one has begun", || has_parts(&dest)).await;
        }
        run.kill();
        seen = right();
        assert!(seen < wanted.len() - 1, "it was at its end");
    }
    world.sandbox().set_delay(Duration::ZERO);
    world.sandbox().behave();
    fs::write(dest.join(".dstor-sync-part-0123456789abcdef"), "left behind").expect("written");
    let (results, _, said) = restore(&world, &[]);
    assert_eq!((results.len(), said.code), (601, 0), "{}", said.stderr);
    assert!(results.values().filter(|result| *result == "there").count() > 100);
    assert_eq!(tree(&dest), wanted, "and no part is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_is_asked_to_stop_leaves_no_part_and_says_so() {
    let world = World::new().await;
    world.write("a", vec![7; 500_000]);
    sync(&world);
    world.misbehave("read stall-in-answer");
    let dest = dest(&world);
    let mut run = world.start_with(&["restore", dest.to_str().expect("UTF-8")]);
    world.until("it is in the midst of it", || dest.exists() && has_parts(&dest)).await;
    run.signal(Signal::INT);
    assert_eq!(run.end().code(), Some(130));
    assert_eq!(fs::read_dir(&dest).expect("read").count(), 0);
}

// A part that another restore is at work on is not swept away.
#[tokio::test(flavor = "multi_thread")]
async fn two_restores_into_one_directory_do_each_other_no_harm() {
    let world = World::new().await;
    for at in 0..60 {
        world.write(&format!("d/f{at}"), format!("content {at}"));
    }
    sync(&world);
    world.sandbox().set_delay(Duration::from_millis(5));
    let dest = dest(&world);
    let mut both = [(); 2].map(|()| world.start_with(&["restore", dest.to_str().expect("UTF-8")]));
    for run in &mut both {
        assert_eq!(run.end().code(), Some(0), "{}", run.log());
    }
    assert_eq!(tree(&dest), tree(&world.mirror()));
}
