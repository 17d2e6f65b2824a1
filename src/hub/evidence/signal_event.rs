//! A stored signal as an event of the evidence: whom it is about in plain names, what it does, and who said it.

use crate::config::hub::Feed;
use crate::evidence::model::{EventKind, EventRow};
use crate::intake::operator::STOP;
use crate::store::model::{SignalRecord, StoredEntry};
use crate::streams::outgoing::TOKEN_ISSUER;
use serde_json::{Map, Value, json};
use taskfence_core::encoding::digest::sha256;
use taskfence_core::feed::entry::{Decoded, decode};
use taskfence_core::signal::event::Type;
use taskfence_core::signal::provider::assertion::Way;
use taskfence_core::state::fact::Fact;
use taskfence_core::state::key::Kind;

/// The source of all copies of signals.
pub const SOURCE: &str = "signal";

/// The longest name that is copied, in bytes. A longer one is in the signal.
const MAX_NAME: usize = 2_048;

/// Events about a signal whose entries are gone say what their type says. This long after a signal was taken in its
/// entries may be gone, in milliseconds; before that, a signal without entries has no effect.
const MAY_BE_PRUNED: u64 = 3_600_000;

/// The event that the signal `record` of `feed` is, and the event of its lift if it was undone. `entries` are those that it
/// has in the store. Empty for what is about a stream and no grant.
pub fn events(feed: &Feed, record: &SignalRecord, entries: &[StoredEntry], now: u64) -> Vec<EventRow> {
    let signal = &record.signal;
    let known = Type::ALL.into_iter().find(|kind| kind.uri() == signal.event);
    if matches!(known, Some(Type::Verification | Type::StreamUpdated)) {
        return Vec::new();
    }
    let names = names(feed, record, entries);
    // The time of a SET has no fraction. Where it is the second in which the signal came, that time is known better.
    let said = signal.at.0.saturating_mul(1_000);
    let at = if signal.at.0 == signal.taken_in / 1_000 { signal.taken_in } else { said };
    let id = id(record);
    let kind = kind(known, record, entries, now);
    let row = EventRow {
        feed: feed.name.clone(),
        source: SOURCE.to_owned(),
        kind: Some(kind),
        at,
        heard_at: signal.taken_in,
        issuer: names.issuer,
        task: names.task,
        session: names.session,
        subject: names.subject,
        client: names.client,
        token: names.token,
        task_kind: None,
        by: Some(signal.by.clone()),
        reason: Some(signal.reason.clone()).filter(|reason| !reason.is_empty()),
        data: json!({
            "event": signal.event, "jti": signal.jti, "transmitter": signal.transmitter, "signal": record.id,
            "subject": subject(record), "entries": entries.len(),
        }),
        id: id.clone(),
    };
    let lift = record.lifted.as_ref().map(|(by, reason, lifted_at)| EventRow {
        kind: Some(EventKind::SignalLifted),
        id: format!("{id}/lifted"),
        at: *lifted_at,
        heard_at: *lifted_at,
        by: Some(by.clone()),
        reason: Some(reason.clone()).filter(|reason| !reason.is_empty()),
        ..row.clone()
    });
    std::iter::once(row).chain(lift).collect()
}

/// What tells it from all other signals, also in a store that was restored, where ids are given again.
fn id(record: &SignalRecord) -> String {
    let signal = &record.signal;
    let named = json!([signal.transmitter, signal.jti, signal.taken_in]).to_string();
    sha256(named.as_bytes()).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

fn kind(known: Option<Type>, record: &SignalRecord, entries: &[StoredEntry], now: u64) -> EventKind {
    match known {
        Some(Type::SessionEstablished) => return EventKind::SessionEstablished,
        Some(Type::SessionPresented) => return EventKind::SessionPresented,
        _ => {}
    }
    if record.signal.event == STOP {
        return EventKind::SignalEnded;
    }
    let facts: Vec<_> = entries.iter().filter_map(|stored| read(stored).map(|(_, fact)| fact)).collect();
    let ends = |fact: &Fact| matches!(fact, Fact::Revoked | Fact::Completed | Fact::CutOff | Fact::Blocked);
    let changes = |fact: &Fact| matches!(fact, Fact::Narrowed | Fact::Claim(_) | Fact::Assurance(_));
    if facts.iter().any(ends) {
        return EventKind::SignalEnded;
    }
    if facts.iter().any(changes) {
        return EventKind::SignalChanged;
    }
    let may_be_pruned = facts.is_empty() && now > record.signal.taken_in.saturating_add(MAY_BE_PRUNED);
    match known.filter(|_| may_be_pruned) {
        Some(
            Type::SessionRevoked
            | Type::SessionsRevoked
            | Type::AccountDisabled
            | Type::AccountPurged
            | Type::CredentialCompromise
            | Type::CredentialChange
            | Type::TaskCompleted,
        ) => EventKind::SignalEnded,
        Some(Type::TokenClaimsChange | Type::GrantNarrowed | Type::AssuranceLevelChange) => EventKind::SignalChanged,
        _ => EventKind::SignalContext,
    }
}

/// What an entry is about, and what it says.
fn read(stored: &StoredEntry) -> Option<(Kind, Fact)> {
    match decode(&stored.entry.bytes).next() {
        Some(Ok(Decoded::Known(read))) => Some((read.entry.key.kind(), read.entry.fact)),
        _ => None,
    }
}

/// Whether an entry says that its signal was undone.
pub fn is_lifted(stored: &StoredEntry) -> bool {
    matches!(decode(&stored.entry.bytes).next(), Some(Ok(Decoded::Known(read))) if read.entry.lifted)
}

/// Whom a signal is about.
#[derive(Debug, Default, PartialEq, Eq)]
struct Names {
    issuer: String,
    task: Option<String>,
    session: Option<String>,
    subject: Option<String>,
    client: Option<String>,
    token: Option<String>,
}

fn subject(record: &SignalRecord) -> Value {
    let text = &record.signal.subject;
    serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.clone()))
}

