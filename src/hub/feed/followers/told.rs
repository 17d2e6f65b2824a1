//! The word of relays: what each says about the proxies behind it, and when each asks and reports.

use crate::feed::follower::Follower;
use crate::feed::followers::{Followers, Polling, State};
use crate::feed::locked;
use crate::feed::receipts::Waiter;
use crate::feed::relays::Heard;
use crate::feed::report::Report;
use crate::feed::statements::Statements;
use std::sync::Arc;
use taskfence_core::feed::revision::Revision;

/// What a relay says about one proxy.
#[derive(Debug, Clone)]
pub struct Told<'t> {
    /// Its random id.
    pub id: &'t str,
    /// Who it is at the relay.
    pub principal: &'t str,
    /// What it has applied, a revision of this feed.
    pub applied: Revision,
    /// When the relay heard of it, in milliseconds since 1970.
    pub seen: u64,
    /// What it reports, if that is new.
    pub report: Option<Report>,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// It was noted.
    Noted,
    /// The proxy is not known, and its report is missing.
    Unknown,
    /// There are too many, or too many of this relay.
    TooMany,
}

impl Followers {
    /// A request of the relay that is `principal` begins. It is no follower, and may have many requests at once. `id` is
    /// the random id that it reports.
    pub fn begin_relay(self: &Arc<Self>, principal: &str, id: &str) -> Polling {
        let (id, principal) = (format!("{principal}/{id}").into(), Arc::<str>::from(principal));
        locked(&self.state).relays.polled(&principal, (self.now)());
        Polling { followers: self.clone(), id, principal, replaced: Arc::default(), is_relay: true }
    }

    /// When what relays have said is forgotten, this is another text: when this process started, or, where there are
    /// replicas, the epoch of the feed, since they keep together what relays say.
    pub fn memory(&self, epoch: u64) -> String {
        if self.shared { format!("{epoch:016x}") } else { self.started_at.to_string() }
    }

    /// `relay` has said what is behind it.
    pub fn relay_reports(&self, relay: &str, heard: Heard<'_>) {
        let mut state = locked(&self.state);
        state.relays.reported(relay, heard, (self.now)());
        state.waiters.iter().for_each(Waiter::look_again);
    }

    /// Whether other replicas know, or can know, of the relay whose request `polling` is.
    pub fn knows_relay(&self, polling: &Polling) -> bool {
        !self.shared || !polling.is_relay || locked(&self.state).relays.is_stored(&polling.principal)
    }

    /// What relays have said and asked here, for the other replicas, if that is to be written now: always with `all`.
    pub fn unwritten_relays(&self, all: bool) -> Option<String> {
        locked(&self.state).relays.unwritten((self.now)(), all)
    }

    /// That was written, or not.
    pub fn relays_written(&self, text: &str, is_written: bool) {
        locked(&self.state).relays.written(text, is_written);
    }

    /// Takes in what the other replicas have written of relays.
    pub fn mirror_relays<'t>(&self, texts: impl Iterator<Item = &'t str>) {
        let mut state = locked(&self.state);
        state.relays.mirror(texts);
        state.waiters.iter().for_each(Waiter::look_again);
    }

    /// Notes what `relay` says about a proxy. `committed_at` is as in [`Followers::acknowledge`].
    pub fn told(&self, relay: &str, told: Told<'_>, committed_at: impl Fn(u64) -> Option<u64>) -> Word {
        let now = (self.now)();
        let id = format!("{relay}/{}", told.id).into_boxed_str();
        let seen = told.seen.min(now);
        let mut state = locked(&self.state);
        let State { by_id, of_principal, waiters, relays, .. } = &mut *state;
        let room = by_id.len() < self.max.0;
        match (by_id.get_mut(&id), told.report) {
            (None, None) => return Word::Unknown,
            (Some(known), report) => {
                (known.seen, known.gone) = (known.seen.max(seen), false);
                if known.replica != self.own {
                    (known.replica, known.changed) = (self.own.clone(), true);
                }
                if let Some(report) = report.filter(|report| known.report != *report) {
                    (known.report, known.changed) = (report, true);
                }
            }
            (None, Some(report)) => {
                let relay = of_principal.get_key_value(relay).map_or_else(|| relay.into(), |(name, _)| name.clone());
                let own = of_principal.entry(relay.clone()).or_default();
                if !room || *own >= self.max.1 {
                    relays.overflowed(&relay, now);
                    return Word::TooMany;
                }
                *own = own.saturating_add(1);
                let follower = Follower {
                    principal: told.principal.into(),
                    relay: Some(relay),
                    request: Arc::default(),
                    report,
                    applied: Revision::START,
                    applied_at: now,
                    applied_before: 0,
                    seen,
                    statements: Statements::default(),
                    is_heard: true,
                    is_ahead: false,
                    foreign_at: 0,
                    polling: 0,
                    changed: true,
                    gone: false,
                    written: 0,
                    stored: false,
                    replica: self.own.clone(),
                    not_before: now,
                    sent: Revision::START,
                    mirrored: 0,
                };
                by_id.insert(id.clone(), follower);
                waiters.iter_mut().for_each(|waiter| waiter.joined(Revision::START));
            }
        }
        drop(state);
        self.acknowledge(&id, told.applied, committed_at);
        Word::Noted
    }

    /// Removes proxies behind `relay` that it has not heard of for so long that they have closed themselves.
    pub fn told_gone(&self, relay: &str, ids: &[String]) {
        let mut state = locked(&self.state);
        for id in ids {
            if let Some(follower) = state.by_id.get_mut(format!("{relay}/{id}").as_str()) {
                follower.gone = true;
            }
        }
    }
}
