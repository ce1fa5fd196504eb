//! Which columns of a file are keys, values, versions, expiry times and deletes.

use super::footer::{Footer, read_footer};
use super::json::Node;
use super::leaf::{Leaf, LeafType};
use super::{Caps, ReadAt};
use bytes::Bytes;
use nacre_types::tuple::{Part, kind_name, part_from_text};
use nacre_types::{Error, KeyPart, KeyPartType, KeySchema, Result};
use parquet::schema::types::SchemaDescriptor;
use serde::{Deserialize, Serialize};

/// The columns of a load, by name. What is not named has the name of a native file (`key`, `value`, `version`,
/// `expires_at`), if the file has such a column and nothing else uses it. A column inside a struct is named with dots,
/// `user.id`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoadColumns {
    /// The columns of the key, in order. Empty: the columns named like the parts of a typed key if the file has them
    /// all, else `key`.
    pub key: Vec<String>,
    /// The one column whose bytes are the value. Null is a tombstone, unless `delete` is named: then it is an error.
    pub value: Option<String>,
    /// Instead of `value`: these columns become one JSON object (see `docs/values.md`).
    pub pack: Option<Vec<String>>,
    /// Integer, or timestamp in any unit. Never null.
    pub version: Option<String>,
    /// Integer microseconds since the epoch, or timestamp in any unit. Null is never.
    pub expires_at: Option<String>,
    /// Boolean: true is a tombstone, whatever the value; null is false. Without a default.
    pub delete: Option<String>,
}

/// Where something comes from: a leaf (its place among the plan's), or the same for the whole file.
pub(super) enum Source<T> {
    Leaf(usize),
    Constant(T),
}

/// How keys are made.
pub(super) enum KeyPlan {
    /// The column's bytes.
    Bytes(Source<Bytes>),
    /// The column's bytes, which must be packed parts.
    Packed(usize, Vec<KeyPart>),
    /// Columns packed by the tuple encoding.
    Parts(Vec<(KeyPart, Source<Part>)>),
}

/// How values are made.
pub(super) enum ValuePlan {
    Bytes(Source<Bytes>),
    /// Name as JSON text, and where it comes from.
    Pack(Vec<(Vec<u8>, Packed)>),
}

/// A field of a packed value.
pub(super) enum Packed {
    Node(Node),
    /// JSON text.
    Constant(Vec<u8>),
}

/// What a file's columns are for.
pub(super) struct Plan {
    pub(super) leaves: Vec<Leaf>,
    pub(super) key: KeyPlan,
    pub(super) value: ValuePlan,
    pub(super) version: Option<Source<i64>>,
    pub(super) expires_at: Option<Source<i64>>,
    pub(super) delete: Option<usize>,
}

/// The name by which Hive and Spark write a null into a folder's name.
const HIVE_NULL: &str = "__HIVE_DEFAULT_PARTITION__";

/// What the first load into an empty table declares its keys to be: one string or binary column is `bytes`, anything
/// else typed parts with the columns' names.
///
/// # Errors
/// `Invalid` (`load-columns`) for a column that is not there or whose type no key can have.
pub fn declare_key(
    file: &dyn ReadAt,
    columns: &LoadColumns,
    folder_columns: &[(String, String)],
    caps: &Caps,
) -> Result<KeySchema> {
    if columns.key.is_empty() {
        return Ok(KeySchema::Bytes);
    }
    let footer = read_footer(file, caps)?;
    let finder = Finder { footer: &footer, folder_columns };
    let mut parts = Vec::with_capacity(columns.key.len());
    let mut plain = true;
    for name in &columns.key {
        let kind = match finder.find(name)? {
            Found::Folder(_) => KeyPartType::String,
            Found::Leaf(index) => {
                let leaf = finder.leaf(index)?;
                match leaf.kind {
                    LeafType::Text => KeyPartType::String,
                    LeafType::Binary | LeafType::Fixed(_) => KeyPartType::Bytes,
                    LeafType::Int { .. } => KeyPartType::Int64,
                    LeafType::Uuid => KeyPartType::Uuid,
                    LeafType::Date => KeyPartType::Date,
                    LeafType::Timestamp(_) | LeafType::Int96 => KeyPartType::Timestamp,
                    other => {
                        return Err(finder.wrong(&format!(
                            "column {name:?} ({other}) cannot be part of a key; integers, strings, binaries, UUIDs, \
                             dates and timestamps can"
                        )));
                    }
                }
            }
        };
        plain &= matches!(kind, KeyPartType::String | KeyPartType::Bytes);
        parts.push(KeyPart { name: name.clone(), kind });
    }
    Ok(if plain && parts.len() == 1 { KeySchema::Bytes } else { KeySchema::Parts(parts) })
}

