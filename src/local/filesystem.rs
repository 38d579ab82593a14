//! What kind of file system a directory is on, where that matters.

use std::path::Path;

/// File systems on which SQLite's write-ahead log does not hold, because it needs memory that all who read share (D12),
/// with their names for people. From linux/magic.h.
#[cfg(target_os = "linux")]
const NO_HOME_FOR_A_LEDGER: [(u32, &str); 7] = [
    (0x6969, "NFS"),
    (0x517b, "SMB"),
    (0xff53_4d42, "SMB"),
    (0xfe53_4d42, "SMB"),
    (0x5346_414f, "AFS"),
    // No owner and no mode: nothing there could be kept from others.
    (0x4d44, "FAT"),
    (0x2011_bab0, "exFAT"),
];

/// Blocking: the name of the file system at `path`, if a ledger cannot live on it. Where nobody can tell, it may.
#[must_use]
pub fn unfit_for_a_ledger(path: &Path) -> Option<&'static str> {
    #[cfg(target_os = "linux")]
    {
        let found = rustix::fs::statfs(path).ok()?;
        unfit(u32::try_from(found.f_type as u64 & 0xffff_ffff).ok()?)
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = path;
        None
    }
}

#[cfg(target_os = "linux")]
fn unfit(kind: u32) -> Option<&'static str> {
    NO_HOME_FOR_A_LEDGER.iter().find(|(number, _)| *number == kind).map(|(_, name)| *name)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    // D12
    #[test]
    fn shares_and_card_file_systems_are_no_home_for_a_ledger_and_disks_are() {
        for (kind, name) in [(0x6969, Some("NFS")), (0xfe53_4d42, Some("SMB")), (0x4d44, Some("FAT"))] {
            assert_eq!(unfit(kind), name);
        }
        // ext4, Btrfs, XFS, tmpfs, overlayfs, ZFS; FUSE and 9P, which may be a machine's own disk.
        for kind in [0xef53, 0x9123_683e, 0x5846_5342, 0x0102_1994, 0x794c_7630, 0x2fc1_2fc1, 0x6573_5546, 0x0102_1997]
        {
            assert_eq!(unfit(kind), None, "{kind:x}");
        }
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(unfit_for_a_ledger(dir.path()), None);
        assert_eq!(unfit_for_a_ledger(Path::new("/nowhere/at/all")), None);
    }
}
