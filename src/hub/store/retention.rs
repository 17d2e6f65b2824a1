//! How much is kept, and which lines of the audit log go.

use crate::store::model::Audit;
use crate::store::value::int;
use taskfence_core::time::{Span, Timestamp};

/// How much of the audit log is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// No line longer than this.
    pub age: Span,
    /// No more than this, in bytes.
    pub bytes: u64,
}

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// Each signal for so long after it was taken in, also when its entries have ended.
    pub signals: Span,
    /// The audit log.
    pub audit: Retention,
}

/// How much of the audit log is kept where nothing else is said.
pub const AUDIT: Retention = Retention { age: Span::hours(400 * 24), bytes: 1024 * 1024 * 1024 };

/// What a line takes beside its texts, in bytes.
pub const OVERHEAD: i64 = 40;

/// The named value that counts the bytes of the audit log.
pub const BYTES: &str = "audit-bytes";

/// So many lines are looked at in one transaction.
pub const STEP: i64 = 500;

/// A line of the audit log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    /// Its id.
    pub id: i64,
    /// When it was written, in milliseconds since 1970.
    pub at: i64,
    /// Its bytes.
    pub size: i64,
    /// Whether the signal that it names has an effect.
    pub is_in_force: bool,
}

/// The bytes of a line.
pub fn bytes(line: &Audit) -> i64 {
    let texts = [&line.by, &line.call, &line.detail].map(|text| i64::try_from(text.len()).unwrap_or(i64::MAX));
    texts.into_iter().fold(OVERHEAD, i64::saturating_add)
}

/// Which of some lines go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outdated {
    /// Their ids.
    pub gone: Vec<i64>,
    /// Their bytes.
    pub bytes: i64,
    /// After which line to go on; `None`: that was all.
    pub next: Option<i64>,
}

/// Of the next [`STEP`] lines, the oldest first, those that are older than `kept.age`, or too many where all have `bytes`
/// together; not those that name a signal which still has an effect.
pub fn outdated(lines: impl Iterator<Item = Line>, bytes: i64, now: Timestamp, kept: Retention) -> Outdated {
    let oldest = int(now.0.saturating_sub(kept.age.0).saturating_mul(1_000));
    let (mut all, mut looked) = (Outdated::default(), 0i64);
    for line in lines {
        if line.at >= oldest && bytes.saturating_sub(all.bytes) <= int(kept.bytes) {
            return Outdated { next: None, ..all };
        }
        looked = looked.saturating_add(1);
        all.next = Some(line.id);
        if !line.is_in_force {
            all.gone.push(line.id);
            all.bytes = all.bytes.saturating_add(line.size);
        }
    }
    all.next = all.next.filter(|_| looked >= STEP);
    all
}

/// The signal that a line is about, by the JSON in its `detail`.
pub fn named_signal(detail: &str) -> Option<i64> {
    serde_json::from_str::<serde_json::Value>(detail).ok()?.get("signal")?.as_i64()
}
