//! The stores that are compared, each behind the call that its own server would make.

pub mod nacre;
pub mod rocks;
pub mod slate;

use std::future::Future;

/// A store that was filled. The futures run on the thread that measures.
pub trait Peer {
    /// Looks the keys up one after another; answers how many were found and the bytes of their values.
    fn get_all(&self, keys: &[[u8; 16]]) -> impl Future<Output = (u64, u64)>;
    /// Reads `rows` rows from each of `starts` on; answers rows and bytes of keys and values.
    fn scan_all(&self, starts: &[[u8; 16]], rows: usize) -> impl Future<Output = (u64, u64)>;
}
