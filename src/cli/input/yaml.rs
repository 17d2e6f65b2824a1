//! Converts YAML to JSON, strictly: a text that two YAML parsers could read differently is an error.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};
use serde_json::Value;
use serde_saphyr::UserMessageFormatter;
use serde_saphyr::options::{DuplicateKeyPolicy, NonFiniteFloatPolicy};

/// Reads one YAML document as YAML 1.2 does: `no` and `on` are words, not truth values. Returns it as JSON, with the
/// keys in the order of the document.
///
/// An error is one line that ends with its place.
pub fn to_json(text: &str) -> Result<String, String> {
    let options = serde_saphyr::options! {
        duplicate_keys: DuplicateKeyPolicy::Error,
        non_finite_float_policy: NonFiniteFloatPolicy::Reject,
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        reject_unsupported_tags: true,
        with_snippet: false,
        // Anchors may save typing, but must not make a small file large.
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 10_000, max_replay_stack_depth: 8 },
    };
    let document: Ordered = serde_saphyr::from_str_with_options(text, options)
        .map_err(|error| error.render_with_formatter(&UserMessageFormatter))?;
    serde_json::to_string_pretty(&document).map_err(|error| error.to_string())
}

/// A JSON value whose objects keep the order of their keys, for the people who read the result.
enum Ordered {
    Scalar(Value),
    List(Vec<Ordered>),
    Object(Vec<(String, Ordered)>),
}

impl<'de> Deserialize<'de> for Ordered {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OrderedVisitor)
    }
}

struct OrderedVisitor;

impl<'de> Visitor<'de> for OrderedVisitor {
    type Value = Ordered;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Ordered, E> {
        Ok(Ordered::Scalar(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Ordered, E> {
        Ok(Ordered::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Ordered, E> {
        Ok(Ordered::Scalar(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Ordered, E> {
        Ok(Ordered::Scalar(value.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Ordered, E> {
        Ok(Ordered::Scalar(value.into()))
    }

    fn visit_unit<E>(self) -> Result<Ordered, E> {
        Ok(Ordered::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Ordered, E> {
        Ok(Ordered::Scalar(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<Ordered, D::Error> {
        inner.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Ordered, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Ordered::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Ordered, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = object.next_entry()? {
            members.push(member);
        }
        Ok(Ordered::Object(members))
    }
}

impl Serialize for Ordered {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Ordered::Scalar(value) => value.serialize(serializer),
            Ordered::List(items) => serializer.collect_seq(items),
            Ordered::Object(members) => serializer.collect_map(members.iter().map(|(name, value)| (name, value))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn value(yaml: &str) -> Value {
        serde_json::from_str(&to_json(yaml).unwrap()).unwrap()
    }

    #[test]
    fn values_are_those_of_yaml_1_2() {
        let yaml = "
text: orders.mesh
words: [no, yes, on, off, y]
truth: [true, false]
nothing: [null, ~]
numbers: [1, -2, 1.5, 18446744073709551615]
not_numbers: [0755, 1_000, 5m, '7', 2026-09-21]
keys: {7: seven, true: yes}
";
        let expected = json!({
            "text": "orders.mesh", "words": ["no", "yes", "on", "off", "y"], "truth": [true, false],
            "nothing": [null, null], "numbers": [1, -2, 1.5, 18446744073709551615_u64],
            "not_numbers": ["0755", "1_000", "5m", "7", "2026-09-21"], "keys": {"7": "seven", "true": "yes"},
        });
        assert_eq!(value(yaml), expected);
    }

    #[test]
    fn anchors_save_typing() {
        let yaml = "a: &keys {x: 1}\nb: *keys\nc: {<<: *keys, y: 2}\n";
        assert_eq!(value(yaml), json!({"a": {"x": 1}, "b": {"x": 1}, "c": {"x": 1, "y": 2}}));
    }

    #[test]
    fn the_order_of_keys_stays() {
        let json = to_json("role: filter\nissuers: [{name: x, age: 1}]\n").unwrap();
        assert_eq!(
            json.split_whitespace().collect::<String>(),
            r#"{"role":"filter","issuers":[{"name":"x","age":1}]}"#
        );
    }

    #[test]
    fn what_is_refused_and_where() {
        let laughs: String = (1..20).map(|n| format!("a{n}: &a{n} [*a{}, *a{}]\n", n - 1, n - 1)).collect();
        let table = [
            ("a: 1\nb: 2\na: 3\n", "line 3"),
            ("a: {b: 1, b: 2}", "line 1"),
            ("a: [1, 2", "line"),
            ("a: .inf", "line 1"),
            ("a: !secret x", "line 1"),
            ("a: 1\n---\na: 2\n", "document"),
            (&format!("a0: &a0 [x]\n{laughs}"), "too complex"),
            (&"[".repeat(100_000), "line"),
            ("a: *nobody", "line 1"),
        ];
        for (yaml, expected) in table {
            let shown: String = yaml.chars().take(60).collect();
            let error = to_json(yaml).expect_err(&shown);
            assert!(error.contains(expected), "{shown}: {error}");
            assert!(!error.contains('\n'), "{shown}: {error}");
        }
    }
}
