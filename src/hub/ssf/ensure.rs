//! Sees to it that a stream exists at the transmitter, with what is configured: finds the one of before, takes over one
//! that is ours, or makes one. It never uses a stream that delivers elsewhere, or that is not ours.

use crate::access::tokens::{self, TokenError};
use crate::config::role::Role;
use crate::config::ssf::{Delivery, ManagedStream};
use crate::intake::managed::token_name;
use crate::ssf::client::discovery::{POLL, PUSH};
use crate::ssf::client::failure::{Failure, Step};
use crate::ssf::client::session::Session;
use crate::ssf::client::streams::{self, Created, Stream, Updated, Wanted};
use crate::ssf::record::{self, StreamRecord, in_store};
use crate::store::Store;
use reqwest::Url;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use taskfence_core::encoding::secret::Secret;

/// After this long every replica knows of a new token.
const TOKEN_KNOWN: Duration = Duration::from_millis(2_500);

/// Whose streams these are.
#[derive(Clone)]
pub struct Home {
    /// The name of the hub.
    pub hub: String,
    /// Its store.
    pub store: Arc<dyn Store>,
}

/// A stream that exists as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ensured {
    /// What the store keeps of it.
    pub record: StreamRecord,
    /// `iss` of its SETs, where the transmitter says it.
    pub issuer: Option<String>,
    /// Whether it was made now.
    pub is_new: bool,
    /// Whether the stream of before was not there any more.
    pub was_deleted: bool,
    /// Events that were asked for and are not delivered.
    pub missing: Vec<String>,
}

impl Home {
    /// The description by which a stream is known to be ours.
    pub fn description(&self, stream: &ManagedStream) -> String {
        format!("taskfence {}, feed {}", self.hub, stream.feed)
    }

    /// Finds or makes the stream. `now` is in milliseconds since 1970.
    pub async fn ensure(&self, session: &Session, stream: &ManagedStream, now: u64) -> Result<Ensured, Failure> {
        check_method(session, stream)?;
        let known = record::load(&self.store, stream).await?;
        if known.as_ref().is_some_and(|known| known.removed.is_some()) {
            let remedy =
                "take its `ssf` out of the configuration, or add it again with `taskfence hub transmitter add`";
            return Err(Failure::new(Step::Stream, "an operator had the stream deleted", remedy));
        }
        let (found, was_deleted) = self.find(session, stream, known.as_ref()).await?;
        let (found, is_new) = match found {
            Some(found) => (self.adjust(session, stream, found, known.as_ref()).await?, false),
            None => (self.make(session, stream).await?, true),
        };
        check(stream, &found)?;
        let poll_endpoint = match stream.delivery {
            Delivery::Push { .. } => None,
            Delivery::Poll { .. } => Some(poll_endpoint(&found)?.to_string()),
        };
        let issuer = Some(found.issuer).filter(|issuer| !issuer.is_empty());
        let old = known.filter(|known| known.id == found.id).unwrap_or_default();
        let record = StreamRecord {
            id: found.id,
            audiences: found.audiences,
            asked: stream.events.clone(),
            delivered: found.delivered,
            poll_endpoint,
            min_verification_interval: found.min_verification_interval,
            inactivity_timeout: found.inactivity_timeout,
            since: if old.since == 0 { now } else { old.since },
            trouble: if was_deleted { Some(now) } else { old.trouble },
            status: old.status,
            reason: old.reason,
            removed: None,
        };
        record::save(&self.store, stream, &record).await?;
        let missing = stream.events.iter().filter(|event| !record.delivered.contains(event)).cloned().collect();
        Ok(Ensured { record, issuer, is_new, was_deleted, missing })
    }

