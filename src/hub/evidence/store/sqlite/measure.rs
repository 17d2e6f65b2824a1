//! Figures of the store on this machine; nothing is asserted about them:
//! `cargo test --release -p taskfence-hub -- --ignored --nocapture --test-threads 1 measure_evidence`.
//!
//! The folder of the files is in `TMPDIR`: it must be on a real disk.

use super::*;
use crate::evidence::store::testing::{ALWAYS, FEED, Home, ISSUER, MIDNIGHT, batch, event, of_event, permitted, seen};
use serde_json::json;
use std::time::{Duration, Instant};
use taskfence_core::uses::batch::{GrantInfo, GrantUses, SeenKind};

/// A grant as an issuer makes it.
fn grant(n: u64) -> GrantInfo {
    GrantInfo {
        issuer: ISSUER.to_owned(),
        token: format!("{:032x}", u128::from(n) * 0x9e37_79b9_7f4a_7c15_f39c_c060),
        fingerprint: format!("{:032x}", u128::from(n) * 0xd1b5_4a32_d192_ed03_9e37_79b9),
        subject: format!("user-{}@example.com", n % 5_000),
        client: Some(format!("agent-{}", n % 50)),
        task: Some(format!("refund-{n:012}")),
        session: Some(format!("sess-{:016x}", n / 3)),
        actors: vec![format!("spiffe://example.com/agent/{}", n % 50)],
        scopes: vec!["orders.read".to_owned(), "orders.refund".to_owned()],
        details: vec![json!({"type": "order", "actions": ["read", "refund"], "identifier": n.to_string()})],
        issued_at: MIDNIGHT / 1_000 + n / 20,
        expires_at: MIDNIGHT / 1_000 + n / 20 + 900,
        ..GrantInfo::default()
    }
}

/// So many uses of it, each with other captures, seen from one peer at one address.
fn uses(n: u64, cells: u64, at: u64) -> GrantUses {
    let cell = |cell: u64| permitted(u32::try_from(cell % 2).unwrap(), &[&format!("{n}-{cell}")], 2, at, at + 900);
    GrantUses {
        grant: grant(n),
        permitted: (0..cells).map(cell).collect(),
        seen: vec![
            seen(SeenKind::Peer, &format!("spiffe://example.com/agent/{}", n % 50), 1, at, at),
            seen(SeenKind::Source, &format!("10.0.{}.{}", n % 200, n % 250), 1, at, at),
        ],
        ..GrantUses::default()
    }
}

#[test]
#[ignore = "measures"]
fn measure_evidence_of_a_million_grants() {
    let home = Home::sqlite();
    let path = home.folder.path().join("evidence");
    let store = SqliteEvidence::open(&path, home.kept).unwrap();
    let (begin, cpu) = (Instant::now(), cpu_time());
    let (all, each) = (1_000_000, 2_000);
    for first in (0..all).step_by(each) {
        let first = u64::try_from(first).unwrap();
        let at = MIDNIGHT + first * 50;
        let batches = (0..20).map(|part| {
            let grants = (first + part * 100..first + part * 100 + 100).map(|n| uses(n, 3, at)).collect();
            Write::Batch(Box::new(batch("node-1", &format!("{part:016x}"), first + 1, at + 1_000, grants)))
        });
        let written = store.write(&batches.collect::<Vec<_>>()).unwrap();
        assert!(written.iter().all(|written| *written == Written::Stored));
    }
    let usage = store.usage().unwrap();
    println!(
        "{all} grants written in {:?}, CPU {:?}, {} MB, {} grants",
        begin.elapsed(),
        cpu_time() - cpu,
        usage.bytes / 1_000_000,
        usage.grants
    );
    for window in [ALWAYS, ALWAYS, Window { since: MIDNIGHT + 3_600_000, until: MIDNIGHT + 7_200_000 }] {
        let (begin, cpu, before) = (Instant::now(), cpu_time(), memory());
        let (mut grants, mut cells, mut most) = (0u64, 0, 0);
        let each = &mut |row: GrantRow| {
            (grants, cells) = (grants + 1, cells + row.permitted.len());
            if grants.is_multiple_of(100_000) {
                most = most.max(memory().saturating_sub(before));
            }
            true
        };
        store.grants(FEED, window, each).unwrap();
        let (took, cpu) = (begin.elapsed(), cpu_time() - cpu);
        println!("{grants} grants with {cells} cells read in {took:?}, CPU {cpu:?}, memory grew by {most} KiB");
    }
    for selector in [
        Selector::Task(format!("refund-{:012}", 777_777)),
        Selector::Token(grant(777_777).token),
        Selector::Subject("user-7@example.com".to_owned()),
        Selector::Client("agent-7".to_owned()),
    ] {
        let begin = Instant::now();
        let found = store.find(FEED, &selector, None, ALWAYS, 1_000).unwrap();
        println!("{selector:?}: {} grants in {:?}, cut: {}", found.grants.len(), begin.elapsed(), found.cut);
    }
}

#[test]
#[ignore = "measures"]
fn measure_evidence_of_a_thousand_batches_a_second() {
    for group in [10, 100, 500] {
        let home = Home::sqlite();
        let store = SqliteEvidence::open(&home.folder.path().join("evidence"), home.kept).unwrap();
        // 10,000 VMs send each 10 s; each has ten grants at a time, which live for a minute.
        let (begin, cpu, seconds) = (Instant::now(), cpu_time(), 60u64);
        let mut made = Duration::ZERO;
        for first in (0..seconds * 1_000).step_by(group) {
            let making = cpu_time();
            let batches = (first..first + u64::try_from(group).unwrap()).map(|n| {
                let (vm, round, at) = (n % 10_000, n / 10_000, MIDNIGHT + n);
                let grants = (0..10).map(|grant| uses((round / 6 * 10_000 + vm) * 10 + grant, 1, at)).collect();
                let (node, vm) = (format!("node-{}", vm / 4), format!("{vm:016x}"));
                Write::Batch(Box::new(batch(&node, &vm, round + 1, at + 1_000, grants)))
            });
            let batches: Vec<_> = batches.collect();
            made += cpu_time() - making;
            store.write(&batches).unwrap();
        }
        let (took, cpu) = (begin.elapsed(), cpu_time() - cpu - made);
        println!(
            "{seconds} s of 1,000 batches a second with 10 cells, {group} in a call: {took:?}, CPU {cpu:?}: {:.0}% of a core",
            cpu.as_secs_f64() * 100.0 / 60.0
        );
    }
}

#[test]
#[ignore = "measures"]
fn measure_evidence_of_events() {
    let home = Home::sqlite();
    let store = SqliteEvidence::open(&home.folder.path().join("evidence"), home.kept).unwrap();
    let (begin, cpu) = (Instant::now(), cpu_time());
    for first in 0..100 {
        let events = (first * 1_000..first * 1_000 + 1_000u64).map(|n| {
            let row = event(
                &format!("set-{n:032x}"),
                crate::evidence::model::EventKind::Ended,
                &format!("task-{n}"),
                MIDNIGHT,
            );
            of_event(row)
        });
        store.write(&events.collect::<Vec<_>>()).unwrap();
    }
    println!("100000 events written in {:?}, CPU {:?}", begin.elapsed(), cpu_time() - cpu);
}

/// The time that this thread had a CPU: on a machine that others use too, that is what to compare.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(stat.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or_default())
}

/// The resident memory of this process in KiB.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse().unwrap_or_default()
}
