//! A worked story: a refund task on two proxies, from the request to the attempts after its end.

use super::*;
use crate::evidence::model::{EventKind, EventRow, GrantId, PermittedRow, RecordRow, RefusedRow};
use serde_json::{Value, json};
use taskfence_core::uses::batch::GrantInfo;

/// 2026-09-21T14:13:20Z, in milliseconds.
const START: u64 = 1_790_000_000_000;

fn event(kind: EventKind, after: u64, change: impl FnOnce(&mut EventRow)) -> EventRow {
    let (issuer, task) = ("https://jit.example".to_owned(), Some("task-42".to_owned()));
    let mut event = EventRow { kind: Some(kind), at: START + after, issuer, task, ..EventRow::default() };
    event.source = "jit".to_owned();
    event.id = format!("{kind:?}-{after}");
    change(&mut event);
    event
}

fn permitted(node: &str, method: &str, count: u64, first: u64, last: u64) -> PermittedRow {
    PermittedRow {
        node: node.to_owned(),
        config: "00".to_owned(),
        rule: "refund".to_owned(),
        method: method.to_owned(),
        count,
        first: START + first,
        last: START + last,
        ..PermittedRow::default()
    }
}

fn refused(node: &str, reason: &str, count: u64, first: u64, last: u64) -> RefusedRow {
    RefusedRow {
        node: node.to_owned(),
        config: "00".to_owned(),
        rule: "refund".to_owned(),
        reason: reason.to_owned(),
        count,
        first: START + first,
        last: START + last,
        ..RefusedRow::default()
    }
}

fn grant() -> GrantRow {
    let info = GrantInfo {
        issuer: "https://jit.example".to_owned(),
        token: "t-1".to_owned(),
        subject: "alice".to_owned(),
        client: Some("agent-a7".to_owned()),
        task: Some("task-42".to_owned()),
        scopes: vec!["refund".to_owned()],
        issued_at: START / 1000 + 60,
        expires_at: START / 1000 + 360,
        ..GrantInfo::default()
    };
    GrantRow { id: GrantId::new(&info.issuer, &info.token), info, ..GrantRow::default() }
}

fn record(grant: &GrantRow, after: u64, members: Value) -> RecordRow {
    let mut record = json!({"rule": "refund", "method": "POST", "path": "/v1/refunds/1881"});
    record.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    RecordRow {
        position: 1,
        principal: "mesh".to_owned(),
        node: "envoy-1".to_owned(),
        at: START + after,
        grant: grant.id,
        record,
    }
}

fn story() -> Found {
    let mut grant = grant();
    grant.permitted = vec![
        permitted("envoy-2", "POST", 3, 80_000, 120_500),
        permitted("envoy-1", "POST", 2, 70_000, 100_000),
        permitted("envoy-1", "GET", 1, 71_000, 71_000),
    ];
    grant.permitted[0].break_glass = 1;
    grant.refused = vec![
        refused("envoy-1", "task_completed", 4, 121_000, 125_000),
        refused("envoy-2", "task_completed", 3, 120_900, 124_000),
        refused("envoy-1", "detail_insufficient", 1, 75_000, 75_000),
        RefusedRow { ended: true, ..refused("envoy-1", "task_completed", 1, 120_003, 120_003) },
        RefusedRow { shadow: true, ..refused("envoy-1", "risk_too_high", 2, 90_000, 91_000) },
    ];
    let records = vec![
        record(&grant, 75_000, json!({"verdict": "denied", "reason": "detail_insufficient"})),
        record(
            &grant,
            120_003,
            json!({"verdict": "ended", "reason": "task_completed", "ended": {"delay_ms": 3, "lasted_ms": 45_200, "bytes_in": 10, "bytes_out": 2000}}),
        ),
        record(&grant, 121_000, json!({"verdict": "denied", "reason": "task_completed"})),
    ];
    let events = vec![
        event(EventKind::Requested, 0, |event| {
            event.task_kind = Some("refund".to_owned());
            event.reason = Some("ticket 7".to_owned());
        }),
        event(EventKind::Approved, 50_000, |event| event.by = Some("bob".to_owned())),
        event(EventKind::SignalContext, 85_000, |event| event.source = "signal".to_owned()),
        event(EventKind::SignalChanged, 110_000, |event| event.source = "signal".to_owned()),
        event(EventKind::SignalChanged, 112_000, |event| {
            event.data = json!({"event": "https://schemas.openid.net/secevent/caep/event-type/token-claims-change"});
        }),
        event(EventKind::SignalEnded, 120_000, |event| {
            event.by = Some("ops".to_owned());
            event.data = json!({"event": "urn:taskfence:secevent:task-completed"});
        }),
    ];
    let gap =
        GapRow { node: "envoy-2".to_owned(), vm: "ab".to_owned(), since: START + 120_400, until: START + 120_800 };
    Found { grants: vec![grant], events, records, gaps: vec![gap], nodes: Vec::new(), cut: false }
}

