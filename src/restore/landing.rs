//! One file, from dStor to its name.

use std::io::{self, BufRead, BufReader};
use std::sync::Arc;

use tokio::sync::mpsc;

use super::dest::{Part, Placed};
use super::incoming::{End, Incoming, Piece};
use super::{Came, Compared, Dest, Fate, Wanted, judge};
use crate::dstor::{Client, Reply};
use crate::mirror::{Digest, Fault};
use crate::seal::{Identities, NotOpened};
use crate::upload::blocking;

/// Pieces that may wait to be written: some 100 KiB each at the most.
const AHEAD: usize = 4;
/// Bytes of an encrypted file that are opened together.
const OPENED_AT_ONCE: usize = 64 * 1024;

/// Why an encrypted file stays closed.
pub(super) const NO_KEY: &str = "it is encrypted, and no key was given";
const OTHER_KEY: &str = "it is encrypted to another key than those given";

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

/// What is done about a file, as far as the disk says.
pub(super) async fn look(dest: &Arc<Dest>, wanted: &Arc<Wanted>) -> Result<Compared, Trouble> {
    let (dest, wanted) = (Arc::clone(dest), Arc::clone(wanted));
    Ok(blocking(move || dest.compare(&wanted)).await?)
}

/// Asks dStor for a file and writes it as it comes, opened with `identities` if it is encrypted. `read` is told of each piece's bytes.
pub(super) async fn fetch(
    client: &Client,
    dest: &Arc<Dest>,
    wanted: &Arc<Wanted>,
    identities: Option<&Arc<Identities>>,
    mut read: impl FnMut(u64) + Send,
) -> Result<Fetched, Trouble> {
    let mut download = match client.read(&wanted.hash, wanted.longest_answer()).await? {
        Reply::Missing => return Ok(Fetched::Ended(Fate::Missing)),
        Reply::File(download) => download,
    };
    let (send, pieces) = mpsc::channel(AHEAD);
    let (dest, file, identities) = (Arc::clone(dest), Arc::clone(wanted), identities.cloned());
    // If this is dropped in the midst, the channel closes without its end, and the file is removed.
    let writing = blocking(move || write(&dest, &file, identities.as_deref(), pieces));
    let reading = async move {
        while let Some(piece) = download.next().await? {
            read(piece.len() as u64);
            // Closed early: the writer says why.
            if send.send(Piece::Bytes(piece)).await.is_err() {
                return Ok(());
            }
        }
        let end = End { is_longer: download.is_longer(), is_page: download.is_page() };
        let _ = send.send(Piece::End(end)).await;
        drop(send);
        Ok::<_, Fault>(())
    };
    let (read, written) = futures_util::future::join(reading, writing).await;
    read?;
    written.unwrap_or_else(|| Err(io::Error::other("it was broken off").into()))
}

/// Blocking: writes what comes, opened if it is encrypted; `None` if its end did not come.
fn write(
    dest: &Dest,
    wanted: &Wanted,
    identities: Option<&Identities>,
    pieces: mpsc::Receiver<Piece>,
) -> Option<Result<Fetched, Trouble>> {
    let mut incoming = Incoming::new(pieces);
    let landed = match (wanted.sealed, identities) {
        (None, _) => land(dest, wanted, &mut incoming),
        (Some(_), None) => return Some(Ok(Fetched::Ended(Fate::Locked(NO_KEY)))),
        (Some(_), Some(identities)) => match identities.open(&mut incoming) {
            Ok(opened) => land(dest, wanted, &mut BufReader::with_capacity(OPENED_AT_ONCE, opened)),
            // No more of it is read: it may be large, and so may all the others.
            Err(NotOpened::Locked) => return Some(Ok(Fetched::Ended(Fate::Locked(OTHER_KEY)))),
            Err(NotOpened::Damaged(_) | NotOpened::Io(_)) => Ok(None),
        },
    };
    let landed = match landed {
        Ok(landed) => landed,
        Err(error) => return Some(Err(error.into())),
    };
    let End { is_longer, is_page } = incoming.end()?;
    let came = Came { digest: landed.as_ref().map(|(_, digest, _)| *digest), is_longer, is_page };
    Some(match (judge(&came, wanted), landed) {
        (Ok(true), Some((part, _, bytes))) => Ok(Fetched::Whole(part, bytes)),
        (Ok(_), _) => Ok(Fetched::Ended(Fate::Different)),
        (Err(fault), _) => Err(fault.into()),
    })
}

/// Blocking: writes what can be read into a file on its way; gives it with the digest and number of its bytes, or nothing if
/// it could not be read to its end.
fn land(dest: &Dest, wanted: &Wanted, input: &mut impl BufRead) -> io::Result<Option<(Part, Digest, u64)>> {
    let mut part = dest.begin(&wanted.path)?;
    let (mut hasher, mut bytes) = (blake3::Hasher::new(), 0);
    loop {
        let Ok(piece) = input.fill_buf() else { return Ok(None) };
        if piece.is_empty() {
            return Ok(Some((part, hasher.finalize().into(), bytes)));
        }
        hasher.update(piece);
        part.write(piece)?;
        let read = piece.len();
        bytes += read as u64;
        input.consume(read);
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
