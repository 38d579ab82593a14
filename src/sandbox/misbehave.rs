//! Misbehaviour on order: what goes wrong, in which phase, and how often. Carried out in `front`.

use std::fmt;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

use crate::mirror::Cid;

/// One kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Credentials for an access token.
    Token,
    /// An upload session is opened.
    GetToken,
    /// A file is uploaded by itself.
    Upload,
    /// Files are uploaded in a session.
    Chunk,
    /// A session is asked how far it is.
    Status,
    /// A file is read back.
    Read,
}

impl Phase {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Token, Self::GetToken, Self::Upload, Self::Chunk, Self::Status, Self::Read];

    fn name(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::GetToken => "get-token",
            Self::Upload => "upload",
            Self::Chunk => "chunk",
            Self::Status => "status",
            Self::Read => "read",
        }
    }
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Misdeed {
    /// This status and a JSON message, in place of an answer.
    Status {
        /// 200 to 999: what lies below is not the end of an answer.
        code: u16,
        /// `Retry-After`, word for word.
        retry_after: Option<String>,
    },
    /// 400, with the message that an upload token is missing: a service that takes files in sessions only.
    WantsSession,
    /// 200 and a page of HTML, as a hotel's network answers.
    Html,
    /// The answer lacks its hash.
    NoHash,
    /// The answer's hash is empty.
    EmptyHash,
    /// The answer's hash is well formed and belongs to other bytes.
    ForeignHash,
    /// The answer's hash is a path with an escape sequence.
    BadHash,
    /// The answer's JSON breaks off half-way, in a body that is whole as far as HTTP goes.
    TruncatedJson,
    /// The connection is reset before the body is read.
    Reset,
    /// The connection is reset after the body's first 64 KiB, or at its end if it is shorter.
    ResetInBody,
    /// The request is carried out, then the connection is reset.
    ResetAfterStore,
    /// The connection is reset once the body has been read, and the request is carried out so many milliseconds later, or
    /// when the rules are forgotten: it comes late, and whoever sent it cannot know.
    Straggle(u64),
    /// Nothing more is read and nothing is answered.
    Stall,
    /// The answer begins, and stops half-way.
    StallInAnswer,
    /// The body is read at this many bytes a second.
    Slow(u64),
    /// The request is carried out, and answered so many milliseconds later.
    Late(u64),
    /// 307 to this address.
    Redirect(String),
    /// 200 and an answer that never ends, in pieces of 1 MiB.
    Endless,
    /// 200 and an answer in gzip that inflates to more than 1 GiB.
    GzipBomb,
    /// One bit of a file that is read back is wrong.
    FlipBit,
    /// A file that is read back lacks its second half.
    Cut,
    /// Another file is read back: the one with this hash.
    Swap(String),
}

impl Misdeed {
    /// Whether it comes in place of an answer: nothing is carried out.
    pub(super) fn replaces_the_answer(&self) -> bool {
        match self {
            Self::Status { .. }
            | Self::WantsSession
            | Self::Html
            | Self::Reset
            | Self::Stall
            | Self::Redirect(_)
            | Self::Endless
            | Self::GzipBomb => true,
            Self::NoHash
            | Self::EmptyHash
            | Self::ForeignHash
            | Self::BadHash
            | Self::TruncatedJson
            | Self::ResetInBody
            | Self::ResetAfterStore
            | Self::Straggle(_)
            | Self::StallInAnswer
            | Self::Slow(_)
            | Self::Late(_)
            | Self::FlipBit
            | Self::Cut
            | Self::Swap(_) => false,
        }
    }

