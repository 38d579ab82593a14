//! A damaged ledger is set aside and begun anew, and what a copy says is believed only where it must still be so.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::mirror::{Decision, Observed, decide};

const NOW: Millis = 1_769_860_800_000;
const HOUR: Millis = 3_600_000;

/// A ledger of one mirror over a real directory, and both in one directory.
struct Real {
    world: World,
    root: PathBuf,
}

impl Real {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path().join("mirror");
        fs::create_dir_all(root.join("d/e")).expect("made");
        fs::create_dir(root.join("f")).expect("made");
        let ledger = Ledger::open(&dir.path().join("ledger.db")).expect("a new ledger");
        let settings = MirrorSettings { path: root.clone(), ..photos() };
        let mirror = ledger.activate_mirrors(&[settings]).expect("a mirror")[0];
        ledger.believe_root(mirror, Some(crate::local::Identity::of_path(&root).expect("there"))).expect("believed");
        ledger.begin_agent(1, "https://dstor.test/", 0).expect("begun");
        Self { world: World { dir, ledger, mirror }, root }
    }

    /// Some time after now by this machine's clock, or before: everything made here is older, or newer.
    fn from_now(by: Millis) -> Millis {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
        i64::try_from(now.as_millis()).expect("before 2262") + by
    }

    /// Damages the ledger, and opens it again.
    fn rescued(self, now: Millis) -> (Ledger, Rescue, TempDir) {
        let World { dir, ledger, .. } = self.world;
        drop(ledger);
        let path = dir.path().join("ledger.db");
        let length = path.metadata().expect("there").len();
        fs::File::options().write(true).open(&path).and_then(|file| file.set_len(length / 2)).expect("cut off");
        let (ledger, rescue) = Ledger::open_or_rescue(&path, now).expect("a ledger");
        (ledger, rescue.expect("it was damaged"), dir)
    }
}

fn made(path: &Path, now: Millis) -> Result<(), CopyError> {
    make_copy(path, now, drop)
}

fn decision(ledger: &Ledger, mirror: MirrorId, path: &str, stat: Stat) -> Decision {
    let recorded = ledger.recorded(mirror, &at(path)).expect("readable");
    decide(&Observed::File(stat), recorded.as_ref(), Ok(()))
}

// D4
#[test]
fn a_damaged_ledger_is_set_aside_whole_and_a_new_one_begins() {
    let damages: [fn(&mut Vec<u8>); 5] = [
        |bytes| bytes.truncate(bytes.len() / 2),
        |bytes| bytes[100..4096].fill(0xA5),
        |bytes| bytes[..4096].fill(0xA5),
        |bytes| bytes[..100].fill(0),
        |bytes| bytes.fill(0),
    ];
    for (number, damage) in damages.into_iter().enumerate() {
        let World { dir, ledger, .. } = World::new();
        ledger.begin_agent(1, "https://dstor.test/", 0).expect("begun");
        drop(ledger);
        let path = dir.path().join("ledger.db");
        let mut bytes = fs::read(&path).expect("bytes");
        damage(&mut bytes);
        fs::write(&path, &bytes).expect("damaged");
        fs::write(dir.path().join("ledger.db-wal"), "left behind").expect("written");

        let (ledger, rescue) = Ledger::open_or_rescue(&path, NOW).unwrap_or_else(|error| panic!("{number}: {error:?}"));
        let Rescue { aside, copied_at, .. } = rescue.expect("it was damaged");
        assert_eq!(aside, dir.path().join("ledger.db.broken-20260131T120000Z"));
        assert_eq!((fs::read(&aside).expect("kept"), copied_at), (bytes, None), "{number}");
        assert!(dir.path().join("ledger.db.broken-20260131T120000Z-wal").exists(), "{number}");
        assert_eq!(set_aside_in(&path), [SetAside { path: aside, at: NOW }]);
        assert_eq!(ledger.active_mirrors().expect("mirrors").len(), 0, "{number}: rows out of nowhere");
    }
}

