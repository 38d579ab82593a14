//! What can go wrong with one change, and whether waiting helps.

use std::time::Duration;

/// The code of uploads that were broken off.
pub const BROKEN_OFF: &str = "broken_off";
/// The code of answers that make no sense.
pub const NONSENSE: &str = "protocol";

/// Why a change could not be settled.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The file changed while it was read.
    Moved,
    /// The file system would not let it be read; its words.
    Unreadable(String),
    /// The directory of the mirror is not there, or is another one.
    RootMissing,
    /// No answer: no network, no server, or a connection that broke; what happened.
    Unreachable(String),
    /// A connection that stood and broke while an upload was on its way, or before it was answered; what happened. It may
    /// be the line, or a service that does not take this file and says so before anyone listens (E7).
    BrokenOff(String),
    /// 429 or 503 with or without a time to wait.
    Busy {
        /// The HTTP status.
        status: u16,
        /// What `Retry-After` asked for.
        after: Option<Duration>,
    },
    /// A 5xx status, or one that tells of the service and not of the file.
    ServerError(u16),
    /// dStor refuses the credentials, or there are none.
    Credentials(String),
    /// 402, 403 or 507: quota, plan, or a key that may no longer upload.
    Quota(u16),
    /// A 4xx status for this file, with the server's words (escaped).
    Refused {
        /// The HTTP status.
        status: u16,
        /// What the server said, cut and made safe for a terminal.
        message: String,
    },
    /// A status that is no answer to who reads a file back.
    NotGiven(u16),
    /// A status that says that files are taken in upload sessions only.
    NeedsSession(u16),
    /// An upload session with other files came to nothing, or left this one out; why.
    Session(String),
    /// An answer that cannot be understood: HTML with status 200, no hash, a hash that is none; what was wrong.
    Protocol(String),
}

/// Whom a fault concerns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// This path only: the others go on.
    Path,
    /// The whole account: no other path would fare better.
    Account,
}

/// What follows from a fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Try again, not before this long from now if given, else after the usual back-off.
    Retry(Option<Duration>),
    /// Give up until the file changes or someone asks again.
    Park,
}

impl Fault {
    /// No server may ask for a longer wait than this.
    pub const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(3600);
    /// Answers that cannot be understood are asked for again this often before the change is parked.
    const PROTOCOL_TRIES: u32 = 8;
    /// An upload that was broken off so often, while others got through, is given up.
    const BREAKS: u32 = 6;

    /// Whom it concerns.
    #[must_use]
    pub fn scope(&self) -> Scope {
        match self {
            Self::Moved | Self::Unreadable(_) | Self::RootMissing | Self::Refused { .. } | Self::Session(_) => {
                Scope::Path
            }
            Self::Unreachable(_)
            | Self::BrokenOff(_)
            | Self::Busy { .. }
            | Self::ServerError(_)
            | Self::Credentials(_)
            | Self::Quota(_)
            | Self::NotGiven(_)
            | Self::NeedsSession(_)
            | Self::Protocol(_) => Scope::Account,
        }
    }

    /// Whether to try again, after this fault has met the change `times` (the first is 1). Answers without sense count in a
    /// row; of uploads that were broken off, those alone count that were while dStor answered others.
    #[must_use]
    pub fn verdict(&self, times: u32) -> Verdict {
        match self {
            Self::Refused { .. } => Verdict::Park,
            Self::Protocol(_) if times >= Self::PROTOCOL_TRIES => Verdict::Park,
            Self::BrokenOff(_) if times >= Self::BREAKS => Verdict::Park,
            Self::Busy { after: Some(after), .. } => Verdict::Retry(Some((*after).min(Self::LONGEST_RETRY_AFTER))),
            Self::Moved
            | Self::Unreadable(_)
            | Self::RootMissing
            | Self::Unreachable(_)
            | Self::BrokenOff(_)
            | Self::Busy { .. }
            | Self::ServerError(_)
            | Self::Credentials(_)
            | Self::Quota(_)
            | Self::NotGiven(_)
            | Self::NeedsSession(_)
            | Self::Session(_)
            | Self::Protocol(_) => Verdict::Retry(None),
        }
    }

