//! Whether dStor holds what it said it stored: which files are read back, and what follows from what comes.
//!
//! The rules are here, pure; `compare` reads one file back, and `pass` many. The agent reads back a little each day by the
//! same rules.

mod compare;
mod pass;

use std::time::Duration;

use crate::ledger::{Found, Proof};
use crate::mirror::{Cid, Digest, Fault};

pub use compare::read_back;
pub use pass::{Asked, EndedBy, Pass, Summary, Told};

/// What a request costs beside the file's bytes: the heads of question and answer. Without it, empty files would be free.
const REQUEST_BYTES: u64 = 1024;
/// The agent reads no file twice within this time: a small mirror is not read round and round.
pub const READ_AGAIN: Duration = Duration::from_secs(24 * 3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
/// So many stored files show how dStor names what it stores.
pub const LOOK_AT: u32 = 20;
/// Fewer show nothing.
const FEWEST: u64 = 3;

/// What a reading of a file of `size` bytes takes from a budget, in bytes.
#[must_use]
pub fn cost(size: u64) -> u64 {
    size.saturating_add(REQUEST_BYTES)
}

/// A part of all files, in hundredths of a percent: 1 to 10,000.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Share(u16);

impl Share {
    /// All of them.
    pub const WHOLE: Self = Self(10_000);

    /// `5%`, `0.25 %`: more than nothing, and 100 % at the most; two digits after the point count.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let number = text.trim().strip_suffix('%')?.trim_end();
        let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(part) || part.len() > 2 {
            return None;
        }
        let part: u16 = format!("{part:0<2}").parse().ok()?;
        let hundredths = whole.parse::<u16>().ok()?.checked_mul(100)?.checked_add(part)?;
        (1..=Self::WHOLE.0).contains(&hundredths).then_some(Self(hundredths))
    }

    /// So many of `all`: rounded up, as a sample of nothing shows nothing.
    #[must_use]
    pub fn of(self, all: u64) -> u64 {
        let exact = u128::from(all) * u128::from(self.0);
        u64::try_from(exact.div_ceil(u128::from(Self::WHOLE.0))).unwrap_or(u64::MAX)
    }
}

/// Which of the files that come along are read back. They come in the order in which they are due.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Choice {
    files: u64,
    budget: Option<u64>,
    left: u64,
}

/// What becomes of one of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Chosen {
    /// It is read.
    Read,
    /// It alone costs more than the whole budget: it is passed over, or nothing behind it would ever be read.
    TooLarge,
    /// It is not read, and nothing after it: what is left of the budget is less than it costs. It comes first next time.
    Enough,
}

impl Choice {
    /// The first `files` of them, as long as they cost no more than `budget` bytes together.
    #[must_use]
    pub fn new(files: u64, budget: Option<u64>) -> Self {
        Self { files, budget, left: budget.unwrap_or(u64::MAX) }
    }

    /// What becomes of the next one, a file of `size` bytes.
    pub fn next(&mut self, size: u64) -> Chosen {
        let cost = cost(size);
        if self.files == 0 {
            return Chosen::Enough;
        }
        if self.budget.is_some_and(|budget| cost > budget) {
            return Chosen::TooLarge;
        }
        if cost > self.left {
            self.left = 0;
            self.files = 0;
            return Chosen::Enough;
        }
        self.files -= 1;
        if self.budget.is_some() {
            self.left -= cost;
        }
        Chosen::Read
    }
}

/// What was read under a hash.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Came {
    /// The digest of the bytes.
    pub digest: Digest,
    /// Their identifier.
    pub cid: Cid,
    /// Whether there were more than there should be; digest and identifier are of those before.
    pub is_longer: bool,
    /// Whether it called itself a page and did not name the hash.
    pub is_page: bool,
}

/// What follows from what came under `hash` for a file whose bytes have this `digest`.
///
/// # Errors
/// If it looks like somebody else's answer.
pub fn judge(came: &Came, hash: &Cid, digest: Digest) -> Result<(Found, Proof), Fault> {
    if came.digest == digest && !came.is_longer {
        let proof = if came.cid == *hash { Proof::Cid } else { Proof::Read };
        return Ok((Found::Same, proof));
    }
    if came.is_page {
        return Err(Fault::Unreachable("something else answers in its place, with a page; is there a sign-in?".into()));
    }
    Ok((Found::Different, Proof::Read))
}

