//! Compiles `keys` of an issuer or a transmitter.

use crate::config::checks;
use crate::config::model::KeysConfig;
use crate::config::problem::Problem;
use crate::config::problem::Problems;
use crate::jose::algorithm::Algorithm;
use crate::jose::key::KeySet;
use crate::jose::pem;
use crate::keys::key_url::KeyUrl;
use crate::keys::keyring::{Authorization, Discovery, Keyring, Source};
use crate::time::Span;
use serde_json::{Value, json};

/// The longest `timeout` of a fetch. The lease of a fetch is slightly longer.
const LONGEST_TIMEOUT: Span = Span(60);

/// The longest `wait`: clients and other proxies give up earlier.
const LONGEST_WAIT: Span = Span(60);

/// The longest `keep` and `refresh`: keys that were not confirmed for longer are not trusted.
const LONGEST_KEEP: Span = Span::hours(24 * 28);

/// The greatest length of `path`, in bytes.
const MAX_PATH: usize = 4096;

/// Compiles `config`, at `path`, for the issuer or transmitter `owner`.
pub(in crate::config) fn keyring(
    config: &KeysConfig,
    owner: &str,
    algorithms: &[Algorithm],
    path: &str,
    problems: &mut Problems,
) -> Keyring {
    if config.kid.is_some() && config.pem.is_none() {
        let problem = Problem::at(format!("{path}.kid"), "applies only to the key in `pem`");
        problems.errors.push(problem.help("remove it: the keys of a JWK Set have a `kid` of their own"));
    }
    match (&config.inline, &config.pem, &config.cluster) {
        (Some(jwks), None, None) => {
            only_for_fetched(config, "inline", path, problems);
            Keyring::inline(inline(&jwks.0, algorithms, path, problems))
        }
        (None, Some(pem), None) => {
            only_for_fetched(config, "pem", path, problems);
            Keyring::inline(key_of_pem(pem, config.kid.as_deref(), algorithms, path, problems))
        }
        (None, None, Some(cluster)) => match source(config, cluster, owner, path, problems) {
            Some(source) => Keyring::fetched(source, algorithms.to_vec()),
            None => Keyring::default(),
        },
        (None, None, None) => {
            let problem = Problem::at(path, "has none of `inline`, `pem` and `cluster`");
            problems.errors.push(problem.help(
                "write a JWK Set in `inline`, or a public key in `pem`, or write in `cluster` and `path` where to fetch a JWK Set",
            ));
            Keyring::default()
        }
        (inline, pem, cluster) => {
            let given = [("inline", inline.is_some()), ("pem", pem.is_some()), ("cluster", cluster.is_some())];
            let given: Vec<&str> = given.into_iter().filter(|(_, given)| *given).map(|(name, _)| name).collect();
            let problem = Problem::at(path, format!("has `{}`, and only one of them can be", given.join("` and `")));
            problems.errors.push(
                problem.help(
                    "keep `inline` or `pem` for keys that are written here, or `cluster` for keys that are fetched",
                ),
            );
            Keyring::default()
        }
    }
}

/// Compiles the key `pem`, named `kid`, of the keys at `path`.
fn key_of_pem(pem: &str, kid: Option<&str>, algorithms: &[Algorithm], path: &str, problems: &mut Problems) -> KeySet {
    if kid == Some("") {
        problems.error(format!("{path}.kid"), "must not be empty");
        return KeySet::default();
    }
    let path = format!("{path}.pem");
    let keys = pem::to_jwk(pem, kid).map_err(|error| error.to_string()).and_then(|jwk| {
        let (keys, bad) = KeySet::from_jwks(&json!({"keys": [jwk]}), algorithms).map_err(|error| error.to_string())?;
        bad.first().map_or(Ok(keys), |(_, error)| Err(error.to_string()))
    });
    keys.unwrap_or_else(|message| {
        problems.error(path, message);
        KeySet::default()
    })
}

