//! When two subjects are the same (SSF 1.0 §8.1.3.1).

use serde_json::Value;

/// Whether a subject that a receiver named is that of an event. Simple subjects are the same when all members are. Complex
/// ones are when no member that both have differs.
pub(super) fn matches(named: &Value, of_event: &Value) -> bool {
    let (Some(named_members), Some(members)) = (named.as_object(), of_event.as_object()) else { return false };
    let is_complex = |subject: &Value| subject.get("format").is_some_and(|format| format == "complex");
    match (is_complex(named), is_complex(of_event)) {
        (true, true) => {
            let mut common = named_members.iter().filter(|(name, _)| *name != "format" && members.contains_key(*name));
            // Two that have nothing in common say nothing about each other: what is removed must be named.
            let has_common = common.clone().next().is_some();
            has_common && common.all(|(name, value)| members.get(name) == Some(value))
        }
        (false, false) => named == of_event,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn subjects_are_compared_by_their_members() {
        let opaque = |id: &str| json!({"format": "opaque", "id": id});
        let user = |id: &str| json!({"format": "complex", "user": opaque(id)});
        let both = json!({"format": "complex", "user": opaque("a"), "session": opaque("s")});
        let session = json!({"format": "complex", "session": opaque("s")});
        let table = [
            (opaque("a"), opaque("a"), true),
            (opaque("a"), opaque("b"), false),
            (user("a"), both.clone(), true),
            (both.clone(), user("a"), true),
            (user("b"), both, false),
            (user("a"), session, false),
            (opaque("a"), user("a"), false),
            (json!("a"), json!("a"), false),
        ];
        for (named, of_event, expected) in table {
            assert_eq!(matches(&named, &of_event), expected, "{named} and {of_event}");
        }
    }
}
