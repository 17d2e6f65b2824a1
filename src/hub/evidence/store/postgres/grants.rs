//! Grants with what happened to them, in the order of their ids.
//!
//! One query returns the rows of all tables and days, merged in the order of the ids, as their indexes give them. The hub
//! holds the rows of one grant at a time, and reads no faster than it adds up, so its memory does not grow with the answer.

use crate::evidence::model::{GrantId, GrantRow, PermittedRow, RefusedRow, SeenRow, Window};
use crate::evidence::store::bounded::Bounded;
use crate::evidence::store::postgres::days;
use crate::evidence::store::postgres::text::from_json;
use crate::evidence::store::value::{int, uint};
use crate::store::model::StoreError;
use crate::store::postgres::session::Session;
use std::cmp::Ordering;
use taskfence_core::uses::batch::{GrantInfo, SeenKind};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

/// The rows of all tables, with the columns that [`Building::add`] reads. `{ids}` limits them to some grants. Each table is
/// sorted, too: without that, the plan sorts all of them together.
const TEXT: &str = "
    (SELECT id, 0 AS what, issuer AS t1, token AS t2, fingerprint AS t3, subject AS t4, client AS t5, task AS t6,
        session AS t7, issued AS n1, expires AS n2, NULL::bigint AS n3, NULL::bigint AS n4, cut AS b1,
        NULL::boolean AS b2, actors::text AS j1, scopes::text AS j2, details::text AS j3, masked::text AS j4
        FROM evidence.grant_day WHERE feed = $1 AND day = ANY ($3) {ids} ORDER BY id)
    UNION ALL (SELECT id, 1, node, config, rule, method, NULL, NULL, NULL, count, break_glass, first, last, NULL, NULL,
        captures::text, NULL, NULL, NULL
        FROM evidence.use_day WHERE feed = $1 AND day = ANY ($2) AND last >= $4 AND first < $5 {ids} ORDER BY id)
    UNION ALL (SELECT id, 2, node, config, rule, reason, NULL, NULL, NULL, count, NULL, first, last, shadow, ended,
        NULL, NULL, NULL, NULL
        FROM evidence.refusal_day WHERE feed = $1 AND day = ANY ($2) AND last >= $4 AND first < $5 {ids} ORDER BY id)
    UNION ALL (SELECT id, 3, kind, value, NULL, NULL, NULL, NULL, NULL, count, NULL, first, last, NULL, NULL,
        NULL, NULL, NULL, NULL
        FROM evidence.sighting_day WHERE feed = $1 AND day = ANY ($2) AND last >= $4 AND first < $5 {ids} ORDER BY id)
    UNION ALL (SELECT id, 4, NULL, NULL, NULL, NULL, NULL, NULL, NULL, count, NULL, first, last, NULL, NULL,
        NULL, NULL, NULL, NULL
        FROM evidence.other_day WHERE feed = $1 AND day = ANY ($2) AND last >= $4 AND first < $5 {ids} ORDER BY id)
    ORDER BY id";

/// For all grants of a window: the indexes give the order, so that the first row comes at once and nothing is sorted.
const IN_ORDER: &str = "SET LOCAL enable_sort = off; SET LOCAL enable_bitmapscan = off;
    SET LOCAL max_parallel_workers_per_gather = 0";

/// Shows `each` the grants that were used or issued in the window; `ids`: only these.
pub(super) fn each(
    session: &mut Session,
    feed: &str,
    window: Window,
    ids: Option<&[Vec<u8>]>,
    each: &mut dyn FnMut(GrantRow) -> bool,
) -> Result<(), StoreError> {
    if window.since >= window.until {
        return Ok(());
    }
    let (of_uses, of_grants) = (days::of_uses(session, window)?, days::of_grants(session, window)?);
    let (since, until) = (int(window.since), int(window.until));
    let mut params: Vec<&(dyn ToSql + Sync)> = vec![&feed, &of_uses, &of_grants, &since, &until];
    let text = TEXT.replace("{ids}", if ids.is_some() { "AND id = ANY ($6)" } else { "" });
    match &ids {
        Some(ids) => params.push(ids),
        None => session.batch(IN_ORDER)?,
    }
    let (mut building, mut goes_on) = (Building::default(), true);
    session.each_row(&text, &params, &mut |row| {
        let id: &[u8] = row.try_get(0)?;
        if building.row.id.0 != id || !building.is_begun {
            goes_on = building.finish(window).is_none_or(&mut *each);
            let id = id.try_into().map_err(|_| StoreError::Damaged("the id of a grant".to_owned()))?;
            building = Building {
                is_begun: true,
                row: GrantRow { id: GrantId(id), ..GrantRow::default() },
                ..Building::default()
            };
        }
        if goes_on {
            building.add(row)?;
        }
        Ok(goes_on)
    })?;
    if goes_on && let Some(last) = building.finish(window) {
        each(last);
    }
    Ok(())
}

/// A grant whose rows are being read.
#[derive(Default)]
struct Building {
    is_begun: bool,
    /// Whether the row of the grant itself was there.
    is_known: bool,
    is_used: bool,
    row: GrantRow,
    bounded: Bounded,
}

