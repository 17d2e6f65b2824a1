//! The judge: one request in, one verdict out. The proxy and the command line both ask this one.

use crate::decision::authenticate::Tokens;
use crate::decision::session::Session;
use crate::decision::verdict::Permit;
use crate::decision::verdict::Refusal;
use crate::decision::verdict::Verdict;
use crate::http::connection::Surroundings;
use crate::http::method::Method;
use crate::http::path::Canonical;
use crate::http::request::Request;
use crate::jose::signature::CheckSignature;
use crate::keys::keyring::{Keyring, Owner};
use crate::policy::policy::Policy;
use crate::ports::Ports;
use crate::reason::Reason;
use crate::rules::evidence::{Evidence, RequestLine};
use crate::rules::grant_status::{Standing, standing};
use crate::rules::mode::Mode;
use crate::rules::requirement::{Check, Outcome, Requirement};
use crate::rules::rule::{Effect, Mismatch, Target};
use crate::state::single_use::{self, Coin, Unspendable};
use crate::state::store::{Store, StoreError};
use crate::state::view::View;
use crate::time::Timestamp;
use std::rc::Rc;

/// A policy, and what one worker remembers while it applies it.
#[derive(Debug)]
pub struct Judge {
    pub(crate) policy: Policy,
    tokens: Tokens,
    pub(crate) view: View,
    lacks_keys_of: Option<usize>,
}

impl<T: Store + CheckSignature + Surroundings> Ports for T {}

/// Looks over the judge's shoulder. The data plane's observer sees nothing and costs nothing.
pub trait Observer {
    /// Whether the judge should go on after the first check that fails, only to show the others.
    const SEES_ALL: bool;

    /// A check was weighed against `evidence`.
    fn check(&mut self, check: &Check, outcome: Outcome, evidence: &Evidence<'_>);
}

/// The observer of the data plane.
pub(crate) struct Nobody;

impl Observer for Nobody {
    const SEES_ALL: bool = false;

    fn check(&mut self, _: &Check, _: Outcome, _: &Evidence<'_>) {}
}

impl Judge {
    /// A judge of `policy` that remembers nothing yet, for tools and tests: strangers could know where its caches keep
    /// what.
    pub fn new(policy: Policy) -> Judge {
        Judge::seeded(policy, 0)
    }

    /// A judge of `policy` that remembers nothing yet. `seed` is random, and no other judge's.
    pub fn seeded(policy: Policy, seed: u64) -> Judge {
        Judge { tokens: Tokens::new(&policy, seed), policy, view: View::default(), lacks_keys_of: None }
    }

    /// The policy.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The keys of an issuer or a transmitter.
    pub fn keyring_mut(&mut self, owner: Owner) -> Option<&mut Keyring> {
        self.policy.keyring_mut(owner)
    }

    /// There are other keys: whatever stood on one that is gone is to be looked at again.
    pub fn keys_changed(&mut self) {
        self.view.forget();
    }

    /// Reads the state at the next request, whether its doorbell was rung or not. For whoever has a moment now and then:
    /// what nobody foresaw then lasts no longer than that.
    pub fn doubt(&mut self) {
        self.view.doubt();
    }

    /// The place of the issuer for want of whose keys the last request was refused, if they are fetched: newer ones may
    /// change the verdict.
    pub fn lacks_keys_of(&self) -> Option<usize> {
        self.lacks_keys_of
    }

    /// Gives the policy away and forgets the rest.
    pub fn into_policy(self) -> Policy {
        self.policy
    }

    /// Judges `request` at `now`.
    pub fn judge(&mut self, request: &Request<'_>, ports: &mut impl Ports, now: Timestamp) -> Verdict {
        self.judge_before(request, ports, now, &mut Nobody)
    }

