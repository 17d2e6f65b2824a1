//! From what was typed to what it means: every fault is found, not only the first.

use crate::authority::Host;
use crate::config::{Config, DetailConfig, IssuerConfig, KeysConfig, Loaded, RequireConfig, Role, RuleConfig};
use crate::config::{SignalsConfig, TransmitterConfig};
use crate::issuer::Issuer;
use crate::key::{Algorithm, KeySet};
use crate::path::Canonical;
use crate::policy::{Effect, Policy, Rule, Signals};
use crate::problem::{Errors, Problem, nearest};
use crate::requirement::{DetailRequirement, Pattern, Requirement};
use crate::routes::Routes;
use crate::signal::Transmitter;
use crate::template::Template;
use crate::time::Span;

/// A receiver keeps signals for as long as sessions last; beyond this the state would only grow.
const MAX_SESSION: Span = Span::hours(24 * 366);

/// Gives the configuration its meaning.
pub fn compile(config: &Config) -> Result<Loaded, Errors> {
    let mut problems = Problems::default();
    let issuers = issuers(&config.issuers, &mut problems);
    let (rules, templates): (Vec<_>, Vec<_>) =
        config.rules.iter().enumerate().map(|(at, rule)| self::rule(rule, at, &mut problems)).unzip();
    check_names(&config.rules, &mut problems);
    let routes = Routes::new(templates.iter().map(Option::as_ref));
    let signals = config.signals.as_ref().map(|signals| self::signals(signals, &config.issuers, &mut problems));
    match config.role {
        Role::Filter if config.rules.is_empty() => {
            problems.warnings.push(Problem::at("rules", "there is no rule, so every request is denied"));
        }
        Role::Receiver if signals.is_none() => {
            let problem = Problem::at("signals", "a receiver needs to know whose signals to take");
            problems.errors.push(problem.help("add `signals` with its `transmitters`"));
        }
        Role::Filter | Role::Receiver => {}
    }
    if config.signals.is_none() && config.role == Role::Filter {
        let problem = Problem::at("signals", "no signals are taken: a grant ends only when its token expires");
        problems.warnings.push(problem);
    }
    let first_audience = config.issuers.first().and_then(|issuer| issuer.audiences.first());
    let realm = config.realm.clone().or_else(|| first_audience.cloned()).unwrap_or_default();
    if !quotable(&realm) {
        problems.errors.push(Problem::at("realm", "may hold printable ASCII without `\"` and `\\` only"));
    }
    if !problems.errors.is_empty() {
        return Err(Errors(problems.errors));
    }
    let policy = Policy { role: config.role, realm, issuers, rules, routes, signals: signals.unwrap_or_default() };
    Ok(Loaded { policy, warnings: problems.warnings })
}

#[derive(Default)]
struct Problems {
    errors: Vec<Problem>,
    warnings: Vec<Problem>,
}

impl Problems {
    fn error(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.errors.push(Problem::at(path, message));
    }
}

/// What may stand between the quotes of a challenge (RFC 6750 §3).
fn quotable(text: &str) -> bool {
    text.chars().all(|c| matches!(c, ' '..='~') && c != '"' && c != '\\')
}

fn issuers(configs: &[IssuerConfig], problems: &mut Problems) -> Vec<Issuer> {
    if configs.is_empty() {
        problems.error("issuers", "there must be at least one");
    }
    let mut issuers = Vec::new();
    for (at, config) in configs.iter().enumerate() {
        let path = format!("issuers[{at}]");
        if configs.iter().take(at).any(|earlier| earlier.issuer == config.issuer) {
            problems.error(format!("{path}.issuer"), format!("`{}` stands twice", config.issuer));
        }
        if config.issuer.is_empty() {
            problems.error(format!("{path}.issuer"), "must not be empty");
        }
        if config.audiences.is_empty() || config.audiences.iter().any(String::is_empty) {
            problems.error(format!("{path}.audiences"), "must name at least one audience, and none of them empty");
        }
        if config.types.is_empty() {
            problems.error(format!("{path}.types"), "must name at least one `typ`");
        }
        let not_access_tokens = ["secevent+jwt", "dpop+jwt", "txntoken+jwt", "wpt+jwt", "wit+jwt", "statuslist+jwt"];
        for (index, typ) in config.types.iter().enumerate() {
            if not_access_tokens.iter().any(|other| typ.eq_ignore_ascii_case(other)) {
                problems.error(format!("{path}.types[{index}]"), format!("`{typ}` is not a type of access token"));
            }
        }
        for (name, span) in [("max_lifetime", config.max_lifetime), ("max_session", config.max_session)] {
            if span == Span(0) || span > MAX_SESSION {
                problems.error(format!("{path}.{name}"), format!("must lie between 1s and {MAX_SESSION}"));
            }
        }
        if config.clock_skew > Span::minutes(5) {
            problems.error(format!("{path}.clock_skew"), "must be 5m at most: an expired token lives that much longer");
        }
        let algorithms = algorithms(&config.algorithms, &format!("{path}.algorithms"), problems);
        issuers.push(Issuer {
            name: config.issuer.clone(),
            audiences: config.audiences.clone(),
            keys: keys(&config.keys, &algorithms, &format!("{path}.keys"), problems),
            algorithms,
            types: config.types.clone(),
            max_lifetime: config.max_lifetime,
            max_session: config.max_session,
            clock_skew: config.clock_skew,
            task_claim: config.claims.task.clone(),
            session_claim: config.claims.session.clone(),
        });
    }
    issuers
}

