//! A store in memory, and feeds on it, for the tests of the feed.

use crate::feed::keys::Keys;
use crate::feed::{Feeds, Now, Settings};
use crate::store::Store;
use crate::store::model::{
    Audit, Change, FollowerRecord, NewEntry, Outcome, PrincipalRecord, SignalQuery, SignalRecord, StoreError,
    StoredEntry,
};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use taskfence_core::feed::entry::FeedEntry;
use taskfence_core::feed::revision::{Chain, Revision};
use taskfence_core::state::bucket::{Entry, SourceTag};
use taskfence_core::state::fact::Fact;
use taskfence_core::state::freshness::TransmitterId;
use taskfence_core::state::key::{Kind, StateKey};
use taskfence_core::time::Timestamp;

/// One feed in memory.
pub struct MemoryStore {
    feed: String,
    epoch: AtomicU64,
    entries: Mutex<Vec<StoredEntry>>,
    followers: Mutex<Vec<FollowerRecord>>,
    fails: AtomicBool,
    gate: Mutex<()>,
    reads: AtomicUsize,
    waiting: AtomicUsize,
    /// Chains of numbers before this are forgotten.
    pub oldest_chain: AtomicU64,
    /// The epochs that the feed has had.
    pub past_epochs: Mutex<Option<String>>,
    values: Mutex<BTreeMap<String, String>>,
}

/// The entry about task `name`.
pub fn entry(name: u64, until: u64) -> NewEntry {
    let key = StateKey::new(Kind::Task, "https://jit.example", &name.to_string());
    let (source, by) = (SourceTag::new("main", "idp", 1), TransmitterId::new("idp"));
    let entry = Entry {
        key,
        fact: Fact::Completed,
        at: Timestamp(1),
        until: Timestamp(until),
        conditions: Vec::new(),
        data: Vec::new(),
        source,
        lifted: false,
    };
    let mut bytes = Vec::new();
    FeedEntry { entry, by }.encode(&mut bytes);
    NewEntry { bytes, key: key.encode().to_vec(), bucket: key.bucket(), until: Timestamp(until) }
}

impl MemoryStore {
    pub fn new(feed: &str, epoch: u64) -> MemoryStore {
        MemoryStore {
            feed: feed.to_owned(),
            epoch: AtomicU64::new(epoch),
            entries: Mutex::default(),
            followers: Mutex::default(),
            fails: AtomicBool::new(false),
            gate: Mutex::default(),
            reads: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            oldest_chain: AtomicU64::new(0),
            past_epochs: Mutex::default(),
            values: Mutex::default(),
        }
    }

    /// Adds entries: the name of the task, and until when (seconds).
    pub fn add(&self, new: &[(u64, u64)]) -> (Vec<StoredEntry>, Revision) {
        let mut entries = self.entries.lock().unwrap();
        let first = entries.len() as u64;
        let numbers = first + 1..;
        let new: Vec<_> = numbers
            .zip(new)
            .map(|(number, (name, until))| StoredEntry { number, signal: number, entry: entry(*name, *until) })
            .collect();
        entries.extend(new.clone());
        (new, self.revision(&entries, entries.len()))
    }

    /// Goes back to `number` entries: a restored backup.
    pub fn restore(&self, number: usize) {
        self.entries.lock().unwrap().truncate(number);
    }

    pub fn set_epoch(&self, epoch: u64) {
        self.epoch.store(epoch, Ordering::SeqCst);
    }

    /// Whether everything fails from now on.
    pub fn fail(&self, fails: bool) {
        self.fails.store(fails, Ordering::SeqCst);
    }

    /// Nothing is answered until the guard is dropped.
    pub fn stall(&self) -> MutexGuard<'_, ()> {
        self.gate.lock().unwrap()
    }

    /// How many calls wait.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }

    pub fn head_reads(&self) -> usize {
        self.reads.load(Ordering::SeqCst)
    }

    fn revision(&self, entries: &[StoredEntry], number: usize) -> Revision {
        let step = |chain: Chain, entry: &StoredEntry| chain.after(entry.number, &entry.entry.bytes);
        let chain = entries[..number].iter().fold(Chain::default(), step);
        Revision { epoch: self.epoch.load(Ordering::SeqCst), number: number as u64, chain }
    }

    fn enter(&self) -> Result<(), StoreError> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        drop(self.gate.lock().unwrap());
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        match self.fails.load(Ordering::SeqCst) {
            true => Err(StoreError::Failed("told to".to_owned())),
            false => Ok(()),
        }
    }
}

fn no<T>() -> Result<T, StoreError> {
    Err(StoreError::Failed("the test store cannot do that".to_owned()))
}

impl Store for MemoryStore {
    fn open_feed(&self, feed: &str, _: u64) -> Result<Revision, StoreError> {
        self.head(feed)
    }

    fn renew_feed(&self, feed: &str, epoch: u64) -> Result<Revision, StoreError> {
        self.set_epoch(epoch);
        self.head(feed)
    }

    fn commit(&self, _: &[Change]) -> Result<Vec<Outcome>, StoreError> {
        no()
    }

    fn head(&self, feed: &str) -> Result<Revision, StoreError> {
        assert_eq!(feed, self.feed);
        self.reads.fetch_add(1, Ordering::SeqCst);
        self.enter()?;
        let entries = self.entries.lock().unwrap();
        Ok(self.revision(&entries, entries.len()))
    }

    fn chain(&self, _: &str, number: u64) -> Result<Option<Chain>, StoreError> {
        self.enter()?;
        let entries = self.entries.lock().unwrap();
        let known = number <= entries.len() as u64 && number >= self.oldest_chain.load(Ordering::SeqCst);
        Ok(known.then(|| self.revision(&entries, number as usize).chain))
    }

