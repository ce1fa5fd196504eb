//! Bodies about access tokens.

use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use crate::key::JsonKey;
use crate::number::I64;

/// What a token may do; no verb implies another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = TokenVerb)]
pub enum TokenVerbBody {
    /// Gets, scans, versions, explanations.
    Read,
    /// Puts and deletes of rows.
    Write,
    /// Loads.
    Load,
    /// Tables, their settings, and tokens; of a token of the whole store namespaces too.
    Admin,
}

/// `POST .../tokens`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateTokenBody {
    /// What people know it by; need not be unique.
    pub name: String,
    /// What it may do.
    pub verbs: Vec<TokenVerbBody>,
    /// Only these tables of the namespace; all unless said.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tables: Option<Vec<String>>,
    /// Only keys that begin so; all unless said. Leading parts of typed keys go with exactly one table.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub prefix: Option<JsonKey>,
    /// From when on it is refused, in microseconds since the epoch; never unless said.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub expires_at: Option<I64>,
}

/// `PATCH .../tokens/{id}`: what is named changes; null takes the expiry away.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TokenPatch {
    /// What people know it by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// From when on it is refused, in microseconds since the epoch.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "named")]
    #[schema(value_type = Option<I64>)]
    pub expires_at: Option<Option<I64>>,
}

/// A field that was named, if only as null.
fn named<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<I64>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// A token described: everything but its secret.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Token)]
pub struct TokenBody {
    /// 32 hex digits, which stand in its text and in the audit log too.
    pub id: String,
    /// What people know it by.
    pub name: String,
    /// Its namespace; absent where it is of the whole store.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub namespace: Option<String>,
    /// What it may do.
    pub verbs: Vec<TokenVerbBody>,
    /// The tables that it is narrowed to.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tables: Option<Vec<String>>,
    /// The beginning of the keys that it is narrowed to, as bytes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub prefix: Option<JsonKey>,
    /// When it was made, in microseconds since the epoch.
    pub created_at: I64,
    /// From when on it is refused.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub expires_at: Option<I64>,
    /// Whether it is refused already.
    pub expired: bool,
}

/// A token that was made, with its text.
#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = CreatedToken)]
pub struct CreatedTokenBody {
    /// The token itself: shown here and nowhere again.
    pub token: String,
    /// What it is.
    pub described: TokenBody,
}

/// Without the secret.
impl std::fmt::Debug for CreatedTokenBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CreatedTokenBody").field("described", &self.described).finish_non_exhaustive()
    }
}

/// `GET .../tokens`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TokensBody {
    /// A page of them, in the order they were made.
    pub tokens: Vec<TokenBody>,
    /// Gives the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next_page_token: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::from_json;

    #[test]
    fn a_patch_tells_what_is_left_out_from_null() {
        let patch = |text: &str| from_json::<TokenPatch>(text.as_bytes()).unwrap().expires_at;
        assert_eq!(patch("{}"), None);
        assert_eq!(patch(r#"{"expires_at":null}"#), Some(None));
        assert_eq!(patch(r#"{"expires_at":"7"}"#), Some(Some(I64(7))));
        for sent in [TokenPatch::default(), TokenPatch { expires_at: Some(None), name: Some("n".into()) }] {
            assert_eq!(from_json::<TokenPatch>(&serde_json::to_vec(&sent).unwrap()).unwrap(), sent);
        }
        assert!(from_json::<TokenPatch>(br#"{"verbs":["read"]}"#).is_err());
    }

    #[test]
    fn verbs_are_words() {
        let body: CreateTokenBody = from_json(br#"{"name":"n","verbs":["read","admin"]}"#).unwrap();
        assert_eq!(body.verbs, [TokenVerbBody::Read, TokenVerbBody::Admin]);
        assert!(from_json::<CreateTokenBody>(br#"{"name":"n","verbs":["own"]}"#).is_err());
        assert!(from_json::<CreateTokenBody>(br#"{"name":"n"}"#).is_err());
    }
}
