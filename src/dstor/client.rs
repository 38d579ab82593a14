//! The HTTP client: one request for one file, and nothing is ever retried here save with one new token.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, DATE, HeaderMap, RETRY_AFTER};
use reqwest::{Body, StatusCode, Url};

use super::answer::Answer;
use super::exchange::{self, Next};
use super::http::Http;
use super::token::{CredentialSource, Token, TokenSource};
use super::{error, wire};
use crate::mirror::{Cid, Fault, Placement};

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
}

/// The client cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot make an HTTP client")]
pub struct ClientError(#[source] reqwest::Error);

/// dStor, as seen from here. Shared by all workers.
pub struct Client {
    http: Http,
    url: Url,
    tokens: TokenSource,
    stall_timeout: Duration,
}

/// A file to upload.
pub struct Upload<'a> {
    /// Its name on dStor.
    pub name: &'a str,
    /// Its directory on dStor.
    pub placement: &'a Placement,
    /// Kept with it; empty: none.
    pub comment: &'a str,
    /// Exactly so many bytes follow.
    pub size: u64,
}

impl Client {
    /// A client that has asked nothing yet.
    ///
    /// # Errors
    /// If TLS cannot be set up: with https, a machine needs its CA certificates.
    pub fn new(options: ClientOptions) -> Result<Self, ClientError> {
        let http = Http::new(&options.url, options.stall_timeout).map_err(ClientError)?;
        let tokens = TokenSource::new(
            http.clone(),
            endpoint(&options.url, wire::TEMP_TOKEN),
            options.token_lifetime,
            options.credentials,
            options.stall_timeout,
        );
        Ok(Self { http, tokens, stall_timeout: options.stall_timeout, url: options.url })
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

    /// Uploads one file. `body` makes the file's bytes; it is called a second time if dStor refuses the token, and a body
    /// that ends with an error leaves nothing on dStor.
    ///
    /// # Errors
    /// The fault, and what follows from it is the caller's to decide.
    pub async fn upload<S>(&self, upload: &Upload<'_>, mut body: impl FnMut() -> S) -> Result<Cid, Fault>
    where
        S: Stream<Item = std::io::Result<Bytes>> + Send + 'static,
    {
        let mut step = exchange::upload();
        loop {
            let leased = self.tokens.get(step.refused()).await?;
            let sends = step.got(leased);
            let answered = self.send(upload, sends.token(), body()).await?;
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            match sends.answered(answered.plain().of_upload(seconds(now))) {
                Next::Again(wants) => step = wants,
                Next::Refused(number) => return Err(self.tokens.refuse(number)),
                Next::Ended(ended) => return ended,
            }
        }
    }

    async fn send<S>(&self, upload: &Upload<'_>, token: &Token, body: S) -> Result<Answered, Fault>
    where
        S: Stream<Item = std::io::Result<Bytes>> + Send + 'static,
    {
        let boundary: String = std::iter::repeat_with(fastrand::alphanumeric).take(32).collect();
        let framing = wire::Framing::new(upload.name, &boundary);
        let length = framing.body_bytes(upload.size);
        let progress = Arc::new(Progress::default());
        let (noted, sent) = (Arc::clone(&progress), Arc::clone(&progress));
        let tail = Bytes::from(framing.tail);
        let whole = futures_util::stream::iter([Ok(Bytes::from(framing.head))])
            .chain(body.flat_map(in_small_pieces))
            .chain(futures_util::stream::once(async move {
                sent.is_sent.store(true, Ordering::Relaxed);
                Ok(tail)
            }))
            .inspect(move |piece| noted.handed(piece.as_ref().map_or(0, Bytes::len)));

        let mut request = self
            .http
            .client()
            .post(endpoint(&self.url, wire::UPLOAD))
            .header(AUTHORIZATION, token.bearer())
            .header(CONTENT_TYPE, framing.content_type)
            .header(CONTENT_LENGTH, length)
            .body(Body::wrap_stream(whole));
        request = match upload.placement {
            Placement::Path(dir) if dir.is_root() => request,
            Placement::Path(dir) => request.header(wire::FOLDER_PATH, wire::folder_path_header(dir.as_str())),
            Placement::Id(id) => request.header(wire::PARENT_ID, *id),
        };
        if !upload.comment.is_empty() {
            request = request.header(wire::COMMENT, wire::comment_header(upload.comment));
        }
        let nothing_moved = |quiet: Duration| Fault::Unreachable(format!("nothing moved for {} s", quiet.as_secs()));
        let answer = tokio::select! {
            answer = request.send() => answer.map_err(error::of_transport)?,
            quiet = progress.stalled(self.stall_timeout) => return Err(nothing_moved(quiet)),
        };
        // The head of the answer is there: whatever was on its way has arrived, or nobody minds. The rest is short.
        match tokio::time::timeout(self.stall_timeout, Answered::read(answer)).await {
            Ok(answered) => answered,
            Err(_) => Err(nothing_moved(self.stall_timeout)),
        }
    }
}

/// Cuts a piece into small ones that share its memory: on a slow line they tell sooner that something moves.
fn in_small_pieces(piece: std::io::Result<Bytes>) -> impl Stream<Item = std::io::Result<Bytes>> {
    const SMALL: usize = 32 * 1024;
    let mut rest = Some(piece);
    futures_util::stream::iter(std::iter::from_fn(move || match rest.take()? {
        Ok(mut piece) if piece.len() > SMALL => {
            let small = piece.split_to(SMALL);
            rest = Some(Ok(piece));
            Some(Ok(small))
        }
        other => Some(other),
    }))
}

/// When something last moved in a request. A limit on the whole of it would end slow uploads that go on well, and a limit
/// on reading fires while the body is still being sent (E6).
///
/// What the connection was handed is not yet on its way: buffers hold up to some megabytes, and a slow line drains them
/// without a sign. So this only says when even the slowest line would have moved. That nothing at all gets through while
/// bytes are to be sent, the kernel notices to the second, see `tcp_user_timeout`.
struct Progress {
    begun: Instant,
    moved_ms: AtomicU64,
    /// Bytes handed to the connection.
    handed: AtomicU64,
    /// Whether that is the whole body.
    is_sent: AtomicBool,
}

impl Default for Progress {
    fn default() -> Self {
        Self {
            begun: Instant::now(),
            moved_ms: AtomicU64::new(0),
            handed: AtomicU64::new(0),
            is_sent: AtomicBool::new(false),
        }
    }
}

impl Progress {
    fn handed(&self, bytes: usize) {
        let now = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.moved_ms.store(now, Ordering::Relaxed);
        self.handed.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Waits until nothing can have moved for `limit`. Returns how long nothing was seen to move.
    async fn stalled(&self, limit: Duration) -> Duration {
        loop {
            let limit = limit + unseen(self.handed.load(Ordering::Relaxed), self.is_sent.load(Ordering::Relaxed));
            let moved = Duration::from_millis(self.moved_ms.load(Ordering::Relaxed));
            let quiet = self.begun.elapsed().saturating_sub(moved);
            if quiet >= limit {
                return quiet;
            }
            tokio::time::sleep(limit - quiet).await;
        }
    }
}

/// How long a request may go on without a sign after it was handed so many bytes.
fn unseen(handed: u64, is_sent: bool) -> Duration {
    /// What Linux buffers for a connection at most, unless told otherwise.
    const BUFFERED: u64 = 4 * 1024 * 1024;
    /// On slower lines, buffers are smaller.
    const SLOWEST_LINE: u64 = 16 * 1024;
    /// The service adds a file to IPFS before it answers.
    const SLOWEST_SERVICE: u64 = 1024 * 1024;
    let drains = Duration::from_secs(handed.min(BUFFERED) / SLOWEST_LINE);
    if is_sent { drains + Duration::from_secs(handed / SLOWEST_SERVICE) } else { drains }
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
fn endpoint(base: &Url, path: &str) -> Url {
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

/// Whole seconds since 1970, as the wire has them.
pub(super) fn seconds(since_1970: Duration) -> i64 {
    i64::try_from(since_1970.as_secs()).unwrap_or(i64::MAX)
}
