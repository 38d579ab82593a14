//! One cell of the matrix, from a world in order through the fault to a world in order.

use std::fs;
use std::time::{Duration, Instant, SystemTime};

use dstor_sync::sandbox::{Phase as Request, Sandbox};
use dstor_sync::status::Status;
use serde_json::Value;

use super::elsewhere::Elsewhere;
use super::table::{Cell, Kind, Phase, Seen};
use crate::world::{Agent, World, private};

/// The file that meets the fault.
const FILE: &str = "file";
/// What every token of the sandbox begins with.
const TOKEN: &str = "eyJhbGciOiJCTEFLRTMi";

struct Stage {
    cell: Cell,
    world: World,
    /// None yet, where nothing is to be asked before the fault.
    agent: Option<Agent>,
    /// What must never be seen.
    secrets: Vec<String>,
    /// Requests before the fault.
    before: Requests,
    /// Before the first request that met the fault.
    begun: Instant,
}

/// Requests of each kind, as dStor counts them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Requests {
    tokens: u64,
    uploads: u64,
    /// Sessions opened, files sent in one, and questions how far it is.
    opened: u64,
    chunks: u64,
    asked: u64,
}

impl Requests {
    fn so_far(sandbox: &Sandbox) -> Self {
        let made = |request| sandbox.requests(request);
        // Those of a session in the order opposite to that in which they are made: no later one is counted without the
        // one that it follows.
        let (asked, chunks) = (made(Request::Status), made(Request::Chunk));
        let (tokens, uploads) = (made(Request::Token), made(Request::Upload));
        Self { tokens, uploads, opened: made(Request::GetToken), chunks, asked }
    }

    fn since(self, before: Self) -> Self {
        Self {
            tokens: self.tokens - before.tokens,
            uploads: self.uploads - before.uploads,
            opened: self.opened - before.opened,
            chunks: self.chunks - before.chunks,
            asked: self.asked - before.asked,
        }
    }
}

pub(super) async fn run(cell: Cell) {
    let elsewhere = Elsewhere::listen().await;
    let mut stage = Stage::set(cell, &elsewhere).await;
    match cell.seen {
        Seen::Stored => stage.is_stored("proved").await,
        Seen::Unproved => stage.is_stored("stored").await,
        Seen::Refused(code) => stage.is_refused(code).await,
        Seen::Rejected => stage.is_rejected().await,
        Seen::Away | Seen::BrokenOff | Seen::Busy(_) | Seen::Ailing | Seen::Quota | Seen::Senseless => {
            stage.waits().await
        }
    }
    stage.ends_well().await;
    assert_eq!(elsewhere.heard(), "", "at the other host");
}

