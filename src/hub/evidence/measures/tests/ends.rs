//! When a grant ends, and what counts as after it.

use super::*;
use crate::evidence::report::Residual;

fn one_grant() -> GrantInfo {
    GrantInfo { session: Some("s".to_owned()), ..grant("A", NOON, &["orders"], json!([order(&["read"], "1")])) }
}

/// The residual of the grant in the hour after noon.
fn residual(events: Vec<EventRow>, uses: GrantUses, records: Vec<Value>) -> Option<Residual> {
    let store = store(rules());
    batch(&store, 1, NOON + 50 * MINUTE, vec![uses], records);
    events.into_iter().for_each(|event| write(&store, Write::Event(Box::new(event))));
    of(&report_of(&store, NOON, NOON + HOUR), "A").residual.clone()
}

fn uses(permitted: Vec<Permitted>, refused: Vec<Refused>) -> GrantUses {
    GrantUses { grant: one_grant(), permitted, refused, ..GrantUses::default() }
}

/// An event that has only the named members.
fn about(kind: EventKind, at: u64, member: &str, name: &str) -> EventRow {
    let grant = one_grant();
    let mut row = EventRow {
        task: None,
        subject: None,
        client: None,
        token: None,
        id: format!("{member}-{at}"),
        ..event(kind, at, &grant)
    };
    let place = match member {
        "token" => &mut row.token,
        "task" => &mut row.task,
        "session" => &mut row.session,
        "subject" => &mut row.subject,
        "client" => &mut row.client,
        _ => return row,
    };
    *place = Some(name.to_owned());
    row
}

fn ended_at(events: Vec<EventRow>) -> (u64, String) {
    let used = uses(vec![permitted(0, "GET", "1", 1, (NOON + 1, NOON + 1))], Vec::new());
    let residual = residual(events, used, Vec::new()).unwrap();
    ((residual.ended_at - NOON) / MINUTE, residual.ended_by)
}

#[test]
fn the_earliest_end_counts_and_expiry_is_one() {
    assert_eq!(ended_at(vec![]), (10, "expired".to_owned()));
    let signal = |at: u64, member: &str, name: &str| about(EventKind::SignalEnded, NOON + at * MINUTE, member, name);
    for (member, name) in [
        ("token", "A"),
        ("task", "task-A"),
        ("session", "s"),
        ("subject", "alice"),
        ("client", "agent"),
        ("issuer", ""),
    ] {
        assert_eq!(ended_at(vec![signal(3, member, name)]), (3, "signal_ended".to_owned()), "{member}");
        if member != "issuer" {
            assert_eq!(ended_at(vec![signal(3, member, "another")]), (10, "expired".to_owned()), "{member}");
        }
    }
    let told = about(EventKind::Ended, NOON + 2 * MINUTE, "task", "task-A");
    assert_eq!(ended_at(vec![told, signal(3, "token", "A")]), (2, "ended".to_owned()));
    assert_eq!(ended_at(vec![signal(20, "token", "A")]), (10, "expired".to_owned()));
}

#[test]
fn an_end_of_a_user_spares_what_is_issued_later_and_an_end_of_a_task_does_not() {
    let before = NOON - 5 * MINUTE;
    for (member, name, ended) in [
        ("subject", "alice", 10),
        ("client", "agent", 10),
        ("session", "s", 10),
        ("task", "task-A", 0),
        ("token", "A", 0),
    ] {
        let event = about(EventKind::SignalEnded, before, member, name);
        assert_eq!(ended_at(vec![event]).0, ended, "{member}");
    }
}

#[test]
fn what_was_undone_ended_nothing() {
    let end = about(EventKind::SignalEnded, NOON + 3 * MINUTE, "task", "task-A");
    let lift = EventRow {
        kind: Some(EventKind::SignalLifted),
        at: NOON + 4 * MINUTE,
        id: format!("{}/lifted", end.id),
        ..end.clone()
    };
    assert_eq!(ended_at(vec![end.clone(), lift.clone()]).1, "expired");
    let other = EventRow { id: "other".to_owned(), ..end };
    assert_eq!(ended_at(vec![other, lift]).1, "signal_ended");
}

