//! The outcome for one request: a permit or a refusal.

use crate::decision::session::Session;
use crate::index::{IssuerIndex, RuleIndex};
use crate::policy::identity_headers::Bearer;
use crate::reason::Reason;
use crate::rules::grant_status::GrantStatus;
use crate::time::Timestamp;
use std::net::IpAddr;
use std::rc::Rc;

/// The right to let one request pass. Only [`Judge::judge`](crate::decision::judge::Judge::judge) makes one.
#[derive(Debug, Clone)]
#[must_use = "a request passes by handing this in"]
pub struct Permit {
    pub(crate) rule: Option<RuleIndex>,
    pub(crate) session: Option<Rc<Session>>,
    /// What signals said about its grant, as it was decided with.
    pub(crate) grant_status: Option<GrantStatus>,
    pub(crate) broken_glass: bool,
    pub(crate) shadowed: Option<Refusal>,
    /// Known where the rule asks for it.
    pub(crate) source: Option<IpAddr>,
    /// Known where the rule asks for it.
    pub(crate) peer: Option<String>,
    pub(crate) admitted_at: Timestamp,
}

impl Permit {
    /// For a request that needs no token, by the rule at that place.
    pub(crate) fn anonymous(rule: RuleIndex, now: Timestamp) -> Permit {
        let rule = Some(rule);
        let (session, grant_status, shadowed, source, peer) = (None, None, None, None, None);
        Permit { rule, session, grant_status, broken_glass: false, shadowed, source, peer, admitted_at: now }
    }

    /// For a request that would have been refused, if refusals were enforced.
    pub(crate) fn shadowing(refusal: Refusal, now: Timestamp) -> Permit {
        let (rule, session, grant_status) =
            (refusal.rule, refusal.session.clone(), refusal.grant_status.as_deref().cloned());
        let (shadowed, source, peer) = (Some(refusal), None, None);
        Permit { rule, session, grant_status, broken_glass: false, shadowed, source, peer, admitted_at: now }
    }

    /// The place of the rule that allowed it, or would have refused it.
    pub fn rule(&self) -> Option<RuleIndex> {
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

    /// Whose request the upstream may take it for; nobody's where it passes in shadow mode only, which proves nothing.
    pub fn bearer(&self) -> Option<Bearer<'_>> {
        let session = self.session.as_deref().filter(|_| self.shadowed.is_none())?;
        let grant = session.verified().grant();
        let scopes = self.grant_status.as_ref()?.scopes(grant).collect::<Vec<_>>().join(" ");
        Some(Bearer { grant, scopes })
    }

    /// The place of the issuer for want of whose keys it would have been refused, if they are fetched.
    pub fn lacks_keys_of(&self) -> Option<IssuerIndex> {
        self.shadowed.as_ref()?.lacks_keys_of
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
    pub rule: Option<RuleIndex>,
    /// The verified token, if the request had one.
    pub session: Option<Rc<Session>>,
    /// The nonce that the next DPoP proof must carry, where that is the reason.
    pub nonce: Option<String>,
    /// The claim that is missing or has the wrong shape, where that is the reason. For the operator only.
    pub claim: Option<String>,
    /// What signals said about its grant, where the decision came that far.
    pub grant_status: Option<Box<GrantStatus>>,
    /// The place of the issuer for want of whose keys it was refused, if they are fetched: newer ones may change the
    /// verdict.
    pub lacks_keys_of: Option<IssuerIndex>,
}

impl Refusal {
    /// For that reason, and nothing more is known.
    pub fn new(reason: Reason) -> Refusal {
        let (rule, session, nonce, claim, grant_status, lacks_keys_of) = (None, None, None, None, None, None);
        Refusal { reason, rule, session, nonce, claim, grant_status, lacks_keys_of }
    }

    /// By the rule at that place.
    pub(crate) fn by(self, rule: RuleIndex) -> Refusal {
        Refusal { rule: Some(rule), ..self }
    }

    /// Of a request with that verified token.
    pub(crate) fn about(self, session: &Rc<Session>) -> Refusal {
        Refusal { session: Some(Rc::clone(session)), ..self }
    }

    /// Decided with that status of its grant.
    pub(crate) fn with_status(self, status: &GrantStatus) -> Refusal {
        Refusal { grant_status: Some(Box::new(status.clone())), ..self }
    }

    /// Whether a signal had a part in it that hits the grant only because the grant lacks what the signal names.
    pub fn is_indeterminate(&self) -> bool {
        self.grant_status.as_ref().is_some_and(|status| status.indeterminate)
    }
}

/// The outcome for one request.
pub type Verdict = Result<Permit, Refusal>;
