//! Compiles a configuration into a policy, and reports all errors, not only the first.

use crate::config::checks;
use crate::config::checks::algorithms;
use crate::config::checks::header_name;
use crate::config::checks::quotable;
use crate::config::compile_evidence;
use crate::config::compile_hub;
use crate::config::compile_keys;
use crate::config::compile_require;
use crate::config::compile_resources;
use crate::config::compile_signals;
use crate::config::issuers::{self, absences, captures};
use crate::config::literal::{self, LoneWildcard};
use crate::config::model::{AllowConfig, AudienceConfig, Config, IdentityConfig, MatchConfig};
use crate::config::model::{
    BadSignaturesConfig, LimitsConfig, RuleConfig, SignalsConfig, StaleLimit, TransmitterConfig,
};
use crate::config::problem::Problems;
use crate::config::problem::{Errors, Problem};
use crate::config::rule_order;
use crate::encoding::secret::Secret;
use crate::http::credential_location::CredentialLocations;
use crate::http::path::Canonical;
use crate::http::path_template::Template;
use crate::index::IssuerIndex;
use crate::policy::identity_headers::{Fact, Identity};
use crate::policy::limits::Limit;
use crate::policy::limits::Limits;
use crate::policy::policy::Policy;
use crate::policy::policy::Role;
use crate::rules::mode::Mode;
use crate::rules::requirement::Check;
use crate::rules::routes::Routes;
use crate::rules::rule::{Effect, Matcher, Rule};
use crate::signal::effect::Effects;
use crate::signal::signals::Signals;
use crate::signal::transmitter::Transmitter;
use crate::token::claim_path::ClaimPath;
use crate::token::issuer::Issuer;
use crate::token::presentation::PeerClaim;
use serde_json::Value;

/// Compiles `config`.
pub fn compile(config: &Config) -> Result<Loaded, Errors> {
    let mut problems = Problems::default();
    let mut places = CredentialLocations::none();
    let entries = captures::entries(config, &mut problems);
    let issuers = issuers::issuers(config, &entries, &mut places, &mut problems);
    let stale = config.signals.as_ref().and_then(SignalsConfig::stale);
    let rules = config.rules.iter().enumerate();
    let rules: Vec<Rule> = rules.map(|(at, rule)| self::rule(rule, stale, at, &mut problems)).collect();
    check_names(&config.rules, &mut problems);
    check_safety(config, &rules, &mut problems);
    if let Some(signals) = &config.signals {
        compile_signals::check_stale(signals, config, &issuers, &rules, &mut problems);
    }
    rule_order::check(&rules, config.mode, &mut problems);
    let routes = Routes::new(rules.iter().map(|rule| rule.matcher.template.as_ref()));
    let identity = identity(config, &places, &mut problems);
    let mut signals = config.signals.as_ref().map(|signals| self::signals(signals, &issuers, &mut problems));
    let no_signals = Signals::default();
    absences::check(config, &rules, &issuers, signals.as_ref().unwrap_or(&no_signals), &mut problems);
    if let Some(signals) = &mut signals {
        compile_hub::follow(config, signals, &issuers, &rules, &mut problems);
    }
    let limits = limits(&config.limits, &mut problems);
    let evidence = compile_evidence::evidence(&config.evidence, &mut problems);
    let resources = compile_resources::resources(&config.protected_resources, &issuers, &rules, &places, &mut problems);
    let first_audience = config.issuers.first().and_then(|issuer| issuer.audiences.first());
    let realm = config.realm.clone().or_else(|| first_audience.cloned()).unwrap_or_default();
    if !quotable(&realm) {
        problems.error("realm", "must consist of printable ASCII characters other than `\"` and `\\`");
    }
    if !problems.errors.is_empty() {
        return Err(Errors(problems.errors));
    }
    let conditional = |rule: &Rule| match &rule.effect {
        Effect::Require(requirement) => requirement.checks.iter().any(|check| matches!(check, Check::When(_))),
        Effect::Anonymous | Effect::Deny => false,
    };
    let claims_by_name = claims_by_name(&rules, &issuers);
    let policy = Policy {
        role: config.role,
        mode: config.mode,
        hosts: config.hosts,
        realm,
        issuers,
        has_conditions: rules.iter().any(conditional),
        claims_by_name,
        rules,
        routes,
        identity,
        places,
        resources,
        signals: signals.unwrap_or_default(),
        limits,
        evidence,
        config_hash: 0,
        stale_after: stale.map(|stale| stale.after),
    };
    Ok(Loaded { policy, warnings: problems.warnings, notes: problems.notes, with_defaults: None, config_hash: 0 })
}

