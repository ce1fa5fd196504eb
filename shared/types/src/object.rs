//! JSON objects that are nothing but objects.

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use std::fmt;
use std::marker::PhantomData;

/// Reads `T`, a struct, from an object only. What serde derives takes a list of its fields' values just as well, in
/// the order in which they happen to stand in the source: a list that was meant as something else would be a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = Object<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(fields)).map(Object)
            }
        }
        deserializer.deserialize_map(Fields(PhantomData))
    }
}

/// For `#[serde(deserialize_with)]` of a field that is one.
///
/// # Errors
/// Those of the deserializer; anything but an object.
pub fn object<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    Object::deserialize(deserializer).map(|object| object.0)
}

/// For `#[serde(deserialize_with)]` of a field that is one, or null.
///
/// # Errors
/// Those of the deserializer; anything but an object or null.
pub fn object_or_null<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    Ok(Option::<Object<T>>::deserialize(deserializer)?.map(|object| object.0))
}

/// For `#[serde(deserialize_with)]` of a field that is a list of them.
///
/// # Errors
/// Those of the deserializer; anything but a list of objects.
pub fn objects<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    Ok(Vec::<Object<T>>::deserialize(deserializer)?.into_iter().map(|object| object.0).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Row<'a> {
        key: &'a str,
        #[serde(default)]
        version: u64,
    }

    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Rows<'a> {
        #[serde(borrow, deserialize_with = "objects")]
        rows: Vec<Row<'a>>,
        #[serde(borrow, default, deserialize_with = "object_or_null")]
        last: Option<Row<'a>>,
    }

    #[test]
    fn a_list_is_no_object() {
        let read = |text| serde_json::from_str::<Object<Rows<'_>>>(text).map(|rows| rows.0);
        let rows = read(r#"{"rows":[{"key":"a","version":2}],"last":null}"#).unwrap();
        assert_eq!(rows, Rows { rows: vec![Row { key: "a", version: 2 }], last: None });
        for wrong in [
            r#"[[{"key":"a"}]]"#,
            r#"{"rows":[["a",2]]}"#,
            r#"{"rows":{"key":"a"}}"#,
            r#"{"rows":[],"last":["a",1]}"#,
            r#"{"rows":[null]}"#,
            "null",
            "7",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
