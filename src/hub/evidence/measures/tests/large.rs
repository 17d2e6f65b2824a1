//! Many grants, from the fixture.

use super::*;
use crate::evidence::fixture::{DAY, Fixture};
use crate::evidence::measures::look::look;
use crate::evidence::model::Window;
use crate::evidence::store::kept::Kept;
use crate::evidence::store::sqlite::SqliteEvidence;
use std::path::PathBuf;
use std::time::Instant;

#[test]
fn sums_are_those_of_the_fixture() {
    let store = MemoryStore::default();
    let until = NOON / DAY * DAY;
    let fixture = Fixture::before(until, 6_000);
    let filled = fixture.fill(&store).unwrap();
    let report = report_of(&store, fixture.since, until + 2 * DAY);
    let total = &report.total;
    assert_eq!((total.permitted, total.break_glass), (filled.permitted, filled.break_glass));
    let by_kind: u64 = report.by_kind.iter().map(|row| row.grants).sum();
    assert_eq!(by_kind, total.grants);
    assert!(total.grants >= filled.grants && total.grants <= 6_000);
    assert_eq!(report.by_subject.len(), 201);
    assert_eq!(report.by_subject.iter().map(|row| row.permitted).sum::<u64>(), filled.permitted);
    assert!(total.unbounded > 0 && total.shared > 0 && total.with_residual > 0 && total.repeated > 0);
    assert_eq!(report.grants.len(), 100);
    assert!(report.grants.iter().all(|grant| grant.width.unknown.is_none()));
}

/// How long a report takes, and how much memory: `cargo test --release -p taskfence-hub --lib -- --ignored
/// a_report_about_many_grants --nocapture`. `GRANTS`: how many; a million by default. `FOLDER`: where the store is kept
/// from one run to the next.
#[test]
#[ignore = "it measures, and takes minutes"]
fn a_report_about_many_grants() {
    let grants = std::env::var("GRANTS").ok().and_then(|text| text.parse().ok()).unwrap_or(1_000_000);
    let temporary = tempfile::tempdir().unwrap();
    let kept = std::env::var_os("FOLDER").map(PathBuf::from);
    let folder = kept.as_deref().unwrap_or(temporary.path());
    let is_filled = folder.join("index.sqlite").exists();
    let store = SqliteEvidence::open(folder, Kept { days: 3_650, bytes: u64::MAX }).unwrap();
    let until = NOON / DAY * DAY;
    let fixture = Fixture::before(until, grants);
    if !is_filled {
        let begun = Instant::now();
        let filled = fixture.fill(&store).unwrap();
        println!("filled with {filled:?} in {:?}", begun.elapsed());
    }
    let window = Window { since: fixture.since, until: until + 2 * DAY };
    let begun = Instant::now();
    let mut read = 0_u64;
    let before = memory("VmHWM");
    store
        .grants(FEED, window, &mut |_| {
            read += 1;
            true
        })
        .unwrap();
    println!("the store alone: {read} grants in {:?}", begun.elapsed());
    let (begun, resting) = (Instant::now(), memory("VmHWM"));
    let query =
        Query { feed: FEED.to_owned(), since: window.since, until: window.until, limit: 50, ..Query::default() };
    let report = report(&store, &query, &|| true).unwrap().unwrap();
    let took = begun.elapsed();
    println!(
        "the report: {} grants in {took:?}; peak {before} KiB, {resting} KiB, then {} KiB",
        report.total.grants,
        memory("VmHWM")
    );
    let begun = Instant::now();
    let found = look(&store, FEED, until, &|| true).unwrap();
    println!("the look: {found:?} in {:?}", begun.elapsed());
}

/// A line of `/proc/self/status`, in KiB.
fn memory(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    line.split_ascii_whitespace().nth(1).and_then(|number| number.parse().ok()).unwrap_or_default()
}
