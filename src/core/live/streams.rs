//! The live streams of one worker: which of them a change of the state affects, and which are due.
//!
//! Most requests end before the state changes, so insertion and removal must be cheap: one push and one pop. The rarer
//! search reads all streams, in dense arrays: eight bytes of a stream nearly always suffice to see that a change does
//! not affect it, and eight more to see that it is not due.

use crate::live::admitted::Admitted;
use crate::state::view::Changes;
use crate::time::Timestamp;

/// The streams of one worker under one configuration.
#[derive(Debug, Default)]
pub struct Streams {
    /// For each slot, one bit for each of the 64 groups of buckets that its session uses; 0 for a free slot.
    groups: Vec<u64>,
    /// For each slot, when to check its stream again in any case; the greatest time for a free slot.
    due: Vec<Timestamp>,
    streams: Vec<Option<Stream>>,
    /// The free slots.
    free: Vec<u32>,
    /// At most the earliest time in `due`.
    next_due: Timestamp,
    /// The clock of the judge's view up to which changes were processed.
    pub(crate) seen: u64,
    /// The number of setbacks in the judge's view that were processed.
    pub(crate) setbacks: u64,
}

#[derive(Debug)]
struct Stream {
    id: u32,
    admitted: Admitted,
}

/// The slot of a stream in [`Streams`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamSlot {
    at: u32,
    id: u32,
}

impl Streams {
    /// Inserts `admitted`, to which the proxy gave `id`, and which is checked again at `until`. `None` if there are too
    /// many streams to count.
    pub fn insert(&mut self, id: u32, admitted: Admitted, until: Timestamp) -> Option<StreamSlot> {
        let at = match self.free.pop() {
            Some(at) => at,
            None => {
                let at = u32::try_from(self.streams.len()).ok()?;
                self.groups.push(0);
                self.due.push(Timestamp(u64::MAX));
                self.streams.push(None);
                at
            }
        };
        let index = usize::try_from(at).ok()?;
        *self.groups.get_mut(index)? = groups(admitted.buckets());
        *self.due.get_mut(index)? = until;
        *self.streams.get_mut(index)? = Some(Stream { id, admitted });
        self.next_due = if self.len() == 1 { until } else { self.next_due.min(until) };
        Some(StreamSlot { at, id })
    }

    /// Removes a stream. If it was removed before, nothing happens, even if another stream now has its slot.
    pub fn remove(&mut self, slot: StreamSlot) -> Option<Admitted> {
        let index = usize::try_from(slot.at).ok()?;
        let stream = self.streams.get_mut(index)?;
        if stream.as_ref().is_none_or(|stream| stream.id != slot.id) {
            return None;
        }
        let stream = stream.take()?;
        *self.groups.get_mut(index)? = 0;
        *self.due.get_mut(index)? = Timestamp(u64::MAX);
        self.free.push(slot.at);
        Some(stream.admitted)
    }

    /// The streams for which `wanted` is true.
    pub(crate) fn which(&self, wanted: impl Fn(&Admitted) -> bool) -> Vec<StreamSlot> {
        let all = self.streams.iter().zip(0..);
        let slot = |(stream, at): (&Option<Stream>, u32)| {
            let stream = stream.as_ref().filter(|stream| wanted(&stream.admitted))?;
            Some(StreamSlot { at, id: stream.id })
        };
        all.filter_map(slot).collect()
    }

    /// The stream in `slot`.
    pub(crate) fn admitted_mut(&mut self, slot: StreamSlot) -> Option<&mut Admitted> {
        let stream = self.streams.get_mut(usize::try_from(slot.at).ok()?)?.as_mut()?;
        (stream.id == slot.id).then_some(&mut stream.admitted)
    }

    /// Makes the stream in `slot` due at `until`.
    pub(crate) fn look_again(&mut self, slot: StreamSlot, until: Timestamp) {
        if let Some(due) = usize::try_from(slot.at).ok().and_then(|at| self.due.get_mut(at)) {
            *due = until;
            self.next_due = self.next_due.min(until);
        }
    }

