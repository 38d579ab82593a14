//! Reads `multipart/form-data` as it arrives: small, strict, and without buffering files.
//!
//! It does no I/O: the caller feeds it what came in and asks what that was. It is written by hand because a service has
//! to take every name that a file can have, and common readers drop names that end in a backslash and refuse control
//! characters. What stands before the first boundary or between a boundary and its line's end is refused, not skipped.

use bytes::{Bytes, BytesMut};
use memchr::memmem::Finder;

/// Longest head of a part, in bytes.
const LONGEST_HEAD: usize = 16 * 1024;
/// Longest boundary, in characters (RFC 2046, 5.1.1).
const LONGEST_BOUNDARY: usize = 70;

/// What the body turned out to hold next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// Nothing whole yet: feed more.
    Hungry,
    /// A part begins, and the one before it is complete.
    Part(PartHead),
    /// The part's next bytes, never none.
    Data(Bytes),
    /// The last part is complete. What follows in the body does not matter.
    Ended,
}

/// What a part says of itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PartHead {
    /// The file's name; `None` for a field that is no file.
    pub(super) filename: Option<String>,
}

/// What is wrong with a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    #[error("this is not multipart/form-data with a boundary of 1 to 70 characters")]
    NotMultipart,
    #[error("the body does not begin with its boundary")]
    NoBoundary,
    #[error("something follows a boundary on its line")]
    AfterBoundary,
    #[error("the head of a part is longer than 16 KiB")]
    LongHead,
    #[error("the head of a part cannot be read")]
    BadHead,
    #[error("a file name is not UTF-8")]
    NameNotUtf8,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Start,
    /// Behind a boundary, before the end of its line.
    Boundary,
    Data,
    Ended,
}

/// Finds the parts in a body. Keeps what was fed last and at most a part's head or a boundary from before.
pub(super) struct Splitter {
    /// CR LF, two dashes and the boundary.
    delimiter: Finder<'static>,
    unread: Bytes,
    state: State,
}

