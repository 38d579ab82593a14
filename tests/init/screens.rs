//! What somebody sees in the first minute, at a real terminal of 80 columns.

use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};

use super::{COLUMNS, at_a_terminal, listed, read};
use crate::terminal::Terminal;
use crate::world::World;

/// The terminals that there are, by what the program knows of them.
const TERMINALS: [(&str, &[(&str, &str)]); 3] = [
    ("colour", &[("TERM", "xterm-256color")]),
    ("no colour", &[("TERM", "xterm-256color"), ("NO_COLOR", "1")]),
    ("dumb", &[("TERM", "dumb")]),
];

/// A screen without what differs from run to run, and its escape sequences made visible.
fn masked(world: &World, screen: &str) -> String {
    let text = screen
        .replace(&world.home().display().to_string(), "/home/me")
        .replace(&world.mirror_text(), "/home/me/Documents")
        .replace(&world.sandbox().url(), "http://127.0.0.1:4747")
        .replace("[mirror]", "[Documents]")
        .replace("END OF SCREEN\n", "")
        .replace('\u{1b}', "\\e");
    text.lines().map(mask_numbers).collect::<Vec<_>>().join("\n")
}

/// Times, process numbers and the system's limit.
fn mask_numbers(line: &str) -> String {
    let mut masked = String::new();
    let mut rest = line;
    while let Some(at) = rest.find("20").filter(|at| rest[*at..].len() >= 20) {
        let (before, time) = rest.split_at(at);
        masked.push_str(before);
        let is_time = time.as_bytes()[10] == b'T' && time.as_bytes()[19] == b'Z';
        masked.push_str(if is_time { "2026-01-31T12:00:00Z" } else { &time[..2] });
        rest = &time[if is_time { 20 } else { 2 }..];
        // How long ago that was.
        if let Some((_, after)) = rest.strip_prefix(" (").filter(|_| is_time).and_then(|ago| ago.split_once(')')) {
            masked.push_str(" (3 s ago)");
            rest = after;
        }
    }
    masked.push_str(rest);
    for (before, after, number) in [("process ", "", "4242"), (", of ", " that this system", "65536")] {
        if let Some((start, end)) = masked.split_once(before)
            && let Some(digits) = end.find(|c: char| !c.is_ascii_digit()).or(Some(end.len())).filter(|at| *at > 0)
            && end[digits..].starts_with(after)
        {
            masked = format!("{start}{before}{number}{}", &end[digits..]);
        }
    }
    masked
}

/// Without the escape sequences for colours.
fn colourless(screen: &str) -> String {
    let mut parts = screen.split("\\e[");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.split_once('m').map_or(part, |(_, rest)| rest))
}

