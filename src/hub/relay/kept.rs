//! A page of the hub as a relay keeps it: the bytes that the hub signed, and what they say.

use crate::feed::body::PageBody;
use bytes::Bytes;
use taskfence_core::feed::page::{Page, PageError};
use taskfence_core::feed::revision::Revision;
use taskfence_core::feed::statement::Statement;
use taskfence_core::jose::key::KeySet;
use taskfence_core::jose::signature::CheckSignature;

/// A page that was verified. It is handed on byte by byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// What the hub says.
    pub statement: Statement,
    /// The page: the statement, a line feed, the entries.
    pub bytes: Bytes,
}

impl Kept {
    /// Verifies the page `bytes` of the hub `hub` of `feed` with one of `keys`, as a filter does.
    pub fn verify(
        bytes: Bytes,
        (hub, feed): (&str, &str),
        keys: &KeySet,
        signatures: &mut impl CheckSignature,
    ) -> Result<Kept, PageError> {
        let page = Page::verify(&bytes, (hub, feed), keys, signatures)?;
        Ok(Kept { statement: page.statement().clone(), bytes })
    }

    /// What it follows.
    pub fn prev(&self) -> Revision {
        let Statement { upto, prev, prev_chain, .. } = &self.statement;
        Revision { epoch: upto.epoch, number: *prev, chain: *prev_chain }
    }

    /// Whether it says that there is nothing new.
    pub fn is_heartbeat(&self) -> bool {
        self.statement.part.is_none() && self.prev() == self.statement.upto
    }

    /// The answer to a follower.
    pub fn body(&self) -> PageBody {
        PageBody::new(self.bytes.clone(), Bytes::new())
    }
}
