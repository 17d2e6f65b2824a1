//! One segment of a path template that captures: `{id}`, `{id}:cancel`, `{name}.pdf`, `v{major}`.
//!
//! The captured text stands between the text before it and the text after it, and is never empty. All texts are parts of
//! a canonical path, where a character has one spelling: `:` is never `%3A`. An escape such as `%20` is one character,
//! so no capture begins or ends inside one.

/// The segments with a text before the capture, a text after it, and a minimum length.
///
/// A pattern of a template takes one byte more than both texts together. The segments that two patterns have in common
/// are the segments of a third pattern, whose texts may overlap: `ab{x}` and `{y}bc` have `abc` in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SegmentPattern {
    before: Box<str>,
    after: Box<str>,
    /// The minimum length of a segment in bytes. It is always greater than the length of either text.
    at_least: usize,
}

impl SegmentPattern {
    /// The pattern that takes `before`, a capture and `after`. Both texts are parts of a canonical path.
    pub(crate) fn new(before: &str, after: &str) -> SegmentPattern {
        let at_least = before.len().saturating_add(after.len()).saturating_add(1);
        SegmentPattern { before: before.into(), after: after.into(), at_least }
    }

    /// The text before the capture.
    pub(crate) fn before(&self) -> &str {
        &self.before
    }

    /// The text after the capture.
    pub(crate) fn after(&self) -> &str {
        &self.after
    }

    /// Whether it takes every segment that is not empty.
    pub(crate) fn is_any(&self) -> bool {
        self.before.is_empty() && self.after.is_empty()
    }

    /// Whether it takes `segment`, a segment of a canonical path.
    pub(crate) fn takes(&self, segment: &str) -> bool {
        segment.len() >= self.at_least
            && segment.starts_with(&*self.before)
            && strip_suffix(segment, &self.after).is_some()
    }

    /// What it captures of `segment`, still encoded; `None` if it does not take `segment`. Only for a pattern of a
    /// template.
    pub(crate) fn capture<'s>(&self, segment: &'s str) -> Option<&'s str> {
        let rest = segment.strip_prefix(&*self.before)?;
        strip_suffix(rest, &self.after).filter(|captured| !captured.is_empty())
    }

    /// Whether some segment matches both.
    pub(crate) fn meets(&self, other: &SegmentPattern) -> bool {
        // If the texts do not contradict each other, a segment that is long enough has the longer one at each end.
        let (one, two) = (&*self.before, &*other.before);
        let (three, four) = (&*self.after, &*other.after);
        (one.starts_with(two) || two.starts_with(one)) && (ends_with(three, four) || ends_with(four, three))
    }

    /// The segments that match both; `None` when there are none.
    pub(crate) fn common(&self, other: &SegmentPattern) -> Option<SegmentPattern> {
        let longer = |one: &str, other: &str| if one.len() > other.len() { one.into() } else { other.into() };
        self.meets(other).then(|| SegmentPattern {
            before: longer(&self.before, &other.before),
            after: longer(&self.after, &other.after),
            at_least: self.at_least.max(other.at_least),
        })
    }

    /// Whether it matches every segment that `other` matches.
    pub(crate) fn covers(&self, other: &SegmentPattern) -> bool {
        other.before.starts_with(&*self.before)
            && ends_with(&other.after, &self.after)
            && (other.at_least..self.at_least).all(|length| !other.has_segment_of(length))
    }

    /// Whether it takes a segment of that length. `length` is not below the minimum.
    fn has_segment_of(&self, length: usize) -> bool {
        let texts = self.before.len().saturating_add(self.after.len());
        let Some(overlap) = texts.checked_sub(length) else { return true };
        let joined = self.after.get(overlap..).map(|tail| format!("{}{tail}", self.before));
        joined.is_some_and(|segment| self.takes(&segment))
    }
}

fn ends_with(text: &str, suffix: &str) -> bool {
    strip_suffix(text, suffix).is_some()
}

