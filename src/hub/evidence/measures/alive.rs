//! Who held what in a window, also what nobody used: a two-hour elevation that no snapshot shows.

use crate::evidence::measures::lifecycle::{Lifecycle, end_name};
use crate::evidence::measures::report::events;
use crate::evidence::model::{EventKind, GrantId, GrantRow, Window};
use crate::evidence::report::{Alive, AliveGrant};
use crate::evidence::store::EvidenceStore;
use crate::store::model::StoreError;
use std::collections::{BTreeMap, HashMap};

/// So many grants are listed.
pub const MOST_ALIVE: usize = 10_000;

/// The grants of `feed` that could be used at some moment of `window`. `longest` is the longest lifetime of a grant in
/// milliseconds: so far before the window it may have been issued. `None`: `go_on` said no.
pub fn alive(
    store: &dyn EvidenceStore,
    feed: &str,
    window: Window,
    longest: u64,
    limit: usize,
    go_on: &dyn Fn() -> bool,
) -> Result<Option<Alive>, StoreError> {
    // An end after the window is told as well: until when a grant could be used.
    let wide = Window { since: window.since.saturating_sub(longest), until: window.until.saturating_add(longest) };
    let Some((lifecycle, mut unused)) = events(store, feed, wide, 0, go_on)? else { return Ok(None) };
    let mut found = Found { window, limit: limit.min(MOST_ALIVE), grants: BTreeMap::new(), cut: false };
    let mut goes_on = true;
    let issued = Window { since: wide.since, until: window.until };
    store.grants(feed, issued, &mut |grant| {
        unused.seen(grant.id);
        found.add(&grant, &lifecycle, true);
        goes_on = go_on();
        goes_on
    })?;
    if goes_on && !unused.is_empty() {
        store.events(feed, issued, Some(EventKind::Issued), &mut |event| {
            if let Some(grant) = unused.take(&event) {
                found.add(&grant, &lifecycle, false);
            }
            goes_on = go_on();
            goes_on
        })?;
    }
    let mut permitted: HashMap<GrantId, u64> = found.grants.keys().map(|(_, id)| (*id, 0)).collect();
    if goes_on && !permitted.is_empty() {
        store.grants(feed, window, &mut |grant| {
            if let Some(count) = permitted.get_mut(&grant.id) {
                *count = grant.permitted.iter().map(|row| row.count).fold(grant.other, u64::saturating_add);
            }
            goes_on = go_on();
            goes_on
        })?;
    }
    if !goes_on {
        return Ok(None);
    }
    let cut = found.cut;
    let grants = found.grants.into_iter().map(|((_, id), grant)| {
        let permitted = permitted.get(&id).copied().unwrap_or_default();
        AliveGrant { permitted, ..grant }
    });
    let (feed, grants) = (feed.to_owned(), grants.collect());
    Ok(Some(Alive { feed, since: window.since, until: window.until, grants, cut }))
}

/// The grants that are alive, by the time at which they began.
struct Found {
    window: Window,
    limit: usize,
    grants: BTreeMap<(u64, GrantId), AliveGrant>,
    cut: bool,
}

impl Found {
    fn add(&mut self, grant: &GrantRow, lifecycle: &Lifecycle, seen: bool) {
        let info = &grant.info;
        let from = info.issued_at.saturating_mul(1_000);
        let ended = lifecycle.end(info);
        if from >= self.window.until || ended.at <= self.window.since {
            return;
        }
        let alive = AliveGrant {
            issuer: info.issuer.clone(),
            token: info.token.clone(),
            subject: info.subject.clone(),
            client: info.client.clone(),
            task: info.task.clone(),
            scopes: info.scopes.clone(),
            details: info.details.clone(),
            from,
            to: ended.at,
            ended_by: end_name(ended.by).to_owned(),
            permitted: 0,
            seen,
        };
        self.grants.insert((from, grant.id), alive);
        if self.grants.len() > self.limit {
            self.grants.pop_last();
            self.cut = true;
        }
    }
}
