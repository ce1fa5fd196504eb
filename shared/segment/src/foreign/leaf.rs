//! One leaf column: what it holds, and its values of the rows at hand.

use super::footer::{Footer, corrupt, from_parquet, guarded};
use super::page_reader::CheckedPages;
use super::{Caps, ReadAt};
use nacre_types::{Error, Result};
use parquet::basic::{ConvertedType, LogicalType, TimeUnit, Type as PhysicalType};
use parquet::column::reader::{ColumnReader, get_column_reader};
use parquet::data_type::{ByteArray, FixedLenByteArray, Int96};
use parquet::errors::ParquetError;
use parquet::schema::types::ColumnDescPtr;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How fine a moment or time of day is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Millis,
    Micros,
    Nanos,
}

impl Unit {
    /// How many of them a second has.
    pub(super) fn per_second(self) -> i64 {
        match self {
            Self::Millis => 1_000,
            Self::Micros => 1_000_000,
            Self::Nanos => 1_000_000_000,
        }
    }
}

/// What a leaf holds, physical and annotated type taken together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LeafType {
    Bool,
    /// 8 to 64 bits; `signed` or not.
    Int {
        signed: bool,
    },
    Float16,
    Float32,
    Float64,
    /// UTF-8: string, enum or JSON.
    Text,
    /// BYTE_ARRAY, not annotated (or BSON).
    Binary,
    /// FIXED_LEN_BYTE_ARRAY of that many bytes.
    Fixed(u32),
    Uuid,
    Date,
    Time(Unit),
    Timestamp(Unit),
    /// The old 12-byte moment of Spark and Impala: nanoseconds of a Julian day.
    Int96,
    Decimal {
        scale: i32,
    },
    Interval,
}

impl LeafType {
    /// Of a column of the schema.
    pub(super) fn of(column: &ColumnDescPtr) -> Self {
        let unit = |unit: &TimeUnit| match unit {
            TimeUnit::MILLIS => Unit::Millis,
            TimeUnit::MICROS => Unit::Micros,
            TimeUnit::NANOS => Unit::Nanos,
        };
        match column.logical_type_ref() {
            Some(LogicalType::Decimal(decimal)) => return Self::Decimal { scale: decimal.scale },
            Some(LogicalType::Timestamp(timestamp)) => return Self::Timestamp(unit(&timestamp.unit)),
            Some(LogicalType::Time(time)) => return Self::Time(unit(&time.unit)),
            Some(LogicalType::Integer(int)) => return Self::Int { signed: int.is_signed },
            Some(LogicalType::Date) => return Self::Date,
            Some(LogicalType::Uuid) => return Self::Uuid,
            Some(LogicalType::Float16) => return Self::Float16,
            _ => {}
        }
        match column.converted_type() {
            ConvertedType::DECIMAL => return Self::Decimal { scale: column.type_scale() },
            ConvertedType::DATE => return Self::Date,
            ConvertedType::TIME_MILLIS => return Self::Time(Unit::Millis),
            ConvertedType::TIME_MICROS => return Self::Time(Unit::Micros),
            ConvertedType::TIMESTAMP_MILLIS => return Self::Timestamp(Unit::Millis),
            ConvertedType::TIMESTAMP_MICROS => return Self::Timestamp(Unit::Micros),
            ConvertedType::UINT_8
            | ConvertedType::UINT_16
            | ConvertedType::UINT_32
            | ConvertedType::UINT_64 => {
                return Self::Int { signed: false };
            }
            ConvertedType::INTERVAL if column.type_length() == 12 => return Self::Interval,
            ConvertedType::UTF8 | ConvertedType::ENUM | ConvertedType::JSON => return Self::Text,
            _ => {}
        }
        match column.physical_type() {
            PhysicalType::BOOLEAN => Self::Bool,
            PhysicalType::INT32 | PhysicalType::INT64 => Self::Int { signed: true },
            PhysicalType::INT96 => Self::Int96,
            PhysicalType::FLOAT => Self::Float32,
            PhysicalType::DOUBLE => Self::Float64,
            PhysicalType::BYTE_ARRAY => Self::Binary,
            PhysicalType::FIXED_LEN_BYTE_ARRAY => Self::Fixed(column.type_length().max(0) as u32),
        }
    }
}

