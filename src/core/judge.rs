//! The judge: one request in, one verdict out. The proxy and the command line both ask this one.

use crate::authority::Host;
use crate::cache::{Cache, Session};
use crate::path::Canonical;
use crate::policy::{Effect, Policy};
use crate::reason::Reason;
use crate::request::Request;
use crate::signature::CheckSignature;
use crate::standing::{Standing, standing};
use crate::state::{Store, StoreError, View};
use crate::time::Timestamp;
use crate::token;
use std::rc::Rc;

/// A policy, and what one worker remembers while it applies it.
#[derive(Debug)]
pub struct Judge {
    policy: Policy,
    sessions: Cache,
    view: View,
}

/// The right to let one request pass. Only [`Judge::judge`] makes one.
#[derive(Debug, Clone)]
#[must_use = "a request passes by handing this in"]
pub struct Permit {
    rule: usize,
    session: Option<Rc<Session>>,
}

impl Permit {
    /// The place of the rule that allowed it.
    pub fn rule(&self) -> usize {
        self.rule
    }

    /// The verified token it passes with; `None` for an anonymous rule.
    pub fn session(&self) -> Option<&Session> {
        self.session.as_deref()
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
}

/// The outcome for one request.
pub type Verdict = Result<Permit, Refusal>;

impl Judge {
    /// A judge of `policy` that remembers nothing yet.
    pub fn new(policy: Policy) -> Judge {
        Judge { policy, sessions: Cache::default(), view: View::default() }
    }

