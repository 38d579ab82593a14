use super::*;

fn file(path: &str) -> Wanted {
    Wanted {
        path: MirrorPath::from_bytes(path.as_bytes()).expect("a plain path"),
        hash: Cid::parse("QmT78zSuBmuS4z925WZfrqQ1qHaJ56DQaTfyMUF7F8ff5o").expect("a hash"),
        digest: Digest::of(path.as_bytes()),
        sealed: None,
        size: 12,
        longest: 12,
        mtime: Timestamp { seconds: -1, nanos: 999_999_999 },
        mode: 0o640,
        is_older: false,
    }
}

fn drafts(files: &[Wanted]) -> Vec<Draft> {
    let mut cutter = Cutter::default();
    let mut drafts: Vec<Draft> = files.iter().filter_map(|file| cutter.add(file)).collect();
    drafts.extend(cutter.end());
    drafts
}

fn part_of(draft: &Draft) -> Part {
    let hash = Cid::parse("QmT78zSuBmuS4z925WZfrqQ1qHaJ56DQaTfyMUF7F8ff5o").expect("a hash");
    let packed = draft.packed(Packing::Small).len() as u64;
    Part { hash, packed, bytes: draft.text.len() as u64, digest: draft.digest(), files: draft.files }
}

#[test]
fn one_file_more_or_less_changes_one_part() {
    let all: Vec<Wanted> = (0..20_000).map(|at| file(&format!("d/f{at:06}"))).collect();
    let before = drafts(&all);
    assert!((10..40).contains(&before.len()), "{} parts", before.len());
    let mut fewer = all.clone();
    fewer.remove(7_000);
    let mut changed = all.clone();
    changed[12_345].digest = Digest::of(b"another");
    for after in [drafts(&fewer), drafts(&changed)] {
        let fresh = after.iter().filter(|draft| !before.contains(draft)).count();
        assert!((1..=2).contains(&fresh), "{fresh} parts are new");
    }
}

#[test]
fn a_list_is_read_back_as_it_was_written() {
    let mut all: Vec<Wanted> = ["a", "b", "dir/\u{1b}", "dir/é", "dir/x/y"].map(file).into();
    all[1].longest = 1000;
    all[1].is_older = true;
    all[2].size = u64::MAX;
    all[2].longest = u64::MAX;
    all[4].path = MirrorPath::from_bytes(b"dir/x/\xff").expect("a plain path");
    let drafts = drafts(&all);
    let parts: Vec<Part> = drafts.iter().map(part_of).collect();
    let packed = root("/home/me", "2026-11-25T00:00:00Z", 60, &parts, Packing::Small);
    let mut read = Root::read(&packed).expect("a root");
    assert_eq!((read.head().files, read.head().bytes, read.head().mirror.as_str()), (5, 60, "/home/me"));
    let (mut order, mut found) = (Order::default(), Vec::new());
    for draft in &drafts {
        let part = read.next_part().expect("read").expect("a part");
        let text = unpack(&part, &draft.packed(Packing::Small)).expect("unpacked");
        found.extend(files(&text, &mut order).expect("files"));
    }
    assert_eq!(read.next_part(), Ok(None));
    assert_eq!(found, all);
}

/// The list that version 1 wrote on the day it was made: what it says is read for ever.
#[test]
fn a_list_of_version_1_is_read() {
    let sample = |name: &str| {
        let samples = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/manifest/samples");
        std::fs::read(samples.join(name)).expect("a sample")
    };
    let packed = sample("root-1.gz");
    let mut root = Root::read(&packed).expect("a root");
    assert_eq!((root.head().files, root.head().mirror.as_str()), (3, "/home/me/Documents"));
    let part = root.next_part().expect("read").expect("a part");
    assert_eq!(root.next_part(), Ok(None));
    let text = unpack(&part, &sample("part-1.gz")).expect("unpacked");
    let files = files(&text, &mut Order::default()).expect("files");
    let told: Vec<String> = files.iter().map(|file| format!("{} {} {:o}", file.path, file.size, file.mode)).collect();
    assert_eq!(told, ["diary.txt 14 600", "taxes/2025.csv 1048576 644", "taxes/old 7 444"]);
    assert_eq!((files[0].mtime.seconds, files[0].mtime.nanos), (1_700_000_000, 123_456_789));
    assert_eq!(files[0].digest, Digest::of(b"dear diary, 1\n"));
    assert!(files[2].is_older && files[2].longest == 1024);
}

/// Lines, packed.
fn packed(lines: &[&str]) -> Vec<u8> {
    pack(lines.iter().map(|line| format!("{line}\n")).collect::<String>().as_bytes(), Packing::Small)
}

const HEAD: &str = r#"{"dstor_sync_manifest":1,"kind":"root","files":1000000000}"#;
const PART: &str = r#"{"part":"QmT78zSuBmuS4z925WZfrqQ1qHaJ56DQaTfyMUF7F8ff5o","packed":9,"bytes":9,"blake3":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","files":1000000000}"#;

