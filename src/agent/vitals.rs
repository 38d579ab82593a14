//! Whether every part of the agent lives: proved by each of them since the last time, and never assumed.
//!
//! A part that hangs for good is restarted by whoever watches over services; one that only takes long is not to be. So
//! nothing here has a limit of its own: the proof comes when it comes, and whoever waits for it knows how long is too long.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::ledger::MirrorId;
use crate::upload::{Roll, Uploader};

/// How often something that is not proved yet is looked at again.
const LOOK: Duration = Duration::from_millis(100);

/// The signs of life of an agent.
#[derive(Default)]
pub struct Vitals {
    roll: Arc<Roll>,
    at_work: Mutex<Option<Arc<Uploader>>>,
}

/// What was seen last time.
#[derive(Default)]
pub struct Seen {
    claims: u64,
    returned: HashMap<MirrorId, u64>,
}

impl Vitals {
    pub(super) fn roll(&self) -> &Arc<Roll> {
        &self.roll
    }

    /// These are the parts at work from now on.
    pub(super) fn watch(&self, uploader: &Arc<Uploader>) {
        *self.at_work.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(uploader));
    }

    /// Returns once each part has proved since it was `seen` that it lives:
    ///
    /// - each task (minders, workers, keepers) was polled;
    /// - the ledger's thread has answered;
    /// - the calls to each mirror's file system that were under way have returned, and a scan that is under way has made some;
    /// - the workers have taken something, if there was something to take.
    ///
    /// That an upload moves is the client's matter: it ends each in which nothing does.
    pub async fn prove(&self, seen: &mut Seen) {
        self.roll.call().await;
        let Some(at_work) = self.at_work.lock().unwrap_or_else(PoisonError::into_inner).clone() else { return };
        for (id, folder) in &at_work.folders {
            until(|| folder.calls().turn()).await;
            let before = seen.returned.get(id).copied();
            until(|| !folder.is_walked() || Some(folder.calls().returned()) != before).await;
            seen.returned.insert(*id, folder.calls().returned());
        }
        let queue = &at_work.queue;
        loop {
            // An error is an answer, too, and others end the agent for it.
            let outlook = queue.ledger().with(|ledger| ledger.outlook()).await;
            let is_left = outlook.is_ok_and(|outlook| queue.is_waiting(outlook)) && at_work.gate.closed_for().is_zero();
            if !is_left || queue.claims() != seen.claims {
                break;
            }
            tokio::time::sleep(LOOK).await;
        }
        seen.claims = queue.claims();
    }

    /// The tasks that have not answered the last time that they were asked, for people.
    #[must_use]
    pub fn silent(&self) -> Vec<String> {
        self.roll.silent()
    }
}

