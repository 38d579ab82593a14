//! Fuzz targets: whatever a service, or what answers in its place, may say.

use std::time::{Duration, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::wire;
use crate::mirror::fuzz::{is_inert, weave};
use crate::mirror::{Cid, CidBuilder, Fault, Verdict};

const JSON: [&str; 28] = [
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "\"",
    "{\"hash\":\"",
    "\"Hash\":",
    "\"message\":",
    "{\"error\":",
    "{\"detail\":\"",
    "\"}",
    "null",
    "true",
    "7",
    "-1e999",
    "\\u001b",
    "\\u202e",
    "\\ud800",
    "\u{1b}]0;x\u{7}",
    "\u{9b}31m",
    "é",
    "\"Name\":\"a\",",
    "QmT78zSuBmuS4z925WZfrqQ1qHaJ56DQaTfyMUF7F8ff5o",
    "../",
    "<html>",
    "{\"hash\":\"QmT78zSuBmuS4z925WZfrqQ1qHaJ56DQaTfyMUF7F8ff5o\"}",
];

#[test]
fn fuzz_an_answer_is_a_hash_that_it_holds_or_no_success() {
    bolero::check!().for_each(|bytes: &[u8]| {
        let text = weave(bytes, &JSON);
        for answer in [bytes, text.as_bytes()] {
            let parsed: Option<Value> = serde_json::from_slice(answer).ok();
            match (wire::uploaded_hash(answer), &parsed) {
                (Ok(cid), Some(parsed)) => {
                    let said = [&parsed["hash"], &parsed["Hash"]];
                    assert!(said.iter().any(|hash| hash.as_str() == Some(cid.as_str())), "{cid} of {text:?}");
                }
                (Err(wire::BadAnswer::NotDstor), None) | (Err(wire::BadAnswer::Useless(_)), Some(_)) => {}
                (other, _) => panic!("{other:?} of {text:?}"),
            }
        }
        // Among any other fields, either spelling is found.
        let mut builder = CidBuilder::new();
        builder.update(bytes);
        let cid: Cid = builder.finish();
        for field in ["hash", "Hash"] {
            let answer = json!({ "Name": text, "new": [text], field: cid.as_str(), "Size": "7" }).to_string();
            assert_eq!(wire::uploaded_hash(answer.as_bytes()).as_ref(), Ok(&cid));
        }
    });
}

#[test]
fn fuzz_what_a_server_says_is_cut_and_inert() {
    bolero::check!().for_each(|bytes: &[u8]| {
        let text = weave(bytes, &JSON);
        for answer in [bytes, text.as_bytes(), json!({ "message": text }).to_string().as_bytes()] {
            let message = wire::error_message(answer);
            assert!(is_inert(&message), "{message:?}");
            // 200 characters, each of which may be written as `\u{10ffff}`.
            assert!(message.chars().count() <= 200 * 10, "{} characters", message.chars().count());
        }
        if text.chars().all(|c| c == ' ' || c.is_ascii_graphic()) {
            let said: String = text.chars().take(200).collect();
            assert_eq!(wire::error_message(json!({ "error": text }).to_string().as_bytes()), said);
        }
    });
}

#[test]
fn fuzz_a_tokens_claims_are_those_that_it_was_made_with() {
    bolero::check!().with_type::<(Option<i64>, i64, i64, Vec<u8>)>().for_each(|(iat, exp, now, junk)| {
        let payload = match iat {
            Some(iat) => json!({ "iat": iat, "exp": exp, "sub": weave(junk, &JSON) }),
            None => json!({ "exp": exp }),
        };
        let token = format!("e30.{}.{}", URL_SAFE_NO_PAD.encode(payload.to_string()), weave(junk, &["x", "_", "="]));
        let claims = wire::Claims::of(&token).expect("a token");
        assert_eq!((claims.iat, claims.exp), (*iat, *exp));
        let lives = i128::from(*exp) - i128::from(iat.unwrap_or(*now));
        let most = i128::from(i64::MAX);
        assert_eq!(i128::from(claims.lifetime(*now).as_secs()), lives.clamp(0, most));
        if let Some(claims) = wire::Claims::of(&weave(junk, &[".", "e30", "eyJleHAiOjF9", "="])) {
            let _ = claims.lifetime(*now);
        }
    });
}

#[test]
fn fuzz_a_wait_that_a_server_asks_for_is_what_it_said_and_never_endless() {
    const WORDS: [&str; 12] = [
        "0",
        "7",
        "120",
        "99999999999999999999",
        " ",
        "-",
        "+",
        ".5",
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
        "é",
    ];
    bolero::check!().with_type::<(Vec<u8>, Vec<u8>, i64, u32, u16)>().for_each(|(value, date, now, base, wait)| {
        let (value, date) = (weave(value, &WORDS), weave(date, &WORDS));
        for date in [None, Some(date.as_str())] {
            let after = wire::retry_after(&value, date, *now);
            assert!(after.is_none_or(|wait| !wait.is_zero()), "{value:?}");
            if let (Ok(seconds), true) = (value.trim().parse::<u64>(), after.is_some()) {
                assert_eq!(after, Some(Duration::from_secs(seconds)));
            }
            if let Verdict::Retry(Some(wait)) = (Fault::Busy { status: 429, after }).verdict(1) {
                assert!(wait <= Fault::LONGEST_RETRY_AFTER);
            }
        }
        // A date counts from the server's own clock, or from ours.
        let from = UNIX_EPOCH + Duration::from_secs(u64::from(*base));
        let at = httpdate::fmt_http_date(from + Duration::from_secs(u64::from(*wait)));
        let wanted = (*wait > 0).then(|| Duration::from_secs(u64::from(*wait)));
        assert_eq!(wire::retry_after(&at, Some(&httpdate::fmt_http_date(from)), *now), wanted);
        assert_eq!(wire::retry_after(&at, None, i64::from(*base)), wanted);
    });
}

const NAMES: [&str; 16] =
    ["/", "%", "%C3%A9", "%25", "%c3%a9", "%20", "%zz", "é", "日本", " ", "\r\n", "\"", "%22", "\\", "a", "\u{1b}"];

#[test]
fn fuzz_directories_travel_in_printable_ascii_and_come_back_the_same() {
    bolero::check!().for_each(|bytes: &[u8]| {
        let path = weave(bytes, &NAMES);
        let header = wire::folder_path_header(&path);
        assert!(header.bytes().all(|b| matches!(b, 0x20..=0x7e)) && header.trim() == header, "{header:?}");
        // What comes back the same cannot be the same as that of another one (B19).
        assert_eq!(wire::header_text(&header), path);
    });
}

#[test]
fn fuzz_a_file_name_never_leaves_its_quotes() {
    bolero::check!().for_each(|bytes: &[u8]| {
        let name = weave(bytes, &NAMES);
        let sent = wire::multipart_filename(&name);
        assert!(!sent.contains(['"', '\r', '\n']), "{sent:?}");
        assert_eq!(
            sent.replace("%22", "\"").replace("%0D", "\r").replace("%0A", "\n"),
            name.replace("%22", "\"").replace("%0D", "\r").replace("%0A", "\n")
        );
        let head = wire::Framing::new([name.as_str()], "B").heads.remove(0);
        assert_eq!(head.windows(2).filter(|two| two == b"\r\n").count(), 4, "a name adds a line");
    });
}
