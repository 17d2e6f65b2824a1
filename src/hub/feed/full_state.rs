//! Full states: everything that a feed holds at one revision, in parts.
//!
//! A full state is cut when somebody asks for one and the last is older than a minute. All who ask get the same bytes.
//! It is kept for at least five minutes, and for as long as somebody loads it. Two are kept at once, or more as long as
//! they are small: so a large one is replaced only when the one before it is not needed any more, and what came since is
//! sent as changes.

use crate::feed::locked;
use crate::feed::pages::Content;
use crate::store::model::StoreError;
use bytes::{Bytes, BytesMut};
use hashbrown::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use taskfence_core::feed::revision::Revision;
use taskfence_core::feed::statement::Part;

/// The entries of one part have at most this many bytes. A proxy verifies the digest of a part in one go, before its first
/// step: more than this would hold up its thread for milliseconds.
const PART: usize = 128 * 1024;

/// A full state of more bytes than this is a load for the hub; see [`FullStates::begin`].
const LARGE: usize = 768 * 1024;

/// A full state is cut again after this.
const FRESH: Duration = Duration::from_secs(60);

/// A full state is kept for so long after it was cut, and longer while somebody loads it.
const KEPT: Duration = Duration::from_secs(300);

/// Up to here more than two full states may be kept, in bytes together.
const SMALL: usize = 32 * 1024 * 1024;

/// A follower that asks for no further part for so long does not load any more.
const LOADING: Duration = Duration::from_secs(30);

/// A full state in parts.
#[derive(Debug)]
pub struct FullState {
    /// What it is the state of.
    pub revision: Revision,
    parts: Vec<Content>,
    bytes: usize,
    cut: Instant,
}

/// Collects the entries of a full state into parts.
#[derive(Debug, Default)]
pub struct Cutter {
    done: Vec<(u64, Bytes)>,
    open: BytesMut,
    count: u64,
}

impl Cutter {
    /// Adds the next entry.
    pub fn add(&mut self, entry: &[u8]) {
        if !self.open.is_empty() && self.open.len().saturating_add(entry.len()) > PART {
            self.close();
        }
        if self.open.capacity() == 0 {
            // The first part of a small feed stays small. All others are full.
            self.open.reserve(if self.done.is_empty() { entry.len() } else { PART });
        }
        self.open.extend_from_slice(entry);
        self.count = self.count.saturating_add(1);
    }

    /// The full state of `revision`. Without entries it has one empty part.
    pub fn finish(mut self, revision: Revision, format: u8) -> FullState {
        if !self.open.is_empty() || self.done.is_empty() {
            self.close();
        }
        let parts = u32::try_from(self.done.len()).unwrap_or(u32::MAX);
        let bytes = self.done.iter().map(|(_, bytes)| bytes.len()).fold(0, usize::saturating_add);
        let content = |(part, entries)| Content::part(revision, format, Part { part, parts }, entries);
        let parts = (0..).zip(self.done).map(content).collect();
        FullState { revision, parts, bytes, cut: Instant::now() }
    }

    fn close(&mut self) {
        // A copy of the exact length: what a part has spare would be kept for minutes.
        let entries = Bytes::from(self.open.to_vec().into_boxed_slice());
        self.open = BytesMut::new();
        self.done.push((std::mem::take(&mut self.count), entries));
    }
}

impl FullState {
    /// Its part `number`.
    pub fn part(&self, number: u32) -> Option<&Content> {
        self.parts.get(usize::try_from(number).ok()?)
    }

    fn is_large(&self) -> bool {
        self.bytes > LARGE
    }
}

/// The full states of one feed.
#[derive(Debug)]
pub struct FullStates {
    max_loaders: usize,
    kept: Mutex<Kept>,
    cutting: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Kept {
    /// Oldest first, with the time that a part was last asked for.
    states: Vec<(Arc<FullState>, Instant)>,
    /// Followers that load a state of several parts, by id.
    loaders: HashMap<String, Loader>,
}

#[derive(Debug)]
struct Loader {
    principal: Arc<str>,
    /// When it last asked.
    seen: Instant,
}

/// A follower, and whose it is.
#[derive(Debug, Clone, Copy)]
pub struct Of<'f> {
    /// Its id.
    pub follower: &'f str,
    /// Its principal.
    pub principal: &'f Arc<str>,
}

/// Why no full state is served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoFullState {
    /// Too many followers load one.
    #[error("too many followers load a full state now")]
    Busy,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no such state, or no such part. It was kept for minutes after the last request for it.
    #[error("there is no such full state any more: begin again with part 0")]
    Gone,
}

