//! At what pace dStor is asked: how many requests at a time, and when none.

use std::time::Duration;

use super::{Backoff, Fault, Scope, Verdict};

/// How long the gate stays closed at most while dStor cannot be reached: asking is cheap, and people want their files
/// to go up soon after the network is back.
const UNREACHABLE: Backoff = Backoff { first: Duration::from_secs(2), longest: Duration::from_secs(60) };
/// The same while dStor answers, but not well.
const AILING: Backoff = Backoff { first: Duration::from_secs(2), longest: Duration::from_secs(300) };
/// How often refused or missing credentials are looked at again. That is a look at this machine's files: dStor itself is
/// asked about the same ones every 15 minutes only.
const CREDENTIALS: Duration = Duration::from_secs(15);
/// So many may be under way before dStor has answered anything: with those that follow one by one, a service that only
/// fails is asked fewer than 12 times in the first minute, however many workers there are.
const AT_FIRST: usize = 4;
/// After a sign of life the gate counts no more failures than these: it stays closed for eight seconds at the most.
const LEFT_BY_A_SIGN: u32 = 2;
/// What a server asks for is made longer by up to this part, so that not all who were told the same come back at once.
const LATER: f64 = 0.1;

/// What is known of dStor from the last requests.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct GateFacts {
    /// Whether it answered; `None`: nobody asked.
    pub reachable: Option<bool>,
    /// The last failure that concerned the whole account; forgotten with the next success.
    pub last_error: Option<String>,
    /// How often in a row the gate was closed.
    pub failures: u32,
    /// Whether what failed last was an upload that was broken off.
    pub is_broken_off: bool,
}

impl GateFacts {
    /// Whether whoever sees alone if dStor is back asks it something small first: upload after upload was broken off, which
    /// a dStor does that is not there, and one that does not want just these files (E7).
    #[must_use]
    pub fn wants_a_sign(&self) -> bool {
        self.is_broken_off && self.failures > LEFT_BY_A_SIGN
    }
}

/// The rules of the gate that all requests pass. Open while dStor answers; closed for a while when it does not, and then
/// one request goes ahead alone to see. How many may be under way at a time doubles with each answer until something
/// fails; from then on it shrinks by halves and grows by ones.
///
/// Times are durations since any fixed moment of a clock that never goes back; the caller brings them.
#[derive(Debug)]
pub struct Pace {
    most: usize,
    limit: usize,
    /// Up to here the limit grows with each answer. From here on, where it failed before, with as many as it is.
    regain: usize,
    /// Whether nothing failed yet: each answer doubles the limit, as there is nothing to be careful about but a start.
    is_unhurt: bool,
    /// Answers in a row since the limit was last changed.
    in_a_row: usize,
    in_flight: usize,
    resting: usize,
    gate: Gate,
    reachable: Option<bool>,
    last_error: Option<String>,
    is_broken_off: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Gate {
    Open,
    Closed { until: Duration, failures: u32 },
    Probing { failures: u32 },
}

/// The right to make requests for one change. To be given back by [`Pace::leave`], whatever came of it.
#[must_use = "whoever does not give it back is under way for ever"]
#[derive(PartialEq, Eq, Debug)]
pub struct Ticket {
    is_probe: bool,
    is_resting: bool,
    /// Whether an answer to it was counted as a good one.
    is_counted: bool,
}

impl Ticket {
    /// Whether it is the one that sees, alone, whether dStor is back.
    #[must_use]
    pub fn is_probe(&self) -> bool {
        self.is_probe
    }
}

/// Whether one may go.
#[derive(PartialEq, Eq, Debug)]
pub enum Enter {
    /// Now.
    Go(Ticket),
    /// The gate is closed until then. Ask again at that time, and whenever someone has left.
    At(Duration),
    /// So many are under way as may be, or one has gone ahead to see. Ask again whenever someone has left: time alone
    /// changes nothing.
    WhenChanged,
}

/// How it went for one who leaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Left<'a> {
    /// There was nothing to ask dStor, or this side broke it off.
    Unasked,
    /// dStor answered as it should, or refused this file alone.
    Answered,
    /// A request failed.
    Failed(&'a Fault),
}

impl Pace {
    /// An open gate. No more than `most` (at least 1) are ever let through at a time; as many may rest beside them.
    #[must_use]
    pub fn new(most: usize) -> Self {
        let most = most.max(1);
        Self {
            most,
            limit: most.min(AT_FIRST),
            regain: most,
            is_unhurt: true,
            in_a_row: 0,
            in_flight: 0,
            resting: 0,
            gate: Gate::Open,
            reachable: None,
            last_error: None,
            is_broken_off: false,
        }
    }