fn algorithms(names: &[String], path: &str, problems: &mut Problems) -> Vec<Algorithm> {
    if names.is_empty() {
        problems.error(path, "must name at least one algorithm");
    }
    let mut algorithms = Vec::new();
    for (at, name) in names.iter().enumerate() {
        match Algorithm::from_name(name) {
            Some(algorithm) => algorithms.push(algorithm),
            None => {
                let known = Algorithm::ALL.map(Algorithm::name);
                let help = match nearest(name, known) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("known: {}", known.join(", ")),
                };
                let problem =
                    Problem::at(format!("{path}[{at}]"), format!("`{name}` is not an algorithm that can be allowed"));
                problems.errors.push(problem.help(help));
            }
        }
    }
    algorithms
}

fn keys(config: &KeysConfig, algorithms: &[Algorithm], path: &str, problems: &mut Problems) -> KeySet {
    let path = format!("{path}.inline");
    match KeySet::from_jwks(&config.inline.0, algorithms) {
        Ok((keys, bad)) => {
            for (at, error) in &bad {
                problems.error(format!("{path}.keys[{at}]"), error.to_string());
            }
            if keys.is_empty() && bad.is_empty() {
                problems.error(format!("{path}.keys"), "there must be at least one key");
            }
            keys
        }
        Err(message) => {
            problems.error(path, message);
            KeySet::default()
        }
    }
}

fn check_names(rules: &[RuleConfig], problems: &mut Problems) {
    for (at, rule) in rules.iter().enumerate() {
        if rule.name.is_empty() {
            problems.error(format!("rules[{at}].name"), "must not be empty");
        }
        if rules.iter().take(at).any(|earlier| earlier.name == rule.name) {
            problems.error(format!("rules[{at}].name"), format!("`{}` stands twice", rule.name));
        }
    }
}

fn rule(config: &RuleConfig, at: usize, problems: &mut Problems) -> (Rule, Option<Template>) {
    let path = format!("rules[{at}]");
    let template = config.matches.path.as_ref().and_then(|text| match Template::parse(text) {
        Ok(template) => Some(template),
        Err(error) => {
            problems.error(format!("{path}.match.path"), error.to_string());
            None
        }
    });
    let methods = config.matches.methods.clone().unwrap_or_default();
    if config.matches.methods.as_ref().is_some_and(Vec::is_empty) {
        problems.error(format!("{path}.match.methods"), "is empty: leave it out to match every method");
    }
    for (index, method) in methods.iter().enumerate() {
        if method.is_empty() || !method.bytes().all(|b| b.is_ascii_uppercase() || b == b'-') {
            let place = format!("{path}.match.methods[{index}]");
            problems.errors.push(
                Problem::at(place, format!("`{method}` is not an HTTP method"))
                    .help("methods are upper case, as in `GET`"),
            );
        }
    }
    if config.matches.hosts.as_ref().is_some_and(Vec::is_empty) {
        problems.error(format!("{path}.match.hosts"), "is empty: leave it out to match every host");
    }
    let mut hosts = Vec::new();
    for (index, text) in config.matches.hosts.iter().flatten().enumerate() {
        let place = format!("{path}.match.hosts[{index}]");
        match Host::parse(text.as_bytes()) {
            Ok(host) if host.as_str() == text => hosts.push(text.to_ascii_lowercase()),
            Ok(host) => problems
                .error(place, format!("write it as `{}`: hosts are matched without port and final dot", host.as_str())),
            Err(error) => problems.error(place, format!("`{text}` is {error}")),
        }
    }
    let names = template.as_ref().map(Template::names).unwrap_or_default();
    let effect = match (&config.require, config.allow, config.deny) {
        (Some(require), None, false) => {
            Effect::Require(requirement(require, names, &format!("{path}.require"), problems))
        }
        (None, Some(crate::config::AllowConfig::Anonymous), false) => Effect::Anonymous,
        (None, None, true) => Effect::Deny,
        (None, None, false) => {
            let problem = Problem::at(path.clone(), "says neither `require` nor `allow` nor `deny`");
            problems.errors.push(problem.help("`require: {}` asks for a valid token and nothing else"));
            Effect::Deny
        }
        _ => {
            problems.error(path.clone(), "says more than one of `require`, `allow` and `deny`");
            Effect::Deny
        }
    };
    (Rule { name: config.name.clone(), methods, hosts, effect }, template)
}

