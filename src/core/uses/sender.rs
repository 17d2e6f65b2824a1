//! What the VM that follows a feed does for all VMs of its proxy: it posts their batches to the hub, and notes which of them
//! the hub has. It keeps nothing that another VM could not read from the shared memory, so it can be replaced at any time.

use crate::encoding::json;
use crate::feed::failure::Told;
use crate::feed::follower::Answer;
use crate::state::store::{FeedId, Store, StoreError};
use crate::uses::batch::FORMAT;
use crate::uses::json_text::JsonText;
use crate::uses::outbox::vm_text;
use crate::uses::roster::{self, Entry, Roster};
use serde_json::Value;

/// The longest body of a request, in bytes: two batches.
pub(crate) const MAX_POST: usize = 512 * 1024;

/// The outline of a configuration that is longer is not sent.
const MAX_OUTLINE: usize = 128 * 1024;

/// A call that has no answer after this many seconds is given up.
pub const TIMEOUT: u64 = 20;

/// The pauses after failures, in milliseconds: the shortest and the longest.
const BACK_OFF: (u64, u64) = (1_000, 60_000);

/// The longest time that the hub may ask for by `retry-after`, in seconds.
const MAX_RETRY_AFTER: u64 = 300;

/// A hub that knows no uses is asked again after this many milliseconds.
const UNKNOWN_PAUSE: u64 = 600_000;

/// The periods that a hub may set, in seconds.
const PERIODS: (u64, u64) = (1, 3_600);

/// So many batches and so many gaps are in one request: half of what a hub takes.
const MAX_ITEMS: usize = 128;

/// So many outlines of configurations that the hub asks for are remembered.
const MAX_WANTED: usize = 16;

/// The VM that posts.
#[derive(Debug, Default)]
pub struct Sender {
    call: Option<Call>,
    /// Nothing is posted before this time.
    next: u64,
    failures: u32,
    /// Whether the hub refused a post of several things: then they are sent one by one.
    one_by_one: bool,
    /// The place after that of the last batch that was sent, so that no place waits for ever behind busy ones.
    start: usize,
    wanted: Vec<String>,
    told: Told,
}

/// A request that is under way.
#[derive(Debug)]
struct Call {
    /// Without an answer by then, it is given up.
    ends: u64,
    batches: Vec<(u64, u64)>,
    /// VMs and since when they had uses that were in no batch.
    gaps: Vec<(u64, u64)>,
    outlines: usize,
}

impl Call {
    /// How many things are in it that a hub may refuse. Gaps count as one.
    fn items(&self) -> usize {
        self.batches.len().saturating_add(self.outlines).saturating_add(usize::from(!self.gaps.is_empty()))
    }
}

/// Who posts.
#[derive(Debug, Clone, Copy)]
pub struct Proxy<'p> {
    /// The id of the follower.
    pub follower: &'p str,
    /// `node.id` of the proxy.
    pub node: &'p str,
}

/// How a post went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Posted {
    /// The hub has them.
    Taken,
    /// The hub did not take them, or did not answer; they are sent again. The status, if it answered.
    Failed(Option<u16>),
    /// The hub knows no uses: it is older than this filter.
    Unknown,
    /// The hub refused a batch for what it is, which was dropped: the status.
    Dropped(u16),
}

/// What is to be counted and logged after a post.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// How it went.
    pub posted: Posted,
    /// How many batches were in the post, of those that the hub has now where it took some.
    pub batches: u64,
    /// VMs that were replaced, of which the hub was told.
    pub gaps: u64,
    /// Whether to log it: how many like it there were since the last one that was logged. Only for failures.
    pub log: Option<u32>,
}

impl Sender {
    /// The body of the request that is due at `now`, which is `POST /v1/feeds/NAME/uses`. `outline` gives
    /// [`crate::uses::outline::Outline`] of the configuration with that hash as JSON, if it is known. `random` spreads requests over time.
    pub fn tick(
        &mut self,
        store: &mut impl Store,
        feed: FeedId,
        proxy: Proxy<'_>,
        (now, random): (u64, u64),
        outline: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        if self.call.as_ref().is_some_and(|call| call.ends <= now) {
            self.call = None;
            self.back_off(now, random);
        }
        // A time that lies further ahead than any pause was set before the clock was set back.
        if self.call.is_some() || (now < self.next && self.next <= now.saturating_add(UNKNOWN_PAUSE)) {
            return Ok(None);
        }
        let mut roster = roster::read(store, feed)?;
        if roster.places.iter().any(|entry| is_done(entry, now)) {
            roster::change(store, feed, &mut |current| {
                current
                    .places
                    .iter_mut()
                    .filter(|entry| is_done(entry, now))
                    .for_each(|entry| *entry = Entry::default());
                roster.clone_from(current);
            })?;
        }
        self.post(store, feed, &roster, proxy, now, outline)
    }

