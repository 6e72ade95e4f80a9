//! `cargo try`.
fn main() {}
