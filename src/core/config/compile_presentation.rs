//! Compiles the settings of an issuer about how its tokens must be presented.

use crate::config::checks;
use crate::config::issuers::claims;
use crate::config::literal::{self, LoneWildcard};
use crate::config::model::DpopConfig;
use crate::config::model::IssuerConfig;
use crate::config::model::TokenConfig;
use crate::config::problem::Problem;
use crate::config::problem::Problems;
use crate::http::credential_location::{CredentialLocation, CredentialLocations};
use crate::time::Span;
use crate::token::confirmation::Binding;
use crate::token::dpop::{self, Settings};
use crate::token::presentation::{PeerClaim, Presentation};

/// The longest `dpop.window`: a proof that is valid for longer is as dangerous as a token.
const MAX_WINDOW: Span = Span::minutes(10);

/// The longest `dpop.nonce`.
const MAX_NONCE: Span = Span::hours(1);

/// The greatest `max_actors`.
pub(crate) const MAX_ACTORS: usize = 32;

/// Compiles the settings of the issuer at `path`. Adds the location of its tokens to `places`.
pub(crate) fn presentation(
    config: &IssuerConfig,
    path: &str,
    places: &mut CredentialLocations,
    problems: &mut Problems,
) -> Presentation {
    let place = places.add(place(config.token.as_ref(), &format!("{path}.token"), problems));
    let default = DpopConfig::default();
    let dpop = self::dpop(config.dpop.as_ref().unwrap_or(&default), &format!("{path}.dpop"), problems);
    let speaks_dpop = matches!(config.binding, Binding::Dpop | Binding::Any);
    if speaks_dpop && dpop.origins.is_empty() {
        let message = "is missing, so a proof made for any other service is accepted: `htu` is compared with the host \
                       that the client sends";
        problems
            .warnings
            .push(Problem::at(format!("{path}.dpop.origins"), message).help("name the origins of this service"));
    }
    Presentation {
        place,
        binding: config.binding,
        dpop,
        announces_dpop: speaks_dpop || config.dpop.is_some(),
        peer_claim: config.peer_claim.as_deref().and_then(|name| peer_claim(name, path, problems)),
    }
}

fn peer_claim(name: &str, path: &str, problems: &mut Problems) -> Option<PeerClaim> {
    match PeerClaim::parse(name) {
        Ok(claim) if !literal::is_wildcard(name) => Some(claim),
        _ => {
            claims::path(name, &format!("{path}.peer_claim"), problems);
            None
        }
    }
}

/// The greatest number of parties in the chain of `act` of the issuer's tokens.
pub(crate) fn max_actors(config: &IssuerConfig, path: &str, problems: &mut Problems) -> usize {
    if config.max_actors > MAX_ACTORS {
        problems.error(format!("{path}.max_actors"), format!("must be at most {MAX_ACTORS}"));
    }
    config.max_actors
}

fn place(config: Option<&TokenConfig>, path: &str, problems: &mut Problems) -> CredentialLocation {
    match config {
        None => CredentialLocation::Authorization,
        Some(TokenConfig { header: Some(name), cookie: None }) if name == "authorization" => {
            CredentialLocation::Authorization
        }
        Some(TokenConfig { header: Some(name), cookie: None }) => {
            if let Err(problem) = checks::header_name(name) {
                problems.error(format!("{path}.header"), problem);
            } else if matches!(name.as_str(), "cookie" | "dpop") {
                problems.error(format!("{path}.header"), format!("`{name}` is reserved"));
            }
            CredentialLocation::Header(name.clone())
        }
        Some(TokenConfig { header: None, cookie: Some(name) }) => {
            // RFC 6265 §4.1.1: the name of a cookie is a token (RFC 9110 §5.6.2).
            let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
            if name.is_empty() || !name.bytes().all(letter) {
                problems.error(format!("{path}.cookie"), format!("`{}` is not a cookie name", name.escape_debug()));
            }
            CredentialLocation::Cookie(name.clone())
        }
        Some(_) => {
            let problem = Problem::at(path, "must have either `header` or `cookie`");
            problems.errors.push(problem.help("remove it to read the header `authorization`"));
            CredentialLocation::Authorization
        }
    }
}

fn dpop(config: &DpopConfig, path: &str, problems: &mut Problems) -> Settings {
    for (name, span, most) in [("window", Some(config.window), MAX_WINDOW), ("nonce", config.nonce, MAX_NONCE)] {
        if span.is_some_and(|span| span == Span(0) || span > most) {
            problems.error(format!("{path}.{name}"), format!("must be between 1s and {most}"));
        }
    }
    if config.origins.as_ref().is_some_and(Vec::is_empty) {
        problems.error(format!("{path}.origins"), "is empty: remove it to use the host of the request");
    }
    let mut origins = Vec::new();
    for (at, text) in config.origins.iter().flatten().enumerate() {
        let help = "name each origin";
        literal::check_wildcard(text, LoneWildcard::Error, format!("{path}.origins[{at}]"), help, problems);
        match dpop::normalise(text).filter(|_| !text.contains(['?', '#'])).and_then(|uri| {
            let origin = uri.strip_suffix('/')?;
            // Only the two slashes after the scheme.
            (origin.matches('/').count() == 2).then(|| origin.to_owned())
        }) {
            Some(origin) => origins.push(origin),
            None => {
                let message = format!(
                    "`{text}` is not an origin, which is a scheme and an authority, such as `https://api.example`"
                );
                problems.error(format!("{path}.origins[{at}]"), message);
            }
        }
    }
    Settings {
        algorithms: checks::algorithms(&config.algorithms, &format!("{path}.algorithms"), problems),
        window: config.window,
        origins,
        nonce: config.nonce,
    }
}

