//! Files of other writers. `tests/samples` holds files by Spark, pyarrow, DuckDB and Polars, the same 5,000 rows in
//! each; see [`formula`].

mod adopt;
mod columns;
mod formula;
mod hostile;
mod interop;
mod read;
