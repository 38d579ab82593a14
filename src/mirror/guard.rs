//! Before a file is public for good: whether it looks like one that holds a secret.
//!
//! What dStor stores can be read by whoever has its hash, and is never removed. So a file that dStor never held is looked at
//! once, by its name and by its first bytes, which are read anyway. Best effort: what it names is held until a person allows it,
//! and what it does not know goes through.

use std::sync::LazyLock;

use super::{Included, MirrorPath, Recorded, Rules, Skip, Stat, State};

/// So many bytes of a file are looked at.
pub(super) const HEAD_BYTES: usize = 8 * 1024;

/// Names that files with secrets have, in gitignore's syntax.
const NAMES: [&str; 41] = [
    "id_rsa",
    "id_dsa",
    "id_ecdsa",
    "id_ed25519",
    "id_ecdsa_sk",
    "id_ed25519_sk",
    "*.ppk",
    "*.p12",
    "*.pfx",
    "*.jks",
    "*.kdbx",
    "*.kdb",
    "*.keychain",
    "*.keychain-db",
    "*.agekey",
    "secring.gpg",
    "**/private-keys-v1.d/*.key",
    "wallet.dat",
    "UTC--*--????????????????????????????????????????",
    ".netrc",
    "_netrc",
    ".pgpass",
    ".my.cnf",
    ".mylogin.cnf",
    ".git-credentials",
    ".htpasswd",
    ".pypirc",
    ".s3cfg",
    ".boto",
    ".vault-token",
    ".dockercfg",
    "**/.aws/credentials",
    "**/.azure/accessTokens.json",
    "**/.kube/config",
    "kubeconfig",
    "*.kubeconfig",
    "**/gcloud/application_default_credentials.json",
    "**/gh/hosts.yml",
    "credentials.tfrc.json",
    "key4.db",
    "logins.json",
];

/// Looks at files before they are sent for the first time.
#[derive(Clone, Debug)]
pub struct Guard {
    allowed: Vec<String>,
    rules: Option<Rules>,
    is_off: bool,
}

impl Default for Guard {
    /// One that nobody allowed anything yet.
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

impl PartialEq for Guard {
    fn eq(&self, other: &Self) -> bool {
        self.allowed == other.allowed && self.is_off == other.is_off
    }
}

impl Eq for Guard {}

impl Guard {
    /// A guard that lets files through which these patterns name, in gitignore's syntax from the mirror's top. Bad ones were
    /// refused with the configuration.
    #[must_use]
    pub fn new(allowed: Vec<String>) -> Self {
        let parse = || Rules::parse("allow_secrets", MirrorPath::top(), allowed.iter().map(String::as_str)).0;
        let rules = (!allowed.is_empty()).then(parse);
        Self { allowed, rules, is_off: false }
    }

    /// The same, looking at nothing: what is sent is encrypted, and no secret of who can read it.
    #[must_use]
    pub fn off(self) -> Self {
        Self { is_off: true, ..self }
    }

    /// Whether it looks at nothing.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.is_off
    }

    /// The patterns.
    #[must_use]
    pub fn allowed(&self) -> &[String] {
        &self.allowed
    }

    /// Whether a file is to be looked at before it is sent: dStor holds nothing of it in the open, and nobody allowed it.
    #[must_use]
    pub fn looks_at(&self, path: &MirrorPath, recorded: Option<&Recorded>) -> bool {
        let is_public = match recorded {
            None | Some(Recorded { is_sealed: true, .. }) => false,
            Some(Recorded { state: State::Failed | State::Skipped, digest, .. }) => digest.is_some(),
            Some(Recorded { state: State::Stored | State::Gone, .. }) => true,
        };
        !self.is_off && !is_public && !self.allows(path)
    }

    fn allows(&self, path: &MirrorPath) -> bool {
        let Some(rules) = &self.rules else { return false };
        path.lineage().any(|step| !Included::judge(&step, step != *path, true, [rules].into_iter()).is_yes())
    }

    /// Whether a file may be sent, as far as its name and the record say.
    ///
    /// # Errors
    /// The reason why not. For a version that was held before, the reason is on record.
    pub fn admit(&self, path: &MirrorPath, stat: &Stat, recorded: Option<&Recorded>) -> Result<(), Skip> {
        if !self.looks_at(path, recorded) {
            return Ok(());
        }
        if let Some(sign) = sign_of_name(path) {
            return Err(Skip::Secret(sign));
        }
        match recorded {
            Some(Recorded { is_guarded: true, stat: known, .. }) if known == stat => Err(Skip::Secret(HELD_BEFORE)),
            _ => Ok(()),
        }
    }
}

