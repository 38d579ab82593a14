//! `init` where there is nobody to ask: every answer is a flag, and what is missing is an error that names it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use dstor_sync::sandbox::Phase;

use super::{listed, read};
use crate::world::{World, private};

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_missing_or_wrong_names_its_flag_and_leaves_nothing() {
    let world = World::new().await;
    let (mirror, key, url) = (world.mirror_text(), world.base().join("key"), world.sandbox().url());
    let key = key.to_str().expect("UTF-8");
    fs::write(world.base().join("file"), "x").expect("written");
    fs::write(world.base().join("wrong"), "z".repeat(64)).expect("written");
    fs::write(world.base().join("open"), "z".repeat(64)).expect("written");
    private(&world.base().join("wrong"));
    fs::set_permissions(world.base().join("open"), fs::Permissions::from_mode(0o644)).expect("ours");
    for (arguments, code, says) in [
        (&["init"][..], 2, "dstor-sync init DIR"),
        (&["init", &mirror], 2, "--api-key-file"),
        (&["init", &mirror, "--yes"], 2, "--api-key-file"),
        (&["init", &mirror, "--api-key-file"], 2, "--api-key-file"),
        (&["init", &mirror, "--api-key-file", "none"], 2, "does not exist"),
        (&["init", &mirror, "--api-key-file", "open"], 2, "chmod 600"),
        (&["init", &mirror, "--api-key-file", "-"], 2, "the API key is empty"),
        (&["init", &mirror, "--api-key-file", key, "--email", "me@example.org"], 2, "cannot be used with"),
        (&["init", &mirror, "--email", "me@example.org"], 2, "--password-file"),
        (&["init", &mirror, "--password-file", key], 2, "--email"),
        (&["init", &mirror, "--email", "not an address", "--password-file", key], 2, "e-mail address"),
        (&["init", "none", "--api-key-file", key], 2, "does not exist"),
        (&["init", "file", "--api-key-file", key], 2, "not a directory"),
        (&["init", "/", "--api-key-file", key], 2, "--remote"),
        (&["init", "home", "--api-key-file", key], 2, "--state-dir"),
        (&["init", &mirror, "--api-key-file", key, "--remote", "a/../b"], 2, "directory on dStor"),
        (&["init", &mirror, "--api-key-file", key, "--url", "http://example.org"], 2, "https"),
        (&["init", &mirror, "--api-key-file", key, "--url", "nonsense"], 2, "--url"),
        (&["init", &mirror, "--api-key-file", "wrong", "--url", &url], 4, "dStor refuses the API key"),
        (&["init", &mirror, "--api-key-file", key, "--url", "http://127.0.0.1:9"], 5, "--no-check"),
    ] {
        world.home();
        let said = world.say(world.newcomer(arguments));
        assert_eq!(said.code, code, "{arguments:?}: {said:?}");
        assert!(said.stderr.contains(says) && said.stderr.contains("error: "), "{arguments:?}: {said:?}");
        assert!(listed(&world.home()).is_empty(), "{arguments:?} left {:?}", listed(&world.home()));
    }
    // A directory that cannot be mirrored costs no question to dStor.
    assert_eq!(world.sandbox().requests(Phase::Token), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_home_the_flag_for_the_config_is_named() {
    let world = World::new().await;
    let mut command = world.newcomer(&["init", &world.mirror_text()]);
    command.env_remove("HOME");
    let said = world.say(command);
    assert_eq!(said.code, 78, "{said:?}");
    assert!(said.stderr.contains("no home directory") && said.stderr.contains("--config FILE"), "{said:?}");
}

// G3
#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_is_for_its_owner_alone_and_a_pass_works_with_it() {
    let world = World::new().await;
    let (mirror, url) = (world.mirror_text(), world.sandbox().url());
    world.write("a b", "x");
    for umask in ["000", "077"] {
        let home = world.home();
        let inner = world.newcomer(&["init", &mirror, "--url", &url, "--api-key-file", "-", "--remote", "Docs"]);
        let mut shell = std::process::Command::new("/bin/sh");
        shell.arg("-c").arg(format!("umask {umask}; exec \"$0\" \"$@\"")).arg(inner.get_program());
        shell.args(inner.get_args()).env_clear();
        shell.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?)))).current_dir(world.base());
        let said = world.with_input(shell, &format!("{}\n", world.sandbox().api_key()));
        assert_eq!(said.code, 0, "{said:?}");
        assert!(said.stdout.contains("files        1 (1 B) in 1 directory"), "{said:?}");
        assert_eq!(listed(&world.places()), ["api-key 0600", "config.toml 0600"]);
        assert_eq!(listed(&home.join(".config")), ["dstor-sync 0700"]);
        let check = world.say(world.newcomer(&["config", "check"]));
        assert_eq!(check.code, 0, "{check:?}");
        assert!(!home.join(".local").exists(), "nothing is kept yet");
        let pass = world.say(world.newcomer(&["sync"]));
        assert_eq!(pass.code, 0, "{pass:?}");
        fs::remove_dir_all(home).expect("removed");
    }
    assert_eq!(world.remote().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_config_that_is_there_is_replaced_only_if_that_is_said_and_then_kept() {
    let world = World::new().await;
    let (mirror, url, key) = (world.mirror_text(), world.sandbox().url(), world.base().join("key"));
    let arguments = ["init", &mirror, "--url", &url, "--api-key-file", key.to_str().expect("UTF-8")];
    fs::create_dir_all(world.places()).expect("made");
    fs::set_permissions(world.places(), fs::Permissions::from_mode(0o755)).expect("ours");
    fs::write(world.places().join("config.toml"), "# mine\n").expect("written");
    let refused = world.say(world.newcomer(&arguments));
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.stderr.contains("--force"), "{refused:?}");
    assert_eq!(read(&world.places().join("config.toml")), "# mine\n");
    assert_eq!(world.sandbox().requests(Phase::Token), 0);
    let forced = world.say(world.newcomer(&[&arguments[..], &["--force"]].concat()));
    assert_eq!(forced.code, 0, "{forced:?}");
    assert_eq!(read(&world.places().join("config.toml.old")), "# mine\n");
    // The key's file is named, not copied; and the directory was closed to others.
    assert_eq!(listed(&world.places()).len(), 2, "{:?}", listed(&world.places()));
    assert_eq!(listed(&world.home().join(".config")), ["dstor-sync 0700"]);
    assert!(read(&world.places().join("config.toml")).contains(&format!("api_key_file = \"{}\"", key.display())));
    assert_eq!(world.say(world.newcomer(&["config", "check"])).code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_environment_and_a_login_are_credentials_too_and_no_check_asks_nobody() {
    let mut world = World::new().await;
    let (mirror, url) = (world.mirror_text(), world.sandbox().url());
    let mut by_variable = world.newcomer(&["init", &mirror]);
    by_variable.env("DSTOR_API_KEY", world.sandbox().api_key()).env("DSTOR_URL", &url);
    let said = world.say(by_variable);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.stderr.contains("note: dstor-sync needs the environment variable DSTOR_API_KEY"), "{said:?}");
    assert_eq!(listed(&world.places()), ["config.toml 0600"]);
    assert_eq!(world.say(world.newcomer(&["config", "check"])).code, 4, "it is not in the config");

    let (email, password) = world.sandbox().login();
    let (email, password) = (email.to_owned(), password.to_owned());
    let by_login = ["init", &mirror, "--force", "--url", &url, "--email", &email, "--password-file", "-"];
    let said = world.with_input(world.newcomer(&by_login), &password);
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(listed(&world.places()), ["config.toml 0600", "config.toml.old 0600", "password 0600"]);
    assert_eq!(world.say(world.newcomer(&["sync"])).code, 0);

    world.stop_sandbox().await;
    let away = [&by_login[..], &["--yes"]].concat();
    assert_eq!(world.with_input(world.newcomer(&away), &password).code, 5);
    let untested = world.with_input(world.newcomer(&[&away[..], &["--no-check"]].concat()), &password);
    assert_eq!(untested.code, 0, "{untested:?}");
    assert!(untested.stdout.contains("credentials  not tested"), "{untested:?}");
    assert_eq!(world.say(world.newcomer(&["config", "check"])).code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_plan_tells_what_is_left_out_and_what_cannot_be_read() {
    let mut world = World::new().await;
    world.write("a", "12345");
    world.write("d/x~", "left out");
    world.write("closed/b", "x");
    world.write("secret", "x");
    std::os::unix::fs::symlink("a", world.path("link")).expect("linked");
    world.write(".env", "x");
    for name in ["closed", "secret"] {
        fs::set_permissions(world.path(name), fs::Permissions::from_mode(0o000)).expect("ours");
    }
    world.home();
    world.become_ordinary();
    let mut command = world.newcomer(&["init", &world.mirror_text(), "--no-check"]);
    command.env("DSTOR_API_KEY", "k");
    let said = world.say(command);
    assert_eq!(said.code, 0, "{said:?}");
    for line in [
        "files        2 (6 B) in 2 directories\n",
        "left out     1 by rules; 1 never sent",
        "unreadable   2: they wait",
        "watches      2, of ",
    ] {
        assert!(said.stdout.contains(line), "{line}: {said:?}");
    }
    assert!(said.stderr.contains("warning: ") && said.stderr.contains("`.env`"), "{said:?}");
    assert_eq!(said.stdout.matches("Whoever has a file's hash can read the file").count(), 1);
    fs::set_permissions(world.path("closed"), fs::Permissions::from_mode(0o700)).expect("given back");
}
