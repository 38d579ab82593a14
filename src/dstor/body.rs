//! The body of a request with files: framed, in small pieces, and watched for when it stands still.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use reqwest::Body;

use super::throttle::Throttle;
use super::wire::Framing;

/// What is handed to a connection at a time, in bytes: on a slow line small pieces tell sooner that something moves.
const PIECE: usize = 32 * 1024;

/// A body that is sent, no faster than `throttle` allows, and what is seen of its way.
pub(super) fn framed<S>(framing: Framing, files: Vec<S>, throttle: Option<Arc<Throttle>>) -> (Body, Arc<Progress>)
where
    S: Stream<Item = std::io::Result<Bytes>> + Send + 'static,
{
    let progress = Arc::new(Progress::default());
    let (noted, sent, held) = (Arc::clone(&progress), Arc::clone(&progress), Arc::clone(&progress));
    let cutter = throttle.clone();
    let tail = Bytes::from(framing.tail);
    let parts = framing.heads.into_iter().zip(files);
    let whole = futures_util::stream::iter(parts)
        .flat_map(move |(head, file)| {
            let cutter = cutter.clone();
            let cut = move |piece| in_small_pieces(piece, cutter.as_ref().map_or(PIECE, |cutter| cutter.piece()));
            futures_util::stream::iter([Ok(Bytes::from(head))]).chain(file.flat_map(cut))
        })
        .chain(futures_util::stream::once(async move {
            sent.is_sent.store(true, Ordering::Relaxed);
            Ok(tail)
        }))
        .then(move |piece: std::io::Result<Bytes>| {
            let (throttle, progress) = (throttle.clone(), Arc::clone(&held));
            async move {
                if let (Some(throttle), Ok(piece)) = (throttle, &piece) {
                    throttle.take(piece.len(), || progress.moved()).await;
                }
                piece
            }
        })
        .inspect(move |piece| noted.handed(piece.as_ref().map_or(0, Bytes::len)));
    (Body::wrap_stream(whole), progress)
}

/// Cuts a piece into small ones that share its memory.
fn in_small_pieces(piece: std::io::Result<Bytes>, small: usize) -> impl Stream<Item = std::io::Result<Bytes>> {
    let mut rest = Some(piece);
    futures_util::stream::iter(std::iter::from_fn(move || match rest.take()? {
        Ok(mut piece) if piece.len() > small => {
            let small = piece.split_to(small);
            rest = Some(Ok(piece));
            Some(Ok(small))
        }
        other => Some(other),
    }))
}

/// When something last moved in a request. A limit on the whole of it would end slow uploads that go on well, and a limit
/// on reading fires while the body is still being sent (E6).
///
/// What the connection was handed is not yet on its way: buffers hold up to some megabytes, and a slow line drains them
/// without a sign. So this only says when even the slowest line would have moved. That nothing at all gets through while
/// bytes are to be sent, the kernel notices to the second, see `tcp_user_timeout`.
pub(super) struct Progress {
    begun: Instant,
    moved_ms: AtomicU64,
    /// Bytes handed to the connection.
    handed: AtomicU64,
    /// Whether that is the whole body.
    is_sent: AtomicBool,
}

impl Default for Progress {
    fn default() -> Self {
        Self {
            begun: Instant::now(),
            moved_ms: AtomicU64::new(0),
            handed: AtomicU64::new(0),
            is_sent: AtomicBool::new(false),
        }
    }
}

impl Progress {
    /// Something moves, or is held back by ourselves.
    fn moved(&self) {
        let now = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.moved_ms.store(now, Ordering::Relaxed);
    }

    fn handed(&self, bytes: usize) {
        self.moved();
        self.handed.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Waits until nothing can have moved for `limit`. Returns how long nothing was seen to move.
    pub(super) async fn stalled(&self, limit: Duration) -> Duration {
        loop {
            let limit = limit + unseen(self.handed.load(Ordering::Relaxed), self.is_sent.load(Ordering::Relaxed));
            let moved = Duration::from_millis(self.moved_ms.load(Ordering::Relaxed));
            let quiet = self.begun.elapsed().saturating_sub(moved);
            if quiet >= limit {
                return quiet;
            }
            tokio::time::sleep(limit - quiet).await;
        }
    }
}

/// How long a request may go on without a sign after it was handed so many bytes.
fn unseen(handed: u64, is_sent: bool) -> Duration {
    /// What Linux buffers for a connection at most, unless told otherwise.
    const BUFFERED: u64 = 4 * 1024 * 1024;
    /// On slower lines, buffers are smaller.
    const SLOWEST_LINE: u64 = 16 * 1024;
    let drains = Duration::from_secs(handed.min(BUFFERED) / SLOWEST_LINE);
    if is_sent { drains + storing(handed) } else { drains }
}

/// How long the service may take for so many bytes: it adds files to IPFS before it has a hash.
pub(super) fn storing(bytes: u64) -> Duration {
    const SLOWEST_SERVICE: u64 = 1024 * 1024;
    Duration::from_secs(bytes / SLOWEST_SERVICE)
}
