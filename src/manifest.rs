//! The list of all files of a mirror, kept on dStor itself: with its hash alone a mirror can be restored where nothing else is
//! left.
//!
//! The form is here, pure; MANIFEST.md at the top of the sources describes it. `publish` stores a list, `fetch` reads one back,
//! and believes nothing of it: sizes are bounded, paths are paths below a mirror by their type, files come in a strict order, and
//! nothing of a part is looked at before its digest is right.

mod fetch;
#[cfg(test)]
mod fuzz;
mod publish;
#[cfg(test)]
mod tests;

use std::io::{BufRead, BufReader, Read, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::bufread::GzDecoder;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};

use crate::mirror::{Cid, Digest, MirrorPath, Sealed, Timestamp};
use crate::restore::Wanted;

pub use fetch::{FetchError, Fetched, Unlisted, fetch, fetch_root};
pub use publish::{PublishError, Published, Publisher};

/// The version of the form that is written, and the only one that is read.
pub const VERSION: u64 = 1;
/// A root is no longer than this, packed: the parts of some hundred million files.
pub const LONGEST_ROOT: u64 = 32 << 20;
/// No root has more parts, for what is packed well could be unpacked without end; that many name 268 million files.
pub const MOST_PARTS: u64 = 256 * 1024;
/// A part is no longer than this, packed or not.
pub const LONGEST_PART: u64 = 8 << 20;
/// No line is longer.
const LONGEST_LINE: u64 = 256 << 10;
/// A part ends with a path whose digest says so, which is one in so many: where parts end does not depend on what lies before
/// them, so that a file more or less changes one part and not all that follow.
const FILES_A_PART: u16 = 1024;
/// And it ends after so many files, or so many bytes, in any case.
const MOST_FILES: u64 = 4 * FILES_A_PART as u64;
const MOST_BYTES: usize = 1 << 20;

/// Why a list cannot be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum FormError {
    /// It is something else.
    #[error("it is no manifest of dstor-sync")]
    Foreign,
    /// It has a form that this version does not know.
    #[error("it has version {0} of the form, and this dstor-sync knows only {VERSION}")]
    Version(u64),
    /// It is damaged, or was made to mislead; what is wrong.
    #[error("{0}")]
    Wrong(&'static str),
}

/// What a list says of itself, in its first line. Nothing of it is relied upon.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Head {
    dstor_sync_manifest: u64,
    kind: Kind,
    /// RFC 3339.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub made_at: String,
    /// The program.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub made_by: String,
    /// The mirror's directory, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub mirror: String,
    /// Files in the list.
    #[serde(default)]
    pub files: u64,
    /// Bytes in these.
    #[serde(default)]
    pub bytes: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Root,
    Part,
}

/// A part of the list, in the root.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Part {
    /// What dStor is asked for.
    pub hash: Cid,
    /// Bytes in it as it is stored: packed, and perhaps encrypted.
    pub packed: u64,
    /// And unpacked.
    pub bytes: u64,
    /// The digest of the unpacked bytes.
    pub digest: Digest,
    /// Files in it.
    pub files: u64,
}

#[derive(Serialize, Deserialize)]
struct PartLine {
    part: String,
    packed: u64,
    bytes: u64,
    blake3: String,
    files: u64,
}

#[derive(Serialize, Deserialize)]
struct EndLine {
    end: u64,
}

#[derive(Serialize, Deserialize)]
struct FileLine {
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_bytes: Option<String>,
    size: u64,
    /// Octal.
    mode: String,
    mtime: (i64, u32),
    blake3: String,
    hash: String,
    /// What has this hash, where that is not the file itself but what it became encrypted.
    #[serde(skip_serializing_if = "Option::is_none")]
    sealed: Option<SealedLine>,
    /// Where dStor holds an older version than size, mode and time are of: no version has more bytes than this.
    #[serde(skip_serializing_if = "Option::is_none")]
    older_at_most: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct SealedLine {
    size: u64,
    blake3: String,
}

/// How a list is stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Packing {
    /// As small as it gets.
    Small,
    /// To be encrypted: how well something packs tells of what is in it, and its length is all that encryption leaves to see.
    ToSeal,
}

fn line(line: &impl Serialize, out: &mut Vec<u8>) {
    // Strings, numbers and lists of them: there is nothing in these that JSON cannot say.
    serde_json::to_writer(&mut *out, line).expect("it can be written as JSON");
    out.push(b'\n');
}

fn pack(bytes: &[u8], packing: Packing) -> Vec<u8> {
    let level = match packing {
        Packing::Small => Compression::default(),
        Packing::ToSeal => Compression::none(),
    };
    let mut packer = GzEncoder::new(Vec::new(), level);
    packer.write_all(bytes).and_then(|()| packer.finish()).expect("memory takes everything")
}

/// A part that is not stored yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Draft {
    /// Its lines.
    pub text: Vec<u8>,
    /// Files in it.
    pub files: u64,
}

