//! Columns of one row, nested ones included, as JSON.
//!
//! A nested column is stored as leaves, each with a definition level (how far down the path something is there) and a
//! repetition level (at which list a new element begins) per entry. The leaves of one row are put together again by
//! walking the schema: an optional node is null where the definition level of its first leaf does not reach it, a list
//! is empty likewise and goes on while the repetition level of its first leaf's next entry is its own, and whatever is
//! null or empty has exactly one entry in each leaf below it. Source: Melnik et al., "Dremel", 2010.

use super::columns::json_text;
use super::footer::corrupt;
use super::json_leaf::write_value;
use super::leaf::Leaf;
use nacre_types::{Error, Result, limits};
use parquet::basic::{ConvertedType, LogicalType, Repetition};
use parquet::schema::types::{ColumnDescPtr, Type, TypePtr};

/// A column of a packed value, as a tree.
pub(super) enum Node {
    Leaf {
        place: usize,
        there: i16,
        entry: usize,
        value: usize,
    },
    /// Null where the definition level is below `there`.
    Optional {
        there: i16,
        inner: Box<Node>,
    },
    Group(Vec<(Vec<u8>, Node)>),
    List {
        there: i16,
        again: i16,
        element: Box<Node>,
    },
    /// An object where keys are strings, else a list of `{"key", "value"}`.
    Map {
        there: i16,
        again: i16,
        object: bool,
        key: Box<Node>,
        value: Box<Node>,
    },
}

/// Why a row has no JSON.
pub(super) enum Stop {
    /// The row's own fault: the loader names it.
    Problem { column: String, detail: String },
    /// The file's.
    Broken(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Broken(error)
    }
}

type Add<'a> = dyn FnMut() -> Result<usize> + 'a;

impl Node {
    /// A leaf below structs alone, packed by its path.
    pub(super) fn nested_leaf(place: usize, column: &ColumnDescPtr) -> Self {
        let there = column.max_def_level();
        let leaf = Self::Leaf { place, there, entry: 0, value: 0 };
        if there > 0 { Self::Optional { there, inner: Box::new(leaf) } } else { leaf }
    }

    /// The tree of `field`; `add` takes its leaves into the plan in their order.
    pub(super) fn build(
        field: &TypePtr,
        def: i16,
        rep: i16,
        depth: usize,
        add: &mut Add<'_>,
    ) -> Result<Self> {
        if depth == 0 {
            return Err(Error::invalid(format!("column {:?} is nested too deep to be packed", field.name()))
                .with_code("load-columns"));
        }
        let info = field.get_basic_info();
        match if info.has_repetition() { info.repetition() } else { Repetition::REQUIRED } {
            Repetition::REQUIRED => Self::core(field, def, rep, depth, add),
            Repetition::OPTIONAL => {
                let inner = Box::new(Self::core(field, def + 1, rep, depth, add)?);
                Ok(Self::Optional { there: def + 1, inner })
            }
            // Without an annotation around it: a list of required elements.
            Repetition::REPEATED => {
                let element = Box::new(Self::core(field, def + 1, rep + 1, depth, add)?);
                Ok(Self::List { there: def + 1, again: rep + 1, element })
            }
        }
    }

    fn core(field: &TypePtr, def: i16, rep: i16, depth: usize, add: &mut Add<'_>) -> Result<Self> {
        if field.is_primitive() {
            return Ok(Self::Leaf { place: add()?, there: def, entry: 0, value: 0 });
        }
        let info = field.get_basic_info();
        let is_list = matches!(info.logical_type_ref(), Some(LogicalType::List))
            || info.converted_type() == ConvertedType::LIST;
        let is_map = matches!(info.logical_type_ref(), Some(LogicalType::Map))
            || matches!(info.converted_type(), ConvertedType::MAP | ConvertedType::MAP_KEY_VALUE);
        let inside = match field.get_fields() {
            [only]
                if only.get_basic_info().has_repetition()
                    && only.get_basic_info().repetition() == Repetition::REPEATED =>
            {
                Some(only)
            }
            _ => None,
        };
        if let Some(repeated) = inside.filter(|_| is_list) {
            let element = match element_of(field, repeated) {
                Some(element) => Self::build(element, def + 1, rep + 1, depth - 1, add)?,
                None => Self::core(repeated, def + 1, rep + 1, depth - 1, add)?,
            };
            return Ok(Self::List { there: def + 1, again: rep + 1, element: Box::new(element) });
        }
        if let Some(repeated) = inside.filter(|repeated| is_map && repeated.is_group())
            && let [key_type, value_type] = repeated.get_fields()
        {
            let object = is_text(key_type);
            let key = Box::new(Self::build(key_type, def + 1, rep + 1, depth - 1, add)?);
            let value = Box::new(Self::build(value_type, def + 1, rep + 1, depth - 1, add)?);
            return Ok(Self::Map { there: def + 1, again: rep + 1, object, key, value });
        }
        let fields = field
            .get_fields()
            .iter()
            .map(|inner| Ok((json_text(inner.name()), Self::build(inner, def, rep, depth - 1, add)?)))
            .collect::<Result<Vec<_>>>()?;
        if fields.is_empty() {
            return Err(corrupt(format!("group {:?} has no columns", field.name())));
        }
        Ok(Self::Group(fields))
    }

