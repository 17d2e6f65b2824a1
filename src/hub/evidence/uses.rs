//! `POST /v1/feeds/{feed}/uses`: what the workers of a proxy have counted. For proxies, and for relays that hand it on.
//!
//! | status | when |
//! |---|---|
//! | 200 | all of it is stored: durable |
//! | 400 | the body is wrong, or a batch in it: the body says which. The other batches are stored |
//! | 401, 403 | the caller is not known, may not use the feed, or speaks for the proxy of another |
//! | 404 | there is no such feed, or the hub keeps no evidence: as a hub answers that knows nothing of it |
//! | 503 | there is no room now, or the store fails: nothing of it is known to be stored. `retry-after` says when to come back |
//!
//! A batch that comes again is answered like the first time, and counts once.

use crate::access::principal::Principal;
use crate::config::hub::{Feed, Hub};
use crate::config::role::Role;
use crate::evidence::check::{self, Against, Foreign, shown};
use crate::evidence::counters::Counters;
use crate::evidence::model::{BatchWrite, Write};
use crate::evidence::senders::Senders;
use crate::evidence::service::Evidence;
use crate::feed::Feeds;
use crate::problem::Problem;
use crate::repeated::Repeated;
use axum::body::Bytes;
use axum::extract::{Path, Request, State};
use axum::http::header::CONTENT_LENGTH;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use taskfence_core::uses::batch::{Batch, BatchId, Post, Taken};
use tokio::sync::Semaphore;

/// The path. Its method is POST.
pub const PATH: &str = "/v1/feeds/{feed}/uses";

/// The longest body, in bytes.
pub const MAX_BODY: usize = 1024 * 1024;

/// The body must be there after this long.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// A longer body is read on a thread where it may take its time: others on this one wait for signals.
const INLINE: usize = 16 * 1024;

/// So many longer bodies are read at once: each takes a core, and some of the memory of all its values.
const AT_ONCE: usize = 2;

/// A body waits for so long until it is read.
const READ_PATIENCE: Duration = Duration::from_secs(10);

/// The JSON values of one post take so many bytes in memory at most.
const MAX_WEIGHT: usize = 12 * 1024 * 1024;

/// A day in milliseconds.
const DAY: u64 = 86_400_000;

/// Posts with something that cannot be used.
static UNUSABLE: Repeated = Repeated::new("evidence of a proxy cannot be used");

/// What takes uses in.
#[derive(Clone)]
pub struct Uses {
    evidence: Arc<Evidence>,
    hub: Arc<Hub>,
    feeds: Arc<Feeds>,
    senders: Arc<Senders>,
    reading: Arc<Semaphore>,
}

impl Uses {
    /// Takes uses of the feeds of `hub` into `evidence`. `senders` notes who has sent.
    pub fn new(evidence: Arc<Evidence>, hub: Arc<Hub>, feeds: Arc<Feeds>, senders: Arc<Senders>) -> Uses {
        Uses { evidence, hub, feeds, senders, reading: Arc::new(Semaphore::new(AT_ONCE)) }
    }
}

/// The route. Requests must have a [`Principal`] in their extensions.
pub fn router(uses: Uses) -> Router {
    Router::new().route(PATH, post(take)).with_state(uses)
}

/// Takes in what a proxy has counted. For proxies and relays.
#[utoipa::path(post, path = PATH, tag = "evidence",
    params(("feed" = String, Path)),
    request_body(content = Object, content_type = "application/json",
        description = "Batches of one proxy, as docs/hub.md describes them; at most 1 MiB."),
    responses(
        (status = 200, description = "Stored: the batches that are, the period, and configurations whose rules are wanted.",
            body = Object),
        (status = 400, description = "The body is wrong, or a batch in it. The other batches are stored.", body = Problem,
            content_type = "application/problem+json"),
        (status = 401, description = "The caller is not known.", body = Problem,
            content_type = "application/problem+json"),
        (status = 403, description = "The caller may not use the feed, or speaks for the proxy of another.", body = Problem,
            content_type = "application/problem+json"),
        (status = 404, description = "There is no such feed, or the hub keeps no evidence.", body = Problem,
            content_type = "application/problem+json"),
        (status = 429, description = "Too many failed authentications, or too many requests.", body = Problem,
            content_type = "application/problem+json"),
        (status = 503, description = "Not stored: send it again after `retry-after`.", body = Problem,
            content_type = "application/problem+json")))]
