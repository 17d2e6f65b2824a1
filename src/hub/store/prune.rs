//! What of a signal nobody needs any more.

use crate::store::value::int;
use taskfence_core::time::{Span, Timestamp};

/// How many signals, or numbers, one step looks at: new signals never wait long for it.
pub const STEP: i64 = 500;

/// The chain is kept for so many of the last numbers. A proxy that stopped before them starts from the full state.
pub const WINDOW: u64 = 200_000;

/// Where the next step begins: after the signal that ends at this time and has this id.
pub type Cursor = (i64, i64);

/// A signal some of whose entries have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// Its id.
    pub id: i64,
    /// Its feed.
    pub feed: i64,
    /// When the next of its entries ends.
    pub ends: i64,
    /// When it was taken in, in milliseconds since 1970.
    pub taken_in: i64,
    /// Whether its transmitter has said something since.
    pub has_successor: bool,
}

/// What becomes of the signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It stays until then.
    Until(i64),
    /// It goes.
    Gone,
    /// It stays as the last word of its transmitter, which says when that was last heard of.
    LastWord,
}

impl Due {
    /// What becomes of the signal at `now`, after its entries that have ended were removed; `next` is when the next of those
    /// that are left ends. Each signal stays for `keep` after it was taken in.
    pub fn fate(&self, next: Option<i64>, now: Timestamp, keep: Span) -> Fate {
        let kept_until = (self.taken_in / 1000).saturating_add(int(keep.0));
        match next.or(Some(kept_until).filter(|until| *until > int(now.0))) {
            Some(next) => Fate::Until(next),
            None if self.has_successor => Fate::Gone,
            None => Fate::LastWord,
        }
    }
}
