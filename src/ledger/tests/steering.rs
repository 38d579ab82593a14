//! What people tell the agent, as rows.

use super::*;
use crate::ledger::UNTIL_RESUMED;
use crate::mirror::{BROKEN_OFF, EMPTIED};

#[test]
fn a_pause_ends_at_its_time_or_when_someone_says_so() {
    let World { ledger, .. } = World::new();
    assert_eq!(ledger.steering().expect("words"), crate::ledger::Steering::default());
    ledger.pause_until(Some(1_000)).expect("paused");
    let words = ledger.steering().expect("words");
    assert_eq!((words.pause_at(999), words.pause_at(1_000)), (Some(1_000), None));
    ledger.bring_forward(400).expect("a clock set back");
    assert_eq!(ledger.steering().expect("words").paused_until, Some(600));
    ledger.pause_until(Some(UNTIL_RESUMED)).expect("paused");
    ledger.bring_forward(400).expect("a clock set back");
    assert_eq!(ledger.steering().expect("words").pause_at(Millis::MAX - 1), Some(UNTIL_RESUMED));
    ledger.pause_until(None).expect("resumed");
    assert_eq!(ledger.steering().expect("words").pause_at(0), None);
}

#[test]
fn each_word_is_heard_once_however_often_it_is_said() {
    let World { ledger, .. } = World::new();
    ledger.ask_for_scans().expect("asked");
    ledger.ask_for_scans().expect("asked");
    ledger.ask_at_once().expect("asked");
    let words = ledger.steering().expect("words");
    assert_eq!((words.scans_asked, words.retries_asked), (2, 1));
}

#[test]
fn what_failed_is_due_again_and_looks_like_no_file_that_was_seen() {
    let world = World::new();
    for path in ["bad", "dir/bad", "dir/deep/bad", "directory/bad"] {
        world.put(path, &failed(5));
    }
    world.put("dir/good", &stored(5));
    assert_eq!(world.ledger.retry(world.mirror, &at("dir"), 900).expect("retried"), 2);
    let due: Vec<_> = world.claim(900).into_iter().map(|claim| (claim.path, claim.recorded)).collect();
    let paths: Vec<_> = due.iter().map(|(path, _)| path.clone()).collect();
    assert_eq!(paths, [at("dir/bad"), at("dir/deep/bad")]);
    assert!(due.iter().all(|(_, row)| row.is_some_and(|row| row.stat != stat(5))), "left alone again");
    assert_eq!(world.ledger.retry(world.mirror, &at("bad"), 900).expect("retried"), 1);
    assert_eq!(world.ledger.retry(world.mirror, &at("dir/good"), 900).expect("retried"), 0);
}

#[test]
fn what_waits_after_a_failure_is_due_at_once_and_what_waits_for_another_reason_is_not() {
    let world = World::new();
    for (path, code) in [("slow", "unreachable"), ("emptied", EMPTIED), ("away", "unreachable")] {
        world.push(&at(path), Urgency::Event);
        let claim = world.claim_one();
        let due_at = if path == "away" { HELD } else { 5_000 };
        world.ledger.postpone(&claim, code, "no", false, due_at).expect("postponed");
    }
    world.push_due(&at("fresh"), Urgency::Event, 5_000);
    assert_eq!(world.ledger.retry(world.mirror, &MirrorPath::top(), 900).expect("retried"), 1);
    let due = world.claim(900);
    assert_eq!(due.iter().map(|claim| (&claim.path, claim.attempts)).collect::<Vec<_>>(), [(&at("slow"), 0)]);
}

/// It may have looked before what was wrong was mended.
#[test]
fn what_a_worker_has_meanwhile_is_looked_at_once_more() {
    let world = World::new();
    world.push(&at("f"), Urgency::Event);
    let claim = world.claim_one();
    world.ledger.postpone(&claim, "unreadable", "no", false, 0).expect("postponed");
    let claim = world.claim_one();
    assert_eq!(world.ledger.retry(world.mirror, &at("f"), 900).expect("retried"), 1);
    world.settle(&claim, &failed(5));
    assert_eq!(world.claim(900).len(), 1);
}

// E7
#[test]
fn what_dstor_broke_off_is_tried_again_after_a_while_and_nothing_else_that_failed() {
    let world = World::new();
    let broken_off = |size| match failed(size) {
        Settlement::Failed { stat, mode, message, .. } => Settlement::Failed { stat, mode, code: BROKEN_OFF, message },
        other => other,
    };
    world.put("big", &broken_off(5));
    world.put("refused", &failed(5));
    let failed_at = world.ledger.problems(10).expect("problems")[0].since;
    assert_eq!(world.ledger.retry_broken_off(failed_at, 9_000).expect("looked"), 0, "it failed just now");
    assert_eq!(world.ledger.retry_broken_off(failed_at + 1, 9_000).expect("retried"), 1);
    let due = world.claim(9_000);
    assert_eq!(due.iter().map(|claim| &claim.path).collect::<Vec<_>>(), [&at("big")]);
    assert!(due[0].recorded.is_some_and(|row| row.stat != stat(5)), "left alone again");
}