pub async fn take(State(uses): State<Uses>, Path(name): Path<String>, request: Request) -> Response {
    match uses.take(&name, request).await {
        Ok(taken) => Json(taken).into_response(),
        Err(problem) => problem.into_response(),
    }
}

impl Uses {
    async fn take(&self, name: &str, request: Request) -> Result<Taken, Problem> {
        if !self.evidence.is_on() {
            return Err(Problem::missing(
                "there is no such path",
                "this hub keeps no evidence: see `evidence` in hub.yaml",
            ));
        }
        let principal = request.extensions().get::<Principal>().cloned();
        let principal =
            principal.ok_or_else(|| Problem::unauthenticated("a proxy needs a token or a certificate", false))?;
        if !principal.may(&[Role::Sidecar, Role::Relay], name) {
            let detail = format!("`{}` may not send uses of the feed `{name}`", principal.name);
            return Err(Problem::forbidden(detail, "use a token of the role sidecar with this feed"));
        }
        let feed = self.hub.feeds.iter().find(|feed| feed.name == name);
        let feed = feed.ok_or_else(|| Problem::missing(format!("there is no feed `{name}`"), "see /v1/feeds"))?;
        let counters = self.evidence.counters().of(name);
        let refused = |problem: Problem| {
            counters.inspect(|counters| counters.refused.add(1));
            problem
        };
        let mut room =
            self.evidence.reserve(&principal.name, announced(&request)).map_err(|full| refused(full.into()))?;
        let bytes = read(request).await.map_err(refused)?;
        room.shrink(bytes.len());
        let (now, from) = (self.evidence.now(), Arc::clone(feed));
        let oldest = now.saturating_sub(self.evidence.config().days.saturating_mul(DAY));
        let by = principal.name.clone();
        let checked = match bytes.len() <= INLINE {
            true => Checked::new(&bytes, &from, &by, (now, oldest)),
            false => {
                let busy = || refused(Problem::busy("too many posts are being read", 5));
                let place = tokio::time::timeout(READ_PATIENCE, Arc::clone(&self.reading).acquire_owned()).await;
                let place = place.map_err(|_| busy())?.map_err(|_| busy())?;
                let read = move || {
                    let _place = place;
                    Checked::new(&bytes, &from, &by, (now, oldest))
                };
                let read = tokio::task::spawn_blocking(read).await;
                read.map_err(|_| Problem::unavailable("reading the body broke off"))?
            }
        };
        let checked = checked.map_err(|wrong| refused(bad(wrong)))?;
        let is_known = self.check_proxy(&principal, name, &checked.proxy).map_err(refused)?;
        room.grow(checked.weight).map_err(|full| refused(full.into()))?;
        let Checked { proxy, node, writes, ids, last, configs, foreign, wrong_batches, wrong, .. } = checked;
        if let Some(counters) = counters {
            counters.refused.add(wrong_batches);
        }
        self.evidence.submit(room, writes).await?;
        if let Some(counters) = counters {
            note_foreign(counters, foreign);
        }
        // Of one that does not follow the feed nobody can say that it went away.
        if let Some(until) = last.filter(|_| is_known) {
            self.senders.sent(name, &follower_id(&principal, &proxy), &node, until);
        }
        if let Some(wrong) = wrong {
            return Err(bad(wrong));
        }
        let configs_wanted = self.evidence.unknown_configs(name, configs.iter().map(String::as_str));
        // Also what the store dropped: it was counted as such, and would be dropped again.
        Ok(Taken { period: self.evidence.config().period.0, taken: ids, configs_wanted })
    }

