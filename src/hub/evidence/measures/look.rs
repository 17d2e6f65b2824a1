//! The gauges of the metrics that come from a look at the grants of the last days.

use crate::evidence::measures::catalog::Catalog;
use crate::evidence::measures::lifecycle::Ended;
use crate::evidence::measures::repeat::{Repeats, Series};
use crate::evidence::measures::report::{LOOK_BACK, events};
use crate::evidence::measures::residual::residual;
use crate::evidence::measures::rollup::Rows;
use crate::evidence::measures::width::{Counted, Widths};
use crate::evidence::measures::{kind, sharing};
use crate::evidence::model::{GrantRow, RefusedRow, Window};
use crate::evidence::report::Residual;
use crate::evidence::store::EvidenceStore;
use crate::store::model::StoreError;

const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;

/// What the gauges show about one feed.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Look {
    /// Grants that were used in the last 24 hours, permitted or not.
    pub grants: u64,
    /// Those of them whose width is unbounded.
    pub unbounded: u64,
    /// Those of them that more than one workload used in these hours.
    pub shared: u64,
    /// Series of the last 7 days that are routine and broad.
    pub routine_repeats: u64,
    /// The longest residual of grants that ended in the last hour, or were used in it after their end, in seconds.
    pub residual_seconds: f64,
    /// Attempts after an end in the last hour.
    pub attempts_after_end: u64,
}

/// Looks at `feed`; `now` in milliseconds since 1970. `None`: `go_on` said no.
pub fn look(
    store: &dyn EvidenceStore,
    feed: &str,
    now: u64,
    go_on: &dyn Fn() -> bool,
) -> Result<Option<Look>, StoreError> {
    let week = Window { since: now.saturating_sub(7 * DAY), until: now };
    let a_day_ago = now.saturating_sub(DAY);
    let catalog = Catalog::new(store.configs(feed)?);
    let Some((lifecycle, _)) = events(store, feed, week, LOOK_BACK, go_on)? else { return Ok(None) };
    let mut widths = Widths::new(&catalog);
    let (mut look, mut repeats) = (Look::default(), Repeats::default());
    let (mut kinds, mut clients, mut subjects) = (Rows::default(), Rows::default(), Rows::default());
    let last_hour = Window { since: now.saturating_sub(HOUR), until: now };
    let mut goes_on = true;
    store.grants(feed, week, &mut |grant: GrantRow| {
        let counted = widths.count(&grant);
        let info = &grant.info;
        let series = Series {
            kind: kinds.number(&kind::kind(info, &lifecycle)),
            client: clients.number(info.client.as_deref().unwrap_or_default()),
            subject: subjects.number(&info.subject),
            shape: repeats.shape(&kind::shape(info)),
            issuer: repeats.issuer(&info.issuer),
        };
        repeats.add(series, info.issued_at, counted);
        let ended = lifecycle.end(info);
        if let Some(residual) = (grant.last >= last_hour.since).then(|| residual_of(last_hour, &grant, ended)).flatten()
        {
            look.residual_seconds = look.residual_seconds.max(residual.seconds);
            look.attempts_after_end = look.attempts_after_end.saturating_add(residual.attempts_after);
        }
        if grant.last >= a_day_ago {
            look.grants = look.grants.saturating_add(1);
            look.unbounded = look.unbounded.saturating_add(u64::from(matches!(counted, Counted::Unbounded { .. })));
            let seen = grant.seen.iter().filter(|seen| seen.last >= a_day_ago).cloned().collect();
            let is_shared = sharing::is_shared(&GrantRow { seen, ..GrantRow::default() });
            look.shared = look.shared.saturating_add(u64::from(is_shared));
        }
        goes_on = go_on();
        goes_on
    })?;
    repeats.finish((&kinds, &clients, &subjects), |_, _, broad| {
        look.routine_repeats = look.routine_repeats.saturating_add(u64::from(broad));
    });
    Ok(goes_on.then_some(look))
}

/// What went on in `hour` after the end of `grant`, whenever that was. Requests of a row that began before `hour` count as
/// one: the last of them.
fn residual_of(hour: Window, grant: &GrantRow, ended: Ended) -> Option<Residual> {
    let permitted = grant.permitted.iter().filter(|row| row.last >= hour.since).cloned().collect();
    let refused = grant.refused.iter().filter(|row| row.last >= hour.since).cloned();
    let refused = refused.map(|row| RefusedRow { count: if row.first < hour.since { 1 } else { row.count }, ..row });
    residual(&GrantRow { permitted, refused: refused.collect(), ..GrantRow::default() }, ended, hour)
}
