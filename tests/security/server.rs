//! A server that says what a test wants it to say, and remembers what it was asked.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// One request: its head as text, with the request line first.
pub(super) struct Request {
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

impl Request {
    /// Method and path.
    pub(super) fn line(&self) -> &str {
        self.head.lines().next().unwrap_or_default()
    }

    pub(super) fn asks_for_a_token(&self) -> bool {
        self.line().contains("/v1/dev/temp-token")
    }
}

/// Answers every request with what `answer` makes of it, and closes.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    connections: Arc<Mutex<usize>>,
    requests: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Server {
    pub(super) async fn start(answer: impl Fn(&Request) -> String + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let address = listener.local_addr().expect("an address");
        let (connections, requests) = (Arc::<Mutex<usize>>::default(), Arc::<Mutex<Vec<String>>>::default());
        let (counting, keeping, answer) = (Arc::clone(&connections), Arc::clone(&requests), Arc::new(answer));
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                *counting.lock().expect("not poisoned") += 1;
                let (keeping, answer) = (Arc::clone(&keeping), Arc::clone(&answer));
                tokio::spawn(async move {
                    let mut client = client;
                    let Some(request) = read(&mut client).await else { return };
                    keeping.lock().expect("not poisoned").push(request.head.clone());
                    // Whether the client still listens is its own business.
                    let _ = client.write_all(answer(&request).as_bytes()).await;
                    let _ = client.shutdown().await;
                });
            }
        });
        Self { address, connections, requests, task }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn connections(&self) -> usize {
        *self.connections.lock().expect("not poisoned")
    }

    /// The heads of all requests so far.
    pub(super) fn requests(&self) -> Vec<String> {
        self.requests.lock().expect("not poisoned").clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An answer with this status line and JSON.
pub(super) fn json(status: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

pub(super) fn token() -> String {
    json("200 OK", r#"{"access_token":"planted-token-4c1f0a"}"#)
}

async fn read(client: &mut TcpStream) -> Option<Request> {
    let mut all = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    let head_ends = loop {
        let read = client.read(&mut buffer).await.ok().filter(|read| *read > 0)?;
        all.extend_from_slice(&buffer[..read]);
        if let Some(at) = all.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
    };
    let head = String::from_utf8_lossy(&all[..head_ends]).into_owned();
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    let mut body = all.split_off(head_ends);
    while body.len() < length.unwrap_or(0) {
        let read = client.read(&mut buffer).await.ok().filter(|read| *read > 0)?;
        body.extend_from_slice(&buffer[..read]);
    }
    Some(Request { head, body })
}
