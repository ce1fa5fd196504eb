//! Avro: messages of one schema as they are, or in Confluent's wire format (a zero byte, the schema's id in four bytes,
//! big-endian, the message). The schemas stand in the declaration; no registry is asked.
//!
//! Why not the `apache-avro` crate? Its bound on allocations is one number for the whole process and is meant for honest
//! files (512 MB); a message of a few bytes may say that it holds 2^60 nulls. What is needed here, one record into one
//! document, is small.

mod reader;
mod schema;

use std::collections::BTreeMap;

use crate::declaration::AvroSpec;
use crate::doc::Doc;
use crate::{Fault, fault};
use schema::Schema;

/// The schemas of a declaration.
#[derive(Debug, Clone)]
pub(crate) enum Schemas {
    One(Schema),
    ById(BTreeMap<u32, Schema>),
}

impl Schemas {
    /// Reads them; an error is a sentence.
    pub(crate) fn parse(spec: &AvroSpec) -> Result<Self, String> {
        match (&spec.schema, spec.schemas.is_empty()) {
            (Some(schema), true) => {
                Schema::parse(schema).map(Self::One).map_err(|why| format!("schema: {why}"))
            }
            (None, false) => {
                let parsed = spec.schemas.iter().map(|(id, schema)| {
                    let number = id.parse().map_err(|_| format!("schemas: {id:?} is no id of a registry"))?;
                    Ok((number, Schema::parse(schema).map_err(|why| format!("schemas.{id}: {why}"))?))
                });
                parsed.collect::<Result<_, String>>().map(Self::ById)
            }
            _ => Err("say exactly one of schema and schemas".to_owned()),
        }
    }

    /// Reads a message.
    pub(crate) fn decode(&self, bytes: &[u8]) -> Result<Doc, Fault> {
        let (schema, body) = match self {
            Self::One(schema) => (schema, bytes),
            Self::ById(schemas) => {
                let (head, body) = match bytes.split_at_checked(5) {
                    Some(([0, id @ ..], body)) => (id, body),
                    _ => {
                        return fault(
                            "it does not begin with a zero byte and a schema's id (Confluent's wire format)",
                        );
                    }
                };
                let id = head.iter().fold(0u32, |id, byte| id << 8 | u32::from(*byte));
                match schemas.get(&id) {
                    Some(schema) => (schema, body),
                    None => {
                        return fault(format!(
                            "its schema has id {id}, which source.avro.schemas does not name"
                        ));
                    }
                }
            }
        };
        reader::read(schema, body).ok_or_else(|| Fault("it does not fit its Avro schema".to_owned()))
    }
}
