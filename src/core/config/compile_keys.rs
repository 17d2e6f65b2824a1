//! Compiles `keys` of an issuer or a transmitter.

use crate::config::model::KeysConfig;
use crate::config::problem::Problem;
use crate::config::problem::Problems;
use crate::jose::algorithm::Algorithm;
use crate::jose::key::KeySet;
use crate::keys::keyring::{Keyring, Source};
use crate::time::Span;
use serde_json::Value;

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
    match (&config.inline, &config.cluster) {
        (Some(jwks), None) => {
            only_for_fetched(config, path, problems);
            Keyring::inline(inline(&jwks.0, algorithms, path, problems))
        }
        (None, Some(cluster)) => match source(config, cluster, owner, path, problems) {
            Some(source) => Keyring::fetched(source, algorithms.to_vec()),
            None => Keyring::default(),
        },
        (Some(_), Some(_)) => {
            let problem = Problem::at(path, "has both `inline` and `cluster`");
            problems.errors.push(
                problem.help("keep `inline` for keys that are written here, or `cluster` for keys that are fetched"),
            );
            Keyring::default()
        }
        (None, None) => {
            let problem = Problem::at(path, "has neither `inline` nor `cluster`");
            problems
                .errors
                .push(problem.help("write a JWK Set in `inline`, or write in `cluster` and `path` where to fetch it"));
            Keyring::default()
        }
    }
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

/// Reports settings that apply only to fetched keys beside `inline` keys.
fn only_for_fetched(config: &KeysConfig, path: &str, problems: &mut Problems) {
    let KeysConfig { inline: _, cluster: _, path: at, host, refresh, timeout, wait, keep, refetch } = config;
    let given = [
        ("path", at.is_some()),
        ("host", host.is_some()),
        ("refresh", refresh.is_some()),
        ("timeout", timeout.is_some()),
        ("wait", wait.is_some()),
        ("keep", keep.is_some()),
        ("refetch", refetch.is_some()),
    ];
    for (name, _) in given.into_iter().filter(|(_, given)| *given) {
        let problem =
            Problem::at(format!("{path}.{name}"), "applies only to keys that are fetched, and these keys are `inline`");
        problems.errors.push(problem.help("remove it, or replace `inline` by `cluster` and `path`"));
    }
}

/// Where and when the keys are fetched; `None` if `path` is missing.
fn source(config: &KeysConfig, cluster: &str, owner: &str, path: &str, problems: &mut Problems) -> Option<Source> {
    if cluster.is_empty() {
        problems.error(format!("{path}.cluster"), "must not be empty");
    }
    let Some(at) = &config.path else {
        let problem =
            Problem::at(format!("{path}.path"), "is missing: write the path at which the cluster serves the JWK Set");
        problems.errors.push(
            problem.help("for example `/.well-known/jwks.json`; it is the path of `jwks_uri` in the issuer's metadata"),
        );
        return None;
    };
    if !at.starts_with('/') || !visible(at) || at.contains('#') || at.len() > MAX_PATH {
        let problem = Problem::at(format!("{path}.path"), format!("`{at}` is not a path such as `/jwks.json`"));
        problems.errors.push(
            problem.help("a path begins with `/`, and characters other than printable ASCII are percent-encoded"),
        );
    }
    let host = config.host.clone().or_else(|| host_of(owner)).unwrap_or_else(|| cluster.to_owned());
    check_host(&host, path, problems);
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
        path: at.clone(),
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

/// Whether `text` may be a part of a request's target or authority.
pub(super) fn visible(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Checks the `host` at `path`, which is sent as `:authority`.
pub(super) fn check_host(host: &str, path: &str, problems: &mut Problems) {
    if host.is_empty() || !visible(host) || host.contains(['/', '?', '#', '@']) {
        let message = format!("`{host}` is not a host such as `jit.example` or `jit.example:8443`");
        problems.error(format!("{path}.host"), message);
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
    use crate::config::load::load;
    use crate::keys::keyring::Source;
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
            refresh: Span::hours(1),
            timeout: Span(1),
            wait: Span(0),
            keep: Span::hours(2),
            refetch: Span(60),
        };
        assert_eq!(source("https://jit.example", whole), expected);
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
                "issuers[0].keys: has both `inline` and `cluster` (keep `inline` for keys that are written here, or `cluster` for keys that are fetched)",
            ),
            (
                json!({"cluster": null, "path": null}),
                "issuers[0].keys: has neither `inline` nor `cluster` (write a JWK Set in `inline`, or write in `cluster` and `path` where to fetch it)",
            ),
            (
                json!({"path": null}),
                "issuers[0].keys.path: is missing: write the path at which the cluster serves the JWK Set (for example `/.well-known/jwks.json`; it is the path of `jwks_uri` in the issuer's metadata)",
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
                "issuers[0].keys.wait: applies only to keys that are fetched, and these keys are `inline` (remove it, or replace `inline` by `cluster` and `path`)",
            ),
        ] {
            assert_eq!(at(change.clone()), message, "{change}");
        }
    }
}
