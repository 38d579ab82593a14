//! A reader of archives, from the specifications alone (CARv1, DAG-CBOR, DAG-PB, UnixFS), as strict as they are: it shares no
//! line with what wrote them.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest as _, Sha256};

/// An archive. Identifiers are in their text form.
pub(crate) struct Archive {
    pub(crate) roots: Vec<String>,
    pub(crate) blocks: BTreeMap<String, Vec<u8>>,
}

/// Bytes that are read from their beginning.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> &'a [u8] {
        assert!(count <= self.0.len(), "it ends early: {count} of {} bytes", self.0.len());
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        taken
    }

    fn is_at_end(&self) -> bool {
        self.0.is_empty()
    }

    /// A number in its shortest form.
    fn varint(&mut self) -> usize {
        let mut value = 0_u64;
        for shift in (0..63).step_by(7) {
            let byte = self.take(1)[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                assert!(byte != 0 || shift == 0, "a number that could be shorter");
                return usize::try_from(value).expect("a number that fits");
            }
        }
        panic!("a number without an end");
    }

    /// The head of a value in CBOR: its kind, and its number in its shortest form.
    fn cbor(&mut self) -> (u8, usize) {
        let first = self.take(1)[0];
        let (value, least) = match first & 31 {
            small @ 0..24 => (usize::from(small), 0),
            24 => (usize::from(self.take(1)[0]), 24),
            25 => (usize::from(u16::from_be_bytes(self.take(2).try_into().expect("two"))), 0x100),
            26 => (u32::from_be_bytes(self.take(4).try_into().expect("four")) as usize, 0x1_0000),
            other => panic!("{other} has no place in a head"),
        };
        assert!(value >= least, "a number that could be shorter");
        (first >> 5, value)
    }

    /// A CIDv0.
    fn id(&mut self) -> String {
        let bytes = self.take(34);
        assert_eq!(bytes[..2], [0x12, 0x20], "SHA-256, of 32 bytes");
        bs58::encode(bytes).into_string()
    }
}

/// Reads an archive, and checks each block against its identifier.
pub(crate) fn read(archive: &[u8]) -> Archive {
    let mut rest = Bytes(archive);
    let length = rest.varint();
    let mut head = Bytes(rest.take(length));
    assert_eq!(head.cbor(), (5, 2), "a map of two");
    assert_eq!((head.cbor(), head.take(5)), ((3, 5), &b"roots"[..]));
    let (kind, count) = head.cbor();
    assert_eq!(kind, 4, "a list");
    let mut roots = Vec::new();
    for _ in 0..count {
        assert_eq!((head.cbor(), head.cbor(), head.take(1)), ((6, 42), (2, 35), &[0][..]));
        roots.push(head.id());
    }
    assert_eq!((head.cbor(), head.take(7), head.cbor()), ((3, 7), &b"version"[..], (0, 1)));
    assert!(head.is_at_end() && !roots.is_empty());

    let mut blocks = BTreeMap::new();
    while !rest.is_at_end() {
        let length = rest.varint();
        let mut section = Bytes(rest.take(length));
        let id = section.id();
        let block = section.0.to_vec();
        let digest: [u8; 32] = Sha256::digest(&block).into();
        assert_eq!(bs58::decode(&id).into_vec().expect("base 58")[2..], digest, "a block under another's name");
        assert!(block.len() <= 1 << 20, "nodes pass on no block above 1 MiB");
        assert!(blocks.insert(id, block).is_none(), "a block twice");
    }
    Archive { roots, blocks }
}

/// The content of each root's file. All links lead to blocks, and all blocks are led to.
pub(crate) fn files(archive: &Archive) -> BTreeMap<String, Vec<u8>> {
    let mut met = BTreeSet::new();
    let mut files = BTreeMap::new();
    for root in &archive.roots {
        let mut content = Vec::new();
        let length = append(archive, root, &mut content, &mut met).0;
        assert_eq!(length, content.len());
        files.insert(root.clone(), content);
    }
    let all: BTreeSet<&str> = archive.blocks.keys().map(String::as_str).collect();
    assert!(met.iter().map(String::as_str).eq(all), "a block that no root leads to");
    files
}

/// Appends what is below a node; returns how many bytes that are by its own word, and in blocks.
fn append(archive: &Archive, id: &str, content: &mut Vec<u8>, met: &mut BTreeSet<String>) -> (usize, usize) {
    let block = archive.blocks.get(id).unwrap_or_else(|| panic!("no block {id}"));
    met.insert(id.to_owned());
    let (mut node, mut links, mut data) = (Bytes(block), Vec::new(), None);
    while !node.is_at_end() {
        // PBNode: links (2) come before the data (1).
        let (field, length) = (node.varint(), node.varint());
        let mut inner = Bytes(node.take(length));
        match field {
            0x12 => {
                assert!(data.is_none(), "a link behind the data");
                assert_eq!((inner.varint(), inner.varint()), (0x0a, 34));
                let id = inner.id();
                assert_eq!(
                    (inner.varint(), inner.varint(), inner.varint()),
                    (0x12, 0, 0x18),
                    "an empty name, and a size"
                );
                links.push((id, inner.varint()));
                assert!(inner.is_at_end());
            }
            0x0a => assert!(data.replace(inner).is_none(), "data twice"),
            other => panic!("field {other}"),
        }
    }
    let mut unixfs = data.expect("data");
    assert_eq!((unixfs.varint(), unixfs.varint()), (0x08, 2), "a file");
    let (begin, mut length, mut sizes, mut in_blocks) = (content.len(), None, Vec::new(), block.len());
    while !unixfs.is_at_end() {
        match unixfs.varint() {
            0x12 => {
                let bytes = unixfs.varint();
                content.extend_from_slice(unixfs.take(bytes));
            }
            0x18 => length = Some(unixfs.varint()),
            0x20 => sizes.push(unixfs.varint()),
            other => panic!("field {other}"),
        }
    }
    assert!(links.len() <= 174 && links.len() == sizes.len());
    for ((id, weight), size) in links.into_iter().zip(sizes) {
        let (bytes, blocks) = append(archive, &id, content, met);
        assert_eq!((bytes, blocks), (size, weight), "a link says how much is behind it");
        in_blocks += blocks;
    }
    assert_eq!(length, Some(content.len() - begin));
    (content.len() - begin, in_blocks)
}
