//! One store in many processes: who is there, who is asked, and how reads find their rows.
//!
//! Every process says in its heartbeats what it does and where it is reached ([`Member`]). From these each computes by
//! itself which cache nodes hold the tail of which partition ([`nacre_placement`]); nobody keeps a map. A dispatcher sends
//! the keys of a read to the nodes of their shards' partitions ([`Fleet`]), in frames over HTTP/2 ([`wire`], [`Peers`]);
//! a node answers for whatever it holds the tail of and refuses the rest, whatever its own view of the placement is. So a
//! view of the fleet that is old costs a detour, never an answer.
//!
//! Only reads go through here. A write goes from the dispatcher to the log, and is never sent twice.

mod ask;
mod edition;
mod fleet;
mod health;
mod holding;
mod member;
mod members;
mod peers;
mod reads;
mod scan;
mod serve;
mod warm;
pub mod wire;

pub use fleet::{Fleet, FleetConfig, Reading};
pub use holding::HoldingConfig;
pub use member::{Member, Role};
pub use members::{Candidates, Members};
pub use nacre_placement::{Node as PlacedNode, NodeState};
pub use peers::{HELD_PATH, HOT_PATH, Peers, READ_PATH, WARM_PATH};
pub use serve::{answer_held, answer_read, read_held};
pub use warm::{answer_hot, answer_warm};
