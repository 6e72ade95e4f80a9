//! A computer in memory: disk, clock and randomness.
