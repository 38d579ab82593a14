//! Credentials, the way to dStor, and the clock: all that one request for an access token tells.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use reqwest::Url;

use super::{Check, Needs};
use crate::config::{ConfigError, CredentialSources, Dstor, Source};
use crate::dstor::{Client, ClientOptions, CredentialSource, Credentials, Reach, reach};
use crate::mirror::Fault;
use crate::wording::{shown, span};

/// Nobody waits longer for an answer than this.
const PATIENCE: Duration = Duration::from_secs(15);
/// A clock that is off by no more is fine.
const FINE: Duration = Duration::from_secs(5 * 60);

const CREDENTIALS: &str = "credentials";
const DSTOR: &str = "dstor";
const CLOCK: &str = "clock";

pub(super) fn all_skipped(why: &str) -> Vec<Check> {
    [CREDENTIALS, DSTOR, CLOCK].map(|name| Check::skipped(name, why)).into()
}

pub(super) async fn look(dstor: &Dstor, sources: CredentialSources, is_offline: bool) -> Vec<Check> {
    let found = tokio::task::block_in_place(|| sources.load());
    let place = &shown(dstor.url.as_str().trim_end_matches('/'));
    let (credentials, source) = match found {
        Ok(Some(found)) => found,
        Ok(None) => {
            let hint = "`dstor-sync login` stores some; or set DSTOR_API_KEY, or name a file as `api_key_file` in the configuration";
            let none = Check::bad(CREDENTIALS, Needs::Credentials, "there are none", hint);
            return without_credentials(none, &dstor.url, place, is_offline).await;
        }
        Err(error) => {
            // Whatever is right beside it, the keyring is not, and no configuration mends that.
            let is_keyring = tokio::task::block_in_place(|| sources.check()).is_ok();
            let needs = if is_keyring { Needs::Credentials } else { Needs::Config };
            return without_credentials(unusable(&error, needs), &dstor.url, place, is_offline).await;
        }
    };
    if is_offline {
        const OFFLINE: &str = "not asked, because of --offline";
        let credentials = Check::skipped(CREDENTIALS, format!("found in {source}; dStor was {OFFLINE}"));
        let dstor = Check::skipped(DSTOR, format!("`{place}` was {OFFLINE}"));
        return vec![credentials, dstor, Check::skipped(CLOCK, "only dStor's answer tells")];
    }
    let credentials = Mutex::new(Some(credentials));
    let once: CredentialSource = Arc::new(move || {
        let taken: Option<Credentials> = credentials.lock().unwrap_or_else(PoisonError::into_inner).take();
        Ok(taken)
    });
    let authorities = match dstor.authorities() {
        Ok(authorities) => authorities,
        Err(error) => {
            let hint = error.hint().unwrap_or("correct `ca_file` in the configuration");
            let dstor = Check::bad(DSTOR, Needs::Config, error.to_string(), hint);
            return vec![not_asked(&source), dstor, no_clock()];
        }
    };
    let options = ClientOptions {
        url: dstor.url.clone(),
        token_lifetime: dstor.token_lifetime,
        credentials: once,
        stall_timeout: PATIENCE,
        authorities,
    };
    let client = match Client::new(options) {
        Ok(client) => client,
        Err(error) => {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            let hint = "install this system's CA certificates (the package ca-certificates), or mend SSL_CERT_FILE";
            let dstor = Check::bad(DSTOR, Needs::Hands, format!("no secure connection (TLS) can be made{cause}"), hint);
            return vec![not_asked(&source), dstor, no_clock()];
        }
    };
    let begun = Instant::now();
    let asked = client.tokens().get(None).await;
    let took = begun.elapsed();
    let clock = client.tokens().facts().borrow().clock_ahead.map_or_else(no_clock, |ahead| clock(ahead, dstor));
    let answers = || Check::ok(DSTOR, format!("`{place}` answers ({})", span(took)));
    match asked {
        Ok(_) => vec![Check::ok(CREDENTIALS, format!("dStor takes those from {source}")), answers(), clock],
        Err(Fault::Credentials(_)) => vec![refused(&source), answers(), clock],
        Err(Fault::Unreachable(why)) => vec![not_asked(&source), unreachable(&dstor.url, place, &why).await, clock],
        Err(other) => vec![not_asked(&source), ailing(place, &other), clock],
    }
}

