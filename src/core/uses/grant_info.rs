//! What a batch says about a grant.

use crate::decision::session::Session;
use crate::policy::evidence::{Mask, Masks};
use crate::token::detail::Detail;
use crate::token::grant::Grant;
use crate::uses::json_text::JsonText;
use serde_json::{Map, Value};
use std::borrow::Cow;

/// So many bytes of scopes, and of details as JSON, are told. What is longer is not all there, and `cut` says so.
const MAX_LIST: usize = 4 * 1024;

/// A scope that is longer is not told. A hub takes no names of more than twice as many bytes.
const MAX_SCOPE: usize = 1024;

/// The names of masks that concern what is counted.
const MEMBERS: [&str; 13] = [
    "subject",
    "actor",
    "client",
    "task",
    "session",
    "token",
    "fingerprint",
    "source",
    "peer",
    "captures",
    "scopes",
    "details",
    "key",
];

/// [`crate::uses::batch::GrantInfo`] of the grant of `session` as JSON, as far as `masks` let it be told.
pub(crate) fn text(session: &Session, masks: &Masks) -> String {
    let grant = session.verified().grant();
    let shown = |name: &str, value: &str| masks.apply(name, value).map(Cow::into_owned);
    let optional = |name: &str, value: &Option<String>| value.as_ref().and_then(|value| shown(name, value));
    let id = grant.token_id.to_string();
    // Without any name no grant could be told from another, so one that may not be told is hashed in any case.
    let id = if masks.of("token").is_some() { masks.hash(&id) } else { id };
    let actors: Vec<String> = grant.actors.iter().filter_map(|actor| shown("actor", &actor.subject)).collect();
    let (scopes, cut_scopes) = fitting(told_scopes(grant, masks), String::len);
    let cut_scopes = cut_scopes || grant.scopes.iter().any(|scope| scope.len() > MAX_SCOPE);
    let (details, cut_details) = fitting(told_details(grant, masks), |detail| detail.to_string().len());
    let masked: Vec<String> =
        MEMBERS.iter().filter(|name| masks.of(name).is_some()).map(|name| (*name).to_owned()).collect();
    let mut json = JsonText::default();
    json.open('{');
    json.string_member("issuer", &grant.issuer);
    json.string_member("token", &id);
    json.string_member("fingerprint", &shown("fingerprint", &fingerprint(session)).unwrap_or_default());
    json.string_member("subject", &shown("subject", &grant.subject).unwrap_or_default());
    json.optional_member("client", optional("client", &grant.client_id).as_deref());
    json.optional_member("task", optional("task", &grant.task).as_deref());
    json.optional_member("session", optional("session", &grant.session).as_deref());
    json.strings_member("actors", &actors);
    json.strings_member("scopes", &scopes);
    json.values_member("details", &details);
    json.number_member("issued_at", grant.issued_at.0);
    json.number_member("expires_at", grant.expires_at.0);
    json.flag_member("cut", cut_scopes || cut_details);
    json.strings_member("masked", &masked);
    json.close('}');
    json.text
}

fn told_scopes(grant: &Grant, masks: &Masks) -> Vec<String> {
    let scopes = grant.scopes.iter().filter(|scope| scope.len() <= MAX_SCOPE);
    let scopes = scopes.filter_map(|scope| masks.apply("scopes", scope));
    scopes.map(Cow::into_owned).collect()
}

/// A detail that may not be told is left out, or is a string: the hash of its JSON.
fn told_details(grant: &Grant, masks: &Masks) -> Vec<Value> {
    match masks.of("details") {
        None => details(grant),
        Some(Mask::Hash) => details(grant).iter().map(|detail| masks.hash(&detail.to_string()).into()).collect(),
        Some(Mask::Remove) => Vec::new(),
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
