//! Signals that operators make: events, and stops.

use crate::config::hub::Feed;
use crate::config::problem;
use crate::intake::derive::Origin;
pub use crate::intake::operator_error::OperatorError;
use crate::intake::service::Intake;
use crate::intake::words::{self, Named};
use crate::store::Store;
use crate::store::model::{Change, NewSignal, Outcome, StoreError};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use taskfence_core::feed::entry::{self, Decoded};
use taskfence_core::feed::revision::Revision;
use taskfence_core::policy::policy::Policy;
use taskfence_core::signal::accepted::Signal;
use taskfence_core::signal::operator::{self, Caller, OPERATOR};
use taskfence_core::state::bucket::{Entry, SourceTag};
use taskfence_core::state::fact::Fact;
use taskfence_core::state::key::StateKey;
use taskfence_core::time::Timestamp;

/// The longest id that an operator may give.
const MAX_ID: usize = 1024;

/// The event of a stop, in the store.
pub const STOP: &str = "stop";

/// An event in the words of an operator.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct OperatorEvent {
    /// The last part of its URI, such as `session-revoked`, or the URI.
    pub event: String,
    /// The members of the event, such as `scope` of grant-narrowed.
    pub details: Map<String, Value>,
    /// Whom it is about: members such as `task` and `user` with a name each, and `issuer`; or a subject identifier
    /// (RFC 9493, SSF 1.0 §3).
    pub subject: Value,
    /// Only grants of this issuer. Default: the member `issuer` of the subject.
    pub issuer: Option<String>,
    /// Why.
    pub reason: String,
    /// An id. The same event of the same caller with the same id again changes nothing. Default: a new one.
    pub id: Option<String>,
    /// Whether an operator reports it, or an issuer.
    pub caller: Caller,
}

/// An operator's signal that is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// The id of the signal in the store.
    pub signal: u64,
    /// Its `jti`.
    pub jti: String,
    /// The revision after its last entry: where it is in force, receipts name it.
    pub revision: Revision,
    /// How many entries it has.
    pub entries: usize,
    /// What is odd about it, and changed nothing.
    pub notes: Vec<String>,
    /// The same signal had been made before.
    pub repeated: bool,
}

impl Intake {
    /// Takes in an event that the caller `by` reports into `feed`. Its meaning is that of the same event in a SET. The
    /// signal is durable when this returns.
    pub async fn operator_event(&self, feed: &str, by: &str, event: OperatorEvent) -> Result<Made, OperatorError> {
        let feed = self.operated(feed)?;
        let id = id(event.id.as_deref())?;
        let now = self.clock().now_ms();
        let (signal, claims) = read_event(&feed, &event, &id, Timestamp(now / 1_000))?;
        // An issuer must not use up the room that is there for operators: they could not stop it any more.
        let share = if event.caller == Caller::Issuer { by } else { OPERATOR };
        let stream = event.caller.stream(by);
        let origin = Origin { feed: &feed.name, stream: &stream, by, share, now, skew: self.skew() };
        let mut record = origin.record(&signal, Value::Object(claims).to_string());
        record.fingerprint = fingerprint(&event);
        record.reason = event.reason;
        let mut entries = signal.entries().to_vec();
        self.date(&feed, &mut entries, Timestamp(now / 1_000)).await?;
        record.at = entries.iter().map(|entry| entry.at).max().unwrap_or(record.at);
        record.entries = entries.iter().map(|entry| origin.entry(entry)).collect();
        let notes = signal.notes().oddities.iter().map(str::to_owned).collect();
        self.submit(&feed, record, notes).await
    }

    /// Refuses everything that `what` names until an operator lifts it: `{"issuer": ..}` alone, or with one member such
    /// as `client`. The signal is durable when this returns.
    pub async fn stop(&self, feed: &str, by: &str, what: &Value, reason: &str) -> Result<Made, OperatorError> {
        let feed = self.operated(feed)?;
        let (key, issuer) = stopped(&feed, what)?;
        let id = id(None)?;
        let now = self.clock().now_ms();
        let at = Timestamp(now / 1_000);
        let mut entries = vec![Entry {
            key,
            fact: Fact::Blocked,
            at,
            until: Timestamp::MAX,
            conditions: Vec::new(),
            data: Vec::new(),
            source: SourceTag::NONE,
            lifted: false,
        }];
        self.date(&feed, &mut entries, at).await?;
        let stream = Caller::Operator.stream(by);
        let origin = Origin { feed: &feed.name, stream: &stream, by, share: OPERATOR, now, skew: self.skew() };
        let subject = what.to_string();
        let record = NewSignal {
            feed: feed.name.clone(),
            transmitter: stream.clone(),
            jti: id.clone(),
            fingerprint: Sha256::digest(&subject).to_vec(),
            event: STOP.to_owned(),
            claims: json!({"jti": id, "iat": at.0, "issuer": issuer, "stop": what}).to_string(),
            subject,
            by: by.to_owned(),
            reason: reason.to_owned(),
            at,
            taken_in: now,
            entries: entries.iter().map(|entry| origin.entry(entry)).collect(),
        };
        self.submit(&feed, record, Vec::new()).await
    }

