//! Connections to dStor, and leaving them behind.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::{Url, redirect};

/// How long making a connection may take.
const CONNECT: Duration = Duration::from_secs(15);
/// Connections that nobody used for so long are closed on this side: servers and proxies close theirs from about 60 s,
/// and a request that meets such a close fails (E8).
const IDLE: Duration = Duration::from_secs(20);

/// The HTTP client that is in use. Cheap to clone; all clones change together.
#[derive(Clone)]
pub(super) struct Http {
    in_use: Arc<Mutex<reqwest::Client>>,
    is_plain: bool,
    stall_timeout: Duration,
}

impl Http {
    /// Clients for `url`; none is connected yet. A connection that takes nothing for `stall_timeout` is dead.
    pub(super) fn new(url: &Url, stall_timeout: Duration) -> reqwest::Result<Self> {
        let is_plain = url.scheme() == "http";
        Ok(Self { in_use: Arc::new(Mutex::new(build(is_plain, stall_timeout)?)), is_plain, stall_timeout })
    }

    /// The client for a request.
    pub(super) fn client(&self) -> reqwest::Client {
        self.in_use.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Leaves all connections behind: they may be dead, and only a request would find out. What is under way on them goes
    /// on as it can.
    pub(super) fn renew(&self) {
        match build(self.is_plain, self.stall_timeout) {
            Ok(new) => *self.in_use.lock().unwrap_or_else(PoisonError::into_inner) = new,
            Err(error) => tracing::debug!(%error, "no new HTTP client; the old one goes on"),
        }
    }
}

fn build(is_plain: bool, stall_timeout: Duration) -> reqwest::Result<reqwest::Client> {
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("dstor-sync/", env!("CARGO_PKG_VERSION")))
        // A redirect could carry the token, or the file, to another host (E27).
        .redirect(redirect::Policy::none())
        .retry(reqwest::retry::never())
        .connect_timeout(CONNECT)
        .pool_idle_timeout(IDLE)
        .tcp_nodelay(true);
    #[cfg(any(target_os = "android", target_os = "linux"))]
    {
        // The library's own would be 30 s, whatever the config says.
        builder = builder.tcp_user_timeout(stall_timeout);
    }
    #[cfg(not(any(target_os = "android", target_os = "linux")))]
    let _ = stall_timeout;
    if is_plain {
        // Loopback only, see the config: neither a proxy nor a CA store has a part in it.
        builder = builder.no_proxy().tls_certs_only([]);
    }
    builder.build()
}
