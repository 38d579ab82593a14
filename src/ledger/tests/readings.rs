//! What came when files were read back, and ledgers of the first form, which know nothing of it.

use std::fs;

use super::*;
use crate::mirror::Sealed;

impl World {
    /// Stores a file with this content as dStor's.
    fn store(&self, path: &str, content: &[u8]) {
        let Settlement::Stored(stored) = stored(content.len() as u64) else { unreachable!("it is stored") };
        self.put(path, &Settlement::Stored(Stored { digest: Digest::of(content), ..stored }));
    }

    fn readable(&self, scopes: &[&str]) -> Vec<Readable> {
        let scopes: Vec<_> = scopes.iter().map(|path| (self.mirror, below(path))).collect();
        self.ledger.readable(&scopes, 10_000, None, 100).expect("listed")
    }

    fn record(&self, file: &Readable, found: Found, at: Millis) {
        self.ledger.record_readings([(file, Reading { found, at }, Proof::Read)]).expect("recorded");
    }

    fn proof(&self, path: &str) -> Option<String> {
        self.entry(path).and_then(|entry| entry.row?.held?.proof)
    }
}

/// A path, or the top.
fn below(path: &str) -> MirrorPath {
    if path.is_empty() { MirrorPath::top() } else { at(path) }
}

fn paths(files: &[Readable]) -> Vec<String> {
    files.iter().map(|file| file.path.to_string()).collect()
}

#[test]
fn what_was_read_longest_ago_comes_first_and_neighbours_by_chance() {
    let world = World::new();
    for n in 0..40_u8 {
        world.store(&format!("d{}/f{n:02}", n % 3), &[n]);
    }
    let all = world.readable(&[]);
    assert_eq!(all.len(), 40);
    let mut sorted = paths(&all);
    sorted.sort();
    assert_ne!(paths(&all), sorted, "a sample of the first few would be of one directory");
    // The first half is read, the second of them before the first.
    for (n, file) in all[..20].iter().rev().enumerate() {
        world.record(file, Found::Same, 1_000 + n as Millis);
    }
    let expected: Vec<String> = paths(&all[20..]).into_iter().chain(paths(&all[..20]).into_iter().rev()).collect();
    assert_eq!(paths(&world.readable(&[])), expected);
    // In pieces it is the same list, whatever is recorded between them.
    let (mut mark, mut pieces) = (None, Vec::new());
    loop {
        let piece = world.ledger.readable(&[], 10_000, mark.as_ref(), 7).expect("listed");
        let Some(last) = piece.last() else { break };
        mark = Some(last.mark());
        for file in &piece {
            world.record(file, Found::Same, 10_000);
        }
        pieces.extend(paths(&piece));
    }
    assert_eq!(pieces, expected);
    assert_eq!(world.ledger.count_readable(&[], 10_000).expect("counted"), 0);
}

#[test]
fn only_what_is_stored_and_waits_for_nothing_is_read() {
    let world = World::new();
    for path in ["a-b", "a/b", "a/c/d", "ab", "e/a"] {
        world.store(path, path.as_bytes());
    }
    world.put("gone", &stored(5));
    world.put("gone", &Settlement::Gone);
    world.put("failed", &failed(5));
    world.store("waits", b"waits");
    world.push(&at("waits"), Urgency::Event);
    let sorted = |scopes: &[&str]| {
        let mut paths = paths(&world.readable(scopes));
        paths.sort();
        paths
    };
    assert_eq!(sorted(&[]), ["a-b", "a/b", "a/c/d", "ab", "e/a"]);
    assert_eq!(sorted(&["a"]), ["a/b", "a/c/d"]);
    assert_eq!(sorted(&["a/b", "e"]), ["a/b", "e/a"]);
    assert_eq!(sorted(&["", "a"]).len(), 5);
    assert_eq!(sorted(&["x"]), [""; 0]);
}

