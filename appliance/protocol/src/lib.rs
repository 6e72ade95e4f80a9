//! What the appliance and its clients say to each other, as types with parse and print.
//!
//! Everything travels over plain FTP as files in a folder that listings never show,
//! [`special::ROOT`]. This crate knows those files' names ([`special`]) and their contents
//! ([`info`], [`feed`], [`commit`] and [`patch`], [`want`], [`holds`], [`damage`], [`history`]), and how a device comes
//! to a login of its own ([`pairing`]); it knows no FTP, no SQLite and no tokio. What is
//! illegal doesn't parse: a [`RelPath`] can't leave the folder it is relative to, a frame can't be
//! longer than [`wire::FRAME_MAX_BYTES`], and no length that a peer states is believed before the
//! bytes are there.
//!
//! The bytes are fixed by golden vectors in `tests/golden.rs`: change one only together with
//! [`PROTOCOL_VERSION`].

pub mod commit;
pub mod compressed;
pub mod cursor;
pub mod damage;
pub mod digest;
pub mod entry;
pub mod feed;
pub mod history;
pub mod holds;
pub mod info;
pub mod pairing;
pub mod patch;
pub mod path;
pub mod special;
pub mod want;
pub mod wire;

pub use cursor::{Cursor, CursorError, Epoch, Version};
pub use digest::Digest;
pub use entry::{Entry, File, LinkTarget, Mtime};
pub use path::{PathError, RelPath};

/// The version of everything in this crate; both sides must have the same.
pub const PROTOCOL_VERSION: u32 = 1;
