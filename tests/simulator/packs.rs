//! Files that travel together: the shell that `upload::porter` is to the rules, played a step at a time.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use dstor_sync::ledger::Claim;
use dstor_sync::mirror::{Left, Ticket, Timestamp};
use dstor_sync::upload::{Ending, Pack, ToSend, claim_beside, fewest_others};

use crate::reach::Rare;
use crate::run::Run;
use crate::shipping::Cargo;
use crate::worker::{Load, Looked, Stage, Task, Work, root_missing};

/// A pack, and what belongs to it.
pub(crate) struct Many {
    pub(crate) pack: Pack,
    /// What was seen of those that are to be made ready; none: the mirror's directory was not there.
    looks: VecDeque<(usize, Option<Looked>)>,
    /// Those that are ready to be read.
    pub(crate) files: Vec<(usize, ToSend)>,
    /// What was read of each.
    pub(crate) bytes: BTreeMap<usize, Vec<u8>>,
}

impl Run {
    /// Claims what may go along with a file.
    pub(crate) fn companions(&self, work: &Work, file: &ToSend) -> Vec<Claim> {
        let claim = work.claim(0);
        let is_probe = work.ticket.as_ref().is_some_and(Ticket::is_probe);
        match fewest_others(claim, file, is_probe, &self.ways.borrow(), self.now.get()) {
            Some(fewest) => claim_beside(&self.ledger, claim, file.stat.size, fewest, self.wall_ms()).expect("written"),
            None => Vec::new(),
        }
    }

    /// Looks at the others, as they are all at this moment.
    pub(crate) fn begin_pack(&self, worker: usize, work: Work, file: ToSend, others: Vec<Claim>) {
        let Work { load, ticket, tree, has_sign } = work;
        let Load::One(first) = load else { unreachable!("one is the first of a pack") };
        let pack = Pack::new(first, &file, others, &self.policy, &self.patience);
        self.tell(|| {
            let paths: Vec<_> = pack.claims().iter().map(|claim| claim.path.to_string()).collect();
            format!("worker {worker} takes together {}", paths.join(", "))
        });
        let looks = (1..).zip(&pack.claims()[1..]).map(|(at, claim)| (at, self.look(claim))).collect();
        let many = Many { pack, looks, files: vec![(0, file)], bytes: BTreeMap::new() };
        self.prepare_next(worker, Work { load: Load::Many(Box::new(many)), ticket, tree, has_sign });
    }

    /// Makes the next one ready; after the last, all are read.
    pub(crate) fn prepare_next(&self, worker: usize, mut work: Work) {
        let Load::Many(many) = &mut work.load else { unreachable!("a pack is made ready") };
        match many.looks.pop_front() {
            Some((at, Some(looked))) => {
                work.tree = looked.tree;
                let next = self.after_look(&work, at, &looked);
                self.go_to(worker, work, at, next);
            }
            Some((at, None)) => self.fail(worker, work, at, root_missing()),
            None => {
                let read_from = self.wall();
                let files = std::mem::take(&mut many.files);
                let begun = files.into_iter().map(|(at, file)| {
                    let first = self.read_begin(work.tree, &work.claim(at).path, &file.stat);
                    (at, file, first)
                });
                let stage = Stage::Reading { files: begun.collect(), read_from };
                self.put(worker, Task { work, stage }, self.latency());
            }
        }
    }

    /// Reads all of them to the end.
    pub(crate) fn read_pack(
        &self,
        worker: usize,
        mut work: Work,
        files: Vec<(usize, ToSend, Option<Vec<u8>>)>,
        read_from: Timestamp,
    ) {
        let tree = work.tree;
        let Load::Many(many) = &mut work.load else { unreachable!("a pack is read") };
        let count = files.len();
        for (at, file, first) in files {
            let (read, bytes) = self.read_end(tree, &many.pack.claims()[at].path, &file.stat, first);
            if read.is_ok() {
                many.bytes.insert(at, bytes);
            }
            let luck = (self.gate_word(None), self.faults.borrow_mut().chance());
            many.pack.read(at, file, read, read_from, self.wall_ms(), luck);
        }
        if (2..count).contains(&many.bytes.len()) {
            self.meet(Rare::StayedBehind);
        }
        self.carry_on(worker, work);
    }

    /// Sends what goes next, if anything does.
    pub(crate) fn carry_on(&self, worker: usize, mut work: Work) {
        let Load::Many(many) = &mut work.load else { unreachable!("a pack is sent") };
        let Some(heap) = many.pack.take_next() else {
            let how = if many.pack.is_answered() { Left::Answered } else { Left::Unasked };
            if let Some(ticket) = work.ticket.take() {
                self.leave(ticket, how);
            }
            return self.finish_pack(worker, work);
        };
        if let Some(ticket) = &mut work.ticket {
            self.pace.borrow_mut().rise(ticket);
        }
        let cargo = match heap.parcels() {
            [one] => Cargo::Lone { at: one.at(), file: one.file().clone(), heap: Some(heap) },
            _ => Cargo::Heap(heap),
        };
        self.ship(worker, work, cargo);
    }

    pub(crate) fn finish_pack(&self, worker: usize, work: Work) {
        let Load::Many(many) = work.load else { unreachable!("a pack has ended") };
        let ended = many.pack.ended();
        let count = |is_such: fn(&Ending) -> bool| ended.iter().filter(|(_, ending)| is_such(ending)).count();
        let has_failed = count(|ending| matches!(ending, Ending::Postponed { .. })) > 0;
        if has_failed && count(|ending| *ending == Ending::Deferred(Duration::ZERO)) > 0 {
            self.meet(Rare::PutBackTogether);
        }
        if count(|ending| matches!(ending, Ending::Postponed { is_unsure: true, .. })) > 1 {
            self.meet(Rare::UnsureTogether);
        }
        self.put_record(worker, ended);
    }
}