fn names(feed: &Feed, record: &SignalRecord, entries: &[StoredEntry]) -> Names {
    let claims: Map<String, Value> = serde_json::from_str(&record.signal.claims).unwrap_or_default();
    let said = ["issuer", TOKEN_ISSUER].into_iter().find_map(|name| claims.get(name)?.as_str());
    let mut names = Names { issuer: said.unwrap_or_default().to_owned(), ..Names::default() };
    let subject = subject(record);
    let members = subject.as_object();
    match members {
        // One thing: what it is says its format, or the kind of the entries that came of it.
        Some(simple) if is_simple(simple) => {
            let kind = match simple.get("format").and_then(Value::as_str) {
                Some("jwt_id") => Kind::Token,
                Some("iss_sub") => Kind::User,
                _ => entries.iter().find_map(read).map_or(Kind::User, |(kind, _)| kind),
            };
            names.put(kind, &subject);
        }
        // Several things, by their members: RFC 9493 and SSF 1.0 §3, or the words of an operator's stop.
        Some(complex) => {
            for (name, value) in complex {
                let kind = match name.as_str() {
                    "task" => Kind::Task,
                    "session" => Kind::Session,
                    "user" => Kind::User,
                    "client" | "application" => Kind::Client,
                    "token" => Kind::Token,
                    _ => continue,
                };
                names.put(kind, value);
            }
            let said = complex.get("issuer").and_then(Value::as_str);
            names.issuer_is(said);
        }
        None => {}
    }
    names.issuer_is(only_issuer(feed, &record.signal.transmitter).as_deref());
    names
}

/// Whether it is one identifier, and neither a complex one nor the words of an operator.
fn is_simple(subject: &Map<String, Value>) -> bool {
    subject.get("format").and_then(Value::as_str).is_some_and(|format| format != "complex")
}

/// The one issuer whose grants a transmitter may speak about, or the only one of the feed.
fn only_issuer(feed: &Feed, stream: &str) -> Option<String> {
    let stream = Way::of_stream(stream).map_or(stream, |(_, transmitter)| transmitter);
    let policy = feed.policy();
    let transmitter = policy.signals().transmitters().iter().find(|one| one.stream == stream);
    let of_transmitter: Vec<_> = transmitter.iter().flat_map(|one| one.subjects.iter().map(|(name, _)| name)).collect();
    let of_feed: Vec<_> = policy.issuers().iter().map(|issuer| &issuer.name).collect();
    match (&of_transmitter[..], &of_feed[..]) {
        ([only], _) | ([], [only]) => Some((*only).clone()),
        _ => None,
    }
}

impl Names {
    fn put(&mut self, kind: Kind, identifier: &Value) {
        let Some((issuer, name)) = identify(identifier) else { return };
        self.issuer_is(issuer.as_deref());
        let place = match kind {
            Kind::Token => &mut self.token,
            Kind::Task => &mut self.task,
            Kind::Session => &mut self.session,
            Kind::Client => &mut self.client,
            Kind::User | Kind::Email | Kind::Phone | Kind::Account | Kind::Did | Kind::Uri | Kind::ForeignUser => {
                &mut self.subject
            }
            _ => return,
        };
        place.get_or_insert(name);
    }

    fn issuer_is(&mut self, issuer: Option<&str>) {
        if self.issuer.is_empty() {
            self.issuer = issuer.unwrap_or_default().to_owned();
        }
    }
}

/// The issuer and the name in an identifier (RFC 9493 §3.2), or the name alone.
fn identify(identifier: &Value) -> Option<(Option<String>, String)> {
    if let Some(name) = identifier.as_str() {
        return short(name).map(|name| (None, name));
    }
    let text = |name: &str| identifier.get(name).and_then(Value::as_str);
    let (issuer, name) = match text("format")? {
        "iss_sub" => (text("iss"), text("sub")),
        "jwt_id" => (text("iss"), text("jti")),
        "opaque" => (None, text("id")),
        "email" => (None, text("email")),
        "phone_number" => (None, text("phone_number")),
        "account" | "uri" => (None, text("uri")),
        "did" => (None, text("url")),
        "saml_assertion_id" => (text("issuer"), text("assertion_id")),
        "aliases" => return identifier.get("identifiers")?.as_array()?.iter().find_map(identify),
        _ => return None,
    };
    Some((issuer.and_then(short), short(name?)?))
}

fn short(name: &str) -> Option<String> {
    (!name.is_empty() && name.len() <= MAX_NAME).then(|| name.replace('\0', "\u{fffd}"))
}
