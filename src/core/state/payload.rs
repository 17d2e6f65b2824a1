//! The data that an entry about a narrowing, a claim or an assurance carries.

use crate::state::fact::Fact;
use serde_json::Value;

/// Why a name and a value cannot be stored as the data of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PayloadError {
    /// The length of the name is stored in one byte.
    #[error("a name has more than 255 bytes")]
    NameTooLong,
    /// The data is longer than [`MAX_DATA`].
    #[error("the change has more than {MAX_DATA} bytes; end the grant instead")]
    TooLarge,
}

/// The data of a claim or an assurance.
pub(crate) fn statement(name: &str, value: &Value) -> Result<Vec<u8>, PayloadError> {
    let mut data = name_only(name)?;
    data.extend(value.to_string().into_bytes());
    within_limit(data)
}

/// The data of a claim or an assurance whose value is conflicting: only the name.
pub(crate) fn name_only(name: &str) -> Result<Vec<u8>, PayloadError> {
    let length = u8::try_from(name.len()).map_err(|_| PayloadError::NameTooLong)?;
    let mut data = vec![length];
    data.extend(name.as_bytes());
    Ok(data)
}

pub(crate) fn within_limit(data: Vec<u8>) -> Result<Vec<u8>, PayloadError> {
    if data.len() <= MAX_DATA { Ok(data) } else { Err(PayloadError::TooLarge) }
}

/// Whether the data of two entries of one family speak about the same thing.
pub(crate) fn same_topic(fact: Fact, left: &[u8], right: &[u8]) -> bool {
    topic_of(fact, left) == topic_of(fact, right)
}

/// The part of the data of an entry with `fact` that tells it from others about the same key.
pub(crate) fn topic_of(fact: Fact, data: &[u8]) -> &[u8] {
    match fact {
        Fact::Narrowed => data,
        Fact::Claim(_) | Fact::Assurance(_) => topic(data),
        _ => &[],
    }
}

/// The part of the data that says what it is about.
pub(crate) fn topic(data: &[u8]) -> &[u8] {
    let length = data.first().map_or(0, |length| usize::from(*length).saturating_add(1));
    data.get(..length).unwrap_or(data)
}

/// The name of the claim or the assurance that the data is about.
pub(crate) fn name(data: &[u8]) -> Option<&str> {
    split(data).map(|(name, _)| name)
}

pub(crate) fn split(data: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = data.split_first()?;
    let (name, value) = rest.split_at_checked(usize::from(*length))?;
    Some((std::str::from_utf8(name).ok()?, value))
}

/// An entry may carry this many bytes of data.
pub(crate) const MAX_DATA: usize = 4096;
