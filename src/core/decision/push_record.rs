//! What the operator sees of a push: one line of JSON. No byte of a client can end the line or hide a part of it.

use crate::encoding::ascii::printable;
use crate::signal::accepted::Notes;
use crate::signal::receiver::Received;
use serde_json::{Value, json};

/// The record of a push: applied, refused or failed. `None` for a request that is not a push.
pub fn received(received: &Received) -> Option<String> {
    let record = match received {
        Received::Applied(signal) => {
            let mut record = json!({
                "signal": signal.id(), "transmitter": signal.transmitter(), "event": signal.event(),
                "applied": signal.entries().len(),
            });
            if let Some(members) = record.as_object_mut() {
                members.extend(notes(signal.notes()));
            }
            record
        }
        Received::Contradicts(signal) => json!({
            "signal": signal.id(), "transmitter": signal.transmitter(), "event": signal.event(),
            "alarm": "jti was used before for something else",
        }),
        Received::Refused(error) => {
            let mut record = json!({"signal_refused": error.code.code(), "description": error.description});
            if let (Some(origin), Some(members)) = (&error.origin, record.as_object_mut()) {
                let names = [("signal", &origin.id), ("transmitter", &origin.transmitter), ("event", &origin.event)];
                members.extend(names.map(|(name, value)| (name.to_owned(), value.as_str().into())));
            }
            record
        }
        Received::Failed(signal, error) => json!({
            "signal": signal.id(), "transmitter": signal.transmitter(), "event": signal.event(),
            "failed": error.to_string(),
        }),
        Received::NotAPush(_) => return None,
    };
    Some(printable(record.to_string()))
}

fn notes(notes: &Notes) -> impl Iterator<Item = (String, Value)> {
    let unmatched = (!notes.unmatched.is_empty()).then(|| ("unmatched", notes.unmatched.join(" ").into()));
    let nobody = notes.unknown_subject.then(|| ("note", "no grant is known by its subject".into()));
    let future = notes.future.then(|| ("future", "counts as now".into()));
    let odd: Vec<Value> = notes.oddities.iter().map(Value::from).collect();
    let odd = (!odd.is_empty()).then(|| ("odd", odd.into()));
    [unmatched, nobody, future, odd].into_iter().flatten().map(|(name, value): (&str, Value)| (name.to_owned(), value))
}