/// Compiles the JWK Set `inline` of the keys at `path`.
pub(in crate::config) fn inline(jwks: &Value, algorithms: &[Algorithm], path: &str, problems: &mut Problems) -> KeySet {
    let path = format!("{path}.inline");
    match KeySet::from_jwks(jwks, algorithms) {
        Ok((keys, bad)) => {
            for (at, error) in &bad {
                let problem = Problem::at(format!("{path}.keys[{at}]"), error.to_string());
                // Issuers also publish keys for other uses than signatures.
                match error.is_for_other_use() && !keys.is_empty() {
                    true => problems.warnings.push(problem.help("this key is ignored")),
                    false => problems.errors.push(problem),
                }
            }
            if keys.is_empty() && bad.is_empty() {
                problems.error(format!("{path}.keys"), "must have at least one key");
            }
            keys
        }
        Err(error) => {
            problems.error(path, error.to_string());
            KeySet::default()
        }
    }
}

/// Reports settings that apply only to fetched keys beside keys that are written in `own`.
fn only_for_fetched(config: &KeysConfig, own: &str, path: &str, problems: &mut Problems) {
    let KeysConfig { inline: _, pem: _, kid: _, cluster: _, path: at, host, .. } = config;
    let KeysConfig { discover, jwks_host, jwks_cluster, authorization, authorization_file, .. } = config;
    let KeysConfig { refresh, timeout, wait, keep, refetch, .. } = config;
    let given = [
        ("path", at.is_some()),
        ("host", host.is_some()),
        ("discover", *discover),
        ("jwks_host", jwks_host.is_some()),
        ("jwks_cluster", jwks_cluster.is_some()),
        ("authorization", authorization.is_some()),
        ("authorization_file", authorization_file.is_some()),
        ("refresh", refresh.is_some()),
        ("timeout", timeout.is_some()),
        ("wait", wait.is_some()),
        ("keep", keep.is_some()),
        ("refetch", refetch.is_some()),
    ];
    for (name, _) in given.into_iter().filter(|(_, given)| *given) {
        let message = format!("applies only to keys that are fetched, and these keys are written in `{own}`");
        let problem = Problem::at(format!("{path}.{name}"), message);
        problems.errors.push(problem.help(format!("remove it, or replace `{own}` by `cluster` and `path`")));
    }
}

/// Where and when the keys are fetched; `None` if that is not said.
fn source(config: &KeysConfig, cluster: &str, owner: &str, path: &str, problems: &mut Problems) -> Option<Source> {
    if cluster.is_empty() {
        problems.error(format!("{path}.cluster"), "must not be empty");
    }
    if let Some(at) = &config.path
        && (!at.starts_with('/') || !visible(at) || at.contains('#') || at.len() > MAX_PATH)
    {
        let problem = Problem::at(format!("{path}.path"), format!("`{at}` is not a path such as `/jwks.json`"));
        problems.errors.push(
            problem.help("a path begins with `/`, and characters other than printable ASCII are percent-encoded"),
        );
    }
    let host = config.host.clone().or_else(|| host_of(owner)).unwrap_or_else(|| cluster.to_owned());
    check_host(&host, &format!("{path}.host"), problems);
    let (first, second, keys_at) = match config.discover {
        true => {
            let (first, second) = metadata_paths(config, owner, path, problems)?;
            (first, second, Some(keys_location(config, cluster, &host, path, problems)))
        }
        false => (set_path(config, path, problems)?, None, None),
    };
    let discovery = keys_at.map(|(keys_cluster, keys_host)| Discovery {
        issuer: owner.to_owned(),
        second_path: second,
        keys_cluster,
        keys_host,
    });
    let authorization = authorization(config, path, problems);
    let refresh = config.refresh.unwrap_or(Span::minutes(5));
    let keep = config.keep.unwrap_or(Span::hours(24));
    let mut span = |name: &str, span: Span, shortest: Span, longest: Span| {
        if span < shortest || span > longest {
            problems.error(format!("{path}.{name}"), format!("must be between {shortest} and {longest}"));
        }
        span
    };
    let source = Source {
        cluster: cluster.to_owned(),
        host,
        path: first,
        discovery,
        authorization,
        refresh: span("refresh", refresh, Span(1), LONGEST_KEEP),
        timeout: span("timeout", config.timeout.unwrap_or(Span(5)), Span(1), LONGEST_TIMEOUT),
        wait: span("wait", config.wait.unwrap_or(Span(2)), Span(0), LONGEST_WAIT),
        keep: span("keep", keep, Span(1), LONGEST_KEEP),
        refetch: span("refetch", config.refetch.unwrap_or(Span(10)), Span(1), Span::hours(24)),
    };
    if keep <= refresh {
        let message = format!("must be longer than `refresh` ({refresh}), or keys expire before the next fetch");
        problems.error(format!("{path}.keep"), message);
    }
    Some(source)
}