    /// Lets one through, or says when to ask again.
    pub fn enter(&mut self, now: Duration) -> Enter {
        let is_probe = match self.gate {
            Gate::Open if self.in_flight < self.limit => false,
            Gate::Open | Gate::Probing { .. } => return Enter::WhenChanged,
            Gate::Closed { until, .. } if now < until => return Enter::At(until),
            // However many of those who went before are still under way: they may hang.
            Gate::Closed { failures, .. } => {
                self.gate = Gate::Probing { failures };
                true
            }
        };
        self.in_flight += 1;
        Enter::Go(Ticket { is_probe, is_resting: false, is_counted: false })
    }

    /// One has left. `chance`, from `0.0` to `1.0`, spreads the back-off. Returns how long to wait from now on, if the
    /// fault concerns the whole account. Everyone who waits may ask again afterwards.
    pub fn leave(&mut self, mut ticket: Ticket, how: Left<'_>, now: Duration, chance: f64) -> Option<Duration> {
        let counted = if ticket.is_resting { &mut self.resting } else { &mut self.in_flight };
        *counted = counted.saturating_sub(1);
        match how {
            Left::Unasked => self.say_nothing(&ticket, now),
            Left::Answered | Left::Failed(Fault::Refused { .. }) => self.go_well(&mut ticket),
            Left::Failed(fault) if fault.scope() == Scope::Path => self.say_nothing(&ticket, now),
            Left::Failed(fault) => return Some(self.fail(&ticket, fault, now, chance)),
        }
        None
    }

    /// dStor took all that one had to send, and is only asked from now on how far it is. That is a good answer: as many more
    /// may be under way as it is a reason for. And another one may go meanwhile, if this returns true: while dStor answers
    /// well, and no more than may be under way at a time. So a service that takes everything and brings nothing to its end
    /// is soon given no more for it.
    pub fn rest(&mut self, ticket: &mut Ticket) -> bool {
        let is_well = self.gate == Gate::Open && self.last_error.is_none();
        if !is_well || ticket.is_probe || ticket.is_resting {
            return false;
        }
        self.reachable = Some(true);
        self.grow(ticket);
        if self.resting >= self.limit {
            return false;
        }
        self.in_flight = self.in_flight.saturating_sub(1);
        self.resting += 1;
        ticket.is_resting = true;
        true
    }

    /// One that may have rested has more to send. It waits for nobody: there may be more under way than the limit for a while.
    pub fn rise(&mut self, ticket: &mut Ticket) {
        if std::mem::take(&mut ticket.is_resting) {
            self.resting = self.resting.saturating_sub(1);
            self.in_flight += 1;
        }
    }

    /// Lets one go ahead now to see whether dStor is back: a person says that it is time.
    pub fn try_now(&mut self, now: Duration) {
        if let Gate::Closed { until, failures } = self.gate {
            self.gate = Gate::Closed { until: until.min(now), failures };
        }
    }

    /// dStor gave a sign of life, though upload after upload failed: it is there, and the gate need not stay closed for
    /// longer and longer. Others may get through.
    pub fn gave_sign(&mut self) {
        self.reachable = Some(true);
        if let Gate::Closed { failures, .. } | Gate::Probing { failures } = &mut self.gate {
            *failures = (*failures).min(LEFT_BY_A_SIGN);
        }
    }

    /// What is known of dStor.
    #[must_use]
    pub fn facts(&self) -> GateFacts {
        let failures = match self.gate {
            Gate::Open => 0,
            Gate::Closed { failures, .. } | Gate::Probing { failures } => failures,
        };
        let (last_error, is_broken_off) = (self.last_error.clone(), self.is_broken_off);
        GateFacts { reachable: self.reachable, last_error, failures, is_broken_off }
    }

