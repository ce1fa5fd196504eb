//! Entity tags: opaque, equal only for equal rows.

use xxhash_rust::xxh3::xxh3_128;

/// Length of a tag with its quotes.
pub const ETAG_BYTES: usize = 34;

/// The strong tag of a row: 128 bits over all of key, version, expiry and value, in quotes.
///
/// Not a cryptographic hash: who can write a table can, with effort, make two rows of his own that share a tag, and
/// then fools his own readers' caches alone.
pub fn etag(key: &[u8], version: i64, expires_at: Option<i64>, value: &[u8]) -> [u8; ETAG_BYTES] {
    let mut all = [0u8; 49];
    all[..16].copy_from_slice(&xxh3_128(key).to_le_bytes());
    all[16..32].copy_from_slice(&xxh3_128(value).to_le_bytes());
    all[32..40].copy_from_slice(&version.to_le_bytes());
    if let Some(expires_at) = expires_at {
        all[40] = 1;
        all[41..].copy_from_slice(&expires_at.to_le_bytes());
    }
    let hash = xxh3_128(&all).to_be_bytes();
    let mut text = [b'"'; ETAG_BYTES];
    for (pair, byte) in text[1..33].chunks_exact_mut(2).zip(hash) {
        pair[0] = HEX[usize::from(byte >> 4)];
        pair[1] = HEX[usize::from(byte & 15)];
    }
    text
}

pub(crate) const HEX: &[u8; 16] = b"0123456789abcdef";

/// Whether an `If-None-Match` header names `tag`: a list of tags, weak ones compare like strong ones, `*` names every
/// row.
pub fn etag_matches(if_none_match: &[u8], tag: &[u8]) -> bool {
    if_none_match
        .split(|&b| b == b',')
        .map(<[u8]>::trim_ascii)
        .any(|candidate| candidate == b"*" || candidate.strip_prefix(b"W/").unwrap_or(candidate) == tag)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lists_weak_tags_and_the_star_match() {
        let tag = etag(b"k", 1, None, b"v");
        let text = String::from_utf8(tag.to_vec()).unwrap();
        for header in [text.clone(), format!("W/{text}"), format!("\"a\" , {text}"), "*".into()] {
            assert!(etag_matches(header.as_bytes(), &tag), "{header}");
        }
        for header in ["", "\"a\"", "a, b", &text[1..]] {
            assert!(!etag_matches(header.as_bytes(), &tag), "{header}");
        }
    }

    proptest! {
        #[test]
        fn tags_are_equal_only_for_equal_rows(
            a: (Vec<u8>, i8, Option<i8>, Vec<u8>), b: (Vec<u8>, i8, Option<i8>, Vec<u8>)
        ) {
            let tag = |row: &(Vec<u8>, i8, Option<i8>, Vec<u8>)| etag(&row.0, row.1.into(), row.2.map(i64::from), &row.3);
            prop_assert_eq!(tag(&a) == tag(&b), a == b);
            prop_assert!(http::HeaderValue::from_bytes(&tag(&a)).is_ok());
        }
    }
}
