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
    /// The `kid` of each key that it has for statements.
    pub kids: Vec<String>,
    /// The one that it signs with.
    pub current: String,
    /// Whether it has ended in order.
    #[serde(default)]
    pub stopped: bool,
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
/// first is right: filters know its key.
pub fn wrong_keys(own: &Member, others: &[Member], now: u64) -> Option<String> {
    let is_first = |other: &Member| (other.started, &other.name) < (own.started, &own.name);
    let earlier = others.iter().filter(|other| other.is_alive(now) && is_first(other));
    let lacking = earlier.into_iter().find(|other| !own.kids.contains(&other.current))?;
    Some(format!(
        "the replica {} signs with the key `{}`, which is not here: copy the files of its `data/keys` into `data/keys` of this one",
        lacking.name, lacking.current
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::slice::from_ref;

    fn member(name: &str, started: u64, kids: &[&str]) -> Member {
        let kids: Vec<_> = kids.iter().map(|kid| (*kid).to_owned()).collect();
        let current = kids.last().cloned().unwrap();
        Member { name: name.to_owned(), at: 50_000, started, kids, current, ..Member::default() }
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