// D4: what shows whose it is must stand near the beginning, also where a copy took the ledger's place.
#[test]
fn a_large_copy_whose_beginning_is_damaged_is_known_as_ours() {
    let World { dir, ledger, .. } = World::new();
    ledger.begin_agent(1, "https://dstor.test/", 0).expect("begun");
    drop(ledger);
    let path = dir.path().join("ledger.db");
    Connection::open(&path)
        .and_then(|db| {
            db.execute_batch(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
                 INSERT INTO unrecorded SELECT i, i FROM n;
                 CREATE TABLE padding AS SELECT randomblob(100) FROM unrecorded;",
            )
        })
        .expect("filled");
    made(&path, NOW).expect("copied");
    let alone = tempfile::tempdir().expect("a directory");
    let copy = alone.path().join("ledger.db");
    fs::rename(dir.path().join("ledger.db.copy"), &copy).expect("moved");
    let mut bytes = fs::read(&copy).expect("bytes");
    assert!(bytes.len() > 2 * 1024 * 1024, "{}", bytes.len());
    bytes[..4096].fill(0xA5);
    fs::write(&copy, &bytes).expect("damaged");
    let (_, rescue) = Ledger::open_or_rescue(&copy, NOW).expect("a ledger");
    assert_eq!(fs::read(rescue.expect("it was damaged").aside).expect("kept"), bytes);
}

// D4, D9: what is not ours, or not for this version, is not even moved.
#[test]
fn a_foreign_and_a_newer_file_are_left_where_they_are() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("ledger.db");
    let newer = format!("PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = 99; CREATE TABLE x (y)");
    for sql in ["CREATE TABLE bookmarks (url TEXT)", newer.as_str()] {
        let _ = fs::remove_file(&path);
        Connection::open(&path).and_then(|db| db.execute_batch(sql)).expect("a database");
        let bytes = fs::read(&path).expect("bytes");
        assert!(Ledger::open_or_rescue(&path, NOW).is_err(), "{sql}");
        assert_eq!(fs::read(&path).expect("still there"), bytes, "{sql}");
    }
    fs::write(&path, "my letters".repeat(1000)).expect("written");
    assert!(matches!(Ledger::open_or_rescue(&path, NOW), Err(LedgerError::Foreign(_))));
    assert!(set_aside_in(&path).is_empty());
}

// D3, D4: a page that opening does not need.
#[test]
fn a_ledger_that_was_not_closed_in_order_is_read_as_a_whole_before_it_is_believed() {
    for state in [AgentState::Running, AgentState::Stopped] {
        let world = World::new();
        world.ledger.begin_agent(1, "https://dstor.test/", 0).expect("begun");
        for n in 0..1000 {
            world.push(&at(&format!("{n}")), Urgency::Scan);
        }
        world.ledger.set_agent_state(state).expect("set");
        let World { dir, ledger, .. } = world;
        let page: u32 = ledger
            .db
            .query_row("SELECT max(rootpage) FROM sqlite_schema WHERE name = 'changes_due'", [], |row| row.get(0))
            .expect("a page");
        drop(ledger);
        let path = dir.path().join("ledger.db");
        let mut bytes = fs::read(&path).expect("bytes");
        let at = (page as usize - 1) * 4096;
        bytes[at..at + 4096].fill(0xA5);
        fs::write(&path, bytes).expect("damaged");
        let (_, rescue) = Ledger::open_or_rescue(&path, NOW).expect("a ledger");
        assert_eq!(rescue.is_some(), state == AgentState::Running, "{state:?}");
    }
}

