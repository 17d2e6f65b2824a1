//! Writes a JSON value as YAML in block style: what changes in it changes few lines.

use serde_json::Value;

use crate::drafting::yaml::scalar;

/// The value as a document, with the members of objects in their order.
pub fn document(value: &Value) -> String {
    let mut text = String::new();
    write(value, 0, &mut text);
    text
}

fn write(value: &Value, indent: usize, text: &mut String) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (name, member) in members {
                begin_line(indent, text);
                text.push_str(&scalar(name));
                text.push(':');
                write_member(member, indent, text);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                begin_line(indent, text);
                text.push('-');
                write_item(item, indent, text);
            }
        }
        other => {
            begin_line(indent, text);
            text.push_str(&flow(other));
            text.push('\n');
        }
    }
}

fn write_member(member: &Value, indent: usize, text: &mut String) {
    if is_block(member) {
        text.push('\n');
        write(member, indent.saturating_add(1), text);
    } else {
        text.push(' ');
        text.push_str(&flow(member));
        text.push('\n');
    }
}

/// The first line of an item stands behind its dash.
fn write_item(item: &Value, indent: usize, text: &mut String) {
    text.push(' ');
    let mut block = String::new();
    write(item, indent.saturating_add(1), &mut block);
    text.push_str(block.trim_start_matches(' '));
}

fn is_block(value: &Value) -> bool {
    match value {
        Value::Object(members) => !members.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => false,
    }
}

fn flow(value: &Value) -> String {
    match value {
        Value::String(text) => scalar(text),
        other => other.to_string(),
    }
}

fn begin_line(indent: usize, text: &mut String) {
    (0..indent).for_each(|_| text.push_str("  "));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::yaml::to_json;
    use serde_json::json;

    #[test]
    fn every_value_is_read_back() {
        let value = json!({
            "a": {"b": [1, -2, 1.5, true, null, "yes", "x: y"], "empty": {}, "none": []},
            "list": [[1, [2]], [{"x": 1, "y": [{"z": "multi\nline"}]}], {}, []],
            "on": "no", "": "", "-": "~", "deep": [{"k": {"l": {"m": "n"}}}],
        });
        let yaml = document(&value);
        let read: Value = serde_json::from_str(&to_json(&yaml).expect(&yaml)).unwrap();
        assert_eq!(read, value, "{yaml}");
        assert_eq!(document(&json!({"a": [{"b": 1, "c": 2}]})), "a:\n  - b: 1\n    c: 2\n");
        for scalar in [json!(null), json!([]), json!("x")] {
            let read: Value = serde_json::from_str(&to_json(&document(&scalar)).unwrap()).unwrap();
            assert_eq!(read, scalar);
        }
    }
}