// E20: an answer about the version before says nothing of the one that is stored by now.
#[test]
fn a_reading_of_an_upload_that_was_replaced_meanwhile_is_passed_over() {
    let world = World::new();
    world.store("a", b"one");
    let before = world.readable(&[]).remove(0);
    let Settlement::Stored(later) = stored(3) else { unreachable!("it is stored") };
    world.put("a", &Settlement::Stored(Stored { digest: Digest::of(b"two"), at: 301, ..later }));
    world.record(&before, Found::Missing, 5_000);
    assert_eq!(world.entry("a").and_then(|entry| entry.reading), None);
    assert_eq!(world.proof("a").as_deref(), Some("cid"));
    assert_eq!(world.number("SELECT count(*) FROM readings"), 0);
}

#[test]
fn a_file_that_dstor_lost_has_no_proof_until_it_is_stored_anew() {
    let world = World::new();
    world.store("a", b"one");
    world.store("b", b"two");
    let [a, b] = ["a", "b"].map(|path| world.readable(&[path]).remove(0));
    world.record(&a, Found::Missing, 5_000);
    world.record(&b, Found::Different, 5_001);
    assert_eq!((world.counts().stored.files, world.counts().proved.files), (2, 0));
    assert_eq!(world.ledger.count_bad(world.mirror).expect("counted"), (1, 1));
    let problems = world.ledger.problems(10).expect("problems");
    let told: Vec<_> = problems.iter().map(|problem| (problem.state, problem.code.as_str(), problem.since)).collect();
    assert_eq!(told, [("stored", "missing", 5_000), ("stored", "different", 5_001)]);
    assert!(world.entry("a").and_then(|entry| entry.reason).is_some_and(|(code, _)| code == MISSING));

    // Comparing it with what is recorded does not bring it back; giving it does, and so does sending it.
    world.put("a", &Settlement::Refreshed(stat(3), 0o644));
    assert_eq!(world.ledger.count_bad(world.mirror).expect("counted"), (1, 1));
    world.record(&b, Found::Same, 6_000);
    assert_eq!(world.ledger.count_bad(world.mirror).expect("counted"), (1, 0));
    assert_eq!(world.proof("b").as_deref(), Some("read"));
    world.store("a", b"one");
    assert_eq!(world.ledger.count_bad(world.mirror).expect("counted"), (0, 0));
    assert_eq!(world.proof("a").as_deref(), Some("cid"));
    assert_eq!(world.ledger.problems(10).expect("problems"), []);
}

#[test]
fn repairing_has_what_is_wrong_sent_again_and_only_that() {
    let world = World::new();
    for path in ["a", "d/b", "d/c", "fine"] {
        world.store(path, path.as_bytes());
    }
    for path in ["a", "d/b", "d/c"] {
        world.record(&world.readable(&[path]).remove(0), Found::Missing, 5_000);
    }
    // One that a worker has at the moment.
    world.push(&at("d/c"), Urgency::Event);
    let claimed = world.claim_one();
    assert_eq!(world.ledger.repair(&[(world.mirror, at("d"))], 6_000).expect("pushed"), 2);
    // It turns out to be touched only; the wish to have it sent stays.
    world.settle(&claimed, &Settlement::Refreshed(stat(3), 0o644));
    let claims = world.claim(6_000);
    let wanted: Vec<_> = claims.iter().map(|claim| (claim.path.to_string(), claim.is_unsure)).collect();
    assert_eq!(wanted.len(), 2);
    assert!(wanted.contains(&("d/b".into(), true)) && wanted.contains(&("d/c".into(), true)), "{wanted:?}");
    assert_eq!(
        world.ledger.count_bad(world.mirror).expect("counted"),
        (1, 0),
        "of the others it is known that they go up"
    );
}

#[test]
fn how_dstor_names_files_shows_in_a_few_of_them() {
    let world = World::new();
    let Settlement::Stored(other) = stored(3) else { unreachable!("it is stored") };
    for n in 0..30 {
        world.put(&format!("f{n}"), &Settlement::Stored(Stored { is_proved: false, ..other.clone() }));
    }
    assert_eq!(world.ledger.naming(world.mirror, 20).expect("looked"), (20, 0));
    world.record(&world.readable(&["f0"]).remove(0), Found::Same, 5_000);
    assert_eq!(world.ledger.naming(world.mirror, 20).expect("looked"), (20, 0), "read back is not named alike");
    world.store("a", b"one");
    assert_eq!(world.ledger.naming(world.mirror, 50).expect("looked"), (31, 1));
}