    fn post(
        &mut self,
        store: &mut impl Store,
        feed: FeedId,
        roster: &Roster,
        proxy: Proxy<'_>,
        now: u64,
        outline: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        if !roster.places.iter().any(|entry| entry.has_batch() || entry.is_gap(now)) {
            return Ok(None);
        }
        let ends = now.saturating_add(TIMEOUT.saturating_mul(1_000)).saturating_add(1_000);
        let mut call = Call { ends, batches: Vec::new(), gaps: Vec::new(), outlines: 0 };
        let mut body = JsonText::default();
        body.open('{');
        body.number_member("format", u64::from(FORMAT));
        body.string_member("proxy", proxy.follower);
        body.string_member("node", proxy.node);
        body.name("gaps");
        body.open('[');
        for gap in roster.places.iter().filter(|entry| entry.is_gap(now)).take(MAX_ITEMS) {
            // [`crate::uses::batch::Gap`]
            body.open('{');
            body.string_member("vm", &vm_text(gap.vm));
            body.number_member("since", gap.since.min(now));
            body.number_member("until", gap.alive.min(now));
            body.close('}');
            call.gaps.push((gap.vm, gap.since));
        }
        body.close(']');
        call.outlines = self.outlines(&mut body, outline);
        body.name("batches");
        body.open('[');
        let (before, after) =
            (0..).zip(&roster.places).partition::<Vec<_>, _>(|(place, _)| usize::from(*place) < self.start);
        for (place, entry) in after.into_iter().chain(before).filter(|(_, entry)| entry.has_batch()) {
            let is_alone = call.batches.is_empty() && call.gaps.is_empty();
            if call.batches.len() >= MAX_ITEMS || (self.one_by_one && !is_alone) {
                break;
            }
            let Some(batch) = roster::batch(store, (feed, place), entry.vm, entry.cut)? else { continue };
            let is_full = body.text.len().saturating_add(batch.len()).saturating_add(3) > MAX_POST;
            if is_full && !call.batches.is_empty() {
                break;
            }
            body.json(&batch);
            call.batches.push((entry.vm, entry.cut));
            self.start = usize::from(place).saturating_add(1);
        }
        body.close(']');
        body.close('}');
        if call.batches.is_empty() && call.gaps.is_empty() {
            return Ok(None);
        }
        self.call = Some(call);
        Ok(Some(body.text.into_bytes()))
    }

    /// Writes the outlines that the hub asked for, and says how many of them are done with.
    fn outlines(&self, body: &mut JsonText, outline: impl Fn(&str) -> Option<String>) -> usize {
        body.name("configs");
        body.open('[');
        let (mut left, mut done) = (MAX_OUTLINE, 0usize);
        for wanted in &self.wanted {
            let text = outline(wanted).unwrap_or_default();
            let is_short = text.len() <= MAX_OUTLINE;
            if is_short && text.len() > left {
                break;
            }
            done = done.saturating_add(1);
            if is_short && !text.is_empty() {
                left = left.saturating_sub(text.len());
                body.json(&text);
            }
        }
        body.close(']');
        done
    }

    /// Takes the answer to the request that is under way.
    pub fn answer(
        &mut self,
        store: &mut impl Store,
        feed: FeedId,
        answer: Answer,
        (now, random): (u64, u64),
    ) -> Result<Option<Outcome>, StoreError> {
        let Some(call) = self.call.take() else { return Ok(None) };
        let taken = match &answer {
            Answer::Page(body) => read(body),
            _ => None,
        };
        let posted = match (taken, answer) {
            (Some(taken), _)
                if call.batches.is_empty() || call.batches.iter().any(|one| taken.batches.contains(one)) =>
            {
                return self.taken(store, feed, &call, taken, now).map(Some);
            }
            (Some(_), _) => {
                self.back_off(now, random);
                Posted::Failed(Some(200))
            }
            (None, Answer::Refused(404 | 405, _)) => {
                self.next = now.saturating_add(UNKNOWN_PAUSE);
                Posted::Unknown
            }
            (None, Answer::Refused(status @ (400 | 413 | 422), _)) if call.items() > 1 => {
                // Any of them may be what is wrong. Rules that the hub does not take cost no batch: it asks again.
                self.one_by_one = true;
                self.wanted.clear();
                Posted::Failed(Some(status))
            }
            (None, Answer::Refused(status @ (400 | 413 | 422), _)) => {
                // To send it again would hold up all that is counted after it.
                note(store, feed, &call.batches, &call.gaps, None)?;
                self.one_by_one = false;
                Posted::Dropped(status)
            }
            (None, Answer::Refused(status, retry_after)) => {
                self.back_off(now, random);
                let pause = retry_after.unwrap_or(0).min(MAX_RETRY_AFTER).saturating_mul(1_000);
                self.next = self.next.max(now.saturating_add(pause));
                Posted::Failed(Some(status))
            }
            (None, Answer::Page(_) | Answer::None | Answer::ClusterMissing) => {
                self.back_off(now, random);
                Posted::Failed(None)
            }
        };
        let kind = match posted {
            Posted::Unknown => 1,
            Posted::Dropped(_) => 2,
            _ => 0,
        };
        let batches = number(call.batches.len());
        Ok(Some(Outcome { posted, batches, gaps: 0, log: self.told.count(kind, now) }))
    }

