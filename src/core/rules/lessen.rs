//! Applies narrowings to a claim that carries scope or details. The claim keeps its shape.
//!
//! The result never contains more than the narrowings keep. If the exact rest cannot be written, it contains less.

use crate::http::uri;
use crate::token::detail::{Detail, MAX_DETAILS};
use hashbrown::HashSet;
use serde_json::{Map, Value};

/// The scope values of `claim` for which `is_left` is true. `None` if the claim is neither a string nor an array: its
/// meaning is unknown, so nothing of it may be used.
pub(crate) fn scope(claim: &Value, is_left: impl Fn(&str) -> bool) -> Option<Value> {
    match claim {
        Value::String(text) => {
            let words = || text.split(' ').filter(|word| !word.is_empty());
            if words().all(&is_left) {
                return Some(claim.clone());
            }
            Some(words().filter(|word| is_left(word)).collect::<Vec<_>>().join(" ").into())
        }
        // Some readers take a value with a space for one scope value, others for two.
        Value::Array(values) => {
            let is_left = |value: &&Value| {
                value.as_str().is_some_and(|text| text.split(' ').all(|word| !word.is_empty() && is_left(word)))
            };
            Some(values.iter().filter(is_left).cloned().collect())
        }
        _ => None,
    }
}

/// The objects of RFC 9396 in `claim` after a narrowing to `left`: for each pair of an object of the claim and an
/// object of the narrowing, what they have in common. `None` if the claim is not an array: its meaning is unknown, so
/// nothing of it may be used.
///
/// A rule needs an object of the token that meets it, and one of each narrowing. So a pair has something in common only
/// if both objects have the same members. Of a list it keeps the values that are in both; any other member must be
/// equal in both. A member of only one object is a restriction that the other object lacks: no rule that checks it is
/// met by both.
pub(crate) fn details(claim: &Value, left: &[Map<String, Value>]) -> Option<Value> {
    let mut shown: Vec<Value> = Vec::new();
    for object in claim.as_array()?.iter().filter_map(readable) {
        for common in left.iter().filter_map(|left| in_common(object, left)) {
            let common = Value::Object(common);
            if shown.len() < MAX_DETAILS && !shown.contains(&common) {
                shown.push(common);
            }
        }
    }
    Some(Value::Array(shown))
}

/// `object` as a valid object of RFC 9396; `None` if it is not one.
fn readable(object: &Value) -> Option<&Map<String, Value>> {
    object.as_object().filter(|members| Detail::read(members).is_some())
}

fn in_common(object: &Map<String, Value>, left: &Map<String, Value>) -> Option<Map<String, Value>> {
    if object.len() != left.len() {
        return None;
    }
    let member = |(name, value): (&String, &Value)| {
        let common = match (Detail::is_list(name), value, left.get(name)?) {
            (true, Value::Array(values), Value::Array(left)) => {
                let common = same_values(name, values, left);
                (!common.is_empty()).then_some(Value::Array(common))?
            }
            (false, value, left) if value == left => value.clone(),
            _ => return None,
        };
        Some((name.clone(), common))
    };
    object.iter().map(member).collect()
}

/// The `values` of the list `name` that are also in `left`. Locations are compared as canonical URIs.
fn same_values(name: &str, values: &[Value], left: &[Value]) -> Vec<Value> {
    let key = |value: &Value| {
        let text = value.as_str()?;
        match name {
            "locations" => Some(uri::canonical(text).unwrap_or_else(|| text.to_owned())),
            _ => Some(text.to_owned()),
        }
    };
    let left: HashSet<String> = left.iter().filter_map(key).collect();
    values.iter().filter(|value| key(value).is_some_and(|key| left.contains(&key))).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn scope_keeps_its_shape() {
        let left = |claim: Value| scope(&claim, |value| ["a", "b"].contains(&value));
        for (claim, expected) in [
            (json!("a b"), Some(json!("a b"))),
            (json!("b  a"), Some(json!("b  a"))),
            (json!("c a d"), Some(json!("a"))),
            (json!("c"), Some(json!(""))),
            (json!("a,b"), Some(json!(""))),
            (json!(["a", "c"]), Some(json!(["a"]))),
            (json!(["a b", "a c", "", 7, ["a"]]), Some(json!(["a b"]))),
            (json!({"a": true}), None),
            (json!(7), None),
        ] {
            assert_eq!(left(claim.clone()), expected, "{claim}");
        }
    }

    #[test]
    fn details_are_what_both_name() {
        let order = |actions: Value, id: &str| json!({"type": "order", "actions": actions, "identifier": id});
        let left = |claim: Value, left: Value| {
            let left: Vec<_> = left.as_array().unwrap().iter().map(|left| left.as_object().unwrap().clone()).collect();
            details(&claim, &left)
        };
        let token = || json!([order(json!(["read", "list"]), "1"), order(json!(["read"]), "2")]);
        for (narrowing, expected) in [
            (token(), token()),
            (json!([]), json!([])),
            (json!([order(json!(["read", "write"]), "1")]), json!([order(json!(["read"]), "1")])),
            (json!([order(json!(["write"]), "1")]), json!([])),
            (json!([order(json!(["read"]), "3")]), json!([])),
            (json!([{"type": "order", "actions": ["read"]}]), json!([])),
            (json!([{"type": "order", "actions": ["read"], "identifier": "1", "locations": ["https://a"]}]), json!([])),
            (json!([{"type": "other", "actions": ["read"], "identifier": "1"}]), json!([])),
            (
                json!([order(json!(["read"]), "1"), order(json!(["list"]), "1"), order(json!(["read"]), "1")]),
                json!([order(json!(["read"]), "1"), order(json!(["list"]), "1")]),
            ),
        ] {
            assert_eq!(left(token(), narrowing.clone()), Some(expected), "{narrowing}");
        }
        let limited = |limit: u64| json!([{"type": "order", "actions": ["pay"], "limit": {"eur": limit}}]);
        assert_eq!(left(limited(3), limited(3)), Some(limited(3)));
        assert_eq!(left(limited(3), limited(2)), Some(json!([])), "which of the two limits is lower is not known");
        let at = |place: &str| json!([{"type": "order", "locations": [place]}]);
        assert_eq!(left(at("https://A:443/"), at("https://a")), Some(at("https://A:443/")));
        assert_eq!(left(json!([7, {"no": "type"}]), token()), Some(json!([])));
        assert_eq!(left(json!("order"), token()), None);
    }
}
