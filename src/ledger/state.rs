//! What the agent says of itself, and the numbers that `status` shows.

use rusqlite::OptionalExtension as _;

use super::{Found, Ledger, LedgerError, Millis, MirrorId};

/// What the agent last said it was doing. Whether that is still so, the lock tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AgentState {
    /// Not yet watching everything.
    Starting,
    /// At work.
    Running,
    /// Ending what it began.
    Stopping,
    /// Ended in order.
    Stopped,
}

impl AgentState {
    /// The fixed word for it in the ledger and in JSON.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
        }
    }

    fn from_word(word: &str) -> Option<Self> {
        [Self::Starting, Self::Running, Self::Stopping, Self::Stopped].into_iter().find(|state| state.word() == word)
    }
}

/// What dStor says to the credentials.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Auth {
    /// They were accepted.
    Ok,
    /// They were refused.
    Refused,
    /// There are none.
    Missing,
    /// Nobody asked yet.
    #[default]
    Unknown,
}

impl Auth {
    /// The fixed word for it in the ledger and in JSON.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Refused => "refused",
            Self::Missing => "missing",
            Self::Unknown => "unknown",
        }
    }

    fn from_word(word: &str) -> Option<Self> {
        [Self::Ok, Self::Refused, Self::Missing, Self::Unknown].into_iter().find(|auth| auth.word() == word)
    }
}

/// How the agent stands with dStor.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DstorFacts {
    /// What it says to the credentials.
    pub auth: Auth,
    /// Whether the last request was answered; `None`: none was made.
    pub reachable: Option<bool>,
    /// When the access token expires.
    pub token_expires_at: Option<Millis>,
    /// Requests for a token since the agent started.
    pub token_requests: u64,
    /// The last failure that concerned the whole account.
    pub last_error: Option<String>,
}

/// The agent's row.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AgentRow {
    /// What it last said it was doing.
    pub state: AgentState,
    /// Its process.
    pub pid: u32,
    /// When it started.
    pub since: Millis,
    /// Its version.
    pub version: String,
    /// dStor's base address.
    pub url: String,
    /// How it stands with dStor.
    pub dstor: DstorFacts,
}

/// Files and bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// How many.
    pub files: u64,
    /// How large together.
    pub bytes: u64,
}

/// How many paths of a mirror are in which state.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Stored and without a change.
    pub stored: Tally,
    /// Those of the stored that have a proof.
    pub proved: Tally,
    /// Those of the stored that are encrypted there.
    pub sealed: Tally,
    /// Waiting their turn.
    pub pending: Tally,
    /// In a worker's hands.
    pub uploading: Tally,
    /// Given up.
    pub failed: Tally,
    /// Left out for a reason.
    pub skipped: Tally,
    /// No longer here.
    pub gone: Tally,
}

/// A path that needs attention, or waits after a failure.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// Its mirror.
    pub mirror: MirrorId,
    /// The path's bytes below the mirror.
    pub path: Vec<u8>,
    /// `failed`, `stored`, `pending` or `uploading`.
    pub state: &'static str,
    /// A fixed word.
    pub code: String,
    /// For a person.
    pub message: String,
    /// Failures so far.
    pub attempts: u32,
    /// Since when.
    pub since: Millis,
    /// When it is tried next.
    pub next_attempt_at: Option<Millis>,
}

