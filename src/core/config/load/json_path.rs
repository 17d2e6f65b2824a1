//! Finds a repeated name in a JSON document, and reports its path, such as `rules[0].match.path`.
//!
//! The JSON parser reports a line and a column. A plugin's configuration is often a single line, where these do not
//! help.

/// One level of nesting: the object with the names that were seen in it, or the array and its index.
enum Level<'j> {
    Object { names: Vec<&'j [u8]>, at_key: bool },
    Array { index: usize },
}

/// The path of the first name in `json` that an object has twice. Names are compared as written, so a name that is
/// escaped in two ways is not found.
pub(crate) fn of_repeated(json: &[u8]) -> Option<String> {
    let mut levels: Vec<Level<'_>> = Vec::new();
    let mut bytes = json.iter().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'{' => levels.push(Level::Object { names: Vec::new(), at_key: true }),
            b'[' => levels.push(Level::Array { index: 0 }),
            b'}' | b']' => drop(levels.pop()),
            b',' => match levels.last_mut() {
                Some(Level::Object { at_key, .. }) => *at_key = true,
                Some(Level::Array { index }) => *index = index.saturating_add(1),
                None => {}
            },
            b'"' => {
                let end = end_of_string(&mut bytes).unwrap_or(json.len());
                if let Some(Level::Object { names, at_key: at_key @ true }) = levels.last_mut() {
                    let name = json.get(at.saturating_add(1)..end).unwrap_or_default();
                    let repeated = names.contains(&name);
                    names.push(name);
                    *at_key = false;
                    if repeated {
                        return Some(path(&levels));
                    }
                }
            }
            _ => {}
        }
    }
    None
}

/// The position of the quote that ends the string at whose contents `bytes` begin.
fn end_of_string<'j>(bytes: &mut impl Iterator<Item = (usize, &'j u8)>) -> Option<usize> {
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'\\' => drop(bytes.next()),
            b'"' => return Some(at),
            _ => {}
        }
    }
    None
}

fn path(levels: &[Level<'_>]) -> String {
    let mut path = String::new();
    for level in levels {
        match level {
            Level::Object { names, .. } => {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(&names.last().map(|name| String::from_utf8_lossy(name)).unwrap_or_default());
            }
            Level::Array { index } => path.push_str(&format!("[{index}]")),
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_name_that_stands_twice_has_a_place() {
        for (json, place) in [
            (r#"{"list":[],"list":[]}"#, Some("list")),
            ("{\n \"a\": 1,\n \"b\": {\"a\": 1, \"a\" : \"x\"}\n}", Some("b.a")),
            (r#"{"list":[{"name":"a \" } ] , b","name":"b"}]}"#, Some("list[0].name")),
            (r#"{"list":[{"a":1},{"a":[1,2],"b":"a","a":[3,4]}]}"#, Some("list[1].a")),
            (r#"{"a":{"b":{},"b":{}}}"#, Some("a.b")),
            (r#"{"a":"a","b":["a","a"],"c":{"a":1}}"#, None),
        ] {
            assert_eq!(of_repeated(json.as_bytes()).as_deref(), place, "{json}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in any::<String>()) {
            let _ = of_repeated(text.as_bytes());
        }
    }
}