fn told(timeline: &Timeline) -> Vec<String> {
    let line = |moment: &Moment| {
        let mut line = format!("{} {}: {}", moment.at - START, moment.what, moment.text);
        for (word, part) in [("at", &moment.node), ("by", &moment.by)] {
            line.push_str(&part.as_ref().map(|part| format!(" {word} {part}")).unwrap_or_default());
        }
        line.push_str(&moment.count.map(|count| format!(" x{count}")).unwrap_or_default());
        line.push_str(&moment.until.map(|until| format!(" until {}", until - START)).unwrap_or_default());
        line
    };
    timeline.moments.iter().map(line).collect()
}

#[test]
fn a_story_is_told_in_order() {
    let timeline = assemble("main", &Selector::Task("task-42".to_owned()), story(), START + 400_000);
    let expected = [
        "0 requested: grant requested for `refund`: ticket 7 by jit",
        "50000 approved: request approved by bob",
        "60000 issued: issued, as the token says by https://jit.example",
        "70000 first_use: first POST by the rule `refund` at envoy-1 x5 until 120500",
        "71000 first_use: only GET by the rule `refund` at envoy-1 x1",
        "75000 refused: POST /v1/refunds/1881 refused: detail_insufficient at envoy-1",
        "80000 break_glass: permitted by break-glass by the rule `refund` at envoy-2 x1 until 120500",
        "85000 context: context changed by a signal by signal",
        "90000 would_deny: would have been refused by the rule `refund`: risk_too_high at envoy-1 x2 until 91000",
        "110000 narrowed: narrowed by a signal by signal",
        "112000 context: claims changed by a signal, token-claims-change by jit",
        "120000 ended: ended by a signal, task-completed by ops",
        "120003 stream_ended: the stream of POST /v1/refunds/1881 ended 3 ms after the signal: task_completed; it lasted 45.2 s, 10 bytes in, 2000 bytes out at envoy-1",
        "120400 gap: uses may be missing: a worker or its proxy went away before it sent them at envoy-2 until 120800",
        "120500 last_use: last POST by the rule `refund`, 500 ms after the end at envoy-2 x5",
        "120900 attempt_after_end: refused by the rule `refund`: task_completed x6 until 125000",
        "121000 attempt_after_end: POST /v1/refunds/1881 refused: task_completed at envoy-1",
        "360000 expired: the token expired",
    ];
    assert_eq!(told(&timeline), expected);
    assert_eq!((timeline.what.as_str(), timeline.name.as_str()), ("task", "task-42"));
    assert_eq!(timeline.grants[0].subject, "alice");
    assert!(timeline.moments.iter().all(|moment| KINDS.contains(&moment.what.as_str())));
}

#[test]
fn the_order_does_not_depend_on_that_of_the_store() {
    let selector = Selector::Task("task-42".to_owned());
    let timeline = assemble("main", &selector, story(), START + 400_000);
    let mut other = story();
    other.events.reverse();
    other.records.reverse();
    other.grants[0].permitted.reverse();
    other.grants[0].refused.reverse();
    assert_eq!(assemble("main", &selector, other, START + 400_000), timeline);
}

#[test]
fn moments_of_one_millisecond_have_an_order() {
    let kinds = [EventKind::SignalEnded, EventKind::Issued, EventKind::Approved, EventKind::Requested];
    let events = kinds.map(|kind| event(kind, 0, |_| ())).to_vec();
    let timeline = assemble("main", &Selector::Task("task-42".to_owned()), Found { events, ..Found::default() }, START);
    let whats: Vec<_> = timeline.moments.iter().map(|moment| moment.what.as_str()).collect();
    assert_eq!(whats, ["requested", "approved", "issued", "ended"]);
}

