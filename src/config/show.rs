//! The effective config as TOML that reads back to the same.

use std::fmt::Write as _;

use reqwest::Url;

use super::units::{a_day_text, bandwidth_text, duration_text, size_text};
use super::{Config, CredentialFiles, Metered, Mirror, Poll, Source, Symlinks};
use crate::mirror::{Placement, Sessions, escape};

impl Config {
    /// Every setting with its value, as TOML: read back from the same place, it is the same config. Secrets are never in
    /// it, only the files that hold them and, as a comment, where the credentials in use came from.
    #[must_use]
    pub fn effective(&self, credentials: Option<&Source>) -> String {
        let mut out = String::new();
        if let Some(source) = &self.source {
            comment(&mut out, &format!("read from {}", super::error::quoted(source)));
        }
        comment(
            &mut out,
            &match credentials {
                Some(source) => format!("credentials: {source}"),
                None => "credentials: none".to_owned(),
            },
        );
        self.show_dstor(&mut out);
        for mirror in &self.mirrors {
            show_mirror(mirror, &mut out);
        }
        section(&mut out, "[watch]");
        value(&mut out, "settle", &text(&duration_text(self.watch.settle)));
        value(&mut out, "max_delay", &text(&duration_text(self.watch.max_delay)));
        let upload = &self.upload;
        section(&mut out, "[upload]");
        value(&mut out, "workers", &upload.workers.to_string());
        value(&mut out, "bandwidth", &text(&bandwidth_text(&upload.bandwidth)));
        value(
            &mut out,
            "metered",
            match upload.metered {
                Metered::Pause => "\"pause\"",
                Metered::Go => "\"go\"",
            },
        );
        value(
            &mut out,
            "sessions",
            match upload.sessions {
                Sessions::Auto => "\"auto\"",
                Sessions::Always => "\"always\"",
                Sessions::Never => "\"never\"",
            },
        );
        value(&mut out, "retry_max_delay", &text(&duration_text(upload.retry_max_delay)));
        value(&mut out, "stall_timeout", &text(&duration_text(upload.stall_timeout)));
        value(&mut out, "shutdown_grace", &text(&duration_text(upload.shutdown_grace)));
        let recipients = self.encrypt.recipients.iter().flat_map(|recipients| recipients.names());
        section(&mut out, "[encrypt]");
        value(&mut out, "recipients", &list(recipients));
        value(&mut out, "names", if self.encrypt.names { "true" } else { "false" });
        section(&mut out, "[verify]");
        value(&mut out, "budget", &text(&self.verify.budget.map_or_else(String::new, a_day_text)));
        section(&mut out, "[manifest]");
        value(&mut out, "every", &text(&self.manifest.every.map_or_else(String::new, duration_text)));
        let alerts = &self.alerts;
        section(&mut out, "[alerts]");
        value(&mut out, "on_problem", &text(alerts.on_problem.as_deref().unwrap_or_default()));
        value(&mut out, "on_recovered", &text(alerts.on_recovered.as_deref().unwrap_or_default()));
        value(&mut out, "desktop", if alerts.desktop { "true" } else { "false" });
        value(&mut out, "heartbeat", &text(alerts.heartbeat.as_ref().map_or("", Url::as_str)));
        value(&mut out, "every", &text(&duration_text(alerts.every)));
        out
    }

    fn show_dstor(&self, out: &mut String) {
        section(out, "[dstor]");
        value(out, "url", &text(self.dstor.url.as_str().trim_end_matches('/')));
        if let Some(file) = &self.dstor.ca_file {
            path(out, "ca_file", file);
        }
        match &self.dstor.credential_files {
            CredentialFiles::None => {}
            CredentialFiles::ApiKey(file) => path(out, "api_key_file", file),
            CredentialFiles::Login { email, password_file } => {
                value(out, "email", &text(email));
                path(out, "password_file", password_file);
            }
        }
        value(out, "token_lifetime", &text(&duration_text(self.dstor.token_lifetime)));
    }
}

fn show_mirror(mirror: &Mirror, out: &mut String) {
    section(out, "[[mirror]]");
    path(out, "path", &mirror.path);
    match &mirror.policy.placement {
        Placement::Path(remote) => value(out, "remote", &text(remote.as_str())),
        Placement::Id(id) => value(out, "remote_id", &id.to_string()),
    }
    value(out, "comment", &text(&mirror.comment));
    value(out, "exclude", &list(mirror.exclude.iter().cloned()));
    value(out, "allow_secrets", &list(mirror.policy.guard.allowed().iter().cloned()));
    value(out, "hidden", if mirror.hidden { "true" } else { "false" });
    value(
        out,
        "symlinks",
        match mirror.symlinks {
            Symlinks::Skip => "\"skip\"",
            Symlinks::Follow => "\"follow\"",
        },
    );
    value(out, "max_file_size", &text(&size_text(mirror.policy.max_file_size)));
    value(
        out,
        "poll",
        &match mirror.poll {
            Poll::Events => "false".to_owned(),
            Poll::Every(interval) => text(&duration_text(interval)),
        },
    );
    value(out, "rescan", &text(&duration_text(mirror.rescan)));
}

fn section(out: &mut String, header: &str) {
    // Writing to a String cannot fail, here and below.
    let _ = writeln!(out, "\n{header}");
}

fn comment(out: &mut String, text: &str) {
    let _ = writeln!(out, "# {text}");
}

fn value(out: &mut String, key: &str, value: &str) {
    let _ = writeln!(out, "{key} = {value}");
}

