//! One access token, shared by all workers and fetched once per lifetime.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use reqwest::Url;
use reqwest::header::HeaderValue;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::{Mutex, watch};

use super::client::read_answer;
use super::credentials::Credentials;
use super::{error, wire};
use crate::mirror::Fault;

/// Refused credentials are asked about again after this long, if they do not change before.
const ASK_AGAIN: Duration = Duration::from_secs(15 * 60);
/// A token is renewed when this much of its life is left, or a fifth if that is less.
const RENEW_BEFORE: Duration = Duration::from_secs(5 * 60);

/// Where credentials come from, asked anew each time so that a changed file is noticed.
///
/// `Ok(None)`: there are none. The error says what is wrong with them, for a person, without repeating any of them.
pub type CredentialSource = Arc<dyn Fn() -> Result<Option<Credentials>, String> + Send + Sync>;

/// How the credentials fare.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Standing {
    /// Nobody asked yet.
    #[default]
    Unknown,
    /// dStor gave a token for them.
    Accepted,
    /// dStor refuses them.
    Refused,
    /// There are none, or they cannot be read.
    Missing,
}

/// What may be told about the token: never the token.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TokenFacts {
    /// How the credentials fare.
    pub standing: Standing,
    /// When the token expires by this machine's clock, in milliseconds since 1970, if it says so.
    pub expires_at: Option<i64>,
    /// Requests for a token so far.
    pub requests: u64,
}

/// A token that goes with requests. Its `Debug` hides it.
#[derive(Clone, Debug)]
pub struct Token {
    bearer: HeaderValue,
    /// Which one of those fetched so far it is.
    number: u64,
}

impl Token {
    /// The value of `Authorization`, marked sensitive.
    pub(super) fn bearer(&self) -> HeaderValue {
        self.bearer.clone()
    }
}

/// Keeps the token.
pub struct TokenSource {
    http: reqwest::Client,
    url: Url,
    lifetime: Duration,
    credentials: CredentialSource,
    timeout: Duration,
    // Held across the request on purpose: ten workers with a refused token ask for one new token, not ten.
    state: Mutex<State>,
    facts: watch::Sender<TokenFacts>,
    requests: AtomicU64,
}

enum State {
    None,
    Held(Held),
    Refused { at: Instant, credentials: Credentials, fault: Fault },
}

struct Held {
    token: Token,
    credentials: Credentials,
    /// `None`: used until it is refused.
    renew_at: Option<Instant>,
}

impl TokenSource {
    /// A source that has no token yet. `lifetime` is asked for; the service may give less.
    pub(super) fn new(
        http: reqwest::Client,
        url: Url,
        lifetime: Duration,
        credentials: CredentialSource,
        timeout: Duration,
    ) -> Self {
        let (facts, _) = watch::channel(TokenFacts::default());
        Self {
            http,
            url,
            lifetime,
            credentials,
            timeout,
            state: Mutex::new(State::None),
            facts,
            requests: AtomicU64::new(0),
        }
    }

    /// What may be told about the token, and word whenever it changes.
    pub fn facts(&self) -> watch::Receiver<TokenFacts> {
        self.facts.subscribe()
    }

    /// The token, fetched if there is none that lives long enough.
    ///
    /// # Errors
    /// Why there is none. Refused credentials are not asked about again for 15 minutes unless they change.
    pub async fn get(&self) -> Result<Token, Fault> {
        self.get_beside(None).await
    }

