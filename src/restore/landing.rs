//! One file, from dStor to its name.

use std::io::{self, BufRead, BufReader};
use std::sync::Arc;

use tokio::sync::mpsc;

use super::dest::{Part, Placed};
use super::incoming::{End, Incoming, Piece};
use super::{Came, Compared, Dest, Fate, Wanted, judge};
use crate::dstor::{Client, Download, Reply};
use crate::mirror::{Digest, Fault};
use crate::seal::{Identities, NotOpened};
use crate::upload::blocking;

/// Pieces that may wait to be written: some 100 KiB each at the most.
const AHEAD: usize = 4;
/// A file of no more bytes is kept in memory until it gets its name: handing each to a thread that writes it costs more than
/// its bytes do.
const SMALL: u64 = 64 * 1024;
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
    Whole(Whole),
    /// It has no business here any more.
    Ended(Fate),
}

/// A file that is whole and right, and has no name yet.
pub(super) struct Whole {
    pub(super) wanted: Arc<Wanted>,
    pub(super) bytes: u64,
    held: Held,
}

impl Whole {
    /// Whether it is an open file.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.held, Held::Disk(_))
    }
}

/// Where its bytes are.
enum Held {
    Disk(Part),
    Memory(Vec<u8>),
}

/// What is done about these files, for each that can be told without reading one.
pub(super) async fn glance(dest: &Arc<Dest>, wanted: Vec<Arc<Wanted>>) -> Vec<(Arc<Wanted>, Option<Compared>)> {
    let dest = Arc::clone(dest);
    let glance = move |wanted: Arc<Wanted>| {
        let compared = dest.compare_unread(&wanted);
        (wanted, compared)
    };
    blocking(move || wanted.into_iter().map(glance).collect()).await
}

/// What is done about a file, as far as the disk says.
pub(super) async fn look(dest: &Arc<Dest>, wanted: &Arc<Wanted>) -> Result<Compared, Trouble> {
    let (dest, wanted) = (Arc::clone(dest), Arc::clone(wanted));
    Ok(blocking(move || dest.compare(&wanted)).await?)
}

/// Asks dStor for a file and writes it as it comes, opened with `identities` if it is encrypted; a small one that is not comes
/// into memory. `read` is told of each piece's bytes.
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
    if wanted.sealed.is_none() && wanted.longest_answer() <= SMALL {
        return keep(wanted, download, read).await;
    }
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

/// Takes a small file into memory.
async fn keep(wanted: &Arc<Wanted>, mut download: Download, mut read: impl FnMut(u64)) -> Result<Fetched, Trouble> {
    let mut content = Vec::with_capacity(usize::try_from(wanted.size.min(SMALL)).unwrap_or_default());
    while let Some(piece) = download.next().await? {
        read(piece.len() as u64);
        content.extend_from_slice(&piece);
    }
    let (is_longer, is_page) = (download.is_longer(), download.is_page());
    let came = Came { digest: Some(Digest::of(&content)), is_longer, is_page };
    Ok(if judge(&came, wanted)? {
        let (wanted, bytes) = (Arc::clone(wanted), content.len() as u64);
        Fetched::Whole(Whole { wanted, bytes, held: Held::Memory(content) })
    } else {
        Fetched::Ended(Fate::Different)
    })
}

/// Blocking: writes what comes, opened if it is encrypted; `None` if its end did not come.
fn write(
    dest: &Dest,
    wanted: &Arc<Wanted>,
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
        (Ok(true), Some((part, _, bytes))) => {
            Ok(Fetched::Whole(Whole { wanted: Arc::clone(wanted), bytes, held: Held::Disk(part) }))
        }
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
pub(super) async fn place(dest: &Arc<Dest>, whole: Vec<Whole>) -> Vec<(Arc<Wanted>, Result<Fate, Trouble>)> {
    let dest = Arc::clone(dest);
    blocking(move || {
        let written = |Whole { wanted, bytes, held }| {
            let part = match held {
                Held::Disk(part) => Ok(part),
                Held::Memory(content) => write_one(&dest, &wanted, &content),
            };
            (wanted, bytes, part)
        };
        let written: Vec<_> = whole.into_iter().map(written).collect();
        let synced = Part::sync(written.iter().filter_map(|(.., part)| part.as_ref().ok()));
        let place = |(wanted, bytes, part): (Arc<Wanted>, u64, io::Result<Part>)| {
            let fate = match (part, &synced) {
                (Ok(part), Ok(())) => place_one(&dest, &wanted, part, bytes),
                (Ok(_), Err(error)) => Err(io::Error::new(error.kind(), error.to_string()).into()),
                (Err(error), _) => Err(error.into()),
            };
            (wanted, fate)
        };
        written.into_iter().map(place).collect()
    })
    .await
}

fn write_one(dest: &Dest, wanted: &Wanted, content: &[u8]) -> io::Result<Part> {
    let mut part = dest.begin(&wanted.path)?;
    part.write(content)?;
    Ok(part)
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
