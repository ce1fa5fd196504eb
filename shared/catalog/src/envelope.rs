//! The bytes of edits, heads and records in an object store: each a [frame](nacre_store::frame) of version 1.
//!
//! ```text
//! edit    commit id 16, predecessor 16, sequence 8, body (length 4)
//! head    sequence 8, commit id 16, path (length 4)
//! record  write id 16, bytes (length 4)
//! ```

use crate::{EncodedEdit, SnapshotRef};
use bytes::Bytes;
use nacre_store::frame::{FrameReader, FrameWriter};
use nacre_types::{CommitId, Result, Seq};

const VERSION: u8 = 1;

pub(crate) fn encode_edit(seq: Seq, edit: &EncodedEdit) -> Bytes {
    FrameWriter::new(VERSION, edit.body.len() + 64)
        .u128(edit.commit_id.0)
        .u128(edit.predecessor.0)
        .u64(seq.0)
        .bytes(&edit.body)
        .finish()
}

/// `what` names the object in errors. The body shares `bytes`.
pub(crate) fn decode_edit(what: &str, bytes: Bytes) -> Result<(Seq, EncodedEdit)> {
    let mut frame = FrameReader::open(bytes, VERSION, what, "edit-corrupt")?;
    let (commit_id, predecessor) = (CommitId(frame.u128()?), CommitId(frame.u128()?));
    let (seq, body) = (Seq(frame.u64()?), frame.bytes()?);
    frame.finish()?;
    Ok((seq, EncodedEdit { commit_id, predecessor, body }))
}

pub(crate) fn encode_head(snapshot: &SnapshotRef) -> Bytes {
    FrameWriter::new(VERSION, snapshot.path.len() + 32)
        .u64(snapshot.seq.0)
        .u128(snapshot.commit_id.0)
        .bytes(snapshot.path.as_bytes())
        .finish()
}

pub(crate) fn decode_head(what: &str, bytes: Bytes) -> Result<SnapshotRef> {
    let mut frame = FrameReader::open(bytes, VERSION, what, "head-corrupt")?;
    let snapshot =
        SnapshotRef { seq: Seq(frame.u64()?), commit_id: CommitId(frame.u128()?), path: frame.text()? };
    frame.finish()?;
    Ok(snapshot)
}

pub(crate) fn encode_record(write_id: u128, bytes: &[u8]) -> Bytes {
    FrameWriter::new(VERSION, bytes.len() + 32).u128(write_id).bytes(bytes).finish()
}

/// The write id and the bytes.
pub(crate) fn decode_record(what: &str, bytes: Bytes) -> Result<(u128, Bytes)> {
    let mut frame = FrameReader::open(bytes, VERSION, what, "record-corrupt")?;
    let fields = (frame.u128()?, frame.bytes()?);
    frame.finish()?;
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares with a file that was written once and stays.
    fn golden(name: &str, bytes: &[u8]) {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
        assert_eq!(std::fs::read(&path).unwrap(), bytes, "{name}: the format changed");
    }

    #[test]
    fn edits_keep_their_bytes() {
        let edit = EncodedEdit {
            commit_id: CommitId(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10),
            predecessor: CommitId(u128::MAX - 1),
            body: Bytes::from_static(b"what the edit says"),
        };
        let bytes = encode_edit(Seq(77), &edit);
        golden("edit-1.bin", &bytes);
        assert_eq!(decode_edit("x", bytes).unwrap(), (Seq(77), edit));
    }

    #[test]
    fn heads_and_records_keep_their_bytes() {
        let head = SnapshotRef { seq: Seq(9), commit_id: CommitId(5), path: "tables/0/manifests/9".into() };
        golden("head-1.bin", &encode_head(&head));
        assert_eq!(decode_head("x", encode_head(&head)).unwrap(), head);
        let record = encode_record(7, b"bytes");
        golden("record-1.bin", &record);
        assert_eq!(decode_record("x", record).unwrap(), (7, Bytes::from_static(b"bytes")));
    }

    #[test]
    fn one_kind_is_not_read_as_another() {
        let record = encode_record(7, b"bytes");
        assert_eq!(decode_edit("record 7", record.clone()).unwrap_err().code(), "edit-corrupt");
        assert_eq!(decode_head("record 7", record).unwrap_err().code(), "head-corrupt");
    }
}
