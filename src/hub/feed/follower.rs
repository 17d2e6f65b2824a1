//! What is known of one proxy that follows a feed.

use crate::feed::report::Report;
use crate::feed::statements::Statements;
use std::sync::Arc;
use taskfence_core::feed::revision::Revision;
use tokio::sync::Notify;

/// How far the clock of a follower may differ, in milliseconds: a filter refuses a statement that is further ahead.
pub const OFFSET_BOUND: u64 = 60_000;

/// One follower.
#[derive(Debug, Clone)]
pub struct Follower {
    /// The principal that first used its id.
    pub principal: Arc<str>,
    /// Told when another request of it begins.
    pub(super) request: Arc<Notify>,
    /// What it reports.
    pub report: Report,
    /// What it has applied.
    pub applied: Revision,
    /// When it said so first, in milliseconds since 1970.
    pub applied_at: u64,
    /// The number that it had applied before that.
    pub applied_before: u64,
    /// When it was last heard of, in milliseconds since 1970.
    pub seen: u64,
    /// What was sent to it by this replica of the hub.
    pub statements: Statements,
    /// The replica that it came to last.
    pub replica: Arc<str>,
    /// It may have statements of other replicas up to this time, in milliseconds since 1970: what it gets here must not be
    /// older.
    pub(super) not_before: u64,
    /// Up to where the last page went that it got here.
    pub(super) sent: Revision,
    /// A hash of its report, as the store has it. 0: it did not come from there.
    pub(super) mirrored: u64,
    /// Whether it was heard of since the hub started.
    pub is_heard: bool,
    /// Whether it has said since then that it has applied what this history of the feed does not have.
    pub is_ahead: bool,
    /// When it last said that it has applied what another store holds, in milliseconds since 1970; 0: not since the hub
    /// started.
    pub foreign_at: u64,
    /// How many of its requests wait now.
    pub polling: u32,
    /// Whether something is to be written.
    pub(super) changed: bool,
    /// When it was last written, in milliseconds since 1970.
    pub(super) written: u64,
    /// Whether the store knows it.
    pub(super) stored: bool,
}
