//! Who may use which access token, when one is fetched, and by whom: the rules, without clock, network or waiting.

use std::time::Duration;

use crate::mirror::Fault;

/// Refused credentials are asked about again after this long, if they do not change before.
const ASK_AGAIN: Duration = Duration::from_secs(15 * 60);
/// A token is renewed when this much of its life is left, or a fifth if that is less.
const RENEW_BEFORE: Duration = Duration::from_secs(5 * 60);

/// How the credentials fare.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Standing {
    /// Nobody asked yet.
    #[default]
    Unknown,
    /// dStor gave a token for them.
    Accepted,
    /// dStor refuses them.
    Refused,
    /// There are none, or they cannot be read.
    Missing,
}

/// A token on loan.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Leased<T> {
    /// The token.
    pub token: T,
    /// Which one of those fetched so far it is.
    pub number: u64,
}

/// What someone wants: a token, other than one that dStor did not take. Made by [`Lease::wish`] once and asked with
/// until there is an answer.
#[derive(PartialEq, Eq, Debug)]
pub struct Wish {
    refused: Option<u64>,
    /// How many fetches had ended when it was made.
    ended: u64,
}

/// The order to fetch a token. To be given back by [`Lease::fetched`] or [`Lease::give_up`].
#[must_use = "while it is out, nobody else fetches a token"]
#[derive(Debug)]
pub struct Order<C> {
    /// What to ask for it with.
    pub credentials: C,
    /// Which one of all fetches it is; the first is 1.
    pub number: u64,
    begun: Duration,
}

/// What dStor gave.
#[derive(Debug)]
pub struct Granted<T> {
    /// The token.
    pub token: T,
    /// How long it lives, counted from when it was asked for; `None`: it does not say, and is used until it is refused.
    pub lifetime: Option<Duration>,
}

/// The answer to a wish.
#[derive(Debug)]
pub enum Want<T, C> {
    /// Here it is.
    Use(Leased<T>),
    /// Fetch one.
    Fetch(Order<C>),
    /// Someone else is fetching one: ask again when that has ended.
    Wait,
    /// There is none to be had.
    No(Fault),
}

/// Keeps the token `T` that dStor gave for the credentials `C`. One is fetched at a time, however many want it.
///
/// Times are durations since any fixed moment of a clock that never goes back; the caller brings them. So a wrong date
/// on this machine does no harm.
#[derive(Debug)]
pub struct Lease<T, C> {
    state: State<T, C>,
    standing: Standing,
    /// Fetches begun.
    begun: u64,
    /// Fetches that ended, well or not.
    ended: u64,
    /// Why the last of them failed.
    failed: Option<Fault>,
}

#[derive(Debug)]
enum State<T, C> {
    None,
    Fetching { number: u64 },
    Held { leased: Leased<T>, credentials: C, renew_at: Option<Duration> },
    Refused { at: Duration, credentials: C, fault: Fault },
}

impl<T, C> Default for Lease<T, C> {
    fn default() -> Self {
        Self { state: State::None, standing: Standing::Unknown, begun: 0, ended: 0, failed: None }
    }
}

impl<T: Clone, C: PartialEq> Lease<T, C> {
    /// A wish for a token; `refused` is the number of the one that dStor did not take.
    #[must_use]
    pub fn wish(&self, refused: Option<u64>) -> Wish {
        Wish { refused, ended: self.ended }
    }

