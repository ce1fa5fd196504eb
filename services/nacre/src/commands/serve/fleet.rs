//! Which roles a process plays, and what it is to the others.

use super::listen;
use clap::Args;
use nacre_engine::PresenceConfig;
use nacre_fleet::{FleetConfig, HoldingConfig, Member, NodeState, PlacedNode, Role};
use nacre_tls::{ClientFiles, ServerFiles};
use nacre_types::{Error, ProcessId, Result};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// The roles of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Roles {
    /// All of them, and it needs no other process.
    Alone,
    /// Some, in a fleet.
    Some(Vec<Role>),
}

impl FromStr for Roles {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "all" {
            return Ok(Self::Alone);
        }
        let mut roles = Vec::new();
        for word in text.split(',').map(str::trim) {
            let role = Role::ALL.into_iter().find(|role| role.name() == word).ok_or_else(|| {
                let names = Role::ALL.map(Role::name).join(", ");
                format!("{word:?} is no role; expected all, or some of {names} with commas between")
            })?;
            if !roles.contains(&role) {
                roles.push(role);
            }
        }
        Ok(Self::Some(roles))
    }
}

impl Roles {
    /// Whether the process plays a role.
    pub(super) fn play(&self, role: Role) -> bool {
        match self {
            Self::Alone => true,
            Self::Some(roles) => roles.contains(&role),
        }
    }
}

/// The settings of a process in a fleet. They say nothing where one process plays all roles.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Fleet")]
pub(super) struct FleetSettings {
    /// Where a cache node answers the other processes; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT", env = "NACRE_FLEET_LISTEN", default_value = "127.0.0.1:0")]
    fleet_listen: String,

    /// The address that the others reach it at, where that is not the one it listens on
    #[arg(long, value_name = "HOST:PORT", env = "NACRE_FLEET_ADDRESS")]
    fleet_address: Option<String>,

    /// What people call this process
    #[arg(long, value_name = "NAME", env = "NACRE_NAME", default_value = "")]
    name: String,

    /// The zone this process is in: replicas lie in different zones, and those of the own zone are asked first
    #[arg(long, value_name = "ZONE", env = "NACRE_ZONE", default_value = "")]
    zone: String,

    /// How many cache nodes hold each partition; the same in every process of a fleet
    #[arg(long, value_name = "N", env = "NACRE_CACHE_REPLICAS", default_value = "2")]
    cache_replicas: usize,

    /// This process's certificate towards the others, and theirs are wanted; with fleet_tls_key and fleet_tls_ca
    #[arg(long, value_name = "FILE", env = "NACRE_FLEET_TLS_CERT", requires_all = ["fleet_tls_key", "fleet_tls_ca"])]
    fleet_tls_cert: Option<PathBuf>,

    /// Its key
    #[arg(long, value_name = "FILE", env = "NACRE_FLEET_TLS_KEY", requires = "fleet_tls_cert")]
    fleet_tls_key: Option<PathBuf>,

    /// Who signs the certificates of the fleet
    #[arg(long, value_name = "FILE", env = "NACRE_FLEET_TLS_CA", requires = "fleet_tls_cert")]
    fleet_tls_ca: Option<PathBuf>,

    /// How much this process takes beside the others of its role; without it its cache in GiB
    #[arg(long, value_name = "N", env = "NACRE_WEIGHT")]
    weight: Option<u32>,
}

impl FleetSettings {
    /// # Errors
    /// `Invalid` naming the setting.
    pub(super) fn check(&self, roles: &Roles, anonymous: bool) -> Result<()> {
        if self.cache_replicas == 0 || self.cache_replicas > 8 {
            return Err(Error::invalid("cache_replicas: from 1 to 8").with_code("config-invalid"));
        }
        if let Roles::Some(roles) = roles
            && roles.contains(&Role::Cache)
        {
            self.listen(anonymous)?;
        }
        Ok(())
    }

    /// Where the inner server listens.
    ///
    /// # Errors
    /// `Invalid` (`listen-invalid`, `listen-not-loopback`).
    pub(super) fn listen(&self, anonymous: bool) -> Result<SocketAddr> {
        // Who has no certificate of the fleet is told nothing.
        listen::address(&self.fleet_listen, anonymous || self.fleet_tls_cert.is_some())
    }

    /// The certificates of both sides.
    pub(super) fn tls(&self) -> Option<(ServerFiles, ClientFiles)> {
        let (certificate, key, ca) =
            (self.fleet_tls_cert.clone()?, self.fleet_tls_key.clone()?, self.fleet_tls_ca.clone()?);
        let own = Some((certificate.clone(), key.clone()));
        let server = ServerFiles { certificate, key, client_ca: Some(ca.clone()) };
        Some((server, ClientFiles { ca: Some(ca), certificate: own }))
    }

    /// What the process says of itself. `bound`: where its inner server listens, if it has one.
    pub(super) fn member(
        &self,
        roles: &[Role],
        bound: Option<SocketAddr>,
        cache_bytes: u64,
        started_micros: i64,
    ) -> Member {
        let address = match (&self.fleet_address, bound) {
            (_, None) => String::new(),
            (Some(told), Some(_)) => told.clone(),
            (None, Some(bound)) => bound.to_string(),
        };
        let gibibytes = u32::try_from(cache_bytes >> 30).unwrap_or(u32::MAX).max(1);
        let joins = roles.contains(&Role::Cache);
        Member {
            roles: roles.to_vec(),
            name: self.name.clone(),
            address,
            node: PlacedNode {
                // Known once the process is registered.
                id: ProcessId(0),
                zone: self.zone.clone(),
                weight: self.weight.unwrap_or(gibibytes),
                state: if joins { NodeState::Joining } else { NodeState::Serving },
            },
            format_level: crate::storage::FORMAT_LEVEL,
            started_micros,
        }
    }

    /// How the process reads from the others.
    pub(super) fn config(&self) -> FleetConfig {
        FleetConfig { replicas: self.cache_replicas, zone: self.zone.clone() }
    }
}

/// How often processes tell each other that they are there: by what their catalog's requests cost.
pub(super) fn presence(store_url: &str, catalog_url: Option<&str>) -> PresenceConfig {
    match catalog_url {
        Some(_) => PresenceConfig::fleet(),
        None if store_url.starts_with("s3:") => PresenceConfig::remote(),
        None => PresenceConfig::local(),
    }
}

/// How often table logs are read where nothing tells of edits.
pub(super) fn poll_every(store_url: &str, catalog_url: Option<&str>) -> Duration {
    let is_free = catalog_url.is_none() && !store_url.starts_with("s3:");
    if is_free { Duration::from_secs(1) } else { Duration::from_secs(10) }
}

/// How long a node that joins may read what is hot before it serves.
const WARM: Duration = Duration::from_secs(30);

/// How partitions are taken on and given up.
pub(super) fn holding(presence: &PresenceConfig, leave: Duration) -> HoldingConfig {
    HoldingConfig { keep: presence.heartbeat.dead_after, leave, warm: WARM }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_words_with_commas_between() {
        assert_eq!("all".parse(), Ok(Roles::Alone));
        assert_eq!("cache, writer,cache".parse(), Ok(Roles::Some(vec![Role::Cache, Role::Writer])));
        for bad in ["", "baker", "all,cache", "cache;writer"] {
            assert!(bad.parse::<Roles>().unwrap_err().contains("no role"), "{bad}");
        }
    }
}