    /// The streams with a key in a changed bucket, and those that are due at `now`.
    pub(crate) fn touched(&mut self, changes: &Changes, now: Timestamp) -> Vec<StreamSlot> {
        let mut touched = Vec::new();
        let changed = groups(changes.buckets());
        if changed != 0 {
            // A group stands for 64 buckets, so the buckets of the session are compared too.
            let hits = self.groups.iter().zip(&self.streams).zip(0..).filter(|((groups, _), _)| *groups & changed != 0);
            touched.extend(hits.filter_map(|((_, stream), at)| {
                let stream = stream.as_ref()?;
                changes.touch(stream.admitted.buckets()).then_some(StreamSlot { at, id: stream.id })
            }));
        }
        if self.next_due <= now {
            let mut next_due = Timestamp(u64::MAX);
            for ((due, stream), at) in self.due.iter().zip(&self.streams).zip(0..) {
                next_due = next_due.min(*due);
                touched.extend(stream.as_ref().filter(|_| *due <= now).map(|stream| StreamSlot { at, id: stream.id }));
            }
            self.next_due = next_due;
            touched.sort_unstable_by_key(|slot| slot.at);
            touched.dedup();
        }
        touched
    }

    /// All streams.
    pub(crate) fn all(&self) -> Vec<StreamSlot> {
        self.which(|_| true)
    }

    /// The number of streams.
    pub fn len(&self) -> usize {
        self.streams.len().saturating_sub(self.free.len())
    }

    /// Whether there is no stream.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl StreamSlot {
    /// The id that the proxy gave the stream.
    pub(crate) fn id(&self) -> u32 {
        self.id
    }
}

