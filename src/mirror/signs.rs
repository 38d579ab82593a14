//! What the first bytes of a file show of a secret in it.
//!
//! Each sign is one that hardly any other file has: what is held without need costs a person a look, and teaches them to allow
//! everything.

use std::borrow::Cow;
use std::collections::HashSet;

use bip39::{Language, Mnemonic};

/// Fewer words are no wallet's, and more none's either (BIP-39).
const WORDS: [usize; 5] = [24, 21, 18, 15, 12];
/// What a variable's name has in it if its value is a secret.
const SECRET_NAMES: [&str; 7] = ["SECRET", "TOKEN", "PASSWORD", "PASSWD", "API_KEY", "APIKEY", "PRIVATE_KEY"];
/// What stands in the place of a value that is to be filled in.
const NO_VALUES: [&str; 8] = ["", "changeme", "change_me", "secret", "password", "example", "todo", "xxx"];

/// What it is, and whether a text has it.
type Sign = (&'static str, fn(&str) -> bool);

/// The sign in the first bytes of a file with this name; `None` if there is none that is known here.
#[must_use]
pub fn sign_in(name: &[u8], head: &[u8]) -> Option<&'static str> {
    let head = &head[..head.len().min(super::guard::HEAD_BYTES)];
    // Keys and wallets are text; a byte that no text has ends the look at most files.
    if head.is_empty() || head.contains(&0) {
        return None;
    }
    // Most are UTF-8, which is seen much faster alone.
    let text = std::str::from_utf8(head).map_or_else(|_| String::from_utf8_lossy(head), Cow::Borrowed);
    let keys: [Sign; 9] = [
        ("a private key in PEM", has_pem_key),
        ("a private key of PuTTY", |text| text.starts_with("PuTTY-User-Key-File-")),
        ("an identity of age", |text| {
            has_after(text, "AGE-SECRET-KEY-1", 40, |b| b.is_ascii_uppercase() || b.is_ascii_digit())
        }),
        ("a key of WireGuard", |text| text.contains("[Interface]") && has_value(text, "PrivateKey", 40)),
        ("the key of a wallet (keystore)", is_keystore),
        ("the words of a wallet (BIP-39)", has_mnemonic),
        ("a key of AWS", |text| has_value(text, "aws_secret_access_key", 20)),
        ("a key of a Kubernetes cluster", is_kubeconfig),
        ("a token of npm", |text| has_value(text, "_authToken", 16)),
    ];
    let found = keys.into_iter().find(|(_, is_there)| is_there(&text)).map(|(sign, _)| sign);
    found.or_else(|| (is_environment(name) && has_secret_variable(&text)).then_some("a variable with a secret"))
}

/// `-----BEGIN … PRIVATE KEY…-----`, and then a key: a text about keys has the line alone.
fn has_pem_key(text: &str) -> bool {
    text.match_indices("-----BEGIN ").any(|(at, begin)| {
        let rest = &text[at + begin.len()..];
        let Some((label, rest)) = rest.split_once("-----") else { return false };
        let is_key = label.len() < 60 && (label.contains("PRIVATE KEY") || label == "OpenVPN Static key V1");
        // In JSON, line ends are two characters.
        let key =
            rest.trim_start_matches(|c: char| c.is_whitespace()).trim_start_matches("\\r").trim_start_matches("\\n");
        let first = key.split([' ', '\r', '\n', '\\', ':']).next().unwrap_or_default();
        let is_header = ["Proc-Type", "DEK-Info", "Comment", "Version", "Hash"].contains(&first);
        is_key && (is_header || (first.len() >= 16 && first.bytes().all(is_base64)))
    })
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=')
}

/// Whether so many such bytes follow a word somewhere.
fn has_after(text: &str, word: &str, count: usize, is_such: fn(u8) -> bool) -> bool {
    text.match_indices(word)
        .any(|(at, word)| text.as_bytes()[at + word.len()..].iter().take_while(|byte| is_such(**byte)).count() >= count)
}

