//! What was refused or ended, and uses by break-glass.
//!
//! Proxies count all of them, and send some as single decisions too. A moment is a single decision where there is one; what
//! is counted and not there as a decision is one moment more, with its count. So the counts of the moments add up to what
//! was counted.

use crate::evidence::assemble::ends::Ends;
use crate::evidence::assemble::records::{self, text};
use crate::evidence::measures::residual::is_of_an_end;
use crate::evidence::model::{GrantId, GrantRow, RecordRow};
use crate::evidence::timeline::Moment;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// The moments of all grants.
pub fn moments(grants: &[GrantRow], records: &[RecordRow], ends: &Ends) -> Vec<Moment> {
    let ends: BTreeMap<GrantId, Option<u64>> = grants.iter().map(|grant| (grant.id, ends.of_grant(grant))).collect();
    let is_after_end = |grant: GrantId, reason: &str, at: u64| {
        is_of_an_end(reason) || ends.get(&grant).copied().flatten().is_some_and(|end| at >= end)
    };
    let tokens: BTreeMap<GrantId, &String> = grants.iter().map(|grant| (grant.id, &grant.info.token)).collect();
    let mut shown: BTreeMap<Group<'_>, u64> = BTreeMap::new();
    let mut moments = Vec::new();
    for row in records {
        if let Some(mut moment) = records::moment(row, is_after_end(row.grant, text(&row.record, "reason"), row.at)) {
            // A record may have it masked.
            moment.token = tokens.get(&row.grant).map(|token| (*token).clone()).or(moment.token);
            moments.push(moment);
            let count = shown.entry(Group::of_record(row)).or_default();
            *count = count.saturating_add(1);
        }
    }
    for grant in grants {
        for (group, sum) in sums(grant) {
            let rest = sum.count.saturating_sub(shown.get(&group).copied().unwrap_or_default());
            if rest > 0 {
                let is_after = is_after_end(grant.id, group.reason, sum.first);
                moments.push(sum.moment(&group, rest, is_after, &grant.info.token));
            }
        }
    }
    moments
}

/// What is counted together.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Group<'r> {
    grant: GrantId,
    rule: &'r str,
    /// Empty for uses by break-glass.
    reason: &'r str,
    shadow: bool,
    ended: bool,
}

impl<'r> Group<'r> {
    fn of_record(row: &'r RecordRow) -> Group<'r> {
        let verdict = text(&row.record, "verdict");
        Group {
            grant: row.grant,
            rule: text(&row.record, "rule"),
            reason: text(&row.record, "reason"),
            shadow: matches!(verdict, "would_deny" | "would_end"),
            ended: matches!(verdict, "ended" | "would_end"),
        }
    }
}

/// How many, and when.
struct Sum<'g> {
    count: u64,
    first: u64,
    last: u64,
    nodes: BTreeSet<&'g str>,
}

fn sums(grant: &GrantRow) -> BTreeMap<Group<'_>, Sum<'_>> {
    let refused = grant.refused.iter().map(|row| {
        let group =
            Group { grant: grant.id, rule: &row.rule, reason: &row.reason, shadow: row.shadow, ended: row.ended };
        (group, row.count, row.first, row.last, row.node.as_str())
    });
    let permitted = grant.permitted.iter().filter(|row| row.break_glass > 0).map(|row| {
        let group = Group { grant: grant.id, rule: &row.rule, reason: "", shadow: false, ended: false };
        (group, row.break_glass, row.first, row.last, row.node.as_str())
    });
    let mut sums = BTreeMap::new();
    for (group, count, first, last, node) in refused.chain(permitted) {
        let sum = sums.entry(group).or_insert(Sum { count: 0, first, last, nodes: BTreeSet::new() });
        sum.count = sum.count.saturating_add(count);
        sum.first = sum.first.min(first);
        sum.last = sum.last.max(last);
        sum.nodes.insert(node);
    }
    sums
}

impl Sum<'_> {
    fn moment(&self, group: &Group<'_>, rest: u64, is_after_end: bool, token: &str) -> Moment {
        let Group { rule, reason, shadow, ended, .. } = group;
        let by = if rule.is_empty() { "without a rule".to_owned() } else { format!("by the rule `{rule}`") };
        let (what, text) = match (shadow, ended) {
            _ if reason.is_empty() => ("break_glass", format!("permitted by break-glass {by}")),
            (true, false) => ("would_deny", format!("would have been refused {by}: {reason}")),
            (true, true) => ("would_deny", format!("streams would have been ended {by}: {reason}")),
            (false, true) => ("stream_ended", format!("streams ended {by}: {reason}")),
            (false, false) if is_after_end => ("attempt_after_end", format!("refused {by}: {reason}")),
            (false, false) => ("refused", format!("refused {by}: {reason}")),
        };
        let only = self.nodes.iter().next().filter(|_| self.nodes.len() == 1);
        Moment {
            at: self.first,
            what: what.to_owned(),
            text,
            token: Some(token.to_owned()),
            node: only.map(|node| (*node).to_owned()),
            count: Some(rest),
            until: Some(self.last).filter(|last| *last > self.first),
            data: data(group, &self.nodes),
            ..Moment::default()
        }
    }
}

fn data(group: &Group<'_>, nodes: &BTreeSet<&str>) -> Value {
    let mut data = json!({"nodes": nodes});
    if let Some(members) = data.as_object_mut() {
        for (name, value) in [("rule", group.rule), ("reason", group.reason)] {
            if !value.is_empty() {
                members.insert(name.to_owned(), value.into());
            }
        }
    }
    data
}
