//! Which files are taken for a ledger, and that those that are not are left as they are.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::*;

/// What both ways of opening say to a file with these bytes, which has to have them afterwards.
fn refused(bytes: &[u8]) -> [LedgerError; 2] {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("ledger.db");
    fs::write(&path, bytes).expect("written");
    let errors = [
        Ledger::open(&path).err().expect("refused for writing"),
        Ledger::open_read_only(&path).err().expect("refused for reading"),
    ];
    assert_eq!(fs::read(&path).expect("still there"), bytes, "the file was written to");
    errors
}

/// The bytes of a database file made by these statements.
fn database(sql: &str) -> Vec<u8> {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("made.db");
    Connection::open(&path).and_then(|db| db.execute_batch(sql)).expect("a database");
    fs::read(&path).expect("its bytes")
}

/// The bytes of a ledger with a thousand files and no companions.
fn ledger() -> Vec<u8> {
    let world = World::new();
    for n in 0..1000 {
        world.push(&at(&format!("{n}")), Urgency::Scan);
    }
    let World { dir, ledger, .. } = world;
    drop(ledger);
    fs::read(dir.path().join("ledger.db")).expect("its bytes")
}

// D9
#[test]
fn a_ledger_of_a_newer_version_is_refused_and_left_as_it_is() {
    let mut bytes = ledger();
    bytes[60..64].copy_from_slice(&99_u32.to_be_bytes()); // where SQLite keeps user_version
    for error in refused(&bytes) {
        assert!(
            matches!(error, LedgerError::Newer { found: 99, known, .. } if known == MIGRATIONS.len() as i64),
            "{error:?}"
        );
    }
}

#[test]
fn a_database_of_another_program_is_refused_and_left_as_it_is() {
    let others = [
        "CREATE TABLE bookmarks (url TEXT)",
        "PRAGMA application_id = 1; CREATE TABLE bookmarks (url TEXT)",
        "PRAGMA user_version = 1; PRAGMA application_id = 1",
        "PRAGMA journal_mode = WAL; CREATE TABLE bookmarks (url TEXT)",
    ];
    for sql in others {
        for error in refused(&database(sql)) {
            assert!(matches!(error, LedgerError::Foreign(_)), "{sql}: {error:?}");
        }
    }
}

#[test]
fn a_file_that_is_no_database_is_refused_and_left_as_it_is() {
    for bytes in ["notes to myself\n".repeat(100), "short".to_owned()] {
        for error in refused(bytes.as_bytes()) {
            assert!(matches!(error, LedgerError::Foreign(_)), "{error:?}");
        }
    }
}

// D4
#[test]
fn a_ledger_that_was_cut_off_is_refused_as_damaged_and_left_as_it_is() {
    let whole = ledger();
    for length in [whole.len() - 4096, whole.len() / 2, 4096, 1000, 100] {
        for error in refused(&whole[..length]) {
            assert!(matches!(error, LedgerError::Broken { .. }), "cut to {length} bytes: {error:?}");
        }
    }
}

// D4
#[test]
fn a_ledger_with_a_damaged_first_page_is_refused_as_damaged_and_left_as_it_is() {
    let mut bytes = ledger();
    bytes[100..4096].fill(0xA5);
    for error in refused(&bytes) {
        assert!(matches!(error, LedgerError::Broken { .. }), "{error:?}");
    }
}

#[test]
fn an_empty_file_becomes_a_ledger() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("ledger.db");
    fs::write(&path, "").expect("written");
    let ledger = Ledger::open(&path).expect("a ledger");
    ledger.activate_mirrors(&[photos()]).expect("a mirror");
    drop(ledger);
    let mirrors = Ledger::open_read_only(&path).and_then(|ledger| ledger.active_mirrors()).expect("mirrors");
    assert_eq!(mirrors[0].settings, photos());
}

// P4, F3: SQLite makes a new file by way of a journal, and whoever finds that has to take back what is in the file.
#[test]
fn a_file_whose_maker_was_killed_before_it_was_whole_becomes_a_ledger() {
    let (dir, made) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let (path, half) = (dir.path().join("ledger.db"), made.path().join("ledger.db"));
    let db = Connection::open(&half).expect("a database");
    // So small a cache that pages are written before the end, which never comes.
    db.execute_batch(
        "PRAGMA cache_size = 1; BEGIN; CREATE TABLE t (x); INSERT INTO t VALUES (randomblob(100000));
         INSERT INTO t VALUES (randomblob(100000))",
    )
    .expect("begun");
    fs::copy(&half, &path).expect("copied");
    fs::copy(half.with_extension("db-journal"), path.with_extension("db-journal")).expect("copied");
    assert!(path.metadata().expect("there").len() > 0, "nothing was written before the end");

    let looked = Ledger::open_read_only(&path).err().expect("there is no ledger yet");
    assert!(matches!(looked, LedgerError::None(_)), "{looked:?}");
    let ledger = Ledger::open(&path).expect("a ledger");
    ledger.activate_mirrors(&[photos()]).expect("a mirror");
}

