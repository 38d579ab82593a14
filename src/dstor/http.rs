//! Connections to dStor, and leaving them behind.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::{Url, redirect};

use super::authorities::Authorities;

/// How long making a connection may take.
const CONNECT: Duration = Duration::from_secs(15);
/// Connections that nobody used for so long are closed on this side: servers and proxies close theirs from about 60 s,
/// and a request that meets such a close fails (E8).
const IDLE: Duration = Duration::from_secs(20);

/// The HTTP client that is in use. Cheap to clone; all clones change together.
#[derive(Clone)]
pub(super) struct Http {
    in_use: Arc<Mutex<reqwest::Client>>,
    how: How,
}

/// What clients are made by.
#[derive(Clone)]
struct How {
    is_plain: bool,
    is_loopback: bool,
    stall_timeout: Duration,
    authorities: Authorities,
}

impl Http {
    /// Clients for `url`; none is connected yet. A connection that takes nothing for `stall_timeout` is dead.
    pub(super) fn new(url: &Url, stall_timeout: Duration, authorities: Authorities) -> reqwest::Result<Self> {
        let how = How { is_plain: url.scheme() == "http", is_loopback: is_loopback(url), stall_timeout, authorities };
        Ok(Self { in_use: Arc::new(Mutex::new(how.build()?)), how })
    }

    /// The client for a request.
    pub(super) fn client(&self) -> reqwest::Client {
        self.in_use.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Leaves all connections behind: they may be dead, and only a request would find out. What is under way on them goes
    /// on as it can.
    pub(super) fn renew(&self) {
        match self.how.build() {
            Ok(new) => *self.in_use.lock().unwrap_or_else(PoisonError::into_inner) = new,
            Err(error) => tracing::debug!(%error, "no new HTTP client; the old one goes on"),
        }
    }
}

impl How {
    fn build(&self) -> reqwest::Result<reqwest::Client> {
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
            builder = builder.tcp_user_timeout(self.stall_timeout);
        }
        #[cfg(not(any(target_os = "android", target_os = "linux")))]
        let _ = self.stall_timeout;
        if self.is_loopback || self.is_plain {
            // A proxy is on the way out of this machine, and this is none. Nor is it given secrets in plain text.
            builder = builder.no_proxy();
        }
        builder = match self.is_plain {
            // Loopback only, see the config: a CA store has no part in it.
            true => builder.tls_certs_only([]),
            false => builder.tls_certs_merge(self.authorities.certificates()),
        };
        builder.build()
    }
}

/// Whether an address is on this machine.
#[must_use]
pub fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}
