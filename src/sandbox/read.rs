//! Files read back by their hash, whole or in part.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::ops::Range;

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::stream;

use super::answer::{Refusal, message};
use super::front::App;
use super::misbehave::{Misdeed, Phase};
use crate::mirror::Cid;

/// Bytes that are read from the disk at a time.
const PIECE: u64 = 128 * 1024;

/// Serves the bytes with this hash.
pub(super) fn serve(app: &App, parts: &Parts, hash: &str, deed: &mut Option<Misdeed>) -> Result<Response, Refusal> {
    let missing = || Refusal::new(StatusCode::NOT_FOUND, "there is nothing with this hash");
    // What is no hash never becomes a path.
    let mut cid = Cid::parse(hash).map_err(|_| missing())?;
    let etag = format!("\"{cid}\"");
    if deed.is_none() {
        *deed = misdeed_by_name(app, hash);
    }
    match deed {
        Some(told) if told.replaces_the_answer() => return Err(Refusal::Misdeed(told.clone())),
        Some(Misdeed::Swap(other)) => cid = Cid::parse(other).map_err(|_| missing())?,
        _ => {}
    }
    let deed = deed.as_ref();
    let mut file = app.store.open_object(&cid).map_err(|_| missing())?;
    let size = file.metadata()?.len();
    let (status, mut range) = match wanted(&parts.headers, &etag, size) {
        Wanted::Whole => (StatusCode::OK, 0..size),
        Wanted::Part(range) => (StatusCode::PARTIAL_CONTENT, range),
        Wanted::Beyond => {
            let mut response = message(StatusCode::RANGE_NOT_SATISFIABLE, "the file ends before this range");
            response
                .headers_mut()
                .insert(header::CONTENT_RANGE, format!("bytes */{size}").parse().map_err(unsendable)?);
            return Ok(response);
        }
    };
    let content_range = format!("bytes {}-{}/{size}", range.start, range.end.saturating_sub(1));
    if deed == Some(&Misdeed::Cut) {
        range.end -= (range.end - range.start).div_ceil(2);
    }
    let length = range.end - range.start;
    let body = if parts.method == Method::HEAD {
        Body::empty()
    } else {
        file.seek(SeekFrom::Start(range.start))?;
        pieces(file, length, deed == Some(&Misdeed::FlipBit))
    };
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_LENGTH, length.to_string()),
        (header::ACCEPT_RANGES, "bytes".to_owned()),
        (header::ETAG, etag),
        // Somebody's HTML must not run as a page of this address.
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        (header::CONTENT_SECURITY_POLICY, "sandbox".to_owned()),
    ];
    let mut response = (status, headers, body).into_response();
    if status == StatusCode::PARTIAL_CONTENT {
        response.headers_mut().insert(header::CONTENT_RANGE, content_range.parse().map_err(unsendable)?);
    }
    Ok(response)
}

/// The rule that waits for one of the names under which this hash was stored.
fn misdeed_by_name(app: &App, hash: &str) -> Option<Misdeed> {
    if !app.rules.wait_for_a_name(Phase::Read) {
        return None;
    }
    app.store.names_of(hash).iter().find_map(|name| app.rules.for_name(Phase::Read, name))
}

fn unsendable(_: axum::http::header::InvalidHeaderValue) -> Refusal {
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "a header cannot be sent")
}

/// The file's next `length` bytes, the lowest bit of the first one turned over if so wished.
fn pieces(file: File, length: u64, flip: bool) -> Body {
    Body::from_stream(stream::unfold((file, length, flip), |(mut file, left, flip)| async move {
        if left == 0 {
            return None;
        }
        // Blocking, but from the page cache as a rule: these files were written a moment ago.
        let mut piece = vec![0; usize::try_from(left.min(PIECE)).unwrap_or(usize::MAX)];
        if let Err(error) = file.read_exact(&mut piece) {
            return Some((Err(error), (file, 0, false)));
        }
        if flip {
            piece[0] ^= 1;
        }
        let left = left - piece.len() as u64;
        Some((Ok(Bytes::from(piece)), (file, left, false)))
    }))
}

#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    Whole,
    Part(Range<u64>),
    Beyond,
}

/// Which part a request is for. What cannot be read or asks for several ranges means the whole (RFC 9110, 14.2).
fn wanted(headers: &HeaderMap, etag: &str, size: u64) -> Wanted {
    let range = headers.get(header::RANGE).and_then(|value| value.to_str().ok());
    let unchanged = headers.get(header::IF_RANGE).is_none_or(|value| value == etag);
    match range.and_then(|range| range.strip_prefix("bytes=")) {
        Some(range) if unchanged => part(range.trim(), size).unwrap_or(Wanted::Whole),
        _ => Wanted::Whole,
    }
}

fn part(range: &str, size: u64) -> Option<Wanted> {
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u64>().ok()).flatten();
    let (first, last) = range.split_once('-')?;
    let range = match (first, last) {
        ("", last) => size.saturating_sub(digits(last)?)..size,
        (first, "") => digits(first)?..size,
        (first, last) => {
            let (first, last) = (digits(first)?, digits(last)?);
            if last < first {
                return None;
            }
            first..last.saturating_add(1).min(size)
        }
    };
    Some(if range.start < range.end { Wanted::Part(range) } else { Wanted::Beyond })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_inside_the_file_or_refused_or_ignored() {
        for (range, expected) in [
            ("0-0", Some(Wanted::Part(0..1))),
            ("2-4", Some(Wanted::Part(2..5))),
            ("2-", Some(Wanted::Part(2..10))),
            ("-3", Some(Wanted::Part(7..10))),
            ("-30", Some(Wanted::Part(0..10))),
            ("9-18446744073709551615", Some(Wanted::Part(9..10))),
            ("10-", Some(Wanted::Beyond)),
            ("10-20", Some(Wanted::Beyond)),
            ("-0", Some(Wanted::Beyond)),
            ("4-2", None),
            ("1-2,4-5", None),
            ("+1-2", None),
            ("-", None),
            ("", None),
            ("a-b", None),
        ] {
            assert_eq!(part(range, 10), expected, "{range}");
        }
        assert_eq!(part("0-", 0), Some(Wanted::Beyond));
    }
}
