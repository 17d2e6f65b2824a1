//! What one object of `authorization_details` must contain for a request (RFC 9396), and whether an object does.

use crate::http::path::Decoded;
use crate::http::uri;
use crate::rules::routes::Captures;
use crate::token::detail::Detail;

/// What one object of `authorization_details` must contain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DetailRequirement {
    /// `type`, exactly.
    pub kind: String,
    /// One of `actions`.
    pub action: Option<Pattern>,
    /// `identifier`.
    pub identifier: Option<Pattern>,
    /// One of `locations`.
    pub location: Option<Pattern>,
    /// One of `datatypes`.
    pub datatype: Option<Pattern>,
    /// One of `privileges`.
    pub privilege: Option<Pattern>,
}

/// A value to compare with: `*`, or literals and captures one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pattern {
    /// Any value.
    Any,
    /// These parts together.
    Parts(Vec<Part>),
}

/// One part of a [`Pattern`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// This text.
    Literal(String),
    /// A capture of the path, percent-decoded: its position among the captures of the template, counted from 0.
    Capture(usize),
}

impl DetailRequirement {
    /// Whether the object `held` permits the request. An object with a restriction that the rule does not check is
    /// refused.
    pub(crate) fn is_met(&self, held: &Detail, captures: &Captures<'_>) -> bool {
        let identifier = held.identifier.as_ref().map(std::slice::from_ref);
        self.kind == held.kind
            && held.unknown.is_empty()
            && covers(self.action.as_ref(), held.actions.as_deref(), captures)
            && covers(self.identifier.as_ref(), identifier, captures)
            && covers_location(self.location.as_ref(), held.locations.as_deref(), captures)
            && covers(self.datatype.as_ref(), held.datatypes.as_deref(), captures)
            && covers(self.privilege.as_ref(), held.privileges.as_deref(), captures)
    }
}

/// If the rule asks for the member, one of its values must match. If the object has the member and the rule does not
/// ask for it, the restriction would not be checked, so the result is `false`.
fn covers(asked: Option<&Pattern>, held: Option<&[String]>, captures: &Captures<'_>) -> bool {
    match (asked, held) {
        (None, None) | (Some(Pattern::Any), None) => true,
        (None, Some(_)) | (Some(_), None) => false,
        (Some(pattern), Some(values)) => values.iter().any(|value| pattern.matches(value, captures)),
    }
}

/// Locations are URIs, so they are compared in canonical form (RFC 3986 §6.2.2, §6.2.3).
fn covers_location(asked: Option<&Pattern>, held: Option<&[String]>, captures: &Captures<'_>) -> bool {
    match (asked, held) {
        (Some(pattern @ Pattern::Parts(_)), Some(values)) => {
            values.iter().any(|value| uri::canonical(value).is_some_and(|value| pattern.matches(&value, captures)))
        }
        (asked, held) => covers(asked, held, captures),
    }
}

impl Pattern {
    /// Whether `value` matches the pattern with `captures` inserted. Allocates nothing.
    pub(crate) fn matches(&self, value: &str, captures: &Captures<'_>) -> bool {
        let Pattern::Parts(parts) = self else { return true };
        let mut rest = value.bytes();
        for part in parts {
            let taken = match part {
                Part::Literal(text) => text.bytes().all(|byte| rest.next() == Some(byte)),
                Part::Capture(index) => {
                    captures.at(*index).is_some_and(|piece| Decoded::new(piece).all(|byte| rest.next() == Some(byte)))
                }
            };
            if !taken {
                return false;
            }
        }
        rest.next().is_none()
    }

    /// Whether different captures could give the same value: two captures have no `/` between them. A capture never
    /// contains a `/`.
    pub(crate) fn is_ambiguous(&self) -> bool {
        let Pattern::Parts(parts) = self else { return false };
        let mut open = false;
        parts.iter().any(|part| match part {
            Part::Capture(_) => std::mem::replace(&mut open, true),
            Part::Literal(text) => {
                open &= !text.contains('/');
                false
            }
        })
    }

