//! Answers, and what is done to them when they are to be wrong.

use axum::Json;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};

use super::intake::Stopping;
use super::misbehave::Misdeed;
use super::multipart::Malformed;

/// The hash of 43 MiB that only the tests of content identifiers have.
const FOREIGN_HASH: &str = "QmVjXB8W3B1aEBwTRLiu2MqHmiV6mUzDfrUuYEM5G5LWHn";
/// Path characters, a sequence that colours a terminal, and nothing of a hash.
const BAD_HASH: &str = "../../etc/passwd\u{1b}[31m?x=1";
/// Longest answer that can be made wrong, in bytes: a session's list of hashes.
const LONGEST_SPOILT: usize = 64 * 1024 * 1024;
/// How much of an endless answer is sent at a time, in bytes.
const ENDLESS_PIECE: usize = 1024 * 1024;

/// Why a request is not carried out.
#[derive(Debug)]
pub(super) enum Refusal {
    /// With this status and these words.
    Because(StatusCode, String),
    /// A rule of misbehaviour says so.
    Misdeed(Misdeed),
}

impl Refusal {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self::Because(status, message.into())
    }
}

impl From<Malformed> for Refusal {
    fn from(malformed: Malformed) -> Self {
        Self::new(StatusCode::BAD_REQUEST, malformed.to_string())
    }
}

impl From<std::io::Error> for Refusal {
    fn from(error: std::io::Error) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, format!("the file cannot be stored: {error}"))
    }
}

/// An error as the API words it.
pub(super) fn message(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({ "message": message }))).into_response()
}

/// What is sent in place of an answer. What is no answer at all (a reset, a stall) is not decided here.
pub(super) fn instead(deed: &Misdeed, stopping: Stopping) -> Option<Response> {
    Some(match deed {
        Misdeed::Status { code, retry_after } => {
            let status = StatusCode::from_u16(*code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            let mut response = message(status, "the sandbox was told to fail");
            if let Some(value) = retry_after.as_ref().and_then(|value| HeaderValue::from_str(value).ok()) {
                response.headers_mut().insert(header::RETRY_AFTER, value);
            }
            response
        }
        Misdeed::WantsSession => message(StatusCode::BAD_REQUEST, "the upload token is missing (x-dstor-upload-token)"),
        Misdeed::Html => Html("<!doctype html><title>Welcome</title><p>Sign in to the hotel's network").into_response(),
        Misdeed::Redirect(url) => (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, url.as_str())]).into_response(),
        Misdeed::Endless => endless(stopping),
        Misdeed::GzipBomb => {
            ([(header::CONTENT_TYPE, "application/json"), (header::CONTENT_ENCODING, "gzip")], gzip_bomb())
                .into_response()
        }
        Misdeed::NoHash
        | Misdeed::EmptyHash
        | Misdeed::ForeignHash
        | Misdeed::BadHash
        | Misdeed::TruncatedJson
        | Misdeed::Reset
        | Misdeed::ResetInBody
        | Misdeed::ResetAfterStore
        | Misdeed::Straggle(_)
        | Misdeed::Stall
        | Misdeed::StallInAnswer
        | Misdeed::Slow(_)
        | Misdeed::Late(_)
        | Misdeed::FlipBit
        | Misdeed::Cut
        | Misdeed::Swap(_) => return None,
    })
}

/// A JSON answer with its hashes or its end made wrong, as `deed` says; others pass.
pub(super) async fn spoil(response: Response, deed: &Misdeed) -> Response {
    let hash = match deed {
        Misdeed::NoHash => None,
        Misdeed::EmptyHash => Some(""),
        Misdeed::ForeignHash => Some(FOREIGN_HASH),
        Misdeed::BadHash => Some(BAD_HASH),
        Misdeed::TruncatedJson => {
            let (mut parts, body) = response.into_parts();
            let whole = to_bytes(body, LONGEST_SPOILT).await.unwrap_or_default();
            parts.headers.remove(header::CONTENT_LENGTH);
            return Response::from_parts(parts, Body::from(whole.slice(..whole.len() / 2)));
        }
        _ => return response,
    };
    let (status, body) = (response.status(), response.into_body());
    let whole = to_bytes(body, LONGEST_SPOILT).await.unwrap_or_default();
    let mut answer = serde_json::from_slice(&whole).unwrap_or_default();
    replace_hashes(&mut answer, hash);
    (status, Json(answer)).into_response()
}

fn replace_hashes(value: &mut Value, hash: Option<&str>) {
    match value {
        Value::Object(fields) => {
            if fields.remove("Hash").is_some()
                && let Some(hash) = hash
            {
                fields.insert("Hash".to_owned(), hash.into());
            }
            fields.values_mut().for_each(|field| replace_hashes(field, hash));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| replace_hashes(item, hash)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The head of an answer and the first half of its body, and then nothing until the sandbox stops.
pub(super) async fn stall_in(response: Response, mut stopping: Stopping) -> Response {
    let (parts, body) = response.into_parts();
    let whole = to_bytes(body, LONGEST_SPOILT).await.unwrap_or_default();
    let half = whole.slice(..whole.len() / 2);
    // An error at its end: this answer never ends properly.
    let never = async move {
        stopping.wait().await;
        Err(std::io::Error::other("the sandbox stops"))
    };
    let pieces = stream::iter([Ok(half)]).chain(stream::once(never));
    Response::from_parts(parts, Body::from_stream(pieces))
}

fn endless(stopping: Stopping) -> Response {
    let piece = Bytes::from(vec![b'x'; ENDLESS_PIECE]);
    let pieces = stream::unfold(Some(Bytes::from_static(b"{\"Name\":\"")), move |first| {
        let next = (!*stopping.0.borrow()).then(|| first.unwrap_or_else(|| piece.clone()));
        async move { next.map(|piece| (Ok::<_, std::convert::Infallible>(piece), None)) }
    });
    ([(header::CONTENT_TYPE, "application/json")], Body::from_stream(pieces)).into_response()
}

/// 1,073,742,337 zeros in gzip, some 6.8 MB: one block of fixed Huffman codes that says "258 more of the same" over and
/// over. Eight of those fill 13 bytes, so the body is 13 bytes again and again between a head and a tail.
fn gzip_bomb() -> Body {
    const PERIODS: usize = 520_224;
    const ZEROS: u32 = 1 + 8 * 258 * PERIODS as u32;
    /// CRC-32 of that many zeros.
    const CRC: u32 = 0x95c7_eead;

    // The block's head (last, fixed codes) and a literal zero, then two periods: codes begin at their highest bit, and
    // bytes are filled from their lowest.
    let mut bits = vec![1, 1, 0];
    bits.extend([0, 0, 1, 1, 0, 0, 0, 0]);
    for _ in 0..16 {
        bits.extend([1, 1, 0, 0, 0, 1, 0, 1]); // length 258
        bits.extend([0, 0, 0, 0, 0]); // distance 1
    }
    let bytes: Vec<u8> =
        bits.chunks(8).map(|byte| byte.iter().enumerate().fold(0, |sum, (at, bit)| sum | (bit << at))).collect();
    let period = &bytes[2..15];

    let mut body = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    body.extend_from_slice(&bytes[..2]);
    body.extend_from_slice(&period.repeat(PERIODS));
    // The last period has three bits in the next byte. It ended with zeros, and seven zeros end the block.
    let last = body.len() - 1;
    body[last] &= 0b111;
    body.push(0);
    body.extend_from_slice(&CRC.to_le_bytes());
    body.extend_from_slice(&ZEROS.to_le_bytes());
    Body::from(body)
}
