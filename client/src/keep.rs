//! Before local contents are given up: seeing to it that the appliance keeps them.
//!
//! Mostly it does, since what an overwrite or a delete displaces through it is a version there. Not so
//! what somebody replaced or deleted on the drive itself. So every round that takes contents away
//! asks first, and sends what isn't kept. What the appliance doesn't take (it is full) isn't taken
//! away here: the file stays as it was, which is said, and every round tries again. A conflict copy
//! in its place would be one more file that doesn't fit on the drive, and would bring back under
//! another name what somebody deleted; so one path waits, and all others go on.

use crate::engine::{Engine, Lap, SyncError};
use crate::push::{BATCH_BYTES, BATCH_OPS};
use crate::report::{Deed, sending};
use crate::scan::Seen;
use raspbox_core::keep::{displaced, hold_back};
use raspbox_core::plan::{Action, Trouble};
use raspbox_protocol::commit::{Op, Outcome, Refusal};
use raspbox_protocol::{Digest, File, RelPath, Version};
use std::collections::{BTreeMap, BTreeSet, HashSet};

impl Engine {
    /// Sees to it that what these actions take away is kept; those for which it isn't are left out.
    pub(crate) fn keep(
        &mut self,
        pull: &mut Vec<Action<Version, Seen>>,
        lap: &mut Lap<'_, '_>,
    ) -> Result<(), SyncError> {
        let displaced = displaced(pull, self.local_tree());
        if !lap.keeps || displaced.is_empty() {
            return Ok(());
        }
        let digests: BTreeSet<Digest> = displaced.iter().map(|(_, file)| file.digest).collect();
        let digests: Vec<Digest> = digests.into_iter().collect();
        let held = self.remote.holds(&digests)?;
        let mut missing: HashSet<Digest> = (digests.iter().zip(held))
            .filter_map(|(digest, held)| (!held).then_some(*digest))
            .collect();
        // Each once: the same content of another file is found by its hash.
        let wanted: Vec<&(RelPath, File)> = (displaced.iter())
            .filter(|(_, file)| missing.remove(&file.digest))
            .collect();
        let mut refused = BTreeMap::new();
        let mut rest = &wanted[..];
        while !rest.is_empty() {
            let (batch, later) = rest.split_at(batch_len(rest));
            self.keep_batch(batch, &mut refused, lap)?;
            rest = later;
        }
        if refused.is_empty() {
            return Ok(());
        }
        let mut staying = BTreeSet::new();
        for (path, file) in &displaced {
            if let Some(refusal) = refused.get(&file.digest) {
                stays(path, refusal, lap);
                staying.insert(path.clone());
            }
        }
        hold_back(pull, &staying);
        Ok(())
    }

    fn keep_batch(
        &mut self,
        batch: &[&(RelPath, File)],
        refused: &mut BTreeMap<Digest, Refusal>,
        lap: &mut Lap<'_, '_>,
    ) -> Result<(), SyncError> {
        let op = |(path, file): &&(RelPath, File)| Op::Keep {
            path: path.clone(),
            file: *file,
        };
        let ops: Vec<Op> = batch.iter().map(op).collect();
        let top = lap.workspace.top();
        let sent_bytes = &mut lap.summary.sent_bytes;
        let pushed = self.remote.push(
            &ops,
            &mut |index| {
                let path = &batch[index].0;
                top.parent_of(path)?.open_file(path.name())
            },
            &mut sending(sent_bytes, lap.report),
        )?;
        for ((path, file), outcome) in batch.iter().zip(pushed.outcomes) {
            match outcome {
                Outcome::Done(_) => lap.did(Deed::Kept, path),
                Outcome::Refused(refusal) => drop(refused.insert(file.digest, refusal)),
            }
        }
        Ok(())
    }
}

/// Says why a file stays as it is.
fn stays(path: &RelPath, refusal: &Refusal, lap: &mut Lap<'_, '_>) {
    match refusal {
        // It isn't what it was taken for: the next lap looks again.
        Refusal::BadContent | Refusal::Changed | Refusal::NoParent | Refusal::NotEmpty => {
            lap.refused(path, refusal.clone());
        }
        Refusal::Name(_)
        | Refusal::NoSpace
        | Refusal::Denied
        | Refusal::NotNow
        | Refusal::Failed(_)
        | Refusal::Damaged => {
            let what = format!(
                "it was replaced or deleted on the drive itself, and stays here as it was, since \
                 the appliance can't keep it as a version: {refusal}"
            );
            lap.problem(path, Trouble::Failed(what));
        }
    }
}

/// How many of these are sent together.
fn batch_len(wanted: &[&(RelPath, File)]) -> usize {
    let mut bytes = 0_u64;
    let fits = |(_, file): &&&(RelPath, File)| {
        bytes = bytes.saturating_add(file.size);
        bytes <= BATCH_BYTES
    };
    wanted
        .iter()
        .take(BATCH_OPS)
        .take_while(fits)
        .count()
        .max(1)
}
