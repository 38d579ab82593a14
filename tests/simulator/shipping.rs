//! Files on their way, a step at a time: the shell that client, worker and porter are to the rules of requests, sessions and
//! packs.

use std::time::Duration;

use dstor_sync::dstor::exchange::{self, Next as Answered, Sends, WantsToken};
use dstor_sync::dstor::session::{self, Asked, Fills, Opens, Waits};
use dstor_sync::dstor::wire::{Listing, Progress};
use dstor_sync::dstor::{Order, Outcome, SessionFailure, Stage as Where, Standing, Want, Wish};
use dstor_sync::local::{Content, ReadError};
use dstor_sync::mirror::{Cid, Fault, Left, Placement, Timestamp, Way};
use dstor_sync::upload::{Alone, Ending, Failure, Fared, Heap, ToSend};

use crate::reach::Rare;
use crate::remote::{Said, read};
use crate::run::Run;
use crate::sending::{FIRST_WAIT, STALL, Sort};
use crate::worker::{Load, Stage, Task, Work};

/// Files that are on their way.
pub(crate) struct Shipment {
    pub(crate) cargo: Cargo,
    pub(crate) request: Request,
    read_from: Timestamp,
    /// What was read of a lone file.
    pub(crate) read: Option<Result<Content, ReadError>>,
    /// Whether the request that is under way is given up because nothing moves.
    pub(crate) has_stalled: bool,
}

pub(crate) enum Cargo {
    /// One; of a pack, if there is a heap.
    Lone { at: usize, file: ToSend, heap: Option<Heap> },
    /// Several.
    Heap(Heap),
}

/// The request that is under way, and the session that it belongs to.
pub(crate) enum Request {
    Direct,
    Open(Opens),
    Chunk(u64, Fills),
    Status(u64, Waits),
}

/// Where a request is.
pub(crate) enum Asks {
    /// A session is asked about in a while.
    Pausing,
    Wants {
        wants: WantsToken,
        wish: Wish,
    },
    Fetching {
        wants: WantsToken,
        order: Order<u64>,
    },
    Sending {
        sends: Sends<u64>,
        first: Option<Vec<u8>>,
    },
    Answering {
        sends: Sends<u64>,
        said: Said,
    },
}

/// What a request brought.
enum Got {
    Hash(Cid),
    Session(u64),
    Taken,
    Progress(Progress),
}

impl Shipment {
    pub(crate) fn sort(&self) -> Sort {
        match self.request {
            Request::Direct => Sort::Direct,
            Request::Open(_) => Sort::Open,
            Request::Chunk(..) => Sort::Chunk,
            Request::Status(..) => Sort::Status,
        }
    }

    pub(crate) fn placement(&self) -> &Placement {
        match &self.cargo {
            Cargo::Lone { file, .. } => &file.placement,
            Cargo::Heap(heap) => &heap.parcels()[0].file().placement,
        }
    }
}

impl Run {
    pub(crate) fn names(&self, work: &Work, shipment: &Shipment) -> String {
        match &shipment.cargo {
            Cargo::Lone { at, .. } => work.claim(*at).path.to_string(),
            Cargo::Heap(heap) => {
                let names: Vec<String> =
                    heap.parcels().iter().map(|parcel| work.claim(parcel.at()).path.to_string()).collect();
                names.join("+")
            }
        }
    }

    /// Sends files by the way that they go.
    pub(crate) fn ship(&self, worker: usize, work: Work, cargo: Cargo) {
        let way = match &cargo {
            Cargo::Lone { file, .. } => self.ways.borrow().alone(file.stat.size, &file.placement, self.now.get()),
            Cargo::Heap(_) => Way::Session,
        };
        let request = match way {
            Way::Direct => Request::Direct,
            Way::Session => Request::Open(session::begin(STALL)),
        };
        let shipment = Shipment { cargo, request, read_from: self.wall(), read: None, has_stalled: false };
        self.ask(worker, work, Box::new(shipment));
    }

    /// Begins the request of a shipment.
    fn ask(&self, worker: usize, work: Work, shipment: Box<Shipment>) {
        let wish = self.lease.borrow().wish(None);
        self.want(worker, work, shipment, exchange::begin(), wish);
    }

