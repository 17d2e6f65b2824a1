//! What is found about a task, a session, a subject, a client or a token.

use super::*;
use crate::evidence::model::Found;
use taskfence_core::uses::batch::GrantInfo;

on_every_engine! {
    every_selector_finds_its_grants_with_and_without_an_issuer,
    a_token_is_found_by_its_fingerprint,
    the_uses_of_all_days_are_found,
    events_about_a_grant_are_found_with_it,
    events_are_found_also_where_no_grant_was_used,
    records_of_the_grants_come_in_the_order_of_their_times,
    gaps_of_the_proxies_that_were_used_are_found,
    what_is_more_than_the_limit_is_cut,
}

const OTHER: &str = "https://other.example";

fn find(store: &dyn EvidenceStore, selector: &Selector, issuer: Option<&str>) -> Found {
    store.find(FEED, selector, issuer, ALWAYS, 100).unwrap()
}

fn tokens_of(found: &Found) -> String {
    tokens(&found.grants).join(" ")
}

fn every_selector_finds_its_grants_with_and_without_an_issuer(home: &mut Home) {
    let store = home.open();
    let at = MIDNIGHT + 5;
    let own = |token: &str| GrantInfo {
        subject: format!("subject-{token}"),
        client: Some(format!("client-{token}")),
        task: Some(format!("task-{token}")),
        session: Some(format!("session-{token}")),
        ..grant(token)
    };
    // The same names at another issuer, and one that shares none of them.
    let theirs = GrantInfo { issuer: OTHER.to_owned(), fingerprint: "ff".repeat(16), ..own("a") };
    let bare = GrantInfo { client: None, task: None, session: None, ..own("bare") };
    let all = [own("a"), theirs, own("b"), bare].map(|info| uses(info, 1, at, at));
    add(&*store, batch("n", "a", 1, at, all.into()));
    let name = |kind: &str| format!("{kind}-a");
    for selector in [
        Selector::Task(name("task")),
        Selector::Session(name("session")),
        Selector::Subject(name("subject")),
        Selector::Client(name("client")),
        Selector::Token("a".to_owned()),
    ] {
        assert_eq!(tokens_of(&find(&*store, &selector, None)), "a a", "{selector:?}");
        for issuer in [ISSUER, OTHER] {
            let found = find(&*store, &selector, Some(issuer));
            assert_eq!((found.grants.len(), found.grants[0].info.issuer.as_str()), (1, issuer), "{selector:?}");
            assert_eq!(found.grants[0].permitted[0].count, 1);
        }
        assert!(find(&*store, &selector, Some("https://none.example")).grants.is_empty());
    }
    for selector in [
        Selector::Task("session-a".to_owned()),
        Selector::Session("task-a".to_owned()),
        Selector::Subject("client-a".to_owned()),
        Selector::Client("subject-a".to_owned()),
        Selector::Token("task-a".to_owned()),
        Selector::Token("A".to_owned()),
        Selector::Task(String::new()),
        Selector::Task("task-%".to_owned()),
    ] {
        assert!(find(&*store, &selector, None).grants.is_empty(), "{selector:?}");
    }
}

fn a_token_is_found_by_its_fingerprint(home: &mut Home) {
    let store = home.open();
    let at = MIDNIGHT + 5;
    let masked = GrantInfo { fingerprint: "sha256:masked".to_owned(), ..grant("b") };
    add(&*store, batch("n", "a", 1, at, vec![uses(grant("a"), 1, at, at), uses(masked, 1, at, at)]));
    let by = |fingerprint: &str, issuer| tokens_of(&find(&*store, &Selector::Token(fingerprint.to_owned()), issuer));
    let fingerprint = grant("a").fingerprint;
    assert_eq!((by(&fingerprint, None), by(&fingerprint, Some(ISSUER))), ("a".into(), "a".into()));
    assert_eq!((by(&fingerprint, Some(OTHER)), by("sha256:masked", None)), (String::new(), "b".into()));
    assert_eq!((by("", None), by(&"0".repeat(32), None)), (String::new(), String::new()));
}

