//! What the API asks of the other parts of the hub: intake, feeds and receipts.

use crate::api::model::{ProxyAnswer, ReceiptAnswer, TakenAnswer, What};
use crate::intake::global_revocation::Authority;
use crate::problem::Problem;
use crate::streams::answers::StreamSummary;
use futures_util::future::BoxFuture;
use serde_json::{Map, Value};
use std::time::Duration;
use taskfence_core::signal::operator::Caller;

/// An event that an operator or an issuer reports.
#[derive(Debug, Clone, PartialEq)]
pub struct OperatorEvent {
    /// The feed.
    pub feed: String,
    /// Who reports it.
    pub by: String,
    /// The URI of the event, or its last part, such as `session-revoked`.
    pub event: String,
    /// The members of the event.
    pub details: Map<String, Value>,
    /// Whom it is about (RFC 9493, SSF 1.0 §3).
    pub subject: Value,
    /// Only grants of this issuer.
    pub issuer: Option<String>,
    /// Why.
    pub reason: String,
    /// The id of the signal; the same one of the same caller again changes nothing.
    pub jti: Option<String>,
    /// Whether an operator reports it, or an issuer.
    pub caller: Caller,
}

/// What is stopped until an operator lifts it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StopOrder {
    /// The feed.
    pub feed: String,
    /// Who stops it.
    pub by: String,
    /// The issuer of the tokens.
    pub issuer: String,
    /// What of it; `None`: everything.
    pub what: Option<(What, String)>,
    /// Why.
    pub reason: String,
}

/// The parts of the hub behind the API. A result means that the change is durable.
pub trait Operations: Send + Sync + 'static {
    /// The clock of the hub, in milliseconds since 1970.
    fn now(&self) -> u64;

    /// Takes an event in, like a SET.
    fn event(&self, event: OperatorEvent) -> BoxFuture<'_, Result<TakenAnswer, Problem>>;

    /// Refuses everything that `order` names, until it is lifted.
    fn stop(&self, order: StopOrder) -> BoxFuture<'_, Result<TakenAnswer, Problem>>;

    /// Revokes what the user `sub_id` has been granted until now.
    fn revoke_user(&self, feed: &str, by: Authority, sub_id: Value) -> BoxFuture<'_, Result<(), Problem>>;

    /// Lifts the signal with the id.
    fn lift(&self, feed: &str, signal: u64, by: &str, reason: &str) -> BoxFuture<'_, Result<TakenAnswer, Problem>>;

    /// On which proxies the number is in force; waits up to `wait` until it is on all.
    fn receipt(&self, feed: &str, number: u64, wait: Duration) -> BoxFuture<'_, Result<ReceiptAnswer, Problem>>;

    /// The streams of receivers of the feed.
    fn streams(&self, feed: &str) -> BoxFuture<'_, Result<Vec<StreamSummary>, Problem>>;

    /// The proxies that follow the feed.
    fn proxies(&self, feed: &str) -> Result<Vec<ProxyAnswer>, Problem>;
}
