//! A file that goes by itself, in a request or in a session of its own: what its answer means.
//!
//! Decisions only, as in `errand`.

use super::errand::{Ending, Errand, Failure, ToSend};
use crate::dstor::SessionFailure;
use crate::dstor::wire::Listing;
use crate::ledger::Millis;
use crate::local::{Content, ReadError};
use crate::mirror::{Cid, Fault, Timestamp};

/// What follows from an answer.
#[must_use]
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Alone {
    /// The service has no such way: send it again at once, by the other one.
    Again,
    /// It has ended.
    Answered(Answered),
}

/// dStor's answer to a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answered {
    answer: Result<Cid, Fault>,
    /// Whether dStor may hold it, whatever the fault says by itself.
    is_unsure: bool,
}

impl Alone {
    /// It went in a request of its own. `lacks_direct` is told where the service takes files in sessions only, and says
    /// whether they go so from now on.
    pub fn after_request(answer: Result<Cid, Fault>, lacks_direct: impl FnOnce() -> bool) -> Self {
        if matches!(answer, Err(Fault::NeedsSession(_))) && lacks_direct() {
            return Self::Again;
        }
        Self::Answered(Answered { answer, is_unsure: false })
    }

    /// It went in a session of its own. `lacks_sessions` is told where the service has none, and says whether files go by
    /// themselves from now on.
    pub fn after_session(
        file: &ToSend,
        ended: Result<Listing, SessionFailure>,
        lacks_sessions: impl FnOnce() -> bool,
    ) -> Self {
        let missing = || Fault::Protocol("its session has no usable hash for the file".into());
        Self::Answered(match ended {
            Err(failure) if failure.is_for_lack_of_sessions() && lacks_sessions() => return Self::Again,
            Err(failure) => Answered { is_unsure: failure.is_unsure(), answer: Err(failure.fault) },
            Ok(listing) => Answered { answer: listing.hash(&file.name).cloned().ok_or_else(missing), is_unsure: true },
        })
    }
}

impl Answered {
    /// The end of its errand; the rest as for [`Errand::sent`].
    ///
    /// # Errors
    /// What went wrong, here or there.
    pub fn end(
        self,
        errand: Errand<'_>,
        file: &ToSend,
        read: Option<Result<Content, ReadError>>,
        read_from: Timestamp,
        at: Millis,
    ) -> Result<Ending, Failure> {
        errand.sent(file, self.answer, read, read_from, at).map_err(|failure| {
            // What broke on this side never came to be a whole body.
            let is_unsure = failure.is_unsure || (self.is_unsure && failure.whole.is_some());
            Failure { is_unsure, ..failure }
        })
    }
}
