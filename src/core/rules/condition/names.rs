//! The names that conditions can use, and their values. A value is read only when an expression needs it.

use super::work::{Exhausted, Work};
use crate::http::path::Decoded;
use crate::rules::evidence::Evidence;
use cel::common::types::{CelInt, CelString};
use cel::common::value::{CowVal, Val};
use std::fmt;

/// The names that a condition can use.
pub(super) const NAMES: [&str; 6] = ["claims", "request", "context", "grant", "captures", "now"];

/// The kind of value of an expression, as far as it is known before the evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Bool,
    Number,
    Text,
    List,
    Other,
    /// Known only during the evaluation: claims.
    Dyn,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Bool => "a boolean",
            Kind::Number => "a number",
            Kind::Text => "a string",
            Kind::List => "a list",
            Kind::Other => "a value of another kind",
            Kind::Dyn => "any value",
        })
    }
}

/// The value of a field, without an allocation on the heap.
pub(crate) enum FieldValue<'e> {
    Text(CelString<'e>),
    Number(CelInt),
    Lent(&'e (dyn Val + 'e)),
}

impl<'e> FieldValue<'e> {
    /// The value in the form of CEL.
    pub(crate) fn value(&self) -> &(dyn Val + 'e) {
        match self {
            FieldValue::Text(text) => text,
            FieldValue::Number(number) => number,
            FieldValue::Lent(value) => *value,
        }
    }
}

impl<'e> From<FieldValue<'e>> for CowVal<'e, 'e> {
    fn from(held: FieldValue<'e>) -> CowVal<'e, 'e> {
        match held {
            FieldValue::Text(text) => CowVal::owned(text),
            FieldValue::Number(number) => CowVal::owned(number),
            FieldValue::Lent(value) => CowVal::Borrowed(value),
        }
    }
}

/// Reads the value of a field. `None` if it is not known.
pub(crate) type FieldReader = for<'e> fn(&Evidence<'e>) -> Option<FieldValue<'e>>;

/// One of the names with known fields.
pub(super) struct Root {
    pub(super) name: &'static str,
    pub(super) fields: &'static [Field],
}

/// A field of a [`Root`].
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    read: FieldReader,
    /// Whether it can be long: then it is too expensive to read for each item of a loop.
    pub(super) is_long: bool,
}

const fn short(name: &'static str, kind: Kind, read: FieldReader) -> Field {
    Field { name, kind, read, is_long: false }
}

const fn long(name: &'static str, kind: Kind, read: FieldReader) -> Field {
    Field { name, kind, read, is_long: true }
}

pub(super) const ROOTS: [Root; 4] = [
    Root {
        name: "request",
        fields: &[
            short("method", Kind::Text, |evidence| text(evidence.request.method.as_str())),
            short("host", Kind::Text, |evidence| Some(FieldValue::Text(evidence.request.host.folded().into()))),
            long("path", Kind::Text, |evidence| text(evidence.request.path.as_str())),
            short("source", Kind::Text, |evidence| Some(FieldValue::Text(evidence.source?.to_string().into()))),
        ],
    },
    Root {
        name: "context",
        fields: &[
            short("device", Kind::Text, |evidence| text(evidence.device_status())),
            short("risk", Kind::Text, |evidence| text(evidence.risk_level())),
            short("state_age", Kind::Number, |evidence| number(evidence.state_age().0)),
        ],
    },
    Root {
        name: "grant",
        fields: &[
            short("issuer", Kind::Text, |evidence| text(&evidence.grant.issuer)),
            short("subject", Kind::Text, |evidence| text(&evidence.grant.subject)),
            short("client", Kind::Text, |evidence| text(evidence.grant.client_id.as_deref()?)),
            short("task", Kind::Text, |evidence| text(evidence.grant.task.as_deref()?)),
            short("session", Kind::Text, |evidence| text(evidence.grant.session.as_deref().unwrap_or_default())),
            short("actor", Kind::Text, |evidence| {
                text(evidence.grant.actors.first().map(|actor| actor.subject.as_str()).unwrap_or_default())
            }),
            long("scopes", Kind::List, |evidence| Some(FieldValue::Lent(evidence.claims()?.scopes()))),
            short("issued_at", Kind::Number, |evidence| number(evidence.grant.issued_at.0)),
            short("expires_at", Kind::Number, |evidence| number(evidence.grant.expires_at.0)),
            short("auth_age", Kind::Number, |evidence| number(evidence.now.since(evidence.grant.authenticated_at?).0)),
        ],
    },
    Root { name: "captures", fields: &[] },
];

/// The fields that conditions can read, for documentation: name, field, and the kind of value as text.
pub fn vocabulary() -> impl Iterator<Item = (&'static str, &'static str, String)> {
    ROOTS.iter().flat_map(|root| root.fields.iter().map(|field| (root.name, field.name, field.kind.to_string())))
}

/// The reader of `name`, such as `request.method`; `None` if it is not one of the known fields.
pub(crate) fn reader(name: &str) -> Option<FieldReader> {
    match name.split_once('.') {
        Some((root, field)) => ROOTS.iter().find(|known| known.name == root)?.reader(field),
        None if name == "now" => Some(now),
        None => None,
    }
}

/// The value of the field `name` of `root`, such as `source` of `request`.
pub(super) fn field<'e>(
    root: &str,
    name: &str,
    evidence: &Evidence<'e>,
    work: &Work,
) -> Result<Option<FieldValue<'e>>, Exhausted> {
    match root {
        "captures" => capture(name, evidence, work),
        _ => {
            let root = ROOTS.iter().find(|known| known.name == root);
            Ok(root.and_then(|root| root.reader(name)).and_then(|read| read(evidence)))
        }
    }
}

/// The decoded value of the capture `name`.
pub(crate) fn capture<'e>(
    name: &str,
    evidence: &Evidence<'e>,
    work: &Work,
) -> Result<Option<FieldValue<'e>>, Exhausted> {
    let at = evidence.capture_names.iter().position(|have| have == name);
    let Some(piece) = at.and_then(|at| evidence.captures.at(at)) else { return Ok(None) };
    work.charge_comparison(piece.len())?;
    if !piece.contains('%') {
        return Ok(text(piece));
    }
    work.charge_search(piece.len())?;
    Ok(String::from_utf8(Decoded::new(piece).collect()).ok().map(|decoded| FieldValue::Text(decoded.into())))
}

fn now<'e>(evidence: &Evidence<'e>) -> Option<FieldValue<'e>> {
    number(evidence.now.0)
}

fn number<'e>(number: u64) -> Option<FieldValue<'e>> {
    Some(FieldValue::Number(i64::try_from(number).unwrap_or(i64::MAX).into()))
}

fn text(text: &str) -> Option<FieldValue<'_>> {
    Some(FieldValue::Text(text.into()))
}

impl Root {
    fn reader(&self, field: &str) -> Option<FieldReader> {
        self.fields.iter().find(|known| known.name == field).map(|known| known.read)
    }
}
