//! Uploads that may come late, and what is sent once more because of them.

use super::*;

const PATIENCE: Duration = Duration::from_millis(1_000);

impl World {
    /// An upload of `a` ended without word, and another version of it was stored after that. `straggler`: the digest of
    /// what may come late.
    fn stored_after_a_straggler(&self, straggler: Option<Digest>) {
        self.push(&at("a"), Urgency::Event);
        let claim = self.claim_one();
        self.ledger.may_straggle(&claim, straggler).expect("noted");
        self.ledger.postpone(&claim, "unreachable", "no answer", true, 0).expect("postponed");
        let claim = self.claim_one();
        self.settle(&claim, &stored(5));
    }

    fn sent_again_at(&self, now: Millis) -> u64 {
        self.ledger.send_again_after_stragglers(PATIENCE, now).expect("looked")
    }

    fn stragglers(&self) -> i64 {
        self.number("SELECT count(*) FROM stragglers")
    }
}

#[test]
fn a_file_is_sent_once_more_when_nothing_older_can_come_any_more() {
    let world = World::new();
    world.stored_after_a_straggler(None);
    assert_eq!((world.sent_again_at(5_000), world.sent_again_at(5_999)), (0, 0));
    assert_eq!(world.counts().stored.files, 1, "it is as true as any until then");
    assert_eq!(world.sent_again_at(6_000), 1);
    let claim = &world.claim(6_000)[0];
    assert!(claim.is_unsure, "it is sent and not compared");
    world.settle(claim, &stored(5));
    assert_eq!((world.sent_again_at(9_000), world.stragglers()), (0, 0), "and not again and again");
}

#[test]
fn a_straggler_with_the_bytes_that_are_stored_does_no_harm() {
    let world = World::new();
    world.stored_after_a_straggler(Some(Digest::of(b"hello")));
    world.sent_again_at(0);
    assert_eq!((world.sent_again_at(1_000), world.stragglers()), (0, 0));
    assert!(world.claim(HELD).is_empty());
}

#[test]
fn of_stragglers_with_different_bytes_nobody_knows_which_comes_last() {
    let world = World::new();
    world.stored_after_a_straggler(Some(Digest::of(b"older")));
    world.stored_after_a_straggler(Some(Digest::of(b"hello")));
    world.sent_again_at(0);
    assert_eq!(world.sent_again_at(1_000), 1);
}

#[test]
fn what_a_killed_agent_had_in_its_hands_may_straggle() {
    let world = World::new();
    world.put("a", &stored(5));
    world.push(&at("a"), Urgency::Event);
    drop(world.claim_one());
    world.ledger.recover_changes(1_000).expect("recovered");
    world.settle(&world.claim_one(), &stored(5));
    world.sent_again_at(0);
    assert_eq!(world.sent_again_at(1_000), 1);
}

#[test]
fn a_file_that_is_being_sent_is_looked_at_when_that_has_ended() {
    let world = World::new();
    world.stored_after_a_straggler(None);
    world.push(&at("a"), Urgency::Event);
    let claim = world.claim_one();
    world.sent_again_at(0);
    assert_eq!((world.sent_again_at(1_000), world.stragglers()), (0, 1));
    world.settle(&claim, &stored(5));
    assert_eq!((world.sent_again_at(1_000), world.stragglers()), (1, 0));
}

#[test]
fn a_file_that_waits_already_is_sent_and_not_compared() {
    let world = World::new();
    world.stored_after_a_straggler(None);
    world.push(&at("a"), Urgency::Event);
    world.sent_again_at(0);
    assert_eq!(world.sent_again_at(1_000), 1);
    assert!(world.claim_one().is_unsure);
}

#[test]
fn a_file_that_is_gone_is_sent_and_not_compared_if_it_comes_back() {
    let world = World::new();
    world.stored_after_a_straggler(None);
    world.put("a", &Settlement::Gone);
    world.sent_again_at(0);
    assert_eq!((world.sent_again_at(1_000), world.stragglers()), (0, 0));
    let row = world.ledger.recorded(world.mirror, &at("a")).expect("a row").expect("a row");
    assert_eq!(row.digest, None, "there is nothing to compare with");
}

#[test]
fn a_path_that_was_never_stored_is_no_longer_thought_of() {
    let world = World::new();
    world.push(&at("a"), Urgency::Event);
    let claim = world.claim_one();
    world.ledger.may_straggle(&claim, None).expect("noted");
    world.settle(&claim, &Settlement::Gone);
    world.sent_again_at(0);
    assert_eq!((world.sent_again_at(1_000), world.stragglers()), (0, 0));
    assert!(world.claim(HELD).is_empty());
}

// D14
#[test]
fn a_clock_that_is_set_back_keeps_nothing_from_being_sent_again() {
    let world = World::new();
    world.stored_after_a_straggler(None);
    world.sent_again_at(9_000_000);
    assert_eq!((world.sent_again_at(100), world.sent_again_at(1_100)), (0, 1));
}
