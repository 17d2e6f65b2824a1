//! Bearer tokens: listed, made, rotated and revoked.

use crate::access::note::Note;
use crate::access::principal::Principal;
use crate::access::tokens::{self, TokenError, TokenInfo};
use crate::api::call::{Api, Body, READERS, allow_all_feeds};
use crate::api::model::{NewTokenAnswer, NewTokenRequest, TokenRequest, TokenUseAnswer, TokensAnswer};
use crate::config::role::Role;
use crate::problem::Problem;
use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde_json::json;

/// Why an operator of some feeds only must not make tokens, nor see who has them.
const ALL: &str = "tokens are for all";

/// Who has bearer tokens, and when each was last used.
#[utoipa::path(get, path = "/v1/tokens", tag = "tokens", responses(
    (status = 200, body = Vec<TokensAnswer>),
    (status = "default", body = Problem, content_type = "application/problem+json")))]
pub async fn list(
    State(api): State<Api>,
    Extension(principal): Extension<Principal>,
) -> Result<Json<Vec<TokensAnswer>>, Problem> {
    allow_all_feeds(&principal, &READERS, ALL)?;
    let all = api.with_store(tokens::list).await?;
    Ok(Json(all.into_iter().map(answer).collect()))
}

/// Makes the first token of a new name. It is shown this once.
#[utoipa::path(post, path = "/v1/tokens", tag = "tokens", request_body = NewTokenRequest, responses(
    (status = 200, body = NewTokenAnswer),
    (status = "default", body = Problem, content_type = "application/problem+json")))]
pub async fn create(
    State(api): State<Api>,
    Extension(principal): Extension<Principal>,
    Extension(note): Extension<Note>,
    Body(request): Body<NewTokenRequest>,
) -> Result<Json<NewTokenAnswer>, Problem> {
    let NewTokenRequest { name, role, feeds } = request;
    note.set(json!({"name": name, "role": role, "feeds": feeds}));
    allow_all_feeds(&principal, &[Role::Operator], ALL)?;
    let role = Role::from_name(&role).ok_or_else(|| {
        let names: Vec<_> = Role::ALL.iter().map(|role| role.as_str()).collect();
        Problem::bad_request(format!("`{role}` is not a role"), format!("the roles are {}", names.join(", ")))
    })?;
    if let Some(unknown) = feeds.iter().find(|name| !api.hub.feeds.iter().any(|feed| feed.name == **name)) {
        return Err(TokenError::Feed(unknown.clone()).into());
    }
    let (owner, now) = (name.clone(), api.operations.now());
    let token = api.with_store_as(move |store| tokens::create(store, &owner, role, &feeds, now)).await?;
    Ok(Json(NewTokenAnswer { name, token }))
}

/// Makes another token. The one before stays valid until it is revoked or the next rotation.
#[utoipa::path(post, path = "/v1/tokens/rotate", tag = "tokens", request_body = TokenRequest, responses(
    (status = 200, body = NewTokenAnswer),
    (status = "default", body = Problem, content_type = "application/problem+json")))]
pub async fn rotate(
    State(api): State<Api>,
    Extension(principal): Extension<Principal>,
    Extension(note): Extension<Note>,
    Body(TokenRequest { name, .. }): Body<TokenRequest>,
) -> Result<Json<NewTokenAnswer>, Problem> {
    note.set(json!({"name": name}));
    allow_all_feeds(&principal, &[Role::Operator], ALL)?;
    let (owner, now) = (name.clone(), api.operations.now());
    let token = api.with_store_as(move |store| tokens::rotate(store, &owner, now)).await?;
    Ok(Json(NewTokenAnswer { name, token }))
}

/// Revokes all tokens of a name, or all but the newest. It takes effect within a second.
#[utoipa::path(post, path = "/v1/tokens/revoke", tag = "tokens", request_body = TokenRequest, responses(
    (status = 204, description = "Revoked."),
    (status = "default", body = Problem, content_type = "application/problem+json")))]
pub async fn revoke(
    State(api): State<Api>,
    Extension(principal): Extension<Principal>,
    Extension(note): Extension<Note>,
    Body(TokenRequest { name, but_the_newest }): Body<TokenRequest>,
) -> Result<StatusCode, Problem> {
    note.set(json!({"name": name, "but_the_newest": but_the_newest}));
    allow_all_feeds(&principal, &[Role::Operator], ALL)?;
    api.with_store_as(move |store| tokens::revoke(store, &name, but_the_newest)).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn answer(info: TokenInfo) -> TokensAnswer {
    let use_of = |(made_ms, used): &(u64, u64)| TokenUseAnswer {
        made_ms: *made_ms,
        used_ms: Some(*used).filter(|used| *used > 0),
    };
    TokensAnswer {
        name: info.name,
        role: info.role,
        feeds: info.feeds,
        tokens: info.tokens.iter().map(use_of).collect(),
    }
}

impl From<TokenError> for Problem {
    fn from(error: TokenError) -> Problem {
        let detail = error.to_string();
        match error {
            TokenError::Name(_) => Problem::bad_request(detail, "choose another name"),
            TokenError::Feed(_) => Problem::bad_request(detail, "GET /v1/feeds lists them"),
            TokenError::Exists(_) => Problem::conflict(detail, "POST /v1/tokens/rotate makes another one"),
            TokenError::Unknown(_) => Problem::missing(detail, "GET /v1/tokens lists them"),
            TokenError::Randomness(_) => Problem::unavailable(detail),
            TokenError::Store(error) => error.into(),
        }
    }
}