    fn entries_after(
        &self,
        _: &str,
        after: u64,
        max_bytes: usize,
        now: Timestamp,
    ) -> Result<(Vec<StoredEntry>, Revision), StoreError> {
        self.enter()?;
        let entries = self.entries.lock().unwrap();
        let (mut taken, mut bytes, mut upto) = (Vec::new(), 0, after as usize);
        for entry in &entries[after as usize..] {
            if entry.entry.until >= now {
                bytes += entry.entry.bytes.len();
                if bytes > max_bytes && !taken.is_empty() {
                    break;
                }
                taken.push(entry.clone());
            }
            upto += 1;
        }
        Ok((taken, self.revision(&entries, upto)))
    }

    fn full_state(&self, _: &str, now: Timestamp, each: &mut dyn FnMut(StoredEntry)) -> Result<Revision, StoreError> {
        self.enter()?;
        let entries = self.entries.lock().unwrap();
        let mut kept: Vec<_> = entries.iter().filter(|entry| entry.entry.until >= now).cloned().collect();
        kept.sort_by_key(|entry| entry.entry.bucket);
        kept.into_iter().for_each(each);
        Ok(self.revision(&entries, entries.len()))
    }

    fn about(&self, _: &str, _: &StateKey, _: Timestamp) -> Result<Vec<(StoredEntry, SignalRecord)>, StoreError> {
        no()
    }

    fn signals(&self, _: &str, _: &SignalQuery) -> Result<Vec<SignalRecord>, StoreError> {
        no()
    }

    fn signals_after(&self, _: &str, _: u64, _: usize) -> Result<Vec<SignalRecord>, StoreError> {
        no()
    }

    fn entries_of(&self, _: &str, _: u64) -> Result<Vec<StoredEntry>, StoreError> {
        no()
    }

    fn audit(&self, _: &[Audit]) -> Result<(), StoreError> {
        no()
    }

    fn audits(&self, _: Option<u64>, _: usize) -> Result<Vec<(u64, Audit)>, StoreError> {
        no()
    }

    fn principals(&self) -> Result<Vec<PrincipalRecord>, StoreError> {
        no()
    }

    fn put_principal(&self, _: &PrincipalRecord) -> Result<(), StoreError> {
        no()
    }

    fn remove_principal(&self, _: &str) -> Result<bool, StoreError> {
        no()
    }

    fn put_followers(&self, new: &[FollowerRecord]) -> Result<(), StoreError> {
        self.enter()?;
        let mut followers = self.followers.lock().unwrap();
        for follower in new {
            let known = followers.iter().position(|known| known.id == follower.id);
            match known {
                Some(known) if followers[known].seen > follower.seen => {}
                Some(known) => followers[known] = follower.clone(),
                None => followers.push(follower.clone()),
            }
        }
        Ok(())
    }

    fn followers(&self, _: &str) -> Result<Vec<FollowerRecord>, StoreError> {
        self.enter()?;
        Ok(self.followers.lock().unwrap().clone())
    }

    fn remove_followers(&self, _: &str, ids: &[String]) -> Result<(), StoreError> {
        self.enter()?;
        self.followers.lock().unwrap().retain(|known| !ids.contains(&known.id));
        Ok(())
    }

    fn set(&self, _: &str, _: &str) -> Result<(), StoreError> {
        no()
    }

    fn set_for_signals(&self, name: &str, value: &str) -> Result<(), StoreError> {
        self.enter()?;
        self.values.lock().unwrap().insert(name.to_owned(), value.to_owned());
        Ok(())
    }

    fn check_room(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn get(&self, name: &str) -> Result<Option<String>, StoreError> {
        Ok(self.past_epochs.lock().unwrap().clone().filter(|_| name == "epochs/main"))
    }

    fn values(&self, prefix: &str) -> Result<Vec<(String, String)>, StoreError> {
        self.enter()?;
        let values = self.values.lock().unwrap();
        let begins = values.iter().filter(|(name, _)| name.starts_with(prefix));
        Ok(begins.map(|(name, value)| (name.clone(), value.clone())).collect())
    }

    fn swap(&self, _: &str, _: Option<&str>, _: Option<&str>) -> Result<bool, StoreError> {
        no()
    }

    fn latest_time(&self) -> Result<u64, StoreError> {
        Ok(0)
    }

    fn prune(&self, _: Timestamp) -> Result<u64, StoreError> {
        no()
    }

    fn backup(&self, _: &Path) -> Result<(), StoreError> {
        no()
    }
}

/// A clock that moves on by one millisecond each time it is read.
pub fn ticking(start: u64) -> Now {
    let time = AtomicU64::new(start);
    Arc::new(move || time.fetch_add(1, Ordering::SeqCst))
}

/// A clock that the test sets.
#[derive(Clone, Default)]
pub struct SetClock(Arc<AtomicU64>);

impl SetClock {
    pub fn set(&self, ms: u64) {
        self.0.store(ms, Ordering::SeqCst);
    }

    pub fn tick(&self, ms: u64) {
        self.0.fetch_add(ms, Ordering::SeqCst);
    }

    pub fn now(&self) -> Now {
        let time = self.0.clone();
        Arc::new(move || time.load(Ordering::SeqCst))
    }
}

/// The feeds of the hub `hub` on `store`, with keys in `directory`.
pub fn feeds(store: &Arc<MemoryStore>, directory: &Path, now: Now, settings: Settings) -> Arc<Feeds> {
    let keys = Arc::new(Keys::open(directory).unwrap());
    Feeds::open(settings, &["main".to_owned()], store.clone(), keys, (now, Arc::new(|_, _| Ok(Vec::new())))).unwrap()
}