impl fmt::Display for LeafType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = |unit: &Unit| match unit {
            Unit::Millis => "milliseconds",
            Unit::Micros => "microseconds",
            Unit::Nanos => "nanoseconds",
        };
        match self {
            Self::Bool => f.write_str("boolean"),
            Self::Int { signed: true } => f.write_str("integer"),
            Self::Int { signed: false } => f.write_str("unsigned integer"),
            Self::Float16 | Self::Float32 => f.write_str("float"),
            Self::Float64 => f.write_str("double"),
            Self::Text => f.write_str("string"),
            Self::Binary => f.write_str("binary"),
            Self::Fixed(length) => write!(f, "fixed binary of {length} bytes"),
            Self::Uuid => f.write_str("uuid"),
            Self::Date => f.write_str("date"),
            Self::Time(of) => write!(f, "time of day in {}", unit(of)),
            Self::Timestamp(of) => write!(f, "timestamp in {}", unit(of)),
            Self::Int96 => f.write_str("timestamp as INT96"),
            Self::Decimal { scale } => write!(f, "decimal with {scale} digits behind the point"),
            Self::Interval => f.write_str("interval"),
        }
    }
}

/// Decoded values that are not null, in order.
pub(super) enum Values {
    Bool(Vec<bool>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Int96(Vec<Int96>),
    Float(Vec<f32>),
    Double(Vec<f64>),
    Bytes(Vec<ByteArray>),
    Fixed(Vec<FixedLenByteArray>),
}

impl Values {
    fn new(kind: PhysicalType) -> Self {
        match kind {
            PhysicalType::BOOLEAN => Self::Bool(Vec::new()),
            PhysicalType::INT32 => Self::Int32(Vec::new()),
            PhysicalType::INT64 => Self::Int64(Vec::new()),
            PhysicalType::INT96 => Self::Int96(Vec::new()),
            PhysicalType::FLOAT => Self::Float(Vec::new()),
            PhysicalType::DOUBLE => Self::Double(Vec::new()),
            PhysicalType::BYTE_ARRAY => Self::Bytes(Vec::new()),
            PhysicalType::FIXED_LEN_BYTE_ARRAY => Self::Fixed(Vec::new()),
        }
    }

    fn clear(&mut self) {
        match self {
            Self::Bool(values) => values.clear(),
            Self::Int32(values) => values.clear(),
            Self::Int64(values) => values.clear(),
            Self::Int96(values) => values.clear(),
            Self::Float(values) => values.clear(),
            Self::Double(values) => values.clear(),
            Self::Bytes(values) => values.clear(),
            Self::Fixed(values) => values.clear(),
        }
    }

    /// Bytes of the values from the `from`th on.
    fn bytes_from(&self, from: usize) -> usize {
        match self {
            Self::Bool(values) => values.len() - from,
            Self::Int32(values) => (values.len() - from) * 4,
            Self::Int64(values) => (values.len() - from) * 8,
            Self::Int96(values) => (values.len() - from) * 12,
            Self::Float(values) => (values.len() - from) * 4,
            Self::Double(values) => (values.len() - from) * 8,
            Self::Bytes(values) => values.iter().skip(from).map(ByteArray::len).sum(),
            Self::Fixed(values) => values.iter().skip(from).map(|value| value.len()).sum(),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Bool(values) => values.len(),
            Self::Int32(values) => values.len(),
            Self::Int64(values) => values.len(),
            Self::Int96(values) => values.len(),
            Self::Float(values) => values.len(),
            Self::Double(values) => values.len(),
            Self::Bytes(values) => values.len(),
            Self::Fixed(values) => values.len(),
        }
    }
}

/// A null among [`Leaf::slots`].
pub(super) const NULL: u32 = u32::MAX;

/// One leaf column with its values of the rows at hand.
pub(super) struct Leaf {
    /// Its place among the leaves of the schema.
    pub(super) index: usize,
    pub(super) column: ColumnDescPtr,
    pub(super) kind: LeafType,
    pub(super) values: Values,
    /// Definition and repetition level of every entry; empty where the maximum is 0.
    pub(super) definitions: Vec<i16>,
    pub(super) repetitions: Vec<i16>,
    /// For flat optional columns: of each row the place of its value among `values`, or [`NULL`].
    pub(super) slots: Vec<u32>,
    reader: Option<ColumnReader>,
    since_reset: Arc<AtomicU64>,
}

impl Leaf {
    pub(super) fn new(index: usize, column: ColumnDescPtr) -> Self {
        Self {
            index,
            kind: LeafType::of(&column),
            values: Values::new(column.physical_type()),
            column,
            definitions: Vec::new(),
            repetitions: Vec::new(),
            slots: Vec::new(),
            reader: None,
            since_reset: Arc::default(),
        }
    }