/// The top-level claims that `claims` of rules and `peer_claim` of issuers read.
fn claims_by_name(rules: &[Rule], issuers: &[Issuer]) -> Vec<Box<str>> {
    let mut names: Vec<Box<str>> = Vec::new();
    let mut add = |path: &ClaimPath| {
        if !names.iter().any(|known| **known == *path.root()) {
            names.push(path.root().into());
        }
    };
    for rule in rules {
        let Effect::Require(requirement) = &rule.effect else { continue };
        for check in requirement.checks() {
            if let Check::Claims(asked) = check {
                asked.iter().for_each(|(path, _)| add(path));
            }
        }
    }
    for issuer in issuers {
        if let Some(PeerClaim::Named(path)) = &issuer.presentation.peer_claim {
            add(path);
        }
    }
    names
}

fn limits(config: &LimitsConfig, problems: &mut Problems) -> Limits {
    let BadSignaturesConfig { per_second, burst } = config.bad_signatures;
    for (name, value) in [("per_second", per_second), ("burst", burst)] {
        if value == 0 {
            let problem = Problem::at(format!("limits.bad_signatures.{name}"), "must be at least 1");
            problems.errors.push(problem.help("a very large number has the effect of no limit"));
        }
    }
    Limits { token_cache: config.token_cache, bad_signatures: Limit { per_second, burst } }
}

/// Reports settings that are allowed but unsafe, and settings that need `signals` without it.
fn check_safety(config: &Config, rules: &[Rule], problems: &mut Problems) {
    let Problems { errors, warnings, .. } = problems;
    match config.role {
        Role::Filter if rules.is_empty() => {
            warnings.push(Problem::at("rules", "is empty: every request is denied"));
        }
        Role::Receiver if config.signals.is_none() => {
            let problem =
                Problem::at("signals", "is missing: a receiver must know from which transmitters it accepts signals");
            errors.push(problem.help("add `signals` with its `transmitters`"));
        }
        Role::Filter | Role::Receiver => {}
    }
    if config.signals.is_none() && config.role == Role::Filter {
        warnings.push(Problem::at(
            "signals",
            "is missing: no signal can revoke a grant, which ends only when its token expires",
        ));
    }
    if config.mode == Mode::Shadow {
        warnings.push(Problem::at("mode", "is `shadow`: refusals are recorded but not enforced"));
    }
    for (at, rule) in rules.iter().enumerate() {
        let path = format!("rules[{at}]");
        let everything = rule.matcher.template.as_ref().is_none_or(Template::is_everything);
        match &rule.effect {
            Effect::Anonymous if everything && rule.matcher.metadata.is_empty() => {
                let message = "lets requests for every path pass without a token";
                warnings.push(Problem::at(format!("{path}.allow"), message).help("add a `path` to its `match`"));
            }
            Effect::Anonymous | Effect::Deny => {}
            Effect::Require(requirement) => {
                let needs_signals = requirement
                    .checks
                    .iter()
                    .find(|check| matches!(check, Check::Device { .. } | Check::Risk { .. } | Check::StateAge(_)));
                if let Some(check) = needs_signals
                    && config.signals.is_none()
                {
                    let message = "needs signals, and no transmitter is configured".to_owned();
                    let problem = Problem::at(format!("{path}.require.{}", check.name()), message);
                    errors.push(problem.help("add `signals` with its `transmitters`"));
                }
                let open = requirement.checks.iter().find(|check| check.lets_unknown_pass());
                let writes = rule.matcher.methods.is_empty()
                    || rule.matcher.methods.iter().any(|method| !matches!(method.as_str(), "GET" | "HEAD" | "OPTIONS"));
                if let Some(check) = open
                    && writes
                {
                    let message =
                        "lets requests with an unknown value pass, and this rule matches methods that can write";
                    warnings.push(Problem::at(format!("{path}.require.{}.unknown", check.name()), message));
                }
            }
        }
    }
}

