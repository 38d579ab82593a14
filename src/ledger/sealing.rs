//! To whom the agent encrypts, as it last said: for those who only look, and for who stores a list beside it.

use rusqlite::OptionalExtension as _;

use super::{Ledger, LedgerError};

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
}

/// Recipients as the ledger keeps them.
pub(super) fn text_of(recipients: &[String]) -> String {
    serde_json::Value::from(recipients).to_string()
}