    /// Answers a wish. `credentials` are looked up only where that depends on them; the error says what is wrong with
    /// them, and `Ok(None)` that there are none.
    ///
    /// A fetch that failed since the wish was made is an answer: a thousand who waited for it do not try it in turn.
    pub fn want(
        &mut self,
        wish: &Wish,
        credentials: impl FnOnce() -> Result<Option<C>, String>,
        now: Duration,
    ) -> Want<T, C> {
        match &self.state {
            State::Fetching { .. } => return Want::Wait,
            State::Held { leased, renew_at, .. } => {
                if wish.refused == Some(leased.number) || renew_at.is_some_and(|at| now >= at) {
                    // Nobody else shall use it, whatever becomes of its successor.
                    self.state = State::None;
                } else {
                    return Want::Use(leased.clone());
                }
            }
            State::None | State::Refused { .. } => {}
        }
        if self.ended > wish.ended
            && let Some(fault) = &self.failed
        {
            return Want::No(fault.clone());
        }
        let credentials = match credentials() {
            Ok(Some(credentials)) => credentials,
            Ok(None) => return self.without("there are no credentials; `dstor-sync login` stores them"),
            Err(why) => return self.without(&why),
        };
        if let State::Refused { at, credentials: refused, fault } = &self.state
            && now.saturating_sub(*at) < ASK_AGAIN
            && *refused == credentials
        {
            self.standing = Standing::Refused;
            return Want::No(fault.clone());
        }
        self.begun += 1;
        self.state = State::Fetching { number: self.begun };
        Want::Fetch(Order { credentials, number: self.begun, begun: now })
    }

    /// Whether the answer to [`want`](Self::want) depends on the credentials: reading them may take a while, and need not.
    #[must_use]
    pub fn asks_for_credentials(&self, wish: &Wish, now: Duration) -> bool {
        let has_failed = self.ended > wish.ended && self.failed.is_some();
        match &self.state {
            State::Fetching { .. } => false,
            State::Held { leased, renew_at, .. } => {
                (wish.refused == Some(leased.number) || renew_at.is_some_and(|at| now >= at)) && !has_failed
            }
            State::None | State::Refused { .. } => !has_failed,
        }
    }

    /// A fetch has ended. Those who wait may ask again. Returns why there is no token.
    ///
    /// # Errors
    /// The fault in `result`.
    pub fn fetched(
        &mut self,
        order: Order<C>,
        result: Result<Granted<T>, Fault>,
        now: Duration,
    ) -> Result<Leased<T>, Fault> {
        let Order { credentials, number, begun } = order;
        self.ended += 1;
        self.failed = result.as_ref().err().cloned();
        match result {
            Ok(Granted { token, lifetime }) => {
                let leased = Leased { token, number };
                // A life of nothing is a claim that makes no sense: such a token is used until it is refused.
                let renew_at = lifetime
                    .filter(|life| !life.is_zero())
                    .and_then(|life| begun.checked_add(life.saturating_sub(RENEW_BEFORE.min(life / 5))));
                self.state = State::Held { leased: leased.clone(), credentials, renew_at };
                self.standing = Standing::Accepted;
                Ok(leased)
            }
            Err(fault) => {
                self.state = if matches!(fault, Fault::Credentials(_)) {
                    self.standing = Standing::Refused;
                    State::Refused { at: now, credentials, fault: fault.clone() }
                } else {
                    State::None
                };
                Err(fault)
            }
        }
    }

    /// The fetch of this number was broken off on this side, which tells nothing. Those who wait may ask again, and the
    /// first of them will fetch. One that has ended is not given up by this.
    pub fn give_up(&mut self, number: u64) {
        if matches!(self.state, State::Fetching { number: out } if out == number) {
            self.state = State::None;
        }
    }

    /// dStor refuses the token of this number although it is new: the credentials behind it are as good as refused.
    /// Returns the fault.
    pub fn refused_again(&mut self, number: u64, now: Duration) -> Fault {
        let fault = Fault::Credentials("dStor refuses the access token, also a new one".into());
        self.state = match std::mem::replace(&mut self.state, State::None) {
            State::Held { leased, credentials, .. } if leased.number == number => {
                self.standing = Standing::Refused;
                State::Refused { at: now, credentials, fault: fault.clone() }
            }
            other => other,
        };
        fault
    }

    /// How the credentials fare.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// How many times a token was fetched, or is being.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.begun
    }

    fn without(&mut self, why: &str) -> Want<T, C> {
        self.standing = Standing::Missing;
        Want::No(Fault::Credentials(why.to_owned()))
    }
}

#[cfg(test)]
mod tests;
