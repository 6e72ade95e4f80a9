//! The chunks of large contents that both sides have, or are about to have.

use super::{State, Writer};
use crate::chunks::Chunks;
use raspbox_protocol::Digest;
use rusqlite::{OptionalExtension, params};

pub(super) const TABLE: &str =
    "CREATE TABLE IF NOT EXISTS chunks (digest BLOB PRIMARY KEY, list BLOB NOT NULL)";

impl State {
    /// The chunks of a content, where they are known.
    pub fn chunks(&self, digest: &Digest) -> rusqlite::Result<Option<Chunks>> {
        let list: Option<Vec<u8>> = self
            .db
            .prepare_cached("SELECT list FROM chunks WHERE digest = ?1")?
            .query_row([digest.as_bytes()], |row| row.get(0))
            .optional()?;
        // What isn't understood is as good as not known.
        Ok(list.and_then(|list| Chunks::from_bytes(&list).ok()))
    }
}

impl Writer<'_> {
    /// Remembers the chunks of these contents, and forgets those of others that neither stand here nor are what both
    /// sides had.
    pub fn set_chunks(&self, all: &[(&Digest, &Chunks)]) -> rusqlite::Result<()> {
        if all.is_empty() {
            return Ok(());
        }
        // The hashes of what stands here have no index: that is only asked of what both sides don't have.
        self.tx.execute_batch(
            "DELETE FROM chunks WHERE CASE
                 WHEN EXISTS (SELECT 1 FROM baseline WHERE baseline.digest = chunks.digest) THEN 0
                 ELSE NOT EXISTS (SELECT 1 FROM print WHERE print.digest = chunks.digest) END",
        )?;
        let mut statement = self
            .tx
            .prepare_cached("INSERT OR REPLACE INTO chunks VALUES (?1, ?2)")?;
        for (digest, chunks) in all {
            statement.execute(params![digest.as_bytes(), chunks.to_bytes()])?;
        }
        Ok(())
    }

    /// Forgets the chunks of a content: nothing is to be built on it.
    pub fn forget_chunks(&self, digest: &Digest) -> rusqlite::Result<()> {
        self.tx
            .prepare_cached("DELETE FROM chunks WHERE digest = ?1")?
            .execute([digest.as_bytes()])?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::chunks::{Chunks, Cutter};
    use crate::state::{Hashed, Print, State};
    use raspbox_protocol::{Digest, Entry, File, Mtime, RelPath};

    fn chunks(content: &[u8]) -> Chunks {
        let mut cutter = Cutter::default();
        cutter.update(content);
        cutter.finish()
    }

    #[test]
    fn chunks_are_remembered_for_as_long_as_their_content_is_here_or_on_both_sides() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut state = State::open(&dir.path().join("sync.db")).expect("opens");
        let contents: [&[u8]; 4] = [b"on both sides", b"here", b"nowhere", b"new"];
        let [both, here, nowhere, new] = contents.map(Digest::of);
        let path = RelPath::parse("a").expect("good");
        let file = Entry::File(File {
            digest: both,
            size: 13,
            mtime: Mtime(0),
            executable: false,
        });
        let hashed = Hashed {
            print: Print::default(),
            digest: here,
            settled: true,
        };
        let lists = contents.map(chunks);
        let set = |state: &mut State, all: &[(&Digest, &Chunks)]| {
            state.write(|w| w.set_chunks(all)).expect("written");
        };
        let known = |state: &State| {
            [both, here, nowhere, new].map(|digest| state.chunks(&digest).expect("read"))
        };
        let [a, b, c, d] = &lists;
        set(&mut state, &[(&both, a), (&here, b), (&nowhere, c)]);
        let all = [a, b, c].map(|list| Some(list.clone()));
        assert_eq!(known(&state)[..3], all);
        let placed = state.write(|w| {
            w.set_baseline(&path, Some(&file))?;
            w.set_hashed(&path, &hashed)
        });
        placed.expect("written");
        set(&mut state, &[]);
        assert_eq!(
            known(&state)[..3],
            all,
            "where nothing is cut, nothing is looked for"
        );
        set(&mut state, &[(&new, d)]);
        let left = [Some(a), Some(b), None, Some(d)].map(Option::<&Chunks>::cloned);
        assert_eq!(known(&state), left);
        state.write(|w| w.forget_chunks(&both)).expect("written");
        assert_eq!(known(&state)[0], None);
    }
}
