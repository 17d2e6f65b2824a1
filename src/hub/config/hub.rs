//! The compiled configuration. Only [`crate::config::compile::compile`] makes one.

use crate::config::cluster::Cluster;
use crate::config::model::{AuditConfig, LimitsConfig, TlsConfig};
use crate::config::problem::Problem;
use crate::config::role::Role;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use taskfence_core::http::spiffe::PeerPattern;
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
    /// How much one caller may use.
    pub limits: LimitsConfig,
    /// The feeds. Their names differ.
    pub feeds: Vec<Arc<Feed>>,
    /// What is allowed but unsafe.
    pub warnings: Vec<Problem>,
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

/// One feed.
#[derive(Debug)]
pub struct Feed {
    /// Its name.
    pub name: String,
    /// A hash of the names of hub and feed.
    pub id: FeedId,
    policy: RwLock<Policy>,
}

impl Feed {
    pub(super) fn new(name: String, id: FeedId, policy: Policy) -> Feed {
        Feed { name, id, policy: RwLock::new(policy) }
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
