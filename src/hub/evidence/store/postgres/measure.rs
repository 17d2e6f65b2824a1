//! Figures of the store on this machine; nothing is asserted about them:
//! `cargo test --release -p taskfence-hub -- --ignored --nocapture --test-threads 1 measure_evidence_postgres`.
//!
//! `TASKFENCE_GRANTS` says how many grants; 1,000,000 by default. The folder of the database is in `TMPDIR`: it must be on a
//! real disk.

use crate::evidence::fixture::Fixture;
use crate::evidence::model::{Selector, Window};
use crate::evidence::store::day::DAY;
use crate::evidence::store::testing::{FEED, Home};
use std::time::Instant;

#[test]
#[ignore = "measures"]
fn measure_evidence_postgres() {
    let Some(home) = Home::postgres("measure_evidence_postgres") else { return };
    let many = std::env::var("TASKFENCE_GRANTS").ok().and_then(|text| text.parse().ok()).unwrap_or(1_000_000);
    let store = home.open();
    let fixture = Fixture::before(20_007 * DAY, many);
    let begin = Instant::now();
    let filled = fixture.fill(&*store).unwrap();
    println!("PostgreSQL: {many} grants written in {:.1?}: {filled:?}", begin.elapsed());
    println!("usage: {:?}", store.usage().unwrap());
    if let Ok(text) = std::env::var("TASKFENCE_SQL") {
        println!("{}", home.run(&text));
    }
    let window = Window { since: fixture.since, until: fixture.until };
    for turn in 0..2 {
        let (begin, mut rows, mut permitted) = (Instant::now(), 0u64, 0u64);
        let each = &mut |row: crate::evidence::model::GrantRow| {
            rows += 1;
            permitted += row.permitted.iter().map(|one| one.count).sum::<u64>();
            true
        };
        store.grants(FEED, window, each).unwrap();
        println!("turn {turn}: {rows} grants with {permitted} requests read in {:.1?}", begin.elapsed());
    }
    let begin = Instant::now();
    let found = store.find(FEED, &Selector::Subject("user-7".to_owned()), None, window, 1_000).unwrap();
    println!("{} grants of one user found in {:.1?}", found.grants.len(), begin.elapsed());
    let begin = Instant::now();
    let mut events = 0u64;
    store
        .events(FEED, window, None, &mut |_| {
            events += 1;
            true
        })
        .unwrap();
    println!("{events} events read in {:.1?}", begin.elapsed());
}
