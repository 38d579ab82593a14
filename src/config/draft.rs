//! A first config: the example of the package, with a person's answers in it.

use std::path::{Path, PathBuf};

use reqwest::Url;

use super::error::quoted;
use super::show::text;
use super::{ConfigError, CredentialFiles};
use crate::mirror::{Placement, shell_word};

/// All keys there are, with what each means, and their defaults as comments.
const EXAMPLE: &str = include_str!("../../packaging/config.example.toml");
const HEAD: &str = "\
# The configuration of dstor-sync, written by `dstor-sync init`; yours to change. What is commented out shows the default.
# `dstor-sync config check` tells whether it is right.
";
const BY_ENVIRONMENT: &str = "\
# No file with credentials is named: they come from the environment, or from what `dstor-sync login` stored.
";

/// The answers that a first config is made of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Draft {
    /// The service, if it is another one than by default.
    pub url: Option<Url>,
    /// Where the credentials are, with paths in full.
    pub credentials: CredentialFiles,
    /// The directory to mirror, absolute.
    pub path: PathBuf,
    /// Its place on dStor.
    pub remote: Placement,
}

impl Draft {
    /// The config's text: every key that there is, those that were not asked about as comments.
    ///
    /// # Errors
    /// [`ConfigError`] if a path is not UTF-8, which TOML cannot hold.
    pub fn text(&self) -> Result<String, ConfigError> {
        let mut lines: Vec<String> =
            EXAMPLE.lines().skip_while(|line| line.starts_with('#')).map(str::to_owned).collect();
        if let Some(url) = &self.url {
            set(&mut lines, "url", &text(url.as_str().trim_end_matches('/')));
        }
        match &self.credentials {
            CredentialFiles::None => {
                leave_out(&mut lines, "api_key_file");
                let section = lines.iter().position(|line| line == "[dstor]").expect("the example has one");
                lines.insert(section, BY_ENVIRONMENT.trim_end().to_owned());
            }
            CredentialFiles::ApiKey(file) => set(&mut lines, "api_key_file", &path_text(file)?),
            CredentialFiles::Login { email, password_file } => {
                leave_out(&mut lines, "api_key_file");
                set(&mut lines, "email", &text(email));
                set(&mut lines, "password_file", &path_text(password_file)?);
            }
        }
        set(&mut lines, "path", &path_text(&self.path)?);
        match &self.remote {
            Placement::Path(remote) => set(&mut lines, "remote", &text(remote.as_str())),
            Placement::Id(id) => set(&mut lines, "remote_id", &id.to_string()),
        }
        Ok(format!("{HEAD}{}\n", lines.join("\n")))
    }
}

/// Gives the first key of this name a value; what is said of it stays behind it, or in front where it would not fit.
fn set(lines: &mut [String], key: &str, value: &str) {
    // As in the example; a blank at least in front of it.
    const COLUMN: usize = 41;
    const WIDEST: usize = 118;
    let line = line_of(lines, key);
    let told = line.rsplit_once("  # ").map(|(_, told)| told.trim().to_owned());
    let setting = format!("{key} = {value}   ");
    *line = match told {
        Some(told) if setting.chars().count().max(COLUMN) + told.chars().count() < WIDEST => {
            format!("{setting:<COLUMN$}# {told}")
        }
        Some(told) => format!("# {told}\n{}", setting.trim_end_matches(' ')),
        None => setting.trim_end_matches(' ').to_owned(),
    };
}

fn leave_out(lines: &mut [String], key: &str) {
    let line = line_of(lines, key);
    *line = format!("# {}", line.trim_start_matches("# "));
}

fn line_of<'a>(lines: &'a mut [String], key: &str) -> &'a mut String {
    let is_of = |line: &&mut String| line.trim_start_matches("# ").starts_with(&format!("{key} = "));
    lines.iter_mut().find(is_of).expect("the example has every key")
}

