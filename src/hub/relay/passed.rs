//! Requests that a relay hands on to its hub: so many at once, and of those that are alike only one.

use crate::feed::request::PageRequest;
use crate::relay::kept::Kept;
use crate::relay::upstream::{NoPage, Upstream};
use hashbrown::HashMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use taskfence_core::feed::revision::Revision;
use tokio::sync::{OnceCell, Semaphore};
use tokio::time::timeout;

/// So many requests are at the hub at once.
const AT_ONCE: usize = 64;

/// So many more wait for that.
const WAITING: usize = 4_096;

/// They wait for so long at most. The filter gives a request up some seconds after its `wait`.
const PATIENCE: Duration = Duration::from_secs(3);

/// An answer of the hub is used again for so long.
const LIFE: Duration = Duration::from_millis(500);

/// So many answers are kept.
const MAX_KEPT: usize = 256;

/// What the hub is asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Question {
    after: Revision,
    format: u8,
    part: Option<(Revision, u32)>,
    nonce: Option<Box<str>>,
}

/// The requests of one feed that are handed on.
pub struct Passed {
    upstream: Arc<Upstream>,
    room: Semaphore,
    /// One for each request that is at the hub or waits.
    queue: Semaphore,
    kept: Mutex<HashMap<Question, Answer>>,
}

#[derive(Debug, Clone)]
struct Answer {
    made: Instant,
    page: Arc<OnceCell<Arc<Kept>>>,
}

impl Question {
    /// What a follower asks. A part of a full state never needs the nonce: the statement that comes at its end has it.
    pub fn of(request: &PageRequest) -> Question {
        let nonce = request.nonce.clone().filter(|_| request.part.is_none());
        Question { after: request.after, format: request.format, part: request.part, nonce }
    }

    fn query(&self) -> String {
        let Question { after, format, .. } = self;
        let mut query = format!("after={after}&applied={}&wait=0&format={format}", Revision::START);
        // Writing to a string does not fail.
        if let Some(nonce) = &self.nonce {
            let _ = write!(query, "&nonce={nonce}");
        }
        if let Some((state, part)) = self.part {
            let _ = write!(query, "&state={state}&part={part}");
        }
        query
    }
}

impl Passed {
    /// Hands on to `upstream`.
    pub fn new(upstream: Arc<Upstream>) -> Passed {
        let (room, queue) = (Semaphore::new(AT_ONCE), Semaphore::new(AT_ONCE.saturating_add(WAITING)));
        Passed { upstream, room, queue, kept: Mutex::default() }
    }

    /// The page that the hub gives for `question` of `feed`.
    pub async fn ask(&self, feed: &str, question: Question) -> Result<Arc<Kept>, NoPage> {
        if question.nonce.is_some() {
            return self.get(feed, &question).await;
        }
        let slot = self.slot(&question);
        slot.page.get_or_try_init(|| self.get(feed, &question)).await.cloned()
    }

    async fn get(&self, feed: &str, question: &Question) -> Result<Arc<Kept>, NoPage> {
        let _queued = self.queue.try_acquire().map_err(|_| NoPage::Busy)?;
        let _place = match timeout(PATIENCE, self.room.acquire()).await {
            Ok(Ok(place)) => place,
            Ok(Err(_)) | Err(_) => return Err(NoPage::Busy),
        };
        self.upstream.page(feed, &question.query(), Duration::ZERO).await
    }

    fn slot(&self, question: &Question) -> Answer {
        let now = Instant::now();
        let is_live = |answer: &Answer| now.saturating_duration_since(answer.made) < LIFE;
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(answer) = kept.get(question).filter(|answer| is_live(answer)) {
            return answer.clone();
        }
        kept.retain(|_, answer| is_live(answer));
        let answer = Answer { made: now, page: Arc::default() };
        if kept.len() < MAX_KEPT {
            kept.insert(question.clone(), answer.clone());
        }
        answer
    }
}
