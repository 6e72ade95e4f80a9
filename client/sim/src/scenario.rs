//! What happens in one run: a plain list of steps, made from a seed, shrunk, printed and kept.

use serde::{Deserialize, Serialize};

/// One run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scenario {
    /// The randomness of everything that isn't a step: ids, and what of unsynced data a crash drops.
    pub seed: u64,
    /// The drive's filesystem.
    pub drive: Disk,
    /// The workstations' filesystems.
    pub stations: Vec<Disk>,
    /// What happens, in this order. At the end everything is put right and must become quiet.
    pub steps: Vec<Step>,
}

/// A filesystem with its habits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Disk {
    /// A Linux one: times to the nanosecond, any name.
    Ext4,
    /// A Linux one with times to the second, and no exchange of names.
    Coarse,
    /// FAT: two seconds, case-insensitive, few names, no symlinks, no bits, no lasting inodes.
    Fat,
    /// A Mac's: case-insensitive, names decomposed.
    Mac,
}

/// One thing that happens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// Time passes, in milliseconds.
    Wait(u64),
    /// Somebody changes a file.
    Edit(Who, Edit),
    /// A workstation syncs.
    Sync(Sync),
    /// A workstation's process ends and begins anew.
    Restart(usize),
    /// A workstation loses power between two rounds.
    PowerCut(usize, Unsynced),
    /// The appliance loses power, and starts again.
    AppliancePowerCut(Unsynced),
    /// The appliance's process is started anew; the drive is scanned.
    ApplianceRestart,
    /// The drive is pulled out.
    Unplug,
    /// The drive is plugged in again; what somebody wrote on it meanwhile is found.
    Plug,
    /// Another drive is plugged in, or the first one again.
    Swap,
    /// A copy of the whole drive is made.
    Backup,
    /// The drive gets the contents of its last copy.
    RestoreBackup,
    /// The appliance's journal is deleted.
    LoseJournal,
    /// A copy of the journal is made.
    SaveJournal,
    /// The journal is the one of the last copy again.
    RollBackJournal,
    /// A workstation's database is deleted.
    LoseState(usize),
    /// A copy of a workstation's database is made.
    SaveState(usize),
    /// It is the one of the last copy again.
    RollBackState(usize),
    /// A folder or file of a workstation can't be read from now on, or can again.
    Deny(usize, String, bool),
    /// Somebody's clock jumps by so many seconds; 0 is the appliance, others are workstations.
    Clock(usize, i64),
    /// By FTP somebody brings back one of all paths of which something was displaced, counted round and
    /// round, in that version of it.
    Restore(u32, u32),
    /// A file on the drive rots, or a version: this one of all that there are, counted round and round.
    Rot(u32),
    /// Nobody is served for a while: the appliance reads everything again and lets go of old versions.
    Idle,
    /// Everything is put right, syncs until it is quiet, and is checked.
    Settle,
}

/// Whose hands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Who {
    /// Somebody at a workstation.
    Station(usize),
    /// An ordinary FTP client.
    Ftp,
    /// Somebody who writes on the drive directly.
    Drive,
}

/// A change by somebody's hand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Edit {
    /// A file gets a content, which is new unless the number was used before.
    Write {
        /// Where; its folders are made.
        path: String,
        /// Which content.
        content: u32,
        /// Its length in bytes.
        size: usize,
        /// How.
        how: How,
    },
    /// A file, symlink or whole folder is deleted.
    Remove(String),
    /// A file or folder gets another name; what is there is replaced where that can be.
    Rename(String, String),
    /// A folder is made.
    MakeFolder(String),
    /// A file's time becomes this many seconds older.
    Age(String, i64),
    /// A file's executable bit.
    Executable(String, bool),
    /// A symlink is made.
    Symlink(String, String),
    /// A version comes back, the n-th of what can be had of this path: only by FTP, and as a commit.
    Restore(String, u32),
}

/// How a program writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum How {
    /// Over the old content, in the same file.
    InPlace,
    /// Into another file, which is then renamed.
    Rename,
    /// Behind what is there.
    Append,
    /// In place, and the file's time is set back to what it was.
    KeepTime,
}

/// One round of a workstation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sync {
    /// Whose.
    pub station: usize,
    /// Where it looks.
    pub look: Look,
    /// Whether somebody has confirmed deletions and changes.
    pub confirmed: bool,
    /// What goes wrong in it.
    pub faults: Vec<Fault>,
}

/// What a round knows of where to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Look {
    /// It looks everywhere.
    Everywhere,
    /// Only where the watcher told of something.
    Watched,
    /// The same, but the watcher has lost what it was told.
    Lost,
}

/// Something that goes wrong in a round.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fault {
    /// At the n-th event of the network.
    Net(u32, Net),
    /// At the n-th call on the workstation's disk.
    Disk(u32, Call),
    /// At the n-th call on the drive.
    Drive(u32, Call),
}

/// What the network does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Net {
    /// The connection is cut; in a transfer after this part of it, in 1/256.
    Cut(u8),
    /// The server does what it is asked, and the reply is lost.
    LoseReply,
    /// The server does what it is asked only later, after the client has given up.
    Late,
    /// What is asked is done twice.
    Double,
    /// The server has no room for another session.
    Busy,
    /// Meanwhile, somebody changes something.
    Edit(Who, Edit),
    /// Meanwhile, another workstation syncs.
    Sync(usize),
}

/// What a call on a disk does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Call {
    /// The process ends here, and the machine with it.
    Die(Unsynced),
    /// The disk is full.
    Full,
    /// The disk fails.
    Fail,
    /// Too many files are open.
    TooMany,
    /// It isn't allowed.
    Deny,
    /// Just before it, somebody changes something.
    Edit(Who, Edit),
}

/// What becomes of what wasn't synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unsynced {
    /// All of it is gone.
    Dropped,
    /// All of it is there: only the process ended.
    Kept,
    /// Some of it is there.
    Some,
}
