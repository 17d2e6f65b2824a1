//! The outcome for one request: a permit or a refusal.

use crate::decision::session::Session;
use crate::http::connection::Surroundings;
use crate::reason::Reason;
use crate::time::Timestamp;
use std::net::IpAddr;
use std::rc::Rc;

/// The right to let one request pass. Only [`Judge::judge`] makes one.
#[derive(Debug, Clone)]
#[must_use = "a request passes by handing this in"]
pub struct Permit {
    pub(crate) rule: Option<usize>,
    pub(crate) session: Option<Rc<Session>>,
    pub(crate) broken_glass: bool,
    pub(crate) shadowed: Option<Refusal>,
    /// Known where the rule asks for it.
    pub(crate) source: Option<IpAddr>,
    /// Known where the rule asks for it.
    pub(crate) peer: Option<String>,
    pub(crate) admitted_at: Timestamp,
}

impl Permit {
    /// The place of the rule that allowed it, or would have refused it.
    pub fn rule(&self) -> Option<usize> {
        self.rule
    }

    /// The verified token it passes with; `None` for an anonymous rule.
    pub fn session(&self) -> Option<&Session> {
        self.session.as_deref()
    }

    /// [`Permit::session`], to be kept.
    pub(crate) fn shared_session(&self) -> Option<&Rc<Session>> {
        self.session.as_ref()
    }

    /// When it was given.
    pub fn admitted_at(&self) -> Timestamp {
        self.admitted_at
    }

    /// The address that the request came from, where the rule asks for it.
    pub(crate) fn source(&self) -> Option<IpAddr> {
        self.source
    }

    /// The workload that the request came from, where the rule asks for it.
    pub(crate) fn peer(&self) -> Option<&str> {
        self.peer.as_deref()
    }

    /// Whether it passes only because break-glass lifted a requirement.
    pub fn broken_glass(&self) -> bool {
        self.broken_glass
    }

    /// What would have been refused if refusals were enforced here.
    pub fn shadowed(&self) -> Option<&Refusal> {
        self.shadowed.as_ref()
    }
}

/// Why a request does not pass.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// The reason.
    pub reason: Reason,
    /// The place of the rule that matched, if one did.
    pub rule: Option<usize>,
    /// The verified token, if the request had one.
    pub session: Option<Rc<Session>>,
    /// The nonce that the next DPoP proof must carry, where that is the reason.
    pub nonce: Option<String>,
    /// The claim that is missing or has the wrong shape, where that is the reason. For the operator only.
    pub claim: Option<String>,
}

impl Refusal {
    /// Whether a signal had a part in it that hits the grant only because the grant lacks what the signal names.
    pub fn is_indeterminate(&self) -> bool {
        let standing = self.session.as_ref().and_then(|session| session.last_standing());
        standing.is_some_and(|(_, standing)| standing.indeterminate)
    }
}

/// The outcome for one request.
pub type Verdict = Result<Permit, Refusal>;