fn identity(config: &Config, places: &CredentialLocations, problems: &mut Problems) -> Identity {
    let IdentityConfig { issuer, subject, client, task, session, actor, scope, token } = &config.identity;
    let named = [
        ("issuer", Fact::Issuer, issuer),
        ("subject", Fact::Subject, subject),
        ("client", Fact::Client, client),
        ("task", Fact::Task, task),
        ("session", Fact::Session, session),
        ("actor", Fact::Actor, actor),
        ("scope", Fact::Scope, scope),
        ("token", Fact::Token, token),
    ];
    let hidden = (!config.forward_token).then(|| places.clone());
    let mut identity = Identity { headers: Vec::new(), hidden };
    for (key, fact, name) in named {
        let Some(name) = name else { continue };
        let path = format!("identity.{key}");
        if let Err(message) = header_name(name) {
            problems.error(path, message);
        } else if name.starts_with("x-envoy-") || name.starts_with("x-forwarded-") {
            problems.error(path, format!("`{name}` is reserved"));
        } else if places.header(name.as_bytes()).is_some() {
            problems.error(path, format!("`{name}` is the header that carries a token"));
        } else if identity.headers.iter().any(|(_, have)| have == name) {
            problems.error(path, format!("`{name}` is used for another fact already"));
        } else {
            identity.headers.push((fact, name.clone()));
        }
    }
    identity
}

fn check_names(rules: &[RuleConfig], problems: &mut Problems) {
    for (at, rule) in rules.iter().enumerate() {
        if rule.name.is_empty() {
            problems.error(format!("rules[{at}].name"), "must not be empty");
        }
        if rules.iter().take(at).any(|earlier| earlier.name == rule.name) {
            problems.error(format!("rules[{at}].name"), format!("`{}` is the name of an earlier rule", rule.name));
        }
    }
}

fn rule(config: &RuleConfig, stale: Option<&StaleLimit>, at: usize, problems: &mut Problems) -> Rule {
    let path = format!("rules[{at}]");
    let mut matcher = matcher(&config.matches, &format!("{path}.match"), problems);
    if config.deny && matcher.grpc {
        deny_by_path(&mut matcher, &format!("{path}.match"), problems);
    }
    let effect = match (&config.require, config.allow, config.deny) {
        (Some(require), None, false) => {
            let names = matcher.capture_names();
            let mut requirement = compile_require::requirement(require, names, &format!("{path}.require"), problems);
            compile_signals::ask_for_fresh_state(stale, config, &mut requirement);
            requirement.break_glass = config.break_glass.as_ref().map(|glass| {
                compile_require::break_glass(glass, &requirement, stale, &format!("{path}.break_glass"), problems)
            });
            Effect::Require(requirement)
        }
        (None, Some(AllowConfig::Anonymous), false) => Effect::Anonymous,
        (None, None, true) => Effect::Deny,
        (None, None, false) => {
            let problem = Problem::at(path.clone(), "has neither `require` nor `allow` nor `deny`");
            problems.errors.push(problem.help("`require: {}` requires a valid token and nothing else"));
            Effect::Deny
        }
        _ => {
            problems.error(path.clone(), "has more than one of `require`, `allow` and `deny`");
            Effect::Deny
        }
    };
    if config.break_glass.is_some() && config.require.is_none() {
        problems.error(
            format!("{path}.break_glass"),
            "needs a `require` in the same rule: without it there is nothing to lift",
        );
    }
    let rate = |part| compile_evidence::rate(part, &format!("{path}.record_allows"), problems);
    let record_allows = config.record_allows.map(rate);
    Rule { name: config.name.clone(), matcher, effect, mode: config.mode, record_allows }
}

