//! Which VM of a proxy follows a feed: a lease of two seconds in the memory that all workers share.
//!
//! Stored form: the holder (8 bytes), and until when it holds the lease, in milliseconds since 1970 (8). Both are
//! little-endian; the holder 0 is nobody.

use crate::state::store::{Corrupt, Slot, Store, StoreError};

/// A holder that does not renew its lease loses it after this many milliseconds.
pub const HELD: u64 = 2_000;

/// A VM that cannot verify what the hub answers leaves the lease to others for this many milliseconds.
pub const ABSTAIN: u64 = 10_000;

/// Creates the lease if there is none. It must run while nobody else can write.
pub fn set_up(store: &mut impl Store, slot: Slot) -> Result<(), StoreError> {
    match store.read(slot)? {
        Some(_) => Ok(()),
        None => store.seed(slot, &encode(0, 0)),
    }
}

/// Takes or renews the lease for `me`, a random number that is not 0. `Ok(false)`: another VM holds it.
pub fn take(store: &mut impl Store, slot: Slot, me: u64, now: u64) -> Result<bool, StoreError> {
    let stored = store.read(slot)?.ok_or(StoreError::Absent)?;
    let (holder, until) = decode(&stored.bytes)?;
    let longest = now.saturating_add(HELD);
    // A lease that ends later than any can was taken before the clock was set back.
    let is_held = holder != 0 && holder != me && until > now && until <= longest;
    if is_held {
        return Ok(false);
    }
    store.swap(slot, &encode(me, longest), stored.cas)
}

/// Gives the lease up, if `me` holds it.
pub fn give_up(store: &mut impl Store, slot: Slot, me: u64) -> Result<(), StoreError> {
    let stored = store.read(slot)?.ok_or(StoreError::Absent)?;
    if decode(&stored.bytes)?.0 == me {
        // If another VM has just taken it, there is nothing to give up.
        store.swap(slot, &encode(0, 0), stored.cas)?;
    }
    Ok(())
}

fn encode(holder: u64, until: u64) -> Vec<u8> {
    [holder, until].into_iter().flat_map(u64::to_le_bytes).collect()
}

fn decode(bytes: &[u8]) -> Result<(u64, u64), Corrupt> {
    match bytes.as_chunks::<8>() {
        ([holder, until], []) => Ok((u64::from_le_bytes(*holder), u64::from_le_bytes(*until))),
        _ => Err(Corrupt),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::coverage::FeedId;
    use crate::state::store::MemoryStore;

    #[test]
    fn one_holds_it_until_it_stops_to_renew_it() {
        let slot = Slot::FeedLease(FeedId::new("hub", "main"), [1; 8]);
        let store = &mut MemoryStore::default();
        assert_eq!(take(store, slot, 1, 0), Err(StoreError::Absent));
        set_up(store, slot).unwrap();
        assert_eq!(take(store, slot, 1, 10_000), Ok(true));
        assert_eq!(take(store, slot, 2, 11_999), Ok(false));
        assert_eq!(take(store, slot, 1, 11_999), Ok(true));
        set_up(store, slot).unwrap();
        assert_eq!(take(store, slot, 2, 13_998), Ok(false));
        assert_eq!(take(store, slot, 2, 13_999), Ok(true));
        assert_eq!(take(store, slot, 1, 14_000), Ok(false));
        give_up(store, slot, 1).unwrap();
        assert_eq!(take(store, slot, 1, 14_000), Ok(false), "only the holder gives it up");
        give_up(store, slot, 2).unwrap();
        assert_eq!(take(store, slot, 1, 14_000), Ok(true));
        assert_eq!(take(store, slot, 2, 5_000), Ok(true), "the clock was set back");
    }
}
