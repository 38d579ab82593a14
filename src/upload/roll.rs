//! The roll call: each task has to answer by itself before anyone says that all of them live.
//!
//! A task answers whenever the runtime polls it. One that hangs in a system call, or spins, is not polled; nor is any if the
//! runtime itself stands still. What goes on in threads beside the runtime is not its matter.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

/// Who is there, and has answered.
pub struct Roll {
    /// Calls so far.
    call: watch::Sender<u64>,
    members: Mutex<Vec<Arc<Member>>>,
    /// Somebody has answered, or left.
    heard: Notify,
}

struct Member {
    name: String,
    /// The last call that it answered.
    answered: AtomicU64,
}

/// A member's place, until it leaves.
struct Place {
    roll: Arc<Roll>,
    member: Arc<Member>,
}

impl Default for Roll {
    fn default() -> Self {
        Self { call: watch::channel(0).0, members: Mutex::default(), heard: Notify::new() }
    }
}

impl Roll {
    /// The same `task`, on the roll from now on: also one that is never polled is missed.
    pub fn present<T, F: Future<Output = T>>(
        self: &Arc<Self>,
        name: &str,
        task: F,
    ) -> impl Future<Output = T> + use<T, F> {
        let mut calls = self.call.subscribe();
        // Calls from before it came are not meant for it.
        let answered = AtomicU64::new(*calls.borrow_and_update());
        let member = Arc::new(Member { name: name.to_owned(), answered });
        self.members().push(Arc::clone(&member));
        let place = Place { roll: Arc::clone(self), member };
        async move {
            tokio::pin!(task);
            loop {
                tokio::select! {
                    // The call first: a task that always has something to do uses up its turn, and would never hear it.
                    biased;
                    Ok(()) = calls.changed() => place.answer(*calls.borrow_and_update()),
                    ended = &mut task => return ended,
                }
            }
        }
    }

    /// Calls everyone who is there, and returns once each has answered or left.
    pub async fn call(&self) {
        self.call.send_modify(|call| *call += 1);
        loop {
            let heard = self.heard.notified();
            tokio::pin!(heard);
            heard.as_mut().enable();
            if self.silent().is_empty() {
                return;
            }
            heard.await;
        }
    }

    /// Who has not answered the last call.
    #[must_use]
    pub fn silent(&self) -> Vec<String> {
        let call = *self.call.borrow();
        let is_silent = |member: &&Arc<Member>| member.answered.load(Ordering::Relaxed) < call;
        self.members().iter().filter(is_silent).map(|member| member.name.clone()).collect()
    }

    fn members(&self) -> MutexGuard<'_, Vec<Arc<Member>>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    fn answer(&self, call: u64) {
        self.member.answered.store(call, Ordering::Relaxed);
        self.roll.heard.notify_waiters();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.roll.members().retain(|member| !Arc::ptr_eq(member, &self.member));
        self.roll.heard.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    async fn is_complete(roll: &Roll) -> bool {
        tokio::time::timeout(Duration::from_millis(300), roll.call()).await.is_ok()
    }

    // F5
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn tasks_that_wait_or_are_busy_answer_and_one_that_hangs_does_not() {
        let roll = Arc::new(Roll::default());
        assert!(is_complete(&roll).await, "nobody is there");
        let waiting = tokio::spawn(roll.present("one that waits", std::future::pending::<()>()));
        let busy = tokio::spawn(roll.present("one that always has something to do", async {
            let (send, mut more) = tokio::sync::mpsc::channel(1);
            loop {
                send.send(()).await.expect("it is there");
                more.recv().await.expect("it was sent");
            }
        }));
        tokio::time::timeout(Duration::from_secs(60), roll.call()).await.expect("all of them answer");

        let (go_on, hold) = mpsc::channel::<()>();
        let (begun, has_begun) = tokio::sync::oneshot::channel();
        let hangs = tokio::spawn(roll.present("one that hangs", async move {
            begun.send(()).expect("somebody waits for it");
            // As everything here that may block: the runtime's other tasks go on elsewhere.
            tokio::task::block_in_place(|| hold.recv().is_ok())
        }));
        has_begun.await.expect("it has begun");
        assert!(!is_complete(&roll).await);
        let others_answer = async {
            while roll.silent() != ["one that hangs"] {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), others_answer).await.expect("one is silent, and one alone");
        go_on.send(()).expect("it waits for it");
        assert!(hangs.await.expect("it ended"));
        tokio::time::timeout(Duration::from_secs(60), roll.call()).await.expect("who has left need not answer");
        waiting.abort();
        busy.abort();
        assert!(waiting.await.is_err() && busy.await.is_err());
        assert!(roll.members().is_empty(), "who is ended where it is has left");
    }
}
