//! From a stored signal to the SET that a stream gets of it.
//!
//! What an operator or an issuer made is sent. What a transmitter said is sent only where the feed names the transmitter,
//! and never twice through the same hub: the claim [`VIA`] has the issuers that sent it on.

use crate::intake::operator::STOP;
use crate::store::model::SignalRecord;
use crate::streams::record::{AboutStream, Says, StreamRecord};
use crate::streams::subject_match;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};
use taskfence_core::encoding::digest::sha256;
use taskfence_core::signal::operator::{events, is_caller_stream, is_operator_stream};
use taskfence_core::signal::provider::assertion::Way;

/// The event that answers a request for verification (SSF 1.0 §8.1.4.1).
pub const VERIFICATION: &str = "https://schemas.openid.net/secevent/ssf/event-type/verification";
/// The event of a changed status (SSF 1.0 §8.1.5).
pub const STREAM_UPDATED: &str = "https://schemas.openid.net/secevent/ssf/event-type/stream-updated";
const SESSION_REVOKED: &str = "https://schemas.openid.net/secevent/caep/event-type/session-revoked";
const TOKEN_CLAIMS_CHANGE: &str = "https://schemas.openid.net/secevent/caep/event-type/token-claims-change";
const TASK_COMPLETED: &str = "urn:taskfence:secevent:task-completed";
const GRANT_NARROWED: &str = "urn:taskfence:secevent:grant-narrowed";

/// The claim with the issuers that sent the event on before, oldest first.
pub const VIA: &str = "urn:taskfence:via";

/// The claim with the issuer of the tokens that the subject is about, where the subject does not say it.
pub const TOKEN_ISSUER: &str = "urn:taskfence:token_issuer";

/// A SET that a stream is to get.
#[derive(Debug, Clone, PartialEq)]
pub struct Outgoing {
    /// The signal that it comes from.
    pub signal: u64,
    /// When the hub took that in, in milliseconds since 1970.
    pub taken_in: u64,
    /// `jti`: always the same for this signal and this stream.
    pub jti: String,
    /// The claims.
    pub claims: Value,
}

/// Who sends: the issuer that a feed is, and whose signals it sends on.
#[derive(Debug, Clone, Copy)]
pub struct Sender<'s> {
    /// `iss` of the SETs.
    pub issuer: &'s str,
    /// The streams of transmitters whose signals are sent on.
    pub relay_from: &'s [String],
}

