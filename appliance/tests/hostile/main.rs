//! Peers that mean harm, against `raspboxd` as a process. After each, [`oracle::Oracle`] looks whether it
//! cost more than their own session.

#[path = "../daemon/client.rs"]
#[allow(dead_code)]
mod client;
#[path = "../daemon/harness.rs"]
#[allow(dead_code)]
mod harness;

mod commits;
mod crowds;
mod data;
mod feeds;
mod guessing;
mod lines;
mod oracle;
mod paths;
mod secrecy;
mod site;
mod transfers;
