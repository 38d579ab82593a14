//! What is to be done with a path, from what was seen on disk and what the ledger recorded.

use std::borrow::Cow;

use super::{Digest, Guard, MirrorPath, Names, Placement, Unplaceable, may_have_twins};

/// Nanoseconds that no time has: a row with them equals no file.
const NEVER: u32 = 1_000_000_000;

/// A file's time as the file system keeps it: seconds since 1970 (before it: negative) and nanoseconds into the second.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Timestamp {
    /// Seconds since 1970-01-01T00:00:00Z.
    pub seconds: i64,
    /// Nanoseconds into that second.
    pub nanos: u32,
}

impl Timestamp {
    /// Nanoseconds since 1970, or `None` beyond the years 1677 to 2262. (B5)
    #[must_use]
    pub fn as_nanos(&self) -> Option<i64> {
        self.seconds.checked_mul(1_000_000_000)?.checked_add(i64::from(self.nanos))
    }
}

/// What tells one version of a file from another without reading it. Equal in all: not changed since.
///
/// `ctime` is in it because users can set `mtime` back but not `ctime` (B3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stat {
    /// Bytes.
    pub size: u64,
    /// When its content was last changed, as far as anyone says.
    pub mtime: Timestamp,
    /// When its inode was last changed: nobody can set this.
    pub ctime: Timestamp,
    /// Its number in its file system.
    pub inode: u64,
}

impl Stat {
    /// This version, recorded so that the next look compares its bytes again whatever its stat says then.
    ///
    /// For a file that changed within the clock tick in which it was read: a change in the same tick would leave the
    /// same stat behind (B4).
    #[must_use]
    pub fn to_be_compared(self) -> Self {
        Self { ctime: Timestamp { nanos: NEVER, ..self.ctime }, ..self }
    }

    /// Whether a change after `read_from` (when the first byte was read, by this machine's clock) could have left the
    /// stat as it is, because the file system's clock had not ticked.
    #[must_use]
    pub fn is_racy(&self, read_from: Timestamp) -> bool {
        // FAT counts in steps of two seconds and has no finer part; kernels tick at least every 10 ms elsewhere.
        let is_coarse = self.mtime.nanos == 0 && self.ctime.nanos == 0;
        let tick = if is_coarse { 2_000_000_000 } else { 20_000_000 };
        match (read_from.as_nanos(), self.ctime.as_nanos()) {
            // A ctime far in the future is a clock that was set back: changes made now have another one.
            (Some(read), Some(changed)) => (changed - tick..=changed + tick).contains(&read),
            _ => false,
        }
    }
}

/// The kinds of things that are not files and not directories.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A character or block device.
    Device,
    /// A directory in which another file system is mounted.
    Mount,
    /// A file or directory of dstor-sync's own, found by who it is and not by its path: what it keeps there changes at each
    /// upload, and may be secret (G12).
    Own,
}

/// What is at a path right now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Observed {
    /// Nothing, while the mirror's directory is there and is the same as before.
    Missing,
    /// A directory.
    Directory,
    /// A regular file.
    File(Stat),
    /// Something that is never opened.
    Other(Kind, Stat),
}

impl Observed {
    /// Whether rules for directories hold for it.
    #[must_use]
    pub fn is_directory(&self) -> bool {
        matches!(self, Self::Directory | Self::Other(Kind::Mount, _))
    }
}

/// What the ledger says of a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// dStor said that it stored exactly these bytes.
    Stored,
    /// Given up until it changes or someone asks again.
    Failed,
    /// Left out on purpose, for a reason.
    Skipped,
    /// Stored on dStor, no longer here.
    Gone,
}

/// The ledger's row for a path, as far as decisions need it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Recorded {
    /// Its state.
    pub state: State,
    /// The version last looked at.
    pub stat: Stat,
    /// The digest of the bytes that dStor holds, if any are, and if that is sure.
    pub digest: Option<Digest>,
    /// Whether it is left out because this version looked like it holds a secret.
    pub is_guarded: bool,
    /// Whether what dStor holds is encrypted: then nobody else has read it yet.
    pub is_sealed: bool,
}

