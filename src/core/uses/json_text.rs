//! Writes JSON by hand: batches are put together from texts that are JSON already, and code that is generated for each type
//! would be a large part of the module.

use serde_json::Value;

/// How many bytes a string has as JSON.
pub(crate) fn json_length(text: &str) -> usize {
    let mut json = JsonText::default();
    json.string(text);
    json.text.len()
}

/// JSON that is being written.
#[derive(Debug, Default)]
pub(crate) struct JsonText {
    /// The text so far.
    pub(crate) text: String,
}

impl JsonText {
    /// Opens an object or a list: `{` or `[`.
    #[inline(never)]
    pub(crate) fn open(&mut self, bracket: char) {
        self.separate();
        self.text.push(bracket);
    }

    /// Closes what is open: `}` or `]`.
    #[inline(never)]
    pub(crate) fn close(&mut self, bracket: char) {
        self.text.push(bracket);
    }

    /// The name of the next member.
    #[inline(never)]
    pub(crate) fn name(&mut self, name: &str) {
        self.string(name);
        self.text.push(':');
    }

    /// A string.
    #[inline(never)]
    pub(crate) fn string(&mut self, text: &str) {
        self.separate();
        // A string always has a JSON form.
        self.text.push_str(&serde_json::to_string(text).unwrap_or_default());
    }

    /// A number.
    #[inline(never)]
    pub(crate) fn number(&mut self, number: u64) {
        self.separate();
        self.text.push_str(&number.to_string());
    }

    /// A value that is JSON already.
    #[inline(never)]
    pub(crate) fn json(&mut self, json: &str) {
        self.separate();
        self.text.push_str(json);
    }

    /// A member with a string.
    pub(crate) fn string_member(&mut self, name: &str, text: &str) {
        self.name(name);
        self.string(text);
    }

    /// A member with a string, if there is one.
    pub(crate) fn optional_member(&mut self, name: &str, text: Option<&str>) {
        if let Some(text) = text {
            self.string_member(name, text);
        }
    }

    /// A member with a number.
    #[inline(never)]
    pub(crate) fn number_member(&mut self, name: &str, number: u64) {
        self.name(name);
        self.number(number);
    }

    /// A member with a number, unless it is 0.
    pub(crate) fn count_member(&mut self, name: &str, number: u64) {
        if number > 0 {
            self.number_member(name, number);
        }
    }

    /// A member that is true, if it is.
    pub(crate) fn flag_member(&mut self, name: &str, flag: bool) {
        if flag {
            self.name(name);
            self.json("true");
        }
    }

    /// A member with a list of strings, unless it is empty.
    #[inline(never)]
    pub(crate) fn strings_member(&mut self, name: &str, texts: &[String]) {
        if texts.is_empty() {
            return;
        }
        self.name(name);
        self.open('[');
        texts.iter().for_each(|text| self.string(text));
        self.close(']');
    }

    /// A member with a list of values, unless it is empty.
    #[inline(never)]
    pub(crate) fn values_member(&mut self, name: &str, values: &[Value]) {
        if !values.is_empty() {
            self.name(name);
            self.open('[');
            values.iter().for_each(|value| self.json(&value.to_string()));
            self.close(']');
        }
    }

    /// A comma, unless something was just opened or named.
    fn separate(&mut self) {
        if !matches!(self.text.as_bytes().last(), None | Some(b'[' | b'{' | b':')) {
            self.text.push(',');
        }
    }
}
