//! dStor as the run sees it: who may upload, what it holds under which name, and what it answers when it does not feel
//! well. Its answers are the wire's own bytes, read by the client's own rules.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dstor_sync::dstor::Answer;
use dstor_sync::mirror::{CidBuilder, Digest, Placement};

/// How long a token lives.
pub(crate) const TOKEN_LIFE: Duration = Duration::from_secs(100);
/// A hash that belongs to none of the files here.
const FOREIGN: &str = "QmVjXB8W3B1aEBwTRLiu2MqHmiV6mUzDfrUuYEM5G5LWHn";

/// What dStor does with a request whose body has come in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    Well,
    ResetBefore,
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
}

impl Fate {
    /// The first is the one that does no harm.
    pub(crate) const ALL: [Self; 19] = [
        Self::Well,
        Self::ResetBefore,
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
}

/// What comes back, if anything: status, `Retry-After` and body. `None`: the connection broke.
pub(crate) type Said = Option<(u16, Option<&'static str>, Vec<u8>)>;

/// dStor.
#[derive(Default)]
pub(crate) struct Remote {
    /// What is under each path now.
    pub(crate) holds: BTreeMap<String, Digest>,
    /// What it acknowledged, ever: path and digest.
    acknowledged: BTreeSet<(String, Digest32)>,
    tokens: BTreeMap<u64, Duration>,
    issued: u64,
    /// The key that it takes.
    key: u64,
    pub(crate) uploads: u64,
    pub(crate) token_requests: u64,
}

type Digest32 = [u8; 32];

impl Remote {
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
        self.token_requests += 1;
        if key != self.key {
            return Err(401);
        }
        self.issued += 1;
        self.tokens.insert(self.issued, now + TOKEN_LIFE);
        Ok(self.issued)
    }

    /// A whole upload has come in with this token.
    pub(crate) fn take(&mut self, path: &str, bytes: &[u8], token: u64, fate: Fate, now: Duration) -> Said {
        self.uploads += 1;
        let json = |status, text: String| Some((status, None, text.into_bytes()));
        let refused = |status| json(status, r#"{"message":"as the run wants it"}"#.to_owned());
        match fate {
            Fate::RevokeAll => self.revoke_all_tokens(),
            Fate::KeyRevoked => self.revoke_key(),
            _ => {}
        }
        match fate {
            Fate::ResetBefore | Fate::StalledBefore => return None,
            Fate::Error500 => return refused(500),
            Fate::Busy503 => return Some((503, Some("7"), Vec::new())),
            Fate::Busy429Date => return Some((429, Some("Fri, 02 Jan 1970 00:00:09 GMT"), Vec::new())),
            Fate::Busy429Garbage => return Some((429, Some("soon"), Vec::new())),
            Fate::Portal => return json(200, "<html>Sign in".to_owned()),
            Fate::Redirect => return Some((302, None, Vec::new())),
            _ if !self.takes(token, now) => return refused(401),
            Fate::Quota403 => return refused(403),
            Fate::TooLarge413 => return refused(413),
            Fate::Refused400 => return refused(400),
            Fate::Well
            | Fate::StoredUnheard
            | Fate::StalledAfter
            | Fate::NoHash
            | Fate::ForeignHash
            | Fate::Truncated
            | Fate::RevokeAll
            | Fate::KeyRevoked => {}
        }
        let digest = Digest::of(bytes);
        self.holds.insert(path.to_owned(), digest);
        let mut cid = CidBuilder::new();
        cid.update(bytes);
        let hash = cid.finish().to_string();
        match fate {
            Fate::StoredUnheard | Fate::StalledAfter => None,
            Fate::NoHash => json(200, r#"{"Name":"x"}"#.to_owned()),
            Fate::Truncated => json(200, format!(r#"{{"Name":"x","Hash":"{hash}"#)),
            Fate::ForeignHash => {
                self.acknowledged.insert((path.to_owned(), *digest.as_bytes()));
                json(200, format!(r#"{{"hash":"{FOREIGN}"}}"#))
            }
            _ => {
                self.acknowledged.insert((path.to_owned(), *digest.as_bytes()));
                json(200, format!(r#"{{"Name":"x","Hash":"{hash}","Size":"1"}}"#))
            }
        }
    }

    pub(crate) fn has_acknowledged(&self, path: &str, digest: &Digest) -> bool {
        self.acknowledged.contains(&(path.to_owned(), *digest.as_bytes()))
    }
}

/// The client's own reading of an answer.
pub(crate) fn read<'a>(said: &'a (u16, Option<&'static str>, Vec<u8>)) -> Answer<'a> {
    let (status, retry_after, body) = said;
    Answer { status: *status, retry_after: *retry_after, date: Some("Fri, 02 Jan 1970 00:00:00 GMT"), body }
}
