//! JSON in printable ASCII.

/// `json`, with an escape for every character that a terminal or a log shipper could interpret. It is the same JSON value.
pub(crate) fn printable(json: String) -> String {
    if json.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return json;
    }
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            ' '..='~' => out.push(c),
            _ => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}"))),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn nothing_leaves_the_line() {
        let value = json!({"subject": "a\r\n\"\u{1b}[31m\u{2028}\u{7f}é😀"});
        let text = printable(value.to_string());
        assert!(text.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{text}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
    }
}
