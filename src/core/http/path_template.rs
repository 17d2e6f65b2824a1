//! Path templates: `/v1/orders/{order}`, `/v1/orders/{order}:cancel`, `/static/{file...}`.
//!
//! A segment has at most one capture. With two, such as `{a}-{b}`, it would not be clear where the first one ends.
//!
//! Other systems write `*`, `:id` or `.*` for what `{name}` is here. No request has such a segment, so a rule with it
//! would never match: it is refused, with the correct spelling. If a path really contains such a character, the
//! template must escape it, as in `/%2A`.

use crate::http::foreign_pattern;
use crate::http::path::Canonical;
use crate::http::segment_pattern::SegmentPattern;
use std::fmt;

/// The maximum number of segments of a template.
const MAX_SEGMENTS: usize = 64;

/// The maximum number of captures of a template.
pub(crate) const MAX_CAPTURES: usize = 8;

/// A path template as a rule writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template {
    segments: Vec<Segment>,
    names: Vec<String>,
}

/// One segment of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Segment {
    /// Exactly this text.
    Literal(Box<str>),
    /// One segment, of which a part that is not empty is captured.
    Capture(SegmentPattern),
    /// The rest of the path, which may be empty after the `/`.
    Rest,
}

/// Why a template cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub(crate) enum TemplateError {
    #[error("the template does not begin with `/`")]
    NotAbsolute,
    #[error("`{0}` has a brace without its other one")]
    BadSegment(String),
    #[error("`{0}` has more than one capture, and a segment may have one: where the first ends would not be clear")]
    TwoCaptures(String),
    #[error("`{0}` has text beside a capture of the rest of the path")]
    RestWithText(String),
    #[error("`{0}` is not a name: letters, digits and `_`, not beginning with a digit")]
    BadName(String),
    #[error("`{segment}` is no pattern here, and would be compared letter by letter")]
    Foreign { segment: String, remedy: String },
    #[error("`{{{0}}}` stands twice")]
    DuplicateName(String),
    #[error("`{{{0}...}}` may stand only at the end")]
    RestNotLast(String),
    #[error("no request has such a path: {0}")]
    NotCanonical(String),
    #[error("more than {MAX_SEGMENTS} segments")]
    TooManySegments,
    #[error("more than {MAX_CAPTURES} captures")]
    TooManyCaptures,
}

impl TemplateError {
    /// How to write the template instead, if known.
    pub(crate) fn help(&self) -> Option<&str> {
        match self {
            TemplateError::Foreign { remedy, .. } => Some(remedy),
            TemplateError::TwoCaptures(_) => Some("capture the whole segment, and ask for its parts with `when`"),
            TemplateError::RestWithText(_) => Some("capture the rest alone, and ask for its end with `when`"),
            _ => None,
        }
    }
}

impl Template {
    /// Reads a template.
    pub(crate) fn parse(text: &str) -> Result<Template, TemplateError> {
        let rest = text.strip_prefix('/').ok_or(TemplateError::NotAbsolute)?;
        let parts: Vec<&str> = rest.split('/').collect();
        if parts.len() > MAX_SEGMENTS {
            return Err(TemplateError::TooManySegments);
        }
        let last = parts.len().saturating_sub(1);
        let mut template = Template { segments: Vec::new(), names: Vec::new() };
        for (at, part) in parts.into_iter().enumerate() {
            let segment = template.segment(part, at == last)?;
            template.segments.push(segment);
        }
        template.check_literals()?;
        Ok(template)
    }

    /// The template that matches `path` alone.
    pub(crate) fn literal(path: &Canonical<'_>) -> Template {
        Template {
            segments: path.segments().map(|segment| Segment::Literal(segment.into())).collect(),
            names: Vec::new(),
        }
    }

    /// The segments, in order.
    pub(crate) fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The names of the captures, in the order of the segments.
    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    /// Whether it matches every path.
    pub(crate) fn is_everything(&self) -> bool {
        matches!(self.segments.as_slice(), [Segment::Rest])
    }

