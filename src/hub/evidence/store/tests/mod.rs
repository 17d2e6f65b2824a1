//! What every engine does: each of these tests runs on all of them.

use crate::evidence::model::{
    EventKind, EventRow, GrantId, NodeRow, PermittedRow, RefusedRow, SeenRow, Selector, Write, Written,
};
use crate::evidence::store::EvidenceStore;
use crate::evidence::store::day::{DAY, HOUR};
use crate::evidence::store::testing::{
    ALWAYS, FEED, Home, ISSUER, MIDNIGHT, add, batch, count, event, events, grant, grants, of_event, of_gap, permitted,
    record, records, refused, seen, task, token_of, tokens, uses, window, write,
};
use taskfence_core::uses::batch::{GrantUses, RuleRef, SeenKind};

/// Makes a test of each function for each engine. One of PostgreSQL is skipped by name where that is not installed.
macro_rules! on_every_engine {
    ($($name:ident),* $(,)?) => {
        mod sqlite {
            $(#[test] fn $name() { super::$name(&mut crate::evidence::store::testing::Home::sqlite()); })*
        }
        mod postgres {
            $(#[test] fn $name() {
                if let Some(mut home) = crate::evidence::store::testing::Home::postgres(stringify!($name)) {
                    super::$name(&mut home);
                }
            })*
        }
    };
}

mod find;
mod many;
mod prune;
mod records;
mod sums;
mod text;
mod windows;

on_every_engine! {
    a_batch_counts_once,
    a_batch_is_known_by_who_sent_it,
    each_of_many_writes_is_answered_in_its_place,
    events_are_known_by_source_and_id_and_come_in_the_order_of_their_times,
    an_event_that_is_said_again_after_midnight_is_known,
    gaps_are_known_by_vm_and_beginning,
    losses_are_added_up_by_their_window,
    configs_are_kept_once_for_each_feed,
    named_values_are_replaced_and_kept,
    feeds_do_not_see_each_other,
    the_usage_says_what_is_there,
    what_is_ahead_of_the_clock_is_dropped_and_counted,
}

fn one(node: &str, vm: &str, number: u64) -> Write {
    let at = MIDNIGHT + 5_000;
    Write::Batch(Box::new(batch(node, vm, number, at + 1_000, vec![uses(grant("t1"), 2, at, at)])))
}

fn a_batch_counts_once(home: &mut Home) {
    let store = home.open();
    assert_eq!(store.write(&[one("n", "a", 1), one("n", "a", 1)]), Ok(vec![Written::Stored, Written::Repeated]));
    assert_eq!(write(&*store, one("n", "a", 1)), Written::Repeated);
    assert_eq!(count(&*store, ALWAYS), 2);
    let others = [one("n", "a", 2), one("n", "b", 1), one("n", "a", 5), one("n", "a", 4), one("n", "a", 3)];
    assert_eq!(store.write(&others), Ok(vec![Written::Stored; 5]));
    drop(store);
    let store = home.open();
    let all = [1, 2, 3, 4, 5].map(|number| one("n", "a", number));
    assert_eq!(store.write(&all), Ok(vec![Written::Repeated; 5]));
    assert_eq!(write(&*store, one("n", "b", 2)), Written::Stored);
    assert_eq!(count(&*store, ALWAYS), 14);
}

fn a_batch_is_known_by_who_sent_it(home: &mut Home) {
    let store = home.open();
    let of = |principal: &str, node: &str, number: u64| {
        let at = MIDNIGHT + 5_000;
        let mut sent = batch(node, "a", number, at + 1_000, vec![uses(grant("t1"), 2, at, at)]);
        sent.principal = principal.to_owned();
        sent.batch.records = vec![record("t1", at)];
        Write::Batch(Box::new(sent))
    };
    // Who knows the VM and the next number of another one cannot have its batches thrown away.
    let writes = [of("mesh", "n", 1), of("edge", "n", 1), of("edge", "n", 2), of("mesh", "n", 2), of("mesh", "m", 3)];
    assert_eq!(store.write(&writes), Ok(vec![Written::Stored; 5]));
    assert_eq!(store.write(&writes), Ok(vec![Written::Repeated; 5]));
    drop(store);
    let store = home.open();
    assert_eq!(store.write(&writes), Ok(vec![Written::Repeated; 5]));
    assert_eq!(count(&*store, ALWAYS), 10);
    let found = store.find(FEED, &task("task-of-t1"), None, ALWAYS, 10).unwrap();
    let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    let row = |node: &str, principals: &[&str]| NodeRow { node: node.to_owned(), principals: names(principals) };
    assert_eq!(found.nodes, [row("m", &["mesh"]), row("n", &["edge", "mesh"])]);
    let senders: Vec<_> = found.records.into_iter().map(|record| record.principal).collect();
    assert_eq!(senders, names(&["mesh", "edge", "edge", "mesh", "mesh"]));
    let before = store.find(FEED, &task("task-of-t1"), None, window(0, MIDNIGHT), 10).unwrap();
    assert_eq!(before.nodes, []);
}

