//! Compiles `ssf` of a transmitter.

use crate::config::cluster;
use crate::config::problem::{Found, Problem};
use crate::config::ssf::{Client, Credentials, Delivery, ManagedStream, Proof, SecretMethod};
use crate::config::ssf_model::{CredentialsConfig, DeliveryConfig, MethodConfig, SsfConfig};
use reqwest::Url;
use serde_json::Value;
use std::time::Duration;
use taskfence_core::config::load;
use taskfence_core::policy::policy::Policy;
use taskfence_core::signal::event::Type;
use taskfence_core::signal::transmitter::Transmitter;
use taskfence_core::time::Span;

/// How often to ask for a verification, where silence of the transmitter makes the state stale.
const VERIFY: Span = Span(20);

/// The same where it does not.
const VERIFY_SELDOM: Span = Span::minutes(5);

/// How long a poll waits.
const WAIT: Span = Span(60);

/// The longest wait of a poll: something between closes what is silent for longer.
const LONGEST_WAIT: Span = Span::minutes(5);

/// Takes `ssf` out of each of `transmitters`, whose other keys are for the loader of the filter.
pub(super) fn take_out(transmitters: &mut Value) -> Vec<Option<Value>> {
    let all = transmitters.as_array_mut().into_iter().flatten();
    all.map(|one| one.as_object_mut().and_then(|members| members.remove("ssf"))).collect()
}

/// The streams of the feed that the hub manages. `taken` is `ssf` of each transmitter of `policy`, in order.
pub(super) fn streams(
    feed: &str,
    taken: &[Option<Value>],
    policy: &Policy,
    path: &str,
    found: &mut Found,
) -> Vec<ManagedStream> {
    let mut streams = Vec::new();
    for (at, (config, transmitter)) in taken.iter().zip(policy.signals().transmitters()).enumerate() {
        let Some(config) = config else { continue };
        let path = format!("{path}.signals.transmitters[{at}].ssf");
        match load::parse::<SsfConfig>(config.to_string().as_bytes(), "`ssf`") {
            Ok(config) => streams.extend(stream(feed, config, transmitter, &path, found)),
            Err(problem) => {
                let path = if problem.path.is_empty() { path } else { format!("{path}.{}", problem.path) };
                found.errors.push(Problem { path, ..problem });
            }
        }
    }
    streams
}

fn stream(
    feed: &str,
    config: SsfConfig,
    transmitter: &Transmitter,
    path: &str,
    found: &mut Found,
) -> Option<ManagedStream> {
    if transmitter.authorization.is_some() {
        let path = format!("{}.authorization", path.trim_end_matches(".ssf"));
        found.error(path, "cannot stand beside `ssf`: the hub makes the secret of a push by itself", "remove it");
    }
    if transmitter.permissions.verification_state.is_some() {
        let path = format!("{}.verification_state", path.trim_end_matches(".ssf"));
        found.error(path, "cannot stand beside `ssf`: the hub makes a new state for each verification", "remove it");
    }
    let url = config.url.as_deref().unwrap_or(&transmitter.name);
    let url = https(url, &format!("{path}.url"), "the issuer URL of the transmitter", found);
    let delivery = delivery(&config, feed, path, found);
    let credentials = credentials(&config.credentials, &format!("{path}.credentials"), found);
    let events = match &config.events {
        None => transmitter.permissions.effective_uris(),
        Some(names) => names.iter().enumerate().filter_map(|(at, name)| event(name, at, path, found)).collect(),
    };
    if events.is_empty() {
        found.error(format!("{path}.events"), "no event is left to ask for", "name at least one event");
    }
    let usual = if transmitter.permissions.heartbeat { VERIFY } else { VERIFY_SELDOM };
    let verify = config.verify.unwrap_or(usual);
    if verify == Span(0) {
        found.errors.push(Problem::at(format!("{path}.verify"), "must be at least 1s"));
    }
    Some(ManagedStream {
        feed: feed.to_owned(),
        name: transmitter.stream.clone(),
        issuer: transmitter.name.clone(),
        audiences: transmitter.audiences.clone(),
        url: url?,
        delivery: delivery?,
        credentials: credentials?,
        events,
        adopted: config.stream_id,
        verify: Duration::from_secs(verify.0),
    })
}

