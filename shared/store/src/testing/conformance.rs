//! What every store promises, one sentence at a time.

use crate::{GetOptions, ObjectPath, ObjectStore, ObjectTag, PutMode, PutOutcome};
use bytes::Bytes;
use nacre_types::ErrorKind;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// Handles on one new store, as different processes would hold them.
type Handles = Vec<Arc<dyn ObjectStore>>;
const DELETES_END_REPLACES: &str = "a delete does not race with a replace";

type Sentence = fn(Handles) -> Pin<Box<dyn Future<Output = ()> + Send>>;

/// Runs every sentence on a new store of its own. `make` gives one or more handles on one new, empty store.
///
/// # Panics
/// Where the store breaks a promise.
pub async fn conformance(make: impl Fn() -> Handles) {
    conformance_but(make, Quirks::default()).await;
}

/// Where a server that tests can have is known to be otherwise than the store that it stands for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quirks {
    /// How far its dates may be beside each other, in microseconds: S3 tells whole seconds, and some servers of it renew
    /// theirs once a second.
    pub coarse_micros: i64,
    /// A replace and a delete of one object may both take effect, and the object be there again. Nothing rests on it:
    /// what is replaced is never deleted.
    pub replaces_race_with_deletes: bool,
}

/// The same for a server with quirks.
///
/// # Panics
/// Where the store breaks a promise.
pub async fn conformance_but(make: impl Fn() -> Handles, quirks: Quirks) {
    let sentences: &[(&str, Sentence)] = &[
        ("what was put is read, whole and by range", |h| Box::pin(what_was_put_is_read(h))),
        ("a range must lie within the object", |h| Box::pin(a_range_must_lie_within(h))),
        ("an absence is not found", |h| Box::pin(an_absence_is_not_found(h))),
        ("a name is created once", |h| Box::pin(a_name_is_created_once(h))),
        ("a replace needs the tag", |h| Box::pin(a_replace_needs_the_tag(h))),
        ("tags follow the bytes", |h| Box::pin(tags_follow_the_bytes(h))),
        ("of many creators one wins", |h| Box::pin(of_many_creators_one_wins(h))),
        ("of many replacers one wins", |h| Box::pin(of_many_replacers_one_wins(h))),
        ("a counter loses no increment", |h| Box::pin(a_counter_loses_no_increment(h))),
        ("a reader with a tag sees its bytes or an error", |h| Box::pin(a_reader_with_a_tag(h))),
        ("a deleted object is gone, and deleting again is fine", |h| Box::pin(a_deleted_object_is_gone(h))),
        (DELETES_END_REPLACES, |h| Box::pin(a_delete_ends_replaces(h))),
        ("listing is sorted, paged and by text prefix", |h| Box::pin(listing_is_sorted(h))),
        ("a copy has the bytes and outlives its source", |h| Box::pin(a_copy_outlives_its_source(h))),
        ("a copy needs the tag and a free name", |h| Box::pin(a_copy_needs_the_tag(h))),
        ("an upload is seen whole or not at all", |h| Box::pin(an_upload_is_seen_whole(h))),
        ("a name that looks encoded is itself", |h| Box::pin(a_name_that_looks_encoded(h))),
        ("an empty object is an object", |h| Box::pin(an_empty_object(h))),
    ];
    for (name, sentence) in sentences {
        if quirks.replaces_race_with_deletes && *name == DELETES_END_REPLACES {
            continue;
        }
        let handles = make();
        assert!(!handles.is_empty());
        tracing::debug!(sentence = name);
        sentence(handles).await;
    }
    dates_are_the_stores(make(), quirks.coarse_micros).await;
}

fn path(text: &str) -> ObjectPath {
    ObjectPath::new(text).unwrap()
}

async fn create(store: &Arc<dyn ObjectStore>, name: &str, body: &[u8]) -> ObjectTag {
    match store.put(&path(name), Bytes::copy_from_slice(body), PutMode::Create).await.unwrap() {
        PutOutcome::Stored(tag) => tag,
        other => panic!("creating {name}: {other:?}"),
    }
}