    /// How long the gate is closed from `now` on; zero while it is open or someone is trying.
    #[must_use]
    pub fn closed_for(&self, now: Duration) -> Duration {
        match self.gate {
            Gate::Closed { until, .. } => until.saturating_sub(now),
            Gate::Open | Gate::Probing { .. } => Duration::ZERO,
        }
    }

    /// How many may be under way at a time while the gate is open.
    #[must_use]
    pub fn in_flight_limit(&self) -> usize {
        self.limit
    }

    /// How many are under way, without those that rest. After the limit has shrunk they may be more than it for a while.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    fn say_nothing(&mut self, ticket: &Ticket, now: Duration) {
        if let Gate::Probing { failures } = self.gate
            && ticket.is_probe
        {
            // The next one may go and see.
            self.gate = Gate::Closed { until: now, failures };
        }
    }

    fn go_well(&mut self, ticket: &mut Ticket) {
        self.reachable = Some(true);
        // One that was under way when another closed the gate does not take away the reason why it is closed.
        if ticket.is_probe || self.gate == Gate::Open {
            self.last_error = None;
            self.is_broken_off = false;
        }
        if ticket.is_probe {
            self.gate = Gate::Open;
            self.limit = 1;
            self.in_a_row = 0;
        } else if self.gate == Gate::Open {
            self.grow(ticket);
        }
    }

    /// As many more may be under way as a good answer to this one is a reason for: once.
    fn grow(&mut self, ticket: &mut Ticket) {
        if std::mem::replace(&mut ticket.is_counted, true) || self.limit == self.most {
            return;
        }
        self.in_a_row += 1;
        if self.is_unhurt {
            self.limit = self.limit.saturating_mul(2).min(self.most);
        } else if self.limit < self.regain || self.in_a_row >= self.limit {
            self.limit += 1;
            self.in_a_row = 0;
        }
    }

    fn fail(&mut self, ticket: &Ticket, fault: &Fault, now: Duration, chance: f64) -> Duration {
        self.in_a_row = 0;
        self.is_unhurt = false;
        self.last_error = Some(fault.message());
        self.is_broken_off = matches!(fault, Fault::BrokenOff(_));
        self.reachable = match fault {
            Fault::Unreachable(_) => Some(false),
            // A connection stood, but nobody answered.
            Fault::Credentials(_) | Fault::BrokenOff(_) => self.reachable,
            _ => Some(true),
        };
        let failures = match self.gate {
            Gate::Open => 1,
            Gate::Probing { failures } if ticket.is_probe => failures.saturating_add(1),
            Gate::Probing { failures } | Gate::Closed { failures, .. } => failures,
        };
        let asked = match fault.verdict(1) {
            Verdict::Retry(asked) => asked,
            Verdict::Park => None,
        };
        let usual = match fault {
            Fault::Credentials(_) => CREDENTIALS,
            Fault::Unreachable(_) | Fault::BrokenOff(_) => UNREACHABLE.delay(failures, chance),
            _ => AILING.delay(failures, chance),
        };
        let asked = asked.map(|asked| asked.mul_f64(1.0 + LATER * chance.clamp(0.0, 1.0)));
        let wait = asked.unwrap_or_default().min(Fault::LONGEST_RETRY_AFTER).max(usual);
        match self.gate {
            // It set out before the one that is about to tell.
            Gate::Probing { .. } if !ticket.is_probe => return wait,
            // Those who were under way when another closed it keep it closed no longer, unless the server asks for that.
            Gate::Closed { until, .. } => {
                let until = if asked.is_some() { until.max(now + wait) } else { until };
                self.gate = Gate::Closed { until, failures };
                return until.saturating_sub(now);
            }
            Gate::Open | Gate::Probing { .. } => {}
        }
        self.gate = Gate::Closed { until: now + wait, failures };
        if matches!(fault, Fault::Unreachable(_) | Fault::BrokenOff(_) | Fault::Busy { .. } | Fault::ServerError(_)) {
            self.limit = (self.limit / 2).max(1);
        }
        self.regain = self.limit;
        wait
    }
}

#[cfg(test)]
mod tests;
