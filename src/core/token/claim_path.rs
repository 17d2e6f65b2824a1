//! The name of a claim as a configuration writes it: a path into nested claims, such as `realm_access.roles`.

use serde_json::{Map, Value};
use std::fmt;

/// The maximum number of segments of a path.
pub const MAX_SEGMENTS: usize = 8;

/// A path to one claim. Dots separate its segments.
///
/// A segment in double quotes may contain anything, such as `"kubernetes.io".pod.name`; in quotes, `\"` is a quote and
/// `\\` a backslash. A whole name that is a URI (it contains `://`, or begins with `urn:`) needs no quotes and is one
/// segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimPath {
    first: Box<str>,
    rest: Box<[Box<str>]>,
}

/// Why a text is not a path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum PathError {
    #[error("must not be empty")]
    Empty,
    #[error("has an empty part between dots")]
    EmptySegment,
    #[error("has more than {MAX_SEGMENTS} parts")]
    TooLong,
    #[error("has a quote that is not closed, or text beside a quoted part")]
    Quote,
    #[error("may be one name with dots or a path, because it has a dot and one of `/` and `:`")]
    Ambiguous,
    #[error("is a path of another notation")]
    OtherNotation,
}

/// A claim that a path cannot reach, because something on the way is neither an object nor null.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Blocked;

impl ClaimPath {
    /// Parses `text`.
    pub fn parse(text: &str) -> Result<ClaimPath, PathError> {
        if text.is_empty() {
            return Err(PathError::Empty);
        }
        let quoted = text.contains('"');
        if !quoted && (text.contains("://") || text.starts_with("urn:")) {
            return Ok(ClaimPath::top(text));
        }
        if !quoted && (text.starts_with(['/', '$']) || text.contains('[')) {
            return Err(PathError::OtherNotation);
        }
        let mut segments: Vec<Box<str>> = Vec::new();
        let mut rest = text;
        let mut odd = false;
        loop {
            let (segment, after, plain) = segment(rest)?;
            odd |= plain && segment.contains(['/', ':']);
            segments.push(segment.into());
            if segments.len() > MAX_SEGMENTS {
                return Err(PathError::TooLong);
            }
            match after {
                None => break,
                Some(more) => rest = more,
            }
        }
        if odd && segments.len() > 1 {
            return Err(PathError::Ambiguous);
        }
        let mut segments = segments.into_iter();
        let first = segments.next().ok_or(PathError::Empty)?;
        Ok(ClaimPath { first, rest: segments.collect() })
    }

    /// The path to the top-level claim `name`.
    pub fn top(name: &str) -> ClaimPath {
        ClaimPath { first: name.into(), rest: Box::default() }
    }

    /// The top-level claim that it goes through, or that it is.
    pub fn root(&self) -> &str {
        &self.first
    }

    /// The path inside the top-level claim that it goes through; `None` if it is that claim.
    pub(crate) fn without_root(&self) -> Option<ClaimPath> {
        let (first, rest) = self.rest.split_first()?;
        Some(ClaimPath { first: first.clone(), rest: rest.into() })
    }

    /// Whether the claim is inside another.
    pub fn is_nested(&self) -> bool {
        !self.rest.is_empty()
    }

