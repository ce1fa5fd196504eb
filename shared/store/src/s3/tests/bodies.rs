//! How long and how big answers may be.

use super::*;
use crate::testing::server::{Act, Fake};

#[tokio::test]
async fn what_is_too_long_for_an_answer_is_not_read_to_its_end() {
    let huge = vec![b'x'; 9 << 20];
    // Its end is long in coming.
    let answer = |status| Act::answer(status, &huge).pausing(huge.len() - 1, Duration::from_secs(2));
    for act in [answer(200), answer(200).unmeasured()] {
        let fake = Fake::always(act.with(DATES).with(&[("etag", "\"e\"")])).await;
        let store = store(&fake);
        let errors = [
            store.get(&path("a"), GetOptions::range(2..5)).await.unwrap_err(),
            store.list("", None, 9).await.unwrap_err(),
        ];
        for error in errors {
            assert_eq!((error.kind(), error.code()), (ErrorKind::Unavailable, "store-endpoint"), "{error}");
        }
        assert_eq!(fake.seen().len(), 2, "and not asked for again");
    }
    let whole = Fake::always(object(&huge)).await;
    assert_eq!(get(&whole).await.unwrap().bytes.len(), huge.len(), "an object may be as long as it is");
    let wrong = Fake::always(answer(404)).await;
    assert_eq!(get(&wrong).await.unwrap_err().code(), "store-endpoint");
    assert_eq!(create(&wrong).await.unwrap_err().code(), "store-endpoint");
    assert_eq!(wrong.seen().len(), 2);
}

#[tokio::test]
async fn a_body_that_trickles_has_an_end() {
    let mut slow = object(&[7; 100]);
    for n in 1..100 {
        slow = slow.pausing(n, Duration::from_millis(100));
    }
    let fake = Fake::new(move |_, n| if n == 0 { slow.clone() } else { object(b"quick") }).await;
    let read =
        tokio::time::timeout(Duration::from_secs(3), get(&fake)).await.expect("it does not wait for it");
    assert_eq!(read.unwrap().bytes, "quick");
}

#[tokio::test]
async fn a_body_that_pauses_for_too_long_is_asked_for_again() {
    let fake = Fake::new(|_, n| match n {
        0 => object(b"slow").pausing(2, Duration::from_millis(1_000)),
        _ => object(b"quick"),
    })
    .await;
    assert_eq!(get(&fake).await.unwrap().bytes, "quick");
}
