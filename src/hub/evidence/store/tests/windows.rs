//! What belongs to a window, and in which order it comes.

use super::*;

on_every_engine! {
    grants_come_once_in_the_order_of_their_ids,
    a_window_has_what_was_used_in_it,
    a_window_that_begins_and_ends_at_full_hours_is_exact,
    uses_are_found_also_where_their_batch_was_cut_a_day_later,
    a_grant_that_was_issued_in_the_window_is_there_also_without_uses,
    an_empty_window_has_nothing,
}

fn grants_come_once_in_the_order_of_their_ids(home: &mut Home) {
    let store = home.open();
    for day in 0..3 {
        let at = MIDNIGHT + day * DAY + 5;
        // The second half of a day comes again on the next one.
        let tokens = day * 100..day * 100 + 200;
        let all = tokens.map(|n| uses(grant(&format!("t{n}")), 1, at, at)).collect();
        add(&*store, batch("n", "a", day + 1, at, all));
    }
    let rows = grants(&*store, ALWAYS);
    assert_eq!(rows.len(), 400);
    assert!(rows.is_sorted_by(|a, b| a.id < b.id));
    assert!(rows.iter().all(|row| row.id == GrantId::new(ISSUER, &row.info.token)));
    assert_eq!(rows.iter().map(|row| row.permitted[0].count).sum::<u64>(), 600);
    let mut shown = Vec::new();
    let each = &mut |row: crate::evidence::model::GrantRow| {
        shown.push(row.id);
        shown.len() < 5
    };
    store.grants(FEED, ALWAYS, each).unwrap();
    assert_eq!(shown, rows[..5].iter().map(|row| row.id).collect::<Vec<_>>(), "it ends where it is told to");
}

fn a_window_has_what_was_used_in_it(home: &mut Home) {
    let store = home.open();
    let at = |n: u64| MIDNIGHT + n;
    add(&*store, batch("n", "a", 1, at(HOUR), vec![uses(grant("t1"), 1, at(100), at(200))]));
    let barred = GrantUses {
        grant: grant("t2"),
        refused: vec![refused(None, "x", 1, at(150), at(160))],
        ..GrantUses::default()
    };
    add(&*store, batch("n", "a", 2, at(HOUR), vec![barred]));
    for (since, until, expected) in [
        (0, HOUR, "t1t2"),
        (0, 100, ""),
        (0, 101, "t1"),
        (200, 201, "t1"),
        (201, 300, ""),
        (160, 170, "t1t2"),
        (161, 170, "t1"),
        (0, 150, "t1"),
        (DAY, 2 * DAY, ""),
    ] {
        let rows = grants(&*store, window(at(since), at(until)));
        assert_eq!(tokens(&rows).concat(), expected, "from {since} to {until}");
    }
}

fn a_window_that_begins_and_ends_at_full_hours_is_exact(home: &mut Home) {
    let store = home.open();
    for hour in 0..48 {
        let at = MIDNIGHT + hour * HOUR;
        let seen = vec![seen(SeenKind::Peer, "p", 1 + hour, at, at)];
        let refused = vec![refused(None, "x", 1 + hour, at, at)];
        let uses = GrantUses { seen, refused, other: 1 + hour, ..uses(grant("t1"), 1 + hour, at, at + HOUR - 1) };
        add(&*store, batch("n", "a", hour + 1, at + HOUR - 1, vec![uses]));
    }
    for (since, until) in [(0, 48), (3, 4), (23, 25), (5, 9), (24, 48)] {
        let rows = grants(&*store, window(MIDNIGHT + since * HOUR, MIDNIGHT + until * HOUR));
        let sum = (since + 1..=until).sum::<u64>();
        let row = &rows[0];
        assert_eq!((row.permitted[0].count, row.refused[0].count, row.seen[0].count, row.other), (sum, sum, sum, sum));
        assert_eq!((row.first, row.last), (MIDNIGHT + since * HOUR, MIDNIGHT + until * HOUR - 1));
        assert_eq!((rows.len(), row.permitted.len(), row.refused.len(), row.seen.len()), (1, 1, 1, 1));
    }
}

fn uses_are_found_also_where_their_batch_was_cut_a_day_later(home: &mut Home) {
    let store = home.open();
    let uses = uses(grant("t1"), 1, MIDNIGHT - 5, MIDNIGHT - 5);
    let mut late = batch("n", "a", 1, MIDNIGHT + 2 * DAY, vec![uses]);
    late.batch.records = vec![record("t1", MIDNIGHT - 5)];
    late.batch.since = MIDNIGHT - 5;
    add(&*store, late);
    let before = window(MIDNIGHT - HOUR, MIDNIGHT);
    assert_eq!((tokens(&grants(&*store, before)), records(&*store, 0, before, 9).0), (vec!["t1"], vec!["t1".into()]));
    let found = store.find(FEED, &task("task-of-t1"), None, before, 9).unwrap();
    assert_eq!((found.grants.len(), found.records.len()), (1, 1));
    assert!(grants(&*store, window(MIDNIGHT, MIDNIGHT + 3 * DAY)).is_empty());
}

fn a_grant_that_was_issued_in_the_window_is_there_also_without_uses(home: &mut Home) {
    let store = home.open();
    // Issued an hour before midnight.
    let at = MIDNIGHT + DAY + 9;
    add(&*store, batch("n", "a", 1, at, vec![uses(grant("t1"), 1, at, at)]));
    let rows = grants(&*store, window(MIDNIGHT - HOUR, MIDNIGHT - HOUR + 1_000));
    assert_eq!(tokens(&rows), ["t1"]);
    assert_eq!((rows[0].first, rows[0].last, rows[0].permitted.len()), (0, 0, 0));
    assert!(grants(&*store, window(MIDNIGHT - HOUR + 1, MIDNIGHT)).is_empty());
    assert!(grants(&*store, window(MIDNIGHT - 2 * HOUR, MIDNIGHT - HOUR)).is_empty());
    let found = store.find(FEED, &task("task-of-t1"), None, window(MIDNIGHT - HOUR, MIDNIGHT), 9).unwrap();
    assert_eq!((found.grants.len(), found.grants[0].permitted.len()), (1, 0));
}

fn an_empty_window_has_nothing(home: &mut Home) {
    let store = home.open();
    add(&*store, batch("n", "a", 1, MIDNIGHT + 9, vec![uses(grant("t1"), 1, MIDNIGHT, MIDNIGHT + 8)]));
    for (since, until) in [(MIDNIGHT, MIDNIGHT), (MIDNIGHT + 8, MIDNIGHT), (u64::MAX, u64::MAX), (u64::MAX, 0)] {
        let window = window(since, until);
        assert!(grants(&*store, window).is_empty() && events(&*store, window).is_empty());
        assert!(store.records(FEED, 0, window, 9).unwrap().is_empty() && store.gaps(FEED, window).unwrap().is_empty());
        assert_eq!(store.losses(FEED, window).unwrap(), Default::default());
        assert!(store.find(FEED, &task("task-of-t1"), None, window, 9).unwrap().grants.is_empty());
    }
    assert_eq!(grants(&*store, window(0, u64::MAX)).len(), 1);
}
