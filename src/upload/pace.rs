//! The gate that all uploads pass: the rules of [`Pace`] with a clock, chance and waiting.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::mirror::{Enter, Fault, GateFacts, Left, Pace, Ticket};

/// The gate. One for all workers: a server that asks one of them to wait means all of them.
#[derive(Debug)]
pub struct Gate {
    pace: Mutex<Pace>,
    /// Someone has left.
    changed: Notify,
    facts: watch::Sender<GateFacts>,
    /// What the pace's times count from.
    begun: Instant,
}

/// The right to make requests for one change. Dropped without a word, it says nothing about dStor.
#[derive(Debug)]
pub struct Pass<'a> {
    gate: &'a Gate,
    /// None once it was given back.
    ticket: Option<Ticket>,
}

impl Gate {
    /// An open gate for so many workers.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        Self {
            pace: Mutex::new(Pace::new(workers)),
            changed: Notify::new(),
            facts: watch::channel(GateFacts::default()).0,
            begun: Instant::now(),
        }
    }

    /// What is known of dStor, and word whenever it changes.
    pub fn facts(&self) -> watch::Receiver<GateFacts> {
        self.facts.subscribe()
    }

    /// How long it is closed from now on; zero while it is open or someone is trying.
    #[must_use]
    pub fn closed_for(&self) -> Duration {
        self.pace().closed_for(self.begun.elapsed())
    }

    /// Lets one go ahead now to see whether dStor is back.
    pub fn try_now(&self) {
        self.pace().try_now(self.begun.elapsed());
        self.changed.notify_waiters();
    }

    /// Waits until it is open, or until it is this caller's turn to see whether it can be. Cancel safe.
    pub async fn pass(&self) -> Pass<'_> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let enter = self.pace().enter(self.begun.elapsed());
            match enter {
                Enter::Go(ticket) => return Pass { gate: self, ticket: Some(ticket) },
                Enter::At(at) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(self.begun + at) => {}
                        () = changed => {}
                    }
                }
                Enter::WhenChanged => changed.await,
            }
        }
    }

    fn leave(&self, ticket: Ticket, how: Left<'_>) -> Option<Duration> {
        let wait = {
            let mut pace = self.pace();
            let wait = pace.leave(ticket, how, self.begun.elapsed(), fastrand::f64());
            // While nobody else can leave, so that what was known last is what is told last.
            self.tell(&pace);
            wait
        };
        self.changed.notify_waiters();
        wait
    }

    /// dStor gave a sign of life: see [`Pace::gave_sign`].
    pub(super) fn gave_sign(&self) {
        let mut pace = self.pace();
        pace.gave_sign();
        self.tell(&pace);
    }

    fn tell(&self, pace: &Pace) {
        let facts = pace.facts();
        self.facts.send_if_modified(|known| {
            let is_new = *known != facts;
            *known = facts;
            is_new
        });
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pass<'_> {
    /// Whether its holder sees, alone, whether dStor is back.
    #[must_use]
    pub fn is_probe(&self) -> bool {
        self.ticket.as_ref().is_some_and(Ticket::is_probe)
    }

    /// dStor took all that was to be sent, and is only asked how far it is: another one may go meanwhile. See
    /// [`Pace::rest`].
    pub fn rest(&mut self) {
        let Some(ticket) = &mut self.ticket else { return };
        {
            let mut pace = self.gate.pace();
            pace.rest(ticket);
            self.gate.tell(&pace);
        }
        self.gate.changed.notify_waiters();
    }

    /// There is more to send.
    pub fn rise(&mut self) {
        if let Some(ticket) = &mut self.ticket {
            self.gate.pace().rise(ticket);
        }
    }

    /// dStor answered as it should.
    pub fn succeed(mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.gate.leave(ticket, Left::Answered);
        }
    }

    /// A request failed with `fault`. Returns how long to wait from now on, if the fault concerns the whole account.
    pub fn fail(mut self, fault: &Fault) -> Option<Duration> {
        self.ticket.take().and_then(|ticket| self.gate.leave(ticket, Left::Failed(fault)))
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.gate.leave(ticket, Left::Unasked);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// What comes of it, if it ends at all.
    async fn in_time<T>(work: impl Future<Output = T>) -> T {
        tokio::time::timeout(Duration::from_secs(60), work).await.expect("someone waits for ever")
    }

    // E16
    #[tokio::test(flavor = "multi_thread")]
    async fn whoever_waits_at_the_gate_gets_through_one_after_another_once_it_opens() {
        let gate = Arc::new(Gate::new(16));
        let begun = Instant::now();
        let wait = gate.pass().await.fail(&Fault::Unreachable("no route".into())).expect("closed");
        assert_eq!(gate.facts().borrow().reachable, Some(false));
        let (under_way, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let tasks: Vec<_> = (0..100)
            .map(|at| {
                let (gate, under_way, most) = (Arc::clone(&gate), Arc::clone(&under_way), Arc::clone(&most));
                tokio::spawn(async move {
                    let pass = gate.pass().await;
                    most.fetch_max(under_way.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_millis(2)).await;
                    under_way.fetch_sub(1, Ordering::SeqCst);
                    // One in ten has nothing to ask.
                    if at % 10 == 0 { drop(pass) } else { pass.succeed() }
                })
            })
            .collect();
        for task in tasks {
            in_time(task).await.expect("let through");
        }
        assert!(begun.elapsed() >= wait, "the gate was closed");
        assert!((2..=16).contains(&most.load(Ordering::SeqCst)), "{most:?} at a time");
        assert_eq!(gate.facts().borrow().reachable, Some(true));
    }

    #[tokio::test]
    async fn one_who_stops_waiting_takes_nobodys_turn() {
        let gate = Gate::new(1);
        let first = gate.pass().await;
        let impatient = tokio::time::timeout(Duration::from_millis(20), gate.pass()).await;
        assert!(impatient.is_err(), "there is one at a time");
        let (second, ()) = in_time(async { tokio::join!(gate.pass(), async { first.succeed() }) }).await;
        second.succeed();
    }
}
