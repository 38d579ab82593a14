//! Which files travel together, and by which way: one by itself, or several in an upload session.

use std::time::Duration;

use super::Placement;

/// No pack holds more files. The service's notes speak of some hundred in a request, and of no limit.
pub const MOST_FILES: usize = 500;
/// No pack holds more bytes, as they are in memory until dStor has them: once for each upload under way, and once more on
/// their way.
pub const MOST_BYTES: u64 = 4 * 1024 * 1024;
/// Larger files go by themselves: what one request costs is little beside their bytes.
pub const LARGEST: u64 = 1024 * 1024;
/// A session is so many requests at the least: it is opened, filled and asked about. So many files by themselves cost no
/// more.
const REQUESTS: usize = 3;
/// How long it is believed that a service has no sessions, or nothing but sessions: it may be a newer one by then.
const REMEMBERED: Duration = Duration::from_secs(3600);

/// Whether many small files go in one request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sessions {
    /// Where several are due together, and where dStor takes a file in no other way.
    Auto,
    /// Every file, also by itself; where only a directory's number is known, there is no session.
    Always,
    /// Never.
    Never,
}

/// How a file goes to dStor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// In a request of its own, which is answered with its hash.
    Direct,
    /// In an upload session of its own.
    Session,
}

/// The ways to dStor: what was asked for, and what dStor was seen to have.
///
/// Times are durations since any fixed moment of a clock that never goes back; the caller brings them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ways {
    wish: Sessions,
    no_sessions_until: Option<Duration>,
    no_direct_until: Option<Duration>,
}

impl Ways {
    /// What was asked for; nothing was seen yet.
    #[must_use]
    pub fn new(wish: Sessions) -> Self {
        Self { wish, no_sessions_until: None, no_direct_until: None }
    }

    /// How a file of so many bytes goes to its place when it goes alone.
    #[must_use]
    pub fn alone(&self, size: u64, placement: &Placement, now: Duration) -> Way {
        let Placement::Path(dir) = placement else { return Way::Direct };
        let is_wanted = match self.wish {
            Sessions::Never => return Way::Direct,
            Sessions::Always => true,
            // A plain header carries no such path, and what becomes of an encoded one is not known for sure.
            Sessions::Auto => is_near(self.no_direct_until, now) || (size <= LARGEST && !dir.is_plain()),
        };
        if is_wanted && self.has_sessions(now) { Way::Session } else { Way::Direct }
    }

    /// Whether any files may go together, as far as is known now.
    #[must_use]
    pub fn may_gather(&self, now: Duration) -> bool {
        self.wish != Sessions::Never && self.has_sessions(now)
    }

    /// How many others have to be due for the same place, at the least, to go along with a file of so many bytes that
    /// failed so often; `None`: it goes alone.
    ///
    /// What failed goes alone: that is how the bad one among many is found.
    #[must_use]
    pub fn fewest_others(&self, size: u64, attempts: u32, placement: &Placement, now: Duration) -> Option<usize> {
        let is_possible = self.may_gather(now) && matches!(placement, Placement::Path(_));
        if !is_possible || attempts > 0 || size > LARGEST {
            return None;
        }
        Some(match self.alone(size, placement, now) {
            Way::Session => 1,
            Way::Direct => REQUESTS,
        })
    }

    /// The service answered that it has no sessions. Returns whether files go by themselves from now on: if not, there is
    /// no other way now, and the next file finds out anew which there are.
    pub fn lacks_sessions(&mut self, now: Duration) -> bool {
        if self.wish != Sessions::Auto {
            return false;
        }
        if is_near(self.no_direct_until, now) {
            self.forget();
            return false;
        }
        self.no_sessions_until = Some(now + REMEMBERED);
        true
    }

    /// The service answered that it takes files in sessions only. Returns whether they go so from now on: if not, there
    /// is no other way now, and the next file finds out anew which there are.
    pub fn lacks_direct(&mut self, placement: &Placement, now: Duration) -> bool {
        if self.wish == Sessions::Never || matches!(placement, Placement::Id(_)) {
            return false;
        }
        if !self.has_sessions(now) {
            self.forget();
            return false;
        }
        self.no_direct_until = Some(now + REMEMBERED);
        true
    }

    /// A service that says of each way that it has only the other one is not well, or is being replaced: what it said is
    /// worth nothing, and to go by it for an hour would keep every file from it long after it is well again.
    fn forget(&mut self) {
        (self.no_sessions_until, self.no_direct_until) = (None, None);
    }

    fn has_sessions(&self, now: Duration) -> bool {
        !is_near(self.no_sessions_until, now)
    }
}

fn is_near(until: Option<Duration>, now: Duration) -> bool {
    until.is_some_and(|until| now < until)
}

/// What is left of a pack that is being filled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Room {
    files: usize,
    bytes: u64,
}

impl Room {
    /// That of an empty pack.
    #[must_use]
    pub fn whole() -> Self {
        Self { files: MOST_FILES, bytes: MOST_BYTES }
    }

