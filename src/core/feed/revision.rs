//! A point in the order of all entries of a feed.

use std::fmt;
use std::str::FromStr;

/// The first bytes of a hash over all entries up to a number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Chain(pub [u8; 8]);

/// The number of an entry, in the numbering that began with `epoch`. Its text form is `EPOCH.NUMBER.CHAIN`, with epoch
/// and chain as 16 hexadecimal digits and the number in decimal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Revision {
    /// A random number, drawn when the feed was created, and again when its store cannot go on with its numbers.
    pub epoch: u64,
    /// How many entries there are up to this point. 0: none.
    pub number: u64,
    /// The chain at this point. It tells two histories with the same numbers apart.
    pub chain: Chain,
}

impl Chain {
    /// The chain after the entry `number` with its encoded `bytes` was added.
    pub fn after(self, number: u64, bytes: &[u8]) -> Chain {
        let digest = crate::encoding::digest::sha256_of(&[&self.0, &number.to_be_bytes(), bytes]);
        let mut chain = Chain::default();
        chain.0.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
        chain
    }
}

impl Revision {
    /// Before everything: of no epoch.
    pub const START: Revision = Revision { epoch: 0, number: 0, chain: Chain([0; 8]) };
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}.{}.{:016x}", self.epoch, self.number, u64::from_be_bytes(self.chain.0))
    }
}

/// A text is not a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a revision is EPOCH.NUMBER.CHAIN, such as 4c1d9a5be0f32718.4821.09af3377c2d85b10")]
pub struct NotARevision;

impl FromStr for Revision {
    type Err = NotARevision;

    fn from_str(text: &str) -> Result<Revision, NotARevision> {
        let mut parts = text.split('.');
        let (epoch, number, chain) = (parts.next(), parts.next(), parts.next());
        let (Some(epoch), Some(number), Some(chain), None) = (epoch, number, chain, parts.next()) else {
            return Err(NotARevision);
        };
        let is_hex =
            |text: &str| text.len() == 16 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        if !is_hex(epoch) || !is_hex(chain) || !is_number {
            return Err(NotARevision);
        }
        let hex = |text| u64::from_str_radix(text, 16).map_err(|_| NotARevision);
        let number = number.parse().map_err(|_| NotARevision)?;
        Ok(Revision { epoch: hex(epoch)?, number, chain: Chain(hex(chain)?.to_be_bytes()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_form_survives() {
        let chain = Chain::default().after(1, b"a").after(2, b"b");
        for revision in [Revision::START, Revision { epoch: 7, number: u64::MAX, chain }] {
            assert_eq!(revision.to_string().parse(), Ok(revision));
        }
        for bad in [
            "",
            "0",
            "0.0.0",
            "0.0",
            "0000000000000007.1.0000000000000000.",
            "0000000000000007.-1.0000000000000000",
            "000000000000000G.1.0000000000000000",
            "0000000000000007..0000000000000000",
            "+000000000000007.1.0000000000000000",
        ] {
            assert_eq!(bad.parse::<Revision>(), Err(NotARevision), "{bad}");
        }
    }

    #[test]
    fn the_chain_depends_on_every_entry_its_number_and_the_order() {
        let start = Chain::default();
        let one = start.after(1, b"a").after(2, b"b");
        assert_ne!(one, start.after(1, b"b").after(2, b"a"));
        assert_ne!(one, start.after(1, b"a").after(3, b"b"));
        assert_ne!(one, start.after(1, b"a"));
    }
}