    /// Whether some path matches both templates. Does not allocate.
    pub(crate) fn meets(&self, other: &Template) -> bool {
        segments_meet(&self.segments, &other.segments)
    }

    /// The template that matches the paths which match both; `None` when there are none. It has the capture names of
    /// `other`, and those of this template for segments that only this one captures.
    pub(crate) fn common(&self, other: &Template) -> Option<Template> {
        if !self.meets(other) {
            return None;
        }
        let mut common = Template { segments: Vec::new(), names: Vec::new() };
        let (mut ours, mut theirs) = (self.parts(), other.parts());
        loop {
            match (ours.next(), theirs.next()) {
                (Some((Segment::Rest, _)), Some(part)) => {
                    common.extend(std::iter::once(part).chain(theirs));
                    return Some(common);
                }
                (Some(part), Some((Segment::Rest, _))) => {
                    common.extend(std::iter::once(part).chain(ours));
                    return Some(common);
                }
                (Some((Segment::Capture(one), _)), Some((Segment::Capture(other), name))) => {
                    common.segments.push(Segment::Capture(one.common(other)?));
                    common.names.extend(name.cloned());
                }
                (Some(part @ (Segment::Literal(_), _)), Some(_)) | (Some(_), Some(part)) => {
                    common.extend(std::iter::once(part));
                }
                (None, _) | (_, None) => return Some(common),
            }
        }
    }

    /// The segments, each with its name if it captures.
    fn parts(&self) -> impl Iterator<Item = (&Segment, Option<&String>)> {
        let mut names = self.names.iter();
        self.segments.iter().map(move |segment| match segment {
            Segment::Literal(_) => (segment, None),
            Segment::Capture(_) | Segment::Rest => (segment, names.next()),
        })
    }

    fn extend<'t>(&mut self, parts: impl Iterator<Item = (&'t Segment, Option<&'t String>)>) {
        for (segment, name) in parts {
            self.segments.push(segment.clone());
            self.names.extend(name.cloned());
        }
    }

    /// Reads one segment, and adds the name of its capture. `last`: it is the last one.
    fn segment(&mut self, part: &str, last: bool) -> Result<Segment, TemplateError> {
        let whole = part.strip_prefix('{').and_then(|inner| inner.strip_suffix('}'));
        let captures = count_captures(part);
        // What stands between the outer braces of `{a}-{b}` is no pattern of another system.
        let is_two = captures.is_some_and(|count| count > 1);
        if !is_two && let Some(remedy) = foreign_pattern::remedy(part, last) {
            return Err(TemplateError::Foreign { segment: part.to_owned(), remedy });
        }
        match (captures, whole) {
            (None, _) => Err(TemplateError::BadSegment(part.to_owned())),
            (Some(0), _) => Ok(Segment::Literal(foreign_pattern::unescape(part).into())),
            (Some(1), Some(inner)) => match inner.strip_suffix("...") {
                Some(name) if !last => Err(TemplateError::RestNotLast(name.to_owned())),
                Some(name) => self.name(name).map(|()| Segment::Rest),
                None => self.name(inner).map(|()| Segment::Capture(SegmentPattern::new("", ""))),
            },
            (Some(1), None) => {
                let (before, rest) = part.split_once('{').unwrap_or_default();
                let (name, after) = rest.split_once('}').unwrap_or_default();
                if name.ends_with("...") {
                    return Err(TemplateError::RestWithText(part.to_owned()));
                }
                self.name(name)?;
                let (before, after) = (foreign_pattern::unescape(before), foreign_pattern::unescape(after));
                Ok(Segment::Capture(SegmentPattern::new(&before, &after)))
            }
            (Some(_), _) => Err(TemplateError::TwoCaptures(part.to_owned())),
        }
    }

    /// Adds the name of a capture.
    fn name(&mut self, name: &str) -> Result<(), TemplateError> {
        let letters = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if name.is_empty() || !letters || name.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(TemplateError::BadName(name.to_owned()));
        }
        if self.names.iter().any(|have| have == name) {
            return Err(TemplateError::DuplicateName(name.to_owned()));
        }
        if self.names.len() == MAX_CAPTURES {
            return Err(TemplateError::TooManyCaptures);
        }
        self.names.push(name.to_owned());
        Ok(())
    }

    /// A literal that no canonical path contains would make a rule that never matches.
    fn check_literals(&self) -> Result<(), TemplateError> {
        let mut path = String::new();
        for segment in &self.segments {
            path.push('/');
            match segment {
                Segment::Literal(text) => path.push_str(text),
                Segment::Capture(pattern) => path.extend([pattern.before(), "x", pattern.after()]),
                Segment::Rest => path.push('x'),
            }
        }
        if path.contains('?') {
            return Err(TemplateError::NotCanonical("a `?` begins the query, which is not matched".to_owned()));
        }
        match Canonical::parse(path.as_bytes()) {
            Ok(canonical) if canonical.as_str() == path => Ok(()),
            Ok(_) => Err(TemplateError::NotCanonical(format!("write it as `{}`", self.canonical()))),
            Err(error) => Err(TemplateError::NotCanonical(error.to_string())),
        }
    }

    /// The template with its texts as they stand in a canonical path.
    fn canonical(&self) -> Template {
        let text = |text: &str| {
            let path = format!("/x{text}");
            let canonical = Canonical::parse(path.as_bytes()).ok();
            canonical.and_then(|path| path.as_str().strip_prefix("/x").map(str::to_owned)).unwrap_or_default()
        };
        let segment = |segment: &Segment| match segment {
            Segment::Literal(literal) => Segment::Literal(text(literal).into()),
            Segment::Capture(pattern) => {
                Segment::Capture(SegmentPattern::new(&text(pattern.before()), &text(pattern.after())))
            }
            Segment::Rest => Segment::Rest,
        };
        Template { segments: self.segments.iter().map(segment).collect(), names: self.names.clone() }
    }
}

