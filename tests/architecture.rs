//! The house keeps its plan: who may name whom, what is pure, and who prints. Read from the sources.

mod source;

use std::fs;
use std::path::{Path, PathBuf};

use source::{Named, Token, paths, tokens, without_tests};

/// The modules from the ground up, each with those that it may name.
const PLAN: &[(&str, &[&str])] = &[
    ("mirror", &[]),
    ("seal", &[]),
    ("local", &["mirror", "seal"]),
    ("desktop", &[]),
    ("ledger", &["mirror", "local"]),
    ("dstor", &["mirror", "local", "ledger"]),
    ("upload", &["mirror", "seal", "local", "desktop", "ledger", "dstor"]),
    ("plan", &["mirror", "seal", "local", "desktop", "ledger", "dstor", "upload"]),
    ("wording", &["mirror", "local", "ledger", "dstor", "upload", "plan"]),
    ("journal", &["mirror", "ledger", "upload", "wording"]),
    ("verify", &["mirror", "local", "ledger", "dstor", "upload", "plan"]),
    ("restore", &["mirror", "seal", "local", "ledger", "dstor", "upload"]),
    ("manifest", &["mirror", "seal", "ledger", "dstor", "upload", "restore"]),
    ("export", &["mirror", "local", "dstor", "upload", "wording", "restore"]),
    ("status", &["mirror", "local", "ledger", "dstor", "upload", "plan", "wording", "verify"]),
    ("sync", &["mirror", "local", "ledger", "dstor", "upload", "plan", "journal"]),
    (
        "agent",
        &[
            "mirror", "seal", "local", "desktop", "ledger", "dstor", "upload", "plan", "wording", "journal", "verify",
            "manifest", "status",
        ],
    ),
    ("config", &["mirror", "seal", "desktop", "dstor"]),
    ("doctor", &["mirror", "local", "ledger", "dstor", "upload", "plan", "wording", "verify", "status", "config"]),
    ("service", &[]),
    ("sandbox", &["mirror", "dstor"]), // of dstor only wire: see `check`
    (
        "cli",
        &[
            "mirror", "seal", "local", "desktop", "ledger", "dstor", "upload", "plan", "wording", "journal", "verify",
            "restore", "manifest", "export", "status", "sync", "agent", "config", "doctor", "service", "sandbox",
        ],
    ),
    ("main", &["cli"]),
];

/// What the rules must not name: time comes in as an argument, and nothing there reads, sends or waits.
const IMPURE: &[&[&str]] = &[
    &["tokio"],
    &["reqwest"],
    &["rusqlite"],
    &["rustix"],
    &["notify"],
    &["jiff"],
    &["rand"],
    &["fastrand"],
    &["std", "fs"],
    &["std", "net"],
    &["std", "env"],
    &["std", "process"],
    &["std", "thread"],
    &["std", "time", "Instant"],
    &["std", "time", "SystemTime"],
    &["std", "time", "UNIX_EPOCH"],
];

/// Rules outside of the room for rules: what they are about is the wire, or what is read back over it.
const RULES_ELSEWHERE: [&str; 8] = [
    "dstor/answer.rs",
    "dstor/exchange.rs",
    "dstor/lease.rs",
    "dstor/lease/tests.rs",
    "dstor/session.rs",
    "manifest.rs",
    "restore.rs",
    "verify.rs",
];

const PRINTING: [&str; 5] = ["print", "println", "eprint", "eprintln", "dbg"];

