use std::io::{BufReader, Read as _};

use proptest::prelude::*;

use super::*;

/// A key for the length of a test.
fn key() -> (Identities, Recipient) {
    use age::secrecy::ExposeSecret as _;
    let made = Identities::generate("2026-01-31T12:00:00Z");
    let identities = Identities::parse(made.file.expose_secret()).expect("what was made can be read");
    (identities, Recipient::parse(&made.recipient).expect("and so can its public key"))
}

fn to(recipients: &[&Recipient]) -> Recipients {
    Recipients::new(recipients.iter().map(|recipient| (*recipient).clone())).expect("there is one")
}

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from(at % 251).expect("it is small")).collect()
}

fn opened(identities: &Identities, sealed: &[u8]) -> Result<Vec<u8>, String> {
    let mut all = Vec::new();
    let mut reader = identities.open(sealed).map_err(|error| error.to_string())?;
    reader.read_to_end(&mut all).map_err(|error| error.to_string())?;
    Ok(all)
}

#[test]
fn how_long_a_file_becomes_is_known_before_its_first_byte() {
    let (_, recipient) = key();
    let (_, other) = key();
    const AT: usize = 64 * 1024;
    for recipients in [to(&[&recipient]), to(&[&recipient, &other])] {
        for len in [0, 1, AT - 1, AT, AT + 1, 3 * AT, 3 * AT + 17] {
            let mut sealer = Sealer::new(&recipients);
            let stated = sealer.size_of(len as u64);
            let mut sealed = Vec::new();
            // In other pieces than it is cut into.
            for piece in bytes(len).chunks(50_000) {
                sealed.extend_from_slice(&sealer.add(piece));
            }
            sealed.extend_from_slice(&sealer.finish());
            assert_eq!(stated, sealed.len() as u64, "{len} bytes");
        }
    }
    assert_eq!(Sealer::new(&to(&[&recipient])).size_of(u64::MAX), u64::MAX, "a file of holes");
}

#[test]
fn what_was_sealed_is_opened_by_each_of_its_recipients_and_by_nobody_else() {
    let ((one, to_one), (two, to_two), (stranger, _)) = (key(), key(), key());
    let plain = bytes(200_000);
    let sealed = seal(&to(&[&to_one, &to_two]), &plain);
    assert!(is_sealed(&sealed) && !is_sealed(&plain));
    for identities in [&one, &two] {
        assert_eq!(opened(identities, &sealed).as_deref(), Ok(&plain[..]));
    }
    assert!(matches!(stranger.open(&sealed[..]).err(), Some(NotOpened::Locked)));
    assert!(!sealed.windows(64).any(|window| window == &plain[..64]), "some of it can be read");
}

#[test]
fn the_same_bytes_are_other_ones_each_time() {
    let (_, recipient) = key();
    let recipients = to(&[&recipient]);
    assert_ne!(seal(&recipients, b"the same"), seal(&recipients, b"the same"));
}

#[test]
fn a_file_that_was_cut_or_changed_anywhere_is_not_opened_to_its_end() {
    let (identities, recipient) = key();
    let plain = bytes(150_000);
    let sealed = seal(&to(&[&recipient]), &plain);
    for len in [0, 1, 21, 22, 100, 300, sealed.len() / 2, sealed.len() - 16, sealed.len() - 1] {
        assert!(opened(&identities, &sealed[..len]).is_err(), "cut to {len}");
    }
    // At the end of a chunk, where nothing is missing but the word that it was the last.
    let chunk = 64 * 1024 + 16;
    let end = sealed.len() - (150_000 - 2 * 64 * 1024) - 16;
    assert!(opened(&identities, &sealed[..end]).is_err() && opened(&identities, &sealed[..end - chunk]).is_err());
    for at in (0..sealed.len()).step_by(997) {
        let mut changed = sealed.to_vec();
        changed[at] ^= 1;
        assert!(opened(&identities, &changed).is_err(), "a bit at {at}");
    }
    assert!(opened(&identities, &[&sealed[..], b"more"].concat()).is_err());
    let swapped =
        [&sealed[..end - 2 * chunk], &sealed[end - chunk..end], &sealed[end - 2 * chunk..end - chunk], &sealed[end..]];
    assert!(opened(&identities, &swapped.concat()).is_err(), "two chunks changed places");
}