fn the_uses_of_all_days_are_found(home: &mut Home) {
    let store = home.open();
    for day in 0..3 {
        let at = MIDNIGHT + day * DAY + 5;
        add(&*store, batch("n", "a", day + 1, at, vec![uses(grant("a"), 1 + day, at, at)]));
    }
    let found = find(&*store, &task("task-of-a"), None);
    let row = &found.grants[0];
    assert_eq!((found.grants.len(), row.permitted.len(), row.permitted[0].count), (1, 1, 6));
    assert_eq!((row.first, row.last), (MIDNIGHT + 5, MIDNIGHT + 2 * DAY + 5));
    let found = store.find(FEED, &task("task-of-a"), None, window(MIDNIGHT + DAY, MIDNIGHT + 2 * DAY), 9).unwrap();
    assert_eq!((found.grants[0].permitted[0].count, found.grants[0].first), (2, MIDNIGHT + DAY + 5));
}

fn events_about_a_grant_are_found_with_it(home: &mut Home) {
    let store = home.open();
    let at = MIDNIGHT + 5;
    add(&*store, batch("n", "a", 1, at, vec![uses(grant("a"), 1, at, at)]));
    let about = |id: &str, with: &dyn Fn(&mut EventRow)| {
        let mut row = EventRow { task: None, ..event(id, EventKind::SignalEnded, "", at + events_at(id)) };
        with(&mut row);
        row
    };
    let set = |text: &str| Some(text.to_owned());
    let all = [
        about("1-token", &|row| row.token = set("a")),
        about("2-task", &|row| row.task = set("task-of-a")),
        about("3-session", &|row| row.session = set("session-of-a")),
        about("4-subject", &|row| row.subject = set("ann")),
        about("5-client", &|row| row.client = set("agent")),
        about("6-both", &|row| (row.subject, row.client) = (set("ann"), set("agent"))),
        about("7-subject-in-another-form", &|row| (row.task, row.subject) = (set("task-of-a"), set("ann@example"))),
        about("x-other-token", &|row| (row.token, row.task) = (set("b"), set("task-of-b"))),
        about("x-other-task", &|row| (row.task, row.subject) = (set("task-of-b"), set("ann"))),
        about("x-other-client", &|row| (row.subject, row.client) = (set("ann"), set("other"))),
        about("x-other-issuer", &|row| (row.issuer, row.task) = (OTHER.to_owned(), set("task-of-a"))),
        about("x-nothing", &|_| ()),
    ];
    store.write(&all.map(of_event)).unwrap();
    let ids = |selector: &Selector| {
        let found = find(&*store, selector, Some(ISSUER));
        found.events.into_iter().map(|row| row.id).collect::<Vec<_>>().join(" ")
    };
    let ours = "1-token 2-task 3-session 4-subject 5-client 6-both 7-subject-in-another-form";
    assert_eq!(ids(&Selector::Token("a".to_owned())), ours);
    assert_eq!(ids(&task("task-of-a")), ours);
    assert_eq!(ids(&Selector::Subject("ann".to_owned())), format!("{ours} x-other-client x-other-task"));
    let found = find(&*store, &task("task-of-a"), None);
    assert!(found.events.iter().any(|row| row.id == "x-other-issuer"), "any issuer was asked for");
    let found = store.find(FEED, &task("task-of-a"), Some(ISSUER), window(at, at + 2), 9).unwrap();
    assert_eq!(found.events.iter().map(|row| row.id.as_str()).collect::<Vec<_>>(), ["1-token"]);
}

/// One millisecond after the other, so that the order is known.
fn events_at(id: &str) -> u64 {
    id.bytes().next().map_or(0, |first| u64::from(first.saturating_sub(b'0')))
        + u64::from(id.ends_with("task")) * u64::from(id.starts_with('x'))
}

fn events_are_found_also_where_no_grant_was_used(home: &mut Home) {
    let store = home.open();
    let row = EventRow {
        token: Some("a".to_owned()),
        session: Some("s".to_owned()),
        subject: Some("ann".to_owned()),
        client: Some("agent".to_owned()),
        ..event("1", EventKind::Issued, "refund-1", MIDNIGHT)
    };
    let later = EventRow { token: None, at: MIDNIGHT + DAY, ..row.clone() };
    store.write(&[of_event(row), of_event(EventRow { id: "2".to_owned(), ..later })]).unwrap();
    for (selector, ids) in [
        (task("refund-1"), "1 2"),
        (Selector::Session("s".to_owned()), "1 2"),
        (Selector::Subject("ann".to_owned()), "1 2"),
        (Selector::Client("agent".to_owned()), "1 2"),
        (Selector::Token("a".to_owned()), "1"),
    ] {
        let found = find(&*store, &selector, None);
        assert_eq!(found.events.iter().map(|row| row.id.as_str()).collect::<Vec<_>>().join(" "), ids);
        assert_eq!((found.grants.len(), found.cut), (0, false));
        assert_eq!(find(&*store, &selector, Some(ISSUER)).events.len(), found.events.len());
        assert!(find(&*store, &selector, Some(OTHER)).events.is_empty());
    }
}

