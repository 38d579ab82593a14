//! The gate that all uploads pass: open while dStor answers, closed for a while when it does not, and then one goes
//! ahead alone to see.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};

use crate::mirror::{Backoff, Fault, Scope, Verdict};

/// How long the gate stays closed at most while dStor cannot be reached: asking is cheap, and people want their files
/// to go up soon after the network is back.
const UNREACHABLE: Backoff = Backoff { first: Duration::from_secs(2), longest: Duration::from_secs(60) };
/// The same while dStor answers, but not well.
const AILING: Backoff = Backoff { first: Duration::from_secs(2), longest: Duration::from_secs(300) };
/// How often refused or missing credentials are looked at again. That is a look at this machine's files: dStor itself is
/// asked about the same ones every 15 minutes only.
const CREDENTIALS: Duration = Duration::from_secs(15);

/// What is known of dStor from the last requests.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct GateFacts {
    /// Whether it answered; `None`: nobody asked.
    pub reachable: Option<bool>,
    /// The last failure that concerned the whole account; forgotten with the next success.
    pub last_error: Option<String>,
    /// How often in a row the gate was closed.
    pub failures: u32,
}

/// The gate. One for all workers: a server that asks one of them to wait means all of them.
#[derive(Debug)]
pub struct Gate {
    state: Mutex<State>,
    changed: Notify,
    facts: watch::Sender<GateFacts>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Open,
    Closed { until: Instant, failures: u32 },
    Probing { failures: u32 },
}

/// The right to make requests for one change. Dropped without a word, it says nothing about dStor.
#[derive(Debug)]
pub struct Pass<'a> {
    gate: &'a Gate,
    is_probe: bool,
}

impl Default for Gate {
    fn default() -> Self {
        Self { state: Mutex::new(State::Open), changed: Notify::new(), facts: watch::channel(GateFacts::default()).0 }
    }
}

impl Gate {
    /// What is known of dStor, and word whenever it changes.
    pub fn facts(&self) -> watch::Receiver<GateFacts> {
        self.facts.subscribe()
    }

    /// How long it is closed from now on; zero while it is open or someone is trying.
    #[must_use]
    pub fn closed_for(&self) -> Duration {
        match *self.state() {
            State::Closed { until, .. } => until.saturating_duration_since(Instant::now()),
            State::Open | State::Probing { .. } => Duration::ZERO,
        }
    }

