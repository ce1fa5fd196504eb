//! What every catalog promises, one sentence at a time.

use super::edit;
use crate::{Append, Catalog, EncodedEdit, RecordPut, SnapshotRef};
use bytes::Bytes;
use nacre_runtime::Context;
use nacre_types::{CommitId, ErrorKind, Seq, TableId};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

type Handles = Vec<Arc<dyn Catalog>>;
type Sentence = fn(Handles, Context) -> Pin<Box<dyn Future<Output = ()> + Send>>;

const TABLE: TableId = TableId(7);

/// Runs every sentence on a new catalog of its own. `make` gives one or more handles, as different processes would hold
/// them, on one new, empty catalog.
///
/// # Panics
/// Where the catalog breaks a promise.
pub async fn conformance(make: impl Fn() -> Handles, ctx: &Context) {
    let sentences: &[Sentence] = &[
        |h, c| Box::pin(edits_are_numbered_and_read_in_order(h, c)),
        |h, c| Box::pin(an_edit_of_another_is_a_conflict(h, c)),
        |h, c| Box::pin(the_same_edit_again_is_committed(h, c)),
        |h, c| Box::pin(nothing_is_put_beyond_the_end(h, c)),
        |h, c| Box::pin(of_many_appenders_one_commits(h, c)),
        |h, c| Box::pin(long_logs_are_read_in_pages(h, c)),
        |h, c| Box::pin(tables_do_not_touch(h, c)),
        |h, c| Box::pin(heads_only_move_forward(h, c)),
        |h, c| Box::pin(records_are_replaced_if_unchanged(h, c)),
        |h, c| Box::pin(tags_of_records_never_repeat(h, c)),
        |h, c| Box::pin(of_many_record_writers_one_wins(h, c)),
        |h, c| Box::pin(names_of_records_are_checked(h, c)),
    ];
    for sentence in sentences {
        let handles = make();
        assert!(!handles.is_empty());
        sentence(handles, ctx.clone()).await;
    }
}

/// Appends `count` edits; answers them.
async fn fill(catalog: &Arc<dyn Catalog>, ctx: &Context, table: TableId, count: u64) -> Vec<EncodedEdit> {
    let mut edits: Vec<EncodedEdit> = Vec::new();
    for n in 0..count {
        let next = edit(ctx, edits.last().map_or(CommitId(0), |edit| edit.commit_id), format!("edit {n}"));
        let outcome = catalog.append(table, Seq(n), &next).await.unwrap();
        assert_eq!(outcome, Append::Committed(Seq(n + 1)));
        edits.push(next);
    }
    edits
}

async fn edits_are_numbered_and_read_in_order(handles: Handles, ctx: Context) {
    assert!(handles[0].read(TABLE, Seq(0), 10).await.unwrap().is_empty());
    let edits = fill(&handles[0], &ctx, TABLE, 5).await;
    for catalog in &handles {
        for after in 0..=5 {
            let read = catalog.read(TABLE, Seq(after), 100).await.unwrap();
            let expected: Vec<_> = (after..5).map(|n| (Seq(n + 1), edits[n as usize].clone())).collect();
            assert_eq!(read, expected);
        }
        assert_eq!(catalog.read(TABLE, Seq(1), 2).await.unwrap().len(), 2);
        assert!(catalog.read(TABLE, Seq(0), 0).await.unwrap().is_empty());
    }
}

async fn an_edit_of_another_is_a_conflict(handles: Handles, ctx: Context) {
    let edits = fill(&handles[0], &ctx, TABLE, 2).await;
    let late = edit(&ctx, edits[0].commit_id, "late");
    for catalog in &handles {
        match catalog.append(TABLE, Seq(1), &late).await.unwrap() {
            Append::Conflict { now_at } => assert_eq!(now_at, Seq(2)),
            other => panic!("{other:?}"),
        }
        // The same body is still another's edit.
        let twin = EncodedEdit { commit_id: late.commit_id, ..edits[1].clone() };
        assert!(matches!(catalog.append(TABLE, Seq(1), &twin).await.unwrap(), Append::Conflict { .. }));
    }
    assert_eq!(handles[0].read(TABLE, Seq(1), 9).await.unwrap(), [(Seq(2), edits[1].clone())]);
}