fn delivery(config: &SsfConfig, feed: &str, path: &str, found: &mut Found) -> Option<Delivery> {
    let endpoint_path = format!("{path}.endpoint");
    match (config.delivery, &config.endpoint) {
        (DeliveryConfig::Poll, None) => {
            let wait = config.wait.unwrap_or(WAIT);
            if wait == Span(0) || wait > LONGEST_WAIT {
                found
                    .errors
                    .push(Problem::at(format!("{path}.wait"), format!("must be between 1s and {LONGEST_WAIT}")));
            }
            Some(Delivery::Poll { wait: Duration::from_secs(wait.0) })
        }
        (DeliveryConfig::Poll, Some(_)) => {
            found.error(endpoint_path, "belongs to `delivery: push` only", "remove it, or write `delivery: push`");
            None
        }
        (DeliveryConfig::Push, None) => {
            let help = format!(
                "write the URL at which the transmitter reaches this hub: `https://HOST/v1/feeds/{feed}/signals`"
            );
            found.error(endpoint_path, "is missing", help);
            None
        }
        (DeliveryConfig::Push, Some(endpoint)) => {
            if config.wait.is_some() {
                found.error(format!("{path}.wait"), "belongs to `delivery: poll` only", "remove it");
            }
            let url = https(endpoint, &endpoint_path, "the URL of this hub", found)?;
            let own = format!("/v1/feeds/{feed}/signals");
            if !url.path().ends_with(&own) {
                let help = format!("write a URL that ends with `{own}`");
                found.error(endpoint_path, "does not lead to this feed", help);
            }
            Some(Delivery::Push { endpoint: url })
        }
    }
}

fn credentials(config: &CredentialsConfig, path: &str, found: &mut Found) -> Option<Credentials> {
    let of_client = [
        ("client_id", config.client_id.is_some()),
        ("client_secret_file", config.client_secret_file.is_some()),
        ("key_file", config.key_file.is_some()),
        ("key_id", config.key_id.is_some()),
        ("token_endpoint", config.token_endpoint.is_some()),
        ("method", config.method.is_some()),
    ];
    if let Some(file) = &config.token_file {
        if let Some((name, _)) = of_client.iter().find(|(_, is_there)| *is_there) {
            let help = format!("remove `token_file`, or `{name}` and the other keys of an OAuth client");
            found.error(format!("{path}.{name}"), "cannot stand beside `token_file`", help);
        }
        return Some(Credentials::Token(file.clone()));
    }
    let Some(id) = config.client_id.clone() else {
        let help = "write `token_file` with a bearer token, or `client_id` with `client_secret_file` or `key_file`";
        found.error(path, "does not say how the hub authenticates", help);
        return None;
    };
    let proof = match (&config.client_secret_file, &config.key_file, config.method) {
        (Some(_), Some(_), _) => Err(("key_file", "cannot stand beside `client_secret_file`", "remove one of them")),
        (None, None, _) => Err(("client_id", "has neither `client_secret_file` nor `key_file`", "add one of them")),
        (Some(_), None, Some(MethodConfig::PrivateKeyJwt)) => {
            Err(("method", "`private_key_jwt` needs `key_file`", "add `key_file`, or remove `method`"))
        }
        (Some(file), None, method) => Ok(Proof::Secret(file.clone(), method.and_then(secret_method))),
        (None, Some(file), None | Some(MethodConfig::PrivateKeyJwt)) => {
            Ok(Proof::Key(file.clone(), config.key_id.clone()))
        }
        (None, Some(_), Some(_)) => {
            Err(("method", "needs `client_secret_file`", "add `client_secret_file`, or remove `method`"))
        }
    };
    let proof = match proof {
        Ok(proof) => proof,
        Err((key, message, help)) => {
            found.error(format!("{path}.{key}"), message, help);
            return None;
        }
    };
    let token_endpoint = match &config.token_endpoint {
        Some(text) => Some(https(text, &format!("{path}.token_endpoint"), "the token endpoint", found)?),
        None => None,
    };
    Some(Credentials::Client(Client { id, proof, token_endpoint }))
}

