//! What goes over the wire: paths, headers, JSON and multipart framing, each with its source.
//!
//! Sources, from sure to unsure: *tutorial* (the product's public tutorial), *notes* (its public API notes of 2022 and
//! developer pages of 2023), *clients* (seen alike in several independent public clients), *ours* (our reading). What is
//! *ours* may be otherwise, and the client has to cope.

mod session;

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::mirror::Cid;

pub use session::{Listing, Opening, Progress, is_json, session_progress, upload_token, wants_upload_token};

/// Swaps credentials for an access token: `GET` with an API key, `POST` with a [`Login`] (tutorial).
pub const TEMP_TOKEN: &str = "/v1/dev/temp-token";
/// Takes files; the slash at the end belongs to it (clients).
pub const UPLOAD: &str = "/v1/upload/";
/// Opens an upload session (notes, clients).
pub const GET_UPLOAD_TOKEN: &str = "/v1/upload/get-token/";
/// Tells how far a session is (notes, clients).
pub const GET_UPLOAD_STATUS: &str = "/v1/upload/get-status/";
/// Files by their hash; asks for no token (tutorial).
pub const IPFS: &str = "/ipfs/";

/// The API key, under the name that clients and examples send (notes, clients).
pub const API_KEY: &str = "api-key";
/// The API key, under the name that the prose gives (tutorial). Both are sent.
pub const X_API_KEY: &str = "x-api-key";
/// When the token shall expire: whole seconds since 1970 (notes, clients).
pub const EXPIRATION: &str = "x-expiration";
/// The directory by its path (tutorial). Never together with [`PARENT_ID`].
pub const FOLDER_PATH: &str = "x-dstor-folder-path";
/// The directory by its number; `0` is the root (tutorial, clients).
pub const PARENT_ID: &str = "x-dstor-parent-id";
/// Text that is kept with the file (tutorial).
pub const COMMENT: &str = "x-dstor-comment";
/// The session that an upload belongs to (notes).
pub const UPLOAD_TOKEN: &str = "x-dstor-upload-token";

/// The name of the file's form field. The service does not mind (notes, clients).
pub const FIELD: &str = "file";
/// Longest answer that is read, in bytes: an endless one must not fill the memory.
pub const LONGEST_ANSWER: usize = 1024 * 1024;
/// Longest server message that is kept, in characters.
const LONGEST_MESSAGE: usize = 200;

/// E-mail and password, swapped for a token by `POST` (tutorial; the fields' names from clients).
#[derive(Serialize, Deserialize)]
pub struct Login {
    /// The account's e-mail address.
    pub email: String,
    /// Its password.
    pub password: String,
}

/// The answer with an access token (notes, clients).
#[derive(Serialize, Deserialize)]
pub struct TempToken {
    /// A JWT; goes with requests as `Authorization: Bearer …`.
    pub access_token: String,
}

/// What a token says of its own life. Read without verifying the signature: only the service can do that.
#[derive(Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claims {
    /// Expires at, in seconds since 1970 by the service's clock.
    pub exp: i64,
    /// Issued at, in seconds since 1970 by the service's clock.
    pub iat: Option<i64>,
}

impl Claims {
    /// The claims in a JWT; `None` if this is no JWT, which is no error: such a token is used until it is refused (ours).
    #[must_use]
    pub fn of(token: &str) -> Option<Self> {
        let payload = token.split('.').nth(1)?;
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?).ok()
    }

    /// How long the token lives from when it was issued. `now` (seconds since 1970) stands in where it does not say.
    #[must_use]
    pub fn lifetime(&self, now: i64) -> Duration {
        let issued = self.iat.unwrap_or(now);
        Duration::from_secs(u64::try_from(self.exp.saturating_sub(issued)).unwrap_or(0))
    }
}

/// The answer to a stored upload: `hash` (tutorial) or `Hash` (clients), among other fields that do not matter.
#[derive(Deserialize)]
struct Uploaded {
    #[serde(alias = "Hash")]
    hash: Option<serde_json::Value>,
}

/// Why an answer with a good status is no success all the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BadAnswer {
    /// No JSON at all: a sign-in page, a proxy, anything but the service.
    NotDstor,
    /// JSON, but not what was asked for; what is wrong, for a person. It repeats nothing that the server sent.
    Useless(&'static str),
}

/// The hash in the answer to an upload.
///
/// # Errors
/// [`BadAnswer`]: the file is not stored.
pub fn uploaded_hash(answer: &[u8]) -> Result<Cid, BadAnswer> {
    let answer: serde_json::Value = serde_json::from_slice(answer).map_err(|_| BadAnswer::NotDstor)?;
    let answer: Uploaded = serde_json::from_value(answer).map_err(|_| BadAnswer::Useless("it has no hash"))?;
    match answer.hash {
        Some(serde_json::Value::String(hash)) => {
            Cid::parse(&hash).map_err(|_| BadAnswer::Useless("its hash is no IPFS hash"))
        }
        Some(_) => Err(BadAnswer::Useless("its hash is not text")),
        None => Err(BadAnswer::Useless("it has no hash")),
    }
}

