//! The HTTP client: files by themselves and in sessions, and nothing is ever retried here save with one new token.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, DATE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{RequestBuilder, StatusCode, Url};
use secrecy::SecretString;

use super::answer::{Answer, Outcome};
use super::authorities::Authorities;
use super::body::{framed, storing};
use super::exchange::{self, Next};
use super::http::Http;
use super::session::{self, Asked, Habit, SessionFailure, Waits};
use super::throttle::Throttle;
use super::token::{CredentialSource, Token, TokenSource, sensitive};
use super::{error, wire};
use crate::mirror::{Cid, Fault, Placement, RemoteDir, Timetable};

/// How to reach dStor.
pub struct ClientOptions {
    /// The base address.
    pub url: Url,
    /// The life that is asked for tokens.
    pub token_lifetime: Duration,
    /// Where credentials come from.
    pub credentials: CredentialSource,
    /// A request in which nothing moved for so long is dead.
    pub stall_timeout: Duration,
    /// Whose word on certificates counts beside that of the system's authorities.
    pub authorities: Authorities,
}

/// The client cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("no secure connection (TLS) can be made")]
pub struct ClientError(#[source] reqwest::Error);

/// dStor, as seen from here. Shared by all workers.
pub struct Client {
    http: Http,
    url: Url,
    tokens: TokenSource,
    stall_timeout: Duration,
    throttle: Option<Arc<Throttle>>,
    /// How long sessions take.
    habit: Mutex<Habit>,
}

/// A file to upload.
pub struct Upload<'a> {
    /// Its name on dStor.
    pub name: &'a str,
    /// Its directory on dStor.
    pub placement: &'a Placement,
    /// Kept with it; empty: none.
    pub comment: &'a str,
}

/// Files to upload in a session.
pub struct Files<'a> {
    /// Their directory on dStor.
    pub dir: &'a RemoteDir,
    /// Kept with each; empty: none.
    pub comment: &'a str,
    /// Their names there, each only once.
    pub names: &'a [&'a str],
    /// About so many bytes are in all of them: how long dStor may take for it.
    pub bytes: u64,
}

/// The bytes of a file, and how many these are: an encrypted one has another number each time.
pub struct Measured<S> {
    /// Exactly so many bytes follow.
    pub bytes: u64,
    /// They, in pieces.
    pub pieces: S,
}

impl Client {
    /// A client that has asked nothing yet.
    ///
    /// # Errors
    /// If TLS cannot be set up: with https, a machine needs its CA certificates.
    pub fn new(options: ClientOptions) -> Result<Self, ClientError> {
        let http = Http::new(&options.url, options.stall_timeout, options.authorities).map_err(ClientError)?;
        let tokens = TokenSource::new(
            http.clone(),
            endpoint(&options.url, wire::TEMP_TOKEN),
            options.token_lifetime,
            options.credentials,
            options.stall_timeout,
        );
        Ok(Self {
            http,
            tokens,
            stall_timeout: options.stall_timeout,
            throttle: None,
            habit: Mutex::default(),
            url: options.url,
        })
    }

    /// The same, with all uploads together no faster than `bandwidth` allows.
    #[must_use]
    pub fn limited_to(mut self, bandwidth: Timetable) -> Self {
        self.throttle = Throttle::new(bandwidth).map(Arc::new);
        self
    }

    /// The access token's keeper.
    #[must_use]
    pub fn tokens(&self) -> &TokenSource {
        &self.tokens
    }

    /// Leaves all connections behind: the machine slept, and they may be dead (F8). Uploads that are under way go on as
    /// they can.
    pub fn reconnect(&self) {
        self.http.renew();
    }

    pub(super) fn http(&self) -> &Http {
        &self.http
    }

    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    pub(super) fn stall_timeout(&self) -> Duration {
        self.stall_timeout
    }

