//! Pages of changes. A page is built once for each position and format, and shared: 10,000 followers that wait at the same
//! position get the same bytes. A follower that is a little behind gets a range of its own.

use crate::feed::heads::Head;
use crate::feed::locked;
use crate::feed::signer::NotSigned;
use crate::feed::tail::Range;
use bytes::Bytes;
use hashbrown::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use taskfence_core::encoding::digest::{Digest, sha256};
use taskfence_core::feed::revision::{Chain, Revision};
use taskfence_core::feed::statement::{Part, Statement};
use tokio::sync::OnceCell;

/// A page is used again for so long. Afterwards it is built again, with a newer `at`.
const LIFE: Duration = Duration::from_millis(500);

/// The pages that are kept have at most so many bytes together; more are built and not kept.
const MAX_BYTES: usize = 32 * 1024 * 1024;

/// So many positions have a page at once.
const MAX_PAGES: usize = 1024;

/// Entries with their digest: what statements are made about.
#[derive(Debug, Clone)]
pub struct Content {
    /// The number that they follow, and the chain there.
    pub prev: (u64, Chain),
    /// Nothing is missing up to here.
    pub upto: Revision,
    /// Their format.
    pub format: u8,
    /// How many there are.
    pub count: u64,
    /// Which part of a full state they are.
    pub part: Option<Part>,
    /// The entries.
    pub entries: Bytes,
    digest: Digest,
}

/// A page that any follower at its position may get.
#[derive(Debug, Clone)]
pub struct Page {
    /// The entries.
    pub content: Content,
    /// The signed statement with its line feed.
    pub statement: Bytes,
    /// The head that it names, and when it was read.
    pub head: Arc<Head>,
    /// Whether the entries were read from the store: they came too long ago.
    pub is_stored: bool,
}

/// The pages of one feed.
#[derive(Debug, Default)]
pub struct Pages {
    cached: Mutex<HashMap<Key, Slot>>,
}

/// The position, the number up to which pages go, and the format.
type Key = (Revision, u64, u8);

#[derive(Debug, Clone)]
struct Slot {
    made: Instant,
    page: Arc<OnceCell<Arc<Page>>>,
}

impl Content {
    /// The entries of a range after `after`.
    pub fn changes(after: Revision, format: u8, range: Range) -> Content {
        Content::new((after.number, after.chain), range.upto, format, range.count, None, range.bytes.into())
    }

    /// A part of the full state of `upto`.
    pub fn part(upto: Revision, format: u8, part: Part, (count, entries): (u64, Bytes)) -> Content {
        Content::new((0, Chain::default()), upto, format, count, Some(part), entries)
    }

    fn new(prev: (u64, Chain), upto: Revision, format: u8, count: u64, part: Option<Part>, entries: Bytes) -> Content {
        Content { prev, upto, format, count, part, digest: sha256(&entries), entries }
    }

    /// What the hub says about them. `head` was read when they were stored already.
    pub fn statement(&self, head: &Head, (hub, feed): (&str, &str), nonce: Option<&str>) -> Statement {
        Statement {
            hub: hub.to_owned(),
            feed: feed.to_owned(),
            at: head.at,
            prev: self.prev.0,
            prev_chain: self.prev.1,
            upto: self.upto,
            head: head.revision.number,
            format: self.format,
            count: self.count,
            length: u64::try_from(self.entries.len()).unwrap_or(u64::MAX),
            digest: self.digest,
            part: self.part,
            nonce: nonce.map(str::to_owned),
            issuers: head.issuers.clone(),
        }
    }
}

/// Why a page was not built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoPage {
    /// The store did not answer.
    #[error("the store did not answer")]
    Store,
    /// The feed has another epoch than its position.
    #[error("the feed has begun a new epoch")]
    Epoch,
    /// The signature failed.
    #[error(transparent)]
    NotSigned(#[from] NotSigned),
}

impl Pages {
    /// The page for `key`: a recent one, or that which `build` makes. Only one caller builds it.
    pub async fn get(&self, key: Key, build: impl Future<Output = Result<Page, NoPage>>) -> Result<Arc<Page>, NoPage> {
        let slot = self.slot(key);
        slot.page.get_or_try_init(|| async { build.await.map(Arc::new) }).await.cloned()
    }

    fn slot(&self, key: Key) -> Slot {
        let now = Instant::now();
        let mut cached = locked(&self.cached);
        let live = |slot: &Slot| now.saturating_duration_since(slot.made) < LIFE;
        if let Some(slot) = cached.get(&key).filter(|slot| live(slot)) {
            return slot.clone();
        }
        cached.retain(|_, slot| live(slot));
        let slot = Slot { made: now, page: Arc::default() };
        let length = |slot: &Slot| slot.page.get().map_or(0, |page| page.content.entries.len());
        let bytes = cached.values().map(length).fold(0, usize::saturating_add);
        if bytes < MAX_BYTES && cached.len() < MAX_PAGES {
            cached.insert(key, slot.clone());
        }
        slot
    }
}
