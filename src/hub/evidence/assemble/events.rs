//! Moments from events.

use crate::evidence::model::{EventKind, EventRow};
use crate::evidence::timeline::Moment;
use serde_json::{Map, Value};
use taskfence_core::signal::event::Type;

/// The moment of an event; `None` for an event without a kind.
pub fn moment(event: &EventRow) -> Option<Moment> {
    let signal = event.data.get("event").and_then(Value::as_str).unwrap_or_default();
    let (what, text) = match event.kind? {
        EventKind::SignalChanged if !signal.is_empty() && signal != Type::GrantNarrowed.uri() => {
            ("context", "claims changed by a signal")
        }
        kind => words(kind),
    };
    let mut text = text.to_owned();
    // The last part of the URI of an event is its name.
    if let Some(name) = signal.rsplit(['/', ':']).next().filter(|name| !name.is_empty()) {
        text.push_str(&format!(", {name}"));
    }
    if let Some(kind) = &event.task_kind {
        text.push_str(&format!(" for `{kind}`"));
    }
    if let Some(reason) = &event.reason {
        text.push_str(&format!(": {reason}"));
    }
    Some(Moment {
        at: event.at,
        what: what.to_owned(),
        text,
        token: event.token.clone(),
        by: Some(event.by.as_ref().unwrap_or(&event.source).clone()).filter(|by| !by.is_empty()),
        data: data(event),
        ..Moment::default()
    })
}

fn words(kind: EventKind) -> (&'static str, &'static str) {
    match kind {
        EventKind::Requested => ("requested", "grant requested"),
        EventKind::Approved => ("approved", "request approved"),
        EventKind::Denied => ("denied", "request denied"),
        EventKind::Issued => ("issued", "token issued"),
        EventKind::Extended => ("extended", "grant extended"),
        EventKind::Ended => ("ended", "ended by its issuer"),
        EventKind::SessionEstablished => ("session_established", "session established"),
        EventKind::SessionPresented => ("session_presented", "session presented"),
        EventKind::SignalEnded => ("ended", "ended by a signal"),
        EventKind::SignalChanged => ("narrowed", "narrowed by a signal"),
        EventKind::SignalContext => ("context", "context changed by a signal"),
        EventKind::SignalLifted => ("lifted", "a signal lifted"),
    }
}

/// The event itself: whom it names, and what it holds.
fn data(event: &EventRow) -> Value {
    let mut members = Map::new();
    let mut put = |name: &str, value: Option<&str>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            members.insert(name.to_owned(), value.into());
        }
    };
    put("source", Some(&event.source));
    put("id", Some(&event.id));
    put("issuer", Some(&event.issuer));
    put("task", event.task.as_deref());
    put("session", event.session.as_deref());
    put("subject", event.subject.as_deref());
    put("client", event.client.as_deref());
    put("kind", event.task_kind.as_deref());
    if event.heard_at > 0 {
        members.insert("heard_at".to_owned(), event.heard_at.into());
    }
    if !event.data.is_null() {
        members.insert("data".to_owned(), event.data.clone());
    }
    Value::Object(members)
}