    /// A proxy that is known here must be that of the caller. Returns whether it is known.
    fn check_proxy(&self, principal: &Principal, feed: &str, proxy: &str) -> Result<bool, Problem> {
        let feed = self.feeds.feed(feed);
        let owner = feed.and_then(|feed| feed.followers.owner(&follower_id(principal, proxy)));
        if owner.as_ref().is_none_or(|owner| **owner == *principal.name) {
            return Ok(owner.is_some());
        }
        let detail = format!("the proxy `{proxy}` belongs to another principal than `{}`", principal.name);
        Err(Problem::forbidden(detail, "send the id of the follower of this proxy"))
    }
}

/// The id under which the list of followers has a proxy: one behind a relay has the name of the relay before it.
fn follower_id(principal: &Principal, proxy: &str) -> String {
    match principal.role {
        Role::Relay => format!("{}/{proxy}", principal.name),
        _ => proxy.to_owned(),
    }
}

/// How long the body says that it is; without a word, the longest that it may be.
fn announced(request: &Request) -> usize {
    let length = request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    length.unwrap_or(MAX_BODY).min(MAX_BODY)
}

/// The body of a post.
pub(crate) async fn read(request: Request) -> Result<Bytes, Problem> {
    let read = tokio::time::timeout(BODY_TIMEOUT, axum::body::to_bytes(request.into_body(), MAX_BODY)).await;
    // No fault of the batches: they are to come again.
    let read = read.map_err(|_| Problem::busy("the body did not come in time", 1))?;
    read.map_err(|_| bad(format!("the body is longer than {MAX_BODY} bytes, or broke off")))
}

fn bad(detail: String) -> Problem {
    Problem::bad_request(detail, "see docs/hub.md for the members")
}

fn note_foreign(counters: &Counters, foreign: Foreign) {
    counters.foreign_grants.add(foreign.grants);
    counters.lost_permitted.add(foreign.permitted);
    counters.lost_refused.add(foreign.refused);
    counters.lost_records.add(foreign.records);
}

/// A post that was read and checked.
#[derive(Debug)]
struct Checked {
    /// Who sent it.
    principal: String,
    proxy: String,
    node: String,
    /// The batches first, in the order of `ids`.
    writes: Vec<Write>,
    ids: Vec<BatchId>,
    /// When the last of these batches was cut.
    last: Option<u64>,
    /// The configurations that they name.
    configs: HashSet<String>,
    foreign: Foreign,
    wrong_batches: u64,
    /// The bytes that its JSON values take in memory.
    weight: usize,
    /// What is wrong with the first thing that cannot be used.
    wrong: Option<String>,
}

/// A post whose parts are not read yet: one that has the wrong shape must not stop the others.
#[derive(Deserialize)]
struct Loose {
    format: u8,
    proxy: String,
    node: String,
    #[serde(default)]
    batches: Vec<Value>,
    #[serde(default)]
    gaps: Vec<Value>,
    #[serde(default)]
    configs: Vec<Value>,
}

/// What is wrong with parts of a post: how many they are, and the first one in words.
#[derive(Debug, Default)]
struct Wrongs {
    count: u64,
    first: Option<String>,
}

impl Wrongs {
    fn add(&mut self, wrong: impl FnOnce() -> String) {
        self.count = self.count.saturating_add(1);
        self.first.get_or_insert_with(wrong);
    }
}

