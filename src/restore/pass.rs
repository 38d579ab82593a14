//! Many files, several at a time.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::landing::{Fetched, NO_KEY, Trouble, Whole, fetch, glance, look, place};
use super::{Compared, Dest, Fate, Wanted};
use crate::dstor::Client;
use crate::mirror::MirrorPath;
use crate::seal::Identities;
use crate::upload::{Gate, Stop};

/// A file that got no answer this often is left.
const TRIES: u32 = 3;
/// The gate closing this often in a row means that dStor is not there for this pass.
const UNREACHABLE_AFTER: u32 = 3;
/// A server that asks for a longer wait than this is not waited for.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Files that are looked for on the disk together: each alone would be handed to a thread and back.
const GLANCED_AT: usize = 64;
/// Of files that lie on the disk already, so many: each is open until it has its name, and some systems give a program 256.
const OPEN_TOGETHER: usize = 64;
/// So many files, or bytes, get their names together, or what there is after so long: having the disk hold them costs as much
/// for one as for all, and a large file on its way must not keep the small ones from it.
const TOGETHER: (usize, u64, Duration) = (128, 64 << 20, Duration::from_millis(500));

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
    /// What opens those that are encrypted; `None`: they stay closed.
    pub identities: Option<Arc<Identities>>,
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
    fetched: Result<Fetched, Trouble>,
    bytes: u64,
}

/// Files that are whole and have no names yet.
#[derive(Default)]
struct Nameless {
    files: Vec<Whole>,
    bytes: u64,
    open: usize,
    /// When the first of them came.
    since: Option<Instant>,
}

impl Nameless {
    fn add(&mut self, whole: Whole) {
        self.bytes += whole.bytes;
        self.open += usize::from(whole.is_open());
        self.files.push(whole);
        self.since.get_or_insert_with(Instant::now);
    }

    fn due_at(&self) -> Instant {
        self.since.unwrap_or_else(Instant::now) + TOGETHER.2
    }

    fn is_enough(&self) -> bool {
        self.files.len() >= TOGETHER.0 || self.bytes >= TOGETHER.1 || self.open >= OPEN_TOGETHER
    }

    /// Whether they get them now; `is_all`: no more will come.
    fn is_due(&self, is_all: bool) -> bool {
        !self.files.is_empty() && (is_all || self.is_enough() || self.due_at() <= Instant::now())
    }

    fn take(&mut self) -> Vec<Whole> {
        std::mem::take(self).files
    }
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
        // At most one job looks ahead, and one gives names; both go on beside what is under way.
        let (mut glancing, mut placing) = (FuturesUnordered::new(), FuturesUnordered::new());
        let mut under_way = FuturesUnordered::new();
        let mut ready: VecDeque<(Arc<Wanted>, Option<Compared>)> = VecDeque::new();
        let mut later: VecDeque<(Arc<Wanted>, u32)> = VecDeque::new();
        let (mut summary, mut come, mut is_listed) = (Summary::default(), Vec::new(), false);
        let mut nameless = Nameless::default();
        loop {
            if placing.is_empty() && nameless.is_due(false) {
                placing.push(place(&self.dest, nameless.take()));
            }
            let is_looked_at = is_listed && glancing.is_empty();
            // What is whole must not become more without bound where the disk is slower than the network.
            while !nameless.is_enough() && under_way.len() < self.at_a_time {
                // Those that got no answer come behind the others: what only one meets must not look like trouble of all.
                let (wanted, tries, seen) = match ready.pop_front() {
                    Some((wanted, seen)) => (wanted, 0, seen),
                    None if !is_looked_at => break,
                    None => match later.pop_front() {
                        Some((wanted, tries)) => (wanted, tries, None),
                        None => break,
                    },
                };
                under_way.push(self.bring(wanted, tries, seen, &give_up, given_up.clone()));
            }
            let is_all = is_looked_at && ready.is_empty() && under_way.is_empty();
            if placing.is_empty() && nameless.is_due(is_all) {
                placing.push(place(&self.dest, nameless.take()));
            }
            if summary.ended_by.is_some() || (is_all && placing.is_empty()) {
                break;
            }
            tokio::select! {
                biased;
                () = Stop::wait(&mut stop) => {
                    summary.ended_by = Some(EndedBy::Stopped);
                    break;
                }
                Some(placed) = placing.next() => self.all_ended(placed, told, &mut summary),
                Some(Ended { wanted, tries, fetched, bytes }) = under_way.next() => {
                    summary.bytes += bytes;
                    match fetched {
                        Ok(Fetched::Whole(whole)) => nameless.add(whole),
                        Ok(Fetched::Ended(fate)) => self.ended(&wanted, Ok(fate), told, &mut summary),
                        Err(Trouble::Fault(_)) if tries < TRIES && given_up.borrow().is_none() => {
                            later.push_back((wanted, tries));
                        }
                        Err(trouble) => self.ended(&wanted, Err(trouble), told, &mut summary),
                    }
                }
                Some(seen) = glancing.next() => ready.extend(seen),
                count = items.recv_many(&mut come, GLANCED_AT),
                        if !is_listed && glancing.is_empty() && ready.len() < self.at_a_time => {
                    is_listed = count == 0;
                    let wanted = come.drain(..).filter_map(|item| match item {
                        Item::Wanted(wanted) => Some(Arc::new(wanted)),
                        other => {
                            told(&other, None);
                            None
                        }
                    });
                    let wanted: Vec<_> = wanted.collect();
                    if !wanted.is_empty() {
                        glancing.push(glance(&self.dest, wanted));
                    }
                }
                () = tokio::time::sleep_until(nameless.due_at()), if placing.is_empty() && !nameless.files.is_empty() => {}
            }
        }
        // What is whole when it is stopped, or when there is no more room, is not thrown away.
        while let Some(placed) = placing.next().await {
            self.all_ended(placed, told, &mut summary);
        }
        self.all_ended(place(&self.dest, nameless.take()).await, told, &mut summary);
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

