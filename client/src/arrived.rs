//! What was sent, where nobody heard whether it arrived: this program was killed before the answer was recorded, or
//! the connection was lost.
//!
//! If the remote has just that, it is what both sides had last, whoever brought it. Without that knowledge an edit
//! that somebody has made here since would be one that doesn't know of the remote's, and would become a conflict
//! copy of a file with itself. Not after a power cut: what was sent may not have been durable here yet, and what is
//! left of it must not be taken for an edit. And only edits: what was deleted here since comes back, as it would have from
//! somebody else.

use crate::engine::{Engine, SyncError, set};
use crate::local::Workspace;
use raspbox_core::tree::Node;
use raspbox_protocol::{Entry, RelPath};

impl Engine {
    /// Records what arrived as in sync, right after a look at the remote, and forgets the rest: it didn't arrive,
    /// or was changed there since.
    pub(crate) fn note_arrived(&mut self, workspace: &Workspace) -> Result<(), SyncError> {
        if !self.state.has_sent()? {
            return Ok(());
        }
        let mut sent = self.state.sent(raspbox_beneath::boot().as_deref())?;
        sent.retain(|(path, entry)| self.is_between(path, entry));
        // Else a power cut could leave what was here before, as if somebody had gone back to it.
        let here: Vec<&RelPath> = sent.iter().map(|(path, _)| path).collect();
        self.make_durable(&here, workspace)?;
        self.state.write(|w| {
            for (path, entry) in &sent {
                w.set_baseline(path, Some(entry))?;
            }
            w.clear_sent()
        })?;
        for (path, entry) in &sent {
            set(&mut self.baseline, path, entry, ());
        }
        Ok(())
    }

    /// Whether the remote has what was sent, and something of the same kind stands here.
    fn is_between(&self, path: &RelPath, sent: &Entry) -> bool {
        let here = self.local_tree().get(path).and_then(Node::entry);
        let there = self.remote_tree.get(path).and_then(Node::entry);
        there.is_some_and(|there| there.same_content(sent))
            && here.is_some_and(|here| (here == Entry::Folder) == (*sent == Entry::Folder))
    }
}