// G8, G10
#[test]
fn a_root_that_is_none_or_misleads_is_refused() {
    let all = |packed: &[u8]| -> Result<usize, FormError> {
        let mut root = Root::read(packed)?;
        let mut parts = 0;
        while root.next_part()?.is_some() {
            parts += 1;
        }
        Ok(parts)
    };
    assert_eq!(all(&packed(&[HEAD, PART, r#"{"end":1}"#])), Ok(1), "a milliard of files claimed costs nothing");
    for foreign in [b"".as_slice(), b"\x1f\x8b", b"letters", &packed(&["{}"]), &packed(&["letters"])] {
        assert_eq!(all(foreign), Err(FormError::Foreign));
    }
    assert_eq!(all(&packed(&[r#"{"dstor_sync_manifest":2,"new":[]}"#])), Err(FormError::Version(2)));
    let whole = packed(&[HEAD, PART, r#"{"end":1}"#]);
    for (lines, what) in [
        (packed(&[HEAD, PART]), "cut off"),
        (packed(&[HEAD, PART, r#"{"end":2}"#]), "its end"),
        (packed(&[HEAD, PART, r#"{"end":1}"#, PART]), "its end"),
        (packed(&[HEAD, r#"{"part":"../x","packed":1}"#]), "no part"),
        (packed(&[HEAD, &PART.replace("Qm", "..")]), "no part"),
        (packed(&[HEAD, &PART.replace(r#""bytes":9"#, r#""bytes":9000000000"#)]), "longer than any"),
        (packed(&[r#"{"dstor_sync_manifest":1,"kind":"part"}"#]), "a part of a manifest"),
        (whole[..whole.len() - 12].to_vec(), "unpacked"),
    ] {
        let error = all(&lines).expect_err(what).to_string();
        assert!(error.contains(what) || error.contains("cut off"), "{error}, not {what}");
    }
    // A line that never ends, of which no more is unpacked than a line may have.
    let mut endless = format!("{HEAD}\n").into_bytes();
    endless.resize(1 << 20, b' ');
    assert!(matches!(all(&pack(&endless, Packing::Small)), Err(FormError::Wrong(_))));
}

// G8, G10
#[test]
fn a_part_that_swells_misleads_or_is_another_is_refused() {
    let bomb = vec![b' '; 16 << 20];
    let draft = Draft { text: bomb, files: 1 };
    let small = Part { bytes: 100, ..part_of(&draft) };
    assert!(matches!(unpack(&small, &draft.packed(Packing::Small)), Err(FormError::Wrong(_))));

    let entry = |path: &str| {
        let draft = drafts(&[file("placeholder")]).remove(0);
        String::from_utf8(draft.text).expect("UTF-8").replace("placeholder", path)
    };
    assert_eq!(files(entry("a").as_bytes(), &mut Order::default()).map(|files| files.len()), Ok(1));
    for bad in ["/etc/passwd", "../x", "a/../../x", "a//b", "", ".", "a/", "nu\\u0000ll"] {
        let found = files(entry(bad).as_bytes(), &mut Order::default());
        assert!(matches!(found, Err(FormError::Wrong(_))), "{bad}");
    }
    let good = entry("a");
    for (from, to) in [
        ("\"640\"", "\"77777\""),
        ("999999999]", "1000000000]"),
        ("\"Qm", "\"../"),
        ("\"size\":12", "\"size\":-1"),
        ("\"path\":\"a\"", "\"path\":\"a\",\"path_bytes\":\"YQ==\""),
        ("\"part\"", "\"root\""),
    ] {
        assert!(good.contains(from), "{good}");
        assert!(files(good.replace(from, to).as_bytes(), &mut Order::default()).is_err(), "{to}");
    }
    // The same file again, within a part or in the next one.
    let twice = format!("{good}{}", good.lines().nth(1).map(|line| format!("{line}\n")).expect("a line"));
    assert!(files(twice.as_bytes(), &mut Order::default()).is_err());
    let mut order = Order::default();
    assert!(files(good.as_bytes(), &mut order).is_ok() && files(good.as_bytes(), &mut order).is_err());
}

#[test]
fn a_list_says_of_an_encrypted_file_what_dstor_has_in_its_place() {
    let sealed = Some(Sealed { digest: Digest::of(b"sealed"), size: 300 });
    let wanted = [file("a"), Wanted { sealed, ..file("b") }];
    let [draft] = &drafts(&wanted)[..] else { panic!("one part") };
    assert_eq!(files(&draft.text, &mut Order::default()).expect("read"), wanted);
    let bad = String::from_utf8(draft.text.clone()).expect("text").replace(&Digest::of(b"sealed").to_string(), "none");
    assert!(files(bad.as_bytes(), &mut Order::default()).is_err());
}

// What is encrypted must not tell by its length how well it packs.
#[test]
fn a_list_that_is_to_be_encrypted_is_as_long_as_its_text_says_whatever_is_in_it() {
    let lively = (0..320_u32).flat_map(|at| *Digest::of(&at.to_le_bytes()).as_bytes()).collect::<Vec<u8>>();
    let dull = vec![b'a'; lively.len()];
    let length = |text: &Vec<u8>, packing| pack(text, packing).len();
    assert_eq!(length(&dull, Packing::ToSeal), length(&lively, Packing::ToSeal));
    assert!(length(&dull, Packing::Small) < length(&lively, Packing::Small) / 10);
}
