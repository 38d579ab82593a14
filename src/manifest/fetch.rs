//! A list back from dStor: the root whole, then part by part, no faster than its files are brought.

use tokio::sync::mpsc;

use super::{FormError, Head, LONGEST_PART, LONGEST_ROOT, Order, Part, Root, files, unpack};
use crate::dstor::{Client, Reply};
use crate::mirror::{Cid, CidBuilder, Fault, MirrorPath};
use crate::restore::Item;
use crate::seal::{Identities, NotOpened, is_sealed};
use crate::upload::Gate;

/// What gets no answer this often is left.
const TRIES: u32 = 3;

/// Why a list cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// dStor has nothing under the hash.
    #[error("dStor has nothing under `{0}`")]
    Missing(Cid),
    /// It gave no answer; why.
    #[error("{}", .0.message())]
    Fault(Fault),
    /// It is encrypted, and no key that was given opens it.
    #[error("the manifest under `{0}` is encrypted, and {1}")]
    Locked(Cid, &'static str),
    /// What it has is none.
    #[error("what dStor has under `{0}` cannot be used: {1}")]
    Form(Cid, #[source] FormError),
}

/// A root that came from dStor.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fetched {
    /// Its hash.
    pub hash: Cid,
    /// Its bytes, packed, and opened if they came encrypted.
    pub packed: Vec<u8>,
    /// Whether they did.
    pub is_sealed: bool,
    /// Whether its hash is that of these bytes: then it is the one that was published. Where a service names files by other
    /// rules, nobody can say.
    pub is_proved: bool,
}

impl Fetched {
    /// What it says of itself.
    ///
    /// # Errors
    /// If it is no root.
    pub fn head(&self) -> Result<Head, FetchError> {
        Ok(self.root()?.head().clone())
    }

    /// All of its parts.
    ///
    /// # Errors
    /// If it is damaged.
    pub fn parts(&self) -> Result<Vec<Part>, FetchError> {
        parts_of(&self.packed).map_err(|error| self.form(error))
    }

    fn root(&self) -> Result<Root<'_>, FetchError> {
        Root::read(&self.packed).map_err(|error| self.form(error))
    }

    fn form(&self, error: FormError) -> FetchError {
        FetchError::Form(self.hash.clone(), error)
    }
}

/// The parts that a root names.
pub(super) fn parts_of(packed: &[u8]) -> Result<Vec<Part>, FormError> {
    let mut root = Root::read(packed)?;
    std::iter::from_fn(|| root.next_part().transpose()).collect()
}

/// What of a list could not be had.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Unlisted {
    /// Parts of it, each with the reason.
    pub parts: Vec<(Cid, String)>,
    /// Files in these, by the root.
    pub files: u64,
}

/// Asks for the root under `hash`, which `identities` open if it is encrypted.
///
/// # Errors
/// If it cannot be had, or is none.
pub async fn fetch_root(
    client: &Client,
    gate: &Gate,
    hash: &Cid,
    identities: Option<&Identities>,
) -> Result<Fetched, FetchError> {
    let came = get(client, gate, hash, LONGEST_ROOT).await?;
    let mut cid = CidBuilder::new();
    cid.update(&came);
    let is_proved = cid.finish() == *hash;
    let is_sealed = is_sealed(&came);
    let packed = opened(came, LONGEST_ROOT, hash, identities)?;
    let fetched = Fetched { hash: hash.clone(), packed, is_sealed, is_proved };
    fetched.head()?;
    Ok(fetched)
}

/// The bytes of a list, opened if they are encrypted; no more than `longest`.
fn opened(bytes: Vec<u8>, longest: u64, hash: &Cid, identities: Option<&Identities>) -> Result<Vec<u8>, FetchError> {
    if !is_sealed(&bytes) {
        return Ok(bytes);
    }
    let locked = |why| FetchError::Locked(hash.clone(), why);
    let identities = identities.ok_or_else(|| locked("no key was given"))?;
    identities.open_whole(&bytes, longest).map_err(|error| match error {
        NotOpened::Locked => locked("to another key than those given"),
        NotOpened::Damaged(_) | NotOpened::Io(_) => {
            FetchError::Form(hash.clone(), FormError::Wrong("it is not what was encrypted"))
        }
    })
}

/// Asks for the parts of a root, one after the other, and sends the files in them that are wanted, until nobody takes them. A
/// part that dStor does not have, or not as it was, is left out. Which part a file is in, its path does not tell: all are read.
///
/// # Errors
/// If the root is damaged, or dStor gives no answer; what was sent before counts.
pub async fn fetch(
    client: &Client,
    gate: &Gate,
    fetched: &Fetched,
    identities: Option<&Identities>,
    mut is_wanted: impl FnMut(&MirrorPath) -> bool,
    send: &mpsc::Sender<Item>,
) -> Result<Unlisted, FetchError> {
    let mut root = fetched.root()?;
    let (mut order, mut unlisted) = (Order::default(), Unlisted::default());
    while let Some(part) = root.next_part().map_err(|error| fetched.form(error))? {
        let found = match get(client, gate, &part.hash, part.packed).await {
            Ok(came) => opened(came, LONGEST_PART, &part.hash, identities).and_then(|packed| {
                let listed = unpack(&part, &packed).and_then(|text| files(&text, &mut order));
                listed.map_err(|error| FetchError::Form(part.hash.clone(), error))
            }),
            Err(fault @ FetchError::Fault(_)) => return Err(fault),
            Err(error) => Err(error),
        };
        match found {
            Ok(found) => {
                for file in found.into_iter().filter(|file| is_wanted(&file.path)) {
                    if send.send(Item::Wanted(file)).await.is_err() {
                        return Ok(unlisted);
                    }
                }
            }
            Err(error) => {
                unlisted.files = unlisted.files.saturating_add(part.files);
                unlisted.parts.push((part.hash, error.to_string()));
            }
        }
    }
    Ok(unlisted)
}

/// The bytes under a hash: no more than `longest`, and one more if there are more.
pub(super) async fn get(client: &Client, gate: &Gate, hash: &Cid, longest: u64) -> Result<Vec<u8>, FetchError> {
    let mut tries = 0;
    loop {
        let pass = gate.pass().await;
        match get_once(client, hash, longest).await {
            Ok(found) => {
                pass.succeed();
                return found.ok_or_else(|| FetchError::Missing(hash.clone()));
            }
            Err(fault) => {
                pass.fail(&fault);
                tries += 1;
                if tries == TRIES {
                    return Err(FetchError::Fault(fault));
                }
            }
        }
    }
}

async fn get_once(client: &Client, hash: &Cid, longest: u64) -> Result<Option<Vec<u8>>, Fault> {
    let mut download = match client.read(hash, longest).await? {
        Reply::Missing => return Ok(None),
        Reply::File(download) => download,
    };
    let mut bytes = Vec::new();
    while let Some(piece) = download.next().await? {
        bytes.extend_from_slice(&piece);
    }
    if download.is_page() {
        return Err(Fault::Unreachable("something else answers in its place, with a page; is there a sign-in?".into()));
    }
    Ok(Some(bytes))
}