/// A ledger as the first version left it, with a stored file.
fn of_the_first_form(path: &Path) {
    of_form(1, path);
}

/// The same of an earlier form.
fn of_form(form: usize, path: &Path) {
    let world = World::new();
    world.store("a", b"one");
    let mut first = Connection::open(path).expect("a database");
    Migrations::from_slice(&MIGRATIONS[..form]).to_latest(&mut first).expect("made");
    first.execute("ATTACH ?1 AS newest", [world.file().to_str()]).expect("attached");
    for table in ["mirrors", "directories", "files"] {
        let columns = |schema: &str| -> Vec<String> {
            let mut all = first.prepare(&format!("PRAGMA {schema}.table_info({table})")).expect("a statement");
            all.query_map([], |row| row.get("name")).expect("rows").collect::<Result<_, _>>().expect("text")
        };
        let newest = columns("newest");
        let both = columns("main").into_iter().filter(|column| newest.contains(column)).collect::<Vec<_>>().join(", ");
        let copied = first.execute(&format!("INSERT INTO {table} ({both}) SELECT {both} FROM newest.{table}"), []);
        assert_eq!(copied.expect("copied"), 1, "{table}");
    }
}

// D9
#[test]
fn a_ledger_of_the_first_form_is_brought_to_this_one_with_all_that_is_in_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("ledger.db");
    of_the_first_form(&path);
    let ledger = Ledger::open(&path).expect("brought up");
    assert!(!ledger.is_of_an_older_form().expect("looked"));
    let files = ledger.readable(&[], 1, None, 10).expect("listed");
    assert_eq!(paths(&files), ["a"]);
    let reading = Reading { found: Found::Missing, at: 5 };
    ledger.record_readings([(&files[0], reading, Proof::Read)]).expect("recorded");
    let mirror = ledger.active_mirrors().expect("mirrors")[0].id;
    assert_eq!(ledger.count_bad(mirror).expect("counted"), (1, 0));
    assert_eq!(ledger.counts(mirror).expect("counts").stored.files, 1);
    assert!(ledger.last_stored_at(mirror).expect("looked").is_some());
}

// D9, F10: the agent that runs may be older than the command that asks.
#[test]
fn a_ledger_of_the_first_form_can_be_read_as_it_is() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("ledger.db");
    of_the_first_form(&path);
    let bytes = fs::read(&path).expect("read");
    for ledger in [Ledger::open_read_only(&path), Ledger::open_for_a_word(&path)] {
        let ledger = ledger.expect("opened");
        assert!(ledger.is_of_an_older_form().expect("looked"));
        let mirror = ledger.active_mirrors().expect("mirrors")[0].id;
        let mut entries = Vec::new();
        let each = |entry: Entry| {
            entries.push((entry.path.to_string(), entry.reading));
            true
        };
        ledger.entries(mirror, &MirrorPath::top(), each).expect("entries");
        assert_eq!(entries, [("a".to_owned(), None)]);
        assert_eq!(ledger.count_bad(mirror).expect("counted"), (0, 0));
        assert_eq!(ledger.naming(mirror, 20).expect("looked"), (1, 1));
        assert_eq!(ledger.problems(10).expect("problems"), []);
        assert_eq!(ledger.steering().expect("words"), Steering::default());
        assert_eq!(ledger.life(mirror, &at("a")).expect("a life").len(), 1, "the version that it has");
        assert_eq!(ledger.is_unrecorded(1).expect("looked"), Some(Millis::MAX));
        assert_eq!(ledger.count_then(mirror, &MirrorPath::top(), Millis::MAX).expect("counted"), 1);
        assert_eq!(ledger.sealing().expect("looked"), [""; 0]);
    }
    assert_eq!(fs::read(&path).expect("read"), bytes, "it was written to");
}

