//! What JSON values take in memory: a short text can make many of them.

use serde_json::Value;

/// The bytes that a value, an object and a member take beside their text, about.
const OF_VALUE: usize = 32;
const OF_OBJECT: usize = 640;
const OF_MEMBER: usize = 32;

/// About how many bytes the value takes beside its text.
pub fn weigh(value: &Value) -> usize {
    let inner = match value {
        Value::Array(items) => items.iter().map(weigh).fold(0, usize::saturating_add),
        // The members are in nodes of a tree, with room for eleven.
        Value::Object(members) if !members.is_empty() => {
            members.values().map(|value| weigh(value).saturating_add(OF_MEMBER)).fold(OF_OBJECT, usize::saturating_add)
        }
        _ => 0,
    };
    inner.saturating_add(OF_VALUE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn small_objects_weigh_more_than_their_text() {
        let objects = json!(vec![json!({"a": 0}); 100]);
        assert!(weigh(&objects) > objects.to_string().len() * 80);
        let text = json!("x".repeat(10_000));
        assert_eq!((weigh(&text), weigh(&json!({}))), (OF_VALUE, OF_VALUE));
    }
}