    /// Reads `text`, in which `{name}` stands for one of `names`. The error is the first unknown name.
    pub(crate) fn parse(text: &str, names: &[String]) -> Result<Pattern, String> {
        if text == "*" {
            return Ok(Pattern::Any);
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((literal, tail)) = rest.split_once('{') {
            let (name, tail) = tail.split_once('}').ok_or_else(|| tail.to_owned())?;
            let index = names.iter().position(|have| have == name).ok_or_else(|| name.to_owned())?;
            if !literal.is_empty() {
                parts.push(Part::Literal(literal.to_owned()));
            }
            parts.push(Part::Capture(index));
            rest = tail;
        }
        if !rest.is_empty() {
            parts.push(Part::Literal(rest.to_owned()));
        }
        Ok(Pattern::Parts(parts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::path::Canonical;
    use crate::http::path_template::Template;
    use crate::rules::routes::captures;
    use serde_json::{Value, json};

    fn asked(action: Option<&str>, identifier: Option<&str>) -> DetailRequirement {
        let pattern = |text: Option<&str>| text.map(|text| Pattern::parse(text, &["order".to_owned()]).unwrap());
        DetailRequirement {
            kind: "order".to_owned(),
            action: pattern(action),
            identifier: pattern(identifier),
            location: None,
            datatype: None,
            privilege: None,
        }
    }

    fn met(asked: &DetailRequirement, details: Value, path: &str) -> bool {
        let template = Template::parse("/orders/{order}").unwrap();
        let path = Canonical::parse(path.as_bytes()).unwrap();
        let captures = captures(&template, &path).unwrap();
        Detail::list(&details).unwrap().iter().any(|held| asked.is_met(held, &captures))
    }

    #[test]
    fn an_identifier_from_the_path() {
        let asked = asked(Some("read"), Some("{order}"));
        let held = |identifier: &str| json!([{"type": "order", "actions": ["read"], "identifier": identifier}]);
        assert!(met(&asked, held("1881"), "/orders/1881"));
        assert!(!met(&asked, held("1881"), "/orders/1882"));
        assert!(!met(&asked, held("1881"), "/orders/188"));
        assert!(!met(&asked, held("188"), "/orders/1881"));
        assert!(met(&asked, held("a b"), "/orders/a%20b"));
        assert!(!met(&asked, held("a%20b"), "/orders/a%20b"));
    }

    #[test]
    fn two_objects_never_mix() {
        let held = json!([
            {"type": "order", "actions": ["read"], "identifier": "1"},
            {"type": "order", "actions": ["write"], "identifier": "2"}
        ]);
        assert!(met(&asked(Some("read"), Some("{order}")), held.clone(), "/orders/1"));
        assert!(!met(&asked(Some("read"), Some("{order}")), held.clone(), "/orders/2"));
        assert!(met(&asked(Some("write"), Some("{order}")), held, "/orders/2"));
    }

    #[test]
    fn a_restriction_that_the_rule_does_not_weigh_refuses() {
        let narrow = json!([{"type": "order", "actions": ["read"], "identifier": "1", "locations": ["https://a"]}]);
        assert!(!met(&asked(Some("read"), Some("*")), narrow, "/orders/1"));
        let unknown = json!([{"type": "order", "actions": ["read"], "identifier": "1", "limit": 3}]);
        assert!(!met(&asked(Some("read"), Some("*")), unknown, "/orders/1"));
        let open = json!([{"type": "order", "actions": ["read"]}]);
        assert!(met(&asked(Some("read"), Some("*")), open.clone(), "/orders/1"));
        assert!(!met(&asked(Some("read"), Some("{order}")), open, "/orders/1"));
    }

    #[test]
    fn patterns_mix_literals_and_captures() {
        let names = ["order".to_owned()];
        assert_eq!(Pattern::parse("{other}", &names), Err("other".to_owned()));
        assert_eq!(Pattern::parse("a{order", &names), Err("order".to_owned()));
        let two = ["a".to_owned(), "b".to_owned()];
        for (text, ambiguous) in [("{a}-{b}", true), ("{a}{b}", true), ("{a}/{b}", false), ("x-{a}/y/{b}", false)] {
            assert_eq!(Pattern::parse(text, &two).unwrap().is_ambiguous(), ambiguous, "{text}");
        }
        let mut mixed = asked(None, None);
        mixed.identifier = Some(Pattern::parse("order/{order}", &names).unwrap());
        assert!(met(&mixed, json!([{"type": "order", "identifier": "order/7"}]), "/orders/7"));
        assert!(!met(&mixed, json!([{"type": "order", "identifier": "order/77"}]), "/orders/7"));
    }
}
