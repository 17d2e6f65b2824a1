//! What a relay holds of one feed: full states, the pages that follow them, and the last word of the hub.
//!
//! ```text
//! state ──► page ──► page ──► page ──► head, with a heartbeat
//!             ▲
//! newer state ┘  (its pages lead to one that the others lead to as well)
//! ```
//!
//! A page is found by the revision that it follows. So whoever stands at the end of one gets the next, byte for byte as the
//! hub has signed it.

use crate::relay::kept::Kept;
use hashbrown::HashMap;
use std::collections::VecDeque;
use std::sync::Arc;
use taskfence_core::feed::position::{Position, Refused};
use taskfence_core::feed::revision::Revision;

/// Two full states are kept: whoever loads the older one goes on.
const STATES: usize = 2;

/// A newer state is loaded when the pages since the last one have more bytes than it, and than this.
const SMALL: usize = 1024 * 1024;

/// What one page takes beside its bytes, roughly.
const OVERHEAD: usize = 1024;

/// A full state, in the parts that the hub cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// What it is the state of.
    pub revision: Revision,
    /// All parts, in order.
    pub parts: Vec<Arc<Kept>>,
}

/// What a relay holds of one feed.
#[derive(Debug)]
pub struct Line {
    pages: HashMap<Revision, Arc<Kept>>,
    /// Where these pages begin, oldest first.
    order: VecDeque<Revision>,
    bytes: usize,
    max_bytes: usize,
    /// Oldest first.
    states: Vec<Arc<State>>,
    /// The bytes of the pages since the newest state.
    since_state: usize,
    position: Position,
    heartbeat: Option<Arc<Kept>>,
}

/// What a follower at a revision can get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// The next page.
    Page(Arc<Kept>),
    /// Nothing: it has everything.
    Head,
    /// Nothing: it is further than this relay.
    Ahead,
    /// A full state: it has nothing yet.
    Start,
    /// It is in another epoch.
    OtherEpoch,
    /// No page begins there.
    Unknown,
}

impl State {
    /// The state of these parts; `None` where one is missing or belongs to another state.
    pub fn of(parts: Vec<Arc<Kept>>) -> Option<State> {
        let revision = parts.first()?.statement.upto;
        let fits = |(at, kept): (u32, &Arc<Kept>)| {
            let part = kept.statement.part;
            let count = part.is_some_and(|part| part.part == at && usize::try_from(part.parts) == Ok(parts.len()));
            count && kept.statement.upto == revision
        };
        (0..).zip(&parts).all(fits).then_some(State { revision, parts })
    }

    /// Its bytes.
    pub fn bytes(&self) -> usize {
        self.parts.iter().map(|part| part.bytes.len()).fold(0, usize::saturating_add)
    }
}

impl Line {
    /// A line that begins with `state`. Its pages have at most `max_bytes`. `at` of its statements is not before `at`.
    pub fn new(state: Arc<State>, max_bytes: usize, at: u64) -> Line {
        let newest = state.parts.iter().map(|part| part.statement.at).max().unwrap_or_default();
        let position = Position {
            follower: [0; 16],
            nonce: [0; 16],
            applied: state.revision,
            at: at.max(newest),
            fresh: 0,
            started: 0,
            entries: 0,
            target: None,
            // A relay judges nothing: it needs no nonce for itself.
            caught_up: true,
            full: None,
        };
        Line {
            pages: HashMap::new(),
            order: VecDeque::new(),
            bytes: 0,
            max_bytes,
            states: vec![state],
            since_state: 0,
            position,
            heartbeat: None,
        }
    }

    /// How far it goes, and `at` of the last statement.
    pub fn head(&self) -> (Revision, u64) {
        (self.position.applied, self.position.at)
    }

    /// The last statement of the hub about the head, if it came without entries.
    pub fn heartbeat(&self) -> Option<Arc<Kept>> {
        self.heartbeat.clone()
    }

    /// The newest state.
    pub fn state(&self) -> Option<Arc<State>> {
        self.states.last().cloned()
    }

    /// The state of this revision.
    pub fn state_of(&self, revision: Revision) -> Option<Arc<State>> {
        self.states.iter().find(|state| state.revision == revision).cloned()
    }

    /// The states, oldest first, and the pages, oldest first.
    pub fn kept(&self) -> (&[Arc<State>], impl Iterator<Item = &Arc<Kept>>) {
        (&self.states, self.order.iter().filter_map(|prev| self.pages.get(prev)))
    }

