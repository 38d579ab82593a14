//! What is taken, what is refused and what is said of it, through [`Config::load`].

mod command_line;
mod places;
mod values;

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::load::overlapping;
use super::sections::read_text;
use super::*;
use crate::mirror::RemoteDir;

const SECOND: Duration = Duration::from_secs(1);

/// A folder with `c/config.toml`, `home`, `state` and whatever a test adds.
struct World {
    _folder: tempfile::TempDir,
    top: PathBuf,
    overrides: Overrides,
    variables: Vec<(&'static str, String)>,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let top = folder.path().canonicalize().expect("it exists");
        for name in ["c", "home", "docs", "photos"] {
            fs::create_dir(top.join(name)).expect("new");
        }
        let variables = vec![
            ("HOME", top.join("home").display().to_string()),
            ("DSTOR_SYNC_CONFIG", top.join("c/config.toml").display().to_string()),
            ("DSTOR_SYNC_STATE_DIR", top.join("state").display().to_string()),
        ];
        Self { _folder: folder, top, overrides: Overrides::default(), variables }
    }

    fn with(text: &str) -> Self {
        let world = Self::new();
        world.write("c/config.toml", text, 0o600);
        world
    }

    /// `TOP` in `text` is this world's folder.
    fn write(&self, name: &str, text: &str, mode: u32) {
        let text = text.replace("TOP", &self.top.display().to_string());
        fs::write(self.top.join(name), text).expect("written");
        fs::set_permissions(self.top.join(name), Permissions::from_mode(mode)).expect("ours");
    }

    fn load(&self) -> Result<Config, ConfigErrors> {
        let variables = self.variables.iter().map(|(name, value)| (*name, value.as_str()));
        Config::load(&self.overrides, &Environment::from_pairs(variables))
    }

    fn config(&self) -> Config {
        self.load().unwrap_or_else(|errors| panic!("{}", self.told(&errors)))
    }

    /// What is refused, with hints, and the folder as `TOP`.
    fn refusal(&self) -> String {
        match self.load() {
            Ok(config) => panic!("it is taken: {config:?}"),
            Err(errors) => self.told(&errors),
        }
    }

    fn told(&self, errors: &ConfigErrors) -> String {
        use std::error::Error as _;
        let mut out = Vec::new();
        for error in errors {
            let cause = error.source().map_or_else(String::new, |cause| format!(": {cause}"));
            out.push(format!("{error}{cause}\n  hint: {}", error.hint().unwrap_or("none")));
        }
        out.join("\n").replace(&self.top.display().to_string(), "TOP")
    }
}

fn refusal(text: &str) -> String {
    World::with(text).refusal()
}

/// The refusal of one line in `[[mirror]]`.
fn in_mirror(line: &str) -> String {
    refusal(&format!("[[mirror]]\npath = \"TOP/docs\"\n{line}"))
}

/// The refusal of lines in another section.
fn in_section(lines: &str) -> String {
    refusal(&format!("mirror = [{{ path = \"TOP/docs\" }}]\n{lines}"))
}

#[test]
fn a_config_says_what_the_interface_shows() {
    let world = World::with(
        r#"
            [dstor]
            url = "https://dstor.example:8443"
            email = "me@example.org"
            password_file = "password"
            token_lifetime = "30m"
            [[mirror]]
            path = "../docs"
            remote = "Documents/old"
            comment = "mine"
            exclude = ["*.tmp", "node_modules/"]
            hidden = false
            symlinks = "skip"
            max_file_size = "1 GiB"
            poll = true
            rescan = "10s"
            [[mirror]]
            path = "~/missing"
            poll = "5m"
            [watch]
            settle = "0s"
            max_delay = "0s"
            [upload]
            workers = 64
            bandwidth = "08:00 512 KiB/s, 18:00 none"
            metered = "go"
            sessions = "never"
            retry_max_delay = "1s"
            stall_timeout = "2s"
            shutdown_grace = "0s"
            [verify]
            budget = "100 MiB/day"
            [manifest]
            every = "1h"
            [alerts]
            on_problem = " mail -s 'needs you' me "
            desktop = true
            heartbeat = "https://beats.example/1"
            every = "10m"
            "#,
    );
    let config = world.config();
    let remote = |text| Placement::Path(RemoteDir::parse(text).expect("a path"));
    let mut docs = Mirror::new(world.top.join("docs"), remote("Documents/old"));
    docs.policy.max_file_size = 1 << 30;
    docs.comment = "mine".into();
    docs.exclude = vec!["*.tmp".into(), "node_modules/".into()];
    docs.hidden = false;
    docs.poll = Poll::Every(Duration::from_secs(30));
    docs.rescan = Duration::from_secs(10);
    let mut missing = Mirror::new(world.top.join("home/missing"), remote("missing"));
    missing.poll = Poll::Every(Duration::from_secs(300));
    let expected = Config {
        dstor: Dstor {
            url: Url::parse("https://dstor.example:8443").expect("a URL"),
            ca_file: None,
            token_lifetime: Duration::from_secs(1800),
            credential_files: CredentialFiles::Login {
                email: "me@example.org".into(),
                password_file: world.top.join("c/password"),
            },
        },
        mirrors: vec![docs, missing.clone()],
        watch: Watch { settle: Duration::ZERO, max_delay: Duration::ZERO },
        upload: Upload {
            workers: 64,
            bandwidth: Timetable::of(vec![(480, Some(512 << 10)), (1080, None)]).expect("a timetable"),
            metered: Metered::Go,
            sessions: Sessions::Never,
            retry_max_delay: SECOND,
            stall_timeout: 2 * SECOND,
            shutdown_grace: Duration::ZERO,
        },
        verify: Verify { budget: Some(100 << 20) },
        encrypt: Encrypt::default(),
        manifest: Manifest { every: Some(Duration::from_secs(3600)) },
        alerts: Alerts {
            on_problem: Some("mail -s 'needs you' me".into()),
            on_recovered: None,
            desktop: true,
            heartbeat: Some(Url::parse("https://beats.example/1").expect("a URL")),
            every: Duration::from_secs(600),
        },
        source: Some(world.top.join("c/config.toml")),
    };
    assert_eq!(config, expected);
    assert_eq!(config.missing_mirrors(), [&missing]);
}

