//! Bad input and trouble: one clear line, the other files still go, nothing is lost, and the next
//! sync finishes the job.

#[path = "../common/mod.rs"]
mod common;

mod brakes;
mod cut;
mod disks;
mod files;
mod forgotten;
mod impostor;
mod motion;
mod refused;
mod told;
