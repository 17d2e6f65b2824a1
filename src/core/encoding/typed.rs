//! Reads a JSON value into a type, and reports the path of a value that does not fit.
//!
//! Serde also reads a struct from a list, field by field, so that `stale: [30s]` or `match: []` would get a meaning
//! that nobody intended. Here a struct or a map is read only from an object. This holds for every type, because the
//! type tells the deserializer what it expects.

use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, Unexpected, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::{Map, Value};
use std::fmt;

/// Reads `value` as a `T`.
pub(crate) fn read<T: DeserializeOwned>(value: &Value) -> Result<T, ReadError> {
    T::deserialize(Reader(value))
}

/// An error of serde, with the path of the value. Behind one pointer: every reader of a value hands it on, and the code for
/// that is most of their size.
#[derive(Debug)]
pub(crate) struct ReadError(Box<Misfit>);

#[derive(Debug)]
struct Misfit {
    message: String,
    /// From the innermost to the outermost.
    steps: Vec<Step>,
}

#[derive(Debug)]
enum Step {
    Key(String),
    Index(usize),
}

impl ReadError {
    /// The message.
    pub(crate) fn message(&self) -> &str {
        &self.0.message
    }

    /// The path of the value: `rules[0].match.path`. Empty for the whole value.
    pub(crate) fn path(&self) -> String {
        let mut path = String::new();
        for step in self.0.steps.iter().rev() {
            match step {
                Step::Key(key) if path.is_empty() => path.push_str(key),
                Step::Key(key) => path.extend([".", key]),
                Step::Index(index) => path.push_str(&format!("[{index}]")),
            }
        }
        path
    }

    fn inside(mut self, step: Step) -> ReadError {
        self.0.steps.push(step);
        self
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl std::error::Error for ReadError {}

impl de::Error for ReadError {
    fn custom<T: fmt::Display>(message: T) -> ReadError {
        ReadError(Box::new(Misfit { message: message.to_string(), steps: Vec::new() }))
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn de::Expected) -> ReadError {
        match found {
            // JSON calls it null.
            Unexpected::Unit => ReadError::custom(format_args!("invalid type: null, expected {expected}")),
            found => ReadError::custom(format_args!("invalid type: {found}, expected {expected}")),
        }
    }
}

struct Reader<'v>(&'v Value);

impl<'de> Reader<'de> {
    fn object(self, expected: &dyn de::Expected) -> Result<&'de Map<String, Value>, ReadError> {
        match self.0 {
            Value::Object(members) => Ok(members),
            Value::Array(_) => Err(de::Error::custom("is a list, and must be an object")),
            other => Err(de::Error::invalid_type(unexpected(other), expected)),
        }
    }
}

impl<'de> Deserializer<'de> for Reader<'de> {
    type Error = ReadError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
                (Some(number), ..) => visitor.visit_u64(number),
                (_, Some(number), _) => visitor.visit_i64(number),
                (.., number) => visitor.visit_f64(number.unwrap_or(f64::NAN)),
            },
            Value::String(text) => visitor.visit_borrowed_str(text),
            Value::Array(items) => visitor.visit_seq(Items { items: items.iter().enumerate() }),
            Value::Object(members) => visitor.visit_map(Members { members: members.iter(), current: None }),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        self.deserialize_map(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        let members = self.object(&visitor)?.iter();
        visitor.visit_map(Members { members, current: None })
    }

    /// All enums of the configuration are plain strings.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        match self.0 {
            Value::String(text) => {
                let text: StrDeserializer<'_, ReadError> = text.as_str().into_deserializer();
                text.deserialize_enum(name, variants, visitor)
            }
            other => Err(de::Error::invalid_type(unexpected(other), &"a string")),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct identifier ignored_any
    }
}

fn unexpected(value: &Value) -> Unexpected<'_> {
    match value {
        Value::Null => Unexpected::Unit,
        Value::Bool(value) => Unexpected::Bool(*value),
        Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
            (Some(number), ..) => Unexpected::Unsigned(number),
            (_, Some(number), _) => Unexpected::Signed(number),
            (.., number) => Unexpected::Float(number.unwrap_or(f64::NAN)),
        },
        Value::String(text) => Unexpected::Str(text),
        Value::Array(_) => Unexpected::Seq,
        Value::Object(_) => Unexpected::Map,
    }
}

struct Items<'v> {
    items: std::iter::Enumerate<std::slice::Iter<'v, Value>>,
}

impl<'de> de::SeqAccess<'de> for Items<'de> {
    type Error = ReadError;

    /// Not inlined, as [`Members::next_value_seed`].
    #[inline(never)]
    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, ReadError> {
        let Some((index, item)) = self.items.next() else { return Ok(None) };
        seed.deserialize(Reader(item)).map(Some).map_err(|error| error.inside(Step::Index(index)))
    }
}

struct Members<'v> {
    members: serde_json::map::Iter<'v>,
    current: Option<(&'v String, &'v Value)>,
}

