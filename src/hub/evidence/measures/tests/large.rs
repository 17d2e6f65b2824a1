//! Many grants, from the fixture.

use super::*;
use crate::evidence::fixture::{DAY, Fixture};

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