fn at(variables: &[(&str, &str)], mut command: Command) -> Terminal {
    command.envs(variables.iter().copied());
    at_a_terminal(&command)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_minute_from_no_configuration_to_a_stored_file() {
    let world = World::new().await;
    world.write("notes.txt", "hello");
    world.write("taxes/2025.csv", "1,2");
    let key = world.sandbox().api_key();
    let mut screens = Vec::new();
    for (name, variables) in TERMINALS {
        // From nothing each time.
        let _ = std::fs::remove_dir_all(world.home());
        let mut init = at(variables, world.newcomer(&["init"]));
        init.answer("Directory to mirror", &world.mirror_text());
        init.answer("Directory on dStor", "Docs");
        init.answer("dStor's address", &world.sandbox().url());
        init.answer("Number", "");
        init.until("(not shown)");
        assert!(!init.echoes(), "{name}: what is typed would be shown");
        init.type_in(&format!("{key}\n"));
        init.answer("Write it?", "");
        assert_eq!(init.end(), Some(0), "{name}: {}", init.shown());
        assert!(init.echoes() && !init.shown().contains(key), "{name}");
        assert_eq!(listed(&world.places()), ["api-key 0600", "config.toml 0600"]);

        let mut agent = at(variables, world.newcomer(&["run"]));
        agent.until("Ctrl-C");
        let status = || world.say(world.newcomer(&["status"]));
        world.until("all is stored", || status().stdout.starts_with("in sync")).await;
        let saved = world.write(&format!("saved-{}", screens.len()), "a");
        let waited =
            world.say(world.newcomer(&["wait".as_ref(), "--timeout".as_ref(), "60s".as_ref(), saved.as_os_str()]));
        assert_eq!(waited.code, 0, "{waited:?}\n{}", agent.shown());
        // How it stands with dStor is written a moment after.
        world.until("dStor is known", || status().stdout.contains("reachable, credentials ok")).await;
        let mut told = at(variables, world.newcomer(&["status"]));
        assert_eq!(told.end(), Some(0), "{name}: {}", told.shown());
        agent.type_in("\u{3}");
        assert_eq!(agent.end(), Some(0), "{name}: {}", agent.shown());
        let stored = world.remote().len();
        assert_eq!(stored, 3 + screens.len(), "{name}");
        // The files are more from round to round.
        let same =
            |text: String| text.replace(&format!("{stored} files"), "3 files").replace(&format!("{stored} of"), "3 of");
        let init = masked(&world, &init.shown());
        let told = same(masked(&world, &told.shown()));
        for line in init.lines().chain(told.lines()).map(colourless) {
            assert!(line.chars().count() <= usize::from(COLUMNS), "{name}: too wide: {line}");
        }
        screens.push((init, told));
    }
    let [(coloured, coloured_status), plain, dumb] = &screens[..] else { panic!("three terminals") };
    insta::assert_snapshot!("init", coloured);
    insta::assert_snapshot!("status", coloured_status);
    // The plan counts the files that were saved meanwhile.
    let counted =
        |screen: &str| screen.lines().filter(|line| !line.starts_with("files ")).collect::<Vec<_>>().join("\n");
    for (init, status) in [plain, dumb] {
        assert!(!init.contains("\\e") && !status.contains("\\e"), "{init}\n{status}");
        assert_eq!(counted(init), counted(&colourless(coloured)));
        let bytes = |text: &str| text.lines().filter(|line| !line.contains(" stored (")).collect::<Vec<_>>().join("\n");
        assert_eq!(bytes(status), bytes(&colourless(coloured_status)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_at_a_question_gives_the_terminal_back_and_writes_nothing() {
    let world = World::new().await;
    for (is_hidden, by, code) in [(false, None, 130), (true, None, 130), (true, Some(Signal::TERM), 143)] {
        let mut init =
            at(TERMINALS[0].1, world.newcomer(&["init", &world.mirror_text(), "--url", &world.sandbox().url()]));
        if is_hidden {
            init.answer("Directory on dStor", "");
            init.answer("Number", "");
            init.until("(not shown)");
            assert!(!init.echoes());
            init.type_in("half a key");
            if by.is_some() {
                // The terminal decides whether to show it when it gets to it, which nobody can see: a signal that came sooner
                // would have it shown. Ctrl-C comes in its turn.
                tokio::time::sleep(std::time::Duration::from_millis(500)).await;
            }
        } else {
            init.until("Directory on dStor");
        }
        match by {
            None => init.type_in("\u{3}"),
            Some(signal) => {
                let pid = Pid::from_raw(i32::try_from(init.pid()).expect("a small number")).expect("a process");
                kill_process(pid, signal).expect("signalled");
            }
        }
        assert_eq!(init.end(), Some(code), "{}", init.shown());
        assert!(init.echoes() && !init.shown().contains("half a key"), "{}", init.shown());
        assert!(listed(&world.home()).is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_keys_are_asked_for_again_and_the_third_ends_it() {
    let world = World::new().await;
    let arguments = ["init", &world.mirror_text(), "--url", &world.sandbox().url(), "--remote", "Docs"];
    let mut init = at(TERMINALS[2].1, world.newcomer(&arguments));
    for _ in 0..3 {
        init.answer("Number", "1");
        init.answer("(not shown)", &"w".repeat(64));
        init.until("error: dStor refuses the API key");
    }
    assert_eq!(init.end(), Some(4), "{}", init.shown());
    assert!(listed(&world.home()).is_empty() && !init.shown().contains("www"));
    let mut init = at(TERMINALS[2].1, world.newcomer(&arguments));
    init.answer("Number", "7");
    init.answer("Number", "3");
    init.answer("E-mail address", world.sandbox().login().0);
    init.answer("(not shown)", "wrong");
    init.answer("Number", "3");
    init.answer("E-mail address", world.sandbox().login().0);
    init.answer("(not shown)", world.sandbox().login().1);
    init.answer("Write it?", "n");
    assert_eq!(init.end(), Some(1), "{}", init.shown());
    assert!(init.shown().contains("nothing was written") && listed(&world.home()).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_cannot_be_used_is_asked_for_again_and_the_end_of_input_names_the_flag() {
    let world = World::new().await;
    let mut init = at(TERMINALS[2].1, world.newcomer(&["init"]));
    init.answer("Directory to mirror", "/none");
    init.until("error: the directory `/none` does not exist");
    init.answer("Directory to mirror", "~");
    init.until("holds the state directory");
    init.answer("Directory to mirror", "mirror");
    init.answer("Directory on dStor [mirror]", "a/../b");
    init.answer("Directory on dStor [mirror]", "");
    init.answer("dStor's address", "http://example.org");
    init.until("is plain http");
    init.until("dStor's address");
    init.type_in("\u{4}");
    assert_eq!(init.end(), Some(2), "{}", init.shown());
    assert!(init.shown().contains("hint: answer it with `--url`"), "{}", init.shown());
    assert!(listed(&world.home()).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_config_that_is_there_is_asked_about_and_its_key_is_offered() {
    let world = World::new().await;
    std::fs::create_dir_all(world.places()).expect("made");
    std::fs::write(world.places().join("config.toml"), "# mine\n").expect("written");
    std::fs::write(world.places().join("api-key"), world.sandbox().api_key()).expect("written");
    crate::world::private(&world.places().join("api-key"));
    let arguments = ["init", &world.mirror_text(), "--url", &world.sandbox().url(), "--remote", "Docs"];
    let mut init = at(TERMINALS[2].1, world.newcomer(&arguments));
    init.answer("Replace it", "");
    assert_eq!(init.end(), Some(1), "{}", init.shown());
    assert_eq!(read(&world.places().join("config.toml")), "# mine\n");
    let mut init = at(TERMINALS[2].1, world.newcomer(&arguments));
    init.answer("Replace it", "yes");
    init.until("1  what is in the file");
    init.answer("Number", "");
    init.answer("Write it?", "y");
    assert_eq!(init.end(), Some(0), "{}", init.shown());
    assert_eq!(read(&world.places().join("config.toml.old")), "# mine\n");
    assert_eq!(world.say(world.newcomer(&["config", "check"])).code, 0);
}
