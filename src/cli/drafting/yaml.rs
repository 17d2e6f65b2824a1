//! Writes single values of YAML, so that they are read back as they were.

/// `text` as a plain scalar where that is safe, else in double quotes.
pub fn scalar(text: &str) -> String {
    if is_plain(text) { text.to_owned() } else { quoted(text) }
}

/// A list on one line.
pub fn list<T: AsRef<str>>(items: &[T]) -> String {
    let items: Vec<String> = items.iter().map(|item| scalar(item.as_ref())).collect();
    format!("[{}]", items.join(", "))
}

/// A comment on one line. It cannot end early.
pub fn comment(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    format!("# {text}")
}

/// In double quotes, as JSON writes it; characters that not every reader of YAML takes are escaped too.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            ' '..='~' => quoted.push(c),
            other if u32::from(other) <= 0xFFFF => quoted.push_str(&format!("\\u{:04x}", u32::from(other))),
            other => quoted.push_str(&format!("\\U{:08x}", u32::from(other))),
        }
    }
    quoted.push('"');
    quoted
}

/// Letters, digits and a few signs that mean nothing inside a word, beginning with a letter: so it is no number and no
/// time. Words that some reader takes for a truth value or for null are not plain.
fn is_plain(text: &str) -> bool {
    let mut chars = text.chars();
    let begins = chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '/');
    let goes_on = chars.all(|c| c.is_ascii_alphanumeric() || "/._-:@+".contains(c));
    let lower = text.to_ascii_lowercase();
    let is_word = matches!(lower.as_str(), "true" | "false" | "null" | "yes" | "no" | "on" | "off" | "y" | "n");
    begins && goes_on && !is_word && !text.ends_with(':')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::yaml::to_json;
    use serde_json::{Value, json};

    #[test]
    fn every_text_is_read_back() {
        let texts = [
            "orders.read",
            "https://orders.mesh",
            "/v1/{order}",
            "no",
            "NULL",
            "12",
            "1e3",
            "0x1f",
            "a: b",
            "a #b",
            "a:",
            "-",
            "",
            " ",
            "~",
            "*a",
            "&a",
            "!a",
            "%a",
            "@a",
            "`a",
            "{a",
            "[a",
            "a,b",
            "\"",
            "\\",
            "é\u{1F600}\u{7f}\n\u{2028}",
            "2026-01-01",
        ];
        for text in texts {
            let yaml = format!("a: {}\nb: {}\n", scalar(text), list(&[text, "x"]));
            let value: Value = serde_json::from_str(&to_json(&yaml).expect(&yaml)).unwrap();
            assert_eq!(value, json!({"a": text, "b": [text, "x"]}), "{yaml}");
        }
        assert_eq!(scalar("https://orders.mesh"), "https://orders.mesh");
        assert_eq!(scalar("orders.read"), "orders.read");
    }

    #[test]
    fn a_comment_cannot_end_early() {
        assert_eq!(comment("a\nrole: b"), "# a role: b");
    }
}
