//! Two tapes drive a run: what people do, and what goes wrong. They are apart so that a failure shrinks: taking out a deed
//! does not shift what goes wrong, and blanking a fault leaves the deeds as they are.

use dstor_sync::mirror::Sessions;

use crate::remote::{Fate, Service};

/// A thing that a person does, with what it is done to. How numbers become deeds is `deeds`' business.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Deed {
    /// Which kind of pause comes before it.
    pub(crate) pause: u32,
    /// What is done.
    pub(crate) kind: u32,
    /// To which path.
    pub(crate) path: u32,
    /// How.
    pub(crate) how: u32,
}

/// Decisions about what goes wrong, in the order in which the run asks. Zero is always the answer that does no harm.
#[derive(Clone, Debug)]
pub(crate) struct Faults {
    recorded: Vec<u32>,
    at: usize,
    /// Makes more where nothing is recorded yet; none: everything goes well from there on.
    more: Option<fastrand::Rng>,
    /// Of a thousand decisions that could do harm, so many may.
    per_mille: u32,
}

impl Faults {
    pub(crate) fn from_seed(seed: u64, per_mille: u32) -> Self {
        Self { recorded: Vec::new(), at: 0, more: Some(fastrand::Rng::with_seed(seed)), per_mille }
    }

    /// Those that were decided before, and nothing after them.
    pub(crate) fn again(recorded: Vec<u32>, per_mille: u32) -> Self {
        Self { recorded, at: 0, more: None, per_mille }
    }

    pub(crate) fn recorded(&self) -> &[u32] {
        &self.recorded[..self.at.min(self.recorded.len())]
    }

    /// From now on everything goes well.
    pub(crate) fn stop(&mut self) {
        self.recorded.truncate(self.at);
        self.more = None;
    }

    fn next(&mut self) -> u32 {
        if self.at == self.recorded.len() {
            match &mut self.more {
                Some(rng) => self.recorded.push(rng.u32(1..)),
                None => return 0,
            }
        }
        self.at += 1;
        self.recorded[self.at - 1]
    }

    /// One of `0..choices`; anything but 0 only as often as the run's intensity says.
    pub(crate) fn harm(&mut self, choices: u32) -> u32 {
        let value = self.next();
        if value == 0 || value % 1000 >= self.per_mille { 0 } else { 1 + (value / 1000) % (choices - 1) }
    }

    /// One of `0..choices` with equal chances: for what does no harm, such as how long something takes.
    pub(crate) fn choice(&mut self, choices: u32) -> u32 {
        self.next() % choices
    }

    /// From 0.0 up to 1.0.
    pub(crate) fn chance(&mut self) -> f64 {
        f64::from(self.next() % 1000) / 1000.0
    }
}

/// What a run is made from. The same script gives the same run, to the letter.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    pub(crate) setting: Setting,
    pub(crate) deeds: Vec<Deed>,
    pub(crate) faults: Faults,
}

/// What does not change in a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Setting {
    /// How far apart a file system's times are at least, in milliseconds; 2000: as FAT, without a finer part.
    pub(crate) tick_ms: u32,
    pub(crate) workers: usize,
    /// Of a thousand decisions that could do harm, so many may.
    pub(crate) per_mille: u32,
    /// Whether the mirror holds many files at the beginning.
    pub(crate) is_stocked: bool,
    /// What dStor does wrong to every request at the beginning.
    pub(crate) illness: Option<Fate>,
    /// Whether files that are due together travel together.
    pub(crate) sessions: Sessions,
    /// Which ways dStor has at the beginning.
    pub(crate) service: Service,
    /// Whether dStor breaks off whatever is larger than so many bytes.
    pub(crate) cuts_above: Option<usize>,
    /// Where the mirror is on dStor.
    pub(crate) place: &'static str,
}

impl Script {
    pub(crate) fn from_seed(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let setting = Setting {
            tick_ms: [1, 4, 4, 10, 10, 2000][rng.usize(..6)],
            workers: [1, 2, 2, 3, 4][rng.usize(..5)],
            // Some runs are calm, so that what deeds alone do is seen, and some are storms.
            per_mille: [0, 20, 60, 60, 150, 400][rng.usize(..6)],
            is_stocked: rng.u32(..16) == 0,
            // Answers without sense have to come eight times in a row for a file to be given up.
            illness: match rng.u32(..24) {
                0 => Some(Fate::NoHash),
                1 => Some(Fate::ILLNESSES[rng.usize(..Fate::ILLNESSES.len())]),
                _ => None,
            },
            sessions: [Sessions::Auto, Sessions::Auto, Sessions::Auto, Sessions::Always, Sessions::Never]
                [rng.usize(..5)],
            service: match rng.u32(..16) {
                0 => Service::WithoutSessions,
                1 => Service::OnlySessions,
                _ => Service::Whole,
            },
            cuts_above: if rng.u32(..16) == 0 { Some(rng.usize(..40)) } else { None },
            // To the second no plain header leads.
            place: if rng.u32(..8) == 0 { "Bücher" } else { "Docs" },
        };
        let deeds = (0..rng.usize(4..40))
            .map(|_| Deed { pause: rng.u32(..), kind: rng.u32(..), path: rng.u32(..), how: rng.u32(..) })
            .collect();
        Self { setting, deeds, faults: Faults::from_seed(rng.u64(..), setting.per_mille) }
    }
}

/// Makes a failing script smaller as long as it fails: fewer deeds, then fewer faults.
pub(crate) fn shrink(script: &Script, fails: impl Fn(&Script) -> Option<Vec<u32>>) -> Script {
    let Some(recorded) = fails(script) else { return script.clone() };
    let replay = |deeds: Vec<Deed>, faults: Vec<u32>| Script {
        setting: script.setting,
        deeds,
        faults: Faults::again(faults, script.setting.per_mille),
    };
    let mut best = replay(script.deeds.clone(), recorded.clone());
    if fails(&best).is_none() {
        return script.clone();
    }
    let mut faults = recorded;
    let mut size = best.deeds.len() / 2;
    while size > 0 {
        let mut at = 0;
        while at < best.deeds.len() {
            let mut deeds = best.deeds.clone();
            deeds.drain(at..(at + size).min(deeds.len()));
            let tried = replay(deeds, faults.clone());
            if fails(&tried).is_some() {
                best = tried;
            } else {
                at += size;
            }
        }
        size /= 2;
    }
    let mut size = faults.len().div_ceil(2);
    while size > 0 {
        let mut at = 0;
        while at < faults.len() {
            let mut fewer = faults.clone();
            let end = (at + size).min(fewer.len());
            fewer[at..end].fill(0);
            let tried = replay(best.deeds.clone(), fewer.clone());
            if fewer != faults && fails(&tried).is_some() {
                (best, faults) = (tried, fewer);
            }
            at += size;
        }
        size = if size == 1 { 0 } else { size.div_ceil(2) };
    }
    best
}
