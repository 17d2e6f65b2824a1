use super::*;
use crate::evidence::fixture::{Filled, Fixture};
use crate::evidence::store::day::DAY;
use crate::evidence::store::testing::{
    ALWAYS, FEED, Home, MIDNIGHT, add, batch, count, event, events, grant, grants, of_event, record, records, uses,
};
use crate::store::testing::server::{self, Postgres as Server};
use std::sync::Barrier;
use std::thread;

mod sql;

/// 60 batches on three days, all about the same 40 grants.
fn batches() -> Vec<Write> {
    let one = |n: u64| {
        let at = MIDNIGHT + (n % 3) * DAY + n;
        let grants = (0..40).map(|token| uses(grant(&format!("t{token}")), 1 + n, at, at)).collect();
        let mut one = batch("n", &format!("vm-{}", n % 4), n, at, grants);
        one.batch.records = vec![record("t1", at)];
        Write::Batch(Box::new(one))
    };
    (0..60).map(one).collect()
}

#[test]
fn two_hubs_that_get_the_same_batches_count_each_once() {
    let Some(home) = Home::postgres("two_hubs_that_get_the_same_batches_count_each_once") else { return };
    let barrier = Barrier::new(3);
    let hub = |turn: usize| {
        let store = home.open();
        let (mut all, mut stored) = (batches(), 0);
        all.rotate_left(turn);
        if turn % 2 == 1 {
            all.reverse();
        }
        barrier.wait();
        for group in all.chunks(7) {
            let said = of_event(event("1", crate::evidence::model::EventKind::Ended, "task-of-t1", MIDNIGHT));
            let writes: Vec<_> = group.iter().cloned().chain([said]).collect();
            let written = store.write(&writes).unwrap();
            stored += written.iter().filter(|one| **one == Written::Stored).count();
        }
        stored
    };
    let stored: usize = thread::scope(|scope| {
        let hubs: Vec<_> = [0, 13, 31].into_iter().map(|turn| scope.spawn(move || hub(turn))).collect();
        hubs.into_iter().map(|hub| hub.join().unwrap()).sum()
    });
    let store = home.open();
    assert_eq!(stored, 61, "each batch, and the event");
    assert_eq!(count(&*store, ALWAYS), 40 * (1..=60).sum::<u64>());
    assert_eq!(grants(&*store, ALWAYS).len(), 40);
    assert_eq!((records(&*store, 0, ALWAYS, 100).0.len(), events(&*store, ALWAYS).len()), (60, 1));
    let rows = home.run("SELECT vm, first_number, last_number FROM evidence.batches ORDER BY 1, 2");
    // The next number of a VM is on another day.
    assert_eq!(rows.lines().count(), 60, "{rows}");
}

#[test]
fn positions_become_visible_in_order() {
    let Some(home) = Home::postgres("positions_become_visible_in_order") else { return };
    drop(home.open());
    let send = |name: &str| {
        let store = home.open();
        for n in 0..60 {
            let mut one = batch("n", name, n, MIDNIGHT + n, Vec::new());
            one.batch.records = (0..3).map(|_| record(name, MIDNIGHT + n)).collect();
            add(&*store, one);
        }
    };
    let follow = || {
        let (store, mut seen, mut after) = (home.open(), 0, 0);
        while seen < 2 * 60 * 3 {
            let (page, next) = records(&*store, after, ALWAYS, 50);
            (seen, after) = (seen + page.len(), next);
        }
        seen
    };
    thread::scope(|scope| {
        let writers = ["a", "b"].map(|name| scope.spawn(move || send(name)));
        let follower = scope.spawn(follow);
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        assert_eq!(follower.join().unwrap(), 360);
    });
}

#[test]
fn what_was_answered_survives_a_crash_of_the_server() {
    if server::programs().is_none() {
        eprintln!("skipped: what_was_answered_survives_a_crash_of_the_server: PostgreSQL is not installed");
        return;
    }
    let mut server = Server::start();
    // Whatever the server does for others.
    server.configure("synchronous_commit = off\nwal_writer_delay = 10s\n");
    server.reload();
    server.run("postgres", "CREATE DATABASE evidence");
    let home = Home::at(&server.url("evidence"));
    let store = home.open();
    for n in 0..20 {
        let at = MIDNIGHT + n;
        add(&*store, batch("n", "a", n, at, vec![uses(grant("t1"), 1, at, at)]));
    }
    server.kill();
    let late = batch("n", "a", 20, MIDNIGHT + 20, vec![uses(grant("t1"), 1, MIDNIGHT, MIDNIGHT)]);
    let late = [Write::Batch(Box::new(late))];
    // A process of the server may live for a moment longer than the first one.
    let answered = match store.write(&late) {
        Ok(written) => {
            assert_eq!(written, [Written::Stored]);
            21
        }
        Err(error) => {
            assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
            20
        }
    };
    server.resume();
    thread::sleep(std::time::Duration::from_millis(500));
    assert_eq!(count(&*store, ALWAYS), answered, "and the connections are made again");
    assert!(store.write(&late).is_ok());
    assert_eq!(count(&*home.open(), ALWAYS), 21);
}

