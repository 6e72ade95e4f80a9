//! How long much takes. Not run by itself: `cargo test --release --test speed -- --ignored
//! --nocapture`, under `strace -fc -e trace=fsync,fdatasync,syncfs` to count what is made durable.

mod common;

use common::{Box, file, mkdir, path, put, stream};
use raspbox_protocol::commit::Expect;
use std::time::Instant;

#[test]
#[ignore = "a measurement"]
fn a_thousand_small_files() {
    let my = Box::new();
    let mut ops: Vec<_> = (0..10).map(|n| mkdir(&format!("d{n}"))).collect();
    ops.extend((0..1_000).map(|n| {
        let at = format!("d{}/{n}", n % 10);
        put(&at, Expect::Absent, &"x".repeat(n))
    }));
    let bytes = stream(&ops);
    let start = Instant::now();
    my.try_commit(1, &bytes).expect("a commit");
    println!("1,000 new files: {:?}", start.elapsed());
    let tree = my.tree();
    let ops: Vec<_> = (0..1_000)
        .map(|n| {
            let at = format!("d{}/{n}", n % 10);
            put(&at, Expect::Version(tree[&path(&at)].1), &"y".repeat(n + 1))
        })
        .collect();
    let bytes = stream(&ops);
    let start = Instant::now();
    my.try_commit(2, &bytes).expect("a commit");
    println!("1,000 replaced: {:?}", start.elapsed());
    my.check_tree();
    let start = Instant::now();
    for n in 0..100 {
        my.put(&format!("single {n}"), "content").expect("put");
    }
    println!("100 one by one: {:?}", start.elapsed());
    let _ = file("");
}
