//! Simple subject identifiers (RFC 9493) where a token carries one.

use crate::signal::subject::SubjectError;
use crate::signal::subject::format_of;
use serde_json::{Map, Value};

/// The issuer, where one is named, and the name that a simple subject gives.
pub fn name(subject: &Map<String, Value>) -> Option<(Option<&str>, &str)> {
    match format_of(subject).ok()? {
        "opaque" => Some((None, text(subject, "id").ok()?)),
        "iss_sub" => Some((Some(text(subject, "iss").ok()?), text(subject, "sub").ok()?)),
        "jwt_id" => Some((Some(text(subject, "iss").ok()?), text(subject, "jti").ok()?)),
        _ => None,
    }
}

pub(crate) fn text<'v>(object: &'v Map<String, Value>, name: &str) -> Result<&'v str, SubjectError> {
    object.get(name).and_then(Value::as_str).filter(|text| !text.is_empty()).ok_or(SubjectError::Malformed)
}