#[test]
fn a_report_that_goes_on_puts_off_the_removal_of_its_days() {
    let Some(mut home) = Home::postgres("a_report_that_goes_on_puts_off_the_removal_of_its_days") else { return };
    home.kept.days = 1;
    let store = home.open();
    for day in 0..2 {
        let at = MIDNIGHT + day * DAY;
        add(&*store, batch("n", "a", day + 1, at, vec![uses(grant(&format!("t{day}")), 1, at, at)]));
    }
    let (other, mut shown) = (home.open(), 0);
    let each = &mut |_: GrantRow| {
        if shown == 0 {
            let pruned = other.prune(MIDNIGHT + DAY);
            assert!(matches!(pruned, Err(StoreError::Unavailable(_))), "{pruned:?}");
        }
        shown += 1;
        true
    };
    store.grants(FEED, ALWAYS, each).unwrap();
    assert_eq!(shown, 2);
    assert_eq!(other.prune(MIDNIGHT + DAY), Ok(1));
    assert_eq!(grants(&*store, ALWAYS).len(), 1);
    assert_eq!(home.run("SELECT count(*) FROM pg_tables WHERE tablename LIKE '%_day_20241004'"), "0");
}

#[test]
fn evidence_takes_few_connections() {
    let Some(home) = Home::postgres("evidence_takes_few_connections") else { return };
    let store = home.open();
    add(&*store, batch("n", "a", 1, MIDNIGHT, vec![uses(grant("t1"), 1, MIDNIGHT, MIDNIGHT)]));
    let most = thread::scope(|scope| {
        for turn in 0..12 {
            let store = &store;
            scope.spawn(move || {
                for n in 0..20 {
                    let one = batch("n", &format!("vm-{turn}"), n, MIDNIGHT, Vec::new());
                    store.write(&[Write::Batch(Box::new(one))]).unwrap();
                    assert_eq!(count(&**store, ALWAYS), 1);
                }
            });
        }
        let seen = (0..10).map(|_| {
            let text = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                AND application_name = 'taskfence-hub'";
            home.run(text).parse::<usize>().unwrap()
        });
        seen.max().unwrap()
    });
    assert!((1..=SIZE.readers + SIZE.writers).contains(&most), "{most}");
}

#[test]
fn the_database_of_a_newer_hub_and_that_of_another_program_are_refused() {
    let Some(home) = Home::postgres("the_database_of_a_newer_hub_is_refused") else { return };
    let open = || PostgresEvidence::open(&home.postgres.as_ref().unwrap().0, home.kept).map(drop);
    open().unwrap();
    home.run("UPDATE evidence.version SET version = version + 1");
    let known = u32::try_from(schema::EVIDENCE.steps.len()).unwrap();
    assert_eq!(open(), Err(StoreError::Newer { found: known + 1, known }));
    home.run("DROP TABLE evidence.version");
    assert!(matches!(open(), Err(StoreError::Damaged(why)) if why.contains("`evidence`")));
}

#[test]
fn both_engines_say_the_same_about_many_grants() {
    let Some(home) = Home::postgres("both_engines_say_the_same_about_many_grants") else { return };
    let folder = Home::sqlite();
    let (database, files) = (home.open(), folder.open());
    let fixture = Fixture::before(20_007 * DAY, 1_500);
    let filled = fixture.fill(&*database).unwrap();
    assert_eq!(fixture.fill(&*files).unwrap(), filled);
    let all = |store: &dyn EvidenceStore, window| {
        let mut rows = grants(store, window);
        for row in &mut rows {
            row.permitted.sort_by_key(|one| format!("{one:?}"));
            row.refused.sort_by_key(|one| format!("{one:?}"));
            row.seen.sort_by_key(|one| format!("{one:?}"));
        }
        rows
    };
    let rows = all(&*database, ALWAYS);
    let sum = |of: fn(&GrantRow) -> u64| rows.iter().map(of).sum::<u64>();
    let sums = Filled {
        grants: rows.len().try_into().unwrap(),
        permitted: sum(|row| row.other + row.permitted.iter().map(|one| one.count).sum::<u64>()),
        refused: sum(|row| row.refused.iter().map(|one| one.count).sum()),
        break_glass: sum(|row| row.permitted.iter().map(|one| one.break_glass).sum()),
        records: records(&*database, 0, ALWAYS, 10_000).0.len().try_into().unwrap(),
        events: events(&*database, ALWAYS).len().try_into().unwrap(),
        gaps: database.gaps(FEED, ALWAYS).unwrap().len().try_into().unwrap(),
        batches: filled.batches,
    };
    assert_eq!(sums, filled);
    for (since, until) in [(0, 7 * 24), (5, 6), (30, 80)] {
        let hour = |n: u64| fixture.since + n * 3_600_000;
        let window = Window { since: hour(since), until: hour(until) };
        assert_eq!(format!("{:?}", all(&*database, window)), format!("{:?}", all(&*files, window)));
        assert_eq!(events(&*database, window), events(&*files, window));
        assert_eq!(database.losses(FEED, window), files.losses(FEED, window));
    }
    for selector in [
        Selector::Subject(rows[7].info.subject.clone()),
        Selector::Client("support-agent-1".to_owned()),
        Selector::Task(rows[9].info.task.clone().unwrap()),
        Selector::Token(rows[3].info.fingerprint.clone()),
    ] {
        let found = |store: &dyn EvidenceStore| store.find(FEED, &selector, None, ALWAYS, 50).unwrap();
        let (ours, theirs) = (found(&*database), found(&*files));
        let ids = |found: &Found| found.grants.iter().map(|row| row.id).collect::<Vec<_>>();
        assert_eq!((ids(&ours), &ours.events, ours.cut), (ids(&theirs), &theirs.events, theirs.cut), "{selector:?}");
        let times = |found: &Found| found.records.iter().map(|row| row.at).collect::<Vec<_>>();
        assert_eq!(times(&ours), times(&theirs));
        assert!(!ours.grants.is_empty());
    }
}