impl Splitter {
    /// A reader for a body with this `Content-Type`.
    pub(super) fn for_content_type(value: &str) -> Result<Self, Malformed> {
        let (kind, parameters) = value.split_once(';').ok_or(Malformed::NotMultipart)?;
        if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
            return Err(Malformed::NotMultipart);
        }
        let boundary =
            parameter(parameters.as_bytes(), b"boundary").ok().flatten().ok_or(Malformed::NotMultipart)?.to_owned();
        let plain = |b: &u8| b.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(b);
        if boundary.is_empty() || boundary.len() > LONGEST_BOUNDARY || !boundary.iter().all(plain) {
            return Err(Malformed::NotMultipart);
        }
        let mut delimiter = b"\r\n--".to_vec();
        delimiter.extend_from_slice(&boundary);
        // The first boundary has no line before it: a line end in front makes it one like the others.
        Ok(Self {
            delimiter: Finder::new(&delimiter).into_owned(),
            unread: Bytes::from_static(b"\r\n"),
            state: State::Start,
        })
    }

    /// Takes the body's next bytes.
    pub(super) fn feed(&mut self, piece: Bytes) {
        if self.unread.is_empty() {
            self.unread = piece;
        } else {
            let mut joined = BytesMut::with_capacity(self.unread.len() + piece.len());
            joined.extend_from_slice(&self.unread);
            joined.extend_from_slice(&piece);
            self.unread = joined.freeze();
        }
    }

    /// What comes next in the body.
    pub(super) fn next(&mut self) -> Result<Event, Malformed> {
        match self.state {
            State::Start => self.first_boundary(),
            State::Boundary => self.head(),
            State::Data => self.data(),
            State::Ended => {
                self.unread = Bytes::new();
                Ok(Event::Ended)
            }
        }
    }

    fn first_boundary(&mut self) -> Result<Event, Malformed> {
        let delimiter = self.delimiter.needle();
        let seen = self.unread.len().min(delimiter.len());
        if self.unread[..seen] != delimiter[..seen] {
            return Err(Malformed::NoBoundary);
        }
        if seen < delimiter.len() {
            return Ok(Event::Hungry);
        }
        self.skip_delimiter();
        self.head()
    }

    fn skip_delimiter(&mut self) {
        let _ = self.unread.split_to(self.delimiter.needle().len());
        self.state = State::Boundary;
    }

    fn head(&mut self) -> Result<Event, Malformed> {
        match *self.unread {
            [] | [b'\r'] | [b'-'] => return Ok(Event::Hungry),
            [b'-', b'-', ..] => {
                self.state = State::Ended;
                return self.next();
            }
            [b'\r', b'\n', ..] => {}
            _ => return Err(Malformed::AfterBoundary),
        }
        // From the boundary's own line end on, so that a head without any line is found as well.
        let window = &self.unread[..self.unread.len().min(LONGEST_HEAD)];
        let Some(end) = window.windows(4).position(|four| four == b"\r\n\r\n") else {
            return if window.len() < LONGEST_HEAD { Ok(Event::Hungry) } else { Err(Malformed::LongHead) };
        };
        let head = self.unread.split_to(end + 4);
        self.state = State::Data;
        Ok(Event::Part(PartHead { filename: filename(&head)? }))
    }

    fn data(&mut self) -> Result<Event, Malformed> {
        let ends = match self.delimiter.find(&self.unread) {
            Some(0) => {
                self.skip_delimiter();
                return self.head();
            }
            Some(at) => at,
            None => self.unread.len() - self.begun(),
        };
        Ok(if ends > 0 { Event::Data(self.unread.split_to(ends)) } else { Event::Hungry })
    }

    /// How many bytes at the end may be the beginning of a delimiter.
    fn begun(&self) -> usize {
        let delimiter = self.delimiter.needle();
        let most = self.unread.len().min(delimiter.len() - 1);
        let tail = &self.unread[self.unread.len() - most..];
        memchr::memchr_iter(b'\r', tail)
            .map(|at| most - at)
            .find(|length| tail.ends_with(&delimiter[..*length]))
            .unwrap_or(0)
    }
}

/// The file name in a part's head, which begins and ends with a line end.
fn filename(head: &[u8]) -> Result<Option<String>, Malformed> {
    let mut disposition = None;
    let mut rest = &head[2..head.len() - 2];
    while let Some(end) = rest.windows(2).position(|two| two == b"\r\n") {
        let line = &rest[..end];
        rest = &rest[end + 2..];
        if line.iter().any(|b| matches!(b, b'\r' | b'\n' | 0)) {
            return Err(Malformed::BadHead);
        }
        let colon = line.iter().position(|b| *b == b':').ok_or(Malformed::BadHead)?;
        if line[..colon].eq_ignore_ascii_case(b"content-disposition")
            && disposition.replace(line[colon + 1..].trim_ascii()).is_some()
        {
            return Err(Malformed::BadHead);
        }
    }
    let disposition = disposition.ok_or(Malformed::BadHead)?;
    let kind_ends = disposition.iter().position(|b| *b == b';').unwrap_or(disposition.len());
    let (kind, parameters) = disposition.split_at(kind_ends);
    if !kind.trim_ascii().eq_ignore_ascii_case(b"form-data") {
        return Err(Malformed::BadHead);
    }
    let Some(raw) = parameter(parameters, b"filename")? else { return Ok(None) };
    let name = std::str::from_utf8(raw).map_err(|_| Malformed::NameNotUtf8)?;
    Ok(Some(decode_name(name)))
}

