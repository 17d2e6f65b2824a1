//! Writes HTML. Markup is taken only as constants of this program; whatever else is written is escaped.

use std::fmt::{Display, Write as _};

use crate::terminal::text::printable;

/// A name or a value of the report is cut after this many characters: real ones are shorter, and a hostile one would fill
/// the page.
const LONGEST: usize = 160;

/// A page that is being written.
#[derive(Default)]
pub struct Html {
    out: String,
}

impl Html {
    /// Writes markup as it is. A text of the report cannot be given here: it does not live long enough.
    pub fn markup(&mut self, markup: &'static str) {
        self.out.push_str(markup);
    }

    /// Writes the start of an element, with the values of its attributes escaped.
    pub fn start(&mut self, name: &'static str, attributes: &[(&'static str, &dyn Display)]) {
        self.out.push('<');
        self.out.push_str(name);
        for (name, value) in attributes {
            self.out.push(' ');
            self.out.push_str(name);
            self.out.push_str("=\"");
            self.text(value);
            self.out.push('"');
        }
        self.out.push('>');
    }

    /// Writes the end of an element.
    pub fn end(&mut self, name: &'static str) {
        self.out.push_str("</");
        self.out.push_str(name);
        self.out.push('>');
    }

    /// Writes a text of this program, or one that was made of figures.
    pub fn text(&mut self, text: impl Display) {
        self.escape(&printable(&text.to_string()));
    }

    /// Writes a text of the report. It stands in a `bdi`, so that letters that run from right to left move nothing around
    /// it; characters that cannot be seen are written as `\u{202e}`.
    pub fn data(&mut self, text: &str) {
        self.markup("<bdi>");
        match text.char_indices().nth(LONGEST) {
            Some((end, _)) => {
                self.escape(&printable(text.get(..end).unwrap_or_default()));
                self.markup("…");
            }
            None => self.escape(&printable(text)),
        }
        self.markup("</bdi>");
    }

    /// Writes JSON as it is laid out and whole, to be copied. A character of it that cannot be seen is written as JSON
    /// escapes it, and so are letters that run from right to left: what is copied means the same.
    pub fn json(&mut self, json: &str) {
        for letter in json.chars() {
            let plain = letter == '\n' || letter.is_ascii_graphic() || letter == ' ';
            if plain {
                self.escape(letter.encode_utf8(&mut [0; 4]));
            } else {
                for unit in letter.encode_utf16(&mut [0; 2]) {
                    // Writing to a string cannot fail.
                    let _ = write!(self.out, "\\u{unit:04x}");
                }
            }
        }
    }

    /// An element with nothing but a text of this program in it.
    pub fn element(&mut self, name: &'static str, text: impl Display) {
        self.start(name, &[]);
        self.text(text);
        self.end(name);
    }

    /// The page.
    pub fn finish(self) -> String {
        self.out
    }

    fn escape(&mut self, text: &str) {
        for letter in text.chars() {
            match letter {
                '&' => self.out.push_str("&amp;"),
                '<' => self.out.push_str("&lt;"),
                '>' => self.out.push_str("&gt;"),
                '"' => self.out.push_str("&quot;"),
                '\'' => self.out.push_str("&#39;"),
                other => self.out.push(other),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Html)) -> String {
        let mut html = Html::default();
        write(&mut html);
        html.finish()
    }

    #[test]
    fn a_text_ends_no_element_and_no_attribute() {
        let hostile = "</bdi><script>alert('1')</script>\"&";
        let safe = "&lt;/bdi&gt;&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&quot;&amp;";
        assert_eq!(written(|html| html.data(hostile)), format!("<bdi>{safe}</bdi>"));
        assert_eq!(written(|html| html.start("p", &[("title", &hostile)])), format!("<p title=\"{safe}\">"));
    }

    #[test]
    fn json_stays_json_that_means_the_same() {
        let json = "{\n  \"<\u{202e}é\u{1f511}\": 1\n}";
        assert_eq!(written(|html| html.json(json)), "{\n  &quot;&lt;\\u202e\\u00e9\\ud83d\\udd11&quot;: 1\n}");
    }

    #[test]
    fn what_cannot_be_seen_is_written_out() {
        assert_eq!(written(|html| html.data("a\u{202e}b\u{0}\u{9b}\n")), "<bdi>a\\u{202e}b\\0\\u{9b}\\n</bdi>");
        assert_eq!(written(|html| html.data("עליס é")), "<bdi>עליס é</bdi>");
    }

    #[test]
    fn a_long_text_is_cut() {
        let cut = written(|html| html.data(&"é".repeat(LONGEST + 1)));
        assert_eq!(cut, format!("<bdi>{}…</bdi>", "é".repeat(LONGEST)));
        let whole = written(|html| html.data(&"é".repeat(LONGEST)));
        assert_eq!(whole, format!("<bdi>{}</bdi>", "é".repeat(LONGEST)));
    }
}