async fn read(store: &Arc<dyn ObjectStore>, name: &str) -> Bytes {
    store.get(&path(name), GetOptions::default()).await.unwrap().bytes
}

async fn what_was_put_is_read(handles: Handles) {
    let body: Vec<u8> = (0..1_000_003_u32).map(|n| (n % 251) as u8).collect();
    let tag = create(&handles[0], "a/b/c", &body).await;
    for store in &handles {
        let object = store.get(&path("a/b/c"), GetOptions::default()).await.unwrap();
        assert_eq!(object.bytes, body);
        assert_eq!((object.meta.size, &object.meta.tag), (body.len() as u64, &tag));
        assert_eq!(store.head(&path("a/b/c")).await.unwrap(), object.meta);
        for range in [0..0, 0..1, 5..700_000, 1_000_002..1_000_003, 1_000_003..1_000_003, 17..400] {
            let object = store.get(&path("a/b/c"), GetOptions::range(range.clone())).await.unwrap();
            assert_eq!(object.bytes, body[range.start as usize..range.end as usize]);
            assert_eq!(object.meta.size, body.len() as u64);
        }
    }
}

async fn a_name_that_looks_encoded(handles: Handles) {
    let names = ["x/ts=2024-01-01 00%3A00/p", "x/ts=2024-01-01 00%253A00/p", "x/up=%2E%2E%2F/p", "x/100%"];
    for name in names {
        create(&handles[0], name, name.as_bytes()).await;
    }
    for store in &handles {
        for name in names {
            assert_eq!(read(store, name).await, name);
        }
        let mut listed: Vec<String> =
            store.list("x/", None, 10).await.unwrap().into_iter().map(|meta| meta.path.to_string()).collect();
        listed.sort();
        let mut expected = names.map(str::to_owned);
        expected.sort();
        assert_eq!(listed, expected);
        let page = store.list("x/ts=2024-01-01 00%3A00/", None, 10).await.unwrap();
        assert_eq!(page.len(), 1);
    }
    let copied = path("y/ts=00%3A00/copy of it");
    let tag = handles[0].head(&path(names[0])).await.unwrap().tag;
    handles[0].copy(&path(names[0]), &copied, &tag).await.unwrap();
    assert_eq!(read(&handles[0], copied.as_str()).await, names[0]);
}

async fn a_range_must_lie_within(handles: Handles) {
    create(&handles[0], "a", b"12345").await;
    #[expect(clippy::reversed_empty_ranges, reason = "the point of it")]
    for range in [0..6, 6..6, 4..u64::MAX, u64::MAX..u64::MAX, 3..2] {
        let error = handles[0].get(&path("a"), GetOptions::range(range)).await.unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::Invalid, "range-out-of-bounds"));
    }
}