/// The value of the parameter called `wanted` in `; name="value"; …`, as it stands there.
fn parameter<'a>(parameters: &'a [u8], wanted: &[u8]) -> Result<Option<&'a [u8]>, Malformed> {
    let mut found = None;
    let mut rest = parameters;
    loop {
        while let [b';' | b' ' | b'\t', after @ ..] = rest {
            rest = after;
        }
        if rest.is_empty() {
            return Ok(found);
        }
        let equals = rest.iter().position(|b| *b == b'=').ok_or(Malformed::BadHead)?;
        let name = rest[..equals].trim_ascii();
        rest = rest[equals + 1..].trim_ascii_start();
        let value;
        if let [b'"', after @ ..] = rest {
            // A backslash is a character like any other: browsers escape none.
            let quote = after.iter().position(|b| *b == b'"').ok_or(Malformed::BadHead)?;
            (value, rest) = (&after[..quote], &after[quote + 1..]);
            if !matches!(rest.trim_ascii_start(), [] | [b';', ..]) {
                return Err(Malformed::BadHead);
            }
        } else {
            let end = rest.iter().position(|b| *b == b';').unwrap_or(rest.len());
            (value, rest) = (rest[..end].trim_ascii(), &rest[end..]);
        }
        if name.eq_ignore_ascii_case(wanted) && found.replace(value).is_some() {
            return Err(Malformed::BadHead);
        }
    }
}

