//! Copying inside a local directory: a link where that pins the bytes, else bytes.

use super::files::{Directory, Draft, certainly_not, is_absence, tag_of};
use super::fs::Stat;
use crate::{ObjectPath, ObjectTag, PutOutcome};
use nacre_types::Result;
use std::io;
use std::path::Path;

impl Directory {
    pub(crate) fn copy(&self, from: &ObjectPath, to: &ObjectPath, if_tag: &ObjectTag) -> Result<PutOutcome> {
        let source = self.file_of(from);
        match self.adopt(&source, if_tag)? {
            Adopted::Linked(draft) => self.publish(draft, to),
            Adopted::Changed => Ok(PutOutcome::Mismatch),
            Adopted::NotPossible => self.copy_bytes(&source, to, if_tag),
        }
    }

    /// Gives the file a temporary name, which pins its inode, and makes it read-only.
    fn adopt(&self, source: &Path, if_tag: &ObjectTag) -> Result<Adopted> {
        let path = self.temporary_name();
        match self.fs.link(source, &path) {
            Ok(()) => {}
            Err(error) if is_absence(&error) => return Ok(Adopted::Changed),
            // Across devices, another user's file, too many links, a directory: copying says more.
            Err(_) => return Ok(Adopted::NotPossible),
        }
        let file = match self.fs.open(&path) {
            Ok(file) => file,
            Err(_) => {
                let _ = self.fs.unlink(&path);
                return Ok(Adopted::NotPossible);
            }
        };
        let draft = Draft::new(&self.fs, path, file);
        let is_it = |stat: &Stat| stat.is_file && tag_of(stat) == *if_tag;
        let stat = draft.file.stat().map_err(|error| certainly_not("reading the tag of", source, &error))?;
        if !is_it(&stat) {
            return Ok(Adopted::Changed);
        }
        if draft.file.make_read_only().is_err() {
            return Ok(Adopted::NotPossible);
        }
        self.sync_draft(&draft)?;
        // Written to before it was read-only, or by somebody who holds it open.
        let stat = draft.file.stat().map_err(|error| certainly_not("reading the tag of", source, &error))?;
        Ok(if is_it(&stat) { Adopted::Linked(draft) } else { Adopted::Changed })
    }

    fn copy_bytes(&self, source: &Path, to: &ObjectPath, if_tag: &ObjectTag) -> Result<PutOutcome> {
        const PIECE: u64 = 4 << 20;
        let failed = |error: io::Error| certainly_not("copying", source, &error);
        let file = match self.fs.open(source) {
            Ok(file) => file,
            Err(error) if is_absence(&error) => return Ok(PutOutcome::Mismatch),
            Err(error) => return Err(failed(error)),
        };
        let stat = file.stat().map_err(failed)?;
        if !stat.is_file || tag_of(&stat) != *if_tag {
            return Ok(PutOutcome::Mismatch);
        }
        let mut draft = self.draft()?;
        let mut at = 0;
        while at < stat.size {
            let piece = PIECE.min(stat.size - at);
            match file.read_at(at, piece as usize) {
                Ok(bytes) => draft.write_all(&bytes)?,
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Ok(PutOutcome::Mismatch);
                }
                Err(error) => return Err(failed(error)),
            }
            at += piece;
        }
        if tag_of(&file.stat().map_err(failed)?) != *if_tag {
            return Ok(PutOutcome::Mismatch);
        }
        self.publish(draft, to)
    }
}

enum Adopted {
    Linked(Draft),
    Changed,
    NotPossible,
}
