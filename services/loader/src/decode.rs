//! Where strangers' files are decoded: in this process, or in a child under caps.
//!
//! What the parquet crate is given was checked first, and a panic in it is an error. What cannot be caught is an
//! allocation that fails and a loop that does not end: those take only the child with them.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use nacre_segment::foreign::{
    Caps, ForeignReader, LoadColumns, Problem, ProveOptions, ReadAt, ReadRequest, RowBatch, RowRef, Verdict,
    declare_key, prove_with,
};
use nacre_segment::{SegmentIndex, SegmentSummary};
use nacre_types::{Error, KeySchema, Result};

use crate::child::{Answer, Piped, Session, Spawn, Work, cuts};

/// Where files are decoded.
#[derive(Debug, Clone, Default)]
pub enum Decode {
    /// In this process: for tests.
    #[default]
    InProcess,
    /// In a child per file. The child is `program` with the one argument [`crate::child::ARGUMENT`], and must call
    /// [`crate::child::main`].
    Child {
        /// The program.
        program: PathBuf,
        /// Its address space, in bytes. Less than half a GiB refuses honest files with large pages.
        memory_bytes: u64,
        /// Its CPU time, in seconds, beside one second for every 8 MiB of the file.
        seconds: u64,
    },
}

/// A file that can be adopted.
pub(crate) struct Adoptable {
    /// Its encoded index.
    pub(crate) index: Bytes,
    pub(crate) summary: SegmentSummary,
    /// Rows below [`ProveOptions::hidden_below`].
    pub(crate) hidden: u64,
    /// Where its reading can be cut, should it have to be read after all.
    pub(crate) cuts: Vec<u64>,
}

pub(crate) enum Looked {
    Adopt(Box<Adoptable>),
    Rewrite { reason: String, hint: String, cuts: Vec<u64> },
}

/// A file, wherever it is decoded. Its methods block.
pub(crate) enum Opened {
    Here(Arc<dyn ReadAt>),
    Child(Spawn),
}

fn unexpected() -> Error {
    Error::unavailable("the decoding child answered something else than it was asked").with_code("load-child")
}

impl Opened {
    pub(crate) fn declare_key(
        &self,
        columns: &LoadColumns,
        folders: &[(String, String)],
    ) -> Result<KeySchema> {
        match self {
            Self::Here(file) => declare_key(&**file, columns, folders, &Caps::default()),
            Self::Child(spawn) => {
                let work = Work::Declare { columns: columns.clone(), folders: folders.to_vec() };
                match Session::start(spawn, &work)?.answer()? {
                    Answer::Key(schema) => Ok(schema),
                    _ => Err(unexpected()),
                }
            }
        }
    }

    /// `part_bytes`: a file that is longer is also told where its reading can be cut into parts of that size.
    pub(crate) fn look(
        &self,
        columns: &LoadColumns,
        options: &ProveOptions,
        part_bytes: u64,
    ) -> Result<Looked> {
        match self {
            Self::Here(file) => Ok(match prove_with(file, columns, &Caps::default(), options)? {
                Verdict::Adopt(adopted) => Looked::Adopt(Box::new(Adoptable {
                    index: adopted.index.encode(),
                    summary: adopted.summary,
                    hidden: adopted.hidden,
                    cuts: cuts(&**file, part_bytes)?,
                })),
                Verdict::Rewrite { reason, hint } => {
                    Looked::Rewrite { reason, hint, cuts: cuts(&**file, part_bytes)? }
                }
            }),
            Self::Child(spawn) => {
                let work = Work::Look {
                    columns: columns.clone(),
                    key: options.key.clone(),
                    version: options.version,
                    folders: options.folder_columns.clone(),
                    hidden_below: options.hidden_below,
                    part_bytes,
                };
                match Session::start(spawn, &work)?.answer()? {
                    Answer::Adopt(adopted) => {
                        // The serving path must be able to read it.
                        let index = SegmentIndex::decode(adopted.index.clone())?;
                        if index.rows() != adopted.summary.rows {
                            return Err(unexpected());
                        }
                        Ok(Looked::Adopt(adopted))
                    }
                    Answer::Rewrite { reason, hint, cuts } => Ok(Looked::Rewrite { reason, hint, cuts }),
                    _ => Err(unexpected()),
                }
            }
        }
    }

    pub(crate) fn rows(&self, request: &ReadRequest) -> Result<Rows> {
        match self {
            Self::Here(file) => {
                let reader = ForeignReader::open_with(file.clone(), request, &Caps::default())?;
                Ok(Rows::Here(Box::new(reader)))
            }
            Self::Child(spawn) => {
                let work = Work::Rows {
                    columns: request.columns.clone(),
                    key: request.key.clone(),
                    folders: request.folder_columns.clone(),
                    skip_rows: request.skip_rows,
                    until_row: request.until_row,
                };
                let mut session = Session::start(spawn, &work)?;
                match session.answer()? {
                    Answer::Open { has_versions } => Ok(Rows::Child { session, has_versions }),
                    _ => Err(unexpected()),
                }
            }
        }
    }
}

/// The rows of a file, batch by batch.
pub(crate) enum Rows {
    Here(Box<ForeignReader>),
    Child { session: Session, has_versions: bool },
}

impl Rows {
    pub(crate) fn has_versions(&self) -> bool {
        match self {
            Self::Here(reader) => reader.has_versions(),
            Self::Child { has_versions, .. } => *has_versions,
        }
    }

    pub(crate) fn next_batch(&mut self) -> Result<Option<Batch<'_>>> {
        match self {
            Self::Here(reader) => Ok(reader.next_batch()?.map(Batch::Here)),
            Self::Child { session, .. } => Ok(session.next_batch()?.map(Batch::Child)),
        }
    }
}

/// A batch of rows.
pub(crate) enum Batch<'a> {
    Here(RowBatch),
    Child(Piped<'a>),
}

impl Batch<'_> {
    pub(crate) fn problems(&self) -> &[Problem] {
        match self {
            Self::Here(batch) => batch.problems(),
            Self::Child(piped) => piped.problems(),
        }
    }

    pub(crate) fn problem_count(&self) -> u64 {
        match self {
            Self::Here(batch) => batch.problem_count(),
            Self::Child(piped) => piped.problem_count(),
        }
    }

    pub(crate) fn rows(&self) -> impl Iterator<Item = RowRef<'_>> {
        let (here, child) = match self {
            Self::Here(batch) => (Some(batch.rows()), None),
            Self::Child(piped) => (None, Some(piped.rows())),
        };
        here.into_iter().flatten().chain(child.into_iter().flatten())
    }
}
