//! The same GET sent several times at once.
//!
//! A store that takes 15 ms in the middle and 60 ms at p99 takes more than 25 ms once in five times, and of two requests both
//! do once in twenty-five. Sending a second one only where the first is late (`hedged`) costs a few percent and mends the
//! worst; who wants the middle better has to pay for it (the source is Dean and Barroso, "The Tail at Scale", 2013; Vulimiri
//! et al., "Low Latency via Redundancy", 2013, on when it pays). Redundancy must not make the queue that it is to pass by:
//! where half of a lane is taken, one is sent.
//!
//! Each copy is a task of its own and is read to its end, whoever wins: giving up an answer on its way closes its
//! connection, and the next request would have to shake hands.

use super::client::Client;
use crate::{GetOptions, Object, ObjectPath};
use futures::stream::{FuturesUnordered, StreamExt as _};
use nacre_types::{Error, ErrorKind, Result};
use std::sync::Arc;

/// The first answer; an error only where no copy has another.
pub(super) async fn first(client: &Arc<Client>, path: &ObjectPath, options: GetOptions) -> Result<Object> {
    if options.copies == 0 || !client.has_room(path) {
        return client.get(path, &options).await;
    }
    let mut under_way: FuturesUnordered<_> = (0..=options.copies)
        .map(|_| {
            let (client, path, options) = (client.clone(), path.clone(), options.clone());
            let tasks = client.ctx.tasks.clone();
            tasks.spawn("s3-copy", async move { client.get(&path, &options).await })
        })
        .collect();
    let mut failed = Error::internal("a read without copies");
    while let Some(outcome) = under_way.next().await {
        match outcome.and_then(|answer| answer) {
            Err(error) if error.kind() == ErrorKind::Unavailable => failed = error,
            settled => return settled,
        }
    }
    Err(failed)
}