fn unusable(error: &ConfigError, needs: Needs) -> Check {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
    let hint = error.hint().unwrap_or("make it readable for the user that the agent runs as");
    Check::bad(CREDENTIALS, needs, format!("{error}{cause}"), hint)
}

fn refused(source: &Source) -> Check {
    let hint = match source {
        Source::Keyring => "make a new key in dStor's dashboard, and give it to `dstor-sync login`".to_owned(),
        Source::LoginVariables => format!("try them in dStor's dashboard, and put the right ones into {source}"),
        Source::ApiKeyVariable | Source::File(_) => {
            format!("make a new key in dStor's dashboard, and put it in the place of this one, in {source}")
        }
    };
    Check::bad(CREDENTIALS, Needs::Credentials, format!("dStor refuses those from {source}"), hint)
}

fn not_asked(source: &Source) -> Check {
    Check::skipped(CREDENTIALS, format!("found in {source}; dStor did not say whether it takes them"))
}

fn no_clock() -> Check {
    Check::skipped(CLOCK, "no answer told the time")
}

/// What can be said where there is nothing to ask for a token with.
async fn without_credentials(credentials: Check, url: &Url, place: &str, is_offline: bool) -> Vec<Check> {
    let dstor = match is_offline {
        true => Check::skipped(DSTOR, format!("`{place}` was not asked, because of --offline")),
        false if proxy(url).is_some() => Check::skipped(DSTOR, "nothing can be asked without credentials"),
        false => match reach(url, PATIENCE).await {
            Reach::Connected => Check::ok(DSTOR, format!("`{place}` takes connections; it was asked nothing")),
            Reach::NoAddress(why) => no_address(url, &why),
            Reach::NoConnection(why) => no_connection(place, &why),
        },
    };
    vec![credentials, dstor, no_clock()]
}

/// Why dStor is not reached: how far does a connection get?
async fn unreachable(url: &Url, place: &str, why: &str) -> Check {
    if let Some(variable) = proxy(url) {
        let what = format!("`{place}` is not reached through the proxy in {variable}: {why}");
        return Check::bad(DSTOR, Needs::Network, what, format!("look at the proxy, or unset {variable}"));
    }
    match reach(url, PATIENCE).await {
        Reach::NoAddress(why) => no_address(url, &why),
        Reach::NoConnection(why) => no_connection(place, &why),
        Reach::Connected => connected(url, place, why),
    }
}

fn no_address(url: &Url, why: &str) -> Check {
    let host = shown(url.host_str().unwrap_or_default());
    let hint = "look at the network and its name server, and at `url` in the configuration";
    Check::bad(DSTOR, Needs::Network, format!("nobody knows an address for `{host}`: {why}"), hint)
}

fn no_connection(place: &str, why: &str) -> Check {
    let hint = "look at the network, a firewall, and `url` in the configuration; if dStor is away, it is asked again";
    Check::bad(DSTOR, Needs::Network, format!("nothing takes a connection at `{place}`: {why}"), hint)
}

/// Something listens, and yet there was no answer that could be one of dStor's.
fn connected(url: &Url, place: &str, why: &str) -> Check {
    // The client says one of these of whatever goes wrong before anything is asked. By then a plain connection is made.
    const BEFORE: [&str; 4] = ["no connection", "no secure connection", "the certificate of", "does not speak TLS"];
    if url.scheme() == "https" && BEFORE.iter().any(|words| why.contains(words)) {
        let hint = "look at this machine's clock and CA certificates, and whether something on the way (a company's proxy, \
                    a sign-in page) answers in dStor's place";
        return Check::bad(DSTOR, Needs::Network, format!("no secure connection (TLS) to `{place}`: {why}"), hint);
    }
    let hint = "look whether something else answers there, such as a network's sign-in page, and at `url`";
    Check::bad(DSTOR, Needs::Network, format!("`{place}` takes a connection, but then: {why}"), hint)
}

