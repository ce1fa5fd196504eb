//! What must hold whatever goes wrong on the way to the store.

use crate::{GetOptions, ObjectPath, ObjectStore, PutMode, PutOutcome};
use bytes::Bytes;
use nacre_runtime::Context;
use nacre_types::ErrorKind;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const NAMES: usize = 12;
const CHAIN: &str = "race/chain";

/// What one writer knows at the end.
#[derive(Debug, Default)]
struct Known {
    /// Bytes that were seen under a name.
    seen: Vec<(usize, Bytes)>,
    /// Names that this writer was told to have created.
    created: Vec<(usize, Bytes)>,
    /// Links of the chain that it was told to have added, or read back.
    linked: Vec<u64>,
}

/// Lets one writer per handle race for names and for the end of a chain, repeating whatever is not known, and then
/// checks: a name has one body for ever, whoever was told to have created it did, and no link of the chain is lost or
/// there twice. The chain is a record in which each replace adds its number to the numbers before it.
///
/// # Panics
/// Where one of these does not hold.
pub async fn races(handles: Vec<Arc<dyn ObjectStore>>, seed: u64) {
    let ctx = Context::for_tests(seed);
    let writers: Vec<_> =
        handles.iter().map(|store| ctx.tasks.spawn("racer", writer(store.clone(), ctx.clone()))).collect();
    let mut known = Vec::new();
    for writer in writers {
        known.push(writer.await.unwrap());
    }
    let mut bodies: BTreeMap<usize, Bytes> = BTreeMap::new();
    for (name, body) in known.iter().flat_map(|writer| writer.seen.iter().chain(&writer.created)) {
        let first = bodies.entry(*name).or_insert_with(|| body.clone());
        assert_eq!(first, body, "name {name} had two bodies");
    }
    let chain = numbers(&read(&handles[0], &ctx, CHAIN).await.expect("never deleted"));
    let mut sorted = chain.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(sorted.len(), chain.len(), "a link is there twice");
    for link in known.iter().flat_map(|writer| &writer.linked) {
        assert!(chain.contains(link), "an acknowledged link was lost");
    }
}

async fn writer(store: Arc<dyn ObjectStore>, ctx: Context) -> Known {
    let mut known = Known::default();
    for name in 0..NAMES {
        let path = ObjectPath::new(&format!("race/{name}")).unwrap();
        let body = Bytes::from(format!("{:032x}", ctx.ids.random_u128()));
        // At most so often: a request may be under way for ever.
        for _ in 0..20 {
            match attempt(store.put(&path, body.clone(), PutMode::Create)).await {
                Some(PutOutcome::Stored(_)) => {
                    known.created.push((name, body.clone()));
                    break;
                }
                Some(_) => break,
                None => tokio::task::yield_now().await,
            }
        }
        if let Some(body) = read(&store, &ctx, path.as_str()).await {
            known.seen.push((name, body));
        }
        if let Some(link) = add_link(&store, &ctx).await {
            known.linked.push(link);
        }
    }
    known
}

/// Adds one link; `None` = not known, given up.
async fn add_link(store: &Arc<dyn ObjectStore>, ctx: &Context) -> Option<u64> {
    let (path, own) = (ObjectPath::new(CHAIN).unwrap(), ctx.ids.random_u64());
    for _ in 0..200 {
        let current = attempt(store.get(&path, GetOptions::default())).await;
        let (mut chain, mode) = match current {
            Some(object) => (object.bytes.to_vec(), PutMode::Replace(object.meta.tag)),
            None => match attempt(store.head(&path)).await {
                Some(_) => continue,
                None => (Vec::new(), PutMode::Create),
            },
        };
        if numbers(&chain).contains(&own) {
            return Some(own);
        }
        chain.extend_from_slice(&own.to_be_bytes());
        if let Some(PutOutcome::Stored(_)) = attempt(store.put(&path, chain.into(), mode)).await {
            return Some(own);
        }
        tokio::task::yield_now().await;
    }
    None
}

fn numbers(chain: &[u8]) -> Vec<u64> {
    chain.chunks_exact(8).map(|link| u64::from_be_bytes(link.try_into().unwrap())).collect()
}

/// One attempt; `None` = no answer that says anything, or an absence.
async fn attempt<T>(request: impl Future<Output = nacre_types::Result<T>>) -> Option<T> {
    match tokio::time::timeout(Duration::from_millis(500), request).await {
        Err(_) => None,
        Ok(Ok(answer)) => Some(answer),
        Ok(Err(error)) => match error.kind() {
            ErrorKind::Unknown | ErrorKind::Unavailable | ErrorKind::NotFound => None,
            _ => panic!("{error:?}"),
        },
    }
}

async fn read(store: &Arc<dyn ObjectStore>, ctx: &Context, name: &str) -> Option<Bytes> {
    let path = ObjectPath::new(name).unwrap();
    let begun = ctx.clock.monotonic();
    loop {
        match tokio::time::timeout(Duration::from_millis(500), store.get(&path, GetOptions::default())).await
        {
            Ok(Ok(object)) => return Some(object.bytes),
            Ok(Err(error)) if error.kind() == ErrorKind::NotFound => return None,
            other => assert!(ctx.clock.monotonic() - begun < Duration::from_secs(30), "{other:?}"),
        }
    }
}