fn each_of_many_writes_is_answered_in_its_place(home: &mut Home) {
    let store = home.open();
    assert_eq!(store.write(&[]), Ok(Vec::new()));
    let issued = event("1", EventKind::Issued, "refund-1", MIDNIGHT);
    let outline = super::tests::outline("c0ffee");
    let writes = [
        one("n", "a", 1),
        of_event(issued.clone()),
        of_gap("n", "z", MIDNIGHT, MIDNIGHT + 10),
        Write::Config { feed: FEED.to_owned(), outline: outline.clone() },
        one("n", "a", 1),
        // Of another day.
        of_event(EventRow { id: "2".to_owned(), at: MIDNIGHT - DAY, ..issued.clone() }),
        of_event(issued),
        of_gap("n", "z", MIDNIGHT, MIDNIGHT + 10),
        Write::Config { feed: FEED.to_owned(), outline },
    ];
    use Written::{Repeated, Stored};
    let written = vec![Stored, Stored, Stored, Stored, Repeated, Stored, Repeated, Repeated, Repeated];
    assert_eq!(store.write(&writes), Ok(written));
    assert_eq!(store.write(&writes), Ok(vec![Repeated; 9]));
}

fn events_are_known_by_source_and_id_and_come_in_the_order_of_their_times(home: &mut Home) {
    let store = home.open();
    let at = |id: &str, at: u64| event(id, EventKind::Approved, "refund-1", at);
    let full = EventRow {
        session: Some("s".to_owned()),
        subject: Some("ann".to_owned()),
        client: Some("agent".to_owned()),
        token: Some("t1".to_owned()),
        task_kind: Some("refund".to_owned()),
        by: Some("bob".to_owned()),
        reason: Some("INC-7".to_owned()),
        data: serde_json::json!({"scope": "orders.refund", "authorization_details": [{"type": "order"}]}),
        ..at("full", MIDNIGHT + 2 * DAY)
    };
    let unnamed = EventRow { kind: None, task: None, data: serde_json::Value::Null, ..at("bare", MIDNIGHT + 4_000) };
    let other_source = EventRow { source: "other".to_owned(), ..at("c", MIDNIGHT + 7_000) };
    let all = [full.clone(), at("c", MIDNIGHT + 3_000), at("a", MIDNIGHT + 1), unnamed.clone(), other_source];
    assert_eq!(store.write(&all.map(of_event)), Ok(vec![Written::Stored; 5]));
    let changed = EventRow { reason: Some("another".to_owned()), ..at("a", MIDNIGHT + 1) };
    assert_eq!(write(&*store, of_event(changed)), Written::Repeated);
    assert_eq!(events(&*store, ALWAYS), ["a", "c", "bare", "c", "full"]);
    assert_eq!(events(&*store, window(MIDNIGHT + 1, MIDNIGHT + 4_000)), ["a", "c"]);
    let mut rows = Vec::new();
    let each = &mut |row| {
        rows.push(row);
        true
    };
    store.events(FEED, ALWAYS, None, each).unwrap();
    assert_eq!((&rows[4], &rows[2]), (&full, &unnamed), "they come as they were written");
    assert_eq!(rows[0].reason, None, "the first one stays");
    let mut approved = Vec::new();
    let each = &mut |row: EventRow| {
        approved.push(row.id);
        true
    };
    store.events(FEED, ALWAYS, Some(EventKind::Approved), each).unwrap();
    assert_eq!(approved, ["a", "c", "c", "full"], "all but that without a kind");
    let mut shown = 0;
    let each = &mut |_| {
        shown += 1;
        shown < 2
    };
    store.events(FEED, ALWAYS, None, each).unwrap();
    assert_eq!(shown, 2, "it ends where it is told to");
}

fn an_event_that_is_said_again_after_midnight_is_known(home: &mut Home) {
    let store = home.open();
    let at = |at: u64| of_event(event("1", EventKind::Issued, "refund-1", at));
    assert_eq!(write(&*store, at(MIDNIGHT - 1)), Written::Stored);
    assert_eq!(write(&*store, at(MIDNIGHT + 1)), Written::Repeated);
    assert_eq!(store.write(&[at(MIDNIGHT - DAY - 5), at(MIDNIGHT - 5)]), Ok(vec![Written::Repeated; 2]));
    let mut one = event("2", EventKind::Issued, "refund-2", MIDNIGHT + 1);
    let first = of_event(one.clone());
    one.at = MIDNIGHT - 1;
    let both = store.write(&[first, of_event(one)]);
    assert_eq!(both, Ok(vec![Written::Stored, Written::Repeated]), "also within one call");
    assert_eq!(events(&*store, ALWAYS), ["1", "2"]);
}

