//! `status` for people, and watched.

use rustix::process::Signal;
use serde_json::Value;

use crate::terminal::Terminal;
use crate::world::{World, said};

const ENTER: &str = "\u{1b}[?1049h";
const LEAVE: &str = "\u{1b}[?25h\u{1b}[?1049l";

async fn running(world: &World) -> crate::world::Agent {
    world.write("a", "a");
    let agent = world.start();
    world.until_mirrored().await;
    world.until("it runs", || world.status()["agent"]["state"] == "running").await;
    agent
}

#[tokio::test(flavor = "multi_thread")]
async fn it_says_of_which_moment_it_tells_and_when_the_last_file_was_stored() {
    let world = World::new().await;
    let agent = running(&world).await;
    let status = world.status();
    assert!(status["as_of"].is_null(), "{status}");
    let stored = status["mirrors"][0]["last_stored_at"].as_str().expect("a time").to_owned();
    assert_eq!(world.ls()["a"]["stored_at"], stored.as_str());
    let told = world.run(&["status"]).stdout;
    assert!(told.contains(&format!("last stored {stored} (")) && !told.contains("as of"), "{told}");

    assert_eq!(agent.stop(), 0);
    let status = world.status();
    assert!(status["as_of"].as_str().expect("a time") >= stored.as_str(), "{status}");
    let told = world.run(&["status"]);
    let mut lines = told.stdout.lines();
    assert_eq!((told.code, lines.next()), (3, Some("not running")));
    assert!(lines.next().is_some_and(|line| line.starts_with("what is shown is as of 2")), "{}", told.stdout);
    assert_eq!(world.status()["as_of"], status["as_of"], "looking is no word of the agent's");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_problem_comes_with_what_to_do_once_for_all_of_a_kind() {
    let world = World::new().await;
    world.misbehave("upload 400 name=bad");
    for name in ["bad1", "bad2"] {
        world.write(name, name);
    }
    assert_eq!(world.run(&["sync"]).code, 1);
    let status = world.status();
    for problem in status["problems"].as_array().expect("problems") {
        assert!(problem["hint"].as_str().is_some_and(|hint| hint.contains("dstor-sync retry")), "{problem}");
    }
    let told = world.run(&["status"]).stdout;
    assert_eq!(told.matches("\n          hint: ").count(), 1, "{told}");
    assert!(told.lines().last().is_some_and(|line| line.contains("hint: ")), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_dstor_is_told_with_its_next_try() {
    let mut world = World::new().await;
    world.set_config(world.config().replace("retry_max_delay = \"1s\"", "retry_max_delay = \"1h\""));
    let _agent = running(&world).await;
    world.misbehave("upload 503 retry-after=3000");
    world.write("b", "b");
    world.until("it waits", || !world.status()["next_attempt_at"].is_null()).await;
    let told = world.run(&["status"]).stdout;
    assert!(told.lines().next().is_some_and(|line| line.contains("1 waiting, the next try in ")), "{told}");
    assert!(told.contains("; next try in "), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_terminal_it_is_drawn_in_place_cut_to_its_size_and_leaves_it_as_it_was() {
    let world = World::new().await;
    let _agent = running(&world).await;
    let mut command = world.command(&["status", "--watch"]);
    command.env("TERM", "xterm").env("NO_COLOR", "1");
    let mut terminal = Terminal::run(&command, 100, 40);
    world.until("it is drawn", || terminal.shown().contains("1 file stored")).await;
    world.write("b", "b");
    world.until("the change is drawn", || terminal.shown().contains("2 files stored")).await;
    terminal.resize(30, 6);
    world.until("it is drawn anew", || terminal.shown().contains("more lines")).await;
    terminal.type_in("\u{3}");
    assert_eq!(tokio::task::block_in_place(|| terminal.end()), Some(0), "{}", terminal.shown());
    // What the terminal itself shows of Ctrl-C may come in between.
    let shown = terminal.shown().replace("^C", "");
    assert!(shown.starts_with(ENTER) && shown.ends_with(LEAVE), "{shown:?}");
    assert_eq!((shown.matches(ENTER).count(), shown.matches(LEAVE).count()), (1, 1), "{shown:?}");
    assert!(!shown.contains("\u{1b}[32m"), "in colour: {shown:?}");
    let last = shown.trim_end_matches(LEAVE).rsplit("\u{1b}[H").next().expect("a frame");
    let lines: Vec<String> =
        last.split('\n').map(|line| line.trim_end_matches('\r')).map(|line| line.replace("\u{1b}[K", "")).collect();
    assert_eq!(lines.len(), 6, "{last:?}");
    for line in &lines {
        assert!(line.replace("\u{1b}[0m\u{1b}[J", "").chars().count() <= 30, "{line:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_terminal_that_cannot_draw_it_is_printed_anew_without_escapes() {
    let world = World::new().await;
    let _agent = running(&world).await;
    let mut command = world.command(&["status", "--watch"]);
    command.env("TERM", "dumb");
    let mut terminal = Terminal::run(&command, 80, 24);
    world.until("it is printed", || terminal.shown().contains("1 file stored")).await;
    world.write("b", "b");
    world.until("the change is printed", || terminal.shown().contains("2 files stored")).await;
    terminal.type_in("\u{3}");
    assert_eq!(tokio::task::block_in_place(|| terminal.end()), Some(0));
    assert!(!terminal.shown().contains('\u{1b}'), "{:?}", terminal.shown());
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_program_reads_a_line_comes_when_something_changed_and_not_before() {
    let world = World::new().await;
    let none = world.run(&["status", "--watch"]);
    assert_eq!(none.code, 3, "{none:?}");
    let _agent = running(&world).await;
    world.until("its first words are all there", || world.status()["dstor"]["auth"] == "ok").await;
    let mut watch = world.start_with(&["status", "--watch", "--json"]);
    world.until("the first line", || !watch.log().is_empty()).await;
    // It looks each second: what did not change is not told again.
    tokio::time::sleep(std::time::Duration::from_millis(2500)).await;
    assert_eq!(watch.log().lines().count(), 1, "{}", watch.log());
    assert_eq!(world.run(&["pause"]).code, 0);
    world.until("the second line", || watch.log().lines().count() == 2).await;
    let lines: Vec<Value> = watch.log().lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(
        lines.iter().map(|line| line["agent"]["paused"].clone()).collect::<Vec<_>>(),
        [Value::from(false), Value::from(true)]
    );
    watch.signal(Signal::TERM);
    assert_eq!(watch.end().code(), Some(0));

    // Nobody reads on.
    let mut shell = std::process::Command::new("sh");
    let program = env!("CARGO_BIN_EXE_dstor-sync");
    shell.arg("-c").arg(format!("{program} --state-dir {} status --watch | head -1", world.state_dir().display()));
    let first = tokio::spawn(async move { tokio::task::block_in_place(|| said(shell)) });
    assert_eq!(world.run(&["resume"]).code, 0);
    let mut changes = 0;
    world
        .until("it ends", || {
            changes += 1;
            world.write("b", changes.to_string());
            first.is_finished()
        })
        .await;
    let first = first.await.expect("it ran");
    assert!(first.stdout.lines().count() == 1 && first.stderr.is_empty(), "{first:?}");
}
