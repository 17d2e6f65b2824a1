//! How a token must be presented: in which place, and which keys its presenter must prove to hold.
//!
//! This is checked for every request, also for a token that the cache holds as verified: a leaked token must be useless
//! to others.

use crate::http::connection::ConnectionInfo;
use crate::http::credential_location::{Presented, Scheme};
use crate::http::request::Request;
use crate::jose::signature::CheckSignature;
use crate::ports::Ports;
use crate::reason::Reason;
use crate::state::store::Store;
use crate::time::Timestamp;
use crate::token::claim_path::{ClaimPath, PathError};
use crate::token::confirmation::Binding;
use crate::token::dpop::{self, Expected, Proof, ProofError, Settings};
use crate::token::dpop_nonce::Nonces;
use crate::token::grant::Grant;
use serde_json::Value;

/// How the tokens of one issuer must be presented.
#[derive(Debug, Clone, Default)]
pub struct Presentation {
    /// The place of the tokens, as an index into the places of the policy.
    pub place: usize,
    /// What they must be bound to.
    pub binding: Binding,
    /// How DPoP proofs for them are checked.
    pub dpop: Settings,
    /// Whether answers tell clients that DPoP is supported.
    pub announces_dpop: bool,
    /// The claim that names the only workload that may present them.
    pub peer_claim: Option<PeerClaim>,
}

/// A claim that names a workload by the URI in its certificate (a SPIFFE ID).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerClaim {
    /// `sub`.
    Subject,
    /// The client.
    Client,
    /// `sub` of the outermost `act`.
    Actor,
    /// Another claim.
    Named(ClaimPath),
}

/// Why the presenter may not use the token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Misuse {
    /// The reason.
    pub reason: Reason,
    /// The nonce that the next proof must contain.
    pub nonce: Option<String>,
}

impl From<Reason> for Misuse {
    fn from(reason: Reason) -> Misuse {
        Misuse { reason, nonce: None }
    }
}

impl PeerClaim {
    /// The claim with that name; `act.sub` is the `sub` of the outermost `act`.
    pub(crate) fn parse(name: &str) -> Result<PeerClaim, PathError> {
        Ok(match name {
            "sub" => PeerClaim::Subject,
            "client_id" => PeerClaim::Client,
            "act.sub" => PeerClaim::Actor,
            other => PeerClaim::Named(ClaimPath::parse(other)?),
        })
    }

    /// The workload that `grant` names.
    pub fn of<'g>(&self, grant: &'g Grant) -> Option<&'g str> {
        match self {
            PeerClaim::Subject => Some(&grant.subject),
            PeerClaim::Client => grant.client_id.as_deref(),
            PeerClaim::Actor => grant.actors.first().map(|actor| actor.subject.as_str()),
            PeerClaim::Named(path) => path.find(&grant.claims).ok()?.and_then(Value::as_str),
        }
    }
}

impl Presentation {
    /// Checks that `request` may present the verified token of `grant`. `Ok(Some)`: with a proof; the caller must still
    /// record its use.
    pub(crate) fn check(
        &self,
        grant: &Grant,
        presented: Presented<'_>,
        request: &Request<'_>,
        ports: &mut Ports<impl Store, impl CheckSignature, impl ConnectionInfo>,
        now: Timestamp,
    ) -> Result<Option<Proof>, Misuse> {
        if presented.place != self.place {
            return Err(Reason::TokenMisplaced.into());
        }
        let bound = &grant.confirmation;
        // RFC 9449 §7.1: the scheme `DPoP` is for tokens that are bound to a key; with any other token it proves
        // nothing.
        if !self.binding.is_met(bound) || bound.key.is_none() && presented.scheme == Some(Scheme::Dpop) {
            return Err(Reason::BindingMissing.into());
        }
        // RFC 9449 §7.2: a token that is bound to a key is never accepted as a bearer token.
        if bound.key.is_some() && presented.scheme == Some(Scheme::Bearer) {
            return Err(Reason::BindingMismatch.into());
        }
        if bound.certificate.is_some() && ports.connection.peer_certificate() != bound.certificate {
            return Err(Reason::BindingMismatch.into());
        }
        if let Some(claim) = &self.peer_claim {
            let named = claim.of(grant).ok_or(Reason::BindingMissing)?;
            if ports.connection.peer_uri().as_deref() != Some(named) {
                return Err(Reason::BindingMismatch.into());
            }
        }
        let Some(key) = &bound.key else { return Ok(None) };
        let proof = request.proof()?.ok_or(Reason::DpopProofMissing)?;
        let Request { method, scheme, authority, path, .. } = *request;
        let expected = Expected { method, scheme, authority, path, token: presented.token, key };
        self.prove(proof, expected, ports, now).map(Some)
    }

    fn prove<C>(
        &self,
        proof: &[u8],
        expected: Expected<'_>,
        ports: &mut Ports<impl Store, impl CheckSignature, C>,
        now: Timestamp,
    ) -> Result<Proof, Misuse> {
        let nonces = match self.dpop.nonce {
            Some(_) => Some(Nonces::read(&mut ports.store).map_err(|_| Reason::StateUnavailable)?),
            None => None,
        };
        dpop::verify(proof, expected, &self.dpop, nonces.as_ref(), &mut ports.signatures, now).map_err(|error| {
            match error {
                ProofError::Key => Reason::BindingMismatch.into(),
                ProofError::Nonce => {
                    let nonce = nonces.zip(self.dpop.nonce).map(|(nonces, lifetime)| nonces.current(lifetime, now));
                    Misuse { reason: Reason::DpopNonceRequired, nonce }
                }
                _ => Reason::DpopProofInvalid.into(),
            }
        })
    }
}