impl Building {
    fn add(&mut self, row: &Row) -> Result<(), StoreError> {
        let text = |at: usize| row.try_get::<_, Option<String>>(at).map(Option::unwrap_or_default);
        let number = |at: usize| row.try_get::<_, Option<i64>>(at).map(|number| uint(number.unwrap_or_default()));
        let bit = |at: usize| row.try_get::<_, Option<bool>>(at).map(Option::unwrap_or_default);
        let what: i32 = row.try_get(1)?;
        if what == 0 {
            // A token says the same on each day.
            if !self.is_known {
                self.is_known = true;
                self.row.info = info(row)?;
            }
            return Ok(());
        }
        let (count, first, last) = (number(9)?, number(11)?, number(12)?);
        match what {
            1 => {
                let (node, config, rule, method) = (text(2)?, text(3)?, text(4)?, text(5)?);
                let (captures, break_glass) = (json(row, 15)?, number(10)?);
                let row = PermittedRow { node, config, rule, method, captures, count, break_glass, first, last };
                self.bounded.permitted(&mut self.row, row);
            }
            2 => {
                let (node, config, rule, reason) = (text(2)?, text(3)?, text(4)?, text(5)?);
                let (shadow, ended) = (bit(13)?, bit(14)?);
                let row = RefusedRow { node, config, rule, reason, shadow, ended, count, first, last };
                self.bounded.refused(&mut self.row, row);
            }
            3 => {
                let kind = kind(row.try_get(2)?)?;
                let row = SeenRow { kind, value: text(3)?, count, first, last };
                self.bounded.seen(&mut self.row, row);
            }
            _ => self.row.other = self.row.other.saturating_add(count),
        }
        self.row.first = if self.is_used { self.row.first.min(first) } else { first };
        self.row.last = self.row.last.max(last);
        self.is_used = true;
        Ok(())
    }

    /// The grant, if it was used or issued in the window.
    fn finish(&mut self, window: Window) -> Option<GrantRow> {
        let issued = self.row.info.issued_at.saturating_mul(1_000);
        let is_issued = window.since <= issued && issued < window.until;
        if !self.is_known || !(self.is_used || is_issued) {
            return None;
        }
        let mut row = std::mem::take(&mut self.row);
        sum_up(&mut row.permitted, compare_permitted, |sum, next| {
            sum.count = sum.count.saturating_add(next.count);
            sum.break_glass = sum.break_glass.saturating_add(next.break_glass);
            (sum.first, sum.last) = (sum.first.min(next.first), sum.last.max(next.last));
        });
        sum_up(&mut row.refused, compare_refused, |sum, next| {
            sum.count = sum.count.saturating_add(next.count);
            (sum.first, sum.last) = (sum.first.min(next.first), sum.last.max(next.last));
        });
        sum_up(&mut row.seen, compare_seen, |sum, next| {
            sum.count = sum.count.saturating_add(next.count);
            (sum.first, sum.last) = (sum.first.min(next.first), sum.last.max(next.last));
        });
        Some(row)
    }
}

fn compare_permitted(a: &PermittedRow, b: &PermittedRow) -> Ordering {
    (&a.node, &a.config, &a.rule, &a.method, &a.captures).cmp(&(&b.node, &b.config, &b.rule, &b.method, &b.captures))
}

fn compare_refused(a: &RefusedRow, b: &RefusedRow) -> Ordering {
    (&a.node, &a.config, &a.rule, &a.reason, a.shadow, a.ended)
        .cmp(&(&b.node, &b.config, &b.rule, &b.reason, b.shadow, b.ended))
}

fn compare_seen(a: &SeenRow, b: &SeenRow) -> Ordering {
    (a.kind, &a.value).cmp(&(b.kind, &b.value))
}

/// Sorts the rows, and makes one of those that are equal.
fn sum_up<T>(rows: &mut Vec<T>, compare: fn(&T, &T) -> Ordering, add: fn(&mut T, &T)) {
    rows.sort_unstable_by(compare);
    rows.dedup_by(|next, sum| {
        let is_same = compare(sum, next) == Ordering::Equal;
        if is_same {
            add(sum, next);
        }
        is_same
    });
}

fn info(row: &Row) -> Result<GrantInfo, StoreError> {
    Ok(GrantInfo {
        issuer: row.try_get(2)?,
        token: row.try_get(3)?,
        fingerprint: row.try_get(4)?,
        subject: row.try_get(5)?,
        client: row.try_get(6)?,
        task: row.try_get(7)?,
        session: row.try_get(8)?,
        issued_at: uint(row.try_get(9)?),
        expires_at: uint(row.try_get(10)?),
        cut: row.try_get(13)?,
        actors: json(row, 15)?,
        scopes: json(row, 16)?,
        details: json(row, 17)?,
        masked: json(row, 18)?,
    })
}

fn json<T: serde::de::DeserializeOwned>(row: &Row, at: usize) -> Result<T, StoreError> {
    from_json(row.try_get(at)?)
}

fn kind(name: &str) -> Result<SeenKind, StoreError> {
    match name {
        "peer" => Ok(SeenKind::Peer),
        "source" => Ok(SeenKind::Source),
        "key" => Ok(SeenKind::Key),
        other => Err(StoreError::Damaged(format!("a sighting of the kind `{other}`"))),
    }
}
