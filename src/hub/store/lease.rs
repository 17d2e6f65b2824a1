//! A lease: of several replicas over one store, one at a time does what only one may do.
//!
//! It stands in the store as `HOLDER UNTIL`, where `UNTIL` is in milliseconds since 1970 by the clock of the store. Who holds
//! it renews it long before it ends. A holder that was cut off from the store may go on for a moment after another has
//! taken it: what is done under a lease must bear to be done twice.

use crate::store::Store;
use crate::store::model::StoreError;
use std::sync::Arc;
use std::time::Duration;

/// A lease that one of several replicas may hold.
#[derive(Clone)]
pub struct Lease {
    store: Arc<dyn Store>,
    /// The name of the value in the store.
    name: String,
    /// Who this replica is, without spaces.
    holder: String,
}

impl Lease {
    /// The lease of `what`, for the replica `holder`.
    pub fn new(store: Arc<dyn Store>, what: &str, holder: &str) -> Lease {
        Lease { store, name: format!("lease/{what}"), holder: holder.replace(' ', "-") }
    }

    /// Takes or renews the lease for `life`. Returns whether this replica holds it at `now`, in milliseconds since 1970. Blocks.
    pub fn hold(&self, now: u64, life: Duration) -> Result<bool, StoreError> {
        let stored = self.store.get(&self.name)?;
        let is_of_other =
            stored.as_deref().and_then(read).is_some_and(|(holder, until)| holder != self.holder && until > now);
        if is_of_other {
            return Ok(false);
        }
        let until = now.saturating_add(u64::try_from(life.as_millis()).unwrap_or(u64::MAX));
        self.store.swap(&self.name, stored.as_deref(), Some(&format!("{} {until}", self.holder)))
    }

    /// Who holds it at `now`, in milliseconds since 1970. Blocks.
    pub fn holder(&self, now: u64) -> Result<Option<String>, StoreError> {
        let stored = self.store.get(&self.name)?;
        Ok(stored.as_deref().and_then(read).filter(|(_, until)| *until > now).map(|(holder, _)| holder.to_owned()))
    }

    /// Gives it up, if this replica holds it, so that another need not wait until it ends. Blocks.
    pub fn release(&self) -> Result<(), StoreError> {
        let stored = self.store.get(&self.name)?;
        if stored.as_deref().and_then(read).is_some_and(|(holder, _)| holder == self.holder) {
            // If it is another's by now, it stays so.
            self.store.swap(&self.name, stored.as_deref(), None)?;
        }
        Ok(())
    }
}

fn read(stored: &str) -> Option<(&str, u64)> {
    let (holder, until) = stored.split_once(' ')?;
    Some((holder, until.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    const LIFE: Duration = Duration::from_millis(100);

    #[test]
    fn one_holds_it_until_it_ends_or_is_given_up() {
        let (store, _folder) = crate::store::testing::store();
        let store: Arc<dyn Store> = Arc::new(store);
        let lease = |holder| Lease::new(store.clone(), "upkeep", holder);
        let (a, b) = (lease("a"), lease("b"));
        assert_eq!((a.hold(1_000, LIFE), b.hold(1_000, LIFE)), (Ok(true), Ok(false)));
        assert_eq!((a.hold(1_090, LIFE), b.hold(1_150, LIFE)), (Ok(true), Ok(false)), "it was renewed");
        assert_eq!((b.hold(1_190, LIFE), a.hold(1_190, LIFE)), (Ok(true), Ok(false)), "it ended");
        assert_eq!(a.holder(1_200), Ok(Some("b".to_owned())));
        a.release().unwrap();
        assert_eq!(a.hold(1_200, LIFE), Ok(false), "only its holder gives it up");
        b.release().unwrap();
        assert_eq!((a.holder(1_200), a.hold(1_200, LIFE)), (Ok(None), Ok(true)));
    }

    #[test]
    fn of_many_at_once_one_gets_it() {
        let (store, _folder) = crate::store::testing::store();
        let store: Arc<dyn Store> = Arc::new(store);
        let take = |n: usize| {
            let lease = Lease::new(store.clone(), "upkeep", &n.to_string());
            thread::spawn(move || lease.hold(1_000, LIFE).unwrap())
        };
        let all: Vec<_> = (0..16).map(take).collect();
        assert_eq!(all.into_iter().filter_map(|one| one.join().ok()).filter(|got| *got).count(), 1);
    }
}