async fn an_absence_is_not_found(handles: Handles) {
    let store = &handles[0];
    create(store, "there/x", b"1").await;
    for name in ["a", "a/b", "there", "there/x/y", "there/y"] {
        let error = store.get(&path(name), GetOptions::default()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{name}");
        assert_eq!(store.head(&path(name)).await.unwrap_err().kind(), ErrorKind::NotFound, "{name}");
        store.delete(&path(name)).await.unwrap();
    }
    assert_eq!(read(store, "there/x").await, "1");
}

async fn a_name_is_created_once(handles: Handles) {
    create(&handles[0], "a/x", b"first").await;
    for store in &handles {
        let again = store.put(&path("a/x"), Bytes::from_static(b"second"), PutMode::Create).await.unwrap();
        assert_eq!(again, PutOutcome::AlreadyExists);
        assert_eq!(read(store, "a/x").await, "first");
    }
}

async fn a_replace_needs_the_tag(handles: Handles) {
    let first = create(&handles[0], "a/x", b"first").await;
    let last = handles.last().unwrap();
    let replace = |name: &'static str, body: &'static [u8], tag: &ObjectTag| {
        let tag = tag.clone();
        async move { last.put(&path(name), Bytes::from_static(body), PutMode::Replace(tag)).await.unwrap() }
    };
    assert_eq!(replace("a/absent", b"x", &first).await, PutOutcome::Mismatch);
    assert_eq!(replace("absent/x", b"x", &first).await, PutOutcome::Mismatch);
    assert_eq!(last.head(&path("a/absent")).await.unwrap_err().kind(), ErrorKind::NotFound);
    let wrong = ObjectTag { etag: "wrong".into(), version_id: None };
    assert_eq!(replace("a/x", b"x", &wrong).await, PutOutcome::Mismatch);
    let PutOutcome::Stored(second) = replace("a/x", b"second", &first).await else {
        panic!("the tag is right")
    };
    assert_eq!(replace("a/x", b"third", &first).await, PutOutcome::Mismatch);
    for store in &handles {
        assert_eq!(read(store, "a/x").await, "second");
        assert_eq!(store.head(&path("a/x")).await.unwrap().tag, second);
    }
}

async fn tags_follow_the_bytes(handles: Handles) {
    // As fast as can be, with bodies of one length: times that tick slowly must not repeat a tag.
    let mut tag = create(&handles[0], "a", &0_u32.to_be_bytes()).await;
    let mut seen = std::collections::HashSet::from([tag.etag.clone()]);
    for n in 1..40_u32 {
        let body = Bytes::copy_from_slice(&n.to_be_bytes());
        let store = &handles[n as usize % handles.len()];
        match store.put(&path("a"), body.clone(), PutMode::Replace(tag)).await.unwrap() {
            PutOutcome::Stored(next) => tag = next,
            other => panic!("{other:?}"),
        }
        assert!(seen.insert(tag.etag.clone()), "tag {} stands for two bodies", tag.etag);
        let object = store.get(&path("a"), GetOptions::default()).await.unwrap();
        assert_eq!((object.bytes, object.meta.tag), (body, tag.clone()));
    }
}

/// Runs `work` once per handle and number, all at once.
async fn at_once<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
    handles: &Handles,
    each: usize,
    work: impl Fn(Arc<dyn ObjectStore>, usize) -> F,
) -> Vec<T> {
    let tasks = nacre_runtime::Tasks::new();
    let count = handles.len() * each;
    let started: Vec<_> =
        (0..count).map(|n| tasks.spawn("suite", work(handles[n % handles.len()].clone(), n))).collect();
    let mut results = Vec::new();
    for task in started {
        results.push(task.await.unwrap());
    }
    results
}

async fn of_many_creators_one_wins(handles: Handles) {
    for round in 0..5 {
        let name = format!("race/{round}/x");
        let results =
            at_once(&handles, 8, |store, n| {
                let path = path(&name);
                async move {
                    (n, store.put(&path, Bytes::from(vec![n as u8; 3_000]), PutMode::Create).await.unwrap())
                }
            })
            .await;
        let winners: Vec<_> =
            results.iter().filter(|(_, outcome)| matches!(outcome, PutOutcome::Stored(_))).collect();
        assert_eq!(winners.len(), 1, "{results:?}");
        assert_eq!(read(&handles[0], &name).await, vec![winners[0].0 as u8; 3_000]);
    }
}

async fn of_many_replacers_one_wins(handles: Handles) {
    // No body comes twice: a tag may be a hash, and then the old body's tag would be good again.
    let mut tag = create(&handles[0], "race", b"0").await;
    for round in 0..5_usize {
        let results = at_once(&handles, 8, |store, n| {
            let mode = PutMode::Replace(tag.clone());
            async move {
                (
                    n,
                    store
                        .put(&path("race"), Bytes::from(vec![(round * 40 + n) as u8; 3_000]), mode)
                        .await
                        .unwrap(),
                )
            }
        })
        .await;
        let winners: Vec<_> = results
            .into_iter()
            .filter_map(|(n, outcome)| match outcome {
                PutOutcome::Stored(tag) => Some((n, tag)),
                _ => None,
            })
            .collect();
        assert_eq!(winners.len(), 1, "{winners:?}");
        let object = handles[0].get(&path("race"), GetOptions::default()).await.unwrap();
        assert_eq!(
            (object.bytes, &object.meta.tag),
            (Bytes::from(vec![(round * 40 + winners[0].0) as u8; 3_000]), &winners[0].1)
        );
        tag = winners[0].1.clone();
    }
}

