//! How uses are added up.

use super::*;

on_every_engine! {
    a_grant_with_very_many_uses_is_read_in_bounded_memory,
    uses_are_added_up_over_batches_days_and_proxies,
    refusals_are_added_up_by_rule_reason_and_kind,
    sightings_are_added_up_over_proxies,
    uses_without_a_place_of_their_own_are_added_up,
    a_grant_comes_as_its_token_says,
    a_rule_that_a_batch_does_not_name_has_no_name,
    large_counts_are_exact,
}

fn uses_are_added_up_over_batches_days_and_proxies(home: &mut Home) {
    let store = home.open();
    let at = |n: u64| MIDNIGHT + n;
    let of = |permitted| vec![GrantUses { grant: grant("t1"), permitted, ..GrantUses::default() }];
    let glass = |count, break_glass, at| {
        let mut one = permitted(0, &["1881"], count, at, at);
        one.break_glass = break_glass;
        one
    };
    add(&*store, batch("n1", "a", 1, at(900), of(vec![glass(3, 1, at(100)), permitted(1, &[], 1, at(200), at(300))])));
    add(&*store, batch("n1", "b", 1, at(900), of(vec![glass(4, 0, at(50))])));
    add(&*store, batch("n1", "a", 2, at(DAY + 900), of(vec![glass(5, 2, at(DAY + 100))])));
    add(
        &*store,
        batch("n2", "c", 1, at(900), of(vec![glass(6, 0, at(70)), permitted(0, &["1882"], 1, at(80), at(90))])),
    );
    let mut post = permitted(0, &["1881"], 2, at(DAY + 1), at(DAY + 2));
    post.method = "POST".to_owned();
    let mut other_config = batch("n2", "c", 2, at(DAY + 900), of(vec![post, glass(9, 0, at(DAY + 5))]));
    other_config.batch.rules[0].config = "cafe".to_owned();
    add(&*store, other_config);
    let rows = grants(&*store, ALWAYS);
    assert_eq!(rows.len(), 1);
    let row = |node: &str, config: &str, rule: &str, method: &str, captures: &[&str], sums: [u64; 4]| PermittedRow {
        node: node.to_owned(),
        config: config.to_owned(),
        rule: rule.to_owned(),
        method: method.to_owned(),
        captures: captures.iter().map(|&capture| capture.to_owned()).collect(),
        count: sums[0],
        break_glass: sums[1],
        first: at(sums[2]),
        last: at(sums[3]),
    };
    let mut found = rows[0].permitted.clone();
    let key = |row: &PermittedRow| {
        (row.node.clone(), row.config.clone(), row.rule.clone(), row.method.clone(), row.captures.clone())
    };
    found.sort_by_key(key);
    let expected = [
        row("n1", "c0ffee", "read", "GET", &["1881"], [12, 3, 50, DAY + 100]),
        row("n1", "c0ffee", "write", "GET", &[], [1, 0, 200, 300]),
        row("n2", "c0ffee", "read", "GET", &["1881"], [6, 0, 70, 70]),
        row("n2", "c0ffee", "read", "GET", &["1882"], [1, 0, 80, 90]),
        row("n2", "cafe", "read", "GET", &["1881"], [9, 0, DAY + 5, DAY + 5]),
        row("n2", "cafe", "read", "POST", &["1881"], [2, 0, DAY + 1, DAY + 2]),
    ];
    let mut expected = expected.to_vec();
    expected.sort_by_key(key);
    assert_eq!(found, expected);
    assert_eq!((rows[0].first, rows[0].last), (at(50), at(DAY + 100)));
}