    /// Judges `request` at `now`, and shows `observer` how.
    pub fn judge_before(
        &mut self,
        request: &Request<'_>,
        ports: &mut impl Ports,
        now: Timestamp,
        observer: &mut impl Observer,
    ) -> Verdict {
        let mode = |refusal: &Refusal, policy: &Policy| match refusal.reason {
            Reason::PathRefused | Reason::HostRefused => policy.mode_of_unreadable(),
            _ => policy.mode(refusal.rule),
        };
        self.lacks_keys_of = None;
        match self.weigh(request, ports, now, observer) {
            Err(refusal) if mode(&refusal, &self.policy) == Mode::Shadow => Ok(Permit {
                rule: refusal.rule,
                session: refusal.session.clone(),
                broken_glass: false,
                shadowed: Some(refusal),
                source: None,
                peer: None,
                admitted_at: now,
            }),
            verdict => verdict,
        }
    }

    /// For each rule up to the first that matches, why it does not; the last is `None` if one matches. Empty when the
    /// request line itself is refused.
    pub fn rules_tried(&self, request: &Request<'_>, ports: &mut impl Ports) -> Vec<Option<Mismatch>> {
        let (Ok(path), Ok(host)) = (Canonical::parse(request.path), self.policy.host(request.authority)) else {
            return Vec::new();
        };
        let target = Target { method: method(request), host, path: &path, grpc: request.like_grpc };
        let mut tried = Vec::new();
        for rule in self.policy.rules() {
            let mismatch = rule.matcher().mismatch(target, ports);
            tried.push(mismatch);
            if mismatch.is_none() {
                break;
            }
        }
        tried
    }

    fn weigh(
        &mut self,
        request: &Request<'_>,
        ports: &mut impl Ports,
        now: Timestamp,
        observer: &mut impl Observer,
    ) -> Verdict {
        let bare = |reason| Refusal { reason, rule: None, session: None, nonce: None, claim: None };
        let path = Canonical::parse(request.path).map_err(|_| bare(Reason::PathRefused))?;
        let host = self.policy.host(request.authority).map_err(|_| bare(Reason::HostRefused))?;
        let Judge { policy, tokens, view, lacks_keys_of } = self;
        let target = Target { method: method(request), host, path: &path, grpc: request.like_grpc };
        let (at, rule, captures) = policy.find(target, ports).ok_or_else(|| bare(Reason::RuleMissing))?;
        let with_rule = |reason| Refusal { rule: Some(at), ..bare(reason) };
        let requirement = match rule.effect() {
            Effect::Anonymous => {
                let rule = Some(at);
                let (shadowed, source, peer) = (None, None, None);
                return Ok(Permit {
                    rule,
                    session: None,
                    broken_glass: false,
                    shadowed,
                    source,
                    peer,
                    admitted_at: now,
                });
            }
            Effect::Deny => return Err(with_rule(Reason::RuleDenied)),
            Effect::Require(requirement) => requirement,
        };
        let presented = request.credential().map_err(with_rule)?;
        let session = tokens.session(presented.token, policy, ports, now).map_err(|rejected| {
            *lacks_keys_of = rejected.lacks_keys_of;
            Refusal { claim: rejected.claim, ..with_rule(rejected.reason) }
        })?;
        let with_session = |reason| Refusal { session: Some(Rc::clone(&session)), ..with_rule(reason) };
        let verified = session.verified();
        let issuer = policy.issuers().get(verified.issuer()).ok_or_else(|| with_session(Reason::InternalError))?;
        let proof = issuer
            .presentation
            .check(verified.grant(), presented, request, ports, now)
            .map_err(|misuse| Refusal { nonce: misuse.nonce, ..with_session(misuse.reason) })?;
        let standing = stand(view, &session, ports, now).map_err(with_session)?;
        let fresh_at = view.fresh_at(policy.signals().heartbeats_of(session.verified().issuer()));
        let asks_for_source = requirement.checks().iter().any(Check::needs_source);
        let source = if asks_for_source { ports.source() } else { None };
        let asks_for_peer = requirement.checks().iter().any(Check::needs_peer);
        let peer = if asks_for_peer { ports.peer_uri() } else { None };
        let method = Method::fold(target.method);
        let evidence = Evidence {
            grant: session.verified().grant(),
            minted: session.claims(),
            standing: &standing,
            request: RequestLine { method: &method, host, path: &path },
            capture_names: rule.matcher().capture_names(),
            captures,
            source,
            peer: peer.as_deref(),
            fresh_at,
            now,
        };
        let broken_glass = weigh_all(requirement, &evidence, observer).map_err(with_session)?;
        // What counts once is spent last: only a request that passes uses it up. Where nothing is enforced, nothing
        // is taken from where something is.
        let trial = policy.mode(Some(at)) == Mode::Shadow;
        if let Some(proof) = &proof {
            spend(ports, &Coin::proof(proof, trial), Reason::DpopProofReplayed, now).map_err(with_session)?;
        }
        if requirement.single_use() {
            let grant = verified.grant();
            let until = grant.expires_at.plus(issuer.clock_skew);
            let coin = Coin::token(&grant.issuer, &grant.token_id, until, trial);
            spend(ports, &coin, Reason::TokenUsed, now).map_err(with_session)?;
        }
        let (rule, session, shadowed) = (Some(at), Some(session), None);
        Ok(Permit { rule, session, broken_glass, shadowed, source, peer, admitted_at: now })
    }
}

/// Weighs every check until one refuses. `Ok` says whether break-glass was needed.
pub(crate) fn weigh_all<O: Observer>(
    requirement: &Requirement,
    evidence: &Evidence<'_>,
    observer: &mut O,
) -> Result<bool, Reason> {
    let mut first = None;
    let mut broken_glass = false;
    for check in requirement.checks() {
        let outcome = requirement.weigh(check, evidence);
        observer.check(check, outcome, evidence);
        match outcome {
            Outcome::Met => {}
            Outcome::Lifted(_) => broken_glass = true,
            Outcome::Unmet(reason) if O::SEES_ALL => first = first.or(Some(reason)),
            Outcome::Unmet(reason) => return Err(reason),
        }
    }
    first.map_or(Ok(broken_glass), Err)
}

/// Uses `coin` up, or says why not: `spent` if it was used before.
fn spend(store: &mut impl Store, coin: &Coin, spent: Reason, now: Timestamp) -> Result<(), Reason> {
    single_use::spend(store, coin, now).map_err(|error| match error {
        Unspendable::Spent => spent,
        Unspendable::Full => Reason::ReplaySaturated,
        Unspendable::Store(_) => Reason::StateUnavailable,
    })
}

/// A method that is not UTF-8 is none that a rule can name.
fn method<'h>(request: &Request<'h>) -> &'h str {
    std::str::from_utf8(request.method).unwrap_or_default()
}

