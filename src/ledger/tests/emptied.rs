//! Which changes of emptied files are held, and what lets them go.

use super::*;

/// A ledger with so many stored files.
fn world(files: u32) -> World {
    let world = World::new();
    for n in 0..files {
        world.put(&format!("d/{n:03}"), &stored(5));
    }
    world
}

fn found(paths: std::ops::Range<u32>) -> Vec<Push> {
    paths.map(|n| Push { path: at(&format!("d/{n:03}")), size: 0, due_at: 0 }).collect()
}

fn held(world: &World) -> u64 {
    let problems = world.ledger.problems(1000).expect("problems");
    problems.iter().filter(|problem| problem.code == "emptied" && problem.next_attempt_at.is_none()).count() as u64
}

#[test]
fn too_many_are_held_and_a_few_are_not() {
    for (files, emptied, expected) in [(40, 10, 10), (40, 9, 0), (60, 10, 0), (12, 12, 12)] {
        let world = world(files);
        let held_now = world.ledger.hold_emptied(world.mirror, found(0..emptied), 0).expect("taken");
        assert_eq!((held_now, held(&world)), (expected, expected), "{emptied} of {files}");
        assert_eq!(world.claim(0).len() as u64, u64::from(emptied) - expected, "{emptied} of {files}");
        assert_eq!(world.claim(Millis::MAX).len(), 0, "what is held was claimed");
    }
}

#[test]
fn those_that_are_filled_again_go_on_and_the_rest_as_soon_as_it_is_few() {
    let world = world(40);
    assert_eq!(world.ledger.hold_emptied(world.mirror, found(0..20), 0).expect("taken"), 20);
    assert_eq!(world.ledger.hold_emptied(world.mirror, found(5..20), 0).expect("taken"), 15);
    assert_eq!((held(&world), world.claim(0).len()), (15, 5));
    assert_eq!(world.ledger.hold_emptied(world.mirror, found(15..20), 0).expect("taken"), 0);
    assert_eq!((held(&world), world.claim(0).len()), (0, 15));
}

#[test]
fn what_is_accepted_is_not_held_again_by_the_next_scan_nor_after_a_failure() {
    let world = world(40);
    world.ledger.hold_emptied(world.mirror, found(0..20), 0).expect("taken");
    assert_eq!(world.ledger.accept_emptied(world.mirror, &at("d/003")).expect("accepted"), 1);
    assert_eq!(world.ledger.accept_emptied(world.mirror, &at("d/003")).expect("nothing"), 0);
    assert_eq!(world.ledger.accept_emptied(world.mirror, &at("d")).expect("accepted"), 19);
    assert_eq!(world.ledger.hold_emptied(world.mirror, found(0..20), 0).expect("taken"), 0);
    for claim in world.claim(0) {
        world.ledger.postpone(&claim, "unreachable", "no network", true, 5).expect("put back");
    }
    assert_eq!(world.ledger.hold_emptied(world.mirror, found(0..20), 0).expect("taken"), 0);
    assert_eq!(world.claim(5).len(), 20);
}

#[test]
fn an_event_makes_a_held_file_worth_a_look_and_does_not_forget_why_it_was_held() {
    let world = world(40);
    world.ledger.hold_emptied(world.mirror, found(0..20), 0).expect("taken");
    world.push(&at("d/007"), Urgency::Event);
    let claim = world.claim_one();
    assert_eq!((claim.path.clone(), claim.code.as_deref()), (at("d/007"), Some("emptied")));
    world.ledger.defer(&claim, HELD).expect("put back");
    assert_eq!(held(&world), 20);
}

#[test]
fn an_event_before_the_scan_is_a_persons_doing() {
    let world = world(40);
    for n in 0..20 {
        world.push(&at(&format!("d/{n:03}")), Urgency::Event);
    }
    assert_eq!(world.ledger.hold_emptied(world.mirror, found(0..20), 0).expect("taken"), 0);
    assert_eq!(world.claim(0).len(), 20);
}

#[test]
fn a_scan_that_finds_none_writes_nothing() {
    let world = world(3);
    let before = world.number("SELECT total_changes()");
    assert_eq!(world.ledger.hold_emptied(world.mirror, Vec::new(), 0).expect("taken"), 0);
    assert_eq!(world.number("SELECT total_changes()"), before);
}