// D9, F10
#[test]
fn a_ledger_of_any_earlier_form_can_be_read_as_it_is_and_brought_to_this_one() {
    for form in 1..MIGRATIONS.len() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("ledger.db");
        of_form(form, &path);
        let look = |ledger: &Ledger| {
            let mirror = ledger.active_mirrors().expect("mirrors")[0].id;
            let mut entries = Vec::new();
            let each = |entry: Entry| {
                entries.push((entry.path.to_string(), entry.row.and_then(|row| row.held)));
                true
            };
            ledger.entries(mirror, &MirrorPath::top(), each).expect("entries");
            let [(path, Some(held))] = &entries[..] else { panic!("{entries:?}") };
            assert_eq!((path.as_str(), held.sealed, held.is_name_hidden), ("a", None, false), "form {form}");
            let then = ledger.holding(mirror, &at("a"), Some(Millis::MAX - 1)).expect("looked");
            assert!(matches!(then, Some(Shelved::Held(held)) if !held.is_name_hidden), "form {form}");
            assert_eq!(ledger.life(mirror, &at("a")).expect("a life").len(), 1, "form {form}");
            assert!(ledger.name_key().expect("looked").is_none() && !ledger.hides_names().expect("looked"));
            assert!(!ledger.has_hidden_names(mirror).expect("looked"));
        };
        look(&Ledger::open_read_only(&path).expect("opened"));
        look(&Ledger::open(&path).expect("brought up"));
    }
}

#[test]
fn what_comes_back_of_an_encrypted_file_is_what_was_sent_and_not_what_was_read() {
    let world = World::new();
    let Settlement::Stored(plain) = stored(5) else { unreachable!("it is stored") };
    let sealed = Sealed { digest: Digest::of(b"sealed"), size: 221 };
    world.put("a", &Settlement::Stored(Stored { sealed: Some(sealed), ..plain.clone() }));
    let readable = world.readable(&["a"]).remove(0);
    assert_eq!((readable.digest, readable.size), (sealed.digest, sealed.size));
    let counts = |files, bytes| Tally { files, bytes };
    assert_eq!(world.ledger.counts(world.mirror).expect("counts").sealed, counts(1, 5));
    let held_at = |world: &World, time| match world.ledger.holding(world.mirror, &at("a"), time).expect("looked") {
        Some(Shelved::Held(holding)) => (holding.digest, holding.sealed),
        other => panic!("{other:?}"),
    };
    let held = |world: &World| held_at(world, None);
    assert_eq!(held(&world), (plain.digest, Some(sealed)));
    // Found to have the same bytes, it stays what it was; stored anew as it is, it is that.
    world.put("a", &Settlement::Refreshed(stat(5), 0o600));
    assert_eq!(held(&world), (plain.digest, Some(sealed)));
    world.put("a", &Settlement::Stored(Stored { at: 400, ..plain.clone() }));
    assert_eq!(held(&world), (plain.digest, None));
    assert_eq!(held_at(&world, Some(399)), (plain.digest, Some(sealed)), "as it was");
    assert_eq!(world.readable(&["a"]).remove(0).size, 5);
    assert_eq!(world.ledger.counts(world.mirror).expect("counts").sealed, counts(0, 0));
}

#[test]
fn to_whom_is_encrypted_is_kept_until_the_next_agent_says_otherwise() {
    let world = World::new();
    let both = ["age1one".to_owned(), "age1two".to_owned()];
    for recipients in [&both[..], &both[..1], &[]] {
        world.ledger.set_sealing(recipients).expect("written");
        assert_eq!(world.ledger.sealing().expect("read"), recipients);
    }
}

#[test]
fn a_ledger_that_cannot_be_brought_to_this_form_says_why_and_not_by_which_statement() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("ledger.db");
    of_the_first_form(&path);
    let db = Connection::open(&path).expect("a database");
    db.execute_batch("CREATE TABLE readings (by_somebody_else)").expect("made");
    drop(db);
    let error = anyhow::Error::from(Ledger::open(&path).err().expect("it is in the way"));
    let told = format!("{error:#}");
    assert!(told.ends_with("this version's form: table readings already exists"), "{told}");
}
