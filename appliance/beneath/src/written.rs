//! Making durable what was written, and hearing of what could not be.

#[cfg(feature = "sim")]
use crate::sim;
use std::io;

/// Watches what is written to a filesystem from the moment on at which it was made.
///
/// The kernel writes most data out by itself, some time after the program has. Where that fails, the
/// program is told at its next `syncfs(2)`, and each open file is told once; but an error that somebody
/// has been told already isn't told to who opens a file afterwards. So who opens one only to sync it
/// may be told that all is well when it isn't. What must not be lost is watched *before* it is written.
///
/// The error may be another's: then what was written may be durable, and has to be written again.
#[derive(Debug)]
pub struct Written(pub(crate) On);

#[derive(Debug)]
pub(crate) enum On {
    Real(std::fs::File),
    #[cfg(feature = "sim")]
    Sim(sim::Written),
}

impl Written {
    /// Makes everything on the filesystem durable.
    ///
    /// # Errors
    /// Where the device fails, or something could not be written since this was made, or since it was
    /// last asked.
    pub fn sync(&self) -> io::Result<()> {
        match &self.0 {
            On::Real(file) => Ok(rustix::fs::syncfs(file)?),
            #[cfg(feature = "sim")]
            On::Sim(written) => written.sync(),
        }
    }
}