/// The number of captures in a segment. Braces in braces, as in `{id:[0-9]{3}}`, belong to one capture. `None`: a brace
/// is missing.
fn count_captures(segment: &str) -> Option<usize> {
    let (mut count, mut depth) = (0_usize, 0_usize);
    for letter in segment.chars() {
        match letter {
            '{' => depth = depth.saturating_add(1),
            '}' => {
                depth = depth.checked_sub(1)?;
                count = count.saturating_add(usize::from(depth == 0));
            }
            _ => {}
        }
    }
    (depth == 0).then_some(count)
}

fn segments_meet(ours: &[Segment], theirs: &[Segment]) -> bool {
    match (ours.split_first(), theirs.split_first()) {
        (None, None) => true,
        (None, Some(_)) | (Some(_), None) => false,
        (Some((Segment::Rest, _)), Some(_)) | (Some(_), Some((Segment::Rest, _))) => true,
        (Some((one, ours)), Some((other, theirs))) => {
            let same = match (one, other) {
                (Segment::Literal(one), Segment::Literal(other)) => one == other,
                (Segment::Literal(text), Segment::Capture(pattern))
                | (Segment::Capture(pattern), Segment::Literal(text)) => pattern.takes(text),
                (Segment::Capture(one), Segment::Capture(other)) => one.meets(other),
                (Segment::Rest, _) | (_, Segment::Rest) => true,
            };
            same && segments_meet(ours, theirs)
        }
    }
}