/// What an error answer says in words, cut short and with everything escaped that could act on a terminal.
#[must_use]
pub fn error_message(answer: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Error {
        #[serde(alias = "error", alias = "detail")]
        message: serde_json::Value,
    }
    let Ok(Error { message: serde_json::Value::String(text) }) = serde_json::from_slice(answer) else {
        return String::new();
    };
    said(&text)
}

/// What a server says, cut short and with everything escaped that could act on a terminal.
fn said(text: &str) -> String {
    let mut out = String::new();
    let cut: String = text.chars().take(LONGEST_MESSAGE).collect();
    // Writing to a String cannot fail.
    let _ = crate::mirror::escape(cut.as_bytes(), &mut out);
    out
}

/// A directory's path as the value of [`FOLDER_PATH`]: as it is where it is plain printable ASCII without a blank at
/// either end, else percent-encoded UTF-8 (ours: HTTP headers carry no Unicode).
///
/// A plain path that reads like an encoded one (`%C3%A9`, a directory of that very name) is encoded as well: no two
/// paths have the same value.
#[must_use]
pub fn folder_path_header(path: &str) -> String {
    if is_encoded(path) { percent_encode(path) } else { path.to_owned() }
}

/// The text that [`folder_path_header`] or [`comment_header`] made `value` of.
#[must_use]
pub fn header_text(value: &str) -> String {
    decoded(value).unwrap_or_else(|| value.to_owned())
}

/// Whether `text` travels encoded.
fn is_encoded(text: &str) -> bool {
    let is_plain = text.bytes().all(|b| matches!(b, 0x20..=0x7e)) && text.trim() == text;
    !is_plain || decoded(text).is_some()
}

/// What `value` is the encoding of; `None` if it is a text that travels as it is.
fn decoded(value: &str) -> Option<String> {
    // Blanks are encoded where anything is.
    let text = percent_decode(value).filter(|text| text.len() < value.len() && !value.contains(' '))?;
    is_encoded(&text).then_some(text)
}

/// `None` if some `%` is not followed by two digits, or what comes out is not UTF-8.
fn percent_decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            out.push(*first);
            continue;
        }
        let [high, low, after @ ..] = rest else { return None };
        let digit = |b: u8| char::from(b).to_digit(16);
        out.push(u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()?);
        rest = after;
    }
    String::from_utf8(out).ok()
}

/// A comment as the value of [`COMMENT`]: the same rule as for paths.
#[must_use]
pub fn comment_header(comment: &str) -> String {
    folder_path_header(comment)
}

fn percent_encode(text: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(text.len() * 3);
    for byte in text.bytes() {
        if matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/') {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// A file's name inside `filename="…"`, as browsers' `FormData` writes it: `"`, CR and LF percent-encoded, everything
/// else raw UTF-8, and no `filename*` (clients).
#[must_use]
pub fn multipart_filename(name: &str) -> String {
    crate::mirror::sent_name(name)
}

/// What stands before, between and after the files' bytes in a `multipart/form-data` body with one part a file.
pub struct Framing {
    /// The body's `Content-Type`.
    pub content_type: String,
    /// Before each file's bytes.
    pub heads: Vec<Vec<u8>>,
    /// After the last file's. Until it is sent, the service has no whole body and stores nothing.
    pub tail: Vec<u8>,
}

impl Framing {
    /// Frames files with these names. `boundary` must not occur in any: 32 random characters do not.
    #[must_use]
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>, boundary: &str) -> Self {
        let head = |(at, name): (usize, &str)| {
            let (end, name) = (if at == 0 { "" } else { "\r\n" }, multipart_filename(name));
            format!(
                "{end}--{boundary}\r\nContent-Disposition: form-data; name=\"{FIELD}\"; filename=\"{name}\"\r\n\
                 Content-Type: application/octet-stream\r\n\r\n"
            )
        };
        Self {
            content_type: format!("multipart/form-data; boundary={boundary}"),
            heads: names.into_iter().enumerate().map(head).map(String::into_bytes).collect(),
            tail: format!("\r\n--{boundary}--\r\n").into_bytes(),
        }
    }

    /// The body's length for files of `file_bytes` altogether.
    #[must_use]
    pub fn body_bytes(&self, file_bytes: u64) -> u64 {
        let heads: u64 = self.heads.iter().map(|head| head.len() as u64).sum();
        file_bytes + heads + self.tail.len() as u64
    }
}

/// `Retry-After`: seconds, or an HTTP date counted from the answer's own `Date` (or `now`, seconds since 1970).
/// Garbage and dates that have passed are `None`.
#[must_use]
pub fn retry_after(value: &str, date: Option<&str>, now: i64) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return (seconds > 0).then(|| Duration::from_secs(seconds));
    }
    let at = httpdate::parse_http_date(value).ok()?;
    let from = date
        .and_then(|date| httpdate::parse_http_date(date).ok())
        .unwrap_or_else(|| std::time::UNIX_EPOCH + Duration::from_secs(u64::try_from(now).unwrap_or(0)));
    at.duration_since(from).ok().filter(|wait| !wait.is_zero())
}

