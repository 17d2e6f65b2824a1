//! The first and the last use of each kind: of each rule with each method, over all proxies and configurations.

use crate::evidence::model::{GrantRow, PermittedRow};
use crate::evidence::timeline::Moment;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

/// The moments of the permitted uses of `grant`, which ended at `end`.
pub fn moments(grant: &GrantRow, end: Option<u64>) -> Vec<Moment> {
    let mut kinds: BTreeMap<(&str, &str), Kind<'_>> = BTreeMap::new();
    for row in &grant.permitted {
        kinds.entry((&row.rule, &row.method)).or_default().add(row);
    }
    let mut moments: Vec<Moment> =
        kinds.into_iter().flat_map(|(name, kind)| kind.moments(name, &grant.info.token, end)).collect();
    moments.extend(other(grant));
    moments
}

/// The uses of one kind, added up.
#[derive(Default)]
struct Kind<'g> {
    count: u64,
    first: Option<&'g PermittedRow>,
    last: Option<&'g PermittedRow>,
    nodes: BTreeSet<&'g str>,
}

impl<'g> Kind<'g> {
    fn add(&mut self, row: &'g PermittedRow) {
        self.count = self.count.saturating_add(row.count);
        // Of two with the same time, the proxy that comes first by name.
        let is_earlier = |known: &&PermittedRow| (row.first, &row.node) < (known.first, &known.node);
        if self.first.is_none_or(|known| is_earlier(&known)) {
            self.first = Some(row);
        }
        let is_later = |known: &&PermittedRow| (known.last, &row.node) < (row.last, &known.node);
        if self.last.is_none_or(|known| is_later(&known)) {
            self.last = Some(row);
        }
        self.nodes.insert(&row.node);
    }

    fn moments(self, (rule, method): (&str, &str), token: &str, end: Option<u64>) -> Vec<Moment> {
        let (Some(first), Some(last)) = (self.first, self.last) else {
            return Vec::new();
        };
        let data = json!({"rule": rule, "method": method, "nodes": self.nodes});
        let moment = |at: u64, what: &str, which: &str, node: &str| Moment {
            at,
            what: what.to_owned(),
            text: format!("{which} {method} by the rule `{rule}`{}", after(at, end)),
            token: Some(token.to_owned()),
            node: Some(node.to_owned()),
            count: Some(self.count),
            data: data.clone(),
            ..Moment::default()
        };
        if self.count == 1 && first.first == last.last {
            return vec![moment(first.first, "first_use", "only", &first.node)];
        }
        let mut begin = moment(first.first, "first_use", "first", &first.node);
        begin.until = Some(last.last);
        vec![begin, moment(last.last, "last_use", "last", &last.node)]
    }
}

/// Uses that differ in more ways than a proxy had room for.
fn other(grant: &GrantRow) -> Option<Moment> {
    (grant.other > 0).then(|| Moment {
        at: grant.first,
        what: "first_use".to_owned(),
        text: "other uses, which a proxy had no room to tell apart".to_owned(),
        token: Some(grant.info.token.clone()),
        count: Some(grant.other),
        until: Some(grant.last),
        ..Moment::default()
    })
}

/// How long after the end, if it is after it.
fn after(at: u64, end: Option<u64>) -> String {
    let late = end.and_then(|end| at.checked_sub(end)).filter(|late| *late > 0);
    late.map(|late| format!(", {} after the end", super::records::span(late))).unwrap_or_default()
}
