//! The decisions of sync: what to do about three trees.
//!
//! Local, remote and baseline are values ([`tree`]); [`reconcile`] compares them and gives a
//! [`plan::Plan`]; [`renames`] finds the moves in it; [`guard`] says whether it may be carried out.
//! [`keep`] says which local contents a plan takes away. [`restore`] compares two trees of the appliance, as it is and as it was.
//! Nothing here does I/O, reads a clock or draws a random number, so that every decision can be
//! enumerated in a test and replayed in a simulation.

pub mod guard;
pub mod keep;
mod lane;
pub mod names;
pub mod plan;
pub mod reconcile;
pub mod renames;
pub mod restore;
pub mod tree;