/// The groups of `buckets`: bucket `n` belongs to group `n % 64`, which is one bit.
fn groups(buckets: impl IntoIterator<Item = u16>) -> u64 {
    buckets.into_iter().fold(0, |groups, bucket| groups | 1u64.rotate_left(u32::from(bucket)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::session::Session;
    use crate::jose::signature::PureRust;
    use crate::state::bucket::Entry;
    use crate::state::bucket::SourceTag;
    use crate::state::freshness::TransmitterId;
    use crate::state::key::{Kind, StateKey};
    use crate::state::revocations::{apply, set_up};
    use crate::state::store::MemoryStore;
    use crate::state::view::View;
    use crate::testing::fixture::{self, NOW, token_with};
    use proptest::prelude::*;
    use serde_json::json;
    use std::collections::BTreeMap;
    use std::rc::Rc;

    fn session(n: u64) -> Rc<Session> {
        let claims = json!({"jti": format!("tok-{n}"), "txn": format!("task-{n}"), "sid": format!("s-{n}")});
        let token = token_with(json!({}), claims);
        let verified =
            crate::token::verify::verify(token.as_bytes(), &[fixture::issuer()], &mut PureRust, NOW).unwrap();
        Rc::new(Session::new(verified, token.as_bytes(), false, None))
    }

    /// The changes that a worker sees after signals about these tasks.
    fn changes(tasks: &[u64]) -> Changes {
        let (mut store, mut view) = (MemoryStore::default(), View::default());
        set_up(&mut store, 1).unwrap();
        let before = view.refresh(&mut store).unwrap();
        for task in tasks {
            let key = StateKey::new(Kind::Task, "https://jit.example", &format!("task-{task}"));
            let fact = crate::state::fact::Fact::Completed;
            apply(
                &mut store,
                TransmitterId::UNKNOWN,
                &[Entry {
                    key,
                    fact,
                    at: NOW,
                    until: NOW,
                    conditions: vec![],
                    data: Default::default(),
                    source: SourceTag::NONE,
                    lifted: false,
                }],
                NOW,
            )
            .unwrap();
        }
        view.refresh(&mut store).unwrap();
        view.changes_since(before)
    }

    #[derive(Debug, Clone)]
    enum Step {
        Insert(u64, u64),
        Remove(usize),
        Touch(Vec<u64>, u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (0u64..6, 0u64..20).prop_map(|(session, until)| Step::Insert(session, until)),
            3 => (0usize..20).prop_map(Step::Remove),
            1 => (proptest::collection::vec(0u64..8, 0..3), 0u64..20).prop_map(|(tasks, now)| Step::Touch(tasks, now)),
        ];
        proptest::collection::vec(step, 0..60)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// After any insertions and removals, the affected streams are the same as in a plain list.
        #[test]
        fn finds_what_is_touched(steps in steps()) {
            let sessions: Vec<_> = (0..6).map(session).collect();
            let mut streams = Streams::default();
            let mut model: BTreeMap<u32, (StreamSlot, usize, u64)> = BTreeMap::new();
            let mut gone = Vec::new();
            for (step, id) in steps.into_iter().zip(1..) {
                match step {
                    Step::Insert(n, until) => {
                        let n = usize::try_from(n).unwrap();
                        let admitted = Admitted::of(Rc::clone(&sessions[n]), "GET", "orders.mesh", "/v1/orders/1881");
                        let slot = streams.insert(id, admitted, Timestamp(until)).unwrap();
                        model.insert(id, (slot, n, until));
                    }
                    Step::Remove(nth) => {
                        let Some(id) = model.keys().cycle().nth(nth).copied() else { continue };
                        let (slot, ..) = model.remove(&id).unwrap();
                        prop_assert!(streams.remove(slot).is_some());
                        gone.push(slot);
                    }
                    Step::Touch(tasks, now) => {
                        let changes = changes(&tasks);
                        let mut found: Vec<_> = streams.touched(&changes, Timestamp(now)).iter().map(StreamSlot::id).collect();
                        found.sort_unstable();
                        let touched = |(n, until): (usize, u64)| {
                            until <= now || changes.touch(sessions[n].buckets().iter().copied())
                        };
                        let expected: Vec<_> =
                            model.iter().filter(|(_, (_, n, until))| touched((*n, *until))).map(|(id, _)| *id).collect();
                        prop_assert_eq!(found, expected);
                    }
                }
                prop_assert_eq!(streams.len(), model.len());
                prop_assert_eq!(streams.all().len(), model.len());
                // A second removal removes no other stream.
                prop_assert!(gone.iter().all(|slot| streams.remove(*slot).is_none()));
            }
        }
    }

    /// Bytes that an allocator adds to each allocation.
    const PER_PIECE: usize = 16;

    #[test]
    fn a_hundred_thousand_streams_are_small_and_soon_looked_through() {
        let sessions: Vec<_> = (0..100).map(session).collect();
        let mut streams = Streams::default();
        let mut lines = 0;
        for (id, session) in (0..100_000).zip(sessions.iter().cycle()) {
            let path = "/v1/orders/1881/events/of/this/week";
            lines += "GET".len() + "orders.mesh".len() + path.len() + PER_PIECE;
            let admitted = Admitted::of(Rc::clone(session), "GET", "orders.mesh", path);
            streams.insert(id, admitted, Timestamp(u64::MAX - 1)).unwrap();
        }
        let arrays = streams.groups.capacity() * size_of::<u64>()
            + streams.due.capacity() * size_of::<Timestamp>()
            + streams.streams.capacity() * size_of::<Option<Stream>>();
        let each = (arrays + lines) / 100_000;
        assert!(each < 300, "{each} bytes for each stream");

        let changes = changes(&[3]);
        let begun = std::time::Instant::now();
        let touched = streams.touched(&changes, NOW);
        let took = begun.elapsed();
        assert_eq!(touched.len(), 1000);
        println!("{each} bytes for each of 100,000 streams; the 1,000 that a change touches were found in {took:?}");

        let begun = std::time::Instant::now();
        for id in 100_000..200_000 {
            let admitted = Admitted::of(Rc::clone(&sessions[0]), "GET", "orders.mesh", "/v1/orders/1881");
            let slot = streams.insert(id, admitted, Timestamp(u64::MAX - 1)).unwrap();
            assert!(streams.remove(slot).is_some());
        }
        println!("in and out: {:?}", begun.elapsed() / 100_000);
    }
}
