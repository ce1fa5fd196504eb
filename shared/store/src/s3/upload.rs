//! Big objects: in parts that nobody sees until the last request, which says that the name must be free.
//!
//! An object of less than one part is a plain put. A part goes up while the next is being written; a few are under way
//! at once, each of them in memory.

use super::client::{Client, Kind};
use crate::{ObjectPath, PutMode, PutOutcome, Upload};
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use nacre_runtime::TaskHandle;
use nacre_types::{Error, Result};
use std::collections::VecDeque;
use std::sync::Arc;

/// After so many parts they become twice as large: S3 takes 10,000 of them, and 5 TiB in all.
const SAME_SIZE: usize = 1_000;

pub(super) struct S3Upload {
    client: Arc<Client>,
    path: ObjectPath,
    /// Written and not yet sent: less than a part.
    waiting: BytesMut,
    id: Option<String>,
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
            id: None,
            parts: Vec::new(),
            under_way: VecDeque::new(),
            is_broken: false,
        }
    }

    fn part_bytes(&self) -> usize {
        let sent = self.parts.len() + self.under_way.len();
        self.client.tuning.part_bytes << (sent / SAME_SIZE).min(9)
    }

    async fn take(&mut self, part: &[u8]) -> Result<()> {
        let mut rest = part;
        while !rest.is_empty() {
            let room = self.part_bytes().saturating_sub(self.waiting.len());
            let (now, later) = rest.split_at(room.min(rest.len()));
            self.waiting.extend_from_slice(now);
            rest = later;
            if self.waiting.len() >= self.part_bytes() {
                self.send().await?;
            }
        }
        Ok(())
    }

    /// Sends what is waiting, as the next part.
    async fn send(&mut self) -> Result<()> {
        if self.id.is_none() {
            self.id = Some(self.client.begin_upload(&self.path, Kind::Upload).await?);
        }
        let id = self.id.clone().ok_or_else(broken)?;
        while self.under_way.len() >= self.client.tuning.parts_at_once {
            self.settle_oldest().await?;
        }
        let part = self.waiting.split().freeze();
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

    /// All parts are there; answers the upload's id.
    async fn settle(&mut self) -> Result<String> {
        if !self.waiting.is_empty() {
            self.send().await?;
        }
        while !self.under_way.is_empty() {
            self.settle_oldest().await?;
        }
        self.id.clone().ok_or_else(broken)
    }

    /// Ends what is under way; answers the id of an upload that somebody must abort.
    fn give_up(&mut self) -> Option<String> {
        self.is_broken = true;
        self.under_way.drain(..).for_each(|part| part.abort());
        self.id.take()
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
        self.take(&part).await?;
        self.is_broken = false;
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<PutOutcome> {
        if self.is_broken {
            return Err(broken());
        }
        if self.id.is_none() {
            let body = self.waiting.split().freeze();
            return self.client.put(&self.path, body, &PutMode::Create).await;
        }
        let id = self.settle().await?;
        // From here on nothing may be cleaned up on a guess: the end may still be under way.
        self.id = None;
        let outcome = self.client.finish_upload(&self.path, &id, &self.parts, Kind::Upload).await;
        if outcome == Ok(PutOutcome::AlreadyExists) {
            self.client.abort_upload(&self.path, &id).await;
        }
        outcome
    }

    async fn abort(mut self: Box<Self>) {
        if let Some(id) = self.give_up() {
            self.client.abort_upload(&self.path, &id).await;
        }
    }
}

impl Drop for S3Upload {
    fn drop(&mut self) {
        if let Some(id) = self.give_up()
            && tokio::runtime::Handle::try_current().is_ok()
        {
            let (client, path) = (self.client.clone(), self.path.clone());
            let tasks = self.client.ctx.tasks.clone();
            tasks.spawn("s3-abort", async move { client.abort_upload(&path, &id).await });
        }
    }
}
