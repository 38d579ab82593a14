//! Whether a watcher of files still hears anything.

/// Looks without an answer after which a watcher counts as silent.
const PATIENCE: u32 = 3;

/// What is expected of a watcher: whoever looks into the mirror's directory makes an event by that, which the watcher has
/// to give a sign of before the next look, or the one after. Nothing is written, and it needs no file of ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Canary {
    /// Signs at the last look.
    signs: Option<u64>,
    unanswered: u32,
    was_heard: bool,
}

/// How the canary is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pulse {
    /// It answers, or may still do so.
    Beats,
    /// It did answer, and does not any more: the watcher hangs or is gone (A18).
    Stopped,
    /// It never answered: no events come from here (A13).
    NeverFelt,
}

impl Canary {
    /// The directory was looked into; the watcher has given so many signs of life until just before. `None`: it cannot be
    /// expected to give any.
    pub fn looked(&mut self, signs: Option<u64>) -> Pulse {
        let Some(signs) = signs else {
            self.signs = None;
            return Pulse::Beats;
        };
        match self.signs.replace(signs) {
            Some(before) if signs == before => self.unanswered += 1,
            _ => self.unanswered = 0,
        }
        // The first scan looks into it as well.
        self.was_heard |= signs > 0;
        match self.unanswered {
            0..PATIENCE => Pulse::Beats,
            _ if self.was_heard => Pulse::Stopped,
            _ => Pulse::NeverFelt,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last(signs: &[Option<u64>]) -> Pulse {
        let mut canary = Canary::default();
        signs.iter().map(|signs| canary.looked(*signs)).last().expect("one at least")
    }

    // A18
    #[test]
    fn a_watcher_is_silent_after_three_looks_without_a_sign_and_not_before() {
        assert_eq!(last(&[Some(0), Some(2), Some(2), Some(2)]), Pulse::Beats);
        assert_eq!(last(&[Some(0), Some(2), Some(2), Some(2), Some(2)]), Pulse::Stopped);
        assert_eq!(last(&[Some(0), Some(2), Some(2), Some(2), Some(3), Some(3)]), Pulse::Beats);
    }

    // A13
    #[test]
    fn one_that_never_gave_a_sign_is_told_apart() {
        assert_eq!(last(&[Some(0), Some(0), Some(0)]), Pulse::Beats);
        assert_eq!(last(&[Some(0), Some(0), Some(0), Some(0)]), Pulse::NeverFelt);
    }

    // A4: beyond the system's limit the mirror's own directory may be without a watch.
    #[test]
    fn of_one_that_cannot_answer_nothing_is_expected() {
        assert_eq!(last(&[None; 20]), Pulse::Beats);
        assert_eq!(last(&[Some(1), None, Some(1), Some(1), Some(1)]), Pulse::Beats);
    }
}
