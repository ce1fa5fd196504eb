//! Records of the object-store catalog; the head of the module above argues them.

use super::ObjectCatalog;
use crate::catalog::check_record_name;
use crate::envelope::{decode_record, encode_record};
use crate::{RecordPut, RecordTag};
use bytes::Bytes;
use nacre_store::{GetOptions, ObjectPath, ObjectTag, PutMode, PutOutcome};
use nacre_types::{ErrorKind, Result};

impl RecordTag {
    fn of(tag: ObjectTag) -> Self {
        match tag.version_id {
            None => Self(tag.etag),
            Some(version) => Self(format!("{}\n{version}", tag.etag)),
        }
    }

    fn object_tag(&self) -> ObjectTag {
        match self.0.split_once('\n') {
            None => ObjectTag { etag: self.0.clone(), version_id: None },
            Some((etag, version)) => ObjectTag { etag: etag.into(), version_id: Some(version.into()) },
        }
    }
}

impl ObjectCatalog {
    fn record_path(&self, name: &str) -> Result<ObjectPath> {
        check_record_name(name)?;
        self.root.join(&format!("records/{name}.record"))
    }

    /// Write id, bytes and tag; `None` = it was never put.
    pub(super) async fn read_record(&self, name: &str) -> Result<Option<(u128, Bytes, RecordTag)>> {
        let path = self.record_path(name)?;
        match self.store.get(&path, GetOptions::default()).await {
            Ok(object) => {
                let (write_id, bytes) = decode_record(&format!("record {name}"), object.bytes)?;
                Ok(Some((write_id, bytes, RecordTag::of(object.meta.tag))))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.context(format!("reading record {name}"))),
        }
    }

    pub(super) async fn write_record(
        &self,
        name: &str,
        expected: Option<&RecordTag>,
        bytes: &[u8],
    ) -> Result<RecordPut> {
        let path = self.record_path(name)?;
        let write_id = self.ids.random_u128();
        let mode = expected.map_or(PutMode::Create, |tag| PutMode::Replace(tag.object_tag()));
        match self.store.put(&path, encode_record(write_id, bytes), mode).await {
            Ok(PutOutcome::Stored(tag)) => return Ok(RecordPut::Stored(RecordTag::of(tag))),
            Ok(PutOutcome::AlreadyExists | PutOutcome::Mismatch) => {}
            Err(error) if error.kind() == ErrorKind::Unknown => {}
            Err(error) => return Err(error.context(format!("writing record {name}"))),
        }
        match self.read_record(name).await {
            Ok(Some((found, _, tag))) if found == write_id => Ok(RecordPut::Stored(tag)),
            // The tag that the attempt asked for is gone and never comes again.
            Ok(Some((_, _, tag))) if Some(&tag) != expected => Ok(RecordPut::Conflict),
            // Records are never deleted: one that is not there never had the tag, and never will.
            Ok(None) if expected.is_some() => Ok(RecordPut::Conflict),
            Ok(_) => Ok(RecordPut::Unknown),
            Err(error) => {
                tracing::warn!(record = name, %error, "a write cannot be settled yet");
                Ok(RecordPut::Unknown)
            }
        }
    }
}