impl Sender<'_> {
    /// The URIs of the events that a stream can have.
    pub fn events_supported(&self) -> Vec<String> {
        let all = events().filter(|(name, _)| !self.relay_from.is_empty() || !WITHOUT_EFFECT.contains(name));
        all.map(|(_, uri)| uri).collect()
    }

    /// The URIs of the events that `stream` has: those that it asked for, of those that there are.
    pub fn events_delivered(&self, requested: Option<&[String]>) -> Vec<String> {
        let supported = self.events_supported();
        let wanted = |uri: &String| requested.is_none_or(|requested| requested.contains(uri));
        supported.into_iter().filter(wanted).collect()
    }

    /// The SET that `stream` gets of `record`; `None`: it gets none.
    pub fn outgoing(&self, stream: &StreamRecord, record: &SignalRecord) -> Option<Outgoing> {
        let signal = &record.signal;
        let is_own = is_caller_stream(&signal.transmitter);
        // What was undone must not end anything elsewhere.
        if record.lifted.is_some() || !(is_own || self.is_sent_on(&signal.transmitter)) {
            return None;
        }
        let claims: Map<String, Value> = serde_json::from_str(&signal.claims).ok()?;
        let via = via(&claims, self.issuer)?;
        let said = if signal.event == STOP { stop(&claims, record)? } else { said(&claims, &signal.event)? };
        if stream.removed_subjects.iter().any(|removed| subject_match::matches(removed, &said.subject)) {
            return None;
        }
        let delivered = self.events_delivered(stream.events_requested.as_deref());
        let (uri, payload) = said.events.into_iter().find(|(uri, _)| delivered.contains(uri))?;
        let payload = if is_own { with_reason(payload, &signal.reason, &signal.transmitter) } else { payload };
        let jti = jti(stream, record);
        let mut out = json!({
            "iss": self.issuer, "jti": jti, "iat": signal.taken_in / 1_000,
            "aud": audience(self.issuer, &stream.principal),
            "txn": txn(&claims, &signal.jti), "sub_id": said.subject, "events": {uri: payload}
        });
        if let Some(members) = out.as_object_mut() {
            members.extend(said.issuer.map(|issuer| (TOKEN_ISSUER.to_owned(), issuer)));
            if !is_own {
                members.extend(claims.get("toe").map(|toe| ("toe".to_owned(), toe.clone())));
                members.insert(VIA.to_owned(), via);
            }
        }
        Some(Outgoing { signal: record.id, taken_in: signal.taken_in, jti, claims: out })
    }

    /// Whether signals of that stream are sent on: SETs of a transmitter that is named, and what it said in another way.
    fn is_sent_on(&self, stream: &str) -> bool {
        let transmitter = Way::of_stream(stream).map_or(stream, |(_, transmitter)| transmitter);
        self.relay_from.iter().any(|named| named == transmitter)
    }

    /// The claims of an event about the stream itself.
    pub fn about_stream(&self, stream: &StreamRecord, event: &AboutStream) -> Value {
        let (uri, payload) = match &event.says {
            Says::Verification(state) => {
                (VERIFICATION.to_owned(), state.as_ref().map_or_else(|| json!({}), |state| json!({"state": state})))
            }
            Says::Updated(status, reason) => {
                let mut payload = json!({"status": status.as_str()});
                if let (Some(members), Some(reason)) = (payload.as_object_mut(), reason) {
                    members.insert("reason".to_owned(), Value::from(reason.clone()));
                }
                (STREAM_UPDATED.to_owned(), payload)
            }
        };
        json!({
            "iss": self.issuer, "jti": event.jti, "iat": event.at / 1_000,
            "aud": audience(self.issuer, &stream.principal),
            "txn": event.jti, "sub_id": {"format": "opaque", "id": stream.id}, "events": {uri: payload}
        })
    }
}

/// `aud` of the SETs for a principal: its own name where that is a URI, such as a SPIFFE id.
pub fn audience(issuer: &str, principal: &str) -> String {
    if principal.contains("://") { principal.to_owned() } else { format!("{issuer}/receivers/{principal}") }
}

/// Events that an operator and an issuer cannot make, since they have no effect here.
const WITHOUT_EFFECT: [&str; 2] = ["session-presented", "account-enabled"];

/// What a signal says: about whom, and the events that say it, the most exact one first.
struct Said {
    subject: Value,
    issuer: Option<Value>,
    events: Vec<(String, Map<String, Value>)>,
}

/// What the claims of a SET say.
fn said(claims: &Map<String, Value>, event: &str) -> Option<Said> {
    let mut payload = claims.get("events")?.get(event)?.as_object()?.clone();
    // In drafts the subject was inside the event.
    let inside = payload.remove("subject");
    let subject = claims.get("sub_id").cloned().or(inside)?;
    let issuer = claims.get("issuer").or_else(|| claims.get(TOKEN_ISSUER));
    let subject = with_issuer(subject, issuer.and_then(Value::as_str));
    let mut events = vec![(event.to_owned(), payload.clone())];
    events.extend(standard(event, payload));
    Some(Said { subject, issuer: issuer.cloned(), events })
}