/// Makes a rule that denies a gRPC method one for its path. Servers answer the same method to gRPC-Web, to Connect,
/// also by GET, and to plain JSON: whoever may not call it may not call it under another name either.
fn deny_by_path(matcher: &mut Matcher, path: &str, problems: &mut Problems) {
    matcher.grpc = false;
    if !matcher.methods.is_empty() {
        let message =
            "limits a rule that denies `grpc`, and clients can call the same gRPC method with other HTTP methods";
        problems.errors.push(Problem::at(format!("{path}.methods"), message).help("remove `methods`"));
    }
}

fn matcher(config: &MatchConfig, path: &str, problems: &mut Problems) -> Matcher {
    let methods = config.methods.clone().unwrap_or_default();
    if config.methods.as_ref().is_some_and(Vec::is_empty) {
        problems.error(format!("{path}.methods"), "is empty: remove it to match every method");
    }
    for (index, method) in methods.iter().enumerate() {
        if literal::is_wildcard(method) || matches!(method.to_ascii_uppercase().as_str(), "ANY" | "ALL") {
            let problem = Problem::at(format!("{path}.methods[{index}]"), format!("`{method}` is not an HTTP method"));
            problems.errors.push(problem.help("leave `methods` out to match every method"));
        } else if method.is_empty() || !method.bytes().all(|b| b.is_ascii_uppercase() || b == b'-') {
            let problem = Problem::at(format!("{path}.methods[{index}]"), format!("`{method}` is not an HTTP method"));
            problems.errors.push(problem.help("methods are written in upper case, such as `GET`"));
        }
    }
    if config.hosts.as_ref().is_some_and(Vec::is_empty) {
        problems.error(format!("{path}.hosts"), "is empty: remove it to match every host");
    }
    let hosts = checks::hosts(config.hosts.as_deref().unwrap_or_default(), &format!("{path}.hosts"), problems);
    let metadata: Vec<(String, String)> = config.metadata.clone().unwrap_or_default().into_iter().collect();
    if metadata.iter().any(|(name, _)| name.is_empty() || name.contains('\0')) {
        problems.error(format!("{path}.metadata"), "has a name that is empty or contains a NUL");
    }
    for (name, value) in &metadata {
        let help = "write one rule for each value, or remove the name to match any value";
        literal::check_wildcard(value, LoneWildcard::Error, format!("{path}.metadata.{name}"), help, problems);
    }
    Matcher { methods, hosts, template: template(config, path, problems), grpc: config.grpc.is_some(), metadata }
}

fn template(config: &MatchConfig, path: &str, problems: &mut Problems) -> Option<Template> {
    let (key, text) = match (&config.path, &config.grpc) {
        (Some(text), None) => ("path", text.clone()),
        (None, Some(grpc)) => {
            let name = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_'));
            if !name(&grpc.service) || !grpc.method.as_deref().is_none_or(name) || grpc.service.is_empty() {
                let problem = Problem::at(format!("{path}.grpc"), "is not the name of a gRPC service and method");
                problems.errors.push(match grpc.method.as_deref().is_some_and(literal::is_wildcard) {
                    true => problem.help("remove `method` to match every method"),
                    false => problem.help("write for example `service: orders.v1.Orders`, `method: Get`"),
                });
                return None;
            }
            let method = grpc.method.clone().unwrap_or_else(|| "{method}".to_owned());
            ("grpc", format!("/{}/{method}", grpc.service))
        }
        (Some(_), Some(_)) => {
            problems.error(path, "has both `path` and `grpc`: remove one, because `grpc` also matches the path");
            return None;
        }
        (None, None) => return None,
    };
    match Template::parse(&text) {
        Ok(template) => Some(template),
        Err(error) => {
            let problem = Problem::at(format!("{path}.{key}"), error.to_string());
            problems.errors.push(match error.help() {
                Some(help) => problem.help(help),
                None => problem,
            });
            None
        }
    }
}

