//! Another host, to which dStor's answers point and nobody ever goes.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub(super) struct Elsewhere {
    port: u16,
    heard: Arc<Mutex<Vec<u8>>>,
    listening: JoinHandle<()>,
}

impl Elsewhere {
    pub(super) async fn listen() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let writes = Arc::clone(&heard);
        let listening = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut bytes = vec![0; 64 * 1024];
                let read = stream.read(&mut bytes).await.unwrap_or(0);
                let mut heard = writes.lock().unwrap_or_else(PoisonError::into_inner);
                heard.extend_from_slice(b"someone came: ");
                heard.extend_from_slice(&bytes[..read]);
            }
        });
        Self { port, heard, listening }
    }

    /// Its address, by another name than the one that dStor has.
    pub(super) fn url(&self) -> String {
        format!("http://localhost:{}/", self.port)
    }

    /// What was said to it.
    pub(super) fn heard(&self) -> String {
        String::from_utf8_lossy(&self.heard.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        self.listening.abort();
    }
}