/// Undoes what browsers do to a name, and nothing else: a `%41` was a `%41`.
fn decode_name(raw: &str) -> String {
    let mut out = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = rest.find('%') {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let decoded = match from.as_bytes() {
            [b'%', b'2', b'2', ..] => Some('"'),
            [b'%', b'0', b'D', ..] => Some('\r'),
            [b'%', b'0', b'A', ..] => Some('\n'),
            _ => None,
        };
        out.push(decoded.unwrap_or('%'));
        rest = &from[if decoded.is_some() { 3 } else { 1 }..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::dstor::wire::Framing;

    type Parts = Vec<(Option<String>, Vec<u8>)>;

    /// The parts of `body` fed in pieces of `step` bytes; `None` as long as it has not ended.
    fn parts(body: &[u8], step: usize) -> Result<Option<Parts>, Malformed> {
        let mut splitter = Splitter::for_content_type("multipart/form-data; boundary=B")?;
        let mut pieces = body.chunks(step);
        let mut parts = Parts::new();
        loop {
            match splitter.next()? {
                Event::Hungry => match pieces.next() {
                    Some(piece) => {
                        let kept = splitter.unread.len();
                        splitter.feed(Bytes::copy_from_slice(piece));
                        assert!(kept <= LONGEST_HEAD, "it keeps {kept} bytes");
                    }
                    None => return Ok(None),
                },
                Event::Part(head) => parts.push((head.filename, Vec::new())),
                Event::Data(bytes) => {
                    assert!(!bytes.is_empty());
                    parts.last_mut().expect("data comes after a head").1.extend_from_slice(&bytes);
                }
                Event::Ended => return Ok(Some(parts)),
            }
        }
    }

    fn framed(files: &[(String, Vec<u8>)]) -> Vec<u8> {
        let mut body = Vec::new();
        for (name, content) in files {
            body.extend_from_slice(&Framing::new([name.as_str()], "B").heads[0]);
            body.extend_from_slice(content);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(b"--B--\r\n");
        body
    }

    fn name_of(disposition: &str) -> Result<Option<String>, Malformed> {
        let body = format!("--B\r\nContent-Disposition: {disposition}\r\n\r\nx\r\n--B--");
        parts(body.as_bytes(), 7).map(|parts| parts.expect("it ended").remove(0).0)
    }

    proptest! {
        #[test]
        fn parts_come_out_as_they_were_framed_however_the_body_is_cut(
            files in proptest::collection::vec(("[^\0]{1,20}", "([\r\n\\-Bx]|\r\n--|\r\n-){0,30}"), 1..4),
            step in 1usize..80,
        ) {
            let files: Vec<_> = files.into_iter()
                // The one thing that cannot be framed is the boundary itself; `%22` and its like come out decoded.
                .map(|(name, text)| (name.replace('%', "_"), text.replace("--B", "--b").into_bytes()))
                .collect();
            let expected: Parts = files.iter().map(|(name, content)| (Some(name.clone()), content.clone())).collect();
            prop_assert_eq!(parts(&framed(&files), step), Ok(Some(expected)));
        }

        #[test]
        fn a_body_cut_short_never_ends(cut in 0usize..200, step in 1usize..50) {
            let body = framed(&[("a".into(), b"12\r\n--345".to_vec()), ("b".into(), b"\r".to_vec())]);
            let whole = body.len() - 2;
            let short = &body[..cut.min(whole - 1)];
            prop_assert_eq!(parts(short, step), Ok(None));
        }

        #[test]
        fn no_bytes_make_it_panic(
            body in proptest::collection::vec(any::<u8>(), 0..300),
            pieces in proptest::collection::vec(
                prop_oneof![Just("--B"), Just("\r\n"), Just("\r\n--B"), Just("--"), Just("Content-Disposition:"),
                    Just("form-data"), Just(";filename="), Just("\""), Just("%"), Just("x")], 0..20),
            step in 1usize..80,
        ) {
            let _ = parts(&body, step);
            let woven = [pieces.concat().as_bytes(), &body].concat();
            prop_assert_eq!(parts(&woven, step).is_ok(), parts(&woven, woven.len().max(1)).is_ok());
        }
    }

    #[test]
    fn three_characters_of_a_name_are_decoded_and_no_others() {
        let name = r#"form-data; name="file"; filename="%22 %0D%0A %41 %2 %0d % é \""#;
        assert_eq!(name_of(name), Ok(Some("\" \r\n %41 %2 %0d % é \\".to_owned())));
        assert_eq!(name_of("form-data; name=\"\""), Ok(None));
        assert_eq!(name_of("FORM-DATA;filename=plain ; x=y"), Ok(Some("plain".to_owned())));
    }

    #[test]
    fn what_is_not_quite_multipart_is_refused() {
        for (bad, why) in [
            ("attachment; filename=\"a\"", Malformed::BadHead),
            ("form-data; filename=\"a\"; filename=\"b\"", Malformed::BadHead),
            ("form-data; filename=\"a", Malformed::BadHead),
            ("form-data; filename=\"a\"b\"", Malformed::BadHead),
            ("form-data; filename", Malformed::BadHead),
            ("form-data; filename=\"a\nb\"", Malformed::BadHead),
            ("form-data\r\nContent-Disposition: form-data", Malformed::BadHead),
        ] {
            assert_eq!(name_of(bad), Err(why), "{bad}");
        }
        assert_eq!(
            parts(b"--B\r\nContent-Disposition: form-data; filename=\"\xff\"\r\n\r\n", 9),
            Err(Malformed::NameNotUtf8)
        );
        assert_eq!(parts(b"hello --B\r\n", 3), Err(Malformed::NoBoundary));
        assert_eq!(parts(b"--Bx\r\n", 3), Err(Malformed::AfterBoundary));
        assert_eq!(parts(b"--B\r\n\r\nno head", 3), Err(Malformed::BadHead));
        let long = format!("--B\r\nx: {}", "y".repeat(LONGEST_HEAD));
        assert_eq!(parts(long.as_bytes(), 1000), Err(Malformed::LongHead));
    }

    #[test]
    fn a_boundary_has_one_to_seventy_characters() {
        let refused = |value: &str| Splitter::for_content_type(value).is_err();
        let seventy = "b".repeat(70);
        assert!(!refused(&format!("multipart/form-data; boundary={seventy}")));
        assert!(!refused("Multipart/Form-Data; charset=utf-8; boundary=\"a b\""));
        for bad in [
            "",
            "multipart/form-data",
            "multipart/form-data; boundary=",
            "multipart/mixed; boundary=a",
            "text/plain; boundary=a",
            "multipart/form-data; boundary=a\"b",
        ] {
            assert!(refused(bad), "{bad}");
        }
        assert!(refused(&format!("multipart/form-data; boundary={seventy}b")));
    }
}