#[test]
fn the_ledger_and_its_companions_are_private_whatever_the_file_was() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("ledger.db");
    fs::write(&path, "").expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).expect("changed");
    let ledger = Ledger::open(&path).expect("a ledger");
    ledger.activate_mirrors(&[photos()]).expect("a mirror");
    for name in ["ledger.db", "ledger.db-wal", "ledger.db-shm"] {
        let mode = dir.path().join(name).metadata().expect(name).permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[test]
fn reading_a_ledger_that_is_not_there_says_so_and_makes_none() {
    let dir = tempfile::tempdir().expect("a directory");
    let error = Ledger::open_read_only(&dir.path().join("ledger.db")).err().expect("refused");
    assert!(matches!(error, LedgerError::None(_)), "{error:?}");
    assert!(everything_in(dir.path()).is_empty());
}

#[test]
fn reading_leaves_the_ledger_as_it_is() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("ledger.db");
    fs::write(&path, ledger()).expect("written");
    let (bytes, before) = (fs::read(&path).expect("bytes"), path.metadata().expect("stat"));
    let reader = Ledger::open_read_only(&path).expect("a ledger");
    assert_eq!(reader.active_mirrors().expect("mirrors").len(), 1);
    assert_eq!(reader.problems(10).expect("problems"), []);
    drop(reader);
    let after = path.metadata().expect("stat");
    assert_eq!(after.modified().expect("a time"), before.modified().expect("a time"));
    assert!(fs::read(&path).expect("bytes") == bytes, "the file was written to");
    // SQLite needs its companions to read, and leaves them.
    for (name, bytes) in everything_in(dir.path()) {
        match name.as_str() {
            "ledger.db" | "ledger.db-shm" => {}
            "ledger.db-wal" => assert!(bytes.is_empty(), "{name} was written to"),
            _ => panic!("`{name}` was made"),
        }
    }
}

#[test]
fn a_reader_cannot_write() {
    let world = World::new();
    let reader = Ledger::open_read_only(&world.file()).expect("a reader");
    let push = Push { path: at("a"), size: 0, due_at: 0 };
    assert!(reader.push(world.mirror, &[push], Urgency::Event, 0).is_err());
    assert!(reader.claim(0, 1).expect("nothing to take").is_empty());
}

// D5, D6
#[test]
fn a_reader_beside_the_writer_sees_what_was_committed_and_folds_nothing_into_the_database() {
    let world = World::new();
    world.put("a", &stored(5));
    let before = fs::read(world.file()).expect("bytes");
    let reader = Ledger::open_read_only(&world.file()).expect("a reader");
    assert_eq!(reader.counts(world.mirror).expect("counts").stored, Tally { files: 1, bytes: 5 });
    drop(reader);
    assert!(fs::read(world.file()).expect("bytes") == before, "the reader checkpointed");
}

#[test]
fn what_was_committed_is_there_after_the_ledger_is_opened_again() {
    let world = World::new();
    world.put("a/b", &stored(5));
    world.push(&at("a/c"), Urgency::Event);
    let (path, mirror) = (world.file(), world.mirror);
    drop(world.ledger);
    let ledger = Ledger::open(&path).expect("the same ledger");
    let counts = ledger.counts(mirror).expect("counts");
    assert_eq!((counts.stored.files, counts.pending.files), (1, 1));
    assert!(ledger.recorded(mirror, &at("a/b")).expect("a row").is_some());
}

// D5
#[test]
fn sqlite_is_one_without_the_wal_reset_bug() {
    assert!(rusqlite::version_number() >= 3_051_003, "{}", rusqlite::version());
}

/// A new agent makes the file before it makes the tables.
#[test]
fn reading_a_ledger_that_is_not_made_yet_says_that_there_is_none() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("ledger.db");
    fs::write(&path, "").expect("written");
    let error = Ledger::open_read_only(&path).err().expect("refused");
    assert!(matches!(error, LedgerError::None(_)), "{error:?}");
    fs::write(&path, database("PRAGMA journal_mode = WAL; VACUUM")).expect("written");
    let error = Ledger::open_read_only(&path).err().expect("refused");
    assert!(matches!(error, LedgerError::None(_)), "{error:?}");
}
