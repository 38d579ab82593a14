//! What went wrong on the way, and what there is to know about it.

use std::time::Duration;

use crate::mirror::{Digest, Fault, Stat};

/// A failure on the way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// What went wrong.
    pub fault: Fault,
    /// What was sent, and what a refusal is about.
    pub sent: Option<Box<Sent>>,
    /// Whether dStor may hold what was sent all the same, or come to hold it.
    pub is_unsure: bool,
    /// The digest of what was sent, if it was read to its end: dStor stores nothing of a body that is not whole.
    pub whole: Option<Digest>,
}

/// The version that was sent, as it is to be recorded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sent {
    pub(super) stat: Stat,
    pub(super) mode: u32,
    /// When it has to be looked at once more: it was read in the tick in which it changed.
    pub(super) again: Option<Duration>,
}

impl Failure {
    /// Nothing was sent: dStor was asked for a sign of life first, and gave none. See [`GateFacts::wants_a_sign`].
    ///
    /// [`GateFacts::wants_a_sign`]: crate::mirror::GateFacts::wants_a_sign
    #[must_use]
    pub fn without_a_sign() -> Self {
        let fault = Fault::BrokenOff("nor does it answer to something small".into());
        Self { is_unsure: false, fault, sent: None, whole: None }
    }

    /// Whether it counts as dStor breaking off this file, and not as a line or a service that does so with all.
    pub(super) fn is_its_own(&self, gate: GateWord) -> bool {
        // Until this failure the gate was open: others got through, or nobody failed before.
        matches!(self.fault, Fault::BrokenOff(_)) && (gate.failures <= 1 || (gate.is_there && self.whole.is_none()))
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self { is_unsure: fault.is_unsure(), fault, sent: None, whole: None }
    }
}

/// What the gate says after a failure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GateWord {
    /// How long it is closed, if the failure concerns the whole account.
    pub closed_for: Option<Duration>,
    /// How often in a row it was closed.
    pub failures: u32,
    /// Whether dStor gave a sign of life just before.
    pub is_there: bool,
}