/// Whether a name has a value of at least so many characters of base 64 somewhere.
fn has_value(text: &str, name: &str, least: usize) -> bool {
    text.match_indices(name).any(|(at, name)| {
        let rest = text[at + name.len()..].trim_start_matches([' ', '\t', '"', '\'']);
        let Some(value) = rest.strip_prefix(['=', ':']) else { return false };
        let value = value.trim_start_matches([' ', '\t', '"', '\'']);
        value.bytes().take_while(|byte| is_base64(*byte) || matches!(byte, b'-' | b'_' | b'.')).count() >= least
    })
}

fn is_keystore(text: &str) -> bool {
    let is_object = text.trim_start().starts_with('{');
    is_object && ["\"ciphertext\"", "\"kdfparams\"", "\"mac\""].iter().all(|key| text.contains(key))
}

fn is_kubeconfig(text: &str) -> bool {
    let is_config = text.contains("apiVersion:") && text.contains("kind: Config");
    is_config && (has_value(text, "client-key-data", 20) || has_value(text, "token", 16))
}

/// Whether twelve words or more in a row are those of a wallet, their checksum among them. Numbers and punctuation between
/// them are passed over.
fn has_mnemonic(text: &str) -> bool {
    let is_between = |c: char| matches!(c, ',' | ';' | '|' | '"' | '\'' | '[' | ']') || c.is_whitespace();
    let is_around = |c: char| matches!(c, '.' | ')' | ':' | '#' | '-') || c.is_ascii_digit();
    // Counting bytes that can be in between, or begin to be, is much faster than finding words.
    let may_be_between = |b: &&u8| !(b.is_ascii_alphanumeric() || matches!(b, b'-' | b'+' | b'/' | b'='));
    if text.as_bytes().iter().filter(may_be_between).count() < 11 {
        return false;
    }
    let mut run: Vec<&str> = Vec::new();
    for word in text.split(is_between).chain([" "]) {
        let bare = word.trim_matches(is_around);
        if bare.is_empty() && word != " " {
            continue;
        }
        if (3..=8).contains(&bare.len()) && bare.bytes().all(|b| b.is_ascii_alphabetic()) {
            run.push(bare);
            continue;
        }
        if is_mnemonic_in(&run) {
            return true;
        }
        run.clear();
    }
    false
}

fn is_mnemonic_in(run: &[&str]) -> bool {
    // Most prose ends here: it is rare that so many words in a row have three to eight letters.
    if run.len() < 12 {
        return false;
    }
    let run: Vec<String> = run.iter().map(|word| word.to_ascii_lowercase()).collect();
    let known: Vec<bool> = run.iter().map(|word| Language::English.find_word(word).is_some()).collect();
    WORDS.into_iter().any(|count| {
        (0..(run.len() + 1).saturating_sub(count)).any(|at| {
            known[at..at + count].iter().all(|is_known| *is_known)
                && is_varied(&run[at..at + count])
                && Mnemonic::parse_in_normalized(Language::English, &run[at..at + count].join(" ")).is_ok()
        })
    })
}

/// Whether hardly any word comes twice, as in a phrase that was drawn. In what is written, the same words come again and
/// again, and one run of them in sixteen has a checksum that fits. Of drawn phrases fewer than one in a thousand repeats more.
fn is_varied(phrase: &[String]) -> bool {
    let distinct: HashSet<&String> = phrase.iter().collect();
    phrase.len() - distinct.len() <= phrase.len() / 8
}

/// `.env`, `.env.production` and `production.env`, but not the sample that is meant to be read.
fn is_environment(name: &[u8]) -> bool {
    let is_sample = [&b".example"[..], b".sample", b".template", b".dist"].iter().any(|end| name.ends_with(end));
    let is_env = name == b".env" || name == b".envrc" || name.starts_with(b".env.") || name.ends_with(b".env");
    is_env && !is_sample
}

