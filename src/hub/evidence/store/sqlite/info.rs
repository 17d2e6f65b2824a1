//! What a token says, as columns.

use super::gathering::Lookup;
use super::rows::damaged;
use crate::evidence::store::value::uint;
use crate::store::model::StoreError;
use rusqlite::Row;
use rusqlite::types::{ToSqlOutput, ValueRef};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::borrow::Cow;
use taskfence_core::uses::batch::GrantInfo;

/// The columns that [`read`] expects, from its first one on.
pub const COLUMNS: &str = "g.issuer, g.token, g.fingerprint, g.subject, g.client, \
                           g.task, g.session, g.issued, g.expires, g.more";

/// The members that are not searched, as JSON.
#[derive(Debug, Default, Serialize, Deserialize)]
struct More<'a> {
    #[serde(default, skip_serializing_if = "is_empty")]
    actors: Cow<'a, [String]>,
    #[serde(default, skip_serializing_if = "is_empty")]
    scopes: Cow<'a, [String]>,
    #[serde(default, skip_serializing_if = "is_empty")]
    details: Cow<'a, [Value]>,
    #[serde(default, skip_serializing_if = "is_false")]
    cut: bool,
    #[serde(default, skip_serializing_if = "is_empty")]
    masked: Cow<'a, [String]>,
}

/// The column `more`.
pub fn more(info: &GrantInfo) -> Result<String, StoreError> {
    let GrantInfo { actors, scopes, details, cut, masked, .. } = info;
    let (actors, scopes) = (Cow::from(actors), Cow::from(scopes));
    let more = More { actors, scopes, details: Cow::from(details), cut: *cut, masked: Cow::from(masked) };
    serde_json::to_string(&more).map_err(|error| StoreError::Failed(error.to_string()))
}

/// The column `fingerprint`: half as long where it is hexadecimal.
pub fn fingerprint(text: &str) -> ToSqlOutput<'_> {
    match bytes(text) {
        Some(bytes) => ToSqlOutput::Owned(rusqlite::types::Value::Blob(bytes)),
        None => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
    }
}

/// The bytes of 32 hexadecimal digits in lower case.
fn bytes(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => byte.checked_sub(b'0'),
        b'a'..=b'f' => byte.checked_sub(b'a' - 10),
        _ => None,
    };
    let pair = |pair: &[u8]| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    };
    (text.len() == 32).then(|| text.as_bytes().chunks(2).map(pair).collect::<Option<_>>())?
}

/// Reads the columns [`COLUMNS`] from the position `at` on.
pub fn read(lookup: &mut Lookup<'_>, row: &Row<'_>, at: usize) -> Result<GrantInfo, StoreError> {
    let column = |number: usize| at.saturating_add(number);
    let more: More = match row.get_ref(column(9))? {
        ValueRef::Text(json) => serde_json::from_slice(json).map_err(|error| damaged(&error))?,
        _ => More::default(),
    };
    Ok(GrantInfo {
        issuer: lookup.name(row.get(column(0))?)?.to_owned(),
        token: row.get(column(1))?,
        fingerprint: match row.get_ref(column(2))? {
            ValueRef::Blob(bytes) => hex(bytes),
            other => other.as_str().map(str::to_owned).map_err(|error| damaged(&error))?,
        },
        subject: row.get(column(3))?,
        client: row.get(column(4))?,
        task: row.get(column(5))?,
        session: row.get(column(6))?,
        actors: more.actors.into_owned(),
        scopes: more.scopes.into_owned(),
        details: more.details.into_owned(),
        issued_at: uint(row.get(column(7))?),
        expires_at: uint(row.get(column(8))?),
        cut: more.cut,
        masked: more.masked.into_owned(),
    })
}

fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or_default();
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

fn is_false(value: &bool) -> bool {
    !value
}

fn is_empty<T>(list: &[T]) -> bool {
    list.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_stored_as_bytes_where_it_comes_back_the_same() {
        let text = "00ff10a09f0123456789abcdef012345";
        assert_eq!(hex(&bytes(text).unwrap()), text);
        for other in ["", "00FF10A09F0123456789ABCDEF012345", "00ff", "zz0000000000000000000000000000zz"] {
            assert_eq!(bytes(other), None, "{other}");
        }
    }
}