fn signals(config: &SignalsConfig, issuers: &[Issuer], problems: &mut Problems) -> Signals {
    if !Canonical::parse(config.path.as_bytes()).is_ok_and(|path| path.as_str() == config.path) {
        problems.error("signals.path", format!("`{}` is not a canonical path such as `/signals`", config.path));
    }
    if literal::is_wildcard(config.path.rsplit('/').next().unwrap_or_default()) {
        let problem = Problem::at("signals.path", format!("`{}` is a pattern, and must be one path", config.path));
        problems.errors.push(problem.help("write the path to which transmitters push SETs, such as `/signals`"));
    }
    let needs_transmitters = !config.operators_alone && (config.hub.is_none() || config.also_receiver);
    if config.transmitters.is_empty() && needs_transmitters {
        problems.error("signals.transmitters", "must have at least one entry");
    }
    let effects = compile_signals::effects(&config.effects, problems);
    let mut signals = Signals { path: config.path.clone(), ..Signals::default() };
    for (at, transmitter) in config.transmitters.iter().enumerate() {
        let path = format!("signals.transmitters[{at}]");
        compile_signals::check_told_apart(&config.transmitters, at, problems);
        let mut compiled = self::transmitter(transmitter, issuers, effects, &path, problems);
        if !config.operators_alone {
            compile_signals::check_not_of_a_hub(&compiled, &path, problems);
        }
        compiled.stream = compile_signals::stream(&config.transmitters, at);
        signals.transmitters.push(compiled);
    }
    signals.heartbeats = compile_signals::heartbeats(&signals.transmitters, issuers.len());
    signals
}

fn transmitter(
    config: &TransmitterConfig,
    issuers: &[Issuer],
    effects: Effects,
    path: &str,
    problems: &mut Problems,
) -> Transmitter {
    let audience = |config: &AudienceConfig| config.0.clone();
    let (audiences, logout_audiences) = (audience(&config.audience), audience(&config.logout_audience));
    let revocation_audiences = audience(&config.revocation_audience);
    let all = [&audiences, &logout_audiences, &revocation_audiences];
    if all.iter().all(|list| list.is_empty()) || all.into_iter().flatten().any(String::is_empty) {
        problems.error(format!("{path}.audience"), "must not be empty");
    }
    let help = "write exactly the value in the SETs of this transmitter";
    literal::check_wildcard(&config.issuer, LoneWildcard::Error, format!("{path}.issuer"), help, problems);
    literal::check_wildcards(&config.audience.0, LoneWildcard::Error, &format!("{path}.audience"), help, problems);
    let algorithms = algorithms(&config.algorithms, &format!("{path}.algorithms"), problems);
    let own = vec![config.issuer.clone()];
    let mut subjects = Vec::new();
    for name in config.subjects.as_ref().unwrap_or(&own) {
        let named = IssuerIndex::enumerate(issuers).filter(|(_, issuer)| issuer.name == *name);
        let before = subjects.len();
        subjects.extend(named.map(|(index, _)| (name.clone(), index)));
        if subjects.len() == before {
            let problem = Problem::at(format!("{path}.subjects"), format!("`{name}` is not one of `issuers`"));
            let mut known: Vec<&str> = issuers.iter().map(|issuer| issuer.name.as_str()).collect();
            known.dedup();
            problems.errors.push(problem.help(format!("known issuers: `{}`", known.join("`, `"))));
        }
    }
    Transmitter {
        name: config.issuer.clone(),
        stream: config.issuer.clone(),
        audiences,
        logout_audiences,
        revocation_audiences,
        keys: compile_keys::keyring(&config.keys, &config.issuer, &algorithms, &format!("{path}.keys"), problems),
        algorithms,
        authorization: config.authorization.clone().map(Secret::from),
        subjects,
        permissions: compile_signals::permissions(config, effects, path, problems),
    }
}

/// A configuration that can be used.
#[derive(Debug)]
pub struct Loaded {
    /// The compiled policy.
    pub policy: Policy,
    /// What is allowed but unsafe.
    pub warnings: Vec<Problem>,
    /// What is useful to know and needs no change.
    pub notes: Vec<Problem>,
    /// The configuration with the defaults of the profiles that its issuers name, if they name any.
    pub with_defaults: Option<Value>,
    /// A hash of the configuration as it was written, whatever its white space and the order of its members.
    pub config_hash: u64,
}

