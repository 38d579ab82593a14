//! What the ledger tells of paths: entries, problems, reasons and listings.

use super::super::files::Held;
use super::*;
use crate::mirror::{Skip, State};

fn names(entries: &[Entry]) -> Vec<String> {
    entries.iter().map(|entry| entry.path.to_string()).collect()
}

#[test]
fn entries_come_by_directory_and_name() {
    let world = World::new();
    for path in ["b", "a/z", "a-b/x", "a/b/c", "a/a", "a", "Z"] {
        world.put(path, &stored(1));
    }
    world.push(&at("a/m"), Urgency::Event);
    assert_eq!(names(&world.entries("")), ["Z", "a", "b", "a/a", "a/m", "a/z", "a-b/x", "a/b/c"]);
}

#[test]
fn the_entries_below_a_directory_are_those_and_no_others() {
    let world = World::new();
    for path in ["a/x", "a/b/y", "a-b/x", "ab", "b"] {
        world.put(path, &stored(1));
    }
    assert_eq!(names(&world.entries("a")), ["a/x", "a/b/y"]);
    assert_eq!(names(&world.entries("a/b")), ["a/b/y"]);
}

#[test]
fn the_entries_of_a_file_are_that_file() {
    let world = World::new();
    for path in ["a/x", "a/xy", "a/y"] {
        world.put(path, &stored(1));
    }
    assert_eq!(names(&world.entries("a/x")), ["a/x"]);
}

#[test]
fn the_entries_of_a_file_that_was_a_directory_are_both() {
    let world = World::new();
    world.put("a/x", &stored(1));
    world.put("a", &stored(1));
    let entries = world.entries("a");
    assert_eq!(names(&entries), ["a", "a/x"]);
    assert_eq!(entries[0].state, EntryState::Settled(State::Stored));
    assert_eq!(entries[1].state, EntryState::Settled(State::Gone));
}

#[test]
fn there_are_no_entries_where_nothing_is_known() {
    let world = World::new();
    world.put("a/x", &stored(1));
    for prefix in ["b", "a/y", "a/x/y", "A"] {
        assert_eq!(names(&world.entries(prefix)), [""; 0], "{prefix}");
    }
}

#[test]
fn entries_end_when_the_reader_has_enough() {
    let world = World::new();
    for path in ["a", "b", "d/c", "e/c"] {
        world.put(path, &stored(1));
    }
    for enough in 1..=4 {
        let mut seen = 0;
        let each = |_| {
            seen += 1;
            seen < enough
        };
        world.ledger.entries(world.mirror, &MirrorPath::top(), each).expect("entries");
        assert_eq!(seen, enough);
    }
}

#[test]
fn entries_go_on_over_any_number_of_pages() {
    let world = World::new();
    let mut paths: Vec<String> = (0..2_500).map(|at| format!("f{at:04}")).collect();
    paths.extend((0..1_100).map(|at| format!("dirs/d{at:04}/x")));
    // Names that begin with another one whole, around the end of a page.
    paths.extend(["f0999\u{1}", "f09990", "dirs/d0999\u{1}/x", "dirs/d0999-/x"].map(str::to_owned));
    let pushes: Vec<Push> = paths.iter().map(|path| Push { path: at(path), size: 5, due_at: 0 }).collect();
    world.ledger.push(world.mirror, &pushes, Urgency::Scan, 0).expect("pushed");
    for prefix in ["", "dirs"] {
        let mut expected: Vec<(String, String)> = paths
            .iter()
            .filter(|path| path.starts_with(prefix))
            .map(|path| path.rsplit_once('/').unwrap_or(("", path)))
            .map(|(dir, name)| (dir.to_owned(), name.to_owned()))
            .collect();
        expected.sort();
        let told = world.entries(prefix).into_iter().map(|entry| {
            let (dir, name) = entry.path.split().expect("a name");
            (String::from_utf8_lossy(dir.as_bytes()).into_owned(), String::from_utf8_lossy(name).into_owned())
        });
        assert_eq!(told.collect::<Vec<_>>(), expected, "{prefix}");
    }
}

