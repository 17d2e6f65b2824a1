//! What stands against something, since which signal, and by whom.

use crate::access::note::Note;
use crate::access::principal::Principal;
use crate::api::call::{Api, Query, READERS};
use crate::api::events::find_issuer;
use crate::api::model::{AboutAnswer, EntryAnswer, StateAnswer, What};
use crate::api::signals;
use crate::config::hub::Feed;
use crate::problem::Problem;
use crate::store::model::{SignalRecord, StoredEntry};
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::json;
use taskfence_core::feed::entry::{Decoded, decode};
use taskfence_core::state::bucket::Entry;
use taskfence_core::state::fact::{Claim, Fact};
use taskfence_core::state::key::{Kind, StateKey};
use taskfence_core::time::Timestamp;
use taskfence_core::token::verify::read_unverified;
use utoipa::IntoParams;

/// The header that a token is named by: a query would stand in logs.
pub const TOKEN: &str = "taskfence-token";

/// About what: `issuer` and one of the others. `GET` with the header `taskfence-token` asks about a token that one has.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct StateQuery {
    /// The issuer of the tokens.
    issuer: Option<String>,
    /// A token, by `jti`.
    token: Option<String>,
    /// A task.
    task: Option<String>,
    /// A session.
    session: Option<String>,
    /// A user, by `sub`.
    user: Option<String>,
    /// A client, by `client_id`.
    client: Option<String>,
    /// A device, by the name that the issuer gives it.
    device: Option<String>,
}

/// What stands against something: since which signal, by whom, and whether it was undone.
#[utoipa::path(get, path = "/v1/feeds/{feed}/state", tag = "state",
    params(("feed" = String, Path), StateQuery,
        ("taskfence-token" = Option<String>, Header,
            description = "A token (a JWT). It is read for its names and not verified.")),
    responses(
        (status = 200, body = StateAnswer),
        (status = "default", body = Problem, content_type = "application/problem+json")))]
pub async fn show(
    State(api): State<Api>,
    Path(feed): Path<String>,
    Extension(principal): Extension<Principal>,
    Extension(note): Extension<Note>,
    headers: HeaderMap,
    Query(query): Query<StateQuery>,
) -> Result<Json<StateAnswer>, Problem> {
    let known = api.feed(&principal, &READERS, &feed)?;
    let named = match headers.get(TOKEN) {
        Some(token) => of_token(token.as_bytes(), known)?,
        None => of_query(query, known)?,
    };
    note.set(json!({"about": named.iter().map(|(about, _)| json!({"what": about.what, "name": about.name})).collect::<Vec<_>>()}));
    let keys: Vec<_> = named.iter().map(|(_, key)| *key).collect();
    let now = Timestamp(api.operations.now() / 1000);
    let found = api.with_store(move |store| {
        let mut found = Vec::new();
        for key in &keys {
            found.extend(store.about(&feed, key, now)?);
        }
        Ok(found)
    });
    let entries = entries(found.await?);
    let restricted = entries.iter().any(|entry| entry.restricts && !entry.undone);
    let about = named.into_iter().map(|(about, _)| about).collect();
    Ok(Json(StateAnswer { about, restricted, entries }))
}

type Named = Vec<(AboutAnswer, StateKey)>;

fn of_query(query: StateQuery, feed: &Feed) -> Result<Named, Problem> {
    let StateQuery { issuer, token, task, session, user, client, device } = query;
    let remedy = "send `issuer` and at most one of `token`, `task`, `session`, `user`, `client` and `device`";
    let issuer = issuer.ok_or_else(|| Problem::bad_request("`issuer` is missing", remedy))?;
    let space = find_issuer(feed, &issuer)?;
    let parts = [
        (What::Token, token),
        (What::Task, task),
        (What::Session, session),
        (What::User, user),
        (What::Client, client),
        (What::Device, device),
    ];
    let mut named: Vec<_> = parts.into_iter().filter_map(|(what, name)| Some((what, name?))).collect();
    if named.len() > 1 {
        return Err(Problem::bad_request("several things are named", remedy));
    }
    let one = named.pop().map(|(what, name)| {
        let key = what.key((&issuer, &space), &name);
        (AboutAnswer { what: what.as_str().to_owned(), issuer: issuer.clone(), name }, key)
    });
    Ok(one.into_iter().chain([of_issuer(&issuer, &space)]).collect())
}

