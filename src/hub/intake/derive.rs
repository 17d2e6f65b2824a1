//! From a signal to what the store keeps of it.

use crate::store::model::{NewEntry, NewSignal};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};
use taskfence_core::feed::entry::FeedEntry;
use taskfence_core::signal::accepted::Signal;
use taskfence_core::state::bucket::{Entry, SourceTag};
use taskfence_core::state::freshness::TransmitterId;
use taskfence_core::time::{Span, Timestamp};

/// Where a signal comes from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin<'o> {
    /// The feed.
    pub(super) feed: &'o str,
    /// The stream of the transmitter, or that of a caller of the API.
    pub(super) stream: &'o str,
    /// Who made it.
    pub(super) by: &'o str,
    /// Whose share of the room its entries use.
    pub(super) share: &'o str,
    /// The clock of the hub, in milliseconds since 1970.
    pub(super) now: u64,
    /// Added to the life of each entry.
    pub(super) skew: Span,
}

impl Origin<'_> {
    /// The record of `signal`, whose claims are the JSON text `claims`.
    pub(super) fn record(&self, signal: &Signal, claims: String) -> NewSignal {
        let parsed: Map<String, Value> = serde_json::from_str(&claims).unwrap_or_default();
        NewSignal {
            feed: self.feed.to_owned(),
            transmitter: self.stream.to_owned(),
            jti: signal.id().to_owned(),
            fingerprint: signal.fingerprint().claims_hash().to_vec(),
            event: signal.event().to_owned(),
            subject: subject(&parsed, signal.event()).to_string(),
            reason: reason(&parsed, signal.event()),
            claims,
            by: self.by.to_owned(),
            at: at(signal, Timestamp(self.now / 1_000)),
            taken_in: self.now,
            entries: signal.entries().iter().map(|entry| self.entry(entry)).collect(),
        }
    }

    /// An entry as a page has it. The store gives it its generation.
    pub(super) fn entry(&self, entry: &Entry) -> NewEntry {
        let until = self.until(entry.until);
        let entry = Entry { until, ..self.tagged(entry) };
        let (key, bucket) = (entry.key.encode().to_vec(), entry.key.bucket());
        let mut bytes = Vec::new();
        FeedEntry { entry, by: TransmitterId::new(self.share) }.encode(&mut bytes);
        NewEntry { bytes, key, bucket, until }
    }

    /// The entry with the tag of its stream.
    pub(super) fn tagged(&self, entry: &Entry) -> Entry {
        Entry { source: SourceTag::new(self.feed, self.stream, 0), ..entry.clone() }
    }

    /// Until when an entry is kept that no grant needs after `until`.
    pub(super) fn until(&self, until: Timestamp) -> Timestamp {
        // What is kept until an operator lifts it is kept for ever already.
        if until >= Timestamp::MAX { Timestamp::MAX } else { until.plus(self.skew) }
    }
}

/// The claims of a SET as its transmitter wrote them; its signature was verified.
pub(super) fn claims(set: &[u8]) -> Option<String> {
    let payload = set.split(|byte| *byte == b'.').nth(1)?;
    String::from_utf8(URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
}

/// The subject as the SET has it; null for an event about a stream.
fn subject<'c>(claims: &'c Map<String, Value>, event: &str) -> &'c Value {
    let inside = || payload(claims, event)?.get("subject");
    claims.get("sub_id").or_else(inside).unwrap_or(&Value::Null)
}

/// The reason for an administrator (CAEP 1.0 §2): the English text, or the first one.
fn reason(claims: &Map<String, Value>, event: &str) -> String {
    let reason = payload(claims, event).and_then(|payload| payload.get("reason_admin"));
    let text = match reason {
        Some(Value::Object(texts)) => texts.get("en").or_else(|| texts.values().next()).and_then(Value::as_str),
        Some(Value::String(text)) => Some(text.as_str()),
        _ => None,
    };
    text.unwrap_or_default().to_owned()
}

fn payload<'c>(claims: &'c Map<String, Value>, event: &str) -> Option<&'c Value> {
    claims.get("events")?.get(event)
}

/// When it happened: the time of its entries, that of its stream's status, or when it was issued.
fn at(signal: &Signal, now: Timestamp) -> Timestamp {
    let of_entries = signal.entries().first().map(|entry| entry.at);
    let heartbeat = signal.heartbeat();
    let issued = Some(heartbeat.issued).filter(|issued| *issued != Timestamp(0));
    of_entries.or(heartbeat.stream.map(|(_, at)| at)).or(issued).unwrap_or(now)
}
