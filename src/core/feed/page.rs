//! A page: the statement, a line feed, and the entries.
//!
//! Its media type is `application/taskfence-page`. The entries are bytes, the same for every follower that asks for the
//! same range in the same format.

use crate::encoding::bytes::fast_eq;
use crate::encoding::digest::sha256;
use crate::feed::entry::FORMAT;
use crate::feed::statement::{MAX_STATEMENT, Statement, StatementError};
use crate::jose::key::KeySet;
use crate::jose::signature::CheckSignature;

/// The media type of a page.
pub const MEDIA_TYPE: &str = "application/taskfence-page";

/// The entries of one page have at most this many bytes. Envoy hands a filter answers of 1 MiB by default.
pub const MAX_ENTRIES: usize = 768 * 1024;

/// A page whose statement was verified, with the entries that it speaks about. Only [`Page::verify`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    statement: Statement,
    entries: Vec<u8>,
}

/// Why a page is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PageError {
    /// There is no line feed after a statement.
    #[error("the answer is not a page")]
    Malformed,
    /// The statement is not accepted.
    #[error(transparent)]
    Statement(#[from] StatementError),
    /// The entries are of a format that this version does not read.
    #[error("the entries have a format that this filter does not read; upgrade the filter before the hub")]
    Format,
    /// The entries are not those that the statement speaks about.
    #[error("the entries are not those that the hub signed")]
    Entries,
}

impl Page {
    /// Verifies the page `bytes` of the hub `hub` of `feed` with one of `keys`.
    pub fn verify(
        bytes: &[u8],
        (hub, feed): (&str, &str),
        keys: &KeySet,
        signatures: &mut impl CheckSignature,
    ) -> Result<Page, PageError> {
        let end = bytes.iter().take(MAX_STATEMENT.saturating_add(1)).position(|byte| *byte == b'\n');
        let (text, rest) = end.and_then(|end| bytes.split_at_checked(end)).ok_or(PageError::Malformed)?;
        let entries = rest.get(1..).ok_or(PageError::Malformed)?;
        let statement = Statement::verify(text, (hub, feed), keys, signatures)?;
        if statement.format == 0 || statement.format > FORMAT {
            return Err(PageError::Format);
        }
        let same_length = u64::try_from(entries.len()).is_ok_and(|length| length == statement.length);
        if !same_length || !fast_eq(&sha256(entries), &statement.digest) {
            return Err(PageError::Entries);
        }
        Ok(Page { statement, entries: entries.to_vec() })
    }

    /// What the hub signed.
    pub fn statement(&self) -> &Statement {
        &self.statement
    }

    /// The entries, encoded as [`crate::feed::entry`] says.
    pub fn entries(&self) -> &[u8] {
        &self.entries
    }
}