/// What is wrong with a source. `path` is relative to the package.
fn check(path: &Path, source: &str) -> Vec<String> {
    let all = tokens(source);
    let mut wrong = Vec::new();
    let mut report = |line: usize, what: String| wrong.push(format!("{}:{line}: {what}", path.display()));

    for (at, token) in all.iter().enumerate() {
        match (token.text, following(&all, at, 1), following(&all, at, 2)) {
            (undone @ ("todo" | "unimplemented"), "!", _) => report(token.line, format!("`{undone}!`")),
            ("#", "[", "ignore") => report(token.line, "a test that is ignored".into()),
            _ => {}
        }
    }

    let Ok(inside) = path.strip_prefix("src") else { return wrong };
    let Some(room) = room_of(inside) else { return wrong };
    let Some((_, allowed)) = PLAN.iter().find(|(name, _)| *name == room) else {
        report(1, format!("`{room}` has no place in the plan"));
        return wrong;
    };

    // Tests may have a dStor to talk to.
    let for_tests = inside.iter().any(|part| part == "tests" || part == "tests.rs");
    let shipped: Vec<usize> = paths(&without_tests(&all)).iter().map(|named| named.line).collect();
    for named in paths(&all) {
        let Some(to) = inside_the_crate(inside, &named) else { continue };
        let [other, rest @ ..] = to else { continue };
        if *other == room || PLAN.iter().all(|(name, _)| name != other) {
            continue;
        }
        let is_test = for_tests || !shipped.contains(&named.line);
        let is_allowed = allowed.contains(other) || (is_test && *other == "sandbox");
        let is_whole_dstor = room == "sandbox" && *other == "dstor" && rest.first() != Some(&"wire");
        if !is_allowed || is_whole_dstor {
            report(named.line, format!("`{room}` names `{}`", to.join("::")));
        }
    }

    if room == "mirror" || RULES_ELSEWHERE.iter().any(|file| inside == Path::new(file)) {
        for named in paths(&all) {
            // `std::time` alone opens the way to the clocks in it.
            let is_impure =
                |impure: &&&[&str]| named.parts.starts_with(impure) || impure.starts_with(whole(&named.parts));
            if IMPURE.iter().any(|impure| is_impure(&impure)) {
                report(named.line, format!("the rules name `{}`", named.parts.join("::")));
            }
        }
    }

    if room != "cli" {
        for (at, token) in all.iter().enumerate() {
            // A method of that name is that of another process.
            let is_method = at > 0 && all[at - 1].text == ".";
            if PRINTING.contains(&token.text) && following(&all, at, 1) == "!" {
                report(token.line, format!("`{}!` outside of cli", token.text));
            }
            if ["stdout", "stderr"].contains(&token.text) && following(&all, at, 1) == "(" && !is_method {
                report(token.line, format!("`{}()` outside of cli", token.text));
            }
        }
    }
    wrong
}

fn following<'a>(tokens: &[Token<'a>], at: usize, by: usize) -> &'a str {
    tokens.get(at + by).map_or("", |token| token.text)
}

/// A module that is taken whole, as `use a::b`, `use a::b::{self}` and `use a::b::*` do.
fn whole<'a, 'b>(parts: &'b [&'a str]) -> &'b [&'a str] {
    match parts {
        [module @ .., "self" | "*"] => module,
        all => all,
    }
}

/// The module that a file below `src` is part of; none for the map of all.
fn room_of(inside: &Path) -> Option<String> {
    let first = inside.iter().next()?.to_str()?;
    let room = first.strip_suffix(".rs").unwrap_or(first);
    (room != "lib").then(|| room.to_owned())
}

/// A path from the crate's top on; `None` if it leads elsewhere, or stays in its module.
fn inside_the_crate<'a, 'b>(inside: &Path, named: &'b Named<'a>) -> Option<&'b [&'a str]> {
    match named.parts.as_slice() {
        ["crate" | "dstor_sync", rest @ ..] => Some(rest),
        parts @ ["super", ..] => {
            let up = parts.iter().take_while(|part| **part == "super").count();
            let is_file = inside.file_name().is_some_and(|name| name != "mod.rs");
            let depth = inside.iter().count() - usize::from(!is_file);
            (up >= depth).then_some(&parts[up..])
        }
        _ => None,
    }
}

