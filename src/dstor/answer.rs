//! From an answer to what follows from it: plain values in, so that anyone can try any answer.

use super::wire;
use crate::mirror::{Cid, Fault};

/// An answer, as far as it matters.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// The HTTP status.
    pub status: u16,
    /// `Retry-After`, word for word.
    pub retry_after: Option<&'a str>,
    /// `Date`, word for word.
    pub date: Option<&'a str>,
    /// The whole body.
    pub body: &'a [u8],
}

/// What became of a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome<T> {
    /// dStor did as it was asked, and gave this.
    Good(T),
    /// dStor does not take the token.
    Unauthorized,
    /// It did not, as far as it says.
    Failed(Fault),
}

/// What an answer to who reads a file brings, by its head.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Given {
    /// Bytes, right or wrong.
    Bytes,
    /// The word that there is nothing under this hash.
    Nothing,
}

impl Answer<'_> {
    /// What became of an upload that was answered so. `now` is in seconds since 1970.
    #[must_use]
    pub fn of_upload(&self, now: i64) -> Outcome<Cid> {
        match self.status {
            status @ 400..500 if status != 429 && wire::wants_upload_token(self.body) => {
                Outcome::Failed(Fault::NeedsSession(status))
            }
            _ => self.outcome(now, wire::uploaded_hash),
        }
    }

    /// The upload token in the answer to who wants to open a session.
    #[must_use]
    pub fn of_opening(&self, now: i64) -> Outcome<String> {
        self.without_a_file(now, wire::upload_token)
    }

    /// What became of files that were sent in a session. What becomes of the session is another question.
    #[must_use]
    pub fn of_chunk(&self, now: i64) -> Outcome<()> {
        self.outcome(now, wire::is_json)
    }

    /// How far a session is.
    #[must_use]
    pub fn of_progress(&self, now: i64) -> Outcome<wire::Progress> {
        match self.status {
            404 | 410 => Outcome::Failed(Fault::Protocol(format!("it knows no such session (status {})", self.status))),
            _ => self.without_a_file(now, wire::session_progress),
        }
    }

    /// What became of the wish to read a file by its hash, whatever the body. `now` is in seconds since 1970.
    ///
    /// # Errors
    /// Whatever is neither the file nor the plain word that it is not there: nothing is known then.
    pub fn of_reading(&self, now: i64) -> Result<Given, Fault> {
        match self.status {
            200 => Ok(Given::Bytes),
            // 410: as gateways say of what they have and do not give (ours).
            404 | 410 => Ok(Given::Nothing),
            408 | 425 | 429 => Err(self.fault(now)),
            // No part was asked for, and no token is needed.
            status @ (201..300 | 400..500) => Err(Fault::NotGiven(status)),
            _ => Err(self.fault(now)),
        }
    }

    fn outcome<T>(&self, now: i64, read: impl FnOnce(&[u8]) -> Result<T, wire::BadAnswer>) -> Outcome<T> {
        match self.status {
            401 => Outcome::Unauthorized,
            200..300 => match read(self.body) {
                Ok(value) => Outcome::Good(value),
                Err(bad) => Outcome::Failed(of_bad_answer(bad)),
            },
            _ => Outcome::Failed(self.fault(now)),
        }
    }

    /// The outcome of a request that brings no file: none is refused with it.
    fn without_a_file<T>(&self, now: i64, read: impl FnOnce(&[u8]) -> Result<T, wire::BadAnswer>) -> Outcome<T> {
        match self.outcome(now, read) {
            Outcome::Failed(Fault::Refused { status, message }) => {
                Outcome::Failed(Fault::Protocol(format!("no upload session (status {status}) {message}")))
            }
            other => other,
        }
    }

    /// The access token in an answer. `asked_with` is what a person calls the credentials; `now` is in seconds since 1970.
    ///
    /// # Errors
    /// Why there is none: never that a file was refused.
    pub fn of_token_request(&self, asked_with: &str, now: i64) -> Result<String, Fault> {
        match self.status {
            status @ (401 | 403) => Err(Fault::Credentials(format!(
                "dStor refuses the {asked_with} (status {status}); it is asked again every 15 minutes, or when they change"
            ))),
            200..300 => {
                let body: serde_json::Value =
                    serde_json::from_slice(self.body).map_err(|_| of_bad_answer(wire::BadAnswer::NotDstor))?;
                let body: wire::TempToken = serde_json::from_value(body)
                    .map_err(|_| Fault::Protocol("it has no access token where one was asked for".into()))?;
                Ok(body.access_token)
            }
            _ => Err(match self.fault(now) {
                // No file is refused here: it is the service that does not give tokens.
                Fault::Refused { status, message } => Fault::Protocol(format!("no token (status {status}) {message}")),
                other => other,
            }),
        }
    }

    /// The fault in an answer that is no success, and does not speak of credentials.
    fn fault(&self, now: i64) -> Fault {
        match self.status {
            status @ (429 | 503) => Fault::Busy {
                status,
                after: self.retry_after.and_then(|value| wire::retry_after(value, self.date, now)),
            },
            // 403 tells of a key that was revoked, of a quota or a plan (ours): no file is given up for it.
            status @ (402 | 403 | 507) => Fault::Quota(status),
            // An address or a method that the service does not have (any more); a request that took too long on its way,
            // or came before the service was ready for it.
            status @ (404 | 405 | 408 | 425) => Fault::ServerError(status),
            status @ 500.. => Fault::ServerError(status),
            status @ 400..500 => Fault::Refused { status, message: wire::error_message(self.body) },
            // Redirects are never followed; networks that want a sign-in send them for every address.
            status @ 300..400 => {
                Fault::Unreachable(format!("it sends us elsewhere (status {status}); is there a sign-in page?"))
            }
            status => Fault::Protocol(format!("it has status {status}, which this version does not know")),
        }
    }
}

