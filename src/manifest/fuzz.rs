//! Fuzz targets: whatever lies under a manifest's hash.

use super::{Cutter, FormError, LONGEST_PART, Order, Packing, Part, Root, files, pack, unpack};
use crate::mirror::fuzz::weave;
use crate::mirror::{Cid, Digest};

const WORDS: [&str; 18] = [
    "{\"dstor_sync_manifest\":1,\"kind\":\"root\"}\n",
    "{\"dstor_sync_manifest\":1,\"kind\":\"part\"}\n",
    "{\"dstor_sync_manifest\":2}\n",
    "{\"part\":\"QmT78zSuBmuS4z925WZfrqQ1qHaJ56DQaTfyMUF7F8ff5o\",\"packed\":9,\"bytes\":9,\"blake3\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\",\"files\":1000000000}\n",
    "{\"end\":1}\n",
    "{\"end\":0}\n",
    "{\"path\":\"",
    "{\"path\":\"a\",",
    "{\"path\":\"b/../../x\",",
    "{\"path\":\"/etc/passwd\",",
    "{\"path_bytes\":\"Li4v\",",
    "\",",
    "\"size\":18446744073709551615,",
    "\"size\":0,",
    "\"mode\":\"644\",\"mtime\":[0,0],\"blake3\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\",",
    "\"hash\":\"QmT78zSuBmuS4z925WZfrqQ1qHaJ56DQaTfyMUF7F8ff5o\"}\n",
    "\"older_at_most\":3,",
    "..",
];

#[test]
fn fuzz_a_manifest_is_files_below_a_mirror_in_order_or_refused() {
    bolero::check!().for_each(|bytes: &[u8]| {
        let text = weave(bytes, &WORDS);
        // As it comes, and packed as it should be.
        for packed in [bytes.to_vec(), pack(text.as_bytes(), Packing::Small)] {
            if let Ok(mut root) = Root::read(&packed) {
                let mut parts = 0;
                while let Ok(Some(part)) = root.next_part() {
                    assert!(part.packed <= LONGEST_PART && part.bytes <= LONGEST_PART);
                    parts += 1;
                }
                assert!(parts <= text.len() + bytes.len());
            }
        }
        let mut order = Order::default();
        if let Ok(found) = files(text.as_bytes(), &mut order) {
            for file in &found {
                let plain = |part: &[u8]| !matches!(part, b"" | b"." | b"..") && !part.contains(&0);
                assert!(file.path.as_bytes().split(|b| *b == b'/').all(plain), "{:?}", file.path);
                assert!(file.longest >= file.size && file.mtime.nanos < 1_000_000_000 && file.mode <= 0o7777);
            }
            let keys: Vec<_> = found.iter().filter_map(|file| file.path.split()).collect();
            assert!(keys.windows(2).all(|pair| pair[0] < pair[1]), "out of order: {keys:?}");
            // What was read is written and read back the same.
            let mut cutter = Cutter::default();
            let drafts: Vec<_> = found.iter().filter_map(|file| cutter.add(file)).collect();
            let mut again = Vec::new();
            let mut order = Order::default();
            for draft in drafts.into_iter().chain(cutter.end()) {
                again.extend(files(&draft.text, &mut order).expect("what was written is read"));
            }
            assert_eq!(again, found);
        }
        let hash = Cid::parse("QmT78zSuBmuS4z925WZfrqQ1qHaJ56DQaTfyMUF7F8ff5o").expect("a hash");
        let packed = pack(text.as_bytes(), Packing::Small);
        let part = Part { hash, packed: 0, bytes: text.len() as u64, digest: Digest::of(text.as_bytes()), files: 0 };
        assert_eq!(unpack(&part, &packed).as_deref(), Ok(text.as_bytes()));
        let other = Part { digest: Digest::of(b"another"), ..part };
        assert!(matches!(unpack(&other, &packed), Err(FormError::Wrong(_))));
    });
}
