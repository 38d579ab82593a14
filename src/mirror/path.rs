//! Paths: where a file is below its mirror, and where it goes on dStor. Two kinds that cannot be swapped.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A path below a mirror's directory: raw bytes, `/` between its parts, never absolute, and no part is empty, `.` or
/// `..`. The empty path is the mirror's directory itself. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MirrorPath(Arc<[u8]>);

impl MirrorPath {
    /// The mirror's own directory.
    #[must_use]
    pub fn top() -> Self {
        Self(Arc::from([]))
    }

    /// Where `absolute` lies below `root`; `None` if it does not, or is not in plain form.
    #[must_use]
    pub fn relative(root: &Path, absolute: &Path) -> Option<Self> {
        Self::from_bytes(absolute.strip_prefix(root).ok()?.as_os_str().as_bytes())
    }

    /// The path with these bytes, if they are one.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let plain = bytes.is_empty() || bytes.split(|b| *b == b'/').all(is_plain_name);
        plain.then(|| Self(Arc::from(bytes)))
    }

    /// This path and one more part. `None` if `name` is no single part (empty, `.`, `..`, with `/` or NUL).
    #[must_use]
    pub fn join(&self, name: &[u8]) -> Option<Self> {
        if !is_plain_name(name) || name.contains(&b'/') {
            return None;
        }
        if self.is_top() {
            return Some(Self(Arc::from(name)));
        }
        let mut bytes = Vec::with_capacity(self.0.len() + 1 + name.len());
        bytes.extend_from_slice(&self.0);
        bytes.push(b'/');
        bytes.extend_from_slice(name);
        Some(Self(bytes.into()))
    }

    /// The directory it lies in and its name there; `None` for the top.
    #[must_use]
    pub fn split(&self) -> Option<(Self, &[u8])> {
        if self.is_top() {
            return None;
        }
        Some(match self.0.iter().rposition(|b| *b == b'/') {
            Some(slash) => (Self(Arc::from(&self.0[..slash])), &self.0[slash + 1..]),
            None => (Self::top(), &self.0),
        })
    }

    /// Itself and all directories above it, the outermost first, without the top.
    pub fn lineage(&self) -> impl Iterator<Item = Self> + '_ {
        let ends = self.0.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| at);
        let whole = (!self.is_top()).then_some(self.0.len());
        ends.chain(whole).map(|end| Self(Arc::from(&self.0[..end])))
    }

    /// Whether this is the mirror's own directory.
    #[must_use]
    pub fn is_top(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it is `dir`, or lies below it.
    #[must_use]
    pub fn is_within(&self, dir: &Self) -> bool {
        let below = self.as_bytes().strip_prefix(dir.as_bytes());
        dir.is_top() || below.is_some_and(|below| below.first().is_none_or(|next| *next == b'/'))
    }

    /// Whether both are names in the same directory.
    #[must_use]
    pub fn is_beside(&self, other: &Self) -> bool {
        let directory = |path: &Self| path.0.iter().rposition(|byte| *byte == b'/');
        let end = directory(self);
        end == directory(other) && end.is_none_or(|end| self.0[..end] == other.0[..end])
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// As a relative path of the file system. The top is empty.
    #[must_use]
    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }

    /// The absolute path below `root`.
    #[must_use]
    pub fn under(&self, root: &Path) -> PathBuf {
        if self.is_top() { root.to_owned() } else { root.join(self.as_path()) }
    }
}

fn is_plain_name(name: &[u8]) -> bool {
    !matches!(name, b"" | b"." | b"..") && !name.contains(&0)
}

impl fmt::Display for MirrorPath {
    /// Bytes that are not UTF-8 and control characters are escaped, so that it may go to a terminal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_top() {
            return f.write_str(".");
        }
        escape(&self.0, f)
    }
}

impl fmt::Debug for MirrorPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MirrorPath({self})")
    }
}

/// Writes `bytes` as text in which nothing can act on a terminal: control and format characters (ESC, bidirectional
/// overrides and their like) and bytes that are not UTF-8 come out as `\u{…}` and `\x…`.
pub(crate) fn escape(bytes: &[u8], out: &mut impl fmt::Write) -> fmt::Result {
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() || acts_unseen(c) {
                write!(out, "{}", c.escape_unicode())?;
            } else {
                out.write_char(c)?;
            }
        }
        for byte in chunk.invalid() {
            write!(out, "\\x{byte:02x}")?;
        }
    }
    Ok(())
}

