//! Writing the config and the secrets: a file is there whole and for its owner alone, or it is not there.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// What may become of a file that is there already.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Older {
    /// Nothing: it is an error.
    Stays,
    /// The new one takes its place.
    Goes,
    /// The new one takes its place, and it is kept under its name with `.old` at the end.
    IsKept,
}

/// Blocking: writes a file with mode 0600. Until all of it is on the disk it has another name, so that whoever is killed in
/// the middle leaves none, and no half of one.
///
/// # Errors
/// As the file system says: [`io::ErrorKind::AlreadyExists`] if there is one that stays.
pub(super) fn keep(path: &Path, text: &str, older: Older) -> io::Result<()> {
    let new = beside(path, ".new");
    // From one that was killed.
    remove_if_there(&new)?;
    let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&new)?;
    let put = || -> io::Result<()> {
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        match older {
            Older::Stays => {
                // Unlike a rename, a link never takes another file's place.
                fs::hard_link(&new, path)?;
                fs::remove_file(&new)?;
            }
            Older::Goes => fs::rename(&new, path)?,
            Older::IsKept => {
                let old = beside(path, ".old");
                remove_if_there(&old)?;
                match fs::hard_link(path, &old) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => fs::rename(&new, path)?,
                }
            }
        }
        File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
    };
    let done = { put }();
    if done.is_err() {
        // The first error is the one to tell.
        let _ = remove_if_there(&new);
    }
    done
}

/// Blocking: removes a file, and what a killed [`keep`] may have left of it. `false`: there was none.
pub(super) fn forget(path: &Path) -> io::Result<bool> {
    let half = remove_if_there(&beside(path, ".new"))?;
    Ok(remove_if_there(path)? || half)
}

/// Blocking: makes a directory, and those above it that are not there, for their owner alone.
pub(super) fn private_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Blocking: closes a directory of ours to everyone else.
pub(super) fn close(path: &Path) -> io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(0o700))
}

/// The path with something more at its end.
pub(super) fn beside(path: &Path, more: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(more);
    name.into()
}

/// `false`: there was none.
fn remove_if_there(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("read");
        let mut names: Vec<String> =
            entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("text")).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_that_is_there_stays_gives_way_or_is_kept_as_it_was_said() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("f");
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).expect("read");
        keep(&path, "one", Older::Stays).expect("there is none");
        let again = keep(&path, "two", Older::Stays).expect_err("there is one");
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!((read("f"), names(folder.path())), ("one".into(), vec!["f".into()]));
        keep(&path, "two", Older::Goes).expect("replaced");
        assert_eq!((read("f"), names(folder.path())), ("two".into(), vec!["f".into()]));
        keep(&path, "three", Older::IsKept).expect("replaced");
        keep(&path, "four", Older::IsKept).expect("replaced");
        assert_eq!((read("f"), read("f.old")), ("four".into(), "three".into()));
        keep(&folder.path().join("g"), "five", Older::IsKept).expect("there is none");
        assert_eq!(names(folder.path()), ["f", "f.old", "g"]);
    }

    #[test]
    fn what_a_killed_one_left_is_replaced_and_nothing_is_open_to_others() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("d/e/f");
        private_directory(path.parent().expect("it has one")).expect("made");
        fs::write(beside(&path, ".new"), "half").expect("written");
        fs::set_permissions(beside(&path, ".new"), Permissions::from_mode(0o666)).expect("ours");
        keep(&path, "whole", Older::Stays).expect("there is none");
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o7777;
        assert_eq!((fs::read_to_string(&path).expect("read").as_str(), mode(&path)), ("whole", 0o600));
        assert_eq!([mode(&folder.path().join("d")), mode(&folder.path().join("d/e"))], [0o700, 0o700]);
        fs::write(beside(&path, ".new"), "half").expect("written");
        assert!(forget(&path).expect("removed") && !forget(&path).expect("it is not there"));
        assert!(names(path.parent().expect("it has one")).is_empty());
    }

    #[test]
    fn what_cannot_be_put_in_place_leaves_nothing_behind() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("f");
        fs::create_dir_all(path.join("full")).expect("made");
        assert!(keep(&path, "one", Older::Goes).is_err());
        assert_eq!(names(folder.path()), ["f"]);
    }
}
