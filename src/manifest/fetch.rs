//! A list back from dStor: the root whole, then part by part, no faster than its files are brought.

use tokio::sync::mpsc;

use super::{FormError, Head, LONGEST_ROOT, Order, Part, Root, files, unpack};
use crate::dstor::{Client, Reply};
use crate::mirror::{Cid, CidBuilder, Fault};
use crate::restore::Item;
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
    /// What it has is none.
    #[error("what dStor has under `{0}` cannot be used: {1}")]
    Form(Cid, #[source] FormError),
}

/// A root that came from dStor.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fetched {
    /// Its hash.
    pub hash: Cid,
    /// Its bytes, packed.
    pub packed: Vec<u8>,
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
        let mut root = self.root()?;
        let mut parts = Vec::new();
        while let Some(part) = root.next_part().map_err(|error| self.form(error))? {
            parts.push(part);
        }
        Ok(parts)
    }

    fn root(&self) -> Result<Root<'_>, FetchError> {
        Root::read(&self.packed).map_err(|error| self.form(error))
    }

    fn form(&self, error: FormError) -> FetchError {
        FetchError::Form(self.hash.clone(), error)
    }
}

/// What of a list could not be had.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Unlisted {
    /// Parts of it, each with the reason.
    pub parts: Vec<(Cid, String)>,
    /// Files in these, by the root.
    pub files: u64,
}

/// Asks for the root under `hash`.
///
/// # Errors
/// If it cannot be had, or is none.
pub async fn fetch_root(client: &Client, gate: &Gate, hash: &Cid) -> Result<Fetched, FetchError> {
    let packed = get(client, gate, hash, LONGEST_ROOT).await?;
    let mut cid = CidBuilder::new();
    cid.update(&packed);
    let is_proved = cid.finish() == *hash;
    let fetched = Fetched { hash: hash.clone(), packed, is_proved };
    fetched.head()?;
    Ok(fetched)
}

/// Asks for the parts of a root, one after the other, and sends the files in them, until nobody takes them. A part that dStor
/// does not have, or not as it was, is left out.
///
/// # Errors
/// If the root is damaged, or dStor gives no answer; what was sent before counts.
pub async fn fetch(
    client: &Client,
    gate: &Gate,
    fetched: &Fetched,
    send: &mpsc::Sender<Item>,
) -> Result<Unlisted, FetchError> {
    let mut root = fetched.root()?;
    let (mut order, mut unlisted) = (Order::default(), Unlisted::default());
    while let Some(part) = root.next_part().map_err(|error| fetched.form(error))? {
        let found = match get(client, gate, &part.hash, part.packed).await {
            Ok(packed) => unpack(&part, &packed)
                .and_then(|text| files(&text, &mut order))
                .map_err(|error| FetchError::Form(part.hash.clone(), error)),
            Err(fault @ FetchError::Fault(_)) => return Err(fault),
            Err(error) => Err(error),
        };
        match found {
            Ok(found) => {
                for file in found {
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
async fn get(client: &Client, gate: &Gate, hash: &Cid, longest: u64) -> Result<Vec<u8>, FetchError> {
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