    /// The column's path, for errors.
    pub(super) fn name(&self) -> String {
        self.column.path().string()
    }

    /// Goes to the beginning of a row group.
    pub(super) fn start_group(
        &mut self,
        file: &Arc<dyn ReadAt>,
        footer: &Footer,
        caps: &Arc<Caps>,
        group: usize,
        read_ahead: u64,
    ) -> Result<()> {
        let chunk = footer
            .meta
            .row_groups()
            .get(group)
            .and_then(|group| group.columns().get(self.index))
            .ok_or_else(|| corrupt(format!("no row group {group}")))?;
        if chunk.column_type() != self.column.physical_type() {
            return Err(corrupt(format!("column {:?} has another type than the schema says", self.name())));
        }
        let values = u64::try_from(chunk.num_values())
            .map_err(|_| corrupt("a column chunk with a negative number of values"))?;
        let pages = CheckedPages::new(
            Arc::clone(file),
            Arc::clone(caps),
            Arc::clone(&self.column),
            chunk.compression(),
            footer.chunk_range(chunk)?,
            values,
            read_ahead,
            Arc::clone(&self.since_reset),
        );
        self.reader = Some(get_column_reader(Arc::clone(&self.column), Box::new(pages)));
        Ok(())
    }

    /// Forgets the rows at hand.
    pub(super) fn clear(&mut self) {
        self.values.clear();
        self.definitions.clear();
        self.repetitions.clear();
        self.slots.clear();
    }

    /// Reads exactly `rows` more rows, and gives about how many bytes they have.
    pub(super) fn read(&mut self, rows: usize) -> Result<usize> {
        self.since_reset.store(0, Ordering::Relaxed);
        let before = self.values.len();
        let levels_before = self.definitions.len();
        let Self { reader, values, definitions, repetitions, column, .. } = self;
        let Some(reader) = reader else {
            return Err(Error::internal("a column was read before its row group"));
        };
        let definitions = (column.max_def_level() > 0).then_some(definitions);
        let repetitions = (column.max_rep_level() > 0).then_some(repetitions);
        let read = guarded(|| {
            match (reader, values) {
                (ColumnReader::BoolColumnReader(r), Values::Bool(v)) => {
                    r.read_records(rows, definitions, repetitions, v)
                }
                (ColumnReader::Int32ColumnReader(r), Values::Int32(v)) => {
                    r.read_records(rows, definitions, repetitions, v)
                }
                (ColumnReader::Int64ColumnReader(r), Values::Int64(v)) => {
                    r.read_records(rows, definitions, repetitions, v)
                }
                (ColumnReader::Int96ColumnReader(r), Values::Int96(v)) => {
                    r.read_records(rows, definitions, repetitions, v)
                }
                (ColumnReader::FloatColumnReader(r), Values::Float(v)) => {
                    r.read_records(rows, definitions, repetitions, v)
                }
                (ColumnReader::DoubleColumnReader(r), Values::Double(v)) => {
                    r.read_records(rows, definitions, repetitions, v)
                }
                (ColumnReader::ByteArrayColumnReader(r), Values::Bytes(v)) => {
                    r.read_records(rows, definitions, repetitions, v)
                }
                (ColumnReader::FixedLenByteArrayColumnReader(r), Values::Fixed(v)) => {
                    r.read_records(rows, definitions, repetitions, v)
                }
                _ => Err(ParquetError::General("a column of another type".into())),
            }
            .map_err(unwrap_error)
        });
        let (read, _, _) = read.map_err(|error| error.context(format_args!("column {:?}", self.name())))?;
        if read != rows {
            return Err(corrupt(format!(
                "column {:?} ends {} rows before its row group",
                self.name(),
                rows - read
            )));
        }
        if self.column.max_rep_level() == 0 && self.column.max_def_level() > 0 {
            self.number_slots(levels_before, before)?;
        }
        Ok(self.values.bytes_from(before) + (self.definitions.len() - levels_before))
    }

