//! Simple subject identifiers (RFC 9493) in tokens and SETs.

use serde_json::{Map, Value};

/// The name in a simple subject, and its issuer if it has one.
pub(crate) fn name(subject: &Map<String, Value>) -> Option<(Option<&str>, &str)> {
    match format(subject)? {
        "opaque" => Some((None, text(subject, "id")?)),
        "iss_sub" => Some((Some(text(subject, "iss")?), text(subject, "sub")?)),
        "jwt_id" => Some((Some(text(subject, "iss")?), text(subject, "jti")?)),
        _ => None,
    }
}

/// The format of a subject: `format`, or `subject_type`, whose values have hyphens in drafts.
pub(crate) fn format(subject: &Map<String, Value>) -> Option<&str> {
    Some(match text(subject, "format").or_else(|| text(subject, "subject_type"))? {
        "iss-sub" => "iss_sub",
        "jwt-id" => "jwt_id",
        "phone-number" => "phone_number",
        "saml-assertion-id" => "saml_assertion_id",
        format => format,
    })
}

/// The member `name`, if it is a string and not empty.
pub(crate) fn text<'v>(object: &'v Map<String, Value>, name: &str) -> Option<&'v str> {
    object.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
}
