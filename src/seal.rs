//! Encryption: what leaves this machine is sealed here first, for those who have the key, and for nobody else.
//!
//! The form is that of [age](https://age-encryption.org/v1), so that its own tool opens what dStor holds. Sealing takes public
//! keys only ([`Recipients`]): a machine that is stolen cannot open what it stored. Opening takes a private one
//! ([`Identities`], in `open`), which no agent ever needs. No disk, no network; chance is the operating system's.

mod open;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use age::stream::StreamWriter;
use bytes::Bytes;

pub use open::{Identities, NewKey, NoIdentity, NotOpened, is_sealed};

/// Bytes of a file that are sealed together.
const CHUNK: u64 = 64 * 1024;
/// What each of these is longer by.
const TAG: u64 = 16;
/// More recipients would make the beginning of a file longer than `open::LONGEST_HEADER` one day.
pub const MOST_RECIPIENTS: usize = 64;

/// Somebody's public key: `age1…`.
#[derive(Clone, PartialEq, Eq)]
pub struct Recipient(age::x25519::Recipient);

/// Why a text is no recipient. The text itself is never repeated: it may be a secret in the wrong place.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NoRecipient {
    /// It is the private one.
    #[error("is a private key, which has no business here: whoever reads this file can open all that was stored")]
    PrivateKey,
    /// It is a key of another program, or of another kind of age's.
    #[error("is a key of a kind that this version does not encrypt to")]
    OtherKind,
    /// It begins like one.
    #[error("begins like a public key of age, and is damaged: a letter is wrong or missing")]
    Damaged,
    /// It is something else.
    #[error("is no public key of age")]
    Foreign,
}

impl NoRecipient {
    /// What a person can do about it.
    #[must_use]
    pub fn hint(self) -> &'static str {
        match self {
            Self::PrivateKey => {
                "put the public key there, which begins with age1 (`dstor-sync key show FILE` prints it), and think of the \
                 private one as known to others by now: `dstor-sync key generate` makes another"
            }
            Self::OtherKind => "a public key as `dstor-sync key generate` or `age-keygen` prints it: age1 and 58 more",
            Self::Damaged => "copy all of it: age1 and 58 more letters and digits",
            Self::Foreign => "`dstor-sync key generate FILE` makes a key, and prints the public one: age1 and 58 more",
        }
    }
}

impl Recipient {
    /// The recipient that `text` names.
    ///
    /// # Errors
    /// [`NoRecipient`] tells what else it is.
    pub fn parse(text: &str) -> Result<Self, NoRecipient> {
        let begins = |with: &str| text.get(..with.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(with));
        match text.parse() {
            Ok(recipient) => Ok(Self(recipient)),
            Err(_) if begins("AGE-SECRET-KEY") || begins("AGE-PLUGIN-") => Err(NoRecipient::PrivateKey),
            // Keys of post-quantum kinds and of plugins have a word behind `age1`, and another 1.
            Err(_) if begins("age1") && text.len() != 62 => Err(match text[4..].contains('1') {
                true => NoRecipient::OtherKind,
                false => NoRecipient::Damaged,
            }),
            Err(_) if begins("age1") => Err(NoRecipient::Damaged),
            Err(_) if begins("ssh-") => Err(NoRecipient::OtherKind),
            Err(_) => Err(NoRecipient::Foreign),
        }
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recipient({self})")
    }
}

/// Those who can open what is sealed, each by themselves: one at the least.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recipients(Arc<[Recipient]>);

impl Recipients {
    /// All of them, each once; `None` if there is none.
    #[must_use]
    pub fn new(all: impl IntoIterator<Item = Recipient>) -> Option<Self> {
        let mut each: Vec<Recipient> = Vec::new();
        for recipient in all {
            if !each.contains(&recipient) {
                each.push(recipient);
            }
        }
        (!each.is_empty()).then(|| Self(each.into()))
    }

    /// As people write them, in their order.
    pub fn names(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(ToString::to_string)
    }
}

/// A key that nobody can guess, drawn by the operating system.
///
/// # Panics
/// If that has no chance to give, where nothing can be encrypted either.
#[must_use]
pub fn drawn_key() -> [u8; 32] {
    let mut key = [0; 32];
    getrandom::fill(&mut key).expect("the operating system gives chance");
    key
}

/// What seals one file. Each has a key of its own, drawn when it is made, and is used once.
pub struct Sealer {
    writer: StreamWriter<Out>,
    out: Out,
    /// Bytes before the first chunk; other for each sealer, as age puts something in that every reader has to skip.
    header: u64,
}

/// What was sealed and is not taken yet. Shared, as the writer keeps its end to itself.
#[derive(Clone, Default)]
struct Out(Arc<Mutex<Vec<u8>>>);

impl Out {
    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sealer {
    /// A sealer for one file. Takes some 0.1 ms a recipient.
    #[must_use]
    pub fn new(recipients: &Recipients) -> Self {
        let each = recipients.0.iter().map(|recipient| &recipient.0 as &dyn age::Recipient);
        let encryptor = age::Encryptor::with_recipients(each).expect("there is one, and all are of one kind");
        let out = Out::default();
        let writer = encryptor.wrap_output(out.clone()).expect(MEMORY);
        let header = out.0.lock().unwrap_or_else(PoisonError::into_inner).len() as u64;
        Self { writer, out, header }
    }

    /// How many bytes come out for a file of so many.
    #[must_use]
    pub fn size_of(&self, bytes: u64) -> u64 {
        // The empty file has a chunk as well, an empty one.
        let tags = bytes.div_ceil(CHUNK).max(1).saturating_mul(TAG);
        self.header.saturating_add(bytes).saturating_add(tags)
    }

    /// Takes the next bytes of the file, and gives what is sealed by now, which may be nothing.
    pub fn add(&mut self, bytes: &[u8]) -> Bytes {
        self.writer.write_all(bytes).expect(MEMORY);
        self.out.take().into()
    }

    /// The rest. Nobody can open a file without it.
    #[must_use]
    pub fn finish(self) -> Bytes {
        self.writer.finish().expect(MEMORY).take().into()
    }
}

const MEMORY: &str = "memory takes everything";

/// Seals something small.
#[must_use]
pub fn seal(recipients: &Recipients, bytes: &[u8]) -> Bytes {
    let mut sealer = Sealer::new(recipients);
    let begin = sealer.add(bytes);
    [begin, sealer.finish()].concat().into()
}
