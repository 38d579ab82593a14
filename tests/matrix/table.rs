//! The table: what goes wrong, and what is right then.

use std::time::Duration;

/// When it goes wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// The first token is asked for with an API key.
    TokenByKey,
    /// The same with e-mail and password.
    TokenByLogin,
    /// A token was revoked in mid-run, and another one is asked for.
    Renewal,
    /// A file of a few kilobytes is uploaded.
    Small,
    /// A file of several megabytes is: what goes wrong, does so in the midst of its body.
    Large,
}

impl Phase {
    pub(super) const ALL: [Self; 5] = [Self::TokenByKey, Self::TokenByLogin, Self::Renewal, Self::Small, Self::Large];

    pub(super) fn is_upload(self) -> bool {
        matches!(self, Self::Small | Self::Large)
    }
}

/// What the agent makes of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Seen {
    /// dStor is not there: everything waits.
    Away,
    /// dStor wants to be left alone, for so many seconds if it says so.
    Busy(u64),
    /// dStor has troubles of its own.
    Ailing,
    /// The account's quota, plan or rights.
    Quota,
    /// An answer without sense.
    Senseless,
    /// The credentials are refused.
    Rejected,
    /// The file is refused, with this code.
    Refused(&'static str),
    /// All is well, only slow.
    Stored,
    /// It is stored, but what dStor says of it proves nothing.
    Unproved,
}

use Seen::{Ailing, Away, Busy, Quota, Refused, Rejected, Senseless, Stored, Unproved};

impl Seen {
    /// The code of a file that waits for it; none if it does not wait.
    pub(super) fn waits_with(self) -> Option<&'static str> {
        match self {
            Away => Some("unreachable"),
            Busy(_) => Some("busy"),
            Ailing => Some("server_error"),
            Quota => Some("quota"),
            Senseless => Some("protocol"),
            Rejected => Some("credentials"),
            Refused(_) | Stored | Unproved => None,
        }
    }

    /// No sooner than this may it be asked again.
    pub(super) fn no_sooner(self) -> Duration {
        match self {
            Busy(seconds) => Duration::from_secs(seconds),
            Away | Ailing | Quota | Senseless | Rejected | Refused(_) | Stored | Unproved => Duration::ZERO,
        }
    }
}

/// A fault: how it is made, and what it is seen as.
pub(super) struct Fault {
    /// The sandbox's rule for it without the phase; nothing: nobody listens at all. `DATE` is a moment some seconds ahead,
    /// `ELSEWHERE` a listener on another host, `RATE` slow for the phase.
    pub(super) rule: &'static str,
    /// By one who asks for a token; `None`: it cannot happen there.
    token: Option<Seen>,
    /// By one who uploads.
    upload: Option<Seen>,
}

const fn both(rule: &'static str, seen: Seen) -> Fault {
    Fault { rule, token: Some(seen), upload: Some(seen) }
}

const fn each(rule: &'static str, token: Seen, upload: Seen) -> Fault {
    Fault { rule, token: Some(token), upload: Some(upload) }
}

const fn only_upload(rule: &'static str, seen: Seen) -> Fault {
    Fault { rule, token: None, upload: Some(seen) }
}

const FAULTS: &[Fault] = &[
    // E1: connections that are not made,
    both("", Away),
    // E5, E8, E18: break,
    both("reset", Away),
    only_upload("reset-in-body", Away),
    both("reset-after-store", Away),
    // E6, E26, E29: or hang; and those that are only slow.
    both("stall", Away),
    both("stall-in-answer", Away),
    both("late=1500", Stored),
    only_upload("slow=RATE", Stored),
    // E9, E13, E14, E16, E32: statuses, each with its meaning.
    each("400", Senseless, Refused("refused")),
    each("401", Rejected, Rejected),
    both("402", Quota),
    each("403", Rejected, Quota),
    both("404", Ailing),
    each("413", Senseless, Refused("too_large_for_dstor")),
    each("422", Senseless, Refused("refused")),
    // E15
    both("429", Busy(0)),
    both("429 retry-after=4", Busy(4)),
    both("429 retry-after=DATE", Busy(4)),
    both("429 retry-after=soon", Busy(0)),
    // E16
    both("500", Ailing),
    both("502", Ailing),
    both("503", Busy(0)),
    both("503 retry-after=4", Busy(4)),
    both("507", Quota),
    // E2, E17: answers that are none.
    both("html", Away),
    both("truncated-json", Away),
    both("200", Senseless),
    only_upload("no-hash", Senseless),
    only_upload("empty-hash", Senseless),
    only_upload("bad-hash", Senseless),
    only_upload("foreign-hash", Unproved),
    // E27
    both("redirect=ELSEWHERE", Away),
    // E26
    both("endless", Senseless),
    both("gzip-bomb", Senseless),
];

/// One phase with one fault.
#[derive(Clone, Copy)]
pub(super) struct Cell {
    pub(super) phase: Phase,
    pub(super) rule: &'static str,
    pub(super) seen: Seen,
}

impl Cell {
    pub(super) fn name(&self) -> String {
        let fault = if self.rule.is_empty() { "nobody listens" } else { self.rule };
        format!("{:?}: {fault}", self.phase)
    }

    /// `auth` in status while the fault lasts.
    pub(super) fn auth(&self) -> &'static str {
        match (self.seen, self.phase) {
            (Rejected, _) => "refused",
            // Nobody knows yet.
            (Stored | Unproved, _) | (_, Phase::Renewal | Phase::Small | Phase::Large) => "ok",
            (_, Phase::TokenByKey | Phase::TokenByLogin) => "unknown",
        }
    }
}

/// Every phase with every fault that can be seen in it.
pub(super) fn cells() -> Vec<Cell> {
    let cell = |phase: Phase, fault: &Fault| {
        let seen = if phase.is_upload() { fault.upload } else { fault.token };
        seen.map(|seen| Cell { phase, rule: fault.rule, seen })
    };
    // The slowest phase first.
    let phases = Phase::ALL.into_iter().rev();
    phases.flat_map(|phase| FAULTS.iter().filter_map(move |fault| cell(phase, fault))).collect()
}
