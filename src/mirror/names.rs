//! How the names of files and directories travel: as they are, or as pseudonyms that say nothing of them.

use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::{MirrorPath, Placement, Unplaceable};

/// Of the key's 256 bits a pseudonym shows so many hexadecimal digits: 128 bits, which no two paths ever share.
const DIGITS: usize = 32;

/// How names travel, in one mirror.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Names {
    /// As they are.
    #[default]
    Plain,
    /// As pseudonyms, made with a key that no other mirror has: see [`NameKey::of_mirror`].
    Hidden(NameKey),
}

/// What pseudonyms are made with. Who does not have it can neither tell a name from a pseudonym nor try names out.
#[derive(Clone, PartialEq, Eq)]
pub struct NameKey([u8; 32]);

impl NameKey {
    /// A key of these bytes, which nobody else may know or guess.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes, to be kept where nobody else reads them.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// How names travel that are hidden, in the mirror of this directory: the same path in two mirrors has two pseudonyms.
    #[must_use]
    pub fn of_mirror(&self, dir: &Path) -> Names {
        Names::Hidden(Self(blake3::keyed_hash(&self.0, dir.as_os_str().as_bytes()).into()))
    }

    /// The path in whose place each name is a pseudonym. It comes of the whole path up to that name: the same name in two
    /// directories has two pseudonyms, so that nobody sees which names come often.
    #[must_use]
    fn pseudonym(&self, path: &MirrorPath) -> MirrorPath {
        path.lineage().fold(MirrorPath::top(), |above, part| {
            let digits = blake3::keyed_hash(&self.0, part.as_bytes()).to_hex();
            above.join(&digits.as_bytes()[..DIGITS]).expect("digits are a plain name")
        })
    }
}

/// Never its bytes.
impl fmt::Debug for NameKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NameKey(…)")
    }
}

impl Names {
    /// Whether they travel as they are.
    #[must_use]
    pub fn are_plain(&self) -> bool {
        matches!(self, Self::Plain)
    }

    /// The path with the names by which it travels.
    #[must_use]
    pub fn travelling(&self, path: &MirrorPath) -> MirrorPath {
        match self {
            Self::Plain => path.clone(),
            Self::Hidden(key) => key.pseudonym(path),
        }
    }

    /// Name and directory on dStor of the file at `path`, in a mirror placed at `top`.
    ///
    /// # Errors
    /// [`Unplaceable`] says why it has none.
    pub fn place(&self, top: &Placement, path: &MirrorPath) -> Result<(String, Placement), Unplaceable> {
        let path = self.travelling(path);
        let (dir, name) = path.split().unwrap_or((MirrorPath::top(), b""));
        let name = std::str::from_utf8(name).map_err(|_| Unplaceable::NotUtf8)?;
        Ok((name.to_owned(), top.of_directory(&dir)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mirror::RemoteDir;

    fn path(bytes: &[u8]) -> MirrorPath {
        MirrorPath::from_bytes(bytes).expect("a plain path")
    }

    fn hidden(key: u8) -> Names {
        Names::Hidden(NameKey::new([key; 32]))
    }

    fn placed(names: &Names, at: &[u8]) -> (String, String) {
        let docs = Placement::Path(RemoteDir::parse("Docs").expect("a path"));
        let (name, dir) = names.place(&docs, &path(at)).expect("a place");
        (name, dir.to_string())
    }

    #[test]
    fn a_plain_name_travels_as_it_is_if_it_is_text() {
        assert_eq!(placed(&Names::Plain, b"a/b/c.txt"), ("c.txt".into(), "Docs/a/b".into()));
        let docs = Placement::Path(RemoteDir::parse("Docs").expect("a path"));
        for odd in [&b"a/\xff"[..], b"\xff/a"] {
            assert_eq!(Names::Plain.place(&docs, &path(odd)), Err(Unplaceable::NotUtf8));
        }
        assert_eq!(Names::Plain.place(&Placement::Id(3), &path(b"a")), Ok(("a".into(), Placement::Id(3))));
    }

    #[test]
    fn a_hidden_name_is_the_same_each_time_and_another_for_each_path_and_key() {
        let (name, dir) = placed(&hidden(1), b"a/b/c.txt");
        assert_eq!((name.clone(), dir.clone()), placed(&hidden(1), b"a/b/c.txt"));
        assert_eq!(name.len(), DIGITS);
        let parts: Vec<&str> = dir.split('/').collect();
        assert_eq!((parts[0], parts.len()), ("Docs", 3));
        assert_eq!(placed(&hidden(1), b"a/b/d.txt").1, dir, "files of one directory stay together");
        assert_ne!(placed(&hidden(1), b"a/c.txt").0, name, "the same name in another directory");
        assert_ne!(placed(&hidden(2), b"a/b/c.txt").0, name, "another key");
        let [one, two] = ["/a", "/b"].map(|dir| NameKey::new([1; 32]).of_mirror(Path::new(dir)));
        assert_ne!(placed(&one, b"a/b/c.txt").0, placed(&two, b"a/b/c.txt").0, "another mirror");
        assert!(format!("{:?}", hidden(7)).ends_with("(NameKey(…))"), "{:?}", hidden(7));
    }

    #[test]
    fn bytes_that_are_no_text_have_a_pseudonym_and_a_number_has_no_directories_all_the_same() {
        assert_eq!(placed(&hidden(1), b"\xff").0.len(), DIGITS);
        assert_eq!(hidden(1).place(&Placement::Id(3), &path(b"a/\xff")), Err(Unplaceable::BelowId));
    }
}
