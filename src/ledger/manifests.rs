//! The lists of files that were stored on dStor, the last one of each mirror.

use rusqlite::OptionalExtension as _;

use super::{Ledger, LedgerError, Millis, MirrorId, bits_in, bits_out};
use crate::mirror::{Cid, Digest};

/// A mirror's list of files on dStor.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ManifestRow {
    /// The hash of its root.
    pub hash: Cid,
    /// The digest of the root's bytes.
    pub digest: Digest,
    /// Files in it.
    pub files: u64,
    /// Bytes in these.
    pub bytes: u64,
    /// When it was stored, or found to be still right.
    pub published_at: Millis,
}

impl Ledger {
    /// The list that was stored last.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn manifest(&self, mirror: MirrorId) -> Result<Option<ManifestRow>, LedgerError> {
        let found = self
            .db
            .prepare_cached("SELECT hash, blake3, files, bytes, published_at FROM manifests WHERE mirror_id = ?1")?
            .query_row([mirror.0], |row| {
                let (hash, digest): (String, [u8; 32]) = (row.get(0)?, row.get(1)?);
                Ok((hash, digest, row.get(2)?, row.get(3)?, row.get(4)?))
            })
            .optional()?;
        let Some((hash, digest, files, bytes, published_at)) = found else { return Ok(None) };
        Ok(Some(ManifestRow {
            hash: Cid::parse(&hash).map_err(|_| LedgerError::Nonsense("a hash that is none".into()))?,
            digest: Digest::from_bytes(digest),
            files: bits_out(files),
            bytes: bits_out(bytes),
            published_at,
        }))
    }

    /// Records that this list is stored.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn set_manifest(&self, mirror: MirrorId, row: &ManifestRow) -> Result<(), LedgerError> {
        let ManifestRow { hash, digest, files, bytes, published_at } = row;
        self.db
            .prepare_cached(
                "INSERT OR REPLACE INTO manifests (mirror_id, hash, blake3, files, bytes, published_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute((
                mirror.0,
                hash.as_str(),
                digest.as_bytes().as_slice(),
                bits_in(*files),
                bits_in(*bytes),
                published_at,
            ))?;
        Ok(())
    }
}
