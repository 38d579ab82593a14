//! The way back: files from dStor into a directory on this machine.
//!
//! The rules are here, pure: what is brought, what is done about what lies in its place, and what follows from what comes.
//! `dest` is the directory and the only place that writes, `landing` brings one file, `pass` many, and `shelf` lists what the
//! ledger knows of.

mod dest;
mod incoming;
mod landing;
mod pass;
#[cfg(test)]
mod racer;
mod shelf;

use crate::ledger::{EntryState, Holding};
use crate::mirror::{Cid, Digest, Fault, MirrorPath, Sealed, State, Timestamp};

pub use dest::{Dest, Guarded, Over, Part};
pub use pass::{EndedBy, Item, Pass, Summary, Told};
pub use shelf::{Listed, Scope, list};

/// What a file is named while it comes, and 16 letters or digits. No mirror takes such files.
const PART: &[u8] = b".dstor-sync-part-";

/// Whether this is the name of a file that is on its way, or that was on its way when its restore was killed.
#[must_use]
pub fn is_part(name: &[u8]) -> bool {
    let rest = name.strip_prefix(PART);
    rest.is_some_and(|rest| rest.len() == 16 && rest.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()))
}

/// A file to bring back. Where it comes from is not believed: its path is one below the directory by its type, and its bytes
/// count only if they have the digest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wanted {
    /// Where it goes, below the directory.
    pub path: MirrorPath,
    /// What dStor is asked for.
    pub hash: Cid,
    /// What its bytes have to be.
    pub digest: Digest,
    /// What comes in their place, if they are encrypted.
    pub sealed: Option<Sealed>,
    /// Bytes in the version that size, time and mode are of. Mostly that is the one that dStor holds; if other than so many
    /// bytes come, it is not.
    pub size: u64,
    /// No more bytes than this are read.
    pub longest: u64,
    /// When that version was last changed.
    pub mtime: Timestamp,
    /// Its permission bits.
    pub mode: u32,
    /// Whether a later version was seen here than dStor holds.
    pub is_older: bool,
}

impl Wanted {
    /// What is brought for a file of the ledger, whose mirror takes files up to `longest` bytes.
    #[must_use]
    pub fn of(holding: Holding, longest: u64) -> Self {
        let Holding { path, state, digest, sealed, hash, size, mtime, mode, .. } = holding;
        // Of a stored file the record is that of the stored version, whatever waits to be uploaded by now. One that failed, or
        // is gone or left out, may have been looked at since.
        let (longest, is_older) = match state {
            EntryState::Settled(State::Stored) => (size, false),
            EntryState::Settled(State::Gone) => (longest.max(size), false),
            EntryState::Pending | EntryState::Uploading => (longest.max(size), true),
            EntryState::Settled(State::Failed | State::Skipped) => (longest.max(size), true),
        };
        Self { path, hash, digest, sealed, size, longest, mtime, mode, is_older }
    }

    /// No more bytes than this come for it.
    fn longest_answer(&self) -> u64 {
        self.sealed.map_or(self.longest, |sealed| sealed.size)
    }

    /// Whether a file of so many bytes can be it.
    fn can_be(&self, size: u64) -> bool {
        size == self.size || (self.longest > self.size && size <= self.longest)
    }
}

/// What lies where a file is to go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lies {
    /// Nothing.
    Nothing,
    /// A regular file of so many bytes.
    File(u64),
    /// A directory.
    Directory,
    /// A link, or something else that is never opened.
    Other,
}

/// What is done about a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// It is asked for.
    Fetch,
    /// What lies there is read and compared.
    Compare,
    /// What lies there is left as it is; why.
    Keep(&'static str),
}

/// What is done about a file once what lies there was compared.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Compared {
    /// It is asked for.
    Fetch,
    /// It is the very file already.
    There,
    /// What lies there is left as it is; why.
    Keep(String),
}

const DIFFERS: &str = "another file lies there; `--force` replaces it";
const IN_THE_WAY: &str = "a directory lies there";
const NO_FILE: &str = "something lies there that is no regular file; `--force` replaces it";
const NAMED_LIKE_A_PART: &str = "its name is one of those that restoring uses for itself";

/// What is done about `wanted`, given what lies there.
#[must_use]
pub fn step(wanted: &Wanted, lies: Lies, over: Over) -> Step {
    if wanted.path.split().is_none_or(|(_, name)| is_part(name)) {
        return Step::Keep(NAMED_LIKE_A_PART);
    }
    match (lies, over) {
        (Lies::Nothing, _) => Step::Fetch,
        (Lies::Directory, _) => Step::Keep(IN_THE_WAY),
        (Lies::File(size), _) if wanted.can_be(size) => Step::Compare,
        (Lies::File(_) | Lies::Other, Over::All) => Step::Fetch,
        (Lies::File(_), Over::Nothing) => Step::Keep(DIFFERS),
        (Lies::Other, Over::Nothing) => Step::Keep(NO_FILE),
    }
}

/// What is done once what lies there was read.
#[must_use]
pub fn compared(wanted: &Wanted, lies: Digest, over: Over) -> Compared {
    match over {
        _ if lies == wanted.digest => Compared::There,
        Over::All => Compared::Fetch,
        Over::Nothing => Compared::Keep(DIFFERS.into()),
    }
}