/// `path` as one word of a shell's command line, in which nothing can act on a terminal either.
#[must_use]
pub fn shell_word(path: &Path) -> String {
    let bytes = path.as_os_str().as_bytes();
    if !bytes.is_empty() && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"/._-+".contains(b)) {
        // What begins with a dash would be taken for a flag.
        let here = if bytes[0] == b'-' { "./" } else { "" };
        return format!("{here}{}", String::from_utf8_lossy(bytes));
    }
    let plain = std::str::from_utf8(bytes).ok().filter(|text| !text.chars().any(|c| c.is_control() || acts_unseen(c)));
    match plain {
        Some(plain) => format!("'{}'", plain.replace('\'', r"'\''")),
        // What bash, zsh and ksh take for bytes, in octal digits: POSIX (2024) says how many these are.
        None => {
            let letter = |b: &u8| match b {
                b'\'' | b'\\' => format!("\\{}", char::from(*b)),
                0x20..=0x7e => char::from(*b).to_string(),
                other => format!("\\{other:03o}"),
            };
            format!("$'{}'", bytes.iter().map(letter).collect::<String>())
        }
    }
}

/// Unicode's format characters that reorder or hide text (general category Cf), and its line separators.
fn acts_unseen(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{180e}' | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
        | '\u{e0001}' | '\u{e0020}'..='\u{e007f}')
}

/// The path of a directory on dStor: text, `/` between its parts, none of them empty, `.` or `..`. Empty: the root.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct RemoteDir(String);

/// This text names no directory on dStor.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a part of the path is `.` or `..`, or holds a character that names cannot hold")]
pub struct BadRemoteDir;

impl RemoteDir {
    /// Takes a path as people write it: slashes at either end and doubled ones do not matter.
    ///
    /// # Errors
    /// [`BadRemoteDir`] if a part is `.` or `..`, or holds NUL.
    pub fn parse(text: &str) -> Result<Self, BadRemoteDir> {
        let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty()).collect();
        if parts.iter().all(|part| is_plain_name(part.as_bytes())) {
            Ok(Self(parts.join("/")))
        } else {
            Err(BadRemoteDir)
        }
    }

    /// Whether this is the root of the account.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it is printable ASCII without a blank at either end: what every header carries as it is.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.0.bytes().all(|b| matches!(b, 0x20..=0x7e)) && self.0.trim() == self.0
    }

    /// Its text, without a slash at either end.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RemoteDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() { f.write_str("/") } else { escape(self.0.as_bytes(), f) }
    }
}

/// Where uploads go: a directory by its path or by its number, never both.
///
/// dStor takes `x-dstor-folder-path` or `x-dstor-parent-id` (product's tutorial).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Placement {
    /// By path; one that does not exist is made by the service (our reading of its notes).
    Path(RemoteDir),
    /// By the number that the dashboard shows; `0` is the root.
    Id(u64),
}

/// Why a path has no place on dStor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unplaceable {
    /// A part of it is not UTF-8, and names travel as UTF-8.
    NotUtf8,
    /// It lies in a subdirectory of a mirror placed by number: the API names no way to make a directory below a number.
    BelowId,
}

impl Placement {
    /// Where the files of the mirror's directory `dir` go, for a mirror placed at `self`.
    ///
    /// # Errors
    /// [`Unplaceable`] says why there is no such place.
    pub fn of_directory(&self, dir: &MirrorPath) -> Result<Self, Unplaceable> {
        if dir.is_top() {
            return Ok(self.clone());
        }
        let Self::Path(top) = self else { return Err(Unplaceable::BelowId) };
        let below = std::str::from_utf8(dir.as_bytes()).map_err(|_| Unplaceable::NotUtf8)?;
        let begin = if top.is_root() { String::new() } else { format!("{}/", top.0) };
        Ok(Self::Path(RemoteDir(begin + below)))
    }
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(dir) => dir.fmt(f),
            Self::Id(id) => write!(f, "#{id}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> MirrorPath {
        MirrorPath::from_bytes(text.as_bytes()).expect("a plain path")
    }

    #[test]
    fn a_path_is_within_itself_what_is_above_it_and_nothing_that_only_begins_alike() {
        for (inner, outer) in [("a", "a"), ("a/b/c", "a"), ("a/b", "a/b")] {
            assert!(path(inner).is_within(&path(outer)), "{inner} within {outer}");
            assert!(path(inner).is_within(&MirrorPath::top()));
        }
        for (inner, outer) in [("ab", "a"), ("a", "a/b"), ("a-b/c", "a"), ("b/a", "a")] {
            assert!(!path(inner).is_within(&path(outer)), "{inner} within {outer}");
        }
        assert!(!MirrorPath::top().is_within(&path("a")));
    }