    fn want(&self, worker: usize, work: Work, shipment: Box<Shipment>, wants: WantsToken, wish: Wish) {
        let had = self.lease.borrow().standing() == Standing::Accepted;
        let key = self.key_file.get();
        let want = self.lease.borrow_mut().want(&wish, || Ok(Some(key)), self.now.get());
        match want {
            Want::Use(leased) => self.send(worker, work, shipment, wants.got(leased)),
            Want::Fetch(order) => {
                if had && wants.refused().is_none() {
                    self.meet(Rare::TokenRenewed);
                }
                let stage = Stage::Asking(shipment, Asks::Fetching { wants, order });
                self.put(worker, Task { work, stage }, self.latency());
            }
            Want::Wait => {
                self.meet(Rare::TokenWaitedFor);
                let stage = Stage::Asking(shipment, Asks::Wants { wants, wish });
                self.workers.borrow_mut()[worker].task = Some(Task { work, stage });
                self.wait_for_token(worker);
            }
            Want::No(fault) => self.request_ended(worker, work, shipment, Err(fault)),
        }
    }

    fn send(&self, worker: usize, work: Work, shipment: Box<Shipment>, sends: Sends<u64>) {
        let first = match (&shipment.cargo, shipment.sort()) {
            (Cargo::Lone { at, file, .. }, Sort::Direct | Sort::Chunk) => {
                self.read_begin(work.tree, &work.claim(*at).path, &file.stat)
            }
            _ => None,
        };
        let stage = Stage::Asking(shipment, Asks::Sending { sends, first });
        self.put(worker, Task { work, stage }, self.latency());
    }

    /// A step of a request.
    pub(crate) fn go_on_asking(&self, worker: usize, work: Work, mut shipment: Box<Shipment>, asks: Asks) {
        match asks {
            Asks::Pausing => self.ask(worker, work, shipment),
            Asks::Wants { wants, wish } => self.want(worker, work, shipment, wants, wish),
            Asks::Fetching { wants, order } => {
                let granted = self.fetch(order.credentials);
                let leased = self.lease.borrow_mut().fetched(order, granted, self.now.get());
                self.wake_those_who_wait_for_a_token();
                match leased {
                    Ok(leased) => self.send(worker, work, shipment, wants.got(leased)),
                    Err(fault) => {
                        self.meet(Rare::TokenFetchFailed);
                        self.request_ended(worker, work, shipment, Err(fault));
                    }
                }
            }
            Asks::Sending { sends, first } => {
                let (said, wait) = self.arrive(&work, &mut shipment, *sends.token(), first);
                let stage = Stage::Asking(shipment, Asks::Answering { sends, said });
                self.put(worker, Task { work, stage }, wait);
            }
            Asks::Answering { sends, said } => {
                let Some(said) = said else {
                    let why = "the connection broke".to_owned();
                    let is_of_files = matches!(shipment.sort(), Sort::Direct | Sort::Chunk) && !shipment.has_stalled;
                    let broke = if is_of_files { Fault::BrokenOff(why) } else { Fault::Unreachable(why) };
                    return self.request_ended(worker, work, shipment, Err(broke));
                };
                let token = *sends.token();
                let answer = read(&said);
                let outcome = match shipment.sort() {
                    Sort::Direct => good(answer.of_upload(0), Got::Hash),
                    Sort::Open => good(answer.of_opening(0), |token| Got::Session(token.parse().expect("its own"))),
                    Sort::Chunk => good(answer.of_chunk(0), |()| Got::Taken),
                    Sort::Status => good(answer.of_progress(0), Got::Progress),
                };
                match sends.answered(outcome) {
                    Answered::Again(wants) => {
                        self.met_refusal(token);
                        match shipment.sort() {
                            Sort::Direct | Sort::Open => {}
                            Sort::Chunk => self.meet(Rare::ChunkUnauthorized),
                            Sort::Status => self.meet(Rare::StatusUnauthorized),
                        }
                        let wish = self.lease.borrow().wish(wants.refused());
                        self.want(worker, work, shipment, wants, wish);
                    }
                    Answered::Refused(number) => {
                        self.meet(Rare::TokenRefusedTwice);
                        if matches!(shipment.sort(), Sort::Chunk | Sort::Status) {
                            self.meet(Rare::SessionRefusedTwice);
                        }
                        let fault = self.lease.borrow_mut().refused_again(number, self.now.get());
                        self.request_ended(worker, work, shipment, Err(fault));
                    }
                    Answered::Ended(ended) => self.request_ended(worker, work, shipment, ended),
                }
            }
        }
    }

