//! IPFS content identifiers: the name that IPFS gives to a file's bytes.
//!
//! [`CidBuilder`] computes what `ipfs add` prints by default: a CIDv0 over a UnixFS file in dag-pb, cut into chunks of
//! 256 KiB, in a balanced tree of at most 174 links a node, with SHA-256. dStor's answers have had this form so far;
//! a service that chunks otherwise gives another, equally valid name for the same bytes.

use std::fmt;

use sha2::{Digest as _, Sha256};

/// Bytes in a chunk, as `ipfs add` cuts them by default.
pub const CHUNK_BYTES: usize = 256 * 1024;
/// Links in an interior node, as `ipfs add` makes them by default.
const LINKS_A_NODE: usize = 174;
/// Longest identifier taken from a server, in characters. A CIDv1 with SHA-512 in base 32 has 112.
const LONGEST: usize = 128;

/// A content identifier in its text form, known to be well formed.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cid(String);

/// This text is not a content identifier.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not an IPFS content identifier")]
pub struct NotACid;

impl Cid {
    /// Takes `text` if it is a CIDv0 (`Qm…`, 46 characters of base 58) or has the form of a CIDv1 in base 32 or base 58.
    ///
    /// # Errors
    /// [`NotACid`] for anything else; what passes is safe in a URL and on a terminal.
    pub fn parse(text: &str) -> Result<Self, NotACid> {
        let well_formed = match text.as_bytes() {
            [b'Q', b'm', ..] => {
                bs58::decode(text).into_vec().is_ok_and(|bytes| bytes.len() == 34 && bytes[..2] == [0x12, 0x20])
            }
            [b'b', rest @ ..] => rest.len() >= 50 && rest.iter().all(|b| matches!(b, b'a'..=b'z' | b'2'..=b'7')),
            [b'z', rest @ ..] => {
                rest.len() >= 45 && text.len() <= LONGEST && bs58::decode(rest).into_vec().is_ok_and(|b| b[0] == 1)
            }
            _ => false,
        };
        if well_formed && text.len() <= LONGEST { Ok(Self(text.to_owned())) } else { Err(NotACid) }
    }

    /// The SHA-256 of the block that a CIDv0 names; `None` for a CIDv1.
    #[must_use]
    pub fn sha256_of_v0(&self) -> Option<[u8; 32]> {
        // Only a CIDv0 begins so: see `parse`.
        let bytes = self.0.starts_with("Qm").then(|| bs58::decode(&self.0).into_vec().ok())??;
        bytes.get(2..)?.try_into().ok()
    }

    /// The identifier's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Cid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Cid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cid({})", self.0)
    }
}

/// A node of the tree as its parent sees it.
struct Link {
    sha256: [u8; 32],
    /// Bytes of the file below this node.
    file_bytes: u64,
    /// Bytes of all blocks below and with this node: dag-pb's `Tsize`.
    dag_bytes: u64,
}

/// Takes the blocks of a file as they are made: those of its chunks, and each node after all that it links to.
pub trait Blocks {
    /// The next block: its SHA-256, and its bytes in parts.
    fn take(&mut self, sha256: &[u8; 32], parts: &[&[u8]]);
}

/// Nobody wants them.
impl Blocks for () {
    fn take(&mut self, _: &[u8; 32], _: &[&[u8]]) {}
}

/// Computes a file's CIDv0 from its bytes as they pass by. Keeps one chunk and the tree's open nodes in memory.
pub struct CidBuilder<B = ()> {
    chunk_bytes: usize,
    chunk: Vec<u8>,
    /// Nodes without a parent yet, the leaves first.
    levels: Vec<Vec<Link>>,
    blocks: B,
}

impl Default for CidBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl CidBuilder {
    /// A builder with the chunk size that `ipfs add` uses, 256 KiB.
    #[must_use]
    pub fn new() -> Self {
        Self::with_chunk_bytes(CHUNK_BYTES)
    }

    /// A builder that cuts every `chunk_bytes`: small ones reach deep trees with little data.
    #[must_use]
    pub fn with_chunk_bytes(chunk_bytes: usize) -> Self {
        assert!(chunk_bytes > 0, "a chunk holds at least one byte");
        Self { chunk_bytes, chunk: Vec::new(), levels: vec![Vec::new()], blocks: () }
    }
}

impl<B: Blocks> CidBuilder<B> {
    /// A builder with the usual chunk size that gives the blocks away as it makes them.
    #[must_use]
    pub fn with_blocks(blocks: B) -> Self {
        Self { chunk_bytes: CHUNK_BYTES, chunk: Vec::new(), levels: vec![Vec::new()], blocks }
    }

