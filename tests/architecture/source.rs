//! Just enough of Rust's grammar to see which paths a source names: words and signs, without comments and literals.

use std::iter::Peekable;
use std::str::CharIndices;

/// A word (name, keyword, number), `::`, or one other character, and the line it is on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Token<'a> {
    pub(super) text: &'a str,
    pub(super) line: usize,
}

/// The tokens of a source. Literals and lifetimes are left out: what they say is no code.
pub(super) fn tokens(source: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut chars = source.char_indices().peekable();
    let (mut line, mut counted) = (1, 0);
    while let Some((at, c)) = chars.next() {
        let rest = &source[at..];
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if let Some(length) = raw_string(rest) {
            length
        } else if c == '"' || rest.starts_with("b\"") || rest.starts_with("c\"") {
            let quote = rest.find('"').unwrap_or(0);
            quote + quoted(&rest[quote..], '"')
        } else if c == '\'' || rest.starts_with("b'") {
            let quote = rest.find('\'').unwrap_or(0);
            quote + character_or_lifetime(&rest[quote..])
        } else if c.is_whitespace() {
            c.len_utf8()
        } else {
            let length = match rest.find(|c: char| !c.is_alphanumeric() && c != '_') {
                Some(0) if rest.starts_with("::") => 2,
                Some(0) => c.len_utf8(),
                Some(end) => end,
                None => rest.len(),
            };
            line += source[counted..at].matches('\n').count();
            counted = at;
            tokens.push(Token { text: &rest[..length], line });
            length
        };
        skip_to(&mut chars, at + length);
    }
    tokens
}

fn skip_to(chars: &mut Peekable<CharIndices<'_>>, end: usize) {
    while chars.next_if(|(at, _)| *at < end).is_some() {}
}

/// The length of a comment; they nest.
fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        let here = &rest.as_bytes()[at..];
        match here {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] if depth == 1 => return at + 2,
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
    rest.len()
}

/// The length of `r"…"`, `br#"…"#` and their like.
fn raw_string(rest: &str) -> Option<usize> {
    let prefix = ["r", "br", "cr"]
        .into_iter()
        .find(|prefix| rest.strip_prefix(prefix).is_some_and(|after| after.trim_start_matches('#').starts_with('"')))?;
    let hashes = rest[prefix.len()..].find('"')?;
    let (begin, end) = (prefix.len() + hashes + 1, format!("\"{}", "#".repeat(hashes)));
    Some(rest[begin..].find(&end).map_or(rest.len(), |at| begin + at + end.len()))
}

/// The length of a literal that begins and ends with `quote`.
fn quoted(rest: &str, quote: char) -> usize {
    let mut is_escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            c if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    rest.len()
}

fn character_or_lifetime(rest: &str) -> usize {
    let mut chars = rest.chars().skip(1);
    match (chars.next(), chars.next()) {
        (Some('\\'), _) | (Some(_), Some('\'')) => quoted(rest, '\''),
        _ => rest[1..].find(|c: char| !c.is_alphanumeric() && c != '_').map_or(rest.len(), |end| end + 1),
    }
}

/// A path as the source spells it out, its groups taken apart: `use a::{b, c::d}` names `a::b` and `a::c::d`.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Named<'a> {
    pub(super) parts: Vec<&'a str>,
    pub(super) line: usize,
}

