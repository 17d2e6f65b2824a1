//! What is removed.

use super::*;
use crate::evidence::model::Window;

on_every_engine! {
    days_that_are_too_old_go_as_a_whole,
    the_oldest_days_go_while_there_is_more_than_the_quota,
    what_is_older_than_what_is_kept_is_dropped_and_counted,
    what_goes_takes_nothing_else_with_it,
    the_rules_of_configurations_that_no_use_names_go_some_time_later,
}

/// Everything of one kind on a day.
fn fill(store: &dyn EvidenceStore, day: u64) {
    let at = MIDNIGHT + day * DAY + 5;
    let mut one = batch("n", &format!("vm-{day}"), 1, at, vec![uses(grant(&format!("t{day}")), 1, at, at)]);
    one.batch.records = vec![record(&format!("t{day}"), at)];
    one.batch.other_permitted = 1;
    add(store, one);
    let ended = of_event(event(&day.to_string(), EventKind::Ended, "task", at));
    assert_eq!(store.write(&[ended, of_gap("n", &format!("gap-{day}"), at, at)]), Ok(vec![Written::Stored; 2]));
}

fn days_that_are_too_old_go_as_a_whole(home: &mut Home) {
    home.kept.days = 3;
    let store = home.open();
    (0..5).for_each(|day| fill(&*store, day));
    assert_eq!(store.prune(MIDNIGHT + 2 * DAY + DAY - 1), Ok(0), "today and two days before it are kept");
    assert_eq!(store.prune(MIDNIGHT + 4 * DAY), Ok(2));
    assert_eq!(store.prune(MIDNIGHT + 4 * DAY), Ok(0));
    assert_eq!(tokens(&grants(&*store, ALWAYS)), ["t2", "t3", "t4"]);
    assert_eq!(events(&*store, ALWAYS), ["2", "3", "4"]);
    assert_eq!(records(&*store, 0, ALWAYS, 9).0, ["t2", "t3", "t4"]);
    assert_eq!(store.gaps(FEED, ALWAYS).unwrap().len(), 3);
    assert_eq!(store.losses(FEED, ALWAYS).unwrap().other_permitted, 3);
    assert!(store.find(FEED, &task("task-of-t1"), None, ALWAYS, 9).unwrap().grants.is_empty());
    assert_eq!((store.usage().unwrap().first_day, store.usage().unwrap().grants), (20_002, 3));
    drop(store);
    let store = home.open();
    assert_eq!(tokens(&grants(&*store, ALWAYS)), ["t2", "t3", "t4"]);
}

fn the_oldest_days_go_while_there_is_more_than_the_quota(home: &mut Home) {
    home.kept.bytes = 12 * 1024 * 1024;
    let store = home.open();
    for day in 0..10 {
        fill(&*store, day);
        let at = MIDNIGHT + day * DAY + 5;
        let mut large = batch("n", &format!("large-{day}"), 1, at, Vec::new());
        for n in 0..200 {
            let mut one = record("t", at);
            // Of no use to an engine that compresses.
            let parts = (0..300).map(|part| GrantId::new("random", &format!("{day} {n} {part}")).to_string());
            one["path"] = parts.collect::<String>().into();
            large.batch.records.push(one);
        }
        store.write(&[Write::Batch(Box::new(large))]).unwrap();
    }
    store.prune(MIDNIGHT + 9 * DAY + 10).unwrap();
    let usage = store.usage().unwrap();
    assert!(usage.bytes <= home.kept.bytes, "{usage:?}");
    assert!((20_001..=20_009).contains(&usage.first_day), "{usage:?}");
    let rows = grants(&*store, ALWAYS);
    assert!(tokens(&rows).contains(&"t9") && !tokens(&rows).contains(&"t0"), "the oldest goes, the newest stays");
    assert_eq!(store.prune(MIDNIGHT + 9 * DAY + 10), Ok(0));
    // The newest day stays, however large it is.
    home.kept.bytes = 1;
    drop(store);
    let store = home.open();
    store.prune(MIDNIGHT + 9 * DAY + 10).unwrap();
    assert_eq!(tokens(&grants(&*store, ALWAYS)), ["t9"]);
}