/// What came for a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Came {
    /// The digest of the file's bytes; `None`: it should be encrypted, and what came cannot be opened.
    pub digest: Option<Digest>,
    /// Whether there were more than there may be.
    pub is_longer: bool,
    /// Whether it called itself a page and did not name the hash.
    pub is_page: bool,
}

/// Whether that is the file.
///
/// # Errors
/// If it looks like somebody else's answer.
pub fn judge(came: &Came, wanted: &Wanted) -> Result<bool, Fault> {
    if came.digest == Some(wanted.digest) && !came.is_longer {
        return Ok(true);
    }
    if came.is_page {
        return Err(Fault::Unreachable("something else answers in its place, with a page; is there a sign-in?".into()));
    }
    Ok(false)
}

/// What became of a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It is there, with so many bytes.
    Restored {
        /// Bytes that came.
        bytes: u64,
        /// Whether it has the time and the mode that are on record.
        is_dressed: bool,
    },
    /// It was there already.
    There,
    /// It would be asked for, were this no trial.
    Due,
    /// What lies in its place was left; why.
    Kept(String),
    /// dStor does not have it.
    Missing,
    /// Other bytes came.
    Different,
    /// It is encrypted, and no key that was given opens it; why.
    Locked(&'static str),
    /// No answer came; why.
    NotAnswered(String),
    /// It cannot be written; why.
    Failed(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(path: &str, size: u64, longest: u64) -> Wanted {
        Wanted {
            path: MirrorPath::from_bytes(path.as_bytes()).expect("a plain path"),
            hash: Cid::parse("QmT78zSuBmuS4z925WZfrqQ1qHaJ56DQaTfyMUF7F8ff5o").expect("a hash"),
            digest: Digest::of(b"right"),
            sealed: None,
            size,
            longest,
            mtime: Timestamp { seconds: 0, nanos: 0 },
            mode: 0o644,
            is_older: false,
        }
    }

    #[test]
    fn nothing_that_lies_there_is_replaced_unasked_and_a_directory_never() {
        let file = wanted("d/f", 5, 5);
        for (lies, unasked, forced) in [
            (Lies::Nothing, Step::Fetch, Step::Fetch),
            (Lies::Directory, Step::Keep(IN_THE_WAY), Step::Keep(IN_THE_WAY)),
            (Lies::Other, Step::Keep(NO_FILE), Step::Fetch),
            (Lies::File(5), Step::Compare, Step::Compare),
            (Lies::File(4), Step::Keep(DIFFERS), Step::Fetch),
        ] {
            assert_eq!(step(&file, lies, Over::Nothing), unasked, "{lies:?}");
            assert_eq!(step(&file, lies, Over::All), forced, "{lies:?}");
        }
        assert_eq!(compared(&file, Digest::of(b"right"), Over::Nothing), Compared::There);
        assert_eq!(compared(&file, Digest::of(b"right"), Over::All), Compared::There, "it is not brought twice");
        assert_eq!(compared(&file, Digest::of(b"wrong"), Over::Nothing), Compared::Keep(DIFFERS.into()));
        assert_eq!(compared(&file, Digest::of(b"wrong"), Over::All), Compared::Fetch);
    }

    #[test]
    fn a_file_whose_size_is_not_sure_is_told_by_its_bytes() {
        let unsure = wanted("f", 5, 100);
        for size in [0, 5, 100] {
            assert_eq!(step(&unsure, Lies::File(size), Over::Nothing), Step::Compare, "{size}");
        }
        assert_eq!(step(&unsure, Lies::File(101), Over::Nothing), Step::Keep(DIFFERS));
    }

    #[test]
    fn a_name_like_that_of_a_file_on_its_way_is_nobodys() {
        assert!(is_part(b".dstor-sync-part-0123456789abcdef"));
        for other in ["", ".dstor-sync-part-", ".dstor-sync-part-0123456789abcde", ".dstor-sync-part-0123456789abcdeF"]
        {
            assert!(!is_part(other.as_bytes()), "{other}");
        }
        let file = wanted("d/.dstor-sync-part-0123456789abcdef", 5, 5);
        assert_eq!(step(&file, Lies::Nothing, Over::All), Step::Keep(NAMED_LIKE_A_PART));
    }

    #[test]
    fn only_the_very_bytes_are_the_file_and_a_strange_page_says_nothing() {
        let file = wanted("f", 5, 5);
        let right = Came { digest: Some(Digest::of(b"right")), is_longer: false, is_page: false };
        assert_eq!(judge(&right, &file), Ok(true));
        assert_eq!(judge(&Came { is_page: true, ..right }, &file), Ok(true), "a stored page is a file like any");
        assert_eq!(judge(&Came { is_longer: true, ..right }, &file), Ok(false));
        let wrong = Came { digest: Some(Digest::of(b"wrong")), ..right };
        assert_eq!(judge(&wrong, &file), Ok(false));
        assert_eq!(judge(&Came { digest: None, ..wrong }, &file), Ok(false), "what cannot be opened is something else");
        let page = judge(&Came { is_page: true, ..wrong }, &file);
        assert_eq!(page.map_err(|fault| fault.code()), Err("unreachable"));
    }
}
