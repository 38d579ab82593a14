//! Opening what was sealed. What comes is data, never believed: nothing of a file is given before its chunk is proved to be
//! what was sealed, in its place.

use std::fmt;
use std::io::{self, BufRead, Read};

use age::secrecy::{ExposeSecret as _, SecretString};

/// What every file of age begins with.
const FIRST_LINE: &[u8] = b"age-encryption.org/v1\n";
/// No beginning is read for longer; ours have some 100 bytes a recipient, and up to a kilobyte beside.
pub(super) const LONGEST_HEADER: u64 = 64 * 1024;

/// Private keys. They have no `Display`, and a `Debug` that hides them.
#[derive(Clone)]
pub struct Identities(Vec<age::x25519::Identity>);

impl fmt::Debug for Identities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identities({} hidden)", self.0.len())
    }
}

/// Why a text holds no private keys. Nothing of the text is repeated.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NoIdentity {
    /// It is locked itself.
    #[error("is encrypted itself, with a passphrase")]
    Passphrase,
    /// It holds public keys.
    #[error("holds a public key, in line {0}, which opens nothing")]
    Public(usize),
    /// A line is something else.
    #[error("holds something else than private keys of age, in line {0}")]
    Line(usize),
    /// It is empty, or holds only comments.
    #[error("holds no private key")]
    Empty,
}

impl NoIdentity {
    /// What a person can do about it.
    #[must_use]
    pub fn hint(self) -> &'static str {
        match self {
            Self::Passphrase => "open it on the way: `age --decrypt FILE | dstor-sync … --identity -`",
            Self::Public(_) | Self::Line(_) | Self::Empty => {
                "name the file that `dstor-sync key generate` or `age-keygen` wrote: it has a line AGE-SECRET-KEY-1…"
            }
        }
    }
}

/// A key that was just made.
pub struct NewKey {
    /// The file that is to be kept: the private key, and above it when it was made and its public key, as comments.
    pub file: SecretString,
    /// The public key.
    pub recipient: String,
}

/// Why something cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum NotOpened {
    /// It was sealed for others.
    #[error("it is encrypted to another key than those in the identity file")]
    Locked,
    /// It is not what was sealed: other bytes, fewer or more.
    #[error("it is not what was encrypted: {0}")]
    Damaged(&'static str),
    /// It could not be read.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Whether something that begins so is sealed.
#[must_use]
pub fn is_sealed(begin: &[u8]) -> bool {
    begin.starts_with(FIRST_LINE)
}

impl Identities {
    /// Draws a new one. `made_at` is the time, in RFC 3339.
    #[must_use]
    pub fn generate(made_at: &str) -> NewKey {
        let identity = age::x25519::Identity::generate();
        let recipient = identity.to_public().to_string();
        let secret = identity.to_string();
        let file = format!("# created: {made_at}\n# public key: {recipient}\n{}\n", secret.expose_secret());
        NewKey { file: file.into(), recipient }
    }

    /// The keys in the text of an identity file, one a line; empty lines and those that begin with `#` do not count.
    ///
    /// # Errors
    /// [`NoIdentity`] tells what it holds instead.
    pub fn parse(text: &str) -> Result<Self, NoIdentity> {
        if is_sealed(text.as_bytes()) || text.starts_with("-----BEGIN AGE ENCRYPTED FILE-----") {
            return Err(NoIdentity::Passphrase);
        }
        let mut all = Vec::new();
        for (number, line) in (1..).zip(text.lines().map(str::trim)) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            all.push(line.parse().map_err(|_| match line.starts_with("age1") {
                true => NoIdentity::Public(number),
                false => NoIdentity::Line(number),
            })?);
        }
        if all.is_empty() { Err(NoIdentity::Empty) } else { Ok(Self(all)) }
    }

    /// The public key of each.
    pub fn recipients(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|identity| identity.to_public().to_string())
    }

    /// Opens a file that comes: the reader gives its bytes, each only once it is proved. An error of the reader that is not
    /// one of `input` means that something else was sealed, or that its end is missing.
    ///
    /// # Errors
    /// [`NotOpened`], as far as the beginning shows it.
    pub fn open<R: BufRead>(&self, mut input: R) -> Result<impl Read + use<R>, NotOpened> {
        let header = header(&mut input)?;
        let decryptor = age::Decryptor::new_buffered(io::Cursor::new(header).chain(input)).map_err(not_opened)?;
        let each = self.0.iter().map(|identity| identity as &dyn age::Identity);
        decryptor.decrypt(each).map_err(not_opened)
    }

    /// Opens something small that is there whole; gives `most` bytes of it at the most.
    ///
    /// # Errors
    /// [`NotOpened`].
    pub fn open_whole(&self, sealed: &[u8], most: u64) -> Result<Vec<u8>, NotOpened> {
        let mut opened = Vec::new();
        let read = self.open(sealed)?.take(most).read_to_end(&mut opened);
        read.map_err(|_| NotOpened::Damaged("its end is missing, or a part of it is another"))?;
        Ok(opened)
    }
}

/// The beginning of a file, up to the line that ends it. Read by itself, as the library takes any length, and takes longer
/// for a long one than it should.
fn header(input: &mut impl BufRead) -> Result<Vec<u8>, NotOpened> {
    let mut header = Vec::new();
    loop {
        let begin = header.len();
        let read = input.take(LONGEST_HEADER - begin as u64).read_until(b'\n', &mut header);
        read?;
        let line = &header[begin..];
        match line {
            _ if begin == 0 && line != FIRST_LINE => {
                return Err(NotOpened::Damaged("it does not begin like a file of age"));
            }
            [b'-', b'-', b'-', .., b'\n'] => return Ok(header),
            [.., b'\n'] => {}
            _ => return Err(NotOpened::Damaged("its beginning has no end")),
        }
    }
}

fn not_opened(error: age::DecryptError) -> NotOpened {
    match error {
        age::DecryptError::NoMatchingKeys => NotOpened::Locked,
        age::DecryptError::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            NotOpened::Damaged("its beginning has no end")
        }
        age::DecryptError::Io(error) => NotOpened::Io(error),
        age::DecryptError::UnknownFormat => NotOpened::Damaged("it does not begin like a file of age"),
        // Those that are left are about what the beginning says.
        _ => NotOpened::Damaged("its beginning is another"),
    }
}