fn secret_method(method: MethodConfig) -> Option<SecretMethod> {
    match method {
        MethodConfig::ClientSecretBasic => Some(SecretMethod::Basic),
        MethodConfig::ClientSecretPost => Some(SecretMethod::Post),
        MethodConfig::ClientSecretJwt => Some(SecretMethod::Jwt),
        MethodConfig::PrivateKeyJwt => None,
    }
}

/// The URI of an event that is named by its URI or by its last part.
fn event(name: &str, at: usize, path: &str, found: &mut Found) -> Option<String> {
    if name.contains(':') {
        return Some(name.to_owned());
    }
    let known = Type::from_name(name);
    if known.is_none() {
        let problem = Problem::at(format!("{path}.events[{at}]"), format!("unknown event `{name}`"));
        let help = crate::config::problem::known(name, Type::ALL.map(Type::name)).unwrap_or_default();
        found.errors.push(problem.help(help));
    }
    known.map(Type::uri)
}

/// A URL with TLS, or of this machine.
fn https(text: &str, path: &str, what: &str, found: &mut Found) -> Option<Url> {
    let read = Url::parse(text).ok().filter(|url| url.host_str().is_some_and(|host| !host.is_empty()));
    let bad = match &read {
        None => "is not a URL",
        Some(url) if !cluster::is_safe(url) => "has no TLS: tokens and signals would be readable",
        Some(url) if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() => {
            "has a user or a fragment"
        }
        Some(_) => return read,
    };
    found.error(path, format!("`{text}` {bad}"), format!("write {what}, beginning with `https://`"));
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::compile::compile;
    use serde_json::json;

    fn config(ssf: Value, change: impl FnOnce(&mut Value)) -> Value {
        let keys = json!({"inline": {"keys": [{
            "kty": "EC", "crv": "P-256", "kid": "1",
            "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4", "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"
        }]}});
        let mut transmitter = json!({"issuer": "https://idp.example", "audience": "hub", "keys": keys,
            "subjects": ["https://jit.example"], "ssf": ssf});
        change(&mut transmitter);
        json!({"data": "/var/lib/taskfence", "feeds": [{
            "name": "main",
            "issuers": [{"issuer": "https://jit.example", "audiences": ["orders"], "keys": keys}],
            "signals": {"transmitters": [transmitter]}
        }]})
    }

    fn compiled(ssf: Value, change: impl FnOnce(&mut Value)) -> Result<ManagedStream, Vec<String>> {
        let config = config(ssf, change);
        let hub = compile(config.to_string().as_bytes());
        let hub = hub.map_err(|problems| problems.0.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        Ok(hub.feeds[0].streams[0].clone())
    }

    #[test]
    fn a_short_entry_means_a_polled_stream_of_all_that_has_an_effect() {
        let stream = compiled(json!({"credentials": {"token_file": "/t"}}), |_| {}).unwrap();
        assert_eq!(stream.url.as_str(), "https://idp.example/");
        assert_eq!(stream.delivery, Delivery::Poll { wait: Duration::from_secs(60) });
        assert_eq!(stream.credentials, Credentials::Token("/t".into()));
        assert_eq!(
            (stream.verify, stream.key().as_str()),
            (Duration::from_secs(20), "ssf/main/https://idp.example hub")
        );
        assert!(stream.events.iter().any(|uri| uri.ends_with("/session-revoked")), "{:?}", stream.events);
        let seldom = compiled(json!({"credentials": {"token_file": "/t"}}), |one| one["heartbeat"] = json!(false));
        assert_eq!(seldom.unwrap().verify, Duration::from_secs(300));
    }

    #[test]
    fn a_push_and_an_oauth_client() {
        let ssf = json!({
            "url": "https://api.idp.example/t1", "delivery": "push", "events": ["session-revoked", "urn:idp:x"],
            "endpoint": "https://hub.example/v1/feeds/main/signals", "verify": "1m",
            "credentials": {"client_id": "hub", "key_file": "/k.pem", "key_id": "1", "token_endpoint": "https://as.example/t"}
        });
        let stream = compiled(ssf, |_| {}).unwrap();
        assert!(matches!(stream.delivery, Delivery::Push { .. }));
        assert_eq!(stream.events, [Type::SessionRevoked.uri(), "urn:idp:x".to_owned()]);
        let Credentials::Client(client) = stream.credentials else { panic!() };
        assert_eq!(client.proof, Proof::Key("/k.pem".into(), Some("1".to_owned())));
    }

    #[test]
    fn each_message_names_place_and_remedy() {
        let token = json!({"token_file": "/t"});
        let at = "feeds[0].signals.transmitters[0].ssf";
        for (ssf, message) in [
            (json!({}), format!("{at}: missing key `credentials`")),
            (
                json!({"credentials": {}}),
                format!(
                    "{at}.credentials: does not say how the hub authenticates (write `token_file` with a bearer token, or `client_id` with `client_secret_file` or `key_file`)"
                ),
            ),
            (
                json!({"credentials": {"client_id": "a"}}),
                format!(
                    "{at}.credentials.client_id: has neither `client_secret_file` nor `key_file` (add one of them)"
                ),
            ),
            (
                json!({"credentials": {"token_file": "/t", "client_id": "a"}}),
                format!(
                    "{at}.credentials.client_id: cannot stand beside `token_file` (remove `token_file`, or `client_id` and the other keys of an OAuth client)"
                ),
            ),
            (
                json!({"credentials": {"client_id": "a", "client_secret_file": "/s", "method": "private_key_jwt"}}),
                format!(
                    "{at}.credentials.method: `private_key_jwt` needs `key_file` (add `key_file`, or remove `method`)"
                ),
            ),
            (
                json!({"credentials": token, "url": "http://idp.example"}),
                format!(
                    "{at}.url: `http://idp.example` has no TLS: tokens and signals would be readable (write the issuer URL of the transmitter, beginning with `https://`)"
                ),
            ),
            (
                json!({"credentials": token, "delivery": "push"}),
                format!(
                    "{at}.endpoint: is missing (write the URL at which the transmitter reaches this hub: `https://HOST/v1/feeds/main/signals`)"
                ),
            ),
            (
                json!({"credentials": token, "delivery": "push", "endpoint": "https://hub.example/v1/feeds/other/signals"}),
                format!(
                    "{at}.endpoint: does not lead to this feed (write a URL that ends with `/v1/feeds/main/signals`)"
                ),
            ),
            (
                json!({"credentials": token, "endpoint": "https://hub.example/"}),
                format!("{at}.endpoint: belongs to `delivery: push` only (remove it, or write `delivery: push`)"),
            ),
            (
                json!({"credentials": token, "events": ["session-revoke"]}),
                format!("{at}.events[0]: unknown event `session-revoke` (did you mean `session-revoked`?)"),
            ),
            (json!({"credentials": token, "wait": "1h"}), format!("{at}.wait: must be between 1s and 5m")),
            (json!({"credentials": token, "verify": "0s"}), format!("{at}.verify: must be at least 1s")),
            (json!({"credentials": token, "poll": true}), format!("{at}.poll: unknown key `poll`")),
        ] {
            let errors = compiled(ssf, |_| {}).expect_err(&message);
            assert!(errors.iter().any(|one| one.starts_with(&message)), "want {message}\nhave {errors:?}");
        }
        let both = compiled(json!({"credentials": {"token_file": "/t"}}), |one| {
            one["authorization"] = json!("Bearer x");
            one["verification_state"] = json!("x");
        });
        let errors = both.unwrap_err();
        assert!(
            errors[0].starts_with("feeds[0].signals.transmitters[0].authorization: cannot stand beside `ssf`"),
            "{errors:?}"
        );
        assert!(
            errors[1].starts_with("feeds[0].signals.transmitters[0].verification_state: cannot stand"),
            "{errors:?}"
        );
    }

    #[test]
    fn the_schema_knows_the_key() {
        let schema = crate::config::schema::schema().to_value();
        let valid = jsonschema::validator_for(&schema).unwrap();
        let good = config(json!({"credentials": {"token_file": "/t"}, "delivery": "poll", "verify": "20s"}), |_| {});
        assert!(
            valid.is_valid(&good),
            "{:?}",
            valid.iter_errors(&good).map(|error| error.to_string()).collect::<Vec<_>>()
        );
        assert!(!valid.is_valid(&config(json!({"credentials": {"token_file": "/t"}, "deliver": "poll"}), |_| {})));
    }
}
