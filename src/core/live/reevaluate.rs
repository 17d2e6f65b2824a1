//! Decides again about admitted streams: the rule that admitted a stream is evaluated against the current state and
//! time.

use crate::decision::evaluate::{
    Asked, NoopObserver, Unmet, check_feed, check_status, evaluate, grant_status, unreadable,
};
use crate::decision::judge::Judge;
use crate::http::method::Method;
use crate::live::admitted::Admitted;
use crate::live::admitted::Ending;
use crate::live::streams::{StreamSlot, Streams};
use crate::policy::policy::Policy;
use crate::reason::Reason;
use crate::rules::evidence::RequestLine;
use crate::rules::mode::Mode;
use crate::rules::requirement::Check;
use crate::rules::rule::{Effect, Rule};
use crate::state::store::Store;
use crate::time::{Span, Timestamp};
use crate::token::verify;

/// The time after which a stream is checked again if its next check has no other time: its condition reads the time, or
/// its rule is in shadow mode.
const INTERVAL: Span = Span(10);

/// From the last second at which a limit is met to the first at which it is not.
const ONE_SECOND: Span = Span(1);

impl Judge {
    /// When to check `admitted` again even if no signal arrives: the first time at which a check may fail because time
    /// has passed.
    pub fn holds_until(&self, admitted: &Admitted, now: Timestamp) -> Timestamp {
        let verified = admitted.session.verified();
        let Some(issuer) = self.policy.issuer(verified.issuer()) else { return now };
        let mut until = verify::holds_until(verified, issuer);
        until = issuer.keys.lapses_at().map_or(until, |lapse| until.min(lapse));
        let fresh_at = self.view.fresh_at(self.policy.signals().heartbeats_of(verified.issuer()));
        let authenticated_at = verified.grant().authenticated_at;
        let checks = match rule(&self.policy, admitted).map(Rule::effect) {
            Some(Effect::Require(requirement)) => requirement.checks(),
            _ => &[],
        };
        for check in checks {
            let limit = match check {
                Check::StateAge(longest) => Some(fresh_at.plus(*longest).plus(ONE_SECOND)),
                Check::AuthAge(longest) => authenticated_at.map(|at| at.plus(*longest).plus(ONE_SECOND)),
                Check::When(condition) if condition.asks_for_time() => Some(now.plus(INTERVAL)),
                _ => None,
            };
            // A limit that break-glass lifted may lie in the past.
            let limit = limit.map(|limit| if limit > now { limit } else { now.plus(INTERVAL) });
            until = limit.map_or(until, |limit| until.min(limit));
        }
        until
    }

    /// Checks the `streams` that are affected by changes since the last call, and those that are due. Removes from
    /// `streams` those that must end, and returns what to end or to report.
    pub fn look(&mut self, streams: &mut Streams, store: &mut impl Store, now: Timestamp) -> Vec<Ending> {
        let (clock, touched) = match self.view.refresh(store) {
            Ok(clock) => {
                self.make_due_if_state_aged(streams, now);
                let touched = streams.touched(&self.view.changes_since(streams.seen), now);
                streams.seen = clock;
                (Ok(clock), touched)
            }
            // It is not known what changed, so any stream may be affected.
            Err(error) => (Err(unreadable(error)), streams.all()),
        };
        touched.into_iter().filter_map(|slot| self.look_at(slot, clock, streams, store, now)).collect()
    }

    /// Makes due the streams whose rule depends on the age of the state, if the state became older than it was. Most
    /// signals make it younger; a transmitter that pauses or disables its stream makes it older. With a hub all streams
    /// are due then, because the feed may not cover their issuer any more.
    fn make_due_if_state_aged(&self, streams: &mut Streams, now: Timestamp) {
        if streams.setbacks == self.view.setbacks() {
            return;
        }
        streams.setbacks = self.view.setbacks();
        let follows = self.policy.signals().hub().is_some();
        for slot in streams.which(|admitted| follows || self.asks_for_state_age(admitted)) {
            streams.look_again(slot, now);
        }
    }

