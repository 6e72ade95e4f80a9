//! A test bed: an appliance and workstations as real processes on this machine.
//!
//! `cargo try` shows them to a person, and the tests of the whole use them. One program plays all
//! the parts (see [`bed::play`]), so that building it builds everything that runs.

pub mod bed;
pub mod tree;