    /// The claim in `claims`. `Ok(None)` if it, or an object on the way to it, is missing or null.
    pub(crate) fn find<'c>(&self, claims: &'c Map<String, Value>) -> Result<Option<&'c Value>, Blocked> {
        let found = match claims.get(self.root()) {
            Some(root) => self.find_in(root)?,
            None => None,
        };
        Ok(found.filter(|value| !value.is_null()))
    }

    /// The claim, if the top-level claim that it goes through is `root`. Null is a value.
    pub(crate) fn find_in<'c>(&self, root: &'c Value) -> Result<Option<&'c Value>, Blocked> {
        let mut found = Some(root);
        for segment in &self.rest {
            found = match found {
                None | Some(Value::Null) => return Ok(None),
                Some(Value::Object(members)) => members.get(&**segment),
                Some(_) => return Err(Blocked),
            };
        }
        Ok(found)
    }

    /// The claim in `claims`, to be changed; `None` if it cannot be reached.
    pub(crate) fn find_mut<'c>(&self, claims: &'c mut Map<String, Value>) -> Option<&'c mut Value> {
        inside_mut(claims.get_mut(self.root())?, &self.rest)
    }

    /// Whether `claims` have it, and it is not null.
    pub fn is_in(&self, claims: &Map<String, Value>) -> bool {
        self.find(claims).is_ok_and(|found| found.is_some())
    }

    /// Puts `value` at this path in `claims`. What is on the way and is not an object is replaced.
    pub fn insert(&self, claims: &mut Map<String, Value>, value: Value) {
        let mut slot = claims.entry(self.root()).or_insert(Value::Null);
        for segment in &self.rest {
            if !slot.is_object() {
                *slot = Value::Object(Map::new());
            }
            let Value::Object(members) = slot else { return };
            slot = members.entry(&**segment).or_insert(Value::Null);
        }
        *slot = value;
    }

    /// Removes the claim from `claims`.
    pub(crate) fn remove(&self, claims: &mut Map<String, Value>) {
        match self.rest.split_last() {
            None => drop(claims.remove(self.root())),
            Some((last, way)) => {
                let holder = claims.get_mut(self.root()).and_then(|root| inside_mut(root, way));
                if let Some(Value::Object(members)) = holder {
                    members.remove(&**last);
                }
            }
        }
    }
}

/// The value at `way` inside `value`.
fn inside_mut<'v>(value: &'v mut Value, way: &[Box<str>]) -> Option<&'v mut Value> {
    let mut found = value;
    for segment in way {
        found = found.as_object_mut()?.get_mut(&**segment)?;
    }
    Some(found)
}

/// The first segment of `text`, the text after its dot, and whether it stands without quotes.
fn segment(text: &str) -> Result<(String, Option<&str>, bool), PathError> {
    let Some(quoted) = text.strip_prefix('"') else {
        let (segment, after) = match text.split_once('.') {
            Some((segment, after)) => (segment, Some(after)),
            None => (text, None),
        };
        return match segment {
            "" => Err(PathError::EmptySegment),
            segment if segment.contains('"') => Err(PathError::Quote),
            segment => Ok((segment.to_owned(), after, true)),
        };
    };
    let mut segment = String::new();
    let mut letters = quoted.chars();
    loop {
        match letters.next().ok_or(PathError::Quote)? {
            '"' => break,
            '\\' => segment.push(letters.next().filter(|next| matches!(next, '"' | '\\')).ok_or(PathError::Quote)?),
            other => segment.push(other),
        }
    }
    let after = match letters.as_str() {
        "" => None,
        rest => Some(rest.strip_prefix('.').ok_or(PathError::Quote)?),
    };
    match segment.is_empty() {
        true => Err(PathError::EmptySegment),
        false => Ok((segment, after, false)),
    }
}

