//! The page as a whole.

use proptest::prelude::*;
use serde_json::json;
use taskfence_hub::evidence::model::{GapRow, Losses};
use taskfence_hub::evidence::report::{
    Bar, Cell, Comparison, GrantMeasures, Repeat, Report, Residual, RoleWidth, Rollup, Sharing, Spread, Width,
};

use super::render;

const SINCE: u64 = 1_790_000_000_000;
const HOUR: u64 = 3_600_000;

/// A report of `grants` grants, in which every section has something to show.
fn report(grants: u64) -> Report {
    let until = SINCE + 7 * 24 * HOUR;
    let group = |name: &str, grants: u64| Rollup { name: name.to_owned(), ..total(grants) };
    Report {
        hub: "hub-1".to_owned(),
        feed: "main".to_owned(),
        since: SINCE,
        until,
        total: total(grants),
        by_kind: vec![group("refund", grants), group("read-order", grants / 2 + 1)],
        by_client: vec![group("agent-a7", grants)],
        by_subject: (0..grants.min(3_000))
            .map(|at| group(&format!("user-{at}@example.com"), grants / (at + 1)))
            .collect(),
        spread: spread(grants),
        grants: (0..grants).map(grant).collect(),
        repeats: vec![repeat("bob", false, false), repeat("alice", true, true), repeat("carol", true, false)],
        kept_since: Some(0),
        gaps: vec![GapRow {
            node: "envoy-1".to_owned(),
            vm: "91906472898440aa".to_owned(),
            since: SINCE,
            until: SINCE + 9_000,
        }],
        losses: Losses { other_permitted: 12, records_dropped: 1, ..Losses::default() },
        comparison: Some(Comparison { roles: vec![role("support", Some(480)), role("admin", None)] }),
    }
}

fn total(grants: u64) -> Rollup {
    Rollup {
        name: String::new(),
        grants,
        unused: grants / 7,
        permitted: grants * 12,
        refused: grants / 3,
        break_glass: 2,
        unbounded: grants / 5,
        unknown: u64::from(grants > 4),
        used_share: Some(0.125),
        allowed_cells: grants * 30,
        used_cells: grants * 4,
        repeated: grants / 4,
        with_residual: grants / 20,
        residual_median: Some(0.0),
        residual_longest: Some(5_432.1),
        attempts_after_end: 17,
        shared: 3.min(grants),
        lifetime_median: Some(7_200.0),
        in_use_median: Some(42.5),
    }
}

fn spread(grants: u64) -> Spread {
    let bars = |labels: &[&str], parts: &[u64]| {
        let whole: u64 = parts.iter().sum();
        labels
            .iter()
            .zip(parts)
            .map(|(label, part)| Bar { label: (*label).to_owned(), grants: grants * part / whole })
            .collect()
    };
    let shares = [
        "0 to 10 %",
        "10 to 20 %",
        "20 to 30 %",
        "30 to 40 %",
        "40 to 50 %",
        "50 to 60 %",
        "60 to 70 %",
        "70 to 80 %",
        "80 to 90 %",
        "90 to 100 %",
        "unbounded",
    ];
    let residuals = ["0 s", "up to 1 s", "up to 10 s", "up to 1 min", "up to 10 min", "up to 1 h", "more"];
    let spans =
        ["up to 1 min", "up to 5 min", "up to 15 min", "up to 1 h", "up to 4 h", "up to 1 day", "up to 7 days", "more"];
    Spread {
        used_share: bars(&shares, &[30, 12, 9, 4, 3, 2, 2, 1, 1, 16, 20]),
        residual: bars(&residuals, &[900, 40, 20, 5, 2, 1, 1]),
        lifetime: bars(&spans, &[0, 0, 0, 1, 30, 200, 40, 3]),
        in_use: bars(&spans, &[40, 120, 60, 30, 20, 10, 3, 1]),
        over_time: (0..168)
            .map(|hour| Bar {
                label: format!("2026-09-{:02} {:02}:00", 21 + hour / 24, hour % 24),
                grants: if hour % 24 < 6 { 0 } else { grants * (hour % 24) / 24 / 30 },
            })
            .collect(),
    }
}

