//! Connections that a handler can tear, and the listener that makes them.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

/// What all connections share.
#[derive(Default)]
pub(super) struct Connections {
    open: Mutex<Vec<Weak<Mutex<Wire>>>>,
    received: AtomicU64,
}

impl Connections {
    /// Bytes that came in so far, heads of requests included.
    pub(super) fn bytes_received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Resets every connection.
    pub(super) fn tear_all(&self) {
        for wire in lock(&self.open).drain(..).filter_map(|wire| wire.upgrade()) {
            tear(&wire);
        }
    }

    fn admit(&self, stream: TcpStream) -> Arc<Mutex<Wire>> {
        let wire = Arc::new(Mutex::new(Wire { stream: Some(stream), task: None }));
        let mut open = lock(&self.open);
        open.retain(|wire| wire.strong_count() > 0);
        open.push(Arc::downgrade(&wire));
        wire
    }
}

/// A connection's stream, until it is torn.
struct Wire {
    stream: Option<TcpStream>,
    /// The connection's task, to be told when it is torn from outside.
    task: Option<Waker>,
}

fn tear(wire: &Mutex<Wire>) {
    let mut wire = lock(wire);
    if let Some(stream) = wire.stream.take() {
        // Without it the kernel closes politely where everything was read. If it fails, a polite end has to do.
        if let Err(error) = stream.set_zero_linger() {
            tracing::debug!(%error, "a connection cannot be reset, it is closed");
        }
    }
    if let Some(task) = wire.task.take() {
        task.wake();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A request's own connection.
#[derive(Clone)]
pub(super) struct Connection(Weak<Mutex<Wire>>);

impl Connection {
    /// Resets it: the client sees neither an answer nor a proper end.
    pub(super) fn tear(&self) {
        if let Some(wire) = self.0.upgrade() {
            tear(&wire);
        }
    }
}

impl Connected<IncomingStream<'_, Loopback>> for Connection {
    fn connect_info(stream: IncomingStream<'_, Loopback>) -> Self {
        Self(Arc::downgrade(&stream.io().wire))
    }
}

/// Accepts connections that can be torn.
pub(super) struct Loopback {
    pub(super) listener: TcpListener,
    pub(super) connections: Arc<Connections>,
}

impl Listener for Loopback {
    type Io = Tearable;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Tearable, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok((stream, address)) => {
                    // Answers are small, and tests wait for them. A stream that refuses is only slower.
                    let _ = stream.set_nodelay(true);
                    let connections = Arc::clone(&self.connections);
                    return (Tearable { wire: connections.admit(stream), connections }, address);
                }
                Err(error) => {
                    // Out of file descriptors, most likely: some come back as connections end.
                    tracing::debug!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection's bytes. Once torn, reading and writing fail.
pub(super) struct Tearable {
    wire: Arc<Mutex<Wire>>,
    connections: Arc<Connections>,
}

impl Tearable {
    fn with<T>(
        &self,
        cx: &mut Context<'_>,
        act: impl FnOnce(Pin<&mut TcpStream>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let mut wire = lock(&self.wire);
        if !wire.task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
            wire.task = Some(cx.waker().clone());
        }
        match &mut wire.stream {
            Some(stream) => act(Pin::new(stream), cx),
            None => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
        }
    }
}

impl AsyncRead for Tearable {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(self.with(cx, |stream, cx| stream.poll_read(cx, buf)))?;
        self.connections.received.fetch_add((buf.filled().len() - before) as u64, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tearable {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.with(cx, |stream, cx| stream.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.with(cx, |stream, cx| stream.poll_write_vectored(cx, bytes))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(cx, |stream, cx| stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(cx, |stream, cx| stream.poll_shutdown(cx))
    }
}