    /// Whether it can be seen in this phase at all: a rule that never does anything is a mistake.
    fn fits(&self, phase: Phase) -> bool {
        match self {
            Self::NoHash | Self::EmptyHash | Self::ForeignHash | Self::BadHash => {
                matches!(phase, Phase::Upload | Phase::Status)
            }
            Self::FlipBit | Self::Cut | Self::Swap(_) => phase == Phase::Read,
            Self::WantsSession | Self::Straggle(_) => phase == Phase::Upload,
            Self::TruncatedJson => phase != Phase::Read,
            Self::ResetInBody | Self::Slow(_) => matches!(phase, Phase::GetToken | Phase::Upload | Phase::Chunk),
            Self::Status { .. }
            | Self::Html
            | Self::Reset
            | Self::ResetAfterStore
            | Self::Stall
            | Self::StallInAnswer
            | Self::Late(_)
            | Self::Redirect(_)
            | Self::Endless
            | Self::GzipBomb => true,
        }
    }
}

/// A rule: in this phase, this goes wrong. As text `PHASE FAULT [xN] [name=TEXT]`, e.g. `upload 503 retry-after=7 x3`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misbehaviour {
    /// The kind of request.
    pub phase: Phase,
    /// What goes wrong.
    pub fault: Misdeed,
    /// How often; `None`: every time.
    pub times: Option<u32>,
    /// Uploads and reading: just where a file's name contains this. What is read back has only a hash: there it is one of
    /// the names under which that was stored, with its directory.
    pub matching: Option<String>,
}

/// This text is no rule of misbehaviour.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BadMisbehaviour {
    /// There is no such phase.
    #[error("`{0}` is no phase: it is one of token, get-token, upload, chunk, status, read")]
    Phase(String),
    /// There is no such fault.
    #[error(
        "`{0}` is no fault: it is a status code such as 503 (with retry-after=… if wanted), wants-session, html, no-hash, \
         empty-hash, foreign-hash, bad-hash, truncated-json, reset, reset-in-body, reset-after-store, stall, stall-in-answer, \
         slow=BYTES, late=MILLISECONDS, straggle=MILLISECONDS, redirect=URL, endless, gzip-bomb, flip-bit, cut or \
         swap=HASH"
    )]
    Fault(String),
    /// The fault cannot be seen in this phase.
    #[error("`{1}` does nothing in the phase `{0}`")]
    Senseless(String, String),
    /// Only files have names.
    #[error("name=… goes with the phases upload, chunk and read only")]
    Name,
}

impl FromStr for Misbehaviour {
    type Err = BadMisbehaviour;

    fn from_str(text: &str) -> Result<Self, BadMisbehaviour> {
        let (rule, matching) = match text.split_once(" name=") {
            Some((rule, name)) => (rule, Some(name.to_owned())),
            None => (text, None),
        };
        let (phase_name, rest) = rule.trim().split_once(char::is_whitespace).unwrap_or((rule.trim(), ""));
        let phase = Phase::ALL
            .into_iter()
            .find(|phase| phase.name() == phase_name)
            .ok_or_else(|| BadMisbehaviour::Phase(phase_name.to_owned()))?;
        let rest = rest.trim();
        let (fault, times) = match rest.rsplit_once(char::is_whitespace) {
            Some((fault, last)) => match last.strip_prefix('x').and_then(|times| times.parse().ok()) {
                Some(times) => (fault.trim_end(), Some(times)),
                None => (rest, None),
            },
            None => (rest, None),
        };
        let fault: Misdeed = fault.parse()?;
        if !fault.fits(phase) {
            return Err(BadMisbehaviour::Senseless(phase_name.to_owned(), fault.to_string()));
        }
        if matching.is_some() && !matches!(phase, Phase::Upload | Phase::Chunk | Phase::Read) {
            return Err(BadMisbehaviour::Name);
        }
        Ok(Self { phase, fault, times, matching })
    }
}

impl FromStr for Misdeed {
    type Err = BadMisbehaviour;

