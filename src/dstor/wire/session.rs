//! The JSON of upload sessions.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{BadAnswer, error_message, multipart_filename, said};
use crate::mirror::Cid;

/// What opens a session: `POST` to [`GET_UPLOAD_TOKEN`](super::GET_UPLOAD_TOKEN) (notes, clients).
#[derive(Serialize, Deserialize)]
pub struct Opening {
    /// How many requests with files will follow.
    pub chunks_number: u32,
    /// Where the files go; empty: to the root.
    #[serde(default)]
    pub folder_path: String,
}

/// How far a session is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Progress {
    /// It is at work, under this name.
    At(String),
    /// It has ended, and this is what it stored.
    Done(Listing),
    /// It failed; why, for a person.
    Error(String),
}

/// What a session says that it stored. The order says nothing, and a file that is not in it is not stored (ours).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Listing {
    /// `None`: no usable hash, or more than one.
    hashes: HashMap<String, Option<Cid>>,
}

impl Listing {
    /// The hash of the file that was sent as `name`. The service may give the name as it stood in the request, as it reads
    /// there, which is another one where the name itself looks escaped, or with a path before it (ours).
    #[must_use]
    pub fn hash(&self, name: &str) -> Option<&Cid> {
        let as_read = || name.replace("%22", "\"").replace("%0D", "\r").replace("%0A", "\n");
        let found = self.hashes.get(name).or_else(|| self.hashes.get(&multipart_filename(name)));
        found.or_else(|| self.hashes.get(&as_read())).and_then(Option::as_ref)
    }

    fn add(&mut self, name: &str, hash: Option<Cid>) {
        // A name that was sent has no slash.
        let name = name.rsplit('/').next().unwrap_or(name).to_owned();
        let known = self.hashes.entry(name).or_insert_with(|| hash.clone());
        if *known != hash {
            *known = None;
        }
    }
}

/// The upload token in the answer to an [`Opening`].
///
/// # Errors
/// [`BadAnswer`]: there is no session.
pub fn upload_token(answer: &[u8]) -> Result<String, BadAnswer> {
    #[derive(Deserialize)]
    struct Opened {
        #[serde(alias = "upload_token")]
        token: String,
    }
    let answer: Value = serde_json::from_slice(answer).map_err(|_| BadAnswer::NotDstor)?;
    let opened: Opened = serde_json::from_value(answer).map_err(|_| BadAnswer::Useless("it has no upload token"))?;
    let is_sendable = !opened.token.is_empty() && opened.token.bytes().all(|b| b.is_ascii_graphic());
    if is_sendable { Ok(opened.token) } else { Err(BadAnswer::Useless("its upload token cannot be sent")) }
}

/// Whether this is an answer of dStor's at all.
///
/// # Errors
/// [`BadAnswer::NotDstor`].
pub fn is_json(answer: &[u8]) -> Result<(), BadAnswer> {
    serde_json::from_slice::<serde::de::IgnoredAny>(answer).map(drop).map_err(|_| BadAnswer::NotDstor)
}

/// How far a session is, by the answer to `GET` of [`GET_UPLOAD_STATUS`](super::GET_UPLOAD_STATUS). States other than
/// `DONE` and `ERROR` are no more than names (notes, clients).
///
/// # Errors
/// [`BadAnswer`]: nobody knows.
pub fn session_progress(answer: &[u8]) -> Result<Progress, BadAnswer> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Status {
        #[serde(alias = "Status")]
        status: String,
        #[serde(default, alias = "Data")]
        data: Value,
        #[serde(default)]
        error_explanation: Value,
        #[serde(default)]
        error_at_stage: Value,
    }
    let answer: Value = serde_json::from_slice(answer).map_err(|_| BadAnswer::NotDstor)?;
    let status: Status = serde_json::from_value(answer).map_err(|_| BadAnswer::Useless("it has no status"))?;
    Ok(match status.status.to_ascii_uppercase().as_str() {
        "DONE" => Progress::Done(listing(&status.data)),
        "ERROR" => {
            let words = [&status.error_explanation, &status.error_at_stage].map(|value| value.as_str().unwrap_or(""));
            Progress::Error(
                words.map(said).into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(", at "),
            )
        }
        _ => Progress::At(said(&status.status)),
    })
}

fn listing(data: &Value) -> Listing {
    #[derive(Deserialize)]
    struct Entry {
        #[serde(alias = "Name")]
        name: String,
        #[serde(default, alias = "Hash")]
        hash: Value,
    }
    let mut listing = Listing::default();
    for entry in data.as_array().into_iter().flatten() {
        let Ok(Entry { name, hash }) = Entry::deserialize(entry) else { continue };
        listing.add(&name, hash.as_str().and_then(|hash| Cid::parse(hash).ok()));
    }
    listing
}