#[test]
fn what_is_counted_and_what_is_single_add_up() {
    let found = story();
    let counted: u64 = found.grants[0].refused.iter().map(|row| row.count).sum();
    let timeline = assemble("main", &Selector::Task("task-42".to_owned()), found, START);
    let refusals = ["refused", "attempt_after_end", "stream_ended", "would_deny"];
    let of_refusals = timeline.moments.iter().filter(|moment| refusals.contains(&moment.what.as_str()));
    assert_eq!(of_refusals.map(|moment| moment.count.unwrap_or(1)).sum::<u64>(), counted);
}

#[test]
fn a_lifted_end_is_none() {
    let mut found = story();
    found.grants[0].refused = vec![refused("envoy-1", "scope_insufficient", 1, 130_000, 130_000)];
    found.records.clear();
    let selector = Selector::Task("task-42".to_owned());
    let what = |found: Found| {
        let timeline = assemble("main", &selector, found, START);
        timeline.moments.iter().find(|moment| moment.at == START + 130_000).unwrap().what.clone()
    };
    assert_eq!(what(found.clone()), "attempt_after_end");
    let end = found.events.iter().find(|event| event.kind == Some(EventKind::SignalEnded)).unwrap();
    let id = format!("{}/lifted", end.id);
    found.events.push(event(EventKind::SignalLifted, 125_000, |_| ()));
    assert_eq!(what(found.clone()), "attempt_after_end", "another signal was lifted");
    found.events.push(event(EventKind::SignalLifted, 125_000, |event| event.id = id));
    assert_eq!(what(found), "refused");
}

#[test]
fn the_end_of_another_is_none() {
    let grant = grant();
    let mut end = event(EventKind::Ended, 100_000, |_| ());
    let ended_at = |end: &EventRow| Ends::of(std::slice::from_ref(end)).of_grant(&grant);
    let (ended, expiry) = (Some(START + 100_000), Some(START + 360_000));
    assert_eq!(ended_at(&end), ended);
    end.task = None;
    end.client = Some("another".to_owned());
    assert_eq!(ended_at(&end), expiry);
    end.client = Some("agent-a7".to_owned());
    assert_eq!(ended_at(&end), ended);
    end.issuer = "https://other.example".to_owned();
    assert_eq!(ended_at(&end), expiry);
    end.issuer.clear();
    assert_eq!(ended_at(&end), ended, "of an issuer that is not known");
    end.at = START;
    assert_eq!(ended_at(&end), expiry, "a grant that was issued later");
    end.task = grant.info.task.clone();
    assert_eq!(ended_at(&end), Some(START + 60_000), "what ends a task ends it for good");
}

#[test]
fn an_issuer_that_told_of_the_token_is_believed() {
    let mut found = story();
    found.events.push(event(EventKind::Issued, 59_000, |event| event.token = Some("t-1".to_owned())));
    let timeline = assemble("main", &Selector::Token("t-1".to_owned()), found, START);
    let issued: Vec<_> = timeline.moments.iter().filter(|moment| moment.what == "issued").collect();
    assert_eq!((issued.len(), issued[0].at), (1, START + 59_000));
}

#[test]
fn an_issuer_that_tells_of_the_token_of_another_hides_nothing() {
    let mut found = story();
    found.events.push(event(EventKind::Issued, 59_000, |event| {
        event.token = Some("t-1".to_owned());
        event.issuer = "https://two.example".to_owned();
    }));
    let timeline = assemble("main", &Selector::Task("task-42".to_owned()), found, START);
    let issued: Vec<_> = timeline.moments.iter().filter(|moment| moment.what == "issued").collect();
    assert_eq!(issued.iter().map(|moment| moment.at).collect::<Vec<_>>(), [START + 59_000, START + 60_000]);
}

#[test]
fn spans_are_short() {
    let spans = [0, 999, 1000, 59_999, 60_000, 90_061_000].map(records::span);
    assert_eq!(spans, ["0 ms", "999 ms", "1.0 s", "59.9 s", "1m", "1d 1h"]);
}
