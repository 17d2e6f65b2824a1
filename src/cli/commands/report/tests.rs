//! The report as it is printed.

use super::*;
use crate::terminal::console::Capture;
use crate::tests::snapshot;
use serde_json::json;
use taskfence_hub::evidence::model::{GapRow, Losses};
use taskfence_hub::evidence::report::{
    AliveGrant, Comparison, GrantMeasures, Repeat, Residual, RoleWidth, Sharing, Width,
};

/// 2026-09-21T14:13:20Z, in milliseconds.
const START: u64 = 1_790_000_000_000;

fn sum(name: &str, grants: u64) -> Rollup {
    Rollup {
        name: name.to_owned(),
        grants,
        unused: 2,
        permitted: grants * 25,
        refused: 7,
        unbounded: 1,
        unknown: 1,
        used_share: Some(0.25),
        allowed_cells: 80,
        used_cells: 20,
        repeated: 4,
        with_residual: 1,
        residual_median: Some(0.0),
        residual_longest: Some(4.25),
        attempts_after_end: 6,
        shared: 1,
        lifetime_median: Some(300.0),
        in_use_median: Some(42.0),
        ..Rollup::default()
    }
}

fn grant(token: &str) -> GrantMeasures {
    GrantMeasures {
        id: "00112233445566778899aabbccddeeff".to_owned(),
        issuer: "https://jit.example".to_owned(),
        token: token.to_owned(),
        subject: "alice".to_owned(),
        client: Some("agent-a7".to_owned()),
        task: Some("task-42".to_owned()),
        kind: "refund".to_owned(),
        issued_at: START,
        expires_at: START + 300_000,
        first: START + 10_000,
        last: START + 52_000,
        permitted: 5,
        refused: 7,
        ..GrantMeasures::default()
    }
}

fn role(name: &str) -> RoleWidth {
    RoleWidth {
        name: name.to_owned(),
        subjects: vec!["alice".to_owned()],
        seconds: 604_800.0,
        grants: 41,
        grant_seconds: 12_300.0,
        grant_cells: Some(4),
        ..RoleWidth::default()
    }
}

fn report() -> Answer {
    let mut wide = grant("t-1");
    wide.break_glass = 1;
    wide.repeated = true;
    wide.width = Width {
        used_cells: 2,
        unused_scopes: vec!["orders.write".to_owned()],
        narrower_scopes: vec!["refund".to_owned()],
        narrower_details: vec![json!({"type": "order", "actions": ["refund"], "identifier": "1881"})],
        narrower_rules: vec![json!({"name": "refund", "match": {"methods": ["POST"], "path": "/v1/refunds/1881"}})],
        notes: vec!["`when` of the rule asks for more".to_owned()],
        ..Width::default()
    };
    wide.residual = Some(Residual {
        ended_at: START + 50_000,
        ended_by: "signal_ended".to_owned(),
        seconds: 2.0,
        permitted_after: 1,
        attempts_after: 6,
        streams_ended: 1,
    });
    wide.sharing = Sharing {
        peers: vec!["spiffe://mesh/a".to_owned(), "spiffe://mesh/b".to_owned()],
        shared: true,
        ..Sharing::default()
    };
    let mut evil = grant("=1+1");
    evil.subject = "mallory\u{1b}[31m,\"x\"".to_owned();
    evil.width.narrower_details = vec![json!({"type": "order", "identifier": "e\u{301}\u{202e}"})];
    evil.width.unknown = Some("the rules of a configuration did not come".to_owned());
    let mut narrow = grant("t-3");
    narrow.width = Width {
        allowed_cells: Some(4),
        used_cells: 4,
        unused_scopes: vec!["ops".to_owned()],
        narrower_scopes: vec!["refund".to_owned()],
        ..Width::default()
    };
    Answer {
        hub: "hub-1".to_owned(),
        feed: "main".to_owned(),
        since: START,
        until: START + 604_800_000,
        total: Rollup { break_glass: 1, ..sum("", 42) },
        by_kind: vec![sum("refund", 40), Rollup { used_share: None, ..sum("", 2) }],
        by_client: vec![sum("agent-a7", 42)],
        by_subject: vec![sum("alice", 41), sum("mallory\n", 1)],
        grants: vec![wide, evil, narrow],
        repeats: vec![Repeat {
            subject: "alice".to_owned(),
            client: Some("agent-a7".to_owned()),
            kind: "refund".to_owned(),
            shape: "refund order:refund".to_owned(),
            grants: 40,
            every: 3600.0,
            irregularity: 0.031,
            routine: true,
            broad: true,
        }],
        kept_since: Some(START + 3_600_000),
        gaps: vec![GapRow { node: "envoy-2".to_owned(), vm: "ab".to_owned(), since: START, until: START + 10_000 }],
        losses: Losses { other_permitted: 1, batches_dropped: 2, ..Losses::default() },
        comparison: Some(Comparison {
            roles: vec![
                role("refund-agent"),
                RoleWidth { allowed_cells: Some(3), unknown_grants: 2, ..role("some-unknown") },
                RoleWidth {
                    unknown: Some("no proxy has told its rules".to_owned()),
                    grant_cells: Some(0),
                    unknown_grants: 41,
                    ..role("all-unknown")
                },
            ],
        }),
        ..Answer::default()
    }
}

