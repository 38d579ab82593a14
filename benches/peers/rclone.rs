//! rclone, and the servers that it copies to.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::s3::S3;
use crate::shared::measure::Cost;
use crate::shared::receiver;
use crate::tools::{Daemon, content, free_port};

/// Somewhere that rclone copies to, empty at first.
pub(crate) enum Remote {
    /// The S3 server of this bench.
    S3(S3),
    /// rclone's own server.
    Served { kind: Served, port: u16, dir: PathBuf, _scratch: Option<tempfile::TempDir>, _server: Daemon },
}

/// What rclone serves itself.
#[derive(Clone, Copy)]
pub(crate) enum Served {
    Sftp,
    WebDav,
}

impl Served {
    fn name(self) -> &'static str {
        match self {
            Self::Sftp => "sftp",
            Self::WebDav => "webdav",
        }
    }
}

impl Remote {
    /// S3 that keeps each answer back for `delay`.
    pub(crate) fn s3(delay: Duration) -> Self {
        Self::S3(S3::start(delay))
    }

    /// An empty directory behind one of rclone's servers.
    pub(crate) fn served(kind: Served) -> Self {
        let scratch = receiver::directory();
        let dir = scratch.path().join("served");
        std::fs::create_dir(&dir).expect("made");
        Self::serve(kind, dir, Some(scratch))
    }

    /// A directory that is there, behind SFTP.
    pub(crate) fn sftp_of(dir: &Path) -> Self {
        Self::serve(Served::Sftp, dir.to_owned(), None)
    }

    fn serve(kind: Served, dir: PathBuf, scratch: Option<tempfile::TempDir>) -> Self {
        let port = free_port();
        let mut command = rclone();
        command.args(["serve", kind.name(), "--addr", &format!("127.0.0.1:{port}"), "--user", "u", "--pass", "p"]);
        let server = Daemon::start(command.arg(&dir)).wait_for(port);
        Self::Served { kind, port, dir, _scratch: scratch, _server: server }
    }

    /// Files and bytes there.
    pub(crate) fn stored(&self) -> (u64, u64) {
        match self {
            Self::S3(server) => server.stored(),
            Self::Served { dir, .. } => content(dir),
        }
    }

    /// `rclone copy` of a tree to its top, with so many transfers at a time.
    pub(crate) fn copy(&self, tree: &Path, transfers: usize) -> Command {
        let mut command = rclone();
        command.args(["copy", "--transfers", &transfers.to_string()]).arg(tree);
        match self {
            Self::S3(server) => command
                // Its own word for the sum of a file in parts: the server computes none.
                .args([":s3:bucket/tree", "--s3-use-multipart-etag=false", "--s3-no-check-bucket"])
                .env("RCLONE_S3_PROVIDER", "Other")
                .env("RCLONE_S3_ENDPOINT", server.url())
                .env("RCLONE_S3_ACCESS_KEY_ID", "u")
                .env("RCLONE_S3_SECRET_ACCESS_KEY", "p"),
            Self::Served { kind: Served::Sftp, port, .. } => command
                .arg(":sftp:")
                .env("RCLONE_SFTP_HOST", "127.0.0.1")
                .env("RCLONE_SFTP_PORT", port.to_string())
                .env("RCLONE_SFTP_USER", "u")
                .env("RCLONE_SFTP_PASS", obscured()),
            Self::Served { kind: Served::WebDav, port, .. } => command
                .arg(":webdav:")
                .env("RCLONE_WEBDAV_URL", format!("http://127.0.0.1:{port}"))
                .env("RCLONE_WEBDAV_VENDOR", "other")
                .env("RCLONE_WEBDAV_USER", "u")
                .env("RCLONE_WEBDAV_PASS", obscured()),
        };
        command
    }

    /// Copies a tree; then it has to have `wanted`, files and bytes.
    pub(crate) fn first(self, tree: &Path, transfers: usize, wanted: (u64, u64)) -> Cost {
        let cost = Cost::of(&mut self.copy(tree, transfers));
        assert_eq!(self.stored(), wanted, "files and bytes that rclone copied");
        cost
    }
}

fn rclone() -> Command {
    let mut command = Command::new("rclone");
    // Nobody's configuration, for it or for S3.
    for (name, _) in std::env::vars_os() {
        if ["RCLONE_", "AWS_"].iter().any(|own| name.as_encoded_bytes().starts_with(own.as_bytes())) {
            command.env_remove(name);
        }
    }
    command.env("RCLONE_CONFIG", "/dev/null");
    command
}

/// rclone takes passwords in a form of its own.
fn obscured() -> String {
    let said = rclone().args(["obscure", "p"]).output().expect("started").stdout;
    String::from_utf8(said).expect("text").trim().to_owned()
}
