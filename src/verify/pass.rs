//! One pass: many stored files are read back, several at a time, the one that was read longest ago first.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::watch;

use super::{Choice, Chosen, Share, read_back};
use crate::dstor::Client;
use crate::ledger::{Found, Ledger, LedgerError, Mark, Millis, Proof, Readable, Reading, Scopes};
use crate::upload::{Clock, Gate, Stop};

/// A file that got no answer this often is left.
const TRIES: u32 = 3;
/// The gate closing this often in a row means that dStor is not there for this pass.
const UNREACHABLE_AFTER: u32 = 3;
/// A server that asks for a longer wait than this is not waited for.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Files that are listed at a time: each listing goes through all rows, and has so many in memory.
const BATCH: usize = 10_000;
/// What came is recorded for so many files at a time, or after so long: who is killed loses no more.
const WRITE_AT: (usize, Duration) = (64, Duration::from_secs(1));

/// What is read back, and how.
pub struct Pass<'a> {
    /// Files and directories; none: everything.
    pub scopes: &'a Scopes,
    /// So large a part of them.
    pub share: Share,
    /// And no more bytes than this; `None`: no limit.
    pub budget: Option<u64>,
    /// dStor.
    pub client: &'a Client,
    /// The gate before it.
    pub gate: &'a Gate,
    /// Files at the same time.
    pub workers: usize,
}

/// What became of a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Asked {
    /// dStor gave this.
    Answered(Found, Proof),
    /// It gave no answer; why.
    NotAnswered(String),
}

/// Told of each file, and how many bytes of it came.
pub type Told<'a> = &'a mut dyn FnMut(&Readable, &Asked, u64);

/// How a pass went.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Summary {
    /// Files whose bytes came.
    pub proved: u64,
    /// Files that dStor does not have.
    pub missing: u64,
    /// Files for which other bytes came.
    pub different: u64,
    /// Files for which no answer came.
    pub unanswered: u64,
    /// Files passed over because each is larger than the whole budget.
    pub too_large: u64,
    /// Bytes that came.
    pub bytes: u64,
    /// Why it ended before every file had an answer.
    pub ended_by: Option<EndedBy>,
}

/// What ended a pass early.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum EndedBy {
    /// dStor does not answer, or not well; the last error.
    Unreachable(String),
    /// It was asked to stop.
    Stopped,
}

impl Pass<'_> {
    /// How many files it would read at the most, were there no budget.
    ///
    /// # Errors
    /// The ledger's.
    pub fn files(&self, ledger: &Ledger) -> Result<u64, LedgerError> {
        Ok(self.share.of(ledger.count_readable(self.scopes, Millis::MAX)?))
    }

    /// Reads and compares, and records what came in `ledger`, a connection of its own.
    ///
    /// # Errors
    /// The ledger's; what was recorded before stays.
    pub async fn run(
        &self,
        ledger: &Ledger,
        told: Told<'_>,
        mut stop: watch::Receiver<Stop>,
    ) -> Result<Summary, LedgerError> {
        let mut source = tokio::task::block_in_place(|| Source::open(self, ledger, Clock.now()))?;
        let mut record = Record { ledger, fresh: Vec::new(), written: Instant::now() };
        let (give_up, given_up) = watch::channel(None);
        let mut under_way = FuturesUnordered::new();
        let mut summary = Summary::default();
        loop {
            while under_way.len() < self.workers.max(1) {
                let Some((file, tries)) = tokio::task::block_in_place(|| source.next())? else { break };
                under_way.push(self.ask(file, tries, &give_up, given_up.clone()));
            }
            let ended = tokio::select! {
                biased;
                () = Stop::wait(&mut stop) => {
                    summary.ended_by = Some(EndedBy::Stopped);
                    break;
                }
                ended = under_way.next() => ended,
            };
            let Some(Ended { file, tries, asked, bytes }) = ended else { break };
            summary.bytes += bytes;
            match &asked {
                // Behind the others: what only this file meets must not look like trouble of all.
                Asked::NotAnswered(_) if tries < TRIES && given_up.borrow().is_none() => {
                    source.later.push_back((file, tries));
                    continue;
                }
                Asked::NotAnswered(_) => summary.unanswered += 1,
                Asked::Answered(found, proof) => {
                    match found {
                        Found::Same => summary.proved += 1,
                        Found::Missing => summary.missing += 1,
                        Found::Different => summary.different += 1,
                    }
                    record.fresh.push((file.clone(), Reading { found: *found, at: Clock.now() }, *proof));
                }
            }
            told(&file, &asked, bytes);
            tokio::task::block_in_place(|| record.write_if_due())?;
        }
        tokio::task::block_in_place(|| record.write())?;
        summary.too_large = source.too_large;
        if summary.ended_by.is_none() {
            summary.ended_by = given_up.borrow().clone().map(EndedBy::Unreachable);
        }
        Ok(summary)
    }

    /// Asks for one file, once.
    async fn ask(
        &self,
        file: Readable,
        tries: u32,
        give_up: &watch::Sender<Option<String>>,
        mut given_up: watch::Receiver<Option<String>>,
    ) -> Ended {
        let mut bytes = 0;
        let pass = tokio::select! {
            biased;
            why = given_up.wait_for(Option::is_some) => {
                let why = why.ok().and_then(|why| why.clone()).unwrap_or_default();
                return Ended { file, tries, asked: Asked::NotAnswered(why), bytes };
            }
            pass = self.gate.pass() => pass,
        };
        let asked = match read_back(self.client, &file, |more| bytes += more).await {
            Ok((found, proof)) => {
                pass.succeed();
                Asked::Answered(found, proof)
            }
            Err(fault) => {
                pass.fail(&fault);
                let failures = self.gate.facts().borrow().failures;
                if failures >= UNREACHABLE_AFTER || self.gate.closed_for() > LONGEST_WAIT {
                    give_up.send_replace(Some(fault.message()));
                }
                Asked::NotAnswered(fault.message())
            }
        };
        Ended { file, tries: tries + 1, asked, bytes }
    }
}

