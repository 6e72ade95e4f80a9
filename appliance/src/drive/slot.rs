//! What is being served right now, if anything.

use crate::drive::health::Health;
use crate::idle::Idle;
use crate::reply::Trouble;
use raspbox_protocol::info::DriveId;
use raspbox_protocol::{Cursor, RelPath};
use raspbox_store::{Listed, Rescue, Stat, Store, StoreError};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use tokio::sync::watch;

/// The drive as sessions see it: one moment it is there, the next it isn't.
///
/// Whoever does one thing takes what is there once, and keeps it to the end of that; a drive that goes
/// away meanwhile fails every call on it.
#[derive(Debug)]
pub(crate) struct Slot(RwLock<(u64, Arc<Serving>)>);

/// Which drive a session has: the first that it did something with. It never gets another one, even where
/// it hangs while its drive is pulled and another is plugged in, and nobody could close it in time.
#[derive(Debug, Default)]
pub(crate) struct Bound(OnceLock<u64>);

/// The slot as one session sees it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen<'a> {
    slot: &'a Slot,
    bound: &'a Bound,
}

/// What is served.
#[derive(Debug)]
pub(crate) enum Serving {
    /// Nothing.
    Nothing(Nothing),
    /// A drive that is only read, by people who save from it what they can.
    Rescue {
        /// Its files.
        files: Rescue,
        /// Why no more than that.
        why: String,
    },
    /// Everything.
    All {
        /// The files.
        store: Store,
        /// The journal's newest position, as it moves.
        changes: watch::Receiver<Cursor>,
        /// How the device is doing.
        health: Health,
        /// What is done while nobody is served. Ends with this.
        _idle: Idle,
    },
}

/// Why nothing is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Nothing {
    /// There is no drive.
    NoDrive,
    /// It is being looked through.
    Opening,
    /// It is being unmounted.
    Leaving,
    /// It can't be used.
    Unusable(String),
}

/// What can be looked at and read.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Files<'a> {
    All(&'a Store),
    Rescue(&'a Rescue),
}

impl Slot {
    /// Nothing yet.
    pub(crate) fn empty(why: Nothing) -> Slot {
        Slot(RwLock::new((0, Arc::new(Serving::Nothing(why)))))
    }

    /// What there is now, whoever asks.
    pub(crate) fn now(&self) -> Arc<Serving> {
        self.numbered().1
    }

    /// The same for a session.
    pub(crate) fn seen<'a>(&'a self, bound: &'a Bound) -> Seen<'a> {
        Seen { slot: self, bound }
    }

    /// Which drive it is.
    pub(crate) fn drive(&self) -> Option<DriveId> {
        match &*self.now() {
            Serving::All { store, .. } => Some(store.drive()),
            Serving::Nothing(_) | Serving::Rescue { .. } => None,
        }
    }

    /// From now on this is served; what was before ends with those who have it.
    pub(crate) fn serve(&self, now: Serving) {
        let mut slot = self.0.write().unwrap_or_else(PoisonError::into_inner);
        *slot = (slot.0 + 1, Arc::new(now));
    }

    /// What there is now, and how often there was something else before.
    fn numbered(&self) -> (u64, Arc<Serving>) {
        let slot = self.0.read().unwrap_or_else(PoisonError::into_inner);
        (slot.0, Arc::clone(&slot.1))
    }
}

impl Seen<'_> {
    /// What there is now.
    ///
    /// # Errors
    /// 450 where it isn't the drive that the session has.
    pub(crate) fn now(self) -> Result<Arc<Serving>, Trouble> {
        let (number, serving) = self.slot.numbered();
        match &*serving {
            Serving::Nothing(_) => Ok(serving),
            Serving::Rescue { .. } | Serving::All { .. }
                if *self.bound.0.get_or_init(|| number) == number =>
            {
                Ok(serving)
            }
            Serving::Rescue { .. } | Serving::All { .. } => {
                Err(Trouble::not_now("another drive is there now; log in again"))
            }
        }
    }

    /// The store, where everything is served.
    ///
    /// # Errors
    /// 450 otherwise: whoever asks should ask again later, and believe nothing until then.
    pub(crate) fn store(self) -> Result<Store, Trouble> {
        match &*self.now()? {
            Serving::All { store, .. } => Ok(store.clone()),
            other => Err(Trouble::not_now(other.to_string())),
        }
    }

    /// How its journal moves.
    pub(crate) fn changes(self) -> Result<watch::Receiver<Cursor>, Trouble> {
        match &*self.now()? {
            Serving::All { changes, .. } => Ok(changes.clone()),
            other => Err(Trouble::not_now(other.to_string())),
        }
    }
}

impl Serving {
    /// What can be looked at and read.
    pub(crate) fn files(&self) -> Result<Files<'_>, Trouble> {
        match self {
            Serving::All { store, .. } => Ok(Files::All(store)),
            Serving::Rescue { files, .. } => Ok(Files::Rescue(files)),
            Serving::Nothing(why) => Err(Trouble::not_now(why.to_string())),
        }
    }
}

impl Files<'_> {
    /// What stands at a path.
    pub(crate) fn stat(self, path: Option<&RelPath>) -> Result<Stat, StoreError> {
        match self {
            Files::All(store) => store.stat(path),
            Files::Rescue(files) => files.stat(path),
        }
    }

    /// What is in a folder.
    pub(crate) fn list(self, folder: Option<&RelPath>) -> Result<Vec<Listed>, StoreError> {
        match self {
            Files::All(store) => store.list(folder),
            Files::Rescue(files) => files.list(folder),
        }
    }

    /// A file's content.
    pub(crate) fn read(self, path: &RelPath) -> Result<std::fs::File, StoreError> {
        let file = match self {
            Files::All(store) => store.read(path),
            Files::Rescue(files) => files.read(path),
        };
        Ok(file?.into_std())
    }
}

impl std::fmt::Display for Serving {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Serving::Nothing(why) => why.fmt(f),
            Serving::Rescue { why, .. } => write!(f, "the drive can only be read: {why}"),
            Serving::All { .. } => f.write_str("the drive is there"),
        }
    }
}

impl std::fmt::Display for Nothing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Nothing::NoDrive => f.write_str("no drive"),
            Nothing::Opening => f.write_str("the drive is being looked through"),
            Nothing::Leaving => f.write_str("the drive is being removed"),
            Nothing::Unusable(why) => write!(f, "the drive can't be used: {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Bound, Nothing, Serving, Slot};
    use raspbox_store::Rescue;

    fn drive(folder: &tempfile::TempDir) -> Serving {
        Serving::Rescue {
            files: Rescue::open(folder.path()).unwrap(),
            why: "it is a test".into(),
        }
    }

    #[test]
    fn a_session_has_one_drive_and_never_another() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let slot = Slot::empty(Nothing::NoDrive);
        let (early, late) = (Bound::default(), Bound::default());
        let has = |bound| slot.seen(bound).now().is_ok_and(|now| now.files().is_ok());
        assert!(!has(&early), "there is none yet");
        slot.serve(drive(&one));
        assert!(has(&early), "the first that is there is its drive");
        slot.serve(Serving::Nothing(Nothing::NoDrive));
        assert!(!has(&early));
        slot.serve(drive(&other));
        assert!(!has(&early), "it hung, and has not seen that it is another");
        assert!(slot.seen(&early).store().is_err());
        assert!(slot.seen(&early).changes().is_err());
        assert!(has(&late), "who comes now has this one");
        slot.serve(drive(&one));
        assert!(
            !has(&early),
            "the same stick, plugged in again, may be another by now"
        );
        assert!(!has(&late));
    }
}
