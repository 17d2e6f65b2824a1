//! Compiles `evidence`, and the rates of rules.

use crate::config::model::EvidenceConfig;
use crate::config::problem::{Problem, Problems};
use crate::encoding::nearest::nearest;
use crate::policy::evidence::{Evidence, MASKABLE, Mask, Masks};
use crate::rules::rate::Rate;

/// The least length of `mask_key`, in bytes. HMAC wants a key as long as its output; shorter ones are guessed sooner.
const LEAST_KEY: usize = 32;

/// Compiles `evidence`.
pub(super) fn evidence(config: &EvidenceConfig, problems: &mut Problems) -> Evidence {
    let EvidenceConfig { uses, allows, mask, mask_key } = config;
    let mut members = Vec::new();
    for (name, mask) in mask {
        let path = format!("evidence.mask.{name}");
        let Some(known) = MASKABLE.iter().find(|known| *known == name) else {
            problems.errors.push(unknown(path, name));
            continue;
        };
        match mask.as_str() {
            "hash" => members.push((*known, Mask::Hash)),
            "remove" if *known == "token" => {
                let problem = Problem::at(path, "cannot be removed: it tells one grant from another");
                problems.errors.push(problem.help("write `hash`"));
            }
            "remove" => members.push((*known, Mask::Remove)),
            _ => {
                let problem = Problem::at(path, format!("unknown value `{mask}`"));
                problems.errors.push(problem.help("known: `remove`, `hash`"));
            }
        }
    }
    let hashes = members.iter().any(|(_, mask)| *mask == Mask::Hash);
    match mask_key {
        Some(key) if key.reveal().len() < LEAST_KEY => {
            problems.error("evidence.mask_key", format!("must have at least {LEAST_KEY} characters"));
        }
        Some(_) if !hashes => problems.error("evidence.mask_key", "has no effect: nothing in `mask` is hashed"),
        Some(_) | None => {}
    }
    let masks = |name: &str| members.iter().any(|(member, _)| *member == name);
    if *uses && masks("path") && !masks("captures") {
        let problem = Problem::at("evidence.mask", "masks `path` but not `captures`, which are parts of the path");
        problems.warnings.push(problem.help("mask `captures` too"));
    }
    let allows = rate(*allows, "evidence.allows", problems);
    Evidence { uses: *uses, allows, masks: Masks { members, key: mask_key.clone() } }
}

/// Compiles a rate at `path`.
pub(super) fn rate(part: f64, path: &str, problems: &mut Problems) -> Rate {
    Rate::new(part).unwrap_or_else(|| {
        // As JSON writes it: the standard library's own way to write fractions would add 15 KB to the module.
        let part = serde_json::Value::from(part);
        let problem = Problem::at(path, format!("`{part}` is not a number from 0 to 1"));
        problems.errors.push(problem.help("`0.1` gives a record to one of ten allowed requests"));
        Rate::NEVER
    })
}

fn unknown(path: String, name: &str) -> Problem {
    let help = match (name, nearest(name, MASKABLE)) {
        ("actors", _) => "`actor` masks both `actor` and `actors`".to_owned(),
        (_, Some(near)) => format!("did you mean `{near}`?"),
        (_, None) => format!("known: {}", MASKABLE.join(", ")),
    };
    Problem::at(path, format!("`{name}` is not a member that can be masked")).help(help)
}

#[cfg(test)]
mod tests {
    use crate::config::compile::Loaded;
    use crate::config::load::load;
    use crate::index::RuleIndex;
    use crate::policy::evidence::Mask;
    use crate::rules::rate::Rate;
    use crate::testing::fixture;
    use serde_json::{Value, json};

    const KEY: &str = "a key that has thirty-two letters";

    fn loaded(evidence: Value) -> Result<Loaded, String> {
        let rule = |name: &str| json!({"name": name, "match": {"path": format!("/{name}")}, "require": {}});
        let mut often = rule("often");
        often["record_allows"] = json!(1);
        let config = json!({
            "issuers": [{"issuer": "i", "audiences": ["a"], "keys": {"inline": fixture::jwks()}}],
            "rules": [often, rule("plain")],
            "evidence": evidence
        });
        load(config.to_string().as_bytes()).map_err(|errors| errors.to_string())
    }

    #[test]
    fn each_setting_is_read() {
        let evidence = json!({"allows": 0.25, "mask": {"subject": "hash", "path": "remove"}, "mask_key": KEY});
        let loaded = loaded(evidence).unwrap();
        let policy = &loaded.policy;
        assert!(policy.evidence().uses);
        assert_eq!(policy.evidence().masks.of("subject"), Some(Mask::Hash));
        assert_eq!(policy.evidence().masks.of("path"), Some(Mask::Remove));
        assert_eq!(policy.record_allows(Some(RuleIndex::new(0))), Rate::ALWAYS);
        assert_eq!(policy.record_allows(Some(RuleIndex::new(1))), Rate::new(0.25).unwrap());
        assert_eq!(policy.record_allows(None), Rate::new(0.25).unwrap());
        let warnings: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
        assert!(warnings.iter().any(|warning| warning.starts_with("evidence.mask: masks `path`")), "{warnings:?}");
        assert!(!format!("{:?}", policy.evidence()).contains(KEY));
    }

    #[test]
    fn without_it_uses_are_counted_and_allows_get_no_record() {
        let loaded = loaded(json!({})).unwrap();
        assert!(loaded.policy.evidence().uses && loaded.policy.evidence().masks.is_empty());
        assert_eq!(loaded.policy.evidence().allows, Rate::NEVER);
    }

    #[test]
    fn each_message() {
        for (evidence, message) in [
            (
                json!({"allows": 1.5}),
                "evidence.allows: `1.5` is not a number from 0 to 1 (`0.1` gives a record to one of ten allowed requests)",
            ),
            (
                json!({"mask": {"subjekt": "hash"}}),
                "evidence.mask.subjekt: `subjekt` is not a member that can be masked (did you mean `subject`?)",
            ),
            (
                json!({"mask": {"actors": "hash"}}),
                "evidence.mask.actors: `actors` is not a member that can be masked (`actor` masks both `actor` and `actors`)",
            ),
            (
                json!({"mask": {"token": "remove"}}),
                "evidence.mask.token: cannot be removed: it tells one grant from another (write `hash`)",
            ),
            (
                json!({"mask": {"subject": "hide"}}),
                "evidence.mask.subject: unknown value `hide` (known: `remove`, `hash`)",
            ),
            (
                json!({"mask": {"subject": "hash"}, "mask_key": "short"}),
                "evidence.mask_key: must have at least 32 characters",
            ),
            (json!({"mask_key": KEY}), "evidence.mask_key: has no effect: nothing in `mask` is hashed"),
        ] {
            assert_eq!(loaded(evidence).unwrap_err(), message);
        }
    }
}
