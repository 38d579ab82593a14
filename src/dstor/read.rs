//! Files back from dStor: by their hash, without a token, as a stream of bytes that nobody has to believe.

use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, DATE, ETAG, HeaderMap};
use reqwest::header::{RETRY_AFTER, TRANSFER_ENCODING};
use reqwest::{Response, Version};
use tokio::time::{Instant, timeout, timeout_at};

use super::answer::{Answer, Given};
use super::client::{Client, endpoint, now};
use super::{error, wire};
use crate::mirror::{Cid, Fault};

/// So many bytes, or the end, have to come within the time in which nothing at all means a dead line: a server that gives a
/// byte a minute would else be read from for years.
const LEAST: usize = 16 * 1024;

/// What dStor gives for a hash.
pub enum Reply {
    /// It says that it has nothing under it.
    Missing,
    /// Bytes.
    File(Download),
}

/// A file on its way from dStor. What comes is data, nothing more: whoever asked has to compare it.
pub struct Download {
    answer: Response,
    /// Bytes that may still come.
    left: u64,
    is_longer: bool,
    is_page: bool,
    /// Whether its end cannot be told from a connection that broke.
    is_open_ended: bool,
    stall_timeout: Duration,
    dead_at: Instant,
    moved: usize,
}

/// The empty file's: every node of IPFS has it, and it costs nobody anything.
const NOTHING: &str = "QmbFMke1KXqnYyBBWxB74N4c5SBnJMVAiMNRcGu6x1AwQH";

impl Client {
    /// Whether dStor answers at all: it is asked for the empty file, and may have it or not.
    pub async fn is_there(&self) -> bool {
        let Ok(nothing) = Cid::parse(NOTHING) else { return false };
        match self.read(&nothing, 0).await {
            Ok(Reply::Missing) => true,
            Ok(Reply::File(answer)) => !answer.is_page(),
            Err(_) => false,
        }
    }

    /// Asks for the bytes under `hash`, of which there should be `size`. Redirects are not followed, and no credentials are
    /// sent.
    ///
    /// # Errors
    /// Why there is no answer to the question; never that dStor does not have it.
    pub async fn read(&self, hash: &Cid, size: u64) -> Result<Reply, Fault> {
        // Of letters and digits alone, see `Cid`: it cannot lead anywhere else.
        let address = endpoint(self.url(), &format!("{}{hash}", wire::IPFS));
        // Bytes that were packed on their way would have to be unpacked before anyone knows how many they are.
        let request = self.http().client().get(address).header(ACCEPT_ENCODING, "identity");
        let answer = match timeout(self.stall_timeout(), request.send()).await {
            Ok(answer) => answer.map_err(error::of_transport)?,
            Err(_) => return Err(nothing_came(self.stall_timeout())),
        };
        let headers = answer.headers();
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let head =
            Answer { status: answer.status().as_u16(), retry_after: text(RETRY_AFTER), date: text(DATE), body: &[] };
        match head.of_reading(now())? {
            Given::Nothing => return Ok(Reply::Missing),
            Given::Bytes => {}
        }
        if text(CONTENT_ENCODING).is_some_and(|encoding| !encoding.eq_ignore_ascii_case("identity")) {
            return Err(Fault::Protocol("its bytes are compressed, which nobody asked for".into()));
        }
        Ok(Reply::File(Download {
            left: size,
            is_longer: false,
            is_page: is_strange_page(headers, hash),
            is_open_ended: answer.version() < Version::HTTP_2
                && !headers.contains_key(CONTENT_LENGTH)
                && !headers.contains_key(TRANSFER_ENCODING),
            stall_timeout: self.stall_timeout(),
            dead_at: Instant::now() + self.stall_timeout(),
            moved: 0,
            answer,
        }))
    }
}

impl Download {
    /// The next bytes; `None` at the end, and as soon as there are more than there should be: no answer is read for longer
    /// than the file is long.
    ///
    /// # Errors
    /// What broke it off.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Fault> {
        while !self.is_longer {
            let piece = match timeout_at(self.dead_at, self.answer.chunk()).await {
                Ok(piece) => piece.map_err(error::of_transport)?,
                Err(_) => return Err(nothing_came(self.stall_timeout)),
            };
            let Some(piece) = piece else {
                if self.is_open_ended && self.left > 0 {
                    return Err(Fault::Unreachable("the connection ended early".into()));
                }
                return Ok(None);
            };
            self.moved += piece.len();
            if self.moved >= LEAST {
                self.moved = 0;
                self.dead_at = Instant::now() + self.stall_timeout;
            }
            match self.left.checked_sub(piece.len() as u64) {
                Some(left) => self.left = left,
                None => self.is_longer = true,
            }
            if !piece.is_empty() && !self.is_longer {
                return Ok(Some(piece));
            }
        }
        Ok(None)
    }

    /// Whether more came than there should be.
    #[must_use]
    pub fn is_longer(&self) -> bool {
        self.is_longer
    }

    /// Whether it says of itself that it is a page of HTML, and does not name the hash: if it is not the right file, it is
    /// more likely somebody else's answer than a wrong one of dStor's.
    #[must_use]
    pub fn is_page(&self) -> bool {
        self.is_page
    }
}

/// Gateways name the hash with what they give, as `Etag` and `X-Ipfs-Path` (ours: IPFS's gateway specification asks for
/// it). Sign-in pages and proxies do not.
fn is_strange_page(headers: &HeaderMap, hash: &Cid) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_page = text(CONTENT_TYPE.as_str()).trim_start().to_ascii_lowercase().starts_with("text/html");
    is_page && ![ETAG.as_str(), "x-ipfs-path", "x-ipfs-roots"].iter().any(|name| text(name).contains(hash.as_str()))
}

fn nothing_came(within: Duration) -> Fault {
    Fault::Unreachable(format!("nothing came for {} s", within.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_strange_unless_it_names_the_hash() {
        let hash = Cid::parse("QmT78zSuBmuS4z925WZfrqQ1qHaJ56DQaTfyMUF7F8ff5o").expect("a hash");
        let headers = |pairs: &[(&'static str, String)]| {
            pairs.iter().map(|(name, value)| (name.parse().expect("a name"), value.parse().expect("a value"))).collect()
        };
        let page = || ("content-type", "Text/HTML; charset=utf-8".to_owned());
        assert!(is_strange_page(&headers(&[page()]), &hash));
        assert!(is_strange_page(&headers(&[page(), ("etag", "\"5f-1a\"".into())]), &hash));
        assert!(!is_strange_page(&headers(&[page(), ("etag", format!("W/\"{hash}\""))]), &hash));
        assert!(!is_strange_page(&headers(&[page(), ("x-ipfs-path", format!("/ipfs/{hash}"))]), &hash));
        assert!(!is_strange_page(&headers(&[("content-type", "text/plain".into())]), &hash));
        assert!(!is_strange_page(&HeaderMap::new(), &hash));
    }
}
