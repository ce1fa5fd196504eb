//! The proof that a file can be adopted: served as it lies, under an index of nacre's own.
//!
//! What must hold, and how it is known:
//! 1. the columns are flat, of types that serving reads as they are (key BYTE_ARRAY, version and expiry INT64
//!    microseconds, value BYTE_ARRAY): from the schema;
//! 2. every block is one page of at most 1,024 rows in every column, the same rows: from the offset indexes if they are
//!    consistent, else from the page headers, never from a value page's body;
//! 3. rows are sorted by key, then version descending, and no (key, version) is there twice: from reading every key and
//!    version. What a file says of its own order is not looked at;
//! 4. no value is longer than a value may be: from the page headers, since no value is longer than its page or
//!    dictionary uncompressed. Only row groups where that is not enough have their values decoded. Where small reads are
//!    dear and the headers were not read, this is not known, and a value beyond the limit is served as it lies.
//!
//! A file that fails is no error: it is rewritten, and the verdict says why and what its writer would have to set. What
//! is an error is a file that cannot be read at all.

mod group;

use group::{GroupColumns, Slice, State};

use super::columns::{Finder, Found, LoadColumns, is_used};
use super::footer::{Footer, corrupt, read_footer};
use super::leaf::{Leaf, LeafType, Unit, Values};
use super::pages::{ChunkPages, PageKind, pages_of};
use super::shape::Writer;
use super::{Caps, ReadAt};
use crate::{
    BlockPages, Codec, Column, ColumnLayout, IndexBuilder, IndexSpan, Layout, PageSpan, SegmentIndex,
    SegmentSummary,
};
use bytes::Bytes;
use nacre_types::{KeySchema, Result, limits, tuple};
use parquet::basic::{Compression, Encoding, Type as PhysicalType};
use std::sync::Arc;

/// Largest page, uncompressed, that serving decodes; the same as in the index's format.
const LARGEST_PAGE: u32 = 64 << 20;
/// Most rows of a block.
const BLOCK_ROWS: u64 = 1_024;

/// A file that serves as it lies.
pub struct Adopted {
    /// Its index, to be stored in an object of its own.
    pub index: SegmentIndex,
    /// What the manifest says of it; `summary.index` is the whole index object.
    pub summary: SegmentSummary,
    /// Whether `summary.tombstones` was counted from v2 page headers alone. Otherwise it comes, in whole or in part,
    /// from the file's own statistics (value pages are not read), or is 0 where there are none.
    pub tombstones_exact: bool,
    /// Rows with a version below [`ProveOptions::hidden_below`].
    pub hidden: u64,
}

impl std::fmt::Debug for Adopted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Adopted")
            .field("summary", &self.summary)
            .field("tombstones_exact", &self.tombstones_exact)
            .finish_non_exhaustive()
    }
}

/// What is to be done with a file.
#[derive(Debug)]
pub enum Verdict {
    /// Serve it as it lies.
    Adopt(Box<Adopted>),
    /// Read its rows and write segments of our own.
    Rewrite {
        /// Why it cannot be served as it lies.
        reason: String,
        /// What its writer would have to do.
        hint: String,
    },
}

/// What the table says of a file's rows.
#[derive(Debug, Clone, Default)]
pub struct ProveOptions {
    /// What the table's keys are. Typed keys can be adopted only where the file holds them packed, in one column.
    pub key: KeySchema,
    /// The load's version, which rows have where the file has no version column.
    pub version: Option<i64>,
    /// Names that stand as `name=value/` in the file's path: a role that one of them plays is not in the file.
    pub folder_columns: Vec<(String, String)>,
    /// Rows with a version below this are counted; `None` = none are.
    pub hidden_below: Option<i64>,
}

/// [`prove_with`] for plain keys, a file that has versions, and a borrowed file: the chunks of key, version and expiry
/// time of one row group at a time are held in memory whole.
///
/// # Errors
/// As [`prove_with`].
pub fn prove(file: &dyn ReadAt, columns: &LoadColumns, caps: &Caps) -> Result<Verdict> {
    run(file, None, columns, caps, &ProveOptions::default())
}

/// Why a proof ended: with a reason to rewrite, or because the file cannot be read.
enum Stop {
    Rewrite { reason: String, hint: String },
    Broken(nacre_types::Error),
}

impl From<nacre_types::Error> for Stop {
    fn from(error: nacre_types::Error) -> Self {
        Self::Broken(error)
    }
}

fn rewrite<T>(reason: impl Into<String>, hint: impl Into<String>) -> Result<T, Stop> {
    Err(Stop::Rewrite { reason: reason.into(), hint: hint.into() })
}