    /// Goes to the first row at hand.
    pub(super) fn rewind(&mut self) {
        self.each_leaf(&mut |_, entry, value| (*entry, *value) = (0, 0));
    }

    fn each_leaf(&mut self, act: &mut dyn FnMut(usize, &mut usize, &mut usize)) {
        match self {
            Self::Leaf { place, entry, value, .. } => act(*place, entry, value),
            Self::Optional { inner, .. } => inner.each_leaf(act),
            Self::Group(fields) => fields.iter_mut().for_each(|(_, field)| field.each_leaf(act)),
            Self::List { element, .. } => element.each_leaf(act),
            Self::Map { key, value, .. } => {
                key.each_leaf(act);
                value.each_leaf(act);
            }
        }
    }

    /// The current definition level and, of the entry, the repetition level, of the first leaf; `None` behind the end.
    fn levels(&self, leaves: &[Leaf]) -> Option<(i16, i16)> {
        match self {
            Self::Leaf { place, there, entry, .. } => {
                let leaf = leaves.get(*place)?;
                let definition =
                    if leaf.column.max_def_level() == 0 { *there } else { *leaf.definitions.get(*entry)? };
                let repetition =
                    if leaf.column.max_rep_level() == 0 { 0 } else { *leaf.repetitions.get(*entry)? };
                Some((definition, repetition))
            }
            Self::Optional { inner, .. } => inner.levels(leaves),
            Self::Group(fields) => fields.first()?.1.levels(leaves),
            Self::List { element, .. } => element.levels(leaves),
            Self::Map { key, .. } => key.levels(leaves),
        }
    }

    fn level(&self, leaves: &[Leaf]) -> Result<i16> {
        self.levels(leaves).map(|levels| levels.0).ok_or_else(|| corrupt("a nested column ends within a row"))
    }

    fn goes_on(&self, leaves: &[Leaf], again: i16) -> bool {
        self.levels(leaves).is_some_and(|levels| levels.1 == again)
    }

    /// Passes the one entry that every leaf of something null or empty has.
    fn pass(&mut self, leaves: &[Leaf]) {
        self.each_leaf(&mut |place, entry, value| {
            if let Some(leaf) = leaves.get(place) {
                let max = leaf.column.max_def_level();
                *value += usize::from(max == 0 || leaf.definitions.get(*entry) == Some(&max));
                *entry += 1;
            }
        });
    }

    /// Appends the current row's JSON and goes to the next row. After a problem the rest of the row is passed.
    pub(super) fn write_row(&mut self, leaves: &[Leaf], out: &mut Vec<u8>, most: usize) -> Result<(), Stop> {
        let mut before = Vec::new();
        self.each_leaf(&mut |_, entry, value| before.push((*entry, *value)));
        let written = self.write(leaves, out, most);
        if matches!(written, Err(Stop::Problem { .. })) {
            let mut saved = before.into_iter();
            self.each_leaf(&mut |place, entry, value| {
                if let (Some((first, values)), Some(leaf)) = (saved.next(), leaves.get(place)) {
                    let end = row_end(leaf, first);
                    let max = leaf.column.max_def_level();
                    let there = leaf.definitions.get(first..end).unwrap_or_default();
                    *value = values
                        + if max == 0 {
                            end - first
                        } else {
                            there.iter().filter(|&&level| level == max).count()
                        };
                    *entry = end;
                }
            });
        }
        written
    }

