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

/// What became of an upload.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// dStor says that it has it, under this hash.
    Stored(Cid),
    /// dStor does not take the token.
    Unauthorized,
    /// It is not stored, as far as dStor says.
    Failed(Fault),
}

impl Answer<'_> {
    /// What became of an upload that was answered so. `now` is in seconds since 1970.
    #[must_use]
    pub fn of_upload(&self, now: i64) -> Outcome {
        match self.status {
            401 => Outcome::Unauthorized,
            200..300 => match wire::uploaded_hash(self.body) {
                Ok(hash) => Outcome::Stored(hash),
                Err(bad) => Outcome::Failed(of_bad_answer(bad)),
            },
            _ => Outcome::Failed(self.fault(now)),
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