// D6: `ls | less` may stand at its first page for days.
#[test]
fn a_listing_that_is_half_read_keeps_nothing_from_being_folded_into_the_file() {
    let world = World::new();
    let pushes: Vec<Push> =
        (0..2_500).map(|number| Push { path: at(&format!("d/f{number:04}")), size: 5, due_at: 0 }).collect();
    world.ledger.push(world.mirror, &pushes, Urgency::Scan, 0).expect("pushed");
    world.ledger.db.busy_timeout(Duration::ZERO).expect("set");
    let reader = Ledger::open_read_only(&world.file()).expect("the ledger");
    let mut read = 0;
    let each = |_| {
        read += 1;
        if [1, 1_500, 2_500].contains(&read) {
            world.push(&at("d/f0000"), Urgency::Event);
            // Whether a reader was in the way.
            assert_eq!(world.number("PRAGMA wal_checkpoint(TRUNCATE)"), 0, "at entry {read}");
        }
        true
    };
    reader.entries(world.mirror, &MirrorPath::top(), each).expect("entries");
    assert_eq!(read, 2_500);
}

#[test]
fn an_entry_tells_its_change_before_its_row() {
    let world = World::new();
    world.put("a", &stored(1));
    let held = Held {
        digest: Digest::of(b"hello"),
        sealed: None,
        hash: Cid::parse(HELLO).expect("a CID"),
        proof: Some("cid".into()),
        at: 300,
        is_name_hidden: false,
    };
    let settled = world.entry("a").expect("an entry");
    assert_eq!(settled.state, EntryState::Settled(State::Stored));
    assert_eq!((settled.size, settled.since, settled.next_attempt_at), (1, None, None));

    world.push_due(&at("a"), Urgency::Event, 10);
    let pending = world.entry("a").expect("an entry");
    assert_eq!(pending.state, EntryState::Pending);
    assert_eq!((pending.size, pending.since, pending.next_attempt_at), (5, Some(100), Some(10)));
    assert_eq!(pending.row.and_then(|row| row.held), Some(held));

    let claim = &world.claim(10)[0];
    assert_eq!(world.entry("a").expect("an entry").state, EntryState::Uploading);
    world.ledger.postpone(claim, "timeout", "no answer", false, 5000).expect("postponed");
    let waiting = world.entry("a").expect("an entry");
    assert_eq!(waiting.reason, Some(("timeout".into(), "no answer".into())));
    assert_eq!((waiting.attempts, waiting.next_attempt_at), (1, Some(5000)));
    world.ledger.hold(world.mirror).expect("held");
    assert_eq!(world.entry("a").expect("an entry").next_attempt_at, None);
}

#[test]
fn a_new_file_is_an_entry_before_anyone_looked_at_it() {
    let world = World::new();
    world.push(&at("a/b"), Urgency::Event);
    let entry = world.entry("a/b").expect("an entry");
    assert_eq!((entry.state, entry.row, entry.size), (EntryState::Pending, None, 5));
}

#[test]
fn a_reason_vanishes_when_the_file_is_stored() {
    let world = World::new();
    for settlement in [failed(1), Settlement::Skipped(stat(1), 0o644, Skip::TooLarge)] {
        world.put("a", &settlement);
        assert!(world.entry("a").expect("an entry").reason.is_some());
        world.put("a", &stored(1));
        assert_eq!(world.entry("a").expect("an entry").reason, None);
        world.put("a", &settlement);
        world.put("a", &Settlement::Refreshed(stat(2), 0o644));
        assert_eq!(world.entry("a").expect("an entry").reason, None);
    }
    assert_eq!(world.number("SELECT count(*) FROM reasons"), 0);
}

#[test]
fn a_failure_keeps_the_time_at_which_it_began() {
    let world = World::new();
    for now in [200, 300] {
        world.push(&at("a"), Urgency::Event);
        world.ledger.settle(&world.claim_one(), &failed(1), None, now).expect("settled");
        assert_eq!(world.entry("a").expect("an entry").since, Some(200));
    }
    world.push(&at("a"), Urgency::Event);
    let skipped = Settlement::Skipped(stat(1), 0o644, Skip::TooLarge);
    world.ledger.settle(&world.claim_one(), &skipped, None, 400).expect("settled");
    assert_eq!(world.entry("a").expect("an entry").since, Some(400));
}

