//! How often a dStor that only fails is asked: the rules for gate, token and exchange together, over simulated time.

use dstor_sync::dstor::{Answer, Granted, Lease, Leased, Order, Standing, Want, Wish, exchange};
use dstor_sync::mirror::{Enter, Left, Pace, Ticket};

use super::*;

/// How dStor answers, and how long it takes.
#[derive(Clone, Copy)]
struct Server {
    /// The status of answers to requests for a token; 0: the connection breaks.
    token: u16,
    /// The same for uploads.
    upload: u16,
    takes: Duration,
}

/// What a worker is at, and until when.
enum Doing {
    WaitingForToken(Ticket, exchange::WantsToken, Wish),
    Fetching(Ticket, exchange::WantsToken, Order<u8>, Duration),
    Sending(Ticket, exchange::Sends<()>, Duration),
}

/// Workers that never rest, and their requests.
struct Run {
    server: Server,
    pace: Pace,
    lease: Lease<(), u8>,
    workers: Vec<Option<Doing>>,
    now: Duration,
    /// When each request for a token and each upload began.
    tokens: Vec<Duration>,
    uploads: Vec<Duration>,
}

impl Run {
    fn new(workers: usize, server: Server) -> Self {
        Self {
            server,
            pace: Pace::new(workers),
            lease: Lease::default(),
            workers: (0..workers).map(|_| None).collect(),
            now: Duration::ZERO,
            tokens: Vec::new(),
            uploads: Vec::new(),
        }
    }

    /// Runs until `end`.
    fn until(&mut self, end: Duration) {
        while self.now < end {
            let mut next = end;
            // Each as far as it gets without time passing; once more for those whom another one's end lets go on.
            for _ in 0..2 * self.workers.len() {
                for at in 0..self.workers.len() {
                    next = next.min(self.step(at));
                }
            }
            self.now = next.max(self.now + Duration::from_millis(1));
        }
    }

    /// One step of a worker; returns when there is something to do next.
    fn step(&mut self, at: usize) -> Duration {
        let never = Duration::MAX;
        match self.workers[at].take() {
            None => match self.pace.enter(self.now) {
                Enter::Go(ticket) => self.want(at, ticket, exchange::begin(), None),
                Enter::At(until) => until,
                Enter::WhenChanged => never,
            },
            Some(Doing::WaitingForToken(ticket, wants, wish)) => self.want(at, ticket, wants, Some(wish)),
            Some(Doing::Fetching(ticket, wants, order, ends)) if self.now >= ends => {
                let granted = match self.server.token {
                    0 => Err(broken()),
                    status => answer(status).of_token_request("API key", 0),
                };
                let granted = granted.map(|_| Granted { token: (), lifetime: None });
                match self.lease.fetched(order, granted, self.now) {
                    Ok(leased) => self.send(at, ticket, wants, leased),
                    Err(fault) => self.leave(ticket, Left::Failed(&fault)),
                }
            }
            Some(Doing::Sending(ticket, sends, ends)) if self.now >= ends => {
                let next = match self.server.upload {
                    0 => exchange::Next::Ended(Err(broken())),
                    status => sends.answered(answer(status).of_upload(0)),
                };
                match next {
                    exchange::Next::Again(wants) => self.want(at, ticket, wants, None),
                    exchange::Next::Refused(number) => {
                        let fault = self.lease.refused_again(number, self.now);
                        self.leave(ticket, Left::Failed(&fault))
                    }
                    exchange::Next::Ended(Ok(_)) => self.leave(ticket, Left::Answered),
                    exchange::Next::Ended(Err(fault)) => self.leave(ticket, Left::Failed(&fault)),
                }
            }
            Some(doing @ (Doing::Fetching(.., ends) | Doing::Sending(.., ends))) => {
                self.workers[at] = Some(doing);
                ends
            }
        }
    }