    /// Takes a file of so many bytes in, if there is room for it.
    pub fn take(&mut self, size: u64) -> bool {
        let fits = self.files > 0 && size <= LARGEST && size <= self.bytes;
        if fits {
            self.files -= 1;
            self.bytes -= size;
        }
        fits
    }

    /// How many more files there is room for, if they are small enough.
    #[must_use]
    pub fn files(&self) -> usize {
        self.files
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mirror::RemoteDir;

    const NOW: Duration = Duration::from_secs(5);

    fn at(path: &str) -> Placement {
        Placement::Path(RemoteDir::parse(path).expect("a path"))
    }

    #[test]
    fn a_lone_file_waits_for_no_session_unless_one_is_asked_for() {
        let way = |wish, placement: &Placement| Ways::new(wish).alone(1, placement, NOW);
        assert_eq!(way(Sessions::Auto, &at("Docs")), Way::Direct);
        assert_eq!(way(Sessions::Always, &at("Docs")), Way::Session);
        assert_eq!(way(Sessions::Never, &at("Docs")), Way::Direct);
        assert_eq!(way(Sessions::Always, &Placement::Id(7)), Way::Direct);
    }

    #[test]
    fn a_path_that_no_plain_header_carries_goes_by_session_if_the_file_is_small() {
        let auto = Ways::new(Sessions::Auto);
        assert_eq!(auto.alone(LARGEST, &at("Bücher"), NOW), Way::Session);
        assert_eq!(auto.alone(LARGEST + 1, &at("Bücher"), NOW), Way::Direct);
        assert_eq!(Ways::new(Sessions::Never).alone(1, &at("Bücher"), NOW), Way::Direct);
    }

    #[test]
    fn what_failed_is_large_or_has_only_a_number_travels_alone() {
        let auto = Ways::new(Sessions::Auto);
        assert_eq!(auto.fewest_others(LARGEST, 0, &at(""), NOW), Some(3));
        assert_eq!(auto.fewest_others(LARGEST, 1, &at(""), NOW), None);
        assert_eq!(auto.fewest_others(LARGEST + 1, 0, &at(""), NOW), None);
        assert_eq!(auto.fewest_others(1, 0, &Placement::Id(0), NOW), None);
        assert_eq!(Ways::new(Sessions::Never).fewest_others(1, 0, &at(""), NOW), None);
    }

    #[test]
    fn two_make_a_session_where_one_would_have_its_own() {
        assert_eq!(Ways::new(Sessions::Always).fewest_others(1, 0, &at("a"), NOW), Some(1));
        assert_eq!(Ways::new(Sessions::Auto).fewest_others(1, 0, &at("Bücher"), NOW), Some(1));
    }

    #[test]
    fn a_service_without_sessions_is_asked_for_one_again_after_an_hour() {
        let mut ways = Ways::new(Sessions::Auto);
        assert!(ways.lacks_sessions(NOW));
        let later = NOW + REMEMBERED;
        assert_eq!(ways.fewest_others(1, 0, &at(""), later - Duration::from_nanos(1)), None);
        assert_eq!(ways.alone(1, &at("Bücher"), NOW), Way::Direct);
        assert_eq!(ways.fewest_others(1, 0, &at(""), later), Some(3));
        assert!(!Ways::new(Sessions::Always).lacks_sessions(NOW), "there is no other way");
    }

    #[test]
    fn a_service_with_nothing_but_sessions_gets_every_file_in_one() {
        let mut ways = Ways::new(Sessions::Auto);
        assert!(ways.lacks_direct(&at("a"), NOW));
        assert_eq!(ways.alone(u64::MAX, &at("a"), NOW), Way::Session);
        assert_eq!(ways.alone(1, &at("a"), NOW + REMEMBERED), Way::Direct);
        assert!(!Ways::new(Sessions::Auto).lacks_direct(&Placement::Id(3), NOW));
        assert!(!Ways::new(Sessions::Never).lacks_direct(&at("a"), NOW));
    }

    // E16
    #[test]
    fn a_service_that_has_neither_way_is_not_asked_in_turns_and_its_word_is_forgotten() {
        for sessions_first in [true, false] {
            let mut ways = Ways::new(Sessions::Auto);
            if sessions_first {
                assert!(ways.lacks_sessions(NOW));
                assert!(!ways.lacks_direct(&at("a"), NOW));
            } else {
                assert!(ways.lacks_direct(&at("a"), NOW));
                assert!(!ways.lacks_sessions(NOW));
            }
            assert_eq!(ways, Ways::new(Sessions::Auto));
        }
    }

    proptest::proptest! {
        #[test]
        fn no_pack_is_larger_than_it_may_be(sizes in proptest::collection::vec(0..2 * LARGEST, 0..1_000)) {
            let mut room = Room::whole();
            let taken: Vec<u64> = sizes.into_iter().filter(|size| room.take(*size)).collect();
            proptest::prop_assert!(taken.len() <= MOST_FILES && taken.len() + room.files() == MOST_FILES);
            proptest::prop_assert!(taken.iter().sum::<u64>() <= MOST_BYTES);
            proptest::prop_assert!(taken.iter().all(|size| *size <= LARGEST));
        }
    }
}
