//! Nothing that a server or a file's name says acts on a terminal, and a terminal that is gone ends nobody.

use std::fs;
use std::process::Stdio;

use super::server::{Server, json, token};
use crate::world::World;

/// A title, a colour, the same in eight bits, text that runs backwards, and what hides.
const ACTING: &str = "\u{1b}]0;owned\u{7}\u{1b}[31m\u{9b}31m\u{202e}\u{2066}\u{200b}\u{7f}\r";

/// The first character that acts on a terminal, if any.
fn acts(text: &str) -> Option<char> {
    text.chars().find(|c| {
        (c.is_control() && *c != '\n')
            || matches!(*c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    })
}

fn assert_plain(place: &str, text: &str) {
    assert_eq!(acts(text), None, "{place}: {text:?}");
}

// B17, G7
#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_a_server_or_a_name_says_acts_on_a_terminal() {
    assert!(acts(ACTING).is_some() && acts("plain\n").is_none());
    let server = Server::start(|request| {
        let said = serde_json::json!({ "message": format!("no {ACTING}!"), "Hash": ACTING }).to_string();
        match request.asks_for_a_token() {
            true => token(),
            false if String::from_utf8_lossy(&request.body).contains("odd") => json("200 OK", &said),
            false => json("400 Bad Request", &said),
        }
    })
    .await;
    let mut world = World::new().await;
    let mirror = world.base().join(format!("mirror{ACTING}"));
    fs::rename(world.mirror(), &mirror).expect("renamed");
    let state = world.base().join(format!("state{ACTING}"));
    let quoted =
        |text: &str| format!("\"{}\"", text.chars().map(|c| format!("\\U{:08x}", u32::from(c))).collect::<String>());
    let config =
        world.config().replace(&format!("\"{}\"", world.mirror().display()), &quoted(mirror.to_str().expect("UTF-8")));
    assert!(config.contains("U0000001b"));
    world.set_config(
        config.replace(
            "remote = \"Docs\"",
            &format!("remote = {}", quoted(&format!("Docs{ACTING}").replace('\u{7f}', ""))),
        ),
    );
    world.point_to(&server.url());
    for name in ["refused", "odd"] {
        fs::write(mirror.join(format!("{name}{ACTING}")), name).expect("written");
    }
    std::os::unix::fs::symlink("nowhere", mirror.join(format!("link{ACTING}"))).expect("linked");
    fs::write(mirror.join(".dstorignore"), format!("[{ACTING}\n*.{ACTING}\n")).expect("written");
    let refused = mirror.join(format!("refused{ACTING}")).display().to_string();
    let excluded = mirror.join(format!("x.{ACTING}")).display().to_string();
    fs::write(&excluded, "x").expect("written");
    let state = state.display().to_string();
    let evil = format!("evil{ACTING}");
    for command in [
        &["ls"][..],
        &["sync", "--dry-run"],
        &["sync", "-vv"],
        &["status"],
        &["status", "--color", "never"],
        &["ls"],
        &["ls", &refused],
        &["ls", &evil],
        &["why", &refused],
        &["why", &excluded],
        &["why", &evil],
        &["wait", "--timeout", "10ms"],
        &["wait", &refused],
        &["wait", &evil],
        &["config", "check"],
        &["config", "show"],
        &["root", "accept", &evil],
        &["sync", &evil],
        &["sync", "--config", &evil],
        &[&evil],
        &["ls", "--state", &evil],
        &["sandbox", "--misbehave", &evil],
        &["status", "--state-dir", &evil],
    ] {
        let said = world.run(&[&["--state-dir", &state][..], command].concat());
        assert!(!format!("{}{}", said.stdout, said.stderr).is_empty(), "{command:?} says nothing");
        assert_plain(&format!("{command:?} on stdout"), &said.stdout);
        assert_plain(&format!("{command:?} on stderr"), &said.stderr);
    }
    let agent = world.start_with(&["--state-dir", &state, "run", "-vv"]);
    world.until("it says that it watches", || agent.log().contains("watching")).await;
    fs::write(mirror.join(format!("refused again{ACTING}")), "x").expect("written");
    world.until("it says that it was refused", || agent.log().contains("refused again")).await;
    fs::rename(&mirror, world.base().join("elsewhere")).expect("renamed");
    world
        .until("it says that the mirror is missing", || agent.log().contains("the mirror's directory is missing"))
        .await;
    assert_plain("the agent's log", &agent.log());
    fs::rename(world.base().join("elsewhere"), &mirror).expect("renamed");

    // JSON is for programs: it says exactly what is so.
    let listed = world.run(&["--state-dir", &state, "ls", "--json"]);
    let paths: Vec<String> = listed
        .stdout
        .lines()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).expect("JSON")["path"].as_str().expect("a path").to_owned()
        })
        .collect();
    assert!(paths.contains(&refused), "{paths:?}");
}

// F14
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_nobody_listens_to_goes_on() {
    let world = World::new().await;
    let mut command = world.command(&["run", "-vv"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut agent = command.spawn().expect("started");
    // Whoever read its words is gone: each write fails from now on.
    drop((agent.stdout.take(), agent.stderr.take()));
    for at in 0..20 {
        world.write(&format!("f{at}"), at.to_string());
    }
    world.until_mirrored().await;
    assert!(agent.try_wait().expect("asked").is_none(), "it has ended");
    agent.kill().expect("killed");
    agent.wait().expect("ended");
}
