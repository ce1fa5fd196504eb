//! Object stores from URLs: one trait, a local directory, memory, S3, and what wraps them.
//!
//! Everything that nacre keeps lies in an object store: segments, the chunks of the log, the edits of the table logs,
//! records. The trait is small on purpose: whole objects, put if absent or if unchanged, read by range. What a caller
//! may rely on stands on the methods of [`ObjectStore`] and is checked by one conformance suite (`testing`, behind the
//! feature of that name) against every implementation.

#[cfg(feature = "aws")]
mod aws;
mod aws_credentials;
pub mod frame;
mod identity;
mod local;
mod memory;
mod metered;
mod object;
mod open;
mod path;
mod probe;
mod resume;
#[cfg(feature = "s3")]
mod s3;
mod s3_settings;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

#[cfg(feature = "aws")]
pub use aws::{AwsAnswer, AwsLost, AwsService};
pub use aws_credentials::AwsCredentials;
pub use identity::{Expected, StoreIdentity};
pub use local::LocalStore;
pub use memory::MemoryStore;
pub use metered::{Metered, RequestCount, RequestCounts};
pub use object::{GetOptions, Object, ObjectMeta, ObjectStore, ObjectTag, PutMode, PutOutcome, Upload};
pub use open::open;
pub use path::ObjectPath;
pub use probe::probe;
pub use resume::{LogHole, LogMending, LogResume, ResumedPartition};
#[cfg(feature = "s3")]
pub use s3::S3Store;
pub use s3_settings::S3Settings;