fn refusals_are_added_up_by_rule_reason_and_kind(home: &mut Home) {
    let store = home.open();
    let at = |n: u64| MIDNIGHT + n;
    let shadow = |mut one: taskfence_core::uses::batch::Refused| {
        one.shadow = true;
        one
    };
    let ended = |mut one: taskfence_core::uses::batch::Refused| {
        one.ended = true;
        one
    };
    let of = |node: &str, number, until, refused| {
        let uses = GrantUses { grant: grant("t1"), refused, ..GrantUses::default() };
        batch(node, "a", number, until, vec![uses])
    };
    let read = |count, when| refused(Some(0), "scope", count, when, when + 1);
    let first =
        vec![read(1, at(10)), shadow(read(2, at(20))), ended(read(4, at(30))), refused(None, "x", 8, at(5), at(5))];
    add(&*store, of("n1", 1, at(100), first));
    add(&*store, of("n1", 2, at(DAY + 100), vec![read(16, at(DAY)), refused(Some(0), "x", 32, at(DAY), at(DAY))]));
    let rows = grants(&*store, ALWAYS);
    let mut found = rows[0].refused.clone();
    found.sort_by_key(|row| row.count);
    let row = |rule: &str, reason: &str, kind: (bool, bool), sums: [u64; 3]| RefusedRow {
        node: "n1".to_owned(),
        config: if rule.is_empty() { String::new() } else { "c0ffee".to_owned() },
        rule: rule.to_owned(),
        reason: reason.to_owned(),
        shadow: kind.0,
        ended: kind.1,
        count: sums[0],
        first: at(sums[1]),
        last: at(sums[2]),
    };
    let expected = [
        row("read", "scope", (true, false), [2, 20, 21]),
        row("read", "scope", (false, true), [4, 30, 31]),
        row("", "x", (false, false), [8, 5, 5]),
        row("read", "scope", (false, false), [17, 10, DAY + 1]),
        row("read", "x", (false, false), [32, DAY, DAY]),
    ];
    assert_eq!(found, expected);
    assert_eq!((rows[0].first, rows[0].last, rows[0].permitted.len()), (at(5), at(DAY + 1), 0));
}

fn sightings_are_added_up_over_proxies(home: &mut Home) {
    let store = home.open();
    let at = |n: u64| MIDNIGHT + n;
    for (node, day, first) in [("n1", 0, 7), ("n2", 0, 9), ("n1", 1, 8)] {
        let first = at(day * DAY + first);
        let seen = vec![
            seen(SeenKind::Peer, "spiffe://a/b", 2, first, first + 1),
            seen(SeenKind::Source, &format!("10.0.0.{day}"), 1, first, first),
            seen(SeenKind::Key, "10.0.0.0", 1, first, first),
        ];
        let uses = GrantUses { seen, ..uses(grant("t1"), 1, first, first) };
        add(&*store, batch(node, &format!("vm-{node}"), day + 1, first + 5, vec![uses]));
    }
    let mut found = grants(&*store, ALWAYS).remove(0).seen;
    found.sort_by(|a, b| (a.kind, &a.value).cmp(&(b.kind, &b.value)));
    let row = |kind, value: &str, sums: [u64; 3]| SeenRow {
        kind,
        value: value.to_owned(),
        count: sums[0],
        first: at(sums[1]),
        last: at(sums[2]),
    };
    let expected = [
        row(SeenKind::Peer, "spiffe://a/b", [6, 7, DAY + 9]),
        row(SeenKind::Source, "10.0.0.0", [2, 7, 9]),
        row(SeenKind::Source, "10.0.0.1", [1, DAY + 8, DAY + 8]),
        row(SeenKind::Key, "10.0.0.0", [3, 7, DAY + 8]),
    ];
    assert_eq!(found, expected);
}

fn uses_without_a_place_of_their_own_are_added_up(home: &mut Home) {
    let store = home.open();
    for (vm, day, other) in [("a", 0, 5), ("b", 0, 6), ("a", 1, 7)] {
        let at = MIDNIGHT + day * DAY + 10;
        let uses = GrantUses { other, ..uses(grant("t1"), 1, at, at) };
        add(&*store, batch("n", vm, day + 1, at, vec![uses]));
    }
    let only = GrantUses { grant: grant("t2"), other: 3, ..GrantUses::default() };
    add(&*store, batch("n", "c", 1, MIDNIGHT + 10, vec![only]));
    let rows = grants(&*store, ALWAYS);
    let other = |token: &str| rows.iter().find(|row| row.info.token == token).unwrap().other;
    assert_eq!((other("t1"), other("t2"), rows.len()), (18, 3, 2));
    let first = grants(&*store, window(MIDNIGHT, MIDNIGHT + HOUR));
    assert_eq!(first.iter().map(|row| row.other).sum::<u64>(), 14);
}