/// `text` without `suffix`; `None` also if `suffix` would begin inside an escape of `text`. In a canonical path, `%`
/// is always the first of the three bytes of an escape.
fn strip_suffix<'t>(text: &'t str, suffix: &str) -> Option<&'t str> {
    text.strip_suffix(suffix).filter(|rest| !matches!(rest.as_bytes(), [.., b'%'] | [.., b'%', _]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pattern(before: &str, after: &str) -> SegmentPattern {
        SegmentPattern::new(before, after)
    }

    #[test]
    fn captures_what_stands_between() {
        for (before, after, segment, captured) in [
            ("", "", "7", Some("7")),
            ("", "", "", None),
            ("", ":cancel", "7:cancel", Some("7")),
            ("", ":cancel", ":cancel", None),
            ("", ":cancel", "7:cancel:cancel", Some("7:cancel")),
            ("", ":cancel", "7:Cancel", None),
            ("", ":cancel", "7:cancel%20", None),
            ("v", "", "v2", Some("2")),
            ("v", "", "v", None),
            ("ab", "ba", "aba", None),
            ("ab", "ba", "abba", None),
            ("ab", "ba", "ab.ba", Some(".")),
        ] {
            let pattern = pattern(before, after);
            assert_eq!(pattern.capture(segment), captured, "{pattern:?} {segment}");
            assert_eq!(pattern.takes(segment), captured.is_some(), "{pattern:?} {segment}");
        }
    }

    #[test]
    fn an_escape_is_one_character() {
        assert_eq!(pattern("", "0").capture("a%20"), None);
        assert_eq!(pattern("", "20").capture("a%20"), None);
        assert_eq!(pattern("", "%20").capture("a%20"), Some("a"));
        assert_eq!(pattern("%20", "0").capture("%20%200"), Some("%20"));
        assert_eq!(pattern("", "b").capture("%20b"), Some("%20"));
    }

    #[test]
    fn texts_that_overlap() {
        let both = pattern("ab", "").common(&pattern("", "bc")).unwrap();
        assert!(both.takes("abc") && both.takes("abbc") && both.takes("abxbc"));
        assert!(!pattern("ab", "bc").covers(&both) && both.covers(&pattern("ab", "bc")));
        assert!(pattern("a", "c").covers(&both));
        assert!(pattern("ab", "").common(&pattern("b", "")).is_none());
        // `%20` and `0x` have the letter `0` in common, but not as a character.
        let both = pattern("%20", "").common(&pattern("", "0x")).unwrap();
        assert!(!both.takes("%20x") && both.takes("%200x"));
    }

    fn text() -> impl Strategy<Value = String> {
        proptest::collection::vec(proptest::sample::select(vec!["a", "b", "2", "0", "%20"]), 0..4)
            .prop_map(|characters| characters.concat())
    }

    proptest! {
        /// Against every short segment of the characters that tell patterns apart.
        #[test]
        fn relations_are_those_of_the_segments(texts in proptest::collection::vec(text(), 4)) {
            let [b1, a1, b2, a2] = [0, 1, 2, 3].map(|at| texts[at].as_str());
            let (one, two) = (pattern(b1, a1), pattern(b2, a2));
            let both = one.common(&two);
            // Every segment that begins and ends with some of the texts, and one that none contains.
            let middles = ["", "a", "b", "2", "0", "%20", "c", "cc", "ccc", "cccccccccccc"];
            let starts = [b1, b2].map(prefixes).concat();
            let ends = [a1, a2].map(suffixes).concat();
            let mut met = false;
            for start in &starts {
                for end in &ends {
                    for middle in middles {
                        let segment = format!("{start}{middle}{end}");
                        let (in_one, in_two) = (one.takes(&segment), two.takes(&segment));
                        prop_assert_eq!(both.as_ref().is_some_and(|both| both.takes(&segment)), in_one && in_two, "{}", segment);
                        prop_assert!(!(one.covers(&two) && in_two && !in_one), "{}", segment);
                        if let Some(both) = &both {
                            prop_assert!(!(both.covers(&one) && in_one && !in_two), "{}", segment);
                        }
                        met |= in_one && in_two;
                    }
                }
            }
            prop_assert_eq!(one.meets(&two), met);
            prop_assert_eq!(one.covers(&two), both.as_ref().is_some_and(|both| both.covers(&two)));
        }
    }

    /// The characters of `text`.
    fn characters(text: &str) -> Vec<&str> {
        let mut rest = text;
        let mut characters = Vec::new();
        while !rest.is_empty() {
            let (one, tail) = rest.split_at(if rest.starts_with('%') { 3 } else { 1 });
            characters.push(one);
            rest = tail;
        }
        characters
    }

    fn prefixes(text: &str) -> Vec<String> {
        let all = characters(text);
        (0..=all.len()).map(|end| all[..end].concat()).collect()
    }

    fn suffixes(text: &str) -> Vec<String> {
        let all = characters(text);
        (0..=all.len()).map(|start| all[start..].concat()).collect()
    }
}
