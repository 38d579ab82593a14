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
    /// An upload session is opened for a file.
    Opening,
    /// The file is sent in its session; it is large enough for its body to have a midst.
    Chunk,
    /// The session has the file, and is asked how far it is.
    Status,
}

/// A kind of request: phases of one kind see a fault alike.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Token,
    Upload,
    Opening,
    Chunk,
    Status,
}

impl Phase {
    pub(super) const ALL: [Self; 8] = [
        Self::TokenByKey,
        Self::TokenByLogin,
        Self::Renewal,
        Self::Small,
        Self::Large,
        Self::Opening,
        Self::Chunk,
        Self::Status,
    ];

    pub(super) fn kind(self) -> Kind {
        match self {
            Self::TokenByKey | Self::TokenByLogin | Self::Renewal => Kind::Token,
            Self::Small | Self::Large => Kind::Upload,
            Self::Opening => Kind::Opening,
            Self::Chunk => Kind::Chunk,
            Self::Status => Kind::Status,
        }
    }

    /// Whether nothing was asked of dStor before the fault.
    pub(super) fn is_first(self) -> bool {
        matches!(self, Self::TokenByKey | Self::TokenByLogin)
    }

    /// Bytes of the file that meets the fault, and bytes a second that are slow for the request that meets it.
    pub(super) fn sizes(self) -> (usize, usize) {
        match self {
            Self::TokenByKey | Self::TokenByLogin | Self::Renewal | Self::Small | Self::Status => (2_000, 1_000),
            Self::Large => (4_000_000, 1_000_000),
            // Not the file is slow here, but the few bytes that open a session.
            Self::Opening => (2_000, 25),
            Self::Chunk => (300_000, 100_000),
        }
    }
}

impl Kind {
    const ALL: [Self; 5] = [Self::Token, Self::Upload, Self::Opening, Self::Chunk, Self::Status];

    /// The sandbox's word for it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Upload => "upload",
            Self::Opening => "get-token",
            Self::Chunk => "chunk",
            Self::Status => "status",
        }
    }

    /// Whether it belongs to an upload session.
    pub(super) fn is_of_session(self) -> bool {
        matches!(self, Self::Opening | Self::Chunk | Self::Status)
    }
}

/// What the agent makes of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Seen {
    /// dStor is not there: everything waits.
    Away,
    /// The connection breaks in the midst of an upload, or before it is answered: everything waits.
    BrokenOff,
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

use Kind::{Chunk, Opening, Status, Token, Upload};
use Seen::{Ailing, Away, BrokenOff, Busy, Quota, Refused, Rejected, Senseless, Stored, Unproved};

impl Seen {
    /// The code of a file that waits for it; none if it does not wait.
    pub(super) fn waits_with(self) -> Option<&'static str> {
        match self {
            Away => Some("unreachable"),
            BrokenOff => Some("broken_off"),
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
            Away | BrokenOff | Ailing | Quota | Senseless | Rejected | Refused(_) | Stored | Unproved => Duration::ZERO,
        }
    }
}

/// A fault: how it is made, and what it is seen as.
pub(super) struct Fault {
    /// The sandbox's rule for it without the phase; nothing: nobody listens at all. `DATE` is a moment some seconds ahead,
    /// `ELSEWHERE` a listener on another host, `RATE` slow for the phase.
    pub(super) rule: &'static str,
    /// As each kind of request sees it; `None`: it cannot happen there.
    seen: [Option<Seen>; Kind::ALL.len()],
}

impl Fault {
    /// The same wherever it is met.
    const fn all(rule: &'static str, seen: Seen) -> Self {
        Self { rule, seen: [Some(seen); Kind::ALL.len()] }
    }

    /// Seen so in these kinds of request, and nowhere else.
    const fn only(rule: &'static str, kinds: &[Kind], seen: Seen) -> Self {
        Self { rule, seen: [None; Kind::ALL.len()] }.but(kinds, seen)
    }

    /// The same fault, seen otherwise in these kinds of request.
    const fn but(mut self, kinds: &[Kind], seen: Seen) -> Self {
        let mut at = 0;
        while at < kinds.len() {
            self.seen[kinds[at] as usize] = Some(seen);
            at += 1;
        }
        self
    }
}