/// What a mirror takes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Policy {
    /// Where the mirror goes.
    pub placement: Placement,
    /// How the names in it travel.
    pub names: Names,
    /// Larger files are skipped; bytes.
    pub max_file_size: u64,
    /// What looks at files before they are public.
    pub guard: Guard,
}

/// The fixed word for a file that is held because it looks like it holds a secret.
pub const SECRET: &str = "secret?";

/// Why a path is left out on purpose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Skip {
    /// Not a file and not a directory.
    Kind(Kind),
    /// Larger than the mirror's limit.
    TooLarge,
    /// Its name, or that of a directory above it, is not UTF-8.
    NameNotUtf8,
    /// In a subdirectory of a mirror that is placed by `remote_id`.
    BelowRemoteId,
    /// Another file beside it goes to dStor under the same name.
    NameTaken,
    /// Excluded by a rule since it was stored.
    Ignored,
    /// dStor never held it, and it looks like it holds a secret; by which sign.
    Secret(&'static str),
}

impl Skip {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Kind(Kind::Symlink),
        Self::Kind(Kind::Fifo),
        Self::Kind(Kind::Socket),
        Self::Kind(Kind::Device),
        Self::Kind(Kind::Mount),
        Self::Kind(Kind::Own),
        Self::TooLarge,
        Self::NameNotUtf8,
        Self::BelowRemoteId,
        Self::NameTaken,
        Self::Ignored,
        Self::Secret(""),
    ];

    /// The fixed word for it in the ledger and in JSON.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Kind(Kind::Symlink) => "symlink",
            Self::Kind(Kind::Fifo) => "fifo",
            Self::Kind(Kind::Socket) => "socket",
            Self::Kind(Kind::Device) => "device",
            Self::Kind(Kind::Mount) => "mount",
            Self::Kind(Kind::Own) => "own",
            Self::TooLarge => "too_large",
            Self::NameNotUtf8 => "name_not_utf8",
            Self::BelowRemoteId => "below_remote_id",
            Self::NameTaken => "name_taken",
            Self::Ignored => "ignored",
            Self::Secret(_) => SECRET,
        }
    }

    /// What a person is told.
    #[must_use]
    pub fn message(self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::Kind(Kind::Symlink) => "a symbolic link; what it points to is not mirrored",
            Self::Kind(Kind::Fifo) => "a named pipe, not a file",
            Self::Kind(Kind::Socket) => "a socket, not a file",
            Self::Kind(Kind::Device) => "a device, not a file",
            Self::Kind(Kind::Mount) => "another file system is mounted here; add a mirror of its own for it",
            Self::Kind(Kind::Own) => "dstor-sync's own: its state, configuration and credentials are never uploaded",
            Self::TooLarge => "larger than the mirror's `max_file_size`",
            Self::NameNotUtf8 => "its name is not UTF-8, and names travel to dStor as UTF-8; rename it",
            Self::BelowRemoteId => {
                "in a subdirectory of a mirror placed by `remote_id`, where dStor's API can make no directory; use `remote`"
            }
            Self::NameTaken => {
                "another file beside it has the same name on dStor, where `\"` and `%22` are one; rename one of the two"
            }
            Self::Ignored => "excluded by a rule; dStor keeps the version that was stored before",
            Self::Secret(sign) => {
                return Cow::Owned(format!(
                    "it looks like a secret ({sign}), and what is stored can be read by whoever has its hash, for good: it is \
                     held. If it may be public, name it in the mirror's `allow_secrets`; else leave it out with `exclude`"
                ));
            }
        })
    }

    /// The reason with this code.
    #[must_use]
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|skip| skip.code() == code)
    }
}

