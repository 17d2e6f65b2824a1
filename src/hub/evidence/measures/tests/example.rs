//! The example of `docs/measures.md`, figure by figure.

use super::*;
use crate::evidence::measures::comparison::Role;

/// Five grants of one afternoon, as the page tells them.
fn afternoon() -> MemoryStore {
    let store = store(rules());
    let at = |minutes: u64| NOON + minutes * MINUTE;
    let both = json!([order(&["read", "refund"], "1881"), order(&["read", "refund"], "1882")]);
    // A: two orders, of which one was read and refunded. Its task ends after 4 minutes; 30 s later it is used once more,
    // and three requests are refused.
    let a = grant("A", at(0), &["orders", "ops"], both);
    // B: the health check, each hour. Its scope allows nothing else.
    let ops: Vec<GrantInfo> = (0..4).map(|n| grant(&format!("B{n}"), at(60 * n), &["ops"], json!([]))).collect();
    // C: lists all orders, and was used by two workloads.
    let c = grant("C", at(10), &["orders"], json!([{"type": "order", "actions": ["list"]}]));
    // D: issued and never used.
    let d = grant("D", at(20), &["orders"], json!([order(&["read"], "7")]));
    let mut grants = vec![GrantUses {
        grant: a.clone(),
        permitted: vec![
            permitted(0, "GET", "1881", 3, (at(1), at(2))),
            permitted(1, "POST", "1881", 1, (at(3), at(3))),
            permitted(0, "GET", "1881", 1, (at(4) + 30_000, at(4) + 30_000)),
        ],
        refused: vec![refused("task_completed", 3, (at(5), at(6)))],
        ..GrantUses::default()
    }];
    grants.extend(ops.iter().map(|b| {
        let first = b.issued_at * 1_000 + 1_000;
        GrantUses {
            grant: b.clone(),
            permitted: vec![permitted(3, "GET", "", 1, (first, first))],
            ..GrantUses::default()
        }
    }));
    grants.push(GrantUses {
        grant: c,
        permitted: vec![permitted(2, "GET", "", 2, (at(11), at(12)))],
        seen: vec![
            seen(SeenKind::Peer, "spiffe://mesh/agent", at(11)),
            seen(SeenKind::Peer, "spiffe://mesh/notebook", at(12)),
        ],
        ..GrantUses::default()
    });
    batch(&store, 1, at(239), grants, Vec::new());
    let named = |event: EventRow, kind: &str| EventRow { task_kind: Some(kind.to_owned()), ..event };
    let data = json!({"scope": "orders", "authorization_details": d.details, "expires_at": d.expires_at});
    let issued = EventRow { data, ..event(EventKind::Issued, at(20), &d) };
    for event in [
        named(event(EventKind::Issued, at(0), &a), "refund"),
        named(event(EventKind::Ended, at(4), &a), "refund"),
        named(issued, "refund"),
    ] {
        write(&store, Write::Event(Box::new(event)));
    }
    store
}

#[test]
fn width_of_the_example() {
    let report = report_of(&afternoon(), NOON, NOON + 4 * HOUR);
    let a = &of(&report, "A").width;
    // 2 orders x (read, refund), and the health check.
    assert_eq!((a.allowed_cells, a.used_cells), (Some(5), 2));
    assert_eq!(a.allowed.len(), 5);
    assert_eq!(a.unused_scopes, ["ops"]);
    assert_eq!(a.narrower_scopes, ["orders"]);
    assert_eq!(a.narrower_details, [order(&["read", "refund"], "1881")]);
    assert_eq!(
        a.narrower_rules,
        [
            json!({
                "name": "read-1", "match": {"methods": ["GET"], "path": "/orders/1881"},
                "require": {"scope": "orders", "detail": {"type": "order", "action": "read", "identifier": "1881"}}
            }),
            json!({
                "name": "refund-1", "match": {"methods": ["POST"], "path": "/orders/1881/refund"},
                "require": {"scope": "orders", "detail": {"type": "order", "action": "refund", "identifier": "1881"}}
            })
        ]
    );
    let c = &of(&report, "C").width;
    assert_eq!((c.allowed_cells, c.used_cells, c.unknown.as_deref()), (None, 1, None));
    let d = &of(&report, "D").width;
    assert_eq!((d.allowed_cells, d.used_cells), (Some(1), 0));
    assert!(d.narrower_details.is_empty() && d.narrower_scopes.is_empty());
}

