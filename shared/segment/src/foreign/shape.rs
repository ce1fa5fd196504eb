//! What is in a file, for a person: the columns, how they are cut into row groups and pages, and who wrote it.

use super::footer::{Footer, read_footer};
use super::leaf::LeafType;
use super::pages::pages_of;
use super::{Caps, ReadAt};
use nacre_types::Result;
use serde::Serialize;
use std::collections::BTreeSet;

/// One leaf column of a file.
#[derive(Debug, Clone, Serialize)]
pub struct ColumnShape {
    /// Its path, parts joined by dots.
    pub name: String,
    /// Its type in words.
    pub kind: String,
    /// Whether it may be null.
    pub optional: bool,
    /// Whether it lies in a list or map.
    pub repeated: bool,
    /// Codecs of its chunks.
    pub codecs: Vec<String>,
    /// Encodings of its pages.
    pub encodings: Vec<String>,
    /// Bytes in the file.
    pub bytes: u64,
    /// Rows of its largest page; `None` for repeated columns.
    pub rows_per_page: Option<u64>,
    /// Pages; `None` for repeated columns.
    pub pages: Option<u64>,
}

/// What a file looks like.
#[derive(Debug, Clone, Serialize)]
pub struct FileShape {
    /// The writer, as the file says.
    pub created_by: Option<String>,
    /// Rows.
    pub rows: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// Row groups.
    pub row_groups: usize,
    /// Rows of the largest row group.
    pub rows_per_group: u64,
    /// Whether every chunk of every flat column has a consistent offset index.
    pub page_index: bool,
    /// Whether the flat columns' pages have the same rows throughout.
    pub aligned: bool,
    /// The leaf columns.
    pub columns: Vec<ColumnShape>,
}

/// Reads the footer and the page structure, and no page.
///
/// # Errors
/// `Invalid` (`not-parquet`, `parquet-too-large`), `Corrupt`.
pub fn inspect(file: &dyn ReadAt) -> Result<FileShape> {
    inspect_with(file, &Caps::default())
}

fn inspect_with(file: &dyn ReadAt, caps: &Caps) -> Result<FileShape> {
    let footer = read_footer(file, caps)?;
    let schema = footer.meta.file_metadata().schema_descr();
    let mut shape = FileShape {
        created_by: footer.meta.file_metadata().created_by().map(str::to_owned),
        rows: footer.rows(),
        bytes: file.len(),
        row_groups: footer.meta.num_row_groups(),
        rows_per_group: footer
            .meta
            .row_groups()
            .iter()
            .map(|group| group.num_rows().max(0) as u64)
            .max()
            .unwrap_or(0),
        page_index: true,
        aligned: true,
        columns: Vec::with_capacity(schema.num_columns()),
    };
    // The row numbers at which the first flat column's pages begin, of each group; the others are held against them.
    let mut cuts: Vec<Option<Vec<u64>>> = vec![None; footer.meta.num_row_groups()];
    for (at, column) in schema.columns().iter().enumerate() {
        let flat = column.max_rep_level() == 0;
        let (mut codecs, mut encodings) = (BTreeSet::new(), BTreeSet::new());
        let (mut bytes, mut largest, mut count) = (0, 0, 0);
        for (group, cuts) in footer.meta.row_groups().iter().zip(&mut cuts) {
            let Some(chunk) = group.columns().get(at) else { continue };
            codecs.insert(format!("{:?}", chunk.compression_codec()).to_lowercase());
            encodings.extend(chunk.encodings().map(|encoding| encoding.to_string()));
            let range = footer.chunk_range(chunk)?;
            bytes += range.end - range.start;
            if !flat {
                continue;
            }
            let pages = pages_of(file, &footer, chunk, group.num_rows().max(0) as u64, caps, false)?;
            shape.page_index &= pages.from_index;
            largest = largest.max(pages.pages.iter().map(|page| page.rows).max().unwrap_or(0));
            count += pages.pages.len() as u64;
            let own: Vec<u64> = pages.pages.iter().map(|page| page.first_row).collect();
            match cuts {
                None => *cuts = Some(own),
                Some(first) => shape.aligned &= *first == own,
            }
        }
        shape.columns.push(ColumnShape {
            name: column.path().string(),
            kind: LeafType::of(column).to_string(),
            optional: column.max_def_level() > 0,
            repeated: !flat,
            codecs: codecs.into_iter().collect(),
            encodings: encodings.into_iter().collect(),
            bytes,
            rows_per_page: flat.then_some(largest),
            pages: flat.then_some(count),
        });
    }
    Ok(shape)
}

/// Who wrote a file, as far as advice differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Writer {
    Spark,
    Pyarrow,
    DuckDb,
    Polars,
    Other,
}

impl Writer {
    pub(super) fn of(footer: &Footer) -> Self {
        let meta = footer.meta.file_metadata();
        let by = meta.created_by().unwrap_or_default().to_ascii_lowercase();
        let spark = meta
            .key_value_metadata()
            .is_some_and(|pairs| pairs.iter().any(|pair| pair.key.starts_with("org.apache.spark")));
        if spark || by.starts_with("parquet-mr") {
            Self::Spark
        } else if by.starts_with("parquet-cpp") {
            Self::Pyarrow
        } else if by.starts_with("duckdb") {
            Self::DuckDb
        } else if by.starts_with("polars") {
            Self::Polars
        } else {
            Self::Other
        }
    }

    /// How this writer makes pages of at most 1,024 rows, the same in every column.
    pub(super) fn paging_hint(self) -> &'static str {
        match self {
            Self::Spark => {
                "set parquet.page.row.count.limit=128 (in the job or the cluster's Hadoop configuration)"
            }
            Self::Pyarrow => {
                "write with pyarrow.parquet.write_table(.., max_rows_per_page=128, write_batch_size=128, \
                 row_group_size=5120, use_dictionary=False, write_page_index=True, write_page_checksum=True)"
            }
            Self::DuckDb => {
                "DuckDB cannot make pages below 2,048 rows; write the sorted result with pyarrow (max_rows_per_page=128, \
                 write_batch_size=128, use_dictionary=False, write_page_index=True) or Spark \
                 (parquet.page.row.count.limit=128)"
            }
            Self::Polars => {
                "write with use_pyarrow=True and pyarrow_options={\"max_rows_per_page\": 128, \"write_batch_size\": 128, \
                 \"use_dictionary\": False, \"write_page_index\": True}"
            }
            Self::Other => "let the writer end a page after 128 rows, in every column at the same row",
        }
    }

    pub(super) fn sorting_hint(self) -> &'static str {
        match self {
            Self::Spark => {
                "sort by key, then version descending: df.repartitionByRange(n, \"key\").sortWithinPartitions(\"key\", \
                 F.desc(\"version\"))"
            }
            Self::Pyarrow => {
                "sort by key, then version descending: table.sort_by([(\"key\", \"ascending\"), (\"version\", \"descending\")])"
            }
            Self::DuckDb => {
                "sort by key, then version descending: COPY (SELECT .. ORDER BY key, version DESC) TO .."
            }
            Self::Polars => {
                "sort by key, then version descending: df.sort(\"key\", \"version\", descending=[False, True])"
            }
            Self::Other => "sort by the key's unsigned bytes, then by version descending",
        }
    }
}
