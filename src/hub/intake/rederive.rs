//! Entries of a stored signal, derived again for the configuration of today.

use crate::config::hub::Feed;
use crate::intake::cut_off;
use crate::intake::derive::Origin;
use crate::intake::operator::STOP;
use crate::store::model::{NewEntry, SignalRecord, StoredEntry};
use serde_json::{Map, Value};
use taskfence_core::feed::entry::{Decoded, FeedEntry, decode};
use taskfence_core::signal::operator::{self, OPERATOR, is_caller_stream, is_operator_stream};
use taskfence_core::signal::provider::assertion::Way;
use taskfence_core::signal::stored;
use taskfence_core::state::bucket::Entry;
use taskfence_core::time::{Span, Timestamp};

/// The entries that `record` has now: those that it had, for as long as the configuration of `feed` keeps them, and what
/// it says in the grants of issuers and by the claims that came since. An entry never goes, and never ends earlier:
/// proxies have it. `None`: nothing changes, or the signal means nothing here any more.
pub(super) fn again(
    feed: &Feed,
    record: &SignalRecord,
    had: &[StoredEntry],
    skew: Span,
    now: Timestamp,
) -> Option<Vec<NewEntry>> {
    let signal = &record.signal;
    let origin = origin(feed, record, skew);
    let mut derived: Vec<(u64, Entry)> = Vec::new();
    for mut entry in read(feed, record)? {
        // The hub may have dated an operator's signal later, see `Intake::date`.
        let identity = origin.tagged(&entry).identity();
        let dated = had.iter().filter_map(known).find(|known| known.identity() == identity).map(|known| known.at);
        let dated = dated.unwrap_or(if is_caller_stream(&signal.transmitter) { signal.at } else { entry.at });
        if entry.fact.restricts() && dated > entry.at {
            if entry.until < Timestamp::MAX {
                entry.until = entry.until.plus(dated.since(entry.at));
            }
            entry.at = dated;
        }
        derived.push((identity, entry));
    }
    let mut changed = false;
    let mut entries: Vec<NewEntry> = Vec::new();
    for stored in had {
        let until = known(stored).and_then(|entry| {
            let same = derived.iter().find(|(identity, _)| *identity == entry.identity());
            same.map(|(_, same)| origin.until(same.until))
        });
        let longer = until.filter(|until| *until > stored.entry.until);
        changed |= longer.is_some();
        entries.push(longer.map_or_else(|| stored.entry.clone(), |until| prolonged(&stored.entry, until)));
    }
    let has = |identity: u64| had.iter().filter_map(known).any(|entry| entry.identity() == identity);
    let new = derived.iter().filter(|(identity, entry)| !has(*identity) && origin.until(entry.until) > now);
    let new: Vec<_> = new.map(|(_, entry)| origin.entry(entry)).collect();
    changed |= !new.is_empty();
    entries.extend(new);
    changed.then_some(entries)
}

/// Where the entries of `record` come from: see `Intake::operator_event` for whose room they use.
fn origin<'r>(feed: &'r Feed, record: &'r SignalRecord, skew: Span) -> Origin<'r> {
    let SignalRecord { signal, .. } = record;
    let share = match (is_operator_stream(&signal.transmitter), is_caller_stream(&signal.transmitter)) {
        (true, _) => OPERATOR,
        (false, true) => &signal.by,
        (false, false) => Way::of_stream(&signal.transmitter).map_or(&*signal.transmitter, |(_, sender)| sender),
    };
    Origin { feed: &feed.name, stream: &signal.transmitter, by: &signal.by, share, now: signal.taken_in, skew }
}

/// The same entry, kept until `until`.
pub(super) fn prolonged(entry: &NewEntry, until: Timestamp) -> NewEntry {
    let Some(Ok(Decoded::Known(read))) = decode(&entry.bytes).next() else { return entry.clone() };
    let mut bytes = Vec::new();
    FeedEntry { entry: Entry { until, ..read.entry }, by: read.by }.encode(&mut bytes);
    NewEntry { bytes, until, ..entry.clone() }
}

/// A stored entry; `None` for one that this version does not know.
pub(super) fn known(stored: &StoredEntry) -> Option<Entry> {
    match decode(&stored.entry.bytes).next() {
        Some(Ok(Decoded::Known(read))) => Some(read.entry),
        Some(Ok(Decoded::UnknownKind) | Err(_)) | None => None,
    }
}

/// What the claims of a signal say with the configuration of today, by the clock of when it was taken in. `None`: nothing,
/// such as a stop, which is kept for ever, or a signal of a transmitter that is not configured any more.
fn read(feed: &Feed, record: &SignalRecord) -> Option<Vec<Entry>> {
    let signal = &record.signal;
    let claims: Map<String, Value> = serde_json::from_str(&signal.claims).ok()?;
    let taken_in = Timestamp(signal.taken_in / 1_000);
    let policy = feed.policy();
    let issuer = || claims.get("issuer").and_then(Value::as_str);
    let stream = signal.transmitter.as_str();
    let read = match (is_caller_stream(stream), signal.event.as_str()) {
        (true, STOP) => return None,
        (true, cut_off::EVENT) => {
            let issuer = policy.issuers().iter().find(|known| Some(known.name.as_str()) == issuer())?;
            return Some(vec![cut_off::entry(issuer, signal.at)]);
        }
        (true, _) => operator::interpret_claims(&claims, policy.issuers(), issuer(), taken_in),
        (false, _) => {
            let sender = Way::of_stream(stream).map_or(stream, |(_, sender)| sender);
            let transmitter = policy.signals().transmitters().iter().find(|known| known.stream == sender)?;
            stored::interpret_again(&claims, transmitter, policy.issuers(), taken_in)
        }
    };
    match read {
        Ok(signal) => Some(signal.entries().to_vec()),
        Err(error) => {
            tracing::warn!(
                feed = feed.name,
                signal = record.id,
                error = error.description,
                "a stored signal means nothing any more: its entries stay as they are"
            );
            None
        }
    }
}
