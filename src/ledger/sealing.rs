//! To whom the agent encrypts and whether it hides names, as it last said: for those who only look, and for who stores a
//! list beside it.

use rusqlite::OptionalExtension as _;

use super::{Ledger, LedgerError, MirrorId};
use crate::mirror::NameKey;

impl Ledger {
    /// Records to whom files are encrypted from now on, by their public keys; none: to nobody, they go as they are. Nothing
    /// that is stored is sent again for it.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn set_sealing(&self, recipients: &[String]) -> Result<(), LedgerError> {
        if self.sealing()? == recipients {
            return Ok(());
        }
        self.db.execute("DELETE FROM sealing", [])?;
        if !recipients.is_empty() {
            self.db.execute("INSERT INTO sealing (id, recipients) VALUES (1, ?1)", [text_of(recipients)])?;
        }
        Ok(())
    }

    /// To whom files are encrypted, by the agent that ran last.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn sealing(&self) -> Result<Vec<String>, LedgerError> {
        let found: Option<String> =
            self.db.prepare_cached("SELECT recipients FROM sealing")?.query_row([], |row| row.get(0)).optional()?;
        let nonsense = |_| LedgerError::Nonsense("recipients that are no list".into());
        found.map_or_else(|| Ok(Vec::new()), |text| serde_json::from_str(&text).map_err(nonsense))
    }

    /// Records whether names are hidden from now on, and returns the key that does it. That is the one that did so before, if
    /// there was one; else `draw` makes it. What is stored keeps the name by which it went.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn set_names_hidden(
        &self,
        hidden: bool,
        draw: impl FnOnce() -> NameKey,
    ) -> Result<Option<NameKey>, LedgerError> {
        if hidden && self.name_key()?.is_none() {
            let key = draw();
            self.db
                .execute("INSERT INTO name_keys (id, key, active) VALUES (1, ?1, 1)", [key.as_bytes().as_slice()])?;
        }
        self.db.execute("UPDATE name_keys SET active = ?1 WHERE active <> ?1", [hidden])?;
        self.key_where("active = 1")
    }

    /// Whether names are hidden, by the agent that ran last.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn hides_names(&self) -> Result<bool, LedgerError> {
        Ok(self.key_where("active = 1")?.is_some())
    }

    /// Whether dStor has anything of a mirror under a pseudonym. Reads all of its rows, unless no name was ever hidden.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn has_hidden_names(&self, mirror: MirrorId) -> Result<bool, LedgerError> {
        if self.name_key()?.is_none() {
            return Ok(false);
        }
        let found = self
            .db
            .prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM directories d CROSS JOIN files f ON f.directory_id = d.id
                 WHERE d.mirror_id = ?1 AND f.pseudonym IS NOT NULL)",
            )?
            .query_row([mirror.0], |row| row.get(0))?;
        Ok(found)
    }

    /// What the pseudonyms were made with that files go by on dStor; `None`: none does.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn name_key(&self) -> Result<Option<NameKey>, LedgerError> {
        self.key_where("id = 1")
    }

    fn key_where(&self, condition: &str) -> Result<Option<NameKey>, LedgerError> {
        let sql = format!("SELECT key FROM name_keys WHERE {condition}");
        let key: Option<[u8; 32]> = self.db.prepare_cached(&sql)?.query_row([], |row| row.get(0)).optional()?;
        Ok(key.map(NameKey::new))
    }
}

/// Recipients as the ledger keeps them.
pub(super) fn text_of(recipients: &[String]) -> String {
    serde_json::Value::from(recipients).to_string()
}