    /// Whether the rule that admitted it depends on the age of the state, by its own `require` or by `signals.stale`.
    fn asks_for_state_age(&self, admitted: &Admitted) -> bool {
        let Some(Effect::Require(requirement)) = rule(&self.policy, admitted).map(Rule::effect) else { return false };
        requirement.checks().iter().any(|check| match check {
            Check::StateAge(_) => true,
            Check::When(condition) => condition.asks_for_time(),
            _ => false,
        })
    }

    fn look_at(
        &mut self,
        slot: StreamSlot,
        clock: Result<u64, Reason>,
        streams: &mut Streams,
        store: &mut impl Store,
        now: Timestamp,
    ) -> Option<Ending> {
        let admitted = streams.admitted_mut(slot)?;
        let verdict = clock.map_err(Unmet::from).and_then(|clock| self.review_at(clock, admitted, store, now));
        let Err(Unmet { reason, also }) = verdict else {
            let until = self.holds_until(admitted, now);
            streams.look_again(slot, until);
            return None;
        };
        let resource = admitted.request().and_then(|(_, host, path)| self.policy.resource_of(host, &path));
        let (refusal, grpc) = (admitted.refusal(reason).and(also).at(resource), admitted.grpc);
        let line = admitted.line().clone();
        let enforced = self.policy.mode(Some(admitted.rule())) == Mode::Enforce;
        if enforced {
            streams.remove(slot);
        } else {
            let new = admitted.is_new(reason);
            streams.look_again(slot, now.plus(INTERVAL));
            if !new {
                return None;
            }
        }
        Some(Ending { stream: slot.id(), refusal, line, grpc, enforced })
    }

    fn review_at(&self, clock: u64, admitted: &Admitted, store: &mut impl Store, now: Timestamp) -> Result<(), Unmet> {
        let session = &admitted.session;
        let issuer = self.policy.issuer(session.verified().issuer()).ok_or(Reason::InternalError)?;
        verify::check_times(session.verified(), issuer, now)?;
        // A token is no longer valid if its key has left the key set of the issuer, or if the set was not confirmed for
        // too long.
        let keys = issuer.keys.current(now).ok_or(Reason::KeysUnavailable)?;
        if !keys.holds(session.verified().key()) {
            return Err(Reason::KeyUnknown.into());
        }
        check_feed(&self.policy, &self.view, session.verified().issuer())?;
        let grant_status = grant_status(clock, &self.view, session, store)?;
        check_status(&grant_status, now)?;
        let rule = rule(&self.policy, admitted).ok_or(Reason::InternalError)?;
        let Effect::Require(requirement) = rule.effect() else { return Err(Reason::InternalError.into()) };
        let (method, host, path) = admitted.request().ok_or(Reason::InternalError)?;
        let captures = rule.matcher().captures(&path).ok_or(Reason::InternalError)?;
        let request = RequestLine { method: &Method::fold(method), host, path: &path };
        let (source, peer) = (admitted.source.as_deref().copied(), admitted.peer.as_deref());
        let asked = Asked { rule, request, captures, source, peer };
        let context = (&self.policy, &self.view);
        evaluate(requirement, &asked, session, &grant_status, context, now, &mut NoopObserver).map(|_| ())
    }
}

