//! When each transmitter was last heard of. Without signals the state is not known to be complete: that no revocation
//! is stored does not mean that there was none.
//!
//! Freshness is part of the stored version, so that a request reads it without an additional read. For each transmitter
//! it holds a hash of its name (8 bytes), the latest `iat` of its authentic signals (5), and the last status of its
//! stream: the status (1) and its time (5). Times are little-endian seconds.
//! when it was said (5). Times are little-endian seconds.

use crate::state::corrupt::Corrupt;
use crate::time::Timestamp;
use sha2::{Digest, Sha256};

/// The state holds this many transmitters; a configuration may name no more.
pub const MAX_TRANSMITTERS: usize = 32;

const SLOT: usize = 19;

/// A transmitter, by a hash of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransmitterId([u8; 8]);

impl TransmitterId {
    /// The transmitter of the stream that is called `name`: its `iss`, where it has one stream.
    pub fn new(name: &str) -> TransmitterId {
        let mut id = [0; 8];
        id.iter_mut().zip(Sha256::digest(name)).for_each(|(to, from)| *to = from);
        TransmitterId(id)
    }

    /// A transmitter whose id is not known any more.
    pub const UNKNOWN: TransmitterId = TransmitterId([0; TransmitterId::LEN]);

    /// The length of [`TransmitterId::as_bytes`] in bytes.
    pub const LEN: usize = 8;

    /// The stored form.
    pub fn as_bytes(&self) -> &[u8; TransmitterId::LEN] {
        &self.0
    }

    /// Reads the stored form.
    pub fn from_bytes(bytes: [u8; TransmitterId::LEN]) -> TransmitterId {
        TransmitterId(bytes)
    }
}

/// The status of a stream (SSF 1.0 §8.1.2), in order: the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// `enabled`: signals are sent.
    Enabled,
    /// `paused`: signals are held back and sent later.
    Paused,
    /// `disabled`: signals are lost.
    Disabled,
}

impl Status {
    const ALL: [Status; 3] = [Status::Enabled, Status::Paused, Status::Disabled];

    /// The value as SSF writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Enabled => "enabled",
            Status::Paused => "paused",
            Status::Disabled => "disabled",
        }
    }

    /// Parses the value as SSF writes it.
    pub fn from_name(word: &str) -> Option<Status> {
        Status::ALL.into_iter().find(|status| status.as_str() == word)
    }

    fn number(self) -> u8 {
        match self {
            Status::Enabled => 0,
            Status::Paused => 1,
            Status::Disabled => 2,
        }
    }
}

/// A heartbeat: proof that a transmitter was active at a point in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heartbeat {
    /// Which transmitter sent it.
    pub transmitter: TransmitterId,
    /// When it was issued: `iat`. The time of arrival proves nothing, because an old signal may be pushed again.
    pub issued: Timestamp,
    /// The status of the stream, where it names one, and since when.
    pub stream: Option<(Status, Timestamp)>,
}

impl Heartbeat {
    /// A heartbeat of the transmitter `name`, issued at `issued`.
    pub fn new(name: &str, issued: Timestamp) -> Heartbeat {
        Heartbeat { transmitter: TransmitterId::new(name), issued, stream: None }
    }
}

/// When each transmitter was last heard of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Freshness {
    heard: Vec<Heard>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Heard {
    transmitter: TransmitterId,
    at: Timestamp,
    status: Status,
    status_at: Timestamp,
}

impl Freshness {
    /// Records a heartbeat at `now`. The order does not matter: the latest `iat` wins, and of two stream statuses the
    /// later; of two at the same second the worse.
    pub fn note(&mut self, heartbeat: &Heartbeat, now: Timestamp) {
        let at = heartbeat.issued.min(now);
        let transmitter = heartbeat.transmitter;
        let known = match self.heard.iter_mut().position(|heard| heard.transmitter == transmitter) {
            Some(known) => known,
            None => {
                // A transmitter that is dropped counts as never heard of. Only another configuration can bring more
                // names than fit.
                if self.heard.len() >= MAX_TRANSMITTERS
                    && let Some((oldest, _)) = self.heard.iter().enumerate().min_by_key(|(_, heard)| heard.at)
                {
                    self.heard.swap_remove(oldest);
                }
                let (status, status_at) = (Status::Enabled, Timestamp(0));
                self.heard.push(Heard { transmitter, at: Timestamp(0), status, status_at });
                self.heard.len().saturating_sub(1)
            }
        };
        let Some(heard) = self.heard.get_mut(known) else { return };
        heard.at = heard.at.max(at);
        if let Some((status, status_at)) = heartbeat.stream
            && (status_at, status) > (heard.status_at, heard.status)
        {
            (heard.status_at, heard.status) = (status_at, status);
        }
    }

