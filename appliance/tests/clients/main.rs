//! Other people's FTP clients against the daemon, in plain and over TLS 1.2 and 1.3.

// The daemon's own tests use more of these two.
#[allow(dead_code, unreachable_pub)]
#[path = "../daemon/client.rs"]
mod client;
#[allow(dead_code, unreachable_pub)]
#[path = "../daemon/harness.rs"]
mod harness;

mod bench;

mod curl;
mod ftplib;
mod lftp;
mod rclone;