    fn all_ended(
        &self,
        files: Vec<(Arc<Wanted>, Result<Fate, Trouble>)>,
        told: &mut dyn FnMut(&Item, Option<&Fate>),
        summary: &mut Summary,
    ) {
        for (wanted, fate) in files {
            self.ended(&wanted, fate, told, summary);
        }
    }

    /// Tells what became of a file, for good.
    fn ended(
        &self,
        wanted: &Wanted,
        fate: Result<Fate, Trouble>,
        told: &mut dyn FnMut(&Item, Option<&Fate>),
        summary: &mut Summary,
    ) {
        let fate = match fate {
            Ok(fate) => fate,
            Err(Trouble::Full(error)) => {
                summary.ended_by.get_or_insert(EndedBy::Full(error.to_string()));
                return;
            }
            Err(Trouble::Io(error)) => Fate::Failed(error.to_string()),
            Err(Trouble::Fault(fault)) => Fate::NotAnswered(fault.message()),
        };
        told(&Item::Wanted(wanted.clone()), Some(&fate));
    }

    /// Brings one file, or tries to; `seen`: what is done about it, if that is known.
    async fn bring(
        &self,
        wanted: Arc<Wanted>,
        tries: u32,
        seen: Option<Compared>,
        give_up: &watch::Sender<Option<String>>,
        mut given_up: watch::Receiver<Option<String>>,
    ) -> Ended {
        let mut bytes = 0;
        let ended = |wanted, tries, fetched, bytes| Ended { wanted, tries, fetched, bytes };
        let compared = match seen {
            Some(compared) => Ok(compared),
            None => look(&self.dest, &wanted).await,
        };
        let fate = match compared {
            Ok(Compared::Fetch) if wanted.sealed.is_some() && self.identities.is_none() => Some(Fate::Locked(NO_KEY)),
            Ok(Compared::Fetch) if self.is_trial => Some(Fate::Due),
            Ok(Compared::Fetch) => None,
            Ok(Compared::There) => Some(Fate::There),
            Ok(Compared::Keep(why)) => Some(Fate::Kept(why)),
            Err(trouble) => return ended(wanted, tries, Err(trouble), bytes),
        };
        if let Some(fate) = fate {
            return ended(wanted, tries, Ok(Fetched::Ended(fate)), bytes);
        }
        let pass = tokio::select! {
            biased;
            why = given_up.wait_for(Option::is_some) => {
                let why = why.ok().and_then(|why| why.clone()).unwrap_or_default();
                return ended(wanted, tries, Ok(Fetched::Ended(Fate::NotAnswered(why))), bytes);
            }
            pass = self.gate.pass() => pass,
        };
        let fetched = fetch(self.client, &self.dest, &wanted, self.identities.as_ref(), |more| bytes += more).await;
        match &fetched {
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
        ended(wanted, tries + 1, fetched, bytes)
    }
}
