//! The judge: one request in, one verdict out. The proxy and the command line both ask this one.

use crate::decision::authenticate::{Authenticator, TokenCounts};
use crate::decision::captured::Captured;
use crate::decision::evaluate::Asked;
use crate::decision::evaluate::NoopObserver;
use crate::decision::evaluate::Observer;
use crate::decision::evaluate::check_feed;
use crate::decision::evaluate::check_status;
use crate::decision::evaluate::evaluate;
use crate::decision::evaluate::grant_status;
use crate::decision::evaluate::unreadable;
use crate::decision::session::Session;
use crate::decision::verdict::Permit;
use crate::decision::verdict::Refusal;
use crate::decision::verdict::Verdict;
use crate::http::connection::ConnectionInfo;
use crate::http::method::Method;
use crate::http::path::Canonical;
use crate::http::request::Request;
use crate::index::IssuerIndex;
use crate::jose::signature::CheckSignature;
use crate::keys::keyring::{Keyring, Owner};
use crate::policy::policy::Policy;
use crate::ports::Ports;
use crate::reason::Reason;
use crate::rules::evidence::RequestLine;
use crate::rules::mode::Mode;
use crate::rules::requirement::{Check, Requirement};
use crate::rules::rule::{Effect, Target};
use crate::state::single_use::{self, ConsumeError, SingleUseEntry};
use crate::state::store::Store;
use crate::state::view::View;
use crate::time::Span;
use crate::time::Timestamp;
use crate::token::dpop::Proof;
use std::rc::Rc;

/// A policy, and what one worker remembers while it applies it.
#[derive(Debug)]
pub struct Judge {
    pub(crate) policy: Policy,
    tokens: Authenticator,
    pub(crate) view: View,
}

impl Judge {
    /// A judge of `policy` that remembers nothing yet, for tools and tests: strangers could know where its caches keep
    /// what, and the claims of a token can be shown.
    pub fn new(policy: Policy) -> Judge {
        Judge { tokens: Authenticator::new(&policy, 0, true), policy, view: View::default() }
    }

