//! What a batch says about a grant.

use crate::decision::session::Session;
use crate::token::detail::Detail;
use crate::token::grant::Grant;
use crate::uses::batch::GrantInfo;
use serde_json::{Map, Value};

/// So many bytes of scopes, and of details as JSON, are told. What is longer is not all there, and `cut` says so.
const MAX_LIST: usize = 4 * 1024;

/// [`GrantInfo`] of the grant of `session`, as JSON.
pub(crate) fn text(session: &Session) -> String {
    // A struct of strings, numbers and JSON always has a JSON form.
    serde_json::to_string(&info(session)).unwrap_or_default()
}

/// What `session` says about its grant.
pub fn info(session: &Session) -> GrantInfo {
    let grant = session.verified().grant();
    let (scopes, cut_scopes) = fitting(grant.scopes.clone(), String::len);
    let (details, cut_details) = fitting(details(grant), |detail| detail.to_string().len());
    GrantInfo {
        issuer: grant.issuer.clone(),
        token: grant.token_id.to_string(),
        fingerprint: fingerprint(session),
        subject: grant.subject.clone(),
        client: grant.client_id.clone(),
        task: grant.task.clone(),
        session: grant.session.clone(),
        actors: grant.actors.iter().map(|actor| actor.subject.clone()).collect(),
        scopes,
        details,
        issued_at: grant.issued_at.0,
        expires_at: grant.expires_at.0,
        cut: cut_scopes || cut_details,
        masked: Vec::new(),
    }
}

/// The first half of the SHA-256 of the whole token: 32 hexadecimal digits.
pub fn fingerprint(session: &Session) -> String {
    session.digest().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// The first of `all` that fit together into [`MAX_LIST`], and whether some do not.
fn fitting<T>(mut all: Vec<T>, size: impl Fn(&T) -> usize) -> (Vec<T>, bool) {
    let mut bytes: usize = 0;
    let fits = |one: &T| {
        bytes = bytes.saturating_add(size(one)).saturating_add(3);
        bytes <= MAX_LIST
    };
    let kept = all.iter().map(fits).take_while(|fits| *fits).count();
    let is_cut = kept < all.len();
    all.truncate(kept);
    (all, is_cut)
}

/// The objects of `authorization_details` as in the token.
fn details(grant: &Grant) -> Vec<Value> {
    if grant.details.iter().all(|detail| detail.unknown.is_empty()) {
        return grant.details.iter().map(written).collect();
    }
    // The values of members that RFC 9396 does not define are in the token alone.
    let claims = grant.all_claims();
    let mut found = grant.carriers.details.iter().filter_map(|path| path.find(&claims).ok()??.as_array());
    found.next().cloned().unwrap_or_default()
}

fn written(detail: &Detail) -> Value {
    let mut members = Map::new();
    members.insert("type".to_owned(), detail.kind.as_str().into());
    let lists = [
        ("actions", &detail.actions),
        ("locations", &detail.locations),
        ("datatypes", &detail.datatypes),
        ("privileges", &detail.privileges),
    ];
    members.extend(lists.into_iter().filter_map(|(name, list)| Some((name.to_owned(), list.clone()?.into()))));
    members.extend(detail.identifier.as_ref().map(|value| ("identifier".to_owned(), value.as_str().into())));
    Value::Object(members)
}
