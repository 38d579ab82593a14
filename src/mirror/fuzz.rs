//! Fuzz targets of this room, and what those of other rooms share. tests/README.md tells how to run them for long.

use std::path::Path;

use super::{Cid, CidBuilder, Included, MirrorPath, Placement, RemoteDir, Rules, escape};

/// Bytes as text: those from 0x80 on stand for one of `words`, the others for themselves. So the bytes that a fuzzer
/// finds or chance brings are soon near to what the target reads.
pub(crate) fn weave(bytes: &[u8], words: &[&str]) -> String {
    let mut text = String::new();
    for byte in bytes {
        match byte.checked_sub(0x80) {
            Some(word) => text.push_str(words[usize::from(word) % words.len()]),
            None => text.push(char::from(*byte)),
        }
    }
    text
}

/// Whether nothing in `text` acts on a terminal; written without a look at what escapes it.
pub(crate) fn is_inert(text: &str) -> bool {
    !text.chars().any(|c| {
        let number = u32::from(c);
        number < 0x20
            || (0x7f..0xa0).contains(&number)
            || "\u{ad}\u{61c}\u{200b}\u{200e}\u{200f}\u{2028}\u{2029}\u{202a}\u{202e}\u{2066}\u{2069}\u{feff}"
                .contains(c)
    })
}

const ODD: [&str; 20] = [
    "/",
    "//",
    ".",
    "..",
    "/../",
    "./",
    "a",
    "é",
    "e\u{301}",
    "\u{1b}[31m",
    "\u{9b}",
    "\u{202e}",
    "\u{7f}",
    "\r\n",
    "\"",
    "%22",
    "\\",
    "日本",
    " ",
    "\0",
];

#[test]
fn fuzz_paths_are_plain_or_refused_and_always_inert() {
    bolero::check!().for_each(|bytes: &[u8]| {
        for bytes in [bytes, weave(bytes, &ODD).as_bytes()] {
            let is_plain = bytes.is_empty()
                || bytes
                    .split(|b| *b == b'/')
                    .all(|part| !part.is_empty() && part != b"." && part != b".." && !part.contains(&0));
            let Some(path) = MirrorPath::from_bytes(bytes) else {
                assert!(!is_plain, "refused: {bytes:?}");
                continue;
            };
            assert!(is_plain && path.as_bytes() == bytes, "taken: {bytes:?}");
            assert!(is_inert(&path.to_string()), "{path:?}");
            let root = Path::new("/home/me");
            assert_eq!(MirrorPath::relative(root, &path.under(root)).as_ref(), Some(&path));
            if let Some((parent, name)) = path.split() {
                assert_eq!(parent.join(name).as_ref(), Some(&path));
                assert_eq!(path.lineage().last().as_ref(), Some(&path));
            }
        }
    });
}

#[test]
fn fuzz_remote_directories_are_plain_and_read_back_the_same() {
    bolero::check!().for_each(|bytes: &[u8]| {
        let text = weave(bytes, &ODD);
        let Ok(dir) = RemoteDir::parse(&text) else {
            assert!(
                text.split('/').any(|part| part == "." || part == ".." || part.contains('\0')),
                "refused: {text:?}"
            );
            return;
        };
        assert_eq!(RemoteDir::parse(dir.as_str()).as_ref(), Ok(&dir));
        assert!(dir.is_root() || dir.as_str().split('/').all(|part| !matches!(part, "" | "." | "..")), "{dir:?}");
        assert!(is_inert(&dir.to_string()), "{dir:?}");
        if let Some(below) = MirrorPath::from_bytes(bytes)
            && let Ok(Placement::Path(placed)) = Placement::Path(dir.clone()).of_directory(&below)
        {
            let joined = [dir.as_str(), std::str::from_utf8(bytes).expect("it has a place")].join("/");
            assert_eq!(placed.as_str(), joined.trim_matches('/'));
        }
    });
}

#[test]
fn fuzz_escaped_text_is_inert_and_plain_text_stays_as_it_is() {
    bolero::check!().for_each(|bytes: &[u8]| {
        for bytes in [bytes, weave(bytes, &ODD).as_bytes()] {
            let mut out = String::new();
            escape(bytes, &mut out).expect("a String takes all");
            assert!(is_inert(&out), "{out:?}");
            if bytes.iter().all(|b| (0x20..0x7f).contains(b)) {
                assert_eq!(out.as_bytes(), bytes);
            }
        }
    });
}

