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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding::digest::Digest;
    use crate::feed::entry::FeedEntry;
    use crate::feed::revision::{Chain, Revision};
    use crate::feed::statement::{IssuerStatus, TYPE};
    use crate::jose::algorithm::Algorithm;
    use crate::jose::signature::PureRust;
    use crate::state::bucket::{Entry, SourceTag};
    use crate::state::coverage::{CoveredIssuer, IssuerId};
    use crate::state::fact::Fact;
    use crate::state::freshness::TransmitterId;
    use crate::state::key::{Kind, StateKey};
    use crate::testing::fixture;
    use crate::time::{Span, Timestamp};
    use serde_json::json;

    fn entries() -> Vec<u8> {
        let mut bytes = Vec::new();
        for task in ["task-1", "task-2"] {
            let entry = Entry {
                key: StateKey::new(Kind::Task, "https://jit.example", task),
                fact: Fact::Completed,
                at: Timestamp(5),
                until: Timestamp(90),
                conditions: Vec::new(),
                data: Vec::new(),
                source: SourceTag::new("main", "idp", 1),
                lifted: false,
            };
            FeedEntry { entry, by: TransmitterId::new("idp") }.encode(&mut bytes);
        }
        bytes
    }

    fn page(entries: &[u8], digest: Digest) -> Vec<u8> {
        let id = IssuerId([3; 8]);
        let covered = CoveredIssuer { id, token_retention: Span(600), session_retention: Span(43_200) };
        let statement = Statement {
            hub: "hub".to_owned(),
            feed: "main".to_owned(),
            at: 1_790_000_000_000,
            prev: 4,
            prev_chain: Chain([8; 8]),
            upto: Revision { epoch: 7, number: 6, chain: Chain([9; 8]) },
            head: 6,
            format: FORMAT,
            count: 2,
            length: u64::try_from(entries.len()).unwrap(),
            digest,
            part: None,
            nonce: Some("n0nce".to_owned()),
            issuers: vec![IssuerStatus { covered, heard: Timestamp(1_790_000_000), lost: false }],
        };
        let header = json!({"alg": "ES256", "typ": TYPE, "kid": "jit-1"});
        [fixture::sign(&header, &statement.claims()).as_bytes(), b"\n", entries].concat()
    }

    fn verify(bytes: &[u8]) -> Result<Page, PageError> {
        let (keys, _) = KeySet::from_jwks(&fixture::jwks(), &[Algorithm::ES256]).unwrap();
        Page::verify(bytes, ("hub", "main"), &keys, &mut PureRust)
    }

    #[test]
    fn no_byte_of_a_page_can_be_changed_left_out_or_added() {
        let entries = entries();
        let good = page(&entries, sha256(&entries));
        assert_eq!(verify(&good).unwrap().entries(), entries);
        for position in 0..good.len() {
            let mut changed = good.clone();
            changed[position] ^= 1 << (position % 8);
            assert!(verify(&changed).is_err(), "byte {position} of {}, with one other bit", good.len());
            changed[position] = !good[position];
            assert!(verify(&changed).is_err(), "byte {position} of {}, inverted", good.len());
            assert!(verify(&good[..position]).is_err(), "cut at {position}");
        }
        assert_eq!(verify(&[&good[..], b"\n"].concat()), Err(PageError::Entries));
    }

    #[test]
    fn the_last_character_of_the_signature_has_one_form() {
        let entries = entries();
        let good = page(&entries, sha256(&entries));
        let last = good.iter().position(|byte| *byte == b'\n').unwrap() - 1;
        for byte in 0..=u8::MAX {
            let mut changed = good.clone();
            changed[last] = byte;
            assert_eq!(verify(&changed).is_ok(), byte == good[last], "{byte}");
        }
    }

    #[test]
    fn a_page_is_of_one_hub_and_feed_and_about_its_own_entries() {
        let entries = entries();
        assert_eq!(verify(&page(&entries, sha256(b"others"))), Err(PageError::Entries));
        let (keys, _) = KeySet::from_jwks(&fixture::jwks(), &[Algorithm::ES256]).unwrap();
        let good = page(&entries, sha256(&entries));
        for other in [("other", "main"), ("hub", "other")] {
            let refused = Page::verify(&good, other, &keys, &mut PureRust);
            assert_eq!(refused, Err(PageError::Statement(StatementError::OtherFeed)));
        }
    }
}
