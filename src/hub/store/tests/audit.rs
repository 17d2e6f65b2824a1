//! How long the audit log is kept.

use super::*;
use crate::store::retention::{BYTES, Retention};

on_every_engine! {
    the_audit_log_is_kept_for_a_time_and_what_is_in_force_longer,
    the_audit_log_is_bounded_and_the_oldest_lines_go_first,
}

const DAY: u64 = 86_400;

fn line(at: u64, detail: &str) -> Audit {
    let call = "POST /v1/feeds/main/stops".to_owned();
    Audit { at: at * 1_000, by: "ann".to_owned(), call, status: 200, detail: detail.to_owned() }
}

fn left(store: &dyn Store) -> Vec<u64> {
    store.audits(None, 10_000).unwrap().into_iter().map(|(_, line)| line.at / 1_000 / DAY).rev().collect()
}

fn the_audit_log_is_kept_for_a_time_and_what_is_in_force_longer(home: &mut Home) {
    home.audit = Retention { age: Span(10 * DAY), bytes: u64::MAX };
    let store = home.store();
    commit(&*store, Change::Signal(signal("idp", "1", &[("a", 40 * DAY)])));
    for day in 1..=15 {
        let detail = if day == 3 { r#"{"signal":1}"# } else { r#"{"signal":2}"# };
        store.audit(&[line(day * DAY, detail)]).unwrap();
    }
    store.prune(Timestamp(10 * DAY)).unwrap();
    assert_eq!(left(&*store).len(), 15);
    store.prune(Timestamp(15 * DAY)).unwrap();
    assert_eq!(left(&*store), [3, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
    store.prune(Timestamp(40 * DAY)).unwrap();
    assert_eq!(left(&*store), [0; 0], "the signal has ended");
}

fn the_audit_log_is_bounded_and_the_oldest_lines_go_first(home: &mut Home) {
    home.audit = Retention { age: Span(400 * DAY), bytes: 300_000 };
    let store = home.store();
    commit(&*store, Change::Signal(signal("idp", "1", &[("a", 40 * DAY)])));
    let note = format!(r#"{{"reason":"{}"}}"#, "x".repeat(400));
    store.audit(&[line(1, r#"{"signal":1}"#)]).unwrap();
    for at in 2..=2_000 {
        store.audit(&[line(at * DAY / 1_000, &note)]).unwrap();
    }
    store.prune(Timestamp(2 * DAY)).unwrap();
    let lines = store.audits(None, 10_000).unwrap();
    let bytes = |line: &Audit| line.by.len() + line.call.len() + line.detail.len() + 40;
    let sum: usize = lines.iter().map(|(_, line)| bytes(line)).sum();
    assert!((299_000..=300_000).contains(&sum), "{sum}");
    assert_eq!((lines[0].0, lines.last().unwrap().0), (2_000, 1), "the newest, and the one in force");
    let second = usize::try_from(lines[lines.len() - 2].0).unwrap();
    assert_eq!(second + lines.len() - 2, 2_000, "without a gap between");
    let counted: usize = store.get(BYTES).unwrap().unwrap().parse().unwrap();
    assert_eq!(counted, sum);
}
