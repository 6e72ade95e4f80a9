//! Contents of which only the beginning came, in a commit that was cut: whoever sends it again goes on from there.
//!
//! Each is in `parts/`, under the hash that the whole is to have. Nothing is believed of it, and nothing that matters is in it:
//! the whole is hashed from its first byte when all of it has come, and named only where it has the hash that was stated. So
//! a part may be whatever a power cut, or anybody, made of it; it then costs its sender the time to send the whole. It goes
//! first where room is needed, and after a week.

use crate::beneath::{Kind, Onto};
use crate::inner::{Inner, used_bytes};
use crate::staging::Staged;
use raspbox_protocol::Digest;
use raspbox_protocol::commit::PART_MIN_BYTES;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// How many are kept: one for each of a household's computers.
const PARTS_MAX: usize = 8;

/// For how long a part that nobody goes on with is kept.
const KEPT_FOR: Duration = Duration::from_secs(7 * 86_400);

impl Inner {
    /// How much has come of the content that will have this hash; 0 where nothing is kept of it.
    pub(crate) fn part_bytes(&self, whole: &Digest) -> io::Result<u64> {
        let part = self.own.parts.look(&whole.to_string())?;
        // Nothing else is ours, whoever put it there.
        let part = part.filter(|part| part.kind == Kind::File);
        Ok(part.map_or(0, |part| part.print.size))
    }

    /// Keeps what has come of a content, where it is worth it and more than was kept before.
    pub(crate) fn keep_part(&self, whole: &Digest, came: Staged) -> io::Result<()> {
        let min_bytes = self.faults.part_min_bytes.unwrap_or(PART_MIN_BYTES);
        if came.len_bytes() < min_bytes || came.len_bytes() <= self.part_bytes(whole)? {
            return Ok(());
        }
        let (own, to) = (&self.own, whole.to_string());
        let (name, file) = came.leave();
        // So that it is still worth something after a power cut.
        let kept = file
            .sync_data()
            .and_then(|()| own.staging.rename(&name, &own.parts, &to, Onto::Anything));
        if let Err(error) = kept {
            let _ = own.staging.unlink(&name);
            return Err(error);
        }
        self.drop_parts(PARTS_MAX, None)
    }

    /// What has come of a content, to be gone on with; `None` where not this much of it is kept.
    pub(crate) fn take_part(
        self: &Arc<Self>,
        whole: &Digest,
        bytes: u64,
    ) -> io::Result<Option<Staged>> {
        if bytes == 0 || self.part_bytes(whole)? != bytes {
            return Ok(None);
        }
        match Staged::of_part(Arc::clone(self), &whole.to_string(), bytes) {
            // Another session was quicker.
            Err(error) if crate::beneath::is_absent(&error) => Ok(None),
            staged => staged.map(Some),
        }
    }

    /// Lets go of the oldest parts but so many, and of those that are older than a week where the time is known.
    pub(crate) fn drop_parts(&self, keep: usize, now_ns: Option<i64>) -> io::Result<()> {
        let parts = &self.own.parts;
        let mut found = Vec::new();
        for name in parts.names()?.0 {
            if let Some(part) = parts.look(&name)?
                && part.kind == Kind::File
            {
                found.push((part.mtime.0, name));
            }
        }
        found.sort_unstable();
        let too_many = found.len().saturating_sub(keep);
        let kept_for = i64::try_from(KEPT_FOR.as_nanos()).expect("a week");
        for (n, (since_ns, name)) in found.iter().enumerate() {
            let is_old = now_ns.is_some_and(|now| now.saturating_sub(*since_ns) > kept_for);
            if n < too_many || is_old {
                parts.unlink(name)?;
            }
        }
        Ok(())
    }

    /// How much room would be there without them.
    pub(crate) fn parts_bytes(&self) -> io::Result<u64> {
        used_bytes(&self.own.parts)
    }
}
