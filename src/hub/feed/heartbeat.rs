//! The page for followers that have everything: no entries, and a new `at`. It is signed once for each read of the head,
//! and the head is read once a second, so that 10,000 followers cost one signature.

use crate::feed::heads::Head;
use crate::feed::keys::Keys;
use crate::feed::signer::NotSigned;
use bytes::Bytes;
use taskfence_core::encoding::digest::sha256;
use taskfence_core::feed::entry::FORMAT;
use taskfence_core::feed::statement::Statement;

/// A heartbeat that is signed must not be older than this, in milliseconds: the head is read once a second.
pub const MAX_AGE: u64 = 2_000;

/// The heartbeat of `head`, for followers that stand there.
pub fn page(head: &Head, (hub, feed): (&str, &str), keys: &Keys) -> Result<Bytes, NotSigned> {
    if let Some(page) = head.heartbeat.get() {
        return Ok(page.clone());
    }
    let page = keys.sign(&statement(head, (hub, feed)))?;
    Ok(head.heartbeat.get_or_init(|| page).clone())
}

/// What it says.
pub fn statement(head: &Head, (hub, feed): (&str, &str)) -> Statement {
    Statement {
        hub: hub.to_owned(),
        feed: feed.to_owned(),
        at: head.at,
        prev: head.revision.number,
        prev_chain: head.revision.chain,
        upto: head.revision,
        head: head.revision.number,
        format: FORMAT,
        count: 0,
        length: 0,
        digest: sha256(&[]),
        part: None,
        nonce: None,
        issuers: head.issuers.clone(),
    }
}
