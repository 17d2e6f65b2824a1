//! State keys: the subject of a signal and the identity of a grant are reduced to the same few bytes, so that they can
//! be compared.

use sha2::{Digest, Sha256};

/// What a key names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// One token, by `jti`.
    Token,
    /// One task.
    Task,
    /// One session.
    Session,
    /// One user, by `sub`.
    User,
    /// One client, by `client_id`.
    Client,
    /// One acting party, by `act`.
    Actor,
    /// One device.
    Device,
    /// One tenant.
    Tenant,
    /// One user, by a claim that holds what an `email` subject names (RFC 9493 §3.2.2).
    Email,
    /// One user, by a claim that holds what a `phone_number` subject names (RFC 9493 §3.2.5).
    Phone,
    /// One user, by a claim that holds what an `account` subject names (RFC 9493 §3.2.1).
    Account,
    /// One user, by a claim that holds what a `did` subject names (RFC 9493 §3.2.6).
    Did,
    /// One user, by a claim that holds what a `uri` subject names (RFC 9493 §3.2.7).
    Uri,
    /// One user, by a claim that holds the `sub` that another issuer gave.
    ForeignUser,
    /// One group.
    Group,
    /// All grants of one token issuer.
    Issuer,
}

impl Kind {
    /// Whether every grant has a key of this kind, unless its issuer declares the task or the client absent.
    pub fn is_universal(self) -> bool {
        matches!(self, Kind::Token | Kind::Task | Kind::User | Kind::Client | Kind::Issuer)
    }

    /// Whether it names something that begins and ends once (a token, a task, a session), unlike a principal.
    pub fn is_singular(self) -> bool {
        matches!(self, Kind::Token | Kind::Task | Kind::Session)
    }

    const ALL: [Kind; 16] = [
        Kind::Token,
        Kind::Task,
        Kind::Session,
        Kind::User,
        Kind::Client,
        Kind::Actor,
        Kind::Device,
        Kind::Tenant,
        Kind::Email,
        Kind::Phone,
        Kind::Account,
        Kind::Did,
        Kind::Uri,
        Kind::ForeignUser,
        Kind::Group,
        Kind::Issuer,
    ];

    /// What a key of this kind names, in words. The words are part of what hub and filter compare, so they never change.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Token => "token",
            Kind::Task => "task",
            Kind::Session => "session",
            Kind::User => "user",
            Kind::Client => "client",
            Kind::Actor => "actor",
            Kind::Device => "device",
            Kind::Tenant => "tenant",
            Kind::Email => "email",
            Kind::Phone => "phone_number",
            Kind::Account => "account",
            Kind::Did => "did",
            Kind::Uri => "uri",
            Kind::ForeignUser => "foreign user",
            Kind::Group => "group",
            Kind::Issuer => "issuer",
        }
    }

    /// The number of the kind in the stored format.
    fn number(self) -> u8 {
        match self {
            Kind::Token => 1,
            Kind::Task => 2,
            Kind::Session => 3,
            Kind::User => 4,
            Kind::Client => 5,
            Kind::Actor => 6,
            Kind::Device => 7,
            Kind::Tenant => 8,
            Kind::Email => 9,
            Kind::Phone => 10,
            Kind::Account => 11,
            Kind::Did => 12,
            Kind::Uri => 13,
            Kind::ForeignUser => 14,
            Kind::Group => 15,
            Kind::Issuer => 16,
        }
    }
}

/// A 16-bit tag of the token issuer that a key belongs to. Two issuers may have the same tag; then a mark covers more
/// grants than necessary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct IssuerTag(u16);

impl IssuerTag {
    /// Matches every issuer.
    pub const ANY: IssuerTag = IssuerTag(0);

    /// FNV-1a over the name, folded to 16 bits. The names come from the configuration, so an attacker cannot choose one
    /// that collides.
    pub(crate) fn new(issuer: &str) -> IssuerTag {
        let step = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
        let hash = issuer.bytes().fold(0x811c_9dc5, step);
        let [a, b, c, d] = hash.to_le_bytes();
        IssuerTag(u16::from_le_bytes([a ^ c, b ^ d]).max(1))
    }

    /// Whether a mark for this issuer also applies to `other`.
    pub fn includes(self, other: IssuerTag) -> bool {
        self == IssuerTag::ANY || self == other
    }

    /// The stored form.
    pub fn encode(self) -> [u8; 2] {
        self.0.to_le_bytes()
    }

    /// Reads the stored form.
    pub fn decode(bytes: [u8; 2]) -> IssuerTag {
        IssuerTag(u16::from_le_bytes(bytes))
    }
}

