//! The rules of a configuration, as a proxy sends them. They are kept for as long as evidence names them, and a report
//! reads all of them.

use crate::evidence::check::{MAX_CAPTURES, MAX_RULES, few, text};
use taskfence_core::uses::outline::{DetailOutline, Outline, RuleOutline};

/// So many items may be in one list of a rule.
pub(super) const MAX_LIST: usize = 4_096;

/// All rules of a configuration have so many bytes of text: twice of what a filter sends as JSON.
pub(super) const MAX_OUTLINE: usize = 256 * 1024;

/// Checks the rules of a configuration; the error says what is wrong.
pub fn outline(outline: &mut Outline) -> Result<(), String> {
    let Outline { config, rules } = outline;
    text("config", config)?;
    if config.is_empty() {
        return Err("`config` is empty".to_owned());
    }
    few("rules", rules.len(), MAX_RULES)?;
    rules.iter_mut().try_for_each(rule)?;
    let length = rules.iter().flat_map(texts).map(String::len).fold(0, usize::saturating_add);
    if length > MAX_OUTLINE {
        return Err(format!("`rules` have {length} bytes of text, and may have {MAX_OUTLINE}"));
    }
    Ok(())
}

/// About how many bytes the rules take in memory beside their text: a short text can make many of them.
pub fn weight(outline: &Outline) -> usize {
    let of_rule = |rule: &RuleOutline| texts(rule).count().saturating_mul(size_of::<String>());
    let rules = outline.rules.iter().map(|rule| of_rule(rule).saturating_add(size_of::<RuleOutline>()));
    rules.fold(size_of::<Outline>(), usize::saturating_add)
}

fn rule(rule: &mut RuleOutline) -> Result<(), String> {
    // Each member by its name: one that is new does not go unchecked.
    let RuleOutline {
        name,
        effect,
        methods,
        hosts,
        path,
        captures,
        scopes,
        any_scopes,
        detail,
        others,
        break_glass,
        grpc: _,
        shadow: _,
    } = rule;
    text("rules.name", name)?;
    text("rules.effect", effect)?;
    optional("rules.path", path)?;
    optional("rules.break_glass", break_glass)?;
    list("rules.methods", methods, MAX_LIST)?;
    list("rules.hosts", hosts, MAX_LIST)?;
    list("rules.captures", captures, MAX_CAPTURES)?;
    list("rules.scopes", scopes, MAX_LIST)?;
    list("rules.any_scopes", any_scopes, MAX_LIST)?;
    list("rules.others", others, MAX_LIST)?;
    let Some(DetailOutline { kind, action, identifier, location, datatype, privilege }) = detail else {
        return Ok(());
    };
    text("rules.detail.type", kind)?;
    optional("rules.detail.action", action)?;
    optional("rules.detail.identifier", identifier)?;
    optional("rules.detail.location", location)?;
    optional("rules.detail.datatype", datatype)?;
    optional("rules.detail.privilege", privilege)
}

/// All text of a rule.
fn texts(rule: &RuleOutline) -> impl Iterator<Item = &String> {
    let RuleOutline { name, effect, path, detail, break_glass, .. } = rule;
    let lists = [&rule.methods, &rule.hosts, &rule.captures, &rule.scopes, &rule.any_scopes, &rule.others];
    let of_detail = detail.iter().flat_map(|detail| {
        let DetailOutline { kind, action, identifier, location, datatype, privilege } = detail;
        [action, identifier, location, datatype, privilege].into_iter().flatten().chain([kind])
    });
    [name, effect].into_iter().chain(path).chain(break_glass).chain(lists.into_iter().flatten()).chain(of_detail)
}

fn optional(name: &str, value: &mut Option<String>) -> Result<(), String> {
    value.as_mut().map_or(Ok(()), |value| text(name, value))
}