fn a_grant_comes_as_its_token_says(home: &mut Home) {
    let store = home.open();
    let at = MIDNIGHT + 5;
    let mut masked = grant("masked");
    masked.cut = true;
    masked.masked = vec!["subject".to_owned(), "task".to_owned()];
    masked.details = vec![serde_json::json!({"type": "a", "n": 1.5, "deep": {"b": [null, true, "\u{7}"]}}), 7.into()];
    let bare = taskfence_core::uses::batch::GrantInfo {
        issuer: ISSUER.to_owned(),
        token: "bare".to_owned(),
        ..Default::default()
    };
    let all = [grant("t1"), masked, bare];
    add(&*store, batch("n", "a", 1, at, all.iter().map(|info| uses(info.clone(), 1, at, at)).collect()));
    for row in grants(&*store, ALWAYS) {
        let sent = all.iter().find(|info| info.token == row.info.token).unwrap();
        assert_eq!((&row.info, row.id), (sent, GrantId::new(ISSUER, &sent.token)));
        let found = store.find(FEED, &Selector::Token(sent.token.clone()), None, ALWAYS, 9).unwrap();
        assert_eq!((found.grants.len(), &found.grants[0].info), (1, sent));
    }
}

fn a_rule_that_a_batch_does_not_name_has_no_name(home: &mut Home) {
    let store = home.open();
    let at = MIDNIGHT + 5;
    let both = GrantUses {
        grant: grant("t1"),
        permitted: vec![permitted(7, &[], 1, at, at)],
        refused: vec![refused(Some(7), "x", 1, at, at)],
        ..GrantUses::default()
    };
    add(&*store, batch("n", "a", 1, at, vec![both]));
    let row = grants(&*store, ALWAYS).remove(0);
    let none = RuleRef::default();
    assert_eq!((&row.permitted[0].config, &row.permitted[0].rule), (&none.config, &none.name));
    assert_eq!((&row.refused[0].config, &row.refused[0].rule), (&none.config, &none.name));
}

fn large_counts_are_exact(home: &mut Home) {
    let store = home.open();
    let at = MIDNIGHT + 5;
    let large = 4_000_000_000_000_000_000;
    for (number, count) in [(1, large), (2, large), (3, 7)] {
        add(&*store, batch("n", "a", number, at, vec![uses(grant("t1"), count, at, at)]));
    }
    assert_eq!(count(&*store, ALWAYS), 2 * large + 7);
    // More than a database can hold stays the greatest number that it can.
    add(&*store, batch("n", "a", 4, at, vec![uses(grant("t2"), u64::MAX, at, at)]));
    add(&*store, batch("n", "a", 5, at, vec![uses(grant("t2"), u64::MAX, at, at)]));
    let rows = grants(&*store, ALWAYS);
    let second = rows.iter().find(|row| row.info.token == "t2").unwrap();
    assert_eq!(second.permitted[0].count, u64::MAX / 2);
}

fn a_grant_with_very_many_uses_is_read_in_bounded_memory(home: &mut Home) {
    let store = home.open();
    let at = MIDNIGHT + 5_000;
    let text = "x".repeat(2_000);
    for number in 0..4u64 {
        let permitted = (0..50u64).map(|n| {
            let name = format!("{number}-{n}");
            let captures: Vec<&str> =
                std::iter::once(name.as_str()).chain(std::iter::repeat_n(text.as_str(), 63)).collect();
            permitted(0, &captures, 3, at, at)
        });
        let uses = GrantUses { grant: grant("t1"), permitted: permitted.collect(), ..GrantUses::default() };
        add(&*store, batch("n", "a", number + 1, at + 1_000, vec![uses]));
    }
    let found = store.find(FEED, &task("task-of-t1"), None, ALWAYS, 10).unwrap();
    for row in [&grants(&*store, ALWAYS)[0], &found.grants[0]] {
        assert!((100..160).contains(&row.permitted.len()), "{}", row.permitted.len());
        assert_eq!(row.permitted.iter().map(|row| row.count).sum::<u64>() + row.other, 600, "nothing is lost");
        assert_eq!((row.first, row.last), (at, at));
    }
}