/// Kind, issuer and name hashed together (SHA-256, first 16 bytes), with the kind and the tag of the issuer.
///
/// Names have any length, keys have a fixed one. At 128 bits a second name with the same key cannot be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StateKey {
    kind: Kind,
    issuer: IssuerTag,
    hash: [u8; 16],
}

impl StateKey {
    /// The length of [`StateKey::encode`] in bytes.
    pub const LEN: usize = 19;

    /// The key of `name`, as `issuer` assigned it. `issuer` is the key space of a token issuer: its name, with that of the
    /// feed before it.
    pub fn new(kind: Kind, issuer: &str, name: &str) -> StateKey {
        let mut hasher = Sha256::new();
        hasher.update([kind.number()]);
        // The length prefix keeps ("ab", "c") and ("a", "bc") apart.
        hasher.update(u64::try_from(issuer.len()).unwrap_or(u64::MAX).to_le_bytes());
        hasher.update(issuer);
        hasher.update(name);
        let mut hash = [0; 16];
        hash.iter_mut().zip(hasher.finalize()).for_each(|(to, from)| *to = from);
        StateKey { kind, issuer: IssuerTag::new(issuer), hash }
    }

    /// The key of a name that another `authority` assigned, within the tokens of `issuer`. A transmitter that has no
    /// permission for `issuer` cannot produce such a key.
    pub fn foreign(kind: Kind, issuer: &str, authority: &str, name: &str) -> StateKey {
        StateKey::new(kind, issuer, &format!("{}:{authority}{name}", authority.len()))
    }

    /// The key of everything that `issuer` granted.
    pub fn of_issuer(issuer: &str) -> StateKey {
        StateKey::new(Kind::Issuer, issuer, "")
    }

    /// The condition "the grant has nothing of `kind`".
    pub fn absent(kind: Kind) -> StateKey {
        StateKey { kind, issuer: IssuerTag::ANY, hash: [0; 16] }
    }

    /// Whether it is [`StateKey::absent`]; no name has that hash.
    pub fn is_absent(&self) -> bool {
        self.hash == [0; 16]
    }

    /// The kind of thing that the key names.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The tag of the token issuer that the key belongs to.
    pub fn issuer(&self) -> IssuerTag {
        self.issuer
    }

    /// The bucket of the state that holds this key.
    pub fn bucket(&self) -> u16 {
        let [first, second, ..] = self.hash;
        u16::from_le_bytes([first, second]) % crate::state::key::BUCKETS
    }

    /// Part of the hash, for tables in memory: not the part that [`StateKey::bucket`] is made of.
    pub(crate) fn fingerprint(&self) -> u64 {
        let [_, _, _, _, _, _, _, _, rest @ ..] = self.hash;
        u64::from_le_bytes(rest)
    }

    /// The stored form.
    pub fn encode(&self) -> [u8; StateKey::LEN] {
        let mut bytes = [self.kind.number(); StateKey::LEN];
        let rest = self.issuer.encode().into_iter().chain(self.hash);
        bytes.iter_mut().skip(1).zip(rest).for_each(|(to, from)| *to = from);
        bytes
    }

    /// Reads the stored form. `None` when the kind is unknown.
    pub fn decode(bytes: &[u8; StateKey::LEN]) -> Option<StateKey> {
        let [number, low, high, hash @ ..] = *bytes;
        let kind = Kind::ALL.into_iter().find(|kind| kind.number() == number)?;
        Some(StateKey { kind, issuer: IssuerTag::decode([low, high]), hash })
    }
}

/// The kind of key for a subject format that names a user by a claim of the token; `None` for other formats.
pub fn kind_of_format(format: &str) -> Option<Kind> {
    Some(match format {
        "email" => Kind::Email,
        "phone_number" => Kind::Phone,
        "account" => Kind::Account,
        "did" => Kind::Did,
        "uri" => Kind::Uri,
        _ => return None,
    })
}

/// The number of buckets. Part of the stored format.
pub const BUCKETS: u16 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kind_issuer_and_name_are_kept_apart() {
        let key = StateKey::new(Kind::Token, "ab", "c");
        assert_ne!(key, StateKey::new(Kind::Token, "a", "bc"));
        assert_ne!(key.hash, StateKey::new(Kind::Task, "ab", "c").hash);
        assert_eq!(StateKey::decode(&key.encode()), Some(key));
        assert_eq!(StateKey::decode(&[0; StateKey::LEN]), None);
        assert!(key.bucket() < crate::state::key::BUCKETS);
        assert_ne!(key.issuer(), StateKey::new(Kind::Token, "a", "c").issuer());
        assert!(IssuerTag::ANY.includes(key.issuer()) && !key.issuer().includes(IssuerTag::ANY));
        assert_eq!(StateKey::decode(&StateKey::absent(Kind::Device).encode()), Some(StateKey::absent(Kind::Device)));
    }
}