    fn operated(&self, feed: &str) -> Result<std::sync::Arc<Feed>, OperatorError> {
        let found = self.feed(feed).map(|intake| intake.feed.clone());
        found.ok_or_else(|| OperatorError::UnknownFeed(feed.to_owned()))
    }

    /// Dates entries that restrict no earlier than the latest time that is stored for their keys, so that they hit
    /// everything that is known to have begun.
    async fn date(&self, feed: &Feed, entries: &mut [Entry], now: Timestamp) -> Result<(), StoreError> {
        let keys: Vec<StateKey> = entries.iter().map(|entry| entry.key).collect();
        let (store, name) = (self.store().clone(), feed.name.clone());
        let latest = tokio::task::spawn_blocking(move || {
            keys.iter().map(|key| latest(&*store, &name, key, now)).collect::<Result<Vec<_>, _>>()
        });
        let latest = latest.await.map_err(|error| StoreError::Failed(error.to_string()))??;
        for (entry, latest) in entries.iter_mut().zip(latest).filter(|(entry, _)| entry.fact.restricts()) {
            let later = latest.since(entry.at);
            entry.at = entry.at.plus(later);
            if entry.until < Timestamp::MAX {
                entry.until = entry.until.plus(later);
            }
        }
        Ok(())
    }

    async fn submit(&self, feed: &Feed, record: NewSignal, notes: Vec<String>) -> Result<Made, OperatorError> {
        let (jti, entries) = (record.jti.clone(), record.entries.len());
        let (by, event) = (record.by.clone(), record.event.clone());
        let outcome = self.writer().submit(Change::Signal(record)).await.map_err(OperatorError::Submit)?;
        let (signal, revision, repeated) = match outcome {
            Outcome::Stored { signal, revision, .. } => (signal, revision, false),
            Outcome::Repeated { signal, revision } => (signal, revision, true),
            Outcome::Contradicts { signal } => return Err(OperatorError::Contradicts(signal)),
            Outcome::Unknown => return Err(StoreError::Damaged("a new signal is unknown".to_owned()).into()),
        };
        if let Some(intake) = self.feed(&feed.name) {
            intake.counters.by_operators.add();
        }
        tracing::info!(feed = feed.name, by, event, jti, signal, repeated, "an operator made a signal");
        Ok(Made { signal, jti, revision, entries, notes, repeated })
    }
}

/// The signal of an operator's event, and its claims.
fn read_event(
    feed: &Feed,
    event: &OperatorEvent,
    id: &str,
    now: Timestamp,
) -> Result<(Signal, Map<String, Value>), OperatorError> {
    let uri = uri(&event.event)?;
    let policy = feed.policy();
    let names = issuer_names(&policy);
    let named = words::read(&event.subject, event.issuer.as_deref(), &names)?;
    let Some(subject) = &named.subject else {
        let help = "name a `task`, `user`, `client` or the like; `stop` refuses everything of an issuer";
        return Err(OperatorError::subject("the subject names only an issuer", help));
    };
    let mut payload = event.details.clone();
    complete(&mut payload, &uri, &named);
    payload.entry("event_timestamp").or_insert(now.0.into());
    if !event.reason.is_empty() {
        payload.entry("reason_admin").or_insert(json!({"en": event.reason}));
    }
    let mut claims = Map::new();
    claims.insert("iss".to_owned(), OPERATOR.into());
    claims.insert("jti".to_owned(), id.into());
    claims.insert("iat".to_owned(), now.0.into());
    claims.insert("sub_id".to_owned(), subject.clone());
    claims.insert("events".to_owned(), json!({uri: payload}));
    // Not a claim of a SET: with it the same entries can be derived again.
    claims.extend(named.issuer.iter().map(|issuer| ("issuer".to_owned(), issuer.clone().into())));
    let signal = operator::interpret_claims(&claims, policy.issuers(), named.issuer.as_deref(), now)
        .map_err(|refused| OperatorError::subject(refused.description, ""))?;
    if !signal.notes().unmatched.is_empty() {
        let message = format!("no grant can be compared with `{}`", signal.notes().unmatched.join("`, `"));
        return Err(OperatorError::subject(message, "leave it out, and more grants are affected"));
    }
    if signal.entries().is_empty() {
        let help = "see the table of events for what each does";
        return Err(OperatorError::subject("the event has no effect on any grant", help));
    }
    Ok((signal, claims))
}

