//! Of which kind a grant is, and which shape it has.

use crate::evidence::measures::lifecycle::Lifecycle;
use serde_json::Value;
use std::borrow::{Borrow, Cow};
use taskfence_core::uses::batch::GrantInfo;

/// The kind of task: as its issuer called it in an event; else the types and actions of its details, such as
/// `order:read,refund`; else its scopes; else `unknown`.
pub fn kind<'l>(info: &GrantInfo, lifecycle: &'l Lifecycle) -> Cow<'l, str> {
    if let Some(name) = lifecycle.kind(info) {
        return Cow::Borrowed(name);
    }
    let mut text = joined(info.details.iter().map(type_and_actions), " ");
    if text.is_empty() {
        text = joined(info.scopes.iter().map(String::as_str), " ");
    }
    if text.is_empty() { Cow::Borrowed("unknown") } else { Cow::Owned(text) }
}

/// The shape: scopes and details without identifiers, in an order of their own. Of a member that RFC 9396 §2.2 does not
/// define only the name is in it.
pub fn shape(info: &GrantInfo) -> String {
    let mut text = joined(info.scopes.iter().map(String::as_str), " ");
    let details = joined(info.details.iter().map(without_identifier), " ");
    if !text.is_empty() && !details.is_empty() {
        text.push_str("; ");
    }
    text.push_str(&details);
    text
}

fn type_and_actions(detail: &Value) -> String {
    let kind = detail.get("type").and_then(Value::as_str).unwrap_or_default();
    match list(detail, "actions") {
        Some(actions) => format!("{kind}:{actions}"),
        None => kind.to_owned(),
    }
}

fn without_identifier(detail: &Value) -> String {
    let mut text = type_and_actions(detail);
    for name in ["locations", "datatypes", "privileges"] {
        if let Some(values) = list(detail, name) {
            text.push_str(&format!(" {name}={values}"));
        }
    }
    for (name, value) in detail.as_object().into_iter().flatten() {
        match name.as_str() {
            "type" | "actions" | "locations" | "datatypes" | "privileges" => {}
            "identifier" => text.push_str(" identifier"),
            _ if value.is_null() => {}
            other => text.push_str(&format!(" +{other}")),
        }
    }
    text
}

fn list(detail: &Value, name: &str) -> Option<String> {
    Some(joined(detail.get(name)?.as_array()?.iter().filter_map(Value::as_str), ","))
}

/// The different parts in their order, with `between` between them.
fn joined<T: Ord + Borrow<str>>(parts: impl Iterator<Item = T>, between: &str) -> String {
    let mut parts: Vec<T> = parts.collect();
    parts.sort_unstable();
    parts.dedup();
    parts.join(between)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::model::{EventKind, EventRow};
    use serde_json::json;

    #[test]
    fn a_shape_has_no_identifiers_and_no_order() {
        let info = |scopes: &[&str], details: Value| GrantInfo {
            scopes: scopes.iter().map(|&scope| scope.to_owned()).collect(),
            details: details.as_array().unwrap().clone(),
            ..GrantInfo::default()
        };
        let one = info(&["b", "a"], json!([{"type": "order", "actions": ["refund", "read"], "identifier": "1"}]));
        let two = info(
            &["a", "b"],
            json!([
                {"type": "order", "identifier": "2", "actions": ["read", "refund"]},
                {"type": "order", "identifier": "3", "actions": ["read", "refund"]}
            ]),
        );
        assert_eq!(shape(&one), "a b; order:read,refund identifier");
        assert_eq!(shape(&one), shape(&two));
        let broad = info(&["a", "b"], json!([{"type": "order", "actions": ["read", "refund"]}]));
        assert_eq!(shape(&broad), "a b; order:read,refund");
    }

    #[test]
    fn a_kind_is_what_the_issuer_says_or_what_the_grant_is_for() {
        let mut lifecycle = Lifecycle::default();
        let event = EventRow {
            kind: Some(EventKind::Requested),
            issuer: "i".to_owned(),
            task: Some("t".to_owned()),
            task_kind: Some("refund".to_owned()),
            ..EventRow::default()
        };
        lifecycle.add(&event);
        let mut info = GrantInfo { issuer: "i".to_owned(), task: Some("t".to_owned()), ..GrantInfo::default() };
        assert_eq!(kind(&info, &lifecycle), "refund");
        info.issuer = "other".to_owned();
        assert_eq!(kind(&info, &lifecycle), "unknown");
        info.scopes = vec!["b".to_owned(), "a".to_owned()];
        assert_eq!(kind(&info, &lifecycle), "a b");
        info.details = vec![json!({"type": "order", "actions": ["refund", "read"], "identifier": "1"})];
        assert_eq!(kind(&info, &lifecycle), "order:read,refund");
    }
}