    fn want(&mut self, at: usize, ticket: Ticket, wants: exchange::WantsToken, wish: Option<Wish>) -> Duration {
        let wish = wish.unwrap_or_else(|| self.lease.wish(wants.refused()));
        match self.lease.want(&wish, || Ok(Some(1)), self.now) {
            Want::Use(leased) => self.send(at, ticket, wants, leased),
            Want::Fetch(order) => {
                self.tokens.push(self.now);
                let ends = self.now + self.server.takes;
                self.workers[at] = Some(Doing::Fetching(ticket, wants, order, ends));
                ends
            }
            Want::Wait => {
                self.workers[at] = Some(Doing::WaitingForToken(ticket, wants, wish));
                Duration::MAX
            }
            Want::No(fault) => self.leave(ticket, Left::Failed(&fault)),
        }
    }

    fn send(&mut self, at: usize, ticket: Ticket, wants: exchange::WantsToken, leased: Leased<()>) -> Duration {
        self.uploads.push(self.now);
        let ends = self.now + self.server.takes;
        self.workers[at] = Some(Doing::Sending(ticket, wants.got(leased), ends));
        ends
    }

    fn leave(&mut self, ticket: Ticket, how: Left<'_>) -> Duration {
        // The least of chances makes the shortest waits.
        self.pace.leave(ticket, how, self.now, 0.0);
        self.now
    }
}

/// An answer with a token, but no hash.
fn answer(status: u16) -> Answer<'static> {
    Answer { status, retry_after: None, date: None, body: br#"{"access_token":"t"}"# }
}

fn broken() -> Fault {
    Fault::Unreachable("the connection broke".into())
}

/// The most moments in any stretch of this length.
fn most_within(moments: &[Duration], stretch: Duration) -> usize {
    let in_stretch = |from: Duration| moments.iter().filter(|at| (from..from + stretch).contains(*at)).count();
    moments.iter().map(|from| in_stretch(*from)).max().unwrap_or(0)
}

const MINUTE: Duration = Duration::from_secs(60);

// P5, E16
#[expect(clippy::print_stdout, reason = "the figure is what the test is for")]
#[test]
fn a_dstor_that_only_fails_is_asked_at_most_twelve_times_a_minute() {
    // Those that concern one file are not among them: such a file is given up, and not asked for again.
    let upload_fails = [0, 200, 307, 401, 402, 403, 404, 429, 500, 502, 503, 507, 999];
    let token_fails = [0, 307, 400, 401, 403, 404, 413, 429, 500, 503, 999];
    let servers = upload_fails.map(|status| (200, status)).into_iter().chain(token_fails.map(|status| (status, 200)));
    let (mut tries, mut most) = (0, 0);
    for (token, upload) in servers {
        for workers in [1, 4, 16] {
            for takes in [1, 300, 20_000] {
                let mut run = Run::new(workers, Server { token, upload, takes: Duration::from_millis(takes) });
                run.until(10 * MINUTE);
                let mut all = [run.tokens, run.uploads].concat();
                all.sort_unstable();
                let in_a_minute = most_within(&all, MINUTE);
                let what = format!("{workers} workers, token {token}, upload {upload}, {takes} ms");
                assert!((1..=12).contains(&in_a_minute), "{in_a_minute} requests in a minute: {what}");
                most = most.max(in_a_minute);
                tries += 1;
            }
        }
    }
    println!("requests in any minute to a dStor that only fails: at most {most}, in {tries} runs of 10 minutes");
}

// E13
#[expect(clippy::print_stdout, reason = "the figure is what the test is for")]
#[test]
fn a_key_that_is_refused_is_sent_once_in_fifteen_minutes() {
    for workers in [1, 4, 16] {
        for token in [401, 403] {
            let mut run = Run::new(workers, Server { token, upload: 500, takes: Duration::from_millis(100) });
            run.until(24 * 60 * MINUTE);
            assert!((94..=96).contains(&run.tokens.len()), "{} in a day", run.tokens.len());
            assert_eq!(most_within(&run.tokens, 15 * MINUTE), 1);
            assert_eq!((run.uploads.len(), run.lease.standing()), (0, Standing::Refused));
        }
    }
    println!("requests with a refused key in any 15 minutes of a day: 1, in 6 runs");
}
