//! Fuzz target: the configuration's text.

use std::path::Path;

use super::sections::read_text;
use super::{Config, ConfigErrors, Environment, Overrides};
use crate::mirror::fuzz::{is_inert, weave};

const WORDS: [&str; 71] = [
    "[dstor]\n",
    "[[mirror]]\n",
    "[watch]\n",
    "[upload]\n",
    "[mirror]\n",
    "path = \"docs\"\n",
    "path = \"/nowhere/a\"\n",
    "remote = \"Docs\"\n",
    "remote = \"\"\n",
    "remote_id = 7\n",
    "remote_id = -1\n",
    "comment = \"c\"\n",
    "comment = \"\"\"two\nlines\"\"\"\n",
    "exclude = [\"*.tmp\"]\n",
    "exclude = [\"[\"]\n",
    "exclude = [\"\\u001b\", \"!a/\", 7]\n",
    "hidden = false\n",
    "symlinks = \"skip\"\n",
    "max_file_size = \"1 KiB\"\n",
    "max_file_size = \"0\"\n",
    "poll = true\n",
    "poll = \"2s\"\n",
    "rescan = \"1h\"\n",
    "rescan = \"1s\"\n",
    "url = \"https://a.example\"\n",
    "url = \"http://127.0.0.1:1\"\n",
    "url = \"http://a.example\"\n",
    "api_key_file = \"k\"\n",
    "email = \"a@b\"\n",
    "password_file = \"p\"\n",
    "token_lifetime = \"1h\"\n",
    "settle = \"1s\"\n",
    "settle = \"5m\"\n",
    "max_delay = \"10s\"\n",
    "workers = 1\n",
    "workers = 0\n",
    "workers = 99999999999999999999\n",
    "bandwidth = \"\"\n",
    "bandwidth = \"1 MiB/s\"\n",
    "bandwidth = \"08:00 512 KiB/s, 18:00 none\"\n",
    "sessions = \"never\"\n",
    "sessions = \"always\"\n",
    "retry_max_delay = \"1m\"\n",
    "stall_timeout = \"1s\"\n",
    "shutdown_grace = \"0s\"\n",
    "budget = \"1 GiB/day\"\n",
    "[manifest]\n",
    "every = \"1h\"\n",
    "[alerts]\n",
    "on_problem = \"mail me\"\n",
    "heartbeat = \"https://a.example/b\"\n",
    "unknown = 1\n",
    "\u{1b}]0;x\u{7} = 1\n",
    "\"\\u202e\" = 1\n",
    "= ",
    "\"",
    "'",
    "[",
    "]",
    "{",
    "}",
    "#",
    "\n",
    "\n",
    "\\",
    "\u{202e}",
    "é",
    "2s",
    "true",
    "1979-05-27",
    "a.b = 1\n",
];

const SETTINGS: [&str; 8] = [
    "[dstor]\nurl = \"http://[::1]:8080\"\napi_key_file = \"~/k \\u001b\"\n",
    "[dstor]\nemail = \"a@b\"\npassword_file = \"p\"\ntoken_lifetime = \"90m\"\n",
    "[watch]\nsettle = \"1ms\"\nmax_delay = \"366d\"\n",
    "[watch]\nsettle = \"0s\"\nmax_delay = \"1h 1s\"\n",
    "[upload]\nworkers = 64\nsessions = \"never\"\nretry_max_delay = \"1s\"\n",
    "[[mirror]]\npath = \"/nowhere/a\\\"b\\\\\\u202e\"\nremote = \"x//y/\"\nexclude = [\"*.\\u001b\", \"!a\"]\nhidden = false\n",
    "[[mirror]]\npath = \"~/docs\"\nremote_id = 9223372036854775807\npoll = \"2s\"\nmax_file_size = \"1500 B\"\n",
    "# nothing\n",
];
const IN_MIRROR: [&str; 6] = [
    "comment = \"two\\nlines\\u007f\"\n",
    "remote = \"\"\n",
    "rescan = \"10s\"\n",
    "poll = true\n",
    "hidden = 1\n",
    "remote = \"a/../b\"\n",
];

fn read(text: &str) -> (Config, Result<(), ConfigErrors>) {
    let environment = Environment::from_pairs([("HOME", "/home/me")]);
    let (mut config, written, problems) =
        read_text(Path::new("/nowhere/config.toml"), text, &Overrides::default(), &environment);
    config.mirrors = written.into_iter().map(|written| written.mirror).collect();
    (config, ConfigErrors::none_in(problems))
}

#[test]
fn fuzz_a_config_reads_back_as_it_is_shown_and_complaints_are_inert() {
    bolero::check!().for_each(|bytes: &[u8]| {
        check(&weave(bytes, &WORDS));
        // Near to right: a few settings in their sections.
        let few: String = bytes.iter().take(6).map(|byte| SETTINGS[usize::from(*byte) % SETTINGS.len()]).collect();
        check(&few);
        check(&format!(
            "{few}[[mirror]]\npath = \"docs\"\n{}",
            bytes.get(6).map_or("", |byte| IN_MIRROR[usize::from(*byte) % IN_MIRROR.len()])
        ));
    });
}

fn check(text: &str) {
    match read(text) {
        (config, Ok(())) => {
            let shown = config.effective(None);
            assert!(shown.lines().all(is_inert), "{shown:?}");
            let (again, problems) = read(&shown);
            assert!(problems.is_ok(), "{}\nof {shown}", problems.err().map(|p| p.to_string()).unwrap_or_default());
            assert_eq!(again, config, "{shown}");
        }
        (_, Err(problems)) => {
            for problem in &problems {
                let told = problem.to_string();
                assert!(is_inert(&told) && problem.hint().is_none_or(is_inert), "{problem:?}");
                assert!(told.starts_with("/nowhere/config.toml:") || told.contains("names no mirror"), "{problem}");
            }
        }
    }
}