impl<'de> de::MapAccess<'de> for Members<'de> {
    type Error = ReadError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, ReadError> {
        self.current = self.members.next();
        let Some((key, _)) = self.current else { return Ok(None) };
        let reader: StrDeserializer<'_, ReadError> = key.as_str().into_deserializer();
        seed.deserialize(reader).map(Some).map_err(|error| error.inside(Step::Key(key.clone())))
    }

    /// Not inlined: many members have values of one type.
    #[inline(never)]
    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, ReadError> {
        let Some((key, value)) = self.current else { return Err(de::Error::custom("a value without a key")) };
        seed.deserialize(Reader(value)).map_err(|error| error.inside(Step::Key(key.clone())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde::Deserialize;
    use serde_json::json;
    use std::collections::BTreeMap;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code, reason = "only reading it matters")]
    struct Outer {
        list: Vec<Inner>,
        #[serde(default)]
        map: BTreeMap<String, u8>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code, reason = "only reading it matters")]
    struct Inner {
        name: String,
        #[serde(default)]
        numbers: Vec<u8>,
        #[serde(default)]
        word: Option<Claim>,
        #[serde(default)]
        inner: Option<Box<Inner>>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Claim {
        One,
    }

    /// serde_json's own reader of values, with `serde_path_to_error` around it, says the same.
    fn both(json: &str) -> (String, String) {
        let value: Value = serde_json::from_str(json).unwrap();
        let ours = read::<Outer>(&value).unwrap_err();
        let theirs = serde_path_to_error::deserialize::<_, Outer>(value).unwrap_err();
        let path = theirs.path().to_string();
        assert_eq!(ours.message(), theirs.inner().to_string(), "{json}");
        (ours.path(), if path == "." { String::new() } else { path })
    }

    #[test]
    fn every_error_has_the_path_of_what_is_wrong() {
        for (json, path) in [
            (r#"{}"#, ""),
            (r#"{"lst":[]}"#, "lst"),
            (r#"{"list":7}"#, "list"),
            (r#"{"list":{"a":1}}"#, "list"),
            (r#"{"list":[{"name":null}]}"#, "list[0].name"),
            ("{\n \"list\": [ { } ]\n}", "list[0]"),
            (r#"{"list":[{"name":"a"},{"name":7}]}"#, "list[1].name"),
            (r#"{"list":[{"name":["a"]}]}"#, "list[0].name"),
            (r#"{"list":[{"name":"a","numbers":[1,2,"x"]}]}"#, "list[0].numbers[2]"),
            (r#"{"list":[{"name":"a","numbers":[[1]]}]}"#, "list[0].numbers[0]"),
            (r#"{"list":[{"name":"a","numbers":[300]}]}"#, "list[0].numbers[0]"),
            (r#"{"list":[{"name":"a","numbers":[1.5]}]}"#, "list[0].numbers[0]"),
            (r#"{"list":[{"name":"a","word":"two"}]}"#, "list[0].word"),
            (r#"{"list":[{"name":"a \" } ] , b","nam":1}]}"#, "list[0].nam"),
            (r#"{"list":[{"name":"a"},{"numbers":[1]},{"name":"b"}]}"#, "list[1]"),
            (r#"{"map":{"a":1,"b":-1},"list":[]}"#, "map.b"),
        ] {
            assert_eq!(both(json), (path.to_owned(), path.to_owned()), "{json}");
        }
    }

    #[test]
    fn a_list_is_no_object() {
        for (value, path) in [
            (json!([[], {}]), ""),
            (json!({"list": [["name"]]}), "list[0]"),
            (json!({"list": [{"name": "a", "inner": ["b"]}]}), "list[0].inner"),
            (json!({"list": [{"name": "a", "inner": {"name": "b", "inner": [[]]}}]}), "list[0].inner.inner"),
            (json!({"list": [], "map": [["a", 1]]}), "map"),
        ] {
            let error = read::<Outer>(&value).unwrap_err();
            assert_eq!((error.path().as_str(), error.message()), (path, "is a list, and must be an object"), "{value}");
        }
    }

    #[test]
    fn a_word_is_no_object() {
        let error = read::<Outer>(&json!({"list": [{"name": "a", "word": {"one": null}}]})).unwrap_err();
        assert_eq!(error.path(), "list[0].word");
    }

    proptest! {
        #[test]
        fn reads_what_serde_json_reads(names in proptest::collection::vec("[a-z]{0,3}", 0..4), number in any::<u8>()) {
            let list: Vec<Value> = names.iter().map(|name| json!({"name": name, "numbers": [number]})).collect();
            let value = json!({"list": list, "map": {"n": number}});
            let theirs: Outer = serde_json::from_value(value.clone()).unwrap();
            prop_assert_eq!(format!("{:?}", read::<Outer>(&value).unwrap()), format!("{theirs:?}"));
        }
    }
}
