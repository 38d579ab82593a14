//! The way out: what dStor holds of a mirror, in forms that other programs take.
//!
//! The forms are here, pure. `car` writes a content-addressed archive, `source` gives the bytes of a stored version from this
//! machine or from dStor, and `outfile` is a file that is there whole or not at all.

mod car;
mod outfile;
mod source;

use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use serde::Serialize;

use crate::mirror::{Cid, MirrorPath};
use crate::wording::{JsonPath, shown};

pub use car::{Car, MOST_ROOTS};
pub use outfile::Outfile;
pub use source::{Read, Source};

/// Pinning services take names of so many characters (IPFS's Pinning Service API).
const LONGEST_PIN_NAME: usize = 255;

/// A version of a file that dStor holds: a line of the lists. Null is what nobody knows.
#[derive(Serialize, Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// The file's path.
    #[serde(flatten)]
    pub path: JsonPath,
    /// The state of the path, which may be that of a later version.
    pub state: &'static str,
    /// Bytes in the version that dStor holds.
    pub size: Option<u64>,
    /// When that version was last changed.
    pub modified_at: Option<String>,
    /// BLAKE3 of its bytes, in hexadecimal digits.
    pub blake3: String,
    /// What dStor names it.
    pub hash: String,
    /// `cid`, `read` or nothing.
    pub proof: Option<String>,
    /// Whether what has the hash is the file encrypted.
    pub encrypted: bool,
    /// Where anyone can read it.
    pub url: Option<String>,
    /// Its directory on dStor; `#` and a number for one that has only a number.
    pub remote_dir: Option<String>,
    /// When dStor stored it.
    pub stored_at: String,
    /// Its name on dStor.
    pub remote_name: Option<String>,
}

/// The first line of a list in CSV.
pub const CSV_HEAD: &str =
    "path,path_bytes,state,size,modified_at,blake3,hash,proof,encrypted,url,remote_dir,stored_at,remote_name\r\n";

impl Record {
    /// A line of CSV by RFC 4180. Every value is as it is: nothing is put before one that some program takes for a formula.
    #[must_use]
    pub fn csv(&self) -> String {
        let (path, path_bytes) = self.path.parts();
        let size = self.size.map(|size| size.to_string());
        let values = [
            Some(path),
            path_bytes,
            Some(self.state),
            size.as_deref(),
            self.modified_at.as_deref(),
            Some(&self.blake3),
            Some(&self.hash),
            self.proof.as_deref(),
            Some(if self.encrypted { "true" } else { "false" }),
            self.url.as_deref(),
            self.remote_dir.as_deref(),
            Some(&self.stored_at),
            self.remote_name.as_deref(),
        ];
        let mut line = String::new();
        for (at, value) in values.into_iter().enumerate() {
            if at > 0 {
                line.push(',');
            }
            let value = value.unwrap_or_default();
            if value.contains([',', '"', '\r', '\n']) {
                line.push('"');
                line.push_str(&value.replace('"', "\"\""));
                line.push('"');
            } else {
                line.push_str(value);
            }
        }
        line.push_str("\r\n");
        line
    }

    /// A line of JSON.
    ///
    /// # Errors
    /// None that this type can meet.
    pub fn json(&self) -> io::Result<String> {
        Ok(serde_json::to_string(self)? + "\n")
    }
}

/// A line that `sha256sum -c` takes. Names are escaped as coreutils does.
#[must_use]
pub fn sha256sum(sha256: &[u8; 32], name: &Path) -> Vec<u8> {
    let mut line = Vec::new();
    let mut escaped = Vec::new();
    for byte in name.as_os_str().as_bytes() {
        match byte {
            b'\\' => escaped.extend_from_slice(b"\\\\"),
            b'\n' => escaped.extend_from_slice(b"\\n"),
            b'\r' => escaped.extend_from_slice(b"\\r"),
            other => escaped.push(*other),
        }
    }
    if escaped.len() != name.as_os_str().len() {
        line.push(b'\\');
    }
    line.extend(sha256.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|digit| b"0123456789abcdef"[digit as usize]));
    line.extend_from_slice(b"  ");
    line.extend_from_slice(&escaped);
    line.push(b'\n');
    line
}

/// A line of a list of pins: the hash, a tabulator, and a name. What would end the line or act on a terminal is escaped; of a
/// name that services would not take for its length, the end is what tells files apart.
#[must_use]
pub fn pin(hash: &Cid, path: &MirrorPath) -> String {
    let name = shown(path.as_path());
    let length = name.chars().count();
    let name: String = match length > LONGEST_PIN_NAME {
        true => std::iter::once('…').chain(name.chars().skip(length - LONGEST_PIN_NAME + 1)).collect(),
        false => name,
    };
    format!("{hash}\t{name}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(path: &str) -> Record {
        Record {
            path: JsonPath::new(Path::new(path)),
            state: "stored",
            size: Some(5),
            modified_at: None,
            blake3: "00".into(),
            hash: "Qm".into(),
            proof: Some("cid".into()),
            encrypted: false,
            url: None,
            remote_dir: Some("a, b".into()),
            stored_at: "2026-01-31T12:00:00Z".into(),
            remote_name: Some("c".into()),
        }
    }

    #[test]
    fn csv_quotes_what_rfc_4180_asks_for_and_changes_nothing() {
        let head = CSV_HEAD.trim_end().split(',').count();
        assert_eq!(record("/=1+1").csv().matches(',').count(), head, "one value has a comma in it");
        let line = record("/a \"b\"\r\n,c").csv();
        let expected = "\"/a \"\"b\"\"\r\n,c\",,stored,5,,00,Qm,cid,false,,\"a, b\",2026-01-31T12:00:00Z,c\r\n";
        assert_eq!(line, expected);
        assert!(record("=cmd").csv().starts_with("=cmd,,"), "nothing is protected by guess");
    }

    #[test]
    fn names_of_sums_are_escaped_only_where_a_line_would_break() {
        let line = |name: &str| String::from_utf8(sha256sum(&[0xa5; 32], Path::new(name))).expect("UTF-8");
        let digits = "a5".repeat(32);
        assert_eq!(line("a b\t\u{e9}"), format!("{digits}  a b\t\u{e9}\n"));
        assert_eq!(line("a\\b\nc\rd"), format!("\\{digits}  a\\\\b\\nc\\rd\n"));
    }

    #[test]
    fn a_pin_is_one_line_whose_name_a_service_takes() {
        let hash = Cid::parse("QmT78zSuBmuS4z925WZfrqQ1qHaJ56DQaTfyMUF7F8ff5o").expect("a hash");
        let path = |bytes: &[u8]| MirrorPath::from_bytes(bytes).expect("a path");
        assert_eq!(pin(&hash, &path(b"d/a b")), format!("{hash}\td/a b\n"));
        assert_eq!(pin(&hash, &path(b"a\nb\t\x1b")), format!("{hash}\ta\\u{{a}}b\\u{{9}}\\u{{1b}}\n"));
        let long = pin(&hash, &path(format!("{}/end", "\u{e9}".repeat(300)).as_bytes()));
        let name = long.trim_end().split('\t').nth(1).expect("a name").to_owned();
        assert_eq!((name.chars().count(), name.ends_with("/end"), name.starts_with('…')), (255, true, true));
    }
}