    fn from_str(text: &str) -> Result<Self, BadMisbehaviour> {
        let bad = || BadMisbehaviour::Fault(text.to_owned());
        Ok(match text {
            "wants-session" => Self::WantsSession,
            "html" => Self::Html,
            "no-hash" => Self::NoHash,
            "empty-hash" => Self::EmptyHash,
            "foreign-hash" => Self::ForeignHash,
            "bad-hash" => Self::BadHash,
            "truncated-json" => Self::TruncatedJson,
            "reset" => Self::Reset,
            "reset-in-body" => Self::ResetInBody,
            "reset-after-store" => Self::ResetAfterStore,
            "stall" => Self::Stall,
            "stall-in-answer" => Self::StallInAnswer,
            "endless" => Self::Endless,
            "gzip-bomb" => Self::GzipBomb,
            "flip-bit" => Self::FlipBit,
            "cut" => Self::Cut,
            _ => {
                if let Some(rate) = text.strip_prefix("slow=") {
                    return rate.parse().ok().filter(|rate| *rate > 0).map(Self::Slow).ok_or_else(bad);
                }
                if let Some(wait) = text.strip_prefix("late=") {
                    return wait.parse().map(Self::Late).map_err(|_| bad());
                }
                if let Some(wait) = text.strip_prefix("straggle=") {
                    return wait.parse().map(Self::Straggle).map_err(|_| bad());
                }
                if let Some(hash) = text.strip_prefix("swap=") {
                    return Cid::parse(hash).map(|hash| Self::Swap(hash.to_string())).map_err(|_| bad());
                }
                if let Some(url) = text.strip_prefix("redirect=") {
                    let sendable = !url.is_empty() && url.bytes().all(|b| b.is_ascii_graphic());
                    return if sendable { Ok(Self::Redirect(url.to_owned())) } else { Err(bad()) };
                }
                let (code, retry_after) = match text.split_once(" retry-after=") {
                    Some((code, value)) => (code, Some(value.trim().to_owned())),
                    None => (text, None),
                };
                let code = code.trim().parse().ok().filter(|code| (200..=999).contains(code)).ok_or_else(bad)?;
                Self::Status { code, retry_after }
            }
        })
    }
}

impl fmt::Display for Misbehaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.phase, self.fault)?;
        if let Some(times) = self.times {
            write!(f, " x{times}")?;
        }
        if let Some(name) = &self.matching {
            write!(f, " name={name}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Misdeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Status { code, retry_after: None } => return write!(f, "{code}"),
            Self::Status { code, retry_after: Some(value) } => return write!(f, "{code} retry-after={value}"),
            Self::Slow(rate) => return write!(f, "slow={rate}"),
            Self::Late(wait) => return write!(f, "late={wait}"),
            Self::Straggle(wait) => return write!(f, "straggle={wait}"),
            Self::Redirect(url) => return write!(f, "redirect={url}"),
            Self::Swap(hash) => return write!(f, "swap={hash}"),
            Self::WantsSession => "wants-session",
            Self::Html => "html",
            Self::NoHash => "no-hash",
            Self::EmptyHash => "empty-hash",
            Self::ForeignHash => "foreign-hash",
            Self::BadHash => "bad-hash",
            Self::TruncatedJson => "truncated-json",
            Self::Reset => "reset",
            Self::ResetInBody => "reset-in-body",
            Self::ResetAfterStore => "reset-after-store",
            Self::Stall => "stall",
            Self::StallInAnswer => "stall-in-answer",
            Self::Endless => "endless",
            Self::GzipBomb => "gzip-bomb",
            Self::FlipBit => "flip-bit",
            Self::Cut => "cut",
        })
    }
}

/// The rules in force, the oldest first.
pub(super) struct Rules {
    rules: Mutex<Vec<Misbehaviour>>,
    /// How often they were forgotten.
    forgotten: watch::Sender<u64>,
}

impl Rules {
    pub(super) fn new(rules: Vec<Misbehaviour>) -> Self {
        Self { rules: Mutex::new(rules), forgotten: watch::channel(0).0 }
    }

    pub(super) fn add(&self, rule: Misbehaviour) {
        self.lock().push(rule);
    }

    pub(super) fn forget(&self) {
        self.lock().clear();
        self.forgotten.send_modify(|times| *times += 1);
    }

    /// Word when the rules are forgotten, from now on.
    pub(super) fn forgotten(&self) -> watch::Receiver<u64> {
        self.forgotten.subscribe()
    }

