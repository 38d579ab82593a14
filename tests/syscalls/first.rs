//! `init` killed before each call that writes: there is no config, or a whole one with its key.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use dstor_sync::config::{Config, CredentialSources, Environment, Overrides};

use super::strace::{Blow, Strike, Traced};
use crate::world::tell;

const CALLS: [&str; 10] =
    ["mkdir", "mkdirat", "chmod", "fchmodat", "write", "fsync", "link", "linkat", "rename", "unlink"];

// F3
#[test]
fn an_init_that_is_killed_leaves_no_config_or_a_whole_one() {
    let (mut points, mut struck) = (0, BTreeSet::new());
    for is_second in [false, true] {
        let ran = killed(is_second, None);
        for (call, most) in ran {
            let Some(call) = CALLS.into_iter().find(|known| *known == call) else { continue };
            for nth in 1..=most {
                points += 1;
                let strike = Strike { call, nth, file: None, blow: Blow::Kill };
                killed(is_second, Some(strike));
                struck.insert(call);
            }
        }
    }
    assert!(struck.contains("fsync") && struck.contains("rename") && points > 20, "{points} points: {struck:?}");
    tell(&format!("init killed at {points} points: no half config"));
}

/// An `init`, the first one or one that replaces another, struck at a point; then another one. Returns how many calls of
/// each name some thread made.
fn killed(is_second: bool, strike: Option<Strike>) -> Vec<(String, u32)> {
    let world = tempfile::tempdir().expect("a directory");
    let base = world.path().canonicalize().expect("there");
    fs::create_dir_all(base.join("home")).expect("made");
    fs::create_dir(base.join("mirror")).expect("made");
    let places = base.join("home/.config/dstor-sync");
    fs::write(base.join("input"), "a-key").expect("written");
    let command = || {
        // The shell becomes the program: the same process.
        let mut shell = Command::new("/bin/sh");
        let program = env!("CARGO_BIN_EXE_dstor-sync");
        shell.arg("-c").arg(format!("exec '{program}' init mirror --force --no-check --api-key-file - < input"));
        shell.env_clear().env("HOME", base.join("home")).current_dir(&base);
        shell
    };
    let environment = Environment::from_pairs([("HOME", base.join("home"))]);
    let loaded = || {
        let config = Config::load(&Overrides::default(), &environment)?;
        let found = CredentialSources::new(&config, &environment).load()?;
        assert!(found.is_some(), "a config without its key");
        Ok::<_, dstor_sync::config::ConfigErrors>(config)
    };
    if is_second {
        assert!(command().output().expect("ran").status.success());
    }
    let ran = Traced::start(&command(), &base, &CALLS, strike).end();
    if let Some(strike) = strike {
        // One that strace did not get to struck nobody.
        assert!(ran.struck(&strike).is_some() || ran.status.is_some_and(|status| status.success()), "{strike:?}");
    } else {
        assert!(ran.status.is_some_and(|status| status.success()), "{}", ran.output);
    }
    match loaded() {
        Ok(_) => {}
        Err(errors) if !places.join("config.toml").exists() && !is_second => drop(errors),
        Err(errors) => panic!("{strike:?}, second {is_second}: {errors}"),
    }
    assert!(command().output().expect("ran").status.success(), "{strike:?}: nothing can follow");
    loaded().unwrap_or_else(|errors| panic!("{strike:?}: {errors}"));
    let left: BTreeSet<_> = fs::read_dir(&places).expect("read").map(|entry| entry.expect("one").file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().ends_with(".new")), "{strike:?}: {left:?}");
    ran.most(None).into_iter().collect()
}