#[test]
fn a_beginning_without_an_end_is_given_up_soon() {
    let (identities, _) = key();
    let endless = [&b"age-encryption.org/v1\n"[..], &b"-> X25519 a\nb\n".repeat(1_000_000)].concat();
    let mut read = 0;
    let counted = BufReader::new(endless.chain(std::io::repeat(b'x'))).take(u64::MAX);
    let mut counted = Counted { inner: counted, read: &mut read };
    let error = identities.open(&mut BufReader::with_capacity(4096, &mut counted)).err();
    assert!(matches!(error, Some(NotOpened::Damaged(_))), "{error:?}");
    assert!(read <= 128 * 1024, "{read} bytes were read");
    let one_line = [&b"age-encryption.org/v1\n"[..], &vec![b'-'; 1_000_000]].concat();
    assert!(matches!(identities.open(&one_line[..]).err(), Some(NotOpened::Damaged(_))));
}

struct Counted<'a, R> {
    inner: R,
    read: &'a mut usize,
}

impl<R: std::io::Read> std::io::Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        *self.read += read;
        Ok(read)
    }
}

#[test]
fn what_is_no_public_key_says_what_it_is_and_nothing_of_it() {
    use age::secrecy::ExposeSecret as _;
    let made = Identities::generate("now");
    let secret = made.file.expose_secret().lines().last().expect("a line").to_owned();
    for (text, why) in [
        (secret.as_str(), NoRecipient::PrivateKey),
        (&secret.to_lowercase(), NoRecipient::PrivateKey),
        (&secret[..30], NoRecipient::PrivateKey),
        (&made.recipient[..61], NoRecipient::Damaged),
        (&format!("{}q", &made.recipient[..61]), NoRecipient::Damaged),
        ("age1yubikey1q0000000000000000000000000000000000000000000000000000000000", NoRecipient::OtherKind),
        ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA me@here", NoRecipient::OtherKind),
        ("me@example.org", NoRecipient::Foreign),
        ("", NoRecipient::Foreign),
        ("ag\u{e9}1", NoRecipient::Foreign),
    ] {
        // The last letter of a key may be the right one by chance.
        if text == made.recipient {
            continue;
        }
        let error = Recipient::parse(text).expect_err(text);
        assert_eq!(error, why, "{text}");
        assert!(text.is_empty() || !format!("{error} {}", error.hint()).contains(text), "{text}");
    }
    assert_eq!(Recipient::parse(&made.recipient).map(|it| it.to_string()), Ok(made.recipient));
}

#[test]
fn what_is_no_identity_file_says_what_it_is_and_nothing_of_it() {
    use age::secrecy::ExposeSecret as _;
    let made = Identities::generate("now");
    let file = made.file.expose_secret();
    for (text, why) in [
        (String::new(), NoIdentity::Empty),
        ("# only a comment\n\n".to_owned(), NoIdentity::Empty),
        (format!("\n{}\n", made.recipient), NoIdentity::Public(2)),
        (format!("{file}hunter2\n"), NoIdentity::Line(4)),
        ("age-encryption.org/v1\n-> scrypt".to_owned(), NoIdentity::Passphrase),
        ("-----BEGIN AGE ENCRYPTED FILE-----\n".to_owned(), NoIdentity::Passphrase),
    ] {
        let error = Identities::parse(&text).expect_err("it is none");
        assert_eq!(error, why, "{text}");
        assert!(!format!("{error} {}", error.hint()).contains("hunter2"));
    }
    let two = format!("{file}\r\n{}", Identities::generate("then").file.expose_secret());
    let two = Identities::parse(&two).expect("two keys");
    assert_eq!(two.recipients().count(), 2);
    assert_eq!(two.recipients().next(), Some(made.recipient));
    assert_eq!(format!("{two:?}"), "Identities(2 hidden)");
}

#[test]
fn a_recipient_counts_once_and_none_is_nobody() {
    let (_, one) = key();
    assert_eq!(to(&[&one, &one]).names().count(), 1);
    assert_eq!(Recipients::new([]), None);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_and_no_bytes_make_anything_panic(text in ".{0,80}|age1[a-z0-9]{0,70}", junk in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Recipient::parse(&text);
        let _ = Identities::parse(&text);
        let (identities, _) = key();
        let _ = opened(&identities, &junk);
        let _ = opened(&identities, &[&b"age-encryption.org/v1\n"[..], &junk].concat());
    }
}