/// What is to be done with a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decision {
    /// The ledger says it already.
    Nothing,
    /// Send it.
    Upload,
    /// Its times changed but perhaps not its bytes: hash it, and send it only if they did.
    Compare(Digest),
    /// A directory: look at everything in it.
    Descend,
    /// No longer here.
    Gone,
    /// Left out on purpose.
    Skip(Skip),
}

impl Policy {
    /// A policy for a mirror that goes to `placement`, and takes every file that fits there.
    #[must_use]
    pub fn new(placement: Placement) -> Self {
        Self { placement, names: Names::Plain, max_file_size: u64::MAX, guard: Guard::default() }
    }

    /// The name and the directory under which the file at `path` travels.
    ///
    /// # Errors
    /// [`Unplaceable`] says why it has none.
    pub fn place(&self, path: &MirrorPath) -> Result<(String, Placement), Unplaceable> {
        self.names.place(&self.placement, path)
    }

    /// Whether another name beside that of `path` may travel as the same one.
    #[must_use]
    pub fn may_have_twins(&self, path: &MirrorPath) -> bool {
        self.names.are_plain() && path.split().is_some_and(|(_, name)| may_have_twins(name))
    }

    /// Whether a file of this size at `path` is taken.
    ///
    /// # Errors
    /// The reason why it is not.
    pub fn admit(&self, size: u64, path: &MirrorPath) -> Result<(), Skip> {
        // As `place` has it, without making what nobody asked for.
        if matches!(self.placement, Placement::Id(_)) && path.as_bytes().contains(&b'/') {
            return Err(Skip::BelowRemoteId);
        }
        if self.names.are_plain() && std::str::from_utf8(path.as_bytes()).is_err() {
            return Err(Skip::NameNotUtf8);
        }
        if size > self.max_file_size { Err(Skip::TooLarge) } else { Ok(()) }
    }
}

impl Decision {
    /// The decision for a path that an event told of. Something was written, and perhaps the stat does not show it: pages
    /// written through a memory map change no time until the system feels like it (A15).
    #[must_use]
    pub fn after_event(self, observed: &Observed, recorded: Option<&Recorded>) -> Self {
        match (self, observed, recorded) {
            (Self::Nothing, Observed::File(_), Some(Recorded { state: State::Stored, digest: Some(digest), .. })) => {
                Self::Compare(*digest)
            }
            (decision, ..) => decision,
        }
    }
}

