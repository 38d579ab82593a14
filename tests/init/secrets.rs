//! A secret that was typed or piped in is in its file, and nowhere else.

use std::fs;
use std::process::Command;

use super::at_a_terminal;
use crate::security::all_below;
use crate::world::World;

fn holds(bytes: &[u8], secret: &str) -> bool {
    bytes.windows(secret.len()).any(|window| window == secret.as_bytes())
}

/// The names of the processes whose command line holds the secret.
fn in_command_lines(secret: &str) -> Vec<String> {
    let processes = fs::read_dir("/proc").expect("read").flatten();
    let lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    lines.filter(|line| holds(line, secret)).map(|line| String::from_utf8_lossy(&line).into_owned()).collect()
}

// G1
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_typed_or_piped_is_in_its_file_and_nowhere_else() {
    let world = World::new().await;
    let key = format!("canaryfirst{}", "k".repeat(53));
    world.sandbox().replace_api_key(&key);
    world.write("a", "x");
    let (mirror, url) = (world.mirror_text(), world.sandbox().url());
    let loud = |arguments: &[&str]| {
        let mut command = world.newcomer(arguments);
        command.env("DSTOR_SYNC_LOG", "trace").env("RUST_LOG", "trace").env("RUST_BACKTRACE", "1");
        command.env("TERM", "dumb").env("DSTOR_URL", &url);
        command
    };
    let mut left: Vec<(String, Vec<u8>)> = Vec::new();
    let mut init = at_a_terminal(&loud(&["init", &mirror, "-vv"]));
    init.answer("Directory on dStor", "");
    init.answer("dStor's address", "");
    init.answer("Number", "");
    init.answer("(not shown)", &key);
    init.until("Write it?");
    // While it holds the key.
    for what in ["cmdline", "comm", "maps"] {
        left.push((what.to_owned(), fs::read(format!("/proc/{}/{what}", init.pid())).expect("its process")));
    }
    assert_eq!(in_command_lines(&key), [""; 0]);
    init.type_in("\n");
    assert_eq!(init.end(), Some(0), "{}", init.shown());
    left.push(("init".to_owned(), init.shown().into_bytes()));

    let mut keep = |name: &str, command: Command, input: &str| {
        let said = world.with_input(command, input);
        left.push((name.to_owned(), format!("{}{}", said.stdout, said.stderr).into_bytes()));
        said.code
    };
    assert_eq!(keep("piped", loud(&["login", "-vv", "--api-key-file", "-"]), &key), 0);
    assert_eq!(keep("show", loud(&["config", "show", "-vv"]), ""), 0);
    assert_eq!(keep("two words", loud(&["login", "--api-key-file", "-"]), &format!("{key} {key}")), 2);
    let wrong = key.to_uppercase();
    assert_eq!(keep("refused", loud(&["login", "--api-key-file", "-"]), &wrong), 4);
    // There is no such flag, and whoever tries it is not repeated.
    for arguments in [["init", &mirror, "--api-key", &key], ["login", "--key", &key, "-vv"]] {
        assert_eq!(keep("a flag", loud(&arguments), ""), 2);
    }
    for flag in ["--api-key", "--password", "--token"] {
        assert_eq!(keep("a flag", loud(&["login", &format!("{flag}={key}")]), ""), 2);
    }
    let file = world.places().join("api-key");
    for path in all_below(&world.home()).into_iter().filter(|path| path.is_file() && *path != file) {
        left.push((path.display().to_string(), fs::read(&path).expect("read")));
    }
    assert!(left.iter().any(|(place, _)| place.ends_with("config.toml")));
    for (place, bytes) in &left {
        for secret in [&key, &wrong] {
            assert!(!holds(bytes, secret), "{place}: {}", String::from_utf8_lossy(bytes));
        }
    }
    assert!(holds(&fs::read(&file).expect("read"), &key), "the search finds nothing at all");
    assert_eq!(world.say(loud(&["logout", "-vv"])).code, 0);
    for path in all_below(&world.home()).into_iter().filter(|path| path.is_file()) {
        assert!(!holds(&fs::read(&path).expect("read"), &key), "{} is left", path.display());
    }
}
