//! Bodies of batches, in the binary form of docs/batch.md and in JSON, laid out so that a client changes keys in place.

use super::clients::Random;
use super::server::{TABLE, key_of};
use super::wire::Request;

/// The forms that batches are measured in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Binary,
    Json,
}

impl Form {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Binary => "binary",
            Self::Json => "JSON",
        }
    }

    fn media_type(self) -> &'static str {
        match self {
            Self::Binary => "application/vnd.nacre.batch",
            Self::Json => "application/json",
        }
    }
}

/// A request whose keys are changed before each call.
pub(crate) struct Template {
    pub(crate) request: Request,
    /// Where the digits of each key begin in the body.
    digits: Vec<usize>,
}

const DIGITS: usize = 12;
const GET: u8 = 1;
const WRITE: u8 = 3;

fn head(kind: u8, count: usize) -> Vec<u8> {
    let mut out = b"nbf\x01".to_vec();
    out.extend_from_slice(&[kind, 0]);
    out.extend_from_slice(&(count as u32).to_le_bytes());
    out
}

/// Keys to be read.
pub(crate) fn get(form: Form, keys: usize) -> Template {
    let mut digits = Vec::with_capacity(keys);
    let mut body = match form {
        Form::Binary => head(GET, keys),
        Form::Json => b"{\"keys\":[".to_vec(),
    };
    for nth in 0..keys {
        let key = key_of(0);
        match form {
            Form::Binary => body.extend_from_slice(&(key.len() as u16).to_le_bytes()),
            Form::Json => body.extend_from_slice(if nth == 0 { b"\"" } else { b",\"" }),
        }
        body.extend_from_slice(key.as_bytes());
        digits.push(body.len() - DIGITS);
        if form == Form::Json {
            body.push(b'"');
        }
    }
    if form == Form::Json {
        body.extend_from_slice(b"]}");
    }
    template(form, "batchGet", &body, digits)
}

/// Rows to be written, all with the same value.
pub(crate) fn write(form: Form, rows: usize, value: &[u8]) -> Template {
    let mut digits = Vec::with_capacity(rows);
    let mut body = match form {
        Form::Binary => head(WRITE, rows),
        Form::Json => b"{\"rows\":[".to_vec(),
    };
    for nth in 0..rows {
        let key = key_of(0);
        match form {
            Form::Binary => {
                body.push(0);
                body.extend_from_slice(&(key.len() as u16).to_le_bytes());
            }
            Form::Json => body.extend_from_slice(if nth == 0 { b"{\"key\":\"" } else { b",{\"key\":\"" }),
        }
        body.extend_from_slice(key.as_bytes());
        digits.push(body.len() - DIGITS);
        match form {
            Form::Binary => body.extend_from_slice(&(value.len() as u32).to_le_bytes()),
            Form::Json => body.extend_from_slice(b"\",\"value\":\""),
        }
        body.extend_from_slice(value);
        if form == Form::Json {
            body.extend_from_slice(b"\"}");
        }
    }
    if form == Form::Json {
        body.extend_from_slice(b"]}");
    }
    template(form, "batchWrite", &body, digits)
}

fn template(form: Form, verb: &str, body: &[u8], digits: Vec<usize>) -> Template {
    let request = Request::new("POST", &format!("{TABLE}/rows:{verb}"), form.media_type(), body);
    Template { request, digits }
}

impl Template {
    /// Where the keys lie, for clients that own the request.
    pub(crate) fn split(self) -> (Request, Vec<usize>) {
        (self.request, self.digits)
    }
}

/// Gives every key of a body a new number below `most`.
pub(crate) fn shuffle(request: &mut Request, digits: &[usize], random: &mut Random, most: u64) {
    let body = request.body_mut();
    for &at in digits {
        put_number(body, at, random.below(most));
    }
}

/// Gives the keys of a body the numbers from `first` on.
pub(crate) fn number(request: &mut Request, digits: &[usize], first: u64) {
    let body = request.body_mut();
    for (nth, &at) in digits.iter().enumerate() {
        put_number(body, at, first + nth as u64);
    }
}

/// Writes a key's number where its digits begin.
pub(crate) fn put_number(body: &mut [u8], at: usize, mut number: u64) {
    for place in body.get_mut(at..at + DIGITS).unwrap_or_default().iter_mut().rev() {
        *place = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// A value that compresses by about half and needs no escaping in JSON.
pub(crate) fn value(bytes: usize) -> Vec<u8> {
    let mut random = Random::new(7);
    let letters = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";
    let letter = |random: &mut Random| letters[random.below(letters.len() as u64) as usize];
    (0..bytes).map(|at| if at < bytes * 6 / 10 { letter(&mut random) } else { b'.' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binary_body_is_that_of_the_documentation() {
        let (mut request, digits) = write(Form::Binary, 2, b"xy").split();
        number(&mut request, &digits, 41);
        let body = request.body_mut();
        assert_eq!(body[..10], *b"nbf\x01\x03\0\x02\0\0\0");
        assert_eq!(body[10..35], *b"\0\x10\0key-000000000041\x02\0\0\0xy");
        assert_eq!(body.len(), 60);
    }

    #[test]
    fn a_json_body_is_json() {
        for template in [get(Form::Json, 3), write(Form::Json, 3, &value(200))] {
            let (mut request, digits) = template.split();
            shuffle(&mut request, &digits, &mut Random::new(1), 100_000);
            let body: serde_json::Value = serde_json::from_slice(request.body_mut()).unwrap();
            assert_eq!(body.as_object().unwrap().values().next().unwrap().as_array().unwrap().len(), 3);
        }
    }
}