/// What a stop ends. That later sessions are refused too has no standard event.
fn stop(claims: &Map<String, Value>, record: &SignalRecord) -> Option<Said> {
    let issuer = claims.get("issuer")?;
    let members = claims.get("stop")?.as_object()?.iter().filter(|(name, _)| *name != "issuer");
    let mut subject = Map::new();
    for (name, value) in members {
        subject.insert(name.clone(), json!({"format": "opaque", "id": value.as_str()?}));
    }
    // Everything of an issuer is no subject.
    if subject.is_empty() {
        return None;
    }
    subject.insert("format".to_owned(), "complex".into());
    let subject = with_issuer(Value::Object(subject), issuer.as_str());
    let payload = Map::from_iter([("event_timestamp".to_owned(), record.signal.at.0.into())]);
    Some(Said { subject, issuer: Some(issuer.clone()), events: vec![(SESSION_REVOKED.to_owned(), payload)] })
}

/// The event of CAEP that says nearly the same as an event of our own, for receivers that do not know ours.
fn standard(event: &str, mut payload: Map<String, Value>) -> Option<(String, Map<String, Value>)> {
    if event == TASK_COMPLETED {
        payload.remove("outcome");
        return Some((SESSION_REVOKED.to_owned(), payload));
    }
    if event == GRANT_NARROWED {
        let claims = ["scope", "authorization_details"];
        let claims: Map<_, _> =
            claims.into_iter().filter_map(|name| Some((name.to_owned(), payload.remove(name)?))).collect();
        payload.insert("claims".to_owned(), Value::Object(claims));
        return Some((TOKEN_CLAIMS_CHANGE.to_owned(), payload));
    }
    None
}

/// Names the issuer in those members of a complex subject that have a format for it: an opaque user or token could be that
/// of any issuer.
fn with_issuer(mut subject: Value, issuer: Option<&str>) -> Value {
    let Some(issuer) = issuer else { return subject };
    let Some(members) = subject.as_object_mut() else { return subject };
    if members.get("format").is_some_and(|format| format != "complex") {
        return subject;
    }
    for (name, format, id_name) in [("user", "iss_sub", "sub"), ("token", "jwt_id", "jti")] {
        let Some(member) = members.get_mut(name) else { continue };
        let id = member.get("id").filter(|_| member.get("format").is_some_and(|format| format == "opaque"));
        if let Some(id) = id.cloned() {
            *member = json!({"format": format, "iss": issuer, id_name: id});
        }
    }
    subject
}

/// The reason that an operator or issuer gave, where the event has none (CAEP 1.0 §2), and who began it.
fn with_reason(mut payload: Map<String, Value>, reason: &str, transmitter: &str) -> Map<String, Value> {
    let reason = if reason.is_empty() { "ended at the hub" } else { reason };
    payload.entry("reason_admin").or_insert(json!({"en": reason}));
    if is_operator_stream(transmitter) {
        payload.entry("initiating_entity").or_insert("admin".into());
    }
    payload
}

/// The issuers that sent it on, with the one that did last; `None`: `own` was one of them, so it goes in a circle.
fn via(claims: &Map<String, Value>, own: &str) -> Option<Value> {
    let mut via = claims.get(VIA).and_then(Value::as_array).cloned().unwrap_or_default();
    let from = claims.get("iss").cloned().unwrap_or_default();
    if via.iter().chain([&from]).any(|issuer| issuer == own) {
        return None;
    }
    via.push(from);
    Some(Value::Array(via))
}

/// The transaction (RFC 8417 §2.2): that of the signal, or its id.
fn txn(claims: &Map<String, Value>, jti: &str) -> Value {
    claims.get("txn").filter(|txn| txn.is_string()).cloned().unwrap_or_else(|| jti.into())
}

/// Of signal and stream, and not of the id in the store: after a restore another signal may get the same id.
fn jti(stream: &StreamRecord, record: &SignalRecord) -> String {
    let signal = &record.signal;
    let named = json!([stream.feed, stream.id, signal.transmitter, signal.jti, signal.taken_in]);
    URL_SAFE_NO_PAD.encode(sha256(named.to_string().as_bytes()).get(..18).unwrap_or_default())
}
