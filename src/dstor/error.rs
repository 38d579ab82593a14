//! From what went wrong with a connection to what follows from it, in words for a person.

use std::error::Error;
use std::io::{self, ErrorKind};

use hyper_util::client::proxy::matcher::Matcher;
use jiff::Timestamp;
use reqwest::Url;
use rustls::CertificateError;

use crate::mirror::{Fault, escape};

/// The fault behind a request that got no answer. Nothing of the address is in it but the host.
pub(super) fn of_transport(error: reqwest::Error) -> Fault {
    let host = error.url().and_then(Url::host_str).unwrap_or("dStor").to_owned();
    if let Some(why) = by_proxy(&error, &host).or_else(|| insecure(&error, &host)) {
        return Fault::Unreachable(why);
    }
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

/// What the proxy before dStor said or did, if it was that (E4).
fn by_proxy(error: &reqwest::Error, host: &str) -> Option<String> {
    // The library keeps the type to itself; its words are tested against a real proxy.
    let said = chain(error).find_map(|error| Some(error.to_string().strip_prefix("tunnel error: ")?.to_owned()))?;
    let proxy = error.url().and_then(proxy_before).unwrap_or_else(|| "in the environment".into());
    Some(match said.as_str() {
        "proxy authorization required" => {
            format!("the proxy {proxy} wants a login; give it in HTTPS_PROXY, as http://NAME:PASSWORD@HOST:PORT")
        }
        "unsuccessful" => {
            format!("the proxy {proxy} refuses to connect to {host}; ask who runs it, or name {host} in NO_PROXY")
        }
        "failed to create underlying connection" => {
            format!("no connection to the proxy {proxy} ({}); see HTTPS_PROXY", innermost(error))
        }
        other => format!("the proxy {proxy} broke off ({})", inert(other)),
    })
}

/// Host and port of the proxy that the environment names for an address. Never its login.
fn proxy_before(url: &Url) -> Option<String> {
    let found = Matcher::from_system().intercept(&url.as_str().parse().ok()?)?;
    let host = found.uri().host()?.to_owned();
    Some(inert(&found.uri().port().map_or(host.clone(), |port| format!("{host}:{port}"))))
}

/// What is wrong with the certificate of `host`, or with how it speaks TLS, if it is that (E3). Nothing is ever sent then.
fn insecure(error: &reqwest::Error, host: &str) -> Option<String> {
    let certificate = match chain(error).find_map(tls)? {
        rustls::Error::InvalidCertificate(certificate) => certificate,
        rustls::Error::InvalidMessage(_) => {
            return Some(format!(
                "{host} does not speak TLS on this port; look at `url`: is it http, or another port?"
            ));
        }
        other => return Some(format!("no secure connection to {host} ({})", inert(&other.to_string()))),
    };
    let whose = format!("the certificate of {host}");
    Some(match certificate {
        CertificateError::ExpiredContext { not_after, .. } => format!(
            "{whose} expired on {}; it has to be renewed there, unless this machine's clock is wrong",
            day(not_after.as_secs())
        ),
        CertificateError::NotValidYetContext { not_before, .. } => {
            format!("{whose} holds from {} on; is this machine's clock right?", day(not_before.as_secs()))
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("{whose} is for another host; look at `url`, or something else answers in its place")
        }
        CertificateError::UnknownIssuer => {
            format!("{whose} is not trusted: this machine knows nobody who signed it; name its CA with `ca_file`")
        }
        other => format!("{whose} is not to be trusted ({})", inert(&other.to_string())),
    })
}

/// The TLS error that an error is, or holds.
fn tls<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let held = || error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    error.downcast_ref().or_else(|| held().and_then(|inner| tls(inner)))
}

/// A day, by UTC.
fn day(seconds_since_1970: u64) -> String {
    let time = i64::try_from(seconds_since_1970).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    time.map_or_else(|| "a day without end".into(), |time| time.strftime("%Y-%m-%d").to_string())
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
