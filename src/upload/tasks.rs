//! Tasks with names: when one ends that was not told to, it is told which, and why.

use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;

use tokio::task::{Id, JoinSet};

use super::Roll;
use crate::ledger::LedgerError;

/// The tasks of a run, each with a name for people. None outlives it.
#[derive(Default)]
pub struct Tasks {
    running: JoinSet<Result<(), LedgerError>>,
    names: HashMap<Id, String>,
    /// Where they answer, if anyone calls them.
    roll: Option<Arc<Roll>>,
}

/// Why a run cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum TaskFailure {
    /// The ledger failed: nothing can be settled without it.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// A task broke off.
    #[error(transparent)]
    Broke(#[from] Broke),
}

/// A task ended by a fault of ours.
#[derive(Debug, thiserror::Error)]
#[error("a fault in dstor-sync itself ended {task}: {why}")]
pub struct Broke {
    /// Which one.
    pub task: String,
    /// The panic's words.
    pub why: String,
}

impl Broke {
    /// What a person can do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        "start it again: nothing is lost, and it goes on; and please report this, with the log, which says where it was"
    }
}

impl Tasks {
    /// None yet; each answers when it is called by `roll`.
    #[must_use]
    pub fn on(roll: Arc<Roll>) -> Self {
        Self { roll: Some(roll), ..Self::default() }
    }

    /// Starts a task under this name.
    pub fn spawn(
        &mut self,
        name: impl Into<String>,
        task: impl Future<Output = Result<(), LedgerError>> + Send + 'static,
    ) {
        let name = name.into();
        let handle = match &self.roll {
            Some(roll) => self.running.spawn(roll.present(&name, task)),
            None => self.running.spawn(task),
        };
        self.names.insert(handle.id(), name);
    }

    /// Waits for a task that failed; for ever if none does. Tasks that end well do so because they were told to. Cancel safe.
    pub async fn failure(&mut self) -> TaskFailure {
        loop {
            match self.running.join_next_with_id().await {
                Some(Ok((id, ended))) => {
                    self.names.remove(&id);
                    if let Err(failed) = ended {
                        return failed.into();
                    }
                }
                Some(Err(error)) => {
                    let task = self.names.remove(&error.id()).unwrap_or_default();
                    let why = error.try_into_panic().map_or_else(|error| error.to_string(), |panic| words(&*panic));
                    return Broke { task, why }.into();
                }
                None => std::future::pending().await,
            }
        }
    }

    /// Waits until all have ended, however they do.
    pub async fn ended(&mut self) {
        while self.running.join_next().await.is_some() {}
    }

    /// Ends all of them wherever they are, and waits until they have.
    pub async fn shutdown(&mut self) {
        self.running.shutdown().await;
    }
}

/// What a panic said.
fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without words").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    // F4
    #[tokio::test]
    async fn a_task_that_panics_is_told_of_by_its_name_and_with_its_words() {
        let mut tasks = Tasks::default();
        tasks.spawn("the first", async { Ok(()) });
        tasks.spawn("the second", async { std::future::pending().await });
        let number = 7;
        tasks.spawn("the third", async move { panic!("on purpose {number}") });
        let failure = tasks.failure().await;
        assert_eq!(failure.to_string(), "a fault in dstor-sync itself ended the third: on purpose 7");
        assert!(matches!(failure, TaskFailure::Broke(_)));
        tasks.shutdown().await;
        tasks.ended().await;
    }

    #[tokio::test]
    async fn a_ledger_that_fails_is_told_of_as_that() {
        let mut tasks = Tasks::default();
        tasks.spawn("one", async { Err(LedgerError::Full) });
        assert!(matches!(tasks.failure().await, TaskFailure::Ledger(LedgerError::Full)));
    }
}
