//! From what went wrong with a connection to what follows from it.

use crate::mirror::Fault;

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
