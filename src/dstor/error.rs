//! From what went wrong with a request to what follows from it.

use reqwest::StatusCode;
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};

use super::wire;
use crate::mirror::Fault;

/// The fault in an answer that is no success. `now` is in seconds since 1970.
pub(super) fn of_answer(status: StatusCode, headers: &HeaderMap, body: &[u8], now: i64) -> Fault {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    match status.as_u16() {
        status @ (429 | 503) => {
            Fault::Busy { status, after: text(RETRY_AFTER).and_then(|value| wire::retry_after(value, text(DATE), now)) }
        }
        401 => Fault::Credentials("dStor refuses the access token, also a new one".into()),
        // 403 tells of a key that was revoked, of a quota or a plan (ours): no file is given up for it.
        status @ (402 | 403 | 507) => Fault::Quota(status),
        // An address or a method that the service does not have (any more); a request that took too long on its way, or
        // came before the service was ready for it.
        status @ (404 | 405 | 408 | 425) => Fault::ServerError(status),
        status @ 500.. => Fault::ServerError(status),
        status @ 400..500 => Fault::Refused { status, message: wire::error_message(body) },
        // Redirects are never followed; networks that want a sign-in send them for every address.
        status @ 300..400 => {
            Fault::Unreachable(format!("it sends us elsewhere (status {status}); is there a sign-in page?"))
        }
        status => Fault::Protocol(format!("it has status {status}, which this version does not know")),
    }
}

/// The fault in a success that is none.
pub(super) fn of_bad_answer(bad: wire::BadAnswer) -> Fault {
    match bad {
        wire::BadAnswer::NotDstor => {
            Fault::Unreachable("something else answers in its place, not with JSON; is there a sign-in page?".into())
        }
        wire::BadAnswer::Useless(why) => Fault::Protocol(why.into()),
    }
}

/// The fault behind a request that got no answer. Nothing of the address is in it but the host.
pub(super) fn of_transport(error: reqwest::Error) -> Fault {
    let error = error.without_url();
    let mut deepest: &dyn std::error::Error = &error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    let what = if error.is_connect() {
        "no connection"
    } else if error.is_timeout() {
        "no answer in time"
    } else {
        "the connection broke"
    };
    let mut message = String::new();
    // Writing to a String cannot fail.
    let _ = crate::mirror::escape(deepest.to_string().as_bytes(), &mut message);
    Fault::Unreachable(format!("{what} ({message})"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn each_status_means_one_thing() {
        let fault = |status: u16| {
            of_answer(StatusCode::from_u16(status).expect("a status"), &HeaderMap::new(), br#"{"message":"m"}"#, 0)
        };
        assert_eq!(fault(413).code(), "too_large_for_dstor");
        assert_eq!(fault(422), Fault::Refused { status: 422, message: "m".into() });
        assert_eq!((fault(402), fault(403)), (Fault::Quota(402), Fault::Quota(403)));
        assert_eq!(fault(404), Fault::ServerError(404));
        assert_eq!(fault(500), Fault::ServerError(500));
        assert_eq!(fault(503), Fault::Busy { status: 503, after: None });
        assert_eq!(fault(302).code(), "unreachable");
        assert_eq!(fault(299).code(), "protocol");
    }

    #[test]
    fn a_date_in_retry_after_counts_from_the_servers_own_clock() {
        let mut headers = HeaderMap::new();
        headers.insert(DATE, "Sun, 06 Nov 1994 08:49:37 GMT".parse().expect("a header"));
        headers.insert(RETRY_AFTER, "Sun, 06 Nov 1994 08:49:47 GMT".parse().expect("a header"));
        let fault = of_answer(StatusCode::TOO_MANY_REQUESTS, &headers, b"", 2_000_000_000);
        assert_eq!(fault, Fault::Busy { status: 429, after: Some(Duration::from_secs(10)) });
    }
}