impl Ledger {
    /// The agent starts: its row begins anew.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn begin_agent(&self, pid: u32, url: &str, now: Millis) -> Result<(), LedgerError> {
        self.db
            .prepare_cached(
                "INSERT OR REPLACE INTO agent (id, state, pid, since, version, url, auth)
                 VALUES (1, 'starting', ?1, ?2, ?3, ?4, 'unknown')",
            )?
            .execute((pid, now, env!("CARGO_PKG_VERSION"), url))?;
        Ok(())
    }

    /// Records what the agent is doing.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn set_agent_state(&self, state: AgentState) -> Result<(), LedgerError> {
        self.db.prepare_cached("UPDATE agent SET state = ?1 WHERE id = 1")?.execute([state.word()])?;
        Ok(())
    }

    /// Records how the agent stands with dStor.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn set_dstor_facts(&self, facts: &DstorFacts) -> Result<(), LedgerError> {
        self.db
            .prepare_cached(
                "UPDATE agent SET auth = ?1, reachable = ?2, token_expires_at = ?3, token_requests = ?4, last_error = ?5
                 WHERE id = 1",
            )?
            .execute((
                facts.auth.word(),
                facts.reachable,
                facts.token_expires_at,
                facts.token_requests.cast_signed(),
                &facts.last_error,
            ))?;
        Ok(())
    }

    /// What the agent last said of itself; `None` if none ever ran.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn agent(&self) -> Result<Option<AgentRow>, LedgerError> {
        let row = self
            .db
            .prepare_cached(
                "SELECT state, pid, since, version, url, auth, reachable, token_expires_at, token_requests, last_error
                 FROM agent WHERE id = 1",
            )?
            .query_row([], |row| {
                Ok((
                    row.get::<_, String>(0)?,
                    row.get::<_, String>(5)?,
                    AgentRow {
                        state: AgentState::Stopped,
                        pid: row.get(1)?,
                        since: row.get(2)?,
                        version: row.get(3)?,
                        url: row.get(4)?,
                        dstor: DstorFacts {
                            auth: Auth::Unknown,
                            reachable: row.get(6)?,
                            token_expires_at: row.get(7)?,
                            token_requests: row.get::<_, i64>(8)?.cast_unsigned(),
                            last_error: row.get(9)?,
                        },
                    },
                ))
            })
            .optional()?;
        let Some((state, auth, mut agent)) = row else { return Ok(None) };
        let nonsense = |word: &str| LedgerError::Nonsense(format!("`{word}` in the agent's row"));
        agent.state = AgentState::from_word(&state).ok_or_else(|| nonsense(&state))?;
        agent.dstor.auth = Auth::from_word(&auth).ok_or_else(|| nonsense(&auth))?;
        Ok(Some(agent))
    }

    /// How many paths of a mirror are in which state. Takes the same time at any size.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn counts(&self, mirror: MirrorId) -> Result<Counts, LedgerError> {
        let mut counts = Counts::default();
        let mut statement = self.db.prepare_cached("SELECT slot, files, bytes FROM counts WHERE mirror_id = ?1")?;
        let mut rows = statement.query([mirror.0])?;
        while let Some(row) = rows.next()? {
            let tally =
                Tally { files: row.get::<_, i64>(1)?.cast_unsigned(), bytes: row.get::<_, i64>(2)?.cast_unsigned() };
            *match row.get::<_, i64>(0)? {
                0 => &mut counts.stored,
                1 => &mut counts.failed,
                2 => &mut counts.skipped,
                3 => &mut counts.gone,
                4 => &mut counts.pending,
                5 => &mut counts.uploading,
                6 => &mut counts.proved,
                7 => &mut counts.sealed,
                other => return Err(LedgerError::Nonsense(format!("slot {other}"))),
            } = tally;
        }
        Ok(counts)
    }

    /// Records that dStor took a file of a mirror at `at`.
    pub(super) fn put_latest(&self, mirror: MirrorId, at: Millis) -> Result<(), LedgerError> {
        // The files of a session were all stored at once.
        if self.latest.get() == Some((mirror, at)) {
            return Ok(());
        }
        self.db
            .prepare_cached(
                "INSERT INTO latest (mirror_id, stored_at) VALUES (?1, ?2)
                 ON CONFLICT DO UPDATE SET stored_at = excluded.stored_at",
            )?
            .execute((mirror.0, at))?;
        self.latest.set(Some((mirror, at)));
        Ok(())
    }

    /// When dStor last took a file of a mirror; `None`: never, or an older agent did not say.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn last_stored_at(&self, mirror: MirrorId) -> Result<Option<Millis>, LedgerError> {
        Ok(self
            .db
            .prepare_cached("SELECT stored_at FROM latest WHERE mirror_id = ?1")?
            .query_row([mirror.0], |row| row.get(0))
            .optional()?)
    }

    /// At most `limit` paths that failed, then as many that dStor does not give back as they were stored, then as many
    /// that wait after a failure.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn problems(&self, limit: u32) -> Result<Vec<Problem>, LedgerError> {
        let mut problems = Vec::new();
        for sql in [
            // CROSS: in this order. SQLite would begin with the files, of which there may be a million.
            "SELECT d.mirror_id, d.path, r.name, NULL, r.code, r.message, r.attempts, r.since, NULL
             FROM reasons r CROSS JOIN files f USING (directory_id, name)
             CROSS JOIN directories d ON d.id = r.directory_id CROSS JOIN mirrors m ON m.id = d.mirror_id
             WHERE f.state = 1 AND m.active = 1 AND NOT EXISTS
               (SELECT 1 FROM changes c WHERE c.directory_id = f.directory_id AND c.name = f.name)
             ORDER BY r.since LIMIT ?1",
            "SELECT d.mirror_id, d.path, r.name, r.found, NULL, NULL, 0, r.read_at, NULL
             FROM readings r JOIN files f USING (directory_id, name) JOIN directories d ON d.id = r.directory_id
             JOIN mirrors m ON m.id = d.mirror_id
             WHERE r.found <> 0 AND f.state = 0 AND m.active = 1 AND NOT EXISTS
               (SELECT 1 FROM changes c WHERE c.directory_id = f.directory_id AND c.name = f.name)
             ORDER BY r.read_at LIMIT ?1",
            "SELECT d.mirror_id, d.path, c.name, c.claimed, c.code, c.message, c.attempts, c.since, c.due_at
             FROM changes c JOIN directories d ON d.id = c.directory_id JOIN mirrors m ON m.id = d.mirror_id
             WHERE c.code IS NOT NULL AND m.active = 1 ORDER BY c.since LIMIT ?1",
        ] {
            let mut statement = self.db.prepare_cached(sql)?;
            let mut rows = statement.query([limit])?;
            while let Some(row) = rows.next()? {
                let (mut path, name): (Vec<u8>, Vec<u8>) = (row.get(1)?, row.get(2)?);
                if !path.is_empty() {
                    path.push(b'/');
                }
                path.extend_from_slice(&name);
                let (state, code, message) = match (row.get::<_, Option<String>>(4)?, row.get::<_, Option<i64>>(3)?) {
                    (None, found) => {
                        let found = Found::of(found.unwrap_or(0))?;
                        ("stored", found.code().unwrap_or_default().into(), found.message().unwrap_or_default().into())
                    }
                    (Some(code), None) => ("failed", code, row.get(5)?),
                    (Some(code), Some(0)) => ("pending", code, row.get(5)?),
                    (Some(code), Some(_)) => ("uploading", code, row.get(5)?),
                };
                problems.push(Problem {
                    mirror: MirrorId(row.get(0)?),
                    path,
                    state,
                    code,
                    message,
                    attempts: row.get(6)?,
                    since: row.get(7)?,
                    next_attempt_at: row.get::<_, Option<Millis>>(8)?.filter(|at| *at != super::HELD),
                });
            }
        }
        Ok(problems)
    }
}
