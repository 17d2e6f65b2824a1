//! Builds the record of a decision.

use super::member::{Members, PATH, WORD};
use crate::decision::record::{Ended, Record, SchemaVersion, State, VerdictName};
use crate::decision::session::Session;
use crate::decision::verdict::{Permit, Refusal};
use crate::http::path::Canonical;
use crate::index::RuleIndex;
use crate::policy::policy::Policy;
use crate::rules::mode::Mode;
use crate::time::Span;
use crate::token::claim_names::ClaimFault;
use std::net::IpAddr;
use std::time::{Duration, UNIX_EPOCH};

/// What the proxy knows of a decision beside its verdict.
#[derive(Debug, Clone, Default)]
pub struct Circumstances<'c> {
    /// The id of the decision.
    pub decision: &'c str,
    /// When it was made, in milliseconds since 1970.
    pub time_ms: u64,
    /// `:method`, as received.
    pub method: &'c [u8],
    /// `:authority`, as received.
    pub authority: &'c [u8],
    /// `:path`, as received.
    pub path: &'c [u8],
    /// The revision of the feed that was applied.
    pub revision: Option<String>,
    /// How long ago the transmitters of the issuer were heard of.
    pub state_age: Option<Span>,
    /// The address of the client.
    pub source: Option<IpAddr>,
    /// The URI in the certificate of the client.
    pub peer: Option<String>,
    /// The trace that the request is part of.
    pub trace_id: Option<String>,
}

/// The record of a refused request.
pub fn refused(refusal: &Refusal, policy: &Policy, circumstances: &Circumstances<'_>) -> Record {
    let record = record(VerdictName::Denied, refusal.rule, refusal.session.as_deref(), policy, circumstances);
    // A refusal is carried out only where it is enforced.
    Record { mode: Mode::Enforce, ..because(refusal, record) }
}

/// The record of a request that passed: `would_deny` if it passed by shadow mode, otherwise `allowed`.
pub fn admitted(permit: &Permit, policy: &Policy, circumstances: &Circumstances<'_>) -> Record {
    let verdict = if permit.shadowed().is_some() { VerdictName::WouldDeny } else { VerdictName::Allowed };
    let record = record(verdict, permit.rule(), permit.session(), policy, circumstances);
    match permit.shadowed() {
        Some(refusal) => Record { mode: Mode::Shadow, ..because(refusal, record) },
        None => Record { break_glass: permit.broken_glass(), ..record },
    }
}

/// The record of a live stream that was ended, or would have been if refusals were enforced.
pub fn ended(
    refusal: &Refusal,
    enforced: bool,
    ended: Ended,
    policy: &Policy,
    circumstances: &Circumstances<'_>,
) -> Record {
    let verdict = if enforced { VerdictName::Ended } else { VerdictName::WouldEnd };
    let record = record(verdict, refusal.rule, refusal.session.as_deref(), policy, circumstances);
    Record { ended: Some(ended), ..because(refusal, record) }
}

fn record(
    verdict: VerdictName,
    rule: Option<RuleIndex>,
    session: Option<&Session>,
    policy: &Policy,
    circumstances: &Circumstances<'_>,
) -> Record {
    let Circumstances { decision, time_ms, method, authority, path, revision, state_age, source, peer, trace_id } =
        circumstances;
    let mut members = Members::new(&policy.evidence().masks);
    let grant = session.map(|session| session.verified().grant());
    let text = |bytes: &[u8]| (!bytes.is_empty()).then(|| String::from_utf8_lossy(bytes).into_owned());
    let host = policy.host(authority).ok().map(|host| host.folded().into_owned());
    let path = Canonical::parse(path).ok();
    let state = State { revision: revision.clone(), age_ms: state_age.map(|age| age.0.saturating_mul(1000)) };
    let fingerprint = session.map(fingerprint);
    let mut record = Record {
        schema: SchemaVersion::V1,
        decision: (*decision).to_owned(),
        time: time_text(*time_ms),
        time_ms: *time_ms,
        verdict,
        reason: None,
        break_glass: false,
        rule: members.text("rule", rule.and_then(|at| policy.rule(at)).map(|rule| rule.name())),
        mode: policy.mode(rule),
        config: format!("{:016x}", policy.config_hash()),
        state: (state != State::default()).then_some(state),
        issuer: members.text("issuer", grant.map(|grant| grant.issuer.as_str())),
        subject: members.text("subject", grant.map(|grant| grant.subject.as_str())),
        actor: members.text("actor", grant.and_then(|grant| grant.actors.first()).map(|actor| actor.subject.as_str())),
        // Inner `act` claims are earlier actors: they are history and have no authority (RFC 8693 §4.1).
        actors: grant.map_or_else(Vec::new, |grant| members.actors(grant.actors.iter().map(|actor| &*actor.subject))),
        client: members.text("client", grant.and_then(|grant| grant.client_id.as_deref())),
        task: members.text("task", grant.and_then(|grant| grant.task.as_deref())),
        session: members.text("session", grant.and_then(|grant| grant.session.as_deref())),
        token: members.text("token", grant.map(|grant| grant.token_id.to_string()).as_deref()),
        fingerprint: members.text("fingerprint", fingerprint.as_deref()),
        method: members.at_most(WORD, "method", text(method).as_deref()),
        host: members.text("host", host.as_deref()),
        path: members.at_most(PATH, "path", path.as_ref().map(|path| path.as_str())),
        source: members.at_most(WORD, "source", source.map(|source| source.to_string()).as_deref()),
        peer: members.text("peer", peer.as_deref()),
        trace_id: members.at_most(WORD, "trace_id", trace_id.as_deref()),
        claim: None,
        fault: None,
        ended: None,
        masked: Vec::new(),
        cut: Vec::new(),
    };
    (record.masked, record.cut) = (members.masked, members.cut);
    record
}

/// Adds why the request was refused.
fn because(refusal: &Refusal, record: Record) -> Record {
    // The names of claims are those of the configuration, which has bounds of its own.
    let no_masks = Default::default();
    let mut members = Members::new(&no_masks);
    let claim = refusal.claim.as_deref();
    let (claim, fault) = (claim.map(|claim| claim.name.as_str()), claim.map(|claim| fault(&claim.fault)));
    let (claim, fault) = (members.text("claim", claim), members.text("fault", fault.as_deref()));
    let cut = [record.cut, members.cut].concat();
    Record { reason: Some(refusal.reason.code().to_owned()), claim, fault, cut, ..record }
}

/// What is wrong with a claim, in words without a value.
fn fault(fault: &ClaimFault) -> String {
    match fault {
        ClaimFault::Missing => "missing".to_owned(),
        ClaimFault::Shape => "wrong shape".to_owned(),
        ClaimFault::NotInObject => "not inside an object".to_owned(),
        ClaimFault::Differs(other) => format!("differs from `{other}`"),
        ClaimFault::NotAccepted => "not accepted".to_owned(),
    }
}

/// The SHA-256 of the whole token, the first 16 bytes in hexadecimal.
fn fingerprint(session: &Session) -> String {
    session.digest().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// A time in milliseconds since 1970 as RFC 3339 writes it.
fn time_text(time_ms: u64) -> String {
    // The last time that has four digits for its year: 9999-12-31T23:59:59.999Z.
    const LAST: u64 = 253_402_300_799_999;
    let time = UNIX_EPOCH.checked_add(Duration::from_millis(time_ms.min(LAST))).unwrap_or(UNIX_EPOCH);
    humantime::format_rfc3339_millis(time).to_string()
}
