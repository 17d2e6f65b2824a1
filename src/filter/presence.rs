//! Whether the state of this `vm_id` has a receiver at all.
//!
//! A filter that takes signals reads a state that a receiver of the same `vm_id` writes. Under another `vm_id` the
//! receiver answers 202 and the filter sees nothing. So a receiver leaves a mark in shared data when it is configured,
//! and a filter reads it at its tick until the mark is there. After that it does not read it again. No request reads
//! it.

use crate::clock::now;
use crate::host::{self, Gauge, HostError};
use crate::metrics::metric_name;
use std::cell::Cell;
use taskfence_core::policy::policy::Policy;
use taskfence_core::policy::policy::Role;
use taskfence_core::time::{Span, Timestamp};

/// The mark, in shared data: one of the three values below.
const MARK: &[u8] = b"taskfence/1/receiver";
/// No receiver was configured yet.
const NONE: &[u8] = b"none";
/// The same, and the log says so.
const REPORTED: &[u8] = b"reported";
/// A receiver was configured.
const PRESENT: &[u8] = b"present";

/// How long to wait for a receiver before the warning: the listeners of one configuration may come at different
/// moments.
const PATIENCE: Span = Span(5);

/// What one plugin knows about the receiver of its `vm_id`.
#[derive(Debug)]
pub struct Presence {
    /// 1 while there is no receiver; `None` where the plugin does not depend on one, and once there is one.
    missing: Cell<Option<Gauge>>,
    waiting_since: Cell<Option<Timestamp>>,
}

impl Presence {
    /// Leaves the mark as a receiver, or prepares to look for it as a filter that takes signals. Runs on the proxy's
    /// main thread first, before any worker can write: shared data has no "create if absent".
    pub fn set_up(policy: &Policy) -> Result<Presence, HostError> {
        let mark = host::shared_data(MARK)?.map(|(mark, _)| mark);
        let missing = match policy.role() {
            Role::Receiver => {
                if mark.as_deref() == Some(REPORTED) {
                    log::info!("a receiver has been configured: signals reach the filters of this vm_id from now on");
                }
                host::set_shared_data(MARK, PRESENT, 0)?;
                None
            }
            Role::Filter => {
                if mark.is_none() {
                    host::set_shared_data(MARK, NONE, 0)?;
                }
                (!policy.signals().transmitters().is_empty()).then(|| Gauge::define(&gauge_name()))
            }
        };
        Ok(Presence { missing: Cell::new(missing), waiting_since: Cell::new(None) })
    }

    /// Looks for the mark, unless it was found before. If it stays missing, one of the workers writes a warning to the
    /// log.
    pub fn on_tick(&self) {
        let Some(missing) = self.missing.get() else { return };
        let Some(now) = now() else { return };
        let Ok(Some((mark, cas))) = host::shared_data(MARK) else { return };
        if mark == PRESENT {
            missing.set(0);
            self.missing.set(None);
            return;
        }
        let since = self.waiting_since.get().unwrap_or(now);
        self.waiting_since.set(Some(since));
        if now.since(since) < PATIENCE {
            return;
        }
        missing.set(1);
        if mark == NONE && host::set_shared_data(MARK, REPORTED, cas).is_ok() {
            log::warn!(
                "no receiver was configured under this vm_id ({}): signals cannot reach this filter, so nothing that they \
                 revoke is refused; give the receiver the same vm_config.vm_id (`taskfence check ENVOY_FILE` finds this)",
                vm_id()
            );
        }
    }
}

/// There is one gauge for each `vm_id`, because gauges belong to the process, and the process has a state for each
/// `vm_id`.
fn gauge_name() -> String {
    match vm_id().as_str() {
        "" => "taskfence.receiver_missing".to_owned(),
        id => format!("taskfence.receiver_missing.{}", metric_name(id)),
    }
}

fn vm_id() -> String {
    host::property(b"plugin_vm_id").map(|id| String::from_utf8_lossy(&id).into_owned()).unwrap_or_default()
}