    /// Waits until it is open, or until it is this caller's turn to see whether it can be. Cancel safe.
    pub async fn pass(&self) -> Pass<'_> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            match self.try_pass(Instant::now()) {
                Ok(pass) => return pass,
                Err(Some(until)) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(until.into()) => {}
                        () = changed => {}
                    }
                }
                Err(None) => changed.await,
            }
        }
    }

    /// The pass, or when to ask again; `Err(None)`: when someone else has seen.
    fn try_pass(&self, now: Instant) -> Result<Pass<'_>, Option<Instant>> {
        let mut state = self.state();
        match *state {
            State::Open => Ok(Pass { gate: self, is_probe: false }),
            State::Probing { .. } => Err(None),
            State::Closed { until, .. } if until > now => Err(Some(until)),
            State::Closed { failures, .. } => {
                *state = State::Probing { failures };
                Ok(Pass { gate: self, is_probe: true })
            }
        }
    }

    /// Closes after a fault; returns until when, and how often in a row it was closed. Those who were under way when another closed it do not close it longer,
    /// unless the server asks for that.
    fn close(&self, fault: &Fault, is_probe: bool, now: Instant, chance: f64) -> (Instant, u32) {
        let mut state = self.state();
        let failures = match *state {
            State::Open => 1,
            State::Probing { failures } if is_probe => failures + 1,
            State::Probing { failures } | State::Closed { failures, .. } => failures,
        };
        let usual = match fault {
            Fault::Credentials(_) => CREDENTIALS,
            Fault::Unreachable(_) => UNREACHABLE.delay(failures, chance),
            _ => AILING.delay(failures, chance),
        };
        let wait = match fault.verdict(1) {
            Verdict::Retry(Some(asked)) => asked.max(usual),
            Verdict::Retry(None) | Verdict::Park => usual,
        };
        let mut until = now + wait;
        match *state {
            State::Probing { .. } if !is_probe => return (until, failures),
            State::Closed { until: before, .. } => until = until.max(before),
            State::Open | State::Probing { .. } => {}
        }
        *state = State::Closed { until, failures };
        self.changed.notify_waiters();
        (until, failures)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pass<'_> {
    /// dStor answered as it should, or refused this file alone: the gate is open.
    pub fn succeed(self) {
        if self.is_probe {
            *self.gate.state() = State::Open;
            self.gate.changed.notify_waiters();
        }
        let well = GateFacts { reachable: Some(true), last_error: None, failures: 0 };
        self.gate.facts.send_if_modified(|facts| {
            let is_new = *facts != well;
            *facts = well;
            is_new
        });
    }

    /// A request failed with `fault`. Returns how long the gate is closed now, if the fault concerns the whole account.
    pub fn fail(self, fault: &Fault) -> Option<Duration> {
        if fault.scope() == Scope::Path {
            if matches!(fault, Fault::Refused { .. }) {
                self.succeed();
            }
            return None;
        }
        let now = Instant::now();
        let (until, failures) = self.gate.close(fault, self.is_probe, now, fastrand::f64());
        self.gate.facts.send_modify(|facts| {
            facts.reachable = match fault {
                Fault::Unreachable(_) => Some(false),
                Fault::Credentials(_) => facts.reachable,
                _ => Some(true),
            };
            facts.failures = failures;
            facts.last_error = Some(fault.message());
        });
        Some(until.saturating_duration_since(now))
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if !self.is_probe {
            return;
        }
        let mut state = self.gate.state();
        if let State::Probing { failures } = *state {
            // It had nothing to ask dStor: the next one may.
            *state = State::Closed { until: Instant::now(), failures };
            self.gate.changed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn down() -> Fault {
        Fault::Unreachable("no route".into())
    }

    // E16
    #[test]
    fn while_dstor_is_down_one_asks_and_the_others_wait() {
        let gate = Gate::default();
        let first = gate.try_pass(Instant::now()).expect("open");
        let second = gate.try_pass(Instant::now()).expect("open");
        let wait = first.fail(&down()).expect("closed");
        second.fail(&down());
        let later = Instant::now() + wait + Duration::from_secs(2);
        assert!(matches!(gate.try_pass(Instant::now()), Err(Some(_))), "closed");
        let probe = gate.try_pass(later).expect("one goes ahead");
        assert!(matches!(gate.try_pass(later), Err(None)), "and only one");
        probe.succeed();
        assert!(gate.try_pass(Instant::now()).is_ok());
    }

    #[test]
    fn a_probe_that_had_nothing_to_ask_leaves_it_to_the_next() {
        let gate = Gate::default();
        let closed = gate.try_pass(Instant::now()).expect("open").fail(&down()).expect("closed");
        let later = Instant::now() + closed;
        drop(gate.try_pass(later).expect("probe"));
        assert!(gate.try_pass(Instant::now() + closed).is_ok());
    }

    // P5
    #[test]
    fn a_server_that_only_fails_is_asked_less_than_twelve_times_a_minute() {
        let gate = Gate::default();
        let begin = Instant::now();
        let (mut now, mut asked) = (begin, 0);
        while now < begin + Duration::from_secs(60) {
            let pass = gate.try_pass(now).expect("its turn");
            asked += 1;
            (now, _) = gate.close(&Fault::ServerError(500), pass.is_probe, now, 0.0);
            std::mem::forget(pass);
        }
        // With the four workers that were under way when it first failed.
        assert!(asked + 3 <= 12, "{asked}");
    }

    // E15
    #[test]
    fn what_retry_after_asks_for_holds_for_everyone() {
        let gate = Gate::default();
        let busy = Fault::Busy { status: 429, after: Some(Duration::from_secs(600)) };
        let wait = gate.try_pass(Instant::now()).expect("open").fail(&busy).expect("closed");
        assert!(wait > Duration::from_secs(599));
        let soon = Instant::now() + Duration::from_secs(590);
        assert!(gate.try_pass(soon).is_err());
    }

    #[test]
    fn a_file_that_is_refused_closes_nothing() {
        let gate = Gate::default();
        let refused = Fault::Refused { status: 400, message: String::new() };
        assert_eq!(gate.try_pass(Instant::now()).expect("open").fail(&refused), None);
        assert!(gate.try_pass(Instant::now()).is_ok());
        assert_eq!(gate.facts().borrow().reachable, Some(true));
    }
}