impl fmt::Display for ClaimPath {
    /// The path as a configuration writes it. Text with a space is in quotes, so that lists of paths are not confused.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.rest.is_empty()
            && !self.first.contains(' ')
            && ClaimPath::parse(&self.first).is_ok_and(|same| same == *self)
        {
            return f.write_str(&self.first);
        }
        for (at, segment) in std::iter::once(&self.first).chain(&self.rest).enumerate() {
            if at > 0 {
                f.write_str(".")?;
            }
            match segment.contains(['.', '"', '\\', '/', ':', '[', '$', ' ']) {
                true => write!(f, "\"{}\"", segment.replace('\\', "\\\\").replace('"', "\\\""))?,
                false => f.write_str(segment)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn segments(text: &str) -> Result<Vec<String>, PathError> {
        let path = ClaimPath::parse(text)?;
        Ok(std::iter::once(&path.first).chain(&path.rest).map(ToString::to_string).collect())
    }

    #[test]
    fn names_and_paths() {
        for (text, expected) in [
            ("sid", &["sid"][..]),
            ("realm_access.roles", &["realm_access", "roles"]),
            ("resource_access.orders-api.roles", &["resource_access", "orders-api", "roles"]),
            ("\"kubernetes.io\".pod.name", &["kubernetes.io", "pod", "name"]),
            ("resource_access.\"orders.v1\".roles", &["resource_access", "orders.v1", "roles"]),
            ("https://example.com/roles", &["https://example.com/roles"]),
            ("\"https://example.com/app\".roles", &["https://example.com/app", "roles"]),
            ("urn:zitadel:iam:org:id", &["urn:zitadel:iam:org:id"]),
            ("urn:example:a.b", &["urn:example:a.b"]),
            ("cognito:groups", &["cognito:groups"]),
            ("\"a\\\"b\\\\\"", &["a\"b\\"]),
            ("\"none\"", &["none"]),
        ] {
            let expected: Vec<String> = expected.iter().map(ToString::to_string).collect();
            assert_eq!(segments(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_path() {
        for (text, error) in [
            ("", PathError::Empty),
            (".a", PathError::EmptySegment),
            ("a..b", PathError::EmptySegment),
            ("a.", PathError::EmptySegment),
            ("\"\"", PathError::EmptySegment),
            ("\"a", PathError::Quote),
            ("\"a\"b", PathError::Quote),
            ("a\"b\"", PathError::Quote),
            ("\"a\\n\"", PathError::Quote),
            ("a.b.c.d.e.f.g.h.i", PathError::TooLong),
            ("kubernetes.io/serviceaccount/namespace", PathError::Ambiguous),
            ("cognito:groups.first", PathError::Ambiguous),
            ("/realm_access/roles", PathError::OtherNotation),
            ("$.roles", PathError::OtherNotation),
            ("roles[0]", PathError::OtherNotation),
        ] {
            assert_eq!(segments(text), Err(error), "{text}");
        }
    }

    #[test]
    fn null_is_absent_and_only_objects_have_members() {
        let claims = json!({
            "a": {"b": {"c": 7}, "n": null, "list": [{"c": 7}], "text": "c"}, "n": null, "x.y": 1
        });
        let claims = claims.as_object().unwrap();
        let find = |text: &str| ClaimPath::parse(text).unwrap().find(claims).map(|found| found.cloned());
        assert_eq!(find("a.b.c"), Ok(Some(json!(7))));
        assert_eq!(find("\"x.y\""), Ok(Some(json!(1))));
        for absent in ["x.y", "z", "n", "n.c", "a.n", "a.n.c", "a.z.c", "a.b.z"] {
            assert_eq!(find(absent), Ok(None), "{absent}");
        }
        for blocked in ["a.list.c", "a.text.c", "a.b.c.d"] {
            assert_eq!(find(blocked), Err(Blocked), "{blocked}");
        }
    }

    #[test]
    fn a_nested_claim_is_changed_in_its_place() {
        let mut claims = json!({"a": {"b": 1, "c": 2}}).as_object().unwrap().clone();
        *ClaimPath::parse("a.b").unwrap().find_mut(&mut claims).unwrap() = json!(3);
        ClaimPath::parse("a.c").unwrap().remove(&mut claims);
        ClaimPath::parse("z.c").unwrap().remove(&mut claims);
        assert_eq!(Value::Object(claims), json!({"a": {"b": 3}}));
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_again(segments in proptest::collection::vec("[a-z .:/\"\\\\$\\[]{1,6}", 1..5)) {
            let mut segments = segments.iter().map(|segment| segment.as_str().into());
            let path = ClaimPath { first: segments.next().unwrap(), rest: segments.collect() };
            prop_assert_eq!(ClaimPath::parse(&path.to_string()), Ok(path));
        }

        #[test]
        fn never_panics(text in "\\PC{0,30}") {
            let _ = ClaimPath::parse(&text);
        }
    }
}