fn grant(at: u64) -> GrantMeasures {
    let cell = |identifier: &str, used| Cell {
        rule: "refund-order".to_owned(),
        action: "refund".to_owned(),
        identifier: Some(identifier.to_owned()),
        used,
    };
    let detail = json!({"type": "order", "actions": ["refund"], "identifier": format!("{}", 1_881 + at)});
    GrantMeasures {
        id: format!("{at:032x}"),
        issuer: "https://jit.example".to_owned(),
        token: format!("jti-{at:08}-5f1c"),
        subject: format!("user-{}@example.com", at % 50),
        client: Some("agent-a7".to_owned()),
        task: Some(format!("task-{at}")),
        kind: "refund".to_owned(),
        issued_at: SINCE + at * 1_000,
        expires_at: SINCE + at * 1_000 + 2 * HOUR,
        first: SINCE + at * 1_000 + 4_000,
        last: SINCE + at * 1_000 + 47_000,
        permitted: 12,
        refused: at % 3,
        break_glass: 0,
        width: Width {
            allowed: vec![cell("1881", true), cell("1882", false), Cell { identifier: None, ..cell("", false) }],
            allowed_cells: (!at.is_multiple_of(3)).then_some(3),
            used_cells: 1,
            unknown: (at == 4).then(|| "the rules of the configuration 9190647289844000 did not come".to_owned()),
            unused_scopes: vec!["orders.delete".to_owned()],
            narrower_scopes: vec!["orders.refund".to_owned()],
            narrower_details: vec![detail.clone()],
            narrower_rules: vec![json!({
                "name": "refund-order",
                "match": {"path": "/v1/orders/{order}/refund", "methods": ["POST"]},
                "require": {"scope": "orders.refund", "detail": {"type": "order", "action": "refund", "identifier": "{order}"}},
            })],
            notes: (at == 1)
                .then(|| "the rules for `refund-order` leave out its break-glass".to_owned())
                .into_iter()
                .collect(),
        },
        residual: at.is_multiple_of(2).then(|| Residual {
            ended_at: SINCE + at * 1_000 + 40_000,
            ended_by: "task-completed".to_owned(),
            seconds: if at.is_multiple_of(4) { 7.25 } else { 0.0 },
            permitted_after: at % 4,
            attempts_after: at % 5,
            streams_ended: 1,
        }),
        sharing: Sharing {
            peers: vec!["spiffe://mesh/agent".to_owned(), "spiffe://mesh/other".to_owned()],
            sources: vec!["10.0.0.7".to_owned()],
            keys: Vec::new(),
            shared: at < 3,
        },
        repeated: at % 4 == 1,
    }
}

fn repeat(subject: &str, routine: bool, broad: bool) -> Repeat {
    Repeat {
        subject: subject.to_owned(),
        client: Some("agent-a7".to_owned()),
        kind: "refund".to_owned(),
        shape: "orders.refund; order: refund of any".to_owned(),
        grants: 48,
        every: 3_600.0,
        irregularity: 0.08,
        routine,
        broad,
    }
}

fn role(name: &str, allowed_cells: Option<u64>) -> RoleWidth {
    RoleWidth {
        name: name.to_owned(),
        allowed_cells,
        subjects: vec!["user-1@example.com".to_owned(), "user-2@example.com".to_owned()],
        seconds: 1_209_600.0,
        grants: 31,
        grant_seconds: 4_100.0,
        grant_cells: Some(3),
        ..RoleWidth::default()
    }
}

#[test]
fn what_is_not_known_is_said_and_is_no_number() {
    let mut report = report(10);
    let unknown = RoleWidth {
        unknown: Some("no rules".to_owned()),
        grant_cells: Some(0),
        unknown_grants: 31,
        ..role("mystery", None)
    };
    report.comparison = Some(Comparison { roles: vec![unknown] });
    let page = render(&report);
    assert!(page.contains("The width of 1 grant is not known."), "it is said in the summary");
    // 10 grants, of which 2 are unbounded and 1 is not known.
    assert!(page.contains("Half of the 7 grants with a bounded width"));
    assert!(page.contains("leave out its break-glass"), "a note stands beside its proposal");
    let row = page.split("mystery").nth(1).and_then(|rest| rest.split("</tr>").next()).unwrap();
    assert_eq!(row.matches("not known").count(), 2, "{row}");
    assert!(!row.contains("unbounded"), "{row}");
}

#[test]
fn the_same_report_gives_the_same_bytes() {
    assert_eq!(render(&report(40)), render(&report(40)));
}