/// Proves that `file` can be adopted, and builds its index, or says why it is rewritten. Reads ahead 1 MiB per column.
///
/// # Errors
/// `Invalid` (`not-parquet`, `load-columns`, `parquet-too-large`), `Corrupt` for a file that cannot be read.
pub fn prove_with(
    file: &Arc<dyn ReadAt>,
    columns: &LoadColumns,
    caps: &Caps,
    options: &ProveOptions,
) -> Result<Verdict> {
    run(&**file, Some(file), columns, caps, options)
}

fn run(
    file: &dyn ReadAt,
    shared: Option<&Arc<dyn ReadAt>>,
    columns: &LoadColumns,
    caps: &Caps,
    options: &ProveOptions,
) -> Result<Verdict> {
    let footer = read_footer(file, caps)?;
    let proof = Proof::new(file, &footer, columns, caps, options).map(|proof| Proof { shared, ..proof });
    match proof.and_then(Proof::run) {
        Ok(adopted) => Ok(Verdict::Adopt(Box::new(adopted))),
        Err(Stop::Rewrite { reason, hint }) => Ok(Verdict::Rewrite { reason, hint }),
        Err(Stop::Broken(error)) => Err(error),
    }
}

struct Proof<'a> {
    file: &'a dyn ReadAt,
    /// The same file, where the column readers may keep it and read as they go.
    shared: Option<&'a Arc<dyn ReadAt>>,
    footer: &'a Footer,
    caps: &'a Caps,
    options: &'a ProveOptions,
    writer: Writer,
    /// By [`Column`] ordinal: the leaf that plays the role.
    roles: [Option<usize>; 5],
}

const KEY: usize = Column::Key as usize;
const VERSION: usize = Column::Version as usize;
const EXPIRES_AT: usize = Column::ExpiresAt as usize;
const VALUE: usize = Column::Value as usize;

impl<'a> Proof<'a> {
    fn new(
        file: &'a dyn ReadAt,
        footer: &'a Footer,
        columns: &LoadColumns,
        caps: &'a Caps,
        options: &'a ProveOptions,
    ) -> Result<Self, Stop> {
        let writer = Writer::of(footer);
        let finder = Finder { footer, folder_columns: &options.folder_columns };
        let own = "write columns key (binary), version (int64), value (binary) and, if rows expire, expires_at (int64)";
        let key = match &columns.key[..] {
            [] => "key",
            [name] if options.key == KeySchema::Bytes => name,
            _ => {
                return rewrite(
                    "its key columns have to be packed into one",
                    "write one binary column `key` that holds the packed key (docs/keys.md), and sort by it",
                );
            }
        };
        if columns.pack.is_some() {
            return rewrite("its columns have to be packed into one value", own);
        }
        if columns.delete.is_some() {
            return rewrite(
                "it has a delete column",
                "let a null value be the tombstone instead of a delete column",
            );
        }
        let mut roles = [None; 5];
        let wanted = [
            (KEY, Some(key), "key"),
            (VERSION, columns.version.as_deref(), "version"),
            (EXPIRES_AT, columns.expires_at.as_deref(), "expires_at"),
            (VALUE, Some(columns.value.as_deref().unwrap_or("value")), "value"),
        ];
        for (role, name, default) in wanted {
            let optional = name.is_none();
            let name = name.unwrap_or(default);
            let index = match finder.find(name) {
                Ok(Found::Leaf(index)) => index,
                Ok(Found::Folder(_)) if !optional => {
                    return rewrite(format!("its {default} stands in the folder's name"), own);
                }
                Err(error) if !optional => {
                    // Typed keys whose parts are columns.
                    if role == KEY && options.key != KeySchema::Bytes {
                        return rewrite("its key columns have to be packed into one", own);
                    }
                    return Err(error.into());
                }
                _ => continue,
            };
            let leaf = finder.leaf(index)?;
            if optional && is_used(columns, default) {
                continue;
            }
            let fits = match role {
                KEY | VALUE => {
                    matches!(leaf.kind, LeafType::Text | LeafType::Binary)
                        && leaf.column.physical_type() == PhysicalType::BYTE_ARRAY
                }
                _ => {
                    matches!(leaf.kind, LeafType::Int { signed: true } | LeafType::Timestamp(Unit::Micros))
                        && leaf.column.physical_type() == PhysicalType::INT64
                }
            };
            if !fits {
                return rewrite(format!("column {name:?} ({}) has to be converted", leaf.kind), own);
            }
            if leaf.column.max_def_level() > 1 {
                return rewrite(format!("column {name:?} lies inside a struct"), own);
            }
            if let Some(slot) = roles.get_mut(role) {
                *slot = Some(index);
            }
        }
        if roles[VERSION].is_none() && options.version.is_none() {
            return rewrite("it has no version column and the load no version", "name the load's version");
        }
        Ok(Self { file, shared: None, footer, caps, options, writer, roles })
    }

