//! Integers and fixed bytes, as databases hold them: they have signed integers of 64 bits only.

use crate::store::model::StoreError;
use taskfence_core::feed::revision::Chain;

/// A number or a time. What does not fit is stored as the greatest number; no real one is that large.
pub fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Reads what [`int`] made.
pub fn uint(stored: i64) -> Result<u64, StoreError> {
    u64::try_from(stored).map_err(|_| StoreError::Damaged(format!("{stored} is negative")))
}

/// The chain in a column.
pub fn chain(bytes: &[u8]) -> Result<Chain, StoreError> {
    bytes.try_into().map(Chain).map_err(|_| StoreError::Damaged(format!("a chain of {} bytes", bytes.len())))
}