impl fmt::Display for Template {
    /// The template as a rule may write it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts().try_for_each(|(segment, name)| match (segment, name) {
            (Segment::Literal(text), _) => write!(f, "/{}", foreign_pattern::escape(text)),
            (Segment::Capture(pattern), name) => {
                let name = name.map(String::as_str).unwrap_or_default();
                let segment = format!("{}{{{name}}}{}", pattern.before(), pattern.after());
                write!(f, "/{}", foreign_pattern::escape(&segment))
            }
            (Segment::Rest, name) => write!(f, "/{{{}...}}", name.map(String::as_str).unwrap_or_default()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_segments_and_names() {
        let template = Template::parse("/v1/orders/{order}/{rest...}").unwrap();
        assert_eq!(template.names(), ["order", "rest"]);
        assert_eq!(
            template.segments(),
            [
                Segment::Literal("v1".into()),
                Segment::Literal("orders".into()),
                Segment::Capture(SegmentPattern::new("", "")),
                Segment::Rest
            ]
        );
        assert_eq!(Template::parse("/").unwrap().segments(), [Segment::Literal("".into())]);
    }

    #[test]
    fn text_beside_a_capture() {
        for (text, before, after) in [
            ("/{id}:cancel", "", ":cancel"),
            ("/{name}.pdf", "", ".pdf"),
            ("/v{major}", "v", ""),
            ("/Orders%28{id}%29", "Orders(", ")"),
            ("/caf%C3%A9-{id}", "caf%C3%A9-", ""),
            ("/%3A{id}", ":", ""),
        ] {
            let template = Template::parse(text).unwrap();
            assert_eq!(template.segments(), [Segment::Capture(SegmentPattern::new(before, after))], "{text}");
            assert_eq!(template.names().len(), 1);
            assert_eq!(Template::parse(&template.to_string()), Ok(template), "{text}");
        }
    }

    #[test]
    fn characters_that_mean_something_elsewhere_may_be_escaped() {
        for (text, literal) in [
            ("/%2A", "*"),
            ("/%2a.txt", "*.txt"),
            ("/%3Aname", ":name"),
            ("/a:cancel", "a:cancel"),
            ("/cost%24", "cost$"),
            ("/$metadata", "$metadata"),
            ("/Orders%28'a'%29", "Orders('a')"),
            ("/a+b", "a+b"),
            ("/%2B", "+"),
        ] {
            let template = Template::parse(text).unwrap();
            assert_eq!(template.segments(), [Segment::Literal(literal.into())], "{text}");
            assert_eq!(Template::parse(&template.to_string()), Ok(template), "{text}");
        }
    }

    #[test]
    fn prints_as_it_may_be_written() {
        for text in ["/", "/v1/orders/{order}/{rest...}", "/a/", "/%2A/%3Ab/{c}", "/v1/a:cancel"] {
            assert_eq!(Template::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn refuses_with_a_reason() {
        for (text, message) in [
            ("orders", "the template does not begin with `/`"),
            ("/a{b", "`a{b` has a brace without its other one"),
            ("/}{", "`}{` has a brace without its other one"),
            (
                "/{a}-{b}",
                "`{a}-{b}` has more than one capture, and a segment may have one: where the first ends would not be clear",
            ),
            (
                "/v{a}{b}",
                "`v{a}{b}` has more than one capture, and a segment may have one: where the first ends would not be clear",
            ),
            ("/v{a...}", "`v{a...}` has text beside a capture of the rest of the path"),
            ("/{a...}.pdf", "`{a...}.pdf` has text beside a capture of the rest of the path"),
            ("/{id}%3acancel%41", "no request has such a path: write it as `/{id}:cancelA`"),
            ("/{id}*", "`{id}*` is no pattern here, and would be compared letter by letter"),
            ("/{id:[0-9]{3}}", "`{id:[0-9]{3}}` is no pattern here, and would be compared letter by letter"),
            ("/a/{a}:x/{a}", "`{a}` stands twice"),
            ("/{id}?x", "no request has such a path: a `?` begins the query, which is not matched"),
            ("/%C3{id}%A9", "no request has such a path: a broken percent-escape"),
            ("/{a}/{a}", "`{a}` stands twice"),
            ("/{a...}/b", "`{a...}` may stand only at the end"),
            ("/{}", "`` is not a name: letters, digits and `_`, not beginning with a digit"),
            ("/a/../b", "no request has such a path: a dot segment"),
            ("/%61", "no request has such a path: write it as `/a`"),
            ("/%61/%2A/%2a", "no request has such a path: write it as `/a/%2A/%2A`"),
            ("/internal/*", "`*` is no pattern here, and would be compared letter by letter"),
            ("/a?b", "no request has such a path: a `?` begins the query, which is not matched"),
            ("/a//b", "no request has such a path: an empty segment"),
        ] {
            assert_eq!(Template::parse(text).unwrap_err().to_string(), message, "{text}");
        }
    }
}
