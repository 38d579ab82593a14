//! A watcher that dies or hangs: what happens next is heard all the same, and `watch` tells the truth.

use std::fs;
use std::process::{Child, Command, Stdio};

use crate::world::{Agent, World};

/// strace at work on one thread; killed at the end, which lets the thread go.
struct Strace(Child);

impl Drop for Strace {
    fn drop(&mut self) {
        // It may have ended with the thread.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The threads that read what the kernel tells.
fn listeners(agent: &Agent) -> Vec<String> {
    let Ok(threads) = fs::read_dir(format!("/proc/{}/task", agent.pid())) else { return Vec::new() };
    let listens = |thread: &fs::DirEntry| {
        fs::read_to_string(thread.path().join("comm")).is_ok_and(|name| name.trim_end() == "inotify")
    };
    threads.flatten().filter(listens).map(|thread| thread.file_name().into_string().expect("a number")).collect()
}

/// Has a system call of the thread go wrong from now on; `None` where there is no strace.
fn inject(thread: &str, what: &str) -> Option<Strace> {
    let mut strace = Command::new("strace");
    let call = what.split(':').next().unwrap_or_default();
    strace.args([
        "-qq",
        "-o",
        "/dev/null",
        "-p",
        thread,
        "-e",
        &format!("trace={call}"),
        "-e",
        &format!("inject={what}"),
    ]);
    strace.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok().map(Strace)
}

// A18: its thread cannot wait; it cannot read; it hangs.
#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_that_dies_fails_or_hangs_is_followed_by_another_one() {
    for what in ["ppoll:error=EINVAL", "read:error=EIO", "ppoll:delay_enter=1000s"] {
        // Nothing but events: the scans beside them are an hour apart.
        let world = World::with("rescan = \"1h\"", "").await;
        world.write("before", "1");
        let agent = world.start();
        world.until_mirrored().await;
        world.until("it watches", || world.status()["mirrors"][0]["watch"] == "events").await;
        let first = listeners(&agent);
        assert_eq!(first.len(), 1, "{first:?}");
        let Some(strace) = inject(&first[0], what) else { return };
        world
            .until("the watcher does not live any more", || {
                // Any event at all; the file is the one that is there already.
                drop(fs::File::open(world.mirror()));
                agent.log().contains("the watcher is silent; another one is set up")
            })
            .await;
        world.write("d/while", what);
        world.until_mirrored().await;
        world.until("another one listens", || listeners(&agent).iter().any(|thread| *thread != first[0])).await;
        assert_eq!(world.status()["mirrors"][0]["watch"], "events", "{what}");
        world.until("the first scan after it is through", || world.run(&["wait", "--timeout", "60s"]).code == 0).await;
        world.write("d/after", "only an event tells of it");
        world.until_mirrored().await;
        drop(strace);
        assert_eq!(agent.stop(), 0, "{what}: {}", world.story());
    }
}
