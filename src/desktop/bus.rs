//! A message bus, and one question at a time over it.

use std::io;
use std::panic::resume_unwind;
use std::time::Duration;

use zbus::Connection;
use zbus::connection::Builder;

/// Whoever has not answered a question by then hangs.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where a message bus listens. Nobody need listen there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bus {
    address: String,
}

impl Bus {
    /// The bus at `address`, in the form of `DBUS_SESSION_BUS_ADDRESS`.
    #[must_use]
    pub fn at(address: impl Into<String>) -> Self {
        Self { address: address.into() }
    }

    /// Asks over a connection of its own.
    ///
    /// # Errors
    /// The question's; and where there is no connection, or no answer within five seconds.
    pub(super) async fn ask<T>(&self, question: impl AsyncFnOnce(&Connection) -> zbus::Result<T>) -> zbus::Result<T> {
        let asked = async {
            let connection = Builder::address(self.address.as_str())?.build().await?;
            question(&connection).await
        };
        let hangs = || io::Error::new(io::ErrorKind::TimedOut, "there is no answer").into();
        tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(|_| Err(hangs()))
    }

    /// Blocking: the same, wherever the caller is: on a thread of its own, as a runtime cannot begin within another one.
    pub(super) fn ask_blocking<T: Send>(
        &self,
        question: impl AsyncFnOnce(&Connection) -> zbus::Result<T> + Send,
    ) -> zbus::Result<T> {
        let asked = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(self.ask(question))
        };
        std::thread::scope(|scope| scope.spawn(asked).join()).unwrap_or_else(|panic| resume_unwind(panic))
    }
}
