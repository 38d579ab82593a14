//! The lists of files that were stored on dStor, the last one of each mirror.

use rusqlite::OptionalExtension as _;

use super::sealing::text_of;
use super::{Ledger, LedgerError, Millis, MirrorId, bits_in, bits_out};
use crate::mirror::{Cid, Digest};

/// A mirror's list of files on dStor.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ManifestRow {
    /// The hash of its root.
    pub hash: Cid,
    /// The digest of the root's bytes, as they were sent.
    pub digest: Digest,
    /// Files in it.
    pub files: u64,
    /// Bytes in these.
    pub bytes: u64,
    /// When it was stored, or found to be still right.
    pub published_at: Millis,
    /// What cannot be read back from dStor without a private key; `None`: the list is not encrypted.
    pub sealed: Option<SealedRoot>,
}

/// The root of an encrypted list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SealedRoot {
    /// To whom it and its parts are encrypted, by their public keys.
    pub recipients: Vec<String>,
    /// Its bytes before it was encrypted.
    pub root: Vec<u8>,
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
            sealed: self.sealed_root(mirror, &hash)?,
            hash: Cid::parse(&hash).map_err(|_| LedgerError::Nonsense("a hash that is none".into()))?,
            digest: Digest::from_bytes(digest),
            files: bits_out(files),
            bytes: bits_out(bytes),
            published_at,
        }))
    }

    fn sealed_root(&self, mirror: MirrorId, hash: &str) -> Result<Option<SealedRoot>, LedgerError> {
        let found: Option<(String, Vec<u8>)> = self
            .db
            .prepare_cached("SELECT recipients, root FROM sealed_manifests WHERE mirror_id = ?1 AND hash = ?2")?
            .query_row((mirror.0, hash), |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        // What makes no sense is as if it were not there: then all of the list is sent.
        Ok(found.and_then(|(recipients, root)| {
            Some(SealedRoot { recipients: serde_json::from_str(&recipients).ok()?, root })
        }))
    }

    /// Records that this list is stored.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn set_manifest(&self, mirror: MirrorId, row: &ManifestRow) -> Result<(), LedgerError> {
        let ManifestRow { hash, digest, files, bytes, published_at, sealed } = row;
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
        self.db.prepare_cached("DELETE FROM sealed_manifests WHERE mirror_id = ?1")?.execute([mirror.0])?;
        if let Some(SealedRoot { recipients, root }) = sealed {
            self.db
                .prepare_cached(
                    "INSERT INTO sealed_manifests (mirror_id, hash, recipients, root) VALUES (?1, ?2, ?3, ?4)",
                )?
                .execute((mirror.0, hash.as_str(), text_of(recipients), root))?;
        }
        Ok(())
    }
}
