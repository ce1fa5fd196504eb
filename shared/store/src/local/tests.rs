//! Tests of the local store: a disk that loses power, and planted bugs that prove that the suites see.

use super::files::Flaws;
use super::*;
use crate::testing::{Disk, conformance, races};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;

type Shown = BTreeMap<String, Bytes>;

const NAMES: [&str; 7] = ["a/b/one", "a/b/two", "a/three", "r", "a/b/r", "up/load", "adopted/one"];

fn path(text: &str) -> ObjectPath {
    ObjectPath::new(text).unwrap()
}

async fn read_all(store: &LocalStore) -> Shown {
    let mut shown = Shown::new();
    for name in NAMES {
        if let Ok(object) = store.get(&path(name), GetOptions::default()).await {
            shown.insert(name.to_owned(), object.bytes);
        }
    }
    shown
}

/// A process that does a little of everything until it dies. Answers what it was told: the bytes that each name had at
/// the last acknowledgement, and those that a name may have beside them.
async fn script(store: &LocalStore) -> (Shown, BTreeMap<String, Vec<Bytes>>) {
    let mut told = Shown::new();
    let mut possible: BTreeMap<String, Vec<Bytes>> = BTreeMap::new();
    macro_rules! step {
        ($name:expr, $body:expr, $work:expr) => {{
            let (name, body): (&str, &'static str) = ($name, $body);
            possible.entry(name.into()).or_default().push(body.into());
            match $work {
                Ok(PutOutcome::Stored(tag)) => {
                    told.insert(name.into(), body.into());
                    tag
                }
                Ok(other) => panic!("{name}: {other:?}"),
                Err(_) => return (told, possible),
            }
        }};
    }
    let create = |name: &str, body: &'static str| {
        let path = path(name);
        async move { store.put(&path, body.into(), PutMode::Create).await }
    };
    let replace = |name: &str, body: &'static str, tag: ObjectTag| {
        let path = path(name);
        async move { store.put(&path, body.into(), PutMode::Replace(tag)).await }
    };
    let one = step!("a/b/one", "first object", create("a/b/one", "first object").await);
    step!("a/b/two", "second object", create("a/b/two", "second object").await);
    step!("a/three", "third object", create("a/three", "third object").await);
    let tag = step!("r", "record 1", create("r", "record 1").await);
    let tag = step!("r", "record 2", replace("r", "record 2", tag).await);
    step!("r", "record 3, longer", replace("r", "record 3, longer", tag).await);
    let tag = step!("a/b/r", "inner 1", create("a/b/r", "inner 1").await);
    step!("a/b/r", "inner 2", replace("a/b/r", "inner 2", tag).await);
    let mut upload = match store.upload(&path("up/load")).await {
        Ok(upload) => upload,
        Err(_) => return (told, possible),
    };
    for part in ["part one ", "part two"] {
        if upload.write(part.into()).await.is_err() {
            return (told, possible);
        }
    }
    step!("up/load", "part one part two", upload.finish().await);
    step!("adopted/one", "first object", store.copy(&path("a/b/one"), &path("adopted/one"), &one).await);
    (told, possible)
}