    fn number_slots(&mut self, levels_before: usize, values_before: usize) -> Result<()> {
        let there = self.column.max_def_level();
        let mut next = values_before as u32;
        self.slots.extend(self.definitions.iter().skip(levels_before).map(|&level| {
            if level == there {
                next += 1;
                next - 1
            } else {
                NULL
            }
        }));
        if next as usize != self.values.len() {
            return Err(corrupt(format!("column {:?} has more values than levels", self.name())));
        }
        Ok(())
    }

    /// Where among the values row `row` of a flat column has its own.
    pub(super) fn slot(&self, row: usize) -> Option<usize> {
        if self.column.max_def_level() == 0 {
            return Some(row);
        }
        self.slots.get(row).copied().filter(|&slot| slot != NULL).map(|slot| slot as usize)
    }

    /// The bytes of value `slot` of a binary, text or fixed column.
    pub(super) fn bytes(&self, slot: usize) -> Option<&[u8]> {
        match &self.values {
            Values::Bytes(values) => values.get(slot).map(ByteArray::data),
            Values::Fixed(values) => values.get(slot).map(|value| value.data()),
            _ => None,
        }
    }

    /// Value `slot` of an integer, date, time or timestamp column, as stored.
    pub(super) fn integer(&self, slot: usize) -> Option<i128> {
        let signed = self.kind != LeafType::Int { signed: false };
        match &self.values {
            Values::Int32(values) if signed => values.get(slot).map(|&value| i128::from(value)),
            Values::Int32(values) => values.get(slot).map(|&value| i128::from(value as u32)),
            Values::Int64(values) if signed => values.get(slot).map(|&value| i128::from(value)),
            Values::Int64(values) => values.get(slot).map(|&value| i128::from(value as u64)),
            _ => None,
        }
    }

    /// Value `slot` of a timestamp column in nanoseconds since the epoch.
    pub(super) fn moment_nanos(&self, slot: usize) -> Option<i128> {
        match (&self.values, self.kind) {
            (Values::Int96(values), _) => values.get(slot).map(|value| {
                let [low, high, day] = [value.data().first(), value.data().get(1), value.data().get(2)]
                    .map(|word| word.copied().unwrap_or_default());
                let nanos = (u64::from(high) << 32 | u64::from(low)) as i64;
                // Julian day 2,440,588 is 1970-01-01.
                (i128::from(day) - 2_440_588) * 86_400_000_000_000 + i128::from(nanos)
            }),
            (_, LeafType::Timestamp(unit)) => {
                self.integer(slot).map(|value| value * i128::from(1_000_000_000 / unit.per_second()))
            }
            _ => None,
        }
    }
}

/// Our own error back out of the parquet crate's, or that one as `Corrupt`.
fn unwrap_error(error: ParquetError) -> Error {
    match error {
        ParquetError::External(inner) => match inner.downcast::<Error>() {
            Ok(own) => *own,
            Err(other) => corrupt(other.to_string()),
        },
        other => from_parquet(&other),
    }
}
