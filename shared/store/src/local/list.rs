//! Listing: for garbage and the sources of loads, never for the truth.

use super::files::{Directory, certainly_not, is_absence, meta_of};
use super::fs::Entry;
use crate::{ObjectMeta, ObjectPath};
use nacre_types::Result;

impl Directory {
    /// One page, by a walk that enters only folders which can hold paths of the prefix after `after`. Every folder on
    /// the way is read whole.
    pub(crate) fn list(
        &self,
        prefix: &str,
        after: Option<&ObjectPath>,
        limit: usize,
    ) -> Result<Vec<ObjectMeta>> {
        let folder = prefix.rfind('/').map_or("", |slash| &prefix[..=slash]);
        if folder.split('/').any(|part| part.starts_with('.')) {
            return Ok(Vec::new());
        }
        let mut walk = Walk { prefix, after: after.map_or("", ObjectPath::as_str), limit, found: Vec::new() };
        self.walk(folder, &mut walk)?;
        Ok(walk.found)
    }

    /// `folder` is empty or ends with a slash.
    fn walk(&self, folder: &str, walk: &mut Walk<'_>) -> Result<()> {
        let dir = self.root.join(folder);
        let mut entries = match self.fs.entries(&dir) {
            Ok(entries) => entries,
            Err(error) if is_absence(&error) => return Ok(()),
            Err(error) => return Err(certainly_not("listing", &dir, &error)),
        };
        // Paths sort by their text: a folder sorts as its name and a slash, which is not the order of the names.
        let shown = |entry: &Entry| format!("{folder}{}{}", entry.name, if entry.is_dir { "/" } else { "" });
        entries.retain(|entry| !entry.name.starts_with('.'));
        let mut names: Vec<(String, bool)> =
            entries.iter().map(|entry| (shown(entry), entry.is_dir)).collect();
        names.sort_unstable();
        for (name, is_dir) in names {
            if walk.found.len() >= walk.limit {
                break;
            }
            if is_dir {
                if walk.may_hold(&name) {
                    self.walk(&name, walk)?;
                }
            } else if name.starts_with(walk.prefix) && *name > *walk.after {
                // A stranger's name is an error, not a file that a load leaves out in silence.
                let path = ObjectPath::new(&name)?;
                match self.fs.stat(&self.file_of(&path)) {
                    Ok(stat) if stat.is_file => walk.found.push(meta_of(&path, &stat)),
                    Ok(_) => {}
                    Err(error) if is_absence(&error) => {}
                    Err(error) => return Err(certainly_not("listing", &dir, &error)),
                }
            }
        }
        Ok(())
    }
}

struct Walk<'a> {
    prefix: &'a str,
    after: &'a str,
    limit: usize,
    found: Vec<ObjectMeta>,
}

impl Walk<'_> {
    /// Whether paths that begin with `folder` can have the prefix and sort after `after`.
    fn may_hold(&self, folder: &str) -> bool {
        (folder.starts_with(self.prefix) || self.prefix.starts_with(folder))
            && (self.after.starts_with(folder) || *folder > *self.after)
    }
}