impl Draft {
    /// The digest of its lines.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&self.text)
    }

    /// As it is stored, or is to be encrypted.
    #[must_use]
    pub fn packed(&self, packing: Packing) -> Vec<u8> {
        pack(&self.text, packing)
    }
}

/// Cuts a list into parts.
#[derive(Debug, Default)]
pub struct Cutter {
    text: Vec<u8>,
    files: u64,
}

impl Cutter {
    /// Takes the next file, and gives a part if it ends with this one.
    pub fn add(&mut self, file: &Wanted) -> Option<Draft> {
        if self.text.is_empty() {
            let head = Head {
                dstor_sync_manifest: VERSION,
                kind: Kind::Part,
                made_at: String::new(),
                made_by: String::new(),
                mirror: String::new(),
                files: 0,
                bytes: 0,
            };
            line(&head, &mut self.text);
        }
        let bytes = file.path.as_bytes();
        let text = std::str::from_utf8(bytes).ok();
        let entry = FileLine {
            path: text.map(ToOwned::to_owned),
            path_bytes: text.is_none().then(|| STANDARD.encode(bytes)),
            size: file.size,
            mode: format!("{:o}", file.mode & 0o7777),
            mtime: (file.mtime.seconds, file.mtime.nanos),
            blake3: file.digest.to_string(),
            hash: file.hash.to_string(),
            sealed: file.sealed.map(|Sealed { digest, size }| SealedLine { size, blake3: digest.to_string() }),
            older_at_most: (file.longest != file.size || file.is_older).then_some(file.longest),
        };
        line(&entry, &mut self.text);
        self.files += 1;
        let chance = Digest::of(bytes);
        let chance = u16::from_le_bytes([chance.as_bytes()[0], chance.as_bytes()[1]]);
        let is_full = self.files >= MOST_FILES || self.text.len() >= MOST_BYTES;
        if is_full || chance.is_multiple_of(FILES_A_PART) { self.end() } else { None }
    }

    /// The last part, if there is one.
    pub fn end(&mut self) -> Option<Draft> {
        let Self { text, files } = std::mem::take(self);
        (files > 0).then_some(Draft { text, files })
    }
}

/// The root over these parts, packed.
#[must_use]
pub fn root(mirror: &str, made_at: &str, bytes: u64, parts: &[Part], packing: Packing) -> Vec<u8> {
    let mut text = Vec::new();
    let head = Head {
        dstor_sync_manifest: VERSION,
        kind: Kind::Root,
        made_at: made_at.to_owned(),
        made_by: format!("dstor-sync {}", env!("CARGO_PKG_VERSION")),
        mirror: mirror.to_owned(),
        files: parts.iter().map(|part| part.files).sum(),
        bytes,
    };
    line(&head, &mut text);
    for Part { hash, packed, bytes, digest, files } in parts {
        let (packed, bytes, files) = (*packed, *bytes, *files);
        line(&PartLine { part: hash.to_string(), packed, bytes, blake3: digest.to_string(), files }, &mut text);
    }
    line(&EndLine { end: parts.len() as u64 }, &mut text);
    pack(&text, packing)
}

/// The lines of a list, none of them in memory but one.
struct Lines<R> {
    lines: R,
}

impl<R: BufRead> Lines<R> {
    fn next(&mut self) -> Result<Option<Vec<u8>>, FormError> {
        let mut line = Vec::new();
        let read = (&mut self.lines).take(LONGEST_LINE).read_until(b'\n', &mut line);
        match read.map_err(|_| FormError::Wrong("it cannot be unpacked"))? {
            0 => Ok(None),
            _ if line.pop_if(|last| *last == b'\n').is_some() => Ok(Some(line)),
            _ => Err(FormError::Wrong("it is cut off, or has a line without an end")),
        }
    }

    fn head(&mut self, kind: Kind) -> Result<Head, FormError> {
        #[derive(Deserialize)]
        struct Version {
            dstor_sync_manifest: u64,
        }
        // What cannot be unpacked at all is not ours.
        let first = self.next().ok().flatten().ok_or(FormError::Foreign)?;
        let Version { dstor_sync_manifest } = serde_json::from_slice(&first).map_err(|_| FormError::Foreign)?;
        if dstor_sync_manifest != VERSION {
            return Err(FormError::Version(dstor_sync_manifest));
        }
        let head: Head = serde_json::from_slice(&first).map_err(|_| FormError::Foreign)?;
        if head.kind == kind {
            Ok(head)
        } else {
            Err(FormError::Wrong("it is a part of a manifest, or a root in a part's place"))
        }
    }
}

/// A root that is being read: its parts, one by one.
pub struct Root<'a> {
    lines: Lines<BufReader<GzDecoder<&'a [u8]>>>,
    head: Head,
    parts: u64,
    has_ended: bool,
}