    /// Takes in what somebody else has heard. The order does not matter.
    pub fn merge(&mut self, other: &Freshness) {
        for Heard { transmitter, at, status, status_at } in &other.heard {
            let heartbeat = Heartbeat { transmitter: *transmitter, issued: *at, stream: Some((*status, *status_at)) };
            self.note(&heartbeat, *at);
        }
    }

    /// The time up to which the state is known to be complete for somebody who needs all of `transmitters`: that of the
    /// transmitter heard of least recently. [`Timestamp`] 0 when one was never heard of or has disabled its stream, or
    /// when `transmitters` is empty.
    pub fn oldest(&self, transmitters: &[TransmitterId]) -> Timestamp {
        let at = |wanted: &TransmitterId| {
            let heard = self.heard.iter().find(|heard| heard.transmitter == *wanted);
            heard.map_or(Timestamp(0), |heard| heard.fresh_at())
        };
        transmitters.iter().map(at).min().unwrap_or_default()
    }

    /// Whether one of `transmitters` has disabled its stream: its signals are lost.
    pub fn is_lost(&self, transmitters: &[TransmitterId]) -> bool {
        let disabled = |heard: &&Heard| heard.status == Status::Disabled;
        self.heard.iter().filter(disabled).any(|heard| transmitters.contains(&heard.transmitter))
    }

    /// Whether some transmitter became less reliable than in `earlier`: its stream was paused or disabled since.
    pub fn is_worse_than(&self, earlier: &Freshness) -> bool {
        earlier.heard.iter().any(|heard| self.oldest(&[heard.transmitter]) < heard.fresh_at())
    }

    /// Appends the stored form to `bytes`.
    pub fn encode(&self, bytes: &mut Vec<u8>) {
        let time = |time: Timestamp| time.0.min((1 << 40) - 1).to_le_bytes().into_iter().take(5);
        for heard in &self.heard {
            bytes.extend(heard.transmitter.0);
            bytes.extend(time(heard.at));
            bytes.push(heard.status.number());
            bytes.extend(time(heard.status_at));
        }
    }

    /// Reads the stored form.
    pub fn decode(bytes: &[u8]) -> Result<Freshness, Corrupt> {
        let (slots, rest) = bytes.as_chunks::<SLOT>();
        if !rest.is_empty() || slots.len() > MAX_TRANSMITTERS {
            return Err(Corrupt);
        }
        let heard = slots.iter().map(|slot| Heard::decode(slot).ok_or(Corrupt)).collect::<Result<_, _>>()?;
        Ok(Freshness { heard })
    }
}

impl Heard {
    /// While a stream is paused, nothing newer than the pause is known; while it is disabled, nothing is known.
    fn fresh_at(&self) -> Timestamp {
        match self.status {
            Status::Enabled => self.at,
            Status::Paused => self.at.min(self.status_at),
            Status::Disabled => Timestamp(0),
        }
    }