    /// The stream that exists, and whether the one of before is gone.
    async fn find(
        &self,
        session: &Session,
        stream: &ManagedStream,
        known: Option<&StreamRecord>,
    ) -> Result<(Option<Stream>, bool), Failure> {
        if let Some(id) = &stream.adopted {
            let found = streams::get(session, id).await?.ok_or_else(|| {
                let what = format!("there is no stream `{id}`");
                Failure {
                    status: Some(404),
                    ..Failure::new(Step::Stream, what, "remove `ssf.stream_id`: the hub then makes a stream")
                }
            })?;
            let is_ours = known.is_some_and(|known| known.id == *id);
            if !is_ours && !wanted(stream, None).fits(&found) {
                let remedy = "change its delivery first, or remove `ssf.stream_id`";
                return Err(Failure::new(Step::Stream, format!("the stream `{id}` delivers elsewhere"), remedy));
            }
            return Ok((Some(found), false));
        }
        let mut was_deleted = false;
        if let Some(known) = known.filter(|known| !known.id.is_empty()) {
            match streams::get(session, &known.id).await? {
                Some(found) => return Ok((Some(found), false)),
                None => was_deleted = true,
            }
        }
        Ok((self.ours(stream, streams::list(session).await?), was_deleted))
    }

    /// The stream of the list that this hub made and that delivers as configured.
    fn ours(&self, stream: &ManagedStream, list: Vec<Stream>) -> Option<Stream> {
        let (description, wanted) = (self.description(stream), wanted(stream, None));
        let is_ours = |one: &Stream| {
            one.description.as_deref() == Some(&description) && wanted.fits(one) && is_for(&stream.audiences, one)
        };
        list.into_iter().find(is_ours)
    }

    async fn make(&self, session: &Session, stream: &ManagedStream) -> Result<Stream, Failure> {
        let secret = match stream.delivery {
            Delivery::Push { .. } => Some(self.new_secret(stream).await?),
            Delivery::Poll { .. } => None,
        };
        let wanted = wanted(stream, secret);
        match streams::create(session, &stream.events, &wanted, &self.description(stream)).await? {
            Created::New(stream) => Ok(*stream),
            Created::Exists => {
                // It was made meanwhile, or the list did not show it.
                let list = streams::list(session).await?;
                let ids: Vec<String> = list.iter().map(|one| format!("`{}`", one.id)).collect();
                self.ours(stream, list).ok_or_else(|| {
                    let what = format!(
                        "the transmitter has a stream already that this hub did not make (409): {}",
                        if ids.is_empty() { "it lists none".to_owned() } else { ids.join(", ") }
                    );
                    let remedy = "delete it with `taskfence hub transmitter remove --stream-id ID` if nobody uses it, or \
                                  take it over with `ssf.stream_id`";
                    Failure { status: Some(409), ..Failure::new(Step::Stream, what, remedy) }
                })
            }
        }
    }

    /// Changes what differs from the configuration.
    async fn adjust(
        &self,
        session: &Session,
        stream: &ManagedStream,
        found: Stream,
        known: Option<&StreamRecord>,
    ) -> Result<Stream, Failure> {
        let lacks_secret = matches!(stream.delivery, Delivery::Push { .. }) && !self.has_secret(stream).await?;
        let delivers_elsewhere = !wanted(stream, None).fits(&found);
        let set = |events: &[String]| events.iter().cloned().collect::<BTreeSet<_>>();
        let was_asked = known.is_some_and(|known| known.id == found.id && known.asked == stream.events);
        // A transmitter may leave out what it does not know: asking again would change nothing.
        let differs = found.requested.as_ref().is_some_and(|requested| set(requested) != set(&stream.events));
        if !lacks_secret && !delivers_elsewhere && (!differs || was_asked) {
            return Ok(found);
        }
        let secret = match stream.delivery {
            Delivery::Push { .. } if lacks_secret || delivers_elsewhere => Some(self.new_secret(stream).await?),
            _ => None,
        };
        let delivery = (lacks_secret || delivers_elsewhere).then(|| wanted(stream, secret));
        let description = self.description(stream);
        match streams::update(session, &found.id, &stream.events, delivery.as_ref(), &description).await? {
            Updated::Done(updated) => Ok(*updated),
            Updated::Later => Ok(found),
            Updated::Impossible if delivery.is_none() => Ok(found),
            Updated::Impossible => {
                let what = format!("the transmitter does not change streams, and `{}` delivers elsewhere", found.id);
                let remedy = "delete it with `taskfence hub transmitter remove`: the hub then makes another";
                Err(Failure::new(Step::Stream, what, remedy))
            }
            Updated::Missing => {
                Err(Failure { status: Some(404), ..Failure::new(Step::Stream, "the stream was deleted just now", "") })
            }
        }
    }

