//! One message: its format, then the mapping.

use nacre_types::{KeySchema, Result, TableSettings};

use crate::avro::Schemas;
use crate::debezium::{self, Change};
use crate::declaration::{Declaration, Format, ThriftSpec};
use crate::doc::Doc;
use crate::map::{self, Row};
use crate::{Fault, MAX_MESSAGE_BYTES, Message, SourceRow, fault, thrift};

/// Turns messages into rows.
#[derive(Debug, Clone)]
pub struct Decoder {
    declaration: Declaration,
    key: KeySchema,
    avro: Option<Schemas>,
    thrift: ThriftSpec,
}

impl Decoder {
    /// The decoder of a declaration for a table with these settings.
    ///
    /// # Errors
    /// Those of [`Declaration::check`].
    pub fn new(declaration: &Declaration, settings: &TableSettings) -> Result<Self> {
        declaration.check(settings)?;
        let avro = declaration.avro.as_ref().map(Schemas::parse).transpose().map_err(|why| {
            nacre_types::Error::invalid(format!("source.avro: {why}")).with_code("source-invalid")
        })?;
        Ok(Self {
            declaration: declaration.clone(),
            key: settings.key_schema(),
            avro,
            thrift: declaration.thrift.clone().unwrap_or_default(),
        })
    }

    /// The declaration.
    pub fn declaration(&self) -> &Declaration {
        &self.declaration
    }

    /// The rows of a message, in the order in which they rank; none where it says nothing about any.
    ///
    /// # Errors
    /// [`Fault`]: it cannot be understood.
    pub fn decode(&self, message: &Message) -> std::result::Result<Vec<SourceRow>, Fault> {
        let length =
            [&message.key, &message.value].into_iter().flatten().map(|bytes| bytes.len()).sum::<usize>();
        if length > MAX_MESSAGE_BYTES {
            return fault(format!("it has {length} bytes; at most {MAX_MESSAGE_BYTES} are looked into"));
        }
        let mapping = &self.declaration.mapping;
        let map = |row: Row<'_>| map::row(mapping, &self.key, message, &row);
        let Some(bytes) = &message.value else {
            return match self.declaration.format {
                // Kafka's own compaction mark: the deletion came before it.
                Format::Debezium | Format::Thrift => Ok(Vec::new()),
                Format::Json | Format::Avro
                    if mapping.delete.as_ref().is_some_and(|rule| rule.null_value) =>
                {
                    let key = map::key_as_document(mapping, message)?;
                    Ok(vec![map(Row { doc: &key, envelope: &key, is_delete: true, raw: None })?])
                }
                Format::Json | Format::Avro => {
                    fault("it has no value; if that deletes a row say mapping.delete {\"null_value\": true}")
                }
            };
        };
        let change = match self.declaration.format {
            Format::Json => {
                let doc = Doc::json(bytes).map_err(Fault)?;
                return Ok(vec![map(Row { doc: &doc, envelope: &doc, is_delete: false, raw: Some(bytes) })?]);
            }
            Format::Avro => {
                let doc = self.avro(bytes)?;
                return Ok(vec![map(Row { doc: &doc, envelope: &doc, is_delete: false, raw: None })?]);
            }
            Format::Debezium => {
                let envelope = match &self.avro {
                    Some(_) => self.avro(bytes)?,
                    None => Doc::json(bytes).map_err(Fault)?,
                };
                let key = message.key.as_ref().and_then(|key| match &self.avro {
                    Some(_) => self.avro(key).ok(),
                    None => Doc::json(key).ok(),
                });
                debezium::change(envelope, key)?
            }
            Format::Thrift => Some(thrift::mutation(bytes, &self.thrift)?),
        };
        let Some(Change { envelope, row, before, is_delete }) = change else { return Ok(Vec::new()) };
        let now = map(Row { doc: &row, envelope: &envelope, is_delete, raw: None })?;
        // An update that changes the key leaves the old one behind.
        if let Some(before) = before.filter(|_| !is_delete)
            && mapping.key.iter().all(|field| before.get(field).is_some_and(|doc| !doc.is_null()))
        {
            let key = map::key(mapping, &self.key, &before, &envelope)?;
            if key != now.key {
                let old = SourceRow { key, value: None, expires_at: None, ..now.clone() };
                return Ok(vec![old, now]);
            }
        }
        Ok(vec![now])
    }

    fn avro(&self, bytes: &[u8]) -> std::result::Result<Doc, Fault> {
        match &self.avro {
            Some(schemas) => schemas.decode(bytes),
            None => fault("there is no schema"),
        }
    }
}