    /// Takes the file's next bytes.
    pub fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.chunk.is_empty() && bytes.len() >= self.chunk_bytes {
                // A whole chunk is hashed where it lies: no copy.
                let (chunk, rest) = bytes.split_at(self.chunk_bytes);
                let full = leaf(chunk, &mut self.blocks);
                self.add(full);
                bytes = rest;
                continue;
            }
            let wanted = (self.chunk_bytes - self.chunk.len()).min(bytes.len());
            self.chunk.extend_from_slice(&bytes[..wanted]);
            bytes = &bytes[wanted..];
            if self.chunk.len() == self.chunk_bytes {
                let full = leaf(&self.chunk, &mut self.blocks);
                self.chunk.clear();
                self.add(full);
            }
        }
    }

    /// The identifier of all bytes taken.
    #[must_use]
    pub fn finish(mut self) -> Cid {
        let is_empty = self.levels.iter().all(Vec::is_empty);
        if !self.chunk.is_empty() || is_empty {
            let last = leaf(&self.chunk, &mut self.blocks);
            self.add(last);
        }
        let mut level = 0;
        loop {
            let is_top = self.levels[level + 1..].iter().all(Vec::is_empty);
            if is_top && self.levels[level].len() == 1 {
                return cid_v0(&self.levels[level][0].sha256);
            }
            self.close(level);
            level += 1;
        }
    }

    fn add(&mut self, leaf: Link) {
        self.levels[0].push(leaf);
        let mut level = 0;
        while self.levels[level].len() == LINKS_A_NODE {
            self.close(level);
            level += 1;
        }
    }

    /// Gives the nodes of `level` their parent. An empty level has none to give.
    fn close(&mut self, level: usize) {
        if self.levels.len() == level + 1 {
            self.levels.push(Vec::new());
        }
        let children = std::mem::take(&mut self.levels[level]);
        if !children.is_empty() {
            let node = parent(&children, &mut self.blocks);
            self.levels[level + 1].push(node);
        }
    }
}

fn cid_v0(sha256: &[u8; 32]) -> Cid {
    Cid(bs58::encode(multihash(sha256)).into_string())
}

/// The multihash of a SHA-256, which is also the binary form of a CIDv0: its code, its length, itself.
#[must_use]
pub fn multihash(sha256: &[u8; 32]) -> [u8; 34] {
    let mut out = [0; 34];
    out[..2].copy_from_slice(&[0x12, 0x20]);
    out[2..].copy_from_slice(sha256);
    out
}

fn leaf(chunk: &[u8], blocks: &mut impl Blocks) -> Link {
    // UnixFS Data: 1 Type = File, 2 Data (absent when empty), 3 filesize. PBNode: 1 Data.
    let mut head = vec![0x08, 0x02];
    if !chunk.is_empty() {
        head.push(0x12);
        varint(chunk.len() as u64, &mut head);
    }
    let mut tail = vec![0x18];
    varint(chunk.len() as u64, &mut tail);
    let mut node = vec![0x0a];
    varint((head.len() + chunk.len() + tail.len()) as u64, &mut node);

    let parts = [&*node, &head, chunk, &tail];
    let mut sha = Sha256::new();
    parts.iter().for_each(|part| sha.update(part));
    let sha256 = sha.finalize().into();
    blocks.take(&sha256, &parts);
    let block_bytes = parts.iter().map(|part| part.len() as u64).sum();
    Link { sha256, file_bytes: chunk.len() as u64, dag_bytes: block_bytes }
}

fn parent(children: &[Link], blocks: &mut impl Blocks) -> Link {
    let file_bytes = children.iter().map(|child| child.file_bytes).sum();
    let mut block = Vec::with_capacity(children.len() * 56);
    for child in children {
        // PBNode: 2 Links. PBLink: 1 Hash, 2 Name (empty, but there), 3 Tsize. Links come before the data.
        let mut link = vec![0x0a, 34];
        link.extend_from_slice(&multihash(&child.sha256));
        link.extend_from_slice(&[0x12, 0, 0x18]);
        varint(child.dag_bytes, &mut link);
        block.push(0x12);
        varint(link.len() as u64, &mut block);
        block.extend_from_slice(&link);
    }
    // UnixFS Data: 1 Type = File, 3 filesize, 4 blocksizes (one a child).
    let mut data = vec![0x08, 0x02, 0x18];
    varint(file_bytes, &mut data);
    for child in children {
        data.push(0x20);
        varint(child.file_bytes, &mut data);
    }
    block.push(0x0a);
    varint(data.len() as u64, &mut block);
    block.extend_from_slice(&data);

    let below: u64 = children.iter().map(|child| child.dag_bytes).sum();
    let sha256 = Sha256::digest(&block).into();
    blocks.take(&sha256, &[&block]);
    Link { sha256, file_bytes, dag_bytes: below + block.len() as u64 }
}

