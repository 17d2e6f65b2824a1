//! Where in a JSON document serde stopped, as a path for people: `rules[0].match.path`.
//!
//! `serde_path_to_error` finds the path by wrapping every deserializer, which makes each of them twice as large; the
//! module that runs in the proxy has to stay small. serde_json says line and column, and that is enough, as long as a
//! value is refused by the visitor that reads it: an error that is made behind its back is one of the whole object.

use serde_json::Error;

/// One level of nesting: the object and its key, or the array and its index, that the position is in.
enum Level {
    Object { key: Option<String>, at_key: bool },
    Array { index: usize },
}

/// The path of what `error` is about. `json` is what was being read.
pub fn of(json: &[u8], error: &Error) -> String {
    let offset = offset(json, error);
    let (read, rest) = json.split_at_checked(offset).unwrap_or((json, &[]));
    let mut levels = levels(read);
    let message = error.to_string();
    let next = rest.trim_ascii_start().first();
    // Serde has opened a list that it did not expect; it is the list that is wrong, and not its first item.
    if message.starts_with("invalid type: sequence")
        && next != Some(&b'[')
        && matches!(levels.last(), Some(Level::Array { .. }))
    {
        levels.pop();
    }
    // A name that stands twice is a fault of the object.
    if message.starts_with("duplicate field")
        && let Some(Level::Object { key, .. }) = levels.last_mut()
    {
        *key = None;
    }
    let mut path = String::new();
    for level in &levels {
        match level {
            Level::Object { key: None, .. } => {}
            Level::Object { key: Some(key), .. } => {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(key);
            }
            Level::Array { index } => path.push_str(&format!("[{index}]")),
        }
    }
    path
}

/// How many bytes were read.
fn offset(json: &[u8], error: &Error) -> usize {
    let before = json.split(|byte| *byte == b'\n').take(error.line().saturating_sub(1));
    before.map(|line| line.len().saturating_add(1)).fold(error.column(), usize::saturating_add)
}

/// The levels that are open behind `read`. A value that was just closed still counts as the one at hand.
fn levels(read: &[u8]) -> Vec<Level> {
    let mut levels = Vec::new();
    let mut bytes = read.iter().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'{' => levels.push(Level::Object { key: None, at_key: true }),
            b'[' => levels.push(Level::Array { index: 0 }),
            b'}' | b']' => drop(levels.pop()),
            b',' => match levels.last_mut() {
                Some(Level::Object { key, at_key }) => (*key, *at_key) = (None, true),
                Some(Level::Array { index }) => *index = index.saturating_add(1),
                None => {}
            },
            b'"' => {
                let mut end = read.len();
                while let Some((at, byte)) = bytes.next() {
                    match byte {
                        b'\\' => drop(bytes.next()),
                        b'"' => {
                            end = at;
                            break;
                        }
                        _ => {}
                    }
                }
                if let Some(Level::Object { key, at_key: at_key @ true }) = levels.last_mut() {
                    let text = read.get(at.saturating_add(1)..end).unwrap_or_default();
                    *key = Some(String::from_utf8_lossy(text).into_owned());
                    *at_key = false;
                }
            }
            _ => {}
        }
    }
    levels
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde::Deserialize;
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
    }

    /// What this module was made to replace says the same.
    fn both(json: &str) -> (String, String) {
        let ours = of(json.as_bytes(), &serde_json::from_str::<Outer>(json).unwrap_err());
        let mut deserializer = serde_json::Deserializer::from_str(json);
        let theirs = serde_path_to_error::deserialize::<_, Outer>(&mut deserializer).unwrap_err().path().to_string();
        (ours, if theirs == "." { String::new() } else { theirs })
    }

    #[test]
    fn every_fault_has_the_path_of_what_is_wrong() {
        for (json, path) in [
            (r#"{}"#, ""),
            (r#"{"lst":[]}"#, "lst"),
            (r#"{"list":7}"#, "list"),
            (r#"{"list":{"a":1}}"#, "list"),
            ("{\n \"list\": [ { } ]\n}", "list[0]"),
            (r#"{"list":[{"name":"a"},{"name":7}]}"#, "list[1].name"),
            (r#"{"list":[{"name":["a"]}]}"#, "list[0].name"),
            (r#"{"list":[{"name":"a","numbers":[1,2,"x"]}]}"#, "list[0].numbers[2]"),
            (r#"{"list":[{"name":"a","numbers":[[1]]}]}"#, "list[0].numbers[0]"),
            (r#"{"list":[{"name":"a","numbers":[300]}]}"#, "list[0].numbers[0]"),
            (r#"{"list":[{"name":"a \" } ] , b","nam":1}]}"#, "list[0].nam"),
            (r#"{"list":[{"name":"a"},{"numbers":[1]},{"name":"b"}]}"#, "list[1]"),
            (r#"{"map":{"a":1,"b":-1},"list":[]}"#, "map.b"),
            (r#"{"list":[],"list":[]}"#, ""),
            (r#"{"list":[{"name":"a","name":"b"}]}"#, "list[0]"),
        ] {
            assert_eq!(both(json), (path.to_owned(), path.to_owned()), "{json}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in any::<String>()) {
            if let Err(error) = serde_json::from_str::<Outer>(&text) {
                let _ = of(text.as_bytes(), &error);
            }
        }
    }
}