fn list(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.map(|item| text(&item)).collect::<Vec<_>>().join(", "))
}

fn path(out: &mut String, key: &str, path: &std::path::Path) {
    if path.to_str().is_none() {
        comment(out, "This path is not UTF-8, which TOML cannot hold: what cannot be written is replaced.");
    }
    value(out, key, &text(&path.to_string_lossy()));
}

/// `text` as a TOML string in which nothing acts on a terminal.
pub(super) fn text(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        let mut shown = String::new();
        let _ = escape(c.encode_utf8(&mut [0; 4]).as_bytes(), &mut shown);
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            _ if shown.starts_with(c) => out.push(c),
            _ => {
                let _ = write!(out, "\\U{:08X}", u32::from(c));
            }
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::time::Duration;

    use super::*;
    use crate::config::{Environment, Overrides, Verify};
    use crate::mirror::RemoteDir;
    use crate::mirror::Timetable;

    fn load(file: &Path) -> Config {
        let overrides = Overrides { config: Some(file.to_owned()), ..Overrides::default() };
        Config::load(&overrides, &Environment::from_pairs([("HOME", "/home/me")])).unwrap_or_else(|e| panic!("{e}"))
    }

    #[test]
    fn the_effective_config_reads_back_to_the_same() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("config.toml");
        for text in [
            "[[mirror]]\npath = \"docs\"".to_owned(),
            r#"
            [dstor]
            url = "http://[::1]:8080"
            api_key_file = "~/key"
            token_lifetime = "90m"
            [[mirror]]
            path = "a \"b\" \\ ü"
            remote = "/"
            comment = "two\nlines\u001b\u202e\u007f"
            exclude = ["*.tmp", "\\#a", "!b"]
            allow_secrets = ["/keys/", "!\u001b"]
            hidden = false
            max_file_size = "1500 B"
            poll = "1s 500ms"
            [[mirror]]
            path = "/nowhere/c"
            remote_id = 9223372036854775807
            poll = true
            [watch]
            settle = "1ms"
            [encrypt]
            recipients = ["age1t7rxyev2z3rw82stdlrrepyc39nvn86l5078zqkf5uasdy86jp6svpy7pa"]
            names = true
            [verify]
            budget = "1.5 MB/day"
            [upload]
            sessions = "never"
            metered = "go"
            workers = 1
            [alerts]
            desktop = true
            "#
            .to_owned(),
            "[dstor]\nemail = \"a@b\"\npassword_file = \"p\"\n[[mirror]]\npath = \"docs\"".to_owned(),
        ] {
            fs::write(&file, &text).expect("written");
            let config = load(&file);
            let shown = config.effective(Some(&Source::File("/a\nb".into())));
            fs::write(&file, &shown).expect("written");
            assert_eq!(load(&file), config, "{shown}");
            let acts = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
            assert!(!shown.contains(acts), "{shown:?}");
        }
    }

    #[test]
    fn every_setting_is_shown_as_people_write_it() {
        let remote = Placement::Path(RemoteDir::parse("Documents").expect("a path"));
        let mut mirror = Mirror::new("/home/me/Documents".into(), remote);
        mirror.poll = Poll::Every(Duration::from_secs(30));
        mirror.exclude = vec!["*.tmp".into()];
        let config = Config {
            dstor: crate::config::Dstor {
                credential_files: CredentialFiles::ApiKey(PathBuf::from("/home/me/key")),
                ..Default::default()
            },
            mirrors: vec![mirror],
            watch: Default::default(),
            upload: Default::default(),
            encrypt: Default::default(),
            verify: Default::default(),
            manifest: Default::default(),
            alerts: Default::default(),
            source: Some("/home/me/config.toml".into()),
        };
        insta::assert_snapshot!(config.effective(Some(&Source::ApiKeyVariable)), @r#"
        # read from `/home/me/config.toml`
        # credentials: the environment variable DSTOR_API_KEY

        [dstor]
        url = "https://api.dstor.cloud"
        api_key_file = "/home/me/key"
        token_lifetime = "1h"

        [[mirror]]
        path = "/home/me/Documents"
        remote = "Documents"
        comment = ""
        exclude = ["*.tmp"]
        allow_secrets = []
        hidden = true
        symlinks = "skip"
        max_file_size = "10 GiB"
        poll = "30s"
        rescan = "1h"

        [watch]
        settle = "2s"
        max_delay = "1m"

        [upload]
        workers = 4
        bandwidth = ""
        metered = "pause"
        sessions = "auto"
        retry_max_delay = "15m"
        stall_timeout = "1m"
        shutdown_grace = "20s"

        [encrypt]
        recipients = []
        names = false

        [verify]
        budget = ""

        [manifest]
        every = ""

        [alerts]
        on_problem = ""
        on_recovered = ""
        desktop = false
        heartbeat = ""
        every = "1h"
        "#);
    }

    #[test]
    fn a_limit_is_shown_as_it_would_be_written() {
        let upload = crate::config::Upload { bandwidth: Timetable::always(2 << 20), ..Default::default() };
        let config = Config {
            dstor: Default::default(),
            mirrors: vec![],
            watch: Default::default(),
            upload,
            encrypt: Default::default(),
            verify: Verify { budget: Some(100 << 20) },
            manifest: Default::default(),
            alerts: Default::default(),
            source: None,
        };
        assert!(config.effective(None).contains("\nbudget = \"100 MiB/day\"\n"));
        assert!(config.effective(None).contains("\nbandwidth = \"2 MiB/s\"\n"));
        assert!(config.effective(None).starts_with("# credentials: none\n"));
    }
}