/// The path of the set, which must be there without `discover`.
fn set_path(config: &KeysConfig, path: &str, problems: &mut Problems) -> Option<String> {
    for (name, given) in [("jwks_host", &config.jwks_host), ("jwks_cluster", &config.jwks_cluster)] {
        if given.is_some() {
            let problem = Problem::at(format!("{path}.{name}"), "applies only to keys that are found with `discover`");
            problems.errors.push(problem.help("remove it, or replace `path` by `discover: true`"));
        }
    }
    if config.path.is_none() {
        let problem =
            Problem::at(format!("{path}.path"), "is missing: write the path at which the cluster serves the JWK Set");
        problems.errors.push(problem.help(
            "for example `/.well-known/jwks.json`; it is the path of `jwks_uri` in the issuer's metadata, which `discover: true` looks up",
        ));
    }
    config.path.clone()
}

/// The paths of the metadata of the issuer `owner`: that of OpenID Connect Discovery 1.0 §4 and that of RFC 8414 §3, or the
/// one that is configured.
fn metadata_paths(
    config: &KeysConfig,
    owner: &str,
    path: &str,
    problems: &mut Problems,
) -> Option<(String, Option<String>)> {
    if let Some(path) = &config.path {
        return Some((path.clone(), None));
    }
    let Some(url) = KeyUrl::parse(owner).filter(|url| !url.path.contains('?')) else {
        let message = format!("the issuer `{owner}` is not an https URL, so it has no well-known paths");
        let problem = Problem::at(format!("{path}.discover"), message);
        problems.errors.push(problem.help("write the path of its metadata in `path`"));
        return None;
    };
    let tenant = url.path.trim_end_matches('/');
    Some((
        format!("{tenant}/.well-known/openid-configuration"),
        Some(format!("/.well-known/oauth-authorization-server{tenant}")),
    ))
}

/// Cluster and host of the set that the metadata may name.
fn keys_location(
    config: &KeysConfig,
    cluster: &str,
    host: &str,
    path: &str,
    problems: &mut Problems,
) -> (String, String) {
    if let Some(host) = &config.jwks_host {
        check_host(host, &format!("{path}.jwks_host"), problems);
    }
    match (&config.jwks_cluster, &config.jwks_host) {
        (Some(_), None) => {
            let problem = Problem::at(
                format!("{path}.jwks_cluster"),
                "is given without `jwks_host`, so nothing says at which host the keys may be",
            );
            problems.errors.push(problem.help("write the host of `jwks_uri` in the issuer's metadata"));
        }
        (Some(name), Some(_)) if name.is_empty() => problems.error(format!("{path}.jwks_cluster"), "must not be empty"),
        _ => {}
    }
    (
        config.jwks_cluster.clone().unwrap_or_else(|| cluster.to_owned()),
        config.jwks_host.clone().unwrap_or_else(|| host.to_owned()),
    )
}

/// What the requests to the cluster carry.
fn authorization(config: &KeysConfig, path: &str, problems: &mut Problems) -> Option<Authorization> {
    match (&config.authorization, &config.authorization_file) {
        (None, None) => None,
        (Some(_), Some(_)) => {
            let message = "is given beside `authorization`, and there is only one such header";
            problems.errors.push(Problem::at(format!("{path}.authorization_file"), message).help("keep one of them"));
            None
        }
        (Some(value), None) => {
            if !checks::is_header_value(value) {
                let problem = Problem::at(format!("{path}.authorization"), "is not the value of a header");
                problems.errors.push(problem.help("write printable ASCII, such as `Bearer` and a token"));
            }
            Some(Authorization::Value(value.clone()))
        }
        (None, Some(file)) => {
            if !file.starts_with('/') {
                let problem = Problem::at(format!("{path}.authorization_file"), "is not an absolute path");
                problems.errors.push(problem.help("write the whole path, such as `/run/secrets/key-server-token`"));
            }
            Some(Authorization::File(file.clone()))
        }
    }
}

