//! What must hold for every parser that meets the network or a file from a user, whatever bytes come.
//!
//! A target is a function that takes any bytes and panics where something doesn't hold: not only that the
//! parser doesn't panic, but what it promises. Each takes at most [`Target::memory_max_bytes`] on the way.
//! `cargo fuzz-all` has LLVM's fuzzer look for bytes that break one; the tests of this crate try all seeds.
//!
//! What is in the private modules of raspboxd and raspbox is there, behind their feature `fuzz`.

mod client;
mod protocol;

use std::path::PathBuf;

/// One parser, or several that read the same.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name; so is the folder with its seeds called.
    pub name: &'static str,
    /// Tries these bytes.
    pub run: fn(&[u8]),
    /// How many bytes it is given at most.
    pub len_max_bytes: usize,
    /// How much memory it may take at any moment.
    pub memory_max_bytes: usize,
}

/// As much as a session may cost in all, and so far more than one message.
const MEMORY_MAX_BYTES: usize = 64 << 20;

/// What a stream may take of which all frames so far are kept: less than this for each byte that came. A
/// folder's entry of 5 bytes takes some 150, and a list that grows is there twice for a moment.
const MEMORY_OF_A_STREAM_MAX_BYTES: usize = 4 << 20;

/// All of them.
pub const TARGETS: &[Target] = &[
    // What the two sides say to each other.
    stream("commit", protocol::commit),
    stream("result", protocol::result),
    stream("feed", protocol::feed),
    stream("want", protocol::want),
    stream("content", protocol::content),
    stream("holds", protocol::holds),
    stream("compressed", protocol::compressed),
    stream("history", protocol::history),
    text("path", protocol::path),
    text("special", protocol::special),
    text("pairing", protocol::pairing),
    text("info", protocol::info),
    text("damage", protocol::damage),
    // What the appliance is told by whoever comes, and by its owner.
    text("place", raspboxd::fuzz::place),
    text("site", raspboxd::fuzz::site),
    text("config", raspboxd::fuzz::config),
    bytes("owners-file", raspboxd::fuzz::owners_file),
    // What a client is told by a server, and by its user.
    bytes("listing", raspbox::remote::fuzz::listing),
    bytes("reply", raspbox::remote::fuzz::reply),
    stream("hostile-feed", raspbox::remote::fuzz::feed),
    stream("hostile-contents", raspbox::remote::fuzz::contents),
    stream("hostile-outcomes", raspbox::remote::fuzz::outcomes),
    text("ignore", client::ignore),
    text("address", client::address),
    text("time", client::time),
];

const fn bytes(name: &'static str, run: fn(&[u8])) -> Target {
    Target {
        name,
        run,
        len_max_bytes: 4096,
        memory_max_bytes: MEMORY_MAX_BYTES,
    }
}

const fn stream(name: &'static str, run: fn(&[u8])) -> Target {
    Target {
        memory_max_bytes: MEMORY_OF_A_STREAM_MAX_BYTES,
        ..bytes(name, run)
    }
}

/// What takes text; other bytes become U+FFFD, as libunftp and the client make them.
const fn text(name: &'static str, run: fn(&[u8])) -> Target {
    bytes(name, run)
}

impl Target {
    /// The one of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Target> {
        TARGETS.iter().copied().find(|target| target.name == name)
    }

    /// The folder with its seeds.
    #[must_use]
    pub fn seeds(&self) -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("seeds")
            .join(self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::TARGETS;
    use std::fs;

    #[test]
    fn every_seed_holds() {
        for target in TARGETS {
            let seeds = fs::read_dir(target.seeds())
                .unwrap_or_else(|error| panic!("{}: {error}", target.seeds().display()));
            let mut count = 0;
            for seed in seeds {
                let seed = seed.unwrap().path();
                let content = fs::read(&seed).unwrap();
                println!("{}", seed.display());
                (target.run)(&content);
                // Cut anywhere, too.
                for len in 0..content.len().min(64) {
                    (target.run)(&content[..len]);
                }
                count += 1;
            }
            assert!(count > 0, "{} has no seeds", target.name);
        }
    }
}
