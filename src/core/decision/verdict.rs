//! The outcome for one request: a permit or a refusal.

use crate::decision::captured::Captured;
use crate::decision::session::Session;
use crate::encoding::digest::Digest;
use crate::index::{IssuerIndex, ResourceIndex, RuleIndex};
use crate::policy::identity_headers::Bearer;
use crate::reason::Reason;
use crate::rules::grant_status::GrantStatus;
use crate::time::Timestamp;
use crate::token::claim_names::RefusedClaim;
use std::net::IpAddr;
use std::rc::Rc;

/// The right to let one request pass. Only [`Judge::judge`](crate::decision::judge::Judge::judge) makes one.
#[derive(Debug, Clone)]
#[must_use = "a request passes by handing this in"]
pub struct Permit {
    pub(crate) rule: Option<RuleIndex>,
    pub(crate) session: Option<Rc<Session>>,
    /// The status of its grant that the decision used.
    pub(crate) grant_status: Option<GrantStatus>,
    pub(crate) broken_glass: bool,
    pub(crate) shadowed: Option<Refusal>,
    /// Known if the rule needs it.
    pub(crate) source: Option<IpAddr>,
    /// Known if the rule needs it.
    pub(crate) peer: Option<String>,
    /// What its path captured.
    pub(crate) captured: Captured,
    /// The thumbprint of the key of its DPoP proof.
    pub(crate) proof_key: Option<Digest>,
    pub(crate) admitted_at: Timestamp,
}

impl Permit {
    /// A permit for a request that needs no token, by that rule.
    pub(crate) fn anonymous(rule: RuleIndex, now: Timestamp) -> Permit {
        Permit { rule: Some(rule), ..Permit::without_checks(now) }
    }

    /// A permit for a request that would have been refused if refusals were enforced.
    pub(crate) fn shadowing(refusal: Refusal, now: Timestamp) -> Permit {
        let (rule, session, grant_status) =
            (refusal.rule, refusal.session.clone(), refusal.grant_status.as_deref().cloned());
        Permit { rule, session, grant_status, shadowed: Some(refusal), ..Permit::without_checks(now) }
    }

    fn without_checks(admitted_at: Timestamp) -> Permit {
        let (rule, session, grant_status, shadowed) = (None, None, None, None);
        let (source, peer, captured, proof_key) = (None, None, Captured::default(), None);
        let broken_glass = false;
        Permit { rule, session, grant_status, broken_glass, shadowed, source, peer, captured, proof_key, admitted_at }
    }

    /// The index of the rule that allowed it, or would have refused it.
    pub fn rule(&self) -> Option<RuleIndex> {
        self.rule
    }

    /// The verified token it passes with; `None` for an anonymous rule.
    pub fn session(&self) -> Option<&Session> {
        self.session.as_deref()
    }

    /// [`Permit::session`], to be kept after the request.
    pub(crate) fn shared_session(&self) -> Option<&Rc<Session>> {
        self.session.as_ref()
    }

    /// The time of the decision.
    pub fn admitted_at(&self) -> Timestamp {
        self.admitted_at
    }

    /// What its path captured; nothing if no rule was applied.
    pub fn captured(&self) -> &Captured {
        &self.captured
    }

    /// The thumbprint of the key of its DPoP proof.
    pub fn proof_key(&self) -> Option<&Digest> {
        self.proof_key.as_ref()
    }

    /// The address of the client, if the rule needs it.
    pub fn source(&self) -> Option<IpAddr> {
        self.source
    }

    /// The URI in the certificate of the client, if the rule needs it.
    pub fn peer(&self) -> Option<&str> {
        self.peer.as_deref()
    }

    /// The verified holder of the token. `None` under an anonymous rule, and if the request passes only because of
    /// shadow mode, which proves nothing.
    pub fn bearer(&self) -> Option<Bearer<'_>> {
        let session = self.session.as_deref().filter(|_| self.shadowed.is_none())?;
        let grant = session.verified().grant();
        let scopes = self.grant_status.as_ref()?.scopes(grant).collect::<Vec<_>>().join(" ");
        Some(Bearer { grant, scopes })
    }

    /// The issuer whose keys were missing when it would have been refused, if they are fetched.
    pub fn lacks_keys_of(&self) -> Option<IssuerIndex> {
        self.shadowed.as_ref()?.lacks_keys_of
    }

    /// Whether it passes only because break-glass lifted a requirement.
    pub fn broken_glass(&self) -> bool {
        self.broken_glass
    }

    /// The refusal that was not enforced, if there is one.
    pub fn shadowed(&self) -> Option<&Refusal> {
        self.shadowed.as_ref()
    }
}

/// Why a request does not pass.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// The reason.
    pub reason: Reason,
    /// The index of the rule that matched, if one did.
    pub rule: Option<RuleIndex>,
    /// The verified token, if the request had one.
    pub session: Option<Rc<Session>>,
    /// The nonce that the next DPoP proof must have, if that is the reason.
    pub nonce: Option<String>,
    /// If the reason is about the authentication of the user: the other such reason, if it holds too.
    pub also: Option<Reason>,
    /// The protected resource that the request belongs to.
    pub resource: Option<ResourceIndex>,
    /// The claim that is missing or wrong, if that is the reason.
    pub claim: Option<Box<RefusedClaim>>,
    /// The status of its grant, if it was read before the refusal.
    pub grant_status: Option<Box<GrantStatus>>,
    /// The issuer whose keys were missing, if they are fetched: newer keys may change the verdict.
    pub lacks_keys_of: Option<IssuerIndex>,
}

impl Refusal {
    /// A refusal with that reason and nothing else.
    pub fn new(reason: Reason) -> Refusal {
        let (rule, session, nonce, also, resource) = (None, None, None, None, None);
        let (claim, grant_status, lacks_keys_of) = (None, None, None);
        Refusal { reason, rule, session, nonce, also, resource, claim, grant_status, lacks_keys_of }
    }

    /// Adds the rule that refused.
    pub(crate) fn by(self, rule: RuleIndex) -> Refusal {
        Refusal { rule: Some(rule), ..self }
    }

    /// Adds the other reason about the authentication of the user.
    pub(crate) fn and(self, also: Option<Reason>) -> Refusal {
        Refusal { also, ..self }
    }

    /// Adds the protected resource that the request belongs to.
    pub(crate) fn at(self, resource: Option<ResourceIndex>) -> Refusal {
        Refusal { resource, ..self }
    }

    /// Adds the verified token of the request.
    pub(crate) fn about(self, session: &Rc<Session>) -> Refusal {
        Refusal { session: Some(Rc::clone(session)), ..self }
    }

    /// Adds the status of the grant that the decision used.
    pub(crate) fn with_status(self, status: &GrantStatus) -> Refusal {
        Refusal { grant_status: Some(Box::new(status.clone())), ..self }
    }

    /// Whether a signal took part in it that applies only because the grant lacks a subject member that the signal
    /// names.
    pub fn is_indeterminate(&self) -> bool {
        self.grant_status.as_ref().is_some_and(|status| status.indeterminate)
    }
}

/// The outcome for one request.
pub type Verdict = Result<Permit, Refusal>;
