//! The uses of grants that one VM has counted for one feed: in the VM and not in a plugin, so that an update of the
//! configuration loses none.

use crate::feed_follower::random;
use crate::ports::SharedData;
use crate::uses_metrics::UsesMetrics;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use taskfence_core::policy::policy::Policy;
use taskfence_core::state::store::FeedId;
use taskfence_core::uses::outbox::Outbox;
use taskfence_core::uses::roster;
use taskfence_core::uses::sender::Sender;
use taskfence_core::uses::table::{RulePlaces, Table, Totals};

thread_local! {
    // A VM has one thread. What it has counted, for each feed.
    static COUNTED: RefCell<Vec<(FeedId, Rc<RefCell<Counted>>)>> = const { RefCell::new(Vec::new()) };
}

/// What one VM has counted for one feed.
#[derive(Debug)]
pub struct Counted {
    /// What is in no batch yet.
    pub table: Table,
    /// The batches.
    pub outbox: Outbox,
    /// What the metrics have of it.
    pub shown: Totals,
}

/// What one plugin needs to count and to send.
#[derive(Debug)]
pub struct UsesCounter {
    /// Whether this plugin counts. One that does not sends what others count, if it follows their feed for all.
    pub counts: bool,
    /// What the VM has counted for the feed of the plugin.
    pub counted: Rc<RefCell<Counted>>,
    /// The places of the plugin's rules in the table.
    pub rules: RefCell<RulePlaces>,
    /// What posts, in the VM that follows the feed.
    pub sender: RefCell<Sender>,
    /// The number of the call that is under way.
    pub call: Cell<Option<u32>>,
    /// Counters.
    pub metrics: UsesMetrics,
}

impl UsesCounter {
    /// For a plugin with that policy; `None` without a hub. Creates the shared record.
    pub fn new(policy: &Policy) -> Result<Option<UsesCounter>, String> {
        let Some(source) = policy.signals().hub() else { return Ok(None) };
        roster::set_up(&mut SharedData, source.id).map_err(|error| error.to_string())?;
        Ok(Some(UsesCounter {
            counts: policy.evidence().uses,
            counted: counted(source.id),
            rules: RefCell::new(RulePlaces::new(policy.rules().len())),
            sender: RefCell::default(),
            call: Cell::new(None),
            metrics: UsesMetrics::define(&source.feed),
        }))
    }
}

impl UsesCounter {
    /// Whether no other plugin of this VM counts for the same feed.
    pub fn is_last(&self) -> bool {
        // One is kept for plugins to come.
        Rc::strong_count(&self.counted) <= 2
    }
}

fn counted(feed: FeedId) -> Rc<RefCell<Counted>> {
    COUNTED.with_borrow_mut(|all| {
        // What a plugin of an earlier configuration counted for another feed, and nobody will send.
        all.retain(|(known, counted)| *known == feed || Rc::strong_count(counted) > 1);
        if let Some((_, counted)) = all.iter().find(|(known, _)| *known == feed) {
            return Rc::clone(counted);
        }
        let (table, outbox, shown) = (Table::new(random()), Outbox::new(feed, random()), Totals::default());
        let counted = Rc::new(RefCell::new(Counted { table, outbox, shown }));
        all.push((feed, Rc::clone(&counted)));
        counted
    })
}