/// Lets a process die after `calls`, another look at what is there, the power go, and a third look. Answers whether the
/// first process came to its end.
async fn power_loss(flaws: Flaws, calls: u64, seed: u64) -> bool {
    let disk = Disk::new();
    let (writer, reader) = (disk.process(), disk.process());
    let store = writer.open(&Context::for_tests(seed)).unwrap();
    *store.directory.flaws.lock() = flaws;
    writer.die_after(calls);
    let (told, possible) = script(&store).await;
    let finished = told.len() == NAMES.len();
    let other = reader.open(&Context::for_tests(seed + 1)).unwrap();
    *other.directory.flaws.lock() = flaws;
    let shown = if seed.is_multiple_of(2) { read_all(&other).await } else { Shown::new() };
    drop((store, other));
    disk.lose_power(seed);
    let after = read_all(&disk.process().open(&Context::for_tests(seed + 2)).unwrap()).await;
    for (name, body) in told.iter().chain(&shown) {
        // What was under way at the end may have come after what was acknowledged.
        let newest = possible.get(name).map(|bodies| bodies.iter().skip_while(|it| *it != body));
        let lasts = newest
            .is_some_and(|mut bodies| after.get(name).is_some_and(|found| bodies.any(|it| it == found)));
        assert!(
            lasts,
            "{name}: {body:?} was acknowledged or shown, and is {:?} after the loss of power",
            after.get(name)
        );
    }
    for (name, body) in &after {
        assert!(
            possible.get(name).is_some_and(|bodies| bodies.contains(body)),
            "{name}: {body:?} is no object"
        );
    }
    finished
}

/// Every moment of death, and a few disks for each.
async fn power_losses(flaws: Flaws) {
    for calls in 0.. {
        let mut finished = false;
        for seed in 0..6 {
            finished = power_loss(flaws, calls, seed).await;
        }
        if finished {
            return;
        }
    }
}

async fn is_noticed<F: Future<Output = ()> + Send + 'static>(suite: F) -> bool {
    nacre_runtime::Tasks::new().spawn("suite", suite).await.is_err()
}

#[tokio::test]
async fn what_was_acknowledged_or_shown_survives_a_loss_of_power_at_any_call() {
    power_losses(Flaws::default()).await;
}

#[tokio::test]
async fn a_forgotten_sync_of_the_file_is_noticed() {
    assert!(is_noticed(power_losses(Flaws { no_file_sync: true, ..Flaws::default() })).await);
}

#[tokio::test]
async fn a_forgotten_sync_of_the_directory_is_noticed() {
    assert!(is_noticed(power_losses(Flaws { no_directory_sync: true, ..Flaws::default() })).await);
}

#[tokio::test]
async fn a_forgotten_sync_of_a_new_directorys_parent_is_noticed() {
    assert!(is_noticed(power_losses(Flaws { no_parent_sync: true, ..Flaws::default() })).await);
}

#[tokio::test]
async fn showing_what_is_not_durable_yet_is_noticed() {
    assert!(is_noticed(power_losses(Flaws { trust_two_names: true, ..Flaws::default() })).await);
}