/// The fault in a success that is none.
fn of_bad_answer(bad: wire::BadAnswer) -> Fault {
    match bad {
        wire::BadAnswer::NotDstor => {
            Fault::Unreachable("something else answers in its place, not with JSON; is there a sign-in page?".into())
        }
        wire::BadAnswer::Useless(why) => Fault::Protocol(why.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn answer(status: u16, body: &[u8]) -> Answer<'_> {
        Answer { status, retry_after: None, date: None, body }
    }

    #[test]
    fn each_status_means_one_thing() {
        let fault = |status: u16| match answer(status, br#"{"message":"m"}"#).of_upload(0) {
            Outcome::Failed(fault) => fault,
            other => panic!("{status}: {other:?}"),
        };
        assert_eq!(fault(413).code(), "too_large_for_dstor");
        assert_eq!(fault(422), Fault::Refused { status: 422, message: "m".into() });
        assert_eq!((fault(402), fault(403)), (Fault::Quota(402), Fault::Quota(403)));
        assert_eq!(fault(404), Fault::ServerError(404));
        assert_eq!(fault(500), Fault::ServerError(500));
        assert_eq!(fault(503), Fault::Busy { status: 503, after: None });
        assert_eq!(fault(302).code(), "unreachable");
        assert_eq!((fault(299).code(), fault(100).code()), ("protocol", "protocol"));
        assert_eq!(answer(401, b"").of_upload(0), Outcome::Unauthorized);
    }

    #[test]
    fn a_direct_upload_refused_for_want_of_an_upload_token_is_no_refusal_of_the_file() {
        for (status, body) in [
            (400, r#"{"message":"upload token is missing"}"#),
            (401, r#"{"error":"no x-dstor-upload-token"}"#),
            (422, r#"{"message":"upload_token: required"}"#),
        ] {
            assert_eq!(answer(status, body.as_bytes()).of_upload(0), Outcome::Failed(Fault::NeedsSession(status)));
        }
        for body in [r#"{"message":"token expired, upload again"}"#, "upload token"] {
            assert_eq!(answer(401, body.as_bytes()).of_upload(0), Outcome::Unauthorized, "{body}");
        }
    }

    // E24
    #[test]
    fn no_answer_to_a_request_without_a_file_refuses_one() {
        for status in (100..=999).filter(|status| *status != 401) {
            let answer = answer(status, br#"{"message":"m"}"#);
            for fault in [failed(answer.of_opening(0)), failed(answer.of_progress(0))] {
                assert_ne!(fault.code(), "refused", "{status}");
                assert_ne!(fault.code(), "too_large_for_dstor", "{status}");
            }
        }
    }

    fn failed<T>(outcome: Outcome<T>) -> Fault {
        match outcome {
            Outcome::Failed(fault) => fault,
            Outcome::Good(_) | Outcome::Unauthorized => panic!("it went well"),
        }
    }

    #[test]
    fn only_the_plain_word_that_it_is_not_there_means_that() {
        for status in 100..=999 {
            let read = answer(status, b"").of_reading(0);
            match status {
                200 => assert_eq!(read, Ok(Given::Bytes)),
                404 | 410 => assert_eq!(read, Ok(Given::Nothing)),
                _ => assert!(read.is_err(), "{status}"),
            }
            // No file is given up for what a reading met.
            assert!(read.err().is_none_or(|fault| fault.scope() == crate::mirror::Scope::Account), "{status}");
        }
        assert_eq!(answer(302, b"").of_reading(0).expect_err("elsewhere").code(), "unreachable");
        assert_eq!(answer(403, b"").of_reading(0), Err(Fault::NotGiven(403)));
        assert_eq!(answer(206, b"").of_reading(0), Err(Fault::NotGiven(206)));
        assert_eq!(answer(429, b"").of_reading(0), Err(Fault::Busy { status: 429, after: None }));
    }

    // E13
    #[test]
    fn no_answer_to_a_token_request_speaks_of_a_file() {
        for status in 100..=999 {
            let Err(fault) = answer(status, br#"{"message":"m"}"#).of_token_request("API key", 0) else {
                panic!("a token with status {status}");
            };
            assert_ne!(fault.code(), "refused", "{status}");
            assert_eq!(matches!(fault, Fault::Credentials(_)), matches!(status, 401 | 403), "{status}");
        }
        assert_eq!(answer(200, br#"{"access_token":"t"}"#).of_token_request("API key", 0), Ok("t".into()));
    }

    // E15
    #[test]
    fn a_date_in_retry_after_counts_from_the_servers_own_clock() {
        let answer = Answer {
            status: 429,
            retry_after: Some("Sun, 06 Nov 1994 08:49:47 GMT"),
            date: Some("Sun, 06 Nov 1994 08:49:37 GMT"),
            body: b"",
        };
        let busy = Fault::Busy { status: 429, after: Some(Duration::from_secs(10)) };
        assert_eq!(answer.of_upload(2_000_000_000), Outcome::Failed(busy));
    }
}
