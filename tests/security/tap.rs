//! A wire tap: passes connections on and keeps what clients sent.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Passes on to a server, and keeps every byte that clients sent, in order and a connection at a time.
pub(crate) struct Tap {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<Vec<u8>>>>,
    task: JoinHandle<()>,
}

impl Tap {
    /// On the way to `url`.
    pub(crate) async fn on(url: &str) -> Self {
        let server = url.trim_start_matches("http://").trim_end_matches('/').to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let address = listener.local_addr().expect("an address");
        let heard: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
        let keeping = Arc::clone(&heard);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(&server).await else { continue };
                let keeping = Arc::clone(&keeping);
                tokio::spawn(pass_on(client, server, keeping));
            }
        });
        Self { address, heard, task }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Whether any connection carried these bytes so far.
    pub(crate) fn heard(&self, bytes: &[u8]) -> bool {
        let heard = self.heard.lock().expect("not poisoned");
        heard.iter().any(|all| all.windows(bytes.len()).any(|window| window == bytes))
    }

    /// Bytes so far.
    pub(crate) fn bytes(&self) -> usize {
        self.heard.lock().expect("not poisoned").iter().map(Vec::len).sum()
    }

    /// The first access token that went by.
    pub(crate) fn token(&self) -> Option<String> {
        let heard = self.heard.lock().expect("not poisoned");
        heard.iter().find_map(|all| {
            let text = String::from_utf8_lossy(all);
            let after = text.split("Bearer ").nth(1)?;
            Some(after.split("\r\n").next()?.to_owned())
        })
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass_on(client: TcpStream, server: TcpStream, heard: Arc<Mutex<Vec<Vec<u8>>>>) {
    let number = {
        let mut heard = heard.lock().expect("not poisoned");
        heard.push(Vec::new());
        heard.len() - 1
    };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let back = tokio::spawn(async move {
        // Whichever side ends first, the other sees it.
        let _ = tokio::io::copy(&mut from_server, &mut to_client).await;
    });
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from_client.read(&mut buffer).await {
        heard.lock().expect("not poisoned")[number].extend_from_slice(&buffer[..read]);
        if to_server.write_all(&buffer[..read]).await.is_err() {
            break;
        }
    }
    drop(to_server);
    let _ = back.await;
}
