//! Which directories, addresses and files a config may name.

use super::*;

// A14
#[test]
fn mirrors_within_each_other_are_refused_through_links_too() {
    let world = World::with(
        "[[mirror]]\npath = \"TOP/docs\"\n[[mirror]]\npath = \"TOP/docs/a\"\n[[mirror]]\npath = \"TOP/link\"\n\
             [[mirror]]\npath = \"TOP/photos\"\n[[mirror]]\npath = \"TOP/photos-2\"",
    );
    symlink("docs", world.top.join("link")).expect("new");
    insta::assert_snapshot!(world.refusal(), @r"
    TOP/c/config.toml:3: the mirror `TOP/docs/a` lies in the mirror `TOP/docs`
      hint: a file belongs to one mirror only: remove one of the two
    TOP/c/config.toml:5: the mirror `TOP/docs` is there twice
      hint: a file belongs to one mirror only: remove one of the two
    TOP/c/config.toml:5: the mirror `TOP/docs` holds the mirror `TOP/docs/a`
      hint: a file belongs to one mirror only: remove one of the two
    ");
}

// G12
#[test]
fn a_mirror_and_the_state_directory_lie_apart() {
    let mut world = World::with("[[mirror]]\npath = \"TOP/docs\"");
    for (state, told) in [
        ("docs", "the mirror `TOP/docs` is the state directory `TOP/docs`"),
        ("docs/.state/new", "the mirror `TOP/docs` holds the state directory `TOP/docs/.state/new`"),
        ("", "the mirror `TOP/docs` lies in the state directory `TOP`"),
    ] {
        world.overrides.state_dir = Some(world.top.join(state));
        let refusal = world.refusal();
        assert!(refusal.starts_with(&format!("TOP/c/config.toml:1: {told}\n  hint: ")), "{refusal}");
    }
    world.overrides.dir = Some(world.top.join("docs"));
    world.overrides.sandbox = true;
    assert!(world.refusal().starts_with("the mirror `TOP/docs` lies in the state directory"));
}

// G4
#[test]
fn an_address_is_https_or_loopback_and_nothing_else() {
    let load = |url: &str| {
        let mut world = World::with("[[mirror]]\npath = \"TOP/docs\"");
        world.write("c/config.toml", &format!("[dstor]\nurl = \"{url}\"\n[[mirror]]\npath = \"TOP/docs\""), 0o600);
        let by_file = world.load().map(|config| config.dstor.url).map_err(|errors| world.told(&errors));
        world.write("c/config.toml", "[dstor]\nurl = \"https://a\"\n[[mirror]]\npath = \"TOP/docs\"", 0o600);
        world.variables.push(("DSTOR_URL", url.to_owned()));
        let by_variable = world.load().map(|config| config.dstor.url).map_err(|errors| world.told(&errors));
        (by_file, by_variable)
    };
    for fine in [
        "https://a.b",
        "https://1.2.3.4:5/",
        "http://127.0.0.1:1",
        "http://127.9.9.9",
        "http://[::1]:8",
        "http://localhost",
    ] {
        let expected = Ok(Url::parse(fine).expect("a URL"));
        assert_eq!(load(fine), (expected.clone(), expected));
    }
    for (bad, told) in [
        ("http://example.org", "is plain http: everyone on the way could read the credentials and the files"),
        ("http://128.0.0.1", "is plain http:"),
        ("http://localhost.example.org", "is plain http:"),
        ("http://[::2]", "is plain http:"),
        ("https://me:hunter2@a.b", "holds a user name or a password"),
        ("https://me@a.b", "holds a user name or a password"),
        ("https://a.b/?key=hunter2", "has a part after `?` or `#`"),
        ("https://a.b/#hunter2", "has a part after `?` or `#`"),
        ("https://a.b/v1", "has a path: `/v1`"),
        ("ftp://a.b", "is neither https nor http"),
        ("api.dstor.cloud", "is no web address: relative URL without a base"),
    ] {
        let (by_file, by_variable) = load(bad);
        let (by_file, by_variable) = (by_file.expect_err(bad), by_variable.expect_err(bad));
        assert!(by_file.starts_with(&format!("TOP/c/config.toml:2: `url` in [dstor] {told}")), "{by_file}");
        assert!(by_variable.starts_with(&format!("the environment variable DSTOR_URL: it {told}")), "{by_variable}");
        assert!(by_file.contains("hint: ") && !by_file.contains("hunter2") && !by_variable.contains("hunter2"));
    }
}

// G3
#[test]
fn files_that_others_can_touch_are_refused() {
    let text = "[dstor]\napi_key_file = \"key\"\n[[mirror]]\npath = \"TOP/docs\"";
    let world = World::with(text);
    world.config();
    world.write("c/key", "hunter2", 0o600);
    world.config();
    world.write("c/key", "hunter2", 0o640);
    insta::assert_snapshot!(world.refusal(), @r"
    TOP/c/config.toml:2: others can read the API key file `TOP/c/key` (mode 0640)
      hint: chmod 600 TOP/c/key
    ");
    world.write("c/key", "hunter2", 0o602);
    insta::assert_snapshot!(world.refusal(), @r"
    TOP/c/config.toml:2: others can write the API key file `TOP/c/key` (mode 0602)
      hint: chmod 600 TOP/c/key
    ");
    world.write("c/config.toml", text, 0o664);
    insta::assert_snapshot!(world.refusal(), @r"
    others can write the configuration `TOP/c/config.toml` (mode 0664)
      hint: chmod go-w TOP/c/config.toml
    ");
}
