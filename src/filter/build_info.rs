//! Which module runs here, and with which configuration: in the log at the start, and as metrics.

use crate::host::Gauge;
use taskfence_core::config::compile::Loaded;
use taskfence_core::policy::policy::Role;

/// The version.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit that the module was built from, in hexadecimal digits, where the build was told.
const COMMIT: Option<&str> = option_env!("TASKFENCE_COMMIT");

/// So many digits of the hash of a configuration are shown: a metric is a floating-point number, which keeps 53 bits.
const SHOWN_BITS: u32 = 48;

/// Says what is configured. Each worker does, with the same values.
pub fn publish(loaded: &Loaded) {
    let commit = COMMIT.unwrap_or("unknown");
    let role = match loaded.policy.role() {
        Role::Filter => "filter",
        Role::Receiver => "receiver",
    };
    let hash = loaded.config_hash >> (u64::BITS - SHOWN_BITS);
    // A metric's name is divided at its points.
    let version = VERSION.replace('.', "_");
    Gauge::define(&format!("taskfence.build_info.{version}.{commit}")).set(1);
    Gauge::define(&format!("taskfence.config_hash.{role}")).set(hash);
    let (issuers, rules) = (loaded.policy.issuers().len(), loaded.policy.rules().len());
    log::info!(
        "taskfence {VERSION} (commit {commit}): role {role}, configuration {hash:012x}, {issuers} issuers, {rules} rules"
    );
}
