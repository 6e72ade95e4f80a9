//! What was deleted and replaced in the last hour, which the brakes judge together with what comes.
//!
//! By path, since the same file may be replaced many times; of either side by itself. What led to a halt
//! counts until somebody answers, however long that takes.

use super::State;
use raspbox_core::guard::{LATELY, Recent};
use raspbox_protocol::{Mtime, RelPath};
use rusqlite::params;

pub(super) const TABLE: &str = "CREATE TABLE IF NOT EXISTS lately (
    there INTEGER NOT NULL, what INTEGER NOT NULL, path TEXT NOT NULL, at INTEGER NOT NULL,
    PRIMARY KEY (there, what, path)) WITHOUT ROWID";

/// In place of a time.
const UNTIL_ANSWERED: i64 = i64::MAX;

const DELETED: i64 = 0;
const LOST: i64 = 1;
const CHANGED: i64 = 2;

impl State {
    /// What was deleted and replaced in the time before `now` that still counts for the brakes.
    pub fn lately(&self, now: Mtime) -> rusqlite::Result<Recent> {
        let mut recent = Recent::default();
        let mut rows = self.db.prepare_cached(
            "SELECT there, what, path FROM lately WHERE at BETWEEN ?1 - ?2 AND ?1 + ?2 OR at = ?3",
        )?;
        let mut rows = rows.query([now.0, lately_ns(), UNTIL_ANSWERED])?;
        while let Some(row) = rows.next()? {
            let side = match row.get::<_, bool>(0)? {
                true => &mut recent.remote,
                false => &mut recent.local,
            };
            let what = match row.get(1)? {
                DELETED => &mut side.deleted,
                LOST => &mut side.lost,
                _ => &mut side.changed,
            };
            what.extend(RelPath::parse(&row.get::<_, String>(2)?).ok());
        }
        Ok(recent)
    }

    /// Remembers what is deleted and replaced now, and forgets what doesn't count any more: what is past,
    /// and what a clock that was ahead has called later. What waited for an answer counts as if it had been
    /// just now: nothing is asked any more.
    pub fn note_lately(&mut self, recent: &Recent, now: Mtime) -> rusqlite::Result<()> {
        let tx = self.db.transaction()?;
        let waited = "UPDATE lately SET at = ? WHERE at = ?";
        tx.execute(waited, [now.0, UNTIL_ANSWERED])?;
        let old = "DELETE FROM lately WHERE at NOT BETWEEN ?1 - ?2 AND ?1 + ?2";
        tx.execute(old, [now.0, lately_ns()])?;
        for (there, side) in [(false, &recent.local), (true, &recent.remote)] {
            let deleted = side.deleted.iter().map(|path| (DELETED, path));
            let lost = side.lost.iter().map(|path| (LOST, path));
            let changed = side.changed.iter().map(|path| (CHANGED, path));
            for (what, path) in deleted.chain(lost).chain(changed) {
                tx.prepare_cached("INSERT OR REPLACE INTO lately VALUES (?, ?, ?, ?)")?
                    .execute(params![there, what, path.as_str(), now.0])?;
            }
        }
        tx.commit()
    }

    /// What counts now shall count until somebody has answered, however long that takes.
    pub fn keep_lately(&mut self, now: Mtime) -> rusqlite::Result<()> {
        let keep = "UPDATE lately SET at = ?3 WHERE at BETWEEN ?1 - ?2 AND ?1 + ?2";
        // A round that finds nothing to ask about any more is an answer; one that finds a seal finds nothing.
        self.write(|w| w.tx.execute(keep, [now.0, lately_ns(), UNTIL_ANSWERED]))?;
        Ok(())
    }

    /// Somebody has looked at what was deleted.
    pub fn forget_lately_deleted(&mut self) -> rusqlite::Result<()> {
        let forget = "DELETE FROM lately WHERE what IN (?, ?)";
        self.db.execute(forget, [DELETED, LOST])?;
        Ok(())
    }

    /// Somebody has looked at what was replaced.
    pub fn forget_lately_changed(&mut self) -> rusqlite::Result<()> {
        self.db
            .execute("DELETE FROM lately WHERE what = ?", [CHANGED])?;
        Ok(())
    }
}

/// How long something counts for the brakes, in nanoseconds.
fn lately_ns() -> i64 {
    i64::try_from(LATELY.as_nanos()).unwrap_or(i64::MAX)
}
