//! dStor's API as a real small server on this machine: for trying the agent without an account, and for tests.
//!
//! It speaks what is publicly known of the API, stores files by their hash below a directory and has them again after a
//! restart. It misbehaves on order, as services and networks do: see [`Misbehaviour`]. It is no IPFS node and knows one
//! account; it never listens to other machines.

mod answer;
mod connection;
mod front;
#[cfg(test)]
mod fuzz;
mod intake;
mod keys;
mod misbehave;
mod multipart;
mod page;
mod read;
mod session;
mod store;
mod token;
mod upload;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::connection::{Connection, Connections, Loopback};
use self::front::App;
use self::intake::Stopping;
use self::keys::Keys;
use self::misbehave::Rules;
pub use self::misbehave::{BadMisbehaviour, Misbehaviour, Misdeed, Phase};
use self::store::Store;
pub use self::store::StoredFile;
use crate::mirror::{CHUNK_BYTES, Cid};

/// How long requests may still take when the sandbox stops.
const LONGEST_GOODBYE: Duration = Duration::from_secs(1);
/// The lifetime of a token, unless a shorter one is wanted (API notes: one year).
const ONE_YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// How a sandbox is set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it listens: an address of this machine only. Port 0: any free one.
    pub listen: SocketAddr,
    /// The directory it keeps everything in; made if it is not there.
    pub store: PathBuf,
    /// How long every answer is kept back.
    pub delay: Duration,
    /// No token lives longer, whatever is asked for. In whole seconds.
    pub longest_token: Duration,
    /// Bytes in a chunk. With another number than IPFS's own, files that are longer than that get other hashes than anyone
    /// would compute who does not know of it.
    pub chunk_bytes: usize,
    /// What goes wrong from the start.
    pub misbehaviours: Vec<Misbehaviour>,
}

impl Options {
    /// On any free port of 127.0.0.1, without delay, with tokens of up to a year and without misbehaviour.
    pub fn new(store: impl Into<PathBuf>) -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            store: store.into(),
            delay: Duration::ZERO,
            longest_token: ONE_YEAR,
            chunk_bytes: CHUNK_BYTES,
            misbehaviours: Vec::new(),
        }
    }
}