/// Never told: the record has what was seen then.
const HELD_BEFORE: &str = "as it was when it was looked at";

fn sign_of_name(path: &MirrorPath) -> Option<&'static str> {
    static RULES: LazyLock<Rules> = LazyLock::new(|| Rules::parse("secrets", MirrorPath::top(), NAMES).0);
    match Included::judge(path, false, true, [&*RULES].into_iter()) {
        Included::No(rule) => NAMES.get(rule.line.checked_sub(1)?).copied(),
        Included::Yes => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mirror::{Digest, Timestamp};

    fn path(text: &str) -> MirrorPath {
        MirrorPath::from_bytes(text.as_bytes()).expect("a plain path")
    }

    fn stat(size: u64) -> Stat {
        let time = Timestamp { seconds: 1, nanos: 0 };
        Stat { size, mtime: time, ctime: time, inode: 1 }
    }

    fn row(state: State, digest: Option<Digest>, is_guarded: bool) -> Recorded {
        Recorded { state, stat: stat(5), digest, is_guarded, is_sealed: false }
    }

    // G13
    #[test]
    fn files_with_names_that_secrets_have_are_held_at_any_depth() {
        let (guard, stat) = (Guard::default(), stat(5));
        for (name, sign) in [
            ("id_ed25519", "id_ed25519"),
            ("backup/home/.ssh/id_rsa", "id_rsa"),
            ("a/vault.kdbx", "*.kdbx"),
            (".netrc", ".netrc"),
            ("x/.aws/credentials", "**/.aws/credentials"),
            (".kube/config", "**/.kube/config"),
            ("coins/wallet.dat", "wallet.dat"),
        ] {
            assert_eq!(guard.admit(&path(name), &stat, None), Err(Skip::Secret(sign)), "{name}");
        }
        for name in ["id_rsa.pub", "config", "credentials", "kdbx", "a.kdbx.txt", ".aws/config", "wallet.txt", "netrc"]
        {
            assert_eq!(guard.admit(&path(name), &stat, None), Ok(()), "{name}");
        }
        // Each pattern is one, and names something.
        assert_eq!(Rules::parse("", MirrorPath::top(), NAMES).1, []);
    }

    // G13
    #[test]
    fn what_a_person_allowed_and_what_dstor_holds_already_is_not_looked_at() {
        let guard = Guard::new(["*.pem", "/keys/", "!/keys/real/*"].map(String::from).into());
        for (name, is_looked_at) in
            [("a.pem", false), ("d/a.pem", false), ("keys/id_rsa", false), ("d/keys/id_rsa", true), ("a.key", true)]
        {
            assert_eq!(guard.looks_at(&path(name), None), is_looked_at, "{name}");
        }
        let digest = Some(Digest::of(b"x"));
        for (row, is_looked_at) in [
            (row(State::Stored, digest, false), false),
            (row(State::Stored, None, false), false),
            (row(State::Gone, digest, false), false),
            (row(State::Failed, digest, false), false),
            (row(State::Skipped, digest, false), false),
            (row(State::Failed, None, false), true),
            (row(State::Skipped, None, true), true),
        ] {
            assert_eq!(Guard::default().looks_at(&path("id_rsa"), Some(&row)), is_looked_at, "{row:?}");
            let sealed = Recorded { is_sealed: true, ..row };
            assert!(
                Guard::default().looks_at(&path("id_rsa"), Some(&sealed)),
                "dStor has it, but nobody could read it"
            );
        }
    }

    #[test]
    fn a_version_that_was_held_is_held_until_it_is_another_or_allowed() {
        let held = row(State::Skipped, None, true);
        let admit = |guard: &Guard, size| guard.admit(&path("notes"), &stat(size), Some(&held));
        assert!(matches!(admit(&Guard::default(), 5), Err(Skip::Secret(_))));
        assert_eq!(admit(&Guard::default(), 6), Ok(()), "its bytes are looked at again");
        assert_eq!(admit(&Guard::new(vec!["notes".into()]), 5), Ok(()));
    }
}
