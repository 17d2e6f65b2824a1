//! One subject with very many grants: a program that asks for a new one for each step.

use super::*;
use crate::evidence::assemble::assemble;
use crate::evidence::measures::report::{Query, report};
use std::time::Instant;
use taskfence_core::uses::batch::GrantInfo;

on_every_engine! {
    a_subject_with_many_grants_is_cut_and_found_as_one_series,
}

/// Each grant is issued so many milliseconds after the one before it.
const EVERY: u64 = 4_000;

/// A batch has so many grants at the most.
const BATCH: u64 = 8_000;

/// Stores `count` grants of ann, each with a use and a single decision.
fn fill(store: &dyn EvidenceStore, count: u64) {
    for number in 0..count.div_ceil(BATCH) {
        let of_batch = number * BATCH..count.min((number + 1) * BATCH);
        let last = MIDNIGHT + of_batch.end * EVERY;
        let grants = of_batch.clone().map(|n| {
            let at = MIDNIGHT + n * EVERY;
            let info = GrantInfo { issued_at: at / 1_000, expires_at: at / 1_000 + 60, ..grant(&format!("t{n}")) };
            uses(info, 1, at + 1_000, at + 2_000)
        });
        let mut one = batch("n", "a", number + 1, last, grants.collect());
        // As many as a batch may have.
        let recorded = of_batch.step_by(4).map(|n| record(&format!("t{n}"), MIDNIGHT + n * EVERY));
        one.batch.records = recorded.collect();
        add(store, one);
    }
}

/// What is found of ann in all of time, and the report of it, is bounded and complete.
fn check(store: &dyn EvidenceStore, count: u64, limit: usize) {
    let ann = Selector::Subject("ann".to_owned());
    let started = Instant::now();
    let found = store.find(FEED, &ann, None, ALWAYS, limit).unwrap();
    let took = started.elapsed();
    assert!(found.cut, "{} grants", found.grants.len());
    assert_eq!(found.grants.len(), limit);
    assert!((1..=limit).contains(&found.records.len()));
    assert!(found.grants.is_sorted_by(|one, other| one.id < other.id));
    let timeline = assemble(FEED, &ann, found, MIDNIGHT);
    assert!(timeline.cut && timeline.grants.len() == limit && timeline.moments.len() <= 5 * limit);
    println!("the timeline of {count} grants: {took:?}");

    let started = Instant::now();
    let query = Query { feed: FEED.to_owned(), since: MIDNIGHT, until: MIDNIGHT + count * EVERY, ..Query::default() };
    let report = report(store, &query, &|| true).unwrap().unwrap();
    assert_eq!((report.total.grants, report.total.permitted, report.by_subject.len()), (count, count, 1));
    assert_eq!(report.spread.over_time.iter().map(|bar| bar.grants).sum::<u64>(), count);
    let [series] = report.repeats.as_slice() else { panic!("{:?}", report.repeats) };
    assert_eq!((series.grants, series.every, series.routine), (count, 4.0, true));
    assert!(series.irregularity < 1e-9, "{}", series.irregularity);
    assert_eq!(report.total.repeated, count);
    println!("the report of {count} grants: {:?}", started.elapsed());
}

fn a_subject_with_many_grants_is_cut_and_found_as_one_series(home: &mut Home) {
    let store = home.open();
    fill(&*store, 2_000);
    check(&*store, 2_000, 500);
}

fn a_hundred_thousand(home: &Home) {
    let store = home.open();
    fill(&*store, 100_000);
    let before = peak();
    let found = store.find(FEED, &Selector::Subject("ann".to_owned()), None, ALWAYS, 10_000).unwrap();
    let grown = peak().saturating_sub(before);
    assert_eq!((found.grants.len(), found.cut), (10_000, true));
    drop(found);
    println!("the longest timeline takes {} MiB", grown / 1024);
    assert!(grown < 128 * 1024, "{grown} KiB");
    check(&*store, 100_000, 1_000);
}

/// The most memory that this process has had, in KiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
#[ignore = "it measures, and takes minutes"]
fn a_hundred_thousand_grants_of_one_subject_in_files() {
    a_hundred_thousand(&Home::sqlite());
}

#[test]
#[ignore = "it measures, and takes minutes"]
fn a_hundred_thousand_grants_of_one_subject_in_a_database() {
    if let Some(home) = Home::postgres("a_hundred_thousand") {
        a_hundred_thousand(&home);
    }
}