/// dStor, or something, answered, and gave no token.
fn ailing(place: &str, fault: &Fault) -> Check {
    let what = format!("`{place}`: {}", fault.message());
    match fault {
        Fault::Quota(_) => Check::bad(DSTOR, Needs::Hands, what, "look at the account in dStor's dashboard"),
        Fault::Busy { .. } | Fault::ServerError(500..) => {
            Check::bad(DSTOR, Needs::Network, what, "wait: it is asked again by itself")
        }
        Fault::ServerError(_) | Fault::Protocol(_) => {
            let hint = "look whether `url` in the configuration is dStor's, and nothing else answers in its place";
            Check::bad(DSTOR, Needs::Network, what, hint)
        }
        Fault::Moved
        | Fault::Unreadable(_)
        | Fault::RootMissing
        | Fault::Unreachable(_)
        | Fault::BrokenOff(_)
        | Fault::Credentials(_)
        | Fault::Refused { .. }
        | Fault::NotGiven(_)
        | Fault::NeedsSession(_)
        | Fault::Session(_) => Check::bad(DSTOR, Needs::Network, what, "wait: it is asked again by itself"),
    }
}

/// The variable that has the client ask a proxy for `url`, if one does.
fn proxy(url: &Url) -> Option<&'static str> {
    // Without TLS it is a loopback address, and no proxy has a part in it.
    let names = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
    let is_set = |name: &&str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    names.into_iter().find(is_set).filter(|_| url.scheme() == "https")
}

fn clock(ahead_s: i64, dstor: &Dstor) -> Check {
    let off = Duration::from_secs(ahead_s.unsigned_abs());
    if off <= FINE {
        return Check::ok(CLOCK, format!("within {} of dStor's", span(off.max(Duration::from_secs(1)))));
    }
    let hint = "set the time: `timedatectl set-ntp true`, or this system's other way";
    if ahead_s < 0 && off >= dstor.token_lifetime {
        let what = format!("{} behind dStor's: access tokens are asked for that end before they begin", span(off));
        return Check::bad(CLOCK, Needs::Hands, what, hint);
    }
    let side = if ahead_s > 0 { "ahead of" } else { "behind" };
    Check::warn(CLOCK, format!("{} {side} dStor's: times that are told are off by as much", span(off)), hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(check: &Check) -> String {
        format!("{} {}: {}", check.word(), check.name, check.what)
    }

    // E12
    #[test]
    fn a_clock_is_told_of_when_it_is_off_by_minutes_and_bad_when_tokens_would_be_born_dead() {
        let dstor = Dstor::default();
        for (ahead, expected) in [
            (0, "ok clock: within 1 s of dStor's"),
            (-300, "ok clock: within 5 min of dStor's"),
            (301, "warn clock: 5 min ahead of dStor's: times that are told are off by as much"),
            (-3599, "warn clock: 59 min behind dStor's: times that are told are off by as much"),
            (3600, "warn clock: 60 min ahead of dStor's: times that are told are off by as much"),
            (-3600, "bad clock: 60 min behind dStor's: access tokens are asked for that end before they begin"),
        ] {
            assert_eq!(told(&clock(ahead, &dstor)), expected);
        }
        assert_eq!(clock(i64::MIN, &dstor).word(), "bad");
    }

    #[test]
    fn whoever_answers_without_a_token_is_told_apart_from_whoever_does_not_answer() {
        let needs = |fault: &Fault| match ailing("https://a.b", fault).verdict {
            super::super::Verdict::Bad(needs, _) => needs,
            other => panic!("{other:?}"),
        };
        assert_eq!(needs(&Fault::Quota(402)), Needs::Hands);
        assert_eq!(needs(&Fault::Busy { status: 503, after: None }), Needs::Network);
        assert_eq!(needs(&Fault::ServerError(404)), Needs::Network);
        let url = Url::parse("https://a.b").expect("an address");
        let tls = connected(&url, "https://a.b", "no connection (invalid peer certificate: UnknownIssuer)");
        assert!(tls.what.contains("(TLS)") && tls.what.contains("UnknownIssuer"), "{}", tls.what);
        assert!(!connected(&url, "https://a.b", "no answer in time (x)").what.contains("TLS"));
    }
}
