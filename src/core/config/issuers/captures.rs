//! Entries of `issuers` with captures: one entry stands for several issuers.

use crate::config::model::{Config, IssuerConfig};
use crate::config::problem::{Problem, Problems};

/// An entry stands for at most this many issuers.
const MAX_ISSUERS: usize = 256;

/// One issuer of an entry.
#[derive(Debug)]
pub(crate) struct Entry {
    /// The entry, with values in place of the captures.
    pub config: IssuerConfig,
    /// The path of the entry, such as `issuers[0]`.
    pub path: String,
    /// The position of the entry.
    pub position: usize,
}

/// One [`Entry`] for each issuer of `config`, in the order of the configuration.
pub(crate) fn entries(config: &Config, problems: &mut Problems) -> Vec<Entry> {
    let mut entries = Vec::new();
    for (position, config) in config.issuers.iter().enumerate() {
        let path = format!("issuers[{position}]");
        let filled = filled(config, &path, problems);
        entries.extend(filled.into_iter().map(|config| Entry { config, path: path.clone(), position }));
    }
    entries
}

/// `config` once for each combination of values of its captures.
fn filled(config: &IssuerConfig, path: &str, problems: &mut Problems) -> Vec<IssuerConfig> {
    let names = match names(&config.issuer) {
        Ok(names) => names,
        Err(message) => {
            let problem = Problem::at(format!("{path}.issuer"), format!("`{}` {message}", config.issuer));
            problems.errors.push(problem.help("write a capture as `{tenant}`, and its values in `captures`"));
            return vec![config.clone()];
        }
    };
    let before = problems.errors.len();
    for name in &names {
        check_values(config, name, path, problems);
    }
    for name in config.captures.keys().filter(|name| !names.contains(&name.as_str())) {
        let problem = Problem::at(format!("{path}.captures.{name}"), format!("`{{{name}}}` is not in `issuer`"));
        problems.errors.push(problem.help("remove it, or write the capture into `issuer`"));
    }
    if problems.errors.len() > before {
        return vec![config.clone()];
    }
    let mut filled = vec![config.clone()];
    for name in names {
        let values = config.captures.get(name).map_or(&[][..], Vec::as_slice);
        if filled.len().saturating_mul(values.len()) > MAX_ISSUERS {
            problems.error(format!("{path}.captures"), format!("stand for more than {MAX_ISSUERS} issuers"));
            return vec![config.clone()];
        }
        filled = filled.iter().flat_map(|config| values.iter().map(|value| replaced(config, name, value))).collect();
    }
    filled
}

fn check_values(config: &IssuerConfig, name: &str, path: &str, problems: &mut Problems) {
    let Some(values) = config.captures.get(name).filter(|values| !values.is_empty()) else {
        let message = format!("has the capture `{{{name}}}`, whose values are not listed, so any issuer would match");
        let help = format!("list the values in `captures: {{{name}: [...]}}`");
        problems.errors.push(Problem::at(format!("{path}.issuer"), message).help(help));
        return;
    };
    for (at, value) in values.iter().enumerate() {
        let place = format!("{path}.captures.{name}[{at}]");
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '~' | '@' | '=');
        if value.is_empty() || value.chars().all(|c| c == '.') || !value.chars().all(is_plain) {
            let problem = Problem::at(place, format!("`{}` is not one value of a capture", value.escape_debug()));
            problems
                .errors
                .push(problem.help("use letters, digits and `-._~@=`; a value contains no `/` and no pattern"));
        } else if values.iter().take(at).any(|earlier| earlier == value) {
            problems.error(place, format!("`{value}` is listed twice"));
        }
    }
}

/// The names of the captures in `issuer`. The error is a message whose subject is the text.
fn names(issuer: &str) -> Result<Vec<&str>, &'static str> {
    let mut names = Vec::new();
    let mut rest = issuer;
    while let Some(at) = rest.find(['{', '}']) {
        let name = rest.get(at..).and_then(|rest| rest.strip_prefix('{')).and_then(|rest| rest.split_once('}'));
        let Some((name, after)) = name else { return Err("has a brace that belongs to no capture") };
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            return Err("has a capture whose name is not letters, digits and `_`");
        }
        if names.contains(&name) {
            return Err("has the same capture twice");
        }
        names.push(name);
        rest = after;
    }
    Ok(names)
}