    /// Whether dStor may hold what was sent all the same.
    #[must_use]
    pub fn is_unsure(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::BrokenOff(_) | Self::ServerError(_) | Self::Session(_) | Self::Protocol(_) => {
                true
            }
            Self::Moved
            | Self::Unreadable(_)
            | Self::RootMissing
            | Self::Busy { .. }
            | Self::Credentials(_)
            | Self::Quota(_)
            | Self::NotGiven(_)
            | Self::NeedsSession(_)
            | Self::Refused { .. } => false,
        }
    }

    /// The fixed word for it in the ledger and in JSON.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Moved => "changing",
            Self::Unreadable(_) => "unreadable",
            Self::RootMissing => "mirror_missing",
            Self::Unreachable(_) => "unreachable",
            Self::BrokenOff(_) => BROKEN_OFF,
            Self::Busy { .. } => "busy",
            Self::ServerError(_) => "server_error",
            Self::Credentials(_) => "credentials",
            Self::Quota(_) => "quota",
            Self::Refused { status: 413, .. } => "too_large_for_dstor",
            Self::Refused { .. } => "refused",
            Self::NotGiven(_) => "not_given",
            Self::NeedsSession(_) => "needs_session",
            Self::Session(_) => "session",
            Self::Protocol(_) => NONSENSE,
        }
    }

    /// What a person is told.
    #[must_use]
    pub fn message(&self) -> String {
        match self {
            Self::Moved => "it is being written to; it waits until it is quiet".into(),
            Self::Unreadable(why) => format!("cannot be read: {why}; it waits until it can"),
            Self::RootMissing => "the mirror's directory is not there; it waits until it is back".into(),
            Self::Unreachable(why) => format!("dStor cannot be reached: {why}"),
            Self::BrokenOff(why) => format!("the connection to dStor broke during an upload ({why})"),
            Self::Busy { status, .. } => format!("dStor asks to wait (status {status})"),
            Self::ServerError(status @ (404 | 405)) => {
                format!("dStor does not answer as it should at this address (status {status}); is `url` right?")
            }
            Self::ServerError(status) => format!("dStor had an error of its own (status {status})"),
            Self::Credentials(why) => why.clone(),
            Self::Quota(status) => {
                format!(
                    "dStor takes no more for this account (status {status}): its key, quota or plan; see the dashboard"
                )
            }
            Self::Refused { status: 413, .. } => "too large for dStor (status 413)".into(),
            Self::Refused { status, message } if message.is_empty() => format!("dStor refused it (status {status})"),
            Self::Refused { status, message } => format!("dStor refused it (status {status}): {message}"),
            Self::NotGiven(status) => format!("dStor does not give back files (status {status})"),
            Self::NeedsSession(status) => format!(
                "dStor takes files in upload sessions only (status {status}); see `sessions` in the configuration, and \
                 give the directory by its path"
            ),
            Self::Session(why) => format!("dStor did not store it together with others ({why}); it goes alone next"),
            Self::Protocol(why) => format!("dStor gave an answer that makes no sense: {why}"),
        }
    }

    /// What a person is told of a file that is given up for it, after it has met the change `times`, as in
    /// [`verdict`](Self::verdict).
    #[must_use]
    pub fn parting_message(&self, times: u32) -> String {
        match self {
            Self::BrokenOff(_) => format!(
                "dStor broke off the upload {times} times; it may be too large for the service. It is tried again when \
                 it changes, after `dstor-sync retry`, and after a day"
            ),
            Self::Moved
            | Self::Unreadable(_)
            | Self::RootMissing
            | Self::Unreachable(_)
            | Self::Busy { .. }
            | Self::ServerError(_)
            | Self::Credentials(_)
            | Self::Quota(_)
            | Self::NotGiven(_)
            | Self::NeedsSession(_)
            | Self::Refused { .. }
            | Self::Session(_)
            | Self::Protocol(_) => self.message(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // E14
    #[test]
    fn only_a_refusal_of_the_file_itself_parks_it_at_once() {
        let refused = Fault::Refused { status: 413, message: String::new() };
        assert_eq!((refused.scope(), refused.verdict(1)), (Scope::Path, Verdict::Park));
        for waits in [
            Fault::Moved,
            Fault::Unreadable("denied".into()),
            Fault::Unreachable("refused".into()),
            Fault::ServerError(500),
            Fault::Credentials("refused".into()),
            Fault::Quota(402),
            Fault::NotGiven(403),
            Fault::NeedsSession(400),
            Fault::Session("ERROR".into()),
        ] {
            assert_eq!(waits.verdict(1_000), Verdict::Retry(None), "{waits:?}");
        }
    }

    // E15
    #[test]
    fn a_server_cannot_ask_for_a_wait_of_days() {
        let busy = Fault::Busy { status: 429, after: Some(Duration::from_secs(1_000_000)) };
        assert_eq!(busy.verdict(1), Verdict::Retry(Some(Fault::LONGEST_RETRY_AFTER)));
    }

    // E7
    #[test]
    fn an_upload_that_is_broken_off_again_and_again_is_given_up_with_the_reason() {
        let broken = Fault::BrokenOff("connection reset".into());
        assert_eq!((broken.scope(), broken.verdict(5)), (Scope::Account, Verdict::Retry(None)));
        assert_eq!(broken.verdict(6), Verdict::Park);
        assert!(broken.parting_message(6).starts_with("dStor broke off the upload 6 times; it may be too large"));
    }

    // E17
    #[test]
    fn answers_without_sense_are_not_asked_for_forever() {
        let odd = Fault::Protocol("no hash".into());
        assert_eq!(odd.verdict(1), Verdict::Retry(None));
        assert_eq!(odd.verdict(8), Verdict::Park);
    }
}
