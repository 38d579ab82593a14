//! A server of HTTP/2 that takes no request, in the way that libraries repeat by themselves.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dstor_sync::dstor::{Authorities, Client, ClientOptions, Credentials};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::front::{Authority, Holds, Shows};

// E28: only the queue tries again, and counts.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_a_server_of_http_2_refuses_to_begin_is_not_repeated_behind_our_back() {
    let own = Authority::new("our own");
    let Shows::Certificate(config) = own.signs("127.0.0.1", Holds::Now) else { panic!("a certificate") };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let requests = Arc::<AtomicUsize>::default();
    let counts = Arc::clone(&requests);
    let listening = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, counts) = (TlsAcceptor::from(Arc::clone(&config)), Arc::clone(&counts));
            tokio::spawn(async move {
                let secure = acceptor.accept(stream).await.expect("TLS");
                let mut connection = h2::server::handshake(secure).await.expect("HTTP/2");
                while let Some(Ok((_, mut answer))) = connection.accept().await {
                    counts.fetch_add(1, Ordering::SeqCst);
                    answer.send_reset(h2::Reason::REFUSED_STREAM);
                }
            });
        }
    });
    let client = Client::new(ClientOptions {
        url: format!("https://127.0.0.1:{port}").parse().expect("an address"),
        token_lifetime: Duration::from_secs(3600),
        credentials: Arc::new(|| Ok(Some(Credentials::ApiKey("k".repeat(64).into())))),
        stall_timeout: Duration::from_secs(60),
        authorities: Authorities::from_pem(&own.pem()).expect("one"),
    });
    let fault = client.expect("a client").tokens().get(None).await.map(|_| ()).expect_err("refused");
    assert_eq!((fault.code(), requests.load(Ordering::SeqCst)), ("unreachable", 1));
    listening.abort();
}