fn rust_files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a directory of the package") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn the_sources_keep_to_the_plan() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for dir in ["src", "tests", "benches"] {
        rust_files(&package.join(dir), &mut files);
    }
    assert!(files.len() > 50, "only {} sources were found", files.len());
    for file in RULES_ELSEWHERE {
        assert!(files.contains(&package.join("src").join(file)), "{file} is not there");
    }
    let mut wrong = Vec::new();
    for file in files {
        let source = fs::read_to_string(&file).expect("a source");
        wrong.extend(check(file.strip_prefix(package).expect("in the package"), &source));
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn the_plan_allows_only_what_is_below() {
    for (at, (name, allowed)) in PLAN.iter().enumerate() {
        let below: Vec<&str> = PLAN[..at].iter().map(|(name, _)| *name).collect();
        assert!(allowed.iter().all(|other| below.contains(other)), "{name}");
    }
}

#[test]
fn the_map_lists_the_modules_in_the_plans_order() {
    let map = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).expect("the map");
    let modules: Vec<&str> = map.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    let plan: Vec<&str> = PLAN.iter().map(|(name, _)| *name).filter(|name| *name != "main").collect();
    assert_eq!(modules, plan);
}

/// What `check` finds in a source of one piece, without the place.
fn found(path: &str, source: &str) -> Vec<String> {
    check(Path::new(path), source)
        .into_iter()
        .map(|wrong| wrong.split_once(": ").map(|(_, what)| what).unwrap_or("").to_owned())
        .collect()
}

#[test]
fn a_module_that_names_one_above_it_is_reported() {
    for (path, source, wrong) in [
        ("src/mirror/path.rs", "use crate::local::Scan;", "`mirror` names `local::Scan`"),
        ("src/local/scan.rs", "use crate::{mirror::Cid, ledger};", "`local` names `ledger`"),
        ("src/ledger/mod.rs", "fn f() { crate::dstor::link() }", "`ledger` names `dstor::link`"),
        ("src/ledger/mod.rs", "use super::upload::Queue;", "`ledger` names `upload::Queue`"),
        ("src/dstor/client.rs", "use super::super::upload::Queue;", "`dstor` names `upload::Queue`"),
        ("src/upload/queue.rs", "use crate::{\n  mirror::{A, B},\n  plan::{C},\n};", "`upload` names `plan::C`"),
        ("src/plan.rs", "use crate::status::Status;", "`plan` names `status::Status`"),
        ("src/sync.rs", "use crate::agent::run;", "`sync` names `agent::run`"),
        ("src/sync.rs", "use super::agent;", "`sync` names `agent`"),
        ("src/agent/mod.rs", "use crate::config::Config;", "`agent` names `config::Config`"),
        ("src/wording.rs", "use crate::status::Status;", "`wording` names `status::Status`"),
        ("src/config/mod.rs", "use crate::ledger::Millis;", "`config` names `ledger::Millis`"),
        ("src/upload/queue.rs", "use crate::config::Config;", "`upload` names `config::Config`"),
        ("src/sandbox/mod.rs", "use crate::dstor::Client;", "`sandbox` names `dstor::Client`"),
        ("src/sandbox/mod.rs", "use crate::dstor;", "`sandbox` names `dstor`"),
        ("src/sandbox/mod.rs", "use crate::upload::Stop;", "`sandbox` names `upload::Stop`"),
        ("src/upload/worker.rs", "use crate::sandbox::Sandbox;", "`upload` names `sandbox::Sandbox`"),
        ("src/status.rs", "use crate::cli::Exit;", "`status` names `cli::Exit`"),
        ("src/main.rs", "fn main() { dstor_sync::agent::run() }", "`main` names `agent::run`"),
        ("src/extras/mod.rs", "", "`extras` has no place in the plan"),
    ] {
        assert_eq!(found(path, source), [wrong], "{path}: {source}");
    }
}