/// Whether a fault that a reading met is one of the line or of the whole service, so that uploads should wait as well.
/// Where only reading fails, uploads have nothing to do with it.
#[must_use]
pub fn concerns_uploads(fault: &Fault) -> bool {
    matches!(fault, Fault::Unreachable(_) | Fault::Busy { .. })
}

/// Whether dStor names files by other rules than ours, from `looked_at` stored files of which `alike` have the hash that
/// was computed here. Not one alike among several is no accident; nor is it a fault: the same bytes have as many names as
/// there are ways to cut them.
#[must_use]
pub fn names_otherwise(looked_at: u64, alike: u64) -> bool {
    looked_at >= FEWEST && alike == 0
}

/// What a person is told of it.
pub const NAMES_OTHERWISE: &str = "dStor names files by other rules than the usual ones, so no file is proved by its hash; \
    `dstor-sync verify --read` proves them by reading them back";

/// How much may be read by now of so many bytes a day: it comes in little by little, and is not saved up for longer than a
/// day. Times are those of a clock that never goes back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Allowance {
    a_day: u64,
    /// What there is, at `at`; less than nothing after a file that is larger than a day's.
    left: i128,
    at: Duration,
}

impl Allowance {
    /// Nothing at first: an agent that is started again and again must not begin with a day's worth each time.
    #[must_use]
    pub fn new(a_day: u64, now: Duration) -> Self {
        Self { a_day, left: 0, at: now }
    }

    /// How long until a file of `size` bytes may be read; zero: now. One that costs more than a day's worth may be read
    /// when that has come together, and what it takes beyond is made up for afterwards.
    pub fn wait_for(&mut self, size: u64, now: Duration) -> Duration {
        self.earn(now);
        let wanted = i128::from(cost(size).min(self.a_day)) - self.left;
        match u128::try_from(wanted) {
            Ok(wanted) if wanted > 0 && self.a_day > 0 => {
                let millis = (wanted * DAY.as_millis()).div_ceil(u128::from(self.a_day));
                Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
            }
            Ok(0) | Err(_) => Duration::ZERO,
            Ok(_) => Duration::MAX,
        }
    }

    /// So many bytes were read, and a request made for them.
    pub fn spend(&mut self, bytes: u64) {
        self.left -= i128::from(cost(bytes));
    }

