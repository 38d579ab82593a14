//! How paths, times and amounts are written for people and programs.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::ledger::Millis;
use crate::mirror::escape;

/// A path in JSON: exact where it is UTF-8; else escaped, with its bytes beside it.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct JsonPath {
    path: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path_bytes: Option<String>,
}

impl JsonPath {
    /// `path` for JSON.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        match path.to_str() {
            Some(text) => Self { path: text.to_owned(), path_bytes: None },
            None => Self { path: shown(path), path_bytes: Some(STANDARD.encode(path.as_os_str().as_bytes())) },
        }
    }

    /// The path itself.
    #[must_use]
    pub fn exact(&self) -> PathBuf {
        let bytes = self.path_bytes.as_ref().and_then(|bytes| STANDARD.decode(bytes).ok());
        bytes.map_or_else(|| PathBuf::from(&self.path), |bytes| OsString::from_vec(bytes).into())
    }

    /// Its text, and its bytes in base64 where the text is not exact.
    #[must_use]
    pub fn parts(&self) -> (&str, Option<&str>) {
        (&self.path, self.path_bytes.as_deref())
    }

    /// Whether it lies below `other`. Of two that are both escaped, as far as that shows.
    #[must_use]
    pub fn is_below(&self, other: &Self) -> bool {
        self.path.strip_prefix(&other.path).is_some_and(|rest| rest.starts_with('/') || other.path.ends_with('/'))
    }

    /// For a terminal.
    #[must_use]
    pub fn shown(&self) -> String {
        if self.path_bytes.is_some() { self.path.clone() } else { shown(Path::new(&self.path)) }
    }
}

/// Text for a terminal: nothing in it acts on it.
#[must_use]
pub fn shown(text: impl AsRef<OsStr>) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = escape(text.as_ref().as_bytes(), &mut out);
    out
}

/// RFC 3339 in UTC, to the second.
#[must_use]
pub fn time(at: Millis) -> String {
    jiff::Timestamp::from_second(at.div_euclid(1000)).map_or_else(|_| "unknown".into(), |at| at.to_string())
}

/// A time in JSON, and for people also how far from now it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct JsonTime(pub Millis);

impl Serialize for JsonTime {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&time(self.0))
    }
}

impl JsonTime {
    /// For a person: `2026-01-31T12:00:00Z (3 min ago)`.
    #[must_use]
    pub fn shown(self, now: Millis) -> String {
        format!("{} ({})", time(self.0), distance(self.0, now))
    }
}

/// How far a time is from now: `40 s ago`, `in 3 min`. What is less than a second away is `now`.
#[must_use]
pub fn distance(at: Millis, now: Millis) -> String {
    let length = Duration::from_millis(at.abs_diff(now));
    match (length.as_secs(), at < now) {
        (0, _) => "now".into(),
        (_, true) => format!("{} ago", span(length)),
        (_, false) => format!("in {}", span(length)),
    }
}

/// RFC 3339 in UTC with what the file system gives below the second; `None` beyond the years that it can say.
#[must_use]
pub fn file_time(at: crate::mirror::Timestamp) -> Option<String> {
    // A nanosecond count that no time has marks a version to be compared again; its seconds are right.
    let nanos = i32::try_from(at.nanos).ok().filter(|nanos| *nanos < 1_000_000_000).unwrap_or(0);
    jiff::Timestamp::new(at.seconds, nanos).ok().map(|at| at.to_string())
}

/// An amount of bytes: `512 B`, `1.2 MiB`.
#[must_use]
pub fn bytes(amount: u64) -> String {
    bytesize::ByteSize(amount).display().iec().to_string()
}

/// `1 file`, `2 files`.
#[must_use]
pub fn files(count: u64) -> String {
    counted(count, "file", "files")
}

/// So many of something, by the word for one of them or for any other number.
#[must_use]
pub fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// A length of time in the two units that matter: `40 s`, `3 min`, `2 h 5 min`.
#[must_use]
pub fn span(length: Duration) -> String {
    match length.as_secs() {
        0 => format!("{} ms", length.as_millis()),
        seconds @ 1..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        seconds => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_is_no_text_is_given_exactly_as_well() {
        let odd = JsonPath::new(Path::new(OsStr::from_bytes(b"/a/\xff")));
        assert_eq!(serde_json::to_string(&odd).expect("JSON"), r#"{"path":"/a/\\xff","path_bytes":"L2Ev/w=="}"#);
        assert_eq!(odd.exact(), Path::new(OsStr::from_bytes(b"/a/\xff")));
        let plain = JsonPath::new(Path::new("/a/\u{1b}é"));
        assert_eq!(serde_json::to_string(&plain).expect("JSON"), "{\"path\":\"/a/\\u001bé\"}");
        assert_eq!(plain.shown(), "/a/\\u{1b}é");
        assert_eq!(plain.exact(), Path::new("/a/\u{1b}é"));
    }

    // B5
    #[test]
    fn times_before_1970_and_beyond_reason_are_no_trouble() {
        use crate::mirror::Timestamp;
        assert_eq!(time(-1), "1969-12-31T23:59:59Z");
        assert_eq!(time(Millis::MAX), "unknown");
        assert_eq!(file_time(Timestamp { seconds: -1, nanos: 500_000_000 }).as_deref(), Some("1969-12-31T23:59:59.5Z"));
        assert_eq!(file_time(Timestamp { seconds: i64::MAX, nanos: 0 }), None);
    }

    #[test]
    fn amounts_are_written_as_people_read_them() {
        assert_eq!([bytes(0), bytes(1536), bytes(5 << 30)], ["0 B", "1.5 KiB", "5.0 GiB"]);
        let spans = [1, 119, 120, 7500, 400_000].map(|seconds| span(Duration::from_secs(seconds)));
        assert_eq!(spans, ["1 s", "119 s", "2 min", "2 h 5 min", "4 days"]);
        assert_eq!([files(1), files(0), counted(2, "hash", "hashes")], ["1 file", "0 files", "2 hashes"]);
    }

    #[test]
    fn a_time_is_told_with_how_far_from_now_it_is() {
        let noon = 1_769_860_800_000;
        assert_eq!(JsonTime(noon).shown(noon + 40_500), "2026-01-31T12:00:00Z (40 s ago)");
        assert_eq!(JsonTime(noon).shown(noon - 180_000), "2026-01-31T12:00:00Z (in 3 min)");
        assert_eq!((distance(noon, noon + 999), distance(noon, noon - 1)), ("now".into(), "now".into()));
        assert_eq!(distance(Millis::MIN, Millis::MAX), "213503982334 days ago");
        assert_eq!(serde_json::to_string(&JsonTime(noon)).expect("JSON"), r#""2026-01-31T12:00:00Z""#);
    }
}
