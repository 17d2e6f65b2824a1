//! Who held what in a window, the gauges, and work that is broken off.

use super::*;
use crate::evidence::measures::alive::alive;
use crate::evidence::measures::look::{Look, look};
use crate::evidence::model::Window;
use std::cell::Cell;

const TWO_HOURS: u64 = 2 * HOUR;

/// A two-hour elevation from 12:00 to 14:00 that was used at 12:30 only, and a grant that nobody used.
fn elevation() -> MemoryStore {
    let store = store(rules());
    let elevation = GrantInfo { expires_at: NOON / 1_000 + 7_200, ..grant("elevation", NOON, &["ops"], json!([])) };
    let used = (NOON + 30 * MINUTE, NOON + 30 * MINUTE);
    let uses =
        GrantUses { grant: elevation, permitted: vec![permitted(3, "GET", "", 4, used)], ..GrantUses::default() };
    batch(&store, 1, NOON + 30 * MINUTE, vec![uses], Vec::new());
    let unused = grant("unused", NOON + HOUR, &["ops"], json!([]));
    let data = json!({"scope": "ops other", "expires_at": unused.expires_at});
    write(&store, Write::Event(Box::new(EventRow { data, ..event(EventKind::Issued, NOON + HOUR, &unused) })));
    let ended = event(EventKind::Ended, NOON + HOUR + 5 * MINUTE, &unused);
    write(&store, Write::Event(Box::new(ended)));
    store
}

fn alive_between(since: u64, until: u64) -> Vec<(String, u64, u64, String, u64, bool)> {
    let found = alive(&elevation(), FEED, Window { since, until }, TWO_HOURS, 10, &|| true).unwrap().unwrap();
    let minutes = |at: u64| (at - NOON) / MINUTE;
    let row = |one: crate::evidence::report::AliveGrant| {
        (one.token, minutes(one.from), minutes(one.to), one.ended_by, one.permitted, one.seen)
    };
    found.grants.into_iter().map(row).collect()
}

#[test]
fn an_elevation_is_alive_in_hours_in_which_nothing_was_used() {
    let elevation = |permitted| ("elevation".to_owned(), 0, 120, "expired".to_owned(), permitted, true);
    let unused = || ("unused".to_owned(), 60, 65, "ended".to_owned(), 0, false);
    assert_eq!(alive_between(NOON + 10 * MINUTE, NOON + 40 * MINUTE), [elevation(4)]);
    assert_eq!(alive_between(NOON + 50 * MINUTE, NOON + 70 * MINUTE), [elevation(0), unused()]);
    assert_eq!(alive_between(NOON + 65 * MINUTE, NOON + 70 * MINUTE), [elevation(0)]);
    assert_eq!(alive_between(NOON + TWO_HOURS, NOON + 3 * HOUR), []);
    assert_eq!(alive_between(NOON - HOUR, NOON), []);
}

#[test]
fn more_than_the_limit_is_cut_by_time() {
    let window = Window { since: NOON, until: NOON + 3 * HOUR };
    let found = alive(&elevation(), FEED, window, TWO_HOURS, 1, &|| true).unwrap().unwrap();
    assert!(found.cut);
    assert_eq!(found.grants.len(), 1);
    assert_eq!(found.grants[0].token, "elevation");
}

#[test]
fn the_gauges_look_at_the_last_hours() {
    let store = store(rules());
    let now = NOON + 10 * HOUR;
    let mut grants = Vec::new();
    for (number, hours) in [9_u64, 8, 7, 6, 5].into_iter().enumerate() {
        let at = now - hours * HOUR;
        let list = json!([{"type": "order", "actions": ["list"]}]);
        let info =
            GrantInfo { task: Some("routine".to_owned()), ..grant(&format!("R{number}"), at, &["orders"], list) };
        let used = vec![permitted(2, "GET", "", 1, (at, at))];
        grants.push(GrantUses { grant: info, permitted: used, ..GrantUses::default() });
    }
    let at = now - 30 * MINUTE;
    let late =
        GrantInfo { subject: "bob".to_owned(), ..grant("late", at, &["orders"], json!([order(&["read"], "1")])) };
    let after = at + 6 * MINUTE;
    grants.push(GrantUses {
        grant: late.clone(),
        permitted: vec![permitted(0, "GET", "1", 1, (after, after))],
        refused: vec![refused("task_completed", 4, (after + 1_000, after + 2_000))],
        seen: vec![seen(SeenKind::Key, "k1", at), seen(SeenKind::Key, "k2", after)],
        ..GrantUses::default()
    });
    batch(&store, 1, now - 1, grants, Vec::new());
    write(&store, Write::Event(Box::new(event(EventKind::Ended, at + 5 * MINUTE, &late))));
    let expected =
        Look { grants: 6, unbounded: 5, shared: 1, routine_repeats: 1, residual_seconds: 60.0, attempts_after_end: 4 };
    assert_eq!(look(&store, FEED, now, &|| true).unwrap(), Some(expected));
    let later = look(&store, FEED, now + 2 * HOUR, &|| true).unwrap().unwrap();
    assert_eq!((later.residual_seconds, later.attempts_after_end, later.routine_repeats), (0.0, 0, 1));
}

#[test]
fn the_gauges_show_a_grant_for_as_long_as_it_is_used_after_its_end() {
    let store = store(rules());
    let ended = NOON + 10 * MINUTE;
    let info = GrantInfo { expires_at: (NOON + 12 * HOUR) / 1_000, ..grant("late", NOON, &["orders"], json!([])) };
    let used = |at| permitted(0, "GET", "1", 2, (at, at));
    for (number, hour) in [0, 1, 2, 3, 4].into_iter().enumerate() {
        let at = NOON + hour * HOUR + MINUTE;
        let uses = GrantUses { grant: info.clone(), permitted: vec![used(at)], ..GrantUses::default() };
        batch(&store, u64::try_from(number).unwrap() + 1, at + 1, vec![uses], Vec::new());
    }
    write(&store, Write::Event(Box::new(event(EventKind::Ended, ended, &info))));
    let residual = |now| look(&store, FEED, now, &|| true).unwrap().unwrap().residual_seconds;
    assert_eq!(residual(NOON + 4 * HOUR + 2 * MINUTE), 4.0 * 3_600.0 - 9.0 * 60.0);
    assert_eq!(residual(NOON + 5 * HOUR + 2 * MINUTE), 0.0, "it is not used any more");
}

#[test]
fn work_stops_when_it_is_told_to() {
    let store = elevation();
    let query = Query { feed: FEED.to_owned(), since: NOON, until: NOON + TWO_HOURS, ..Query::default() };
    for steps in 0..3 {
        let left = Cell::new(steps);
        let go_on = || {
            left.set(left.get() - 1);
            left.get() >= 0
        };
        assert_eq!(report(&store, &query, &go_on).unwrap(), None, "{steps}");
    }
    let window = Window { since: NOON, until: NOON + HOUR };
    assert_eq!(alive(&store, FEED, window, TWO_HOURS, 9, &|| false).unwrap(), None);
    assert_eq!(look(&store, FEED, NOON + HOUR, &|| false).unwrap(), None);
}