    /// What goes wrong with a request of this phase before any name is known.
    pub(super) fn for_request(&self, phase: Phase) -> Option<Misdeed> {
        self.take(|rule| rule.phase == phase && rule.matching.is_none())
    }

    /// What goes wrong with a request now that it came to a file of this name.
    pub(super) fn for_name(&self, phase: Phase, name: &str) -> Option<Misdeed> {
        self.take(|rule| rule.phase == phase && rule.matching.as_ref().is_some_and(|text| name.contains(text.as_str())))
    }

    /// Whether there is a rule for files of some name.
    pub(super) fn wait_for_a_name(&self, phase: Phase) -> bool {
        self.lock().iter().any(|rule| rule.phase == phase && rule.matching.is_some())
    }

    /// The first rule that applies, counted down.
    fn take(&self, applies: impl Fn(&Misbehaviour) -> bool) -> Option<Misdeed> {
        let mut rules = self.lock();
        rules.retain(|rule| rule.times != Some(0));
        let rule = rules.iter_mut().find(|rule| applies(rule))?;
        if let Some(times) = &mut rule.times {
            *times -= 1;
        }
        Some(rule.fault.clone())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Misbehaviour>> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_reads_as_it_is_written() {
        for text in [
            "token 401",
            "upload 503 retry-after=7 x3",
            "chunk 429 retry-after=Sun, 06 Nov 1994 08:49:37 GMT",
            "chunk 429 retry-after=Sun, 06 Nov 1994 08:49:37 GMT x2",
            "upload wants-session",
            "get-token html",
            "upload no-hash",
            "upload empty-hash x1",
            "status foreign-hash",
            "upload bad-hash",
            "status truncated-json",
            "read reset",
            "upload reset-in-body",
            "chunk reset-after-store",
            "upload stall x2 name=big file.bin",
            "token stall-in-answer",
            "upload slow=1000",
            "read late=0",
            "upload straggle=500",
            "token redirect=http://127.0.0.1:1/x",
            "upload endless",
            "upload gzip-bomb",
            "read flip-bit",
            "read cut",
            "read 404 x1 name=Docs/a",
            "read swap=QmT78zSuBmuS4z925WZfrqQ1qHaJ56DQaTfyMUF7F8ff5o name=a",
        ] {
            let rule: Misbehaviour = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(rule.to_string(), text);
        }
        let spaced: Misbehaviour = "  upload   503  x3 ".parse().expect("blanks do not matter");
        assert_eq!(spaced.to_string(), "upload 503 x3");
    }

    #[test]
    fn a_rule_that_could_do_nothing_is_refused() {
        for text in [
            "",
            "upload",
            "download 503",
            "upload 199",
            "upload 1000",
            "upload slow=0",
            "upload late=",
            "upload redirect=",
            "upload 503 x",
            "upload 503 3",
            "read no-hash",
            "upload flip-bit",
            "token slow=5",
            "chunk straggle=5",
            "upload straggle=",
            "chunk wants-session",
            "status 503 name=a",
            "read swap=../x",
            "upload swap=QmT78zSuBmuS4z925WZfrqQ1qHaJ56DQaTfyMUF7F8ff5o",
        ] {
            assert!(text.parse::<Misbehaviour>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_rule_holds_as_often_as_it_says_and_older_ones_come_first() {
        let rule = |text: &str| text.parse::<Misbehaviour>().expect("a rule");
        let rules = Rules::new(vec![rule("upload html x2"), rule("upload stall x1")]);
        rules.add(rule("upload reset name=bad"));
        let next = || rules.for_request(Phase::Upload);
        assert_eq!(
            [next(), next(), next(), next()],
            [Some(Misdeed::Html), Some(Misdeed::Html), Some(Misdeed::Stall), None]
        );
        assert_eq!(rules.for_request(Phase::Chunk), None);
        assert_eq!(rules.for_name(Phase::Upload, "a good one"), None);
        assert_eq!(rules.for_name(Phase::Upload, "a bad one"), Some(Misdeed::Reset));
        rules.forget();
        assert_eq!(rules.for_name(Phase::Upload, "a bad one"), None);
    }
}