#[test]
fn every_section_is_there_and_headings_are_in_order() {
    let page = render(&report(40));
    for id in [
        "summary",
        "missing",
        "measures",
        "groups",
        "repeats",
        "sharing",
        "residuals",
        "grants",
        "comparison",
        "definitions",
    ] {
        assert!(page.contains(&format!("<section id=\"{id}\"")), "{id} is missing");
        assert!(page.contains(&format!("<a href=\"#{id}\">")), "no link leads to {id}");
    }
    let levels: Vec<u32> = page.split("<h").skip(1).filter_map(|rest| rest.get(..1)?.parse().ok()).collect();
    assert_eq!(levels.iter().filter(|level| **level == 1).count(), 1);
    assert!(levels.windows(2).all(|pair| pair[1] <= pair[0] + 1), "{levels:?}");
    assert!(page.starts_with("<!DOCTYPE html>\n<html lang=\"en\">") && page.ends_with("</html>\n"));
}

#[test]
fn every_table_has_a_caption_and_every_plot_a_title_and_a_description() {
    let page = render(&report(40));
    assert_eq!(page.matches("<table").count(), page.matches("<caption>").count());
    let plots = page.matches("role=\"img\"").count();
    assert_eq!(plots, 4);
    assert_eq!(page.matches("<desc id=").count(), plots);
    assert_eq!(page.matches("<title id=").count(), plots);
    let mut ids: Vec<_> = page.split(" id=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    let all = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all, "an id stands twice");
}

#[test]
fn routine_and_broad_repeats_come_first() {
    let page = render(&report(40));
    let repeats = page.split("<section id=\"repeats\">").nth(1).unwrap();
    let at = |name: &str| repeats.find(name).unwrap_or_else(|| panic!("{name}"));
    assert!(at("alice") < at("carol") && at("carol") < at("bob"));
    assert!(page.contains("1 series is routine and broad"));
}

#[test]
fn losses_and_gaps_are_said_near_the_top() {
    let page = render(&report(40));
    assert!(page.find("id=\"missing\"").unwrap() < page.find("id=\"measures\"").unwrap());
    assert!(page.contains("<strong>12 permitted requests</strong> are known only as a sum"));
    assert!(page.contains("<strong>1 single decision</strong> is missing in timelines"));
    assert!(page.contains("<bdi>91906472898440aa</bdi>"));
    let whole = render(&Report { gaps: Vec::new(), losses: Losses::default(), ..report(40) });
    assert!(
        whole.contains("Nothing is known to be missing") && !whole.contains("Evidence of this window may be missing")
    );
}

#[test]
fn a_window_that_begins_before_the_evidence_says_so() {
    let begins = |kept_since| {
        let report = Report { kept_since, gaps: Vec::new(), losses: Losses::default(), ..report(40) };
        let page = render(&report);
        page.contains("All before <strong>2026-09-21 15:13:20</strong>") && page.contains("figure may be too low")
    };
    assert!(begins(Some(SINCE + HOUR)));
    assert!(!begins(Some(SINCE)) && !begins(None));
}

#[test]
fn an_empty_report_says_what_is_empty_and_why() {
    let page = render(&Report {
        feed: "main".to_owned(),
        hub: "hub-1".to_owned(),
        since: SINCE,
        until: SINCE + HOUR,
        ..Report::default()
    });
    assert!(page.contains("<h2>No grants</h2>") && page.contains("evidence.uses"), "{page}");
    assert!(!page.contains("<svg") && !page.contains("<table") && !page.contains("href=\"#measures\""), "{page}");
}

#[test]
fn a_report_of_one_grant_without_ends_has_no_broken_plot() {
    let only = GrantMeasures { residual: None, first: 0, last: 0, issued_at: 0, ..grant(1) };
    let sparse =
        Report { total: Rollup { grants: 1, unused: 1, ..Rollup::default() }, grants: vec![only], ..Report::default() };
    let page = render(&sparse);
    for text in [
        "No task ended in this window, or nobody told the hub",
        "No grant was used in this window",
        "No permanent path",
    ] {
        assert!(page.contains(text), "{text}");
    }
    assert!(!page.contains("<svg"), "{page}");
}

#[test]
fn ten_thousand_grants_are_less_than_two_megabytes() {
    let report = report(10_000);
    assert_eq!(report.grants.len(), 10_000);
    let page = render(&report);
    assert!(page.len() < 2_000_000, "{} bytes", page.len());
    assert!(page.contains("9,000 more rows are not shown"));
}

#[test]
fn the_page_may_ask_nobody_for_anything() {
    let page = render(&report(40));
    assert!(page.contains("default-src &#39;none&#39;; style-src &#39;sha256-"));
    for outside in ["http://", "url(", "@import", " src=", "<link", "<img", "<iframe", "<object", " style=", " onclick"]
    {
        assert!(!page.contains(outside), "{outside}");
    }
    // The issuer, as a text.
    assert_eq!(page.matches("https://").count(), page.matches("<bdi>https://jit.example</bdi>").count());
}

/// Texts as somebody would write them who wants to get into the page, among any others.
fn hostile() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        "<script>alert(1)</script>",
        "\"><img src=x onerror=alert(1)>",
        "' onmouseover='alert(1)",
        "</bdi></td></table></svg></title></desc><iframe src=//evil.example>",
        "</style><style>*{background:url(//evil.example)}",
        "--><!--",
        "]]></code></pre><a href=javascript:alert(1)>",
        "\u{202e}txt.exe\u{2066}\u{200f}",
        "\0\u{1}\u{1b}[31m\u{7f}\u{9b}\r\n\t",
        "&lt;b&gt;&#60;b&#62;&amp;",
        "\u{feff}\u{200b}\u{2028}\u{e0041}",
        "${{7*7}}{{constructor}}",
    ]);
    (any::<String>(), known, any::<String>()).prop_map(|(before, known, after)| format!("{before}{known}{after}"))
}