async fn until(is_so: impl Fn() -> bool) {
    while !is_so() {
        tokio::time::sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use reqwest::Url;
    use tokio::sync::watch;

    use super::*;
    use crate::dstor::Authorities;
    use crate::ledger::{MirrorSettings, Push, Urgency};
    use crate::mirror::{MirrorPath, Placement, Policy, RemoteDir, Sessions, Timetable};
    use crate::plan::{Alerts, Hold, MirrorPlan, Plan, Works};
    use crate::upload::Stop;

    fn plan(mirror: &Path) -> Plan {
        let placement = Placement::Path(RemoteDir::parse("Docs").expect("a path"));
        let settings = MirrorSettings {
            service: "none".into(),
            path: mirror.to_owned(),
            policy: Policy::new(placement),
            exclude: Vec::new(),
            hidden: true,
        };
        let second = Duration::from_secs(1);
        Plan {
            url: Url::parse("http://127.0.0.1:1").expect("an address"),
            credentials: Arc::new(|| Ok(None)),
            token_lifetime: second,
            stall_timeout: second,
            mirrors: vec![MirrorPlan { settings, comment: String::new(), poll: None, rescan: second }],
            own: Vec::new(),
            settle: second,
            max_delay: second,
            workers: 2,
            sessions: Sessions::Auto,
            retry_max_delay: second,
            shutdown_grace: second,
            recipients: None,
            hides_names: false,
            read_a_day: None,
            list_every: None,
            bandwidth: Timetable::default(),
            heeds_metered: None,
            alerts: Alerts::default(),
            authorities: Authorities::default(),
        }
    }

    /// The parts of an agent at rest: none of its tasks is started.
    struct AtRest {
        vitals: Vitals,
        seen: Seen,
        works: Works,
        _hold: Hold,
        _stop: watch::Sender<Stop>,
        _dir: tempfile::TempDir,
    }

    impl AtRest {
        fn new() -> Self {
            let dir = tempfile::tempdir().expect("a directory");
            let mirror = dir.path().join("mirror");
            std::fs::create_dir(&mirror).expect("made");
            let (plan, (stop, stopped)) = (plan(&mirror), watch::channel(Stop::Go));
            let (works, hold) = tokio::task::block_in_place(|| {
                let hold = Hold::take(&dir.path().join("state")).expect("ours");
                let client = plan.client().expect("a client");
                (plan.assemble(&hold, client, Arc::new(|_, _, _| {}), stopped).expect("put together"), hold)
            });
            let vitals = Vitals::default();
            vitals.watch(&works.uploader);
            Self { vitals, seen: Seen::default(), works, _hold: hold, _stop: stop, _dir: dir }
        }

        async fn is_proved_soon(&mut self) -> bool {
            tokio::time::timeout(Duration::from_millis(400), self.vitals.prove(&mut self.seen)).await.is_ok()
        }

        /// Fails if it takes a minute.
        async fn is_proved(&mut self) {
            let proved = tokio::time::timeout(Duration::from_secs(60), self.vitals.prove(&mut self.seen));
            proved.await.expect("all of it lives");
        }
    }

    // F5
    #[tokio::test(flavor = "multi_thread")]
    async fn a_ledger_that_does_not_answer_is_no_sign_of_life() {
        let mut agent = AtRest::new();
        agent.is_proved().await;
        let (go_on, hold) = std::sync::mpsc::channel::<()>();
        let ledger = agent.works.uploader.queue.ledger().clone();
        let (begun, has_begun) = tokio::sync::oneshot::channel();
        let job = move |_: &crate::ledger::Ledger| {
            begun.send(()).expect("somebody waits for it");
            Ok(hold.recv().is_ok())
        };
        let hangs = tokio::spawn(async move { ledger.with(job).await });
        has_begun.await.expect("it has begun");
        assert!(!agent.is_proved_soon().await);
        go_on.send(()).expect("it waits for it");
        assert!(hangs.await.expect("it ended").expect("it went well"));
        agent.is_proved().await;
    }

    // F5
    #[tokio::test(flavor = "multi_thread")]
    async fn a_file_system_that_does_not_answer_is_no_sign_of_life_and_a_long_scan_is_one() {
        let mut agent = AtRest::new();
        let folder = Arc::clone(&agent.works.folders[0]);
        agent.is_proved().await;
        {
            let _hangs = folder.calls().begin();
            agent.is_proved().await;
            assert!(!agent.is_proved_soon().await, "the call did not return");
        }
        agent.is_proved().await;

        let walk = folder.walk();
        agent.seen = Seen::default();
        agent.is_proved().await;
        assert!(!agent.is_proved_soon().await, "nothing moved in the scan");
        for _ in 0..3 {
            drop(folder.calls().begin());
            agent.is_proved().await;
        }
        drop(walk);
        agent.is_proved().await;
    }

    // F5
    #[tokio::test(flavor = "multi_thread")]
    async fn changes_that_nobody_takes_although_they_could_are_no_sign_of_life() {
        let mut agent = AtRest::new();
        let queue = Arc::clone(&agent.works.uploader.queue);
        let id = agent.works.folders[0].id;
        let push = |name: &str, due_at| Push {
            path: MirrorPath::from_bytes(name.as_bytes()).expect("a path"),
            size: 0,
            due_at,
        };
        let now = queue.clock().now();
        queue.push(id, vec![push("later", now + 3_600_000)], Urgency::Event).await.expect("pushed");
        agent.is_proved().await;
        queue.push(id, vec![push("now", now)], Urgency::Event).await.expect("pushed");
        assert!(!agent.is_proved_soon().await);
        queue.pause_until(Some(now + 3_600_000));
        agent.is_proved().await;
        queue.pause_until(None);
        assert!(!agent.is_proved_soon().await);
        let gate = &agent.works.uploader.gate;
        let busy = crate::mirror::Fault::Busy { status: 503, after: Some(Duration::from_secs(600)) };
        assert!(gate.pass().await.fail(&busy).is_some());
        agent.is_proved().await;
    }
}
