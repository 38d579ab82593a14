//! Any sequence of what workers and scans do, against a model that is plain enough to be seen to be right.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::mirror::{Kind, Sealed, Skip, State};

/// `a` is a file and the directory of others; `a-b` and `ab` only begin like it.
const PATHS: [&str; 9] = ["a", "a/b", "a/b/c", "a/b/d", "a/e", "a-b/x", "ab/x", "ab", "f"];

#[derive(Clone, Copy, Debug)]
enum How {
    Nothing,
    Stored { is_proved: bool, is_sealed: bool },
    Refreshed,
    Gone,
    Descended,
    Skipped(Skip),
    Ignored,
    Failed,
}

#[derive(Clone, Debug)]
enum Step {
    Push {
        paths: Vec<usize>,
        size: u64,
        due_at: Millis,
        urgency: Urgency,
    },
    Claim {
        now: Millis,
        limit: u32,
    },
    /// Which of the claims there are, counted round.
    Settle {
        claim: usize,
        how: How,
        size: u64,
        again_at: Option<Millis>,
    },
    Postpone {
        claim: usize,
        due_at: Millis,
        is_unsure: bool,
    },
    Defer {
        claim: usize,
        due_at: Millis,
    },
    Hold,
    Release {
        now: Millis,
    },
    Recover {
        latest: Millis,
    },
    ForgetAttempts,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let time = || 0..100_i64;
    let size = || prop_oneof![Just(0_u64), 1..1000_u64];
    let how = prop_oneof![
        1 => Just(How::Nothing),
        4 => any::<(bool, bool)>().prop_map(|(is_proved, is_sealed)| How::Stored { is_proved, is_sealed }),
        2 => Just(How::Refreshed),
        2 => Just(How::Gone),
        1 => Just(How::Descended),
        1 => Just(How::Skipped(Skip::TooLarge)),
        1 => Just(How::Skipped(Skip::Kind(Kind::Mount))),
        1 => Just(How::Ignored),
        2 => Just(How::Failed),
    ];
    let urgency = prop_oneof![Just(Urgency::Event), Just(Urgency::Scan)];
    let step = prop_oneof![
        6 => (prop::collection::vec(0..PATHS.len(), 1..4), size(), time(), urgency)
            .prop_map(|(paths, size, due_at, urgency)| Step::Push { paths, size, due_at, urgency }),
        5 => (time(), 0..5_u32).prop_map(|(now, limit)| Step::Claim { now, limit }),
        9 => (any::<usize>(), how, size(), prop::option::weighted(0.2, time()))
            .prop_map(|(claim, how, size, again_at)| Step::Settle { claim, how, size, again_at }),
        1 => (any::<usize>(), time(), any::<bool>()).prop_map(|(claim, due_at, is_unsure)| Step::Postpone { claim, due_at, is_unsure }),
        1 => (any::<usize>(), prop_oneof![3 => time(), 1 => Just(HELD)])
            .prop_map(|(claim, due_at)| Step::Defer { claim, due_at }),
        1 => Just(Step::Hold),
        1 => time().prop_map(|now| Step::Release { now }),
        1 => time().prop_map(|latest| Step::Recover { latest }),
        1 => Just(Step::ForgetAttempts),
    ];
    prop::collection::vec(step, 1..60)
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Change {
    generation: i64,
    is_claimed: bool,
    size: u64,
    attempts: u32,
    due_at: Millis,
    has_failed: bool,
    is_heard: bool,
    is_unsure: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct File {
    state: State,
    size: u64,
    is_held: bool,
    is_proved: bool,
    is_sealed: bool,
}

#[derive(Default, PartialEq, Eq, Debug)]
struct Model {
    changes: BTreeMap<String, Change>,
    files: BTreeMap<String, File>,
}

impl Model {
    fn push(&mut self, path: &str, size: u64, due_at: Millis, urgency: Urgency) {
        let Some(change) = self.changes.get_mut(path) else {
            let change = Change {
                generation: 1,
                is_claimed: false,
                size,
                attempts: 0,
                due_at,
                has_failed: false,
                is_heard: urgency == Urgency::Event,
                is_unsure: false,
            };
            self.changes.insert(path.into(), change);
            return;
        };
        match urgency {
            Urgency::Event => {
                change.generation += 1;
                change.size = size;
                change.attempts = 0;
                change.has_failed = false;
                change.is_heard = true;
                if change.due_at != HELD {
                    change.due_at = due_at;
                }
            }
            Urgency::Scan => change.generation += i64::from(change.is_claimed),
        }
    }

    fn settle(&mut self, generation: i64, path: &str, how: How, size: u64, again_at: Option<Millis>) {
        let below = format!("{path}/");
        let is_below = |other: &String| other.starts_with(&below);
        let held = self.files.get(path).map_or((false, false, false), |f| (f.is_held, f.is_proved, f.is_sealed));
        let mut set = |state, (is_held, is_proved, is_sealed)| {
            self.files.insert(path.into(), File { state, size, is_held, is_proved, is_sealed });
        };
        let mut gone_below = true;
        match how {
            How::Nothing => gone_below = false,
            How::Stored { is_proved, is_sealed } => set(State::Stored, (true, is_proved, is_sealed)),
            How::Refreshed => set(State::Stored, held),
            How::Failed => set(State::Failed, held),
            How::Skipped(skip) => {
                set(State::Skipped, held);
                gone_below = skip != Skip::Kind(Kind::Mount);
            }
            How::Gone | How::Descended => {
                self.files.retain(|other, file| other != path || file.is_held);
                self.files.entry(path.into()).and_modify(|file| file.state = State::Gone);
                gone_below = matches!(how, How::Gone);
            }
            How::Ignored => {
                gone_below = false;
                self.files.retain(|other, file| file.is_held || (other != path && !is_below(other)));
                for (other, file) in &mut self.files {
                    let is_taken = matches!(file.state, State::Stored | State::Failed);
                    if is_taken && (other == path || is_below(other)) {
                        file.state = State::Skipped;
                    }
                }
            }
        }
        if gone_below {
            self.files.retain(|other, file| file.is_held || !is_below(other));
            for (_, file) in self.files.iter_mut().filter(|(other, _)| is_below(other)) {
                file.state = State::Gone;
            }
        }
        let change = self.changes.get_mut(path).expect("a claimed change is there");
        match again_at {
            _ if change.generation != generation => {
                change.is_claimed = false;
                change.is_unsure &= !matches!(how, How::Stored { .. });
            }
            None => drop(self.changes.remove(path)),
            Some(due_at) => {
                *change =
                    Change { is_claimed: false, attempts: 0, has_failed: false, is_unsure: false, due_at, ..*change };
            }
        }
    }

    fn give_back(&mut self, generation: i64, path: &str, due_at: Millis) -> &mut Change {
        let change = self.changes.get_mut(path).expect("a claimed change is there");
        change.is_claimed = false;
        if change.generation == generation {
            change.due_at = due_at;
        }
        change
    }

    /// What the tables hold.
    fn read(ledger: &Ledger) -> Self {
        const PATH: &str = "CAST(iif(d.path = x'', name, d.path || '/' || name) AS TEXT)";
        let mut model = Self::default();
        let sql = format!(
            "SELECT {PATH}, generation, claimed, size, attempts, due_at, code IS NOT NULL, heard, unsure
             FROM changes JOIN directories d ON d.id = directory_id"
        );
        let mut changes = ledger.db.prepare_cached(&sql).expect("a statement");
        let mut rows = changes.query([]).expect("changes");
        while let Some(row) = rows.next().expect("a change") {
            let get = |column| row.get::<_, i64>(column).expect("a number");
            let change = Change {
                generation: get(1),
                is_claimed: get(2) == 1,
                size: bits_out(get(3)),
                attempts: row.get(4).expect("a number"),
                due_at: get(5),
                has_failed: get(6) == 1,
                is_heard: get(7) == 1,
                is_unsure: get(8) == 1,
            };
            let twice = model.changes.insert(row.get(0).expect("a path"), change);
            assert_eq!(twice, None, "two changes for one path");
        }
        let sql = format!(
            "SELECT {PATH}, state, size, hash IS NOT NULL, blake3 IS NOT NULL, proof IS NOT NULL,
               sealed_size IS NOT NULL, sealed_blake3 IS NOT NULL
             FROM files JOIN directories d ON d.id = directory_id"
        );
        let mut files = ledger.db.prepare_cached(&sql).expect("a statement");
        let mut rows = files.query([]).expect("files");
        while let Some(row) = rows.next().expect("a file") {
            let get = |column| row.get::<_, i64>(column).expect("a number");
            let states = [State::Stored, State::Failed, State::Skipped, State::Gone];
            let state = states[usize::try_from(get(1)).expect("a state")];
            assert_eq!(get(3), get(4), "a hash comes with a digest");
            assert!(state != State::Stored || get(3) == 1, "stored without a hash");
            assert_eq!(get(6), get(7), "a sealed size comes with a digest");
            let (is_held, is_proved, is_sealed) = (get(3) == 1, get(5) == 1, get(6) == 1);
            let file = File { state, size: bits_out(get(2)), is_held, is_proved, is_sealed };
            let twice = model.files.insert(row.get(0).expect("a path"), file);
            assert_eq!(twice, None, "two rows for one path");
        }
        model
    }
}

/// The counts as the tables have them, slot by slot, without the triggers' help.
fn recount(ledger: &Ledger, mirror: MirrorId) -> Vec<(i64, i64, i64)> {
    const SQL: &str = "
        WITH mine AS (SELECT id FROM directories WHERE mirror_id = ?1),
          settled AS (SELECT * FROM files f WHERE directory_id IN mine AND NOT EXISTS
            (SELECT 1 FROM changes c WHERE c.directory_id = f.directory_id AND c.name = f.name)),
          slots AS (
            SELECT state AS slot, size FROM settled
            UNION ALL SELECT 6, size FROM settled WHERE state = 0 AND proof IS NOT NULL
            UNION ALL SELECT 7, size FROM settled WHERE state = 0 AND sealed_size IS NOT NULL
            UNION ALL SELECT iif(claimed, 5, 4), size FROM changes WHERE directory_id IN mine)
        SELECT slot, count(*), sum(size) FROM slots GROUP BY slot ORDER BY slot";
    let mut statement = ledger.db.prepare_cached(SQL).expect("a statement");
    let rows = statement.query_map([mirror.0], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).expect("counts");
    rows.collect::<Result<_, _>>().expect("counts")
}

fn kept_counts(counts: &Counts) -> Vec<(i64, i64, i64)> {
    let Counts { stored, failed, skipped, gone, pending, uploading, proved, sealed } = counts;
    (0..)
        .zip([stored, failed, skipped, gone, pending, uploading, proved, sealed])
        .filter(|(_, tally)| **tally != Tally::default())
        .map(|(slot, tally)| (slot, bits_in(tally.files), bits_in(tally.bytes)))
        .collect()
}

struct Run {
    world: World,
    model: Model,
    /// Each with the generation that its change had.
    claims: Vec<(Claim, i64)>,
}

impl Run {
    fn step(&mut self, step: &Step) {
        let Self { world, model, claims } = self;
        let ledger = &world.ledger;
        let claim = match step {
            Step::Settle { claim, .. } | Step::Postpone { claim, .. } | Step::Defer { claim, .. } => {
                if claims.is_empty() {
                    return;
                }
                Some(claims.swap_remove(claim % claims.len()))
            }
            _ => None,
        };
        let path = claim.as_ref().map_or_else(String::new, |(claim, _)| claim.path.to_string());
        let (claim, generation) = (claim.as_ref().map(|(claim, _)| claim), claim.as_ref().map_or(0, |claim| claim.1));
        let claim = || claim.expect("taken above");
        match step {
            Step::Push { paths, size, due_at, urgency } => {
                let push = |path: &usize| Push { path: at(PATHS[*path]), size: *size, due_at: *due_at };
                let pushes: Vec<Push> = paths.iter().map(push).collect();
                ledger.push(world.mirror, &pushes, *urgency, 0).expect("pushed");
                paths.iter().for_each(|path| model.push(PATHS[*path], *size, *due_at, *urgency));
            }
            Step::Claim { now, limit } => {
                for claim in ledger.claim(*now, *limit).expect("claimed") {
                    let change = model.changes.get_mut(&claim.path.to_string()).expect("a change");
                    assert!(!change.is_claimed, "claimed twice");
                    assert!(change.due_at <= *now, "claimed too early");
                    assert_eq!((claim.attempts, claim.is_heard), (change.attempts, change.is_heard));
                    assert_eq!((claim.is_unsure, claim.code.is_some()), (change.is_unsure, change.has_failed));
                    let file = model.files.get(&claim.path.to_string());
                    assert_eq!(claim.recorded.map(|row| row.state), file.map(|file| file.state));
                    change.is_claimed = true;
                    claims.push((claim, change.generation));
                }
            }
            Step::Settle { how, size, again_at, .. } => {
                // Only what dStor holds can be refreshed.
                let is_held = model.files.get(&path).is_some_and(|file| file.is_held);
                let how = if matches!(how, How::Refreshed) && !is_held { How::Nothing } else { *how };
                ledger.settle(claim(), &settlement(how, *size), *again_at, 0).expect("settled");
                model.settle(generation, &path, how, *size, *again_at);
            }
            Step::Postpone { due_at, is_unsure, .. } => {
                ledger.postpone(claim(), "timeout", "no answer", *is_unsure, *due_at).expect("postponed");
                let change = model.give_back(generation, &path, *due_at);
                change.attempts += 1;
                change.has_failed = true;
                change.is_unsure |= *is_unsure;
            }
            Step::Defer { due_at, .. } => {
                ledger.defer(claim(), *due_at).expect("deferred");
                model.give_back(generation, &path, *due_at);
            }
            Step::Hold => {
                ledger.hold(world.mirror).expect("held");
                model.changes.values_mut().filter(|change| !change.is_claimed).for_each(|change| change.due_at = HELD);
            }
            Step::Release { now } => {
                ledger.release(world.mirror, *now).expect("released");
                model.changes.values_mut().filter(|change| change.due_at == HELD).for_each(|c| c.due_at = *now);
            }
            Step::Recover { latest } => {
                ledger.recover_changes(*latest).expect("recovered");
                claims.clear();
                for change in model.changes.values_mut() {
                    // A killed agent may have been sending it.
                    change.is_unsure |= change.is_claimed;
                    change.is_claimed = false;
                    if change.due_at != HELD {
                        change.due_at = change.due_at.min(*latest);
                    }
                }
            }
            Step::ForgetAttempts => {
                ledger.forget_attempts().expect("forgotten");
                for change in model.changes.values_mut().filter(|c| !c.is_claimed && c.due_at != HELD) {
                    (change.attempts, change.due_at) = (0, 0);
                }
            }
        }
        if let Step::Claim { now, limit } = step {
            self.check_fairness(*now, *limit);
        }
    }

    /// What is still unclaimed was either not due or there was no room for it.
    fn check_fairness(&self, now: Millis, limit: u32) {
        let is_left = self.model.changes.values().any(|change| !change.is_claimed && change.due_at <= now);
        assert!(!is_left || self.claims.len() >= limit as usize, "something due was not claimed");
    }

    fn check(&self) {
        let Self { world: World { ledger, mirror, .. }, model, .. } = self;
        assert_eq!(Model::read(ledger), *model);
        assert_eq!(kept_counts(&ledger.counts(*mirror).expect("counts")), recount(ledger, *mirror));
        for path in PATHS {
            let below = format!("{path}/");
            for (which, states) in [
                (Below::Present, [State::Stored, State::Failed, State::Skipped].as_slice()),
                (Below::Taken, &[State::Stored, State::Failed]),
            ] {
                let has = model.files.iter().any(|(at, file)| at.starts_with(&below) && states.contains(&file.state));
                assert_eq!(ledger.has_below(*mirror, &at(path), which).expect("an answer"), has, "{path} {which:?}");
            }
        }
        let waiting = model.changes.values().filter(|change| !change.is_claimed).map(|change| change.due_at);
        let claimed = model.changes.values().filter(|change| change.is_claimed).count() as u64;
        let outlook = Outlook { claimed, next_due_at: waiting.min().filter(|due_at| *due_at != HELD) };
        assert_eq!(ledger.outlook().expect("an outlook"), outlook);
        // A reason is there exactly for what is failed or skipped.
        let reasons = "SELECT count(*) FROM reasons";
        let matched = "SELECT count(*) FROM reasons JOIN files USING (directory_id, name) WHERE state IN (1, 2)";
        let explained = model.files.values().filter(|file| matches!(file.state, State::Failed | State::Skipped));
        let explained = i64::try_from(explained.count()).expect("a few");
        assert_eq!((self.world.number(reasons), self.world.number(matched)), (explained, explained));
    }
}

fn settlement(how: How, size: u64) -> Settlement {
    match how {
        How::Nothing => Settlement::Nothing,
        How::Stored { is_proved, is_sealed } => match stored(size) {
            Settlement::Stored(stored) => {
                let sealed = is_sealed.then(|| Sealed { digest: Digest::of(b"sealed"), size: size + 300 });
                Settlement::Stored(Stored { is_proved, sealed, ..stored })
            }
            other => other,
        },
        How::Refreshed => Settlement::Refreshed(stat(size), 0o644),
        How::Gone => Settlement::Gone,
        How::Descended => Settlement::Descended,
        How::Skipped(skip) => Settlement::Skipped(stat(size), 0o644, skip),
        How::Ignored => Settlement::Ignored,
        How::Failed => failed(size),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_ledger_does_what_the_model_does(steps in steps()) {
        let mut run = Run { world: World::new(), model: Model::default(), claims: Vec::new() };
        for step in &steps {
            run.step(step);
            run.check();
        }
    }
}
