//! Text as attackers write it.

use super::*;
use crate::evidence::model::Write;
use taskfence_core::uses::batch::{GrantInfo, Permitted};

on_every_engine! {
    unusual_text_comes_back_as_it_was,
    a_record_is_kept_however_it_is_made,
}

/// Text with quotes, control characters, other scripts, and long text.
fn unusual() -> Vec<String> {
    let mut all: Vec<_> = [
        "'; DROP TABLE grants; --",
        "\"quoted\" \\ back\\slash",
        "{\"json\":[1]}",
        "\u{1}\u{2}\u{7}\u{8}\t\r\n\u{b}\u{1b}[31m\u{7f}",
        "\u{85}\u{a0}\u{200b}\u{2028}\u{202e}\u{feff}",
        "\u{1f469}\u{200d}\u{1f4bb}\u{1f1e9}\u{1f1ea} caf\u{e9} cafe\u{301} \u{65e5}\u{672c}",
        "\u{fffd}\u{ffff}\u{10ffff}",
        "%_*?{}$1 \\u0000",
        " ",
        "",
        "-0",
        "1e5",
        "NULL",
    ]
    .map(str::to_owned)
    .into();
    all.push("x".repeat(100_000));
    all.push("\u{1f600}".repeat(3_000));
    all
}

fn unusual_text_comes_back_as_it_was(home: &mut Home) {
    let store = home.open();
    let at = MIDNIGHT + 5;
    for (n, text) in (1..).zip(unusual()) {
        let info = GrantInfo {
            issuer: format!("i{text}"),
            token: format!("{n}{text}"),
            fingerprint: text.clone(),
            subject: text.clone(),
            client: Some(text.clone()),
            task: Some(text.clone()),
            session: Some(text.clone()),
            actors: vec![text.clone(), String::new()],
            scopes: vec![text.clone()],
            details: vec![serde_json::json!({ text.clone(): [text.clone()] })],
            masked: vec![text.clone()],
            ..grant("")
        };
        let uses = GrantUses {
            permitted: vec![Permitted {
                method: text.clone(),
                captures: vec![text.clone(), String::new(), text.clone()],
                ..permitted(0, &[], 1, at, at)
            }],
            refused: vec![refused(Some(1), &text, 1, at, at)],
            seen: vec![seen(SeenKind::Peer, &text, 1, at, at)],
            ..uses(info.clone(), 1, at, at)
        };
        let mut one = batch(&format!("node{text}"), &format!("{n}{text}"), n, at, vec![uses]);
        one.batch.rules = vec![RuleRef { config: text.clone(), name: text.clone() }; 2];
        one.proxy = text.clone();
        let again = Write::Batch(Box::new(one.clone()));
        add(&*store, one);
        assert_eq!(write(&*store, again), Written::Repeated);
        let said = EventRow {
            source: format!("{n}{text}"),
            id: text.clone(),
            issuer: info.issuer.clone(),
            task: Some(text.clone()),
            session: Some(text.clone()),
            subject: Some(text.clone()),
            client: Some(text.clone()),
            token: Some(info.token.clone()),
            task_kind: Some(text.clone()),
            by: Some(text.clone()),
            reason: Some(text.clone()),
            data: serde_json::json!({ text.clone(): text.clone() }),
            ..event("", EventKind::Issued, "", at)
        };
        assert_eq!(store.write(&[of_event(said.clone()), of_event(said.clone())]).unwrap()[1], Written::Repeated);
        assert_eq!(write(&*store, of_gap(&format!("node{text}"), &text, at, at)), Written::Stored);
        store.set(&text, &text).unwrap();

        assert_eq!(store.get(&text), Ok(Some(text.clone())));
        for selector in [
            Selector::Task(text.clone()),
            Selector::Session(text.clone()),
            Selector::Subject(text.clone()),
            Selector::Client(text.clone()),
            Selector::Token(info.token.clone()),
            Selector::Token(text.clone()),
        ] {
            let found = store.find(FEED, &selector, Some(&info.issuer), ALWAYS, 9).unwrap();
            let row = &found.grants[0];
            assert_eq!((found.grants.len(), &row.info), (1, &info));
            let permitted = &row.permitted[0];
            assert_eq!(
                (&permitted.method, &permitted.captures),
                (&text, &vec![text.clone(), String::new(), text.clone()])
            );
            assert_eq!((&permitted.config, &permitted.rule, &permitted.node), (&text, &text, &format!("node{text}")));
            assert_eq!((&row.refused[0].reason, &row.seen[0].value), (&text, &text));
            assert_eq!((found.events, found.gaps[0].vm.as_str()), (vec![said.clone()], text.as_str()));
        }
    }
    assert_eq!(grants(&*store, ALWAYS).len(), unusual().len());
}

fn a_record_is_kept_however_it_is_made(home: &mut Home) {
    let store = home.open();
    let mut sent = vec![
        serde_json::json!(7),
        serde_json::json!([1, {"a": null}]),
        serde_json::json!({"time_ms": "soon", "issuer": 5, "token": ["x"]}),
        serde_json::json!({"time_ms": -5, "issuer": ISSUER}),
    ];
    for text in unusual() {
        let mut one = record("t1", MIDNIGHT + 5);
        one["path"] = text.clone().into();
        one[text.as_str()] = serde_json::json!({ "x": text });
        sent.push(one);
    }
    let mut one = batch("n", "a", 1, MIDNIGHT + 50, Vec::new());
    one.batch.records = sent.clone();
    add(&*store, one);
    let rows = store.records(FEED, 0, ALWAYS, 99).unwrap();
    assert_eq!(rows.iter().map(|row| row.record.clone()).collect::<Vec<_>>(), sent);
    assert!(rows[..4].iter().all(|row| row.at == MIDNIGHT + 50));
    assert_eq!(rows[3].grant, GrantId::new(ISSUER, ""));
}