fn has_secret_variable(text: &str) -> bool {
    text.lines().any(|line| {
        let line = line.trim_start();
        let line = line.strip_prefix("export ").unwrap_or(line);
        let Some((name, value)) = line.split_once('=') else { return false };
        let (name, value) = (name.trim().to_ascii_uppercase(), value.trim().trim_matches(['"', '\'']));
        let is_filled = !NO_VALUES.contains(&value.to_ascii_lowercase().as_str())
            && !value.starts_with(['$', '<'])
            && value.len() >= 6;
        SECRET_NAMES.iter().any(|secret| name.contains(secret)) && is_filled
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made here: no key, nor anything that could be one, is kept in these sources.
    fn base64(len: usize) -> String {
        let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        std::iter::repeat_with(|| char::from(letters[fastrand_like(letters.len())])).take(len).collect()
    }

    /// A number below `end`, another one each time: what is pure has no chance of its own.
    fn fastrand_like(end: usize) -> usize {
        use std::cell::Cell;
        thread_local!(static STATE: Cell<u64> = const { Cell::new(0x9e37_79b9_7f4a_7c15) });
        STATE.with(|state| {
            let next = state.get().wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state.set(next);
            usize::try_from(next >> 33).unwrap_or(0) % end
        })
    }

    fn pem(label: &str, end: &str) -> String {
        let line = |word: &str| format!("{0}{word} {label}{0}", "-".repeat(5));
        format!("{}{end}{}{end}{}{end}", line("BEGIN"), base64(64), line("END"))
    }

    fn words(count: usize) -> String {
        let entropy: Vec<u8> = (0..count / 3 * 4).map(|_| fastrand_like(256) as u8).collect();
        Mnemonic::from_entropy_in(Language::English, &entropy).expect("entropy").to_string()
    }

    fn sign(name: &str, text: &str) -> Option<&'static str> {
        sign_in(name.as_bytes(), text.as_bytes())
    }

    // G13
    #[test]
    fn keys_wallets_and_credentials_are_seen_in_the_first_bytes() {
        let key = "PRIVATE KEY";
        for label in ["", "RSA ", "EC ", "OPENSSH ", "ENCRYPTED "] {
            assert_eq!(sign("x", &pem(&format!("{label}{key}"), "\n")), Some("a private key in PEM"), "{label}");
        }
        let in_json = format!("{{\"private_key\": \"{}\"}}", pem(key, "\\n"));
        let with_headers = pem(key, "\r\n").replacen("\r\n", "\r\nProc-Type: 4,ENCRYPTED\r\n\r\n", 1);
        for text in
            [in_json, with_headers, format!("# notes\n\n{}", pem(key, "\n")), pem("PGP PRIVATE KEY BLOCK", "\n")]
        {
            assert_eq!(sign("x", &text), Some("a private key in PEM"), "{text}");
        }
        let age = format!(
            "# created: now\nAGE-SECRET-{}-1{}\n",
            "KEY",
            base64(58).to_ascii_uppercase().replace(['+', '/'], "Q")
        );
        let keystore = "{\"crypto\": {\"ciphertext\": \"00\", \"kdfparams\": {}, \"mac\": \"00\"}}".to_owned();
        let kube = format!("apiVersion: v1\nkind: Config\nusers:\n- user:\n    client-key-data: {}\n", base64(40));
        for (name, text, expected) in [
            ("k", format!("PuTTY-User-Key-File-3: x\n{}", base64(64)), "a private key of PuTTY"),
            ("k", age, "an identity of age"),
            ("wg0", format!("[Interface]\nPrivateKey = {}=\n", base64(43)), "a key of WireGuard"),
            ("k", keystore, "the key of a wallet (keystore)"),
            ("c", format!("[default]\naws_secret_access_key = {}\n", base64(40)), "a key of AWS"),
            ("k", kube, "a key of a Kubernetes cluster"),
            (".npmrc", format!("//r.example/:_authToken={}\n", base64(36)), "a token of npm"),
            (".env", format!("A=1\nexport DB_PASSWORD='{}'\n", base64(12)), "a variable with a secret"),
            ("prod.env", format!("STRIPE_SECRET={}\n", base64(12)), "a variable with a secret"),
        ] {
            assert_eq!(sign(name, &text), Some(expected), "{text}");
        }
    }

    // G13
    #[test]
    fn the_words_of_a_wallet_are_seen_however_they_are_written() {
        for count in [12, 15, 18, 21, 24] {
            let phrase = words(count);
            let list: Vec<&str> = phrase.split(' ').collect();
            let numbered: String = (1..).zip(&list).map(|(at, word)| format!("{at}. {word}\n")).collect();
            for text in [
                phrase.clone(),
                phrase.to_ascii_uppercase(),
                format!("my wallet's words:\n\n{phrase}\nkeep them!"),
                numbered,
                list.join(", "),
                format!("{:?}", list),
            ] {
                assert_eq!(sign("x", &text), Some("the words of a wallet (BIP-39)"), "{text}");
            }
            // Without one of them, or with two exchanged, it is no phrase: the checksum says so, mostly.
            assert_eq!(sign("x", &list[1..12].join(" ")), None);
        }
        let wrong = (0..64).filter(|_| {
            let phrase = words(12);
            let mut list: Vec<&str> = phrase.split(' ').collect();
            list[11] = "zoo";
            sign("x", &list.join(" ")).is_some()
        });
        assert!(wrong.count() < 20, "one in sixteen passes by chance");
    }

    #[test]
    fn words_that_come_again_and_again_are_no_wallets() {
        let jobs = "name: install cross\nrun: cargo install cross true\nname: test\nrun: cross test\n";
        let mut seen = 0;
        for rotated in 0..jobs.len() {
            let text = format!("{}\n{}", &jobs[rotated..], &jobs[..rotated]);
            seen += usize::from(sign("a.yaml", &text).is_some());
        }
        assert_eq!(seen, 0);
        assert_eq!(sign("a.rs", &"very ".repeat(24)), None);
        // A phrase may have a word twice.
        let drawn = std::iter::repeat_with(|| words(24)).take(10_000);
        let repeated = drawn.map(|phrase| {
            let list: Vec<String> = phrase.split(' ').map(str::to_owned).collect();
            (list.iter().collect::<HashSet<_>>().len() < 24, is_varied(&list))
        });
        let (varied, missed) = repeated.fold((0, 0), |(some, none), (repeats, is_varied)| {
            (some + usize::from(repeats && is_varied), none + usize::from(!is_varied))
        });
        assert!(varied > 500 && missed < 10, "{varied} repeat a word, {missed} too many");
    }

    #[test]
    fn texts_about_secrets_and_everything_else_go_through() {
        let begin = format!("{0}BEGIN PRIVATE KEY{0}", "-".repeat(5));
        let public = pem("PUBLIC KEY", "\n");
        for (name, text) in [
            ("a.md", format!("A key begins with `{begin}` and ends …")),
            ("a.md", format!("```\n{begin}\n...\n```")),
            ("a.pem", public),
            ("cert.pem", pem("CERTIFICATE", "\n")),
            (
                ".env",
                "DEBUG=1\nAPI_TOKEN=\nPASSWORD=changeme\nSECRET=$OTHER_SECRET\n# TOKEN=abcdefgh in a comment\n"
                    .replace("# TOKEN", "# tok"),
            ),
            (".env.example", format!("API_TOKEN={}\n", base64(12))),
            ("a.sh", format!("API_TOKEN={}\n", base64(12))),
            ("story.txt", "once upon a time there was nothing about about about about about about about about".into()),
            ("c", "aws_secret_access_key = <your key here>".into()),
            ("k.yml", "apiVersion: v1\nkind: Config\nusers: []\n".into()),
            ("e", String::new()),
        ] {
            assert_eq!(sign(name, &text), None, "{text}");
        }
        let mut binary = pem("PRIVATE KEY", "\n").into_bytes();
        binary.push(0);
        assert_eq!(sign_in(b"x", &binary), None, "no text");
        let far = format!("{}{}", " \n".repeat(5_000), pem("PRIVATE KEY", "\n"));
        assert_eq!(sign("x", &far), None, "beyond what is looked at, and said to be");
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(name in proptest::collection::vec(proptest::num::u8::ANY, 0..20), head in ".{0,400}|(-----BEGIN [A-Z ]{0,20}-----\\PC{0,50}){0,3}") {
            let _ = sign_in(&name, head.as_bytes());
        }
    }
}
