//! From what went wrong with a connection to what follows from it.

use std::error::Error;
use std::io::{self, ErrorKind};

use crate::mirror::{Fault, escape};

/// The fault behind a request that got no answer. Nothing of the address is in it but the host.
pub(super) fn of_transport(error: reqwest::Error) -> Fault {
    let what = if error.is_connect() {
        "no connection"
    } else if error.is_timeout() {
        "no answer in time"
    } else {
        "the connection broke"
    };
    Fault::Unreachable(format!("{what} ({})", innermost(&error.without_url())))
}

/// The same of a request that brings files: where its connection stood and the other side broke it, that may be on account
/// of the files (E7).
pub(super) fn of_upload(error: reqwest::Error) -> Fault {
    let is_ours = error.is_connect() || error.is_timeout() || is_of_the_network(&error);
    if is_ours { of_transport(error) } else { Fault::BrokenOff(innermost(&error.without_url())) }
}

/// Whether this machine's own network says that nothing gets through.
fn is_of_the_network(error: &reqwest::Error) -> bool {
    let is_so = |error: &io::Error| {
        matches!(
            error.kind(),
            ErrorKind::TimedOut
                | ErrorKind::HostUnreachable
                | ErrorKind::NetworkUnreachable
                | ErrorKind::NetworkDown
                | ErrorKind::AddrNotAvailable
        )
    };
    chain(error).any(|error| error.downcast_ref::<io::Error>().is_some_and(is_so))
}

/// What the last of an error's causes says, for a terminal.
fn innermost(error: &reqwest::Error) -> String {
    inert(&chain(error).last().map(ToString::to_string).unwrap_or_default())
}

fn inert(text: &str) -> String {
    let mut words = String::new();
    // Writing to a String cannot fail.
    let _ = escape(text.as_bytes(), &mut words);
    words
}

/// An error and its causes, from the outermost.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&(dyn Error + 'static)| Error::source(*error))
}