impl FullStates {
    /// At most `max_loaders` followers load at once.
    pub fn new(max_loaders: usize) -> FullStates {
        FullStates { max_loaders, kept: Mutex::default(), cutting: tokio::sync::Mutex::default() }
    }

    /// The current full state, for the follower `of`, which begins with its part 0. `cut` makes a new one.
    pub async fn begin(
        &self,
        of: Of<'_>,
        cut: impl Future<Output = Result<FullState, StoreError>>,
    ) -> Result<Arc<FullState>, NoFullState> {
        let state = match self.current() {
            Some(state) => state,
            None => {
                let _turn = self.cutting.lock().await;
                match self.current() {
                    Some(state) => state,
                    None => self.keep(cut.await?),
                }
            }
        };
        let mut kept = locked(&self.kept);
        kept.touch(&state);
        match !state.is_large() || kept.admit(of, self.max_loaders) {
            true => Ok(state),
            false => Err(NoFullState::Busy),
        }
    }

    /// The state of `revision`, of which the follower `of` asks for the part `part`.
    pub fn resume(&self, of: Of<'_>, revision: Revision, part: u32) -> Result<Arc<FullState>, NoFullState> {
        let mut kept = locked(&self.kept);
        let found = kept.states.iter().find(|(state, _)| state.revision == revision).map(|(state, _)| state.clone());
        let state = found.filter(|state| state.part(part).is_some()).ok_or(NoFullState::Gone)?;
        kept.touch(&state);
        let is_last = state.part(part.saturating_add(1)).is_none();
        match !state.is_large() || kept.admit(of, self.max_loaders) {
            true if is_last => _ = kept.loaders.remove(of.follower),
            true => {}
            false => return Err(NoFullState::Busy),
        }
        Ok(state)
    }

    /// Whether the follower `of` may read changes from the store that one page does not hold, which costs as much as a
    /// state of several parts.
    pub fn may_read(&self, of: Of<'_>) -> bool {
        locked(&self.kept).admit(of, self.max_loaders)
    }

    /// A follower has read the last of what it needed.
    pub fn done(&self, follower: &str) {
        locked(&self.kept).loaders.remove(follower);
    }

    /// How many followers load, and the bytes of all states kept.
    pub fn load(&self) -> (usize, usize) {
        let kept = locked(&self.kept);
        (kept.loaders.len(), kept.bytes())
    }

    /// Forgets all states: the feed has begun a new epoch. Who loads one begins anew.
    pub fn forget(&self) {
        *locked(&self.kept) = Kept::default();
    }

    /// Forgets states that are not needed. Called each few seconds.
    pub fn expire(&self) {
        locked(&self.kept).expire();
    }

    /// The newest state, if it need not or cannot be replaced yet.
    fn current(&self) -> Option<Arc<FullState>> {
        let mut kept = locked(&self.kept);
        kept.expire();
        let (newest, _) = kept.states.last()?;
        let full = kept.states.len() >= 2 && kept.bytes() > SMALL;
        (newest.cut.elapsed() < FRESH || full).then(|| newest.clone())
    }

    fn keep(&self, state: FullState) -> Arc<FullState> {
        let state = Arc::new(state);
        locked(&self.kept).states.push((state.clone(), Instant::now()));
        state
    }
}

impl Kept {
    fn expire(&mut self) {
        self.states.retain(|(state, used)| state.cut.elapsed() < KEPT || used.elapsed() < LOADING);
        self.loaders.retain(|_, loader| loader.seen.elapsed() < LOADING);
    }

    fn touch(&mut self, state: &Arc<FullState>) {
        self.states
            .iter_mut()
            .filter(|(known, _)| Arc::ptr_eq(known, state))
            .for_each(|(_, used)| *used = Instant::now());
    }

    /// Gives one of `max` places. A principal may hold a quarter of them, and more as long as it leaves a quarter free:
    /// ids are free to make, and whoever makes many must not keep others from starting.
    fn admit(&mut self, of: Of<'_>, max: usize) -> bool {
        self.loaders.retain(|_, loader| loader.seen.elapsed() < LOADING);
        let quarter = max.div_ceil(4);
        let used = self.loaders.len();
        let own = || self.loaders.values().filter(|loader| loader.principal == *of.principal).count();
        let is_fair = || own() < quarter || used < max.saturating_sub(quarter);
        let admitted = self.loaders.contains_key(of.follower) || (used < max && is_fair());
        if admitted {
            let loader = Loader { principal: of.principal.clone(), seen: Instant::now() };
            self.loaders.insert(of.follower.to_owned(), loader);
        }
        admitted
    }

