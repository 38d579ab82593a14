//! What systemd knows of the agent, as far as its files tell. Nobody is asked.

use std::path::{Path, PathBuf};

use super::Check;
use crate::config::Environment;
use crate::wording::shown;

const NAME: &str = "service";
/// A service of one user.
const OF_A_USER: &str = "dstor-sync.service";
/// A service of the system, for a user whose name comes in at the end.
const OF_THE_SYSTEM: [&str; 2] = ["dstor-sync@.service", "dstor-sync.service"];

/// Where units are, those that people make first.
struct Places {
    user: Vec<PathBuf>,
    system: Vec<PathBuf>,
}

pub(super) fn look(environment: &Environment, is_alive: bool) -> Check {
    if cfg!(not(target_os = "linux")) {
        return Check::skipped(NAME, "only systemd's are looked at");
    }
    tell(&Places::of(environment), is_alive)
}

impl Places {
    fn of(environment: &Environment) -> Self {
        let set = |name| environment.get(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let below_home = |dir: &str| set("HOME").map(|home| home.join(dir));
        let config = set("XDG_CONFIG_HOME").or_else(|| below_home(".config"));
        let data = set("XDG_DATA_HOME").or_else(|| below_home(".local/share"));
        let own = config.into_iter().chain(data).map(|dir| dir.join("systemd/user"));
        let shared = |kind: &str| {
            ["/etc/systemd", "/usr/local/lib/systemd", "/usr/lib/systemd", "/lib/systemd"]
                .map(|dir| Path::new(dir).join(kind))
        };
        Self { user: own.chain(shared("user")).collect(), system: shared("system").into() }
    }
}

fn tell(places: &Places, is_alive: bool) -> Check {
    let user = find(&places.user, &[OF_A_USER]);
    let system = find(&places.system, &OF_THE_SYSTEM);
    match (user, system) {
        (Some(unit), _) if is_masked(&unit) => {
            let hint = "`systemctl --user unmask dstor-sync.service` takes that back";
            Check::warn(NAME, format!("`{}` is masked: it never starts", shown(&unit)), hint)
        }
        (Some(unit), _) if is_enabled(&places.user, "dstor-sync.") => {
            Check::ok(NAME, format!("`{}` starts it when this user logs in", shown(&unit)))
        }
        (_, Some(unit)) if is_enabled(&places.system, "dstor-sync") => {
            Check::ok(NAME, format!("`{}` starts it with the machine", shown(&unit)))
        }
        (Some(unit), _) => {
            let hint = "`systemctl --user enable --now dstor-sync.service` does";
            Check::warn(NAME, format!("`{}` is there, and nothing starts it by itself", shown(&unit)), hint)
        }
        (None, Some(unit)) => {
            let name = unit.file_name().map(|name| name.to_string_lossy().replace("@.", "@USER.")).unwrap_or_default();
            let what = format!("`{}` is there, and nothing starts it by itself", shown(&unit));
            Check::warn(NAME, what, format!("`systemctl enable --now {name}` does"))
        }
        (None, None) if is_alive => {
            Check::ok(NAME, "none is set up: the agent was started by hand; `dstor-sync service install` sets one up")
        }
        (None, None) => Check::skipped(
            NAME,
            "none is set up: the agent runs while somebody starts it; `dstor-sync service install` sets one up",
        ),
    }
}

fn find(places: &[PathBuf], names: &[&str]) -> Option<PathBuf> {
    let mut all = places.iter().flat_map(|place| names.iter().map(|name| place.join(name)));
    all.find(|path| path.symlink_metadata().is_ok())
}

fn is_masked(unit: &Path) -> bool {
    unit.read_link().is_ok_and(|to| to == Path::new("/dev/null")) || unit.metadata().is_ok_and(|unit| unit.len() == 0)
}

/// Whether a target wants a unit whose name begins so.
fn is_enabled(places: &[PathBuf], begins: &str) -> bool {
    let entries = |dir: &Path| std::fs::read_dir(dir).into_iter().flatten().flatten();
    places
        .iter()
        .flat_map(|place| entries(place))
        .filter(|entry| entry.file_name().as_encoded_bytes().ends_with(b".wants"))
        .flat_map(|wants| entries(&wants.path()))
        .any(|unit| unit.file_name().as_encoded_bytes().starts_with(begins.as_bytes()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_service_is_told_of_by_whether_something_starts_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let (user, system) = (dir.path().join("user"), dir.path().join("system"));
        let places = Places { user: vec![dir.path().join("none"), user.clone()], system: vec![system.clone()] };
        let told = |is_alive| {
            let check = tell(&places, is_alive);
            (
                check.word(),
                check.what.replace(&dir.path().display().to_string(), "TOP"),
                check.hint().map(str::to_owned),
            )
        };
        assert_eq!((told(false).0, told(true).0), ("skip", "ok"));

        fs::create_dir_all(system.join("multi-user.target.wants")).expect("made");
        fs::write(system.join("dstor-sync@.service"), "[Unit]").expect("written");
        let hint = Some("`systemctl enable --now dstor-sync@USER.service` does".to_owned());
        let what = "`TOP/system/dstor-sync@.service` is there, and nothing starts it by itself".to_owned();
        assert_eq!(told(true), ("warn", what, hint));
        symlink("../dstor-sync@.service", system.join("multi-user.target.wants/dstor-sync@me.service"))
            .expect("linked");
        assert_eq!(told(true).1, "`TOP/system/dstor-sync@.service` starts it with the machine");

        fs::remove_dir_all(&system).expect("removed");
        fs::create_dir_all(user.join("default.target.wants")).expect("made");
        fs::write(user.join("dstor-sync.service"), "[Unit]").expect("written");
        assert_eq!(told(true).0, "warn");
        symlink("../dstor-sync.service", user.join("default.target.wants/dstor-sync.service")).expect("linked");
        assert_eq!(told(true).1, "`TOP/user/dstor-sync.service` starts it when this user logs in");
        fs::remove_file(user.join("dstor-sync.service")).expect("removed");
        symlink("/dev/null", user.join("dstor-sync.service")).expect("linked");
        assert_eq!(told(true).1, "`TOP/user/dstor-sync.service` is masked: it never starts");
    }
}
