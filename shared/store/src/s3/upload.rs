//! Big objects: in parts that nobody sees until the last request, which says that the name must be free.
//!
//! An object of less than one part is a plain put. A part goes up while the next is being written; a few are under way
//! at once, each of them in memory.

use super::ask::Kind;
use super::client::Client;
use crate::{ObjectPath, PutMode, PutOutcome, Upload};
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use nacre_runtime::TaskHandle;
use nacre_types::{Applied, Error, Result};
use std::collections::VecDeque;
use std::sync::Arc;

/// After so many parts they become twice as large: S3 takes 10,000 of them, and 5 TiB in all.
const SAME_SIZE: usize = 1_000;

/// An upload that was begun, of an object or of a copy. Dropped before its end was asked for, it is given up.
pub(super) struct OpenUpload {
    client: Arc<Client>,
    path: ObjectPath,
    kind: Kind,
    id: String,
    /// Nobody has asked for its end, and nobody has given it up.
    is_open: bool,
}

impl OpenUpload {
    pub(super) async fn new(client: &Arc<Client>, path: &ObjectPath, kind: Kind) -> Result<Self> {
        let id = client.begin_upload(path, kind).await?;
        Ok(Self { client: client.clone(), path: path.clone(), kind, id, is_open: true })
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Makes an object of the parts, if its name is free.
    pub(super) async fn end(mut self, parts: &[String]) -> Result<PutOutcome> {
        // From here on nothing may be cleaned up on a guess: the end may still be under way.
        self.is_open = false;
        let outcome = self.client.finish_upload(&self.path, &self.id, parts, self.kind).await;
        let is_over = match &outcome {
            Ok(outcome) => !matches!(outcome, PutOutcome::Stored(_)),
            Err(error) => error.applied() == Applied::No,
        };
        if is_over {
            self.client.abort_upload(&self.path, &self.id).await;
        }
        outcome
    }

    pub(super) async fn abort(mut self) {
        self.is_open = false;
        self.client.abort_upload(&self.path, &self.id).await;
    }
}

impl Drop for OpenUpload {
    fn drop(&mut self) {
        if self.is_open && tokio::runtime::Handle::try_current().is_ok() {
            let (client, path, id) = (self.client.clone(), self.path.clone(), std::mem::take(&mut self.id));
            let tasks = self.client.ctx.tasks.clone();
            tasks.spawn("s3-abort", async move { client.abort_upload(&path, &id).await });
        }
    }
}

pub(super) struct S3Upload {
    client: Arc<Client>,
    path: ObjectPath,
    /// Written and not yet sent: less than a part.
    waiting: BytesMut,
    open: Option<OpenUpload>,
    /// ETags of the parts that are there, in order.
    parts: Vec<String>,
    /// Those under way, in order.
    under_way: VecDeque<TaskHandle<Result<String>>>,
    /// An error happened, or a future was dropped half way.
    is_broken: bool,
}

fn broken() -> Error {
    Error::unavailable("an earlier part of the upload failed; begin it again").with_code("upload-broken")
}

impl S3Upload {
    pub(super) fn new(client: Arc<Client>, path: ObjectPath) -> Self {
        Self {
            client,
            path,
            waiting: BytesMut::new(),
            open: None,
            parts: Vec::new(),
            under_way: VecDeque::new(),
            is_broken: false,
        }
    }

    fn part_bytes(&self) -> usize {
        let sent = self.parts.len() + self.under_way.len();
        self.client.tuning.part_bytes << (sent / SAME_SIZE).min(9)
    }

    async fn take(&mut self, mut rest: Bytes) -> Result<()> {
        while !rest.is_empty() {
            let size = self.part_bytes();
            if self.waiting.is_empty() && rest.len() >= size {
                // A part as it is.
                let part = rest.split_to(size);
                self.send(part).await?;
                continue;
            }
            let room = size.saturating_sub(self.waiting.len());
            let now = rest.split_to(room.min(rest.len()));
            if self.open.is_some() {
                self.waiting.reserve(room);
            }
            self.waiting.extend_from_slice(&now);
            if self.waiting.len() >= size {
                self.send_waiting().await?;
            }
        }
        Ok(())
    }

    async fn send_waiting(&mut self) -> Result<()> {
        let part = self.waiting.split().freeze();
        self.send(part).await
    }

    /// Sends the next part.
    async fn send(&mut self, part: Bytes) -> Result<()> {
        let id = match &self.open {
            Some(open) => open.id().to_owned(),
            None => {
                let open = OpenUpload::new(&self.client, &self.path, Kind::Upload).await?;
                self.open.insert(open).id().to_owned()
            }
        };
        while self.under_way.len() >= self.client.tuning.parts_at_once {
            self.settle_oldest().await?;
        }
        let number = self.parts.len() + self.under_way.len() + 1;
        let (client, path) = (self.client.clone(), self.path.clone());
        let work = async move { client.put_part(&path, &id, number, part).await };
        self.under_way.push_back(self.client.ctx.tasks.spawn("s3-part", work));
        Ok(())
    }

    async fn settle_oldest(&mut self) -> Result<()> {
        if let Some(part) = self.under_way.pop_front() {
            let etag = part.await.map_err(|_| broken())??;
            self.parts.push(etag);
        }
        Ok(())
    }

    /// Waits until all parts are there.
    async fn settle(&mut self) -> Result<()> {
        if !self.waiting.is_empty() {
            self.send_waiting().await?;
        }
        while !self.under_way.is_empty() {
            self.settle_oldest().await?;
        }
        Ok(())
    }

    /// Ends what is under way.
    fn give_up(&mut self) -> Option<OpenUpload> {
        self.is_broken = true;
        self.under_way.drain(..).for_each(|part| part.abort());
        self.open.take()
    }
}

#[async_trait]
impl Upload for S3Upload {
    async fn write(&mut self, part: Bytes) -> Result<()> {
        if self.is_broken {
            return Err(broken());
        }
        // Until it is done: this future may be dropped at any await.
        self.is_broken = true;
        self.take(part).await?;
        self.is_broken = false;
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<PutOutcome> {
        if self.is_broken {
            return Err(broken());
        }
        if self.open.is_none() {
            let body = self.waiting.split().freeze();
            return self.client.put(&self.path, body, &PutMode::Create).await;
        }
        self.settle().await?;
        let open = self.open.take().ok_or_else(broken)?;
        open.end(&self.parts).await
    }

    async fn abort(mut self: Box<Self>) {
        if let Some(open) = self.give_up() {
            open.abort().await;
        }
    }
}

impl Drop for S3Upload {
    fn drop(&mut self) {
        drop(self.give_up());
    }
}
