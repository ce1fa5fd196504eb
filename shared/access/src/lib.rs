//! Who may do what: access tokens, what they grant, where they are kept, and the check that stands before every request.
//!
//! A token is shown once, as text ([`Secret`]); kept is a hash of it, with a [`Grant`]. [`allows`] decides about a
//! request from a grant and nothing else. [`Tokens`] makes, lists and revokes, in records of the catalog; [`Verifier`]
//! answers from memory which token a text is, and reads those records again by itself.
//!
//! **Stored state.** Records `tokens/<shelf>` of the catalog, replaced if unchanged, each with all tokens of one shelf: a
//! hash of the namespace, or nothing for tokens of the whole store. The shelf is the first half of a token's id, so that
//! a text which nobody knows yet leads to the one record that may hold it, and needs no index that could disagree.
//!
//! **Revocation** is leaving the record. A process that has read a record uses it for [`RENEW_EVERY`] and then reads it
//! again; while the catalog does not answer it goes on with what it has for [`KNOWN_FOR`], and then refuses. So a revoked
//! token stops working everywhere within [`RENEW_EVERY`] and what a read takes, and at once where it was revoked.

mod grant;
mod record;
mod secret;
mod tokens;
mod verifier;

pub use grant::{Denied, Grant, Home, Keys, On, Outside, Request, Verb, Verbs, allows};
pub use record::Token;
pub use secret::{Secret, TokenId};
pub use tokens::{Change, MOST_TABLES, MOST_TOKENS, NAME_BYTES, NewToken, Tokens};
pub use verifier::{KNOWN_FOR, Known, RENEW_EVERY, Verifier};
