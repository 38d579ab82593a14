//! A content-addressed archive, CARv1 (<https://ipld.io/specs/transport/car/carv1/>): a list of roots, then blocks, each with
//! its identifier.
//!
//! The list comes first in the file, and which files will come is known last. So the roots are named beforehand, room is left
//! for all of them, and in the end the place of one that did not come goes to another that did: the length stays, and each
//! root that is named is in the archive.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufWriter, Seek as _, SeekFrom, Write as _};

use crate::mirror::{Blocks, multihash, varint};

/// Readers refuse a list of roots above 32 MiB (go-car, and so `ipfs dag import`); each root takes 39 bytes of it.
pub const MOST_ROOTS: usize = 800_000;
/// Blocks that are remembered, so as not to be written twice: 64 GiB of whole chunks. Beyond that they are forgotten, and one
/// may come twice, which costs room and nothing else. Some 16 MiB in memory.
const MOST_KNOWN: usize = 262_144;
const BUFFER_BYTES: usize = 1 << 20;

/// An archive that is being written.
pub struct Car {
    out: BufWriter<File>,
    /// By their SHA-256, in order.
    roots: Vec<[u8; 32]>,
    /// Which of these are in it.
    is_in: Vec<bool>,
    known: HashSet<[u8; 32]>,
    end: u64,
    /// Where the file that is being written begins.
    mark: u64,
    /// What a block could not be written for.
    trouble: Option<io::Error>,
}

impl Car {
    /// Blocking: begins an archive of the files whose first blocks these are, in an empty file.
    ///
    /// # Errors
    /// As the file system says.
    pub fn begin(file: File, mut roots: Vec<[u8; 32]>) -> io::Result<Self> {
        roots.sort_unstable();
        roots.dedup();
        let mut out = BufWriter::with_capacity(BUFFER_BYTES, file);
        let room = header(&roots);
        out.write_all(&room)?;
        let end = room.len() as u64;
        let is_in = vec![false; roots.len()];
        Ok(Self { out, roots, is_in, known: HashSet::new(), end, mark: end, trouble: None })
    }

    /// Whether a file with this root is to come, and is in it already; `None`: it is none of those that were named.
    #[must_use]
    pub fn has(&self, root: &[u8; 32]) -> Option<bool> {
        Some(self.is_in[self.roots.binary_search(root).ok()?])
    }

    /// From here on the blocks of another file come.
    pub fn mark(&mut self) {
        self.mark = self.end;
    }

    /// The file's blocks are all there, and this is its root.
    ///
    /// # Errors
    /// If they could not be written.
    pub fn keep(&mut self, root: &[u8; 32]) -> io::Result<()> {
        self.check()?;
        if let Ok(at) = self.roots.binary_search(root) {
            self.is_in[at] = true;
        }
        Ok(())
    }

    /// Blocking: takes back what was written of the file.
    ///
    /// # Errors
    /// As the file system says.
    pub fn take_back(&mut self) -> io::Result<()> {
        self.check()?;
        if self.end == self.mark {
            return Ok(());
        }
        self.out.flush()?;
        self.out.get_ref().set_len(self.mark)?;
        self.out.seek(SeekFrom::Start(self.mark))?;
        self.end = self.mark;
        // Nobody kept which of them were the file's.
        self.known.clear();
        Ok(())
    }

    /// Blocking: writes the list of roots. Returns how many there are, and the archive, unless there is none.
    ///
    /// # Errors
    /// As the file system says.
    pub fn finish(mut self) -> io::Result<(usize, File)> {
        self.check()?;
        let mut roots = std::mem::take(&mut self.roots);
        let first = self.is_in.iter().position(|is_in| *is_in).map(|at| roots[at]);
        let mut count = 0;
        for (root, is_in) in roots.iter_mut().zip(&self.is_in) {
            match (is_in, first) {
                (true, _) => count += 1,
                (false, Some(first)) => *root = first,
                (false, None) => {}
            }
        }
        self.out.seek(SeekFrom::Start(0))?;
        self.out.write_all(&header(&roots))?;
        let file = self.out.into_inner().map_err(io::IntoInnerError::into_error)?;
        Ok((count, file))
    }

    /// Whether all blocks could be written so far.
    ///
    /// # Errors
    /// Why one could not; nothing can be done about it but to give the archive up.
    pub fn check(&mut self) -> io::Result<()> {
        self.trouble.take().map_or(Ok(()), Err)
    }

    fn write(&mut self, sha256: &[u8; 32], parts: &[&[u8]]) -> io::Result<()> {
        let id = multihash(sha256);
        let bytes = id.len() as u64 + parts.iter().map(|part| part.len() as u64).sum::<u64>();
        let mut length = Vec::with_capacity(10);
        varint(bytes, &mut length);
        self.out.write_all(&length)?;
        self.out.write_all(&id)?;
        parts.iter().try_for_each(|part| self.out.write_all(part))?;
        self.end += length.len() as u64 + bytes;
        Ok(())
    }
}

impl Blocks for &RefCell<Car> {
    fn take(&mut self, sha256: &[u8; 32], parts: &[&[u8]]) {
        let mut car = self.borrow_mut();
        if car.trouble.is_some() || car.known.contains(sha256) {
            return;
        }
        if car.known.len() >= MOST_KNOWN {
            car.known.clear();
        }
        car.known.insert(*sha256);
        if let Err(error) = car.write(sha256, parts) {
            car.trouble = Some(error);
        }
    }
}

/// The head of an archive: its length, and `{"roots": […], "version": 1}` in DAG-CBOR.
fn header(roots: &[[u8; 32]]) -> Vec<u8> {
    let mut map = vec![0xa2, 0x65];
    map.extend_from_slice(b"roots");
    match u32::try_from(roots.len()).unwrap_or(u32::MAX) {
        few @ 0..24 => map.push(0x80 | few as u8),
        some @ 24..0x100 => map.extend_from_slice(&[0x98, some as u8]),
        many @ 0x100..0x1_0000 => {
            map.push(0x99);
            map.extend_from_slice(&(many as u16).to_be_bytes());
        }
        most => {
            map.push(0x9a);
            map.extend_from_slice(&most.to_be_bytes());
        }
    }
    for root in roots {
        // Tag 42, bytes: a zero, and the identifier's binary form.
        map.extend_from_slice(&[0xd8, 0x2a, 0x58, 35, 0]);
        map.extend_from_slice(&multihash(root));
    }
    map.push(0x67);
    map.extend_from_slice(b"version\x01");
    let mut head = Vec::with_capacity(map.len() + 5);
    varint(map.len() as u64, &mut head);
    head.extend_from_slice(&map);
    head
}