fn replaced(config: &IssuerConfig, name: &str, value: &str) -> IssuerConfig {
    let capture = format!("{{{name}}}");
    let mut config = config.clone();
    config.issuer = config.issuer.replace(&capture, value);
    for text in [&mut config.keys.host, &mut config.keys.path].into_iter().flatten() {
        *text = text.replace(&capture, value);
    }
    config
}

#[cfg(test)]
mod tests {
    use crate::config::load::load;
    use crate::testing::fixture;
    use serde_json::{Value, json};

    fn load_with(issuer: &str, captures: Value) -> Result<Vec<String>, Vec<String>> {
        let config = json!({
            "issuers": [{"issuer": issuer, "captures": captures, "audiences": ["https://a"], "keys": {"inline": fixture::jwks()}}],
            "rules": [{"name": "r", "match": {}, "require": {}}]
        });
        match load(config.to_string().as_bytes()) {
            Ok(loaded) => Ok(loaded.policy.issuers().iter().map(|issuer| issuer.name.clone()).collect()),
            Err(errors) => Err(errors.0.iter().map(ToString::to_string).collect()),
        }
    }

    #[test]
    fn an_entry_stands_for_each_combination() {
        assert_eq!(
            load_with("https://login.example/{tenant}/v2.0", json!({"tenant": ["t-1", "t-2"]})).unwrap(),
            ["https://login.example/t-1/v2.0", "https://login.example/t-2/v2.0"]
        );
        assert_eq!(
            load_with("https://{org}.example/{as}", json!({"org": ["a", "b"], "as": ["x", "y"]})).unwrap(),
            ["https://a.example/x", "https://a.example/y", "https://b.example/x", "https://b.example/y"]
        );
    }

    #[test]
    fn what_matches_too_much_is_refused() {
        let template = "https://login.example/{tenant}/v2.0";
        for (issuer, captures, message) in [
            (template, json!({}), "issuers[0].issuer: has the capture `{tenant}`, whose values are not listed"),
            (template, json!({"tenant": []}), "issuers[0].issuer: has the capture `{tenant}`"),
            (template, json!({"tenant": ["a", "b/c"]}), "issuers[0].captures.tenant[1]: `b/c` is not one value"),
            (template, json!({"tenant": ["*"]}), "issuers[0].captures.tenant[0]: `*` is not one value"),
            (template, json!({"tenant": [".."]}), "issuers[0].captures.tenant[0]: `..` is not one value"),
            (template, json!({"tenant": [""]}), "issuers[0].captures.tenant[0]: `` is not one value"),
            (template, json!({"tenant": ["a", "a"]}), "issuers[0].captures.tenant[1]: `a` is listed twice"),
            (
                template,
                json!({"tenant": ["a"], "tenants": ["a"]}),
                "issuers[0].captures.tenants: `{tenants}` is not in",
            ),
            (
                "https://x/{tenant...}",
                json!({"tenant": ["a"]}),
                "issuers[0].issuer: `https://x/{tenant...}` has a capture whose name",
            ),
            (
                "https://x/{a}/{a}",
                json!({"a": ["a"]}),
                "issuers[0].issuer: `https://x/{a}/{a}` has the same capture twice",
            ),
            ("https://x/{a", json!({"a": ["a"]}), "issuers[0].issuer: `https://x/{a` has a brace"),
        ] {
            let errors = load_with(issuer, captures.clone()).unwrap_err();
            assert!(errors.iter().any(|error| error.starts_with(message)), "{issuer} {captures}: {errors:?}");
        }
        let many: Vec<String> = (0..257).map(|n| n.to_string()).collect();
        assert!(load_with(template, json!({"tenant": many})).is_err());
        assert_eq!(load_with(template, json!({"tenant": many[1..]})).unwrap().len(), 256);
    }
}
