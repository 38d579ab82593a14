use super::*;
use crate::ledger::{MirrorId, MirrorSettings, Push, Urgency};
use crate::mirror::{MirrorPath, RemoteDir};

fn a_mirror(ledger: &Ledger) -> (MirrorId, Policy) {
    let placement = Placement::Path(RemoteDir::parse("Docs").expect("a place"));
    let policy = Policy { placement, max_file_size: u64::MAX };
    let settings = MirrorSettings {
        service: "s".into(),
        path: "/m".into(),
        policy: policy.clone(),
        exclude: Vec::new(),
        hidden: true,
    };
    (ledger.activate_mirrors(&[settings]).expect("a mirror")[0], policy)
}

// D2
#[test]
fn a_walk_that_a_full_disk_breaks_off_is_made_again() {
    let ledger = Ledger::in_memory().expect("a ledger");
    let (mirror, policy) = a_mirror(&ledger);
    let push = Push { path: MirrorPath::from_bytes(b"d").expect("a path"), size: 0, due_at: 0 };
    ledger.push(mirror, &[push], Urgency::Event, 0).expect("pushed");
    let claim = ledger.claim(0, 1).expect("claimed").remove(0);
    let patience =
        Patience { settle: Duration::ZERO, max_delay: Duration::ZERO, retry_max_delay: Duration::from_secs(1) };
    let full = Err(ReconcileError::Ledger(LedgerError::Full));
    let ending = Errand::new(&claim, &policy, &patience).descended(full);
    assert!(matches!(ending, Ok(Ok(Ending::Deferred(_)))), "{ending:?}");
}

// P1: what is here is just what was stored, but something else was sent after that, and nobody knows how it ended. A
// directory that is moved away and back leaves it so.
#[test]
fn a_file_as_it_was_stored_is_sent_again_if_another_version_may_have_been() {
    let dir = tempfile::tempdir().expect("a directory");
    let ledger = Ledger::open(&dir.path().join("ledger.db")).expect("a ledger");
    let (mirror, policy) = a_mirror(&ledger);
    let time = Timestamp { seconds: 1, nanos: 0 };
    let stat = Stat { size: 5, mtime: time, ctime: time, inode: 9 };
    let push = || Push { path: MirrorPath::from_bytes(b"d/a").expect("a path"), size: 5, due_at: 0 };
    let claim = || {
        ledger.push(mirror, &[push()], Urgency::Scan, 0).expect("pushed");
        ledger.claim(0, 1).expect("claimed").remove(0)
    };
    let hash = Cid::parse("QmT78zSuBmuS4z925WZfrqQ1qHaJ56DQaTfyMUF7F8ff5o").expect("a CID");
    let stored = Stored { stat, mode: 0o644, digest: Digest::of(b"hello"), hash, is_proved: true, at: 1 };
    ledger.settle(&claim(), &Settlement::Stored(stored), None, 1).expect("settled");

    let patience =
        Patience { settle: Duration::ZERO, max_delay: Duration::ZERO, retry_max_delay: Duration::from_secs(1) };
    let look = Look { observed: Observed::File(stat), mode: 0o644 };
    let sure = claim();
    let next = Errand::new(&sure, &policy, &patience).looked(&look, true, 1);
    assert!(matches!(next, Next::IfKnownBelow(_)), "{next:?}");
    // Killed at it.
    ledger.recover_changes(Millis::MAX).expect("recovered");
    let unsure = claim();
    let next = Errand::new(&unsure, &policy, &patience).looked(&look, true, 1);
    assert!(matches!(next, Next::Send(_)), "{next:?}");
}
