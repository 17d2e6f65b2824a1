//! A grant against the requirements of a rule. New requests and live streams are both decided here.

use crate::decision::session::Session;
use crate::index::IssuerIndex;
use crate::policy::policy::Policy;
use crate::reason::{Class, Reason};
use crate::rules::evidence::{Evidence, RequestLine};
use crate::rules::grant_status::{self, GrantStatus};
use crate::rules::requirement::{Check, Outcome, Requirement};
use crate::rules::routes::Captures;
use crate::rules::rule::{Mismatch, Rule};
use crate::state::store::{Store, StoreError};
use crate::state::view::View;
use crate::time::Timestamp;
use std::net::IpAddr;

/// Watches a decision. The data plane's observer sees nothing and costs nothing.
pub trait Observer {
    /// Whether the judge should go on after the first check that fails, only to show the others.
    const SEES_ALL: bool;

    /// Why a rule does not match; `None` of the one that does, which is the last.
    fn rule(&mut self, _: Option<Mismatch>) {}

    /// What the path captured, by name.
    fn captures(&mut self, _: &[String], _: &Captures<'_>) {}

    /// A check was evaluated against `evidence`.
    fn check(&mut self, check: &Check, outcome: Outcome, evidence: &Evidence<'_>);
}

/// The observer of the data plane.
pub(crate) struct NoopObserver;

impl Observer for NoopObserver {
    const SEES_ALL: bool = false;

    fn check(&mut self, _: &Check, _: Outcome, _: &Evidence<'_>) {}
}

/// A request, as far as the rule that matched it needs it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    /// The rule.
    pub(crate) rule: &'a Rule,
    /// The request, read.
    pub(crate) request: RequestLine<'a>,
    /// What its path captured.
    pub(crate) captures: Captures<'a>,
    /// The address that it came from, where the rule asks for it.
    pub(crate) source: Option<IpAddr>,
    /// The workload that it came from, where the rule asks for it.
    pub(crate) peer: Option<&'a str>,
}

/// Why a request does not meet a requirement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unmet {
    /// The reason of the first check that fails.
    pub(crate) reason: Reason,
    /// If that is about the authentication of the user: the reason of the other check about it, if that fails too. Then
    /// the client must ask for both at once (RFC 9470 §3).
    pub(crate) also: Option<Reason>,
}

impl From<Reason> for Unmet {
    fn from(reason: Reason) -> Unmet {
        Unmet { reason, also: None }
    }
}

/// Evaluates the checks of `requirement` until one refuses. `Ok` says whether break-glass was needed.
///
/// The only place that makes [`Evidence`].
pub(crate) fn evaluate<O: Observer>(
    requirement: &Requirement,
    asked: &Asked<'_>,
    session: &Session,
    grant_status: &GrantStatus,
    (policy, view): (&Policy, &View),
    now: Timestamp,
    observer: &mut O,
) -> Result<bool, Unmet> {
    let evidence = Evidence {
        grant: session.verified().grant(),
        minted: session.claims(),
        grant_status,
        request: asked.request,
        capture_names: asked.rule.matcher().capture_names(),
        captures: asked.captures,
        source: asked.source,
        peer: asked.peer,
        fresh_at: view.fresh_at(policy.signals().heartbeats_of(session.verified().issuer())),
        now,
    };
    let mut unmet: Option<Unmet> = None;
    let mut broken_glass = false;
    for check in requirement.checks() {
        let may_add = |unmet: &Unmet| is_step_up(unmet.reason) && check.is_authentication();
        if !O::SEES_ALL && !unmet.as_ref().is_none_or(may_add) {
            continue;
        }
        let outcome = requirement.evaluate(check, &evidence);
        observer.check(check, outcome, &evidence);
        match (outcome, &mut unmet) {
            (Outcome::Met, _) => {}
            (Outcome::Lifted(_), _) => broken_glass = true,
            (Outcome::Unmet(reason), None) => unmet = Some(reason.into()),
            (Outcome::Unmet(reason), Some(first)) if is_step_up(first.reason) && is_step_up(reason) => {
                first.also = first.also.or(Some(reason));
            }
            (Outcome::Unmet(_), Some(_)) => {}
        }
    }
    unmet.map_or(Ok(broken_glass), Err)
}

/// Whether a new authentication of the user may help.
fn is_step_up(reason: Reason) -> bool {
    reason.class() == Class::InsufficientAuthentication
}

/// Whether the feed that the filter follows answers for the grants of `issuer`: the filter has caught up with it, and it
/// covers the issuer. Without a hub there is nothing to wait for.
pub(crate) fn check_feed(policy: &Policy, view: &View, issuer: IssuerIndex) -> Result<(), Reason> {
    let Some(hub) = policy.signals().hub() else { return Ok(()) };
    let needed = issuer.of(&hub.needed).ok_or(Reason::InternalError)?;
    view.check_feed(hub.id, needed).map_err(|_| Reason::StateNotReady)
}

/// The status of the grant of `session`, read with a `view` that was refreshed at `clock`. Its buckets are read only
/// where they have changed since this worker last read them.
pub(crate) fn grant_status(
    clock: u64,
    view: &View,
    session: &Session,
    store: &mut impl Store,
) -> Result<GrantStatus, Reason> {
    let known = session.last_grant_status().filter(|(read_at, _)| view.is_current(session.buckets(), *read_at));
    if let Some((_, status)) = known {
        return Ok(status);
    }
    let status =
        grant_status::grant_status(store, view, session.verified().grant(), session.keys()).map_err(unreadable)?;
    session.remember(clock, status.clone());
    Ok(status)
}

/// Whether the grant stands: it was not ended, and nothing that was lost for want of room could have ended it.
pub(crate) fn check_status(status: &GrantStatus, now: Timestamp) -> Result<(), Reason> {
    match (status.ended, status.unknown_until) {
        (Some(reason), _) => Err(reason),
        (None, Some(until)) if until > now => Err(Reason::StateSaturated),
        (None, _) => Ok(()),
    }
}

/// No state that cannot be read says "no revocations".
pub(crate) fn unreadable(_: StoreError) -> Reason {
    Reason::StateUnavailable
}
