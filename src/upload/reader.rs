//! Reads a file once: a small one whole, and of others a thread streams the pieces, as reading through the runtime's own
//! files would halve the speed under load.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::errand::ToSend;
use crate::dstor::Measured;
use crate::local::{Content, OpenRoot, ReadError, Reading};
use crate::mirror::{MirrorPath, Stat};
use crate::seal::{Recipients, Sealer};

/// Pieces of a file that wait between the disk and the network.
const PIECES_AHEAD: usize = 4;
/// Files up to so many bytes are read whole before their request begins: no thread has to be woken for each of their pieces,
/// which would take longer than to send them.
pub(super) const WHOLE: u64 = 256 * 1024;
/// A reader that nobody listens to any more ends within this time, or hangs in its disk.
const READER_END: Duration = Duration::from_secs(5);

type Pieces = mpsc::Receiver<std::io::Result<Bytes>>;

/// A read that is under way.
pub(super) struct Reader {
    handle: JoinHandle<Result<Content, ReadError>>,
    /// Shared with the request's body, which the connection may keep after it gave its answer.
    pieces: Arc<Mutex<Option<Pieces>>>,
}

impl Reader {
    /// Begins to read `path` if it is the regular file `version`; the pieces end with an error if it moves, and before the
    /// first one if it `is_guarded` and shows a sign of a secret. They are encrypted if there is someone to encrypt to: that is
    /// not guarded.
    pub(super) fn start(
        root: Arc<OpenRoot>,
        path: MirrorPath,
        version: Stat,
        recipients: Option<&Recipients>,
        is_guarded: bool,
    ) -> (Measured<impl Stream<Item = std::io::Result<Bytes>> + Send + use<>>, Self) {
        // Made here, as how many bytes go out is to be known before the first of them.
        let sealer = recipients.map(Sealer::new);
        let bytes = sealer.as_ref().map_or(version.size, |sealer| sealer.size_of(version.size));
        let (send, pieces) = mpsc::channel(PIECES_AHEAD);
        let handle = tokio::task::spawn_blocking(move || {
            let take = |piece| send.blocking_send(Ok(piece)).map_err(|_| ReadError::Abandoned);
            // Whatever else is asked for: where there is someone to encrypt to, nothing goes out in the open.
            let read = Reading::open(&root, &path, version).and_then(|reading| match sealer {
                None if is_guarded => reading.send_guarded(take),
                sealer => reading.send(sealer, take),
            });
            if let Err(error) = &read {
                // An error in the body ends the request unfinished: dStor never stores a torn file.
                let _ = send.blocking_send(Err(std::io::Error::other(error.to_string())));
            }
            read
        });
        let pieces = Arc::new(Mutex::new(Some(pieces)));
        let body = Arc::clone(&pieces);
        let pieces_of_it = futures_util::stream::poll_fn(move |context| {
            match body.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
                Some(pieces) => pieces.poll_recv(context),
                None => Poll::Ready(Some(Err(std::io::Error::other("nobody needs the rest")))),
            }
        });
        (Measured { bytes, pieces: pieces_of_it }, Self { handle, pieces })
    }

    /// What was read. The answer is there: whatever was not sent by now will not be.
    pub(super) async fn end(self) -> Result<Content, ReadError> {
        drop(self.pieces.lock().unwrap_or_else(PoisonError::into_inner).take());
        match tokio::time::timeout(READER_END, self.handle).await {
            Ok(Ok(read)) => read,
            Ok(Err(_)) => Err(std::io::Error::other("reading it failed").into()),
            // A disk that hangs must not keep a worker.
            Err(_) => Err(ReadError::Abandoned),
        }
    }
}

/// Blocking: reads a small file to its end, if it is the version that was looked at; what is to be sent of it is encrypted if
/// there is someone to encrypt to.
pub(super) fn read_whole(
    root: &OpenRoot,
    path: &MirrorPath,
    file: &ToSend,
    recipients: Option<&Recipients>,
) -> Result<(Content, Bytes), ReadError> {
    let mut pieces = Vec::new();
    let reading = Reading::open(root, path, file.stat)?;
    let take = |piece| {
        pieces.push(piece);
        Ok(())
    };
    let content = match recipients.map(Sealer::new) {
        None if file.is_guarded => reading.send_guarded(take)?,
        sealer => reading.send(sealer, take)?,
    };
    // Most files are one piece, which need not be copied.
    let bytes = if pieces.len() == 1 { pieces.remove(0) } else { pieces.concat().into() };
    Ok((content, bytes))
}
