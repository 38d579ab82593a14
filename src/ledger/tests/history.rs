//! Which version there was at which time, against a record that is kept step by step.

use std::collections::BTreeMap;

use super::*;

const PATHS: [&str; 5] = ["a", "b", "d/a", "d/e/a", "d/e"];

fn digest(content: u64) -> Digest {
    Digest::of(&content.to_le_bytes())
}

fn hash(content: u64) -> Cid {
    let mut cid = crate::mirror::CidBuilder::new();
    cid.update(&content.to_le_bytes());
    cid.finish()
}

fn version(content: u64, at: Millis) -> Settlement {
    let (digest, hash) = (digest(content), hash(content));
    Settlement::Stored(Stored {
        stat: stat(content),
        mode: 0o640,
        digest,
        sealed: None,
        hash,
        is_proved: true,
        is_name_hidden: false,
        at,
    })
}

impl World {
    fn settle_at(&self, path: &str, settlement: &Settlement, now: Millis) {
        self.push(&at(path), Urgency::Event);
        self.ledger.settle(&self.claim_one(), settlement, None, now).expect("settled");
    }

    /// What there was at a time, below a path.
    fn then(&self, scope: &str, now: Millis) -> BTreeMap<String, (Cid, u64)> {
        let mut holdings = self.ledger.holdings_at(self.mirror, &at(scope), now).expect("holdings");
        let mut all = BTreeMap::new();
        let file = self.ledger.holding(self.mirror, &at(scope), Some(now)).expect("looked");
        let mut page: Vec<Shelved> = file.into_iter().collect();
        loop {
            for shelved in page {
                let Shelved::Held(holding) = shelved else { panic!("{shelved:?}") };
                let is_known = holding.state == EntryState::Settled(crate::mirror::State::Stored);
                let size = if is_known { holding.size } else { u64::MAX };
                assert!(all.insert(holding.path.to_string(), (holding.hash, size)).is_none(), "twice");
            }
            page = holdings.next_page().expect("a page");
            if page.is_empty() {
                return all;
            }
        }
    }
}

/// What is told of a life: what happened, with the content of stored versions, and when.
fn told(world: &World, path: &str) -> Vec<(String, Millis)> {
    let life = world.ledger.life(world.mirror, &at(path)).expect("a life");
    life.into_iter()
        .map(|moment| match moment.event {
            Turn::Stored(_, size) => (format!("stored {}", size.map_or(-1, u64::cast_signed)), moment.at),
            Turn::Gone => ("gone".into(), moment.at),
            Turn::Back => ("back".into(), moment.at),
        })
        .collect()
}

#[test]
fn what_there_was_at_any_time_is_told_whatever_happened_since() {
    for seed in 0..60 {
        let (mut random, world) = (fastrand::Rng::with_seed(seed), World::new());
        // For each path what dStor holds, and whether the file is there.
        let mut now: BTreeMap<&str, (u64, bool)> = BTreeMap::new();
        let mut records = Vec::new();
        let mut clock = 1_000;
        for _ in 0..80 {
            clock += random.i64(10..1_000);
            let path = *random.choice(&PATHS).expect("a path");
            // A file in a directory's place, and the other way round, ends what was there.
            let below = |other: &str| other != path && at(other).is_within(&at(path));
            let above = |other: &str| other != path && at(path).is_within(&at(other));
            let end = |now: &mut BTreeMap<&str, (u64, bool)>, is: &dyn Fn(&str) -> bool| {
                now.iter_mut().filter(|(other, _)| is(other)).for_each(|(_, (_, is_there))| *is_there = false);
            };
            let settlement = match random.u8(0..10) {
                0..4 => {
                    let content = random.u64(1..9);
                    now.insert(path, (content, true));
                    version(content, clock)
                }
                4..6 => {
                    now.entry(path).and_modify(|(_, is_there)| *is_there = false);
                    Settlement::Gone
                }
                6 if now.contains_key(path) => {
                    now.entry(path).and_modify(|(_, is_there)| *is_there = true);
                    Settlement::Refreshed(stat(now[path].0), 0o600)
                }
                7 => {
                    now.entry(path).and_modify(|(_, is_there)| *is_there = true);
                    failed(77)
                }
                8 => {
                    now.entry(path).and_modify(|(_, is_there)| *is_there = true);
                    Settlement::Skipped(stat(78), 0o600, crate::mirror::Skip::TooLarge)
                }
                _ => Settlement::Ignored,
            };
            if !matches!(settlement, Settlement::Ignored) {
                end(&mut now, &below);
            }
            for other in PATHS.into_iter().filter(|other| above(other)) {
                if now.get(other).is_some_and(|(_, is_there)| *is_there) {
                    world.settle_at(other, &Settlement::Descended, clock);
                }
            }
            end(&mut now, &above);
            world.settle_at(path, &settlement, clock);
            let there = now.iter().filter(|(_, (_, is_there))| *is_there);
            records.push((clock, there.map(|(path, (content, _))| ((*path).to_owned(), hash(*content))).collect()));
        }
        for (at, there) in [(0, BTreeMap::new())].into_iter().chain(records) {
            for moment in [at, at + 3] {
                let then = world.then("", moment);
                let hashes: BTreeMap<String, Cid> =
                    then.iter().map(|(path, (hash, _))| (path.clone(), hash.clone())).collect();
                assert_eq!(hashes, there, "seed {seed} at {moment}");
                for (path, (hash_then, size)) in then {
                    assert!(
                        size == u64::MAX || hash(size) == hash_then,
                        "seed {seed}: the size of another version of {path}"
                    );
                }
            }
            let below: Vec<String> = world.then("d", at).into_keys().collect();
            let wanted: Vec<&String> = there.keys().filter(|path| path.starts_with('d')).collect();
            assert!(below.iter().eq(wanted), "seed {seed}: {below:?}");
        }
    }
}

