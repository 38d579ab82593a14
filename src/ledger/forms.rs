//! The forms that a ledger had: how an earlier one is brought to this one, and how one is read that is not.

use rusqlite::Connection;
use rusqlite_migration::M;

/// What brings a ledger from one form to the next, from none on.
pub(super) const MIGRATIONS: &[M<'static>] = &[
    M::up(include_str!("../../migrations/0001_ledger.sql")),
    M::up(include_str!("../../migrations/0002_readings.sql")),
    M::up(include_str!("../../migrations/0003_stragglers.sql")),
    M::up(include_str!("../../migrations/0004_steering.sql")),
    M::up(include_str!("../../migrations/0005_breaks.sql")),
    M::up(include_str!("../../migrations/0006_latest.sql")),
    M::up(include_str!("../../migrations/0007_manifests.sql")),
    M::up(include_str!("../../migrations/0008_sealed.sql")),
    M::up(include_str!("../../migrations/0009_history.sql")),
    M::up(include_str!("../../migrations/0010_guard.sql")),
    M::up(include_str!("../../migrations/0011_names.sql")),
    M::up(include_str!("../../migrations/0012_counts.sql")),
    M::up(include_str!("../../migrations/0013_totals.sql")),
];

/// What a ledger of an earlier form lacks, for those who only look: what each form after the first has more, empty, on
/// this connection alone. They may meet a ledger whose agent is older than they are (F10).
const FOR_EARLIER_FORMS: [&str; 12] = [
    "CREATE TEMP TABLE readings (directory_id INTEGER, name BLOB, read_at INTEGER, found INTEGER)",
    // Nobody who only looks asks for stragglers.
    "",
    "CREATE TEMP TABLE steering AS SELECT 1 AS id, NULL AS paused_until, 0 AS scans_asked, 0 AS retries_asked",
    // Nobody who only looks asks for breaks.
    "",
    "CREATE TEMP TABLE latest (mirror_id INTEGER, stored_at INTEGER)",
    "CREATE TEMP TABLE manifests (mirror_id INTEGER, hash TEXT, blake3 BLOB, files INTEGER, bytes INTEGER, published_at INTEGER)",
    "CREATE TEMP TABLE sealing (id INTEGER, recipients TEXT);
     CREATE TEMP TABLE sealed_manifests (mirror_id INTEGER, hash TEXT, recipients TEXT, root BLOB)",
    "CREATE TEMP TABLE history (directory_id INTEGER, name BLOB, at INTEGER, blake3 BLOB, sealed_blake3 BLOB, sealed_size INTEGER,
       hash TEXT, proof TEXT, size INTEGER, mtime_s INTEGER, mtime_ns INTEGER, mode INTEGER, stored_at INTEGER, pseudonym INTEGER);
     CREATE TEMP TABLE unrecorded AS SELECT 0 AS since, 0x7fffffffffffffff AS until",
    "CREATE TEMP TABLE allowances (mirror_id INTEGER, patterns TEXT)",
    "CREATE TEMP TABLE name_keys (id INTEGER, key BLOB, active INTEGER)",
    // Nobody who only looks counts.
    "",
    // What is looked at has the name that the table had.
    "",
];

/// A table that has columns since a later form than that in which it began.
struct Grown {
    table: &'static str,
    began: usize,
    /// In which form, and what stands for the columns before it.
    later: &'static [(usize, &'static str)],
}

const GROWN: [Grown; 2] = [
    Grown {
        table: "files",
        began: 1,
        later: &[(8, "NULL AS sealed_blake3, NULL AS sealed_size"), (11, "NULL AS pseudonym")],
    },
    Grown { table: "history", began: 9, later: &[(11, "NULL AS pseudonym")] },
];

/// Has a connection that only looks at a ledger of this form find what later forms have, empty.
pub(super) fn stand_in_for_later(db: &Connection, form: usize) -> rusqlite::Result<()> {
    FOR_EARLIER_FORMS.iter().skip(form - 1).try_for_each(|lacking| db.execute_batch(lacking))?;
    for Grown { table, began, later } in GROWN {
        let lacking: Vec<&str> = later.iter().filter(|(since, _)| form < *since).map(|(_, what)| *what).collect();
        if form >= began && !lacking.is_empty() {
            // In its table's place: who writes brings the ledger to this form first.
            let lacking = lacking.join(", ");
            db.execute_batch(&format!("CREATE TEMP VIEW {table} AS SELECT *, {lacking} FROM main.{table}"))?;
        }
    }
    Ok(())
}