    fn layout(&self) -> Result<Layout, Stop> {
        let mut layout =
            Layout { columns: [None; 5], default_version: self.options.version.unwrap_or_default() };
        for (role, index) in self.roles.iter().enumerate() {
            let Some(index) = *index else { continue };
            let mut codec = None;
            for group in self.footer.meta.row_groups() {
                let Some(chunk) = group.columns().get(index) else { continue };
                if group.num_rows() == 0 {
                    continue;
                }
                let own = match chunk.compression() {
                    Compression::UNCOMPRESSED => Codec::None,
                    Compression::SNAPPY => Codec::Snappy,
                    Compression::GZIP(_) => Codec::Gzip,
                    Compression::ZSTD(_) => Codec::Zstd,
                    Compression::LZ4_RAW => Codec::Lz4Raw,
                    other => {
                        return rewrite(
                            format!("its codec is {other:?}"),
                            "write with the compression lz4_raw, zstd, snappy, gzip or none",
                        );
                    }
                };
                if codec.is_some_and(|codec| codec != own) {
                    return rewrite(
                        "its row groups have different codecs",
                        "write every row group with one codec",
                    );
                }
                codec = Some(own);
            }
            let column = self.footer.meta.file_metadata().schema_descr().column(index);
            if let (Some(slot), Some(codec)) = (layout.columns.get_mut(role), codec) {
                *slot = Some(ColumnLayout { optional: column.max_def_level() > 0, codec, fixed_length: 0 });
            }
        }
        Ok(layout)
    }

    fn run(self) -> Result<Adopted, Stop> {
        if self.footer.rows() == 0 {
            return rewrite("it has no rows", "leave files without rows out");
        }
        let mut builder = IndexBuilder::new(self.layout()?)?;
        let mut state = State::new();
        for group in 0..self.footer.meta.num_row_groups() {
            self.group(group, &mut builder, &mut state)?;
        }
        let index = builder.finish()?;
        let length = index.encode().len() as u64;
        let summary = SegmentSummary {
            rows: self.footer.rows(),
            tombstones: state.tombstones,
            bytes: self.file.len(),
            raw_bytes: state.raw_bytes,
            min_key: state.min_key,
            max_key: state.last_key.into(),
            min_version: state.min_version,
            max_version: state.max_version,
            max_expires_at: if state.never { None } else { state.max_expires_at },
            index: IndexSpan { offset: 0, length },
            with_place: false,
        };
        Ok(Adopted { index, summary, tombstones_exact: state.tombstones_exact, hidden: state.hidden })
    }

    fn group(&self, at: usize, builder: &mut IndexBuilder, state: &mut State) -> Result<(), Stop> {
        let Some(group) = self.footer.meta.row_groups().get(at) else { return Ok(()) };
        let rows = group.num_rows().max(0) as u64;
        if rows == 0 {
            return Ok(());
        }
        // Where small reads are dear, a consistent offset index spares one request per value page.
        let headers = self.file.small_reads_are_cheap();
        let mut pages: [Option<ChunkPages>; 5] = Default::default();
        for (role, index) in self.roles.iter().enumerate() {
            let Some(chunk) = index.and_then(|index| group.columns().get(index)) else { continue };
            let found = pages_of(self.file, self.footer, chunk, rows, self.caps, headers)?;
            check_encodings(&found, role, chunk.column_descr().max_def_level() > 0)?;
            if role == VALUE {
                state.count_tombstones(&found, chunk);
            }
            state.raw_bytes += chunk.uncompressed_size().max(0) as u64;
            if let Some(slot) = pages.get_mut(role) {
                *slot = Some(found);
            }
        }
        self.check_alignment(at, &pages)?;
        if pages[VALUE].as_ref().is_some_and(may_hold_long_values) {
            self.check_values(at, rows, state.row)?;
        }
        let Some(key_pages) = pages[KEY].as_ref().map(|pages| pages.pages.clone()) else {
            return Err(corrupt("no key pages").into());
        };
        let mut leaves = GroupColumns::open(self, at)?;
        for (nth, page) in key_pages.iter().enumerate() {
            leaves.read(page.rows as usize)?;
            self.check_rows(&leaves, page.rows as usize, builder, state)?;
            builder.end_block(&block_pages(&pages, nth))?;
        }
        Ok(())
    }