/// Adds members that the specifications ask for and an operator would only repeat.
fn complete(payload: &mut Map<String, Value>, uri: &str, named: &Named) {
    let is = |payload: &Map<String, Value>, name: &str, value: &str| {
        payload.get(name).and_then(Value::as_str) == Some(value)
    };
    if uri.ends_with("/device-compliance-change") {
        let other = if is(payload, "current_status", "compliant") { "not-compliant" } else { "compliant" };
        payload.entry("previous_status").or_insert(other.into());
    }
    if uri.ends_with("/risk-level-change") {
        let kinds = ["user", "device", "session", "tenant", "group"];
        let kind = kinds.into_iter().find(|kind| named.members.iter().any(|member| member == kind));
        payload.entry("principal").or_insert(kind.unwrap_or("user").to_ascii_uppercase().into());
    }
}

fn uri(event: &str) -> Result<String, OperatorError> {
    let known = operator::events().find(|(name, uri)| *name == event || uri == event);
    known.map(|(_, uri)| uri).ok_or_else(|| {
        let names: Vec<&str> = operator::events().map(|(name, _)| name).collect();
        OperatorError::subject(format!("unknown event `{event}`"), problem::known(event, names).unwrap_or_default())
    })
}

/// The key that `what` names, and the issuer.
fn stopped(feed: &Feed, what: &Value) -> Result<(StateKey, String), OperatorError> {
    let policy = feed.policy();
    let names = issuer_names(&policy);
    let named = words::read(what, None, &names)?;
    let help = "write `issuer`, and at most one of `task`, `token`, `session`, `user`, `client`, `device`, `tenant`";
    let issuer = named.issuer.ok_or_else(|| OperatorError::subject("what to stop is not in these words", help))?;
    // Not each entry about the issuer has every claim.
    let mut entries = policy.issuers().iter().filter(|known| known.name == issuer);
    let key = entries.find_map(|compiled| match &named.subject {
        None => Some(StateKey::of_issuer(&compiled.key_space)),
        Some(subject) => operator::key(subject, compiled),
    });
    let key = key
        .ok_or_else(|| OperatorError::subject("what to stop is not one thing that tokens of this issuer have", help))?;
    Ok((key, issuer))
}

/// The names of the issuers of a feed, each once.
fn issuer_names(policy: &Policy) -> Vec<&str> {
    let mut names = Vec::new();
    for issuer in policy.issuers() {
        if !names.contains(&issuer.name.as_str()) {
            names.push(issuer.name.as_str());
        }
    }
    names
}

/// The latest time of what is stored about `key`; 0 when there is nothing.
fn latest(store: &dyn Store, feed: &str, key: &StateKey, now: Timestamp) -> Result<Timestamp, StoreError> {
    let about = store.about(feed, key, now)?;
    let times =
        about.iter().flat_map(|(stored, _)| entry::decode(&stored.entry.bytes)).filter_map(|decoded| match decoded {
            Ok(Decoded::Known(known)) => Some(known.entry.at),
            Ok(Decoded::UnknownKind) | Err(_) => None,
        });
    Ok(times.max().unwrap_or_default())
}

/// What must be the same when an operator makes the same signal again. The time is not: a client that tries again does
/// so later.
fn fingerprint(event: &OperatorEvent) -> Vec<u8> {
    let OperatorEvent { event, details, subject, issuer, reason: _, id: _, caller: _ } = event;
    Sha256::digest(json!([event, details, subject, issuer]).to_string()).to_vec()
}

fn id(given: Option<&str>) -> Result<String, OperatorError> {
    match given {
        None => Ok(uuid::Uuid::new_v4().to_string()),
        Some(id) if (1..=MAX_ID).contains(&id.len()) => Ok(id.to_owned()),
        Some(_) => Err(OperatorError::subject(format!("the id does not have 1 to {MAX_ID} bytes"), "")),
    }
}
