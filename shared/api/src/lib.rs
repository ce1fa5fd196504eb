//! The HTTP API as types: paths, bodies, keys and values in their several spellings, errors as problems, page tokens.
//!
//! Pure: nothing here does I/O. The dispatcher answers with it and the client asks with it, so both spell alike; the
//! shape is fixed by `openapi.json`, and [`batch`] by `docs/batch.md`.

pub mod batch;
mod body;
mod etag;
mod explain;
pub mod headers;
pub mod json;
mod key;
mod limits;
mod load;
mod node;
mod number;
mod page_token;
mod path;
mod problem;
mod query;
mod row;
mod table;
mod token;
mod value;

pub use body::{from_json, from_ndjson};
pub use etag::{ETAG_BYTES, etag, etag_matches};
pub use explain::{ExplainBody, ExplainedRowBody, PlaceBody};
pub use key::{
    JsonKey, KeyEncoding, KeyIn, bound_from_text, key_from_bytes, key_from_json, key_from_text,
    prefix_from_text,
};
pub use limits::{Limits, limits};
pub use load::{
    BeginLoadBody, ColumnsBody, CommitLoadBody, GuardsBody, LoadBody, LoadErrorBody, LoadFileBody,
    LoadFilesBody, LoadModeBody, LoadProgressBody, LoadSourceBody, LoadStateBody, LoadVersionBody, LoadsBody,
    OnDuplicateBody,
};
pub use node::{NodeBody, NodesBody};
pub use number::I64;
pub use page_token::{ListToken, PageToken};
pub use path::{Route, RouteClass, Verb, encode_segment, load_id, row_path, table_path};
pub use problem::{PROBLEM_JSON, Problem, kind_from_name, status_of};
pub use query::{Query, percent_decode};
pub use row::{
    BatchGetAnswer, BatchGetBody, BatchGetIn, BatchWriteAnswer, BatchWriteBody, BatchWriteIn, BatchWriteRow,
    GetBody, GetIn, GotRow, NamespaceBatchGetAnswer, NamespaceBatchGetBody, NamespaceBatchGetIn,
    NamespaceGet, NamespaceGetIn, NamespaceGot, ReadStatus, RowIn, RowOut, RowsPage, Text, WriteIn,
    WriteStatus, WrittenRow, check_value,
};
pub use table::{
    CreateTableBody, NamespaceBody, NamespaceDescription, NamespaceSummary, NamespacesBody, ShardBody,
    SourcePatch, TableDescription, TableSettingsBody, TableSettingsPatch, TableSummaryBody, TablesBody,
    merge_patch, merged, take_source,
};
pub use token::{CreateTokenBody, CreatedTokenBody, TokenBody, TokenPatch, TokenVerbBody, TokensBody};
pub use value::{Projection, ValueEncoding, ValueShape};

/// The media type of plain bytes.
pub const OCTET_STREAM: &str = "application/octet-stream";
/// The media type of one JSON text.
pub const JSON: &str = "application/json";
/// The media type of one JSON text per line.
pub const NDJSON: &str = "application/x-ndjson";