    fn bytes(&self) -> usize {
        self.states.iter().map(|(state, _)| state.bytes).fold(0, usize::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of<'f>(follower: &'f str, principal: &str) -> Of<'f> {
        // A test may leak a few bytes.
        Of { follower, principal: Box::leak(Box::new(Arc::from(principal))) }
    }

    #[tokio::test]
    async fn no_principal_takes_the_last_quarter_of_the_places() {
        let states = FullStates::new(16);
        let ids: Vec<_> = (0..40).map(|id| format!("id-{id}")).collect();
        let begin = async |id: &str, principal: &str| {
            states.begin(of(id, principal), async { Ok(state(1, 2_000)) }).await.is_ok()
        };
        let mut taken = 0;
        for id in &ids[..20] {
            taken += usize::from(begin(id, "greedy").await);
        }
        assert_eq!(taken, 12, "a mesh of one identity is alone as a rule");
        for id in &ids[20..25] {
            taken += usize::from(begin(id, "other").await);
        }
        assert_eq!(taken, 16, "a quarter was left");
        let one = &ids[0];
        states.resume(of(one, "greedy"), revision(1), 15).unwrap();
        assert!(!begin(one, "greedy").await, "it has more than its share");
        assert!(begin("third", "third").await);
        assert!(!states.may_read(of("fourth", "fourth")), "all places are used");
        states.done("third");
        assert!(states.may_read(of("fourth", "fourth")));
    }

    fn revision(number: u64) -> Revision {
        Revision { epoch: 7, number, ..Revision::START }
    }

    fn state(number: u64, entries: usize) -> FullState {
        let mut cutter = Cutter::default();
        (0..entries).for_each(|_| cutter.add(&[1; 1_000]));
        cutter.finish(revision(number), 1)
    }

    #[test]
    fn parts_are_full_and_none_is_too_large() {
        let large = state(1, 2_000);
        let parts: Vec<_> = large.parts.iter().map(|part| (part.entries.len(), part.count)).collect();
        assert_eq!(parts[..15], [(131_000, 131); 15]);
        assert_eq!(parts[15..], [(35_000, 35)]);
        let part = large.part(15).unwrap().part.unwrap();
        assert_eq!((part.part, part.parts, part.is_last()), (15, 16, true));
        let empty = state(1, 0);
        assert_eq!((empty.parts.len(), empty.parts[0].count), (1, 0));
    }

    #[tokio::test]
    async fn one_cut_serves_all_and_loaders_are_limited() {
        let states = FullStates::new(2);
        let first = states.begin(of("a", "mesh"), async { Ok(state(1, 2_000)) }).await.unwrap();
        let second = states.begin(of("b", "other"), async { panic!("it is cut once a minute") }).await.unwrap();
        assert!(Arc::ptr_eq(&first, &second));
        let busy = states.begin(of("c", "mesh"), async { Ok(state(1, 0)) }).await;
        assert_eq!(busy.unwrap_err(), NoFullState::Busy);
        states.begin(of("a", "mesh"), async { Ok(state(1, 0)) }).await.expect("the same follower begins again");
        states.resume(of("a", "mesh"), revision(1), 1).unwrap();
        assert_eq!(states.resume(of("c", "mesh"), revision(1), 1).unwrap_err(), NoFullState::Busy);
        states.resume(of("a", "mesh"), revision(1), 15).unwrap();
        assert_eq!(states.load(), (1, 2_000_000), "whoever has the last part is done");
        states.begin(of("c", "mesh"), async { Ok(state(1, 0)) }).await.unwrap();
        assert_eq!(states.resume(of("c", "mesh"), revision(2), 1).unwrap_err(), NoFullState::Gone);
        assert_eq!(states.resume(of("c", "mesh"), revision(1), 16).unwrap_err(), NoFullState::Gone);
    }

    #[tokio::test]
    async fn a_small_state_needs_no_place() {
        let states = FullStates::new(0);
        states.begin(of("a", "mesh"), async { Ok(state(1, 3)) }).await.unwrap();
        states.begin(of("b", "mesh"), async { Ok(state(1, 3)) }).await.unwrap();
        let failed =
            FullStates::new(0).begin(of("b", "mesh"), async { Err(StoreError::Failed("gone".to_owned())) }).await;
        assert!(matches!(failed, Err(NoFullState::Store(_))));
    }
}
