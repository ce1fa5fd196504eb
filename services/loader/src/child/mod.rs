//! A child process that decodes one file under caps, and the parent's side of it.
//!
//! Both speak in [`frame`]s: a head with length, number and checksum, and a body. The parent writes one request to the
//! child's stdin. The child caps itself before it opens the file, and answers on its stdout. The last frame says that it
//! was the last; a stream that ends without it is a child that died, and its exit status says of what.
//!
//! A file that lies on no disk of this machine is read by the parent, who has the keys to the store and knows which bytes
//! were pinned: the child asks for ranges of it between its other frames, and waits for each on its stdin. It has no
//! network and no secret to lose.
//!
//! Row batches are flat: fixed heads of 32 bytes, then all keys and values, so that the parent checks bounds and points
//! into what it read.
//!
//! Why the child caps itself, and not the parent before `exec`: that would take `unsafe` code between fork and exec.
//! The file's bytes are the only thing that is not trusted, and they are read behind the caps.

mod frame;
mod parent;
mod serve;
mod wire;

pub(crate) use parent::{Answer, Session, Spawn, SpawnFile};
pub(crate) use serve::cuts;
pub(crate) use wire::{Piped, Work};

pub use serve::{main, serve};

/// The argument under which a program is to call [`main`].
pub const ARGUMENT: &str = "decode-child";
