//! What each replica says of itself in the store, every second: `replica/NAME`.

use crate::store::Store;
use crate::store::model::StoreError;
use serde::{Deserialize, Serialize};
use std::fs;

/// The names of these values begin with it.
const PREFIX: &str = "replica/";

/// A replica that has said nothing for so long, in milliseconds, does not live.
pub const ALIVE: u64 = 10_000;

/// What a replica said last is kept for so long, in milliseconds.
const KEPT: u64 = 24 * 3_600_000;

/// A replica, as it describes itself. A later version may say more.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// When it said this, by the clock of the store, in milliseconds since 1970.
    pub at: u64,
    /// When it started, in milliseconds since 1970.
    pub started: u64,
    /// The hash of its configuration.
    pub config: String,
    /// Its keys for statements.
    #[serde(default)]
    pub feed_keys: HeldKeys,
    /// Its keys for SETs; none if it is no transmitter.
    #[serde(default)]
    pub set_keys: HeldKeys,
    /// Whether it has ended in order.
    #[serde(default)]
    pub stopped: bool,
}

/// The keys of one kind that a replica has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldKeys {
    /// The `kid` of each.
    pub kids: Vec<String>,
    /// The one that it signs with.
    pub current: String,
}

/// Why a rotation does not go on.
#[derive(Debug, thiserror::Error)]
pub enum NotEverywhere {
    /// A live replica does not have the key.
    #[error("the replica {replica} does not have the key `{kid}`: copy the files of `data/keys` to each replica first")]
    Missing {
        /// The replica.
        replica: String,
        /// The key.
        kid: String,
    },
    /// A live replica signs with the key.
    #[error("the replica {replica} signs with the key `{kid}`: switch there too before you retire it")]
    InUse {
        /// The replica.
        replica: String,
        /// The key.
        kid: String,
    },
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A name for this process: that of its host, and something random.
pub fn name() -> String {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host: String =
        host.trim().chars().map(|one| if one.is_ascii_alphanumeric() || one == '.' { one } else { '-' }).collect();
    let host = if host.is_empty() { "hub".to_owned() } else { host };
    format!("{host}-{:06x}", getrandom::u32().unwrap_or_default() & 0x00ff_ffff)
}

impl Member {
    /// Says it in `store`. Blocks.
    pub fn write(&self, store: &dyn Store) -> Result<(), StoreError> {
        let text = serde_json::to_string(self).map_err(|error| StoreError::Failed(error.to_string()))?;
        store.set_for_signals(&format!("{PREFIX}{}", self.name), &text)
    }

