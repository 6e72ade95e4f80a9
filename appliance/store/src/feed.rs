//! Telling of the tree: all of it, or what changed after a cursor.

use crate::error::{FeedError, StoreError};
use crate::inner::Inner;
use crate::journal::{self, read_cursor, read_floor};
use crate::rows::{self, COLUMNS};
use raspbox_protocol::feed::FeedFrame;
use raspbox_protocol::{Cursor, Version};
use rusqlite::Connection;
use std::io;

type Send<'a> = dyn FnMut(FeedFrame) -> io::Result<()> + 'a;

impl Inner {
    /// Sends a feed from one state of the journal, whatever changes meanwhile.
    pub(crate) fn feed(
        &self,
        since: Option<Cursor>,
        send: &mut Send<'_>,
    ) -> Result<Cursor, FeedError> {
        let sent = self.snapshot(|db| {
            let now = read_cursor(db)?;
            match since {
                None => whole(db, send)?,
                // The journal once was further than it is now.
                Some(since) if since.epoch == now.epoch && since.seq > now.seq => return Ok(None),
                Some(since) if !journal::knows(db, since)? => return Err(FeedError::Expired),
                Some(since) if since.seq < read_floor(db)? => return Err(FeedError::Expired),
                Some(since) => changes(db, since, send)?,
            }
            send(FeedFrame::Mark(now)).map_err(FeedError::Sink)?;
            Ok(Some(now))
        })?;
        match (sent, since) {
            (None, Some(since)) => {
                self.went_back(since)?;
                Err(FeedError::Expired)
            }
            (sent, _) => sent.ok_or(FeedError::Expired),
        }
    }

    /// A client has seen more of this journal than the journal knows: it was restored from an older
    /// copy, or the drive lost what it had confirmed. Its numbers mean other things from now on, so
    /// it gets a new epoch.
    fn went_back(&self, since: Cursor) -> Result<(), StoreError> {
        let writer = self.writer()?;
        let tx = self.begin(&writer.db)?;
        if read_cursor(tx.db)?.epoch == since.epoch && tx.seq() < since.seq {
            tracing::error!(seen = since.seq, seq = tx.seq(), "the journal went back");
            journal::renew_epoch(tx.db)?;
            self.publish(tx)?;
        }
        Ok(())
    }
}

fn whole(db: &Connection, send: &mut Send<'_>) -> Result<(), FeedError> {
    send(FeedFrame::Head { whole: true }).map_err(FeedError::Sink)?;
    let sql = format!("SELECT {COLUMNS} FROM entry ORDER BY path");
    entries(db, &sql, 0, send)
}

fn changes(db: &Connection, since: Cursor, send: &mut Send<'_>) -> Result<(), FeedError> {
    send(FeedFrame::Head { whole: false }).map_err(FeedError::Sink)?;
    let seq = since.seq.cast_signed();
    // What is gone goes first, so that whoever follows the order never has two things in one place
    // (a file that became a folder is no absence at its own path).
    let sql = "SELECT path, version FROM tombstone WHERE version > ? ORDER BY version, path";
    let mut statement = db.prepare_cached(sql)?;
    let mut found = statement.query([seq])?;
    while let Some(row) = found.next()? {
        let frame = FeedFrame::Gone {
            path: journal::path(row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?)?,
            version: Version(row.get::<_, i64>(1)?.cast_unsigned()),
        };
        send(frame).map_err(FeedError::Sink)?;
    }
    let sql = format!("SELECT {COLUMNS} FROM entry WHERE version > ? ORDER BY version, path");
    entries(db, &sql, seq, send)
}

fn entries(db: &Connection, sql: &str, seq: i64, send: &mut Send<'_>) -> Result<(), FeedError> {
    let mut statement = db.prepare_cached(sql)?;
    let mut found = match statement.parameter_count() {
        0 => statement.query([])?,
        _ => statement.query([seq])?,
    };
    while let Some(row) = found.next()? {
        let (path, row) = rows::row(row)?;
        let frame = FeedFrame::Entry {
            path,
            entry: row.entry,
            version: row.version,
        };
        send(frame).map_err(FeedError::Sink)?;
    }
    Ok(())
}

impl From<rusqlite::Error> for FeedError {
    fn from(error: rusqlite::Error) -> FeedError {
        FeedError::Store(error.into())
    }
}
