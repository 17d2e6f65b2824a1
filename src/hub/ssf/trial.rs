//! A verification that is waited for: asked for by an operator, and fetched at once where the stream is polled.

use crate::config::hub::Feed;
use crate::config::ssf::ManagedStream;
use crate::intake::aws_lc::AwsLc;
use crate::intake::verification_states;
use crate::ssf::client::failure::{Failure, Step};
use crate::ssf::client::poll::{self, Polled, Report, Wish};
use crate::ssf::client::session::Session;
use crate::ssf::client::verification::{self, Asked};
use crate::ssf::record::in_store;
use crate::store::Store;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::Url;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use taskfence_core::signal::event::Type;
use taskfence_core::signal::set;
use taskfence_core::signal::set_error::SetError;
use taskfence_core::time::Timestamp;
use tokio::time::Instant;
use uuid::Uuid;

/// How often it is looked whether the running hub has got the verification.
const TICK: Duration = Duration::from_millis(250);

/// So many SETs are looked at for the one with the verification. The others stay for the hub.
const MAX_EVENTS: usize = 500;

/// Asks for a verification, and waits until the running hub has got it. `now` is in milliseconds since 1970.
pub async fn by_hub(
    session: &Session,
    stream: &ManagedStream,
    id: &str,
    store: &Arc<dyn Store>,
    now: u64,
    wait: Duration,
) -> Result<(), Failure> {
    ask(session, stream, id, store, now).await?;
    let deadline = Instant::now().checked_add(wait).unwrap_or_else(Instant::now);
    loop {
        let key = stream.key();
        let known = in_store(store, move |store| verification_states::known(store, &key)).await?;
        if known.answered >= now {
            return Ok(());
        }
        if Instant::now() > deadline {
            let remedy = "see that the hub runs with this configuration; its log says why SETs are refused";
            return Err(Failure::new(Step::Verification, "no verification has come in time", remedy));
        }
        tokio::time::sleep(TICK).await;
    }
}

/// Asks for a verification, and polls until it is there. Nothing else is acknowledged. `feed` verifies it: a feed with
/// this transmitter and its keys.
pub async fn by_polling(
    session: &Session,
    feed: &Feed,
    (id, endpoint): (&str, &Url),
    now: u64,
    wait: Duration,
) -> Result<(), Failure> {
    let state = Uuid::new_v4().simple().to_string();
    check(verification::ask(session, id, &state).await?)?;
    let deadline = Instant::now().checked_add(wait).unwrap_or_else(Instant::now);
    let mut refused: Option<String> = None;
    loop {
        let wish = Wish { max_events: MAX_EVENTS, wait: None };
        let page = match poll::poll(session, endpoint, &Report::default(), wish).await? {
            Polled::Page(page) => page,
            Polled::Missing => return Err(Failure::new(Step::Poll, "the stream is gone", "")),
        };
        for (jti, text) in &page.sets {
            if state_of(text).as_deref() != Some(&state) {
                continue;
            }
            match verify(feed, text, Timestamp(now / 1_000)) {
                Ok(()) => {
                    let report = Report { stored: vec![jti.clone()], ..Report::default() };
                    poll::poll(session, endpoint, &report, Wish { max_events: 0, wait: None }).await?;
                    return Ok(());
                }
                Err(error) => refused = Some(format!("{}: {error}", error.code.code())),
            }
        }
        if let Some(why) = refused {
            let remedy = "compare `issuer`, `audience`, keys and `algorithms` with what the transmitter documents";
            return Err(Failure::new(Step::Verification, format!("the verification is refused: {why}"), remedy));
        }
        if Instant::now() > deadline {
            let remedy = "ask the operator of the transmitter whether the stream works";
            return Err(Failure::new(Step::Verification, "no verification has come in time", remedy));
        }
        tokio::time::sleep(TICK).await;
    }
}

/// Whether the feed would take in this SET at `now`.
fn verify(feed: &Feed, set: &str, now: Timestamp) -> Result<(), SetError> {
    let policy = feed.policy();
    let (transmitters, issuers) = (policy.signals().transmitters(), policy.issuers());
    set::read(set.as_bytes(), None, transmitters, issuers, &mut AwsLc::default(), now).map(drop)
}

async fn ask(
    session: &Session,
    stream: &ManagedStream,
    id: &str,
    store: &Arc<dyn Store>,
    now: u64,
) -> Result<(), Failure> {
    let (state, key) = (Uuid::new_v4().simple().to_string(), stream.key());
    let asked = state.clone();
    in_store(store, move |store| verification_states::ask(store, &key, &asked, now)).await?;
    check(verification::ask(session, id, &state).await?)
}

fn check(asked: Asked) -> Result<(), Failure> {
    match asked {
        Asked::Yes => Ok(()),
        Asked::Missing => Err(Failure::new(Step::Verification, "there is no such stream", "")),
        Asked::Impossible => Err(Failure::new(
            Step::Verification,
            "the transmitter sends no verifications",
            "send a signal to try the stream",
        )),
    }
}

/// `state` of a verification that is not verified yet.
fn state_of(set: &str) -> Option<String> {
    let payload = set.split('.').nth(1)?;
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
    Some(claims.get("events")?.get(Type::Verification.uri())?.get("state")?.as_str()?.to_owned())
}