    fn taken(
        &mut self,
        store: &mut impl Store,
        feed: FeedId,
        call: &Call,
        taken: Taken,
        now: u64,
    ) -> Result<Outcome, StoreError> {
        let has = |batch: &&(u64, u64)| taken.batches.contains(batch);
        let batches: Vec<(u64, u64)> = call.batches.iter().filter(has).copied().collect();
        let period = u32::try_from(taken.period.clamp(PERIODS.0, PERIODS.1)).ok();
        note(store, feed, &batches, &call.gaps, period)?;
        self.wanted.drain(..call.outlines.min(self.wanted.len()));
        for wanted in taken.configs_wanted.into_iter().take(MAX_WANTED) {
            if self.wanted.len() < MAX_WANTED && !self.wanted.contains(&wanted) {
                self.wanted.push(wanted);
            }
        }
        self.failures = 0;
        self.one_by_one &= batches.len() == call.batches.len() && !batches.is_empty();
        // What the hub did not take is not to be sent again at once.
        self.next = if batches.len() < call.batches.len() { now.saturating_add(BACK_OFF.0) } else { 0 };
        let (posted, gaps) = (Posted::Taken, number(call.gaps.len()));
        Ok(Outcome { posted, batches: number(batches.len()), gaps, log: None })
    }

    fn back_off(&mut self, now: u64, random: u64) {
        let pause = BACK_OFF.0.saturating_mul(1u64.checked_shl(self.failures).unwrap_or(u64::MAX)).min(BACK_OFF.1);
        self.failures = self.failures.saturating_add(1).min(16);
        // Between half of it and all of it, so that the proxies of a mesh do not come together.
        let half = pause / 2;
        let spread = random.checked_rem(half.saturating_add(1)).unwrap_or(0);
        self.next = now.saturating_add(half).saturating_add(spread);
    }
}

/// How old the oldest use is that the hub does not have, in milliseconds, as far as the roster says.
pub fn unsent(store: &mut impl Store, feed: FeedId, now: u64) -> Result<u64, StoreError> {
    let roster = roster::read(store, feed)?;
    let since = roster.places.iter().filter(|entry| entry.vm != 0).filter_map(|entry| match entry.has_batch() {
        true => Some(entry.cut_since),
        false => (entry.since != 0).then_some(entry.since),
    });
    Ok(since.min().map_or(0, |since| now.saturating_sub(since)))
}

/// Notes in the roster which batches the hub has, of which gaps it was told, and its period.
fn note(
    store: &mut impl Store,
    feed: FeedId,
    batches: &[(u64, u64)],
    gaps: &[(u64, u64)],
    period: Option<u32>,
) -> Result<(), StoreError> {
    roster::change(store, feed, &mut |roster| {
        roster.period = period.unwrap_or(roster.period);
        for entry in &mut roster.places {
            for (_, number) in batches.iter().filter(|(vm, _)| *vm == entry.vm) {
                entry.taken = entry.taken.max(*number);
            }
            if gaps.contains(&(entry.vm, entry.since)) {
                entry.since = 0;
            }
        }
    })
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// What the hub answers: [`crate::uses::batch::Taken`].
#[derive(Debug)]
struct Taken {
    period: u64,
    batches: Vec<(u64, u64)>,
    configs_wanted: Vec<String>,
}

/// Reads an answer. `None`: it is none. Members that are not known are ignored.
fn read(body: &[u8]) -> Option<Taken> {
    let answer = json::object(body).ok()?;
    let batch =
        |id: &Value| Some((u64::from_str_radix(id.get("vm")?.as_str()?, 16).ok()?, id.get("number")?.as_u64()?));
    let wanted = answer.get("configs_wanted").and_then(Value::as_array).into_iter().flatten();
    Some(Taken {
        period: answer.get("period")?.as_u64()?,
        batches: answer.get("taken")?.as_array()?.iter().filter_map(batch).collect(),
        configs_wanted: wanted.filter_map(Value::as_str).filter(|hash| hash.len() == 16).map(str::to_owned).collect(),
    })
}

/// Whether its VM is gone, and the hub has all that it left.
fn is_done(entry: &Entry, now: u64) -> bool {
    entry.vm != 0 && entry.is_silent(now) && entry.since == 0 && !entry.has_batch()
}
