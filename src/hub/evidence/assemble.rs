//! Puts what the store knows about a task, a session, a user, a client or a token into the order of a story.
//!
//! The order is total, so that the same evidence always gives the same timeline: by time, then by the kind of moment as
//! [`KINDS`] has them, then by token, node and text.

mod ends;
mod events;
mod records;
mod refusals;
#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "small numbers of a test")]
mod tests;
mod uses;

use crate::evidence::assemble::ends::Ends;
use crate::evidence::model::{Found, GapRow, GrantRow, Selector};
use crate::evidence::timeline::{Moment, Timeline, TimelineGrant};
use serde_json::{Value, json};

/// The kinds of moments, in the order of moments of the same millisecond: what leads to a grant, what happens to it, how
/// it is used, how it ends, and what comes after.
pub const KINDS: [&str; 20] = [
    "gap",
    "requested",
    "approved",
    "denied",
    "issued",
    "session_established",
    "session_presented",
    "extended",
    "context",
    "narrowed",
    "first_use",
    "break_glass",
    "would_deny",
    "refused",
    "last_use",
    "ended",
    "lifted",
    "expired",
    "stream_ended",
    "attempt_after_end",
];

/// The timeline of `selector` in `feed` from what was found. `now`, in milliseconds since 1970, says which grants have
/// expired.
pub fn assemble(feed: &str, selector: &Selector, found: Found, now: u64) -> Timeline {
    let Found { grants, events, records, gaps, nodes, cut } = found;
    let ends = Ends::of(&events);
    let mut moments: Vec<Moment> = events.iter().filter_map(events::moment).collect();
    for grant in &grants {
        moments.extend(issued(grant, &moments));
        moments.extend(expired(grant, now));
        moments.extend(uses::moments(grant, ends.of_grant(grant)));
    }
    moments.extend(refusals::moments(&grants, &records, &ends));
    moments.extend(gaps.iter().map(gap));
    moments.sort_by(|one, other| order(one).cmp(&order(other)));
    let (what, name) = named(selector);
    Timeline {
        feed: feed.to_owned(),
        what: what.to_owned(),
        name: name.to_owned(),
        grants: grants.into_iter().map(described).collect(),
        moments,
        gaps,
        nodes,
        cut,
    }
}

/// The member of a query that selects, and its value.
pub fn named(selector: &Selector) -> (&'static str, &str) {
    match selector {
        Selector::Task(name) => ("task", name),
        Selector::Session(name) => ("session", name),
        Selector::Subject(name) => ("subject", name),
        Selector::Client(name) => ("client", name),
        Selector::Token(name) => ("token", name),
    }
}

fn order(moment: &Moment) -> (u64, usize, &Option<String>, &Option<String>, &str, Option<u64>) {
    let kind = KINDS.iter().position(|kind| *kind == moment.what).unwrap_or(KINDS.len());
    (moment.at, kind, &moment.token, &moment.node, &moment.text, moment.until)
}

/// When the token says that it was issued, unless its issuer told the hub.
fn issued(grant: &GrantRow, told: &[Moment]) -> Option<Moment> {
    // Another issuer may have a token of the same id, or claim so.
    let is_told = told.iter().any(|moment| {
        let issuer = moment.data.get("issuer").and_then(Value::as_str);
        moment.what == "issued"
            && moment.token.as_ref() == Some(&grant.info.token)
            && issuer.is_none_or(|issuer| issuer == grant.info.issuer)
    });
    (!is_told && grant.info.issued_at > 0).then(|| Moment {
        at: grant.info.issued_at.saturating_mul(1000),
        what: "issued".to_owned(),
        text: "issued, as the token says".to_owned(),
        token: Some(grant.info.token.clone()),
        by: Some(grant.info.issuer.clone()),
        ..Moment::default()
    })
}

fn expired(grant: &GrantRow, now: u64) -> Option<Moment> {
    let at = grant.info.expires_at.saturating_mul(1000);
    (at > 0 && at <= now).then(|| Moment {
        at,
        what: "expired".to_owned(),
        text: "the token expired".to_owned(),
        token: Some(grant.info.token.clone()),
        ..Moment::default()
    })
}

fn gap(gap: &GapRow) -> Moment {
    Moment {
        at: gap.since,
        what: "gap".to_owned(),
        text: "uses may be missing: a worker or its proxy went away before it sent them".to_owned(),
        node: Some(gap.node.clone()),
        until: Some(gap.until),
        data: json!({"vm": gap.vm}),
        ..Moment::default()
    }
}

fn described(grant: GrantRow) -> TimelineGrant {
    let info = grant.info;
    TimelineGrant {
        issuer: info.issuer,
        token: info.token,
        subject: info.subject,
        client: info.client,
        task: info.task,
        session: info.session,
        issued_at: info.issued_at.saturating_mul(1000),
        expires_at: info.expires_at.saturating_mul(1000),
        scopes: info.scopes,
        details: info.details,
    }
}