fn requirement(config: &RequireConfig, names: &[String], path: &str, problems: &mut Problems) -> Requirement {
    let text = config.scope.as_deref().unwrap_or_default();
    let scopes: Vec<String> = text.split(' ').filter(|scope| !scope.is_empty()).map(str::to_owned).collect();
    if config.scope.is_some() && scopes.is_empty() {
        problems.error(format!("{path}.scope"), "names no scope: leave it out to ask for none");
    }
    // RFC 6749 §3.3: scope-token = 1*( %x21 / %x23-5B / %x5D-7E ).
    if !quotable(text) {
        problems.error(format!("{path}.scope"), "may hold printable ASCII without `\"` and `\\` only");
    }
    let detail = config.detail.as_ref().map(|detail| self::detail(detail, names, &format!("{path}.detail"), problems));
    Requirement { scopes, detail }
}

fn detail(config: &DetailConfig, names: &[String], path: &str, problems: &mut Problems) -> DetailRequirement {
    let mut pattern = |name: &str, text: &Option<String>| {
        let text = text.as_ref()?;
        match Pattern::parse(text, names) {
            Ok(pattern) => Some(pattern),
            Err(unknown) => {
                let problem =
                    Problem::at(format!("{path}.{name}"), format!("`{{{unknown}}}` is not a capture of the path"));
                let help = match names {
                    [] => "the path of this rule captures nothing".to_owned(),
                    names => format!("the path captures `{}`", names.join("`, `")),
                };
                problems.errors.push(problem.help(help));
                None
            }
        }
    };
    DetailRequirement {
        kind: config.kind.clone(),
        action: pattern("action", &config.action),
        identifier: pattern("identifier", &config.identifier),
        location: pattern("location", &config.location),
        datatype: pattern("datatype", &config.datatype),
        privilege: pattern("privilege", &config.privilege),
    }
}

fn signals(config: &SignalsConfig, issuers: &[IssuerConfig], problems: &mut Problems) -> Signals {
    if !Canonical::parse(config.path.as_bytes()).is_ok_and(|path| path.as_str() == config.path) {
        problems.error("signals.path", format!("`{}` is not a canonical path such as `/signals`", config.path));
    }
    if config.transmitters.is_empty() {
        problems.error("signals.transmitters", "there must be at least one");
    }
    let mut signals = Signals { path: config.path.clone(), ..Signals::default() };
    for (at, transmitter) in config.transmitters.iter().enumerate() {
        let path = format!("signals.transmitters[{at}]");
        if config.transmitters.iter().take(at).any(|earlier| earlier.issuer == transmitter.issuer) {
            problems.error(format!("{path}.issuer"), format!("`{}` stands twice", transmitter.issuer));
        }
        signals.transmitters.push(self::transmitter(transmitter, issuers, &path, problems));
        signals.authorizations.push(transmitter.authorization.clone());
    }
    signals
}

fn transmitter(
    config: &TransmitterConfig,
    issuers: &[IssuerConfig],
    path: &str,
    problems: &mut Problems,
) -> Transmitter {
    if config.audience.is_empty() {
        problems.error(format!("{path}.audience"), "must not be empty");
    }
    let algorithms = algorithms(&config.algorithms, &format!("{path}.algorithms"), problems);
    let own = vec![config.issuer.clone()];
    let mut subjects = Vec::new();
    for name in config.subjects.as_ref().unwrap_or(&own) {
        match issuers.iter().position(|issuer| issuer.issuer == *name) {
            Some(place) => subjects.push((name.clone(), place)),
            None => {
                let problem = Problem::at(format!("{path}.subjects"), format!("`{name}` is not one of `issuers`"));
                let known: Vec<&str> = issuers.iter().map(|issuer| issuer.issuer.as_str()).collect();
                problems.errors.push(problem.help(format!("name token issuers: `{}`", known.join("`, `"))));
            }
        }
    }
    Transmitter {
        name: config.issuer.clone(),
        audience: config.audience.clone(),
        keys: keys(&config.keys, &algorithms, &format!("{path}.keys"), problems),
        algorithms,
        subjects,
    }
}

#[cfg(test)]
mod tests {
    use crate::config::load;
    use crate::fixture;
    use serde_json::{Value, json};