    fn decode(slot: &[u8; SLOT]) -> Option<Heard> {
        let [i0, i1, i2, i3, i4, i5, i6, i7, a0, a1, a2, a3, a4, status, s0, s1, s2, s3, s4] = *slot;
        let time = |bytes: [u8; 5]| {
            let [a, b, c, d, e] = bytes;
            Timestamp(u64::from_le_bytes([a, b, c, d, e, 0, 0, 0]))
        };
        Some(Heard {
            transmitter: TransmitterId([i0, i1, i2, i3, i4, i5, i6, i7]),
            at: time([a0, a1, a2, a3, a4]),
            status: Status::ALL.into_iter().find(|known| known.number() == status)?,
            status_at: time([s0, s1, s2, s3, s4]),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Timestamp = Timestamp(1000);

    fn heartbeat(name: &str, issued: u64, stream: Option<(Status, u64)>) -> Heartbeat {
        Heartbeat {
            stream: stream.map(|(status, at)| (status, Timestamp(at))),
            ..Heartbeat::new(name, Timestamp(issued))
        }
    }

    fn after(pulses: &[Heartbeat]) -> Freshness {
        let mut freshness = Freshness::default();
        pulses.iter().for_each(|heartbeat| freshness.note(heartbeat, NOW));
        freshness
    }

    fn ids(names: &[&str]) -> Vec<TransmitterId> {
        names.iter().map(|name| TransmitterId::new(name)).collect()
    }

    #[test]
    fn the_silent_one_counts() {
        let freshness = after(&[heartbeat("chatty", 900, None), heartbeat("quiet", 100, None)]);
        assert_eq!(freshness.oldest(&ids(&["chatty"])), Timestamp(900));
        assert_eq!(freshness.oldest(&ids(&["chatty", "quiet"])), Timestamp(100));
        assert_eq!(freshness.oldest(&ids(&["chatty", "never"])), Timestamp(0));
        assert_eq!(freshness.oldest(&[]), Timestamp(0), "nobody watches");
        assert_eq!(after(&[heartbeat("a", 5000, None)]).oldest(&ids(&["a"])), NOW, "nobody is heard of in the future");
    }

    #[test]
    fn a_paused_stream_ages_and_a_disabled_one_is_lost() {
        let is = |pulses: &[Heartbeat]| after(pulses).oldest(&ids(&["t"])).0;
        assert_eq!(is(&[heartbeat("t", 500, Some((Status::Paused, 500))), heartbeat("t", 900, None)]), 500);
        assert_eq!(is(&[heartbeat("t", 500, Some((Status::Disabled, 500))), heartbeat("t", 900, None)]), 0);
        let back =
            [heartbeat("t", 500, Some((Status::Paused, 500))), heartbeat("t", 700, Some((Status::Enabled, 700)))];
        assert_eq!(is(&back), 700);
        let tie =
            [heartbeat("t", 500, Some((Status::Disabled, 500))), heartbeat("t", 500, Some((Status::Enabled, 500)))];
        assert_eq!(is(&tie), 0);
    }

    #[test]
    fn names_of_old_configurations_make_room() {
        let pulses: Vec<Heartbeat> =
            (0..100u64).map(|n| heartbeat(&n.to_string(), n.saturating_add(1), None)).collect();
        let freshness = after(&pulses);
        assert_eq!(freshness.heard.len(), MAX_TRANSMITTERS);
        assert_eq!(freshness.oldest(&ids(&["99"])), Timestamp(100));
        assert_eq!(freshness.oldest(&ids(&["0"])), Timestamp(0));
    }

    proptest! {
        #[test]
        fn any_order_and_repetition_gives_one_answer(
            pulses in proptest::collection::vec((0usize..3, 1u64..50, proptest::option::of((0usize..3, 1u64..50))), 1..12),
            swaps in proptest::collection::vec(any::<proptest::sample::Index>(), 24),
        ) {
            let names = ["a", "b", "c"];
            let pulses: Vec<Heartbeat> = pulses.into_iter().map(|(name, at, stream)| {
                heartbeat(names[name], at, stream.map(|(status, at)| (Status::ALL[status], at)))
            }).collect();
            let mut other = [pulses.clone(), pulses.clone()].concat();
            let len = other.len();
            for (at, to) in (0..len).zip(&swaps) {
                other.swap(at, to.index(len));
            }
            let (one, two) = (after(&pulses), after(&other));
            for name in names {
                prop_assert_eq!(one.oldest(&ids(&[name])), two.oldest(&ids(&[name])));
            }
            let mut bytes = Vec::new();
            one.encode(&mut bytes);
            prop_assert_eq!(Freshness::decode(&bytes), Ok(one));
        }

        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Freshness::decode(&bytes);
        }
    }
}
