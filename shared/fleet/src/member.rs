//! What a process says of itself in its heartbeats: its roles, where it is reached, and how much it takes.

use bytes::Bytes;
use nacre_catalog::heartbeat::Process;
use nacre_placement::{Node, NodeState};
use nacre_types::{Error, ProcessId, Result};
use serde::{Deserialize, Serialize};

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Answers HTTP and asks the others.
    Dispatcher,
    /// Holds tails and blocks, and answers reads of them.
    Cache,
    /// Turns tails into segments.
    Writer,
    /// Runs loads.
    Loader,
    /// Merges segments and clears up.
    Maintainer,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 5] = [Self::Dispatcher, Self::Cache, Self::Writer, Self::Loader, Self::Maintainer];

    /// The word of the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dispatcher => "dispatcher",
            Self::Cache => "cache",
            Self::Writer => "writer",
            Self::Loader => "loader",
            Self::Maintainer => "maintainer",
        }
    }
}

/// Where a process stands between its first heartbeat and its last; [`NodeState`] in words that are persisted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Joining,
    Serving,
    Leaving,
}

/// A process of the fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// What it does.
    pub roles: Vec<Role>,
    /// What people call it.
    pub name: String,
    /// `host:port` where others of the fleet reach it; empty where it serves nobody.
    pub address: String,
    /// As a cache node and as a writer: its id, zone, weight and state.
    pub node: Node,
    /// The highest format level that it understands.
    pub format_level: u32,
    /// By its own clock, in microseconds of Unix time: of two with one address the one that began later is there.
    pub started_micros: i64,
}

/// Fields may be added: who does not know one passes over it.
#[derive(Debug, Serialize, Deserialize)]
struct Said {
    v: u32,
    roles: Vec<String>,
    #[serde(default)]
    name: String,
    #[serde(default)]
    address: String,
    #[serde(default)]
    zone: String,
    weight: u32,
    state: State,
    #[serde(default = "first_format_level")]
    format: u32,
    #[serde(default)]
    started: i64,
}

const VERSION: u32 = 1;

/// Of the programs that said nothing of it.
fn first_format_level() -> u32 {
    1
}

impl Member {
    /// Whether it plays a role.
    pub fn plays(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    /// Its process.
    pub fn id(&self) -> ProcessId {
        self.node.id
    }

    /// What stands in its heartbeats.
    pub fn encode(&self) -> Bytes {
        let said = Said {
            v: VERSION,
            roles: self.roles.iter().map(|role| role.name().to_owned()).collect(),
            name: self.name.clone(),
            address: self.address.clone(),
            zone: self.node.zone.clone(),
            weight: self.node.weight,
            state: match self.node.state {
                NodeState::Joining => State::Joining,
                NodeState::Serving => State::Serving,
                NodeState::Leaving => State::Leaving,
            },
            format: self.format_level,
            started: self.started_micros,
        };
        // Strings and numbers always encode.
        serde_json::to_vec(&said).unwrap_or_default().into()
    }

    /// Reads what a process says of itself; roles that this program does not know are passed over. `None`: it says
    /// nothing, as a process that plays every role by itself does.
    ///
    /// # Errors
    /// `Corrupt` (`member-unreadable`).
    pub fn decode(process: &Process) -> Result<Option<Self>> {
        if process.info.is_empty() || &process.info[..] == b"all" {
            return Ok(None);
        }
        let said: Said = serde_json::from_slice(&process.info).map_err(|error| {
            Error::corrupt(format!("what process {} says of itself is not readable: {error}", process.id))
                .with_code("member-unreadable")
        })?;
        let known = |name: &String| Role::ALL.into_iter().find(|role| role.name() == name);
        Ok(Some(Self {
            roles: said.roles.iter().filter_map(known).collect(),
            name: said.name,
            address: said.address,
            format_level: said.format,
            started_micros: said.started,
            node: Node {
                id: process.id,
                zone: said.zone,
                weight: said.weight,
                state: match said.state {
                    State::Joining => NodeState::Joining,
                    State::Serving => NodeState::Serving,
                    State::Leaving => NodeState::Leaving,
                },
            },
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn member() -> Member {
        Member {
            roles: vec![Role::Cache, Role::Writer],
            name: "cache-1".into(),
            address: "10.0.0.7:8791".into(),
            node: Node { id: ProcessId(7), zone: "a".into(), weight: 64, state: NodeState::Joining },
            format_level: 2,
            started_micros: 1_790_000_000_000_000,
        }
    }

    #[test]
    fn what_a_process_says_of_itself_keeps_its_form() {
        let text = r#"{"v":1,"roles":["cache","writer"],"name":"cache-1","address":"10.0.0.7:8791","zone":"a","weight":64,"state":"joining","format":2,"started":1790000000000000}"#;
        assert_eq!(member().encode(), text);
        let said = Process { id: ProcessId(7), info: member().encode() };
        assert_eq!(Member::decode(&said).unwrap(), Some(member()));
    }

    #[test]
    fn what_newer_processes_say_besides_is_passed_over() {
        let info = br#"{"v":2,"roles":["cache","baker"],"weight":1,"state":"serving","shoe_size":44}"#;
        let found = Member::decode(&Process { id: ProcessId(1), info: Bytes::from_static(info) }).unwrap();
        let found = found.unwrap();
        assert_eq!(
            (&found.roles[..], found.format_level, found.started_micros),
            (&[Role::Cache][..], 1, 0),
            "who says no level knows the first"
        );
        for quiet in [&b""[..], b"all"] {
            let process = Process { id: ProcessId(1), info: Bytes::copy_from_slice(quiet) };
            assert_eq!(Member::decode(&process).unwrap(), None);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(info in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Member::decode(&Process { id: ProcessId(1), info: info.into() });
        }
    }
}
