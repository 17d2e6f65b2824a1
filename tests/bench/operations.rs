//! What core does, one operation at a time: for the clock (`scripts/bench --micro`) and for the counter of instructions
//! (`scripts/bench --instructions`).

use std::hint::black_box;
use taskfence_core::config::load;

use serde_json::{Value, json};
use taskfence_core::decision::judge::Judge;
use taskfence_core::http::path::Canonical;
use taskfence_core::http::request::Request;
use taskfence_core::jose::jws::Unverified;
use taskfence_core::policy::policy::Policy;
use taskfence_core::signal::receiver::{self, Head};
use taskfence_core::state::revocations as core_state;
use taskfence_core::time::Timestamp;
use taskfence_core::token::verify;
use taskfence_core::uses::batch::RuleRef;
use taskfence_core::uses::table::{Moment, RulePlaces, Table};
use taskfence_tests::{
    in_process::LocalPorts,
    mint::{self, Alg, Jwt},
    orders,
};

use crate::{service, state};

/// Does one operation once.
pub type Operation = Box<dyn FnMut()>;

/// A name, and what makes the operation with all that it needs.
pub type Named = (&'static str, fn() -> Operation);

/// All of them.
pub const OPERATIONS: [Named; 15] = [
    ("parse token", parse),
    ("examine token", examine),
    ("canonical path, plain", || canonical(b"/v1/orders/1881?expand=lines")),
    ("canonical path, escaped", || canonical(b"/v1/orders/%31%38%38%31/l%C3%A9gende")),
    ("decide, warm", || decide(json!([service::rule()]), "{}", 1)),
    ("decide, warm, six conditions", || decide(json!([service::rule_with_when()]), "{}", 1)),
    ("decide, warm, 10 rules", || decide(service::rules(10), "{}", 1)),
    ("decide, warm, 1000 rules", || decide(service::rules(1_000), "{}", 1)),
    ("decide and count, warm", || decide_and_count(&[orders::ORDER_PATH])),
    ("decide and count, two uses in turns", || decide_and_count(&["/v1/orders/1", "/v1/orders/2"])),
    ("decide, cold ES256 in pure Rust", || decide(json!([service::rule()]), FORGETS, 1)),
    ("state look-up, empty", || decide_anew(0)),
    ("state look-up, 100000 entries", || decide_anew(MANY)),
    ("apply signal, empty", || apply(0)),
    ("apply signal, 100000 entries", || apply(MANY)),
];

const MANY: usize = 100_000;

/// Remembers no token: each one is new.
const FORGETS: &str = r#"{"token_cache": 0}"#;

/// Does `operation` so many times: what callgrind looks for, by this name.
#[inline(never)]
pub fn repeat(operation: &mut Operation, times: u32) {
    for _ in 0..times {
        operation();
    }
}

fn now() -> Timestamp {
    Timestamp(mint::now().unsigned_abs())
}

fn policy(rules: Value, limits: &str) -> Policy {
    let mut config = service::config(rules);
    config["limits"] = serde_json::from_str(limits).expect("limits of this file");
    load::load(config.to_string().as_bytes()).unwrap_or_else(|errors| panic!("a configuration: {errors}")).policy
}

/// The state that [`service::rule`] waits for, and so many entries about others.
fn ports(policy: &Policy, epoch: u64, entries: usize) -> LocalPorts {
    let mut ports = LocalPorts::default();
    core_state::set_up(&mut ports.store, epoch).expect("an empty store");
    service::context().iter().for_each(|signal| push(policy, &mut ports, &signal.sign()));
    if entries > 0 {
        let loaded = load::load(state::receiver_config().to_string().as_bytes());
        let policy = loaded.unwrap_or_else(|errors| panic!("a configuration: {errors}")).policy;
        for _ in 0..entries.div_ceil(state::ISSUERS) {
            push(&policy, &mut ports, &mint::revoke_session(&mint::unique("ended")).sign());
        }
    }
    ports
}

fn push(policy: &Policy, ports: &mut LocalPorts, set: &str) {
    let headers = [(":method", "POST"), (":path", orders::SIGNALS_PATH), ("content-type", "application/secevent+jwt")];
    let head = Head::from_headers(headers.map(|(name, value)| (name.as_bytes(), value.as_bytes())));
    let received = receiver::receive(policy.signals(), policy.issuers(), &head, set.as_bytes(), ports, now());
    assert_eq!(receiver::answer(&received).0, 202, "a signal of this file");
}

fn parse() -> Operation {
    let token = service::token(Alg::Es256).sign();
    Box::new(move || assert!(Unverified::parse(black_box(token.as_bytes()), 16 * 1024).is_ok()))
}

fn examine() -> Operation {
    let policy = policy(json!([service::rule()]), "{}");
    let token = service::token(Alg::Es256).sign();
    let now = now();
    Box::new(move || assert!(verify::examine(black_box(token.as_bytes()), policy.issuers(), now).is_ok()))
}

fn canonical(path: &'static [u8]) -> Operation {
    Box::new(move || assert!(Canonical::parse(black_box(path)).is_ok()))
}

/// The whole judgement of a request that passes, before so many stores in turns: each further one is a state that is
/// new to the judge, which has to read it again.
fn decide_before(rules: Value, limits: &str, mut stores: Vec<LocalPorts>) -> Operation {
    let mut judge = Judge::new(policy(rules, limits));
    let header = format!("Bearer {}", service::token(Alg::Es256).sign());
    let now = now();
    let mut turn = 0;
    Box::new(move || {
        let headers = [
            (":method", "GET"),
            (":authority", orders::HOST),
            (":path", orders::ORDER_PATH),
            ("x-request-id", "6f2c1a3e-8b7d-4c1e-9a55-0d6d7f1f2b11"),
            ("user-agent", "bench"),
            ("authorization", &header),
        ];
        let request = Request::from_headers(headers.map(|(name, value)| (name.as_bytes(), value.as_bytes())));
        turn = (turn + 1) % stores.len();
        let verdict = judge.judge(black_box(&request), &mut stores[turn], now);
        assert!(verdict.is_ok(), "{:?}", verdict.map(drop).map_err(|refusal| refusal.reason));
    })
}

fn decide(rules: Value, limits: &str, stores: usize) -> Operation {
    let policy = policy(rules.clone(), limits);
    let stores = (0..stores).map(|epoch| ports(&policy, epoch.try_into().unwrap_or_default(), 0)).collect();
    decide_before(rules, limits, stores)
}

/// The whole judgement of a request that passes, and its count. The paths take turns.
fn decide_and_count(paths: &'static [&'static str]) -> Operation {
    let rules = json!([{"name": "read", "match": {"path": "/v1/orders/{order}"}, "require": {"scope": orders::SCOPE}}]);
    let mut judge = Judge::new(policy(rules, "{}"));
    let mut ports = ports(judge.policy(), 1, 0);
    let header = format!("Bearer {}", service::token(Alg::Es256).sign());
    let (now, mut turn) = (now(), 0);
    let (mut table, mut places) = (Table::new(1), RulePlaces::new(1));
    Box::new(move || {
        turn = (turn + 1) % paths.len();
        let headers = [
            (":method", "GET"),
            (":authority", orders::HOST),
            (":path", paths[turn]),
            ("x-request-id", "6f2c1a3e-8b7d-4c1e-9a55-0d6d7f1f2b11"),
            ("user-agent", "bench"),
            ("authorization", &header),
        ];
        let request = Request::from_headers(headers.map(|(name, value)| (name.as_bytes(), value.as_bytes())));
        let permit = judge.judge(black_box(&request), &mut ports, now).expect("a request that passes");
        let (rule, session) = (permit.rule().expect("a rule"), permit.session().expect("a session"));
        let place = table.rule(&mut places, rule, || Some(RuleRef { config: String::new(), name: "read".to_owned() }));
        let moment = Moment { masks: &judge.policy().evidence().masks, now: now.0 * 1_000 };
        let captures = permit.captured().of(request.path);
        black_box(table.permitted(session, place, request.method, captures, permit.broken_glass(), moment));
    })
}

/// Warm, but the state is another one each time.
fn decide_anew(entries: usize) -> Operation {
    let rules = json!([service::rule()]);
    let policy = policy(rules.clone(), "{}");
    decide_before(rules, "{}", vec![ports(&policy, 1, entries), ports(&policy, 2, entries)])
}

/// One signal again and again: the second time it changes nothing, and costs the same. Its signature is checked in pure
/// Rust, which is most of it.
fn apply(entries: usize) -> Operation {
    let policy = policy(json!([service::rule()]), "{}");
    let mut ports = ports(&policy, 1, entries);
    let signal: Jwt = mint::revoke_session("over");
    let set = signal.sign();
    Box::new(move || push(&policy, &mut ports, black_box(&set)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_of_them_can_be_done_twice() {
        for (name, make) in OPERATIONS.iter().filter(|(name, _)| !name.contains("100000")) {
            println!("{name}");
            let mut operation = make();
            operation();
            operation();
        }
    }
}
