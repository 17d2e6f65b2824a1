//! Compiles `issuers`: the entries, as they are written and as they are meant.

pub(crate) mod absences;
pub(crate) mod captures;
pub(crate) mod claims;
pub(crate) mod kinds;
pub mod profile;

use crate::config::checks::algorithms;
use crate::config::compile_keys;
use crate::config::compile_presentation;
use crate::config::compile_signals;
use crate::config::issuers::captures::Entry;
use crate::config::literal::{self, LoneWildcard};
use crate::config::model::{Config, IssuerFrom, SignalsConfig};
use crate::config::problem::{Problem, Problems};
use crate::http::credential_location::CredentialLocations;
use crate::jose::jws;
use crate::time::Span;
use crate::token::carriers::Carriers;
use crate::token::issuer::{Issuer, key_space};
use std::sync::Arc;

/// The longest `max_session` and `max_lifetime`. The state keeps signals for as long as sessions last, so it must be
/// bounded.
const MAX_SESSION: Span = Span::hours(24 * 366);

/// The word in `types` for tokens without `typ`.
const ABSENT: &str = "absent";

/// Compiles `entries`, which are those of `config`, one for each issuer.
pub(crate) fn issuers(
    config: &Config,
    entries: &[Entry],
    places: &mut CredentialLocations,
    problems: &mut Problems,
) -> Vec<Issuer> {
    if config.issuers.is_empty() {
        problems.error("issuers", "must have at least one entry");
    }
    let feed = config.signals.as_ref().and_then(SignalsConfig::feed);
    let mut issuers = Vec::new();
    for entry in entries {
        // Issuers of one entry have the same problems.
        let mut found = Problems::default();
        let issuer = issuer(entry, feed, places, &mut found);
        kinds::check(&issuers, &issuer, &entry.path, &mut found);
        problems.add_new(found);
        issuers.push(issuer);
    }
    issuers
}

fn issuer(entry: &Entry, feed: Option<&str>, places: &mut CredentialLocations, problems: &mut Problems) -> Issuer {
    let Entry { config, path, position } = entry;
    check_name(entry, problems);
    for (name, span) in [("max_lifetime", config.max_lifetime), ("max_session", config.max_session)] {
        if span == Span(0) || span > MAX_SESSION {
            problems.error(format!("{path}.{name}"), format!("must be between 1s and {MAX_SESSION}"));
        }
    }
    if config.clock_skew > Span::minutes(5) {
        problems.error(
            format!("{path}.clock_skew"),
            "must be at most 5m: an expired token is accepted for that much longer",
        );
    }
    let algorithms = algorithms(&config.algorithms, &format!("{path}.algorithms"), problems);
    let claims = claims::names(config, path, problems);
    let presentation = compile_presentation::presentation(config, path, places, problems);
    audiences(entry, claims.audience.is_none(), problems);
    Issuer {
        name: config.issuer.clone(),
        entry: *position,
        is_in_subject: config.issuer_from == IssuerFrom::Sub,
        key_space: key_space(feed, &config.issuer),
        audiences: config.audiences.clone(),
        keys: compile_keys::keyring(&config.keys, &config.issuer, &algorithms, &format!("{path}.keys"), problems),
        algorithms,
        types: types(entry, problems),
        accepts_untyped: config.types.iter().any(|name| name == ABSENT),
        max_lifetime: config.max_lifetime,
        max_session: config.max_session,
        clock_skew: config.clock_skew,
        carriers: Arc::new(Carriers::new(&claims)),
        required: claims::required(config, path, problems),
        claims,
        max_actors: compile_presentation::max_actors(config, path, problems),
        presentation,
        opaque_subject: config.claims.subjects.opaque.map(compile_signals::opaque_kind),
    }
}

