//! Pushing, claiming and settling: what keeps a change, and what ends it.

use std::ops::ControlFlow;
use std::time::Duration;

use super::*;
use crate::mirror::Jump;

#[test]
fn a_path_pushed_again_while_claimed_is_claimed_again() {
    let world = World::new();
    for urgency in [Urgency::Event, Urgency::Scan] {
        world.push(&at("a"), urgency);
        let claim = world.claim_one();
        world.push(&at("a"), urgency);
        assert!(world.claim(0).is_empty(), "{urgency:?}: claimed by two");
        world.settle(&claim, &stored(5));
        assert_eq!(world.counts().pending.files, 1, "{urgency:?}");
        let again = world.claim_one();
        world.settle(&again, &stored(5));
        assert_eq!(world.counts().pending.files, 0, "{urgency:?}");
    }
}

#[test]
fn a_scan_leaves_a_failure_its_due_time_and_its_attempts() {
    let world = World::new();
    world.push(&at("a"), Urgency::Event);
    world.ledger.postpone(&world.claim_one(), "timeout", "no answer", false, 5000).expect("postponed");
    world.push(&at("a"), Urgency::Scan);
    assert!(world.claim(4999).is_empty());
    assert_eq!(world.claim(5000)[0].attempts, 1);
}

#[test]
fn an_event_forgets_earlier_failures() {
    let world = World::new();
    world.push(&at("a"), Urgency::Event);
    world.ledger.postpone(&world.claim_one(), "timeout", "no answer", false, 5000).expect("postponed");
    world.push_due(&at("a"), Urgency::Event, 10);
    assert_eq!(world.ledger.problems(10).expect("problems"), []);
    assert_eq!(world.claim(10)[0].attempts, 0);
}

#[test]
fn a_failure_of_an_older_version_does_not_delay_the_newer_one() {
    let world = World::new();
    world.push(&at("a"), Urgency::Event);
    let claim = world.claim_one();
    world.push_due(&at("a"), Urgency::Event, 10);
    world.ledger.postpone(&claim, "timeout", "no answer", false, 5000).expect("postponed");
    assert_eq!(world.claim(10).len(), 1);
}

#[test]
fn a_change_keeps_the_time_of_its_first_push() {
    let world = World::new();
    world.push(&at("a"), Urgency::Event);
    let again = Push { path: at("a"), size: 5, due_at: 0 };
    world.ledger.push(world.mirror, &[again], Urgency::Event, 9000).expect("pushed");
    assert_eq!(world.claim_one().since, 100);
}

#[test]
fn changes_are_claimed_in_the_order_in_which_they_are_due() {
    let world = World::new();
    for (path, due_at) in [("late", 30), ("early", 10), ("middle", 20)] {
        world.push_due(&at(path), Urgency::Event, due_at);
    }
    let paths: Vec<String> =
        world.ledger.claim(100, 2).expect("claimed").iter().map(|claim| claim.path.to_string()).collect();
    assert_eq!(paths, ["early", "middle"]);
    assert_eq!(world.claim(100)[0].path, at("late"));
}

#[test]
fn settling_with_a_time_looks_once_more_at_that_time() {
    let world = World::new();
    world.push(&at("a"), Urgency::Event);
    world.ledger.settle(&world.claim_one(), &stored(5), Some(700), 200).expect("settled");
    assert!(world.claim(699).is_empty());
    world.settle(&world.claim(700)[0], &Settlement::Nothing);
    assert_eq!(world.counts().stored.files, 1);
    assert_eq!(world.ledger.outlook().expect("an outlook"), Outlook::default());
}

#[test]
fn held_changes_are_not_claimed_before_they_are_released() {
    let world = World::new();
    world.push(&at("a"), Urgency::Event);
    world.ledger.hold(world.mirror).expect("held");
    for urgency in [Urgency::Event, Urgency::Scan] {
        world.push(&at("a"), urgency);
        assert!(world.claim(HELD).is_empty(), "{urgency:?}");
    }
    world.ledger.forget_attempts().expect("forgotten");
    assert!(world.claim(HELD).is_empty(), "after forget_attempts");
    assert_eq!(world.ledger.outlook().expect("an outlook").next_due_at, None);
    world.ledger.release(world.mirror, 50).expect("released");
    assert_eq!(world.claim(50).len(), 1);
}

#[test]
fn releasing_one_mirror_leaves_the_other_held() {
    let world = World::new();
    let ids = world.ledger.activate_mirrors(&[photos(), mirror_to("Other")]).expect("mirrors");
    for id in &ids {
        let push = Push { path: at("a"), size: 0, due_at: 0 };
        world.ledger.push(*id, &[push], Urgency::Event, 0).expect("pushed");
        world.ledger.hold(*id).expect("held");
    }
    world.ledger.release(ids[1], 0).expect("released");
    assert_eq!(world.claim_one().mirror, ids[1]);
}