/// Whether a refusal is for want of an upload token: the service takes files in sessions only (ours).
#[must_use]
pub fn wants_upload_token(answer: &[u8]) -> bool {
    let words: String = error_message(answer).chars().filter(char::is_ascii_alphanumeric).collect();
    words.to_ascii_lowercase().contains("uploadtoken")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "QmT78zSuBmuS4z925WZfrqQ1qHaJ56DQaTfyMUF7F8ff5o";
    const OTHER: &str = "QmVjXB8W3B1aEBwTRLiu2MqHmiV6mUzDfrUuYEM5G5LWHn";

    fn done(data: &str) -> Listing {
        match session_progress(format!(r#"{{"status":"DONE","data":{data}}}"#).as_bytes()) {
            Ok(Progress::Done(listing)) => listing,
            other => panic!("{other:?}"),
        }
    }

    fn hash(listing: &Listing, name: &str) -> Option<String> {
        listing.hash(name).map(ToString::to_string)
    }

    // E23
    #[test]
    fn any_state_but_two_is_just_a_name() {
        let at = |text: &str| session_progress(text.as_bytes());
        assert_eq!(at(r#"{"status":"ADDING_TO_IPFS"}"#), Ok(Progress::At("ADDING_TO_IPFS".into())));
        assert_eq!(at(r#"{"status":"\u001b[31m","new":1}"#), Ok(Progress::At(r"\u{1b}[31m".into())));
        assert_eq!(at(r#"{"status":"done"}"#), Ok(Progress::Done(Listing::default())));
        let error = r#"{"status":"ERROR","errorExplanation":"no\u001b room","errorAtStage":"SAVING_DATA"}"#;
        assert_eq!(at(error), Ok(Progress::Error(r"no\u{1b} room, at SAVING_DATA".into())));
        assert_eq!(at(r#"{"status":"ERROR"}"#), Ok(Progress::Error(String::new())));
        assert_eq!(at("<html>"), Err(BadAnswer::NotDstor));
        for useless in ["{}", "[]", "null", r#"{"status":7}"#] {
            assert!(matches!(at(useless), Err(BadAnswer::Useless(_))), "{useless}");
        }
    }

    // E24
    #[test]
    fn files_are_found_by_name_and_what_is_not_sure_is_not_there() {
        let entry = |name: &str, hash: &str| serde_json::json!({ "Name": name, "Hash": hash }).to_string();
        let data = [
            entry("b", OTHER),
            entry("a", HASH),
            entry("dir/below", HASH),
            entry("a%22b", HASH),
            entry("c\"d\r", HASH),
            entry("twice", HASH),
            entry("twice", OTHER),
            entry("same", HASH),
            entry("same", HASH),
            entry("empty", ""),
            entry("bad", "../../etc/passwd"),
            r#"{"name":"lower","hash":7},{"Name":"none"},{"Hash":"x"},7"#.to_owned(),
        ];
        let listing = done(&format!("[{}]", data.join(",")));
        for name in ["a", "below", "a\"b", "c%22d%0D", "same"] {
            assert_eq!(hash(&listing, name).as_deref(), Some(HASH), "{name}");
        }
        assert_eq!(hash(&listing, "b").as_deref(), Some(OTHER));
        for name in ["twice", "empty", "bad", "lower", "none", "missing", "dir"] {
            assert_eq!(hash(&listing, name), None, "{name}");
        }
        for nothing in ["null", "{}", "7", "\"x\""] {
            assert_eq!(done(nothing), Listing::default());
        }
    }

    #[test]
    fn an_upload_token_is_text_that_a_header_carries() {
        assert_eq!(upload_token(br#"{"message":"ok","token":"t1"}"#), Ok("t1".into()));
        assert_eq!(upload_token(br#"{"upload_token":"t2"}"#), Ok("t2".into()));
        assert_eq!(upload_token(b"<html>"), Err(BadAnswer::NotDstor));
        for useless in ["{}", r#"{"token":""}"#, r#"{"token":7}"#, r#"{"token":"a\r\nb"}"#, r#"{"token":"a b"}"#] {
            assert!(matches!(upload_token(useless.as_bytes()), Err(BadAnswer::Useless(_))), "{useless}");
        }
    }

    proptest::proptest! {
        #[test]
        fn every_name_is_found_under_its_own_or_its_sent_form(name in "[^/\u{0}]{1,20}", as_sent: bool) {
            let told = if as_sent { multipart_filename(&name) } else { name.clone() };
            let entry = serde_json::json!([{ "Name": told, "Hash": HASH }]);
            let found = hash(&done(&entry.to_string()), &name);
            proptest::prop_assert_eq!(found.as_deref(), Some(HASH));
        }
    }
}
