//! The rooms' speed: `cargo bench --bench rooms`.

use std::collections::HashMap;
use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use dstor_sync::ledger::{Ledger, LedgerError, MirrorSettings, Push, Settlement, SharedLedger, Stored, Urgency};
use dstor_sync::local::{Difference, OpenRoot, RuleBook, Scan};
use dstor_sync::mirror::{
    CidBuilder, Debouncer, Digest, MirrorPath, Observed, Placement, Policy, Recorded, RemoteDir, Stat, State,
    Timestamp, decide,
};
use dstor_sync::upload::{push_of, walk};

const MIB: usize = 1024 * 1024;

fn hashing(bench: &mut Criterion) {
    let bytes = vec![7; 16 * MIB];
    let mut group = bench.benchmark_group("16 MiB");
    group.throughput(Throughput::Bytes(bytes.len() as u64)).sample_size(20);
    group.bench_function("blake3", |bench| bench.iter(|| Digest::of(black_box(&bytes))));
    group.bench_function("cid", |bench| {
        bench.iter(|| {
            let mut cid = CidBuilder::new();
            cid.update(black_box(&bytes));
            cid.finish()
        });
    });
    group.finish();
}

fn deciding(bench: &mut Criterion) {
    let at = Timestamp { seconds: 1, nanos: 2 };
    let stat = Stat { size: 1, mtime: at, ctime: at, inode: 3 };
    let row =
        Recorded { state: State::Stored, stat, digest: Some(Digest::of(b"x")), is_guarded: false, is_sealed: false };
    bench.bench_function("decide, unchanged", |bench| {
        bench.iter(|| decide(black_box(&Observed::File(stat)), black_box(Some(&row)), Ok(())));
    });
}

fn debouncing(bench: &mut Criterion) {
    bench.bench_function("debounce, 10,000 paths heard of three times", |bench| {
        bench.iter(|| {
            let mut debouncer = Debouncer::new(Duration::from_secs(2), Duration::from_secs(60));
            for round in 0..3 {
                for path in 0..10_000_u32 {
                    debouncer.push(path, Duration::from_millis(round * 500));
                }
            }
            assert_eq!(debouncer.take_due(Duration::from_secs(60)).len(), 10_000);
        });
    });
}

fn settings() -> MirrorSettings {
    MirrorSettings {
        service: "https://dstor.test/".into(),
        path: "/m".into(),
        policy: Policy::new(Placement::Path(RemoteDir::parse("m").expect("a path"))),
        exclude: Vec::new(),
        hidden: true,
    }
}

fn stored(stat: Stat) -> Settlement {
    Settlement::Stored(Stored {
        stat,
        mode: 0o644,
        digest: Digest::of(b"x"),
        sealed: None,
        hash: CidBuilder::new().finish(),
        is_proved: true,
        is_name_hidden: false,
        at: 0,
    })
}

/// A tree of 10,000 files, all of them in the ledger, walked and compared: what a pass with nothing to do costs one thread.
fn scanning(bench: &mut Criterion) {
    const FILES: u64 = 10_000;
    let (dir, tree) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    for at in 0..FILES {
        let parent = tree.path().join(format!("d{}", at / 100));
        std::fs::create_dir_all(&parent).expect("made");
        std::fs::write(parent.join(format!("f{at}")), "x").expect("written");
    }
    let ledger = Ledger::open(&dir.path().join("ledger.db")).expect("a ledger");
    let mirror = ledger.activate_mirrors(&[settings()]).expect("activated")[0];
    let (root, rules) = (OpenRoot::open(tree.path(), None).expect("open"), RuleBook::new(&[], true));
    let policy = settings().policy;
    let scan = Scan { root: &root, rules: &rules, policy: &policy, before_reading: &|_| {} };
    let mut found = Vec::new();
    let mut take = |difference: Difference| {
        found.push(difference);
        Ok(())
    };
    walk(&ledger, mirror, &scan, &MirrorPath::top(), &|| true, &mut take).expect("walked");
    let stats: HashMap<MirrorPath, Stat> = found
        .iter()
        .filter_map(|difference| match difference.observed {
            Observed::File(stat) => Some((difference.path.clone(), stat)),
            _ => None,
        })
        .collect();
    let pushes: Vec<Push> = found.into_iter().map(|difference| push_of(difference, 0, Duration::ZERO)).collect();
    ledger.push(mirror, &pushes, Urgency::Scan, 0).expect("pushed");
    for claim in ledger.claim(i64::MAX - 1, u32::MAX).expect("claimed") {
        ledger.settle(&claim, &stored(stats[&claim.path]), None, 1).expect("settled");
    }
    let mut group = bench.benchmark_group("scan");
    group.throughput(Throughput::Elements(FILES)).sample_size(20);
    group.bench_function("walk and compare 10,000 files that are as recorded", |bench| {
        bench.iter(|| {
            let mut differ =
                |difference: Difference| -> Result<(), LedgerError> { panic!("{:?} differs", difference.path) };
            let summary = walk(&ledger, mirror, &scan, &MirrorPath::top(), &|| true, &mut differ).expect("walked");
            assert_eq!((summary.files, summary.differences), (FILES, 0));
        });
    });
    group.finish();
}

/// 1,000 files pushed, claimed and settled, each step a commit: what a first upload costs the ledger.
fn recording(bench: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a directory");
    let ledger = SharedLedger::open(&dir.path().join("ledger.db")).expect("a ledger");
    let mirror = ledger.with_blocking(|ledger| Ok(ledger.activate_mirrors(&[settings()])?[0])).expect("activated");
    let at = Timestamp { seconds: 1, nanos: 2 };
    let stored = stored(Stat { size: 1, mtime: at, ctime: at, inode: 3 });
    let mut round = 0;
    let mut group = bench.benchmark_group("ledger");
    group.throughput(Throughput::Elements(1000)).sample_size(20);
    group.bench_function("push, claim and settle 1,000 files", |bench| {
        bench.iter_batched(
            || {
                round += 1;
                let path = |at| format!("d{round}/f{at}");
                let push = |at| Push {
                    path: MirrorPath::from_bytes(path(at).as_bytes()).expect("a path"),
                    size: 1,
                    due_at: 0,
                };
                (0..1000).map(push).collect::<Vec<_>>()
            },
            |pushes| {
                ledger.with_blocking(move |ledger| ledger.push(mirror, &pushes, Urgency::Scan, 0)).expect("pushed");
                let claims = ledger.with_blocking(|ledger| ledger.claim(1, 1000)).expect("claimed");
                let stored = stored.clone();
                ledger
                    .with_blocking(move |ledger| {
                        claims.iter().try_for_each(|claim| ledger.settle(claim, &stored, None, 1))
                    })
                    .expect("settled");
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(rooms, hashing, deciding, debouncing, scanning, recording);
criterion_main!(rooms);