/// Reads the pushed state: the version at every request, the buckets of this session only when they changed.
fn stand(view: &mut View, session: &Session, store: &mut impl Store, now: Timestamp) -> Result<Standing, Reason> {
    let clock = view.refresh(store).map_err(unreadable)?;
    stand_at(clock, view, session, store, now)
}

/// [`stand`] for whoever has read the version already.
pub(crate) fn stand_at(
    clock: u64,
    view: &View,
    session: &Session,
    store: &mut impl Store,
    now: Timestamp,
) -> Result<Standing, Reason> {
    let known = session.last_standing().filter(|(read_at, _)| view.is_current(session.buckets(), *read_at));
    let standing = match known {
        Some((_, standing)) => standing,
        None => {
            let standing = standing(store, view, session.verified().grant(), session.keys()).map_err(unreadable)?;
            session.remember(clock, standing.clone());
            standing
        }
    };
    match (standing.ended, standing.unknown_until) {
        (Some(reason), _) => Err(reason),
        (None, Some(until)) if until > now => Err(Reason::StateSaturated),
        (None, _) => Ok(standing),
    }
}

pub(crate) fn unreadable(_: StoreError) -> Reason {
    Reason::StateUnavailable
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jose::jws::Unverified;
    use crate::jose::key::{Algorithm, Key};
    use crate::jose::signature::PureRust;
    use crate::state::bucket::Entry;
    use crate::state::fact::{Compliance, Fact, Risk};
    use crate::state::freshness::{Pulse, TransmitterId};
    use crate::state::key::{Kind, StateKey};
    use crate::state::revocations::{apply, hear, set_up};
    use crate::state::store::{MemoryStore, Slot, Stored};
    use crate::testing::fixture::{self, NOW, token_with};
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

    impl Surroundings for Ports {
        fn source(&mut self) -> Option<std::net::IpAddr> {
            "10.1.2.3".parse().ok()
        }

        fn route_metadata(&mut self, name: &str) -> Option<Vec<u8>> {
            (name == "tier").then(|| b"gold".to_vec())
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
        let policy = crate::config::load::load(config.to_string().as_bytes()).unwrap().policy;
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
        judge.judge(&request, ports, now).map(|permit| permit.rule().unwrap()).map_err(|refusal| refusal.reason)
    }

    fn revoke(ports: &mut Ports, kind: Kind, name: &str) {
        let key = StateKey::new(kind, "https://jit.example", name);
        let entry =
            Entry { key, fact: Fact::Revoked, at: NOW, until: Timestamp::MAX, conditions: vec![], data: vec![] };
        apply(&mut ports.store, TransmitterId::UNKNOWN, &[entry], NOW).unwrap();
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

    /// A token whose signature is that of another.
    fn forged(name: &str) -> String {
        let (good, other) =
            (token_with(json!({}), json!({"jti": name})), token_with(json!({}), json!({"jti": "other"})));
        let signature = other.rsplit_once('.').unwrap().1;
        format!("{}.{signature}", good.rsplit_once('.').unwrap().0)
    }

    #[test]
    fn a_bad_signature_is_checked_once() {
        let (mut judge, mut ports) = bench();
        let bad = forged("bad");
        for _ in 0..3 {
            let verdict = ask(&mut judge, &mut ports, "GET /orders/1881", Some(&bad), NOW);
            assert_eq!((verdict, ports.signatures), (Err(Reason::SignatureInvalid), 1));
        }
    }

    #[test]
    fn a_flood_of_bad_signatures_buys_a_bounded_number_of_checks() {
        let (mut judge, mut ports) = bench();
        let warm = token_with(json!({}), json!({}));
        let cold = token_with(json!({}), json!({"jti": "tok-2"}));
        let mut ask = |token: &str, now| {
            let verdict = ask(&mut judge, &mut ports, "GET /orders/1881", Some(token), now);
            (verdict, ports.signatures)
        };
        assert_eq!(ask(&warm, NOW), (Ok(1), 1));
        for n in 1..=100 {
            assert_eq!(ask(&forged(&n.to_string()), NOW), (Err(Reason::SignatureInvalid), 1 + n));
        }
        assert_eq!(ask(&forged("one more"), NOW), (Err(Reason::TooManyFailures), 101));
        assert_eq!(ask(&cold, NOW), (Err(Reason::TooManyFailures), 101), "nobody can tell it from the flood unchecked");
        assert_eq!(ask(&warm, NOW), (Ok(1), 101), "what was verified before goes on");
        assert_eq!(ask(&cold, NOW.plus(crate::time::Span(1))), (Ok(1), 102));
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
        assert_eq!(ports.reads, 3 + 1, "the version each time, the journal once, and no bucket that is empty");
        revoke(&mut ports, Kind::Token, "another");
        ask(&mut judge, &mut ports, "GET /orders/1881", Some(&token), NOW).unwrap();
        assert_eq!(ports.reads, 3 + 1 + 2, "a change elsewhere costs the journal and no bucket");
        let key = StateKey::new(Kind::User, "https://jit.example", "alice");
        let fact = Fact::Risk(Risk::Low);
        let entry = Entry { key, fact, at: NOW, until: Timestamp::MAX, conditions: vec![], data: Default::default() };
        apply(&mut ports.store, TransmitterId::UNKNOWN, &[entry], NOW).unwrap();
        for _ in 0..3 {
            ask(&mut judge, &mut ports, "GET /orders/1881", Some(&token), NOW).unwrap();
        }
        assert_eq!(ports.reads, 3 + 1 + 2 + 3 + 1 + 1, "the one bucket that holds something, once");
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

    /// What the proxy knows of the client's certificate, and how often it was asked.
    #[derive(Default)]
    struct Tls {
        ports: Ports,
        certificate: Option<[u8; 32]>,
        uri: Option<&'static str>,
        asked: usize,
    }

    impl Store for Tls {
        fn read(&mut self, slot: Slot) -> Result<Option<Stored>, StoreError> {
            self.ports.read(slot)
        }

        fn swap(&mut self, slot: Slot, bytes: &[u8], cas: u32) -> Result<bool, StoreError> {
            self.ports.swap(slot, bytes, cas)
        }

        fn seed(&mut self, slot: Slot, bytes: &[u8]) -> Result<(), StoreError> {
            self.ports.seed(slot, bytes)
        }
    }

    impl CheckSignature for Tls {
        fn check(&mut self, token: &Unverified<'_>, key: &Key, algorithm: Algorithm) -> bool {
            self.ports.check(token, key, algorithm)
        }
    }

    impl Surroundings for Tls {
        fn source(&mut self) -> Option<std::net::IpAddr> {
            None
        }

        fn route_metadata(&mut self, _: &str) -> Option<Vec<u8>> {
            None
        }

        fn peer_certificate(&mut self) -> Option<[u8; 32]> {
            self.asked = self.asked.saturating_add(1);
            self.certificate
        }

        fn peer_uri(&mut self) -> Option<String> {
            self.asked = self.asked.saturating_add(1);
            self.uri.map(str::to_owned)
        }
    }

    fn tls() -> Tls {
        let mut tls = Tls::default();
        set_up(&mut tls, 1).unwrap();
        tls
    }

    fn judge_of_issuer(more: serde_json::Value, rules: serde_json::Value) -> Judge {
        let mut issuer = json!({"issuer": "https://jit.example", "audiences": ["https://orders.mesh"], "keys": {"inline": fixture::jwks()}});
        issuer.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let config = json!({"issuers": [issuer], "rules": rules});
        Judge::new(crate::config::load::load(config.to_string().as_bytes()).unwrap().policy)
    }

    fn ask_tls(judge: &mut Judge, tls: &mut Tls, path: &str, headers: &[(&str, &str)]) -> Result<(), Reason> {
        let line = [(":method", "GET"), (":scheme", "https"), (":authority", "h"), (":path", path)];
        let all = line.iter().chain(headers).map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let request = Request::with_places(all, judge.policy().places());
        judge.judge(&request, tls, NOW).map(drop).map_err(|refusal| refusal.reason)
    }

    #[test]
    fn a_remembered_token_is_held_to_its_certificate_every_time() {
        let mut judge = judge_of_issuer(json!({}), json!([{"name": "r", "match": {}, "require": {}}]));
        let mut tls = tls();
        let digest = crate::encoding::digest::digest_text(&[7; 32]);
        let bound = format!("Bearer {}", token_with(json!({}), json!({"cnf": {"x5t#S256": digest}})));
        let free = format!("Bearer {}", token_with(json!({}), json!({})));
        for (certificate, outcome) in [
            (Some([7; 32]), Ok(())),
            (Some([8; 32]), Err(Reason::BindingMismatch)),
            (None, Err(Reason::BindingMismatch)),
            (Some([7; 32]), Ok(())),
        ] {
            tls.certificate = certificate;
            assert_eq!(ask_tls(&mut judge, &mut tls, "/", &[("authorization", &bound)]), outcome);
        }
        assert_eq!((tls.ports.signatures, tls.asked), (1, 4));
        assert_eq!(ask_tls(&mut judge, &mut tls, "/", &[("authorization", &free)]), Ok(()));
        assert_eq!(tls.asked, 4, "nobody asks the proxy for what no token and no rule needs");
    }

    #[test]
    fn a_rule_or_a_claim_names_the_workload() {
        let rules = json!([{"name": "r", "match": {}, "require": {"peer": ["spiffe://td/agents/*"]}}]);
        let mut judge = judge_of_issuer(json!({"peer_claim": "act.sub"}), rules);
        let mut tls = tls();
        let token = |act: serde_json::Value| format!("Bearer {}", token_with(json!({}), json!({ "act": act })));
        let mut ask = |uri, act| {
            tls.uri = uri;
            ask_tls(&mut judge, &mut tls, "/", &[("authorization", &token(act))])
        };
        let a7 = json!({"sub": "spiffe://td/agents/a7", "act": {"sub": "spiffe://td/other/x"}});
        assert_eq!(ask(Some("spiffe://td/agents/a7"), a7.clone()), Ok(()));
        assert_eq!(ask(Some("spiffe://td/agents/b1"), a7.clone()), Err(Reason::BindingMismatch));
        assert_eq!(ask(None, a7), Err(Reason::BindingMismatch));
        let other = json!({"sub": "spiffe://td/other/x", "act": {"sub": "spiffe://td/agents/a7"}});
        assert_eq!(
            ask(Some("spiffe://td/agents/a7"), other.clone()),
            Err(Reason::BindingMismatch),
            "history is no authority"
        );
        assert_eq!(ask(Some("spiffe://td/other/x"), other), Err(Reason::PeerRefused));
        assert_eq!(ask(Some("spiffe://td/agents/a7"), json!({"sub": "\u{e9}"})), Err(Reason::BindingMismatch));
    }

    #[test]
    fn what_counts_once_is_spent_by_what_passes() {
        let rules = json!([
            {"name": "tried", "match": {"path": "/tried"}, "require": {"single_use": true}, "mode": "shadow"},
            {"name": "refused", "match": {"path": "/refused"}, "require": {"single_use": true, "scope": "x"}},
            {"name": "once", "match": {"path": "/once"}, "require": {"single_use": true}},
            {"name": "more", "match": {}, "require": {}}
        ]);
        let mut judge = judge_of_issuer(json!({}), rules);
        let mut tls = tls();
        let bearer = format!("Bearer {}", token_with(json!({}), json!({})));
        let mut ask = |path| ask_tls(&mut judge, &mut tls, path, &[("authorization", &bearer)]);
        assert_eq!((ask("/tried"), ask("/tried")), (Ok(()), Ok(())));
        assert_eq!(ask("/refused"), Err(Reason::ScopeInsufficient));
        assert_eq!(ask("/once"), Ok(()));
        assert_eq!((ask("/once"), ask("/more")), (Err(Reason::TokenUsed), Ok(())));
        // A memory that nobody set up is no memory of nothing.
        let mut empty = Tls::default();
        tls.ports.store.read(Slot::Version).unwrap().iter().for_each(|v| empty.seed(Slot::Version, &v.bytes).unwrap());
        let fresh = format!("Bearer {}", token_with(json!({}), json!({"jti": "tok-2"})));
        let verdict = ask_tls(&mut judge, &mut empty, "/once", &[("authorization", &fresh)]);
        assert_eq!(verdict, Err(Reason::StateUnavailable));
    }

    #[test]
    fn a_token_counts_only_where_its_issuer_has_it() {
        let rules = json!([{"name": "r", "match": {}, "require": {}}]);
        let mut config = json!({"issuers": [], "rules": rules});
        for (name, place) in [("https://jit.example", json!({"header": "x-jit"})), ("other", json!({"cookie": "jit"}))]
        {
            config["issuers"].as_array_mut().unwrap().push(json!({
                "issuer": name, "audiences": ["https://orders.mesh"], "keys": {"inline": fixture::jwks()}, "token": place
            }));
        }
        let mut judge = Judge::new(crate::config::load::load(config.to_string().as_bytes()).unwrap().policy);
        let mut tls = tls();
        let token = token_with(json!({}), json!({}));
        let cookie = format!("jit={token}");
        for _ in 0..2 {
            assert_eq!(ask_tls(&mut judge, &mut tls, "/", &[("x-jit", &token)]), Ok(()));
            assert_eq!(ask_tls(&mut judge, &mut tls, "/", &[("cookie", &cookie)]), Err(Reason::TokenMisplaced));
        }
    }

    fn judge_of(require: serde_json::Value, more: serde_json::Value) -> (Judge, Ports) {
        let mut rule = json!({"name": "r", "match": {"path": "/orders/{order}"}, "require": require});
        rule.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let config = json!({
            "issuers": [{"issuer": "https://jit.example", "audiences": ["https://orders.mesh"],
                         "keys": {"inline": fixture::jwks()}, "claims": {"device": "device_id"}}],
            "rules": [rule],
            "signals": {"transmitters": [{"issuer": "https://jit.example", "audience": "us", "keys": {"inline": fixture::jwks()}}]}
        });
        let policy = crate::config::load::load(config.to_string().as_bytes()).unwrap().policy;
        let mut ports = Ports::default();
        set_up(&mut ports.store, 1).unwrap();
        (Judge::new(policy), ports)
    }

    fn state(ports: &mut Ports, kind: Kind, name: &str, fact: Fact) {
        let issuer = "https://jit.example";
        let key = match kind {
            Kind::Device => StateKey::foreign(kind, issuer, issuer, name),
            _ => StateKey::new(kind, issuer, name),
        };
        let entry = Entry { key, fact, at: NOW, until: Timestamp::MAX, conditions: vec![], data: vec![] };
        apply(&mut ports.store, TransmitterId::UNKNOWN, &[entry], NOW).unwrap();
    }

    #[test]
    fn each_requirement_refuses_with_its_own_reason() {
        let cases = [
            (json!({"scope": {"any": ["orders.read", "x"]}}), json!({}), None),
            (json!({"scope": {"all": ["orders.read"], "any": ["x", "y"]}}), json!({}), Some(Reason::ScopeInsufficient)),
            (json!({"claims": {"sub": "alice"}}), json!({}), None),
            (json!({"claims": {"sub": "bob"}}), json!({}), Some(Reason::ClaimMismatch)),
            (json!({"claims": {"absent": null}}), json!({}), Some(Reason::ClaimMismatch)),
            (json!({"actor": {"agents": ["a7"]}}), json!({"act": {"sub": "a7"}}), None),
            (
                json!({"actor": {"agents": ["a7"]}}),
                json!({"act": {"sub": "x", "act": {"sub": "a7"}}}),
                Some(Reason::ActorRefused),
            ),
            (json!({"actor": {"delegation": "none"}}), json!({"act": {"sub": "a7"}}), Some(Reason::ActorRefused)),
            (json!({"source": ["10.0.0.0/8"]}), json!({}), None),
            (json!({"source": ["192.168.0.0/16"]}), json!({}), Some(Reason::SourceRefused)),
            (json!({"device": "compliant"}), json!({}), Some(Reason::DeviceNotCompliant)),
            (json!({"device": {"status": "compliant", "unknown": "allow"}}), json!({}), None),
            (json!({"risk": {"below": "HIGH"}}), json!({}), Some(Reason::RiskTooHigh)),
            (json!({"risk": {"below": "HIGH", "unknown": "allow"}}), json!({}), None),
            (json!({"acr": ["phr", "phrh"]}), json!({"acr": "phrh"}), None),
            (json!({"acr": ["phr"]}), json!({}), Some(Reason::AssuranceInsufficient)),
            (json!({"auth_age": "200s"}), json!({}), None),
            (json!({"auth_age": "199s"}), json!({}), Some(Reason::AuthenticationTooOld)),
            (json!({"auth_age": "1h"}), json!({"auth_time": fixture::ABSENT}), Some(Reason::AuthenticationTooOld)),
            (json!({"state_age": "30s"}), json!({}), Some(Reason::StateStale)),
            (json!({"when": "claims.sub == 'alice' && captures.order == '1881'"}), json!({}), None),
            (json!({"when": "request.method == 'POST'"}), json!({}), Some(Reason::ConditionFailed)),
            (json!({"when": "claims.absent == 1"}), json!({}), Some(Reason::ConditionError)),
            (json!({"when": "!has(claims.absent) && request.source == '10.1.2.3'"}), json!({}), None),
        ];
        for (require, claims, refused) in cases {
            let (mut judge, mut ports) = judge_of(require.clone(), json!({}));
            let token = token_with(json!({}), claims.clone());
            let verdict = ask(&mut judge, &mut ports, "GET /orders/1881", Some(&token), NOW);
            assert_eq!(verdict.err(), refused, "{require} {claims}");
        }
    }

    #[test]
    fn facts_decide_about_device_and_risk() {
        let (mut judge, mut ports) =
            judge_of(json!({"device": "compliant", "risk": {"below": "HIGH"}, "state_age": "30s"}), json!({}));
        let token = token_with(json!({}), json!({"device_id": "d7"}));
        let mut ask_at = |ports: &mut Ports, now| ask(&mut judge, ports, "GET /orders/1", Some(&token), now).err();
        state(&mut ports, Kind::Device, "d7", Fact::Device(Compliance::Compliant));
        assert_eq!(ask_at(&mut ports, NOW), Some(Reason::StateStale), "a change is no sign of life");
        hear(&mut ports.store, &Pulse::new("https://jit.example", NOW), NOW).unwrap();
        assert_eq!(ask_at(&mut ports, NOW), Some(Reason::RiskTooHigh));
        state(&mut ports, Kind::User, "alice", Fact::Risk(Risk::Medium));
        assert_eq!(ask_at(&mut ports, NOW), None);
        assert_eq!(ask_at(&mut ports, Timestamp(NOW.0 + 31)), Some(Reason::StateStale));
        state(&mut ports, Kind::Device, "d7", Fact::Device(Compliance::NotCompliant));
        assert_eq!(ask_at(&mut ports, NOW), Some(Reason::DeviceNotCompliant));
    }

    #[test]
    fn break_glass_lifts_what_it_names_and_nothing_else() {
        let require = json!({"device": "compliant", "acr": ["phr"]});
        let glass = |lifts: serde_json::Value| json!({"break_glass": {"scope": "orders.refund", "lifts": lifts}});
        let permit = |lifts, claims| {
            let (mut judge, mut ports) = judge_of(require.clone(), glass(lifts));
            let token = format!("Bearer {}", token_with(json!({}), claims));
            let headers = [(":method", "GET"), (":authority", "o"), (":path", "/orders/1"), ("authorization", &token)];
            let request = Request::from_headers(headers.map(|(name, value)| (name.as_bytes(), value.as_bytes())));
            judge.judge(&request, &mut ports, NOW).map(|permit| permit.broken_glass()).map_err(|refusal| refusal.reason)
        };
        assert_eq!(permit(json!(["device", "acr"]), json!({})), Ok(true));
        assert_eq!(permit(json!(["device"]), json!({})), Err(Reason::AssuranceInsufficient));
        assert_eq!(permit(json!(["device"]), json!({"acr": "phr"})), Ok(true));
        assert_eq!(permit(json!(["device", "acr"]), json!({"scope": "orders.read"})), Err(Reason::DeviceNotCompliant));
    }

    #[test]
    fn shadow_lets_pass_and_says_what_it_would_have_done() {
        let (mut judge, mut ports) = judge_of(json!({"scope": "x"}), json!({"mode": "shadow"}));
        let token = format!("Bearer {}", token_with(json!({}), json!({})));
        let headers = [(":method", "GET"), (":authority", "o"), (":path", "/orders/1"), ("authorization", &token)];
        let request = Request::from_headers(headers.map(|(name, value)| (name.as_bytes(), value.as_bytes())));
        let permit = judge.judge(&request, &mut ports, NOW).unwrap();
        assert_eq!(permit.shadowed().map(|refusal| refusal.reason), Some(Reason::ScopeInsufficient));
        assert_eq!(
            ask(&mut judge, &mut ports, "GET /elsewhere", None, NOW),
            Err(Reason::RuleMissing),
            "no rule: overall mode"
        );
        let admin = |mode: &str| {
            let config = json!({
                "mode": "shadow",
                "issuers": [{"issuer": "https://jit.example", "audiences": ["https://orders.mesh"],
                             "keys": {"inline": fixture::jwks()}}],
                "rules": [{"name": "a", "match": {"path": "/admin"}, "deny": true, "mode": mode}]
            });
            let mut judge = Judge::new(crate::config::load::load(config.to_string().as_bytes()).unwrap().policy);
            let headers = [(":method", "GET"), (":authority", "o"), (":path", "/admin;x")];
            let request = Request::from_headers(headers.map(|(name, value)| (name.as_bytes(), value.as_bytes())));
            judge.judge(&request, &mut Ports::default(), NOW).map(drop).map_err(|refusal| refusal.reason)
        };
        assert_eq!(admin("enforce"), Err(Reason::PathRefused), "it could be meant for the rule that is enforced");
        assert_eq!(admin("shadow"), Ok(()));
    }
}
