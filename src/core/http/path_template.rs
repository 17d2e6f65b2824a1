//! Path templates: `/v1/orders/{order}`, `/static/{file...}`.
//!
//! Other systems write `*`, `:id` or `.*` for what `{name}` is here. No request has such a segment, so a rule with it
//! would never match: it is refused, with the correct spelling. If a path really contains such a character, the
//! template must escape it, as in `/%2A`.

use crate::http::foreign_pattern;
use crate::http::path::Canonical;
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
    /// One segment that is not empty.
    Capture,
    /// The rest of the path, which may be empty after the `/`.
    Rest,
}

/// Why a template cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub(crate) enum TemplateError {
    #[error("the template does not begin with `/`")]
    NotAbsolute,
    #[error("`{0}` is not a literal segment, `{{name}}` or `{{name...}}`")]
    BadSegment(String),
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
            let segment = match part.strip_prefix('{').and_then(|inner| inner.strip_suffix('}')) {
                _ if let Some(remedy) = foreign_pattern::remedy(part, at == last) => {
                    return Err(TemplateError::Foreign { segment: part.to_owned(), remedy });
                }
                Some(inner) => template.capture(inner, at == last)?,
                None if part.contains(['{', '}']) => return Err(TemplateError::BadSegment(part.to_owned())),
                None => Segment::Literal(foreign_pattern::unescape(part).into()),
            };
            template.segments.push(segment);
        }
        template.check_literals()?;
        Ok(template)
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
            Segment::Capture | Segment::Rest => (segment, names.next()),
        })
    }

    fn extend<'t>(&mut self, parts: impl Iterator<Item = (&'t Segment, Option<&'t String>)>) {
        for (segment, name) in parts {
            self.segments.push(segment.clone());
            self.names.extend(name.cloned());
        }
    }

    fn capture(&mut self, inner: &str, last: bool) -> Result<Segment, TemplateError> {
        let (name, segment) = match inner.strip_suffix("...") {
            Some(name) => (name, Segment::Rest),
            None => (inner, Segment::Capture),
        };
        let letters = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if name.is_empty() || !letters || name.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(TemplateError::BadName(name.to_owned()));
        }
        if self.names.iter().any(|have| have == name) {
            return Err(TemplateError::DuplicateName(name.to_owned()));
        }
        if segment == Segment::Rest && !last {
            return Err(TemplateError::RestNotLast(name.to_owned()));
        }
        if self.names.len() == MAX_CAPTURES {
            return Err(TemplateError::TooManyCaptures);
        }
        self.names.push(name.to_owned());
        Ok(segment)
    }

    /// A literal that no canonical path contains would make a rule that never matches.
    fn check_literals(&self) -> Result<(), TemplateError> {
        let mut path = String::new();
        for segment in &self.segments {
            path.push('/');
            path.push_str(match segment {
                Segment::Literal(text) => text,
                Segment::Capture | Segment::Rest => "x",
            });
        }
        if path.contains('?') {
            return Err(TemplateError::NotCanonical("a `?` begins the query, which is not matched".to_owned()));
        }
        match Canonical::parse(path.as_bytes()) {
            Ok(canonical) if canonical.as_str() == path => Ok(()),
            Ok(canonical) => {
                let segments: Vec<_> = canonical.segments().map(foreign_pattern::escape).collect();
                Err(TemplateError::NotCanonical(format!("write it as `/{}`", segments.join("/"))))
            }
            Err(error) => Err(TemplateError::NotCanonical(error.to_string())),
        }
    }
}

fn segments_meet(ours: &[Segment], theirs: &[Segment]) -> bool {
    match (ours.split_first(), theirs.split_first()) {
        (None, None) => true,
        (None, Some(_)) | (Some(_), None) => false,
        (Some((Segment::Rest, _)), Some(_)) | (Some(_), Some((Segment::Rest, _))) => true,
        (Some((one, ours)), Some((other, theirs))) => {
            let same = match (one, other) {
                (Segment::Literal(one), Segment::Literal(other)) => one == other,
                (Segment::Literal(text), _) | (_, Segment::Literal(text)) => !text.is_empty(),
                _ => true,
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
            (Segment::Capture, name) => write!(f, "/{{{}}}", name.map(String::as_str).unwrap_or_default()),
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
            [Segment::Literal("v1".into()), Segment::Literal("orders".into()), Segment::Capture, Segment::Rest]
        );
        assert_eq!(Template::parse("/").unwrap().segments(), [Segment::Literal("".into())]);
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
            ("/a{b}", "`a{b}` is not a literal segment, `{name}` or `{name...}`"),
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
