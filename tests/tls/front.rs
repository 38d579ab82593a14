//! A front that speaks TLS before a dStor on loopback, as services have, and the authorities that sign its certificates.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

/// Somebody who signs certificates.
pub(super) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// From when on and how long a certificate holds.
#[derive(Clone, Copy)]
pub(super) enum Holds {
    Now,
    /// Until the second day of 2001.
    NoMore,
    /// From the third day of 2400 on.
    NotYet,
}

impl Authority {
    pub(super) fn new(name: &str) -> Self {
        let mut about = CertificateParams::new(Vec::new()).expect("no names");
        about.distinguished_name.push(DnType::CommonName, name);
        about.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(about, KeyPair::generate().expect("a key")).expect("signed"))
    }

    /// What `ca_file` would hold.
    pub(super) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for a host, and what a server does with it.
    pub(super) fn signs(&self, host: &str, holds: Holds) -> Shows {
        let mut about = CertificateParams::new(vec![host.to_owned()]).expect("a name");
        (about.not_before, about.not_after) = match holds {
            Holds::Now => (date_time_ymd(2001, 1, 1), date_time_ymd(2400, 1, 1)),
            Holds::NoMore => (date_time_ymd(2001, 1, 1), date_time_ymd(2001, 1, 2)),
            Holds::NotYet => (date_time_ymd(2400, 1, 3), date_time_ymd(2400, 1, 4)),
        };
        let key = KeyPair::generate().expect("a key");
        let certificate = about.signed_by(&key, &self.0).expect("signed");
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("a certificate and its key");
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Shows::Certificate(Arc::new(config))
    }
}

/// What a front says to whoever comes.
#[derive(Clone)]
pub(super) enum Shows {
    Certificate(Arc<ServerConfig>),
    /// Plain HTTP where TLS is expected.
    PlainHttp,
}

pub(super) struct Front {
    pub(super) port: u16,
    shows: Arc<Mutex<Shows>>,
    by_http2: Arc<AtomicUsize>,
    listening: JoinHandle<()>,
}

impl Front {
    /// Before the dStor at this port.
    pub(super) async fn before(dstor: u16, shows: Shows) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (shows, by_http2) = (Arc::new(Mutex::new(shows)), Arc::new(AtomicUsize::new(0)));
        let (shown, counted) = (Arc::clone(&shows), Arc::clone(&by_http2));
        let listening = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shows = shown.lock().unwrap_or_else(PoisonError::into_inner).clone();
                tokio::spawn(lead(stream, shows, dstor, Arc::clone(&counted)));
            }
        });
        Self { port, shows, by_http2, listening }
    }

    /// From the next connection on.
    pub(super) fn show(&self, shows: Shows) {
        *self.shows.lock().unwrap_or_else(PoisonError::into_inner) = shows;
    }

    /// Connections over which HTTP/2 was agreed on.
    pub(super) fn by_http2(&self) -> usize {
        self.by_http2.load(Ordering::Relaxed)
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

async fn lead(mut stream: TcpStream, shows: Shows, dstor: u16, by_http2: Arc<AtomicUsize>) {
    let config = match shows {
        Shows::Certificate(config) => config,
        Shows::PlainHttp => {
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await;
            return;
        }
    };
    let Ok(mut secure) = TlsAcceptor::from(config).accept(stream).await else { return };
    by_http2.fetch_add(usize::from(secure.get_ref().1.alpn_protocol() == Some(b"h2")), Ordering::Relaxed);
    if let Ok(mut plain) = TcpStream::connect(("127.0.0.1", dstor)).await {
        // However it ends: both sides see it.
        let _ = tokio::io::copy_bidirectional(&mut secure, &mut plain).await;
    }
}