/// Whether `text` may be a part of a request's target or authority.
pub(super) fn visible(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Checks the host at `path`, which is sent as `:authority`.
pub(super) fn check_host(host: &str, path: &str, problems: &mut Problems) {
    if host.is_empty() || !visible(host) || host.contains(['/', '?', '#', '@']) {
        problems.error(path, format!("`{host}` is not a host such as `jit.example` or `jit.example:8443`"));
    }
}

/// The host of an https URL, with its port.
fn host_of(url: &str) -> Option<String> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"))?;
    let host = rest.split(['/', '?', '#']).next().filter(|host| !host.is_empty())?;
    Some(host.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use crate::config::load::{load, load_feed};
    use crate::keys::keyring::{Authorization, Discovery, Source};
    use crate::testing::fixture;
    use crate::time::Span;
    use serde_json::{Value, json};

    fn config(keys: Value) -> Vec<u8> {
        config_of("https://jit.example/tenant", keys)
    }

    fn config_of(issuer: &str, keys: Value) -> Vec<u8> {
        let issuer = json!({"issuer": issuer, "audiences": ["a"], "keys": keys});
        json!({"issuers": [issuer], "rules": [{"name": "r", "match": {}, "deny": true}]}).to_string().into_bytes()
    }

    fn source(issuer: &str, keys: Value) -> Source {
        let loaded = load(&config_of(issuer, keys)).unwrap();
        loaded.policy.issuers()[0].keys.source().unwrap().clone()
    }

    #[test]
    fn what_is_left_out_has_a_default() {
        let short = json!({"cluster": "jit", "path": "/jwks.json"});
        let expected = Source {
            cluster: "jit".to_owned(),
            host: "jit.example".to_owned(),
            path: "/jwks.json".to_owned(),
            discovery: None,
            authorization: None,
            refresh: Span::minutes(5),
            timeout: Span(5),
            wait: Span(2),
            keep: Span::hours(24),
            refetch: Span(10),
        };
        assert_eq!(source("https://jit.example/tenant", short.clone()), expected);
        assert_eq!(source("https://JIT.example:8443", short.clone()).host, "jit.example:8443");
        assert_eq!(source("jit", short.clone()).host, "jit");
        let whole = json!({"cluster": "c", "path": "/a?b=c", "host": "keys", "refresh": "1h", "timeout": "1s", "wait": "0s", "keep": "2h", "refetch": "1m"});
        let expected = Source {
            cluster: "c".to_owned(),
            host: "keys".to_owned(),
            path: "/a?b=c".to_owned(),
            discovery: None,
            authorization: None,
            refresh: Span::hours(1),
            timeout: Span(1),
            wait: Span(0),
            keep: Span::hours(2),
            refetch: Span(60),
        };
        assert_eq!(source("https://jit.example", whole), expected);
    }

    const P521: &str = include_str!("../testing/p521-public.pem");

    #[test]
    fn a_pem_is_one_key() {
        for (kid, name) in [(json!({}), None), (json!({"kid": "k"}), Some("k"))] {
            let mut keys = json!({ "pem": P521 });
            keys.as_object_mut().unwrap().extend(kid.as_object().unwrap().clone());
            let mut config: Value = serde_json::from_slice(&config(keys)).unwrap();
            config["issuers"][0]["algorithms"] = json!(["ES512"]);
            let loaded = load(config.to_string().as_bytes()).unwrap();
            let keys = loaded.policy.issuers()[0].keys.last();
            assert_eq!(keys.iter().map(|key| key.kid()).collect::<Vec<_>>(), [name]);
        }
    }

    #[test]
    fn where_metadata_and_keys_are() {
        let found = |issuer: &str, more: Value| {
            let mut keys = json!({"cluster": "jit", "discover": true});
            keys.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let Source { path, discovery, .. } = source(issuer, keys);
            let Discovery { issuer: of, second_path, keys_cluster, keys_host } = discovery.unwrap();
            assert_eq!(of, issuer);
            (path, second_path, format!("{keys_cluster} {keys_host}"))
        };
        let (openid, oauth) = ("/.well-known/openid-configuration", "/.well-known/oauth-authorization-server");
        for (issuer, tenant) in [
            ("https://jit.example", ""),
            ("https://jit.example/", ""),
            ("https://jit.example/t", "/t"),
            ("https://jit.example/a/b/", "/a/b"),
        ] {
            let paths = (format!("{tenant}{openid}"), Some(format!("{oauth}{tenant}")), "jit jit.example".to_owned());
            assert_eq!(found(issuer, json!({})), paths, "{issuer}");
        }
        let named = json!({"path": "/metadata", "jwks_host": "10.0.0.1:6443"});
        assert_eq!(found("kubernetes", named), ("/metadata".to_owned(), None, "jit 10.0.0.1:6443".to_owned()));
        let elsewhere = found("https://jit.example", json!({"jwks_host": "keys.example", "jwks_cluster": "keys"}));
        assert_eq!(elsewhere.2, "keys keys.example");
        for issuer in ["kubernetes", "https://jit.example/?a"] {
            let error = load(&config_of(issuer, json!({"cluster": "jit", "discover": true}))).unwrap_err().to_string();
            let message = format!("the issuer `{issuer}` is not an https URL, so it has no well-known paths");
            assert!(error.contains(&message), "{error}");
        }
    }

    #[test]
    fn a_secret_is_not_shown() {
        let source =
            source("https://jit.example", json!({"cluster": "jit", "path": "/", "authorization": "Bearer s3cret"}));
        assert_eq!(source.authorization, Some(Authorization::Value("Bearer s3cret".to_owned())));
        assert!(!format!("{source:?}").contains("s3cret"));
    }

    #[test]
    fn a_hub_reads_files() {
        let config = config(json!({"cluster": "jit", "path": "/", "authorization_file": "/run/token"}));
        let loaded = load_feed(&config).unwrap();
        let source = loaded.policy.issuers()[0].keys.source().unwrap().clone();
        assert_eq!(source.authorization, Some(Authorization::File("/run/token".to_owned())));
    }

    #[test]
    fn keys_for_other_uses_beside_a_good_one_are_warnings() {
        let of = |more: &[Value]| {
            let mut jwks = fixture::jwks();
            jwks["keys"].as_array_mut().unwrap().extend(more.iter().cloned());
            load(&config(json!({ "inline": jwks })))
        };
        let changed = |members: Value| {
            let mut key = fixture::jwks()["keys"][0].clone();
            key.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
            key
        };
        let others = [
            changed(json!({"kid": "a", "use": "enc"})),
            changed(json!({"kid": "b", "alg": "ECDH-ES"})),
            json!({"kid": "c", "kty": "OKP", "crv": "X25519", "x": "AA"}),
        ];
        let loaded = of(&others).unwrap();
        assert_eq!(loaded.policy.issuers()[0].keys.last().len(), 1);
        let warnings: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
        for expected in [
            "issuers[0].keys.inline.keys[1]: key `a` is not for signatures: its `use` is `enc` (this key is ignored)",
            "issuers[0].keys.inline.keys[2]: key `b` is for `ECDH-ES`, which is not one of the allowed algorithms (this key is ignored)",
            "issuers[0].keys.inline.keys[3]: key `c` is a key of the kind OKP X25519, for which no algorithm is allowed (this key is ignored)",
        ] {
            assert!(warnings.contains(&expected.to_owned()), "{expected}: {warnings:?}");
        }
        // What is broken or secret is an error beside good keys too.
        for bad in [changed(json!({"kid": "d", "d": "AAAA"})), changed(json!({"kid": "e", "x": "AA"})), json!(7)] {
            assert!(of(std::slice::from_ref(&bad)).is_err(), "{bad}");
        }
        // Where no key is left, nothing is a warning.
        let alone = load(&config(json!({"inline": {"keys": others}}))).unwrap_err();
        assert_eq!(alone.0.len(), 3, "{alone}");
    }

    #[test]
    fn each_message() {
        let at = |change: Value| {
            let mut keys = json!({"cluster": "jit", "path": "/jwks.json"});
            for (name, value) in change.as_object().unwrap() {
                match value {
                    Value::Null => keys.as_object_mut().unwrap().remove(name),
                    value => keys.as_object_mut().unwrap().insert(name.clone(), value.clone()),
                };
            }
            load(&config(keys)).unwrap_err().to_string()
        };
        let jwks = fixture::jwks();
        for (change, message) in [
            (
                json!({"inline": jwks}),
                "issuers[0].keys: has `inline` and `cluster`, and only one of them can be (keep `inline` or `pem` for keys that are written here, or `cluster` for keys that are fetched)",
            ),
            (
                json!({"cluster": null, "path": null}),
                "issuers[0].keys: has none of `inline`, `pem` and `cluster` (write a JWK Set in `inline`, or a public key in `pem`, or write in `cluster` and `path` where to fetch a JWK Set)",
            ),
            (
                json!({"path": null}),
                "issuers[0].keys.path: is missing: write the path at which the cluster serves the JWK Set (for example `/.well-known/jwks.json`; it is the path of `jwks_uri` in the issuer's metadata, which `discover: true` looks up)",
            ),
            (
                json!({"path": "jwks"}),
                "issuers[0].keys.path: `jwks` is not a path such as `/jwks.json` (a path begins with `/`, and characters other than printable ASCII are percent-encoded)",
            ),
            (
                json!({"host": "https://jit.example/"}),
                "issuers[0].keys.host: `https://jit.example/` is not a host such as `jit.example` or `jit.example:8443`",
            ),
            (json!({"cluster": ""}), "issuers[0].keys.cluster: must not be empty"),
            (json!({"timeout": "2m"}), "issuers[0].keys.timeout: must be between 1s and 1m"),
            (json!({"wait": "2m"}), "issuers[0].keys.wait: must be between 0s and 1m"),
            (json!({"refresh": "0s"}), "issuers[0].keys.refresh: must be between 1s and 28days"),
            (
                json!({"refresh": "1h", "keep": "1h"}),
                "issuers[0].keys.keep: must be longer than `refresh` (1h), or keys expire before the next fetch",
            ),
            (json!({"refresch": "1h"}), "issuers[0].keys.refresch: unknown key `refresch` (did you mean `refresh`?)"),
            (
                json!({"cluster": null, "inline": fixture::jwks(), "path": null, "wait": "1s"}),
                "issuers[0].keys.wait: applies only to keys that are fetched, and these keys are written in `inline` (remove it, or replace `inline` by `cluster` and `path`)",
            ),
            (
                json!({"cluster": null, "path": null, "pem": "x", "kid": "k"}),
                "issuers[0].keys.pem: not PEM: expected `-----BEGIN PUBLIC KEY-----` or `-----BEGIN CERTIFICATE-----`, base64 and the `END` line",
            ),
            (
                json!({"cluster": null, "path": null, "pem": P521}),
                "issuers[0].keys.pem: a key without `kid` is a key of the kind EC P-521, for which no algorithm is allowed",
            ),
            (json!({"cluster": null, "path": null, "pem": P521, "kid": ""}), "issuers[0].keys.kid: must not be empty"),
            (
                json!({"kid": "k"}),
                "issuers[0].keys.kid: applies only to the key in `pem` (remove it: the keys of a JWK Set have a `kid` of their own)",
            ),
            (
                json!({"jwks_host": "keys.example"}),
                "issuers[0].keys.jwks_host: applies only to keys that are found with `discover` (remove it, or replace `path` by `discover: true`)",
            ),
            (
                json!({"path": null, "discover": true, "jwks_cluster": "keys"}),
                "issuers[0].keys.jwks_cluster: is given without `jwks_host`, so nothing says at which host the keys may be (write the host of `jwks_uri` in the issuer's metadata)",
            ),
            (
                json!({"discover": true, "jwks_host": "https://keys"}),
                "issuers[0].keys.jwks_host: `https://keys` is not a host such as `jit.example` or `jit.example:8443`",
            ),
            (
                json!({"authorization": "Bearer a\n"}),
                "issuers[0].keys.authorization: is not the value of a header (write printable ASCII, such as `Bearer` and a token)",
            ),
            (
                json!({"authorization": "Bearer a", "authorization_file": "/a"}),
                "issuers[0].keys.authorization_file: is given beside `authorization`, and there is only one such header (keep one of them)",
            ),
            (
                json!({"authorization_file": "token"}),
                "issuers[0].keys.authorization_file: is not an absolute path (write the whole path, such as `/run/secrets/key-server-token`)",
            ),
            (
                json!({"authorization_file": "/run/token"}),
                "issuers[0].keys.authorization_file: a filter runs in a machine that can read no files (let Envoy inject the credential into the requests of the cluster: see the operations guide)",
            ),
        ] {
            assert_eq!(at(change.clone()), message, "{change}");
        }
    }
}
