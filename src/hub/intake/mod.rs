//! Takes signals in: what transmitters push (RFC 8935), and what operators say.

pub mod aws_lc;
#[cfg(test)]
#[expect(clippy::indexing_slicing, clippy::unwrap_used, reason = "a test may panic")]
pub(crate) mod testing;
