//! What is not known is said, and is no number.

use super::*;
use crate::evidence::measures::comparison::Role;

fn used(info: GrantInfo, captures: &[&str]) -> GrantUses {
    let captures = captures.iter().map(|&one| one.to_owned()).collect();
    let one = Permitted { captures, ..permitted(0, "GET", "", 2, (NOON + 1_000, NOON + 2_000)) };
    GrantUses { grant: info, permitted: vec![one], ..GrantUses::default() }
}

/// The report about grants of reads, of the hour after [`NOON`].
fn of_uses(grants: Vec<GrantUses>) -> Report {
    let store = store(rules());
    batch(&store, 1, NOON + HOUR - 1, grants, Vec::new());
    report_of(&store, NOON, NOON + HOUR)
}

#[test]
fn masked_identifiers_are_not_taken_for_other_ones() {
    let masked = vec!["captures".to_owned()];
    let bounded = json!([order(&["read"], "7")]);
    let hashed = GrantInfo { masked: masked.clone(), ..grant("hashed", NOON, &["orders"], bounded.clone()) };
    let removed = GrantInfo { masked: masked.clone(), ..grant("removed", NOON, &["orders"], bounded) };
    let list = json!([{"type": "order", "actions": ["list"]}, order(&["read"], "7")]);
    let unbounded = GrantInfo { masked, ..grant("unbounded", NOON, &["orders"], list) };
    let report = of_uses(vec![used(hashed, &["sha256:x"]), used(removed, &[]), used(unbounded, &["sha256:x"])]);
    for token in ["hashed", "removed"] {
        let width = &of(&report, token).width;
        assert!(width.unknown.as_ref().is_some_and(|why| why.contains("masked")), "{token}: {width:?}");
        assert!(width.narrower_details.is_empty() && width.narrower_rules.is_empty(), "{token}");
    }
    let width = &of(&report, "unbounded").width;
    assert_eq!((width.allowed_cells, width.unknown.as_deref()), (None, None), "that it is unbounded is known");
    assert!(width.notes.iter().any(|note| note.contains("masked")) && width.narrower_rules.is_empty(), "{width:?}");
    let total = &report.total;
    assert_eq!((total.grants, total.unknown, total.unbounded), (3, 2, 1));
    assert_eq!((total.allowed_cells, total.used_cells, total.used_share), (0, 0, None));
}

#[test]
fn a_masked_identifier_does_not_matter_to_a_rule_without_one() {
    let info = GrantInfo { masked: vec!["captures".to_owned()], ..grant("ops", NOON, &["ops"], json!([])) };
    let at = (NOON + 1, NOON + 1);
    let uses = GrantUses { grant: info, permitted: vec![permitted(3, "GET", "", 1, at)], ..GrantUses::default() };
    let report = of_uses(vec![uses]);
    let width = &of(&report, "ops").width;
    assert_eq!((width.allowed_cells, width.used_cells, width.unknown.as_deref()), (Some(1), 1, None));
}

#[test]
fn a_comparison_says_what_is_not_known() {
    // No configuration came: nobody knows what anything allows.
    let store = MemoryStore::default();
    let rule = RuleRef { config: CONFIG.to_owned(), name: "read".to_owned() };
    let uses = used(grant("A", NOON, &["orders"], json!([order(&["read"], "7")])), &["7"]);
    let one = Batch {
        vm: "vm".to_owned(),
        number: 1,
        since: NOON,
        until: NOON + HOUR - 1,
        rules: vec![rule],
        grants: vec![uses],
        ..Batch::default()
    };
    let (feed, node, at) = (FEED.to_owned(), "node".to_owned(), NOON + HOUR - 1);
    let (proxy, principal) = ("proxy".to_owned(), "orders".to_owned());
    write(&store, Write::Batch(Box::new(BatchWrite { feed, principal, proxy, node, at, batch: one })));
    let role = Role {
        name: "support".to_owned(),
        subjects: vec!["alice".to_owned()],
        scopes: vec!["orders".to_owned()],
        ..Role::default()
    };
    let query =
        Query { feed: FEED.to_owned(), since: NOON, until: NOON + HOUR, roles: Some(vec![role]), ..Query::default() };
    let report = report(&store, &query, &|| true).unwrap().unwrap();
    assert_eq!((report.total.unknown, report.total.unbounded, report.total.used_share), (1, 0, None));
    let found = &report.comparison.unwrap().roles[0];
    assert_eq!(found.unknown.as_deref(), Some("no proxy has told its rules"));
    assert_eq!((found.grants, found.unknown_grants, found.grant_seconds), (1, 1, 600.0));
}

#[test]
fn refused_attempts_are_no_use() {
    let at = |minutes: u64| NOON + minutes * MINUTE;
    let read = json!([order(&["read"], "7")]);
    let late = GrantUses {
        refused: vec![refused("token_expired", 1, (at(50), at(50)))],
        ..used(grant("late", NOON, &["orders"], read.clone()), &["7"])
    };
    let never = GrantUses {
        grant: grant("never", NOON, &["orders"], read),
        refused: vec![refused("scope_missing", 1, (at(5), at(5)))],
        ..GrantUses::default()
    };
    let report = of_uses(vec![late, never]);
    let found = of(&report, "late");
    assert_eq!((found.first, found.last), (NOON + 1_000, NOON + 2_000), "as `in_use_median` counts it");
    assert_eq!(report.total.in_use_median, Some(1.0));
    let found = of(&report, "never");
    assert_eq!((found.first, found.last, report.total.unused), (0, 0, 1));
    assert_eq!(report.spread.over_time.iter().map(|bar| bar.grants).sum::<u64>(), 1);
}