    fn check_alignment(&self, group: usize, pages: &[Option<ChunkPages>; 5]) -> Result<(), Stop> {
        let Some(key) = pages[KEY].as_ref() else { return Err(corrupt("no key pages").into()) };
        for (role, other) in pages.iter().enumerate() {
            let Some(other) = other else { continue };
            let name =
                ["key", "version", "expires_at", "value", "rank"].get(role).copied().unwrap_or_default();
            if let Some(page) = other.pages.iter().find(|page| page.rows > BLOCK_ROWS) {
                return rewrite(
                    format!(
                        "row group {group} has a page of {} rows in column {name:?}; at most {BLOCK_ROWS} can be served",
                        page.rows
                    ),
                    self.writer.paging_hint(),
                );
            }
            let cuts = |pages: &ChunkPages| pages.pages.iter().map(|page| page.first_row).collect::<Vec<_>>();
            if cuts(other) != cuts(key) {
                return rewrite(
                    format!(
                        "the pages of columns \"key\" and {name:?} do not begin at the same rows (row group {group})"
                    ),
                    self.writer.paging_hint(),
                );
            }
        }
        Ok(())
    }

    /// Decodes the values of a row group and looks how long they are. A file with one that is too long is read row by
    /// row, which names every such row.
    fn check_values(&self, group: usize, rows: u64, first_row: u64) -> Result<(), Stop> {
        let Some(mut leaf) = self.open_leaf(VALUE, group)? else { return Ok(()) };
        let mut row = 0;
        while row < rows {
            let batch = (rows - row).min(BLOCK_ROWS);
            leaf.clear();
            leaf.read(batch as usize)?;
            for nth in 0..batch as usize {
                let length = leaf.slot(nth).and_then(|slot| leaf.bytes(slot)).map_or(0, <[u8]>::len);
                if length > limits::VALUE_BYTES {
                    return rewrite(
                        format!(
                            "the value of row {} has {length} bytes; the limit value_bytes is {}",
                            first_row + row + nth as u64,
                            limits::VALUE_BYTES
                        ),
                        "leave values out that are too long, or keep them elsewhere and their place here",
                    );
                }
            }
            row += batch;
        }
        Ok(())
    }

    /// A column's reader at the beginning of a row group; `None` where no column plays the role.
    fn open_leaf(&self, role: usize, group: usize) -> Result<Option<Leaf>> {
        let Some(index) = self.roles.get(role).copied().flatten() else { return Ok(None) };
        let finder = Finder { footer: self.footer, folder_columns: &[] };
        let caps = Arc::new(self.caps.clone());
        let chunk = self
            .footer
            .meta
            .row_groups()
            .get(group)
            .and_then(|group| group.columns().get(index))
            .ok_or_else(|| corrupt("no such column chunk"))?;
        let mut leaf = finder.leaf(index)?;
        match self.shared {
            Some(file) => leaf.start_group(file, self.footer, &caps, group, 1 << 20)?,
            // Read here once and handed over: the pages outlive the borrow of the file that way.
            None => {
                let range = self.footer.chunk_range(chunk)?;
                let file: Arc<dyn ReadAt> =
                    Arc::new(Slice { start: range.start, bytes: self.file.read_at(range)? });
                leaf.start_group(&file, self.footer, &caps, group, u64::from(u32::MAX))?;
            }
        }
        Ok(Some(leaf))
    }

    /// Checks the rows at hand, one by one, and gives their keys to the index.
    fn check_rows(
        &self,
        columns: &GroupColumns,
        rows: usize,
        builder: &mut IndexBuilder,
        state: &mut State,
    ) -> Result<(), Stop> {
        for row in 0..rows {
            let file_row = state.row;
            let Some(key) = columns.key.slot(row).and_then(|slot| columns.key.bytes(slot)) else {
                return rewrite(format!("the key of row {file_row} is null"), "leave rows without a key out");
            };
            if key.is_empty() || key.len() > limits::KEY_BYTES {
                return rewrite(
                    format!("the key of row {file_row} has {} bytes", key.len()),
                    "keys have 1 to 2048 bytes",
                );
            }
            if let KeySchema::Parts(parts) = &self.options.key
                && !tuple::is_packed(parts, key)
            {
                return rewrite(
                    format!("the key of row {file_row} is not a packed one"),
                    "pack the key's parts as docs/keys.md says",
                );
            }
            let version = match &columns.version {
                None => self.options.version.unwrap_or_default(),
                Some(leaf) => match integer(leaf, row) {
                    Some(version) => version,
                    None => {
                        return rewrite(
                            format!("the version of row {file_row} is null"),
                            "give every row a version",
                        );
                    }
                },
            };
            let order = state.last_key.as_slice().cmp(key).then(version.cmp(&state.last_version));
            if file_row > 0 && order.is_eq() {
                return rewrite(
                    format!("rows {} and {file_row} have the same key and version", file_row - 1),
                    "write each key and version once",
                );
            }
            if file_row > 0 && order.is_gt() {
                return rewrite(
                    format!("it is not sorted: row {file_row} comes behind row {}", file_row - 1),
                    self.writer.sorting_hint(),
                );
            }
            let expires_at = columns.expires_at.as_ref().and_then(|leaf| integer(leaf, row));
            if self.options.hidden_below.is_some_and(|below| version < below) {
                state.hidden += 1;
            }
            builder.push_key(key)?;
            state.push(key, version, expires_at);
        }
        Ok(())
    }
}

