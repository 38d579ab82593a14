//! dStor's upload sessions: opened, filled and asked about. What they store may come to lie there long after whoever sent it
//! has given them up.

use std::time::Duration;

use serde_json::json as object;

use crate::remote::{FOREIGN, Fate, Remote, Said, Service, hash_of, json, refused};

/// How long a session takes that does not hurry, and one that is given up before it ends.
const SLOW: Duration = Duration::from_secs(20);
const LATE: Duration = Duration::from_secs(200);

/// A session.
pub(crate) struct Session {
    /// What comes before the names of its files.
    directory: String,
    contents: Option<Contents>,
}

struct Contents {
    /// Names and bytes.
    files: Vec<(String, Vec<u8>)>,
    arrival: u64,
    fate: Fate,
    /// When it comes to its end; none: never.
    ends_at: Option<Duration>,
    has_ended: bool,
}

impl Remote {
    /// Someone wants to open a session.
    pub(crate) fn open(&mut self, directory: &str, token: u64, fate: Fate, now: Duration) -> Said {
        if let Some(said) = self.deny(token, fate, now) {
            return said;
        }
        if fate == Fate::NoSessions || self.service == Service::WithoutSessions {
            return refused(404);
        }
        self.opened += 1;
        self.sessions.insert(self.opened, Session { directory: directory.to_owned(), contents: None });
        match fate {
            Fate::StoredUnheard => None,
            Fate::NoHash => json(200, r#"{"message":"ok"}"#.to_owned()),
            Fate::Truncated => json(200, r#"{"message":"ok","token":"#.to_owned()),
            _ => json(200, format!(r#"{{"message":"ok","token":"{}"}}"#, self.opened)),
        }
    }

    /// The files of a session have come in.
    pub(crate) fn fill(
        &mut self,
        session: u64,
        files: Vec<(String, Vec<u8>)>,
        token: u64,
        fate: Fate,
        now: Duration,
    ) -> Said {
        if let Some(said) = self.deny(token, fate, now) {
            return said;
        }
        let arrival = self.arrive();
        let Some(session) = self.sessions.get_mut(&session) else { return refused(400) };
        let ends_at = match fate {
            Fate::SessionStuck => None,
            Fate::SessionSlow => Some(now + SLOW),
            Fate::SessionLate => Some(now + LATE),
            // Some end at once, some are asked about more than once.
            _ => Some(now + Duration::from_millis([0, 0, 25, 400][arrival as usize % 4])),
        };
        session.contents = Some(Contents { files, arrival, fate, ends_at, has_ended: false });
        match fate {
            Fate::StoredUnheard | Fate::StalledAfter => None,
            Fate::Truncated => json(200, r#"{"message":"#.to_owned()),
            _ => json(200, r#"{"message":"ok"}"#.to_owned()),
        }
    }

    /// Sessions whose time has come store what they have. Returns how many had been given up by then.
    pub(crate) fn catch_up(&mut self, now: Duration) -> u32 {
        let mut late = 0;
        let due = |session: &mut Session| {
            let contents = session.contents.as_mut()?;
            if contents.has_ended || contents.ends_at.is_none_or(|at| now < at) {
                return None;
            }
            contents.has_ended = true;
            late += u32::from(contents.fate == Fate::SessionLate);
            // One that fails may have stored some.
            let count =
                if contents.fate == Fate::SessionFails { contents.files.len() / 2 } else { contents.files.len() };
            let files = contents.files.iter().take(count);
            let paths = files.map(|(name, bytes)| (format!("{}/{name}", session.directory), bytes.clone()));
            Some((contents.arrival, paths.collect::<Vec<_>>()))
        };
        let stored: Vec<_> = self.sessions.values_mut().filter_map(due).collect();
        for (arrival, files) in stored {
            files.iter().for_each(|(path, bytes)| self.hold(path, arrival, bytes));
        }
        late
    }

    /// Someone asks how far a session is.
    pub(crate) fn status(&mut self, session: u64, token: u64, fate: Fate, now: Duration) -> Said {
        if let Some(said) = self.deny(token, fate, now) {
            return said;
        }
        self.catch_up(now);
        let Some(Session { directory, contents }) = self.sessions.get(&session) else { return refused(404) };
        let said = match contents {
            None => object!({"status": "WAITING_FOR_UPLOADS"}),
            Some(contents) if !contents.has_ended => object!({"status": "ADDING_TO_IPFS"}),
            Some(Contents { fate: Fate::SessionFails, .. }) => {
                object!({"status": "ERROR", "errorExplanation": "no room", "errorAtStage": "SAVING_DATA"})
            }
            Some(contents) => {
                let listed = contents.listed();
                let directory = directory.clone();
                let bytes: Vec<Vec<u8>> = listed.iter().map(|(at, _)| contents.files[*at].1.clone()).collect();
                let data: Vec<_> =
                    listed.iter().map(|(at, hash)| object!({"Name": contents.files[*at].0, "Hash": hash})).collect();
                let names: Vec<String> = listed.iter().map(|(at, _)| contents.files[*at].0.clone()).collect();
                for ((name, bytes), (_, hash)) in names.iter().zip(bytes).zip(&listed) {
                    self.acknowledge(&format!("{directory}/{name}"), &bytes, hash);
                }
                object!({"status": "DONE", "data": data})
            }
        };
        let mut text = said.to_string();
        match fate {
            Fate::NoHash => text = "{}".to_owned(),
            Fate::Truncated => text.truncate(text.len() - 1),
            _ => {}
        }
        json(200, text)
    }
}

impl Contents {
    /// The places of the files that the session tells of, the last first, each with its hash.
    fn listed(&self) -> Vec<(usize, String)> {
        let odd = self.arrival as usize % self.files.len().max(1);
        let hash = |at: usize| hash_of(&self.files[at].1);
        let places = (0..self.files.len()).rev();
        match self.fate {
            Fate::NoHash => Vec::new(),
            Fate::NameMissing => places.filter(|at| *at != odd).map(|at| (at, hash(at))).collect(),
            Fate::ForeignHash => places.map(|at| (at, if at == odd { FOREIGN.to_owned() } else { hash(at) })).collect(),
            Fate::HashesSwapped => places.map(|at| (at, hash((at + 1) % self.files.len()))).collect(),
            _ => places.map(|at| (at, hash(at))).collect(),
        }
    }
}