/// Appends a number as multiformats and protobuf write it: seven bits a byte, the lowest first.
pub fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push((value as u8) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Concatenated SHA-512 of the little-endian u64 counter 0, 1, 2 …, cut to `len`: anyone can make it again.
    fn content(len: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(len + 64);
        for counter in 0u64.. {
            if out.len() >= len {
                break;
            }
            out.extend_from_slice(&sha2::Sha512::digest(counter.to_le_bytes()));
        }
        out.truncate(len);
        out
    }

    fn cid_of(bytes: &[u8], chunk_bytes: usize, step: usize) -> String {
        let mut builder = CidBuilder::with_chunk_bytes(chunk_bytes);
        for part in bytes.chunks(step) {
            builder.update(part);
        }
        builder.finish().to_string()
    }

    /// As IPFS's own JavaScript implementation has them: `tests/cids/vectors.mjs` tells which version, and prints them.
    #[test]
    fn cids_equal_those_of_other_implementations() {
        let long = content(45_613_057);
        for (len, chunk_bytes, expected) in [
            (0, CHUNK_BYTES, "QmbFMke1KXqnYyBBWxB74N4c5SBnJMVAiMNRcGu6x1AwQH"),
            (1, CHUNK_BYTES, "QmeNBNm3jqNQCzm7TvZLtnUAyfBp1BmPRwte7AJyyNGEKr"),
            (262_143, CHUNK_BYTES, "QmfG3UcVoP4ECday6avC5iF7PJhb7Mq1TDJfDZoPf3BzqL"), // *
            (262_144, CHUNK_BYTES, "QmRBHWp3cRc1B4NNbvuaqDLQRuiu4dMGJsZtRvvTyfpjN8"),
            (262_145, CHUNK_BYTES, "QmSwPSSKz1QBmfH29T3xzJhMDdF5pVsuv4cT4oAPLPNNCE"),
            // 174 chunks: the links of one node.
            (45_613_055, CHUNK_BYTES, "QmRVaZbNx247iZporeTG1hRndYMT7HN4VemSArNpBD1T5i"),
            (45_613_056, CHUNK_BYTES, "QmW87TTFz3Erd9vX6VEhb5iL9cpEraWbMhykJJmi7b1GTW"),
            (45_613_057, CHUNK_BYTES, "QmVjXB8W3B1aEBwTRLiu2MqHmiV6mUzDfrUuYEM5G5LWHn"),
            // 174² chunks, small ones: the links of two levels, and one more.
            (484_415, 16, "QmStyr3DiJowmmv1Dsf8ii9z7ZiRyLKBsWMauqrE2o6TMX"),
            (484_416, 16, "QmRtkHBVMQqtDaod2MmVoFA2vnaFzTpR54Gdn29f49mxt3"),
            (484_417, 16, "QmbvCvv919RvEnfDazbmzR7DuuXjSArqeJCLRgeUA8x19A"),
        ] {
            assert_eq!(cid_of(&long[..len], chunk_bytes, 1 << 20), expected, "{len} bytes in chunks of {chunk_bytes}");
        }
        let hello = cid_of(b"hello world\n", CHUNK_BYTES, 5);
        assert_eq!(hello, "QmT78zSuBmuS4z925WZfrqQ1qHaJ56DQaTfyMUF7F8ff5o");
    }

    proptest::proptest! {
        #[test]
        fn how_the_bytes_are_cut_on_their_way_makes_no_difference(len in 0usize..20_000, step in 1usize..3_000) {
            let bytes = content(len);
            proptest::prop_assert_eq!(cid_of(&bytes, 64, step), cid_of(&bytes, 64, usize::MAX));
        }

        #[test]
        fn no_text_makes_parse_panic(text in ".{0,200}") {
            if let Ok(cid) = Cid::parse(&text) {
                proptest::prop_assert!(cid.as_str().bytes().all(|b| b.is_ascii_alphanumeric()));
            }
        }
    }

    #[test]
    fn only_content_identifiers_are_taken_from_a_server() {
        for good in [
            "QmT78zSuBmuS4z925WZfrqQ1qHaJ56DQaTfyMUF7F8ff5o",
            "bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi",
            "zdj7WWeQ43G6JJvLWQWZpyHuAMq6uYWRjkBXFad11vE2LHhQ7",
        ] {
            assert!(Cid::parse(good).is_ok(), "{good}");
        }
        for bad in
            ["", "Qm", "z", "b", "../../etc/passwd", "QmT78zSuBmuS4z925WZfrqQ1qHaJ56DQaTfyMUF7F8ff5", "Qm\u{1b}[31m"]
        {
            assert_eq!(Cid::parse(bad), Err(NotACid), "{bad:?}");
        }
        assert_eq!(Cid::parse(&format!("b{}", "a".repeat(200))), Err(NotACid));
    }
}
