//! Which paths a mirror leaves out: gitignore's rules, from the config, from `.dstorignore` files, and a few built in.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

use super::MirrorPath;

/// The file that holds the rules of the directory it lies in and of everything below.
pub const DSTORIGNORE: &str = ".dstorignore";

/// Files that editors and office programs make beside the one being edited and remove again. A rule with `!` brings
/// any of them back.
const BUILT_IN: [&str; 10] = [
    // Vim: swap files and its probe for a writable directory. Emacs: auto-saves and locks. Both: backups.
    ".*.sw[a-px]",
    "/**/4913",
    r"\#*#",
    ".#*",
    "*~",
    // LibreOffice's and Microsoft Office's locks, GLib's half-written saves, names that NFS gives to deleted open files.
    ".~lock.*#",
    "~$*",
    ".goutputstream-*",
    ".nfs????????????????*",
    // Ours, while a file is restored.
    ".dstor-sync-part-????????????????",
];

/// Where a rule stands, and what it says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule {
    /// The file or setting that holds it: `exclude`, `built in`, `hidden = false`, or a `.dstorignore`'s path.
    pub source: String,
    /// Its line there, counted from 1; in `exclude`, its place in the list.
    pub line: usize,
    /// The rule itself.
    pub pattern: String,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut pattern = String::new();
        super::path::escape(self.pattern.as_bytes(), &mut pattern)?;
        if self.line == 0 {
            write!(f, "`{pattern}` ({})", self.source)
        } else {
            write!(f, "`{pattern}` ({}, line {})", self.source, self.line)
        }
    }
}

/// Whether a path belongs to the mirror.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Included {
    /// It does.
    Yes,
    /// It does not, because of this rule.
    No(Rule),
}

/// One list of rules, and the directory it counts from.
#[derive(Clone, Debug)]
pub struct Rules {
    source: String,
    base: MirrorPath,
    matcher: Gitignore,
}

impl Rules {
    /// The rules in `lines`, which count from the directory `base`. What is no rule is returned beside them with its
    /// line, and the others hold.
    #[must_use]
    pub fn parse<'a>(
        source: &str,
        base: MirrorPath,
        lines: impl IntoIterator<Item = &'a str>,
    ) -> (Self, Vec<(usize, String)>) {
        let mut builder = GitignoreBuilder::new("");
        // `[` without its `]` is a slip of the pen: taken for a plain character, the rule would match nothing and say
        // nothing.
        builder.allow_unclosed_class(false);
        let mut bad = Vec::new();
        for (at, line) in lines.into_iter().enumerate() {
            // The matcher gives back the "file" that a rule came from: its line number travels there.
            if let Err(error) = builder.add_line(Some(PathBuf::from((at + 1).to_string())), line) {
                bad.push((at + 1, error.to_string()));
            }
        }
        let matcher = builder.build().unwrap_or_else(|error| {
            bad.push((0, error.to_string()));
            Gitignore::empty()
        });
        (Self { source: source.to_owned(), base, matcher }, bad)
    }

    /// The rules that every mirror starts with.
    #[must_use]
    pub fn built_in() -> Arc<Self> {
        static PARSED: LazyLock<Arc<Rules>> =
            LazyLock::new(|| Arc::new(Rules::parse("built in", MirrorPath::top(), BUILT_IN).0));
        Arc::clone(&PARSED)
    }

    /// What these rules say of `path` itself, not of the directories above it. `None`: nothing.
    fn verdict(&self, path: &MirrorPath, is_directory: bool) -> Option<Included> {
        let below = path.as_path().strip_prefix(self.base.as_path()).ok()?;
        match self.matcher.matched(below, is_directory) {
            Match::None => None,
            Match::Whitelist(_) => Some(Included::Yes),
            Match::Ignore(glob) => Some(Included::No(Rule {
                source: self.source.clone(),
                line: glob.from().and_then(Path::to_str).and_then(|line| line.parse().ok()).unwrap_or(0),
                pattern: glob.original().to_owned(),
            })),
        }
    }
}

impl Included {
    /// Whether it does.
    #[must_use]
    pub fn is_yes(&self) -> bool {
        matches!(self, Self::Yes)
    }

