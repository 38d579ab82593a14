//! The bytes of a stored version: from the mirror where it still lies there, else from dStor.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::dstor::{Client, Reply};
use crate::local::{Identity, OpenRoot, ReadError, Reading, Tree as _};
use crate::mirror::{Cid, Digest, Fault, MirrorPath, Observed};
use crate::upload::{Gate, Stop};

/// A file that got no answer this often is left.
const TRIES: u32 = 3;
/// The gate closing this often in a row means that dStor is not there for this run.
const UNREACHABLE_AFTER: u32 = 3;
/// A server that asks for a longer wait than this is not waited for.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// What came of reading.
#[derive(Debug)]
pub enum Read {
    /// All bytes of something; their digest.
    Whole(Digest),
    /// On this machine: it is not there, or another version. From dStor: it does not have it.
    Missing,
    /// dStor gave no answer; why.
    NotAnswered(String),
    /// It was asked to stop.
    Stopped,
    /// Whoever took the bytes could not.
    NotTaken(io::Error),
}

/// Where the bytes are to be had. Everything here blocks, and must not be called from the runtime.
pub struct Source<'a> {
    /// None if the mirror's directory is not there.
    root: Option<OpenRoot>,
    client: &'a Client,
    gate: &'a Gate,
    runtime: Handle,
    stop: watch::Receiver<Stop>,
    /// Why dStor is not asked any more.
    gave_up: Option<String>,
}

/// Takes bytes.
type Take<'t> = &'t mut dyn FnMut(&[u8]) -> io::Result<()>;

impl<'a> Source<'a> {
    /// The mirror at `path`, if its directory is the one that is believed in, and dStor.
    pub fn new(
        (path, identity): (&Path, Option<Identity>),
        client: &'a Client,
        gate: &'a Gate,
        runtime: Handle,
        stop: watch::Receiver<Stop>,
    ) -> Self {
        Self { root: OpenRoot::open(path, identity).ok(), client, gate, runtime, stop, gave_up: None }
    }

    /// Whether it was asked to stop.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        *self.stop.borrow() != Stop::Go
    }

    /// Why dStor is not asked any more, if it is not.
    #[must_use]
    pub fn gave_up(&self) -> Option<&str> {
        self.gave_up.as_deref()
    }

    /// The file as it lies in the mirror, if it has `size` bytes and stays as it is while it is read.
    pub fn local(&self, path: &MirrorPath, size: u64, take: Take<'_>) -> Read {
        let Some(root) = &self.root else { return Read::Missing };
        let Ok(Observed::File(stat)) = root.look(path).map(|look| look.observed) else { return Read::Missing };
        if stat.size != size {
            return Read::Missing;
        }
        let mut not_taken = None;
        let read = Reading::open(root, path, stat).and_then(|reading| {
            reading.pass(|bytes| match take(&bytes) {
                Ok(()) if self.is_stopped() => Err(ReadError::Abandoned),
                Ok(()) => Ok(()),
                Err(error) => {
                    not_taken = Some(error);
                    Err(ReadError::Abandoned)
                }
            })
        });
        match (read, not_taken) {
            (_, Some(error)) => Read::NotTaken(error),
            (Ok(content), None) => Read::Whole(content.digest),
            (Err(ReadError::Abandoned), None) => Read::Stopped,
            (Err(ReadError::Moved | ReadError::Io(_) | ReadError::Secret(_)), None) => Read::Missing,
        }
    }

    /// What dStor gives for `hash`, at most `longest` bytes of it, which should have the digest `wanted`. `begin` is called
    /// before each try: what was taken before is void then.
    pub fn remote(
        &mut self,
        hash: &Cid,
        (wanted, longest): (Digest, u64),
        mut begin: impl FnMut() -> io::Result<()>,
        take: Take<'_>,
    ) -> Read {
        for tries in 1.. {
            if let Some(why) = &self.gave_up {
                return Read::NotAnswered(why.clone());
            }
            if let Err(error) = begin() {
                return Read::NotTaken(error);
            }
            let (mut stop, asked) = (self.stop.clone(), ask(self.client, self.gate, hash, (wanted, longest), take));
            let read = self.runtime.block_on(async {
                tokio::select! {
                    biased;
                    () = Stop::wait(&mut stop) => Ok(Read::Stopped),
                    read = asked => read,
                }
            });
            match read {
                Ok(read) => return read,
                Err(fault) => {
                    let failures = self.gate.facts().borrow().failures;
                    if failures >= UNREACHABLE_AFTER || self.gate.closed_for() > LONGEST_WAIT {
                        self.gave_up = Some(fault.message());
                    }
                    if tries >= TRIES {
                        return Read::NotAnswered(fault.message());
                    }
                }
            }
        }
        Read::Missing
    }
}

async fn ask(client: &Client, gate: &Gate, hash: &Cid, wanted: (Digest, u64), take: Take<'_>) -> Result<Read, Fault> {
    let pass = gate.pass().await;
    let came = come(client, hash, wanted, take).await;
    match &came {
        Ok(_) => pass.succeed(),
        Err(fault) => drop(pass.fail(fault)),
    }
    came
}

async fn come(client: &Client, hash: &Cid, (wanted, longest): (Digest, u64), take: Take<'_>) -> Result<Read, Fault> {
    let mut download = match client.read(hash, longest).await? {
        Reply::Missing => return Ok(Read::Missing),
        Reply::File(download) => download,
    };
    let mut digest = blake3::Hasher::new();
    while let Some(piece) = download.next().await? {
        digest.update(&piece);
        if let Err(error) = take(&piece) {
            return Ok(Read::NotTaken(error));
        }
    }
    let digest = Digest::from(digest.finalize());
    if download.is_page() && digest != wanted {
        return Err(Fault::Unreachable("something else answers in its place, with a page; is there a sign-in?".into()));
    }
    Ok(Read::Whole(digest))
}