#[test]
fn a_ledger_that_is_damaged_again_and_again_is_set_aside_three_times_a_day_at_most() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("ledger.db");
    for (at, fine) in [(0, true), (HOUR, true), (HOUR, true), (2 * HOUR, false), (23 * HOUR, false), (25 * HOUR, true)]
    {
        fs::write(&path, vec![0; 4096]).expect("damaged");
        match Ledger::open_or_rescue(&path, NOW + at) {
            Ok((_, rescue)) => assert!(fine && rescue.is_some(), "{at}"),
            Err(error) => assert!(!fine && matches!(error, LedgerError::Hopeless { times: 4, .. }), "{at}: {error:?}"),
        }
    }
    assert_eq!(set_aside_in(&path).len(), 4, "each has a name of its own");
}

// D11: what a deleted ledger left behind must not become part of the next one.
#[test]
fn companions_without_a_ledger_are_moved_aside() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("ledger.db");
    fs::write(dir.path().join("ledger.db-wal"), "of another").expect("written");
    let (_ledger, rescue) = Ledger::open_or_rescue(&path, NOW).expect("a ledger");
    assert_eq!(rescue, None);
    let aside = dir.path().join("ledger.db.broken-20260131T120000Z-wal");
    assert_eq!(fs::read(aside).expect("kept"), b"of another");
}

#[test]
fn a_copy_is_private_whole_and_no_ledger_in_use() {
    let world = World::new();
    world.put("a", &stored(5));
    made(&world.file(), NOW).expect("a copy");
    made(&world.file(), NOW + 1).expect("another in its place");
    let copy = world.dir.path().join("ledger.db.copy");
    assert_eq!(copy.metadata().expect("there").permissions().mode() & 0o777, 0o600);
    let ledger = Ledger::open_read_only(&copy).expect("a ledger");
    assert_eq!(ledger.counts(world.mirror).expect("counts").stored.files, 1);
    let names: Vec<String> = everything_in(world.dir.path()).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names.iter().filter(|name| name.starts_with("ledger.db.copy")).count(), 1, "{names:?}");
    discard_copy(&world.file()).expect("removed");
    assert_eq!(copied_at(&world.file()), None);
}

// D4
#[test]
fn copying_a_damaged_ledger_says_so_and_keeps_the_copy_before() {
    let world = World::new();
    for n in 0..1000 {
        world.put(&format!("{n}"), &stored(5));
    }
    made(&world.file(), NOW).expect("a copy");
    let copy = fs::read(world.dir.path().join("ledger.db.copy")).expect("bytes");
    let World { dir, ledger, .. } = world;
    drop(ledger);
    let path = dir.path().join("ledger.db");
    let mut bytes = fs::read(&path).expect("bytes");
    let middle = bytes.len() / 2 / 4096 * 4096;
    bytes[middle..middle + 8192].fill(0xA5);
    fs::write(&path, bytes).expect("damaged");
    let error = made(&path, NOW).expect_err("damaged");
    assert!(matches!(&error, CopyError::Ledger(error) if error.is_damage()), "{error:?}");
    assert!(fs::read(dir.path().join("ledger.db.copy")).expect("still there") == copy);
    assert!(!dir.path().join("ledger.db.copy.new").exists());
}

// D13, P1
#[test]
fn what_a_copy_calls_stored_stays_so_only_while_nothing_about_it_changed() {
    let real = Real::new();
    let mirror = real.world.mirror;
    real.world.put("d/e/a", &stored(5));
    real.world.put("d/gone", &stored(5));
    real.world.put("d/gone", &Settlement::Gone);
    real.world.push_due(&at("d/waits"), Urgency::Scan, 9);
    // Long after everything here was made.
    let copied_at = Real::from_now(10_000);
    made(&real.world.file(), copied_at).expect("a copy");
    real.world.put("d/e/late", &stored(5));
    let (ledger, rescue, _dir) = real.rescued(copied_at + 1000);
    assert_eq!(rescue.copied_at, Some(copied_at));
    let unrecorded = |at| ledger.is_unrecorded(at).expect("looked");
    assert_eq!([-1, 500, 1000].map(|at| unrecorded(copied_at + at)), [None, Some(copied_at + 1000), None]);

    assert_eq!(decision(&ledger, mirror, "d/e/a", stat(5)), Decision::Nothing);
    // Changed to other bytes, which were sent, and back again: the copy knows nothing of that.
    let back = Stat { ctime: Timestamp { seconds: 1_700_000_009, nanos: 0 }, ..stat(5) };
    assert_eq!(decision(&ledger, mirror, "d/e/a", back), Decision::Upload);
    assert_eq!(decision(&ledger, mirror, "d/gone", stat(5)), Decision::Upload);
    assert_eq!(decision(&ledger, mirror, "d/e/late", stat(5)), Decision::Upload);
    let gone = ledger.file(mirror, &at("d/gone")).expect("readable").expect("on record");
    assert_eq!(gone.held.expect("its hash is not lost").hash.as_str(), HELLO);
    let waits = ledger.claim(9, 10).expect("claimed");
    assert!(waits.len() == 1 && waits[0].is_unsure, "{waits:?}");
}