    /// What a chain of rules, the strongest last, says of `path` itself. The caller asks for the directories above it
    /// first: nothing below an excluded directory is ever brought back, as in gitignore.
    #[must_use]
    pub fn judge<'a>(
        path: &MirrorPath,
        is_directory: bool,
        hidden: bool,
        chain: impl DoubleEndedIterator<Item = &'a Rules>,
    ) -> Self {
        if let Some(said) = chain.rev().find_map(|rules| rules.verdict(path, is_directory)) {
            return said;
        }
        if !hidden && path.split().is_some_and(|(_, name)| name.starts_with(b".")) {
            return Self::No(Rule { source: "the mirror's `hidden = false`".into(), line: 0, pattern: ".*".into() });
        }
        Self::Yes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> MirrorPath {
        MirrorPath::from_bytes(text.as_bytes()).expect("a plain path")
    }

    fn judge(text: &str, is_directory: bool, chain: &[Rules]) -> Included {
        Included::judge(&path(text), is_directory, true, chain.iter())
    }

    #[test]
    fn the_last_rule_that_matches_wins_and_says_where_it_stands() {
        let (rules, bad) = Rules::parse("exclude", MirrorPath::top(), ["# logs", "*.log", "!keep.log", "/build/"]);
        assert!(bad.is_empty());
        let chain = [rules];
        let Included::No(rule) = judge("a/b/x.log", false, &chain) else { panic!("not excluded") };
        assert_eq!((rule.line, rule.pattern.as_str(), rule.source.as_str()), (2, "*.log", "exclude"));
        assert!(judge("a/keep.log", false, &chain).is_yes());
        assert!(!judge("build", true, &chain).is_yes());
        assert!(judge("build", false, &chain).is_yes(), "a rule that ends in / is for directories");
        assert!(judge("a/build", true, &chain).is_yes(), "a rule that starts with / is for its own directory");
    }

    #[test]
    fn rules_of_a_directory_count_from_there_and_beat_those_above() {
        let (top, _) = Rules::parse("top", MirrorPath::top(), ["*.txt"]);
        let (deep, _) = Rules::parse("deep", path("a"), ["!/x.txt", "/y"]);
        let chain = [top, deep];
        assert!(judge("a/x.txt", false, &chain).is_yes());
        assert!(!judge("a/b/x.txt", false, &chain).is_yes());
        assert!(!judge("a/y", false, &chain).is_yes());
        assert!(judge("y", false, &chain).is_yes());
        assert!(judge("ab/y", false, &chain).is_yes(), "another directory with the same beginning");
    }

    // B6
    #[test]
    fn what_editors_leave_for_a_moment_is_built_in_and_can_be_brought_back() {
        let chain = [Rules::clone(&Rules::built_in())];
        for gone in [
            ".notes.txt.swp",
            "4913",
            "deep/4913",
            "notes.txt~",
            "#notes.txt#",
            ".#notes.txt",
            ".~lock.a.odt#",
            "~$a.docx",
        ] {
            assert!(!judge(gone, false, &chain).is_yes(), "{gone}");
        }
        for kept in ["notes.txt", "a.swf", "14913", ".profile", "#", "a#b", "~a", ".nfsrc"] {
            assert!(judge(kept, false, &chain).is_yes(), "{kept}");
        }
        let (back, _) = Rules::parse("exclude", MirrorPath::top(), ["!*~"]);
        assert!(judge("notes.txt~", false, &[Rules::clone(&Rules::built_in()), back]).is_yes());
    }

    #[test]
    fn hidden_files_are_left_out_unless_a_rule_brings_them_back() {
        let (back, _) = Rules::parse("exclude", MirrorPath::top(), ["!.keep"]);
        let hidden = |text: &str| Included::judge(&path(text), false, false, [&back].into_iter()).is_yes();
        assert!(hidden("a") && hidden(".keep") && hidden("d/.keep"));
        assert!(!hidden(".a") && !hidden("d/.a"));
    }

    #[test]
    fn a_bad_rule_is_named_and_the_others_hold() {
        let (rules, bad) = Rules::parse("exclude", MirrorPath::top(), ["a{", "b", "[ab"]);
        assert_eq!(bad.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [1, 3]);
        assert!(!judge("b", false, &[rules]).is_yes());
    }

    proptest::proptest! {
        #[test]
        fn no_rule_and_no_name_make_it_panic(rule in ".{0,30}", name in proptest::collection::vec(proptest::num::u8::ANY, 1..30)) {
            let (rules, _) = Rules::parse("x", MirrorPath::top(), [rule.as_str()]);
            if let Some(path) = MirrorPath::from_bytes(&name) {
                let _ = Included::judge(&path, false, true, [&rules].into_iter());
            }
        }
    }
}