    fn write(&mut self, leaves: &[Leaf], out: &mut Vec<u8>, most: usize) -> Result<(), Stop> {
        match self {
            Self::Leaf { place, there, entry, value } => {
                let Some(leaf) = leaves.get(*place) else { return Err(corrupt("no such leaf").into()) };
                let slot = *value;
                let level = if leaf.column.max_def_level() == 0 {
                    *there
                } else {
                    *leaf
                        .definitions
                        .get(*entry)
                        .ok_or_else(|| corrupt("a nested column ends within a row"))?
                };
                *entry += 1;
                if level != *there {
                    return Err(corrupt(format!(
                        "column {:?} has levels that contradict its schema",
                        leaf.name()
                    ))
                    .into());
                }
                *value += 1;
                write_value(out, leaf, slot)
                    .map_err(|detail| Stop::Problem { column: leaf.name(), detail })?;
                if out.len() > most {
                    return Err(Stop::Problem {
                        column: leaf.name(),
                        detail: format!(
                            "the packed value is longer than the limit value_bytes, {}",
                            limits::VALUE_BYTES
                        ),
                    });
                }
                Ok(())
            }
            Self::Optional { there, inner } => {
                if inner.level(leaves)? < *there {
                    inner.pass(leaves);
                    out.extend_from_slice(b"null");
                    return Ok(());
                }
                inner.write(leaves, out, most)
            }
            Self::Group(fields) => {
                for (at, (name, field)) in fields.iter_mut().enumerate() {
                    out.push(if at == 0 { b'{' } else { b',' });
                    out.extend_from_slice(name);
                    out.push(b':');
                    field.write(leaves, out, most)?;
                }
                out.push(b'}');
                Ok(())
            }
            Self::List { there, again, element } => {
                if element.level(leaves)? < *there {
                    element.pass(leaves);
                    out.extend_from_slice(b"[]");
                    return Ok(());
                }
                out.push(b'[');
                loop {
                    element.write(leaves, out, most)?;
                    if !element.goes_on(leaves, *again) {
                        break;
                    }
                    out.push(b',');
                }
                out.push(b']');
                Ok(())
            }
            Self::Map { there, again, object, key, value } => {
                let (open, close) = if *object { (b'{', b'}') } else { (b'[', b']') };
                if key.level(leaves)? < *there {
                    key.pass(leaves);
                    value.pass(leaves);
                    out.extend_from_slice(&[open, close]);
                    return Ok(());
                }
                out.push(open);
                loop {
                    let (before, between, behind): (&[u8], &[u8], &[u8]) =
                        if *object { (b"", b":", b"") } else { (b"{\"key\":", b",\"value\":", b"}") };
                    out.extend_from_slice(before);
                    key.write(leaves, out, most)?;
                    out.extend_from_slice(between);
                    value.write(leaves, out, most)?;
                    out.extend_from_slice(behind);
                    if !key.goes_on(leaves, *again) {
                        break;
                    }
                    out.push(b',');
                }
                out.push(close);
                Ok(())
            }
        }
    }
}

/// The first entry behind the row that begins at entry `first`.
fn row_end(leaf: &Leaf, first: usize) -> usize {
    if leaf.column.max_rep_level() == 0 {
        return first + 1;
    }
    let rest = leaf.repetitions.get(first + 1..).unwrap_or_default();
    first + 1 + rest.iter().position(|&level| level == 0).unwrap_or(rest.len())
}

fn is_text(field: &Type) -> bool {
    let info = field.get_basic_info();
    field.is_primitive()
        && info.has_repetition()
        && info.repetition() == Repetition::REQUIRED
        && (matches!(info.logical_type_ref(), Some(LogicalType::String | LogicalType::Enum))
            || matches!(info.converted_type(), ConvertedType::UTF8 | ConvertedType::ENUM))
}

/// The element inside the repeated group of a list, or `None` where the repeated node is the element itself: the
/// backward compatibility rules of Apache Parquet's `LogicalTypes.md`.
fn element_of<'a>(list: &Type, repeated: &'a TypePtr) -> Option<&'a TypePtr> {
    if !repeated.is_group() {
        return None;
    }
    match repeated.get_fields() {
        [element] if repeated.name() != "array" && repeated.name() != format!("{}_tuple", list.name()) => {
            Some(element)
        }
        _ => None,
    }
}
