//! `login` and `logout`: what is stored where, what comes first, and what is left.

use std::fs;

use super::{at_a_terminal, listed, read};
use crate::world::{World, private};

/// A newcomer's command that knows the sandbox.
fn asking(world: &World, arguments: &[&str]) -> std::process::Command {
    let mut command = world.newcomer(arguments);
    command.env("DSTOR_URL", world.sandbox().url());
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_stored_once_dstor_took_it_and_forgotten_again() {
    let world = World::new().await;
    world.write("a", "x");
    let key = world.sandbox().api_key();
    let refused = world.with_input(asking(&world, &["login", "--api-key-file", "-"]), &"z".repeat(64));
    assert_eq!(refused.code, 4, "{refused:?}");
    assert!(listed(&world.places()).is_empty());
    let said = world.with_input(asking(&world, &["login", "--api-key-file", "-"]), &format!("{key}\n"));
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(listed(&world.places()), ["api-key 0600"]);
    // It is found without a config, and beside one that names no file.
    let pass = world.say(asking(&world, &["sync", &world.mirror_text(), "--remote", "Docs"]));
    assert_eq!(pass.code, 0, "{pass:?}");
    world.until("dStor has it", || world.remote().len() == 1).await;
    let again = world.with_input(asking(&world, &["login", "--api-key-file", "-"]), &"z".repeat(64));
    assert_eq!(again.code, 4, "{again:?}");
    assert_eq!(read(&world.places().join("api-key")).trim(), key, "a key that is refused took a good one's place");

    let mut logout = asking(&world, &["logout"]);
    logout.env("DSTOR_API_KEY", key);
    let said = world.say(logout);
    assert_eq!(said.code, 0, "{said:?}");
    let forgot = world.places().join("api-key");
    assert!(said.stdout.contains(&format!("forgot       {}", forgot.display())), "{said:?}");
    assert!(said.stdout.contains("left         the environment variable DSTOR_API_KEY"), "{said:?}");
    assert!(listed(&world.places()).is_empty());
    let nothing = world.say(asking(&world, &["logout"]));
    assert_eq!((nothing.code, nothing.stdout.as_str()), (0, "nothing was stored\n"));
    assert_eq!(world.say(asking(&world, &["sync", &world.mirror_text()])).code, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_is_stored_in_place_of_a_key_and_a_half_one_names_the_flag() {
    let world = World::new().await;
    world.write("a", "x");
    let (email, password) = world.sandbox().login();
    let (email, password) = (email.to_owned(), password.to_owned());
    let key = world.with_input(asking(&world, &["login", "--api-key-file", "-"]), world.sandbox().api_key());
    assert_eq!(key.code, 0, "{key:?}");
    let half = world.say(asking(&world, &["login", "--email", &email]));
    assert_eq!(half.code, 2, "{half:?}");
    assert!(half.stderr.contains("--password-file"), "{half:?}");
    let none = world.say(asking(&world, &["login"]));
    assert_eq!(none.code, 2, "{none:?}");
    assert!(none.stderr.contains("--api-key-file"), "{none:?}");
    let said = world.with_input(asking(&world, &["login", "--email", &email, "--password-file", "-"]), &password);
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(listed(&world.places()), ["login 0600"]);
    world.sandbox().replace_api_key(&"n".repeat(64));
    assert_eq!(world.say(asking(&world, &["sync", &world.mirror_text()])).code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_config_names_is_written_by_login_and_left_by_logout() {
    let mut world = World::new().await;
    world.write("a", "x");
    let old = read(&world.base().join("key"));
    let new = "n".repeat(64);
    world.sandbox().replace_api_key(&new);
    assert_eq!(world.run(&["sync"]).code, 4);
    let login = world.command(&["login", "--api-key-file", "-"]);
    let said = world.with_input(login, &new);
    assert_eq!(said.code, 0, "{said:?}");
    assert_ne!(old, new);
    assert_eq!(read(&world.base().join("key")).trim(), new);
    assert_eq!(world.run(&["sync"]).code, 0);
    let other = world.with_input(world.command(&["login", "--email", "a@b", "--password-file", "-"]), "p");
    assert_eq!(other.code, 2, "{other:?}");
    assert!(other.stderr.contains("an API key, and this is a login"), "{other:?}");

    let agent = world.start();
    world.write("b", "for which it needs a token");
    world
        .until("it has a token", || {
            let status = world.status();
            status["agent"]["state"] == "running" && status["mirrors"][0]["files"]["stored"] == 2
        })
        .await;
    world.until("it says how long", || world.status()["dstor"]["token_expires_at"].is_string()).await;
    let said = world.run(&["logout"]);
    assert_eq!(said.code, 0, "{said:?}");
    let key = world.base().join("key");
    assert!(said.stdout.contains(&format!("left         {}", key.display())), "{said:?}");
    assert!(said.stderr.contains("note: the agent that runs may go on with its access token until 20"), "{said:?}");
    assert_eq!(agent.stop(), 0);
    world.stop_sandbox().await;
    assert_eq!(world.with_input(world.command(&["login", "--api-key-file", "-"]), &new).code, 5);
    assert_eq!(world.with_input(world.command(&["login", "--api-key-file", "-", "--no-check"]), &new).code, 0);
}

// G12
#[tokio::test(flavor = "multi_thread")]
async fn what_login_stored_is_never_uploaded_wherever_a_mirror_shows_it() {
    let world = World::new().await;
    let config = world.mirror().join("settings");
    let command = |arguments: &[&str]| {
        let mut command = asking(&world, arguments);
        command.env("XDG_CONFIG_HOME", &config).env("XDG_STATE_HOME", world.base().join("states"));
        command
    };
    let key = world.sandbox().api_key();
    assert_eq!(world.with_input(command(&["login", "--api-key-file", "-"]), key).code, 0);
    world.write("settings/dstor-sync/beside", "x");
    fs::write(config.join("dstor-sync/login"), "a@b\np").expect("written");
    private(&config.join("dstor-sync/login"));
    let pass = world.say(command(&["sync", &world.mirror_text(), "--remote", "Docs"]));
    assert_eq!(pass.code, 0, "{pass:?}");
    assert_eq!(world.remote().keys().collect::<Vec<_>>(), [b"settings/dstor-sync/beside"], "{pass:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn at_a_terminal_login_asks_for_what_the_config_names_and_shows_nothing_of_it() {
    let mut world = World::new().await;
    let (email, password) = world.sandbox().login();
    let (email, password) = (email.to_owned(), password.to_owned());
    let line = world.config().lines().find(|line| line.starts_with("api_key_file")).expect("a key").to_owned();
    let named = format!("email = \"{email}\"\npassword_file = \"secret\"");
    world.set_config(world.config().replace(&line, &named));
    let mut login = at_a_terminal(&world.command(&["login"]));
    login.until(&format!("for {email}, which the configuration names"));
    login.answer("(not shown)", &password);
    login.until("dStor takes them");
    assert_eq!(login.end(), Some(0), "{}", login.shown());
    assert!(!login.shown().contains(&password) && login.echoes());
    assert_eq!(read(&world.base().join("secret")).trim(), password);
    assert_eq!(world.run(&["config", "check"]).code, 0);
    let other = ["login", "--email", "other@example.org", "--password-file", "-"];
    let other = world.with_input(world.command(&other), "p");
    assert_eq!(other.code, 2, "{other:?}");
    assert_eq!(read(&world.base().join("secret")).trim(), password);
}

// E13: without a restart.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_whose_key_is_refused_goes_on_with_what_login_stored() {
    let mut world = World::new().await;
    let key = world.sandbox().api_key().to_owned();
    // The config names no file: what is stored beside it counts.
    let line = world.config().lines().find(|line| line.starts_with("api_key_file")).expect("a key").to_owned();
    let without = world.config().replace(&line, "");
    world.set_config(without);
    assert_eq!(world.with_input(world.command(&["login", "--no-check", "--api-key-file", "-"]), "revoked").code, 0);
    world.write("a", "x");
    let agent = world.start();
    world.until("it is refused", || world.status()["dstor"]["auth"] == "refused").await;
    assert_eq!(world.with_input(world.command(&["login", "--api-key-file", "-"]), &key).code, 0);
    // It would ask by itself a while later.
    world.run(&["retry"]);
    world.until_mirrored().await;
    assert_eq!(agent.stop(), 0);
}
