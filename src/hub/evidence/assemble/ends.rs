//! When grants ended.

use crate::evidence::model::{EventKind, EventRow, GrantRow};
use taskfence_core::reason::Reason;

/// Events that end grants, and those that lift them.
pub struct Ends<'e> {
    ends: Vec<&'e EventRow>,
    lifts: Vec<&'e EventRow>,
}

impl<'e> Ends<'e> {
    /// Of these events.
    pub fn of(events: &'e [EventRow]) -> Ends<'e> {
        let of = |kinds: &[EventKind]| {
            let of_kind = |event: &&EventRow| event.kind.is_some_and(|kind| kinds.contains(&kind));
            events.iter().filter(of_kind).collect::<Vec<_>>()
        };
        Ends { ends: of(&[EventKind::Ended, EventKind::SignalEnded]), lifts: of(&[EventKind::SignalLifted]) }
    }

    /// When the grant ended: by the first event about it that nobody lifted, or by its expiry. In milliseconds since 1970.
    pub fn of_grant(&self, grant: &GrantRow) -> Option<u64> {
        let expiry = Some(grant.info.expires_at.saturating_mul(1000)).filter(|at| *at > 0);
        let issued = grant.info.issued_at.saturating_mul(1000);
        let lifted_after = |at: u64| self.lifts.iter().any(|lift| lift.at >= at && is_about(lift, grant));
        let ended = self.ends.iter().filter(|end| end.at >= issued && is_about(end, grant) && !lifted_after(end.at));
        ended.map(|end| end.at).chain(expiry).min()
    }
}

/// Whether requests are refused for `reason` because a grant has ended.
pub fn is_of_an_end(reason: &str) -> bool {
    const REASONS: [Reason; 7] = [
        Reason::TokenExpired,
        Reason::SessionTooOld,
        Reason::TokenRevoked,
        Reason::SessionRevoked,
        Reason::UserRevoked,
        Reason::PrincipalRevoked,
        Reason::TaskCompleted,
    ];
    REASONS.iter().any(|known| known.code() == reason)
}

/// Whether all that the event names is the grant's. An event without a name is about all grants of its issuer.
fn is_about(event: &EventRow, grant: &GrantRow) -> bool {
    let info = &grant.info;
    let same = |named: &Option<String>, own: Option<&String>| named.is_none() || named.as_ref() == own;
    (event.issuer.is_empty() || event.issuer == info.issuer)
        && same(&event.token, Some(&info.token))
        && same(&event.task, info.task.as_ref())
        && same(&event.session, info.session.as_ref())
        && same(&event.client, info.client.as_ref())
        && same(&event.subject, Some(&info.subject))
}