#[test]
fn what_is_claimed_beside_a_change_is_due_unfailed_and_of_its_directory() {
    let world = World::new();
    let ledger = &world.ledger;
    world.push(&at("d/failed"), Urgency::Event);
    ledger.postpone(&world.claim_one(), "timeout", "no answer", false, 0).expect("postponed");
    world.push_due(&at("d/first"), Urgency::Event, -1);
    let first = &ledger.claim(0, 1).expect("claimed")[0];
    assert_eq!(first.path, at("d/first"));
    world.push_due(&at("d/later"), Urgency::Event, 50);
    for path in ["d/a", "d/b", "d/c", "other/f", "g", "d/d/h"] {
        world.push(&at(path), Urgency::Event);
    }
    let paths = |fewest, most: usize| {
        let mut left = most;
        let claims = ledger.claim_beside(first, 0, fewest, |size| {
            assert_eq!(size, 5);
            left -= 1;
            (true, if left > 0 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        });
        claims.expect("claimed").iter().map(|claim| claim.path.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(paths(4, 9), [""; 0], "there are three");
    assert_eq!(paths(2, 2), ["d/a", "d/b"]);
    assert_eq!(paths(1, 9), ["d/c"]);
    assert_eq!(paths(0, 9), [""; 0], "those that were claimed are not claimed again");
    world.push(&at("d/g"), Urgency::Event);
    let none = ledger.claim_beside(first, 0, 0, |_| (false, ControlFlow::Continue(()))).expect("an answer");
    assert!(none.is_empty());
    assert_eq!(ledger.outlook().expect("an outlook").claimed, 4);
}

#[test]
fn a_killed_agents_claims_are_claimed_again() {
    let world = World::new();
    world.push(&at("a"), Urgency::Event);
    drop(world.claim_one());
    world.ledger.recover_changes(1000).expect("recovered");
    assert_eq!(world.claim_one().path, at("a"));
}

// D14
#[test]
fn times_that_a_jumping_clock_put_too_far_away_are_brought_near() {
    let world = World::new();
    world.push_due(&at("far"), Urgency::Event, 9_000_000);
    world.push_due(&at("near"), Urgency::Event, 500);
    world.ledger.recover_changes(1000).expect("recovered");
    assert_eq!(world.claim(999)[0].path, at("near"));
    assert_eq!(world.claim(1000)[0].path, at("far"));
}

// D14: what a worker has when the clock is set back comes due, too, if it was pushed again meanwhile.
#[test]
fn what_waits_is_due_earlier_by_as_much_as_the_clock_was_set_back() {
    let world = World::new();
    world.push_due(&at("waits"), Urgency::Event, 9_000);
    world.push(&at("claimed"), Urgency::Event);
    let claim = world.claim_one();
    world.push_due(&at("claimed"), Urgency::Event, 9_000);
    let back = Jump::Back(Duration::from_secs(8));
    world.ledger.follow_clock(back, 1_000_000).expect("brought forward");
    world.settle(&claim, &Settlement::Nothing);
    let mut due: Vec<MirrorPath> = world.claim(1_000).into_iter().map(|claim| claim.path).collect();
    due.sort();
    assert_eq!(due, [at("claimed"), at("waits")]);
}

// D14: set hours ahead and further back before anyone looks; what was pushed in between knows only the first.
#[test]
fn what_was_pushed_between_two_jumps_of_the_clock_is_not_left_in_the_future() {
    let hours = |count: u64| Duration::from_secs(3600 * count);
    for jump in [Jump::Back(hours(3)), Jump::Ahead(hours(3))] {
        let world = World::new();
        world.push_due(&at("a"), Urgency::Event, 8 * 3_600_000);
        world.ledger.follow_clock(jump, 60_000).expect("brought near");
        assert_eq!(world.claim(60_000).len(), 1, "{jump:?}");
    }
}

#[test]
fn the_same_directory_with_another_remote_is_another_mirror() {
    let world = World::new();
    world.put("a", &stored(5));
    let other = world.ledger.activate_mirrors(&[mirror_to("Elsewhere")]).expect("mirrors")[0];
    assert_ne!(other, world.mirror);
    assert_eq!(world.ledger.recorded(other, &at("a")).expect("no row"), None);
    let back = world.ledger.activate_mirrors(&[photos()]).expect("mirrors")[0];
    assert_eq!(back, world.mirror);
    assert!(world.ledger.recorded(back, &at("a")).expect("a row").is_some());
}

#[test]
fn a_mirror_keeps_its_number_when_its_settings_change() {
    let world = World::new();
    let mut settings = photos();
    settings.exclude.clear();
    settings.policy.max_file_size = 7;
    assert_eq!(world.ledger.activate_mirrors(std::slice::from_ref(&settings)).expect("mirrors"), [world.mirror]);
    assert_eq!(world.ledger.mirror(world.mirror).expect("a mirror").settings, settings);
}

#[test]
fn the_outlook_is_the_earliest_change_that_nobody_has() {
    let world = World::new();
    world.push_due(&at("a"), Urgency::Event, 10);
    world.push_due(&at("b"), Urgency::Event, 20);
    assert_eq!(world.ledger.outlook().expect("an outlook"), Outlook { claimed: 0, next_due_at: Some(10) });
    let claims = world.claim(10);
    assert_eq!(world.ledger.outlook().expect("an outlook"), Outlook { claimed: 1, next_due_at: Some(20) });
    world.ledger.defer(&claims[0], 15).expect("deferred");
    assert_eq!(world.ledger.outlook().expect("an outlook"), Outlook { claimed: 0, next_due_at: Some(15) });
}

#[test]
fn work_is_unfinished_until_it_failed_often_enough_or_is_held() {
    let world = World::new();
    let unfinished = || world.ledger.has_unfinished(2).expect("an answer");
    assert!(!unfinished());
    world.push(&at("a"), Urgency::Event);
    for _ in 0..2 {
        assert!(unfinished());
        let claim = world.claim_one();
        assert!(unfinished());
        world.ledger.postpone(&claim, "timeout", "no answer", false, 0).expect("postponed");
    }
    assert!(!unfinished());
    world.ledger.forget_attempts().expect("forgotten");
    assert!(unfinished());
    world.ledger.hold(world.mirror).expect("held");
    assert!(!unfinished());
}

/// The directory was away when the agent ended, and is back when it starts again.
#[test]
fn held_changes_are_still_held_after_a_restart_and_released_at_once() {
    let world = World::new();
    world.push(&at("a"), Urgency::Event);
    world.ledger.hold(world.mirror).expect("held");
    world.ledger.recover_changes(1000).expect("recovered");
    assert!(world.claim(1000).is_empty());
    world.ledger.release(world.mirror, 1).expect("released");
    assert_eq!(world.claim(1).len(), 1);
}

#[test]
fn changes_of_a_mirror_that_is_not_configured_are_held_until_it_is_again() {
    let world = World::new();
    world.push(&at("a"), Urgency::Event);
    world.ledger.activate_mirrors(&[mirror_to("Elsewhere")]).expect("mirrors");
    world.ledger.recover_changes(1000).expect("recovered");
    assert!(world.claim(HELD).is_empty());
    assert_eq!(world.ledger.active_mirrors().expect("mirrors").len(), 1);
    world.ledger.activate_mirrors(&[photos()]).expect("mirrors");
    world.ledger.recover_changes(1000).expect("recovered");
    world.ledger.release(world.mirror, 5).expect("released");
    assert_eq!(world.claim(5).len(), 1);
}

#[test]
fn a_start_that_finds_everything_in_order_writes_nothing() {
    let world = World::new();
    for path in ["waits", "d/waits", "claimed"] {
        world.push_due(&at(path), Urgency::Event, 500);
    }
    world.ledger.recover_changes(1000).expect("recovered");
    let written = || world.number("SELECT total_changes()");
    let before = written();
    world.ledger.recover_changes(1000).expect("recovered");
    assert_eq!(written(), before);
    world.ledger.activate_mirrors(&[mirror_to("Elsewhere")]).expect("mirrors");
    world.ledger.recover_changes(1000).expect("recovered");
    let before = written();
    world.ledger.recover_changes(1000).expect("recovered");
    assert_eq!(written(), before, "held once is held");
}

/// File systems allow files with holes up to 2^63 - 1 bytes; two of them are more than SQLite's numbers hold.
#[test]
fn files_too_large_to_be_added_up_do_not_stop_the_queue() {
    let world = World::new();
    let pushes = ["a", "b", "c"].map(|path| Push { path: at(path), size: i64::MAX.unsigned_abs(), due_at: 0 });
    world.ledger.push(world.mirror, &pushes, Urgency::Event, 0).expect("pushed");
    for claim in world.claim(0) {
        world.settle(&claim, &stored(i64::MAX.unsigned_abs()));
    }
    assert_eq!(world.counts().stored.files, 3);
    let row = world.ledger.recorded(world.mirror, &at("b")).expect("a row").expect("a row");
    assert_eq!(row.stat.size, i64::MAX.unsigned_abs());
    for path in ["a", "b", "c"] {
        world.put(path, &Settlement::Gone);
    }
    assert_eq!(world.counts().stored, Tally::default());
}

/// dStor answered: whether it holds an earlier attempt is no question any more.
#[test]
fn what_was_stored_is_sure_even_if_it_is_looked_at_once_more() {
    let world = World::new();
    world.push(&at("a"), Urgency::Event);
    world.ledger.postpone(&world.claim_one(), "timeout", "no answer", true, 0).expect("postponed");
    let claim = world.claim_one();
    assert!(claim.is_unsure);
    world.ledger.settle(&claim, &stored(5), Some(0), 200).expect("settled");
    assert!(!world.claim_one().is_unsure);
}