fn gaps_are_known_by_vm_and_beginning(home: &mut Home) {
    let store = home.open();
    let gap = |vm: &str, since: u64, until: u64| of_gap("node", vm, MIDNIGHT + since, MIDNIGHT + until);
    assert_eq!(write(&*store, gap("b", 500, 1_000)), Written::Stored);
    assert_eq!(write(&*store, gap("b", 500, 1_000)), Written::Repeated);
    assert_eq!(write(&*store, gap("b", 2_000, 3_000)), Written::Stored, "a proxy may go away again");
    assert_eq!(write(&*store, gap("a", 0, 100)), Written::Stored);
    let found = |since: u64, until: u64| {
        let gaps = store.gaps(FEED, window(MIDNIGHT + since, MIDNIGHT + until)).unwrap();
        gaps.iter().map(|gap| (gap.vm.clone(), gap.since - MIDNIGHT)).collect::<Vec<_>>()
    };
    let (a, b, c) = (("a".to_owned(), 0), ("b".to_owned(), 500), ("b".to_owned(), 2_000));
    assert_eq!(found(0, 9_000), [a.clone(), b.clone(), c.clone()], "in the order of their beginnings");
    assert_eq!((found(100, 500), found(101, 500), found(1_000, 2_000)), (vec![a], vec![], vec![b.clone()]));
    assert_eq!((found(600, 700), found(1_001, 2_000), found(3_000, 9_000)), (vec![b], vec![], vec![c]));
    // One that lasted for days is found in each of them.
    assert_eq!(write(&*store, gap("long", 10 * DAY, 14 * DAY + 5)), Written::Stored);
    assert_eq!(found(12 * DAY, 13 * DAY), [("long".to_owned(), 10 * DAY)]);
    assert_eq!(store.gaps(FEED, ALWAYS).unwrap()[0].node, "node");
}

fn losses_are_added_up_by_their_window(home: &mut Home) {
    let store = home.open();
    for (vm, number, until) in [("a", 1, MIDNIGHT + 10), ("a", 2, MIDNIGHT + 20), ("b", 1, MIDNIGHT + 3 * HOUR)] {
        let mut one = batch("n", vm, number, until, Vec::new());
        one.batch.other_permitted = 5;
        one.batch.other_refused = 7;
        one.batch.records_dropped = 11;
        add(&*store, one);
    }
    let lost = |since, until| {
        let losses = store.losses(FEED, window(since, until)).unwrap();
        (losses.other_permitted, losses.other_refused, losses.records_dropped, losses.batches_dropped)
    };
    assert_eq!(lost(0, MIDNIGHT + DAY), (15, 21, 33, 0));
    assert_eq!(lost(MIDNIGHT, MIDNIGHT + HOUR), (10, 14, 22, 0));
    assert_eq!(lost(MIDNIGHT + 2 * HOUR, MIDNIGHT + 4 * HOUR), (5, 7, 11, 0));
    assert_eq!(lost(MIDNIGHT + DAY, MIDNIGHT + 2 * DAY), (0, 0, 0, 0));
    assert_eq!(store.losses("other", ALWAYS).unwrap(), Default::default());
}

/// The rules of a configuration.
fn outline(config: &str) -> taskfence_core::uses::outline::Outline {
    let rules = serde_json::json!([
        {"name": "read", "effect": "require", "methods": ["GET"], "path": "/orders/{order}", "captures": ["order"],
         "detail": {"type": "order", "action": "read", "identifier": "{order}"}},
        {"name": "write", "effect": "require", "scopes": ["orders.write"], "shadow": true},
    ]);
    serde_json::from_value(serde_json::json!({"config": config, "rules": rules})).unwrap()
}

fn configs_are_kept_once_for_each_feed(home: &mut Home) {
    let store = home.open();
    let of = |feed: &str, config: &str| Write::Config { feed: feed.to_owned(), outline: outline(config) };
    assert_eq!(store.write(&[of(FEED, "a"), of(FEED, "b"), of("other", "a")]), Ok(vec![Written::Stored; 3]));
    assert_eq!(write(&*store, of(FEED, "a")), Written::Repeated);
    drop(store);
    let store = home.open();
    let mut configs = store.configs(FEED).unwrap();
    configs.sort_by(|a, b| a.config.cmp(&b.config));
    assert_eq!(configs, [outline("a"), outline("b")]);
    assert_eq!(store.configs("other").unwrap(), [outline("a")]);
    assert_eq!(store.configs("none").unwrap(), []);
}