async fn the_same_edit_again_is_committed(handles: Handles, ctx: Context) {
    let edits = fill(&handles[0], &ctx, TABLE, 3).await;
    for catalog in &handles {
        assert_eq!(catalog.append(TABLE, Seq(1), &edits[1]).await.unwrap(), Append::Committed(Seq(2)));
        assert_eq!(catalog.read(TABLE, Seq(0), 9).await.unwrap().len(), 3);
    }
}

async fn nothing_is_put_beyond_the_end(handles: Handles, ctx: Context) {
    let edits = fill(&handles[0], &ctx, TABLE, 2).await;
    for catalog in &handles {
        let next = edit(&ctx, edits[1].commit_id, "x");
        for expected in [3, 4, 100] {
            let error = catalog.append(TABLE, Seq(expected), &next).await.unwrap_err();
            assert_eq!((error.kind(), error.code()), (ErrorKind::Invalid, "append-beyond-end"));
        }
        for (expected, predecessor) in [(2, edits[0].commit_id), (2, CommitId(0))] {
            let forked = edit(&ctx, predecessor, "x");
            let error = catalog.append(TABLE, Seq(expected), &forked).await.unwrap_err();
            assert_eq!((error.kind(), error.code()), (ErrorKind::Invalid, "append-predecessor"));
        }
        assert_eq!(catalog.read(TABLE, Seq(0), 9).await.unwrap().len(), 2);
    }
}

async fn of_many_appenders_one_commits(handles: Handles, ctx: Context) {
    let mut last = CommitId(0);
    for seq in 0..6 {
        let attempts: Vec<_> = (0..16)
            .map(|n| {
                let (catalog, edit) = (handles[n % handles.len()].clone(), edit(&ctx, last, vec![n as u8]));
                ctx.tasks.spawn("appender", async move {
                    (edit.clone(), catalog.append(TABLE, Seq(seq), &edit).await.unwrap())
                })
            })
            .collect();
        let mut winners = Vec::new();
        for attempt in attempts {
            match attempt.await.unwrap() {
                (edit, Append::Committed(at)) => winners.push((at, edit)),
                (_, Append::Conflict { now_at }) => assert!(now_at > Seq(seq)),
                (_, Append::Unknown) => panic!("nothing is lost here"),
            }
        }
        assert_eq!(winners.len(), 1);
        assert_eq!(handles[0].read(TABLE, Seq(seq), 9).await.unwrap(), winners);
        last = winners[0].1.commit_id;
    }
}

async fn long_logs_are_read_in_pages(handles: Handles, ctx: Context) {
    let edits = fill(&handles[0], &ctx, TABLE, 100).await;
    for limit in [1, 7, 33, 100, 1_000] {
        let mut read = Vec::new();
        loop {
            let page = handles.last().unwrap().read(TABLE, Seq(read.len() as u64), limit).await.unwrap();
            let full = page.len() == limit;
            read.extend(page.into_iter().map(|(_, edit)| edit));
            if !full {
                break;
            }
        }
        assert_eq!(read, edits);
    }
}

async fn tables_do_not_touch(handles: Handles, ctx: Context) {
    fill(&handles[0], &ctx, TableId(1), 3).await;
    fill(&handles[0], &ctx, TableId(u128::MAX), 1).await;
    let catalog = handles.last().unwrap();
    assert_eq!(catalog.read(TableId(1), Seq(0), 9).await.unwrap().len(), 3);
    assert_eq!(catalog.read(TableId(u128::MAX), Seq(0), 9).await.unwrap().len(), 1);
    assert!(catalog.read(TableId(2), Seq(0), 9).await.unwrap().is_empty());
}