/// Several processes of one flawed kind on one real directory.
fn flawed(dir: &tempfile::TempDir, flaws: Flaws, processes: u64) -> Vec<Arc<dyn ObjectStore>> {
    let root = dir.path().join(format!("{:x}", Context::system().ids.random_u64()));
    let open = |seed| {
        let store = LocalStore::open(&root, &Context::for_tests(seed)).unwrap();
        *store.directory.flaws.lock() = flaws;
        Arc::new(store) as Arc<dyn ObjectStore>
    };
    (0..processes).map(open).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn naming_an_object_by_a_rename_is_noticed() {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let flaws = Flaws { rename_to_create: true, ..Flaws::default() };
    let suite = async move {
        for seed in 0..100 {
            races(flawed(&dir, flaws, 4), seed).await;
            conformance(|| flawed(&dir, flaws, 2)).await;
        }
    };
    assert!(is_noticed(suite).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn replacing_without_the_lock_is_noticed() {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let flaws = Flaws { no_lock: true, ..Flaws::default() };
    let suite = async move {
        for seed in 0..100 {
            races(flawed(&dir, flaws, 4), seed).await;
            conformance(|| flawed(&dir, flaws, 2)).await;
        }
    };
    assert!(is_noticed(suite).await);
}

async fn replace_within_one_tick(flaws: Flaws) {
    let disk = Disk::new();
    let store = disk.process().open(&Context::for_tests(1)).unwrap();
    *store.directory.flaws.lock() = flaws;
    disk.freeze_time(true);
    conformance_of_tags(&store).await;
}

async fn conformance_of_tags(store: &LocalStore) {
    let mut seen = std::collections::HashSet::new();
    let PutOutcome::Stored(mut tag) = store.put(&path("r"), "0".into(), PutMode::Create).await.unwrap()
    else {
        panic!("it is new");
    };
    for n in 1..9_u8 {
        assert!(seen.insert(tag.etag.clone()), "a tag stands for two bodies");
        let body = Bytes::from(vec![n]);
        let PutOutcome::Stored(next) = store.put(&path("r"), body, PutMode::Replace(tag)).await.unwrap()
        else {
            panic!("unchanged");
        };
        tag = next;
    }
}

#[tokio::test]
async fn tags_never_repeat_though_the_clock_stands_still() {
    replace_within_one_tick(Flaws::default()).await;
    let flaws = Flaws { times_may_repeat: true, ..Flaws::default() };
    assert!(is_noticed(replace_within_one_tick(flaws)).await);
}

#[tokio::test]
async fn the_disk_in_memory_conforms() {
    conformance(|| {
        let disk = Disk::new();
        let open =
            |seed| Arc::new(disk.process().open(&Context::for_tests(seed)).unwrap()) as Arc<dyn ObjectStore>;
        (0..2).map(open).collect()
    })
    .await;
}

fn left_in(root: &Path, folder: &str) -> usize {
    std::fs::read_dir(root.join(folder)).unwrap().count()
}

#[tokio::test]
async fn objects_are_read_only_and_nothing_temporary_stays() {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalStore::open(dir.path(), &Context::for_tests(1)).unwrap();
    let mode = |name: &str| std::fs::metadata(dir.path().join(name)).unwrap().permissions().mode() & 0o777;
    for name in ["x", "y/z"] {
        let PutOutcome::Stored(tag) = store.put(&path(name), "1".into(), PutMode::Create).await.unwrap()
        else {
            panic!("it is new");
        };
        assert_eq!(
            store.put(&path(name), "2".into(), PutMode::Create).await.unwrap(),
            PutOutcome::AlreadyExists
        );
        assert_eq!(mode(name) & 0o222, 0);
        store.put(&path(name), "3".into(), PutMode::Replace(tag.clone())).await.unwrap();
        store.put(&path(name), "4".into(), PutMode::Replace(tag)).await.unwrap();
        assert_eq!(mode(name) & 0o222, 0);
    }
    let mut upload = store.upload(&path("up")).await.unwrap();
    upload.write("1".into()).await.unwrap();
    assert_eq!(left_in(dir.path(), ".tmp"), 1);
    drop(upload);
    assert_eq!(left_in(dir.path(), ".tmp"), 0);
}

#[tokio::test]
async fn an_adopted_file_is_one_file_read_only_under_both_names() {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalStore::open(dir.path(), &Context::for_tests(1)).unwrap();
    std::fs::create_dir_all(dir.path().join("staging")).unwrap();
    let (producers, adopted) = (dir.path().join("staging/p.parquet"), dir.path().join("tables/t/p.parquet"));
    std::fs::write(&producers, "a stranger's bytes").unwrap();
    std::fs::set_permissions(&producers, std::fs::Permissions::from_mode(0o644)).unwrap();
    let tag = store.head(&path("staging/p.parquet")).await.unwrap().tag;
    let before = store.date_micros().await.unwrap();
    let outcome = store.copy(&path("staging/p.parquet"), &path("tables/t/p.parquet"), &tag).await.unwrap();
    assert_eq!(outcome, PutOutcome::Stored(tag.clone()));
    use std::os::unix::fs::MetadataExt;
    let (one, two) = (std::fs::metadata(&producers).unwrap(), std::fs::metadata(&adopted).unwrap());
    assert_eq!((one.ino(), two.permissions().mode() & 0o777), (two.ino(), 0o444));
    assert_eq!(store.local_path(&path("tables/t/p.parquet")), Some(adopted.clone()));
    let meta = store.head(&path("tables/t/p.parquet")).await.unwrap();
    assert!(meta.modified_micros >= before, "the grace of garbage counts from the adoption");
    assert_eq!(left_in(dir.path(), ".tmp"), 0);
    // A producer who writes to it all the same (as its owner may) is found out.
    let good = GetOptions { if_tag: Some(tag), ..GetOptions::default() };
    assert_eq!(
        store.get(&path("tables/t/p.parquet"), good.clone()).await.unwrap().bytes,
        "a stranger's bytes"
    );
    std::fs::set_permissions(&producers, std::fs::Permissions::from_mode(0o644)).unwrap();
    std::fs::write(&producers, "A STRANGER'S BYTES, other").unwrap();
    assert_eq!(store.get(&path("tables/t/p.parquet"), good).await.unwrap_err().code(), "object-changed");
}

#[tokio::test]
async fn a_name_is_an_object_or_a_folder_and_links_lead_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalStore::open(&dir.path().join("data"), &Context::for_tests(1)).unwrap();
    store.put(&path("a/b"), "1".into(), PutMode::Create).await.unwrap();
    let error = store.put(&path("a"), "1".into(), PutMode::Create).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Invalid, "object-path"));
    let error = store.put(&path("a/b/c"), "1".into(), PutMode::Create).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "certainly not: {error}");
    std::fs::write(dir.path().join("secret"), "canary").unwrap();
    std::os::unix::fs::symlink(dir.path().join("secret"), dir.path().join("data/a/link")).unwrap();
    assert!(store.get(&path("a/link"), GetOptions::default()).await.is_err());
    assert_eq!(store.list("a", None, 9).await.unwrap().len(), 1);
    // What a load would leave out in silence is an error.
    std::fs::write(dir.path().join("data/a/part+1.parquet"), "x").unwrap();
    assert_eq!(store.list("a", None, 9).await.unwrap_err().code(), "object-path");
}