/// The time in an answer's `Date`, in seconds since 1970.
#[must_use]
pub fn date(value: &str) -> Option<i64> {
    let at = httpdate::parse_http_date(value.trim()).ok()?;
    i64::try_from(at.duration_since(std::time::UNIX_EPOCH).ok()?.as_secs()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "QmT78zSuBmuS4z925WZfrqQ1qHaJ56DQaTfyMUF7F8ff5o";

    #[test]
    fn a_hash_is_found_under_either_spelling_among_unknown_fields() {
        for answer in
            [format!(r#"{{"hash":"{HASH}"}}"#), format!(r#"{{"Name":"a","Hash":"{HASH}","Size":"12","new":[1]}}"#)]
        {
            assert_eq!(uploaded_hash(answer.as_bytes()).map(|cid| cid.to_string()), Ok(HASH.to_owned()));
        }
    }

    // E2, E17
    #[test]
    fn an_answer_without_a_usable_hash_is_a_failed_upload() {
        for answer in ["", "<html>Sign in to the hotel's network</html>", "{\"hash\":"] {
            assert_eq!(uploaded_hash(answer.as_bytes()), Err(BadAnswer::NotDstor), "{answer}");
        }
        for answer in [
            "null",
            "[]",
            "{}",
            r#"{"hash":null}"#,
            r#"{"hash":""}"#,
            r#"{"hash":7}"#,
            r#"{"hash":"../../etc/passwd"}"#,
        ] {
            assert!(matches!(uploaded_hash(answer.as_bytes()), Err(BadAnswer::Useless(_))), "{answer}");
        }
    }

    // B16
    #[test]
    fn names_travel_as_browsers_send_them() {
        assert_eq!(multipart_filename("a\"b\r\nc\\d é %22"), "a%22b%0D%0Ac\\d é %22");
        let framing = Framing::new(["a", "x\r\n\""], "B");
        let head = String::from_utf8(framing.heads[1].clone()).expect("UTF-8");
        assert_eq!(head.matches("\r\n").count(), 5, "a name adds no line: {head:?}");
    }

    #[test]
    fn only_paths_that_headers_cannot_carry_are_encoded() {
        assert_eq!(folder_path_header("Documents/a b (1)%20"), "Documents/a b (1)%20");
        assert_eq!(folder_path_header("Bücher/100%"), "B%C3%BCcher/100%25");
        assert_eq!(folder_path_header("a/b "), "a/b%20");
        assert_eq!(folder_path_header("a\r\nx-dstor-parent-id: 0"), "a%0D%0Ax-dstor-parent-id%3A%200");
        // B19: the directory of that name, and one whose encoding it is.
        assert_eq!(folder_path_header("%C3%A9"), "%25C3%25A9");
        assert_eq!(folder_path_header("é"), "%C3%A9");
        for text in ["é", "%C3%A9", "%c3%a9", "%25C3%25A9", "a b", "a ", "100%", "%20", "%41", "", "%0A", "ü %41"] {
            assert_eq!(header_text(&folder_path_header(text)), text);
        }
    }

    #[test]
    fn a_tokens_life_is_read_without_trusting_this_machines_clock() {
        let payload = URL_SAFE_NO_PAD.encode(r#"{"iat":1000,"exp":4600,"aud":"dstor.cloud","sub":"x"}"#);
        let claims = Claims::of(&format!("e30.{payload}.sig")).expect("a JWT");
        assert_eq!(claims.lifetime(9_999_999), Duration::from_secs(3600));
        for none in ["", "abc", "a.b.c", "..", "e30.e30.x"] {
            assert_eq!(Claims::of(none), None, "{none:?}");
        }
    }

    // E15
    #[test]
    fn retry_after_is_seconds_or_a_date_and_never_garbage() {
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        let later = "Sun, 06 Nov 1994 08:50:37 GMT";
        assert_eq!(retry_after(" 7 ", None, 0), Some(Duration::from_secs(7)));
        assert_eq!(retry_after(later, Some(date), 0), Some(Duration::from_secs(60)));
        assert_eq!(retry_after(date, Some(later), 0), None);
        assert_eq!(retry_after(date, None, 784_111_777 - 5), Some(Duration::from_secs(5)));
        for garbage in ["", "soon", "-1", "1.5", "0", "99999999999999999999999"] {
            assert_eq!(retry_after(garbage, None, 0), None, "{garbage:?}");
        }
    }

    #[test]
    fn a_date_is_read_in_all_forms_that_http_has() {
        for text in ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", " Sun Nov  6 08:49:37 1994 "] {
            assert_eq!(date(text), Some(784_111_777), "{text}");
        }
        assert_eq!(date("yesterday"), None);
    }

    // B17
    #[test]
    fn what_a_server_says_cannot_act_on_a_terminal() {
        assert_eq!(error_message(b"{\"message\":\"no \\u001b[31mquota\"}"), r"no \u{1b}[31mquota");
        assert_eq!(error_message(b"<html>"), "");
        let long = format!("{{\"error\":\"{}\"}}", "x".repeat(100_000));
        assert_eq!(error_message(long.as_bytes()).len(), LONGEST_MESSAGE);
    }
}
