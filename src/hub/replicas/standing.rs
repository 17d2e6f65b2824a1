//! Whether this replica may store signals and sign statements, and who the others are.
//!
//! Entries are derived for one configuration, and statements say what entries keep. So at any time one configuration is used:
//! the accepted one. A replica with another is not ready, stores nothing and signs nothing. It looks each second, and a look
//! permits it to store for [`PERMIT`]; nothing is derived for a configuration that was accepted before [`SETTLE`] has passed,
//! when no replica can store anything for the one before it.

use crate::replicas::configuration::other_config;
use crate::replicas::member::{self, HeldKeys, Member};
use crate::store::Store;
use crate::store::clock::StoreTime;
use crate::store::model::StoreError;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A replica that found its configuration accepted may store changes for so long after the look began.
pub const PERMIT: Duration = Duration::from_secs(3);

/// So long after a configuration was accepted no replica stores anything for another: [`PERMIT`], and the time that a commit
/// takes at most.
pub const SETTLE: Duration = Duration::from_secs(10);

/// This replica among others over one store.
pub struct Replica {
    /// Its name.
    pub name: String,
    /// The hash of its configuration.
    pub config: String,
    /// When it started, by the clock of the store, in milliseconds since 1970.
    pub started: u64,
    /// The store.
    pub store: Arc<dyn Store>,
    /// The clock of the store.
    pub time: StoreTime,
}

/// What a look has found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// Whether the configuration of this replica is the accepted one.
    pub is_accepted: bool,
    /// The other replicas of the last day.
    pub others: Vec<Member>,
    /// What is wrong with the keys of this one.
    pub wrong_keys: Option<String>,
}

impl Replica {
    /// Looks at the store and says there that this replica lives, with these keys for statements and for SETs. Returns what
    /// it has found, and until when changes may be stored. Blocks.
    pub fn look(&self, feed_keys: HeldKeys, set_keys: HeldKeys) -> Result<(Standing, Instant), StoreError> {
        let begin = Instant::now();
        self.time.look(&*self.store)?;
        let is_accepted = other_config(&*self.store, &self.config)?.is_none();
        let permitted = if is_accepted { begin.checked_add(PERMIT).unwrap_or(begin) } else { begin };
        let own = Member { feed_keys, set_keys, ..self.member() };
        own.write(&*self.store)?;
        let others = member::others(&*self.store, &self.name)?;
        let wrong_keys = member::wrong_keys(&own, &others, own.at);
        Ok((Standing { is_accepted, others, wrong_keys }, permitted))
    }

    /// Says that this replica has ended. Blocks.
    pub fn leave(&self) -> Result<(), StoreError> {
        Member { stopped: true, ..self.member() }.write(&*self.store)
    }

    /// The error says that another configuration is the accepted one. Blocks.
    pub fn check_accepted(&self) -> Result<(), StoreError> {
        match other_config(&*self.store, &self.config)? {
            None => Ok(()),
            Some(other) => Err(StoreError::Failed(format!(
                "the accepted configuration is {other}, and this replica has {}: it signs nothing",
                self.config
            ))),
        }
    }

    fn member(&self) -> Member {
        let (name, config, at) = (self.name.clone(), self.config.clone(), self.time.now_ms());
        Member { name, config, at, started: self.started, ..Member::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replicas::configuration::accept_config;

    #[test]
    fn one_configuration_is_accepted_at_a_time() {
        let (_folder, store) = crate::testing::store();
        let replica = |name: &str, config: &str| Replica {
            name: name.to_owned(),
            config: config.to_owned(),
            started: 1,
            store: store.clone(),
            time: StoreTime::default(),
        };
        let look = |replica: &Replica| replica.look(HeldKeys::default(), HeldKeys::default()).unwrap();
        let (old, new) = (replica("a", "1"), replica("b", "2"));
        let may_store = |replica: &Replica| look(replica).1 > Instant::now();
        assert_eq!((may_store(&old), may_store(&new)), (true, false), "the first one has an empty store");
        assert_eq!((old.check_accepted().is_ok(), new.check_accepted().is_ok()), (true, false));
        assert_eq!(look(&new).0.others[0].name, "a");
        accept_config(&*store, "2").unwrap();
        assert_eq!((may_store(&old), may_store(&new)), (false, true));
        assert_eq!((old.check_accepted().is_ok(), new.check_accepted().is_ok()), (false, true));
        old.leave().unwrap();
        assert!(look(&new).0.others[0].stopped);
    }
}
