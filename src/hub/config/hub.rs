//! The compiled configuration. Only [`crate::config::compile::compile`] makes one.

use crate::config::cluster::Cluster;
use crate::config::model::{AuditConfig, EvidenceConfig, LimitsConfig, TlsConfig};
use crate::config::network::Network;
use crate::config::problem::Problem;
use crate::config::role::Role;
use crate::config::ssf::ManagedStream;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use taskfence_core::http::spiffe::PeerPattern;
use taskfence_core::jose::key::KeySet;
use taskfence_core::policy::policy::Policy;
use taskfence_core::state::coverage::FeedId;
use taskfence_core::time::Span;

/// A hub.
#[derive(Debug)]
pub struct Hub {
    /// `iss` of its statements.
    pub name: String,
    /// The directory of its store and its keys.
    pub data: PathBuf,
    /// Its database; `None`: its store is in `data`.
    pub postgres: Option<Postgres>,
    /// Where it listens.
    pub listen: Listen,
    /// Who may call it by a client certificate, in the order of the configuration: the first that matches counts.
    pub access: Vec<Access>,
    /// Where key sets are fetched, by the name of the cluster.
    pub clusters: BTreeMap<String, Cluster>,
    /// What is added to the life of each entry, because the clocks of proxies may be behind.
    pub skew: Span,
    /// How long each signal is kept, also when its entries have ended.
    pub keep_signals: Span,
    /// How much of the disk is kept for signals, in bytes.
    pub reserve: u64,
    /// How much of the audit log is kept.
    pub audit: AuditConfig,
    /// How much evidence is kept. A relay keeps none.
    pub evidence: EvidenceConfig,
    /// How much one caller may use.
    pub limits: LimitsConfig,
    /// How it is a transmitter; `None`: it is none.
    pub streams: Option<Streams>,
    /// The feeds. Their names differ. A relay has none of its own.
    pub feeds: Vec<Arc<Feed>>,
    /// The hub that this one is a relay of.
    pub follow: Option<Follow>,
    /// What is allowed but unsafe.
    pub warnings: Vec<Problem>,
}

impl Hub {
    /// The names of the feeds that it serves.
    pub fn feed_names(&self) -> Vec<&str> {
        let own = self.feeds.iter().map(|feed| feed.name.as_str());
        own.chain(self.follow.iter().flat_map(|follow| follow.feeds.iter().map(String::as_str))).collect()
    }
}

/// The hub that a relay follows.
#[derive(Debug)]
pub struct Follow {
    /// Where it is.
    pub at: Cluster,
    /// The keys that its statements may be signed with.
    pub keys: KeySet,
    /// The file of the bearer token.
    pub token_file: Option<PathBuf>,
    /// The files of the client certificate and its key.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// The file of the authorities that its certificate must come from; `None`: those of the system.
    pub ca: Option<PathBuf>,
    /// The feeds that are followed. Their names differ.
    pub feeds: Vec<String>,
}

/// A database of PostgreSQL.
#[derive(Debug, Clone)]
pub struct Postgres {
    /// Hosts, user, database. Without a password.
    pub url: tokio_postgres::Config,
    /// A file with the password.
    pub password_file: Option<PathBuf>,
    /// The authorities of its certificate; `None`: those of the system.
    pub ca: Option<PathBuf>,
    /// Whether connections over the network are encrypted.
    pub tls: bool,
}

/// Where the hub listens.
#[derive(Debug, Clone)]
pub struct Listen {
    /// The address.
    pub address: SocketAddr,
    /// Its certificate. `None` only on a loopback address.
    pub tls: Option<TlsConfig>,
}

/// What the holders of some SPIFFE ids may do.
#[derive(Debug, Clone)]
pub struct Access {
    /// The ids.
    pub peers: PeerPattern,
    /// What they may do.
    pub role: Role,
    /// The feeds that they may use; empty: all.
    pub feeds: Vec<String>,
    /// The issuer that they are; only with the role `issuer`, and always with it.
    pub issuer: Option<String>,
}

/// How a hub is a transmitter.
#[derive(Debug, Clone)]
pub struct Streams {
    /// The address that receivers reach the hub at, without a slash at its end.
    pub issuer: String,
    /// Addresses that SETs may be pushed to although they are not public.
    pub allow: Vec<Network>,
    /// The file with the authorities of receivers; `None`: those of the system.
    pub ca: Option<PathBuf>,
    /// A stream whose receiver does nothing for so long is paused.
    pub inactivity_timeout: Span,
    /// A receiver may ask for a verification event so often.
    pub min_verification_interval: Span,
    /// So many streams one principal may have in one feed.
    pub per_principal: usize,
}

/// One feed.
#[derive(Debug)]
pub struct Feed {
    /// Its name.
    pub name: String,
    /// A hash of the names of hub and feed.
    pub id: FeedId,
    /// The streams of its transmitters that the hub manages.
    pub managed: Vec<ManagedStream>,
    /// The streams of transmitters whose signals are sent on to receivers.
    pub relay_from: Vec<String>,
    policy: RwLock<Policy>,
}

impl Feed {
    pub(super) fn new(
        name: String,
        id: FeedId,
        policy: Policy,
        managed: Vec<ManagedStream>,
        relay_from: Vec<String>,
    ) -> Feed {
        Feed { name, id, managed, relay_from, policy: RwLock::new(policy) }
    }

    /// Its issuers and transmitters, as the configuration of a receiver, with the keys as last fetched. Do not hold this
    /// over an `await`.
    pub fn policy(&self) -> RwLockReadGuard<'_, Policy> {
        self.policy.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same, to store fetched keys.
    pub(crate) fn policy_mut(&self) -> RwLockWriteGuard<'_, Policy> {
        self.policy.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The path that takes SETs into the feed `name`.
    pub fn intake_path(name: &str) -> String {
        format!("/v1/feeds/{name}/signals")
    }
}
