//! Strict JSON for tokens and signals: no duplicate names, limited nesting.
//!
//! RFC 7519 §4 lets the parser choose which of two equal claim names counts. If two parsers choose differently, a check
//! can be bypassed, so an object with a duplicate name is refused.

use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use std::fmt;

/// The maximum depth of nested objects and arrays.
pub(crate) const MAX_DEPTH: u8 = 32;

/// Why bytes were not accepted as JSON.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct JsonError(#[from] serde_json::Error);

impl JsonError {
    /// Whether the bytes are not JSON at all, and not merely JSON that is refused.
    pub(crate) fn is_no_json(&self) -> bool {
        self.0.is_syntax() || self.0.is_eof()
    }
}

/// Parses one JSON object that fills `bytes`.
pub(crate) fn object(bytes: &[u8]) -> Result<Map<String, Value>, JsonError> {
    match value(bytes)? {
        Value::Object(map) => Ok(map),
        _ => Err(JsonError(de::Error::custom("expected a JSON object"))),
    }
}

/// Parses one JSON value that fills `bytes`.
pub(crate) fn value(bytes: &[u8]) -> Result<Value, JsonError> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = Strict { depth: MAX_DEPTH }.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

#[derive(Clone, Copy)]
struct Strict {
    depth: u8,
}

impl Strict {
    fn deeper<E: de::Error>(self) -> Result<Strict, E> {
        let depth = self.depth.checked_sub(1).ok_or_else(|| E::custom("nested too deeply"))?;
        Ok(Strict { depth })
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(Value::Bool(v))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        Ok(Value::from(v))
    }

    fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
        Ok(Value::from(v))
    }

    fn visit_f64<E>(self, v: f64) -> Result<Value, E> {
        Ok(Value::from(v))
    }

    fn visit_str<E>(self, v: &str) -> Result<Value, E> {
        Ok(Value::String(v.to_owned()))
    }

    fn visit_string<E>(self, v: String) -> Result<Value, E> {
        Ok(Value::String(v))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut values = Vec::new();
        while let Some(value) = seq.next_element_seed(inner)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut members = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            let value = map.next_value_seed(inner)?;
            if members.insert(name, value).is_some() {
                return Err(de::Error::custom("duplicate name in an object"));
            }
        }
        Ok(Value::Object(members))
    }
}

/// A `Value` read by the strict rules, for use as a field of a derived type.
#[derive(Debug, Clone, PartialEq)]
pub struct StrictValue(pub Value);

impl<'de> Deserialize<'de> for StrictValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Strict { depth: MAX_DEPTH }.deserialize(deserializer).map(StrictValue)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_serde_json_takes() {
        let text = br#"{"a":[1,-2,3.5,"x",null,true,{"b":{}}]}"#;
        assert_eq!(value(text).unwrap(), serde_json::from_slice::<Value>(text).unwrap());
    }

    #[test]
    fn refuses_duplicate_names_at_any_depth() {
        for text in [r#"{"exp":1,"exp":2}"#, r#"{"a":[{"b":1,"b":1}]}"#, r#"{"a":1,"\u0061":1}"#] {
            assert!(value(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn refuses_depth_size_and_trailing_bytes() {
        assert!(value("[".repeat(100).as_bytes()).is_err());
        let deep = format!("{}{}", "[".repeat(33), "]".repeat(33));
        assert!(value(deep.as_bytes()).is_err());
        let fits = format!("{}{}", "[".repeat(32), "]".repeat(32));
        assert!(value(fits.as_bytes()).is_ok());
        for text in ["{} {}", "1e400", "", "{\"a\":\u{0}}", "nul"] {
            assert!(value(text.as_bytes()).is_err(), "{text}");
        }
    }
}