impl Stage {
    /// A world in which the fault has begun, and the file that meets it is there.
    async fn set(cell: Cell, elsewhere: &Elsewhere) -> Self {
        let mut config = String::new();
        if cell.is_dead() {
            config.push_str("stall_timeout = \"5s\"\n");
        }
        if cell.phase.kind().is_of_session() {
            config.push_str("sessions = \"always\"\n");
        }
        let mut world = World::with("", &config).await;
        let (_, password) = world.sandbox().login();
        let secrets = vec![world.sandbox().api_key().to_owned(), password.to_owned(), TOKEN.to_owned()];
        if cell.phase == Phase::TokenByLogin {
            use_login(&mut world);
        }
        let mut agent = None;
        if !cell.phase.is_first() {
            agent = Some(start(&world));
            world.write("before", "1");
            world.until_mirrored().await;
        }
        if cell.phase == Phase::Renewal {
            world.sandbox().revoke_tokens();
        }
        let (kind, (size, rate)) = (cell.phase.kind(), cell.phase.sizes());
        let before = Requests::so_far(world.sandbox());
        let mut stage = Self { cell, world, agent, secrets, before, begun: Instant::now() };
        let write = |world: &World| {
            // In one step: one that is written slowly is rightly sent twice.
            world.put(FILE, std::iter::repeat_with(|| fastrand::u8(..)).take(size).collect::<Vec<u8>>());
        };
        match cell.rule {
            "" => {
                if matches!(kind, Kind::Chunk | Kind::Status) {
                    // In the midst of a session, the moment is caught by having it stand still.
                    stage.world.misbehave(&format!("{} stall", kind.word()));
                    write(&stage.world);
                    stage.until_met().await;
                }
                let port = stage.world.stop_sandbox().await;
                fs::write(stage.world.base().join("port"), port.to_string()).expect("written");
                if !stage.world.path(FILE).exists() {
                    write(&stage.world);
                }
            }
            rule => {
                let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(6));
                let rule = rule.replace("DATE", &date).replace("RATE", &rate.to_string());
                let rule = rule.replace("ELSEWHERE", &elsewhere.url());
                stage.world.misbehave(&format!("{} {rule}", kind.word()));
                write(&stage.world);
            }
        }
        if stage.agent.is_none() {
            stage.agent = Some(start(&stage.world));
        }
        stage
    }

    /// The fault does no harm, or none that can be seen.
    async fn is_stored(&mut self, state: &str) {
        let stored = self.stored_before() + 1;
        self.until("it is stored", |status| status["mirrors"][0]["files"]["stored"] == stored).await;
        let status = self.status();
        let proved = self.stored_before() + u64::from(state == "proved");
        assert_eq!(status["mirrors"][0]["files"]["proved"], proved, "{status:#}");
        self.says(true).await;
        assert_eq!(self.made(), 1, "requests");
        self.asks_for_nothing_else();
        self.secrets_are_safe();
    }

    /// The file is given up, alone, until it changes.
    async fn is_refused(&mut self, code: &str) {
        self.until("it is given up", |status| problem(status)["state"] == "failed").await;
        assert_eq!(problem(&self.status())["code"], code);
        self.says(true).await;
        self.secrets_are_safe();
        self.world.sandbox().behave();
        self.world.put("another", "2");
        let stored = self.stored_before() + 1;
        self.until("another one is stored", |status| status["mirrors"][0]["files"]["stored"] == stored).await;
        assert_eq!(problem(&self.status())["state"], "failed");
        assert_eq!(self.made(), 2, "requests");
        self.world.put(FILE, "something else");
    }

    /// The credentials are refused: nothing is asked until they change.
    async fn is_rejected(&mut self) {
        self.waiting_with("credentials").await;
        self.says(true).await;
        let made = |tokens, uploads, opened, chunks, asked| Requests { tokens, uploads, opened, chunks, asked };
        let expected = match self.cell.phase {
            Phase::TokenByKey | Phase::TokenByLogin => made(1, 0, 0, 0, 0),
            Phase::Renewal => made(1, 1, 0, 0, 0),
            // With the token that there was, and with a new one.
            Phase::Small | Phase::Large => made(1, 2, 0, 0, 0),
            Phase::Opening => made(1, 0, 2, 0, 0),
            Phase::Chunk => made(1, 0, 1, 2, 0),
            Phase::Status => made(1, 0, 1, 1, 2),
        };
        assert_eq!(self.requests_since(), expected);
        self.secrets_are_safe();
        self.world.sandbox().behave();
        if self.cell.phase == Phase::TokenByLogin {
            // There is one login only; a new start forgets that it was refused.
            let mut agent = self.agent.take().expect("it runs");
            agent.signal(rustix::process::Signal::TERM);
            assert_eq!(agent.end().code(), Some(0));
            self.secrets_are_safe();
            self.agent = Some(start(&self.world));
        } else {
            let key: String = std::iter::repeat_with(fastrand::alphanumeric).take(64).collect();
            self.world.sandbox().replace_api_key(&key);
            fs::write(self.world.base().join("key"), &key).expect("written");
            self.secrets.push(key);
        }
    }

    /// Everything waits, dStor is asked again and again but seldom, and it goes on once the fault is over.
    async fn waits(&mut self) {
        let code = self.cell.seen.waits_with().expect("it waits");
        self.waiting_with(code).await;
        self.says(self.cell.seen != Seen::Away).await;
        assert_eq!(self.status()["mirrors"][0]["files"]["stored"], self.stored_before(), "nothing is claimed");
        if self.cell.rule.is_empty() {
            let tries = problem(&self.status())["attempts"].as_u64().expect("a number");
            assert!(tries <= self.most_requests(), "{tries} tries in {:?}", self.begun.elapsed());
            self.secrets_are_safe();
            let port = fs::read_to_string(self.world.base().join("port")).expect("read");
            self.world.start_sandbox(port.parse().expect("a port")).await;
            return;
        }
        self.until_made(2).await;
        assert!(self.begun.elapsed() >= self.cell.seen.no_sooner(), "asked again after {:?}", self.begun.elapsed());
        let made = self.made();
        assert!(made <= self.most_requests(), "{made} requests in {:?}", self.begun.elapsed());
        self.asks_for_nothing_else();
        self.secrets_are_safe();
        self.world.sandbox().behave();
    }

    /// The fault is over.
    async fn ends_well(mut self) {
        let local = self.world.local();
        self.until("dStor holds every file, and status knows", |status| {
            let files = &status["mirrors"][0]["files"];
            files["stored"] == local.len() && files["pending"] == 0 && files["uploading"] == 0
        })
        .await;
        assert_eq!(self.world.remote(), local, "true to the bytes");
        self.until("status says that all is well", |status| {
            let dstor = &status["dstor"];
            let is_well = (&dstor["auth"], &dstor["reachable"]) == (&"ok".into(), &true.into());
            is_well && dstor["last_error"].is_null() && status["problems"] == serde_json::json!([])
        })
        .await;
        self.secrets_are_safe();
        assert_eq!(self.agent.take().expect("it runs").stop(), 0);
    }

    /// No more was asked of dStor so far than belongs to tries that each meet the fault.
    fn asks_for_nothing_else(&self) {
        let earlier = self.requests_since();
        let now = self.requests_since();
        let Requests { tokens, uploads, opened, chunks, asked } = now;
        match self.cell.phase {
            Phase::TokenByKey | Phase::TokenByLogin if self.stored() == 0 => assert_eq!((uploads, opened), (0, 0)),
            Phase::TokenByKey | Phase::TokenByLogin => assert_eq!((uploads, opened), (1, 0)),
            // That its token is refused is how the agent learns of it.
            Phase::Renewal if self.stored() == self.stored_before() => assert_eq!((uploads, opened), (1, 0)),
            Phase::Renewal => assert_eq!((uploads, opened), (2, 0)),
            Phase::Small | Phase::Large => assert_eq!((tokens, opened), (0, 0)),
            Phase::Opening if self.stored() == self.stored_before() => {
                assert_eq!((tokens, uploads, chunks, asked), (0, 0, 0, 0))
            }
            Phase::Opening | Phase::Chunk | Phase::Status => {
                assert_eq!((tokens, uploads), (0, 0));
                assert!(chunks <= opened && earlier.opened <= chunks + 1, "{earlier:?} {now:?}");
                let is_believed_to_arrive =
                    self.cell.phase == Phase::Status || self.stored() > self.stored_before() || self.cell.rule == "200";
                assert!(
                    if is_believed_to_arrive { earlier.chunks <= asked + 1 } else { asked == 0 },
                    "{earlier:?} {now:?}"
                );
            }
        }
    }

    /// Waits until the file waits with this code.
    async fn waiting_with(&self, code: &str) {
        self.until(&format!("it waits: {code}"), |status| {
            let problem = problem(status);
            problem["code"] == code && problem["state"] != "failed" && !status["dstor"]["last_error"].is_null()
        })
        .await;
    }

    /// What `status` says of dStor while the fault lasts, as soon as the agent has told.
    async fn says(&self, reachable: bool) {
        let expected = serde_json::json!([self.cell.auth(), reachable]);
        let said = |status: &Value| serde_json::json!([status["dstor"]["auth"], status["dstor"]["reachable"]]);
        self.until(&format!("status says {expected}"), |status| said(status) == expected).await;
    }

    /// Requests since the fault began.
    fn requests_since(&self) -> Requests {
        Requests::so_far(self.world.sandbox()).since(self.before)
    }

    /// Tries so far: requests of the kind that meets the fault, or the sessions that were opened to come to them.
    fn made(&self) -> u64 {
        let made = self.requests_since();
        match self.cell.phase.kind() {
            Kind::Token => made.tokens,
            Kind::Upload => made.uploads,
            Kind::Opening | Kind::Chunk | Kind::Status => made.opened,
        }
    }

    /// One at once, and then after 1, 2, 4 … seconds at the least.
    fn most_requests(&self) -> u64 {
        1 + u64::from((self.begun.elapsed().as_secs() + 1).ilog2())
    }

    async fn until_made(&self, number: u64) {
        self.world.until(&format!("request {number} is made"), || self.made() >= number).await;
    }

    /// Waits until some requests of a session's kind were made.
    async fn until_met(&self) {
        let met = || {
            let made = self.requests_since();
            if self.cell.phase == Phase::Chunk { made.chunks > 0 } else { made.asked > 0 }
        };
        self.world.until("a request meets the fault", met).await;
    }

    fn stored_before(&self) -> u64 {
        u64::from(!self.cell.phase.is_first())
    }

    fn stored(&self) -> u64 {
        self.status()["mirrors"][0]["files"]["stored"].as_u64().unwrap_or(0)
    }

    /// What `status --json` would say, without a process for each look.
    fn status(&self) -> Value {
        tokio::task::block_in_place(|| {
            let status = Status::read(&self.world.state_dir());
            // There is no ledger in the first moments.
            status.map_or(Value::Null, |status| serde_json::to_value(status).expect("JSON"))
        })
    }

    async fn until(&self, what: &str, mut condition: impl FnMut(&Value) -> bool) {
        self.world.until(what, || condition(&self.status())).await;
    }

    /// Looks for secrets in everything that anyone may see.
    fn secrets_are_safe(&self) {
        let log = self.agent.as_ref().map(Agent::log).unwrap_or_default();
        let mut seen = vec![("the log".to_owned(), log.into_bytes())];
        for command in [&["status"][..], &["status", "--json"]] {
            let said = self.world.run(command);
            seen.push((command.join(" "), (said.stdout + &said.stderr).into_bytes()));
        }
        for entry in fs::read_dir(self.world.state_dir()).expect("read").flatten() {
            // A file of SQLite's may be gone again.
            let bytes = fs::read(entry.path()).unwrap_or_default();
            seen.push((entry.path().display().to_string(), bytes));
        }
        let upload_tokens = self.world.running_sandbox().map(Sandbox::upload_tokens).unwrap_or_default();
        for (place, bytes) in seen {
            for secret in self.secrets.iter().chain(&upload_tokens) {
                let is_there = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
                assert!(!is_there, "`{secret}` is in {place}");
            }
        }
    }
}

/// The agent, as talkative as can be.
fn start(world: &World) -> Agent {
    world.start_with(&["run", "-vv"])
}

fn use_login(world: &mut World) {
    let (email, password) = world.sandbox().login();
    let (email, file) = (email.to_owned(), world.base().join("password"));
    fs::write(&file, password).expect("written");
    private(&file);
    let config = world.config();
    let line = config.lines().find(|line| line.starts_with("api_key_file")).expect("a key").to_owned();
    let login = format!("email = \"{email}\"\npassword_file = \"{}\"", file.display());
    world.set_config(config.replace(&line, &login));
}

/// What status says of the file.
fn problem(status: &Value) -> &Value {
    let problems = status["problems"].as_array().map(Vec::as_slice).unwrap_or_default();
    let is_it = |problem: &&Value| problem["path"].as_str().is_some_and(|path| path.ends_with(&format!("/{FILE}")));
    problems.iter().find(is_it).unwrap_or(&Value::Null)
}