#[tokio::test]
async fn a_full_disk_says_so_and_leaves_nothing() {
    let disk = Disk::new();
    let store = disk.process().open(&Context::for_tests(1)).unwrap();
    let PutOutcome::Stored(tag) = store.put(&path("r"), "1234".into(), PutMode::Create).await.unwrap() else {
        panic!("it is new");
    };
    disk.set_room(10);
    let full = |error: Error| assert_eq!((error.kind(), error.code()), (ErrorKind::Unavailable, "disk-full"));
    let body = Bytes::from(vec![1; 11]);
    full(store.put(&path("a/b"), body.clone(), PutMode::Create).await.unwrap_err());
    full(store.put(&path("r"), body.clone(), PutMode::Replace(tag)).await.unwrap_err());
    let mut upload = store.upload(&path("up")).await.unwrap();
    full(upload.write(body).await.unwrap_err());
    assert_eq!(upload.finish().await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(disk.names_in(".tmp"), 0);
    assert_eq!(store.list("", None, 9).await.unwrap().len(), 1);
    assert_eq!(store.get(&path("r"), GetOptions::default()).await.unwrap().bytes, "1234");
}

#[tokio::test]
async fn what_a_crash_left_is_swept_a_day_later_and_not_before() {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalStore::open(dir.path(), &Context::for_tests(1)).unwrap();
    std::fs::write(dir.path().join(".tmp/left"), "torn").unwrap();
    LocalStore::open(dir.path(), &Context::for_tests(2)).unwrap();
    assert_eq!(left_in(dir.path(), ".tmp"), 1);
    let now = store.date_micros().await.unwrap();
    // The kernel's change time cannot be set, so the day is passed to the sweep.
    store.directory.sweep(now + 25 * 3600 * 1_000_000);
    assert_eq!(left_in(dir.path(), ".tmp"), 0);
}
