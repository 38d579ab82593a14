//! One file, read back and compared. Nothing of it is kept.

use super::{Came, judge};
use crate::dstor::{Client, Download, Reply};
use crate::ledger::{Found, Proof, Readable};
use crate::mirror::{CidBuilder, Fault};

/// Asks dStor for a stored file by its hash, and compares what comes with what was sent. `read` is told of each piece's
/// bytes as they come, whatever becomes of the rest.
///
/// # Errors
/// Why nothing is known: never that dStor does not have it.
pub async fn read_back(
    client: &Client,
    file: &Readable,
    mut read: impl FnMut(u64) + Send,
) -> Result<(Found, Proof), Fault> {
    match client.read(&file.hash, file.size).await? {
        Reply::Missing => Ok((Found::Missing, Proof::Read)),
        Reply::File(download) => judge(&come(download, &mut read).await?, &file.hash, file.digest),
    }
}

async fn come(mut download: Download, read: &mut (impl FnMut(u64) + Send)) -> Result<Came, Fault> {
    let (mut digest, mut cid) = (blake3::Hasher::new(), CidBuilder::new());
    // Pieces are what the connection gave at a time: some 100 KiB at the most, hashed in less time than a thread takes.
    while let Some(piece) = download.next().await? {
        digest.update(&piece);
        cid.update(&piece);
        read(piece.len() as u64);
    }
    Ok(Came {
        digest: digest.finalize().into(),
        cid: cid.finish(),
        is_longer: download.is_longer(),
        is_page: download.is_page(),
    })
}
