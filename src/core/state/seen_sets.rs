//! The SETs that came recently, so that one `jti` cannot stand for two different SETs (RFC 8417 §2.2).
//!
//! The same SET may come again: to store its entries twice changes nothing. But a `jti` that is used again for
//! something else is an error or an attack. The first SET stays, the other is refused.
//!
//! There are 256 rings, each with the last 64 SETs, by the hash of transmitter and `jti`: 16,384 SETs in 257 KiB. A SET
//! that was dropped from its ring counts as new.
//!
//! A ring is: format (1 byte), the index that is written next (1), and for each SET 8 bytes of the hash of its name and
//! 8 bytes of the hash of its claims.

use crate::state::store::{MAX_TRIES, Slot, Store, StoreError};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

/// The number of rings. Part of the stored format.
pub(crate) const RINGS: u16 = 256;

const PLACES: usize = 64;
const FORMAT: u8 = 1;

/// The name of a SET and its claims, as hashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint {
    name: [u8; 8],
    says: [u8; 8],
}

impl Fingerprint {
    /// The fingerprint of the SET `id` of the stream `transmitter` with `claims`. Claims that differ when the same
    /// event is sent again, such as `iat` and `txn`, are left out.
    pub fn new(transmitter: &str, id: &str, claims: &Map<String, Value>) -> Fingerprint {
        let mut says = Sha256::new();
        for claim in ["sub_id", "events", "toe"] {
            says.update(claims.get(claim).unwrap_or(&Value::Null).to_string());
            says.update([0]);
        }
        Fingerprint {
            name: head(Sha256::digest(format!("{}:{transmitter}{id}", transmitter.len()))),
            says: head(says.finalize()),
        }
    }

    /// The hash of the claims.
    pub fn claims_hash(&self) -> &[u8; 8] {
        &self.says
    }

    fn slot(&self) -> Slot {
        let [first, ..] = self.name;
        Slot::Ring(u16::from(first))
    }
}

fn head(hash: impl AsRef<[u8]>) -> [u8; 8] {
    let mut head = [0; 8];
    head.iter_mut().zip(hash.as_ref()).for_each(|(to, from)| *to = *from);
    head
}

/// An empty ring, as it is stored.
pub(crate) fn empty() -> Vec<u8> {
    vec![FORMAT, 0]
}

/// What is known of a SET's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Memory {
    /// Nothing: it is new, or was dropped.
    New,
    /// The same SET was applied before.
    Same,
    /// A SET of the same name and other claims was applied before.
    Other,
}

/// Looks up the name of the SET with this fingerprint.
pub(crate) fn recall(store: &mut impl Store, fingerprint: &Fingerprint) -> Result<Memory, StoreError> {
    let stored = store.read(fingerprint.slot())?.ok_or(StoreError::Absent)?;
    Ok(match Ring::decode(&stored.bytes)?.find(fingerprint) {
        None => Memory::New,
        Some(says) if says == fingerprint.says => Memory::Same,
        Some(_) => Memory::Other,
    })
}

/// Records that the SET was applied.
pub(crate) fn remember(store: &mut impl Store, fingerprint: &Fingerprint) -> Result<(), StoreError> {
    for _ in 0..MAX_TRIES {
        let stored = store.read(fingerprint.slot())?.ok_or(StoreError::Absent)?;
        let mut ring = Ring::decode(&stored.bytes)?;
        if ring.find(fingerprint).is_some() {
            return Ok(());
        }
        ring.push(*fingerprint);
        if store.swap(fingerprint.slot(), &ring.encode(), stored.cas)? {
            return Ok(());
        }
    }
    Err(StoreError::Contended)
}

struct Ring {
    next: u8,
    prints: Vec<Fingerprint>,
}

impl Ring {
    fn decode(bytes: &[u8]) -> Result<Ring, StoreError> {
        let Some(([FORMAT, next], rest)) = bytes.split_first_chunk::<2>() else { return Err(StoreError::Corrupt) };
        let (prints, rest) = rest.as_chunks::<16>();
        if !rest.is_empty() || prints.len() > PLACES || usize::from(*next) >= PLACES {
            return Err(StoreError::Corrupt);
        }
        let fingerprint = |bytes: &[u8; 16]| {
            let (name, says) = bytes.split_at(8);
            Fingerprint { name: head(name), says: head(says) }
        };
        Ok(Ring { next: *next, prints: prints.iter().map(fingerprint).collect() })
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![FORMAT, self.next];
        for fingerprint in &self.prints {
            bytes.extend(fingerprint.name);
            bytes.extend(fingerprint.says);
        }
        bytes
    }

    fn find(&self, fingerprint: &Fingerprint) -> Option<[u8; 8]> {
        self.prints.iter().find(|known| known.name == fingerprint.name).map(|known| known.says)
    }

    fn push(&mut self, fingerprint: Fingerprint) {
        let next = usize::from(self.next);
        match self.prints.get_mut(next) {
            Some(oldest) => *oldest = fingerprint,
            None => self.prints.push(fingerprint),
        }
        self.next = u8::try_from(next.saturating_add(1) % PLACES).unwrap_or(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::revocations::set_up;
    use crate::state::store::MemoryStore;
    use serde_json::json;

    fn fingerprint(transmitter: &str, id: &str, says: &str) -> Fingerprint {
        let Value::Object(claims) = json!({"sub_id": says, "events": {}, "iat": id.len()}) else { panic!() };
        Fingerprint::new(transmitter, id, &claims)
    }

    #[test]
    fn the_first_of_a_name_stands() {
        let mut store = MemoryStore::default();
        set_up(&mut store, 1).unwrap();
        let first = fingerprint("t", "1", "alice");
        assert_eq!(recall(&mut store, &first), Ok(Memory::New));
        remember(&mut store, &first).unwrap();
        remember(&mut store, &first).unwrap();
        assert_eq!(recall(&mut store, &first), Ok(Memory::Same), "the same again");
        assert_eq!(recall(&mut store, &fingerprint("t", "1", "bob")), Ok(Memory::Other));
        assert_eq!(recall(&mut store, &fingerprint("u", "1", "bob")), Ok(Memory::New), "of somebody else");
    }

    #[test]
    fn the_memory_is_bounded() {
        let mut store = MemoryStore::default();
        set_up(&mut store, 1).unwrap();
        for n in 0..40_000 {
            remember(&mut store, &fingerprint("t", &n.to_string(), "alice")).unwrap();
        }
        let kept: usize = (0..RINGS).map(|ring| store.read(Slot::Ring(ring)).unwrap().unwrap().bytes.len()).sum();
        assert!(kept <= 2 * 256 + 16_384 * 16, "{kept}");
        assert_eq!(
            recall(&mut store, &fingerprint("t", "39999", "bob")),
            Ok(Memory::Other),
            "the latest are remembered"
        );
        assert_eq!(recall(&mut store, &fingerprint("t", "0", "bob")), Ok(Memory::New), "the oldest are not");
    }

    #[test]
    fn other_bytes_are_no_ring() {
        for bytes in [&[][..], &[2, 0], &[1, 64], &[1, 0, 7]] {
            assert!(Ring::decode(bytes).is_err(), "{bytes:?}");
        }
    }
}