#[cfg(test)]
mod tests {
    use crate::config::load::load;
    use crate::testing::fixture;
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
    fn lists_are_no_objects_and_names_stand_once() {
        for (pointer, path) in [
            ("/rules/0/match", "rules[0].match"),
            ("/rules/0/require", "rules[0].require"),
            ("/rules/0/require/detail", "rules[0].require.detail"),
            ("/signals", "signals"),
        ] {
            let mut config = config();
            set(&mut config, pointer, json!([]));
            let error = load(config.to_string().as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{path}: ")), "{pointer}: {error}");
        }
        let twice = config().to_string().replacen(r#""match":{}"#, r#""match":{"metadata":{"a":"1","a":"2"}}"#, 1);
        let error = load(twice.as_bytes()).unwrap_err().to_string();
        assert!(error.contains("duplicate name in an object"), "{error}");
    }

    #[test]
    fn every_fault_is_named_with_its_place() {
        let two = errors(|c| {
            c["rules"][0]["match"]["path"] = json!("/o/{id}/{id}");
            c["issuers"][0]["algorithms"] = json!(["ES265"]);
        });
        assert!(two.contains(&"rules[0].match.path: `{id}` stands twice".to_owned()), "{two:?}");
        let alg = "issuers[0].algorithms[0]: `ES265` is not a supported algorithm (did you mean `ES256`?)";
        assert!(two.contains(&alg.to_owned()), "{two:?}");
    }

    #[test]
    fn each_message() {
        let cases: [(&str, Value, &str); 17] = [
            ("/issuers", json!([]), "issuers: must have at least one entry"),
            (
                "/issuers/0/audiences",
                json!([]),
                "issuers[0].audiences: must name at least one audience, and no audience may be empty",
            ),
            (
                "/issuers/0/keys/inline",
                json!({}),
                "issuers[0].keys.inline: not a JWK Set: expected an object with an array `keys`",
            ),
            (
                "/issuers/0/keys/inline/keys/0/kty",
                json!("oct"),
                "issuers[0].keys.inline.keys[0]: key `jit-1` says `alg` ES256, for which a key of the kind oct is not",
            ),
            (
                "/rules/0/match/methods",
                json!(["get"]),
                "rules[0].match.methods[0]: `get` is not an HTTP method (methods are written in upper case, such as `GET`)",
            ),
            ("/rules/0/match/methods", json!([]), "rules[0].match.methods: is empty: remove it to match every method"),
            (
                "/rules/0/match/hosts",
                json!(["orders.mesh:80"]),
                "rules[0].match.hosts[0]: must be written as `orders.mesh`: hosts are compared without port and final dot",
            ),
            (
                "/rules/0/require/detail/identifier",
                json!("{ident}"),
                "rules[0].require.detail.identifier: `{ident}` is not a capture of the path (the path captures `id`)",
            ),
            ("/rules/1/name", json!("read"), "rules[1].name: `read` is the name of an earlier rule"),
            ("/rules/1/deny", json!(true), "rules[1]: has more than one of `require`, `allow` and `deny`"),
            (
                "/rules/2/deny",
                json!(false),
                "rules[2]: has neither `require` nor `allow` nor `deny` (`require: {}` requires a valid token and nothing else)",
            ),
            ("/signals/path", json!("signals"), "signals.path: `signals` is not a canonical path such as `/signals`"),
            (
                "/signals/transmitters/0/subjects",
                json!(["https://other"]),
                "signals.transmitters[0].subjects: `https://other` is not one of `issuers` (known issuers: `https://jit.example`)",
            ),
            (
                "/issuers/0/types",
                json!(["at+jwt", ""]),
                "issuers[0].types[1]: `` is not a media type (write the value of `typ` in the tokens, such as `at+jwt`)",
            ),
            (
                "/issuers/0/types",
                json!(["at+jwt "]),
                "issuers[0].types[0]: `at+jwt ` is not a media type (write the value of `typ` in the tokens, such as `at+jwt`)",
            ),
            (
                "/issuers/0/types",
                json!(["Application/DPoP+jwt"]),
                "issuers[0].types[0]: `Application/DPoP+jwt` is not a type of access token",
            ),
            ("/realm", json!("a\"b"), "realm: must consist of printable ASCII characters other than `\"` and `\\`"),
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