    /// Uploads one file. `body` makes the file's bytes; it is called a second time if dStor refuses the token, and a body
    /// that ends with an error leaves nothing on dStor.
    ///
    /// # Errors
    /// The fault, and what follows from it is the caller's to decide.
    pub async fn upload<S>(&self, upload: &Upload<'_>, mut body: impl FnMut() -> Measured<S>) -> Result<Cid, Fault>
    where
        S: Stream<Item = std::io::Result<Bytes>> + Send + 'static,
    {
        let send = |token: Token| {
            let mut request =
                self.http.client().post(endpoint(&self.url, wire::UPLOAD)).header(AUTHORIZATION, token.bearer());
            request = match upload.placement {
                Placement::Path(dir) if dir.is_root() => request,
                Placement::Path(dir) => request.header(wire::FOLDER_PATH, wire::folder_path_header(dir.as_str())),
                Placement::Id(id) => request.header(wire::PARENT_ID, *id),
            };
            self.send(request, upload.comment, &[upload.name], vec![body()])
        };
        self.exchange(send, |answer, now| answer.of_upload(now)).await
    }

    /// Uploads files in a session, in one request, and waits until it has ended. `body` makes the bytes of a file by its
    /// place in the list; it is called again for each if dStor refuses the token. Once dStor has them all it is dropped,
    /// `handed_over` is called, and no byte is sent any more.
    ///
    /// # Errors
    /// What went wrong and at what point. A file that the listing lacks is not stored.
    pub async fn session<S>(
        &self,
        files: &Files<'_>,
        mut body: impl FnMut(usize) -> Measured<S>,
        handed_over: impl FnOnce(),
    ) -> Result<wire::Listing, SessionFailure>
    where
        S: Stream<Item = std::io::Result<Bytes>> + Send + 'static,
    {
        let begun = Instant::now();
        let opens = session::begin(self.stall_timeout + storing(files.bytes));
        let (upload_token, fills) = opens.answered(self.open_session(files.dir).await)?;
        let round_trip = begun.elapsed();
        let send = |token: Token| {
            let request =
                self.http.client().post(endpoint(&self.url, wire::UPLOAD)).header(AUTHORIZATION, token.bearer());
            let request = request.header(wire::UPLOAD_TOKEN, upload_token.clone());
            let bodies = (0..files.names.len()).map(&mut body).collect();
            self.send(request, files.comment, files.names, bodies)
        };
        let sent = self.exchange(send, |answer, now| answer.of_chunk(now)).await;
        let first_wait = self.habit().first_wait(files.names.len(), files.bytes, round_trip);
        let waits = fills.answered(sent, begun.elapsed(), first_wait)?;
        drop(body);
        handed_over();
        let (mut waited, mut asked) = (Duration::ZERO, 0);
        let ended = self.end_of_session(waits, &upload_token, begun, (&mut waited, &mut asked)).await;
        if ended.is_ok() {
            tracing::debug!(
                files = files.names.len(),
                bytes = files.bytes,
                ?round_trip,
                ?waited,
                asked,
                "a session ended"
            );
            self.habit().learn(files.names.len(), files.bytes, waited, asked);
        }
        ended
    }

    async fn open_session(&self, dir: &RemoteDir) -> Result<HeaderValue, Fault> {
        let opening = wire::Opening { chunks_number: 1, folder_path: dir.as_str().to_owned() };
        let send = |token: Token| {
            let request = self.http.client().post(endpoint(&self.url, wire::GET_UPLOAD_TOKEN)).json(&opening);
            self.ask(request.header(AUTHORIZATION, token.bearer()))
        };
        let upload_token = self.exchange(send, |answer, now| answer.of_opening(now)).await?;
        sensitive(&SecretString::from(upload_token))
    }

    /// Asks how far a session is until it has ended. Its times count from `begun`. How long it waited for that, not counting
    /// the way there and back, and how often it asked is added to what is given.
    async fn end_of_session(
        &self,
        mut session: Waits,
        upload_token: &HeaderValue,
        begun: Instant,
        (waited, asked): (&mut Duration, &mut u32),
    ) -> Result<wire::Listing, SessionFailure> {
        loop {
            tokio::time::sleep(session.wait()).await;
            *waited += session.wait();
            *asked += 1;
            let send = |token: Token| {
                let request = self.http.client().get(endpoint(&self.url, wire::GET_UPLOAD_STATUS));
                self.ask(request.header(AUTHORIZATION, token.bearer()).header(wire::UPLOAD_TOKEN, upload_token.clone()))
            };
            let answer = self.exchange(send, |answer, now| answer.of_progress(now)).await;
            match session.answered(answer, begun.elapsed()) {
                Asked::Again(next) => session = next,
                Asked::Ended(ended) => return ended,
            }
        }
    }

    fn habit(&self) -> MutexGuard<'_, Habit> {
        self.habit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One request, and once more with another token if dStor refuses the first.
    async fn exchange<T, F>(
        &self,
        mut send: impl FnMut(Token) -> F,
        read: impl Fn(&Answer<'_>, i64) -> Outcome<T>,
    ) -> Result<T, Fault>
    where
        F: Future<Output = Result<Answered, Fault>>,
    {
        let mut step = exchange::begin();
        loop {
            let leased = self.tokens.get(step.refused()).await?;
            let sends = step.got(leased);
            let answered = send(sends.token().clone()).await?;
            match sends.answered(read(&answered.plain(), now())) {
                Next::Again(wants) => step = wants,
                Next::Refused(number) => return Err(self.tokens.refuse(number)),
                Next::Ended(ended) => return ended,
            }
        }
    }

    /// A request without a body to speak of.
    fn ask(&self, request: RequestBuilder) -> impl Future<Output = Result<Answered, Fault>> + use<> {
        let request = request.timeout(self.stall_timeout);
        async move { Answered::read(request.send().await.map_err(error::of_transport)?).await }
    }

    /// A request with files.
    fn send<S>(
        &self,
        mut request: RequestBuilder,
        comment: &str,
        names: &[&str],
        files: Vec<Measured<S>>,
    ) -> impl Future<Output = Result<Answered, Fault>> + use<S>
    where
        S: Stream<Item = std::io::Result<Bytes>> + Send + 'static,
    {
        let boundary: String = std::iter::repeat_with(fastrand::alphanumeric).take(32).collect();
        let framing = wire::Framing::new(names.iter().copied(), &boundary);
        let bytes = files.iter().map(|file| file.bytes).sum();
        let files = files.into_iter().map(|file| file.pieces).collect();
        request = request.header(CONTENT_TYPE, &framing.content_type).header(CONTENT_LENGTH, framing.body_bytes(bytes));
        if !comment.is_empty() {
            request = request.header(wire::COMMENT, wire::comment_header(comment));
        }
        let (body, progress) = framed(framing, files, self.throttle.clone());
        let stall_timeout = self.stall_timeout;
        async move {
            let nothing_moved =
                |quiet: Duration| Fault::Unreachable(format!("nothing moved for {} s", quiet.as_secs()));
            let answer = tokio::select! {
                answer = request.body(body).send() => answer.map_err(error::of_upload)?,
                quiet = progress.stalled(stall_timeout) => return Err(nothing_moved(quiet)),
            };
            // The head of the answer is there: whatever was on its way has arrived, or nobody minds. The rest is short.
            match tokio::time::timeout(stall_timeout, Answered::read(answer)).await {
                Ok(answered) => answered,
                Err(_) => Err(nothing_moved(stall_timeout)),
            }
        }
    }
}

/// An answer that was read to its end.
pub(super) struct Answered {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Answered {
    /// Reads an answer, up to the longest that is ever read.
    pub(super) async fn read(answer: reqwest::Response) -> Result<Self, Fault> {
        let (status, headers) = (answer.status(), answer.headers().clone());
        let mut body = Vec::new();
        let mut pieces = answer.bytes_stream();
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(error::of_transport)?;
            if body.len() + piece.len() > wire::LONGEST_ANSWER {
                return Err(Fault::Protocol("it does not end".into()));
            }
            body.extend_from_slice(&piece);
        }
        Ok(Self { status, headers, body })
    }

    /// What matters of it.
    pub(super) fn plain(&self) -> Answer<'_> {
        let text = |name| self.headers.get(name).and_then(|value| value.to_str().ok());
        Answer { status: self.status.as_u16(), retry_after: text(RETRY_AFTER), date: text(DATE), body: &self.body }
    }
}

/// `path` below the base address, which may have a path of its own.
pub(super) fn endpoint(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    let below = format!("{}{path}", base.path().trim_end_matches('/'));
    url.set_path(&below);
    url
}

/// The address under which anyone who has the hash can read a file.
#[must_use]
pub fn link(base: &str, hash: &Cid) -> String {
    format!("{}{}{hash}", base.trim_end_matches('/'), wire::IPFS)
}

/// The time of day, in whole seconds since 1970.
pub(super) fn now() -> i64 {
    seconds(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// Whole seconds since 1970, as the wire has them.
pub(super) fn seconds(since_1970: Duration) -> i64 {
    i64::try_from(since_1970.as_secs()).unwrap_or(i64::MAX)
}