#[test]
fn every_fault_is_told_at_once_with_file_line_and_key() {
    insta::assert_snapshot!(refusal(r#"
            [dstor]
            urll = "x"
            settle = "1s"
            token_lifetime = 3600
            [mirrors]
            [watch]
            settle = "soon"
            [upload]
            workers = 65
        "#), @r#"
    TOP/c/config.toml:3: unknown key `urll` in [dstor]; the nearest known key is `url`
      hint: the keys there are url, ca_file, api_key_file, email, password_file, token_lifetime
    TOP/c/config.toml:4: unknown key `settle` in [dstor]; the nearest known key is `settle` in [watch]
      hint: move it to [watch]
    TOP/c/config.toml:5: `token_lifetime` in [dstor] is a whole number, not a duration
      hint: write it like token_lifetime = "1h"
    TOP/c/config.toml:6: unknown key `mirrors` in the configuration; the nearest known key is `mirror`
      hint: the keys there are dstor, mirror, watch, upload, encrypt, verify, manifest, alerts
    TOP/c/config.toml:8: `settle` in [watch] is no duration: `soon`
      hint: write it like "2s", "15m" or "1h 30m"; days are hours, and a year is the longest
    TOP/c/config.toml:10: `workers` in [upload] is out of range: `65`
      hint: it goes from 1 to 64
    the configuration `TOP/c/config.toml` names no mirror
      hint: add [[mirror]] with path = "…", the directory to mirror
    "#);
}

#[test]
fn unknown_keys_name_the_nearest_known_one_and_never_their_value() {
    insta::assert_snapshot!(in_section("[dstor]\napi_key = \"hunter2\""), @r"
    TOP/c/config.toml:3: unknown key `api_key` in [dstor]; the nearest known key is `api_key_file`
      hint: the keys there are url, ca_file, api_key_file, email, password_file, token_lifetime
    ");
    insta::assert_snapshot!(in_section("[dstor]\npassword = \"hunter2\""), @r"
    TOP/c/config.toml:3: unknown key `password` in [dstor]; the nearest known key is `password_file`
      hint: the keys there are url, ca_file, api_key_file, email, password_file, token_lifetime
    ");
    insta::assert_snapshot!(in_mirror("excludes = []"), @r"
    TOP/c/config.toml:3: unknown key `excludes` in [[mirror]]; the nearest known key is `exclude`
      hint: the keys there are path, remote, remote_id, comment, exclude, allow_secrets, hidden, symlinks, max_file_size, poll, rescan
    ");
    insta::assert_snapshot!(in_mirror("\"a\\u001bb\" = 1"), @r"
    TOP/c/config.toml:3: unknown key `a\u{1b}b` in [[mirror]]; the nearest known key is `path`
      hint: the keys there are path, remote, remote_id, comment, exclude, allow_secrets, hidden, symlinks, max_file_size, poll, rescan
    ");
}

#[test]
fn what_is_no_toml_is_told_with_its_line_and_without_its_text() {
    insta::assert_snapshot!(refusal("[dstor]\napi_key = hunter2"), @r"
    TOP/c/config.toml:2: not TOML: string values must be quoted, expected literal string
      hint: correct the line; https://toml.io shows how TOML is written
    ");
    insta::assert_snapshot!(refusal("[dstor]\nurl = \"a\"\nurl = \"b\""), @r"
    TOP/c/config.toml:3: not TOML: duplicate key
      hint: correct the line; https://toml.io shows how TOML is written
    ");
    insta::assert_snapshot!(refusal("[dstor"), @r"
    TOP/c/config.toml:1: not TOML: unclosed table, expected `]`
      hint: correct the line; https://toml.io shows how TOML is written
    ");
}

fn told(warnings: &[Warning]) -> String {
    warnings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn what_is_allowed_and_odd_is_warned_of() {
    let world = World::with(
        "[dstor]\napi_key_file = \"TOP/photos/key\"\n[[mirror]]\npath = \"TOP/c\"\nremote_id = 7\n\
             [[mirror]]\npath = \"TOP/photos\"\n[[mirror]]\npath = \"TOP/docs\"\nremote = \"photos\"",
    );
    let told = told(&world.config().warnings()).replace(&world.top.display().to_string(), "TOP");
    insta::assert_snapshot!(told, @r"
    the mirror `TOP/c` holds the configuration `TOP/c/config.toml`: it is left out, but copies that an editor makes of it are not
    the mirror `TOP/c` goes to the dStor directory #7 by its number: files in subdirectories are skipped; give `remote` to mirror them too
    the mirror `TOP/photos` holds the API key file `TOP/photos/key`: it is left out, but copies that an editor makes of it are not
    the mirrors `TOP/photos` and `TOP/docs` go to the same dStor directory `photos`: files of the same name take each other's place there
    ");
    assert!(World::with("[[mirror]]\npath = \"TOP/docs\"").config().warnings().is_empty());
}

// G13
#[test]
fn what_people_keep_to_themselves_is_warned_of_unless_it_is_left_out() {
    let warnings = |more: &str| {
        let world = World::with(&format!("[[mirror]]\npath = \"TOP/docs\"\n{more}"));
        fs::create_dir_all(world.top.join("docs/.ssh")).expect("new");
        fs::write(world.top.join("docs/.env"), "x").expect("written");
        told(&world.config().warnings()).replace(&world.top.display().to_string(), "TOP")
    };
    insta::assert_snapshot!(warnings(""), @r"
    the mirror `TOP/docs` holds `.ssh`, which is for no one else: unless `exclude` names it, it is uploaded, and whoever has its hash can read it
    the mirror `TOP/docs` holds `.env`, which is for no one else: unless `exclude` names it, it is uploaded, and whoever has its hash can read it
    ");
    assert_eq!(warnings("hidden = false"), "");
    assert_eq!(warnings("exclude = [\".ssh/\", \".env\"]"), "");
}

#[test]
fn a_config_of_nothing_but_faults_is_told_in_part() {
    let world = World::with(&"[[mirror]]\nx = 1\n".repeat(5_000));
    assert_eq!(world.load().expect_err("it is wrong").iter().count(), 50);
}

/// Pieces of TOML that come near to a config.
fn near_config() -> impl proptest::strategy::Strategy<Value = String> {
    use proptest::prelude::*;
    let header = prop::sample::select(vec!["", "[dstor]", "[[mirror]]", "[mirror]", "[watch]", "[upload]", "[x]"]);
    let key = prop_oneof![
        prop::sample::select(vec![
            "url",
            "path",
            "remote",
            "remote_id",
            "exclude",
            "poll",
            "settle",
            "max_delay",
            "workers",
            "email",
            "password_file",
            "api_key_file",
            "ca_file",
            "max_file_size",
            "symlinks",
            "bandwidth",
            "dstor.url",
            "mirror",
        ])
        .prop_map(str::to_owned),
        "[a-z_]{1,8}",
    ];
    let value = prop_oneof![
        "\"[^\"\\\\\\p{Cc}]{0,12}\"",
        "-?(0x)?[0-9]{1,30}",
        "[0-9]{1,4}(s|m|h| GiB| B)",
        "\"[0-9]{1,30}(s|m|h| GiB| B)\"",
        Just("true".to_owned()),
        Just("[\"a{\", 1, \"!\"]".to_owned()),
        Just("{ a = 1 }".to_owned()),
        Just("[{ path = \"\\u0000\" }]".to_owned()),
        Just("\"../\\u001b\"".to_owned()),
    ];
    let line = (header, key, value).prop_map(|(header, key, value)| format!("{header}\n{key} = {value}\n"));
    prop::collection::vec(line, 0..8).prop_map(|lines| lines.concat())
}

proptest::proptest! {
    #[test]
    fn no_text_makes_it_panic_and_nothing_told_acts_on_a_terminal(
        text in proptest::prop_oneof![near_config(), proptest::prelude::any::<String>()],
    ) {
        let overrides = Overrides::default();
        let environment = Environment::from_pairs([("HOME", "/home/me")]);
        let (config, written, found) = read_text(Path::new("/c/config.toml"), &text, &overrides, &environment);
        let told: String = found.iter().map(|error| format!("{error}{}", error.hint().unwrap_or_default())).collect();
        let acts = |c: char| c.is_control() || c == '\u{202e}';
        proptest::prop_assert!(!told.contains(acts), "{}", told.escape_debug());
        let _ = (config.effective(None), config.warnings(), overlapping(&written));
    }
}
