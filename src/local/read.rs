//! Reading a file once, for its digest, its identifier and the request at the same time, and making sure that what was
//! read is one version of it.

use std::fs::File;
use std::io::{self, Read as _};

use bytes::Bytes;
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::root::stat_of;
use super::{OpenRoot, Tree as _};
use crate::mirror::{Cid, CidBuilder, Digest, MirrorPath, Observed, Sealed, Stat, sign_in};
use crate::seal::Sealer;

/// Bytes read at once. Large enough that reading and hashing cost few calls, small enough for many workers.
const BUFFER_BYTES: usize = 256 * 1024;

/// A file is looked at again after so many bytes, beside at its end.
const CHECK_BYTES: u64 = 16 * 1024 * 1024;

/// Why a file was not read to its end.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It changed, or is no regular file any more.
    #[error("it changed while it was read")]
    Moved,
    /// The file system would not.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Its first bytes look like it holds a secret; by which sign. Nothing of it was handed over.
    #[error("it looks like it holds a secret: {0}")]
    Secret(&'static str),
    /// Whoever took the bytes wants no more.
    #[error("nobody takes its bytes any more")]
    Abandoned,
}

/// What was read: all bytes of one version of the file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Content {
    /// BLAKE3 of the bytes.
    pub digest: Digest,
    /// What was handed over in their place, if they were encrypted.
    pub sealed: Option<Sealed>,
    /// The IPFS identifier of what was handed over; only where anything was.
    pub cid: Option<Cid>,
}

/// One version of a file, open for reading once.
pub struct Reading<'a> {
    root: &'a OpenRoot,
    path: &'a MirrorPath,
    file: File,
    version: Stat,
}

impl<'a> Reading<'a> {
    /// Blocking: opens `path` if it is the regular file `version`.
    ///
    /// # Errors
    /// [`ReadError::Moved`] if it is something else by now.
    pub fn open(root: &'a OpenRoot, path: &'a MirrorPath, version: Stat) -> Result<Self, ReadError> {
        // O_NONBLOCK: a pipe put in its place would otherwise hold us until someone writes (B10).
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file: File = match root.open_beneath(path, flags) {
            Ok(fd) => fd.into(),
            Err(error) => {
                return Err(match Errno::from_io_error(&error) {
                    Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NXIO | Errno::ISDIR) => ReadError::Moved,
                    _ => error.into(),
                });
            }
        };
        let reading = Self { root, path, file, version };
        if reading.is_version()? { Ok(reading) } else { Err(ReadError::Moved) }
    }

    /// Blocking: hashes the file without sending it anywhere.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn hash(self) -> Result<Content, ReadError> {
        let (digest, _) = self.each_buffer((), |(), _| Ok(()))?;
        Ok(Content { digest, sealed: None, cid: None })
    }

    /// Blocking: reads the file once and hands its bytes to `take` in pieces, encrypted by `sealer` if there is one. The last
    /// piece is held back until the file, open and by its path, is still the version it was at the beginning: who gets all
    /// pieces has one version's bytes.
    ///
    /// # Errors
    /// [`ReadError::Moved`] if it is not; then the last piece was not handed over.
    pub fn send(
        self,
        sealer: Option<Sealer>,
        take: impl FnMut(Bytes) -> Result<(), ReadError>,
    ) -> Result<Content, ReadError> {
        let outlet = Outlet { seal: sealer.map(Seal::new), cid: CidBuilder::new(), take };
        let (digest, outlet) = self.each_buffer(outlet, Outlet::give)?;
        let (sealed, cid) = outlet.end()?;
        Ok(Content { digest, sealed, cid: Some(cid) })
    }

    /// Blocking: sends it as it is, if its first bytes show no sign of a secret.
    ///
    /// # Errors
    /// [`ReadError::Secret`] if they do; then nothing was handed over. Else as [`send`](Self::send).
    pub fn send_guarded(self, mut take: impl FnMut(Bytes) -> Result<(), ReadError>) -> Result<Content, ReadError> {
        let name = self.path.split().map(|(_, name)| name.to_vec()).unwrap_or_default();
        let mut is_first = true;
        self.send(None, |piece| {
            if std::mem::take(&mut is_first)
                && let Some(sign) = sign_in(&name, &piece)
            {
                return Err(ReadError::Secret(sign));
            }
            take(piece)
        })
    }

    /// Blocking: the same as it is, for who needs no identifier.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn pass(self, take: impl FnMut(Bytes) -> Result<(), ReadError>) -> Result<Content, ReadError> {
        let (digest, _) = self.each_buffer(take, |take, bytes| take(bytes))?;
        Ok(Content { digest, sealed: None, cid: None })
    }

    /// Reads the file once and calls `give` with its pieces, the last of them held back until it is sure that it was one
    /// version.
    fn each_buffer<O>(
        mut self,
        mut outlet: O,
        give: impl Fn(&mut O, Bytes) -> Result<(), ReadError>,
    ) -> Result<(Digest, O), ReadError> {
        let mut hasher = blake3::Hasher::new();
        let mut held_back = Bytes::new();
        let mut left = self.version.size;
        let mut since_checked = 0;
        while left > 0 {
            let wanted = usize::try_from(left).map_or(BUFFER_BYTES, |left| left.min(BUFFER_BYTES));
            let mut buffer = vec![0; wanted];
            let call = self.root.calls().begin();
            match self.file.read_exact(&mut buffer) {
                Ok(()) => {}
                // Shorter than it was: never padded, never sent as if it were whole (B2).
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(ReadError::Moved),
                Err(error) => return Err(error.into()),
            }
            drop(call);
            hasher.update(&buffer);
            left -= wanted as u64;
            since_checked += wanted as u64;
            if since_checked >= CHECK_BYTES {
                since_checked = 0;
                // A large file that moved early is not read and sent to its end for nothing.
                if !self.is_version()? {
                    return Err(ReadError::Moved);
                }
            }
            let before = std::mem::replace(&mut held_back, buffer.into());
            if !before.is_empty() {
                give(&mut outlet, before)?;
            }
        }
        // A file that holds more than it says (it is growing, or the kernel writes it while it is read, as in /proc) has no
        // end that could be trusted (B11).
        if !self.is_version()? || self.holds_more()? {
            return Err(ReadError::Moved);
        }
        if !held_back.is_empty() {
            give(&mut outlet, held_back)?;
        }
        Ok((hasher.finalize().into(), outlet))
    }

    fn holds_more(&mut self) -> io::Result<bool> {
        loop {
            match self.file.read(&mut [0]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return read.map(|bytes| bytes > 0),
            }
        }
    }

    /// Whether the open file and the path are both still the version that was asked for.
    fn is_version(&self) -> io::Result<bool> {
        let open = rustix::fs::fstat(&self.file)?;
        Ok(self.root.look_of(&open).observed == Observed::File(self.version)
            && stat_of(&open) == self.version
            && self.root.look(self.path)?.observed == Observed::File(self.version))
    }
}