async fn a_counter_loses_no_increment(handles: Handles) {
    create(&handles[0], "counter", &0_u64.to_be_bytes()).await;
    at_once(&handles, 4, |store, _| async move {
        let mut done = 0;
        while done < 5 {
            let object = store.get(&path("counter"), GetOptions::default()).await.unwrap();
            let count = u64::from_be_bytes(object.bytes[..].try_into().unwrap());
            let body = Bytes::copy_from_slice(&(count + 1).to_be_bytes());
            match store.put(&path("counter"), body, PutMode::Replace(object.meta.tag)).await.unwrap() {
                PutOutcome::Stored(_) => done += 1,
                PutOutcome::Mismatch => {}
                PutOutcome::AlreadyExists => panic!("an answer to a create"),
            }
        }
    })
    .await;
    let count = u64::from_be_bytes(read(&handles[0], "counter").await[..].try_into().unwrap());
    assert_eq!(count, handles.len() as u64 * 4 * 5);
}

async fn a_reader_with_a_tag(handles: Handles) {
    let store = &handles[0];
    let first = create(store, "a", b"first").await;
    let with = |tag: &ObjectTag| GetOptions { if_tag: Some(tag.clone()), ..GetOptions::range(0..2) };
    assert_eq!(store.get(&path("a"), with(&first)).await.unwrap().bytes, "fi");
    store.put(&path("a"), Bytes::from_static(b"other"), PutMode::Replace(first.clone())).await.unwrap();
    match handles.last().unwrap().get(&path("a"), with(&first)).await {
        Ok(old) => assert!(first.version_id.is_some() && old.bytes == "fi", "{old:?}"),
        Err(error) => assert_eq!((error.kind(), error.code()), (ErrorKind::Corrupt, "object-changed")),
    }
}

async fn a_deleted_object_is_gone(handles: Handles) {
    create(&handles[0], "d/a", b"1").await;
    for store in &handles {
        store.delete(&path("d/a")).await.unwrap();
        assert_eq!(store.head(&path("d/a")).await.unwrap_err().kind(), ErrorKind::NotFound);
    }
    assert!(handles[0].list("d", None, 10).await.unwrap().is_empty());
    create(&handles[0], "d/b", b"2").await;
}

async fn a_delete_ends_replaces(handles: Handles) {
    for round in 0..10 {
        let name = format!("r{round}");
        let tag = create(&handles[0], &name, b"1").await;
        at_once(&handles, 4, |store, n| {
            let (path, tag) = (path(&name), tag.clone());
            async move {
                if n % 4 == 0 {
                    store.delete(&path).await.unwrap();
                } else {
                    store.put(&path, Bytes::from_static(b"2"), PutMode::Replace(tag)).await.unwrap();
                }
            }
        })
        .await;
        let error = handles[0].head(&path(&name)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "a replace brought a deleted object back");
    }
}

async fn listing_is_sorted(handles: Handles) {
    let mut names = ["a", "b/a", "b/b", "b-c", "b.d", "b0", "b/a-x", "c/d/e/f", "c/d/e.f", "c/d/g", "z"]
        .map(str::to_owned);
    for name in &names {
        create(&handles[0], name, name.as_bytes()).await;
    }
    names.sort_unstable();
    let store = handles.last().unwrap();
    for prefix in ["", "b", "b/", "b/a", "c/d/e", "c/d/e/", "x", "a", "z/", "c/d/gg"] {
        let expected: Vec<&str> =
            names.iter().map(String::as_str).filter(|name| name.starts_with(prefix)).collect();
        for limit in [1, 2, 3, 100] {
            let mut found: Vec<String> = Vec::new();
            let mut after = None;
            loop {
                let page = store.list(prefix, after.as_ref(), limit).await.unwrap();
                found.extend(page.iter().map(|meta| meta.path.to_string()));
                assert!(page.len() <= limit);
                for meta in &page {
                    let mut head = store.head(&meta.path).await.unwrap();
                    // Where listings do not tell it.
                    head.tag.version_id = head.tag.version_id.filter(|_| meta.tag.version_id.is_some());
                    assert_eq!(head, *meta);
                }
                if page.len() < limit {
                    break;
                }
                after = page.last().map(|meta| meta.path.clone());
            }
            assert_eq!(found, expected, "prefix {prefix:?}, limit {limit}");
        }
    }
}