/// Looks names up, and lists what is there when one is not.
pub(super) struct Finder<'a> {
    pub(super) footer: &'a Footer,
    pub(super) folder_columns: &'a [(String, String)],
}

/// A flat leaf of the file (its place among the schema's leaves), or the text behind `name=` in the file's path.
pub(super) enum Found {
    Leaf(usize),
    Folder(String),
}

impl Finder<'_> {
    fn schema(&self) -> &SchemaDescriptor {
        self.footer.meta.file_metadata().schema_descr()
    }

    /// `Invalid`, with the columns that there are.
    pub(super) fn wrong(&self, what: &str) -> Error {
        const MOST: usize = 60;
        let mut names: Vec<String> = self
            .schema()
            .columns()
            .iter()
            .take(MOST)
            .map(|column| {
                let list = if column.max_rep_level() > 0 { ", in a list or map" } else { "" };
                format!("{} ({}{list})", column.path().string(), LeafType::of(column))
            })
            .collect();
        if self.schema().num_columns() > MOST {
            names.push(format!("and {} more", self.schema().num_columns() - MOST));
        }
        names.extend(self.folder_columns.iter().map(|(name, _)| format!("{name} (folder)")));
        Error::invalid(format!("{what}; the file has the columns {}", names.join(", ")))
            .with_code("load-columns")
    }

    fn try_find(&self, name: &str) -> Result<Option<Found>> {
        let mut leaves =
            self.schema().columns().iter().enumerate().filter(|(_, column)| column.path().string() == name);
        if let Some((index, column)) = leaves.next() {
            if leaves.next().is_some() {
                return Err(self.wrong(&format!("there are two columns {name:?}")));
            }
            if column.max_rep_level() > 0 {
                return Err(
                    self.wrong(&format!("column {name:?} lies in a list or map; it can only be packed"))
                );
            }
            return Ok(Some(Found::Leaf(index)));
        }
        if let Some((_, text)) = self.folder_columns.iter().find(|(folder, _)| folder == name) {
            return Ok(Some(Found::Folder(text.clone())));
        }
        Ok(None)
    }

    pub(super) fn find(&self, name: &str) -> Result<Found> {
        self.try_find(name)?.ok_or_else(|| {
            let group = self.schema().root_schema().get_fields().iter().any(|field| field.name() == name);
            self.wrong(&if group {
                format!("column {name:?} is a group: name a column inside it, or pack it")
            } else {
                format!("there is no column {name:?}")
            })
        })
    }

    pub(super) fn leaf(&self, index: usize) -> Result<Leaf> {
        match self.schema().columns().get(index) {
            Some(column) => Ok(Leaf::new(index, std::sync::Arc::clone(column))),
            None => Err(Error::internal(format!("no leaf {index}"))),
        }
    }
}

impl Plan {
    /// Maps `columns` to what the file has.
    pub(super) fn new(
        footer: &Footer,
        columns: &LoadColumns,
        key: &KeySchema,
        folder_columns: &[(String, String)],
        caps: &Caps,
    ) -> Result<Self> {
        let mut planner = Planner { finder: Finder { footer, folder_columns }, leaves: Vec::new() };
        let key = planner.key(columns, key)?;
        let version = planner.moment(columns.version.as_deref(), "version", columns)?;
        let expires_at = planner.moment(columns.expires_at.as_deref(), "expires_at", columns)?;
        let delete = columns.delete.as_deref().map(|name| planner.delete(name)).transpose()?;
        let value = planner.value(columns, caps)?;
        Ok(Self { leaves: planner.leaves, key, value, version, expires_at, delete })
    }
}

struct Planner<'a> {
    finder: Finder<'a>,
    leaves: Vec<Leaf>,
}