fn named_values_are_replaced_and_kept(home: &mut Home) {
    let store = home.open();
    assert_eq!(store.get("copied/main"), Ok(None));
    store.set("copied/main", "7").unwrap();
    store.set("copied/main", "9").unwrap();
    store.set("copied/other", "").unwrap();
    drop(store);
    let store = home.open();
    assert_eq!(store.get("copied/main"), Ok(Some("9".to_owned())));
    assert_eq!((store.get("copied/other"), store.get("copied")), (Ok(Some(String::new())), Ok(None)));
}

fn feeds_do_not_see_each_other(home: &mut Home) {
    let store = home.open();
    let at = MIDNIGHT + 5_000;
    let mut theirs = batch("n", "a", 1, at, vec![uses(grant("theirs"), 1, at, at), uses(grant("both"), 10, at, at)]);
    theirs.feed = "other".to_owned();
    theirs.batch.records = vec![record("theirs", at)];
    let mut ours = batch("n", "a", 1, at, vec![uses(grant("ours"), 1, at, at), uses(grant("both"), 100, at, at)]);
    ours.batch.records = vec![record("ours", at)];
    add(&*store, theirs);
    add(&*store, ours);
    let mut gone = of_gap("n", "g", at, at);
    if let Write::Gap { feed, .. } = &mut gone {
        *feed = "other".to_owned();
    }
    let ended = event("1", EventKind::Ended, "task-of-both", at);
    let theirs = of_event(EventRow { feed: "other".to_owned(), ..ended.clone() });
    assert_eq!(store.write(&[gone, theirs, of_event(ended)]), Ok(vec![Written::Stored; 3]));
    assert_eq!(tokens(&grants(&*store, ALWAYS)), ["both", "ours"]);
    assert_eq!(count(&*store, ALWAYS), 101);
    assert_eq!(events(&*store, ALWAYS), ["1"]);
    assert_eq!(records(&*store, 0, ALWAYS, 9).0, ["ours"]);
    assert_eq!(store.gaps(FEED, ALWAYS).unwrap(), []);
    let found = store.find(FEED, &task("task-of-both"), None, ALWAYS, 9).unwrap();
    assert_eq!((found.grants.len(), found.grants[0].permitted[0].count, found.events.len()), (1, 100, 1));
    let found = store.find(FEED, &task("task-of-theirs"), None, ALWAYS, 9).unwrap();
    assert!(found.grants.is_empty() && found.records.is_empty() && found.events.is_empty() && !found.cut);
    let mut nothing = |_| panic!("a feed that has nothing");
    store.grants("none", ALWAYS, &mut nothing).unwrap();
}

fn the_usage_says_what_is_there(home: &mut Home) {
    let store = home.open();
    let empty = store.usage().unwrap();
    assert_eq!((empty.first_day, empty.grants), (0, 0));
    for day in [3, 1, 2] {
        let at = MIDNIGHT + day * DAY + 5;
        let mut many: Vec<_> = (0..400).map(|n| uses(grant(&format!("{day}-{n}")), 1, at, at)).collect();
        many.push(uses(grant("everywhere"), 1, at, at));
        add(&*store, batch("n", &format!("vm-{day}"), 1, at, many));
    }
    let usage = store.usage().unwrap();
    assert_eq!((usage.first_day, usage.grants), (20_001, 1_203));
    assert!(usage.bytes > empty.bytes + 100_000, "{usage:?}");
}

fn what_is_ahead_of_the_clock_is_dropped_and_counted(home: &mut Home) {
    let store = home.open();
    let mut early = batch("n", "a", 1, MIDNIGHT + DAY + 9, vec![uses(grant("t1"), 1, MIDNIGHT + DAY, MIDNIGHT + DAY)]);
    early.at = MIDNIGHT;
    assert_eq!(write(&*store, Write::Batch(Box::new(early.clone()))), Written::Dropped);
    let one = EventRow { heard_at: MIDNIGHT, ..event("1", EventKind::Ended, "t", MIDNIGHT + DAY + 9) };
    assert_eq!(write(&*store, of_event(one.clone())), Written::Dropped);
    assert_eq!((count(&*store, ALWAYS), events(&*store, ALWAYS).len()), (0, 0));
    assert_eq!(store.losses(FEED, window(MIDNIGHT, MIDNIGHT + HOUR)).unwrap().batches_dropped, 1);
    early.at = 0;
    assert_eq!(write(&*store, Write::Batch(Box::new(early))), Written::Stored, "nobody said what time it was");
    let one = EventRow { at: MIDNIGHT + DAY - 1, ..one };
    assert_eq!(write(&*store, of_event(one)), Written::Stored, "a clock may be wrong by some hours");
}
