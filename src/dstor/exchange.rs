//! The exchange with dStor over one request: a token, the request, and once more with another token if dStor does not
//! take the first. Each step gives what the next one needs, so that none can be left out or come twice.

use super::answer::Outcome;
use super::lease::Leased;
use crate::mirror::Fault;

/// A token is needed.
#[must_use = "what is begun ends with an answer"]
#[derive(PartialEq, Eq, Debug)]
pub struct WantsToken {
    refused: Option<u64>,
}

/// The request is to be sent.
#[must_use = "what is begun ends with an answer"]
#[derive(PartialEq, Eq, Debug)]
pub struct Sends<T> {
    leased: Leased<T>,
    is_second: bool,
}

/// What follows from an answer.
#[derive(PartialEq, Eq, Debug)]
pub enum Next<T> {
    /// dStor does not take the token: everything once more, with another.
    Again(WantsToken),
    /// dStor does not take the new token of this number either. The fault is for its keeper to tell.
    Refused(u64),
    /// It has ended.
    Ended(Result<T, Fault>),
}

/// The first step of a request.
pub fn begin() -> WantsToken {
    WantsToken { refused: None }
}

impl WantsToken {
    /// The number of the token that dStor did not take.
    #[must_use]
    pub fn refused(&self) -> Option<u64> {
        self.refused
    }

    /// Here is a token. Where there is none to be had, it ends with the fault that says why.
    pub fn got<T>(self, leased: Leased<T>) -> Sends<T> {
        Sends { leased, is_second: self.refused.is_some() }
    }
}

impl<T> Sends<T> {
    /// The token that goes with the request.
    #[must_use]
    pub fn token(&self) -> &T {
        &self.leased.token
    }

    /// The request was answered. One that was not has ended: only the queue tries again.
    #[must_use]
    pub fn answered<R>(self, outcome: Outcome<R>) -> Next<R> {
        match outcome {
            Outcome::Unauthorized if self.is_second => Next::Refused(self.leased.number),
            Outcome::Unauthorized => Next::Again(WantsToken { refused: Some(self.leased.number) }),
            Outcome::Good(value) => Next::Ended(Ok(value)),
            Outcome::Failed(fault) => Next::Ended(Err(fault)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNAUTHORIZED: Outcome<()> = Outcome::Unauthorized;

    fn sends(step: WantsToken, number: u64) -> Sends<&'static str> {
        step.got(Leased { token: "token", number })
    }

    // E9
    #[test]
    fn a_refused_token_is_replaced_once_and_then_it_is_the_credentials() {
        let first = begin();
        assert_eq!(first.refused(), None);
        let Next::Again(second) = sends(first, 7).answered(UNAUTHORIZED) else { panic!("it gives up") };
        assert_eq!(second.refused(), Some(7));
        assert_eq!(sends(second, 8).answered(UNAUTHORIZED), Next::Refused(8));
    }

    #[test]
    fn any_other_answer_ends_it_whichever_token_was_sent() {
        let failed: Outcome<()> = Outcome::Failed(Fault::ServerError(500));
        for step in [begin(), WantsToken { refused: Some(1) }] {
            assert_eq!(sends(step, 2).answered(failed.clone()), Next::Ended(Err(Fault::ServerError(500))));
        }
    }
}