#[test]
fn a_module_that_names_those_below_it_is_fine() {
    for (path, source) in [
        ("src/local/scan.rs", "use crate::mirror::{Cid, Digest};\nuse super::read::Content;"),
        ("src/ledger/tests/queue.rs", "use super::super::files::Held;\nuse super::*;"),
        ("src/sandbox/mod.rs", "use crate::dstor::wire;\nuse crate::dstor::{wire::Framing, wire::{A, B}};"),
        ("src/config/show.rs", "use crate::{config::Dstor, mirror::Policy};"),
        ("src/upload/worker.rs", "#[cfg(test)]\nmod tests { use crate::sandbox::Sandbox; }"),
        ("src/upload/tests.rs", "use crate::sandbox::Sandbox;"),
        ("src/lib.rs", "pub mod cli;\npub mod mirror;"),
        ("src/main.rs", "fn main() { dstor_sync::cli::run() }"),
        ("src/mirror/path.rs", "//! See crate::cli::run\n/// [`crate::local::Scan`]\nconst A: &str = \"crate::cli\";"),
    ] {
        assert_eq!(found(path, source), [""; 0], "{path}: {source}");
    }
}

#[test]
fn rules_that_are_not_pure_are_reported() {
    for (source, wrong) in [
        ("use tokio::time::sleep;", "tokio::time::sleep"),
        ("use tokio;", "tokio"),
        ("use std::fs;", "std::fs"),
        ("fn f() { std::fs::read(\"x\") }", "std::fs::read"),
        ("use std::{fmt, fs::File};", "std::fs::File"),
        ("use reqwest::Client;", "reqwest::Client"),
        ("fn f(_: rusqlite::Row) {}", "rusqlite::Row"),
        ("use notify::Watcher as _;", "notify::Watcher"),
        ("use std::time::{Duration, Instant};", "std::time::Instant"),
        ("use std::time::SystemTime;", "std::time::SystemTime"),
        ("use std::time::{self, Duration};", "std::time::self"),
        ("use std::time::*;", "std::time::*"),
        ("use std::time;", "std::time"),
        ("fn f() { jiff::Timestamp::now() }", "jiff::Timestamp::now"),
        ("fn f() { rand::random() }", "rand::random"),
        ("fn f() { fastrand::u64(..) }", "fastrand::u64"),
    ] {
        assert_eq!(found("src/mirror/x.rs", source), [format!("the rules name `{wrong}`")], "{source}");
        assert_eq!(found("src/dstor/lease.rs", source), [format!("the rules name `{wrong}`")], "{source}");
        assert_eq!(found("src/local/x.rs", source), [""; 0], "{source}");
    }
    assert_eq!(found("src/mirror/x.rs", "use std::time::Duration;\nuse std::path::Path;"), [""; 0]);
}

#[test]
fn whoever_prints_outside_of_cli_is_reported() {
    for what in ["print!", "println!", "eprint!", "eprintln!", "dbg!"] {
        let source = format!("fn f() {{ {what}(\"x\") }}");
        assert_eq!(found("src/sync.rs", &source), [format!("`{what}` outside of cli")]);
        assert_eq!(found("src/cli/sync.rs", &source), [""; 0]);
    }
    assert_eq!(found("src/agent/mod.rs", "use std::io;\nfn f() { io::stdout() }"), ["`stdout()` outside of cli"]);
    assert_eq!(found("src/main.rs", "fn f() { std::io::stderr().lock() }"), ["`stderr()` outside of cli"]);
    assert_eq!(found("src/local/root.rs", "fn f(c: Command) { c.stdout(Stdio::null()); }"), [""; 0]);
}

#[test]
fn what_is_left_undone_is_reported_wherever_it_is() {
    for path in ["src/cli/mod.rs", "src/lib.rs", "tests/world.rs", "benches/rooms.rs"] {
        assert_eq!(found(path, "fn f() { todo!() }"), ["`todo!`"]);
        assert_eq!(found(path, "fn f() { unimplemented!(\"later\") }"), ["`unimplemented!`"]);
        assert_eq!(found(path, "#[test]\n#[ignore = \"slow\"]\nfn f() {}"), ["a test that is ignored"]);
        assert_eq!(found(path, "fn todo() {} // todo! and #[ignore]"), [""; 0]);
    }
}

#[test]
fn a_report_names_the_file_and_the_line() {
    let wrong = check(Path::new("src/sync.rs"), "\n\nfn f() { println!() }");
    assert_eq!(wrong, ["src/sync.rs:3: `println!` outside of cli"]);
}