    #[test]
    fn names_are_beside_each_other_only_in_the_same_directory() {
        for (one, other) in [("a", "b"), ("a/b", "a/c"), ("a/b/c", "a/b/d")] {
            assert!(path(one).is_beside(&path(other)), "{one} beside {other}");
        }
        for (one, other) in [("a", "a/b"), ("a/b", "c/b"), ("a/b/c", "a/c"), ("ab/c", "cb/c")] {
            assert!(!path(one).is_beside(&path(other)), "{one} beside {other}");
        }
    }

    // B21
    #[test]
    fn only_plain_relative_paths_are_mirror_paths() {
        for bad in ["/", "/a", "a/", "a//b", ".", "..", "a/..", "../a", "./a", "a\0b"] {
            assert!(MirrorPath::from_bytes(bad.as_bytes()).is_none(), "{bad:?}");
        }
        for bad in ["", ".", "..", "a/b", "a\0"] {
            assert!(path("d").join(bad.as_bytes()).is_none(), "{bad:?}");
        }
        let root = Path::new("/home/me");
        assert_eq!(MirrorPath::relative(root, Path::new("/home/me/a/b")), Some(path("a/b")));
        assert_eq!(MirrorPath::relative(root, root), Some(MirrorPath::top()));
        assert_eq!(MirrorPath::relative(root, Path::new("/home/meme/a")), None);
    }

    #[test]
    fn a_path_knows_its_parent_its_name_and_all_above_it() {
        let (parent, name) = path("a/b/c").split().map(|(p, n)| (p, n.to_vec())).expect("not the top");
        assert_eq!((parent, name.as_slice()), (path("a/b"), b"c".as_slice()));
        assert_eq!(path("a").split().map(|(p, _)| p), Some(MirrorPath::top()));
        assert_eq!(MirrorPath::top().split(), None);
        let above: Vec<String> = path("a/b/c").lineage().map(|p| p.to_string()).collect();
        assert_eq!(above, ["a", "a/b", "a/b/c"]);
        assert_eq!(MirrorPath::top().lineage().count(), 0);
    }

    // B17
    #[test]
    fn nothing_in_a_name_acts_on_a_terminal() {
        let name = MirrorPath::from_bytes(b"a\x1b[31m\r\n\xff\xe2\x80\xae").expect("a plain path");
        assert_eq!(name.to_string(), r"a\u{1b}[31m\u{d}\u{a}\xff\u{202e}");
    }

    #[test]
    fn a_shell_reads_a_word_as_the_path_that_it_was_made_of() {
        use std::ffi::OsStr;
        let word = |bytes: &[u8]| shell_word(Path::new(OsStr::from_bytes(bytes)));
        assert_eq!(word(b"/a/b-c.d"), "/a/b-c.d");
        assert_eq!(word(b"/a/b c'd"), r"'/a/b c'\''d'");
        assert_eq!(word("/ä".as_bytes()), "'/ä'");
        assert_eq!(word(b"/a\x1b[2J'\\\xff1"), r"$'/a\033[2J\'\\\3771'");
        assert_eq!(word("\u{202e}b".as_bytes()), r"$'\342\200\256b'");
        assert_eq!(word(b"-rf"), "./-rf");
    }

    #[test]
    fn a_directory_keeps_its_place_below_the_mirrors_place() {
        let docs = Placement::Path(RemoteDir::parse("/Documents//old/").expect("a path"));
        assert_eq!(docs.to_string(), "Documents/old");
        assert_eq!(docs.of_directory(&path("a/b")).map(|p| p.to_string()), Ok("Documents/old/a/b".into()));
        let root = Placement::Path(RemoteDir::parse("").expect("the root"));
        assert_eq!(root.of_directory(&path("a")).map(|p| p.to_string()), Ok("a".into()));
        assert_eq!(root.of_directory(&MirrorPath::top()), Ok(root.clone()));
        assert_eq!(Placement::Id(7).of_directory(&path("a")), Err(Unplaceable::BelowId));
        let odd = MirrorPath::from_bytes(b"\xff").expect("a plain path");
        assert_eq!(root.of_directory(&odd), Err(Unplaceable::NotUtf8));
        assert_eq!(RemoteDir::parse("a/../b"), Err(BadRemoteDir));
    }

    proptest::proptest! {
        #[test]
        fn every_remote_path_is_made_of_plain_names(top in "[a-z/]{0,10}", below in proptest::collection::vec(1u8.., 0..40)) {
            let top = Placement::Path(RemoteDir::parse(&top).expect("letters and slashes"));
            if let Some(dir) = MirrorPath::from_bytes(&below)
                && let Ok(Placement::Path(remote)) = top.of_directory(&dir)
            {
                proptest::prop_assert!(remote.is_root() || remote.as_str().split('/').all(|part| is_plain_name(part.as_bytes())));
            }
        }
    }
}
