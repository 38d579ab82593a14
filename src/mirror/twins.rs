//! Names that become one on their way to dStor (B19).
//!
//! A form's file names travel as browsers send them: `"`, CR and LF percent-encoded, and `%` as it is. So `a"b` and
//! `a%22b` are two files here and one name there, and the second would take the first one's place without a word.
//! Names that differ in case or in Unicode's normal form are other bytes, and travel as two.

/// A file's name as it travels.
#[must_use]
pub fn sent_name(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for c in name.chars() {
        match c {
            '"' => out.push_str("%22"),
            '\r' => out.push_str("%0D"),
            '\n' => out.push_str("%0A"),
            other => out.push(other),
        }
    }
    out
}

/// Whether another name could travel as `name` does. Most names have none of the characters that it takes.
#[must_use]
pub fn may_have_twins(name: &[u8]) -> bool {
    name.iter().any(|b| matches!(b, b'"' | b'\r' | b'\n'))
        || name.windows(3).any(|three| matches!(three, b"%22" | b"%0D" | b"%0A"))
}

/// Whether these are two names that travel as one.
#[must_use]
pub fn are_twins(one: &[u8], other: &[u8]) -> bool {
    match (std::str::from_utf8(one), std::str::from_utf8(other)) {
        (Ok(one), Ok(other)) => one != other && sent_name(one) == sent_name(other),
        // What is not UTF-8 does not travel.
        _ => false,
    }
}

/// Whether the file `name` has to leave its name on dStor to one of its twins: the stored ones come first, then the
/// least in the order of bytes, so that whoever looks comes to the same answer. `is_stored` says it of each of them.
pub fn leaves_its_name<'a>(name: &[u8], is_stored: bool, twins: impl IntoIterator<Item = (&'a [u8], bool)>) -> bool {
    twins.into_iter().any(|(twin, twin_is_stored)| (!twin_is_stored, twin) < (!is_stored, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_travel_alike_are_twins() {
        assert!(are_twins(b"a\"b", b"a%22b") && are_twins(b"a\nb", b"a%0Ab") && are_twins(b"\r%22", b"%0D\""));
        for (one, other) in
            [("a\"b", "a\"b"), ("a%22", "a%23"), ("a", "A"), ("é", "e\u{301}"), ("%0d", "\r"), ("a", "b")]
        {
            assert!(!are_twins(one.as_bytes(), other.as_bytes()), "{one} {other}");
        }
        assert!(!are_twins(b"\xff\"", b"\xff%22"));
    }

    #[test]
    fn of_twins_exactly_one_keeps_its_name() {
        let names: [&[u8]; 3] = [b"\"\"", b"%22\"", b"\"%22"];
        for stored in 0..8 {
            let is_stored = |at: usize| stored & (1 << at) != 0;
            let keeps = (0..3).filter(|at| {
                let twins = (0..3).filter(|other| other != at).map(|other| (names[other], is_stored(other)));
                !leaves_its_name(names[*at], is_stored(*at), twins)
            });
            let keeps: Vec<usize> = keeps.collect();
            assert_eq!(keeps.len(), 1, "{stored:b}: {keeps:?}");
            assert!(stored == 0 || is_stored(keeps[0]), "{stored:b}: {keeps:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn whoever_has_a_twin_may_have_one(one in "[ab\"%2\r\n0DA]{0,8}", other in "[ab\"%2\r\n0DA]{0,8}") {
            let twins = are_twins(one.as_bytes(), other.as_bytes());
            proptest::prop_assert!(!twins || (may_have_twins(one.as_bytes()) && may_have_twins(other.as_bytes())));
        }
    }
}
