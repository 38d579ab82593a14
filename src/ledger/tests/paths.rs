//! Names and numbers come back as they went in.

use super::*;
use crate::mirror::{Kind, Skip};

// D15
#[test]
fn numbers_with_the_highest_bit_come_back_as_they_were() {
    let world = World::new();
    let odd = Stat { inode: u64::MAX - 1, ..stat(5) };
    world.put("a", &stored_as(odd));
    let row = world.ledger.recorded(world.mirror, &at("a")).expect("a row").expect("a row");
    assert_eq!(row.stat, odd);
    let root = Identity { device: u64::MAX, inode: 1 << 63 };
    world.ledger.believe_root(world.mirror, Some(root)).expect("believed");
    assert_eq!(world.ledger.mirror(world.mirror).expect("a mirror").root, Some(root));
    world.ledger.believe_root(world.mirror, None).expect("believed");
    assert_eq!(world.ledger.mirror(world.mirror).expect("a mirror").root, None);
}

#[test]
fn a_size_limit_without_end_comes_back_as_it_was() {
    let world = World::new();
    assert_eq!(world.ledger.mirror(world.mirror).expect("a mirror").settings.policy.max_file_size, u64::MAX);
}

#[test]
fn times_before_1970_and_far_away_come_back_as_they_were() {
    let world = World::new();
    for (seconds, nanos) in [(-1, 999_999_999), (-2_000_000_000, 1), (i64::MIN, 0), (i64::MAX, 999_999_999)] {
        let odd = Stat { mtime: Timestamp { seconds, nanos }, ..stat(5) };
        world.put("a", &stored_as(odd));
        let row = world.ledger.recorded(world.mirror, &at("a")).expect("a row").expect("a row");
        assert_eq!(row.stat, odd);
    }
}

#[test]
fn a_version_to_be_compared_again_comes_back_as_one() {
    let world = World::new();
    world.put("a", &stored_as(stat(5).to_be_compared()));
    let row = world.ledger.recorded(world.mirror, &at("a")).expect("a row").expect("a row");
    assert_ne!(row.stat, stat(5));
    assert_eq!(row.stat, stat(5).to_be_compared());
}

#[test]
fn any_bytes_that_can_name_a_file_come_back_as_they_were() {
    let world = World::new();
    let long = [b'x'; 255];
    let names: [&[u8]; 8] =
        [b"\xff\xfe", b"two\nlines", b"'; DROP TABLE files; --", b"%_*?[", b" ", "e\u{301}".as_bytes(), b"\x01", &long];
    let mut all = Vec::new();
    for directory in names {
        for name in names {
            let path = bytes_at(directory).join(b"below").and_then(|dir| dir.join(name)).expect("a path");
            world.push(&path, Urgency::Event);
            let claim = world.claim_one();
            assert_eq!(claim.path, path);
            world.settle(&claim, &stored(1));
            assert!(world.ledger.recorded(world.mirror, &path).expect("a row").is_some(), "{path}");
            all.push(path);
        }
    }
    all.sort();
    let mut listed: Vec<MirrorPath> = world.entries("").into_iter().map(|entry| entry.path).collect();
    listed.sort();
    assert_eq!(listed, all);
    for directory in names {
        let top = bytes_at(directory);
        assert!(world.ledger.has_below(world.mirror, &top, Below::Present).expect("an answer"));
        let listing = world.ledger.listing(world.mirror, &top).expect("a listing");
        assert_eq!(listing.directories, [Box::from(b"below".as_slice())]);
        world.push(&top, Urgency::Event);
        world.settle(&world.claim_one(), &Settlement::Gone);
        assert!(!world.ledger.has_below(world.mirror, &top, Below::Present).expect("an answer"), "{top}");
    }
}

#[test]
fn what_is_below_a_name_that_only_begins_alike_is_another_matter() {
    let world = World::new();
    for path in ["a/x", "a-b/x", "a0/x", "ab/x", "a.d/x", "A/x"] {
        world.put(path, &stored(1));
    }
    world.put("a", &Settlement::Gone);
    assert_eq!(world.counts().gone.files, 1);
    assert_eq!(world.counts().stored.files, 5);
}

#[test]
fn a_mount_over_a_directory_leaves_what_is_below_it() {
    let world = World::new();
    world.put("a/x", &stored(1));
    world.put("a", &Settlement::Skipped(stat(0), 0o755, Skip::Kind(Kind::Mount)));
    assert!(world.ledger.has_below(world.mirror, &at("a"), Below::Taken).expect("an answer"));
    world.put("a", &Settlement::Skipped(stat(0), 0o777, Skip::Kind(Kind::Symlink)));
    assert!(!world.ledger.has_below(world.mirror, &at("a"), Below::Taken).expect("an answer"));
}

#[test]
fn the_mirrors_top_is_no_change() {
    let world = World::new();
    world.push(&MirrorPath::top(), Urgency::Event);
    assert_eq!(world.counts().pending.files, 0);
    assert_eq!(world.ledger.file(world.mirror, &MirrorPath::top()).expect("no row"), None);
}

#[test]
fn the_agents_row_comes_back_as_it_was_and_begins_anew() {
    let world = World::new();
    assert_eq!(world.ledger.agent().expect("no row"), None);
    world.ledger.begin_agent(7, "https://dstor.example", 10).expect("begun");
    let facts = DstorFacts {
        auth: Auth::Refused,
        reachable: Some(false),
        token_expires_at: Some(-5),
        token_requests: u64::MAX,
        last_error: Some("no".into()),
    };
    world.ledger.set_dstor_facts(&facts).expect("set");
    for state in [AgentState::Running, AgentState::Stopping, AgentState::Stopped] {
        world.ledger.set_agent_state(state).expect("set");
        let row = world.ledger.agent().expect("a row").expect("a row");
        assert_eq!((row.state, row.pid, row.since), (state, 7, 10));
        assert_eq!(row.dstor, facts);
    }
    world.ledger.begin_agent(8, "https://dstor.example", 20).expect("begun");
    let row = world.ledger.agent().expect("a row").expect("a row");
    assert_eq!((row.state, row.dstor), (AgentState::Starting, DstorFacts::default()));
}