async fn heads_only_move_forward(handles: Handles, _: Context) {
    let snapshot =
        |seq| SnapshotRef { seq: Seq(seq), commit_id: CommitId(1), path: format!("manifests/{seq}") };
    assert_eq!(handles[0].head(TABLE).await.unwrap().snapshot, None);
    for (set, expected) in [(5, 5), (3, 5), (5, 5), (9, 9), (8, 9)] {
        handles[set as usize % handles.len()].set_head(TABLE, snapshot(set)).await.unwrap();
        assert_eq!(handles[0].head(TABLE).await.unwrap().snapshot, Some(snapshot(expected)));
    }
}

async fn put(
    catalog: &Arc<dyn Catalog>,
    name: &str,
    expected: Option<&crate::RecordTag>,
    body: &str,
) -> RecordPut {
    catalog.put_record(name, expected, Bytes::copy_from_slice(body.as_bytes())).await.unwrap()
}

async fn records_are_replaced_if_unchanged(handles: Handles, _: Context) {
    let (first, last) = (&handles[0], handles.last().unwrap());
    assert_eq!(first.record("a/b").await.unwrap(), None);
    let RecordPut::Stored(one) = put(first, "a/b", None, "one").await else { panic!("it is new") };
    assert_eq!(put(last, "a/b", None, "other").await, RecordPut::Conflict);
    let RecordPut::Stored(two) = put(last, "a/b", Some(&one), "two").await else { panic!("unchanged") };
    assert_eq!(put(first, "a/b", Some(&one), "three").await, RecordPut::Conflict);
    assert_eq!(put(first, "a/c", Some(&one), "three").await, RecordPut::Conflict);
    for catalog in &handles {
        assert_eq!(catalog.record("a/b").await.unwrap(), Some((Bytes::from_static(b"two"), two.clone())));
        assert_eq!(catalog.record("a/c").await.unwrap(), None);
    }
    // A record may have the name of others' folder.
    assert!(matches!(put(first, "a", None, "").await, RecordPut::Stored(_)));
}

async fn tags_of_records_never_repeat(handles: Handles, _: Context) {
    let mut tags = std::collections::HashSet::new();
    let RecordPut::Stored(mut tag) = put(&handles[0], "r", None, "same").await else { panic!("it is new") };
    for n in 0..20 {
        assert!(tags.insert(tag.clone()), "a late request could land");
        let RecordPut::Stored(next) = put(&handles[n % handles.len()], "r", Some(&tag), "same").await else {
            panic!("unchanged")
        };
        tag = next;
    }
}

async fn of_many_record_writers_one_wins(handles: Handles, ctx: Context) {
    let RecordPut::Stored(tag) = put(&handles[0], "r", None, "0").await else { panic!("it is new") };
    let writers: Vec<_> = (0..16)
        .map(|n| {
            let (catalog, tag) = (handles[n % handles.len()].clone(), tag.clone());
            ctx.tasks.spawn("writer", async move { put(&catalog, "r", Some(&tag), "the same bytes").await })
        })
        .collect();
    let mut stored = Vec::new();
    for writer in writers {
        match writer.await.unwrap() {
            RecordPut::Stored(tag) => stored.push(tag),
            other => assert_eq!(other, RecordPut::Conflict),
        }
    }
    assert_eq!(stored.len(), 1);
    assert_eq!(handles[0].record("r").await.unwrap().unwrap().1, stored[0]);
}

async fn names_of_records_are_checked(handles: Handles, _: Context) {
    for name in ["", "/a", "a/", "a//b", "A", "a.b", "..", "ä", "a b"] {
        let error = handles[0].record(name).await.unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::Invalid, "record-name"), "{name}");
        assert!(handles[0].put_record(name, None, Bytes::new()).await.is_err());
    }
}