impl<'a> Root<'a> {
    /// Begins with the head.
    ///
    /// # Errors
    /// If it is no root.
    pub fn read(packed: &'a [u8]) -> Result<Self, FormError> {
        let mut lines = Lines { lines: BufReader::new(GzDecoder::new(packed)) };
        let head = lines.head(Kind::Root)?;
        Ok(Self { lines, head, parts: 0, has_ended: false })
    }

    /// What it says of itself.
    #[must_use]
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// The next part; `None` at the end.
    ///
    /// # Errors
    /// If there is no end, or something else than a part.
    pub fn next_part(&mut self) -> Result<Option<Part>, FormError> {
        if self.has_ended {
            return Ok(None);
        }
        let line = self.lines.next()?.ok_or(FormError::Wrong("it is cut off"))?;
        if let Ok(EndLine { end }) = serde_json::from_slice(&line) {
            self.has_ended = true;
            return match end == self.parts && self.lines.next()?.is_none() {
                true => Ok(None),
                false => Err(FormError::Wrong("its end is not where it says")),
            };
        }
        if self.parts >= MOST_PARTS {
            return Err(FormError::Wrong("it has more parts than any list"));
        }
        let wrong = || FormError::Wrong("a line of it is no part");
        let PartLine { part, packed, bytes, blake3, files } = serde_json::from_slice(&line).map_err(|_| wrong())?;
        let (Ok(hash), Some(digest)) = (Cid::parse(&part), digest(&blake3)) else { return Err(wrong()) };
        if packed > LONGEST_PART || bytes > LONGEST_PART {
            return Err(FormError::Wrong("a part of it is longer than any can be"));
        }
        self.parts += 1;
        Ok(Some(Part { hash, packed, bytes, digest, files }))
    }
}

/// Unpacks a part and makes sure that it is the one that the root names.
///
/// # Errors
/// If it is not.
pub fn unpack(part: &Part, packed: &[u8]) -> Result<Vec<u8>, FormError> {
    let mut text = Vec::new();
    // One more than there may be shows that there is more; of a part that swells nothing beyond is unpacked.
    let mut unpacked = GzDecoder::new(packed).take(part.bytes.min(LONGEST_PART) + 1);
    unpacked.read_to_end(&mut text).map_err(|_| FormError::Wrong("it cannot be unpacked"))?;
    if text.len() as u64 != part.bytes || Digest::of(&text) != part.digest {
        return Err(FormError::Wrong("its bytes are not those that the root names"));
    }
    Ok(text)
}

/// Where the last file stood: each stands behind the one before, in the order of directories and then names.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Order(Option<(MirrorPath, Vec<u8>)>);

impl Order {
    fn is_behind(&mut self, path: &MirrorPath) -> bool {
        let Some((dir, name)) = path.split() else { return false };
        let this = (dir, name.to_vec());
        let is_behind = self.0.as_ref().is_none_or(|last| *last < this);
        self.0 = Some(this);
        is_behind
    }
}

/// The files in the lines of a part; each has to stand behind the last one of `order`.
///
/// # Errors
/// If one is none, or stands elsewhere.
pub fn files(text: &[u8], order: &mut Order) -> Result<Vec<Wanted>, FormError> {
    let mut lines = Lines { lines: text };
    lines.head(Kind::Part)?;
    let mut files = Vec::new();
    while let Some(line) = lines.next()? {
        let file = file(&line).ok_or(FormError::Wrong("a line of it is no file of a mirror"))?;
        if !order.is_behind(&file.path) {
            return Err(FormError::Wrong("its files are not in order, or come twice"));
        }
        files.push(file);
    }
    Ok(files)
}

fn file(line: &[u8]) -> Option<Wanted> {
    let FileLine { path, path_bytes, size, mode, mtime, blake3, hash, sealed, older_at_most } =
        serde_json::from_slice(line).ok()?;
    let sealed = match sealed {
        None => None,
        Some(SealedLine { size, blake3 }) => Some(Sealed { digest: digest(&blake3)?, size }),
    };
    let path = match (path, path_bytes) {
        (Some(path), None) => path.into_bytes(),
        (None, Some(bytes)) => STANDARD.decode(bytes).ok()?,
        (Some(_), Some(_)) | (None, None) => return None,
    };
    let path = MirrorPath::from_bytes(&path).filter(|path| !path.is_top())?;
    let mode = u32::from_str_radix(&mode, 8).ok().filter(|mode| *mode <= 0o7777)?;
    let mtime = Timestamp { seconds: mtime.0, nanos: Some(mtime.1).filter(|nanos| *nanos < 1_000_000_000)? };
    Some(Wanted {
        path,
        hash: Cid::parse(&hash).ok()?,
        digest: digest(&blake3)?,
        sealed,
        size,
        longest: older_at_most.unwrap_or(size).max(size),
        mtime,
        mode,
        is_older: older_at_most.is_some(),
    })
}

fn digest(hex: &str) -> Option<Digest> {
    blake3::Hash::from_hex(hex).ok().map(Digest::from)
}