    /// The bytes of its states, and of its pages.
    pub fn size(&self) -> (usize, usize) {
        (self.states.iter().map(|state| state.bytes()).fold(0, usize::saturating_add), self.bytes)
    }

    /// What a follower at `after` can get.
    pub fn look(&self, after: Revision) -> Look {
        let head = self.position.applied;
        if after == Revision::START {
            return Look::Start;
        }
        if let Some(page) = self.pages.get(&after) {
            return Look::Page(page.clone());
        }
        match after.epoch == head.epoch {
            true if after == head => Look::Head,
            true if after.number > head.number => Look::Ahead,
            true => Look::Unknown,
            false => Look::OtherEpoch,
        }
    }

    /// Takes the page that the hub gave for the head, as a filter at that position would at `now` (milliseconds since 1970).
    pub fn take(&mut self, page: &Arc<Kept>, now: u64) -> Result<(), Refused> {
        self.position.examine(&page.statement, now)?;
        // A page from further back would be found by nobody.
        if page.prev() != self.position.applied {
            return Err(Refused::Overlap);
        }
        self.position = self.position.advanced(&page.statement, false);
        match page.is_heartbeat() {
            true => self.heartbeat = Some(page.clone()),
            false => {
                self.heartbeat = None;
                self.insert(page);
            }
        }
        Ok(())
    }

    /// Adds a newer state with the pages from it to a page that begins where another one of this line does, or to the head.
    /// `false`: they do not lead there.
    pub fn take_state(&mut self, state: &Arc<State>, pages: &[Arc<Kept>]) -> bool {
        let mut at = state.revision;
        for page in pages {
            if page.prev() != at {
                return false;
            }
            at = page.statement.upto;
        }
        if at != self.position.applied && !self.pages.contains_key(&at) {
            return false;
        }
        self.states.push(state.clone());
        if self.states.len() > STATES {
            self.states.remove(0);
        }
        self.since_state = 0;
        pages.iter().for_each(|page| self.insert(page));
        true
    }

    /// Whether a newer state would save those that start now much of what they load, or `all` that is kept is needed soon.
    pub fn needs_state(&self, is_asked_for: bool) -> bool {
        let state = self.state().map_or(0, |state| state.bytes());
        let is_long = self.since_state > state.max(SMALL);
        (is_asked_for && is_long) || self.since_state > self.max_bytes / 2
    }

    fn insert(&mut self, page: &Arc<Kept>) {
        if self.pages.contains_key(&page.prev()) {
            return;
        }
        let length = page.bytes.len().saturating_add(OVERHEAD);
        self.pages.insert(page.prev(), page.clone());
        self.order.push_back(page.prev());
        self.bytes = self.bytes.saturating_add(length);
        self.since_state = self.since_state.saturating_add(length);
        while self.bytes > self.max_bytes {
            let Some(first) = self.order.pop_front() else { break };
            let length = self.pages.remove(&first).map_or(0, |page| page.bytes.len().saturating_add(OVERHEAD));
            self.bytes = self.bytes.saturating_sub(length);
        }
    }

    /// A line from what was kept on disk: the newest of `states` from which `pages` lead somewhere. `None`: there is no
    /// state. `heartbeat` counts where it is about the end of that.
    pub fn restored(
        mut states: Vec<Arc<State>>,
        pages: &[Arc<Kept>],
        heartbeat: Option<Arc<Kept>>,
        max_bytes: usize,
    ) -> Option<Line> {
        states.sort_by_key(|state| state.parts.first().map_or(0, |part| part.statement.at));
        let newest = states.pop()?;
        let mut line = Line::new(newest.clone(), max_bytes, 0);
        pages
            .iter()
            .filter(|page| page.statement.upto.epoch == newest.revision.epoch)
            .for_each(|page| line.insert(page));
        let mut head = newest.revision;
        // A page of changes ends behind its beginning, so this ends.
        while let Some(page) = line.pages.get(&head) {
            (head, line.position.at) = (page.statement.upto, line.position.at.max(page.statement.at));
        }
        line.position.applied = head;
        let about_head = heartbeat.filter(|page| page.is_heartbeat() && page.statement.upto == head);
        line.position.at = about_head.iter().map(|page| page.statement.at).fold(line.position.at, u64::max);
        line.heartbeat = about_head;
        let others = states.into_iter().filter(|state| state.revision.epoch == newest.revision.epoch).rev();
        line.states = others.take(STATES.saturating_sub(1)).collect();
        line.states.push(newest);
        Some(line)
    }
}