impl Checked {
    /// Reads `bytes` that `by` sent for `feed`, at the time `now`; what ended before `oldest` is not kept. The error
    /// says what is wrong with all of it.
    fn new(bytes: &[u8], feed: &Feed, by: &str, (now, oldest): (u64, u64)) -> Result<Checked, String> {
        let Parsed { mut post, mut wrongs, wrong_others } = parse(bytes)?;
        check::post(&mut post)?;
        let issuers: HashSet<String> = feed.policy().issuers().iter().map(|issuer| issuer.name.clone()).collect();
        let against = Against { now, oldest, issuers: &issuers };
        let (feed, weight) = (feed.name.clone(), check::weight(&post));
        let Post { proxy, node, batches, gaps, configs: outlines, .. } = post;
        let mut checked = Checked {
            writes: Vec::with_capacity(batches.len()),
            ids: Vec::new(),
            last: None,
            configs: HashSet::new(),
            foreign: Foreign::default(),
            wrong_batches: 0,
            weight,
            wrong: None,
            principal: by.to_owned(),
            proxy,
            node,
        };
        if checked.weight > MAX_WEIGHT {
            return Err("records, details and rules have too many values: send fewer at once".to_owned());
        }
        for mut batch in batches {
            let id = BatchId { vm: batch.vm.clone(), number: batch.number };
            let (vm, number) = (shown(&id.vm), id.number);
            match check::batch(&mut batch, &against) {
                Ok(foreign) => checked.add(&feed, (id, batch), foreign, now),
                Err(error) => wrongs.add(|| format!("the batch {number} of `{vm}` cannot be used: {error}")),
            }
        }
        checked.wrong_batches = wrongs.count;
        let mut wrongs = Wrongs { first: wrongs.first.or(wrong_others.first), ..wrong_others };
        for mut gap in gaps {
            match check::gap(&mut gap, &against) {
                Ok(()) => {
                    let (feed, node) = (feed.clone(), checked.node.clone());
                    checked.writes.push(Write::Gap { feed, node, gap });
                }
                Err(error) => wrongs.add(|| format!("a gap of `{}` cannot be used: {error}", shown(&gap.vm))),
            }
        }
        for mut outline in outlines {
            match check::outline(&mut outline) {
                Ok(()) => checked.writes.push(Write::Config { feed: feed.clone(), outline }),
                Err(error) => {
                    wrongs.add(|| format!("the rules of `{}` cannot be used: {error}", shown(&outline.config)));
                }
            }
        }
        match &wrongs.first {
            Some(first) => UNUSABLE.failed(&format!("{feed}: {} of {by}", checked.proxy), first),
            None => UNUSABLE.went_well(""),
        }
        checked.wrong = wrongs.first;
        Ok(checked)
    }

    fn add(&mut self, feed: &str, (id, batch): (BatchId, Batch), foreign: Foreign, at: u64) {
        self.configs.extend(batch.rules.iter().map(|rule| rule.config.clone()));
        self.last = self.last.max(Some(batch.until));
        self.ids.push(id);
        self.foreign.grants = self.foreign.grants.saturating_add(foreign.grants);
        self.foreign.permitted = self.foreign.permitted.saturating_add(foreign.permitted);
        self.foreign.refused = self.foreign.refused.saturating_add(foreign.refused);
        self.foreign.records = self.foreign.records.saturating_add(foreign.records);
        let (feed, principal) = (feed.to_owned(), self.principal.clone());
        let (proxy, node) = (self.proxy.clone(), self.node.clone());
        self.writes.push(Write::Batch(Box::new(BatchWrite { feed, principal, proxy, node, at, batch })));
    }
}

/// A post, and what is wrong with the parts of it that have another shape.
struct Parsed {
    post: Post,
    /// With batches.
    wrongs: Wrongs,
    /// With gaps and configurations.
    wrong_others: Wrongs,
}

fn parse(bytes: &[u8]) -> Result<Parsed, String> {
    let (mut wrongs, mut wrong_others) = (Wrongs::default(), Wrongs::default());
    let whole = match serde_json::from_slice::<Post>(bytes) {
        Ok(post) => return Ok(Parsed { post, wrongs, wrong_others }),
        Err(error) => shown(&error.to_string()),
    };
    let Ok(loose) = serde_json::from_slice::<Loose>(bytes) else { return Err(whole) };
    let Loose { format, proxy, node, batches, gaps, configs } = loose;
    let batches = each("batches", batches, &mut wrongs);
    let gaps = each("gaps", gaps, &mut wrong_others);
    let configs = each("configs", configs, &mut wrong_others);
    Ok(Parsed { post: Post { format, proxy, node, batches, gaps, configs }, wrongs, wrong_others })
}

/// Those of `values` that can be read.
fn each<T: DeserializeOwned>(name: &str, values: Vec<Value>, wrongs: &mut Wrongs) -> Vec<T> {
    let read = values.into_iter().enumerate().filter_map(|(at, value)| match serde_json::from_value(value) {
        Ok(one) => Some(one),
        Err(error) => {
            wrongs.add(|| format!("`{name}[{at}]` cannot be read: {}", shown(&error.to_string())));
            None
        }
    });
    read.collect()
}

#[cfg(test)]
mod tests;