/// What became of one try.
struct Ended {
    file: Readable,
    tries: u32,
    asked: Asked,
    bytes: u64,
}

/// Where files to read come from: those that are due, and then those that got no answer, with how often they were tried.
struct Source<'a> {
    pass: &'a Pass<'a>,
    ledger: &'a Ledger,
    begun: Millis,
    choice: Choice,
    listed: VecDeque<Readable>,
    mark: Option<Mark>,
    is_listed: bool,
    too_large: u64,
    later: VecDeque<(Readable, u32)>,
}

impl<'a> Source<'a> {
    fn open(pass: &'a Pass<'a>, ledger: &'a Ledger, begun: Millis) -> Result<Self, LedgerError> {
        ledger.at_once(|ledger| ledger.bring_readings_back(begun))?;
        let choice = Choice::new(pass.files(ledger)?, pass.budget);
        let (listed, later) = (VecDeque::new(), VecDeque::new());
        Ok(Self { pass, ledger, begun, choice, listed, mark: None, is_listed: false, too_large: 0, later })
    }

    fn next(&mut self) -> Result<Option<(Readable, u32)>, LedgerError> {
        while !self.is_listed {
            let Some(file) = self.listed.pop_front() else {
                let more = self.ledger.readable(self.pass.scopes, self.begun, self.mark.as_ref(), BATCH)?;
                self.is_listed = more.is_empty();
                self.mark = more.last().map(Readable::mark);
                self.listed = more.into();
                continue;
            };
            match self.choice.next(file.size) {
                Chosen::Read => return Ok(Some((file, 0))),
                Chosen::TooLarge => self.too_large += 1,
                Chosen::Enough => self.is_listed = true,
            }
        }
        Ok(self.later.pop_front())
    }
}

/// What came and is not on record yet.
struct Record<'a> {
    ledger: &'a Ledger,
    fresh: Vec<(Readable, Reading, Proof)>,
    written: Instant,
}

impl Record<'_> {
    fn write_if_due(&mut self) -> Result<(), LedgerError> {
        if self.fresh.len() >= WRITE_AT.0 || self.written.elapsed() >= WRITE_AT.1 { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> Result<(), LedgerError> {
        if !self.fresh.is_empty() {
            let fresh = self.fresh.iter().map(|(file, reading, proof)| (file, *reading, *proof));
            self.ledger.at_once(|ledger| ledger.record_readings(fresh))?;
            self.fresh.clear();
        }
        self.written = Instant::now();
        Ok(())
    }
}