impl Planner<'_> {
    /// The leaf's place in the plan. A leaf that stands in two roles is read twice: each role moves on by itself.
    fn add(&mut self, index: usize) -> Result<usize> {
        let leaf = self.finder.leaf(index)?;
        self.leaves.push(leaf);
        Ok(self.leaves.len() - 1)
    }

    fn key(&mut self, columns: &LoadColumns, schema: &KeySchema) -> Result<KeyPlan> {
        let parts = match schema {
            KeySchema::Bytes => {
                let name = match &columns.key[..] {
                    [] => "key",
                    [name] => name,
                    names => {
                        return Err(self.finder.wrong(&format!(
                            "the load names {} key columns, and this table's keys are bytes: one string or binary column",
                            names.len()
                        )));
                    }
                };
                return self.bytes(name, "the key").map(KeyPlan::Bytes);
            }
            KeySchema::Parts(parts) => parts,
        };
        let names: Vec<&str> = if columns.key.is_empty() {
            let mut named_alike = true;
            for part in parts {
                named_alike &= self.finder.try_find(&part.name)?.is_some();
            }
            if !named_alike {
                let Source::Leaf(place) = self.bytes("key", "the packed key")? else {
                    return Err(self.finder.wrong("the packed key cannot come from a folder's name"));
                };
                return Ok(KeyPlan::Packed(place, parts.clone()));
            }
            parts.iter().map(|part| &part.name[..]).collect()
        } else {
            columns.key.iter().map(String::as_str).collect()
        };
        if names.len() != parts.len() {
            return Err(self.finder.wrong(&format!(
                "the load names {} key columns, and this table's keys have {} parts",
                names.len(),
                parts.len()
            )));
        }
        let mut plan = Vec::with_capacity(parts.len());
        for (name, part) in names.into_iter().zip(parts) {
            let source = match self.finder.find(name)? {
                Found::Folder(text) if text == HIVE_NULL => {
                    return Err(self
                        .finder
                        .wrong(&format!("the folder says that key column {name:?} is null")));
                }
                Found::Folder(text) => Source::Constant(part_from_text(part, &text)?),
                Found::Leaf(index) => {
                    let place = self.add(index)?;
                    let kind = self.leaves.get(place).map_or(LeafType::Bool, |leaf| leaf.kind);
                    if !fits(part.kind, kind) {
                        return Err(self.finder.wrong(&format!(
                            "column {name:?} ({kind}) does not fit part {:?} of the key, which is {}",
                            part.name,
                            kind_name(part.kind)
                        )));
                    }
                    Source::Leaf(place)
                }
            };
            plan.push((part.clone(), source));
        }
        Ok(KeyPlan::Parts(plan))
    }

    fn bytes(&mut self, name: &str, what: &str) -> Result<Source<Bytes>> {
        match self.finder.find(name)? {
            Found::Folder(text) => Ok(Source::Constant(text.into_bytes().into())),
            Found::Leaf(index) => {
                let place = self.add(index)?;
                match self.leaves.get(place).map(|leaf| leaf.kind) {
                    Some(LeafType::Text | LeafType::Binary | LeafType::Fixed(_) | LeafType::Uuid) => {
                        Ok(Source::Leaf(place))
                    }
                    kind => {
                        let kind = kind.map(|kind| kind.to_string()).unwrap_or_default();
                        let instead = if what == "the value" {
                            "name it under `pack` to have it as JSON"
                        } else {
                            "create the table with typed keys"
                        };
                        Err(self.finder.wrong(&format!(
                            "column {name:?} ({kind}) cannot be {what}: only a string or binary column can; {instead}"
                        )))
                    }
                }
            }
        }
    }

    fn moment(
        &mut self,
        named: Option<&str>,
        default: &str,
        columns: &LoadColumns,
    ) -> Result<Option<Source<i64>>> {
        let found = match named {
            Some(name) => Some(self.finder.find(name)?),
            None if is_used(columns, default) => None,
            // A folder named by chance is no default.
            None => self.finder.try_find(default)?.filter(|found| matches!(found, Found::Leaf(_))),
        };
        let name = named.unwrap_or(default);
        match found {
            None => Ok(None),
            Some(Found::Folder(text)) => {
                text.parse().map(|number| Some(Source::Constant(number))).map_err(|_| {
                    self.finder.wrong(&format!("the folder says {name}={text}, which is no whole number"))
                })
            }
            Some(Found::Leaf(index)) => {
                let place = self.add(index)?;
                match self.leaves.get(place).map(|leaf| leaf.kind) {
                    Some(LeafType::Int { .. } | LeafType::Timestamp(_) | LeafType::Int96) => {
                        Ok(Some(Source::Leaf(place)))
                    }
                    kind => {
                        let kind = kind.map(|kind| kind.to_string()).unwrap_or_default();
                        Err(self.finder.wrong(&format!(
                            "column {name:?} ({kind}) cannot be the {default}: integers (microseconds) and timestamps can"
                        )))
                    }
                }
            }
        }
    }

    fn delete(&mut self, name: &str) -> Result<usize> {
        let Found::Leaf(index) = self.finder.find(name)? else {
            return Err(self
                .finder
                .wrong(&format!("the delete column {name:?} cannot come from a folder's name")));
        };
        let place = self.add(index)?;
        match self.leaves.get(place).map(|leaf| leaf.kind) {
            Some(LeafType::Bool) => Ok(place),
            kind => {
                let kind = kind.map(|kind| kind.to_string()).unwrap_or_default();
                Err(self.finder.wrong(&format!("the delete column {name:?} ({kind}) must be boolean")))
            }
        }
    }

    fn value(&mut self, columns: &LoadColumns, caps: &Caps) -> Result<ValuePlan> {
        let names = match (&columns.value, &columns.pack) {
            (Some(_), Some(_)) => {
                return Err(self
                    .finder
                    .wrong("the load names both a value column and columns to pack: name one"));
            }
            (None, Some(names)) => names,
            (value, None) => {
                let name = value.as_deref().unwrap_or("value");
                return self.bytes(name, "the value").map(ValuePlan::Bytes);
            }
        };
        if names.is_empty() {
            return Err(self.finder.wrong("the load names no column to pack"));
        }
        let mut fields = Vec::with_capacity(names.len());
        for (at, name) in names.iter().enumerate() {
            if names.iter().take(at).any(|before| before == name) {
                return Err(self.finder.wrong(&format!("column {name:?} is packed twice")));
            }
            let label = json_text(name);
            let packed = match self.node(name, caps)? {
                Some(node) => Packed::Node(node),
                None => match self.finder.find(name)? {
                    Found::Folder(text) if text == HIVE_NULL => Packed::Constant(b"null".to_vec()),
                    Found::Folder(text) => Packed::Constant(json_text(&text)),
                    Found::Leaf(index) => {
                        // A column inside a struct, by its path: null where any group above it is.
                        let place = self.add(index)?;
                        let column = std::sync::Arc::clone(&self.finder.leaf(index)?.column);
                        Packed::Node(Node::nested_leaf(place, &column))
                    }
                },
            };
            fields.push((label, packed));
        }
        Ok(ValuePlan::Pack(fields))
    }

    /// A whole column of the top level, with everything inside it.
    fn node(&mut self, name: &str, caps: &Caps) -> Result<Option<Node>> {
        let schema = self.finder.schema();
        let Some(field) = schema.root_schema().get_fields().iter().find(|field| field.name() == name) else {
            return Ok(None);
        };
        let field = std::sync::Arc::clone(field);
        let first = (0..schema.num_columns()).find(|&leaf| schema.get_column_root(leaf).name() == name);
        let Some(mut next) = first else { return Ok(None) };
        let mut add = || {
            next += 1;
            self.add(next - 1)
        };
        Node::build(&field, 0, 0, caps.nesting, &mut add).map(Some)
    }
}

