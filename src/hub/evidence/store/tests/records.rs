//! Single decisions, page by page.

use super::*;

on_every_engine! {
    long_records_come_in_shorter_pages,
    records_are_read_page_by_page_in_the_order_in_which_they_came,
    a_record_says_where_it_came_from_and_comes_as_it_was_sent,
    positions_go_on_after_the_store_was_opened_again,
}

/// Sends records of the tokens, with the times beside them.
fn send(store: &dyn EvidenceStore, number: u64, until: u64, sent: &[(&str, u64)]) {
    let mut one = batch("n", "a", number, until, Vec::new());
    one.batch.records = sent.iter().map(|(token, at)| record(token, *at)).collect();
    add(store, one);
}

fn records_are_read_page_by_page_in_the_order_in_which_they_came(home: &mut Home) {
    let store = home.open();
    let at = |n: u64| MIDNIGHT + n;
    send(&*store, 1, at(DAY + 50), &[("c", at(DAY + 3)), ("a", at(DAY + 1))]);
    // A batch of the day before that came later.
    send(&*store, 2, at(50), &[("b", at(7)), ("d", at(2))]);
    send(&*store, 3, at(DAY + 60), &[("e", at(DAY + 55))]);
    let (all, last) = records(&*store, 0, ALWAYS, 99);
    assert_eq!(all, ["c", "a", "b", "d", "e"]);
    let mut paged = Vec::new();
    let mut after = 0;
    loop {
        let (page, next) = records(&*store, after, ALWAYS, 2);
        assert!(page.len() <= 2);
        if page.is_empty() {
            break;
        }
        paged.extend(page);
        after = next;
    }
    assert_eq!((paged, after), (all, last));
    assert_eq!(records(&*store, 0, window(at(2), at(7)), 9).0, ["d"]);
    assert_eq!(records(&*store, 0, window(at(7), at(DAY + 3)), 9).0, ["a", "b"]);
    assert!(records(&*store, 0, ALWAYS, 0).0.is_empty() && records(&*store, u64::MAX, ALWAYS, 9).0.is_empty());
    send(&*store, 4, at(70), &[("f", at(65))]);
    assert_eq!(records(&*store, last, ALWAYS, 9).0, ["f"], "what comes later has a later position");
}

fn a_record_says_where_it_came_from_and_comes_as_it_was_sent(home: &mut Home) {
    let store = home.open();
    let mut sent = record("t1", MIDNIGHT + 5);
    sent["path"] = "/orders/18%2081".into();
    sent["ended"] = serde_json::json!({"delay_ms": 12, "lasted_ms": 99_000});
    let timeless = serde_json::json!({"schema": "taskfence.decision/1"});
    let mut one = batch("node-7", "a", 1, MIDNIGHT + 50, Vec::new());
    one.batch.records = vec![sent.clone(), timeless.clone()];
    add(&*store, one);
    let rows = store.records(FEED, 0, ALWAYS, 9).unwrap();
    assert_eq!(
        (rows[0].at, rows[0].grant, rows[0].node.as_str()),
        (MIDNIGHT + 5, GrantId::new(ISSUER, "t1"), "node-7")
    );
    assert_eq!((&rows[0].record, &rows[1].record), (&sent, &timeless));
    assert_eq!(rows[1].at, MIDNIGHT + 50, "without a time it is from when the batch was cut");
    assert_eq!(rows[1].grant, GrantId::new("", ""));
}

fn positions_go_on_after_the_store_was_opened_again(home: &mut Home) {
    home.kept.days = 3;
    let store = home.open();
    send(&*store, 1, MIDNIGHT + 50, &[("a", MIDNIGHT), ("b", MIDNIGHT)]);
    let last = records(&*store, 0, ALWAYS, 9).1;
    drop(store);
    let store = home.open();
    send(&*store, 2, MIDNIGHT + DAY, &[("c", MIDNIGHT + DAY)]);
    let (page, last) = records(&*store, last, ALWAYS, 9);
    assert_eq!(page, ["c"]);
    // Also where all that had positions is gone.
    assert_eq!(store.prune(MIDNIGHT + 10 * DAY), Ok(2));
    drop(store);
    let store = home.open();
    send(&*store, 3, MIDNIGHT + 10 * DAY, &[("d", MIDNIGHT + 10 * DAY)]);
    assert_eq!(records(&*store, last, ALWAYS, 9).0, ["d"]);
}

fn long_records_come_in_shorter_pages(home: &mut Home) {
    let store = home.open();
    // The text of each is short, and its values take much memory.
    let heavy = |n: u64| {
        let mut one = record("t1", MIDNIGHT + n);
        one["masked"] = vec![serde_json::json!({"a": 0}); 1_500].into();
        one
    };
    for number in 1..=4 {
        let mut sent = batch("n", "a", number, MIDNIGHT + 5_000, vec![uses(grant("t1"), 1, MIDNIGHT, MIDNIGHT)]);
        sent.batch.records = (0..20).map(|n| heavy(number * 20 + n)).collect();
        add(&*store, sent);
    }
    let (mut after, mut pages, mut all) = (0, Vec::new(), 0);
    loop {
        let (page, next) = records(&*store, after, ALWAYS, 1_000);
        if page.is_empty() {
            break;
        }
        all += page.len();
        pages.push(page.len());
        after = next;
    }
    assert_eq!(all, 80, "each comes once");
    assert!(pages.len() == 2 && pages[0] > 30, "{pages:?}");
    let found = store.find(FEED, &task("task-of-t1"), None, ALWAYS, 1_000).unwrap();
    assert!(found.cut && found.records.len() == pages[0], "{}", found.records.len());
}
