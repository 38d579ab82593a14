//! dStor as the run sees it: who may upload, what it holds under which name, and what it answers when it does not feel
//! well. Its answers are the wire's own bytes, read by the client's own rules.

use std::collections::BTreeMap;
use std::time::Duration;

use dstor_sync::dstor::Answer;
use dstor_sync::mirror::{Cid, CidBuilder, Digest, Placement};

use crate::sessions::Session;

/// How long a token lives.
pub(crate) const TOKEN_LIFE: Duration = Duration::from_secs(100);
/// A hash that belongs to none of the files here.
pub(super) const FOREIGN: &str = "QmVjXB8W3B1aEBwTRLiu2MqHmiV6mUzDfrUuYEM5G5LWHn";

/// What dStor does with a request whose body has come in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    Well,
    ResetBefore,
    CutShort,
    StoredUnheard,
    StalledBefore,
    StalledAfter,
    RevokeAll,
    Error500,
    Busy503,
    Busy429Date,
    Busy429Garbage,
    Quota403,
    TooLarge413,
    Refused400,
    Portal,
    NoHash,
    ForeignHash,
    Truncated,
    Redirect,
    KeyRevoked,
    NoSessions,
    SessionFails,
    SessionStuck,
    SessionSlow,
    SessionLate,
    NameMissing,
    HashesSwapped,
    Restarts,
}

impl Fate {
    /// Those of a request with one file. The first is the one that does no harm.
    pub(crate) const DIRECT: &[Self] = &[
        Self::Well,
        Self::ResetBefore,
        Self::CutShort,
        Self::StoredUnheard,
        Self::StalledBefore,
        Self::StalledAfter,
        Self::RevokeAll,
        Self::Error500,
        Self::Busy503,
        Self::Busy429Date,
        Self::Busy429Garbage,
        Self::Quota403,
        Self::TooLarge413,
        Self::Refused400,
        Self::Portal,
        Self::NoHash,
        Self::ForeignHash,
        Self::Truncated,
        Self::Redirect,
        Self::KeyRevoked,
    ];

    /// All that may happen to every request from some time on.
    pub(crate) const ILLNESSES: &[Self] = Self::CHUNK;

    /// Those of a request for a session.
    pub(crate) const OPENING: &[Self] = &[
        Self::Well,
        Self::ResetBefore,
        Self::StoredUnheard,
        Self::StalledBefore,
        Self::RevokeAll,
        Self::Error500,
        Self::Busy503,
        Self::Busy429Date,
        Self::Quota403,
        Self::Refused400,
        Self::Portal,
        Self::NoHash,
        Self::Truncated,
        Self::Redirect,
        Self::KeyRevoked,
        Self::NoSessions,
        Self::Restarts,
    ];

    /// Those of a request with the files of a session, and of the session from then on.
    pub(crate) const CHUNK: &[Self] = &[
        Self::Well,
        Self::ResetBefore,
        Self::CutShort,
        Self::StoredUnheard,
        Self::StalledBefore,
        Self::StalledAfter,
        Self::RevokeAll,
        Self::Error500,
        Self::Busy503,
        Self::Busy429Date,
        Self::Busy429Garbage,
        Self::Quota403,
        Self::TooLarge413,
        Self::Refused400,
        Self::Portal,
        Self::NoHash,
        Self::ForeignHash,
        Self::Truncated,
        Self::Redirect,
        Self::KeyRevoked,
        Self::SessionFails,
        Self::SessionStuck,
        Self::SessionSlow,
        Self::SessionLate,
        Self::NameMissing,
        Self::HashesSwapped,
        Self::Restarts,
    ];

    /// Those of a request that asks how far a session is.
    pub(crate) const STATUS: &[Self] = &[
        Self::Well,
        Self::ResetBefore,
        Self::StalledBefore,
        Self::RevokeAll,
        Self::Error500,
        Self::Busy503,
        Self::Busy429Date,
        Self::Quota403,
        Self::Refused400,
        Self::Portal,
        Self::NoHash,
        Self::Truncated,
        Self::Redirect,
        Self::KeyRevoked,
        Self::Restarts,
    ];
}

/// Which ways to upload a dStor has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Service {
    /// Files by themselves, and sessions.
    #[default]
    Whole,
    /// An older one: files by themselves.
    WithoutSessions,
    /// A newer one: files in sessions.
    OnlySessions,
}