pub(crate) fn rule<'p>(policy: &'p Policy, admitted: &Admitted) -> Option<&'p Rule> {
    policy.rule(admitted.rule())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::request::Request;
    use crate::index::IssuerIndex;
    use crate::keys::keyring::Owner;
    use crate::state::bucket::Entry;
    use crate::state::bucket::SourceTag;
    use crate::state::coverage::FeedStatus;
    use crate::state::fact::{Compliance, Fact, Risk};
    use crate::state::freshness::{Heartbeat, Status, TransmitterId};
    use crate::state::key::{Kind, StateKey};
    use crate::state::revocations::{announce, apply, record_heartbeat, set_up};
    use crate::testing::fixture::{self, NOW, token_with};
    use crate::testing::ports::TestPorts;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    struct Worker {
        judge: Judge,
        ports: TestPorts,
        streams: Streams,
        next: u32,
    }

    impl Worker {
        fn new(rules: Value) -> Worker {
            Worker::of(|config| config["rules"] = rules)
        }

        fn of(change: impl FnOnce(&mut Value)) -> Worker {
            let mut config = json!({
                "issuers": [{
                    "issuer": "https://jit.example", "audiences": ["https://orders.mesh"],
                    "keys": {"inline": fixture::jwks()}, "claims": {"device": "device_id"}
                }],
                "rules": anything(),
                "signals": {"transmitters": [{
                    "issuer": "https://idp.example", "audience": "us", "subjects": ["https://jit.example"],
                    "keys": {"inline": fixture::jwks()}
                }]}
            });
            change(&mut config);
            let policy = crate::config::load::load(config.to_string().as_bytes()).unwrap().policy;
            let mut ports = TestPorts::default();
            ports.connection.source = "10.1.2.3".parse().ok();
            set_up(&mut ports.store, 1).unwrap();
            Worker { judge: Judge::new(policy), ports, streams: Streams::default(), next: 0 }
        }

        fn judge(&mut self, path: &str, token: &str, now: Timestamp) -> Result<Option<Admitted>, Reason> {
            let authorization = format!("Bearer {token}");
            let headers =
                [(":method", "GET"), (":authority", "orders.mesh"), (":path", path), ("authorization", &authorization)];
            let request = Request::from_headers(headers.map(|(name, value)| (name.as_bytes(), value.as_bytes())));
            let verdict = self.judge.judge(&request, &mut self.ports, now);
            verdict.map(|permit| Admitted::new(&permit, &request)).map_err(|refusal| refusal.reason)
        }

        fn admit(&mut self, path: &str, token: &str) -> u32 {
            let admitted = self.judge(path, token, NOW).unwrap().unwrap();
            let until = self.judge.holds_until(&admitted, NOW);
            self.next = self.next.saturating_add(1);
            self.streams.insert(self.next, admitted, until).unwrap();
            self.next
        }

        fn signal(&mut self, kind: Kind, name: &str, fact: Fact, at: Timestamp) {
            let issuer = "https://jit.example";
            let key = match kind {
                Kind::Device => StateKey::foreign(kind, issuer, issuer, name),
                _ => StateKey::new(kind, issuer, name),
            };
            let entry = Entry {
                key,
                fact,
                at,
                until: Timestamp::MAX,
                conditions: vec![],
                data: Default::default(),
                source: SourceTag::NONE,
                lifted: false,
            };
            apply(&mut self.ports.store, TransmitterId::UNKNOWN, &[entry], at).unwrap();
            record_heartbeat(&mut self.ports.store, &Heartbeat::new("https://idp.example", at), at).unwrap();
        }

        /// A heartbeat, and the status of the stream of signals that it reports.
        fn beat(&mut self, at: Timestamp, stream: Option<(Status, Timestamp)>) {
            let heartbeat = Heartbeat { stream, ..Heartbeat::new("https://idp.example", at) };
            record_heartbeat(&mut self.ports.store, &heartbeat, at).unwrap();
        }

        /// The endings: the stream, the reason, and whether it is enforced.
        fn look(&mut self, now: Timestamp) -> Vec<(u32, Reason, bool)> {
            let endings = self.judge.look(&mut self.streams, &mut self.ports.store, now);
            endings.into_iter().map(|ending| (ending.stream, ending.refusal.reason, ending.enforced)).collect()
        }
    }

    fn anything() -> Value {
        json!([{"name": "all", "match": {}, "require": {"scope": "orders.read"}}])
    }

    fn of_task(task: &str) -> String {
        token_with(json!({}), json!({"txn": task, "jti": format!("tok-{task}"), "sid": fixture::ABSENT}))
    }

    /// A rule that requires an age itself, one that does so because of `signals.stale`, one with a condition, and one
    /// that accepts a stale state.
    fn worker_with_ages() -> (Worker, [u32; 4]) {
        let mut worker = Worker::of(|config| {
            config["signals"]["stale"] = json!({"after": "1h"});
            config["rules"] = json!([
                {"name": "own", "match": {"path": "/own"}, "require": {"state_age": "1m"}},
                {"name": "when", "match": {"path": "/when"}, "require": {"when": "context.state_age < 60"}, "stale": "allow"},
                {"name": "careless", "match": {"path": "/careless"}, "require": {}, "stale": "allow"},
                {"name": "stale", "match": {}, "require": {}}
            ]);
        });
        worker.beat(NOW, None);
        let token = of_task("t1");
        let streams = ["/own", "/stale", "/when", "/careless"].map(|path| worker.admit(path, &token));
        (worker, streams)
    }

    #[test]
    fn a_disabled_stream_of_signals_ends_at_once_what_asks_for_the_age_of_the_state() {
        let (mut worker, [own, stale, when, careless]) = worker_with_ages();
        assert_eq!(worker.look(NOW), []);
        worker.beat(NOW, Some((Status::Disabled, NOW)));
        // A request reads the new version first.
        assert_eq!(worker.judge("/own", &of_task("t1"), NOW).unwrap_err(), Reason::StateStale);
        let mut ended = worker.look(NOW);
        ended.sort_by_key(|(stream, ..)| *stream);
        let (is_stale, failed) = (Reason::StateStale, Reason::ConditionFailed);
        assert_eq!(ended, [(own, is_stale, true), (stale, is_stale, true), (when, failed, true)]);
        worker.streams.all().iter().for_each(|slot| assert_eq!(slot.id(), careless));
    }

    /// What a statement of the hub says about its feed.
    fn follow(worker: &mut Worker, covers: bool) {
        let hub = worker.judge.policy().signals().hub().unwrap();
        let issuers = if covers { hub.needed.clone() } else { Vec::new() };
        let status = FeedStatus { feed: hub.id, caught_up: true, issuers };
        announce(&mut worker.ports.store, &[], |known| known.feeds.note(status.clone())).unwrap();
    }

    #[test]
    fn streams_end_when_the_feed_does_not_cover_their_issuer_any_more() {
        let mut worker = Worker::of(|config| {
            let keys = config["issuers"][0]["keys"].clone();
            config["signals"] = json!({"hub": {"cluster": "hub", "feed": "main", "keys": keys}, "stale": "never"});
            config["rules"] = json!([
                {"name": "trial", "match": {"path": "/trial"}, "require": {}, "mode": "shadow"},
                {"name": "rest", "match": {}, "require": {}}
            ]);
        });
        follow(&mut worker, true);
        let token = of_task("t1");
        let [stream, trial] = ["/", "/trial"].map(|path| worker.admit(path, &token));
        assert_eq!(worker.look(NOW), []);
        follow(&mut worker, true);
        assert_eq!(worker.look(NOW), []);
        follow(&mut worker, false);
        // The request reads the new version first.
        assert_eq!(worker.judge("/", &token, NOW).unwrap_err(), Reason::StateNotReady);
        let mut ended = worker.look(NOW);
        ended.sort_by_key(|(stream, ..)| *stream);
        assert_eq!(ended, [(stream, Reason::StateNotReady, true), (trial, Reason::StateNotReady, false)]);
        assert_eq!(worker.look(NOW), []);
    }

    #[test]
    fn a_pause_that_began_before_ends_at_once_what_is_too_old_by_it() {
        let (mut worker, [own, _, when, _]) = worker_with_ages();
        assert_eq!(worker.look(NOW), []);
        // No check of the streams in between: the worker sees both signals only by its requests.
        worker.beat(NOW.plus(Span(5)), None);
        worker.judge("/own", &of_task("t1"), NOW.plus(Span(5))).unwrap();
        worker.beat(NOW.plus(Span(6)), Some((Status::Paused, Timestamp(NOW.0 - 100))));
        let ended = worker.look(NOW.plus(Span(6)));
        assert_eq!(ended, [(own, Reason::StateStale, true), (when, Reason::ConditionFailed, true)]);
        assert_eq!(worker.look(NOW.plus(Span(7))), []);
    }

    #[test]
    fn a_stream_ends_when_the_keys_of_its_issuer_lapse() {
        let mut worker = Worker::of(|config| {
            config["issuers"][0]["keys"] =
                json!({"cluster": "jit", "path": "/jwks.json", "refresh": "1m", "keep": "2m"});
        });
        let fetched = |worker: &mut Worker, at: Timestamp| {
            worker
                .judge
                .keyring_mut(Owner::Issuer(IssuerIndex::new(0)))
                .unwrap()
                .adopt(&fixture::jwks(), 1, at)
                .unwrap();
        };
        fetched(&mut worker, NOW);
        let stream = worker.admit("/a", &of_task("t1"));
        assert_eq!(worker.look(NOW), []);
        let later = |seconds| NOW.plus(Span(seconds));
        worker.judge.keyring_mut(Owner::Issuer(IssuerIndex::new(0))).unwrap().confirm(later(30));
        assert_eq!(worker.look(later(120)), [], "they were confirmed meanwhile");
        assert_eq!(worker.look(later(149)), []);
        assert_eq!(worker.look(later(150)), [(stream, Reason::KeysUnavailable, true)]);
    }

    #[test]
    fn a_key_that_says_more_about_itself_is_the_same_key() {
        let mut worker = Worker::of(|config| {
            config["issuers"][0]["keys"] = json!({"cluster": "jit", "path": "/jwks.json"});
        });
        let mut generation = 0;
        let mut publish = |worker: &mut Worker, jwks: &Value| {
            generation += 1;
            worker.judge.keyring_mut(Owner::Issuer(IssuerIndex::new(0))).unwrap().adopt(jwks, generation, NOW).unwrap();
            worker.judge.keys_changed();
        };
        publish(&mut worker, &fixture::jwks());
        let stream = worker.admit("/a", &of_task("t1"));
        let mut more = fixture::jwks();
        more["keys"][0]["x5t"] = json!("dGh1bWI");
        more["keys"][0]["iat"] = json!(NOW.0);
        more["keys"].as_array_mut().unwrap().reverse();
        publish(&mut worker, &more);
        assert_eq!(worker.look(NOW), []);
        more["keys"].as_array_mut().unwrap().iter_mut().for_each(|key| key["kid"] = json!("renamed"));
        publish(&mut worker, &more);
        assert_eq!(worker.look(NOW), [(stream, Reason::KeyUnknown, true)]);
    }

    #[test]
    fn only_what_a_change_touches_ends_and_only_once() {
        let mut worker = Worker::new(anything());
        let (one, other) = (worker.admit("/a", &of_task("t1")), worker.admit("/b", &of_task("t2")));
        assert_eq!(worker.look(NOW), []);
        worker.signal(Kind::Task, "t1", Fact::Completed, NOW);
        // A request of the same grant reads the new state first; the stream is found nevertheless.
        assert_eq!(worker.judge("/c", &of_task("t1"), NOW).unwrap_err(), Reason::TaskCompleted);
        assert_eq!(worker.look(NOW), [(one, Reason::TaskCompleted, true)]);
        worker.signal(Kind::Token, "tok-t1", Fact::Revoked, NOW);
        assert_eq!(worker.look(NOW), []);
        worker.signal(Kind::User, "alice", Fact::CutOff, NOW);
        assert_eq!(worker.look(NOW), [(other, Reason::UserRevoked, true)]);
        assert!(worker.streams.is_empty());
    }

    #[test]
    fn more_changes_than_are_remembered_touch_everybody() {
        let mut worker = Worker::new(anything());
        let stream = worker.admit("/a", &of_task("t1"));
        worker.look(NOW);
        worker.signal(Kind::Task, "t1", Fact::Completed, NOW);
        for n in 0..100 {
            worker.signal(Kind::Task, &format!("other-{n}"), Fact::Completed, NOW);
        }
        assert_eq!(worker.look(NOW), [(stream, Reason::TaskCompleted, true)]);
    }

    #[test]
    fn the_rule_that_admitted_it_decides() {
        let mut worker = Worker::new(json!([
            {"name": "managed", "match": {"path": "/managed/{id}"},
             "require": {"detail": {"type": "order", "action": "read", "identifier": "{id}"},
                         "device": {"status": "compliant", "unknown": "allow"}, "source": ["10.0.0.0/8"]}},
            {"name": "risky", "match": {"path": "/risky"},
             "break_glass": {"scope": "orders.refund", "lifts": ["risk"]},
             "require": {"risk": {"below": "HIGH", "unknown": "allow"}}},
            {"name": "rest", "match": {}, "require": {"scope": "orders.read"}}
        ]));
        let with = |claims| token_with(json!({}), claims);
        let token = with(json!({"device_id": "d7"}));
        let managed = worker.admit("/managed/1881?q=/x", &token);
        let _unmanaged = worker.admit("/elsewhere", &token);
        let _lifted = worker.admit("/risky", &token);
        let risky = worker.admit("/risky", &with(json!({"scope": "orders.read"})));
        // The address of the original request counts, not that of the request during which it is checked.
        worker.ports.connection.source = "192.0.2.1".parse().ok();
        worker.signal(Kind::Device, "d7", Fact::Device(Compliance::Compliant), NOW);
        assert_eq!(worker.look(NOW), []);
        let later = NOW.plus(Span(1));
        worker.signal(Kind::Device, "d7", Fact::Device(Compliance::NotCompliant), later);
        worker.signal(Kind::User, "alice", Fact::Risk(Risk::High), later);
        let mut ended = worker.look(later);
        ended.sort_by_key(|(stream, ..)| *stream);
        assert_eq!(ended, [(managed, Reason::DeviceNotCompliant, true), (risky, Reason::RiskTooHigh, true)]);
    }

    #[test]
    fn a_stream_ends_when_its_time_has_come() {
        let rule = |require: Value| json!([{"name": "all", "match": {}, "require": require}]);
        let scope = json!({"scope": "orders.read"});
        let good = json!({"exp": NOW.0 + 200});
        let old = json!({"exp": NOW.0 + 200, "auth_time": NOW.0 - 86_400 + 50});
        // The fixture's token was authenticated 200 s ago; the default skew is 30 s.
        for (require, claims, last, reason) in [
            (scope.clone(), good.clone(), 229, Reason::TokenExpired),
            (scope, old, 80, Reason::SessionTooOld),
            (json!({"auth_age": "5m"}), good.clone(), 100, Reason::AuthenticationTooOld),
            (json!({"state_age": "30s"}), good.clone(), 30, Reason::StateStale),
            (json!({"when": "now < 1790000150"}), good, 49, Reason::ConditionFailed),
        ] {
            let mut worker = Worker::new(rule(require));
            worker.signal(Kind::Task, "other", Fact::Completed, NOW);
            let stream = worker.admit("/a", &token_with(json!({}), claims));
            let ended = (0..300).find_map(|second| {
                let ended = worker.look(NOW.plus(Span(second)));
                (!ended.is_empty()).then_some((second, ended))
            });
            let (second, ended) = ended.unwrap();
            assert_eq!(ended, [(stream, reason, true)]);
            let late = if reason == Reason::ConditionFailed { INTERVAL.0 } else { 1 };
            assert!((last + 1..=last + late).contains(&second), "{reason:?} at {second}, not after {last}");
        }
    }

    #[test]
    fn a_transmitter_that_is_heard_keeps_streams_going() {
        let mut worker = Worker::new(json!([{"name": "all", "match": {}, "require": {"state_age": "30s"}}]));
        worker.signal(Kind::Task, "other", Fact::Completed, NOW);
        let stream = worker.admit("/a", &of_task("t1"));
        for second in [20, 40, 60] {
            let now = NOW.plus(Span(second));
            worker.signal(Kind::Task, "other", Fact::Completed, now);
            assert_eq!(worker.look(now.plus(Span(19))), []);
        }
        assert_eq!(worker.look(NOW.plus(Span(90))), []);
        assert_eq!(worker.look(NOW.plus(Span(91))), [(stream, Reason::StateStale, true)]);
    }

    #[test]
    fn when_nobody_can_say_no_stream_goes_on() {
        let mut worker = Worker::new(anything());
        let streams = [worker.admit("/a", &of_task("t1")), worker.admit("/b", &of_task("t2"))];
        worker.ports.store.lost = true;
        assert_eq!(worker.look(NOW), streams.map(|stream| (stream, Reason::StateUnavailable, true)));
    }

    #[test]
    fn shadow_mode_says_each_reason_once() {
        let mut rules = anything();
        rules[0]["mode"] = json!("shadow");
        let mut worker = Worker::new(rules);
        let stream = worker.admit("/a", &of_task("t1"));
        worker.signal(Kind::Task, "t1", Fact::Completed, NOW);
        assert_eq!(worker.look(NOW), [(stream, Reason::TaskCompleted, false)]);
        worker.signal(Kind::Task, "t1", Fact::Completed, NOW);
        assert_eq!(worker.look(NOW), []);
        let expired = NOW.plus(Span(1000));
        assert_eq!(worker.look(expired), [(stream, Reason::TokenExpired, false)]);
        assert_eq!(worker.look(expired.plus(Span(1000))), []);
        assert_eq!(worker.streams.len(), 1);
    }

    #[test]
    fn what_no_signal_is_about_is_not_followed() {
        let mut worker = Worker::new(json!([
            {"name": "open", "match": {"path": "/open"}, "allow": "anonymous"},
            {"name": "shadow", "match": {}, "mode": "shadow", "require": {"scope": "nobody.has"}}
        ]));
        assert!(worker.judge("/open", &of_task("t1"), NOW).unwrap().is_none());
        assert!(worker.judge("/other", &of_task("t1"), NOW).unwrap().is_none());
    }

    fn facts() -> impl Strategy<Value = (Kind, Fact)> {
        prop_oneof![
            Just((Kind::Task, Fact::Completed)),
            Just((Kind::Token, Fact::Revoked)),
            Just((Kind::User, Fact::CutOff)),
            Just((Kind::Device, Fact::Device(Compliance::NotCompliant))),
            Just((Kind::Device, Fact::Device(Compliance::Compliant))),
            Just((Kind::User, Fact::Risk(Risk::High))),
            Just((Kind::User, Fact::Risk(Risk::Low))),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// After any signals and at any time, the stream continues if and only if the same request would pass now. If
        /// not, the reasons are the same.
        #[test]
        fn a_stream_and_a_request_get_the_same_verdict(
            signals in proptest::collection::vec((facts(), 0u64..3), 0..4),
            seconds in prop_oneof![Just(0u64), 0u64..240],
            below in prop_oneof![Just("MEDIUM"), Just("HIGH")],
        ) {
            let mut worker = Worker::new(json!([{"name": "all", "match": {"path": "/o/{order}"}, "require": {
                "scope": "orders.read", "detail": {"type": "order", "action": "read", "identifier": "{order}"},
                "device": {"status": "compliant", "unknown": "allow"}, "risk": {"below": below, "unknown": "allow"},
                "source": ["10.0.0.0/8"], "auth_age": "5m", "when": "captures.order == '1881' && context.risk != 'LOW'"
            }}]));
            let token = token_with(json!({}), json!({"device_id": "d7"}));
            let stream = worker.admit("/o/1881", &token);
            for ((kind, fact), at) in signals {
                let name = match kind {
                    Kind::Task => "task-42",
                    Kind::Token => "tok-1",
                    Kind::Device => "d7",
                    _ => "alice",
                };
                worker.signal(kind, name, fact, NOW.plus(Span(at)));
            }
            let now = NOW.plus(Span(seconds));
            let expected = worker.judge("/o/1881", &token, now).err();
            let ended = worker.look(now);
            let came = ended.iter().map(|(id, reason, _)| (*id, *reason)).next();
            prop_assert_eq!(came, expected.map(|reason| (stream, reason)));
        }
    }
}