async fn a_copy_outlives_its_source(handles: Handles) {
    let store = &handles[0];
    let tag = create(store, "staging/x", b"bytes").await;
    let PutOutcome::Stored(copied) = store.copy(&path("staging/x"), &path("tables/t/x"), &tag).await.unwrap()
    else {
        panic!("nothing is in the way");
    };
    store.delete(&path("staging/x")).await.unwrap();
    for store in &handles {
        let options = GetOptions { if_tag: Some(copied.clone()), ..GetOptions::default() };
        assert_eq!(store.get(&path("tables/t/x"), options).await.unwrap().bytes, "bytes");
    }
}

async fn a_copy_needs_the_tag(handles: Handles) {
    let store = &handles[0];
    let tag = create(store, "x", b"bytes").await;
    let wrong = ObjectTag { etag: "wrong".into(), version_id: None };
    assert_eq!(store.copy(&path("x"), &path("y"), &wrong).await.unwrap(), PutOutcome::Mismatch);
    assert_eq!(store.copy(&path("absent"), &path("y"), &tag).await.unwrap(), PutOutcome::Mismatch);
    assert_eq!(store.head(&path("y")).await.unwrap_err().kind(), ErrorKind::NotFound);
    create(store, "y", b"other").await;
    assert_eq!(store.copy(&path("x"), &path("y"), &tag).await.unwrap(), PutOutcome::AlreadyExists);
    assert_eq!(read(store, "y").await, "other");
}

async fn an_upload_is_seen_whole(handles: Handles) {
    let store = &handles[0];
    let (other, name) = (handles.last().unwrap(), path("up/x"));
    let mut upload = store.upload(&name).await.unwrap();
    for n in 0..5_u8 {
        upload.write(Bytes::from(vec![n; 100_000])).await.unwrap();
        assert_eq!(other.head(&name).await.unwrap_err().kind(), ErrorKind::NotFound);
    }
    let mut late = other.upload(&name).await.unwrap();
    late.write(Bytes::from_static(b"late")).await.unwrap();
    assert!(matches!(upload.finish().await.unwrap(), PutOutcome::Stored(_)));
    let bytes = read(other, "up/x").await;
    assert_eq!(bytes.len(), 500_000);
    assert!(bytes.chunks(100_000).enumerate().all(|(n, part)| part.iter().all(|b| *b == n as u8)));
    assert_eq!(late.finish().await.unwrap(), PutOutcome::AlreadyExists);
    let mut given_up = store.upload(&path("up/y")).await.unwrap();
    given_up.write(Bytes::from_static(b"1")).await.unwrap();
    given_up.abort().await;
    drop(store.upload(&path("up/z")).await.unwrap());
    let listed = store.list("", None, 100).await.unwrap();
    assert_eq!(listed.iter().map(|meta| meta.path.as_str()).collect::<Vec<_>>(), ["up/x"]);
}

async fn an_empty_object(handles: Handles) {
    create(&handles[0], "empty", b"").await;
    let object = handles[0].get(&path("empty"), GetOptions::range(0..0)).await.unwrap();
    assert_eq!((object.bytes.len(), object.meta.size), (0, 0));
}

async fn dates_are_the_stores(handles: Handles, coarse: i64) {
    let before = handles[0].date_micros().await.unwrap();
    create(&handles[0], "a", b"1").await;
    let after = handles.last().unwrap().date_micros().await.unwrap();
    let modified = handles[0].head(&path("a")).await.unwrap().modified_micros;
    assert!(before <= modified + coarse && modified <= after + coarse, "{before} {modified} {after}");
}