fn path_text(path: &Path) -> Result<String, ConfigError> {
    let Some(path) = path.to_str() else {
        let message = format!("the path {} is not UTF-8, and a configuration cannot hold it", quoted(path));
        return Err(ConfigError::new(message)
            .with_hint(format!("rename it, or do without a configuration: `dstor-sync run {}`", shell_word(path))));
    };
    Ok(text(path))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::sections::read_text;
    use crate::config::{Environment, Overrides};
    use crate::mirror::RemoteDir;

    fn remote(text: &str) -> Placement {
        Placement::Path(RemoteDir::parse(text).expect("a directory"))
    }

    fn draft(path: &str) -> Draft {
        let credentials = CredentialFiles::ApiKey("/home/me/.config/dstor-sync/api-key".into());
        Draft { url: None, credentials, path: path.into(), remote: remote("Documents") }
    }

    /// Reads a draft's text as a config, and compares everything with a config of the defaults.
    fn assert_reads_back(draft: &Draft) {
        let text = draft.text().expect("it is UTF-8");
        let file = Path::new("/nowhere/c/config.toml");
        let environment = Environment::from_pairs([("HOME", "/home/me")]);
        let (config, written, problems) = read_text(file, &text, &Overrides::default(), &environment);
        assert!(problems.is_empty(), "{problems:?}\n{text}");
        let [written] = &written[..] else { panic!("{} mirrors\n{text}", written.len()) };
        let expected = crate::config::Mirror::new(crate::config::places::resolve(&draft.path), draft.remote.clone());
        assert_eq!(written.mirror, expected, "{text}");
        assert_eq!(config.dstor.credential_files, draft.credentials, "{text}");
        let by_default = crate::config::Dstor::default();
        assert_eq!(&config.dstor.url, draft.url.as_ref().unwrap_or(&by_default.url), "{text}");
        assert_eq!(config.dstor.token_lifetime, by_default.token_lifetime);
        assert_eq!((config.watch, config.upload), Default::default());
    }

    #[test]
    fn a_first_config_holds_the_answers_and_shows_every_other_key() {
        let text = draft("/home/me/My \"Docs\"").text().expect("it is UTF-8");
        let beginning: Vec<&str> = text.lines().take(15).collect();
        insta::assert_snapshot!(beginning.join("\n"), @r##"
        # The configuration of dstor-sync, written by `dstor-sync init`; yours to change. What is commented out shows the default.
        # `dstor-sync config check` tells whether it is right.

        [dstor]
        # url = "https://api.dstor.cloud"        # plain http only to a loopback address
        # ca_file = "~/.config/dstor-sync/ca.pem" # authorities that count beside the system's, in PEM: for a private service
        api_key_file = "/home/me/.config/dstor-sync/api-key"   # a file with the key and nothing else, chmod 600
        # email = "me@example.org"               # or: a login in place of the key
        # password_file = "~/.config/dstor-sync/password"
        # token_lifetime = "1h"                  # asked for; the token is renewed before it ends

        [[mirror]]
        path = "/home/me/My \"Docs\""
        remote = "Documents"                     # the dStor directory; by default named after the local one
        # remote_id = 42                         # or its number; then only the top level can be mirrored
        "##);
        for line in EXAMPLE.lines().filter(|line| line.contains(" = ")) {
            let key = line.trim_start_matches("# ").split(" = ").next().expect("a key");
            let has_it = |line: &str| line.trim_start_matches("# ").starts_with(&format!("{key} = "));
            assert!(text.lines().any(has_it), "{key}");
        }
    }

    #[test]
    fn each_kind_of_credentials_and_place_reads_back_as_it_was_given() {
        let login = CredentialFiles::Login { email: "me@example.org".into(), password_file: "/k/p \\ \"w\"".into() };
        for credentials in [CredentialFiles::None, CredentialFiles::ApiKey("/k/é".into()), login] {
            for url in [None, Some(Url::parse("http://127.0.0.1:4747").expect("a URL"))] {
                for remote in [remote(""), remote("a/b \"c\""), Placement::Id(42)] {
                    assert_reads_back(&Draft {
                        url: url.clone(),
                        credentials: credentials.clone(),
                        path: "/nowhere/docs".into(),
                        remote,
                    });
                }
            }
        }
    }

    proptest! {
        // The name of a directory is any text without a slash and a NUL.
        #[test]
        fn any_name_of_a_directory_reads_back_as_it_was_given(
            name in prop_oneof!["[^/\0]{1,40}", "[ \"'\\\\#=\\[\\]{}~.$\t\n\r\u{1b}\u{202e}\u{85}é🗎]{1,12}"],
            above in "[^/\0]{1,8}",
        ) {
            prop_assume!(![".", ".."].contains(&name.as_str()) && ![".", ".."].contains(&above.as_str()));
            let whole = format!("/nowhere/{above}/{name}");
            let mut draft = draft(&whole);
            draft.credentials = CredentialFiles::ApiKey(whole.into());
            if let Ok(remote) = RemoteDir::parse(&name) {
                draft.remote = Placement::Path(remote);
            }
            assert_reads_back(&draft);
        }
    }

    #[test]
    fn a_path_that_is_no_text_is_refused_with_the_way_without_a_config() {
        use std::os::unix::ffi::OsStrExt as _;
        let mut draft = draft("/a");
        draft.path = Path::new(std::ffi::OsStr::from_bytes(b"/a/\xff")).to_owned();
        let error = draft.text().expect_err("it is refused");
        assert_eq!(error.to_string(), r"the path `/a/\xff` is not UTF-8, and a configuration cannot hold it");
        assert!(error.hint().is_some_and(|hint| hint.contains("dstor-sync run")));
    }
}