fn records_of_the_grants_come_in_the_order_of_their_times(home: &mut Home) {
    let store = home.open();
    let at = |n: u64| MIDNIGHT + n;
    for (number, until, when) in [(1, DAY + 50, DAY + 3), (2, 50, 7), (3, DAY + 60, DAY + 1)] {
        let mut one = batch("n", "a", number, at(until), vec![uses(grant("a"), 1, at(when), at(when))]);
        one.batch.records = vec![record("a", at(when)), record("b", at(when))];
        add(&*store, one);
    }
    let found = find(&*store, &task("task-of-a"), None);
    assert_eq!(found.records.iter().map(|row| row.at - MIDNIGHT).collect::<Vec<_>>(), [7, DAY + 1, DAY + 3]);
    assert!(found.records.iter().all(|row| token_of(row) == "a" && row.grant == GrantId::new(ISSUER, "a")));
    let found = store.find(FEED, &task("task-of-a"), None, window(at(8), at(DAY + 3)), 9).unwrap();
    assert_eq!(found.records.iter().map(|row| row.at - MIDNIGHT).collect::<Vec<_>>(), [DAY + 1]);
}

fn gaps_of_the_proxies_that_were_used_are_found(home: &mut Home) {
    let store = home.open();
    let at = MIDNIGHT + 5;
    add(&*store, batch("n1", "a", 1, at, vec![uses(grant("a"), 1, at, at)]));
    let refused = GrantUses { grant: grant("a"), refused: vec![refused(None, "x", 1, at, at)], ..Default::default() };
    add(&*store, batch("n2", "b", 1, at, vec![refused]));
    add(&*store, batch("n3", "c", 1, at, vec![uses(grant("b"), 1, at, at)]));
    store.write(&["n1", "n2", "n3"].map(|node| of_gap(node, &format!("vm-{node}"), at, at + 9))).unwrap();
    let nodes: Vec<_> = find(&*store, &task("task-of-a"), None).gaps.into_iter().map(|gap| gap.node).collect();
    assert_eq!(nodes, ["n1", "n2"]);
    let found = store.find(FEED, &task("task-of-a"), None, window(at - 5, at), 9).unwrap();
    assert!(found.gaps.is_empty(), "they are not in the window");
}

fn what_is_more_than_the_limit_is_cut(home: &mut Home) {
    let store = home.open();
    let at = |n: u64| MIDNIGHT + n;
    for n in 0..5 {
        let mut one = batch("n", "a", n + 1, at(50), vec![uses(grant(&format!("t{n}")), 1, at(n), at(n))]);
        one.batch.records = vec![record(&format!("t{n}"), at(n))];
        add(&*store, one);
        store.write(&[of_event(event(&n.to_string(), EventKind::Ended, &format!("task-of-t{n}"), at(n)))]).unwrap();
    }
    let ann = Selector::Subject("ann".to_owned());
    let found = |limit| {
        let found = store.find(FEED, &ann, None, ALWAYS, limit).unwrap();
        (found.grants.len(), found.events.len(), found.records.len(), found.cut)
    };
    assert_eq!((found(5), found(6)), ((5, 5, 5, false), (5, 5, 5, false)));
    assert_eq!((found(4).0, found(4).3, found(1).0, found(1).3), (4, true, 1, true));
    assert!(found(4).1 <= 4 && found(4).2 <= 4);
    let ids: Vec<_> = store.find(FEED, &ann, None, ALWAYS, 3).unwrap().grants.iter().map(|row| row.id).collect();
    assert_eq!(ids, grants(&*store, ALWAYS)[..3].iter().map(|row| row.id).collect::<Vec<_>>());
    // One grant with many records.
    let mut many = batch("n", "z", 1, at(90), vec![uses(grant("busy"), 1, at(60), at(60))]);
    many.batch.records = (60..80).map(|n| record("busy", at(n))).collect();
    add(&*store, many);
    let found = store.find(FEED, &task("task-of-busy"), None, ALWAYS, 7).unwrap();
    assert_eq!(found.records.iter().map(|row| row.at - MIDNIGHT).collect::<Vec<_>>(), (60..67).collect::<Vec<_>>());
    assert!(found.cut);
}