/// Decides. `admitted` is what the mirror's policy says to a file that was seen, and does not matter otherwise.
#[must_use]
pub fn decide(observed: &Observed, recorded: Option<&Recorded>, admitted: Result<(), Skip>) -> Decision {
    let skip = match observed {
        Observed::Missing => {
            let known = recorded.is_some_and(|row| row.state != State::Gone);
            return if known { Decision::Gone } else { Decision::Nothing };
        }
        Observed::Directory => return Decision::Descend,
        Observed::Other(kind, stat) => Some((Skip::Kind(*kind), stat)),
        Observed::File(stat) => admitted.err().map(|skip| (skip, stat)),
    };
    if let Some((skip, stat)) = skip {
        let is_same = |state| recorded.is_some_and(|row| row.state == state && row.stat == *stat);
        // A secret that dStor holds encrypted stays as it is: only another version would go out in the open. So does what it
        // holds under a pseudonym, and could not take under its own name.
        let stays = matches!(skip, Skip::Secret(_) | Skip::NameNotUtf8 | Skip::NameTaken) && is_same(State::Stored);
        return if stays || is_same(State::Skipped) { Decision::Nothing } else { Decision::Skip(skip) };
    }
    let Observed::File(stat) = observed else { return Decision::Nothing };
    match recorded {
        // A failed version is given up until it is another one.
        Some(Recorded { state: State::Stored | State::Failed, stat: known, .. }) if known == stat => Decision::Nothing,
        // The stat of a stored row is that of the bytes in `digest`: another size means other bytes.
        Some(Recorded { state: State::Stored, stat: known, .. }) if known.size != stat.size => Decision::Upload,
        Some(Recorded { digest: Some(digest), .. }) => Decision::Compare(*digest),
        _ => Decision::Upload,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mirror::{NameKey, RemoteDir};

    const THEN: Timestamp = Timestamp { seconds: 1, nanos: 0 };
    const NOW: Timestamp = Timestamp { seconds: 2, nanos: 0 };
    const STAT: Stat = Stat { size: 5, mtime: THEN, ctime: THEN, inode: 9 };

    fn row(state: State) -> Recorded {
        Recorded { state, stat: STAT, digest: Some(Digest::of(b"12345")), is_guarded: false, is_sealed: false }
    }

    #[test]
    fn a_file_that_did_not_change_needs_nothing() {
        assert_eq!(decide(&Observed::File(STAT), Some(&row(State::Stored)), Ok(())), Decision::Nothing);
    }

    // E14
    #[test]
    fn a_version_that_failed_is_left_alone_and_the_next_one_is_tried() {
        let failed = Recorded { digest: None, ..row(State::Failed) };
        assert_eq!(decide(&Observed::File(STAT), Some(&failed), Ok(())), Decision::Nothing);
        let next = Observed::File(Stat { mtime: NOW, ..STAT });
        assert_eq!(decide(&next, Some(&failed), Ok(())), Decision::Upload);
    }

    // B3, B27
    #[test]
    fn a_file_with_the_same_size_and_another_time_is_compared_before_it_is_sent() {
        for touched in [Stat { mtime: NOW, ..STAT }, Stat { ctime: NOW, ..STAT }, Stat { inode: 10, ..STAT }] {
            let decision = decide(&Observed::File(touched), Some(&row(State::Stored)), Ok(()));
            assert_eq!(decision, Decision::Compare(Digest::of(b"12345")));
        }
    }

    // B4
    #[test]
    fn a_file_read_in_the_tick_it_changed_in_is_compared_again() {
        let at = |seconds, nanos| Timestamp { seconds, nanos };
        let fresh = Stat { ctime: at(10, 500_000_000), ..STAT };
        assert!(fresh.is_racy(at(10, 510_000_000)));
        assert!(!fresh.is_racy(at(10, 530_000_000)));
        assert!(!fresh.is_racy(at(9, 0)), "a clock that was set back");
        let coarse = Stat { ctime: at(10, 0), mtime: at(10, 0), ..STAT };
        assert!(coarse.is_racy(at(11, 900_000_000)) && !coarse.is_racy(at(12, 1)));
        let row = Recorded { stat: fresh.to_be_compared(), ..row(State::Stored) };
        assert!(matches!(decide(&Observed::File(fresh), Some(&row), Ok(())), Decision::Compare(_)));
    }

    #[test]
    fn a_file_with_another_size_or_without_a_row_is_sent() {
        let grown = Observed::File(Stat { size: 6, ..STAT });
        assert_eq!(decide(&grown, Some(&row(State::Stored)), Ok(())), Decision::Upload);
        assert_eq!(decide(&grown, None, Ok(())), Decision::Upload);
    }

    #[test]
    fn a_file_that_came_back_is_compared_with_what_dstor_holds() {
        let decision = decide(&Observed::File(STAT), Some(&row(State::Gone)), Ok(()));
        assert_eq!(decision, Decision::Compare(Digest::of(b"12345")));
    }

    // A15
    #[test]
    fn a_stored_file_that_an_event_told_of_is_compared_though_its_stat_is_the_same() {
        let (file, stored) = (Observed::File(STAT), row(State::Stored));
        let decision = decide(&file, Some(&stored), Ok(()));
        assert_eq!(decision.after_event(&file, Some(&stored)), Decision::Compare(Digest::of(b"12345")));
        let missing = decide(&Observed::Missing, None, Ok(()));
        assert_eq!(missing.after_event(&Observed::Missing, None), Decision::Nothing);
    }

    #[test]
    fn what_is_missing_is_gone_once() {
        assert_eq!(decide(&Observed::Missing, Some(&row(State::Stored)), Ok(())), Decision::Gone);
        assert_eq!(decide(&Observed::Missing, Some(&row(State::Gone)), Ok(())), Decision::Nothing);
        assert_eq!(decide(&Observed::Missing, None, Ok(())), Decision::Nothing);
    }

    // B11
    #[test]
    fn what_is_no_file_is_skipped_once() {
        let fifo = Observed::Other(Kind::Fifo, STAT);
        assert_eq!(decide(&fifo, None, Ok(())), Decision::Skip(Skip::Kind(Kind::Fifo)));
        assert_eq!(decide(&fifo, Some(&row(State::Skipped)), Ok(())), Decision::Nothing);
        let large = decide(&Observed::File(STAT), Some(&row(State::Stored)), Err(Skip::TooLarge));
        assert_eq!(large, Decision::Skip(Skip::TooLarge));
    }

    #[test]
    fn what_is_stored_under_a_pseudonym_stays_though_its_name_could_not_travel() {
        let newer = Observed::File(Stat { size: 6, ..STAT });
        for skip in [Skip::NameNotUtf8, Skip::NameTaken] {
            let (stored, none) = (row(State::Stored), None);
            assert_eq!(decide(&Observed::File(STAT), Some(&stored), Err(skip)), Decision::Nothing);
            assert_eq!(decide(&newer, Some(&stored), Err(skip)), Decision::Skip(skip));
            assert_eq!(decide(&newer, none, Err(skip)), Decision::Skip(skip));
        }
    }

    #[test]
    fn each_reason_has_a_code_of_its_own() {
        for skip in Skip::ALL {
            assert_eq!(Skip::from_code(skip.code()), Some(skip));
        }
    }

    #[test]
    fn a_policy_names_the_reason_for_what_it_leaves_out() {
        let path = |bytes: &[u8]| MirrorPath::from_bytes(bytes).expect("a plain path");
        let by_number = Policy { max_file_size: 10, ..Policy::new(Placement::Id(3)) };
        assert_eq!(by_number.admit(10, &path(b"a")), Ok(()));
        assert_eq!(by_number.admit(11, &path(b"a")), Err(Skip::TooLarge));
        assert_eq!(by_number.admit(1, &path(b"\xff")), Err(Skip::NameNotUtf8));
        assert_eq!(by_number.admit(1, &path(b"a/b")), Err(Skip::BelowRemoteId));
        let by_path = Policy::new(Placement::Path(RemoteDir::parse("a").expect("a path")));
        assert_eq!(by_path.admit(1, &path(b"a/b")), Ok(()));
        assert_eq!(by_path.admit(1, &path(b"\xff/b")), Err(Skip::NameNotUtf8));
        // A pseudonym is text, whatever the name is.
        let hidden = Policy { names: Names::Hidden(NameKey::new([1; 32])), ..by_path };
        assert_eq!(hidden.admit(1, &path(b"\xff/b")), Ok(()));
    }

    proptest::proptest! {
        #[test]
        fn what_a_policy_admits_has_a_place(bytes in proptest::collection::vec(1u8.., 1..20), id: bool, is_hidden: bool) {
            let placement = if id { Placement::Id(1) } else { Placement::Path(RemoteDir::parse("a").expect("a path")) };
            let names = if is_hidden { Names::Hidden(NameKey::new([1; 32])) } else { Names::Plain };
            let policy = Policy { names, ..Policy::new(placement) };
            if let Some(path) = MirrorPath::from_bytes(&bytes) {
                proptest::prop_assert_eq!(policy.admit(1, &path).is_ok(), policy.place(&path).is_ok());
            }
        }
    }
}