#[test]
fn residual_sharing_and_repeat_of_the_example() {
    let report = report_of(&afternoon(), NOON, NOON + 4 * HOUR);
    let residual = of(&report, "A").residual.as_ref().unwrap();
    assert_eq!((residual.ended_at, residual.ended_by.as_str()), (NOON + 4 * MINUTE, "ended"));
    assert_eq!((residual.seconds, residual.permitted_after, residual.attempts_after), (30.0, 1, 3));
    let c = of(&report, "C");
    assert!(c.sharing.shared);
    assert_eq!(c.sharing.peers, ["spiffe://mesh/agent", "spiffe://mesh/notebook"]);
    assert_eq!(c.residual.as_ref().unwrap().ended_by, "expired");
    let [repeat] = report.repeats.as_slice() else { panic!("{:?}", report.repeats) };
    assert_eq!((repeat.kind.as_str(), repeat.shape.as_str(), repeat.grants), ("ops", "ops", 4));
    assert_eq!((repeat.every, repeat.irregularity, repeat.routine, repeat.broad), (3_600.0, 0.0, true, false));
    assert!(of(&report, "B0").repeated && !of(&report, "A").repeated);
}

#[test]
fn totals_and_order_of_the_example() {
    let report = report_of(&afternoon(), NOON, NOON + 4 * HOUR);
    let total = &report.total;
    assert_eq!((total.grants, total.unused, total.permitted, total.refused), (7, 1, 11, 3));
    assert_eq!((total.unbounded, total.allowed_cells, total.used_cells), (1, 10, 6));
    // Shares: A 2/5, B 1 four times, D 0.
    assert_eq!(total.used_share, Some(1.0));
    assert_eq!((total.repeated, total.with_residual, total.attempts_after_end, total.shared), (4, 1, 3, 1));
    assert_eq!((total.residual_longest, total.residual_median), (Some(30.0), Some(0.0)));
    assert_eq!(total.lifetime_median, Some(600.0));
    let order: Vec<_> = report.grants.iter().map(|grant| grant.token.as_str()).take(3).collect();
    assert_eq!(order, ["A", "C", "D"]);
    let refund = report.by_kind.iter().find(|row| row.name == "refund").unwrap();
    assert_eq!((refund.grants, refund.unused), (2, 1));
    assert_eq!(report.by_client.len(), 1);
    assert_eq!(report.by_subject[0].name, "alice");
    let first: Vec<_> = report.spread.over_time.iter().map(|bar| (bar.label.as_str(), bar.grants)).collect();
    assert_eq!(first[0], ("2026-11-28 12:00", 3));
    assert_eq!(report.spread.used_share[10].grants, 1);
}

#[test]
fn the_permanent_path_of_the_example() {
    let role = |name: &str, subjects: &[&str], details: Value| Role {
        name: name.to_owned(),
        subjects: subjects.iter().map(|&subject| subject.to_owned()).collect(),
        scopes: vec!["orders".to_owned(), "ops".to_owned()],
        authorization_details: details.as_array().cloned().unwrap(),
        cells: None,
    };
    let roles = vec![
        role("support", &["alice", "bob"], json!([{"type": "order", "actions": ["list"]}])),
        role("one-order", &["carol"], json!([order(&["read"], "1")])),
    ];
    let query =
        Query { feed: FEED.to_owned(), since: NOON, until: NOON + 4 * HOUR, roles: Some(roles), ..Query::default() };
    let report = report(&afternoon(), &query, &|| true).unwrap().unwrap();
    let [support, one] = report.comparison.as_ref().unwrap().roles.as_slice() else { panic!() };
    assert_eq!((support.allowed_cells, support.seconds), (None, 2.0 * 4.0 * 3_600.0));
    // Seven grants of ten minutes; A ended after four.
    assert_eq!((support.grants, support.grant_seconds, support.grant_cells), (7, 3_840.0, None));
    assert_eq!((one.allowed_cells, one.grants, one.grant_cells), (Some(2), 0, Some(0)));
}
