//! Many files, several at a time.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, watch};

use super::landing::{Trouble, fetch, look};
use super::{Compared, Dest, Fate, Wanted};
use crate::dstor::Client;
use crate::mirror::MirrorPath;
use crate::upload::{Gate, Stop};

/// A file that got no answer this often is left.
const TRIES: u32 = 3;
/// The gate closing this often in a row means that dStor is not there for this pass.
const UNREACHABLE_AFTER: u32 = 3;
/// A server that asks for a longer wait than this is not waited for.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// What there is to bring, and what there is not.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Item {
    /// A file.
    Wanted(Wanted),
    /// A path of which dStor holds nothing yet, or never did.
    NotStored(MirrorPath),
    /// The same, on purpose: it is left out, or no file.
    Skipped(MirrorPath),
    /// A record that makes no sense; its path, or what there is of one.
    Nonsense(Vec<u8>),
}

/// How files are brought.
pub struct Pass<'a> {
    /// Where they go.
    pub dest: Arc<Dest>,
    /// dStor.
    pub client: &'a Client,
    /// The gate before it.
    pub gate: &'a Gate,
    /// Files at the same time.
    pub at_a_time: usize,
    /// Whether it only tells what it would bring.
    pub is_trial: bool,
}

/// Told of each item, and what became of it; of what is not brought, nothing became.
pub type Told<'a> = &'a mut dyn FnMut(&Item, Option<&Fate>);

/// How a pass went.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Summary {
    /// Bytes that came, also those that were not right.
    pub bytes: u64,
    /// Why it ended before everything was brought.
    pub ended_by: Option<EndedBy>,
}

/// What ended a pass early.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum EndedBy {
    /// dStor does not answer, or not well; the last error.
    Unreachable(String),
    /// Nothing can be written any more; why.
    Full(String),
    /// It was asked to stop.
    Stopped,
}

/// What became of one try.
struct Ended {
    wanted: Arc<Wanted>,
    tries: u32,
    fate: Result<Fate, Trouble>,
    bytes: u64,
}

impl Pass<'_> {
    /// Brings what comes through `items` until there is no more.
    pub async fn run(
        &self,
        mut items: mpsc::Receiver<Item>,
        told: Told<'_>,
        mut stop: watch::Receiver<Stop>,
    ) -> Summary {
        let (give_up, given_up) = watch::channel(None);
        let mut under_way = FuturesUnordered::new();
        let mut later: VecDeque<(Arc<Wanted>, u32)> = VecDeque::new();
        let (mut summary, mut is_listed) = (Summary::default(), false);
        loop {
            // Those that got no answer come behind the others: what only one meets must not look like trouble of all.
            while is_listed && under_way.len() < self.at_a_time {
                let Some((wanted, tries)) = later.pop_front() else { break };
                under_way.push(self.bring(wanted, tries, &give_up, given_up.clone()));
            }
            if is_listed && under_way.is_empty() {
                break;
            }
            let ended = tokio::select! {
                biased;
                () = Stop::wait(&mut stop) => {
                    summary.ended_by = Some(EndedBy::Stopped);
                    break;
                }
                Some(ended) = under_way.next() => ended,
                item = items.recv(), if !is_listed && under_way.len() < self.at_a_time => {
                    match item {
                        None => is_listed = true,
                        Some(Item::Wanted(wanted)) => {
                            under_way.push(self.bring(Arc::new(wanted), 0, &give_up, given_up.clone()));
                        }
                        Some(other) => told(&other, None),
                    }
                    continue;
                }
            };
            let Ended { wanted, tries, fate, bytes } = ended;
            summary.bytes += bytes;
            let fate = match fate {
                Ok(fate) => fate,
                Err(Trouble::Full(error)) => {
                    summary.ended_by = Some(EndedBy::Full(error.to_string()));
                    break;
                }
                Err(Trouble::Io(error)) => Fate::Failed(error.to_string()),
                Err(Trouble::Fault(_)) if tries < TRIES && given_up.borrow().is_none() => {
                    later.push_back((wanted, tries));
                    continue;
                }
                Err(Trouble::Fault(fault)) => Fate::NotAnswered(fault.message()),
            };
            told(&Item::Wanted((*wanted).clone()), Some(&fate));
        }
        drop(under_way);
        let dest = Arc::clone(&self.dest);
        if !self.is_trial
            && let Ok(Err(error)) = tokio::task::spawn_blocking(move || dest.sync()).await
        {
            summary.ended_by = Some(EndedBy::Full(error.to_string()));
        }
        if summary.ended_by.is_none() {
            summary.ended_by = given_up.borrow().clone().map(EndedBy::Unreachable);
        }
        summary
    }

    /// Brings one file, or tries to.
    async fn bring(
        &self,
        wanted: Arc<Wanted>,
        tries: u32,
        give_up: &watch::Sender<Option<String>>,
        mut given_up: watch::Receiver<Option<String>>,
    ) -> Ended {
        let mut bytes = 0;
        let ended = |wanted, tries, fate, bytes| Ended { wanted, tries, fate, bytes };
        match look(&self.dest, &wanted).await {
            Ok(Compared::Fetch) if self.is_trial => return ended(wanted, tries, Ok(Fate::Due), bytes),
            Ok(Compared::Fetch) => {}
            Ok(Compared::There) => return ended(wanted, tries, Ok(Fate::There), bytes),
            Ok(Compared::Keep(why)) => return ended(wanted, tries, Ok(Fate::Kept(why)), bytes),
            Err(trouble) => return ended(wanted, tries, Err(trouble), bytes),
        }
        let pass = tokio::select! {
            biased;
            why = given_up.wait_for(Option::is_some) => {
                let why = why.ok().and_then(|why| why.clone()).unwrap_or_default();
                return ended(wanted, tries, Ok(Fate::NotAnswered(why)), bytes);
            }
            pass = self.gate.pass() => pass,
        };
        let fate = fetch(self.client, &self.dest, &wanted, |more| bytes += more).await;
        match &fate {
            Err(Trouble::Fault(fault)) => {
                pass.fail(fault);
                let failures = self.gate.facts().borrow().failures;
                if failures >= UNREACHABLE_AFTER || self.gate.closed_for() > LONGEST_WAIT {
                    give_up.send_replace(Some(fault.message()));
                }
            }
            // dStor gave an answer, whatever this machine made of it.
            Ok(_) | Err(Trouble::Io(_) | Trouble::Full(_)) => pass.succeed(),
        }
        ended(wanted, tries + 1, fate, bytes)
    }
}