    /// Another token than `refused`, which dStor did not take. Whoever comes late with an old one gets the one that
    /// replaced it.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn replace(&self, refused: &Token) -> Result<Token, Fault> {
        self.get_beside(Some(refused)).await
    }

    /// dStor refuses `token` although it is new: the credentials behind it are as good as refused. Returns the fault.
    pub async fn refuse(&self, token: &Token) -> Fault {
        let fault = Fault::Credentials("dStor refuses the access token, also a new one".into());
        let mut state = self.state.lock().await;
        *state = match std::mem::replace(&mut *state, State::None) {
            State::Held(held) if held.token.number == token.number => {
                self.facts.send_modify(|facts| facts.standing = Standing::Refused);
                State::Refused { at: Instant::now(), credentials: held.credentials, fault: fault.clone() }
            }
            other => other,
        };
        fault
    }

    async fn get_beside(&self, refused: Option<&Token>) -> Result<Token, Fault> {
        let mut state = self.state.lock().await;
        if let State::Held(held) = &*state {
            let lives = held.renew_at.is_none_or(|at| Instant::now() < at);
            if lives && refused.is_none_or(|refused| refused.number != held.token.number) {
                return Ok(held.token.clone());
            }
        }
        let credentials = match (self.credentials)() {
            Ok(Some(credentials)) => credentials,
            Ok(None) => {
                return Err(self.without("there are no credentials; set an API key, see `dstor-sync config check`"));
            }
            Err(why) => return Err(self.without(&why)),
        };
        if let State::Refused { at, credentials: refused, fault } = &*state
            && at.elapsed() < ASK_AGAIN
            && refused.same_as(&credentials)
        {
            return Err(fault.clone());
        }
        // Given up in the middle, the old one must not be taken for a living one.
        *state = State::None;
        match self.fetch(&credentials).await {
            Ok((token, renew_at)) => {
                *state = State::Held(Held { token: token.clone(), credentials, renew_at });
                Ok(token)
            }
            Err(fault @ Fault::Credentials(_)) => {
                self.facts.send_modify(|facts| facts.standing = Standing::Refused);
                *state = State::Refused { at: Instant::now(), credentials, fault: fault.clone() };
                Err(fault)
            }
            Err(fault) => Err(fault),
        }
    }

    fn without(&self, why: &str) -> Fault {
        self.facts.send_if_modified(|facts| {
            let is_new = facts.standing != Standing::Missing;
            facts.standing = Standing::Missing;
            is_new
        });
        Fault::Credentials(why.to_owned())
    }

    async fn fetch(&self, credentials: &Credentials) -> Result<(Token, Option<Instant>), Fault> {
        let asked_at = Instant::now();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let number = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
        self.facts.send_modify(|facts| facts.requests = number);

        let request = match credentials {
            Credentials::ApiKey(key) => {
                let key = sensitive(key)?;
                self.http.get(self.url.clone()).header(wire::API_KEY, key.clone()).header(wire::X_API_KEY, key)
            }
            Credentials::Login { email, password } => {
                let login = wire::Login { email: email.clone(), password: password.expose_secret().to_owned() };
                self.http.post(self.url.clone()).json(&login)
            }
        };
        let expiration = now + self.lifetime;
        let request = request.header(wire::EXPIRATION, expiration.as_secs()).timeout(self.timeout);
        let answer = request.send().await.map_err(error::of_transport)?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let body = read_answer(answer).await?;
        let now_seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        if matches!(status.as_u16(), 401 | 403) {
            let what = match credentials {
                Credentials::ApiKey(_) => "API key",
                Credentials::Login { .. } => "e-mail and password",
            };
            return Err(Fault::Credentials(format!(
                "dStor refuses the {what} (status {status}); it is asked again every 15 minutes, or when they change",
                status = status.as_u16()
            )));
        }
        if !status.is_success() {
            return Err(match error::of_answer(status, &headers, &body, now_seconds) {
                // No file is refused here: it is the service that does not give tokens.
                Fault::Refused { status, message } => Fault::Protocol(format!("no token (status {status}) {message}")),
                other => other,
            });
        }
        let answer: serde_json::Value =
            serde_json::from_slice(&body).map_err(|_| error::of_bad_answer(wire::BadAnswer::NotDstor))?;
        let answer: wire::TempToken = serde_json::from_value(answer)
            .map_err(|_| Fault::Protocol("it has no access token where one was asked for".into()))?;
        let lifetime = wire::Claims::of(&answer.access_token).map(|claims| claims.lifetime(now_seconds));
        let bearer = sensitive(&SecretString::from(format!("Bearer {}", answer.access_token)))?;
        self.facts.send_modify(|facts| {
            facts.standing = Standing::Accepted;
            facts.expires_at = lifetime.and_then(|life| i64::try_from((now + life).as_millis()).ok());
        });
        // By the monotonic clock: this machine's date may be wrong (E12).
        // A life of nothing is a claim that makes no sense: such a token is used until it is refused.
        let renew_at = lifetime
            .filter(|life| !life.is_zero())
            .and_then(|life| asked_at.checked_add(life.saturating_sub(RENEW_BEFORE.min(life / 5))));
        Ok((Token { bearer, number }, renew_at))
    }
}

fn sensitive(secret: &SecretString) -> Result<HeaderValue, Fault> {
    let mut value = HeaderValue::from_str(secret.expose_secret())
        .map_err(|_| Fault::Credentials("the credentials hold a character that cannot be sent".into()))?;
    value.set_sensitive(true);
    Ok(value)
}