#[test]
fn a_files_life_is_told_with_each_version_once() {
    let world = World::new();
    world.settle_at("a", &version(1, 100), 100);
    assert_eq!(world.number("SELECT count(*) FROM history"), 0, "the first version costs nothing");
    world.settle_at("a", &Settlement::Refreshed(stat(1), 0o644), 150);
    assert_eq!(world.number("SELECT count(*) FROM history"), 0, "nor does being touched");
    world.settle_at("a", &version(2, 200), 200);
    world.settle_at("a", &Settlement::Gone, 300);
    world.settle_at("a", &Settlement::Gone, 350);
    world.settle_at("a", &Settlement::Refreshed(stat(2), 0o644), 400);
    world.settle_at("a", &failed(9), 500);
    world.settle_at("a", &version(3, 600), 600);
    world.settle_at("a", &Settlement::Gone, 700);
    world.settle_at("a", &version(4, 800), 800);
    let life: Vec<(String, Millis)> = [
        ("stored 1", 100),
        ("stored 2", 200),
        ("gone", 300),
        ("back", 400),
        ("stored 3", 600),
        ("gone", 700),
        ("stored 4", 800),
    ]
    .map(|(what, at)| (what.to_owned(), at))
    .into();
    assert_eq!(told(&world, "a"), life);
    assert_eq!((told(&world, "b"), told(&world, "")), (Vec::new(), Vec::new()));
    world.settle_at("a", &Settlement::Gone, 900);
    assert_eq!(told(&world, "a").last(), Some(&("gone".to_owned(), 900)));
}

#[test]
fn a_clock_that_is_set_back_loses_no_version() {
    let world = World::new();
    for (content, at) in [(1, 5_000), (2, 1_000), (3, 1_000), (4, 900), (5, 6_000)] {
        world.settle_at("a", &version(content, at), at);
    }
    world.settle_at("a", &Settlement::Gone, 800);
    let stored: Vec<String> = told(&world, "a").into_iter().map(|(what, _)| what).collect();
    assert_eq!(stored, ["stored 1", "stored 2", "stored 3", "stored 4", "stored 5", "gone"]);
    assert_eq!(world.then("", 10_000).len(), 0);
}

#[test]
fn what_was_stored_by_a_clock_that_was_set_back_since_hides_nothing_that_was_there() {
    let world = World::new();
    for (content, at) in [(1, 1_000), (2, 500), (3, 700)] {
        world.settle_at("a", &version(content, at), at);
    }
    let there = |at| world.then("", at).into_values().map(|(stored, _)| stored).collect::<Vec<_>>();
    for (at, content) in [(500, 2), (699, 2), (10_000, 3)] {
        assert_eq!(there(at), [hash(content)], "at {at}");
    }
    assert_eq!(there(499), []);
}

// What a million files take is nothing, and a version more no more than this.
#[test]
fn a_version_that_was_replaced_takes_less_than_180_bytes() {
    let world = World::new();
    const FILES: u64 = 2_000;
    for round in 0..2 {
        for at in 0..FILES {
            world.settle_at(&format!("photo-{at:05}-of-the-year.jpg"), &version(at, 1_000 + round), 1_000 + round);
        }
    }
    let bytes = world.number("SELECT sum(pgsize) FROM dbstat WHERE name = 'history'");
    let rows = world.number("SELECT count(*) FROM history");
    assert_eq!(rows, FILES as i64);
    // Names of 29 bytes.
    assert!(bytes / rows < 180, "{bytes} bytes for {rows}");
}

#[test]
fn times_of_which_not_everything_is_on_record_are_known() {
    let world = World::new();
    let begun = world.ledger.is_unrecorded(0).expect("looked").expect("before the ledger was begun");
    assert!(begun > 1_700_000_000_000, "{begun}");
    assert_eq!(world.ledger.is_unrecorded(begun).expect("looked"), None);
    world.ledger.note_unrecorded(begun + 10, begun + 20).expect("noted");
    let at = |at: Millis| world.ledger.is_unrecorded(begun + at).expect("looked");
    assert_eq!([at(9), at(10), at(19), at(20)], [None, Some(begun + 20), Some(begun + 20), None]);
}