    fn config() -> Value {
        json!({
            "issuers": [{"issuer": "https://jit.example", "audiences": ["https://orders.mesh"], "keys": {"inline": fixture::jwks()}}],
            "rules": [
                {"name": "read", "match": {"methods": ["GET"], "hosts": ["orders.mesh"], "path": "/o/{id}"},
                 "require": {"scope": "orders.read", "detail": {"type": "order", "identifier": "{id}"}}},
                {"name": "health", "match": {"path": "/healthz"}, "allow": "anonymous"},
                {"name": "rest", "match": {}, "deny": true}
            ],
            "signals": {"transmitters": [{
                "issuer": "https://idp.example", "audience": "a", "keys": {"inline": fixture::jwks()},
                "subjects": ["https://jit.example"]
            }]}
        })
    }

    fn errors(change: impl FnOnce(&mut Value)) -> Vec<String> {
        let mut config = config();
        change(&mut config);
        match load(config.to_string().as_bytes()) {
            Ok(_) => Vec::new(),
            Err(errors) => errors.0.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn a_good_configuration_loads() {
        let loaded = load(config().to_string().as_bytes()).unwrap();
        assert_eq!(loaded.warnings, []);
        assert_eq!(loaded.policy.rules().len(), 3);
        assert_eq!(loaded.policy.realm(), "https://orders.mesh");
        assert_eq!(loaded.policy.signals().path(), "/signals");
    }

    #[test]
    fn every_fault_is_named_with_its_place() {
        let two = errors(|c| {
            c["rules"][0]["match"]["path"] = json!("/o/{id}/{id}");
            c["issuers"][0]["algorithms"] = json!(["ES265"]);
        });
        assert!(two.contains(&"rules[0].match.path: `{id}` stands twice".to_owned()), "{two:?}");
        let alg = "issuers[0].algorithms[0]: `ES265` is not an algorithm that can be allowed (did you mean `ES256`?)";
        assert!(two.contains(&alg.to_owned()), "{two:?}");
    }

    #[test]
    fn each_message() {
        let cases: [(&str, Value, &str); 14] = [
            ("/issuers", json!([]), "issuers: there must be at least one"),
            (
                "/issuers/0/audiences",
                json!([]),
                "issuers[0].audiences: must name at least one audience, and none of them empty",
            ),
            (
                "/issuers/0/keys/inline",
                json!({}),
                "issuers[0].keys.inline: not a JWK Set: expected an object with an array `keys`",
            ),
            (
                "/issuers/0/keys/inline/keys/0/kty",
                json!("oct"),
                "issuers[0].keys.inline.keys[0]: key `jit-1` fits none of the allowed algorithms (wrong kty, crv, alg or use, or RSA outside 2048 to 4096 bits)",
            ),
            (
                "/rules/0/match/methods",
                json!(["get"]),
                "rules[0].match.methods[0]: `get` is not an HTTP method (methods are upper case, as in `GET`)",
            ),
            (
                "/rules/0/match/methods",
                json!([]),
                "rules[0].match.methods: is empty: leave it out to match every method",
            ),
            (
                "/rules/0/match/hosts",
                json!(["orders.mesh:80"]),
                "rules[0].match.hosts[0]: write it as `orders.mesh`: hosts are matched without port and final dot",
            ),
            (
                "/rules/0/require/detail/identifier",
                json!("{ident}"),
                "rules[0].require.detail.identifier: `{ident}` is not a capture of the path (the path captures `id`)",
            ),
            ("/rules/1/name", json!("read"), "rules[1].name: `read` stands twice"),
            ("/rules/1/deny", json!(true), "rules[1]: says more than one of `require`, `allow` and `deny`"),
            (
                "/rules/2/deny",
                json!(false),
                "rules[2]: says neither `require` nor `allow` nor `deny` (`require: {}` asks for a valid token and nothing else)",
            ),
            ("/signals/path", json!("signals"), "signals.path: `signals` is not a canonical path such as `/signals`"),
            (
                "/signals/transmitters/0/subjects",
                json!(["https://other"]),
                "signals.transmitters[0].subjects: `https://other` is not one of `issuers` (name token issuers: `https://jit.example`)",
            ),
            ("/realm", json!("a\"b"), "realm: may hold printable ASCII without `\"` and `\\` only"),
        ];
        for (pointer, value, message) in cases {
            let found = errors(|config| set(config, pointer, value));
            assert!(found.contains(&message.to_owned()), "{pointer}\n  want {message}\n  have {found:?}");
        }
    }

    fn set(config: &mut Value, pointer: &str, value: Value) {
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        match config.pointer_mut(parent).unwrap() {
            Value::Array(list) => list[name.parse::<usize>().unwrap()] = value,
            other => other[name] = value,
        }
    }
}
