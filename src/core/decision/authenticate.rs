//! Turns a token into a session: from the cache of the worker, or by a verification. Known bad tokens are refused
//! again.

use crate::decision::bad_signatures::Refused;
use crate::decision::flood::Flood;
use crate::decision::session::Session;
use crate::decision::token_cache::Cache;
use crate::http::connection::ConnectionInfo;
use crate::jose::key::MAX_CANDIDATES;
use crate::jose::signature::CheckSignature;
use crate::policy::policy::Policy;
use crate::ports::Ports;
use crate::reason::Reason;
use crate::time::Timestamp;
use crate::token::verify::{self, Candidate, Rejected, Verified};
use std::rc::Rc;

/// How one worker came by the sessions of its requests, and what it remembers.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct TokenCounts {
    /// Requests whose token was known: no signature was checked.
    pub warm: u64,
    /// Requests whose token was not known, and is valid.
    pub cold: u64,
    /// Tokens that are remembered now.
    pub entries: u64,
    /// The approximate bytes that they take.
    pub bytes: u64,
}

/// The tokens that one worker saw under one configuration.
#[derive(Debug)]
pub(crate) struct Authenticator {
    /// Whether all claims of each token are kept, also those that no rule reads.
    keeps_all: bool,
    sessions: Cache,
    refused: Refused,
    flood: Flood,
    warm: u64,
    cold: u64,
}

impl Authenticator {
    /// Knows no token yet. `seed` must be random. `keeps_all`: whether all claims of each token are kept, also those that
    /// no rule reads.
    pub(crate) fn new(policy: &Policy, seed: u64, keeps_all: bool) -> Authenticator {
        let limits = policy.limits();
        Authenticator {
            keeps_all,
            sessions: Cache::new(limits.token_cache, seed),
            refused: Refused::new(seed),
            flood: Flood::new(limits.bad_signatures),
            warm: 0,
            cold: 0,
        }
    }

    /// What was counted since the start, and what is remembered now.
    pub(crate) fn counts(&self) -> TokenCounts {
        let number = |number| u64::try_from(number).unwrap_or(u64::MAX);
        let (entries, bytes) = (number(self.sessions.len()), number(self.sessions.bytes()));
        TokenCounts { warm: self.warm, cold: self.cold, entries, bytes }
    }

    /// The session of `token`. Times are checked at every call, everything that cannot change only once.
    pub(crate) fn session<S>(
        &mut self,
        token: &[u8],
        policy: &Policy,
        ports: &mut Ports<S, impl CheckSignature, impl ConnectionInfo>,
        now: Timestamp,
    ) -> Result<Rc<Session>, Rejected> {
        if let Some(session) = self.sessions.find(token) {
            let issuer = policy.issuer(session.verified().issuer()).ok_or(Reason::InternalError)?;
            // A token is no longer valid if its key has left the key set of the issuer.
            if issuer.keys.current(now).is_some_and(|keys| keys.holds(session.verified().key())) {
                return match verify::check_times(session.verified(), issuer, now) {
                    Ok(()) => {
                        self.warm = self.warm.saturating_add(1);
                        Ok(session)
                    }
                    Err(reason) => {
                        self.sessions.remove(token);
                        Err(reason.into())
                    }
                };
            }
            self.sessions.remove(token);
        }
        let candidate = verify::examine(token, policy.issuers(), now)?;
        let verified = self.verify(candidate, token, ports, now)?;
        let kept = (!self.keeps_all).then_some(policy.claims_by_name.as_slice());
        let session = Rc::new(Session::new(verified, token, policy.has_conditions, kept));
        self.sessions.insert(Rc::clone(&session));
        self.cold = self.cold.saturating_add(1);
        Ok(session)
    }

    /// Checks the signature, unless it is known to be bad, or its source has sent too many bad ones. A token that names no
    /// key may take several checks: each counts.
    fn verify<S>(
        &mut self,
        candidate: Candidate<'_, '_>,
        token: &[u8],
        ports: &mut Ports<S, impl CheckSignature, impl ConnectionInfo>,
        now: Timestamp,
    ) -> Result<Verified, Rejected> {
        let candidate = candidate.without(|key| self.refused.contains(token, key));
        let mut keys = [None; MAX_CANDIDATES];
        keys.iter_mut().zip(candidate.keys()).for_each(|(slot, key)| *slot = Some(key));
        if keys.iter().all(Option::is_none) {
            return Err(candidate.not_signed());
        }
        if !self.flood.is_calm() && self.flood.is_exhausted(ports.connection.source(), now) {
            return Err(Reason::TooManyFailures.into());
        }
        let verified = candidate.verify(&mut ports.signatures, now);
        if verified.as_ref().is_err_and(|rejected| rejected.reason == Reason::SignatureInvalid) {
            for key in keys.into_iter().flatten() {
                self.refused.insert(token, key);
                self.flood.failed(ports.connection.source(), now);
            }
        }
        verified
    }
}
