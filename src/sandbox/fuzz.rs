//! Fuzz targets: what the sandbox reads, and what the agent writes for it to read.

use bytes::Bytes;

use super::misbehave::{BadMisbehaviour, Misbehaviour};
use super::multipart::{Event, Malformed, Splitter};
use crate::dstor::wire::Framing;
use crate::mirror::fuzz::weave;

type Parts = Vec<(Option<String>, Vec<u8>)>;

/// Longest head of a part, in bytes, with a boundary's worth beside it.
const MOST_KEPT: usize = 16 * 1024 + 80;

/// The parts of `body` fed in pieces of `step` bytes; `None` as long as it has not ended.
fn parts(body: &[u8], step: usize) -> Result<Option<Parts>, Malformed> {
    let mut splitter = Splitter::for_content_type("multipart/form-data; boundary=B")?;
    let (mut pieces, mut fed, mut given) = (body.chunks(step), 0, 0);
    let mut parts = Parts::new();
    loop {
        match splitter.next()? {
            Event::Hungry => match pieces.next() {
                Some(piece) => {
                    fed += piece.len();
                    splitter.feed(Bytes::copy_from_slice(piece));
                }
                None => return Ok(None),
            },
            Event::Part(head) => {
                // Whatever was fed before this head has been given out, or is a head or a boundary.
                assert!(fed <= given + MOST_KEPT * (parts.len() + 1) + step, "{fed} bytes for {given}");
                parts.push((head.filename, Vec::new()));
            }
            Event::Data(bytes) => {
                assert!(!bytes.is_empty(), "data without bytes");
                given += bytes.len();
                parts.last_mut().expect("data comes after a head").1.extend_from_slice(&bytes);
            }
            Event::Ended => return Ok(Some(parts)),
        }
    }
}

const BODY: [&str; 16] = [
    "--B",
    "\r\n",
    "\r\n--B",
    "\r\n--B--",
    "--",
    "\r\n\r\n",
    "Content-Disposition: form-data; filename=\"",
    "\"",
    ";",
    "form-data",
    "name=",
    "filename=",
    "%22",
    "x",
    "é",
    "\r",
];

#[test]
fn fuzz_a_body_means_the_same_however_it_is_cut() {
    bolero::check!().for_each(|bytes: &[u8]| {
        let woven = weave(bytes, &BODY);
        let begun = format!("--B\r\nContent-Disposition: form-data; filename=\"a\"\r\n\r\n{woven}");
        for body in [bytes, woven.as_bytes(), begun.as_bytes()] {
            let whole = parts(body, body.len().max(1));
            for step in [1, 2, 7, 61] {
                assert_eq!(parts(body, step), whole, "cut every {step}: {woven:?}");
            }
            for (name, _) in whole.ok().flatten().into_iter().flatten() {
                assert!(name.is_none_or(|name| !name.contains('\0')), "a name holds NUL");
            }
        }
    });
}

#[test]
fn fuzz_what_the_agent_frames_is_what_the_sandbox_reads() {
    bolero::check!().with_type::<(Vec<u8>, Vec<u8>, u8)>().for_each(|(name, content, step)| {
        let name = weave(name, &["\"", "\r", "\n", "%", "\\", ";", "é", "日本", "filename=", "--B", "a", " "])
            .replace('\0', "0");
        let content = [content.as_slice(), weave(content, &BODY).as_bytes()].concat();
        // The one thing that cannot be framed is the boundary itself: it is 32 characters of chance where it counts.
        if content.windows(5).any(|five| five == b"\r\n--B") || name.len() > 4096 {
            return;
        }
        let framing = Framing::new([name.as_str()], "B");
        let body = [framing.heads[0].as_slice(), &content, &framing.tail].concat();
        assert_eq!(body.len() as u64, framing.body_bytes(content.len() as u64));
        let came_out = name.replace("%22", "\"").replace("%0D", "\r").replace("%0A", "\n");
        let expected = vec![(Some(came_out), content.clone())];
        assert_eq!(parts(&body, 1 + usize::from(*step)), Ok(Some(expected)));
        // Without its end it is no body.
        let cut = body.len() - 3 - usize::from(*step) % (body.len() - 3);
        assert!(!matches!(parts(&body[..cut], 97), Ok(Some(_))), "cut at {cut} of {} it ends", body.len());
    });
}

#[test]
fn fuzz_a_rule_of_misbehaviour_means_what_it_says_and_reads_as_it_is_written() {
    const PHASES: [&str; 6] = ["token", "get-token", "upload", "chunk", "status", "read"];
    const FAULTS: [&str; 12] = [
        "200",
        "503",
        "999",
        "503 retry-after=7",
        "429 retry-after=Sun, 06 Nov 1994 08:49:37 GMT",
        "html",
        "no-hash",
        "stall",
        "slow=1000",
        "redirect=http://a/x3",
        "flip-bit",
        "truncated-json",
    ];
    const WORDS: [&str; 9] = ["upload", " ", " x3", "x", " name=", "=", "7", "\t", "\u{1b}"];
    bolero::check!().with_type::<(u8, u8, Option<u32>, Option<Vec<u8>>)>().for_each(|(phase, fault, times, name)| {
        let (phase, fault) = (PHASES[usize::from(*phase) % 6], FAULTS[usize::from(*fault) % 12]);
        let name = name.as_ref().map(|name| weave(name, &WORDS));
        let mut text = format!("{phase} {fault}");
        text.extend(times.map(|times| format!(" x{times}")));
        text.extend(name.as_ref().map(|name| format!(" name={name}")));
        match text.parse::<Misbehaviour>() {
            Ok(rule) => {
                assert_eq!(
                    (rule.times, &rule.matching, rule.phase.to_string().as_str()),
                    (*times, &name, phase),
                    "{text:?}"
                );
                assert_eq!((rule.fault.to_string().as_str(), rule.to_string().as_str()), (fault, text.as_str()));
                assert_eq!(rule.to_string().parse().as_ref(), Ok(&rule));
            }
            Err(error) => {
                assert!(matches!(error, BadMisbehaviour::Senseless(..) | BadMisbehaviour::Name), "{text:?}: {error}")
            }
        }
        // Without sense, it is refused or it reads as it is written.
        if let Some(Ok(rule)) = name.map(|name| name.parse::<Misbehaviour>()) {
            assert_eq!(rule.to_string().parse().as_ref(), Ok(&rule));
        }
    });
}
