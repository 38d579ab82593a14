//! A real tree into a sandbox and back: `cargo bench --bench tree -- DIR`.
//!
//! Makes one pass over DIR, reads every file back by its link, compares it with the one on disk, makes a second pass that
//! has nothing to do, and prints what it saw. Then it has the list of all files stored, loses the ledger, the configuration
//! and the key, brings everything back by the hash of that list alone, and compares content, modes and times; where there
//! is restic, that does the same beside it. Exits with 1 if anything differs.
#![expect(clippy::print_stdout, reason = "the figures are what it is for")]

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant, SystemTime};

use dstor_sync::sandbox::{Options, Phase, Sandbox};

/// How a run of the program went.
struct Run {
    took: Duration,
    peak_kib: u64,
    last_line: String,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Some(tree) = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).map(PathBuf::from) else {
        println!("usage: cargo bench --bench tree -- DIR");
        return ExitCode::from(2);
    };
    let tree = tree.canonicalize().expect("the directory exists");
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let sandbox = Sandbox::start(Options::new(scratch.path().join("dstor"))).await.expect("a sandbox");

    let config = scratch.path().join("config/dstor-sync");
    std::fs::create_dir_all(&config).expect("made");
    let path = serde_json::to_string(&tree).expect("UTF-8");
    std::fs::write(config.join("config.toml"), format!("[[mirror]]\npath = {path}\n")).expect("written");

    let first = pass(scratch.path(), &sandbox);
    println!(
        "first pass    {:.1} s, peak memory {} KiB: {}",
        first.took.as_secs_f64(),
        first.peak_kib,
        first.last_line
    );
    let made = |phase| sandbox.requests(phase);
    let uploads = made(Phase::Upload) + made(Phase::Chunk);
    println!(
        "requests      {} with one file, {} with many in {} sessions, {} to ask how far these are, {} for a token",
        made(Phase::Upload),
        made(Phase::Chunk),
        made(Phase::GetToken),
        made(Phase::Status),
        made(Phase::Token)
    );
    let second = pass(scratch.path(), &sandbox);
    let more = made(Phase::Upload) + made(Phase::Chunk) - uploads;
    println!("second pass   {:.1} s, peak memory {} KiB, {more} uploads", second.took.as_secs_f64(), second.peak_kib);

    let (mut files, mut bytes, mut wrong, mut others) = (0_u64, 0_u64, 0_u64, 0_u64);
    let http = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().expect("a client");
    let listed = program(scratch.path(), &sandbox).args(["ls", "--json"]).output().expect("listed");
    for line in String::from_utf8(listed.stdout).expect("UTF-8").lines() {
        let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
        if line["state"] != "stored" {
            others += 1;
            continue;
        }
        let link = line["url"].as_str().expect("a link");
        let stored = http.get(link).send().await.expect("answered").bytes().await.expect("its bytes");
        let local = std::fs::read(line["path"].as_str().expect("a path")).expect("read");
        files += 1;
        bytes += local.len() as u64;
        if stored != local || line["proof"] != "cid" {
            wrong += 1;
            println!("differs: {}", line["path"]);
        }
    }
    let on_disk = regular_files(&tree);
    println!(
        "read back     {files} files, {bytes} bytes, {wrong} differ; on disk {on_disk} regular files; {others} left out, such as \
         links and what looks like a secret"
    );
    let back = restored(&tree, scratch.path(), &sandbox);
    if wrong == 0 && more == 0 && back { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Brings the tree back on a machine that knows nothing but a hash, and compares. Returns whether all of it is as it was.
fn restored(tree: &Path, scratch: &Path, sandbox: &Sandbox) -> bool {
    let published = program(scratch, sandbox).args(["manifest", "publish"]).output().expect("published");
    let list = String::from_utf8(published.stdout).expect("UTF-8").trim().to_owned();
    std::fs::remove_dir_all(scratch.join("state")).expect("removed");
    let dest = scratch.join("restored");
    let mut restore = program(&scratch.join("new machine"), sandbox);
    let ran = run(restore.env_remove("DSTOR_API_KEY").args(["--quiet", "restore", "--from", &list]).arg(&dest));
    println!(
        "restored      {:.1} s, peak memory {} KiB, by the hash alone: {}",
        ran.took.as_secs_f64(),
        ran.peak_kib,
        ran.last_line
    );
    let is_same = compare(tree, &dest);
    let repository = scratch.join("restic");
    let restic = |arguments: &[&std::ffi::OsStr]| {
        let mut command = Command::new("restic");
        command.env("RESTIC_PASSWORD", "none").env("XDG_CACHE_HOME", scratch.join("cache"));
        command.arg("--quiet").arg("--repo").arg(&repository).args(arguments);
        command
    };
    if restic(&["init".as_ref()]).status().is_ok_and(|status| status.success()) {
        let backed_up = restic(&["backup".as_ref(), tree.as_os_str()]).status().expect("ran");
        assert!(backed_up.success(), "restic keeps nothing");
        let dest = scratch.join("restic restored");
        let ran = run(&mut restic(&["restore".as_ref(), "latest".as_ref(), "--target".as_ref(), dest.as_os_str()]));
        println!(
            "restic        {:.1} s, peak memory {} KiB, to restore the same",
            ran.took.as_secs_f64(),
            ran.peak_kib
        );
    }
    is_same
}

/// Whether each file that was brought back is as it was; and tells how many are not there, such as links.
fn compare(tree: &Path, dest: &Path) -> bool {
    let diff = Command::new("diff").args(["--recursive", "--no-dereference", "--brief"]).args([tree, dest]).output();
    let said = String::from_utf8_lossy(&diff.expect("compared").stdout).into_owned();
    let only_here = format!("Only in {}", tree.display());
    let (absent, wrong): (Vec<&str>, Vec<&str>) = said.lines().partition(|line| line.starts_with(&only_here));
    let (mut files, mut undressed, mut dirs) = (0_u64, 0_u64, vec![dest.to_owned()]);
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).expect("read").flatten() {
            let (path, kind) = (entry.path(), entry.file_type().expect("its kind"));
            if kind.is_dir() {
                dirs.push(path);
                continue;
            }
            files += 1;
            let before = tree.join(path.strip_prefix(dest).expect("below it"));
            undressed += u64::from(dress(&before) != dress(&path));
        }
    }
    println!(
        "compared      {files} files: {} differ by `diff -r`, {undressed} in mode or time; not there: {} (no files, or held)",
        wrong.len(),
        absent.len()
    );
    wrong.iter().chain(&absent).take(10).for_each(|line| println!("              {line}"));
    wrong.is_empty() && undressed == 0
}