fn check_name(entry: &Entry, problems: &mut Problems) {
    let Entry { config, path, .. } = entry;
    if config.issuer.is_empty() {
        problems.error(format!("{path}.issuer"), "must not be empty");
    }
    let whole_issuer = "write exactly the `iss` of its tokens, and add one entry per issuer";
    literal::check_wildcard(&config.issuer, LoneWildcard::Error, format!("{path}.issuer"), whole_issuer, problems);
    if config.issuer_from == IssuerFrom::Sub {
        let is_authority = config
            .issuer
            .split_once("://")
            .is_some_and(|(scheme, rest)| !scheme.is_empty() && !rest.is_empty() && !rest.contains(['/', '?', '#']));
        if !is_authority {
            let message =
                format!("`{}` is not a scheme and an authority, which `issuer_from: sub` compares", config.issuer);
            let problem = Problem::at(format!("{path}.issuer"), message);
            problems.errors.push(problem.help("write for example `spiffe://td.example`"));
        }
    }
}

fn audiences(entry: &Entry, has_none: bool, problems: &mut Problems) {
    let Entry { config, path, .. } = entry;
    let place = format!("{path}.audiences");
    match has_none {
        true if !config.audiences.is_empty() => {
            let problem = Problem::at(place, "has no effect beside `audience_from: none`");
            problems.errors.push(problem.help("remove one of them"));
        }
        true => {}
        false if config.audiences.is_empty() || config.audiences.iter().any(String::is_empty) => {
            problems.error(place, "must name at least one audience, and no audience may be empty");
        }
        false => {
            let help = "name each audience; a token for another service must not pass";
            literal::check_wildcards(&config.audiences, LoneWildcard::Error, &place, help, problems);
        }
    }
    if has_none && !config.binds() {
        let message = "is `none`, so a token for any other service is accepted from whoever holds it";
        let problem = Problem::at(format!("{path}.audience_from"), message);
        problems.errors.push(problem.help("require a `binding`, or name a `peer_claim`"));
    }
}

/// Media types in the form that is compared with `typ` of a token: without `application/` (RFC 7515 §4.1.9).
fn types(entry: &Entry, problems: &mut Problems) -> Vec<String> {
    const NOT_ACCESS_TOKENS: [&str; 6] =
        ["secevent+jwt", "dpop+jwt", "wpt+jwt", "statuslist+jwt", "logout+jwt", "token-introspection+jwt"];
    /// These are accepted, but not as bearer tokens: each has a header of its own.
    const OTHER_PLACE: [(&str, &str); 2] = [("txntoken+jwt", "txn-token"), ("wit+jwt", "workload-identity-token")];
    let path = format!("{}.types", entry.path);
    let names = &entry.config.types;
    if names.is_empty() {
        problems.error(&path, "must name at least one `typ`");
    }
    let media_types = "name each value of `typ`, such as `at+jwt`";
    literal::check_wildcards(names, LoneWildcard::Error, &path, media_types, problems);
    let mut types = Vec::new();
    for (at, name) in names.iter().enumerate().filter(|(_, name)| *name != ABSENT) {
        let typ = jws::short_type(name);
        if typ.is_empty() || !typ.bytes().all(|byte| byte.is_ascii_graphic()) {
            let problem = Problem::at(format!("{path}[{at}]"), format!("`{name}` is not a media type"));
            problems.errors.push(problem.help("write the value of `typ` in the tokens, such as `at+jwt`"));
        }
        if NOT_ACCESS_TOKENS.iter().any(|other| typ.eq_ignore_ascii_case(other)) {
            problems.error(format!("{path}[{at}]"), format!("`{name}` is not a type of access token"));
        }
        let special = OTHER_PLACE.iter().find(|(other, _)| typ.eq_ignore_ascii_case(other));
        if let Some((_, header)) = special.filter(|_| !entry.config.has_own_header()) {
            let message = format!("a token of type `{name}` must not stand in `authorization`");
            let problem = Problem::at(format!("{path}[{at}]"), message);
            problems.errors.push(problem.help(format!("write `token: {{header: {header}}}`")));
        }
        types.push(typ.to_owned());
    }
    types
}