fn printed(print: impl FnOnce(&mut Vec<u8>) -> std::io::Result<()>) -> String {
    let mut out = Vec::new();
    print(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn a_report_to_read() {
    let mut page = String::new();
    for by in [By::Kind, By::Client, By::Subject] {
        let text = printed(|out| human::print(&report(), by, out));
        // What comes after the sums does not depend on them.
        let shown = if by == By::Kind { text.as_str() } else { text.split("\ngrants that stand out").next().unwrap() };
        page.push_str(&format!("### by {}\n{shown}\n", by.as_str()));
    }
    let (grants, total) = (Vec::new(), Rollup::default());
    let empty = Answer { grants, total, ..report() };
    page.push_str(&format!("### nothing\n{}", printed(|out| human::print(&empty, By::Kind, out))));
    snapshot::check("report-human", &page);
}

#[test]
fn a_report_as_csv() {
    let mut page = String::new();
    for by in [None, Some(By::Subject)] {
        page.push_str(&format!("### {by:?}\n{}", printed(|out| csv::print(&report(), by, out)).replace('\r', "")));
    }
    snapshot::check("report-csv", &page);
}

#[test]
fn who_held_what() {
    let held = |token: &str, seen: bool| AliveGrant {
        issuer: "https://jit.example".to_owned(),
        token: token.to_owned(),
        subject: "alice".to_owned(),
        client: Some("agent-a7".to_owned()),
        task: Some("task-42".to_owned()),
        scopes: vec!["refund".to_owned()],
        details: vec![json!({"type": "order", "identifier": "1881"})],
        from: START,
        to: START + 7_200_000,
        ended_by: if seen { "signal_ended" } else { "expired" }.to_owned(),
        permitted: if seen { 5 } else { 0 },
        seen,
    };
    let (since, until) = (START + 1000, START + 9_000_000);
    let grants = vec![held("t-1", true), held("t-2", false)];
    let found = Alive { feed: "main".to_owned(), since, until, grants, cut: true };
    let none = Alive { grants: Vec::new(), cut: false, ..found.clone() };
    let mut page = printed(|out| alive::print(&found, out));
    page.push_str(&format!("### nothing\n{}", printed(|out| alive::print(&none, out))));
    page.push_str(&format!("### CSV\n{}", printed(|out| csv::alive(&found, out)).replace('\r', "")));
    snapshot::check("report-alive", &page);
}

#[test]
fn mistakes() {
    let mut page = String::new();
    for args in [
        &["--since", "yesterday"][..],
        &["--since", "7"],
        &["--until", "2026-09-01"],
        &["--since", "-5d", "--until", "-6d"],
        &["--since", "2026-09-21", "--until", "2026-09-20T10:00"],
        &["--alive-between", "2026-09-21T14:00:00Z", "2026-09-21T16:00:00+02:00"],
        &["--limit", "0"],
        &["--by", "grant"],
        &["--alive-between", "-2h"],
        &["--alive-between", "-2h", "-1h", "--by", "kind"],
        &["--alive-between", "-2h", "-1h", "--output", "html"],
        &["--compare", "/nonexistent/roles.yaml"],
    ] {
        let mut capture = Capture::default();
        let exit = capture.run(&[&["report", "--hub", "http://127.0.0.1:9", "--feed", "main"], args].concat());
        assert_ne!(exit, Exit::Done);
        page.push_str(&format!("### {}\n{}exit code {}\n\n", args.join(" "), capture.err(), exit.code()));
    }
    snapshot::check("report-mistakes", &page);
}