/// All paths of at least two parts, and what is imported by a single name.
pub(super) fn paths<'a>(tokens: &[Token<'a>]) -> Vec<Named<'a>> {
    let mut named = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let is_path = is_name(tokens[at].text) && tokens.get(at + 1).is_some_and(|next| next.text == "::");
        let is_group = tokens[at].text == "{" && at > 0 && tokens[at - 1].text == "use";
        let is_import = at > 0 && is_name(tokens[at].text) && tokens[at - 1].text == "use";
        if is_path || is_group || is_import {
            at = tree(tokens, at, &[], &mut named);
        } else {
            at += 1;
        }
    }
    named
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Reads one path or group that begins at `at`, and returns where it ends.
fn tree<'a>(tokens: &[Token<'a>], mut at: usize, above: &[&'a str], named: &mut Vec<Named<'a>>) -> usize {
    let mut parts = above.to_vec();
    let line = tokens.get(at).map_or(0, |token| token.line);
    while let Some(token) = tokens.get(at) {
        match token.text {
            "{" => {
                at += 1;
                while tokens.get(at).is_some_and(|token| token.text != "}") {
                    let next = tree(tokens, at, &parts, named);
                    // A sign that belongs to no path: a comma.
                    at = if next == at { at + 1 } else { next };
                }
                return at + 1;
            }
            text if is_name(text) || text == "*" => parts.push(text),
            _ => break,
        }
        at += 1;
        match tokens.get(at) {
            Some(token) if token.text == "::" => at += 1,
            _ => break,
        }
    }
    if parts.len() > above.len() {
        named.push(Named { parts, line });
    }
    // A new name for it names nothing else.
    if tokens.get(at).is_some_and(|token| token.text == "as") { at + 2 } else { at }
}

/// The tokens without the items that are there for tests only.
pub(super) fn without_tests<'a>(tokens: &[Token<'a>]) -> Vec<Token<'a>> {
    const MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let is_marked = tokens[at..].iter().map(|token| token.text).take(MARK.len()).eq(MARK);
        if is_marked {
            at = end_of_item(tokens, at + MARK.len());
        } else {
            kept.push(tokens[at]);
            at += 1;
        }
    }
    kept
}

fn end_of_item(tokens: &[Token<'_>], mut at: usize) -> usize {
    let mut depth = 0_usize;
    while let Some(token) = tokens.get(at) {
        at += 1;
        match token.text {
            "{" => depth += 1,
            "}" if depth <= 1 => return at,
            "}" => depth -= 1,
            ";" if depth == 0 => return at,
            _ => {}
        }
    }
    at
}

mod tests {
    use super::*;

    fn named(source: &str) -> Vec<String> {
        paths(&tokens(source)).into_iter().map(|path| path.parts.join("::")).collect()
    }

    #[test]
    fn groups_are_taken_apart_to_any_depth() {
        assert_eq!(
            named("pub(crate) use crate::{a, b::{self, c as d, e::*}, f::g};"),
            ["crate::a", "crate::b::self", "crate::b::c", "crate::b::e::*", "crate::f::g"]
        );
    }

    #[test]
    fn paths_inside_code_are_seen() {
        assert_eq!(
            named("fn f(x: &crate::a::B) -> Vec<c::D> { if x { crate::e::g::<h::I>()?; } use j; }"),
            ["crate::a::B", "c::D", "crate::e::g", "h::I", "j"]
        );
    }

    #[test]
    fn what_comments_and_literals_say_is_no_code() {
        let source = r####"
            // crate::a::b
            /* crate::c::d /* crate::e::f */ crate::g::h */
            fn f<'a>(x: &'a str) -> char {
                ("crate::i::j \" crate::k", r#"crate::l::m " "#, b"crate::n", br"\", b'"', '\'', '"', 'a');
                o::p
            }
        "####;
        assert_eq!(named(source), ["o::p"]);
    }

    #[test]
    fn lines_are_counted_from_one() {
        let source = "\n\n  a::b;";
        assert_eq!(paths(&tokens(source))[0].line, 3);
    }

    #[test]
    fn items_for_tests_are_left_out_and_those_after_them_kept() {
        let source = "a::b; #[cfg(test)] mod tests { fn f() { c::d } } e::f; #[cfg(test)] use g::h; i::j;";
        let kept: Vec<_> =
            paths(&without_tests(&tokens(source))).into_iter().map(|path| path.parts.join("::")).collect();
        assert_eq!(kept, ["a::b", "e::f", "i::j"]);
    }
}
