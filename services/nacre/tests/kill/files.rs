//! Parquet files for loads.

use nacre_segment::{SegmentRow, SegmentWriter, WriterSettings};

/// A row: key, version, value; without a value a tombstone.
pub(crate) type FileRow = (String, i64, Option<String>);

fn write<'a>(rows: impl Iterator<Item = (&'a [u8], i64, Option<&'a [u8]>)>) -> Vec<u8> {
    let mut writer = SegmentWriter::new(Vec::new(), WriterSettings::default()).unwrap();
    for (key, version, value) in rows {
        writer.push(&SegmentRow { key, version, place: None, expires_at: None, value }).unwrap();
    }
    writer.finish().unwrap().0
}

/// A file that can be adopted, of rows in the order of their keys.
pub(crate) fn sorted(rows: &[FileRow]) -> Vec<u8> {
    write(
        rows.iter()
            .map(|(key, version, value)| (key.as_bytes(), *version, value.as_deref().map(str::as_bytes))),
    )
}

/// A file whose keys are in no order: they are in its column `value`, and the values in its column `key`, by which it
/// is sorted. Every row must have a value.
pub(crate) fn swapped(rows: &[FileRow]) -> Vec<u8> {
    let mut rows: Vec<_> = rows
        .iter()
        .map(|(key, version, value)| (value.as_ref().unwrap().as_bytes(), *version, Some(key.as_bytes())))
        .collect();
    rows.sort();
    write(rows.into_iter())
}

/// The files below a folder, as text.
pub(crate) fn below(folder: &std::path::Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    entries
        .flat_map(|entry| {
            let path = entry.unwrap().path();
            if path.is_dir() { below(&path) } else { vec![path.display().to_string()] }
        })
        .collect()
}
