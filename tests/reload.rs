//! SIGHUP: the configuration is read again, or a terminal closes.

use std::fs;

use dstor_sync::sandbox::Phase;
use rustix::process::Signal;

use crate::terminal;
use crate::world::{Agent, World, private};

impl World {
    async fn until_at_work(&self) {
        self.until("it runs", || self.status()["agent"]["state"] == "running").await;
    }

    /// Has the agent read its configuration again, and waits until it has.
    async fn reread(&self, agent: &Agent) {
        let begun = |agent: &Agent| agent.log().matches("reading the configuration again").count();
        let before = begun(agent);
        agent.signal(Signal::HUP);
        self.until("it reads the configuration", || begun(agent) == before + 1).await;
    }
}

// F2
#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_is_read_again_holds_from_then_on_in_the_same_process() {
    let mut world = World::new().await;
    world.write("a.tmp", "a");
    let agent = world.start();
    world.until_mirrored().await;
    world.until_at_work().await;
    let before = world.status()["agent"].clone();

    let second = world.base().join("second");
    fs::create_dir(&second).expect("made");
    fs::write(second.join("here before"), "b").expect("written");
    let key = world.base().join("other-key");
    fs::rename(world.base().join("key"), &key).expect("renamed");
    private(&key);
    let config = world.config().replace("remote = \"Docs\"", "remote = \"Docs\"\nexclude = [\"*.tmp\"]");
    let config = config.replace("/key\"", "/other-key\"");
    world.set_config(config.replace(
        "[watch]",
        &format!("[[mirror]]\npath = \"{}\"\nremote = \"Docs/second\"\n\n[watch]", second.display()),
    ));
    world.reread(&agent).await;
    world.until("the new mirror is stored", || world.remote().contains_key(b"second/here before".as_slice())).await;
    // What was excluded comes first: by the time that the other one is stored, it would be.
    world.write("b.tmp", "b");
    world.write("c", "c");
    fs::write(second.join("saved after"), "d").expect("written");
    world.until_mirrored_save(&["b.tmp"]).await;
    world
        .until("events of the new mirror come", || world.remote().contains_key(b"second/saved after".as_slice()))
        .await;
    assert!(!world.remote().contains_key(b"b.tmp".as_slice()), "the new rule does not hold");

    world.until_at_work().await;
    let after = world.status()["agent"].clone();
    assert_eq!((&after["pid"], &after["since"]), (&before["pid"], &before["since"]), "it is another agent");

    // Read again without a change, it goes on with what it has.
    world.reread(&agent).await;
    world.until("it says so", || agent.log().contains("going on with the configuration that it has")).await;
    assert_eq!(agent.log().matches("beginning anew").count(), 1, "{}", agent.log());
    assert_eq!(agent.stop(), 0);
    assert_eq!(world.status()["agent"]["state"], "stopped");
}

// F2
#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_cannot_be_used_leaves_the_old_one_at_work_and_is_told_of() {
    let mut world = World::new().await;
    let agent = world.start();
    world.until_at_work().await;
    let good = world.config().to_owned();
    for (from, to, says) in [("settle", "settel", "settel"), ("/mirror\"", "/nowhere\"", "does not exist")] {
        world.set_config(good.replace(from, to));
        world.reread(&agent).await;
        world.until("status says so", || world.status()["agent"]["config_error"].to_string().contains(says)).await;
        let said = world.run(&["status"]);
        assert_eq!(said.code, 1, "{said:?}");
        assert!(said.stdout.starts_with("needs you: the new configuration cannot be used"), "{said:?}");
        let log = agent.log();
        let line =
            log.lines().find(|line| line.contains("the new configuration cannot be used") && line.contains(says));
        assert!(line.is_some_and(|line| line.contains("hint=")), "{log}");
        world.write(says, "saved by the old one");
        world.until_mirrored().await;
    }
    world.set_config(good);
    world.reread(&agent).await;
    world.until("status is content again", || world.run(&["status"]).code == 0).await;
    assert!(world.status()["agent"]["config_error"].is_null());
    assert_eq!(agent.stop(), 0);
}

// F2, A27: it listens before it scans, each time that it begins anew.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_is_saved_while_it_begins_anew_is_missed() {
    let mut world = World::with("rescan = \"1h\"", "shutdown_grace = \"300ms\"").await;
    let agent = world.start();
    world.until_at_work().await;
    let config = world.config().to_owned();
    for round in 0..4 {
        // One that is cut off half way, too.
        if round == 2 {
            world.misbehave("upload stall x1");
            let before = world.sandbox().requests(Phase::Upload);
            world.write("stalled", vec![b'x'; 1_000_000]);
            world.until("an upload hangs", || world.sandbox().requests(Phase::Upload) > before).await;
        }
        world.until("the last one was read", || agent.log().matches("beginning anew").count() == round).await;
        world.set_config(
            config.replace("workers = 4", "").replace("[upload]", &format!("[upload]\nworkers = {}", round + 1)),
        );
        world.reread(&agent).await;
        for at in 0..40 {
            world.write(&format!("d{round}-{}/f{at}", at % 7), format!("{round} {at}"));
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
    world.until_mirrored().await;
    assert_eq!(agent.log().matches("beginning anew").count(), 4, "{}", agent.log());
    assert_eq!(agent.stop(), 0);
}

// F2: with a terminal, SIGHUP means that it closes.
#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_that_closes_ends_the_agent_in_order() {
    let world = World::new().await;
    world.write("a", "a");
    let (screen, keyboard) = terminal::pair();
    // `setsid --ctty` makes stdin the terminal that the agent's session belongs to, and then is the agent.
    let agent = world.command(&["run"]);
    let mut command = world.command(&["--ctty", agent.get_program().to_str().expect("UTF-8"), "run"]);
    command = {
        let mut setsid = std::process::Command::new("setsid");
        setsid.args(command.get_args()).env_clear().current_dir(world.base());
        setsid.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        setsid
    };
    command.stdin(keyboard);
    let mut agent = world.start_command(command);
    world.until_mirrored().await;
    world.until_at_work().await;
    drop(screen);
    assert_eq!(agent.end().code(), Some(0), "{}", agent.log());
    assert_eq!(world.status()["agent"]["state"], "stopped");
    assert!(!agent.log().contains("reading the configuration again"), "{}", agent.log());
}
