//! Objects in Amazon's S3 and in whatever else speaks its protocol.
//!
//! **Whose client.** Requests, their repeats and what their answers mean are this module's own; object_store is used
//! for what has no outcome: where credentials come from (metadata services, web identity) and how a request is signed.
//! Its `AmazonS3` was looked at first (0.14), and so was aws-sdk-s3. What the trait promises rests on telling *stored*,
//! *exists*, *mismatch*, *certainly not* and *unknown* apart, and
//!
//! * object_store repeats a put on any 5xx or lost connection unless told otherwise, so that a put meets its own
//!   effect and is told that the name is taken; told not to repeat, it still wraps a refused connection, a lost answer
//!   and a 503 in one kind of error, whose status is private;
//! * it ends multipart uploads without a condition, its copies know no condition on the source, and it keeps the
//!   answer's date to itself;
//! * its errors hide whether a 404 came from S3 or from a proxy that stands in the way. Readers of the log believe
//!   absences;
//! * aws-sdk-s3 has all of these requests, with its repeats turned off as well, and costs minutes of compile time
//!   for ten requests; what an answer means would have to be written here just the same.
//!
//! **Writes** are sent once ([`client`]). No answer, a 5xx or a 409 is `Unknown`; what never left this process, and
//! what S3 refused before doing anything, certainly did not happen ([`refusal`] has the table). Nothing between here
//! and the store repeats a request that a server may have seen: no redirects, no library's repeats ([`crate::aws::http`]). A proxy
//! that does so is beyond reach, which is why the callers take no `AlreadyExists` for another's until they have read it.
//!
//! **Reads** are repeated within a budget, a number of attempts and a deadline. Parts of uploads and copied parts are
//! repeated in the same way: nobody sees them before the upload's end, and the same part may be sent twice. Gets are
//! also hedged, within another budget ([`nacre_runtime::Hedger`]).
//!
//! **Big objects** are multipart uploads that end with If-None-Match ([`upload`]). **Copies** are uploads as well, of
//! one or more parts that the store copies with x-amz-copy-source-if-match ([`copy`]): CopyObject with If-None-Match
//! is silently ignored by servers that we know. What a crash leaves are invisible parts, which cost storage: give the
//! bucket a rule that aborts incomplete uploads after some days.
//!
//! **Tags** are ETags, and version ids where the bucket keeps versions. With a version id, `if_tag` reads that
//! version, whatever has become of the name. ETags are hashes of bytes: an object that gets its old bytes again has
//! its old tag again, as the trait says.
//!
//! **Dates** are whole seconds. An object's is the last microsecond of its second, so that it never looks older than
//! it is; that of a multipart upload is, on Amazon's S3, when the upload *began*. Garbage must not rest on dates alone.

mod address;
mod answer;
mod ask;
mod body;
mod client;
mod copies;
mod copy;
mod lanes;
mod list;
mod promises;
mod read;
mod refusal;
#[cfg(test)]
mod tests;
mod upload;
mod write;

use crate::metered::Counters;
use crate::{
    GetOptions, Object, ObjectMeta, ObjectPath, ObjectStore, ObjectTag, PutMode, PutOutcome, RequestCounts,
    S3Settings, Upload,
};
use address::Address;
use async_trait::async_trait;
use bytes::Bytes;
use client::{Client, Tuning};
use nacre_runtime::Context;
use nacre_types::Result;
use std::path::PathBuf;
use std::sync::Arc;

/// A bucket, or what lies in it below a prefix. Clones are the same store, with the same connections.
#[derive(Debug, Clone)]
pub struct S3Store {
    client: Arc<Client>,
}

impl S3Store {
    /// The store at `s3://bucket/prefix`. Nothing is asked of it yet.
    ///
    /// # Errors
    /// `Invalid` (`store-url`, `store-settings`) naming what is missing; `Unavailable` (`store-certificates`).
    pub fn open(url: &str, settings: &S3Settings, ctx: &Context) -> Result<Self> {
        Self::tuned(url, settings, ctx, Tuning::default())
    }

    fn tuned(url: &str, settings: &S3Settings, ctx: &Context, tuning: Tuning) -> Result<Self> {
        let address = Address::new(url, settings)?;
        Ok(Self { client: Arc::new(Client::new(address, settings, ctx, tuning)?) })
    }

    fn counters(&self) -> &Counters {
        &self.client.counters
    }

    /// Makes the bucket, for tests; one that is there is fine.
    ///
    /// # Errors
    /// What the store says.
    #[cfg(any(test, feature = "testing"))]
    pub async fn create_bucket(&self) -> Result<()> {
        self.client.create_bucket().await
    }

    /// Lets the bucket keep versions from now on, for tests.
    ///
    /// # Errors
    /// What the store says.
    #[cfg(any(test, feature = "testing"))]
    pub async fn keep_versions(&self) -> Result<()> {
        self.client.keep_versions().await
    }
}

#[async_trait]
impl ObjectStore for S3Store {
    async fn put(&self, path: &ObjectPath, body: Bytes, mode: PutMode) -> Result<PutOutcome> {
        self.client.put(path, body, &mode).await
    }

    async fn get(&self, path: &ObjectPath, options: GetOptions) -> Result<Object> {
        copies::first(&self.client, path, options).await
    }

    async fn head(&self, path: &ObjectPath) -> Result<ObjectMeta> {
        self.client.head(path, None).await
    }

    async fn list(&self, prefix: &str, after: Option<&ObjectPath>, limit: usize) -> Result<Vec<ObjectMeta>> {
        self.client.list(prefix, after, limit).await
    }

    async fn delete(&self, path: &ObjectPath) -> Result<()> {
        self.client.delete(path).await
    }

    async fn copy(&self, from: &ObjectPath, to: &ObjectPath, if_tag: &ObjectTag) -> Result<PutOutcome> {
        copy::copy(&self.client, from, to, if_tag).await
    }

    async fn upload(&self, path: &ObjectPath) -> Result<Box<dyn Upload>> {
        Ok(Box::new(upload::S3Upload::new(self.client.clone(), path.clone())))
    }

    async fn date_micros(&self) -> Result<i64> {
        self.client.date_micros().await
    }

    fn local_path(&self, _: &ObjectPath) -> Option<PathBuf> {
        None
    }

    fn url(&self, path: &ObjectPath) -> Option<String> {
        Some(self.client.address.url(path))
    }

    async fn check_promises(&self, taken: &ObjectPath) -> Result<()> {
        promises::check(&self.client, taken).await
    }

    fn request_counts(&self) -> Option<RequestCounts> {
        Some(self.counters().snapshot())
    }
}
