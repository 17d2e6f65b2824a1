//! YAML into JSON, strictly: what two YAML parsers could read in two ways is an error.

use serde_json::Value;
use serde_saphyr::UserMessageFormatter;
use serde_saphyr::options::{DuplicateKeyPolicy, NonFiniteFloatPolicy};

/// Reads one YAML document as YAML 1.2 does: `no` and `on` are words, not truth values.
///
/// An error is one line that ends with its place.
pub fn to_json(text: &str) -> Result<Value, String> {
    let options = serde_saphyr::options! {
        duplicate_keys: DuplicateKeyPolicy::Error,
        non_finite_float_policy: NonFiniteFloatPolicy::Reject,
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        reject_unsupported_tags: true,
        with_snippet: false,
        // Anchors may save typing, not blow a small file up.
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 10_000, max_replay_stack_depth: 8 },
    };
    serde_saphyr::from_str_with_options(text, options)
        .map_err(|error| error.render_with_formatter(&UserMessageFormatter))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

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
        assert_eq!(to_json(yaml), Ok(expected));
    }

    #[test]
    fn anchors_save_typing() {
        let yaml = "a: &keys {x: 1}\nb: *keys\nc: {<<: *keys, y: 2}\n";
        assert_eq!(to_json(yaml), Ok(json!({"a": {"x": 1}, "b": {"x": 1}, "c": {"x": 1, "y": 2}})));
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
