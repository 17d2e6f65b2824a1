//! The record of a decision: made from what the proxy knows of the effective stream, then written to the proxy's log and
//! to the filter state, where access logs find it.

use crate::clock::last_milliseconds;
use crate::host;
use crate::local_reply::decision_id;
use crate::plugin::Shared;
use crate::ports::{EnvoyConnection, SharedData};
use crate::uses;
use log::Level;
use std::cell::Cell;
use taskfence_core::decision::judge::Judge;
use taskfence_core::decision::record::build::{self, Circumstances};
use taskfence_core::decision::record::{Ended, Record, VerdictName};
use taskfence_core::decision::verdict::{Permit, Refusal};
use taskfence_core::feed::position;
use taskfence_core::feed::revision::Revision;
use taskfence_core::http::connection::ConnectionInfo;
use taskfence_core::http::request::Request;
use taskfence_core::http::trace_context;
use taskfence_core::index::IssuerIndex;
use taskfence_core::live::admitted::Ending;
use taskfence_core::reason::Reason;
use taskfence_core::time::Timestamp;

/// The property with the record of the last decision about the stream.
const RECORD: &str = "taskfence.record";

/// So many refused requests without a verified token have a record in each second and worker, unless debug lines are wanted:
/// anybody can send such requests, and to ask the proxy for what a record has costs half of what refusing one does.
const MAX_UNVERIFIED: u32 = 20;

thread_local! {
    // A VM has one thread. A second, and how many records of requests without a verified token were made in it.
    static UNVERIFIED: Cell<(u64, u32)> = const { Cell::new((0, 0)) };
}

/// Records that a request was refused.
pub fn refused(shared: &Shared, judge: &Judge, refusal: &Refusal, request: &Request<'_>, decision: &str) {
    if refusal.session.is_none() && !has_room_for_unverified() && !log::log_enabled!(Level::Debug) {
        return;
    }
    let line = [request.method, request.authority, request.path, request.traceparent];
    let record = build::refused(refusal, judge.policy(), &circumstances(judge, issuer(refusal), line, decision));
    // Anybody can send requests without a verified token, so their refusals are logged at debug.
    match refusal.session.is_some() {
        true => publish_everywhere(shared, &record),
        false => publish(&record.line(), Level::Debug),
    }
}

/// Whether one more record of a request without a verified token may be made in this second.
fn has_room_for_unverified() -> bool {
    let second = last_milliseconds() / 1_000;
    let (known, made) = UNVERIFIED.get();
    let made = if known == second { made } else { 0 };
    UNVERIFIED.set((second, made.saturating_add(1)));
    made < MAX_UNVERIFIED
}

/// Records that a request passed, if it passed by break-glass or by shadow mode, or if it was drawn by chance.
pub fn admitted(shared: &Shared, judge: &Judge, permit: &Permit, request: &Request<'_>) {
    let policy = judge.policy();
    let always = permit.shadowed().is_some() || permit.broken_glass();
    if !always && !policy.record_allows(permit.rule()).hits(draw) {
        return;
    }
    let (line, decision) = ([request.method, request.authority, request.path, request.traceparent], decision_id());
    let issuer = permit.session().map(|session| session.verified().issuer());
    let record = build::admitted(permit, policy, &circumstances(judge, issuer, line, &decision));
    match always {
        true => publish_everywhere(shared, &record),
        false => publish(&record.line(), Level::Info),
    }
}

/// Records that a live stream is ended, or would be if refusals were enforced. `since`: when the worker was to be woken, in
/// nanoseconds since 1970.
pub fn ended(shared: &Shared, judge: &Judge, ending: &Ending, decision: &str, since: Option<u64>) {
    let refusal = &ending.refusal;
    let line = ending.line.parts().unwrap_or_default();
    let circumstances = circumstances(judge, issuer(refusal), line, decision);
    let milliseconds_since = |at: u64| circumstances.time_ms.saturating_sub(at / NANOSECONDS);
    let stream = Ended {
        delay_ms: since.filter(|_| follows_a_signal(refusal.reason)).map(milliseconds_since),
        lasted_ms: number(b"request\0time").map(milliseconds_since),
        bytes_in: number(b"request\0total_size"),
        bytes_out: number(b"response\0total_size"),
    };
    publish_everywhere(shared, &build::ended(refusal, ending.enforced, stream, judge.policy(), &circumstances));
}

/// The issuer of the verified token of a refused request.
fn issuer(refusal: &Refusal) -> Option<IssuerIndex> {
    refusal.session.as_ref().map(|session| session.verified().issuer())
}

/// So many nanoseconds are a millisecond.
const NANOSECONDS: u64 = 1_000_000;

/// What the proxy knows of the effective stream.
fn circumstances<'c>(
    judge: &Judge,
    issuer: Option<IssuerIndex>,
    [method, authority, path, traceparent]: [&'c [u8]; 4],
    decision: &'c str,
) -> Circumstances<'c> {
    let time_ms = host::now_nanoseconds().unwrap_or_default() / NANOSECONDS;
    Circumstances {
        decision,
        time_ms,
        method,
        authority,
        path,
        revision: revision(judge),
        state_age: issuer.and_then(|issuer| judge.state_age(issuer, Timestamp(time_ms / 1000))),
        source: EnvoyConnection.source(),
        peer: EnvoyConnection.peer_uri(),
        trace_id: trace_context::trace_id(traceparent).map(str::to_owned),
    }
}

/// The revision of the feed that this proxy has applied.
fn revision(judge: &Judge) -> Option<String> {
    let hub = judge.policy().signals().hub()?;
    let applied = position::read(&mut SharedData, hub.id).ok()?.applied;
    (applied != Revision::START).then(|| applied.to_string())
}

/// Whether a stream that is ended for `reason` may have been ended by the signal that woke the worker. The others end when
/// their time is over, or because of keys.
fn follows_a_signal(reason: Reason) -> bool {
    !matches!(
        reason,
        Reason::TokenExpired
            | Reason::SessionTooOld
            | Reason::AuthenticationTooOld
            | Reason::KeyUnknown
            | Reason::KeysUnavailable
            | Reason::StateStale
    )
}

/// A property that is a number. Envoy hands over its eight bytes; -1 stands for what it does not know.
fn number(path: &[u8]) -> Option<u64> {
    let bytes = host::property(path)?.try_into().ok()?;
    u64::try_from(i64::from_le_bytes(bytes)).ok()
}

/// A random number.
fn draw() -> Option<u32> {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes).ok()?;
    Some(u32::from_le_bytes(bytes))
}

/// Publishes a record that the hub gets too.
fn publish_everywhere(shared: &Shared, record: &Record) {
    let line = record.line();
    let is_of_refusal = matches!(record.verdict, VerdictName::Denied | VerdictName::WouldDeny);
    uses::record(shared, &line, is_of_refusal);
    publish(&line, Level::Info);
}

/// Writes the line of a record to the log and to the filter state.
fn publish(line: &str, level: Level) {
    host::set_property(RECORD, line.as_bytes());
    log::log!(level, "{line}");
}
