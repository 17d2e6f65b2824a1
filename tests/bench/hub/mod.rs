//! The hub: how soon a signal is in force on all proxies that follow it, what following costs them, and what they cost
//! the hub.
//!
//! [`crowd`] measures with many followers that are no proxies ([`followers`]), [`in_force`], [`catch_up`] and [`warm`]
//! with an Envoy, [`intake`] the signals that come in, [`replicas`] two hubs over one database, and
//! [`evidence`] what it costs to count uses, with [`reports`] about them.

pub mod answers;
pub mod catch_up;
pub mod crowd;
pub mod evidence;
pub mod fill;
pub mod followers;
pub mod in_force;
pub mod intake;
pub mod pages;
pub mod push;
pub mod relay;
pub mod replicas;
pub mod reports;
pub mod warm;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use taskfence_tests::{
    client::{Connection, Http, Request},
    hub::{CLUSTER, Hub},
    orders,
};

use crate::{
    Error, Result,
    cases::Progress,
    machine::Cores,
    options::{HubPart, Options},
    process,
    proxy::{self, Plan, Proxy},
    report::{Row, Spread},
    service,
};

/// The path that the filter answers itself: whether it has caught up.
const READY_PATH: &str = "/.well-known/taskfence/ready";
/// Longer than anything may take that is measured here.
const PATIENCE: Duration = Duration::from_secs(120);
/// Files that the bench needs beside the connections of the followers.
const OTHER_FILES: usize = 1_000;

/// The parts, in the order of the rows.
const PARTS: [(HubPart, &str); 9] = [
    (HubPart::Followers, "many followers"),
    (HubPart::Mtls, "many followers over mTLS"),
    (HubPart::Proxy, "one proxy"),
    (HubPart::Intake, "signals taken in"),
    (HubPart::CatchUp, "a fresh proxy"),
    (HubPart::Warm, "a warm request"),
    (HubPart::Replicas, "two replicas"),
    (HubPart::Evidence, "evidence"),
    (HubPart::Report, "reports"),
];

/// What every part here needs.
pub struct Part<'a> {
    options: &'a Options,
    cores: &'a Cores,
    progress: &'a mut Progress,
    rows: Vec<Row>,
}

/// All rows. What fails leaves a row that says why, and the other parts are measured.
pub async fn measure(options: &Options, cores: &Cores, progress: &mut Progress) -> Result<Vec<Row>> {
    process::allow_files(std::process::id(), options.followers + OTHER_FILES)?;
    let mut part = Part { options, cores, progress, rows: Vec::new() };
    for (kind, name) in PARTS {
        if !options.wants_of_hub(kind) {
            continue;
        }
        let result = match kind {
            HubPart::Followers => crowd::plain(&mut part).await,
            HubPart::Mtls => crowd::mtls(&mut part).await,
            HubPart::Proxy => in_force::measure(&mut part).await,
            HubPart::Intake => intake::measure(&mut part).await,
            HubPart::CatchUp => catch_up::measure(&mut part).await,
            HubPart::Warm => warm::measure(&mut part).await,
            HubPart::Replicas => replicas::measure(&mut part).await,
            HubPart::Evidence => evidence::measure(&mut part).await,
            HubPart::Report => reports::measure(&mut part).await,
        };
        if let Err(error) = result {
            let row = Row::void(&format!("hub/{name}"), "", "", error.to_string());
            part.rows.push(row.target("what this part measures", None, None));
        }
    }
    Ok(part.rows)
}

/// A configuration whose one rule asks for a scope.
fn plain_rule() -> Value {
    let rule = json!({
        "name": "read-order",
        "match": {"methods": ["GET"], "path": "/v1/orders/{order}"},
        "require": {"scope": orders::SCOPE}
    });
    service::config(json!([rule]))
}

/// A hub on these cores, whose feed covers the issuers of the configuration `filter`.
async fn start_hub(name: &str, filter: &Value, cores: &str) -> Result<Hub> {
    let issuers = filter["issuers"].clone();
    let hub = Hub::start_with(name, |config| config["feeds"][0]["issuers"] = issuers).await?;
    process::pin(hub.pid(), cores)?;
    Ok(hub)
}

/// An Envoy to be, with a listener `app` whose filter follows the hub through a server at `at`.
fn follow(name: &str, hub: &Hub, at: std::net::SocketAddr, filter: &Value) -> Result<Plan> {
    let filter = proxy::taskfence(name, "filter", &hub.followed_by(filter))?;
    Ok(Plan::new(name).listener("app", vec![filter]).cluster(CLUSTER, at, false))
}

/// Waits until the filter of this listener says that it has caught up; when it did.
async fn caught_up(proxy: &Proxy, listener: &str) -> Result<Instant> {
    let deadline = Instant::now() + PATIENCE;
    let mut connection = Connection::open(proxy.address(listener)?, Http::One).await?;
    loop {
        let answer = connection.send(&Request::get(READY_PATH)).await?;
        let now = Instant::now();
        if answer.status == 200 {
            return Ok(now);
        }
        if now > deadline {
            let (text, log) = (answer.text(), proxy.envoy().log());
            return Err(Error::new(format!("not caught up within {PATIENCE:?}: {} {text}\n{log}", answer.status)));
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// The value that so many of 100 are not above; 0 if there are none.
fn percentile(values: &[f64], of_100: usize) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let rank = (values.len() * of_100).div_ceil(100);
    values.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
}

/// A row with median and spread of `values`.
fn row_of(name: &str, about: &str, unit: &'static str, values: &[f64]) -> Row {
    match Spread::of(values.iter().copied()) {
        Some(spread) => Row::figure(name, about, spread, unit, values.len() as u64),
        None => Row::void(name, about, unit, "nothing was measured"),
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_one_of_the_values() {
        let values: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        assert_eq!((percentile(&values, 99), percentile(&values, 50), percentile(&[], 99)), (198.0, 100.0, 0.0));
        assert_eq!(percentile(&values[..20], 99), 200.0, "of few values the greatest");
    }
}