/// Whether `name` plays a role that the load gave it.
pub(super) fn is_used(columns: &LoadColumns, name: &str) -> bool {
    let named = |column: &Option<String>| column.as_deref() == Some(name);
    columns.key.iter().any(|key| key == name)
        || named(&columns.value)
        || named(&columns.version)
        || named(&columns.expires_at)
        || named(&columns.delete)
        || columns.pack.as_ref().is_some_and(|pack| pack.iter().any(|packed| packed == name))
}

/// Whether a column of type `leaf` can be a part of type `part`; see the table in `docs/keys.md`.
fn fits(part: KeyPartType, leaf: LeafType) -> bool {
    match part {
        KeyPartType::String => matches!(leaf, LeafType::Text | LeafType::Binary),
        KeyPartType::Bytes => {
            matches!(leaf, LeafType::Text | LeafType::Binary | LeafType::Fixed(_) | LeafType::Uuid)
        }
        KeyPartType::Int64 => matches!(leaf, LeafType::Int { .. }),
        KeyPartType::Uuid => matches!(leaf, LeafType::Uuid | LeafType::Fixed(16) | LeafType::Text),
        KeyPartType::Date => leaf == LeafType::Date,
        KeyPartType::Timestamp => matches!(leaf, LeafType::Timestamp(_) | LeafType::Int96),
    }
}

/// `text` as a JSON string.
pub(super) fn json_text(text: &str) -> Vec<u8> {
    serde_json::Value::from(text).to_string().into_bytes()
}
