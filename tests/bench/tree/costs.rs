//! What the steps of the model cost.

use std::time::Duration;

/// CPU time, waits and bytes of single steps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Costs {
    /// CPU of a node to send a page to one follower.
    pub page: Duration,
    /// CPU of a node to read the request of a follower, which acknowledges.
    pub request: Duration,
    /// CPU of a node for a new connection of a follower, with its first answer.
    pub connect: Duration,
    /// CPU of the root to sign a statement for one nonce, with its request.
    pub sign: Duration,
    /// CPU of the root to verify a signal and store it.
    pub signal: Duration,
    /// Until its commit is on the disk.
    pub commit: Duration,
    /// CPU of a relay to verify a page and write it.
    pub take: Duration,
    /// CPU of the root for the acknowledgement of one follower in the report of a relay.
    pub report: Duration,
    /// From the arrival of a page at a proxy until it is applied, on average; up to twice of it.
    pub apply: Duration,
    /// CPU of the one thread of all followers of the bench for a page and the next request.
    pub client: Duration,
    /// From one machine to the next.
    pub way: Duration,
    /// Bytes of a page without entries, with the headers of its answer.
    pub page_bytes: u64,
    /// Bytes of one entry: one about a task, without conditions.
    pub entry_bytes: u64,
}

impl Costs {
    /// What the section `hub` of `scripts/bench` measured on a machine with two cores, and what was assumed. A run of the section
    /// `tree` measures anew what it can.
    pub fn recorded() -> Self {
        Self {
            // Of the rows `hub/idle`: 30 to 46 us for a request and its page.
            page: Duration::from_micros(18),
            request: Duration::from_micros(18),
            // Assumed: half of the CPUs while all start (row `hub/start of all followers`).
            connect: Duration::from_micros(90),
            // Assumed: a signature of ES256, and a request.
            sign: Duration::from_micros(60),
            // Of the section `hub`, part `intake`: 9,600 signals a second on one core.
            signal: Duration::from_micros(104),
            commit: Duration::from_millis(3),
            // Assumed: a signature of ES256 is verified, and a file is appended.
            take: Duration::from_micros(300),
            // Assumed: a line of JSON is read and a map is changed.
            report: Duration::from_micros(4),
            // Of the section `hub`, part `proxy`: a page is in force on an Envoy some milliseconds after the 202.
            apply: Duration::from_millis(2),
            // Assumed: as much as the hub.
            client: Duration::from_micros(18),
            // Assumed: one data centre.
            way: Duration::from_micros(300),
            page_bytes: 900,
            entry_bytes: 51,
        }
    }
}
