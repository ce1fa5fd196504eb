//! Paths with their queries.

use nacre_api::encode_segment;

/// A path that grows a query.
pub(crate) struct Target {
    text: String,
    has_query: bool,
}

impl Target {
    /// `path` as it stands; it may have a query already.
    pub(crate) fn new(path: String) -> Self {
        Self { has_query: path.contains('?'), text: path }
    }

    /// Adds a parameter, percent-encoded.
    pub(crate) fn add(&mut self, name: &str, value: impl AsRef<[u8]>) {
        self.text.push(if self.has_query { '&' } else { '?' });
        self.has_query = true;
        self.text.push_str(name);
        self.text.push('=');
        encode_segment(&mut self.text, value.as_ref());
    }

    /// Adds a parameter that is there.
    pub(crate) fn add_some(&mut self, name: &str, value: Option<impl ToString>) {
        if let Some(value) = value {
            self.add(name, value.to_string());
        }
    }

    /// The path with its query.
    pub(crate) fn into_text(self) -> String {
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_encoded_and_joined() {
        let mut target = Target::new("/a".into());
        target.add_some("none", None::<i64>);
        target.add("prefix", b"a b&c=\xFF");
        target.add_some("limit", Some(3));
        assert_eq!(target.into_text(), "/a?prefix=a%20b%26c%3D%FF&limit=3");
        let mut target = Target::new("/a?key_encoding=base64url".into());
        target.add("x", "1");
        assert_eq!(target.into_text(), "/a?key_encoding=base64url&x=1");
    }
}
