//! Uploads that may arrive late. One that ended without word may be whole and on its way still, in buffers here or before
//! dStor, and be stored there after a newer version of its file was: then dStor's newest is the old one, although it did
//! acknowledge the newer. Where that may be, the path is sent once more when nothing can be on its way any more.

use std::time::Duration;

use super::{Claim, Ledger, LedgerError, Millis};
use crate::mirror::{Digest, State};

/// Paths that are looked at in one transaction. What is left has its turn at the next look.
const AT_A_TIME: u32 = 1_000;

impl Ledger {
    /// An upload of the claimed path ended without word, and dStor may come to hold its bytes at any time; `digest`: which
    /// ones, if that is known.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn may_straggle(&self, claim: &Claim, digest: Option<Digest>) -> Result<(), LedgerError> {
        self.db
            .prepare_cached(
                "INSERT INTO stragglers (directory_id, name, blake3) VALUES (?1, ?2, ?3)
                 ON CONFLICT DO UPDATE SET since = NULL, blake3 = iif(blake3 = excluded.blake3, blake3, NULL)",
            )?
            .execute((claim.directory, &claim.name, digest.as_ref().map(Digest::as_bytes)))?;
        Ok(())
    }

    /// What workers have may be on its way: they were killed.
    pub(super) fn claims_may_straggle(&self) -> Result<(), LedgerError> {
        self.db.execute(
            "INSERT INTO stragglers (directory_id, name) SELECT directory_id, name FROM changes WHERE claimed = 1
             ON CONFLICT DO UPDATE SET since = NULL, blake3 = NULL",
            [],
        )?;
        Ok(())
    }

    /// Puts those stored files into the queue, to be sent once more, of which an older upload may have come late: nothing
    /// is on its way for longer than `patience`. Returns how many. To be called now and then; it counts from the first call
    /// after an upload ended, and writes nothing where there is nothing to do.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn send_again_after_stragglers(&self, patience: Duration, now: Millis) -> Result<u64, LedgerError> {
        // A time in the future is by a clock that was set back (D14).
        self.db.prepare_cached("UPDATE stragglers SET since = ?1 WHERE since IS NULL OR since > ?1")?.execute([now])?;
        let before = now.saturating_sub(i64::try_from(patience.as_millis()).unwrap_or(i64::MAX));
        // Who has the path now may have begun before that: it is looked at when that has ended.
        let mut over = self.db.prepare_cached(
            "SELECT directory_id, name, blake3 FROM stragglers s WHERE since <= ?1 AND NOT EXISTS
               (SELECT 1 FROM changes c WHERE c.directory_id = s.directory_id AND c.name = s.name AND c.claimed = 1)
             ORDER BY since LIMIT ?2",
        )?;
        let over = over.query_map((before, AT_A_TIME), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        let over: Vec<(i64, Vec<u8>, Option<[u8; 32]>)> = over.collect::<Result<_, _>>()?;
        let mut again = 0;
        for (directory, name, digest) in over {
            let key = (directory, &*name);
            let row = self.file_row(key)?;
            let is_stored = row.as_ref().is_some_and(|row| row.recorded.state == State::Stored);
            let held = row.and_then(|row| row.held);
            match held {
                // Whichever came last, it holds the same bytes.
                Some(held) if Some(held.digest) == digest.map(Digest::from_bytes) => {}
                Some(_) if is_stored => {
                    self.send_again(key, now)?;
                    again += 1;
                }
                // There is nothing to send, but if the path comes back, it is sent and not compared.
                Some(_) => {
                    self.db
                        .prepare_cached("UPDATE files SET unsure = 1 WHERE directory_id = ?1 AND name = ?2")?
                        .execute(key)?;
                }
                // dStor never said that it holds anything: if the path is still here, it is sent after this.
                None => {}
            }
            self.db.prepare_cached("DELETE FROM stragglers WHERE directory_id = ?1 AND name = ?2")?.execute(key)?;
        }
        Ok(again)
    }

    fn send_again(&self, key: (i64, &[u8]), now: Millis) -> Result<(), LedgerError> {
        self.db
            .prepare_cached(
                "INSERT INTO changes (directory_id, name, size, since, due_at, unsure)
                 SELECT directory_id, name, size, ?3, ?3, 1 FROM files WHERE directory_id = ?1 AND name = ?2
                 ON CONFLICT DO UPDATE SET unsure = 1",
            )?
            .execute((key.0, key.1, now))?;
        Ok(())
    }
}