fn of_token(token: &[u8], feed: &Feed) -> Result<Named, Problem> {
    let (grant, _) = read_unverified(token.trim_ascii(), feed.policy().issuers()).map_err(|rejected| {
        let claim = rejected.claim.map(|claim| format!(": {claim}")).unwrap_or_default();
        let detail = format!("the token cannot be read: {}{claim}", rejected.reason.code());
        Problem::bad_request(detail, "send an access token of one of the issuers of the feed")
    })?;
    let name_of = |kind: Kind| match kind {
        Kind::Token => grant.token_id.to_string(),
        Kind::Task => grant.task.clone().unwrap_or_default(),
        Kind::Session => grant.session.clone().unwrap_or_default(),
        Kind::User => grant.subject.clone(),
        Kind::Client => grant.client_id.clone().unwrap_or_default(),
        Kind::Device => grant.device.as_ref().map(|(_, name)| name.clone()).unwrap_or_default(),
        Kind::Actor => grant.actors.first().map(|actor| actor.subject.clone()).unwrap_or_default(),
        Kind::Tenant => grant.tenant.as_ref().map(|(_, name)| name.clone()).unwrap_or_default(),
        _ => String::new(),
    };
    let about = |key: StateKey| {
        let what = key.kind().as_str().to_owned();
        (AboutAnswer { what, issuer: grant.issuer.clone(), name: name_of(key.kind()) }, key)
    };
    Ok(grant.state_keys().into_iter().map(about).collect())
}

fn of_issuer(issuer: &str, space: &str) -> (AboutAnswer, StateKey) {
    let about = AboutAnswer { what: "issuer".to_owned(), issuer: issuer.to_owned(), name: String::new() };
    (about, StateKey::of_issuer(space))
}

/// The entries as they are answered, the latest first. An entry that was lifted is stored twice, and answered once.
fn entries(found: Vec<(StoredEntry, SignalRecord)>) -> Vec<EntryAnswer> {
    let mut shown: Vec<(Entry, EntryAnswer)> = Vec::new();
    for (stored, record) in found {
        let Some(Ok(Decoded::Known(read))) = decode(&stored.entry.bytes).next() else { continue };
        let lifted = read.entry.lifted;
        let entry = Entry { lifted: false, ..read.entry };
        match shown.iter_mut().find(|(known, answer)| *known == entry && answer.signal.signal == record.id) {
            Some((_, answer)) => answer.undone |= lifted,
            None => {
                let answer = answer(&entry, record, lifted);
                shown.push((entry, answer));
            }
        }
    }
    shown.sort_by_key(|(entry, answer)| std::cmp::Reverse((entry.at, answer.signal.signal)));
    shown.into_iter().map(|(_, answer)| answer).collect()
}

fn answer(entry: &Entry, record: SignalRecord, undone: bool) -> EntryAnswer {
    let (fact, value) = fact(entry.fact);
    EntryAnswer {
        what: entry.key.kind().as_str().to_owned(),
        fact: fact.to_owned(),
        value: value.map(str::to_owned),
        restricts: entry.fact.restricts(),
        undone,
        conditions: u64::try_from(entry.conditions.len()).unwrap_or(u64::MAX),
        at: entry.at.0,
        until: entry.until.0,
        signal: signals::answer(record),
    }
}

/// The name of a fact, and its value.
pub fn fact(fact: Fact) -> (&'static str, Option<&'static str>) {
    match fact {
        Fact::Revoked => ("revoked", None),
        Fact::Completed => ("completed", None),
        Fact::CutOff => ("cut-off", None),
        Fact::Device(compliance) => ("device", Some(compliance.as_str())),
        Fact::Risk(risk) => ("risk", Some(risk.as_str())),
        Fact::Narrowed => ("narrowed", None),
        Fact::Claim(claim) => ("claim", disputed(claim)),
        Fact::Assurance(claim) => ("assurance", disputed(claim)),
        Fact::Began => ("began", None),
        Fact::Blocked => ("blocked", None),
    }
}

fn disputed(claim: Claim) -> Option<&'static str> {
    (claim == Claim::Conflicting).then_some("disputed")
}
