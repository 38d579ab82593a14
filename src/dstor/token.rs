//! One access token, shared by all workers and fetched once per lifetime: the rules of `lease` over HTTP.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::Url;
use reqwest::header::HeaderValue;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::{Notify, watch};

use super::client::{Answered, seconds};
use super::credentials::Credentials;
use super::http::Http;
use super::lease::{Granted, Lease, Leased, Order, Standing, Want};
use super::{error, wire};
use crate::local::uptime;
use crate::mirror::Fault;

/// Where credentials come from, asked anew each time so that a changed file is noticed.
///
/// `Ok(None)`: there are none. The error says what is wrong with them, for a person, without repeating any of them.
pub type CredentialSource = Arc<dyn Fn() -> Result<Option<Credentials>, String> + Send + Sync>;

/// What may be told about the token: never the token.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TokenFacts {
    /// How the credentials fare.
    pub standing: Standing,
    /// When the token expires by this machine's clock, in milliseconds since 1970, if it says so.
    pub expires_at: Option<i64>,
    /// Requests for a token so far.
    pub requests: u64,
    /// How many seconds this machine's clock is ahead of the service's, by its last answer; negative: behind.
    pub clock_ahead: Option<i64>,
}

/// A token that goes with requests. Its `Debug` hides it.
#[derive(Clone, Debug)]
pub struct Token {
    bearer: HeaderValue,
}

impl Token {
    /// The value of `Authorization`, marked sensitive.
    pub(super) fn bearer(&self) -> HeaderValue {
        self.bearer.clone()
    }
}

/// Keeps the token. Ten workers with a refused token ask for one new token, not ten.
pub struct TokenSource {
    http: Http,
    url: Url,
    lifetime: Duration,
    credentials: CredentialSource,
    timeout: Duration,
    lease: Mutex<Lease<Token, Credentials>>,
    /// A fetch has ended.
    ended: Notify,
    facts: watch::Sender<TokenFacts>,
}

impl TokenSource {
    /// A source that has no token yet. `lifetime` is asked for; the service may give less.
    pub(super) fn new(
        http: Http,
        url: Url,
        lifetime: Duration,
        credentials: CredentialSource,
        timeout: Duration,
    ) -> Self {
        Self {
            http,
            url,
            lifetime,
            credentials,
            timeout,
            lease: Mutex::default(),
            ended: Notify::new(),
            facts: watch::channel(TokenFacts::default()).0,
        }
    }

    /// What may be told about the token, and word whenever it changes.
    pub fn facts(&self) -> watch::Receiver<TokenFacts> {
        self.facts.subscribe()
    }

    /// A token, fetched if there is none that lives long enough. With the number of one that dStor did not take, another
    /// one: whoever comes late with an old number gets what replaced it. Cancel safe.
    ///
    /// # Errors
    /// Why there is none. Refused credentials are not asked about again for 15 minutes unless they change.
    pub async fn get(&self, refused: Option<u64>) -> Result<Leased<Token>, Fault> {
        let wish = self.lease().wish(refused);
        loop {
            let ended = self.ended.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            let is_needed = self.lease().asks_for_credentials(&wish, uptime());
            // Read while nobody waits for the lease: they are files.
            let credentials = is_needed.then(|| (self.credentials)());
            let want = {
                let (mut lease, now) = (self.lease(), uptime());
                if credentials.is_none() && lease.asks_for_credentials(&wish, now) {
                    // They became needed just now.
                    continue;
                }
                let want = lease.want(&wish, || credentials.unwrap_or(Ok(None)), now);
                self.publish(&lease);
                want
            };
            match want {
                Want::Use(leased) => return Ok(leased),
                Want::Fetch(order) => return self.run(order).await,
                Want::Wait => ended.await,
                Want::No(fault) => return Err(fault),
            }
        }
    }

    /// dStor refuses the token of this number although it is new: the credentials behind it are as good as refused.
    /// Returns the fault.
    pub fn refuse(&self, number: u64) -> Fault {
        let mut lease = self.lease();
        let fault = lease.refused_again(number, uptime());
        self.publish(&lease);
        fault
    }

    async fn run(&self, order: Order<Credentials>) -> Result<Leased<Token>, Fault> {
        // Whatever becomes of this request, those who wait for it go on.
        let _under_way = UnderWay { source: self, number: order.number };
        let asked_at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let granted = self.fetch(&order.credentials, asked_at).await;
        let expires_at = granted.as_ref().ok().map(|granted| {
            let life = granted.lifetime?;
            i64::try_from((asked_at + life).as_millis()).ok()
        });
        let mut lease = self.lease();
        let leased = lease.fetched(order, granted, uptime());
        if let Some(expires_at) = expires_at {
            self.facts.send_modify(|facts| facts.expires_at = expires_at);
        }
        self.publish(&lease);
        leased
    }

    /// Asks dStor. `now` is the time since 1970.
    async fn fetch(&self, credentials: &Credentials, now: Duration) -> Result<Granted<Token>, Fault> {
        let (request, asked_with) = match credentials {
            Credentials::ApiKey(key) => {
                let key = sensitive(key)?;
                let request = self.http.client().get(self.url.clone());
                (request.header(wire::API_KEY, key.clone()).header(wire::X_API_KEY, key), "API key")
            }
            Credentials::Login { email, password } => {
                let login = wire::Login { email: email.clone(), password: password.expose_secret().to_owned() };
                (self.http.client().post(self.url.clone()).json(&login), "e-mail and password")
            }
        };
        let expiration = now + self.lifetime;
        let request = request.header(wire::EXPIRATION, expiration.as_secs()).timeout(self.timeout);
        let answered = Answered::read(request.send().await.map_err(error::of_transport)?).await?;
        let then = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // It was written at some time between the two, whatever the answer says.
        let ahead = answered.plain().date.and_then(wire::date).map(|date| seconds((now + then) / 2) - date);
        self.facts.send_modify(|facts| facts.clock_ahead = ahead);
        let now = seconds(now);
        let token = SecretString::from(answered.plain().of_token_request(asked_with, now)?);
        let lifetime = wire::Claims::of(token.expose_secret()).map(|claims| claims.lifetime(now));
        let bearer = sensitive(&SecretString::from(format!("Bearer {}", token.expose_secret())))?;
        Ok(Granted { token: Token { bearer }, lifetime })
    }

    fn publish(&self, lease: &Lease<Token, Credentials>) {
        self.facts.send_if_modified(|facts| {
            let new = TokenFacts { standing: lease.standing(), requests: lease.requests(), ..*facts };
            let is_new = new != *facts;
            *facts = new;
            is_new
        });
    }

    fn lease(&self) -> MutexGuard<'_, Lease<Token, Credentials>> {
        self.lease.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request for a token that may be given up in its middle.
struct UnderWay<'a> {
    source: &'a TokenSource,
    number: u64,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.source.lease().give_up(self.number);
        self.source.ended.notify_waiters();
    }
}

/// A secret as a header's value, marked so.
pub(super) fn sensitive(secret: &SecretString) -> Result<HeaderValue, Fault> {
    let mut value = HeaderValue::from_str(secret.expose_secret())
        .map_err(|_| Fault::Credentials("the credentials hold a character that cannot be sent".into()))?;
    value.set_sensitive(true);
    Ok(value)
}