#[test]
fn problems_are_the_failed_and_those_that_wait_after_a_failure() {
    let world = World::new();
    world.put("a/failed", &failed(1));
    world.put("fine", &stored(1));
    world.put("skipped", &Settlement::Skipped(stat(1), 0o644, Skip::TooLarge));
    world.push(&at("waits"), Urgency::Event);
    world.ledger.postpone(&world.claim_one(), "timeout", "no answer", false, 5000).expect("postponed");
    world.push_due(&at("new"), Urgency::Event, 10);
    let problems = world.ledger.problems(10).expect("problems");
    let told: Vec<_> = problems.iter().map(|p| (&*p.path, p.state, &*p.code, p.attempts, p.next_attempt_at)).collect();
    assert_eq!(
        told,
        [
            (b"a/failed".as_slice(), "failed", "rejected", 1, None),
            (b"waits".as_slice(), "pending", "timeout", 1, Some(5000)),
        ]
    );
    assert_eq!(world.ledger.problems(0).expect("problems"), []);
    drop(world.claim(5000));
    assert_eq!(world.ledger.problems(10).expect("problems")[1].state, "uploading");
    world.ledger.activate_mirrors(&[mirror_to("Elsewhere")]).expect("mirrors");
    assert_eq!(world.ledger.problems(10).expect("problems"), []);
}

#[test]
fn what_a_rule_excludes_stays_on_record_if_dstor_holds_it() {
    let world = World::new();
    world.put("a/kept", &stored(1));
    world.put("a/b/kept", &stored(1));
    world.put("a/tried", &failed(1));
    world.put("other", &stored(1));
    world.put("a", &Settlement::Ignored);
    assert_eq!(names(&world.entries("")), ["other", "a/kept", "a/b/kept"]);
    for path in ["a/kept", "a/b/kept"] {
        let entry = world.entry(path).expect("an entry");
        assert_eq!(entry.state, EntryState::Settled(State::Skipped));
        assert_eq!(entry.reason.expect("a reason").0, "ignored");
    }
    assert_eq!(world.counts().stored.files, 1);
}

#[test]
fn a_listing_is_what_is_directly_in_the_directory_in_the_order_of_names() {
    let world = World::new();
    for path in ["d/b", "d/a", "d/sub/x", "d/sub-1/x", "d/sub/deep/x", "e"] {
        world.put(path, &stored(1));
    }
    world.push_due(&at("d/c"), Urgency::Event, 10);
    let listing = world.ledger.listing(world.mirror, &at("d")).expect("a listing");
    let files: Vec<&[u8]> = listing.files.iter().map(|(name, _)| &**name).collect();
    assert_eq!(files, [b"a", b"b"]);
    let directories: Vec<&[u8]> = listing.directories.iter().map(|name| &**name).collect();
    assert_eq!(directories, [b"sub".as_slice(), b"sub-1"]);
    let top = world.ledger.listing(world.mirror, &MirrorPath::top()).expect("a listing");
    assert_eq!((top.files.len(), top.directories.len()), (1, 1));
    assert!(world.ledger.listing(world.mirror, &at("nowhere")).expect("a listing").files.is_empty());
}

#[test]
fn some_stored_files_are_stored_and_no_more_than_asked_for() {
    let world = World::new();
    for path in ["a", "d/b", "d/c"] {
        world.put(path, &stored(1));
    }
    world.put("d/c", &Settlement::Gone);
    world.put("f", &failed(1));
    let mut some = world.ledger.some_stored(world.mirror, 10).expect("some");
    some.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(some, [(at("a"), stat(1)), (at("d/b"), stat(1))]);
    assert_eq!(world.ledger.some_stored(world.mirror, 1).expect("some").len(), 1);
}

/// As the counts have it: a path with a change is pending, whatever its row says.
#[test]
fn a_failed_file_that_is_tried_again_is_one_problem_at_most() {
    let world = World::new();
    world.put("a", &failed(1));
    world.push(&at("a"), Urgency::Event);
    assert_eq!(world.ledger.problems(10).expect("problems"), []);
    world.ledger.postpone(&world.claim_one(), "timeout", "no answer", false, 5000).expect("postponed");
    let problems = world.ledger.problems(10).expect("problems");
    assert_eq!(problems.iter().map(|problem| problem.state).collect::<Vec<_>>(), ["pending"]);
}
