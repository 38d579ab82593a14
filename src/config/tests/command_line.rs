//! What the command line says, with a config and without one.

use super::*;

#[test]
fn without_a_config_a_directory_or_a_way_to_one_is_needed() {
    let mut world = World::new();
    insta::assert_snapshot!(world.refusal(), @r"
    cannot read the configuration `TOP/c/config.toml`: there is no such file
      hint: correct the path, or write one there with `dstor-sync init`
    ");
    world.variables.retain(|(name, _)| *name != "DSTOR_SYNC_CONFIG");
    if cfg!(target_os = "linux") {
        insta::assert_snapshot!(world.refusal(), @r"
        there is no configuration: `TOP/home/.config/dstor-sync/config.toml` does not exist
          hint: write one with `dstor-sync init`, name a directory to mirror, or try `dstor-sync run --sandbox DIR`: it needs no account
        ");
    }
    world.overrides.dir = Some(world.top.join("docs"));
    let named_after_itself = world.config();
    world.overrides.config = Some(world.top.join("none.toml"));
    assert!(
        world.refusal().starts_with("cannot read the configuration `TOP/none.toml`"),
        "a mistyped path is not passed over"
    );
    world.overrides.config = None;
    assert_eq!(named_after_itself.mirrors.len(), 1);
    assert_eq!(named_after_itself.mirrors[0].path, world.top.join("docs"));
    assert_eq!(named_after_itself.mirrors[0].policy.placement.to_string(), "docs");
    assert_eq!((named_after_itself.dstor, named_after_itself.source), (Dstor::default(), None));
    world.overrides.remote = Some("a/b".into());
    assert_eq!(world.config().mirrors[0].policy.placement.to_string(), "a/b");
    world.overrides.remote = Some("a/..".into());
    assert!(world.refusal().starts_with("`--remote` is no directory on dStor: `a/..`"));
    world.overrides.dir = None;
    assert!(world.refusal().starts_with("`--remote` is given without a directory"));
}

#[test]
fn a_directory_on_the_command_line_picks_its_mirror() {
    let mut world = World::with("[[mirror]]\npath = \"TOP/docs\"\nremote = \"D\"\n[[mirror]]\npath = \"TOP/photos\"");
    symlink("docs", world.top.join("link")).expect("new");
    world.overrides.dir = Some(world.top.join("link"));
    let paths = |config: Config| config.mirrors.into_iter().map(|mirror| mirror.path).collect::<Vec<_>>();
    assert_eq!(paths(world.config()), [world.top.join("docs")]);
    world.overrides.remote = Some("/D/".into());
    assert_eq!(paths(world.config()), [world.top.join("docs")]);
    world.overrides.remote = Some("E".into());
    insta::assert_snapshot!(world.refusal(), @r"
    `--remote` asks for `E`, but the configuration `TOP/c/config.toml` mirrors `TOP/docs` to `D`
      hint: leave `--remote` out, or change `remote` in the configuration
    ");
    world.overrides.remote = None;
    world.overrides.dir = Some(world.top.join("music"));
    insta::assert_snapshot!(world.refusal(), @r#"
    `TOP/music` is no mirror in the configuration `TOP/c/config.toml`
      hint: add it there, as [[mirror]] with path = "TOP/music", or try it with `--sandbox`
    "#);
    world.overrides.dir = Some(world.top.join("docs/a"));
    insta::assert_snapshot!(world.refusal(), @r"
    `TOP/docs/a` is no mirror in the configuration `TOP/c/config.toml`
      hint: it lies in the mirror `TOP/docs`: name that one
    ");
}

#[test]
fn a_sandbox_asks_nothing_of_the_real_account_and_takes_any_directory() {
    let text = "[dstor]\nurl = \"ftp://x\"\nemail = \"a@b\"\napi_key_file = \"key\"\ntoken_lifetime = \"5s\"\n\
                    [[mirror]]\npath = \"TOP/docs\"\n[upload]\nworkers = 2";
    let mut world = World::with(text);
    world.write("c/key", "hunter2", 0o666);
    assert_eq!(world.load().expect_err("it is wrong").iter().count(), 3);
    world.overrides.sandbox = true;
    world.variables.push(("DSTOR_URL", "ftp://y".into()));
    let config = world.config();
    assert_eq!((config.mirrors[0].path.clone(), config.upload.workers), (world.top.join("docs"), 2));
    assert_eq!(config.dstor, Dstor { token_lifetime: 5 * SECOND, ..Dstor::default() });
    world.overrides.dir = Some(world.top.join("photos"));
    let config = world.config();
    assert_eq!((config.mirrors.len(), config.mirrors[0].path.clone()), (1, world.top.join("photos")));
    assert_eq!(config.upload.workers, 2);
    world.write("c/config.toml", "[upload]\nworkers = 0", 0o600);
    assert!(world.refusal().starts_with("TOP/c/config.toml:2: `workers`"));
    world.write("c/config.toml", "[upload]\nworkers = 3", 0o600);
    assert_eq!(world.config().upload.workers, 3);
}
