//! One file, from dStor to its name.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::dest::{Part, Placed};
use super::{Came, Compared, Dest, Fate, Wanted, judge};
use crate::dstor::{Client, Reply};
use crate::mirror::Fault;
use crate::upload::blocking;

/// Pieces that may wait to be written: some 100 KiB each at the most.
const AHEAD: usize = 4;

/// Why a file did not land, beside what its fate would be.
#[derive(Debug)]
pub(super) enum Trouble {
    /// dStor gave no answer.
    Fault(Fault),
    /// It cannot be written; the others may be.
    Io(io::Error),
    /// Nothing can be written any more.
    Full(io::Error),
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
        match error.kind() {
            StorageFull | QuotaExceeded | ReadOnlyFilesystem => Self::Full(error),
            _ => Self::Io(error),
        }
    }
}

/// What came of asking for a file.
pub(super) enum Fetched {
    /// It is whole and right, and needs its name.
    Whole(Part, u64),
    /// It has no business here any more.
    Ended(Fate),
}

/// What is on its way to the disk.
enum Piece {
    Bytes(Bytes),
    /// These were all.
    End {
        is_longer: bool,
        is_page: bool,
    },
}

/// What is done about a file, as far as the disk says.
pub(super) async fn look(dest: &Arc<Dest>, wanted: &Arc<Wanted>) -> Result<Compared, Trouble> {
    let (dest, wanted) = (Arc::clone(dest), Arc::clone(wanted));
    Ok(blocking(move || dest.compare(&wanted)).await?)
}

/// Asks dStor for a file and writes it as it comes. `read` is told of each piece's bytes.
pub(super) async fn fetch(
    client: &Client,
    dest: &Arc<Dest>,
    wanted: &Arc<Wanted>,
    mut read: impl FnMut(u64) + Send,
) -> Result<Fetched, Trouble> {
    let mut download = match client.read(&wanted.hash, wanted.longest).await? {
        Reply::Missing => return Ok(Fetched::Ended(Fate::Missing)),
        Reply::File(download) => download,
    };
    let (send, pieces) = mpsc::channel(AHEAD);
    let (dest, file) = (Arc::clone(dest), Arc::clone(wanted));
    // If this is dropped in the midst, the channel closes without its end, and the file is removed.
    let writing = blocking(move || write(&dest, &file, pieces));
    let reading = async move {
        while let Some(piece) = download.next().await? {
            read(piece.len() as u64);
            // Closed early: the writer says why.
            if send.send(Piece::Bytes(piece)).await.is_err() {
                return Ok(());
            }
        }
        let end = Piece::End { is_longer: download.is_longer(), is_page: download.is_page() };
        let _ = send.send(end).await;
        drop(send);
        Ok::<_, Fault>(())
    };
    let (read, written) = futures_util::future::join(reading, writing).await;
    read?;
    written.unwrap_or_else(|| Err(io::Error::other("it was broken off").into()))
}

/// Blocking: writes what comes; `None` if its end did not come.
fn write(dest: &Dest, wanted: &Wanted, mut pieces: mpsc::Receiver<Piece>) -> Option<Result<Fetched, Trouble>> {
    let mut part = match dest.begin(&wanted.path) {
        Ok(part) => part,
        Err(error) => return Some(Err(error.into())),
    };
    let (mut hasher, mut bytes) = (blake3::Hasher::new(), 0);
    loop {
        match pieces.blocking_recv()? {
            Piece::Bytes(piece) => {
                hasher.update(&piece);
                bytes += piece.len() as u64;
                if let Err(error) = part.write(&piece) {
                    return Some(Err(error.into()));
                }
            }
            Piece::End { is_longer, is_page } => {
                let came = Came { digest: hasher.finalize().into(), is_longer, is_page };
                return Some(match judge(&came, wanted) {
                    Ok(true) => Ok(Fetched::Whole(part, bytes)),
                    Ok(false) => Ok(Fetched::Ended(Fate::Different)),
                    Err(fault) => Err(fault.into()),
                });
            }
        }
    }
}

/// Gives whole files their names, once the disk holds them.
pub(super) async fn place(
    dest: &Arc<Dest>,
    whole: Vec<(Arc<Wanted>, Part, u64)>,
) -> Vec<(Arc<Wanted>, Result<Fate, Trouble>)> {
    let dest = Arc::clone(dest);
    blocking(move || {
        let synced = Part::sync(whole.iter().map(|(_, part, _)| part));
        let place = |(wanted, part, bytes): (Arc<Wanted>, Part, u64)| {
            let fate = match &synced {
                Ok(()) => place_one(&dest, &wanted, part, bytes),
                Err(error) => Err(io::Error::new(error.kind(), error.to_string()).into()),
            };
            (wanted, fate)
        };
        whole.into_iter().map(place).collect()
    })
    .await
}

fn place_one(dest: &Dest, wanted: &Wanted, part: Part, bytes: u64) -> Result<Fate, Trouble> {
    match part.place(wanted, bytes, dest.over())? {
        Placed::There { is_dressed } => Ok(Fate::Restored { bytes, is_dressed }),
        Placed::Taken => taken(dest, wanted),
    }
}

/// Blocking: something got the name while the file was on its way.
fn taken(dest: &Dest, wanted: &Wanted) -> Result<Fate, Trouble> {
    Ok(match dest.compare(wanted)? {
        Compared::There => Fate::There,
        Compared::Keep(why) => Fate::Kept(why),
        Compared::Fetch => Fate::Kept("something came and went where it should lie".into()),
    })
}
