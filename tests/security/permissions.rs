//! Who may read what is kept, and whose files are believed.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use dstor_sync::sandbox::Phase;

use super::all_below;
use crate::world::{World, said};

/// What others could do to anything at or below `top`.
fn open_to_others(top: &Path) -> Vec<String> {
    let lax = |path: &Path| {
        let found = path.symlink_metadata().ok()?;
        let wanted = if found.is_dir() { 0o700 } else { 0o600 };
        let mode = found.mode() & 0o7777;
        (mode & !wanted != 0).then(|| format!("{} {mode:04o}", path.display()))
    };
    all_below(top).iter().filter_map(|path| lax(path)).collect()
}

// G3: whatever the umask, also for what is made later: the write-ahead log, its index, what a reader leaves behind.
#[tokio::test(flavor = "multi_thread")]
async fn only_its_owner_can_enter_or_read_the_state_directory_under_any_umask() {
    for umask in ["000", "022", "077"] {
        let world = World::new().await;
        world.write("a", "a");
        let agent = world.start_command(world.under_umask(umask, &["run"]));
        world.until_mirrored().await;
        let running = all_below(&world.state_dir());
        let has = |name: &str| running.iter().any(|path| path.file_name().is_some_and(|file| file == name));
        assert!(has("ledger.db") && has("ledger.db-wal") && has("ledger.db-shm") && has("agent.lock"), "{running:?}");
        assert_eq!(open_to_others(&world.state_dir()), [""; 0], "umask {umask}, while it runs");
        agent.kill();
        for arguments in [&["status"][..], &["ls"], &["sync"], &["wait"]] {
            tokio::task::block_in_place(|| said(world.under_umask(umask, arguments)));
            assert_eq!(open_to_others(&world.state_dir()), [""; 0], "umask {umask}, after {arguments:?}");
        }
    }
}

// G3
#[tokio::test(flavor = "multi_thread")]
async fn what_the_sandbox_inside_keeps_is_for_its_owner_alone() {
    let world = World::new().await;
    world.write("d/a", "a");
    let directory = world.mirror().display().to_string();
    let pass = tokio::task::block_in_place(|| said(world.under_umask("000", &["sync", "--sandbox", &directory])));
    assert_eq!(pass.code, 0, "{pass:?}");
    let kept = all_below(&world.state_dir().join("sandbox"));
    assert!(kept.iter().any(|path| path.ends_with("api-key")) && kept.len() > 10, "{kept:?}");
    assert_eq!(open_to_others(&world.state_dir()), [""; 0]);
}

// G3
#[tokio::test(flavor = "multi_thread")]
async fn a_state_directory_that_others_could_enter_is_closed_to_them() {
    let world = World::new().await;
    world.write("a", "a");
    assert_eq!(world.run(&["sync"]).code, 0);
    for (path, mode) in [(world.state_dir(), 0o777), (world.state_dir().join("ledger.db"), 0o666)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("ours");
    }
    assert_eq!(world.run(&["sync"]).code, 0);
    assert_eq!(open_to_others(&world.state_dir()), [""; 0]);
}

// G3
#[tokio::test(flavor = "multi_thread")]
async fn a_config_or_a_key_that_others_can_write_is_refused_before_anything_is_sent() {
    let world = World::new().await;
    world.write("a", "a");
    for (file, mode) in [("config.toml", 0o620), ("config.toml", 0o602), ("key", 0o620), ("key", 0o602), ("key", 0o644)]
    {
        let path = world.base().join(file);
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("ours");
        for command in [&["run"][..], &["sync"], &["config", "check"], &["config", "show"]] {
            let said = world.run(command);
            assert_eq!(said.code, 78, "{file} {mode:o} {command:?}: {said:?}");
            assert!(said.stderr.contains("others can") && said.stderr.contains("hint: chmod"), "{said:?}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("ours");
    }
    assert_eq!(world.sandbox().requests(Phase::Token), 0);
    assert_eq!(world.run(&["sync"]).code, 0);
}

// D16: before the network is touched.
#[tokio::test(flavor = "multi_thread")]
async fn a_state_directory_that_cannot_be_made_ends_it_with_the_reason() {
    let world = World::new().await;
    world.write("a", "a");
    let file = world.base().join("file");
    fs::write(&file, "").expect("written");
    let below = file.join("state").display().to_string();
    for command in [&["--state-dir", &below, "run"][..], &["--state-dir", &below, "sync"]] {
        let said = world.run(command);
        assert_eq!(said.code, 1, "{said:?}");
        assert!(said.stderr.contains("cannot make the state directory"), "{said:?}");
    }
    assert_eq!(world.sandbox().requests(Phase::Token), 0);
}