/// Whether a value may be longer than the limit, as far as headers tell: each lies whole in its page or in the
/// dictionary, and one whose beginning is that of the value before has its bytes in the page once.
fn may_hold_long_values(pages: &ChunkPages) -> bool {
    let data = pages.pages.iter().filter_map(|page| page.header.as_ref());
    let dictionary = pages.dictionary.as_ref().map(|dictionary| &dictionary.1);
    data.chain(dictionary).any(|header| header.uncompressed as usize > limits::VALUE_BYTES)
}

/// The value of row `row` of a column that is a plain INT64.
fn integer(leaf: &Leaf, row: usize) -> Option<i64> {
    match &leaf.values {
        Values::Int64(values) => values.get(leaf.slot(row)?).copied(),
        _ => None,
    }
}

/// What serving decodes; anything else is rewritten. `optional`: the pages have definition levels (writers name any
/// encoding for levels that are not there).
fn check_encodings(pages: &ChunkPages, role: usize, optional: bool) -> Result<(), Stop> {
    let bytes = role == KEY || role == VALUE;
    let headers = pages.pages.iter().filter_map(|page| page.header.as_ref());
    for header in headers.clone().chain(pages.dictionary.as_ref().map(|dictionary| &dictionary.1)) {
        if header.uncompressed > LARGEST_PAGE {
            return rewrite(
                format!("a page has {} bytes; at most {LARGEST_PAGE} can be served", header.uncompressed),
                "write fewer rows per page, or plain pages instead of a large dictionary",
            );
        }
    }
    for header in headers {
        let served = match header.encoding {
            Encoding::PLAIN | Encoding::RLE_DICTIONARY | Encoding::PLAIN_DICTIONARY => true,
            Encoding::DELTA_BINARY_PACKED => !bytes,
            Encoding::DELTA_LENGTH_BYTE_ARRAY | Encoding::DELTA_BYTE_ARRAY => bytes,
            _ => false,
        };
        if !served || (optional && header.definition_encoding != Encoding::RLE) {
            return rewrite(
                format!(
                    "a page has the encoding {} ({} levels)",
                    header.encoding, header.definition_encoding
                ),
                "write plain, dictionary or delta pages; plain is the fastest to serve",
            );
        }
    }
    Ok(())
}

fn block_pages(pages: &[Option<ChunkPages>; 5], nth: usize) -> BlockPages {
    let mut block = BlockPages::default();
    for (role, chunk) in pages.iter().enumerate() {
        let Some((chunk, page)) = chunk.as_ref().and_then(|chunk| Some((chunk, chunk.pages.get(nth)?)))
        else {
            continue;
        };
        let span = PageSpan { offset: page.offset, length: page.length };
        let (Some(page_slot), Some(dictionary_slot)) =
            (block.pages.get_mut(role), block.dictionaries.get_mut(role))
        else {
            continue;
        };
        *page_slot = Some(span);
        // Without the header it is not known whether the page refers to the dictionary.
        let refers = page.header.as_ref().is_none_or(|header| {
            matches!(header.encoding, Encoding::RLE_DICTIONARY | Encoding::PLAIN_DICTIONARY)
        });
        if let Some((range, header)) = chunk.dictionary.as_ref().filter(|_| refers) {
            *dictionary_slot = Some(PageSpan {
                offset: range.start,
                length: u32::try_from(range.end - range.start).unwrap_or(u32::MAX),
            });
            block.largest_page = block.largest_page.max(header.uncompressed);
        }
        // Without the header the uncompressed size is not known: the largest that is ever decoded stands in.
        let uncompressed = page.header.as_ref().map_or(LARGEST_PAGE, |header| header.uncompressed);
        block.largest_page = block.largest_page.max(uncompressed);
    }
    block
}