/// What comes back, if anything: status, `Retry-After` and body. `None`: the connection broke.
pub(crate) type Said = Option<(u16, Option<&'static str>, Vec<u8>)>;

/// dStor.
#[derive(Default)]
pub(crate) struct Remote {
    pub(crate) service: Service,
    /// Breaks off every request whose files are together larger than this; bytes.
    pub(crate) cuts_above: Option<usize>,
    /// What is under each path, and which arrival brought it. What arrived last stays, even if an earlier session comes to
    /// its end after it: were it otherwise, nobody could ever know what dStor holds.
    holds: BTreeMap<String, (u64, Digest)>,
    /// What it acknowledged, ever: path and digest, and the hashes that it gave for them.
    acknowledged: BTreeMap<(String, Digest32), Vec<String>>,
    tokens: BTreeMap<u64, Duration>,
    issued: u64,
    /// The key that it takes.
    key: u64,
    arrivals: u64,
    pub(super) sessions: BTreeMap<u64, Session>,
    pub(super) opened: u64,
}

type Digest32 = [u8; 32];

impl Remote {
    pub(crate) fn new(service: Service, cuts_above: Option<usize>) -> Self {
        Self { service, cuts_above, ..Self::default() }
    }

    pub(crate) fn path(placement: &Placement, name: &str) -> String {
        match placement {
            Placement::Path(dir) => format!("{}/{name}", dir.as_str()),
            Placement::Id(id) => format!("#{id}/{name}"),
        }
    }

    /// The key that a person would find in the dashboard.
    pub(crate) fn key(&self) -> u64 {
        self.key
    }

    pub(crate) fn revoke_all_tokens(&mut self) {
        self.tokens.clear();
    }

    pub(crate) fn revoke_key(&mut self) {
        self.key += 1;
        self.tokens.clear();
    }

    pub(crate) fn takes(&self, token: u64, now: Duration) -> bool {
        self.tokens.get(&token).is_some_and(|end| now < *end)
    }

    /// A request for a token.
    pub(crate) fn issue(&mut self, key: u64, now: Duration) -> Result<u64, u16> {
        if key != self.key {
            return Err(401);
        }
        self.issued += 1;
        self.tokens.insert(self.issued, now + TOKEN_LIFE);
        Ok(self.issued)
    }

    /// What is said to a request, if it does not go through.
    pub(super) fn deny(&mut self, token: u64, fate: Fate, now: Duration) -> Option<Said> {
        match fate {
            Fate::RevokeAll => self.revoke_all_tokens(),
            Fate::KeyRevoked => self.revoke_key(),
            Fate::Restarts => self.sessions.clear(),
            _ => {}
        }
        Some(match fate {
            Fate::ResetBefore | Fate::CutShort | Fate::StalledBefore => None,
            Fate::Error500 => refused(500),
            Fate::Busy503 => Some((503, Some("7"), Vec::new())),
            Fate::Busy429Date => Some((429, Some("Fri, 02 Jan 1970 00:00:09 GMT"), Vec::new())),
            Fate::Busy429Garbage => Some((429, Some("soon"), Vec::new())),
            Fate::Portal => json(200, "<html>Sign in".to_owned()),
            Fate::Redirect => Some((302, None, Vec::new())),
            _ if !self.takes(token, now) => refused(401),
            Fate::Quota403 => refused(403),
            Fate::TooLarge413 => refused(413),
            Fate::Refused400 => refused(400),
            _ => return None,
        })
    }

    /// A whole upload has come in with this token.
    pub(crate) fn take(&mut self, path: &str, bytes: &[u8], token: u64, fate: Fate, now: Duration) -> Said {
        if let Some(said) = self.deny(token, fate, now) {
            return said;
        }
        if self.service == Service::OnlySessions {
            return json(400, r#"{"message":"the upload token is missing"}"#.to_owned());
        }
        let (arrival, hash) = (self.arrive(), hash_of(bytes));
        self.hold(path, arrival, bytes);
        match fate {
            Fate::StoredUnheard | Fate::StalledAfter => None,
            Fate::NoHash => json(200, r#"{"Name":"x"}"#.to_owned()),
            Fate::Truncated => json(200, format!(r#"{{"Name":"x","Hash":"{hash}"#)),
            Fate::ForeignHash => {
                self.acknowledge(path, bytes, FOREIGN);
                json(200, format!(r#"{{"hash":"{FOREIGN}"}}"#))
            }
            _ => {
                self.acknowledge(path, bytes, &hash);
                json(200, format!(r#"{{"Name":"x","Hash":"{hash}","Size":"1"}}"#))
            }
        }
    }

    /// The number of what arrives now.
    pub(super) fn arrive(&mut self) -> u64 {
        self.arrivals += 1;
        self.arrivals
    }

    pub(super) fn hold(&mut self, path: &str, arrival: u64, bytes: &[u8]) {
        if self.holds.get(path).is_none_or(|(last, _)| *last <= arrival) {
            self.holds.insert(path.to_owned(), (arrival, Digest::of(bytes)));
        }
    }

    pub(super) fn acknowledge(&mut self, path: &str, bytes: &[u8], hash: &str) {
        let digest = *Digest::of(bytes).as_bytes();
        self.acknowledged.entry((path.to_owned(), digest)).or_default().push(hash.to_owned());
    }

    /// What is under a path by now.
    pub(crate) fn holds(&self, path: &str) -> Option<&Digest> {
        self.holds.get(path).map(|(_, digest)| digest)
    }

    /// Whether it said that it has these bytes under this path, and that this is their hash.
    pub(crate) fn has_acknowledged(&self, path: &str, digest: &Digest, hash: &Cid) -> bool {
        let said = self.acknowledged.get(&(path.to_owned(), *digest.as_bytes()));
        said.is_some_and(|hashes| hashes.contains(&hash.to_string()))
    }
}

pub(super) fn json(status: u16, text: String) -> Said {
    Some((status, None, text.into_bytes()))
}

pub(super) fn refused(status: u16) -> Said {
    json(status, r#"{"message":"as the run wants it"}"#.to_owned())
}

pub(super) fn hash_of(bytes: &[u8]) -> String {
    let mut cid = CidBuilder::new();
    cid.update(bytes);
    cid.finish().to_string()
}

/// The client's own reading of an answer.
pub(crate) fn read<'a>(said: &'a (u16, Option<&'static str>, Vec<u8>)) -> Answer<'a> {
    let (status, retry_after, body) = said;
    Answer { status: *status, retry_after: *retry_after, date: Some("Fri, 02 Jan 1970 00:00:00 GMT"), body }
}
