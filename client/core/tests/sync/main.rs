//! Plans carried out on trees in memory: every small case, many random ones, and faults put in on
//! purpose to see that the checks would notice.

mod cases;
mod check;
mod disks;
mod enumerate;
mod faults;
mod random;
mod renames;
mod world;