    /// The policy.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Judges `request` at `now`. `ports` reads the pushed state and checks signatures.
    pub fn judge(
        &mut self,
        request: &Request<'_>,
        ports: &mut (impl Store + CheckSignature),
        now: Timestamp,
    ) -> Verdict {
        let bare = |reason| Refusal { reason, rule: None, session: None };
        let path = Canonical::parse(request.path).map_err(|_| bare(Reason::PathRefused))?;
        let host = Host::parse(request.authority).map_err(|_| bare(Reason::HostRefused))?;
        let method = std::str::from_utf8(request.method).unwrap_or_default();
        let Judge { policy, sessions, view } = self;
        let (at, rule, captures) = policy.find(method, host, &path).ok_or_else(|| bare(Reason::RuleMissing))?;
        let with_rule = |reason| Refusal { reason, rule: Some(at), session: None };
        let requirement = match rule.effect() {
            Effect::Anonymous => return Ok(Permit { rule: at, session: None }),
            Effect::Deny => return Err(with_rule(Reason::RuleDenied)),
            Effect::Require(requirement) => requirement,
        };
        let token = request.bearer().map_err(with_rule)?;
        let session = session(policy, sessions, token, ports, now).map_err(with_rule)?;
        let verdict =
            stand(view, &session, ports, now).and_then(|()| requirement.check(session.verified().grant(), &captures));
        match verdict {
            Ok(()) => Ok(Permit { rule: at, session: Some(session) }),
            Err(reason) => Err(Refusal { reason, rule: Some(at), session: Some(session) }),
        }
    }
}

/// The session of `token`: remembered, or verified now.
fn session(
    policy: &Policy,
    sessions: &mut Cache,
    token: &[u8],
    signatures: &mut impl CheckSignature,
    now: Timestamp,
) -> Result<Rc<Session>, Reason> {
    if let Some(session) = sessions.find(token) {
        let issuer = policy.issuers().get(session.verified().issuer()).ok_or(Reason::InternalError)?;
        return match token::check_times(session.verified(), issuer, now) {
            Ok(()) => Ok(session),
            Err(reason) => {
                sessions.remove(token);
                Err(reason)
            }
        };
    }
    let verified = token::verify(token, policy.issuers(), signatures, now)?;
    let session = Rc::new(Session::new(verified));
    sessions.insert(token, Rc::clone(&session));
    Ok(session)
}

/// Checks the pushed state: the version at every request, the buckets of this session only when they changed.
fn stand(view: &mut View, session: &Session, store: &mut impl Store, now: Timestamp) -> Result<(), Reason> {
    let clock = view.refresh(store).map_err(unreadable)?;
    let known = session.last_standing().filter(|(read_at, _)| view.is_current(session.buckets(), *read_at));
    let standing = match known {
        Some((_, standing)) => standing,
        None => {
            let standing = standing(store, session.verified().grant(), session.keys()).map_err(unreadable)?;
            session.remember(clock, standing);
            standing
        }
    };
    match standing {
        Standing::Good => Ok(()),
        Standing::Ended(reason) => Err(reason),
        Standing::Unknown(until) if until > now => Err(Reason::StateSaturated),
        Standing::Unknown(_) => Ok(()),
    }
}

fn unreadable(_: StoreError) -> Reason {
    Reason::StateUnavailable
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{self, NOW, token_with};
    use crate::jws::Unverified;
    use crate::key::{Algorithm, Key};
    use crate::signature::PureRust;
    use crate::state::{MemoryStore, Slot, Stored, apply, set_up};
    use crate::statekey::{Kind, StateKey};
    use crate::table::{Entry, Mark};
    use serde_json::json;

    /// A store and a checker that count what they are asked.
    #[derive(Default)]
    struct Ports {
        store: MemoryStore,
        reads: usize,
        signatures: usize,
    }

    impl Store for Ports {
        fn read(&mut self, slot: Slot) -> Result<Option<Stored>, StoreError> {
            self.reads = self.reads.saturating_add(1);
            self.store.read(slot)
        }

        fn swap(&mut self, slot: Slot, bytes: &[u8], cas: u32) -> Result<bool, StoreError> {
            self.store.swap(slot, bytes, cas)
        }

        fn seed(&mut self, slot: Slot, bytes: &[u8]) -> Result<(), StoreError> {
            self.store.seed(slot, bytes)
        }
    }

    impl CheckSignature for Ports {
        fn check(&mut self, token: &Unverified<'_>, key: &Key, algorithm: Algorithm) -> bool {
            self.signatures = self.signatures.saturating_add(1);
            PureRust.check(token, key, algorithm)
        }
    }

    fn bench() -> (Judge, Ports) {
        let config = json!({
            "issuers": [{"issuer": "https://jit.example", "audiences": ["https://orders.mesh"], "keys": {"inline": fixture::jwks()}}],
            "rules": [
                {"name": "admin", "match": {"path": "/admin"}, "deny": true},
                {"name": "read", "match": {"methods": ["GET"], "path": "/orders/{order}"},
                 "require": {"scope": "orders.read", "detail": {"type": "order", "action": "read", "identifier": "{order}"}}},
                {"name": "cancel", "match": {"methods": ["DELETE"], "path": "/orders/{order}"}, "require": {"scope": "orders.cancel"}},
                {"name": "health", "match": {"path": "/healthz"}, "allow": "anonymous"}
            ]
        });
        let policy = crate::config::load(config.to_string().as_bytes()).unwrap().policy;
        let mut ports = Ports::default();
        set_up(&mut ports.store, 1).unwrap();
        (Judge::new(policy), ports)
    }

    fn ask(
        judge: &mut Judge,
        ports: &mut Ports,
        line: &str,
        token: Option<&str>,
        now: Timestamp,
    ) -> Result<usize, Reason> {
        let (method, path) = line.split_once(' ').unwrap();
        let authorization = token.map(|token| format!("Bearer {token}"));
        let headers = [(":method", method), (":authority", "orders.mesh"), (":path", path)];
        let all = headers.into_iter().chain(authorization.iter().map(|value| ("authorization", value.as_str())));
        let request = Request::from_headers(all.map(|(name, value)| (name.as_bytes(), value.as_bytes())));
        judge.judge(&request, ports, now).map(|permit| permit.rule()).map_err(|refusal| refusal.reason)
    }

    fn revoke(ports: &mut Ports, kind: Kind, name: &str) {
        let key = StateKey::new(kind, "https://jit.example", name);
        let entry = Entry { key, mark: Mark::Revoked, at: NOW, until: Timestamp::MAX, conditions: vec![] };
        apply(&mut ports.store, &[entry], NOW).unwrap();
    }

    #[test]
    fn inside_the_task_and_outside_it() {
        let (mut judge, mut ports) = bench();
        let token = token_with(json!({}), json!({}));
        let mut ask = |line, token| ask(&mut judge, &mut ports, line, token, NOW);
        assert_eq!(ask("GET /orders/1881", Some(&token)), Ok(1));
        assert_eq!(ask("GET /orders/1881?x=1", Some(&token)), Ok(1));
        assert_eq!(ask("GET /orders/1882", Some(&token)), Err(Reason::DetailInsufficient));
        assert_eq!(ask("DELETE /orders/1881", Some(&token)), Err(Reason::ScopeInsufficient));
        assert_eq!(ask("POST /orders/1881", Some(&token)), Err(Reason::RuleMissing));
        assert_eq!(ask("GET /admin", Some(&token)), Err(Reason::RuleDenied));
        assert_eq!(ask("GET /orders/../admin", Some(&token)), Err(Reason::PathRefused));
        assert_eq!(ask("GET /orders/1881", None), Err(Reason::TokenMissing));
        assert_eq!(ask("GET /healthz", None), Ok(3));
        assert_eq!(ask("GET /healthz", Some("not a token")), Ok(3));
        assert_eq!(ask("OPTIONS *", None), Err(Reason::PathRefused));
    }

    #[test]
    fn an_anonymous_permit_carries_no_identity() {
        let (mut judge, mut ports) = bench();
        let token = format!("Bearer {}", token_with(json!({}), json!({})));
        let headers = [(":method", "GET"), (":authority", "o"), (":path", "/healthz"), ("authorization", &token)];
        let request = Request::from_headers(headers.map(|(name, value)| (name.as_bytes(), value.as_bytes())));
        assert!(judge.judge(&request, &mut ports, NOW).unwrap().session().is_none());
    }

    #[test]
    fn warm_requests_check_no_signature_and_read_only_the_version() {
        let (mut judge, mut ports) = bench();
        let token = token_with(json!({}), json!({}));
        for _ in 0..3 {
            ask(&mut judge, &mut ports, "GET /orders/1881", Some(&token), NOW).unwrap();
        }
        assert_eq!(ports.signatures, 1);
        assert_eq!(ports.reads, 3 + 4, "the version each time, four buckets once");
        revoke(&mut ports, Kind::Token, "another");
        ask(&mut judge, &mut ports, "GET /orders/1881", Some(&token), NOW).unwrap();
        assert_eq!(ports.reads, 3 + 4 + 1, "a change elsewhere costs nothing more");
    }

    #[test]
    fn a_cached_token_meets_the_state_and_the_clock_anew() {
        let (mut judge, mut ports) = bench();
        let token = token_with(json!({}), json!({}));
        let line = "GET /orders/1881";
        assert_eq!(ask(&mut judge, &mut ports, line, Some(&token), NOW), Ok(1));
        assert_eq!(ask(&mut judge, &mut ports, line, Some(&token), Timestamp(NOW.0 + 230)), Err(Reason::TokenExpired));
        assert_eq!(ask(&mut judge, &mut ports, line, Some(&token), NOW), Ok(1));
        revoke(&mut ports, Kind::Session, "sess-9");
        assert_eq!(ask(&mut judge, &mut ports, line, Some(&token), NOW), Err(Reason::SessionRevoked));
        assert_eq!(ask(&mut judge, &mut ports, line, Some(&token), NOW), Err(Reason::SessionRevoked));
    }

    #[test]
    fn state_that_cannot_be_read_closes() {
        let (mut judge, _) = bench();
        let mut ports = Ports::default();
        let token = token_with(json!({}), json!({}));
        let verdict = ask(&mut judge, &mut ports, "GET /orders/1881", Some(&token), NOW);
        assert_eq!(verdict, Err(Reason::StateUnavailable));
        assert_eq!(ask(&mut judge, &mut ports, "GET /healthz", None, NOW), Ok(3));
    }
}