    /// A request has ended: what comes next is the session's or the file's business.
    fn request_ended(&self, worker: usize, mut work: Work, shipment: Box<Shipment>, ended: Result<Got, Fault>) {
        let now = self.now.get();
        let nonsense = || Fault::Protocol("an answer to another request".into());
        let Shipment { cargo, request, read_from, read, has_stalled: _ } = *shipment;
        let again = |cargo, request, read| Box::new(Shipment { cargo, request, read_from, read, has_stalled: false });
        match request {
            Request::Direct => {
                let answer = ended.and_then(|got| if let Got::Hash(hash) = got { Ok(hash) } else { Err(nonsense()) });
                let Cargo::Lone { file, .. } = &cargo else { unreachable!("several go in a session") };
                let alone = Alone::after_request(answer, || {
                    let goes_on = self.ways.borrow_mut().lacks_direct(&file.placement, now);
                    self.meet(if goes_on { Rare::OnlySessions } else { Rare::NoWayAtAll });
                    goes_on
                });
                self.alone_ended(worker, work, cargo, alone, read_from, read);
            }
            Request::Open(opens) => {
                let opened = ended.and_then(|got| if let Got::Session(it) = got { Ok(it) } else { Err(nonsense()) });
                match opens.answered(opened) {
                    Ok((token, fills)) => self.ask(worker, work, again(cargo, Request::Chunk(token, fills), read)),
                    Err(failure) => self.session_ended(worker, work, cargo, Err(failure), read_from, read),
                }
            }
            Request::Chunk(token, fills) => match fills.answered(ended.map(drop), now, FIRST_WAIT) {
                Ok(waits) => {
                    if let (Cargo::Heap(heap), Load::Many(many)) = (&cargo, &mut work.load) {
                        heap.parcels().iter().for_each(|parcel| drop(many.bytes.remove(&parcel.at())));
                        self.rest(&mut work);
                    }
                    let wait = waits.wait();
                    self.pause(worker, work, again(cargo, Request::Status(token, waits), read), wait);
                }
                Err(failure) => self.session_ended(worker, work, cargo, Err(failure), read_from, read),
            },
            Request::Status(token, waits) => {
                let progress = ended.and_then(|got| if let Got::Progress(it) = got { Ok(it) } else { Err(nonsense()) });
                match waits.answered(progress, now) {
                    Asked::Again(waits) => {
                        let wait = waits.wait();
                        self.pause(worker, work, again(cargo, Request::Status(token, waits), read), wait);
                    }
                    Asked::Ended(ended) => self.session_ended(worker, work, cargo, ended, read_from, read),
                }
            }
        }
    }

    fn pause(&self, worker: usize, work: Work, shipment: Box<Shipment>, wait: Duration) {
        self.put(worker, Task { work, stage: Stage::Asking(shipment, Asks::Pausing) }, wait);
    }

    fn session_ended(
        &self,
        worker: usize,
        mut work: Work,
        cargo: Cargo,
        ended: Result<Listing, SessionFailure>,
        read_from: Timestamp,
        read: Option<Result<Content, ReadError>>,
    ) {
        self.note_session_end(&cargo, &ended);
        let lacks_sessions = || {
            let goes_on = self.ways.borrow_mut().lacks_sessions(self.now.get());
            self.meet(if goes_on { Rare::NoSessions } else { Rare::NoWayAtAll });
            goes_on
        };
        match cargo {
            Cargo::Lone { ref file, .. } => {
                let alone = Alone::after_session(file, ended, lacks_sessions);
                self.alone_ended(worker, work, cargo, alone, read_from, read);
            }
            Cargo::Heap(heap) => {
                let Load::Many(many) = &mut work.load else { unreachable!("a heap is part of a pack") };
                let (at, word) = (self.wall_ms(), self.gate_word(None));
                let chance = || self.faults.borrow_mut().chance();
                let fared = many.pack.session_ended(heap, ended, at, lacks_sessions, word, chance);
                self.fared(worker, work, fared);
            }
        }
    }

