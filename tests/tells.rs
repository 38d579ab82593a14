//! That a pass tells of all that it stored, also where its workers are woken late.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use dstor_sync::dstor::{Authorities, Credentials};
use dstor_sync::ledger::MirrorSettings;
use dstor_sync::mirror::{MirrorPath, Placement, Policy, RemoteDir, Sessions, Timetable};
use dstor_sync::plan::{Alerts, MirrorPlan, Plan};
use dstor_sync::sync;
use dstor_sync::upload::{Folder, Happened, Stop};
use tokio::runtime::Builder;
use tokio::sync::watch;

use crate::world::World;

const FILES: usize = 4;
/// How long the busy task works before it lets another one go on.
const SPELL: Duration = Duration::from_micros(100);
/// After so many spells, tasks that other threads woke have their turn: 0.1 s, which is longer than the pass waits before
/// it looks whether anything is left to do.
const SPELLS: u32 = 1_000;

fn plan(world: &World) -> Plan {
    let key = world.sandbox().api_key().to_owned();
    let placement = Placement::Path(RemoteDir::parse("Docs").expect("a place"));
    let policy = Policy::new(placement);
    let settings = MirrorSettings {
        service: world.sandbox().url(),
        path: world.mirror().canonicalize().expect("it is there"),
        policy,
        exclude: Vec::new(),
        hidden: true,
    };
    Plan {
        url: world.sandbox().url().parse().expect("an address"),
        authorities: Authorities::default(),
        credentials: Arc::new(move || Ok(Some(Credentials::ApiKey(key.clone().into())))),
        token_lifetime: Duration::from_secs(3600),
        stall_timeout: Duration::from_secs(60),
        mirrors: vec![MirrorPlan { settings, comment: String::new(), poll: None, rescan: Duration::from_secs(3600) }],
        own: Vec::new(),
        settle: Duration::ZERO,
        max_delay: Duration::ZERO,
        workers: FILES,
        sessions: Sessions::Never,
        retry_max_delay: Duration::from_secs(1),
        shutdown_grace: Duration::from_secs(1),
        recipients: None,
        hides_names: false,
        read_a_day: None,
        list_every: None,
        bandwidth: Timetable::default(),
        heeds_metered: None,
        alerts: Alerts::default(),
    }
}

/// Works without end, and lets others go on in between, as a machine does that has too much to do.
async fn busy() {
    poll_fn::<(), _>(|context| {
        let begun = Instant::now();
        while begun.elapsed() < SPELL {
            std::hint::spin_loop();
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

// The ledger's thread wakes both the worker that has settled its file and the pass that asks what is left. The worker is
// late here, and must have told of its file all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_pass_tells_of_every_file_that_it_stored_however_late_its_workers_are_woken() {
    let world = World::new().await;
    for at in 0..FILES {
        world.write(&format!("f{at}"), at.to_string());
    }
    let (plan, state_dir, told) = (plan(&world), world.state_dir(), Arc::<AtomicUsize>::default());
    let tells = Arc::clone(&told);
    let pass = std::thread::spawn(move || {
        let mut runtime = Builder::new_multi_thread();
        let runtime = runtime.worker_threads(2).global_queue_interval(SPELLS).event_interval(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        for _ in 0..2 {
            runtime.spawn(busy());
        }
        let report = move |_: &Folder, _: &MirrorPath, happened: &Happened| {
            tells.fetch_add(usize::from(matches!(happened, Happened::Stored { .. })), Ordering::SeqCst);
        };
        let (_goes_on, stop) = watch::channel(Stop::Go);
        let passed = runtime.block_on(sync::run(&plan, &state_dir, Arc::new(report), Arc::new(|_, _| {}), stop));
        runtime.shutdown_timeout(Duration::from_secs(1));
        passed
    });
    let passed = tokio::task::block_in_place(|| pass.join().expect("no panic")).expect("passed");
    assert_eq!((passed.counts[0].stored.files, passed.ended_by), (FILES as u64, None));
    assert_eq!(told.load(Ordering::SeqCst), FILES, "stored, and not told of");
}
