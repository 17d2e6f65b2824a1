//! Whose turn it is to do what one replica does for all: who holds the lease `upkeep`.

use crate::repeated::Repeated;
use crate::store::lease::Lease;
use crate::store::model::StoreError;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

/// The name of the lease.
pub const UPKEEP: &str = "upkeep";

/// The lease is held for so long.
const LIFE: Duration = Duration::from_secs(10);

/// It is renewed this often.
const RENEW: Duration = Duration::from_secs(2);

/// Says whether it is the turn of this replica. Clones say the same.
#[derive(Clone)]
pub struct Turn(watch::Receiver<bool>);

impl Turn {
    /// A replica that is alone: always.
    pub fn alone() -> Turn {
        Turn(watch::channel(true).1)
    }

    /// The turn of who holds `lease`, by the clock `now` (milliseconds since 1970), and the task that keeps it: it runs until
    /// `may` is closed. While `may` says no, the lease is left to others.
    pub fn of(
        lease: Lease,
        now: Arc<dyn Fn() -> u64 + Send + Sync>,
        may: watch::Receiver<bool>,
    ) -> (Turn, impl Future<Output = ()>) {
        let (mine, turn) = watch::channel(false);
        let keep = async move {
            let keeping = Repeated::new("the lease for the upkeep of the store cannot be kept");
            let mut tick = interval(RENEW);
            tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
            while may.has_changed().is_ok() {
                tick.tick().await;
                let (lease, now, may) = (lease.clone(), now(), *may.borrow());
                let held = tokio::task::spawn_blocking(move || match may {
                    true => lease.hold(now, LIFE),
                    false => lease.release().map(|()| false),
                });
                let held = held.await.unwrap_or_else(|error| Err(StoreError::Failed(error.to_string())));
                keeping.note("", &held);
                mine.send_replace(held.unwrap_or(false));
            }
        };
        (Turn(turn), keep)
    }

    /// Whether it is the turn of this replica.
    pub fn is_mine(&self) -> bool {
        *self.0.borrow()
    }
}
