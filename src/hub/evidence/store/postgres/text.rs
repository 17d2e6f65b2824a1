//! Text and JSON as PostgreSQL holds them, and the keys that stand for text of any length.

use crate::store::model::StoreError;
use crate::store::postgres::text::stored;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use taskfence_core::encoding::digest::sha256;

/// What stands for several texts: the first 16 bytes of a digest of all of them.
pub(super) type Key = [u8; 16];

/// The key of `parts`. ("ab", "c") and ("a", "bc") have different ones.
pub(super) fn key(parts: &[&str]) -> Key {
    let mut all = Vec::new();
    for part in parts {
        all.extend_from_slice(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
        all.extend_from_slice(part.as_bytes());
    }
    *sha256(&all).first_chunk().unwrap_or(&[0; 16])
}

/// The JSON of `value`, for a column `jsonb`: without the character U+0000, which it does not have.
pub(super) fn json<T: Serialize>(value: &T) -> Result<String, StoreError> {
    let failed = |error: serde_json::Error| StoreError::Failed(error.to_string());
    let text = serde_json::to_string(value).map_err(failed)?;
    if !text.contains("\\u0000") {
        return Ok(text);
    }
    // It may also be a backslash and five letters.
    let mut value: Value = serde_json::from_str(&text).map_err(failed)?;
    replace(&mut value);
    serde_json::to_string(&value).map_err(failed)
}

/// Reads what [`json`] has made.
pub(super) fn from_json<T: DeserializeOwned>(text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| StoreError::Damaged(format!("a column with JSON: {error}")))
}

fn replace(value: &mut Value) {
    match value {
        Value::String(text) => *text = stored(text).into_owned(),
        Value::Array(items) => items.iter_mut().for_each(replace),
        Value::Object(members) => {
            let all = std::mem::take(members);
            members.extend(all.into_iter().map(|(name, mut value)| {
                replace(&mut value);
                (stored(&name).into_owned(), value)
            }));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn keys_tell_texts_apart_however_they_are_cut() {
        assert_eq!(key(&["a", "b"]), key(&["a", "b"]));
        assert_ne!(key(&["ab", "c"]), key(&["a", "bc"]));
        assert_ne!(key(&["a"]), key(&["a", ""]));
    }

    #[test]
    fn json_has_no_null_character_and_is_else_as_it_was() {
        let text = json(&json!({"a\0": ["\0b", "\\u0000", 1.5, null]})).unwrap();
        assert_eq!(from_json::<Value>(&text), Ok(json!({"a\u{2400}": ["\u{2400}b", "\\u0000", 1.5, null]})));
        let plain = json!({"b": 1, "a": "\u{1}"});
        assert_eq!(from_json::<Value>(&json(&plain).unwrap()), Ok(plain));
        assert!(matches!(from_json::<Value>("{"), Err(StoreError::Damaged(_))));
    }
}