    /// Whether it lives at `now`, in milliseconds since 1970.
    pub fn is_alive(&self, now: u64) -> bool {
        !self.stopped && now.saturating_sub(self.at) < ALIVE
    }
}

/// All replicas but `own` that have said something in the last day. Blocks.
pub fn others(store: &dyn Store, own: &str) -> Result<Vec<Member>, StoreError> {
    let all = store.values(PREFIX)?.into_iter();
    let read = all.filter_map(|(_, text)| serde_json::from_str::<Member>(&text).ok());
    Ok(read.filter(|member| member.name != own).collect())
}

/// Forgets the replicas that have said nothing for a day before `now`, in milliseconds since 1970. Blocks.
pub fn forget_old(store: &dyn Store, now: u64) -> Result<(), StoreError> {
    for (name, text) in store.values(PREFIX)? {
        let at = serde_json::from_str::<Member>(&text).map_or(0, |member| member.at);
        if now.saturating_sub(at) > KEPT {
            store.swap(&name, Some(&text), None)?;
        }
    }
    Ok(())
}

/// What is wrong with the keys of `own` beside those of `others` at `now`, in milliseconds since 1970. The one that started
/// first is right: filters and receivers know its key.
pub fn wrong_keys(own: &Member, others: &[Member], now: u64) -> Option<String> {
    let is_first = |other: &Member| (other.started, &other.name) < (own.started, &own.name);
    let earlier = others.iter().filter(|other| other.is_alive(now) && is_first(other));
    let lacking = |other: &Member| {
        let feed = Some(&other.feed_keys.current).filter(|kid| !own.feed_keys.kids.contains(kid));
        // Whoever is no transmitter has none.
        let is_transmitter = !own.set_keys.kids.is_empty() && !other.set_keys.current.is_empty();
        let set = Some(&other.set_keys.current).filter(|kid| is_transmitter && !own.set_keys.kids.contains(kid));
        Some((other.name.clone(), feed.or(set)?.clone()))
    };
    let (replica, kid) = earlier.into_iter().find_map(lacking)?;
    Some(format!(
        "the replica {replica} signs with the key `{kid}`, which is not here: copy the files of its `data/keys` into `data/keys` of this one"
    ))
}

/// Whether each live replica has the key `kid`, of those that `held` takes, so that all may sign with it. Blocks.
pub fn check_held(store: &dyn Store, kid: &str, held: impl Fn(&Member) -> &HeldKeys) -> Result<(), NotEverywhere> {
    let lacks = |member: &Member| !held(member).kids.is_empty() && !held(member).kids.iter().any(|known| known == kid);
    match live(store)?.into_iter().find(lacks) {
        Some(member) => Err(NotEverywhere::Missing { replica: member.name, kid: kid.to_owned() }),
        None => Ok(()),
    }
}

/// Whether no live replica signs with the key `kid`, of those that `held` takes, so that it may be retired. Blocks.
pub fn check_unused(store: &dyn Store, kid: &str, held: impl Fn(&Member) -> &HeldKeys) -> Result<(), NotEverywhere> {
    match live(store)?.into_iter().find(|member| held(member).current == kid) {
        Some(member) => Err(NotEverywhere::InUse { replica: member.name, kid: kid.to_owned() }),
        None => Ok(()),
    }
}

fn live(store: &dyn Store) -> Result<Vec<Member>, StoreError> {
    let now = store.now_ms()?;
    let mut all = others(store, "")?;
    all.retain(|member| member.is_alive(now));
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::slice::from_ref;

    fn member(name: &str, started: u64, kids: &[&str]) -> Member {
        let kids: Vec<_> = kids.iter().map(|kid| (*kid).to_owned()).collect();
        let current = kids.last().cloned().unwrap();
        let feed_keys = HeldKeys { kids, current };
        Member { name: name.to_owned(), at: 50_000, started, feed_keys, ..Member::default() }
    }

    #[test]
    fn the_one_that_lacks_the_key_of_an_earlier_one_is_wrong() {
        let (first, second) = (member("a", 1, &["x"]), member("b", 2, &["y"]));
        assert_eq!(wrong_keys(&first, from_ref(&second), 50_000), None);
        assert!(wrong_keys(&second, from_ref(&first), 50_000).unwrap().contains("`x`"));
        assert_eq!(wrong_keys(&second, from_ref(&first), 50_000 + ALIVE), None, "it does not live");
        // A rotation: the new key is at both before one signs with it.
        let rotated = [member("a", 1, &["x", "y"]), member("b", 2, &["y", "x"])];
        assert_eq!(wrong_keys(&rotated[1], &rotated[..1], 50_000), None);
        assert!(wrong_keys(&member("b", 2, &["x"]), &rotated[..1], 50_000).unwrap().contains("`y`"));
    }

    #[test]
    fn the_keys_of_sets_must_be_alike_too() {
        let sets = |member: Member| Member { set_keys: member.feed_keys.clone(), ..member };
        let with = |member: Member, set: &str| {
            let set_keys = HeldKeys { kids: vec![set.to_owned()], current: set.to_owned() };
            Member { set_keys, ..member }
        };
        let (first, second) = (with(member("a", 1, &["x"]), "s"), with(member("b", 2, &["x"]), "t"));
        assert!(wrong_keys(&second, from_ref(&first), 50_000).unwrap().contains("`s`"));
        assert_eq!(wrong_keys(&with(second, "s"), from_ref(&first), 50_000), None);
        assert_eq!(wrong_keys(&sets(member("b", 2, &["s", "x"])), from_ref(&first), 50_000), None);
        assert_eq!(wrong_keys(&member("b", 2, &["x"]), from_ref(&first), 50_000), None, "it is no transmitter");
    }

    #[test]
    fn a_key_is_used_when_all_have_it_and_retired_when_none_signs_with_it() {
        let (_folder, store) = crate::testing::store();
        let now = store.now_ms().unwrap();
        let write = |name: &str, kids: &[&str], at: u64| {
            let one = Member { at, ..member(name, 1, kids) };
            one.write(&*store).unwrap();
        };
        assert!(check_held(&*store, "y", |member| &member.feed_keys).is_ok(), "a hub that is alone");
        write("a", &["y", "x"], now);
        write("b", &["x"], now);
        write("c", &["z"], now - ALIVE);
        assert_eq!(live(&*store).unwrap().len(), 2);
        let error = check_held(&*store, "y", |member| &member.feed_keys).unwrap_err().to_string();
        assert!(error.starts_with("the replica b does not have the key `y`"), "{error}");
        write("b", &["y", "x"], now);
        assert!(check_held(&*store, "y", |member| &member.feed_keys).is_ok());
        assert!(check_unused(&*store, "x", |member| &member.feed_keys).is_err());
        assert!(check_unused(&*store, "y", |member| &member.feed_keys).is_ok());
        assert!(check_held(&*store, "s", |member| &member.set_keys).is_ok(), "none is a transmitter");
    }

    #[test]
    fn others_are_known_for_a_day() {
        let (_folder, store) = crate::testing::store();
        let (one, two) = (member("a", 1, &["x"]), member("b", 2, &["x"]));
        one.write(&*store).unwrap();
        two.write(&*store).unwrap();
        assert_eq!(others(&*store, "a").unwrap(), *from_ref(&two));
        assert!(two.is_alive(50_000 + ALIVE - 1) && !two.is_alive(50_000 + ALIVE));
        forget_old(&*store, 50_000 + KEPT).unwrap();
        assert_eq!(others(&*store, "").unwrap().len(), 2);
        forget_old(&*store, 50_001 + KEPT).unwrap();
        assert_eq!(others(&*store, "").unwrap(), []);
        assert!(name() != name());
    }
}