/// The report with `text` wherever a text is.
fn poisoned(text: &str) -> Report {
    let own = || text.to_owned();
    let mut report = report(4);
    (report.hub, report.feed) = (own(), own());
    for group in report.by_kind.iter_mut().chain(&mut report.by_client).chain(&mut report.by_subject) {
        group.name = own();
    }
    let spread = &mut report.spread;
    let spreads =
        [&mut spread.used_share, &mut spread.residual, &mut spread.lifetime, &mut spread.in_use, &mut spread.over_time];
    spreads.into_iter().flatten().for_each(|bar| bar.label = own());
    for grant in &mut report.grants {
        (grant.id, grant.issuer, grant.token, grant.subject, grant.kind) = (own(), own(), own(), own(), own());
        (grant.client, grant.task) = (Some(own()), Some(own()));
        let width = &mut grant.width;
        width.unknown = Some(own());
        for cell in &mut width.allowed {
            *cell = Cell { rule: own(), action: own(), identifier: Some(own()), used: false };
        }
        (width.unused_scopes, width.narrower_scopes) = (vec![own()], vec![own()]);
        width.narrower_details = vec![json!({text: [text]})];
        width.narrower_rules = vec![json!({"name": text})];
        if let Some(residual) = &mut grant.residual {
            residual.ended_by = own();
        }
        let sharing = &mut grant.sharing;
        (sharing.peers, sharing.sources, sharing.keys) = (vec![own()], vec![own()], vec![own()]);
    }
    for repeat in &mut report.repeats {
        (repeat.subject, repeat.kind, repeat.shape, repeat.client) = (own(), own(), own(), Some(own()));
    }
    for gap in &mut report.gaps {
        (gap.node, gap.vm) = (own(), own());
    }
    for role in report.comparison.iter_mut().flat_map(|comparison| &mut comparison.roles) {
        (role.name, role.subjects) = (own(), vec![own()]);
    }
    report
}

/// The elements of a page with the names of their attributes, in order, and the page's texts left out.
fn skeleton(page: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = page;
    while let Some((_, tag)) = rest.split_once('<') {
        let (tag, after) = tag.split_once('>').unwrap_or((tag, ""));
        // Within quotes there is no quote and no angle bracket: the values are every second part.
        found.push(tag.split('"').step_by(2).collect());
        rest = after;
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn no_text_of_a_report_becomes_markup(text in hostile()) {
        // Both are long, so that their labels are turned alike.
        let plain = "plain ".repeat(8);
        let page = render(&poisoned(&format!("{text}{plain}")));
        let plain = render(&poisoned(&plain));
        let (page, plain) = (skeleton(&page), skeleton(&plain));
        let differ = page.iter().zip(&plain).find(|(one, other)| one != other);
        prop_assert_eq!(differ, None);
        prop_assert_eq!(page.len(), plain.len());
    }

    #[test]
    fn nothing_that_cannot_be_seen_gets_into_the_page(text in hostile()) {
        let page = render(&poisoned(&text));
        let bad = page.chars().find(|letter| {
            letter.is_control() && *letter != '\n'
                || matches!(letter, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{61c}' | '\u{feff}')
                || matches!(letter, '\u{e0000}'..='\u{e007f}')
        });
        prop_assert_eq!(bad, None);
    }
}
