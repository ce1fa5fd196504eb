//! What the log's path costs. Prints; asserts nothing about time, since builds run beside it.

use bytes::Bytes;
use nacre_runtime::Context;
use nacre_store::{GetOptions, LocalStore, ObjectPath, ObjectStore, PutMode};
use std::time::Duration;

/// Middle of the times that `work` takes.
async fn middle(ctx: &Context, rounds: usize, mut work: impl AsyncFnMut(usize)) -> Duration {
    let mut times = Vec::new();
    for n in 0..rounds {
        let begun = ctx.clock.monotonic();
        work(n).await;
        times.push(ctx.clock.monotonic() - begun);
    }
    times.sort_unstable();
    times[rounds / 2]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement: run it alone, with --nocapture"]
async fn what_a_chunk_and_a_small_read_cost() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let ctx = Context::for_tests(1);
    let store = LocalStore::open(dir.path(), &ctx).unwrap();
    let path = |n: usize| ObjectPath::new(&format!("log/0/chunks/{n:020}")).unwrap();
    let block = |n: usize| GetOptions::range(n as u64 * 16_384..(n as u64 + 1) * 16_384);
    for (name, size) in [("4 KiB", 4 << 10), ("64 KiB", 64 << 10), ("1 MiB", 1 << 20)] {
        let body = Bytes::from(vec![7; size]);
        let taken = middle(&ctx, 100, async |n| {
            store.put(&path(n + size * 1_000), body.clone(), PutMode::Create).await.unwrap();
        });
        println!("create {name}: {:?}", taken.await);
    }
    let raw = middle(&ctx, 100, async |n| {
        let file = dir.path().join(format!("raw{n}"));
        std::fs::write(&file, vec![7; 1 << 20]).unwrap();
        std::fs::File::open(&file).unwrap().sync_all().unwrap();
    });
    println!("1 MiB, written and synced plainly: {:?}", raw.await);
    let big = path((1 << 20) * 1_000);
    let small = path((4 << 10) * 1_000);
    let taken = middle(&ctx, 10_000, async |n| {
        store.get(&big, block(n % 60)).await.unwrap();
    });
    println!("get 16 KiB of 1 MiB: {:?}", taken.await);
    let taken = middle(&ctx, 10_000, async |_| {
        store.get(&small, GetOptions::default()).await.unwrap();
    });
    println!("get 4 KiB whole: {:?}", taken.await);
    let taken = middle(&ctx, 2_000, async |_| {
        store.get(&big, GetOptions::default()).await.unwrap();
    });
    println!("get 1 MiB whole, by another thread: {:?}", taken.await);
    let absent = ObjectPath::new("log/0/chunks/absent").unwrap();
    let taken = middle(&ctx, 10_000, async |_| {
        store.get(&absent, GetOptions::default()).await.unwrap_err();
    });
    println!("get of an absent name: {:?}", taken.await);
    let taken = middle(&ctx, 2_000, async |_| {
        store.head(&big).await.unwrap();
    });
    println!("head: {:?}", taken.await);
}
