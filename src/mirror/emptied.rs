//! Files that held something and are empty now: one is a person's doing, many at once are a crash's.
//!
//! After a power cut some file systems (ext4, XFS) keep the new length of a file and lose its bytes, or keep the name and
//! lose both. Uploaded, the empty files would take the place of the good ones under every name.

use super::{Observed, Recorded, State};

/// Fewer than this are never held.
const FEW: u64 = 10;
/// Fewer than one in so many of a mirror's files are never held.
const ONE_IN: u64 = 5;

/// The fixed word for a change that is held for it.
pub const EMPTIED: &str = "emptied";
/// What a person is told of each.
pub const EMPTIED_MESSAGE: &str = "it is empty now, and was not when it was stored; so are many others, as after a \
    crash: restore them, or let them be uploaded as they are with `dstor-sync accept`";

/// Whether a file is empty that was stored with something in it.
#[must_use]
pub fn is_emptied(observed: &Observed, recorded: Option<&Recorded>) -> bool {
    let held_something = recorded.is_some_and(|row| row.state == State::Stored && row.stat.size > 0);
    held_something && matches!(observed, Observed::File(stat) if stat.size == 0)
}

/// Whether so many emptied files of a mirror that has so many files at all are more than anybody would empty on purpose.
#[must_use]
pub fn are_too_many(emptied: u64, all: u64) -> bool {
    emptied >= FEW && emptied.saturating_mul(ONE_IN) >= all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mirror::{Stat, Timestamp};

    fn stat(size: u64) -> Stat {
        let time = Timestamp { seconds: 1, nanos: 0 };
        Stat { size, mtime: time, ctime: time, inode: 1 }
    }

    #[test]
    fn only_a_stored_file_that_had_bytes_and_has_none_is_emptied() {
        let row = |state, size| Recorded { state, stat: stat(size), digest: None, is_guarded: false, is_sealed: false };
        let empty = Observed::File(stat(0));
        assert!(is_emptied(&empty, Some(&row(State::Stored, 1))));
        assert!(!is_emptied(&empty, Some(&row(State::Stored, 0))), "it always was");
        assert!(!is_emptied(&empty, Some(&row(State::Failed, 1))) && !is_emptied(&empty, None));
        assert!(!is_emptied(&Observed::File(stat(1)), Some(&row(State::Stored, 2))));
        assert!(!is_emptied(&Observed::Missing, Some(&row(State::Stored, 1))));
    }

    #[test]
    fn ten_files_and_a_fifth_of_the_mirror_are_too_many() {
        assert!(are_too_many(10, 10) && are_too_many(10, 50) && are_too_many(u64::MAX, u64::MAX));
        // A person who empties logs; a large mirror with a few more of them.
        assert!(!are_too_many(9, 9) && !are_too_many(10, 51) && !are_too_many(0, 0));
    }
}