/// Why a sandbox cannot start or answer.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The address is not one of this machine's own.
    #[error("the sandbox does not listen on {0}: it is for this machine only")]
    NotLoopback(SocketAddr),
    /// Nothing can listen there.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Another sandbox has the directory.
    #[error("another sandbox is using `{}`", store.display())]
    InUse {
        /// The directory.
        store: PathBuf,
    },
    /// Something in its directory cannot be read or written.
    #[error("the sandbox cannot use `{}`", path.display())]
    Store {
        /// What it is about.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A running sandbox. Dropped without [`stop`](Self::stop), it breaks off what is under way.
pub struct Sandbox {
    app: Arc<App>,
    connections: Arc<Connections>,
    address: SocketAddr,
    stopping: watch::Sender<bool>,
    server: Option<JoinHandle<io::Result<()>>>,
}

impl Sandbox {
    /// Starts one on the current runtime. Reading its directory is blocking.
    ///
    /// # Errors
    /// [`SandboxError`]: another machine's address, an address in use, a directory that cannot be used.
    pub async fn start(options: Options) -> Result<Self, SandboxError> {
        let Options { listen, store, delay, longest_token, chunk_bytes, misbehaviours } = options;
        if !listen.ip().is_loopback() {
            return Err(SandboxError::NotLoopback(listen));
        }
        let cannot_listen = |source| SandboxError::Listen { address: listen, source };
        let listener = TcpListener::bind(listen).await.map_err(cannot_listen)?;
        let address = listener.local_addr().map_err(cannot_listen)?;

        let (stopping, stopped) = watch::channel(false);
        let files = Store::open(&store, chunk_bytes)?;
        let app = App::new(files, Keys::open(&store)?, Rules::new(misbehaviours), longest_token, Stopping(stopped));
        let app = Arc::new(app);
        app.set_delay(delay);

        let connections = Arc::new(Connections::default());
        let router = Router::new().fallback(front::answer).with_state(Arc::clone(&app));
        let mut stop = app.stopping.clone();
        let server = tokio::spawn(
            axum::serve(
                Loopback { listener, connections: Arc::clone(&connections) },
                router.into_make_service_with_connect_info::<Connection>(),
            )
            .with_graceful_shutdown(async move { stop.wait().await })
            .into_future(),
        );
        tracing::debug!(%address, store = %store.display(), "the sandbox listens");
        Ok(Self { app, connections, address, stopping, server: Some(server) })
    }

    /// Its base address, such as `http://127.0.0.1:8080`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The API key that held when it started: 64 characters, the same after a restart.
    #[must_use]
    pub fn api_key(&self) -> &str {
        &self.app.keys.first_api_key
    }

    /// E-mail address and password, the same after a restart.
    #[must_use]
    pub fn login(&self) -> (&str, &str) {
        (keys::EMAIL, &self.app.keys.password)
    }

    /// Adds a rule. Of several that apply, the oldest counts.
    pub fn misbehave(&self, rule: Misbehaviour) {
        self.app.rules.add(rule);
    }

    /// Forgets all rules.
    pub fn behave(&self) {
        self.app.rules.forget();
    }

    /// Refuses every token issued so far.
    pub fn revoke_tokens(&self) {
        if let Err(error) = self.app.keys.revoke_tokens() {
            tracing::debug!(%error, "revoked tokens may hold again after a restart");
        }
    }

    /// Takes only `key` from now on.
    pub fn replace_api_key(&self, key: &str) {
        if let Err(error) = self.app.keys.replace_api_key(key) {
            tracing::debug!(%error, "the old API key will hold again after a restart");
        }
    }

    /// The tokens of all upload sessions so far: as long as one is open, whoever has its token may add files to it.
    #[must_use]
    pub fn upload_tokens(&self) -> Vec<String> {
        self.app.sessions.tokens()
    }

    /// How many requests of this phase there were, each counted when its head had arrived.
    #[must_use]
    pub fn requests(&self, phase: Phase) -> u64 {
        self.app.requests(phase)
    }

    /// How many requests it refused with 401: their token or key did not hold.
    #[must_use]
    pub fn unauthorized(&self) -> u64 {
        self.app.unauthorized()
    }

    /// Bytes that came in over all connections, heads and bodies.
    #[must_use]
    pub fn bytes_received(&self) -> u64 {
        self.connections.bytes_received()
    }

    /// How long every answer is kept back from now on.
    pub fn set_delay(&self, delay: Duration) {
        self.app.set_delay(delay);
    }

    /// The newest file under each name, sorted by directory and name.
    ///
    /// # Errors
    /// None so far: they are known from the start.
    pub fn files(&self) -> Result<Vec<StoredFile>, SandboxError> {
        Ok(self.app.store.files())
    }

    /// Every file that was ever stored, in order: what was replaced as well.
    ///
    /// # Errors
    /// None so far: they are known from the start.
    pub fn versions(&self) -> Result<Vec<StoredFile>, SandboxError> {
        Ok(self.app.store.versions())
    }

    /// Blocking: the bytes with this hash.
    ///
    /// # Errors
    /// What is not stored is [`io::ErrorKind::NotFound`], what is no hash [`io::ErrorKind::InvalidInput`].
    pub fn content(&self, hash: &str) -> io::Result<Vec<u8>> {
        let cid = Cid::parse(hash).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let mut content = Vec::new();
        io::Read::read_to_end(&mut self.app.store.open_object(&cid)?, &mut content)?;
        Ok(content)
    }

    /// Stops: requests that are under way have one second to end, then their connections are reset. The port and the
    /// directory are free afterwards.
    pub async fn stop(mut self) {
        self.stopping.send_replace(true);
        if let Some(mut server) = self.server.take() {
            if tokio::time::timeout(LONGEST_GOODBYE, &mut server).await.is_err() {
                self.connections.tear_all();
                server.abort();
                // An aborted task has nothing to say but that.
                let _ = server.await;
            }
            tracing::debug!(address = %self.address, "the sandbox has stopped");
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.stopping.send_replace(true);
        self.connections.tear_all();
        if let Some(server) = &self.server {
            server.abort();
        }
        self.app.store.close();
    }
}

#[cfg(test)]
mod tests;
