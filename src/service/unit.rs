//! The files that make the agent a service, and whether one that is there is ours to replace.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// The units as they are packaged.
const SYSTEM: &str = include_str!("../../packaging/systemd/dstor-sync@.service");
const USER: &str = include_str!("../../packaging/systemd/dstor-sync.service");
const AGENT: &str = include_str!("../../packaging/launchd/cloud.dstor.sync.plist");
/// What the packaged units run.
const EXEC: &str = "ExecStart=/usr/bin/dstor-sync run";
const PROGRAM: &str = "    <string>/usr/local/bin/dstor-sync</string>\n    <string>run</string>";

/// Before the digest of all that follows the line.
const MARK: &str = "dstor-sync wrote this file; digest of the rest: ";

/// Which service.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// systemd, for one user of the machine, named where it is started.
    System,
    /// systemd, of a user's own.
    User,
    /// launchd, of a user's own.
    Launchd,
}

/// What is at a unit's path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// Exactly what would be written.
    Same,
    /// What an install wrote, unchanged since.
    Ours,
    /// Somebody else's, or ours and edited.
    Foreign,
}

/// The file that runs `program` with `arguments`.
///
/// # Errors
/// If one of them cannot be written in such a file.
pub(super) fn text(kind: Kind, program: &Path, arguments: &[String]) -> io::Result<String> {
    let program = program.to_str().ok_or_else(|| io::Error::other("its path is not text in UTF-8"))?;
    let words = || std::iter::once(program).chain(arguments.iter().map(String::as_str)).chain(["run"]);
    if words().any(|word| word.chars().any(char::is_control)) {
        return Err(io::Error::other("a path in it holds control characters"));
    }
    let systemd = |unit: &str| {
        let line: Vec<String> = words().map(quoted).collect();
        unit.replace(EXEC, &format!("ExecStart={}", line.join(" ")))
    };
    Ok(match kind {
        Kind::System => marked("# ", "", &systemd(SYSTEM)),
        Kind::User => marked("# ", "", &systemd(USER)),
        Kind::Launchd => {
            let line: Vec<String> = words().map(|word| format!("    <string>{}</string>", escaped(word))).collect();
            let plist = AGENT.replace(PROGRAM, &line.join("\n"));
            // A declaration has to be the first line of all.
            let (declaration, rest) = plist.split_once('\n').unwrap_or(("", &plist));
            format!("{declaration}\n{}", marked("<!-- ", " -->", rest))
        }
    })
}

fn marked(before: &str, after: &str, rest: &str) -> String {
    format!("{before}{MARK}{}{after}\n{rest}", blake3::hash(rest.as_bytes()))
}

/// A word of a command line in a unit: nothing in it is a specifier, a variable or a quote.
fn quoted(word: &str) -> String {
    let plain = word.replace('%', "%%").replace('$', "$$");
    let is_simple = |c: char| c.is_ascii_alphanumeric() || "/._-%$+=:@,".contains(c);
    if plain.chars().all(is_simple) {
        return plain;
    }
    format!("\"{}\"", plain.replace('\\', "\\\\").replace('"', "\\\""))
}

fn escaped(word: &str) -> String {
    word.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Blocking: what is at `path`, where `wanted` is to be.
///
/// # Errors
/// If it cannot be read.
pub(super) fn find(path: &Path, wanted: &str) -> io::Result<Found> {
    let found = match fs::read(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) => return Err(error),
    };
    if found == wanted.as_bytes() {
        return Ok(Found::Same);
    }
    Ok(if is_ours(&found) { Found::Ours } else { Found::Foreign })
}

/// Whether this is as an install wrote it, to the byte.
fn is_ours(found: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(found) else { return false };
    let Some((_, after)) = text.split_once(MARK) else { return false };
    let Some((line, rest)) = after.split_once('\n') else { return false };
    let digest = line.strip_suffix(" -->").unwrap_or(line);
    digest == blake3::hash(rest.as_bytes()).to_string()
}

/// Blocking: writes `text` to `path`, whole or not at all, and makes the directories above it.
///
/// # Errors
/// As the file system says.
pub(super) fn write(path: &Path, text: &str) -> io::Result<()> {
    let directory = path.parent().ok_or_else(|| io::Error::other("it has no directory"))?;
    fs::create_dir_all(directory)?;
    let new = PathBuf::from(format!("{}.new", path.display()));
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = fs::OpenOptions::new().create_new(true).write(true).mode(0o644).open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    fs::File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(kind: Kind, program: &str, arguments: &[&str]) -> String {
        let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        text(kind, Path::new(program), &arguments).expect("it can be written")
    }

    #[test]
    fn a_unit_runs_this_program_and_no_word_of_its_path_means_anything_else() {
        for kind in [Kind::System, Kind::User] {
            let plain = unit(kind, "/opt/d/dstor-sync", &[]);
            assert!(plain.contains("\nExecStart=/opt/d/dstor-sync run\n") && !plain.contains("/usr/bin/dstor-sync"));
            let odd = unit(kind, "/opt/a b/100%/$x\"\\/dstor-sync", &["--config", "/c d"]);
            assert!(
                odd.contains("\nExecStart=\"/opt/a b/100%%/$$x\\\"\\\\/dstor-sync\" --config \"/c d\" run\n"),
                "{odd}"
            );
        }
        let plist = unit(Kind::Launchd, "/opt/<&>/dstor-sync", &[]);
        assert!(
            plist.starts_with("<?xml")
                && plist.contains("<string>/opt/&lt;&amp;&gt;/dstor-sync</string>\n    <string>run</string>")
        );
        assert!(text(Kind::User, Path::new("/a\nExecStart=/evil"), &[]).is_err());
    }

    #[test]
    fn only_what_was_written_here_and_not_edited_since_is_ours() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("deep/down/unit");
        for kind in [Kind::System, Kind::User, Kind::Launchd] {
            let (older, newer) = (unit(kind, "/old/dstor-sync", &[]), unit(kind, "/new/dstor-sync", &[]));
            assert_eq!(find(&path, &newer).expect("looked"), Found::Nothing);
            write(&path, &older).expect("written");
            assert_eq!(find(&path, &older).expect("looked"), Found::Same);
            assert_eq!(find(&path, &newer).expect("looked"), Found::Ours);
            write(&path, &older.replace("3min", "9min").replace("30", "31")).expect("written");
            assert_eq!(find(&path, &newer).expect("looked"), Found::Foreign, "edited");
            write(&path, "[Service]\nExecStart=/usr/bin/other\n").expect("written");
            assert_eq!(find(&path, &newer).expect("looked"), Found::Foreign);
            fs::remove_file(&path).expect("removed");
        }
    }

    // F12: what a restart cannot mend is not restarted, and nothing is restarted for ever.
    #[test]
    fn a_service_is_not_restarted_for_what_a_person_has_to_mend_nor_without_end() {
        for kind in [Kind::System, Kind::User] {
            let unit = unit(kind, "/d", &[]);
            for line in [
                "Type=notify",
                "Restart=on-failure",
                "RestartPreventExitStatus=2 78",
                "StartLimitIntervalSec=10min",
                "StartLimitBurst=5",
                "WatchdogSec=3min",
                "TimeoutStopSec=90s",
                "ExecReload=/bin/kill -HUP $MAINPID",
                "LimitCORE=0",
                "UMask=0077",
            ] {
                assert!(unit.lines().any(|found| found == line), "{kind:?} lacks {line}");
            }
            assert!(!unit.contains("network-online"), "{kind:?}");
        }
    }
}
