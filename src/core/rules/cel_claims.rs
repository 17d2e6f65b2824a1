//! The claims of a token as CEL values.

use crate::token::grant::Grant;
use cel::common::types::{CelBool, CelDouble, CelInt, CelList, CelMap, CelMapKey, CelNull, CelString, CelUInt};
use cel::common::value::Val;
use serde_json::{Map, Value};
use std::collections::HashMap;

/// The claims and scopes of a token as CEL values, converted once per token.
#[derive(Debug)]
pub struct Claims {
    all: CelMap<'static>,
    scopes: CelList<'static>,
}

impl Claims {
    /// Converts the claims and scopes of `grant`.
    pub(crate) fn new(grant: &Grant) -> Claims {
        Claims::of(&grant.claims, grant.scopes.iter())
    }

    /// Converts `claims` and `scopes`.
    pub(crate) fn of<'s>(claims: &Map<String, Value>, scopes: impl Iterator<Item = &'s String>) -> Claims {
        let scopes = scopes.map(|scope| -> Box<dyn Val> { Box::new(CelString::from(scope.clone())) });
        Claims { all: map(claims), scopes: CelList::from(scopes.collect::<Vec<_>>()) }
    }

    /// The claim `name`.
    pub(crate) fn get<'c>(&'c self, name: &'c str) -> Option<&'c (dyn Val + 'static)> {
        member(&self.all, name)
    }

    /// All claims, as one map.
    pub(crate) fn all(&self) -> &CelMap<'static> {
        &self.all
    }

    /// The scope values.
    pub(crate) fn scopes(&self) -> &CelList<'static> {
        &self.scopes
    }
}

pub(crate) fn map(members: &Map<String, Value>) -> CelMap<'static> {
    let entries = members.iter().map(|(name, value)| (CelMapKey::from(name.clone()), convert(value)));
    CelMap::from(entries.collect::<HashMap<_, _>>())
}

/// Converts a JSON value to a CEL value.
pub(crate) fn convert(value: &Value) -> Box<dyn Val> {
    match value {
        Value::Null => Box::new(CelNull),
        Value::Bool(truth) => Box::new(CelBool::from(*truth)),
        Value::String(text) => Box::new(CelString::from(text.clone())),
        Value::Array(items) => Box::new(CelList::from(items.iter().map(convert).collect::<Vec<_>>())),
        Value::Object(members) => Box::new(map(members)),
        Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(int), _, _) => Box::new(CelInt::from(int)),
            (None, Some(uint), _) => Box::new(CelUInt::from(uint)),
            (None, None, Some(double)) => Box::new(CelDouble::from(double)),
            (None, None, None) => Box::new(CelNull),
        },
    }
}

/// The member `name` of `map`.
pub(crate) fn member<'m, 'v>(map: &'m CelMap<'v>, name: &'m str) -> Option<&'m (dyn Val + 'v)> {
    // The key has a shorter lifetime than the keys in the map.
    let members: &'m HashMap<CelMapKey<'m>, Box<dyn Val + 'v>> = map.inner();
    members.get(&CelMapKey::String(CelString::from(name))).map(AsRef::as_ref)
}