    /// A judge of `policy` that remembers nothing yet. `seed` is random, and no other judge's.
    pub fn seeded(policy: Policy, seed: u64) -> Judge {
        Judge { tokens: Authenticator::new(&policy, seed, false), policy, view: View::default() }
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
    pub fn force_refresh(&mut self) {
        self.view.force_refresh();
    }

    /// How long ago the transmitters that tell of the grants of `issuer`, or the hub, were heard of, as this worker knows.
    /// `None` if one of them never was, or if nobody has to be heard of.
    pub fn state_age(&self, issuer: IssuerIndex, now: Timestamp) -> Option<Span> {
        let fresh_at = self.view.fresh_at(self.policy.signals().heartbeats_of(issuer));
        (fresh_at > Timestamp(0)).then(|| now.since(fresh_at))
    }

    /// How many requests came with a token that was known or new, and what is remembered of tokens.
    pub fn token_counts(&self) -> TokenCounts {
        self.tokens.counts()
    }

    /// Gives the policy away and forgets the rest.
    pub fn into_policy(self) -> Policy {
        self.policy
    }

    /// Judges `request` at `now`.
    pub fn judge(
        &mut self,
        request: &Request<'_>,
        ports: &mut Ports<impl Store, impl CheckSignature, impl ConnectionInfo>,
        now: Timestamp,
    ) -> Verdict {
        self.judge_before(request, ports, now, &mut NoopObserver)
    }

    /// Judges `request` at `now`, and shows `observer` how.
    pub fn judge_before(
        &mut self,
        request: &Request<'_>,
        ports: &mut Ports<impl Store, impl CheckSignature, impl ConnectionInfo>,
        now: Timestamp,
        observer: &mut impl Observer,
    ) -> Verdict {
        let mode = |refusal: &Refusal, policy: &Policy| match refusal.reason {
            Reason::PathRefused | Reason::HostRefused => policy.mode_of_unreadable(),
            _ => policy.mode(refusal.rule),
        };
        let verdict = self.decide(request, ports, now, observer);
        match verdict.map_err(|refusal| self.locate(refusal, request)) {
            Err(refusal) if mode(&refusal, &self.policy) == Mode::Shadow => Ok(Permit::shadowing(refusal, now)),
            verdict => verdict,
        }
    }

    /// Adds the protected resource of the request, to which challenges point.
    fn locate(&self, refusal: Refusal, request: &Request<'_>) -> Refusal {
        let host = self.policy.host(request.authority).ok();
        let found = host.zip(Canonical::parse(request.path).ok());
        let resource = found.and_then(|(host, path)| self.policy.resource_of(host, &path));
        refusal.at(resource)
    }

    /// Finds the rule, authenticates, evaluates.
    fn decide(
        &mut self,
        request: &Request<'_>,
        ports: &mut Ports<impl Store, impl CheckSignature, impl ConnectionInfo>,
        now: Timestamp,
        observer: &mut impl Observer,
    ) -> Verdict {
        let path = Canonical::parse(request.path).map_err(|_| Refusal::new(Reason::PathRefused))?;
        let host = self.policy.host(request.authority).map_err(|_| Refusal::new(Reason::HostRefused))?;
        let Judge { policy, tokens, view } = self;
        let method = method(request);
        let target = Target { method, host, path: &path, grpc: request.like_grpc };
        let target = policy.matched(target, &mut ports.connection);
        show_rules(policy, target, &mut ports.connection, observer);
        let found = policy.find(target, &mut ports.connection);
        let (at, rule, captures) = found.ok_or_else(|| Refusal::new(Reason::RuleMissing))?;
        observer.captures(rule.matcher().capture_names(), &captures);
        let requirement = match rule.effect() {
            Effect::Anonymous => return Ok(Permit::anonymous(at, now)),
            Effect::Deny => return Err(Refusal::new(Reason::RuleDenied).by(at)),
            Effect::Require(requirement) => requirement,
        };
        let bearer = authenticate(tokens, policy, request, ports, now).map_err(|refusal| refusal.by(at))?;
        let with_session = |reason| Refusal::new(reason).by(at).about(&bearer.session);
        let clock = view.refresh(&mut ports.store).map_err(|error| with_session(unreadable(error)))?;
        check_feed(policy, view, bearer.session.verified().issuer()).map_err(with_session)?;
        let grant_status = grant_status(clock, view, &bearer.session, &mut ports.store).map_err(with_session)?;
        let refused = |reason| with_session(reason).with_status(&grant_status);
        check_status(&grant_status, now).map_err(refused)?;
        let checks = requirement.checks();
        let source = if checks.iter().any(Check::needs_source) { ports.connection.source() } else { None };
        let peer = if checks.iter().any(Check::needs_peer) { ports.connection.peer_uri() } else { None };
        let request = RequestLine { method: &Method::fold(method), host, path: &path };
        let asked = Asked { rule, request, captures, source, peer: peer.as_deref() };
        let broken_glass = evaluate(requirement, &asked, &bearer.session, &grant_status, (policy, view), now, observer)
            .map_err(|unmet| refused(unmet.reason).and(unmet.also))?;
        // What counts once is used last: only a request that passes uses it up. Where nothing is enforced, nothing is
        // taken from where something is.
        let trial = policy.mode(Some(at)) == Mode::Shadow;
        use_once(&bearer, requirement, trial, &mut ports.store, now).map_err(refused)?;
        let captured = Captured::new(&path, &captures);
        let proof_key = bearer.proof.as_ref().map(|proof| *proof.key());
        let (rule, session, grant_status) = (Some(at), Some(bearer.session), Some(grant_status));
        let shadowed = None;
        Ok(Permit {
            rule,
            session,
            grant_status,
            broken_glass,
            shadowed,
            source,
            peer,
            captured,
            proof_key,
            admitted_at: now,
        })
    }
}

/// Shows an observer that sees all why each rule up to the one that matches does not.
fn show_rules<O: Observer>(
    policy: &Policy,
    target: Target<'_>,
    connection: &mut impl ConnectionInfo,
    observer: &mut O,
) {
    if !O::SEES_ALL {
        return;
    }
    for rule in policy.rules() {
        let mismatch = rule.matcher().mismatch(target, connection);
        observer.rule(mismatch);
        if mismatch.is_none() {
            return;
        }
    }
}

/// Who asks: a verified token, presented by whoever may.
struct Presented {
    session: Rc<Session>,
    proof: Option<Proof>,
    /// How far the clocks of its issuer and ours may lie apart.
    clock_skew: Span,
}

/// Verifies the token of the request, and that whoever presents it may.
fn authenticate(
    tokens: &mut Authenticator,
    policy: &Policy,
    request: &Request<'_>,
    ports: &mut Ports<impl Store, impl CheckSignature, impl ConnectionInfo>,
    now: Timestamp,
) -> Result<Presented, Refusal> {
    let credential = request.credential().map_err(Refusal::new)?;
    let session = tokens.session(credential.token, policy, ports, now).map_err(|rejected| Refusal {
        claim: rejected.claim,
        lacks_keys_of: rejected.lacks_keys_of,
        ..Refusal::new(rejected.reason)
    })?;
    let refused = |reason| Refusal::new(reason).about(&session);
    let issuer = policy.issuer(session.verified().issuer());
    let issuer = issuer.ok_or_else(|| refused(Reason::InternalError))?;
    let proof = issuer
        .presentation
        .check(session.verified().grant(), credential, request, ports, now)
        .map_err(|misuse| Refusal { nonce: misuse.nonce, ..refused(misuse.reason) })?;
    Ok(Presented { proof, clock_skew: issuer.clock_skew, session })
}

/// Uses up what counts once: the DPoP proof, then the token where the rule says so.
fn use_once(
    bearer: &Presented,
    requirement: &Requirement,
    trial: bool,
    store: &mut impl Store,
    now: Timestamp,
) -> Result<(), Reason> {
    if let Some(proof) = &bearer.proof {
        let entry = SingleUseEntry::proof(proof.id(), proof.key(), proof.until(), trial);
        consume(store, &entry, Reason::DpopProofReplayed, now)?;
    }
    if requirement.single_use() {
        let grant = bearer.session.verified().grant();
        let entry = SingleUseEntry::token(
            &grant.issuer,
            &grant.token_id.state_name(),
            grant.expires_at.plus(bearer.clock_skew),
            trial,
        );
        consume(store, &entry, Reason::TokenUsed, now)?;
    }
    Ok(())
}

/// Records the use of `entry`, or says why not: `already_used` if it was used before.
fn consume(store: &mut impl Store, entry: &SingleUseEntry, already_used: Reason, now: Timestamp) -> Result<(), Reason> {
    single_use::consume(store, entry, now).map_err(|error| match error {
        ConsumeError::AlreadyUsed => already_used,
        ConsumeError::Full => Reason::ReplaySaturated,
        ConsumeError::Store(_) => Reason::StateUnavailable,
    })
}

/// A method that is not UTF-8 is none that a rule can name.
fn method<'h>(request: &Request<'h>) -> &'h str {
    std::str::from_utf8(request.method).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::bucket::Entry;
    use crate::state::bucket::SourceTag;
    use crate::state::coverage::{CoveredIssuer, FeedStatus};
    use crate::state::fact::{Compliance, Fact, Risk};
    use crate::state::freshness::{Heartbeat, TransmitterId};
    use crate::state::key::{Kind, StateKey};
    use crate::state::revocations::{announce, apply, record_heartbeat, set_up};
    use crate::state::store::Slot;
    use crate::testing::fixture::{self, NOW, token_with};
    use crate::testing::ports::{TestConnection, TestPorts};
    use serde_json::{Value, json};

    /// The ports of a request from 10.1.2.3; the state is not set up.
    fn ports() -> TestPorts {
        let source = "10.1.2.3".parse().ok();
        TestPorts { connection: TestConnection { source, ..TestConnection::default() }, ..TestPorts::default() }
    }

    fn bench() -> (Judge, TestPorts) {
        bench_with(fixture::jwks())
    }

    fn bench_with(keys: Value) -> (Judge, TestPorts) {
        let config = json!({
            "issuers": [{"issuer": "https://jit.example", "audiences": ["https://orders.mesh"], "keys": {"inline": keys}}],
            "rules": [
                {"name": "admin", "match": {"path": "/admin"}, "deny": true},
                {"name": "read", "match": {"methods": ["GET"], "path": "/orders/{order}"},
                 "require": {"scope": "orders.read", "detail": {"type": "order", "action": "read", "identifier": "{order}"}}},
                {"name": "cancel", "match": {"methods": ["DELETE"], "path": "/orders/{order}"}, "require": {"scope": "orders.cancel"}},
                {"name": "health", "match": {"path": "/healthz"}, "allow": "anonymous"}
            ]
        });
        let policy = crate::config::load::load(config.to_string().as_bytes()).unwrap().policy;
        let mut ports = ports();
        set_up(&mut ports.store.memory, 1).unwrap();
        (Judge::new(policy), ports)
    }

    fn ask(
        judge: &mut Judge,
        ports: &mut TestPorts,
        line: &str,
        token: Option<&str>,
        now: Timestamp,
    ) -> Result<usize, Reason> {
        let (method, path) = line.split_once(' ').unwrap();
        let authorization = token.map(|token| format!("Bearer {token}"));
        let headers = [(":method", method), (":authority", "orders.mesh"), (":path", path)];
        let all = headers.into_iter().chain(authorization.iter().map(|value| ("authorization", value.as_str())));
        let request = Request::from_headers(all.map(|(name, value)| (name.as_bytes(), value.as_bytes())));
        judge
            .judge(&request, ports, now)
            .map(|permit| permit.rule().unwrap().position())
            .map_err(|refusal| refusal.reason)
    }

    fn revoke(ports: &mut TestPorts, kind: Kind, name: &str) {
        let key = StateKey::new(kind, "https://jit.example", name);
        let entry = Entry {
            key,
            fact: Fact::Revoked,
            at: NOW,
            until: Timestamp::MAX,
            conditions: vec![],
            data: vec![],
            source: SourceTag::NONE,
            lifted: false,
        };
        apply(&mut ports.store.memory, TransmitterId::UNKNOWN, &[entry], NOW).unwrap();
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
    fn head_is_decided_as_get_unless_a_rule_names_it() {
        let rule = |name: &str, methods: Value, path: &str| {
            let mut rule = json!({"name": name, "match": {"path": path}, "allow": "anonymous"});
            if !methods.is_null() {
                rule["match"]["methods"] = methods;
            }
            rule
        };
        let config = json!({
            "issuers": [{"issuer": "https://jit.example", "audiences": ["https://orders.mesh"], "keys": {"inline": fixture::jwks()}}],
            "rules": [
                rule("0", json!(["GET"]), "/a"),
                rule("1", json!(["GET"]), "/b"),
                rule("2", json!(["HEAD", "PUT"]), "/b"),
                rule("3", json!(["HEAD"]), "/c"),
                rule("4", Value::Null, "/c"),
                rule("5", json!(["POST"]), "/d"),
                rule("6", json!(["GET"]), "/e/{x}"),
                rule("7", Value::Null, "/e/{rest...}"),
                rule("8", json!(["GET", "HEAD"]), "/{z}/2"),
            ]
        });
        let policy = crate::config::load::load(config.to_string().as_bytes()).unwrap().policy;
        let (mut judge, mut ports) = (Judge::new(policy), ports());
        for (line, rule) in [
            ("HEAD /a", Ok(0)),
            ("head /a", Ok(0)),
            ("GET /b", Ok(1)),
            ("HEAD /b", Ok(2)),
            ("HEAD /c", Ok(3)),
            ("GET /c", Ok(4)),
            ("HEAD /d", Err(Reason::RuleMissing)),
            ("PUT /a", Err(Reason::RuleMissing)),
            ("HEAD /e/1", Ok(6)),
            ("POST /e/1", Ok(7)),
            // A rule that names it matches, so all rules are compared with HEAD, and the first one decides.
            ("HEAD /e/2", Ok(7)),
        ] {
            assert_eq!(ask(&mut judge, &mut ports, line, None, NOW), rule, "{line}");
        }
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
            assert_eq!((verdict, ports.signatures.checks), (Err(Reason::SignatureInvalid), 1));
        }
    }

    #[test]
    fn a_flood_of_bad_signatures_buys_a_bounded_number_of_checks() {
        let (mut judge, mut ports) = bench();
        let warm = token_with(json!({}), json!({}));
        let cold = token_with(json!({}), json!({"jti": "tok-2"}));
        let mut ask = |token: &str, now| {
            let verdict = ask(&mut judge, &mut ports, "GET /orders/1881", Some(token), now);
            (verdict, ports.signatures.checks)
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

    /// Four checks for each token, and each counts.
    #[test]
    fn a_token_without_a_kid_buys_no_more_checks() {
        use jwt_simple::prelude::*;
        let mut keys = fixture::jwks();
        for at in 0..5 {
            let other = ES256KeyPair::generate().with_key_id(&format!("other-{at}"));
            keys["keys"].as_array_mut().unwrap().push(serde_json::from_str(&other.public_key().to_jwk()).unwrap());
        }
        let (mut judge, mut ports) = bench_with(keys);
        let mut ask = |token: &str| {
            let verdict = ask(&mut judge, &mut ports, "GET /orders/1881", Some(token), NOW);
            (verdict, ports.signatures.checks)
        };
        let good = token_with(json!({"kid": null}), json!({}));
        let signature = good.rsplit_once('.').unwrap().1;
        let forged = |name: usize| {
            let other = token_with(json!({"kid": null}), json!({"jti": name.to_string()}));
            format!("{}.{signature}", other.rsplit_once('.').unwrap().0)
        };
        assert_eq!(ask(&good), (Ok(1), 1), "by the first key of the set");
        for n in 1..=25 {
            assert_eq!(ask(&forged(n)), (Err(Reason::SignatureInvalid), 1 + 4 * n));
            assert_eq!(ask(&forged(n)), (Err(Reason::SignatureInvalid), 1 + 4 * n), "it is known to be bad");
        }
        assert_eq!(ask(&forged(26)), (Err(Reason::TooManyFailures), 101));
        assert_eq!(ask(&good), (Ok(1), 101));
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
        assert_eq!(ports.signatures.checks, 1);
        assert_eq!(ports.store.reads, 3 + 1, "the version each time, the journal once, and no bucket that is empty");
        revoke(&mut ports, Kind::Token, "another");
        ask(&mut judge, &mut ports, "GET /orders/1881", Some(&token), NOW).unwrap();
        assert_eq!(ports.store.reads, 3 + 1 + 2, "a change elsewhere costs the journal and no bucket");
        let key = StateKey::new(Kind::User, "https://jit.example", "alice");
        let fact = Fact::Risk(Risk::Low);
        let entry = Entry {
            key,
            fact,
            at: NOW,
            until: Timestamp::MAX,
            conditions: vec![],
            data: Default::default(),
            source: SourceTag::NONE,
            lifted: false,
        };
        apply(&mut ports.store.memory, TransmitterId::UNKNOWN, &[entry], NOW).unwrap();
        for _ in 0..3 {
            ask(&mut judge, &mut ports, "GET /orders/1881", Some(&token), NOW).unwrap();
        }
        assert_eq!(ports.store.reads, 3 + 1 + 2 + 3 + 1 + 1, "the one bucket that holds something, once");
    }

    #[test]
    fn a_cached_token_meets_the_state_and_the_clock_anew() {
        let (mut judge, mut ports) = bench();
        let token = token_with(json!({}), json!({}));
        let line = "GET /orders/1881";
        assert_eq!(ask(&mut judge, &mut ports, line, Some(&token), NOW), Ok(1));
        let counts = |judge: &Judge| {
            let TokenCounts { warm, cold, entries, bytes } = judge.token_counts();
            assert_eq!(bytes > 0, entries > 0);
            (warm, cold, entries)
        };
        assert_eq!(counts(&judge), (0, 1, 1));
        assert_eq!(ask(&mut judge, &mut ports, line, Some(&token), Timestamp(NOW.0 + 230)), Err(Reason::TokenExpired));
        assert_eq!(counts(&judge), (0, 1, 0), "it counts as neither, and is forgotten");
        assert_eq!(ask(&mut judge, &mut ports, line, Some(&token), NOW), Ok(1));
        assert_eq!(ask(&mut judge, &mut ports, line, Some(&token), NOW), Ok(1));
        assert_eq!(counts(&judge), (1, 2, 1));
        revoke(&mut ports, Kind::Session, "sess-9");
        assert_eq!(ask(&mut judge, &mut ports, line, Some(&token), NOW), Err(Reason::SessionRevoked));
        assert_eq!(ask(&mut judge, &mut ports, line, Some(&token), NOW), Err(Reason::SessionRevoked));
    }

    #[test]
    fn state_that_cannot_be_read_closes() {
        let (mut judge, _) = bench();
        let mut ports = ports();
        let token = token_with(json!({}), json!({}));
        let verdict = ask(&mut judge, &mut ports, "GET /orders/1881", Some(&token), NOW);
        assert_eq!(verdict, Err(Reason::StateUnavailable));
        assert_eq!(ask(&mut judge, &mut ports, "GET /healthz", None, NOW), Ok(3));
    }

    /// A judge that follows a hub; the state holds nothing of its feed. The first rule is in shadow mode.
    fn follower() -> (Judge, TestPorts) {
        let keys = json!({"inline": fixture::jwks()});
        let config = json!({
            "issuers": [{"issuer": "https://jit.example", "audiences": ["https://orders.mesh"], "keys": keys}],
            "rules": [
                {"name": "trial", "match": {"path": "/trial"}, "require": {}, "mode": "shadow"},
                {"name": "closed", "match": {"path": "/closed"}, "deny": true},
                {"name": "health", "match": {"path": "/healthz"}, "allow": "anonymous"},
                {"name": "glass", "match": {"path": "/glass"}, "require": {"scope": "orders.write"},
                 "break_glass": {"scope": "orders.read", "lifts": ["scope", "state_age"]}},
                {"name": "rest", "match": {}, "require": {}}
            ],
            "signals": {"hub": {"cluster": "hub", "feed": "main", "keys": keys}, "stale": {"after": "30s"}}
        });
        let policy = crate::config::load::load(config.to_string().as_bytes()).unwrap().policy;
        let mut ports = ports();
        set_up(&mut ports.store.memory, 1).unwrap();
        (Judge::new(policy), ports)
    }

    /// What a statement of the hub said: what the feed covers, and when the transmitters were heard of.
    fn follow(judge: &Judge, ports: &mut TestPorts, caught_up: bool, issuers: Vec<CoveredIssuer>, heard: Timestamp) {
        let hub = judge.policy().signals().hub().unwrap();
        let status = FeedStatus { feed: hub.id, caught_up, issuers };
        let transmitter = hub.needed[0].id.transmitter(hub.id);
        let heartbeat = Heartbeat { transmitter, ..Heartbeat::new("", heard) };
        announce(&mut ports.store.memory, &[], |known| {
            known.feeds.note(status.clone());
            known.freshness.note(&heartbeat, heard);
        })
        .unwrap();
    }

    #[test]
    fn a_feed_must_be_followed_and_cover_the_issuer() {
        let (mut judge, mut ports) = follower();
        let token = token_with(json!({}), json!({}));
        let needed = judge.policy().signals().hub().unwrap().needed.clone();
        let asked = |judge: &mut Judge, ports: &mut TestPorts| {
            ["/rest", "/glass", "/trial", "/healthz", "/closed"]
                .map(|path| ask(judge, ports, &format!("GET {path}"), Some(&token), NOW))
        };
        let not_ready = Err(Reason::StateNotReady);
        let closed = [not_ready, not_ready, Ok(0), Ok(2), Err(Reason::RuleDenied)];
        let open = [Ok(4), Ok(3), Ok(0), Ok(2), Err(Reason::RuleDenied)];
        assert_eq!(asked(&mut judge, &mut ports), closed, "nothing is known of the feed");
        follow(&judge, &mut ports, false, needed.clone(), NOW);
        assert_eq!(asked(&mut judge, &mut ports), closed, "the filter has not caught up");
        follow(&judge, &mut ports, true, Vec::new(), NOW);
        assert_eq!(asked(&mut judge, &mut ports), closed, "the feed does not cover the issuer");
        let shorter = CoveredIssuer { session_retention: Span(1), ..needed[0] };
        follow(&judge, &mut ports, true, vec![shorter], NOW);
        assert_eq!(asked(&mut judge, &mut ports), closed, "it keeps entries for a shorter time");
        follow(&judge, &mut ports, true, needed.clone(), NOW);
        assert_eq!(asked(&mut judge, &mut ports), open);
        follow(&judge, &mut ports, true, Vec::new(), NOW);
        assert_eq!(asked(&mut judge, &mut ports), closed, "it does not cover the issuer any more");
    }

    #[test]
    fn a_bad_token_is_refused_before_the_feed_is_asked_for() {
        let (mut judge, mut ports) = follower();
        assert_eq!(ask(&mut judge, &mut ports, "GET /rest", None, NOW), Err(Reason::TokenMissing));
        let verdict = ask(&mut judge, &mut ports, "GET /rest", Some(&forged("bad")), NOW);
        assert_eq!(verdict, Err(Reason::SignatureInvalid));
    }

    #[test]
    fn the_state_of_a_follower_is_as_old_as_what_the_hub_heard() {
        let (mut judge, mut ports) = follower();
        let token = token_with(json!({}), json!({}));
        let needed = judge.policy().signals().hub().unwrap().needed.clone();
        let stranger = Heartbeat::new("https://jit.example", NOW);
        record_heartbeat(&mut ports.store.memory, &stranger, NOW).unwrap();
        follow(&judge, &mut ports, true, needed.clone(), Timestamp(NOW.0 - 31));
        let ask = |judge: &mut Judge, ports: &mut TestPorts, after| {
            ask(judge, ports, "GET /rest", Some(&token), NOW.plus(Span(after)))
        };
        assert_eq!(ask(&mut judge, &mut ports, 0), Err(Reason::StateStale), "nobody but the hub is asked");
        follow(&judge, &mut ports, true, needed, NOW);
        assert_eq!(ask(&mut judge, &mut ports, 30), Ok(4));
        assert_eq!(ask(&mut judge, &mut ports, 31), Err(Reason::StateStale));
    }

    #[test]
    fn a_clock_that_was_set_back_keeps_no_state_fresh() {
        let (mut judge, mut ports) = follower();
        let token = token_with(json!({}), json!({"iat": NOW.0 - 200, "auth_time": NOW.0 - 300}));
        let needed = judge.policy().signals().hub().unwrap().needed.clone();
        follow(&judge, &mut ports, true, needed, NOW);
        let mut ask = |back| ask(&mut judge, &mut ports, "GET /rest", Some(&token), Timestamp(NOW.0 - back));
        assert_eq!(ask(61), Ok(4), "clocks differ");
        assert_eq!(ask(62), Err(Reason::StateStale), "how long ago the hub was heard of is not known");
    }

    fn tls() -> TestPorts {
        let mut tls = TestPorts::default();
        set_up(&mut tls.store, 1).unwrap();
        tls
    }

    fn judge_of_issuer(more: serde_json::Value, rules: serde_json::Value) -> Judge {
        let mut issuer = json!({"issuer": "https://jit.example", "audiences": ["https://orders.mesh"], "keys": {"inline": fixture::jwks()}});
        issuer.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let config = json!({"issuers": [issuer], "rules": rules});
        Judge::new(crate::config::load::load(config.to_string().as_bytes()).unwrap().policy)
    }

    fn ask_tls(judge: &mut Judge, tls: &mut TestPorts, path: &str, headers: &[(&str, &str)]) -> Result<(), Reason> {
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
            tls.connection.peer_certificate = certificate;
            assert_eq!(ask_tls(&mut judge, &mut tls, "/", &[("authorization", &bound)]), outcome);
        }
        assert_eq!((tls.signatures.checks, tls.connection.questions), (1, 4));
        assert_eq!(ask_tls(&mut judge, &mut tls, "/", &[("authorization", &free)]), Ok(()));
        assert_eq!(tls.connection.questions, 4, "nobody asks the proxy for what no token and no rule needs");
    }

    #[test]
    fn a_rule_or_a_claim_names_the_workload() {
        let rules = json!([{"name": "r", "match": {}, "require": {"peer": ["spiffe://td/agents/*"]}}]);
        let mut judge = judge_of_issuer(json!({"peer_claim": "act.sub"}), rules);
        let mut tls = tls();
        let token = |act: serde_json::Value| format!("Bearer {}", token_with(json!({}), json!({ "act": act })));
        let mut ask = |uri, act| {
            tls.connection.peer_uri = uri;
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
    fn only_a_request_that_passes_consumes_a_single_use() {
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
        let mut empty = TestPorts::default();
        let version = tls.store.read(Slot::Version).unwrap().unwrap();
        empty.store.seed(Slot::Version, &version.bytes).unwrap();
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

    fn judge_of(require: serde_json::Value, more: serde_json::Value) -> (Judge, TestPorts) {
        let mut rule = json!({"name": "r", "match": {"path": "/orders/{order}"}, "require": require});
        rule.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let config = json!({
            "issuers": [{"issuer": "https://jit.example", "audiences": ["https://orders.mesh"],
                         "keys": {"inline": fixture::jwks()}, "claims": {"device": "device_id"}}],
            "rules": [rule],
            "signals": {"transmitters": [{"issuer": "https://jit.example", "audience": "us", "keys": {"inline": fixture::jwks()}}]}
        });
        let policy = crate::config::load::load(config.to_string().as_bytes()).unwrap().policy;
        let mut ports = ports();
        set_up(&mut ports.store.memory, 1).unwrap();
        (Judge::new(policy), ports)
    }

    fn state(ports: &mut TestPorts, kind: Kind, name: &str, fact: Fact) {
        let issuer = "https://jit.example";
        let key = match kind {
            Kind::Device => StateKey::foreign(kind, issuer, issuer, name),
            _ => StateKey::new(kind, issuer, name),
        };
        let entry = Entry {
            key,
            fact,
            at: NOW,
            until: Timestamp::MAX,
            conditions: vec![],
            data: vec![],
            source: SourceTag::NONE,
            lifted: false,
        };
        apply(&mut ports.store.memory, TransmitterId::UNKNOWN, &[entry], NOW).unwrap();
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
        let mut ask_at = |ports: &mut TestPorts, now| ask(&mut judge, ports, "GET /orders/1", Some(&token), now).err();
        state(&mut ports, Kind::Device, "d7", Fact::Device(Compliance::Compliant));
        assert_eq!(ask_at(&mut ports, NOW), Some(Reason::StateStale), "a change is no sign of life");
        record_heartbeat(&mut ports.store.memory, &Heartbeat::new("https://jit.example", NOW), NOW).unwrap();
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
            judge.judge(&request, &mut TestPorts::default(), NOW).map(drop).map_err(|refusal| refusal.reason)
        };
        assert_eq!(admin("enforce"), Err(Reason::PathRefused), "it could be meant for the rule that is enforced");
        assert_eq!(admin("shadow"), Ok(()));
    }

    /// What a filter forgets of a token is read again from the token when a signal makes it count.
    #[test]
    fn claims_that_no_rule_names_are_read_again_where_a_signal_changes_some() {
        let config = json!({
            "issuers": [{"issuer": "https://jit.example", "audiences": ["https://orders.mesh"],
                         "keys": {"inline": fixture::jwks()}, "claims": {"scope": "realm.roles"}}],
            "rules": [
                {"name": "named", "match": {"path": "/named"}, "require": {"claims": {"team.name": "shop"}}},
                {"name": "when", "match": {"path": "/when"},
                 "require": {"when": "claims.level == 3 && claims.other == 'x' && 'a' in claims.realm.roles"}},
                {"name": "gone", "match": {"path": "/gone"}, "require": {"when": "'b' in claims.realm.roles"}}
            ]
        });
        let load = || crate::config::load::load(config.to_string().as_bytes()).unwrap().policy;
        let claims = json!({"team": {"name": "shop"}, "level": 3, "other": "x", "realm": {"roles": ["a", "b"]}});
        let token = token_with(json!({}), claims);
        for mut judge in [Judge::new(load()), Judge::seeded(load(), 7)] {
            let mut ports = ports();
            set_up(&mut ports.store.memory, 1).unwrap();
            for path in ["GET /named", "GET /when", "GET /gone"] {
                assert!(ask(&mut judge, &mut ports, path, Some(&token), NOW).is_ok(), "{path}");
            }
            let entry = Entry {
                key: StateKey::new(Kind::Token, "https://jit.example", "tok-1"),
                fact: Fact::Narrowed,
                at: NOW,
                until: Timestamp::MAX,
                conditions: vec![],
                data: br#"{"scope":"a"}"#.to_vec(),
                source: SourceTag::NONE,
                lifted: false,
            };
            apply(&mut ports.store.memory, TransmitterId::UNKNOWN, &[entry], NOW).unwrap();
            assert_eq!(ask(&mut judge, &mut ports, "GET /named", Some(&token), NOW), Ok(0));
            assert_eq!(ask(&mut judge, &mut ports, "GET /when", Some(&token), NOW), Ok(1));
            assert_eq!(ask(&mut judge, &mut ports, "GET /gone", Some(&token), NOW), Err(Reason::ConditionFailed));
        }
    }
}
