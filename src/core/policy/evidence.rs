//! What leaves the proxy as evidence: whether uses are counted, which allowed requests get a record, and which members
//! are masked.

use crate::encoding::digest::{Digest, digest_text, sha256, sha256_of};
use crate::encoding::secret::Secret;
use crate::rules::rate::Rate;
use std::borrow::Cow;

/// What a mask can be set for. A name stands for the member in records and in counted uses.
///
/// `actor` stands for `actor` and `actors`. `captures`, `scopes`, `details` and `key` are members of counted uses alone.
pub const MASKABLE: [&str; 16] = [
    "subject",
    "actor",
    "client",
    "task",
    "session",
    "token",
    "fingerprint",
    "host",
    "path",
    "source",
    "peer",
    "trace_id",
    "captures",
    "scopes",
    "details",
    "key",
];

/// The settings of `evidence`.
#[derive(Debug)]
pub struct Evidence {
    /// Whether uses of grants are counted and sent to the hub.
    pub uses: bool,
    /// Which part of the allowed requests gets a record. A rule can have a rate of its own.
    pub allows: Rate,
    /// What is removed or hashed before it leaves the proxy.
    pub masks: Masks,
}

impl Default for Evidence {
    fn default() -> Evidence {
        Evidence { uses: true, allows: Rate::NEVER, masks: Masks::default() }
    }
}

/// What happens to a member before it leaves the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mask {
    /// It is left out.
    Remove,
    /// It is replaced by a hash: equal values stay equal.
    Hash,
}

/// The masks of all members.
#[derive(Debug, Default)]
pub struct Masks {
    pub(crate) members: Vec<(&'static str, Mask)>,
    /// The key of the hashes.
    pub(crate) key: Option<Secret>,
}

impl Masks {
    /// Whether no member is masked.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The mask of the member `name`, one of [`MASKABLE`].
    pub fn of(&self, name: &str) -> Option<Mask> {
        self.members.iter().find(|(member, _)| *member == name).map(|(_, mask)| *mask)
    }

    /// What may be shown of `value` of the member `name`: the value, a hash, or nothing.
    pub fn apply<'v>(&self, name: &str, value: &'v str) -> Option<Cow<'v, str>> {
        match self.of(name) {
            None => Some(value.into()),
            Some(Mask::Hash) => Some(self.hash(value).into()),
            Some(Mask::Remove) => None,
        }
    }

    /// Adds to `text` what tells these masks from others; nothing where nothing is masked.
    pub(crate) fn identify(&self, text: &mut String) {
        for (name, mask) in &self.members {
            text.push('\0');
            text.push_str(name);
            if *mask == Mask::Hash {
                text.push_str(&self.hash(""));
            }
        }
    }

    /// `sha256:` and the base64url of HMAC-SHA-256 (RFC 2104) of `value` with `mask_key`, or of its SHA-256 without a key.
    pub fn hash(&self, value: &str) -> String {
        let digest = match &self.key {
            Some(key) => hmac_sha256(key.reveal().as_bytes(), value.as_bytes()),
            None => sha256(value.as_bytes()),
        };
        format!("sha256:{}", digest_text(&digest))
    }
}

/// HMAC-SHA-256 (RFC 2104 §2).
fn hmac_sha256(key: &[u8], text: &[u8]) -> Digest {
    const BLOCK: usize = 64;
    let short = match key.len() <= BLOCK {
        true => Cow::Borrowed(key),
        false => sha256(key).to_vec().into(),
    };
    let pad = |byte: u8| {
        let mut block = [byte; BLOCK];
        block.iter_mut().zip(short.iter()).for_each(|(to, from)| *to ^= from);
        block
    };
    let inner = sha256_of(&[&pad(0x36), text]);
    sha256_of(&[&pad(0x5c), &inner])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_kept_removed_or_hashed() {
        let members = vec![("subject", Mask::Hash), ("source", Mask::Remove)];
        let masks = Masks { members, key: None };
        assert_eq!(masks.apply("task", "t").as_deref(), Some("t"));
        assert_eq!(masks.apply("source", "10.0.0.1"), None);
        // printf abc | openssl dgst -sha256 -binary | basenc --base64url
        let abc = "sha256:ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0";
        assert_eq!(masks.apply("subject", "abc").as_deref(), Some(abc));
    }

    /// RFC 4231 §4.3 and §4.7: a short key, and one that is longer than a block.
    #[test]
    fn hmac_is_that_of_the_standard() {
        let hex = |digest: Digest| digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let short = hmac_sha256(b"Jefe", b"what do ya want for nothing?");
        assert_eq!(hex(short), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
        let long = hmac_sha256(&[0xaa; 131], b"Test Using Larger Than Block-Size Key - Hash Key First");
        assert_eq!(hex(long), "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
    }
}