/// Requests that bring no file: none is given up for what is answered to them.
const WITHOUT_A_FILE: &[Kind] = &[Token, Opening, Status];
/// Requests with a body to speak of.
const WITH_A_BODY: &[Kind] = &[Upload, Opening, Chunk];
/// Requests whose answer tells a file's hash.
const TELLS_A_HASH: &[Kind] = &[Upload, Status];

const FAULTS: &[Fault] = &[
    // E1: connections that are not made (in the midst of a session: not made again),
    Fault::all("", Away),
    // E5, E7, E8, E18, E22: break,
    Fault::all("reset", Away).but(&[Upload, Chunk], BrokenOff),
    Fault::only("reset-in-body", WITH_A_BODY, Away).but(&[Upload, Chunk], BrokenOff),
    Fault::all("reset-after-store", Away).but(&[Upload, Chunk], BrokenOff),
    // E6, E26, E29: or hang; and those that are only slow.
    Fault::all("stall", Away),
    Fault::all("stall-in-answer", Away),
    Fault::all("late=1500", Stored),
    Fault::only("slow=RATE", WITH_A_BODY, Stored),
    // E9, E13, E14, E16, E32: statuses, each with its meaning.
    Fault::all("400", Refused("refused")).but(WITHOUT_A_FILE, Senseless),
    Fault::all("401", Rejected),
    Fault::all("402", Quota),
    Fault::all("403", Quota).but(&[Token], Rejected),
    // E25: a session that nobody knows (any more).
    Fault::all("404", Ailing).but(&[Status], Senseless),
    Fault::all("413", Refused("too_large_for_dstor")).but(WITHOUT_A_FILE, Senseless),
    Fault::all("422", Refused("refused")).but(WITHOUT_A_FILE, Senseless),
    // E15
    Fault::all("429", Busy(0)),
    Fault::all("429 retry-after=4", Busy(4)),
    Fault::all("429 retry-after=DATE", Busy(4)),
    Fault::all("429 retry-after=soon", Busy(0)),
    // E16
    Fault::all("500", Ailing),
    Fault::all("502", Ailing),
    Fault::all("503", Busy(0)),
    Fault::all("503 retry-after=4", Busy(4)),
    Fault::all("507", Quota),
    // E2, E17, E24: answers that are none.
    Fault::all("html", Away),
    Fault::all("truncated-json", Away),
    // E23: that a session has the file is believed, and it waits for it for ever.
    Fault::all("200", Senseless),
    Fault::only("no-hash", TELLS_A_HASH, Senseless),
    Fault::only("empty-hash", TELLS_A_HASH, Senseless),
    Fault::only("bad-hash", TELLS_A_HASH, Senseless),
    Fault::only("foreign-hash", TELLS_A_HASH, Unproved),
    // E27
    Fault::all("redirect=ELSEWHERE", Away),
    // E26
    Fault::all("endless", Senseless),
    Fault::all("gzip-bomb", Senseless),
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
        match self.seen {
            Rejected => "refused",
            Away | BrokenOff | Busy(_) | Ailing | Quota | Senseless | Refused(_) if self.phase.is_first() => "unknown",
            Away | BrokenOff | Busy(_) | Ailing | Quota | Senseless | Refused(_) | Stored | Unproved => "ok",
        }
    }

    /// Whether the agent has to wait for something that never comes.
    pub(super) fn is_dead(&self) -> bool {
        self.rule.starts_with("stall") || (self.phase == Phase::Chunk && self.rule == "200")
    }
}

/// Every phase with every fault that can be seen in it.
pub(super) fn cells() -> Vec<Cell> {
    let cell = |phase: Phase, fault: &Fault| {
        fault.seen[phase.kind() as usize].map(|seen| Cell { phase, rule: fault.rule, seen })
    };
    let mut cells: Vec<Cell> =
        Phase::ALL.into_iter().flat_map(|phase| FAULTS.iter().filter_map(move |fault| cell(phase, fault))).collect();
    // The slowest first: the others fit in between.
    cells.sort_by_key(|cell| !(cell.is_dead() || matches!(cell.seen, Busy(4))));
    cells
}
