//! How far a connection to a service gets, for who wants to know why it gets no further.

use std::time::Duration;

use reqwest::Url;
use tokio::net::{TcpStream, lookup_host};

use crate::mirror::escape;

/// How far it gets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reach {
    /// The host's name means nothing here; why.
    NoAddress(String),
    /// Nothing takes a connection there; why.
    NoConnection(String),
    /// Something takes connections. Who it is, and whether it speaks as it should, is another question.
    Connected,
}

/// Looks the host of `url` up and connects to it, without saying anything, and not for longer than `within`. Asks no
/// proxy.
pub async fn reach(url: &Url, within: Duration) -> Reach {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let port = url.port_or_known_default().unwrap_or(443);
    let addresses: Vec<_> = match tokio::time::timeout(within, lookup_host((host, port))).await {
        Ok(Ok(addresses)) => addresses.collect(),
        Ok(Err(error)) => return Reach::NoAddress(plain(&error.to_string())),
        Err(_) => return Reach::NoAddress("no answer in time".into()),
    };
    match tokio::time::timeout(within, TcpStream::connect(addresses.as_slice())).await {
        Ok(Ok(_)) => Reach::Connected,
        Ok(Err(error)) => Reach::NoConnection(plain(&error.to_string())),
        Err(_) => Reach::NoConnection("no answer in time".into()),
    }
}

fn plain(text: &str) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = escape(text.as_bytes(), &mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).expect("an address")
    }

    // E1
    #[tokio::test]
    async fn a_name_a_port_and_a_listener_are_told_apart() {
        let within = Duration::from_secs(20);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let there = url(&format!("https://{}/v1", listener.local_addr().expect("its address")));
        assert_eq!(reach(&there, within).await, Reach::Connected);
        drop(listener);
        assert!(matches!(reach(&there, within).await, Reach::NoConnection(_)));
        // No system looks these up: the name is reserved for what does not exist, and too long in its first part.
        let nowhere = url(&format!("https://{}.invalid", "x".repeat(64)));
        assert!(matches!(reach(&nowhere, within).await, Reach::NoAddress(_)));
        assert_ne!(reach(&url("https://[::1]:1"), within).await, Reach::Connected);
    }
}
