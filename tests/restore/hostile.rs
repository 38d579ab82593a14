//! A ledger that was tampered with, and a directory in which someone else is at work: nothing is written outside of it.

use std::fs;

use super::{dest, has_parts, restore, stored};

// G8
#[tokio::test(flavor = "multi_thread")]
async fn no_path_in_the_ledger_leads_out() {
    let world =
        stored(&[("a", "1"), ("up/b", "2"), ("abs/c", "3"), ("dots/d", "4"), ("e", "5"), ("null/f", "6")]).await;
    let target = world.base().join("target");
    let db = rusqlite::Connection::open(world.state_dir().join("ledger.db")).expect("opened");
    for (dir, path) in [
        ("up", "../up".as_bytes()),
        ("abs", target.to_str().expect("UTF-8").as_bytes()),
        ("dots", b"dots/../../x"),
        ("null", b"nu\0ll"),
    ] {
        let changed = db.execute("UPDATE directories SET path = ?2 WHERE path = CAST(?1 AS BLOB)", (dir, path));
        assert_eq!(changed.expect("tampered"), 1);
    }
    db.execute("UPDATE files SET name = CAST('../e' AS BLOB) WHERE name = CAST('e' AS BLOB)", []).expect("tampered");
    drop(db);
    let before: Vec<_> = names(world.base());
    fs::create_dir(dest(&world)).expect("made");
    let (results, summary, said) = restore(&world, &[]);
    assert_eq!((said.code, &summary["nonsense"], &summary["restored"]), (1, &5.into(), &1.into()), "{said:?}");
    assert_eq!(results["a"], "restored");
    assert_eq!(names(&dest(&world)), ["a"]);
    let mut after = names(world.base());
    after.retain(|name| name != "dest");
    assert_eq!(after, before, "beside the directory");
    let told = world.run(&["restore".as_ref(), dest(&world).as_os_str()]);
    assert!(told.stdout.contains("nonsense    ../up/b  its record makes no sense"), "{}", told.stdout);
}

// G8, P1: a hash that stands for another file's bytes.
#[tokio::test(flavor = "multi_thread")]
async fn a_hash_in_the_ledger_is_not_believed() {
    let world = stored(&[("a", "1"), ("b", "2")]).await;
    let hash = world.ls()["b"]["hash"].as_str().expect("a hash").to_owned();
    let db = rusqlite::Connection::open(world.state_dir().join("ledger.db")).expect("opened");
    db.execute("UPDATE files SET hash = ?1 WHERE name = CAST('a' AS BLOB)", [hash]).expect("tampered");
    drop(db);
    let (results, _, said) = restore(&world, &[]);
    assert_eq!((results["a"].as_str(), results["b"].as_str(), said.code), ("different", "restored", 1));
    assert_eq!(names(&dest(&world)), ["b"]);
    assert!(!has_parts(&dest(&world)));
}

fn names(dir: &std::path::Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .expect("read")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}
