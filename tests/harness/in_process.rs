//! The data plane's own code without a proxy around it: what a real Envoy has to agree with.

use std::net::{IpAddr, Ipv4Addr};
use taskfence_core::config::load;

use serde_json::Value;
use taskfence_core::decision::answer::{self, Answer};
use taskfence_core::decision::judge::Judge;
use taskfence_core::http::connection::ConnectionInfo;
use taskfence_core::http::path::Canonical;
use taskfence_core::http::request::Request;
use taskfence_core::index::RuleIndex;
use taskfence_core::jose::signature::PureRust;
use taskfence_core::ports::Ports;
use taskfence_core::signal::receiver::{self, Head};
use taskfence_core::state::revocations;
use taskfence_core::state::store::MemoryStore;
use taskfence_core::time::Timestamp;

use crate::{mint, orders};

/// A judge with a state of its own, under the real clock.
pub struct InProcess {
    judge: Judge,
    ports: LocalPorts,
}

/// What the judge said about one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The rule that decided.
    pub rule: Option<String>,
    /// The reason of a refusal.
    pub reason: Option<&'static str>,
    /// The reason of a refusal that shadow mode did not enforce.
    pub shadowed: Option<&'static str>,
    /// The answer to a refused request, with the decision id `-`.
    pub answer: Option<Answer>,
}

impl Verdict {
    /// `200`, or status and reason: what [`crate::client::Answer::line`] says of a real answer.
    pub fn line(&self) -> String {
        match (&self.answer, self.reason) {
            (Some(answer), Some(reason)) => format!("{} {reason}", answer.status),
            _ => "200".to_owned(),
        }
    }
}

impl InProcess {
    /// A judge of this configuration, which must be a good one.
    pub fn new(config: &Value) -> Self {
        let loaded = load::load(config.to_string().as_bytes());
        let policy = loaded.unwrap_or_else(|errors| panic!("a configuration of the test: {errors}")).policy;
        let mut ports = LocalPorts::default();
        revocations::set_up(&mut ports.store, 1).expect("an empty store");
        Self { judge: Judge::new(policy), ports }
    }

    /// Judges a request with these headers, names in lower case.
    pub fn judge(&mut self, method: &str, host: &[u8], path: &[u8], headers: &[(&str, &[u8])]) -> Verdict {
        let pseudo = [(":method", method.as_bytes()), (":authority", host), (":path", path)];
        let all = pseudo.iter().chain(headers).map(|(name, value)| (name.as_bytes(), *value));
        let request = Request::from_headers(all);
        let verdict = self.judge.judge(&request, &mut self.ports, now());
        let policy = self.judge.policy();
        let rule = |at: Option<RuleIndex>| Some(policy.rule(at?)?.name().to_owned());
        match verdict {
            Ok(permit) => Verdict {
                rule: rule(permit.rule()),
                reason: None,
                shadowed: permit.shadowed().map(|refusal| refusal.reason.code()),
                answer: None,
            },
            Err(refusal) => Verdict {
                rule: rule(refusal.rule),
                reason: Some(refusal.reason.code()),
                shadowed: None,
                answer: Some(answer::answer(&refusal, policy, "-", request.grpc)),
            },
        }
    }

    /// Takes a signal in; returns the status of the answer.
    pub fn push(&mut self, set: &str) -> u16 {
        let headers =
            [(":method", "POST"), (":path", orders::SIGNALS_PATH), ("content-type", "application/secevent+jwt")];
        let head = Head::from_headers(headers.map(|(name, value)| (name.as_bytes(), value.as_bytes())));
        let received = receiver::receive(
            self.judge.policy().signals(),
            self.judge.policy().issuers(),
            &head,
            set.as_bytes(),
            &mut self.ports,
            now(),
        );
        receiver::answer(&received).0
    }
}

/// What is wrong with a configuration, or nothing.
pub fn fault(config: &Value) -> Option<String> {
    load::load(config.to_string().as_bytes()).err().map(|errors| errors.to_string())
}

/// The path that rules see, or nothing if it is refused.
pub fn canonical(path: &[u8]) -> Option<String> {
    Canonical::parse(path).ok().map(|path| path.as_str().to_owned())
}

fn now() -> Timestamp {
    Timestamp(mint::now().unsigned_abs())
}

/// The host of [`InProcess`]: a state in memory, which has to be set up, and a client on this machine.
pub type LocalPorts = Ports<MemoryStore, PureRust, LocalConnection>;

/// What a proxy on this machine knows about a client on this machine.
#[derive(Debug, Default)]
pub struct LocalConnection;

impl ConnectionInfo for LocalConnection {
    fn source(&mut self) -> Option<IpAddr> {
        Some(Ipv4Addr::LOCALHOST.into())
    }

    fn route_metadata(&mut self, _: &str) -> Option<Vec<u8>> {
        None
    }
}
