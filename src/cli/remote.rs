//! Where on dStor a file lies: what a person would look for in its dashboard.

use crate::ledger::{Ledger, LedgerError, MirrorRow};
use crate::mirror::{MirrorPath, NameKey, Placement};

/// Where files lie on dStor.
pub(super) struct Whereabouts {
    /// What hides the names of those that are hidden; `None`: there never was one.
    key: Option<NameKey>,
}

/// Directory and name on dStor; `None` for what it can have none of. The directory is `#` and a number where it has only that.
#[derive(Default)]
pub(super) struct Remote {
    pub(super) dir: Option<String>,
    pub(super) name: Option<String>,
}

impl Whereabouts {
    pub(super) fn new(ledger: &Ledger) -> Result<Self, LedgerError> {
        Ok(Self { key: ledger.name_key()? })
    }

    /// The path with the names by which it travelled.
    pub(super) fn travelled(&self, mirror: &MirrorRow, path: &MirrorPath, is_name_hidden: bool) -> MirrorPath {
        match &self.key {
            Some(key) if is_name_hidden => key.of_mirror(&mirror.settings.path).travelling(path),
            _ => path.clone(),
        }
    }

    /// Where the file at `path` lies, by what the ledger has of it; with `None`, where it would be sent to now.
    pub(super) fn of(&self, mirror: &MirrorRow, path: &MirrorPath, is_name_hidden: Option<bool>) -> Remote {
        let policy = &mirror.settings.policy;
        let path = match is_name_hidden {
            None => policy.names.travelling(path),
            Some(is_name_hidden) => self.travelled(mirror, path, is_name_hidden),
        };
        let Some((parent, name)) = path.split() else { return Remote::default() };
        let (Ok(place), Ok(name)) = (policy.placement.of_directory(&parent), std::str::from_utf8(name)) else {
            return Remote::default();
        };
        let dir = match place {
            Placement::Id(id) => format!("#{id}"),
            Placement::Path(dir) => dir.as_str().to_owned(),
        };
        Remote { dir: Some(dir), name: Some(name.to_owned()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::MirrorSettings;
    use crate::mirror::{NameKey, Policy, RemoteDir};

    #[test]
    fn each_file_is_where_it_went_by_the_names_of_then() {
        let ledger = Ledger::in_memory().expect("a ledger");
        let remote = Placement::Path(RemoteDir::parse("Photos").expect("a path"));
        let by_number = Policy::new(Placement::Id(7));
        let settings = |policy| MirrorSettings {
            service: "https://dstor.test/".into(),
            path: "/home/ann/photos".into(),
            policy,
            exclude: Vec::new(),
            hidden: true,
        };
        ledger.activate_mirrors(&[settings(Policy::new(remote)), settings(by_number)]).expect("mirrors");
        let told = |mirror: usize, path: &[u8], is_hidden| {
            let mirror = &ledger.active_mirrors().expect("mirrors")[mirror];
            let path = MirrorPath::from_bytes(path).expect("a path");
            let Remote { dir, name } = Whereabouts::new(&ledger).expect("a ledger").of(mirror, &path, is_hidden);
            (dir, name)
        };
        let both = |dir: &str, name: &str| (Some(dir.to_owned()), Some(name.to_owned()));
        assert_eq!(told(0, b"2024/a", None), both("Photos/2024", "a"));
        assert_eq!(told(0, b"\xff/a", None), (None, None));
        assert_eq!(told(0, b"\xff", None), (None, None));
        assert_eq!(told(1, b"a", None), both("#7", "a"));
        assert_eq!(told(1, b"2024/a", None), (None, None));

        ledger.set_names_hidden(true, || NameKey::new([1; 32])).expect("set");
        let hidden = told(0, b"2024/a", Some(true));
        assert_ne!(hidden, both("Photos/2024", "a"));
        assert_eq!(told(0, b"2024/a", None), hidden, "where it would go now");
        assert_eq!(told(0, b"2024/a", Some(false)), both("Photos/2024", "a"), "where it went before");
        ledger.set_names_hidden(false, || unreachable!()).expect("set");
        assert_eq!(told(0, b"2024/a", Some(true)), hidden, "where it went before");
        assert_eq!(told(0, b"2024/a", None), both("Photos/2024", "a"));
        ledger.set_names_hidden(true, || unreachable!("there is a key")).expect("set");
        assert_eq!(told(0, b"2024/a", None), hidden, "the same as before");
    }
}