#[cfg(test)]
mod tests {
    use crate::config::load::load;
    use crate::testing::fixture;
    use crate::token::presentation::PeerClaim;
    use serde_json::{Value, json};

    fn load_with(more: Value) -> Result<(crate::policy::policy::Policy, Vec<String>), Vec<String>> {
        let mut issuer = json!({"issuer": "i", "audiences": ["a"], "keys": {"inline": fixture::jwks()}});
        issuer.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let config = json!({
            "issuers": [issuer],
            "rules": [{"name": "r", "match": {}, "require": {}}],
            "signals": {"transmitters": [{"issuer": "i", "audience": "a", "keys": {"inline": fixture::jwks()}}]}
        });
        match load(config.to_string().as_bytes()) {
            Ok(loaded) => Ok((loaded.policy, loaded.warnings.iter().map(ToString::to_string).collect())),
            Err(errors) => Err(errors.0.iter().map(ToString::to_string).collect()),
        }
    }

    #[test]
    fn what_it_means() {
        let (policy, warnings) = load_with(json!({
            "token": {"cookie": "__Host-jit"},
            "binding": "any",
            "peer_claim": "act.sub",
            "max_actors": 2,
            "dpop": {"origins": ["HTTPS://API.example:443"], "nonce": "5m", "algorithms": ["EdDSA"]}
        }))
        .unwrap();
        assert!(warnings.is_empty(), "{warnings:?}");
        let issuer = &policy.issuers()[0];
        assert_eq!(issuer.presentation.dpop.origins, ["https://api.example"]);
        assert_eq!(issuer.presentation.peer_claim, Some(PeerClaim::Actor));
        assert_eq!(issuer.max_actors, 2);
        assert!(policy.places().cookie(b"__Host-jit").is_some() && policy.places().authorization().is_none());
    }

    #[test]
    fn each_message() {
        for (more, message) in [
            (
                json!({"token": {}}),
                "issuers[0].token: must have either `header` or `cookie` (remove it to read the header `authorization`)",
            ),
            (
                json!({"token": {"header": "a", "cookie": "b"}}),
                "issuers[0].token: must have either `header` or `cookie` (remove it to read the header `authorization`)",
            ),
            (json!({"token": {"header": "X-Jit"}}), "issuers[0].token.header: `X-Jit` is not a lower-case header name"),
            (json!({"token": {"header": "cookie"}}), "issuers[0].token.header: `cookie` is reserved"),
            (json!({"token": {"header": "host"}}), "issuers[0].token.header: `host` is reserved"),
            (json!({"token": {"cookie": "a;b"}}), "issuers[0].token.cookie: `a;b` is not a cookie name"),
            (json!({"dpop": {"window": "1h"}}), "issuers[0].dpop.window: must be between 1s and 10m"),
            (json!({"dpop": {"nonce": "0s"}}), "issuers[0].dpop.nonce: must be between 1s and 1h"),
            (
                json!({"dpop": {"origins": ["https://api.example/v1"]}}),
                "issuers[0].dpop.origins[0]: `https://api.example/v1` is not an origin, which is a scheme and an authority, such as `https://api.example`",
            ),
            (
                json!({"dpop": {"origins": []}}),
                "issuers[0].dpop.origins: is empty: remove it to use the host of the request",
            ),
            (
                json!({"dpop": {"algorithms": ["HS256"]}}),
                "issuers[0].dpop.algorithms[0]: `HS256` is not a supported algorithm (did you mean `RS256`?)",
            ),
            (json!({"dpop": []}), "issuers[0].dpop: is a list, and must be an object"),
            (json!({"binding": "mlts"}), "issuers[0].binding: unknown value `mlts` (did you mean `mtls`?)"),
            (json!({"max_actors": 33}), "issuers[0].max_actors: must be at most 32"),
        ] {
            let errors = load_with(more.clone()).err().unwrap_or_default();
            assert!(errors.contains(&message.to_owned()), "{more}\n  want {message}\n  have {errors:?}");
        }
    }

    #[test]
    fn dpop_without_an_origin_is_worth_a_warning() {
        let (_, warnings) = load_with(json!({"binding": "dpop"})).unwrap();
        assert!(warnings.iter().any(|warning| warning.starts_with("issuers[0].dpop.origins: ")), "{warnings:?}");
    }
}