/// Where the bytes of a file go, and what is noted of them on the way.
struct Outlet<T> {
    seal: Option<Seal>,
    cid: CidBuilder,
    take: T,
}

/// Encryption of what goes there.
struct Seal {
    sealer: Sealer,
    hasher: blake3::Hasher,
    size: u64,
}

impl Seal {
    fn new(sealer: Sealer) -> Self {
        Self { sealer, hasher: blake3::Hasher::new(), size: 0 }
    }
}

impl<T: FnMut(Bytes) -> Result<(), ReadError>> Outlet<T> {
    fn give(&mut self, piece: Bytes) -> Result<(), ReadError> {
        let piece = match &mut self.seal {
            None => piece,
            Some(seal) => {
                let piece = seal.sealer.add(&piece);
                seal.hasher.update(&piece);
                seal.size += piece.len() as u64;
                piece
            }
        };
        self.cid.update(&piece);
        if piece.is_empty() { Ok(()) } else { (self.take)(piece) }
    }

    /// The file is whole: so is what was made of it, with what is given now.
    fn end(mut self) -> Result<(Option<Sealed>, Cid), ReadError> {
        let Some(Seal { sealer, mut hasher, size }) = self.seal else { return Ok((None, self.cid.finish())) };
        let last = sealer.finish();
        hasher.update(&last);
        self.cid.update(&last);
        let sealed = Sealed { digest: hasher.finalize().into(), size: size + last.len() as u64 };
        (self.take)(last)?;
        Ok((Some(sealed), self.cid.finish()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    fn version(root: &OpenRoot, path: &MirrorPath) -> Stat {
        match root.look(path).expect("looked").observed {
            Observed::File(stat) => stat,
            other => panic!("{other:?}"),
        }
    }

    fn mirror(bytes: &[u8]) -> (tempfile::TempDir, OpenRoot, MirrorPath) {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join("f"), bytes).expect("written");
        let root = OpenRoot::open(dir.path(), None).expect("open");
        (dir, root, MirrorPath::from_bytes(b"f").expect("a path"))
    }

    /// Reads `f` and does `deed` after the first piece; returns what came out and what was taken.
    fn read_while(bytes: &[u8], deed: impl Fn(&Path)) -> (Result<Content, ReadError>, Vec<u8>) {
        let (dir, root, path) = mirror(bytes);
        let mut taken = Vec::new();
        let reading = Reading::open(&root, &path, version(&root, &path)).expect("opened");
        let content = reading.send(None, |piece| {
            if taken.is_empty() {
                deed(&dir.path().join("f"));
            }
            taken.extend_from_slice(&piece);
            Ok(())
        });
        (content, taken)
    }

    #[test]
    fn one_read_gives_the_bytes_the_digest_and_the_identifier() {
        for len in [0, 1, BUFFER_BYTES - 1, BUFFER_BYTES, BUFFER_BYTES + 1, 3 * BUFFER_BYTES] {
            let bytes = vec![7; len];
            let (content, taken) = read_while(&bytes, |_| {});
            let content = content.expect("read");
            let mut cid = CidBuilder::new();
            cid.update(&bytes);
            assert_eq!((taken.len(), content.digest, content.cid), (len, Digest::of(&bytes), Some(cid.finish())));
        }
    }

    // B1, B2
    #[test]
    fn the_last_piece_of_a_file_that_moves_is_never_handed_over() {
        let bytes = vec![7; 3 * BUFFER_BYTES];
        type Deed = fn(&Path);
        let deeds: [(&str, Deed); 5] = [
            ("rewritten", |f| fs::write(f, vec![8; 3 * BUFFER_BYTES]).expect("written")),
            ("grown", |f| fs::write(f, vec![7; 4 * BUFFER_BYTES]).expect("written")),
            ("cut", |f| fs::write(f, b"x").expect("written")),
            ("removed", |f| fs::remove_file(f).expect("removed")),
            ("replaced", |f| {
                fs::write(f.with_extension("new"), vec![7; 3 * BUFFER_BYTES]).expect("written");
                fs::rename(f.with_extension("new"), f).expect("renamed");
            }),
        ];
        for (name, deed) in deeds {
            let (content, taken) = read_while(&bytes, deed);
            assert!(matches!(content, Err(ReadError::Moved)), "{name}: {content:?}");
            assert!(taken.len() < bytes.len(), "{name}: all {} bytes were handed over", taken.len());
        }
    }

    // B1, B2
    #[test]
    fn what_is_encrypted_has_the_stated_length_and_nobody_can_open_it_if_the_file_moved() {
        use age::secrecy::ExposeSecret as _;
        let key = crate::seal::Identities::generate("now");
        let identities = crate::seal::Identities::parse(key.file.expose_secret()).expect("a key");
        let to = crate::seal::Recipient::parse(&key.recipient).expect("a public key");
        let to = crate::seal::Recipients::new([to]).expect("one");
        for (len, moves) in
            [0, 1, BUFFER_BYTES, 3 * BUFFER_BYTES + 7].into_iter().flat_map(|len| [(len, false), (len, true)])
        {
            let bytes = vec![7; len];
            let (dir, root, path) = mirror(&bytes);
            let reading = Reading::open(&root, &path, version(&root, &path)).expect("opened");
            let sealer = Sealer::new(&to);
            let stated = sealer.size_of(len as u64);
            if moves {
                fs::write(dir.path().join("f"), vec![8; len + 1]).expect("written");
            }
            let mut taken = Vec::new();
            let content = reading.send(Some(sealer), |piece| {
                taken.extend_from_slice(&piece);
                Ok(())
            });
            let opened = identities.open_whole(&taken, u64::MAX);
            if moves {
                assert!(matches!(content, Err(ReadError::Moved)), "{len}: {content:?}");
                assert!(opened.is_err(), "{len}: what was handed over is a whole file");
                continue;
            }
            let mut cid = CidBuilder::new();
            cid.update(&taken);
            let sealed = Some(Sealed { digest: Digest::of(&taken), size: stated });
            let expected = Content { digest: Digest::of(&bytes), sealed, cid: Some(cid.finish()) };
            assert_eq!(content.expect("read"), expected, "{len}");
            assert_eq!(opened.expect("it is whole"), bytes, "{len}");
        }
    }

    #[cfg(target_os = "linux")]
    // B11: as those in /proc, which say that they hold nothing.
    #[test]
    fn a_file_that_holds_more_than_it_says_has_no_version_to_send() {
        let root = OpenRoot::open(Path::new("/proc/sys/kernel"), None).expect("open");
        let path = MirrorPath::from_bytes(b"ostype").expect("a path");
        let version = version(&root, &path);
        assert_eq!(version.size, 0);
        let read = Reading::open(&root, &path, version).expect("opened").send(None, |_| Ok(()));
        assert!(matches!(read, Err(ReadError::Moved)), "{read:?}");
    }

    // B10
    #[test]
    fn a_pipe_in_the_files_place_holds_nobody_up() {
        let (dir, root, path) = mirror(b"x");
        let version = version(&root, &path);
        fs::remove_file(dir.path().join("f")).expect("removed");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            dir.path().join("f"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RWXU,
            0,
        )
        .expect("made");
        assert!(matches!(Reading::open(&root, &path, version), Err(ReadError::Moved)));
    }
}
