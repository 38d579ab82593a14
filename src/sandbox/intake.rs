//! A request's body on its way in, with what goes wrong on the way.

use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::http::StatusCode;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use tokio::sync::watch;
use tokio::time::Instant;

use super::answer::Refusal;
use super::connection::Connection;
use super::misbehave::Misdeed;

/// How much of a body is read before a reset in the midst of it.
const READ_BEFORE_RESET: u64 = 64 * 1024;
/// How long a body that was refused is still read: a client that writes first and reads then gets to see the refusal.
const LONGEST_LINGER: Duration = Duration::from_secs(5);

/// Whether the sandbox stops.
#[derive(Clone)]
pub(super) struct Stopping(pub(super) watch::Receiver<bool>);

impl Stopping {
    /// Returns once the sandbox stops.
    pub(super) async fn wait(&mut self) {
        // An error means that the sandbox is gone: it has stopped.
        let _ = self.0.wait_for(|stopping| *stopping).await;
    }
}

/// A body to be read piece by piece.
pub(super) struct Intake {
    body: BodyDataStream,
    connection: Connection,
    stopping: Stopping,
    /// What goes wrong while it is read or with the answer.
    pub(super) deed: Option<Misdeed>,
    taken: u64,
    begun: Instant,
}

impl Intake {
    pub(super) fn new(body: Body, connection: Connection, stopping: Stopping) -> Self {
        Self { body: body.into_data_stream(), connection, stopping, deed: None, taken: 0, begun: Instant::now() }
    }

    /// The body's next bytes; `None` at its end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Refusal> {
        let piece = self.body.next().await.transpose().map_err(|error| {
            tracing::debug!(%error, "a body broke off");
            Refusal::new(StatusCode::BAD_REQUEST, "the body ends early")
        })?;
        self.taken += piece.as_ref().map_or(0, Bytes::len) as u64;
        match self.deed {
            Some(Misdeed::ResetInBody) if piece.is_none() || self.taken >= READ_BEFORE_RESET => {
                self.connection.tear();
                Err(Refusal::new(StatusCode::BAD_REQUEST, "the connection was reset"))
            }
            Some(Misdeed::Slow(bytes_a_second)) => {
                let due = self.begun + Duration::from_secs_f64(self.taken as f64 / bytes_a_second as f64);
                tokio::select! {
                    biased;
                    () = self.stopping.wait() => Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the sandbox stops")),
                    () = tokio::time::sleep_until(due) => Ok(piece),
                }
            }
            _ => Ok(piece),
        }
    }

    /// The whole body, if it is no longer than `longest` bytes.
    pub(super) async fn all(&mut self, longest: usize) -> Result<Bytes, Refusal> {
        let mut all = BytesMut::new();
        while let Some(piece) = self.next().await? {
            if all.len() + piece.len() > longest {
                return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "the body is too long"));
            }
            all.extend_from_slice(&piece);
        }
        Ok(all.freeze())
    }

    /// Reads what is left and forgets it, for a while: a connection that is closed over unread bytes is reset, and the
    /// answer lost with it. The task ends with the body, the sandbox or the time.
    pub(super) fn linger(mut self) {
        self.deed = None;
        let mut stopping = self.stopping.clone();
        tokio::spawn(async move {
            let drain = async { while let Ok(Some(_)) = self.next().await {} };
            tokio::select! {
                biased;
                () = stopping.wait() => {}
                _ = tokio::time::timeout(LONGEST_LINGER, drain) => {}
            }
        });
    }
}