    fn earn(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.at).as_millis();
        let earned = u128::from(self.a_day) * passed / DAY.as_millis();
        if earned > 0 {
            // Only as much time as it was paid for: the rest counts the next time.
            let paid = (earned * DAY.as_millis()).div_ceil(u128::from(self.a_day));
            self.at += Duration::from_millis(u64::try_from(paid).unwrap_or(u64::MAX)).min(now.saturating_sub(self.at));
            let earned = i128::try_from(earned).unwrap_or(i128::MAX);
            self.left = self.left.saturating_add(earned).min(i128::from(self.a_day));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_reads_as_people_write_it() {
        for (text, of_1000) in [("5%", 50), ("100%", 1000), ("0.25 %", 3), ("0.01%", 1), (" 12.5% ", 125), ("05%", 50)]
        {
            assert_eq!(Share::parse(text).map(|share| share.of(1000)), Some(of_1000), "{text}");
        }
        for bad in
            ["", "5", "%", "0%", "0.00%", "101%", "100.01%", "-5%", "5.%", ".5%", "1.234%", "+5%", "655360%", "1e1%"]
        {
            assert_eq!(Share::parse(bad), None, "{bad}");
        }
        assert_eq!(Share::parse("5%").map(|share| (share.of(1), share.of(0))), Some((1, 0)));
    }

    #[test]
    fn files_are_chosen_in_their_order_until_the_budget_is_used_up() {
        let mut choice = Choice::new(u64::MAX, Some(10 * 1024));
        assert_eq!(choice.next(20 * 1024), Chosen::TooLarge, "more than the whole budget");
        assert_eq!(choice.next(4 * 1024), Chosen::Read);
        assert_eq!(choice.next(0), Chosen::Read, "for a request's worth");
        assert_eq!(choice.next(4 * 1024), Chosen::Enough, "4 KiB are left, and it costs 5");
        assert_eq!(choice.next(0), Chosen::Enough, "nothing jumps the queue");
        let mut two = Choice::new(2, None);
        assert_eq!([two.next(u64::MAX), two.next(7), two.next(0)], [Chosen::Read, Chosen::Read, Chosen::Enough]);
    }

    #[test]
    fn only_the_very_bytes_are_a_proof_and_a_strange_page_says_nothing() {
        let cid = |text: &str| Cid::parse(text).expect("a hash");
        let hash = cid("QmT78zSuBmuS4z925WZfrqQ1qHaJ56DQaTfyMUF7F8ff5o");
        let other = cid("QmbFMke1KXqnYyBBWxB74N4c5SBnJMVAiMNRcGu6x1AwQH");
        let digest = Digest::of(b"hello world\n");
        let right = Came { digest, cid: hash.clone(), is_longer: false, is_page: false };
        assert_eq!(judge(&right, &hash, digest), Ok((Found::Same, Proof::Cid)));
        // A service that cuts files otherwise.
        assert_eq!(judge(&right, &other, digest), Ok((Found::Same, Proof::Read)));
        let page = Came { is_page: true, ..right.clone() };
        assert_eq!(judge(&page, &hash, digest), Ok((Found::Same, Proof::Cid)), "a stored page is a file like any");
        let wrong = Digest::of(b"hello World\n");
        assert_eq!(judge(&right, &hash, wrong), Ok((Found::Different, Proof::Read)));
        assert_eq!(judge(&Came { is_longer: true, ..right }, &hash, digest), Ok((Found::Different, Proof::Read)));
        assert_eq!(judge(&page, &hash, wrong).map_err(|fault| fault.code()), Err("unreachable"));
    }

    #[test]
    fn other_names_are_learnt_from_a_few_files_and_not_from_one() {
        assert!(!names_otherwise(0, 0) && !names_otherwise(2, 0));
        assert!(names_otherwise(3, 0) && !names_otherwise(20, 1));
    }

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn a_days_budget_comes_in_little_by_little_and_is_not_saved_up() {
        let mut allowance = Allowance::new(DAY.as_secs() * 1024, Duration::ZERO);
        assert_eq!(allowance.wait_for(1024, Duration::ZERO), Duration::from_secs(2), "nothing at first");
        assert_eq!(allowance.wait_for(1024, Duration::from_millis(1500)), Duration::from_millis(500));
        assert_eq!(allowance.wait_for(1024, Duration::from_secs(2)), Duration::ZERO);
        allowance.spend(1024);
        assert_eq!(allowance.wait_for(0, Duration::from_secs(2)), Duration::from_secs(1));
        let much_later = DAY * 30;
        assert_eq!(allowance.wait_for(0, much_later), Duration::ZERO);
        for _ in 0..DAY.as_secs() {
            assert_eq!(allowance.wait_for(0, much_later), Duration::ZERO);
            allowance.spend(0);
        }
        assert!(allowance.wait_for(0, much_later) > Duration::ZERO, "a day's worth and no more");
    }

    #[test]
    fn a_file_larger_than_a_days_budget_is_read_and_made_up_for() {
        let mut allowance = Allowance::new(100 * MIB, Duration::ZERO);
        assert_eq!(allowance.wait_for(1000 * MIB, Duration::ZERO), DAY);
        assert_eq!(allowance.wait_for(1000 * MIB, DAY), Duration::ZERO);
        allowance.spend(1000 * MIB);
        let wait = allowance.wait_for(0, DAY);
        assert!(wait > DAY * 9 && wait < DAY * 10, "{wait:?}");
    }

    proptest::proptest! {
        #[test]
        fn no_more_is_read_than_comes_in(a_day in 1..u64::MAX / 2, sizes in proptest::collection::vec(0..50 * MIB, 1..50)) {
            let (mut allowance, mut now, mut spent) = (Allowance::new(a_day, Duration::ZERO), Duration::ZERO, 0_u128);
            for size in sizes {
                let wait = allowance.wait_for(size, now);
                proptest::prop_assume!(wait < DAY * 365 * 1000);
                now += wait;
                proptest::prop_assert_eq!(allowance.wait_for(size, now), Duration::ZERO);
                let earned = u128::from(a_day) * now.as_millis() / DAY.as_millis();
                // A file that is larger than a day's is let through before all of it has come in.
                proptest::prop_assert!(spent + u128::from(cost(size).min(a_day)) <= earned + 1);
                allowance.spend(size);
                spent += u128::from(cost(size));
            }
        }

        #[test]
        fn no_text_makes_a_share_panic(text in ".{0,12}|[0-9.]{0,40}%") {
            if let Some(share) = Share::parse(&text) {
                proptest::prop_assert!(share.of(u64::MAX) > 0);
            }
        }
    }
}