    /// A new secret for pushes of the stream, once every replica knows of it. The one before stays good meanwhile.
    async fn new_secret(&self, stream: &ManagedStream) -> Result<Secret, Failure> {
        let (name, feed) = (token_name(stream), stream.feed.clone());
        let made = in_store(&self.store, move |store| {
            let now = u64::try_from(
                std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_millis(),
            );
            let now = now.unwrap_or_default();
            Ok(match tokens::create(store, &name, Role::Transmitter, &[feed], now) {
                Err(TokenError::Exists(_)) => tokens::rotate(store, &name, now),
                made => made,
            })
        });
        let token = made.await?.map_err(|error| Failure::new(Step::Store, error.to_string(), ""))?;
        tokio::time::sleep(TOKEN_KNOWN).await;
        Ok(Secret::from(format!("Bearer {token}")))
    }

    async fn has_secret(&self, stream: &ManagedStream) -> Result<bool, Failure> {
        let name = token_name(stream);
        let all = in_store(&self.store, |store| store.principals()).await?;
        Ok(all.iter().any(|principal| principal.name == name && !principal.tokens.is_empty()))
    }
}

/// How the configuration wants signals to come.
fn wanted(stream: &ManagedStream, secret: Option<Secret>) -> Wanted {
    match &stream.delivery {
        Delivery::Poll { .. } => Wanted::Poll,
        Delivery::Push { endpoint } => Wanted::Push(endpoint.clone(), secret),
    }
}

fn check_method(session: &Session, stream: &ManagedStream) -> Result<(), Failure> {
    let (method, name, other) = match stream.delivery {
        Delivery::Poll { .. } => (POLL, "poll", "push"),
        Delivery::Push { .. } => (PUSH, "push", "poll"),
    };
    if session.metadata.delivers_by(method) {
        return Ok(());
    }
    let what = format!("the transmitter does not deliver by {name}");
    Err(Failure::new(Step::Stream, what, format!("write `delivery: {other}`")))
}

/// Whether the SETs of a stream are for one of `audiences`, as far as that is known.
fn is_for(audiences: &[String], found: &Stream) -> bool {
    audiences.is_empty() || found.audiences.is_empty() || found.audiences.iter().any(|one| audiences.contains(one))
}

/// SETs of another issuer, or for somebody else, would all be refused.
fn check(stream: &ManagedStream, found: &Stream) -> Result<(), Failure> {
    let clean = |text: &str| text.chars().filter(|c| !c.is_control()).take(200).collect::<String>();
    if !stream.issuer.is_empty() && !found.issuer.is_empty() && found.issuer != stream.issuer {
        let what =
            format!("the SETs of the stream have the issuer `{}`, not `{}`", clean(&found.issuer), stream.issuer);
        return Err(Failure::new(Step::Stream, what, "write this `issuer` in the configuration if it is right"));
    }
    if !is_for(&stream.audiences, found) {
        let audiences = clean(&found.audiences.join("`, `"));
        let what = format!("the SETs of the stream are for `{audiences}`, and `audience` is another");
        return Err(Failure::new(Step::Stream, what, "write this `audience` in the configuration"));
    }
    Ok(())
}

fn poll_endpoint(found: &Stream) -> Result<&Url, Failure> {
    let missing =
        || Failure::new(Step::Stream, "the transmitter does not say where to poll (`delivery.endpoint_url`)", "");
    found.endpoint.as_ref().ok_or_else(missing)
}
