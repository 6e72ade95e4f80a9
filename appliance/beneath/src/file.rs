//! An open file.

#[cfg(feature = "sim")]
use crate::sim;
use crate::{Stat, real};
use raspbox_protocol::Mtime;
use std::io::{self, Read, Seek, SeekFrom, Write};

/// An open file, on a real disk or a simulated one.
#[derive(Debug)]
pub struct File(pub(crate) On);

#[derive(Debug)]
pub(crate) enum On {
    Real(std::fs::File),
    #[cfg(feature = "sim")]
    Sim(sim::File),
}

impl File {
    /// Makes content and metadata durable.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn sync_all(&self) -> io::Result<()> {
        on_either!(&self.0, file => file.sync_all())
    }

    /// Makes the content durable.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn sync_data(&self) -> io::Result<()> {
        on_either!(&self.0, file => file.sync_data())
    }

    /// Sets the time of modification.
    ///
    /// # Errors
    /// Where the filesystem refuses.
    pub fn set_mtime(&self, mtime: Mtime) -> io::Result<()> {
        match &self.0 {
            On::Real(file) => file.set_times(std::fs::FileTimes::new().set_modified(mtime.into())),
            #[cfg(feature = "sim")]
            On::Sim(file) => file.set_mtime(mtime),
        }
    }

    /// Sets the permissions, such as `0o644`.
    ///
    /// # Errors
    /// Where the filesystem refuses (FAT keeps none).
    pub fn set_mode(&self, mode: u32) -> io::Result<()> {
        match &self.0 {
            On::Real(file) => real::set_mode(file, mode),
            #[cfg(feature = "sim")]
            On::Sim(file) => file.set_mode(mode),
        }
    }

    /// Locks it for as long as it is open (`flock(2)`); `false` where somebody else has.
    ///
    /// # Errors
    /// Where the filesystem has no locks.
    pub fn try_lock(&self) -> io::Result<bool> {
        match &self.0 {
            On::Real(file) => match file.try_lock() {
                Ok(()) => Ok(true),
                Err(std::fs::TryLockError::WouldBlock) => Ok(false),
                Err(std::fs::TryLockError::Error(error)) => Err(error),
            },
            #[cfg(feature = "sim")]
            On::Sim(file) => file.try_lock(),
        }
    }

    /// Tells the kernel to read further ahead than usual; it may ignore it.
    pub fn read_ahead(&self) {
        match &self.0 {
            On::Real(file) => real::read_ahead(file),
            #[cfg(feature = "sim")]
            On::Sim(_) => {}
        }
    }

    /// Has the kernel forget what it keeps of the file in memory, so that the next reading is one of
    /// the medium, and nothing else has to make room. What isn't on the medium yet stays.
    pub fn drop_cached(&self) {
        match &self.0 {
            On::Real(file) => real::drop_cached(file),
            #[cfg(feature = "sim")]
            On::Sim(_) => {}
        }
    }

    /// The file as std has it.
    ///
    /// # Panics
    /// On a simulated disk, where it is none.
    #[must_use]
    pub fn into_std(self) -> std::fs::File {
        match self.0 {
            On::Real(file) => file,
            #[cfg(feature = "sim")]
            On::Sim(_) => panic!("only what never runs in a simulation asks for a descriptor"),
        }
    }

    pub(crate) fn stat(&self) -> io::Result<Stat> {
        match &self.0 {
            On::Real(file) => real::stat(file),
            #[cfg(feature = "sim")]
            On::Sim(file) => file.stat(),
        }
    }
}

impl From<std::fs::File> for File {
    fn from(file: std::fs::File) -> File {
        File(On::Real(file))
    }
}

impl Read for File {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        on_either!(&mut self.0, file => file.read(buffer))
    }
}

impl Write for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        on_either!(&mut self.0, file => file.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for File {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        on_either!(&mut self.0, file => file.seek(to))
    }
}
