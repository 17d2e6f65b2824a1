//! Figures of the store on this machine; nothing is asserted about them:
//! `cargo test --release -p taskfence-hub -- --ignored --nocapture --test-threads 1 measure`.
//!
//! The folder of the database is in `TMPDIR`: it must be on a real disk.

use crate::store::Store;
use crate::store::clock::Clock;
use crate::store::model::Change;
use crate::store::room::Room;
use crate::store::testing::{FEED, Home, signal, store};
use crate::store::writer::Writer;
use std::time::{Duration, Instant};
use taskfence_core::time::Timestamp;

const NOW: Timestamp = Timestamp(1_000);

/// As large as a real one: claims of about 600 bytes.
fn change(n: usize) -> Change {
    let mut new = signal("https://idp.example", &format!("set-{n:032x}"), &[(&format!("task-{n}"), 90_000)]);
    new.claims = format!(r#"{{"jti":"{n}","more":"{}"}}"#, "x".repeat(600));
    new.fingerprint = vec![7; 32];
    new.subject = r#"{"format":"complex","task":{"format":"opaque","id":"task-0123456789"}}"#.to_owned();
    Change::Signal(new)
}

#[test]
#[ignore = "measures"]
fn measure_group_commit() {
    for (submitters, seconds) in [(1, 5), (50, 20)] {
        measure("SQLite", &[Home::sqlite()], submitters, seconds);
    }
}

#[test]
#[ignore = "measures"]
fn measure_group_commit_postgres() {
    for (replicas, submitters, seconds) in [(1, 1, 5), (1, 200, 10), (2, 400, 20)] {
        let Some(first) = Home::postgres("measure") else { return };
        let url = first.postgres.as_ref().unwrap().1.clone();
        let homes: Vec<_> = std::iter::once(first).chain((1..replicas).map(|_| Home::at(&url))).collect();
        measure(&format!("PostgreSQL, {replicas} replicas"), &homes, submitters, seconds);
    }
}

/// So many submitters, each with one signal at a time, spread over the replicas in `homes`.
fn measure(what: &str, homes: &[Home], submitters: usize, seconds: u64) {
    let start = |home: &Home| {
        let store = home.store();
        let clock = Clock::with_system(store.as_ref(), || 1_000_000).unwrap();
        Writer::start(store, clock, &[FEED.to_owned()]).unwrap()
    };
    let writers: Vec<_> = homes.iter().map(start).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let begin = Instant::now();
    let end = begin + Duration::from_secs(seconds);
    let submit = |submitter: usize| {
        let writer = writers[submitter % writers.len()].clone();
        runtime.spawn(async move {
            let mut waits = Vec::new();
            while Instant::now() < end {
                let sent = Instant::now();
                writer.submit(change(submitter * 100_000_000 + waits.len())).await.unwrap();
                waits.push(sent.elapsed());
            }
            waits
        })
    };
    let tasks: Vec<_> = (0..submitters).map(submit).collect();
    let mut waits: Vec<_> = tasks.into_iter().flat_map(|task| runtime.block_on(task).unwrap()).collect();
    let took = begin.elapsed();
    waits.sort_unstable();
    let at = |part: usize| waits[(waits.len() - 1) * part / 1000];
    let groups: u64 = writers.iter().map(|writer| writer.counts().groups).sum();
    println!(
        "{what}, {submitters} submitters: {} signals/s, {groups} groups, p50 {:?}, p99 {:?}, p99.9 {:?}, worst {:?}",
        waits.len() * 1_000 / usize::try_from(took.as_millis()).unwrap(),
        at(500),
        at(990),
        at(999),
        at(1000),
    );
}

#[test]
#[ignore = "measures"]
fn measure_full_state() {
    for count in [100_000, 1_000_000usize] {
        let (store, folder) = store();
        let (begin, cpu) = (Instant::now(), cpu_time());
        for first in (0..count).step_by(1_000) {
            store.commit(&(first..first + 1_000).map(change).collect::<Vec<_>>()).unwrap();
        }
        let filled = begin.elapsed();
        let size = std::fs::metadata(folder.path().join("hub.sqlite")).unwrap().len();
        let wal = std::fs::metadata(folder.path().join("hub.sqlite-wal")).unwrap().len();
        println!(
            "{count} entries: filled in {filled:?}, CPU {:?}, {} MB, log {} MB",
            cpu_time() - cpu,
            size / 1_000_000,
            wal / 1_000_000
        );
        for _ in 0..2 {
            let (begin, cpu) = (Instant::now(), cpu_time());
            let (mut entries, mut bytes) = (0usize, 0);
            store
                .full_state(FEED, NOW, &mut |stored| {
                    entries += 1;
                    bytes += stored.entry.bytes.len();
                })
                .unwrap();
            let (took, cpu) = (begin.elapsed(), cpu_time() - cpu);
            println!("{count} entries: full state of {entries}, {} MB in {took:?}, CPU {cpu:?}", bytes / 1_000_000);
        }
        let last = u64::try_from(count - 10_000).unwrap();
        let begin = Instant::now();
        let (tail, _) = store.entries_after(FEED, last, usize::MAX, NOW).unwrap();
        println!("{count} entries: the last {} in {:?}", tail.len(), begin.elapsed());
        let (before, begin) = (memory(), Instant::now());
        let room = Room::load(&store, &[FEED.to_owned()], NOW).unwrap();
        let (took, grown) = (begin.elapsed(), memory().saturating_sub(before));
        println!("{count} entries: mirror of {} loaded in {took:?}, {grown} KiB", room.entries(FEED));
        let begin = Instant::now();
        store.backup(&folder.path().join("copy")).unwrap();
        println!("{count} entries: copied in {:?}", begin.elapsed());
        let begin = Instant::now();
        let removed = store.prune(Timestamp(90_000)).unwrap();
        println!("{count} entries: {removed} pruned in {:?}", begin.elapsed());
    }
}

/// The time that this thread had a CPU: on a machine that others use too, that is what to compare.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(stat.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or_default())
}

/// The resident memory of this process in KiB.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse().unwrap_or_default()
}