#[test]
fn rows_that_span_the_end_count_what_is_certain() {
    let end = || vec![about(EventKind::Ended, NOON + 4 * MINUTE, "task", "task-A")];
    let span = (NOON + MINUTE, NOON + 5 * MINUTE);
    let used = |refused| uses(vec![permitted(0, "GET", "1", 9, span)], refused);
    let found = residual(end(), used(vec![refused("scope_insufficient", 5, span)]), Vec::new()).unwrap();
    assert_eq!((found.seconds, found.permitted_after, found.attempts_after), (60.0, 1, 1));
    let found = residual(end(), used(vec![refused("task_completed", 5, span)]), Vec::new()).unwrap();
    assert_eq!(found.attempts_after, 5);
    let record = |at: u64| {
        json!({"issuer": "https://jit.example", "token": "A", "time_ms": at, "verdict": "denied", "rule": "read",
               "config": CONFIG, "reason": "scope_insufficient"})
    };
    let four = [2, 3, 5, 5].map(|at| record(NOON + at * MINUTE));
    let row = || vec![refused("scope_insufficient", 4, span)];
    assert_eq!(residual(end(), used(row()), four.to_vec()).unwrap().attempts_after, 2);
    // One record was dropped: no more than the last one is certain.
    assert_eq!(residual(end(), used(row()), four[..3].to_vec()).unwrap().attempts_after, 1);
}

#[test]
fn streams_and_shadow_count() {
    let end = vec![about(EventKind::Ended, NOON + 4 * MINUTE, "task", "task-A")];
    let at = |minutes: u64| (NOON + minutes * MINUTE, NOON + minutes * MINUTE);
    let ended = Refused { ended: true, ..refused("task_completed", 2, at(6)) };
    let shadow = Refused { shadow: true, ..refused("task_completed", 3, at(7)) };
    let found = residual(end, uses(Vec::new(), vec![ended, shadow]), Vec::new()).unwrap();
    assert_eq!((found.seconds, found.streams_ended, found.permitted_after, found.attempts_after), (180.0, 2, 3, 0));
}

#[test]
fn a_signal_about_what_no_grant_names_ends_none() {
    let signal = |subject: Value, user: Option<&str>| EventRow {
        subject: user.map(str::to_owned),
        data: json!({"subject": subject}),
        ..about(EventKind::SignalEnded, NOON + 5 * MINUTE, "", "")
    };
    let expired = (10, "expired".to_owned());
    let id = |format: &str| json!({"format": format, "id": "x"});
    let user = json!({"format": "iss_sub", "iss": "https://jit.example", "sub": "alice"});
    // A device, an actor, a tenant or a group: alone, and beside a user.
    assert_eq!(ended_at(vec![signal(id("opaque"), None)]), expired);
    for other in ["device", "tenant", "group", "actor"] {
        let subject = json!({"format": "complex", other: id("opaque")});
        assert_eq!(ended_at(vec![signal(subject, None)]), expired, "{other}");
        let subject = json!({"format": "complex", "user": user, other: id("opaque")});
        assert_eq!(ended_at(vec![signal(subject, Some("alice"))]), expired, "{other}");
        assert_eq!(
            ended_at(vec![signal(json!({"issuer": "https://jit.example", other: "x"}), None)]),
            expired,
            "{other}"
        );
    }
    let ended = (5, "signal_ended".to_owned());
    let complex = json!({"format": "complex", "user": user});
    assert_eq!(ended_at(vec![signal(complex, Some("alice"))]), ended);
    assert_eq!(ended_at(vec![signal(user, Some("alice"))]), ended);
    assert_eq!(ended_at(vec![signal(json!({"issuer": "https://jit.example"}), None)]), ended, "all of the issuer");
}
