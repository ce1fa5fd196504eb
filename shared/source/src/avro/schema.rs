//! Avro schemas, from their JSON.

use serde_json::Value;
use std::collections::BTreeMap;

/// Deepest nesting and most types of a schema.
const DEPTH: usize = 64;
const TYPES: usize = 10_000;

/// A schema: its types, and which of them is the whole.
#[derive(Debug, Clone)]
pub(crate) struct Schema {
    types: Vec<Type>,
    root: usize,
}

/// A type; others that it is made of by their places.
#[derive(Debug, Clone)]
pub(super) enum Type {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    Text,
    Date,
    Millis,
    Micros,
    Fixed(usize),
    Decimal { size: Option<usize>, scale: u32 },
    Enum(Vec<String>),
    Array(usize),
    Map(usize),
    Union(Vec<usize>),
    Record(Vec<(String, usize)>),
}

impl Schema {
    pub(super) fn root(&self) -> Option<&Type> {
        self.get(self.root)
    }

    pub(super) fn get(&self, at: usize) -> Option<&Type> {
        self.types.get(at)
    }

    /// Reads a schema: JSON, or JSON as a text, which is how registries answer it.
    pub(super) fn parse(value: &Value) -> Result<Self, String> {
        let mut parser = Parser { types: Vec::new(), names: BTreeMap::new() };
        let text = value.as_str().filter(|text| text.trim_start().starts_with(['{', '[']));
        let root = match text {
            Some(text) => {
                let inner: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
                parser.add(&inner, "", 0)?
            }
            None => parser.add(value, "", 0)?,
        };
        Ok(Self { types: parser.types, root })
    }
}

struct Parser {
    types: Vec<Type>,
    names: BTreeMap<String, usize>,
}

impl Parser {
    fn push(&mut self, kind: Type) -> Result<usize, String> {
        if self.types.len() >= TYPES {
            return Err(format!("more than {TYPES} types"));
        }
        self.types.push(kind);
        Ok(self.types.len() - 1)
    }

    fn add(&mut self, value: &Value, space: &str, depth: usize) -> Result<usize, String> {
        if depth > DEPTH {
            return Err(format!("types nested deeper than {DEPTH}"));
        }
        match value {
            Value::String(name) => self.named(name, space),
            Value::Array(branches) => {
                let branches = branches
                    .iter()
                    .map(|branch| self.add(branch, space, depth + 1))
                    .collect::<Result<_, _>>()?;
                self.push(Type::Union(branches))
            }
            Value::Object(_) => self.object(value, space, depth),
            _ => Err("a type is a name, a list or an object".to_owned()),
        }
    }

    fn named(&mut self, name: &str, space: &str) -> Result<usize, String> {
        let kind = match name {
            "null" => Type::Null,
            "boolean" => Type::Boolean,
            "int" => Type::Int,
            "long" => Type::Long,
            "float" => Type::Float,
            "double" => Type::Double,
            "bytes" => Type::Bytes,
            "string" => Type::Text,
            _ => {
                let known = self.names.get(&full(name, space)).or_else(|| self.names.get(name));
                return known.copied().ok_or_else(|| format!("there is no type {name:?}"));
            }
        };
        self.push(kind)
    }

    fn object(&mut self, value: &Value, space: &str, depth: usize) -> Result<usize, String> {
        let kind = match value.get("type") {
            Some(Value::String(kind)) => &**kind,
            Some(inner @ (Value::Object(_) | Value::Array(_))) => return self.add(inner, space, depth + 1),
            _ => return Err("an object without a type".to_owned()),
        };
        let logical = value.get("logicalType").and_then(Value::as_str).unwrap_or_default();
        let number = |name: &str| value.get(name).and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok());
        let scale = number("scale").unwrap_or(0);
        if scale > 76 {
            return Err("a decimal with more than 76 digits behind the point".to_owned());
        }
        match (kind, logical) {
            ("int", "date") => self.push(Type::Date),
            ("long", "timestamp-millis" | "local-timestamp-millis") => self.push(Type::Millis),
            ("long", "timestamp-micros" | "local-timestamp-micros") => self.push(Type::Micros),
            ("bytes", "decimal") => self.push(Type::Decimal { size: None, scale }),
            ("array", _) => {
                let items = value.get("items").ok_or("an array without items")?;
                let items = self.add(items, space, depth + 1)?;
                self.push(Type::Array(items))
            }
            ("map", _) => {
                let values = value.get("values").ok_or("a map without values")?;
                let values = self.add(values, space, depth + 1)?;
                self.push(Type::Map(values))
            }
            ("fixed", _) => {
                let size = number("size").ok_or("a fixed without size")? as usize;
                let kind = if logical == "decimal" {
                    Type::Decimal { size: Some(size), scale }
                } else {
                    Type::Fixed(size)
                };
                let at = self.push(kind)?;
                self.name(value, space, at).map(|_| at)
            }
            ("enum", _) => {
                let symbols =
                    value.get("symbols").and_then(Value::as_array).ok_or("an enum without symbols")?;
                let symbols = symbols.iter().filter_map(Value::as_str).map(str::to_owned).collect();
                let at = self.push(Type::Enum(symbols))?;
                self.name(value, space, at).map(|_| at)
            }
            ("record" | "error", _) => {
                // Named before its fields are read: they may be of its own type.
                let at = self.push(Type::Record(Vec::new()))?;
                let space = self.name(value, space, at)?;
                let fields =
                    value.get("fields").and_then(Value::as_array).ok_or("a record without fields")?;
                let mut read = Vec::with_capacity(fields.len());
                for field in fields {
                    let name = field.get("name").and_then(Value::as_str).ok_or("a field without a name")?;
                    let kind = field.get("type").ok_or_else(|| format!("field {name:?} has no type"))?;
                    let kind =
                        self.add(kind, &space, depth + 1).map_err(|why| format!("field {name:?}: {why}"))?;
                    read.push((name.to_owned(), kind));
                }
                if let Some(slot) = self.types.get_mut(at) {
                    *slot = Type::Record(read);
                }
                Ok(at)
            }
            (name, _) => self.named(name, space),
        }
    }

    /// Gives a type its name; answers the namespace that holds inside it.
    fn name(&mut self, value: &Value, space: &str, at: usize) -> Result<String, String> {
        let name = value.get("name").and_then(Value::as_str).ok_or("a type without a name")?;
        let space = value.get("namespace").and_then(Value::as_str).unwrap_or(space);
        let name = full(name, space);
        let inner = name.rsplit_once('.').map_or("", |(space, _)| space).to_owned();
        self.names.insert(name, at);
        Ok(inner)
    }
}

fn full(name: &str, space: &str) -> String {
    if name.contains('.') || space.is_empty() { name.to_owned() } else { format!("{space}.{name}") }
}
