//! Fills the pushed state through the receiver, as transmitters would.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use taskfence_tests::{
    client::{Connection, Http, Request},
    mint, orders,
};

use crate::{Error, Result, proxy::Proxy, service};

/// An opaque subject carries no issuer and stands for that name under each issuer that the transmitter may speak about.
/// So one signal of a transmitter that speaks for so many leaves as many entries.
pub const ISSUERS: usize = 100;

/// Several, so that the receiver never waits for the next signal.
const CONNECTIONS: usize = 4;

/// A configuration of the receiver whose transmitter speaks about [`ISSUERS`] issuers.
pub fn receiver_config() -> Value {
    let mut config = service::config(json!([service::rule()]));
    let names: Vec<String> = std::iter::once(orders::ISSUER.to_owned())
        .chain((1..ISSUERS).map(|n| format!("https://jit{n}.example")))
        .collect();
    let issuers = names.iter().map(|name| {
        let mut issuer = config["issuers"][0].clone();
        issuer["issuer"] = json!(name);
        issuer
    });
    let issuers: Value = issuers.collect();
    config["issuers"] = issuers;
    config["signals"]["transmitters"][0]["subjects"] = json!(names);
    config
}

/// Brings about `entries` entries into the state, and says how long that took.
pub async fn fill(proxy: &Proxy, listener: &str, entries: usize) -> Result<Duration> {
    let signals = entries.div_ceil(ISSUERS);
    // Made before, so that the time is the receiver's.
    let sets: Arc<Vec<String>> =
        Arc::new((0..signals).map(|_| mint::revoke_session(&mint::unique("ended")).sign()).collect());
    let began = Instant::now();
    let address = proxy.address(listener)?;
    let tasks: Vec<_> = (0..CONNECTIONS)
        .map(|first| {
            let sets = Arc::clone(&sets);
            tokio::spawn(async move {
                let mut connection = Connection::open(address, Http::One).await?;
                for set in sets.iter().skip(first).step_by(CONNECTIONS) {
                    let answer = connection.send(&Request::push(orders::SIGNALS_PATH, set)).await?;
                    if answer.status != 202 {
                        return Err(Error::new(format!("a signal was answered {}", answer.line())));
                    }
                }
                Ok(())
            })
        })
        .collect();
    for task in tasks {
        task.await.map_err(Error::doing("fill the state"))??;
    }
    Ok(began.elapsed())
}
