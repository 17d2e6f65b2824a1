//! What the path of a request captured, kept after the path was read.

use crate::http::path::Canonical;
use crate::http::path_template::MAX_CAPTURES;
use crate::rules::routes::Captures;

/// The captures of a path by their positions, so that nothing is borrowed and, for most paths, nothing is copied.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Captured {
    /// The canonical path, where it differs from the path as received.
    rewritten: Option<Box<str>>,
    /// Begin and end of each capture in the canonical path.
    ranges: [(u16, u16); MAX_CAPTURES],
    len: usize,
}

impl Captured {
    /// Keeps `captures` of `path`.
    pub(crate) fn new(path: &Canonical<'_>, captures: &Captures<'_>) -> Captured {
        let base = path.as_str().as_ptr().addr();
        let mut kept = Captured { rewritten: path.rewritten().map(Box::from), ..Captured::default() };
        for (range, capture) in kept.ranges.iter_mut().zip(captures.iter()) {
            // A path has at most 8 KiB, so its positions fit.
            let begin = capture.as_ptr().addr().saturating_sub(base);
            let position = |at: usize| u16::try_from(at).unwrap_or(u16::MAX);
            *range = (position(begin), position(begin.saturating_add(capture.len())));
            kept.len = kept.len.saturating_add(1);
        }
        kept
    }

    /// The captures in order, as in the canonical path: percent-encoded ASCII. `received` is the path as received.
    pub fn of<'p>(&'p self, received: &'p [u8]) -> impl Iterator<Item = &'p [u8]> + Clone {
        let path = self.rewritten.as_deref().map_or(received, str::as_bytes);
        let ranges = self.ranges.iter().take(self.len);
        ranges.map(move |(begin, end)| path.get(usize::from(*begin)..usize::from(*end)).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::path_template::Template;
    use crate::rules::routes::captures;

    fn kept(template: &str, received: &str) -> Vec<String> {
        let template = Template::parse(template).unwrap();
        let path = Canonical::parse(received.as_bytes()).unwrap();
        let captured = Captured::new(&path, &captures(&template, &path).unwrap());
        drop(path);
        captured.of(received.as_bytes()).map(|capture| String::from_utf8(capture.to_vec()).unwrap()).collect()
    }

    #[test]
    fn they_outlive_the_path() {
        assert_eq!(kept("/orders/{order}/items/{item}", "/orders/18/items/x?y=1"), ["18", "x"]);
        assert_eq!(kept("/orders/{order}:cancel", "/orders/18:cancel"), ["18"]);
        assert_eq!(kept("/static/{file...}", "/static/a/b"), ["a/b"]);
        assert_eq!(kept("/static/{file...}", "/static/"), [""]);
        assert_eq!(kept("/orders/{order}", "/%6Frders/%31 8%C3%BC".replace(' ', "").as_str()), ["18%C3%BC"]);
        assert_eq!(kept("/healthz", "/healthz"), [""; 0]);
    }
}