fn what_is_older_than_what_is_kept_is_dropped_and_counted(home: &mut Home) {
    home.kept.days = 3;
    let store = home.open();
    (3..6).for_each(|day| fill(&*store, day));
    store.prune(MIDNIGHT + 5 * DAY).unwrap();
    let came = MIDNIGHT + 5 * DAY + 7;
    let late = |vm: &str, day: u64| {
        let at = MIDNIGHT + day * DAY + 5;
        let mut one = batch("n", vm, 1, at, vec![uses(grant(&format!("late-{day}")), 1, at, at)]);
        one.at = came;
        Write::Batch(Box::new(one))
    };
    let old_event = of_event(event("old", EventKind::Ended, "t", MIDNIGHT));
    let old_gap = of_gap("n", "old", MIDNIGHT, MIDNIGHT);
    use Written::{Dropped, Stored};
    let written = store.write(&[late("a", 2), late("b", 3), late("c", 0), old_event, old_gap]);
    assert_eq!(written, Ok(vec![Dropped, Stored, Dropped, Dropped, Dropped]));
    drop(store);
    let store = home.open();
    assert_eq!(write(&*store, late("d", 2)), Dropped, "also after it was opened again");
    assert_eq!(tokens(&grants(&*store, ALWAYS)), ["late-3", "t3", "t4", "t5"]);
    let dropped = |window: Window| store.losses(FEED, window).unwrap().batches_dropped;
    assert_eq!(dropped(window(MIDNIGHT + 5 * DAY, MIDNIGHT + 6 * DAY)), 3, "when they came");
    assert_eq!(dropped(window(0, MIDNIGHT + 5 * DAY)), 0);
    assert_eq!(store.usage().unwrap().first_day, 20_003);
}

fn what_goes_takes_nothing_else_with_it(home: &mut Home) {
    home.kept.days = 2;
    let store = home.open();
    let outline = outline("c0ffee");
    write(&*store, Write::Config { feed: FEED.to_owned(), outline: outline.clone() });
    store.set("copied", "7").unwrap();
    (0..4).for_each(|day| fill(&*store, day));
    assert_eq!(store.prune(MIDNIGHT + 3 * DAY), Ok(2));
    assert_eq!((store.get("copied"), store.configs(FEED)), (Ok(Some("7".to_owned())), Ok(vec![outline])));
    assert_eq!(count(&*store, ALWAYS), 2);
    // The numbers of batches that are kept are known as before.
    let at = MIDNIGHT + 3 * DAY + 5;
    let again = batch("n", "vm-3", 1, at, vec![uses(grant("t3"), 1, at, at)]);
    assert_eq!(write(&*store, Write::Batch(Box::new(again))), Written::Repeated);
}

fn the_rules_of_configurations_that_no_use_names_go_some_time_later(home: &mut Home) {
    home.kept.days = 2;
    let store = home.open();
    let of = |config: &str| Write::Config { feed: FEED.to_owned(), outline: outline(config) };
    assert_eq!(store.write(&[of("c0ffee"), of("unused")]), Ok(vec![Written::Stored; 2]));
    fill(&*store, 0);
    let left = || {
        let mut left: Vec<_> = store.configs(FEED).unwrap().into_iter().map(|outline| outline.config).collect();
        left.sort_unstable();
        left.join(" ")
    };
    store.prune(MIDNIGHT).unwrap();
    assert_eq!(left(), "c0ffee unused", "uses may name it soon");
    store.prune(MIDNIGHT + DAY).unwrap();
    assert_eq!(left(), "c0ffee unused");
    store.prune(MIDNIGHT + 2 * DAY).unwrap();
    assert_eq!(left(), "c0ffee");
    fill(&*store, 3);
    store.prune(MIDNIGHT + 5 * DAY).unwrap();
    store.prune(MIDNIGHT + 7 * DAY).unwrap();
    assert_eq!(left(), "");
}