fn list(name: &str, items: &mut [String], most: usize) -> Result<(), String> {
    few(name, items.len(), most)?;
    items.iter_mut().try_for_each(|item| text(name, item))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::check::MAX_TEXT;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    /// Texts around what is taken: short ones, with zero bytes, as long as they may be, and too long.
    fn word() -> impl Strategy<Value = Value> {
        prop_oneof![
            6 => "[a-z*{}\u{0}é]{0,6}".prop_map(Value::from),
            1 => prop_oneof![Just(MAX_TEXT), Just(MAX_TEXT + 1), Just(40_000)].prop_map(|length| "x".repeat(length).into()),
        ]
    }

    fn words() -> impl Strategy<Value = Value> {
        let long = prop_oneof![Just(MAX_CAPTURES + 1), Just(MAX_LIST), Just(MAX_LIST + 1)];
        prop_oneof![
            6 => proptest::collection::vec(word(), 0..4).prop_map(Value::from),
            1 => long.prop_map(|length| vec![Value::from("y"); length].into()),
        ]
    }

    /// Any JSON, which is seldom of the right shape.
    fn anything() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            word()
        ];
        leaf.prop_recursive(3, 12, 4, |inner| {
            let members = proptest::collection::vec(("[a-z_]{0,8}", inner.clone()), 0..4);
            prop_oneof![
                proptest::collection::vec(inner, 0..4).prop_map(Value::from),
                members.prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    /// A member that is there or not, and seldom anything.
    fn member(usual: impl Strategy<Value = Value> + 'static) -> impl Strategy<Value = Option<Value>> {
        prop_oneof![4 => Just(None), 4 => usual.prop_map(Some), 1 => anything().prop_map(Some)]
    }

    fn object(members: Vec<(&'static str, BoxedStrategy<Option<Value>>)>) -> impl Strategy<Value = Value> {
        let (names, values): (Vec<_>, Vec<_>) = members.into_iter().unzip();
        values.prop_map(move |values| {
            let members = names.iter().zip(values).filter_map(|(name, value)| Some(((*name).to_owned(), value?)));
            Value::Object(members.collect())
        })
    }

    fn rules() -> impl Strategy<Value = Value> {
        let detail =
            ["action", "identifier", "location", "datatype", "privilege"].map(|name| (name, member(word()).boxed()));
        let kind = ("type", word().prop_map(Some).boxed());
        let detail = object(detail.into_iter().chain([kind]).collect());
        let lists = ["methods", "hosts", "captures", "scopes", "any_scopes", "others"]
            .map(|name| (name, member(words()).boxed()));
        let always = ["name", "effect"].map(|name| (name, word().prop_map(Some).boxed()));
        let others = ["path", "break_glass"].map(|name| (name, member(word()).boxed()));
        let flags = ["grpc", "shadow"].map(|name| (name, member(any::<bool>().prop_map(Value::from)).boxed()));
        let members =
            lists.into_iter().chain(always).chain(others).chain(flags).chain([("detail", member(detail).boxed())]);
        let rule = prop_oneof![12 => object(members.collect()), 1 => anything()];
        proptest::collection::vec(rule, 0..4).prop_map(Value::from)
    }

    /// What may stand in `configs` of a post.
    fn outlines() -> impl Strategy<Value = Value> {
        let whole = (word(), rules()).prop_map(|(config, rules)| json!({"config": config, "rules": rules}));
        prop_oneof![12 => whole, 1 => anything()]
    }

    /// All text and all lists in a JSON value, with their names.
    fn walk(name: &str, value: &Value, see: &mut dyn FnMut(&str, &Value)) {
        see(name, value);
        match value {
            Value::Array(items) => items.iter().for_each(|item| walk(name, item, see)),
            Value::Object(members) => members.iter().for_each(|(name, value)| walk(name, value, see)),
            _ => {}
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn what_is_taken_has_bounds(value in outlines()) {
            let Ok(mut read) = serde_json::from_value::<Outline>(value) else { return Ok(()) };
            let Err(error) = outline(&mut read) else {
                // As it is stored.
                let stored = serde_json::to_value(&read).unwrap();
                let mut bytes = 0;
                walk("", &stored, &mut |name, value| match value {
                    Value::String(text) => {
                        assert!(text.len() <= MAX_TEXT && !text.contains('\0'), "{name}");
                        bytes += if name == "config" { 0 } else { text.len() };
                    }
                    Value::Array(items) => {
                        let most = match name {
                            "captures" => MAX_CAPTURES,
                            "rules" => MAX_RULES,
                            _ => MAX_LIST,
                        };
                        assert!(items.len() <= most, "{name}");
                    }
                    _ => {}
                });
                prop_assert!(bytes <= MAX_OUTLINE && !read.config.is_empty());
                prop_assert!(weight(&read) >= read.rules.len() * size_of::<RuleOutline>());
                return Ok(());
            };
            prop_assert!(error.len() < 200, "{}", error);
        }
    }

    #[test]
    fn each_member_is_checked() {
        let long = "x".repeat(MAX_TEXT + 1);
        let detail = |name: &str| json!({"type": "t", name: long});
        for (member, value) in [
            ("name", json!(long)),
            ("effect", json!(long)),
            ("path", json!(long)),
            ("break_glass", json!(long)),
            ("methods", json!([long])),
            ("hosts", json!([long])),
            ("captures", json!([long])),
            ("scopes", json!([long])),
            ("any_scopes", json!([long])),
            ("others", json!([long])),
            ("detail", detail("type")),
            ("detail", detail("action")),
            ("detail", detail("identifier")),
            ("detail", detail("location")),
            ("detail", detail("datatype")),
            ("detail", detail("privilege")),
            ("captures", json!(vec!["x"; MAX_CAPTURES + 1])),
            ("any_scopes", json!(vec!["x"; MAX_LIST + 1])),
            ("others", json!(vec!["x"; MAX_LIST + 1])),
        ] {
            let mut rule = json!({"name": "r", "effect": "require"});
            rule[member] = value;
            let mut read: Outline = serde_json::from_value(json!({"config": "c", "rules": [rule]})).unwrap();
            let error = outline(&mut read).unwrap_err();
            assert!(error.starts_with(&format!("`rules.{member}")) && error.contains("and may have"), "{error}");
        }
        let rule = RuleOutline { hosts: vec!["x".repeat(1_024); 200], ..RuleOutline::default() };
        let mut large = Outline { config: "c".to_owned(), rules: vec![rule; 2] };
        assert!(outline(&mut large).unwrap_err().starts_with("`rules` have 409600 bytes of text"));
        large.rules.pop();
        assert_eq!(outline(&mut large), Ok(()));
    }

    #[test]
    fn zero_bytes_are_replaced_everywhere() {
        let zero = "a\0".to_owned();
        let detail = DetailOutline { kind: zero.clone(), action: Some(zero.clone()), ..DetailOutline::default() };
        let rule = RuleOutline {
            any_scopes: vec![zero.clone()],
            others: vec![zero.clone()],
            break_glass: Some(zero.clone()),
            detail: Some(detail),
            ..RuleOutline::default()
        };
        let mut read = Outline { config: zero, rules: vec![rule] };
        assert_eq!(outline(&mut read), Ok(()));
        assert!(!serde_json::to_string(&read).unwrap().contains("\\u0000"));
    }
}
