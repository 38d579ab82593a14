//! A clock that is set, and a process that stood still.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use rustix::process::Signal;

use crate::world::{Agent, World};

/// What the dynamic linker puts before the C library: the time of day, moved by as many seconds as a file says.
const SHIM: &str = r#"
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t id, struct timespec *at) {
    long done = syscall(SYS_clock_gettime, id, at);
    const char *path = getenv("CLOCK_OFFSET");
    if (done == 0 && id == CLOCK_REALTIME && path) {
        FILE *file = fopen(path, "r");
        long offset = 0;
        if (file) {
            if (fscanf(file, "%ld", &offset) == 1) at->tv_sec += offset;
            fclose(file);
        }
    }
    return done;
}
"#;

/// A world whose agent goes by a clock that can be set.
struct Clocked {
    world: World,
    offset: PathBuf,
    shim: PathBuf,
}

impl Clocked {
    async fn new() -> Self {
        let world = World::new().await;
        let (source, shim) = (world.base().join("shim.c"), world.base().join("shim.so"));
        fs::write(&source, SHIM).expect("written");
        // SQLite is built from source: where this is tested, there is a C compiler.
        let built = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&shim).arg(&source).status();
        assert!(built.expect("a C compiler").success());
        let offset = world.base().join("offset");
        let clocked = Self { world, offset, shim };
        clocked.set(0);
        clocked
    }

    /// Sets the agent's clock so many seconds from this machine's.
    fn set(&self, seconds: i64) {
        let new = self.offset.with_extension("new");
        fs::write(&new, seconds.to_string()).expect("written");
        fs::rename(new, &self.offset).expect("renamed");
    }

    fn start(&self) -> Agent {
        let mut command = self.world.command(&["run"]);
        command.env("LD_PRELOAD", &self.shim).env("CLOCK_OFFSET", &self.offset);
        self.world.start_command(command)
    }
}

// D14
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_set_back_by_hours_does_not_hold_up_what_waits() {
    let clocked = Clocked::new().await;
    let world = &clocked.world;
    let agent = clocked.start();
    world.write("before", "1");
    world.until_mirrored().await;
    world.misbehave("upload 500");
    world.write("waits", "2");
    world
        .until("it waits for its next attempt", || {
            world.status()["problems"].as_array().is_some_and(|all| all.len() == 1)
        })
        .await;
    clocked.set(-3 * 3600);
    world.until("it is noticed", || agent.log().contains("the clock was set back")).await;
    world.sandbox().behave();
    world.until_mirrored().await;
    world.write("after", "3");
    world.until_mirrored().await;
    clocked.set(2 * 3600);
    world.until("it is noticed", || agent.log().contains("the clock was set ahead")).await;
    world.write("later", "4");
    world.until_mirrored().await;
    assert_eq!(agent.stop(), 0);
}

// F9: nothing else can tell whether everything was heard.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_was_stopped_for_a_while_scans_when_it_goes_on() {
    let world = World::new().await;
    let agent = world.start();
    world.write("before", "1");
    world.until_mirrored().await;
    world.until("it runs", || world.status()["agent"]["state"] == "running").await;
    let scanned = world.status()["mirrors"][0]["last_scan_at"].clone();
    agent.signal(Signal::STOP);
    // The length of the stop is what it is about.
    tokio::time::sleep(std::time::Duration::from_secs(18)).await;
    world.write("meanwhile", "2");
    agent.signal(Signal::CONT);
    world.until("it says so", || agent.log().contains("stood still; scanning")).await;
    world.until("it scans", || world.status()["mirrors"][0]["last_scan_at"] != scanned).await;
    world.until_mirrored().await;
    assert_eq!(agent.stop(), 0);
}