// D13, P1: a directory that was moved away and back brings back files whose stat the copy knows.
#[test]
fn what_a_copy_calls_stored_in_a_directory_that_changed_since_is_sent_again() {
    let real = Real::new();
    let mirror = real.world.mirror;
    for path in ["d/e/a", "d/e b", "f/a"] {
        real.world.put(path, &stored(5));
    }
    let old = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
    let copied_at = Real::from_now(10_000);
    made(&real.world.file(), copied_at).expect("a copy");
    fs::rename(real.root.join("d"), real.root.join("away")).expect("moved");
    fs::rename(real.root.join("away"), real.root.join("d")).expect("and back");
    // Its mtime can be set, and says nothing.
    fs::File::open(real.root.join("d")).and_then(|dir| dir.set_modified(old)).expect("set");
    let (ledger, ..) = {
        // As if the copy had been made before that.
        let copy = Connection::open(real.world.dir.path().join("ledger.db.copy")).expect("a copy");
        copy.execute("UPDATE copied SET at = ?1", [Real::from_now(-60_000)]).expect("set");
        drop(copy);
        real.rescued(copied_at)
    };
    for path in ["d/e/a", "d/e b", "f/a"] {
        // Here the mirror's own directory changed, too, and with it whatever may be below it.
        assert_eq!(decision(&ledger, mirror, path, stat(5)), Decision::Upload, "{path}");
    }
}

#[test]
fn a_copy_of_a_mirror_that_is_not_there_or_from_the_future_is_not_believed() {
    for from_future in [false, true] {
        let real = Real::new();
        let mirror = real.world.mirror;
        real.world.put("d/e/a", &stored(5));
        let copied_at = Real::from_now(10_000);
        made(&real.world.file(), copied_at).expect("a copy");
        if !from_future {
            fs::rename(&real.root, real.root.with_extension("away")).expect("moved");
        }
        let (ledger, ..) = real.rescued(if from_future { copied_at - 5_000 } else { copied_at + 1000 });
        assert_eq!(decision(&ledger, mirror, "d/e/a", stat(5)), Decision::Upload, "{from_future}");
    }
}

#[test]
fn a_copy_that_is_damaged_or_of_another_version_is_done_without() {
    for spoil in ["cut", "newer", "foreign"] {
        let real = Real::new();
        real.world.put("d/e/a", &stored(5));
        made(&real.world.file(), NOW).expect("a copy");
        let copy = real.world.dir.path().join("ledger.db.copy");
        match spoil {
            "cut" => fs::File::options().write(true).open(&copy).and_then(|file| file.set_len(9000)).expect("cut"),
            "newer" => Connection::open(&copy).and_then(|db| db.pragma_update(None, "user_version", 99)).expect("set"),
            _ => fs::write(&copy, "my letters".repeat(1000)).expect("written"),
        }
        let (ledger, rescue, _dir) = real.rescued(NOW);
        assert_eq!((rescue.copied_at, ledger.active_mirrors().expect("mirrors").len()), (None, 0), "{spoil}");
    }
}