/// Permissions and time of a file.
fn dress(path: &Path) -> Option<(u32, SystemTime)> {
    use std::os::unix::fs::PermissionsExt as _;
    let found = path.symlink_metadata().ok()?;
    Some((found.permissions().mode() & 0o777, found.modified().ok()?))
}

fn program(scratch: &Path, sandbox: &Sandbox) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dstor-sync"));
    command
        .env_remove("DSTOR_SYNC_CONFIG")
        .env("XDG_CONFIG_HOME", scratch.join("config"))
        .env("DSTOR_SYNC_STATE_DIR", scratch.join("state"))
        .env("DSTOR_URL", sandbox.url())
        .env("DSTOR_API_KEY", sandbox.api_key());
    command
}

fn pass(scratch: &Path, sandbox: &Sandbox) -> Run {
    run(program(scratch, sandbox).args(["--quiet", "sync"]))
}

fn run(command: &mut Command) -> Run {
    let begun = Instant::now();
    let mut child = command.stdout(Stdio::piped()).spawn().expect("started");
    let mut peak_kib = 0;
    tokio::task::block_in_place(|| {
        while child.try_wait().expect("waited").is_none() {
            peak_kib = peak_kib.max(peak_memory_kib(child.id()).unwrap_or(0));
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    let took = begun.elapsed();
    let output = child.wait_with_output().expect("ended");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    Run { took, peak_kib, last_line: said.lines().last().unwrap_or_default().to_owned() }
}

/// The most memory that the process ever had, as the kernel counts it.
fn peak_memory_kib(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.trim().trim_end_matches(" kB").parse().ok()
}

fn regular_files(dir: &Path) -> u64 {
    std::fs::read_dir(dir)
        .expect("read")
        .flatten()
        .map(|entry| match entry.file_type().expect("its kind") {
            kind if kind.is_dir() => regular_files(&entry.path()),
            kind => u64::from(kind.is_file()),
        })
        .sum()
}