    fn note_session_end(&self, cargo: &Cargo, ended: &Result<Listing, SessionFailure>) {
        let names: Vec<&str> = match cargo {
            Cargo::Lone { file, .. } => vec![&file.name],
            Cargo::Heap(heap) => heap.parcels().iter().map(|parcel| parcel.file().name.as_str()).collect(),
        };
        match ended {
            Ok(listing) => {
                let found = names.iter().filter(|name| listing.hash(name).is_some()).count();
                self.note_session(found > 0);
                self.meet(match (names.len(), found) {
                    (_, 0) => Rare::ListingEmpty,
                    (1, _) => Rare::SessionOfOne,
                    (all, found) if found < all => Rare::NameMissing,
                    _ => Rare::TravelledTogether,
                });
            }
            Err(failure) => {
                let is_nonsense = matches!(failure.fault, Fault::Protocol(_));
                if failure.stage == Where::Waiting && is_nonsense {
                    self.note_session(false);
                }
                if failure.is_about_the_files() && names.len() > 1 {
                    self.meet(Rare::SessionHalved);
                }
                match (failure.stage, &failure.fault) {
                    (Where::Opening, _) if !failure.is_for_lack_of_sessions() => self.meet(Rare::OpeningFailed),
                    (Where::Waiting, Fault::Protocol(why)) if why.contains("failed") => self.meet(Rare::SessionFailed),
                    (Where::Waiting, Fault::Protocol(why)) if why.contains("stays") => self.meet(Rare::SessionStuck),
                    (Where::Waiting, Fault::Protocol(why)) if why.contains("knows no") => {
                        self.meet(Rare::SessionForgotten);
                    }
                    (Where::Waiting, Fault::Unreachable(_)) => self.meet(Rare::SessionEndUnheard),
                    _ => {}
                }
            }
        }
    }

    fn alone_ended(
        &self,
        worker: usize,
        mut work: Work,
        cargo: Cargo,
        alone: Alone,
        read_from: Timestamp,
        read: Option<Result<Content, ReadError>>,
    ) {
        let Alone::Answered(answered) = alone else { return self.ship(worker, work, cargo) };
        let Cargo::Lone { at, file, heap } = cargo else { unreachable!("one goes alone") };
        let ended: Result<Ending, Failure> =
            answered.end(work.errand(self, at), &file, read, read_from, self.wall_ms());
        match (&mut work.load, heap) {
            (Load::Many(many), Some(heap)) => {
                let chance = || self.faults.borrow_mut().chance();
                let fared = many.pack.alone_ended(heap, ended, self.gate_word(None), chance);
                self.fared(worker, work, fared);
            }
            _ => self.end_sending(worker, work, ended),
        }
    }

    fn fared(&self, worker: usize, mut work: Work, fared: Fared) {
        let Fared::Stopped(stopped) = fared else { return self.carry_on(worker, work) };
        self.tell(|| format!("the pack stops: {:?}", stopped.fault()));
        let ticket = work.ticket.take();
        let closed_for = ticket.and_then(|ticket| self.leave(ticket, Left::Failed(stopped.fault())));
        let Load::Many(many) = &mut work.load else { unreachable!("only packs are stopped") };
        many.pack.stopped(stopped, self.gate_word(closed_for), || self.faults.borrow_mut().chance());
        self.finish_pack(worker, work);
    }
}

fn good<T>(outcome: Outcome<T>, got: impl FnOnce(T) -> Got) -> Outcome<Got> {
    match outcome {
        Outcome::Good(value) => Outcome::Good(got(value)),
        Outcome::Unauthorized => Outcome::Unauthorized,
        Outcome::Failed(fault) => Outcome::Failed(fault),
    }
}