#[test]
fn fuzz_identifiers_are_letters_and_digits_and_read_back_the_same() {
    const WORDS: [&str; 12] = [
        "Qm",
        "QmT78zSuBmuS4z925WZfrqQ1qHaJ56DQaTfyMUF7F8ff5o",
        "bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi",
        "zdj7WhuEjrB52m1BisYCtmjH1hSKa7yZ3jEZ9JcXaFRD51wVz",
        "b",
        "z",
        "1111",
        "/",
        "?",
        "\u{1b}",
        "é",
        "",
    ];
    bolero::check!().for_each(|bytes: &[u8]| {
        let text = weave(bytes, &WORDS);
        if let Ok(cid) = Cid::parse(&text) {
            assert_eq!(cid.as_str(), text);
            assert!((46..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric()), "{text:?}");
        }
        let mut builder = CidBuilder::with_chunk_bytes(1 + bytes.first().map_or(0, |b| usize::from(b % 16)));
        builder.update(bytes);
        let cid = builder.finish();
        assert_eq!(Cid::parse(cid.as_str()).as_ref(), Ok(&cid));
        // With another character in it, it is none or another one.
        let at = bytes.len() % 46;
        let changed: String = cid
            .as_str()
            .chars()
            .enumerate()
            .map(|(place, c)| if place == at { if c == '2' { '3' } else { '2' } } else { c })
            .collect();
        assert!(Cid::parse(&changed).map_or(true, |other| other != cid));
    });
}

#[test]
fn fuzz_rules_name_the_line_that_counts_and_the_last_one_wins() {
    const WORDS: [&str; 22] = [
        "*", "**", "/", "!", "[", "]", "[a-z]", "[!a]", "{a,b}", "{", "}", "\\", "#", " ", "?", "a", "b", ".txt", "é",
        "\u{1b}", "\n", "\n",
    ];
    bolero::check!().for_each(|bytes: &[u8]| {
        let text = weave(bytes, &WORDS);
        let lines: Vec<&str> = text.lines().take(50).collect();
        let (rules, bad) = Rules::parse("here", MirrorPath::top(), lines.iter().copied());
        assert!(bad.iter().all(|(line, _)| *line <= lines.len()), "{bad:?}");
        let (elsewhere, _) =
            Rules::parse("elsewhere", MirrorPath::from_bytes(b"else/where").expect("plain"), lines.iter().copied());
        const NAMES: [&str; 6] = ["a", "b", ".txt", "/a", "é", " "];
        let name: String = bytes.iter().take(8).map(|byte| NAMES[usize::from(*byte) % NAMES.len()]).collect();
        let Some(path) = MirrorPath::from_bytes(name.as_bytes()).filter(|path| !path.is_top()) else { return };
        for is_directory in [false, true] {
            if let Included::No(rule) = Included::judge(&path, is_directory, true, [&rules].into_iter()) {
                assert_eq!(
                    lines.get(rule.line.wrapping_sub(1)).map(|line| line.trim_end()),
                    Some(rule.pattern.trim_end())
                );
                assert!(!bad.iter().any(|(line, _)| *line == rule.line), "{rule:?} is no rule and counts");
                assert!(is_inert(&rule.to_string()), "{rule:?}");
            }
            assert!(
                Included::judge(&path, is_directory, true, [&elsewhere].into_iter()).is_yes(),
                "a rule counts outside"
            );
            // The same list with a last line that names this very path, each of its characters for itself.
            if !name.contains(char::is_control) {
                let literal: String = std::iter::once('/')
                    .chain(name.chars().flat_map(|c| (c != '/').then_some('\\').into_iter().chain([c])))
                    .collect();
                let with_last: Vec<&str> = lines.iter().copied().chain([literal.as_str()]).collect();
                let (rules, _) = Rules::parse("here", MirrorPath::top(), with_last.iter().copied());
                match Included::judge(&path, is_directory, true, [&rules].into_iter()) {
                    Included::No(rule) => assert_eq!(rule.line, with_last.len(), "{rule:?}"),
                    Included::Yes => panic!("{literal:?} leaves {name:?} in"),
                }
            }
        }
    });
}
