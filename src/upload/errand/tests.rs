use super::*;
use crate::ledger::{MirrorId, MirrorSettings, Push, Urgency};
use crate::mirror::{MirrorPath, RemoteDir};

fn a_mirror(ledger: &Ledger) -> (MirrorId, Policy) {
    let placement = Placement::Path(RemoteDir::parse("Docs").expect("a place"));
    let policy = Policy::new(placement);
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
    let stored = Stored {
        stat,
        mode: 0o644,
        digest: Digest::of(b"hello"),
        sealed: None,
        hash,
        is_proved: true,
        is_name_hidden: false,
        at: 1,
    };
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

#[test]
fn a_file_is_read_when_it_is_quiet_or_was_waited_for_for_long_enough() {
    let ledger = Ledger::in_memory().expect("a ledger");
    let (mirror, policy) = a_mirror(&ledger);
    let push = Push { path: MirrorPath::from_bytes(b"a").expect("a path"), size: 5, due_at: 0 };
    ledger.push(mirror, &[push], Urgency::Event, 100_000).expect("pushed");
    let claim = ledger.claim(100_000, 1).expect("claimed").remove(0);
    let second = Duration::from_secs(1);
    let patience = Patience { settle: 2 * second, max_delay: 10 * second, retry_max_delay: second };
    let waits = |changed: i64, now: i64| {
        let time =
            Timestamp { seconds: changed / 1000, nanos: u32::try_from(changed % 1000).expect("few") * 1_000_000 };
        let stat = Stat { size: 5, mtime: time, ctime: time, inode: 9 };
        let look = Look { observed: Observed::File(stat), mode: 0o644 };
        match Errand::new(&claim, &policy, &patience).looked(&look, true, now) {
            Next::End(Ending::Deferred(wait)) => Some(wait),
            Next::Send(_) => None,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(waits(99_000, 100_000), Some(second));
    assert_eq!(waits(100_500, 101_000), Some(second * 3 / 2));
    assert_eq!(waits(100_500, 102_499), Some(Duration::from_millis(1)));
    assert_eq!(waits(100_500, 102_500), None);
    // Written to all the time.
    assert_eq!(waits(109_998, 109_999), Some(2 * second - Duration::from_millis(1)));
    assert_eq!(waits(109_999, 110_000), Some(BETWEEN_WRITES - Duration::from_millis(1)));
    assert_eq!(waits(119_999, 120_000), None);
}

// E7, P4: the count outlives a restart, as it is in the ledger.
#[test]
fn what_is_broken_off_for_everyone_gives_no_file_up_and_what_is_broken_off_by_itself_does() {
    let ledger = Ledger::in_memory().expect("a ledger");
    let (mirror, policy) = a_mirror(&ledger);
    let push = || Push { path: MirrorPath::from_bytes(b"big").expect("a path"), size: 5, due_at: 0 };
    let patience =
        Patience { settle: Duration::ZERO, max_delay: Duration::ZERO, retry_max_delay: Duration::from_secs(900) };
    let time = Timestamp { seconds: 1, nanos: 0 };
    let stat = Stat { size: 5, mtime: time, ctime: time, inode: 9 };
    let file = ToSend { stat, mode: 0o644, name: "big".into(), placement: policy.placement.clone(), is_guarded: false };
    let late = Timestamp { seconds: 100, nanos: 0 };
    let break_off = |word: GateWord| {
        let claim = ledger.claim(HELD - 1, 1).expect("claimed").remove(0);
        let errand = Errand::new(&claim, &policy, &patience);
        let (broken, read) = (Fault::BrokenOff("reset".into()), Some(Err(ReadError::Abandoned)));
        let failure = errand.sent(&file, Err(broken), read, late, 1).expect_err("broken off");
        let ending = errand.failed(failure, word, 1.0);
        ending.record(&ledger, &claim, || true, 1).expect("recorded");
        ending
    };
    let word = |failures, is_there| GateWord { closed_for: Some(Duration::from_secs(2)), failures, is_there };

    ledger.push(mirror, &[push()], Urgency::Event, 0).expect("pushed");
    for failures in 2..100 {
        let ending = break_off(word(failures, false));
        assert!(matches!(ending, Ending::Postponed { breaks: 0, wait, .. } if wait <= Duration::from_secs(60)));
    }
    let mut waits = Vec::new();
    // Others got through, or dStor gave a sign: both count.
    for (failures, is_there) in [(1, false), (7, true), (1, false), (7, true), (1, false)] {
        let Ending::Postponed { wait, .. } = break_off(word(failures, is_there)) else { panic!("given up too soon") };
        waits.push(wait.as_secs());
    }
    assert_eq!(waits, [2, 4, 16, 64, 256], "it is tried less and less often");
    match break_off(word(1, false)) {
        Ending::Settled(Settlement::Failed { code: "broken_off", message, .. }, None, _) => {
            assert!(message.contains("6 times"), "{message}");
        }
        other => panic!("{other:?}"),
    }
    // Another version has its own tries.
    ledger.push(mirror, &[push()], Urgency::Event, 2).expect("pushed");
    assert!(matches!(break_off(word(1, false)), Ending::Postponed { breaks: 1, .. }));
    ledger.push(mirror, &[push()], Urgency::Event, 2).expect("pushed");
    assert!(matches!(break_off(word(1, false)), Ending::Postponed { breaks: 1, .. }));
}

// E17: as in a hotel, whose network answers for dStor now and then.
#[test]
fn answers_without_sense_give_a_file_up_only_if_they_come_in_a_row() {
    let ledger = Ledger::in_memory().expect("a ledger");
    let (mirror, policy) = a_mirror(&ledger);
    let push = Push { path: MirrorPath::from_bytes(b"a").expect("a path"), size: 5, due_at: 0 };
    let patience =
        Patience { settle: Duration::ZERO, max_delay: Duration::ZERO, retry_max_delay: Duration::from_secs(900) };
    let time = Timestamp { seconds: 1, nanos: 0 };
    let stat = Stat { size: 5, mtime: time, ctime: time, inode: 9 };
    let file = ToSend { stat, mode: 0o644, name: "a".into(), placement: policy.placement.clone(), is_guarded: false };
    let late = Timestamp { seconds: 100, nanos: 0 };
    ledger.push(mirror, &[push], Urgency::Event, 0).expect("pushed");
    let gives_up = |fault: &Fault| {
        let claim = ledger.claim(HELD - 1, 1).expect("claimed").remove(0);
        let errand = Errand::new(&claim, &policy, &patience);
        let failure = errand.sent(&file, Err(fault.clone()), None, late, 1).expect_err("failed");
        let word = GateWord { closed_for: Some(Duration::from_secs(2)), failures: 3, is_there: true };
        let ending = errand.failed(failure, word, 1.0);
        ending.record(&ledger, &claim, || true, 1).expect("recorded");
        matches!(ending, Ending::Settled(Settlement::Failed { .. }, ..))
    };
    let (nonsense, away) = (Fault::Protocol("no hash".into()), Fault::Unreachable("refused".into()));
    for fault in [&away; 20].into_iter().chain([&nonsense; 7]).chain([&away]).chain([&nonsense; 7]) {
        assert!(!gives_up(fault), "{fault:?}");
    }
    assert!(gives_up(&nonsense));
}
