//! The client over real HTTP, against a real dStor on loopback.

mod only_failing;
mod progress;
mod token;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use tempfile::TempDir;

use dstor_sync::dstor::{Authorities, Client, ClientOptions, Credentials, Measured, Upload};
use dstor_sync::mirror::{Cid, Fault, Placement, RemoteDir, Timetable};
use dstor_sync::sandbox::{Options, Phase, Sandbox};

/// Long enough for the slowest of machines; nothing takes this long when all is well.
const DEADLINE: Duration = Duration::from_secs(90);

/// What comes of it, if it ends at all.
async fn in_time<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, work).await.expect("it takes for ever")
}

/// A sandbox and a client of it.
struct World {
    sandbox: Sandbox,
    client: Client,
    _store: TempDir,
}

impl World {
    async fn new(stall_timeout: Duration) -> Self {
        let store = tempfile::tempdir().expect("a directory");
        let sandbox = Sandbox::start(Options::new(store.path())).await.expect("it starts");
        let key = sandbox.api_key().to_owned();
        let client = Client::new(ClientOptions {
            url: sandbox.url().parse().expect("an address"),
            token_lifetime: Duration::from_secs(3600),
            credentials: Arc::new(move || Ok(Some(Credentials::ApiKey(key.clone().into())))),
            stall_timeout,
            authorities: Authorities::default(),
        });
        Self { sandbox, client: client.expect("a client"), _store: store }
    }

    /// Waits until there were so many requests of a kind.
    async fn until_requests(&self, phase: Phase, number: u64) {
        let begun = Instant::now();
        while self.sandbox.requests(phase) < number {
            assert!(begun.elapsed() < DEADLINE, "{} of {number} {phase} requests", self.sandbox.requests(phase));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn misbehave(&self, rule: &str) {
        self.sandbox.misbehave(rule.parse().expect("a rule"));
    }

    /// Uploads so many bytes, in pieces as files are read.
    async fn upload(&self, size: usize) -> Result<Cid, Fault> {
        self.upload_from(size, || pieces(size)).await
    }

    async fn upload_from<S>(&self, size: usize, mut body: impl FnMut() -> S) -> Result<Cid, Fault>
    where
        S: Stream<Item = std::io::Result<Bytes>> + Send + 'static,
    {
        let placement = Placement::Path(RemoteDir::parse("Docs").expect("a directory"));
        let upload = Upload { name: "a", placement: &placement, comment: "" };
        self.client.upload(&upload, || Measured { bytes: size as u64, pieces: body() }).await
    }
}

fn pieces(size: usize) -> impl Stream<Item = std::io::Result<Bytes>> + Send + 'static {
    const PIECE: usize = 128 * 1024;
    let all = Bytes::from(vec![7; size]);
    stream::iter((0..size).step_by(PIECE)).map(move |from| Ok(all.slice(from..size.min(from + PIECE))))
}
