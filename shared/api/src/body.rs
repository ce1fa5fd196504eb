//! JSON and NDJSON bodies: parsing that names what is wrong, and in which field.

use nacre_types::object::Object;
use nacre_types::{Error, Result};
use serde::Deserialize;

/// Reads a JSON body, which is an object.
///
/// # Errors
/// `Invalid` (`body-invalid`) with what was expected and where.
pub fn from_json<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T> {
    let object =
        serde_json::from_slice::<Object<T>>(body).map_err(|error| invalid::<T>("the body", body, &error))?;
    Ok(object.0)
}

/// Reads one JSON object per line, at most `limit` of them; empty lines are skipped.
///
/// # Errors
/// `Invalid` (`body-invalid`) naming the line; `too_many` where there are more.
pub fn from_ndjson<'a, T: Deserialize<'a>>(
    body: &'a [u8],
    limit: usize,
    too_many: impl Fn() -> Error,
) -> Result<Vec<T>> {
    let mut items = Vec::new();
    for (number, line) in body.split(|&b| b == b'\n').enumerate() {
        if line.trim_ascii().is_empty() {
            continue;
        }
        if items.len() == limit {
            return Err(too_many());
        }
        items.push(
            serde_json::from_slice::<Object<T>>(line)
                .map(|object| object.0)
                .map_err(|error| invalid::<T>(&format!("line {} of the body", number + 1), line, &error))?,
        );
    }
    Ok(items)
}

/// Reads the body again, with a track of where it is, which no body that is right pays for.
fn invalid<'a, T: Deserialize<'a>>(what: &str, body: &'a [u8], error: &serde_json::Error) -> Error {
    let mut again = serde_json::Deserializer::from_slice(body);
    let place = serde_path_to_error::deserialize::<_, Object<T>>(&mut again)
        .err()
        .map(|error| error.path().to_string());
    let at = match place.as_deref() {
        None | Some("." | "?") => String::new(),
        Some(place) => format!(" at {}", place.chars().take(200).collect::<String>()),
    };
    Error::invalid(format!("{what} is not the JSON that is expected here{at}: {error}"))
        .with_code("body-invalid")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_field_is_named() {
        #[derive(Debug, Deserialize)]
        struct Row {
            #[allow(dead_code)]
            version: u64,
        }
        #[derive(Debug, Deserialize)]
        struct Rows {
            #[allow(dead_code)]
            rows: Vec<Row>,
        }
        let error = from_json::<Rows>(br#"{"rows":[{"version":1},{"version":1.5}]}"#).unwrap_err();
        assert!(error.detail().contains("at rows[1].version: invalid type: floating point"), "{error}");
        let error = from_json::<Rows>(b"[]").unwrap_err();
        assert!(error.detail().contains("expected here: invalid"), "{error}");
        let deep = format!("{{\"rows\":{}", "[".repeat(100_000));
        let error = from_json::<Rows>(deep.as_bytes()).unwrap_err();
        assert!(error.detail().len() < 500, "{error}");
    }

    #[test]
    fn ndjson_names_the_line_and_stops_at_the_limit() {
        #[derive(Debug, Deserialize)]
        struct Row {
            n: u8,
        }
        let full = || Error::invalid("full").with_code("batch-too-large");
        let rows = from_ndjson::<Row>(b"{\"n\":1}\n\n {\"n\":2}\r\n", 2, full).unwrap();
        assert_eq!(rows.iter().map(|row| row.n).collect::<Vec<_>>(), [1, 2]);
        let error = from_ndjson::<Row>(b"{\"n\":1}\n{\"n\":2}\n{\"n\":3}", 2, full).unwrap_err();
        assert_eq!(error.code(), "batch-too-large");
        for wrong in ["x", "[1]", "7"] {
            let error =
                from_ndjson::<Row>(format!("{{\"n\":1}}\n\n{wrong}").as_bytes(), 5, full).unwrap_err();
            assert_eq!(error.code(), "body-invalid");
            assert!(error.detail().contains("line 3"), "{error}");
        }
    }
}
