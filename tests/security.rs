//! What must hold against those who want to look, steer or be believed: beneath the root, on the wire, on the terminal.

mod permissions;
mod racer;
mod secrets;
mod server;
pub(crate) mod tap;
mod terminal;
mod wire;

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::world::World;

impl World {
    /// Has the program talk to this address instead of the sandbox's.
    pub(crate) fn point_to(&mut self, url: &str) {
        let line = self.config().lines().find(|line| line.starts_with("url = ")).expect("an address").to_owned();
        self.set_config(self.config().replace(&line, &format!("url = \"{url}\"")));
    }

    /// The command under a `umask`.
    fn under_umask(&self, umask: &str, arguments: &[&str]) -> Command {
        let inner = self.command(arguments);
        let mut shell = Command::new("/bin/sh");
        shell
            .arg("-c")
            .arg(format!("umask {umask}; exec \"$0\" \"$@\""))
            .arg(inner.get_program())
            .args(inner.get_args())
            .env_clear()
            .envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))))
            .current_dir(self.base());
        shell
    }
}

/// Everything at and below a path, itself included.
pub(crate) fn all_below(top: &Path) -> Vec<PathBuf> {
    let mut all = vec![top.to_owned()];
    let mut at = 0;
    while at < all.len() {
        if all[at].symlink_metadata().is_ok_and(|found| found.is_dir()) {
            let entries = std::fs::read_dir(&all[at]).into_iter().flatten().flatten();
            all.extend(entries.map(|entry| entry.path()));
        }
        at += 1;
    }
    all
}
