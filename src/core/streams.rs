//! The live streams of one worker: which of them a change of the state touches, and which are due by the clock.
//!
//! Most requests are over before anything changes, so putting one in and taking it out must cost next to nothing: a
//! push and a pop. What is asked seldom walks over all of them instead, in arrays that lie close: eight bytes for each
//! stream tell nearly always that a change is not about it, and eight more that its time has not come.

use crate::review::Admitted;
use crate::state::Changes;
use crate::time::Timestamp;

/// The streams of one worker under one configuration, by the number that the proxy gave each.
#[derive(Debug, Default)]
pub struct Streams {
    /// By place, which of 64 groups of buckets its session is in; 0 where there is no stream.
    groups: Vec<u64>,
    /// By place, when to look at it again whatever happens; the end of time where there is no stream.
    due: Vec<Timestamp>,
    streams: Vec<Option<Stream>>,
    /// Places without a stream.
    free: Vec<u32>,
    /// Not later than the earliest in `due`.
    next_due: Timestamp,
    /// The clock of the judge's view up to which changes were looked at.
    pub(crate) seen: u64,
}

#[derive(Debug)]
struct Stream {
    id: u32,
    admitted: Admitted,
}

/// Where a stream stands in [`Streams`], for whoever takes it out again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    at: u32,
    id: u32,
}

impl Streams {
    /// Puts the stream `id` in, which goes on as `admitted` until `until`. `None` when there is no room in the address
    /// space.
    pub fn insert(&mut self, id: u32, admitted: Admitted, until: Timestamp) -> Option<Place> {
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
        Some(Place { at, id })
    }

    /// Takes a stream out. Nothing happens when it is out already, whoever stands in its place now.
    pub fn remove(&mut self, place: Place) -> Option<Admitted> {
        let index = usize::try_from(place.at).ok()?;
        let stream = self.streams.get_mut(index)?;
        if stream.as_ref().is_none_or(|stream| stream.id != place.id) {
            return None;
        }
        let stream = stream.take()?;
        *self.groups.get_mut(index)? = 0;
        *self.due.get_mut(index)? = Timestamp(u64::MAX);
        self.free.push(place.at);
        Some(stream.admitted)
    }

    /// What the stream at `place` was admitted with.
    pub fn admitted_mut(&mut self, place: Place) -> Option<&mut Admitted> {
        let stream = self.streams.get_mut(usize::try_from(place.at).ok()?)?.as_mut()?;
        (stream.id == place.id).then_some(&mut stream.admitted)
    }

    /// Looks at the stream at `place` again at `until`, whatever happens.
    pub fn look_again(&mut self, place: Place, until: Timestamp) {
        if let Some(due) = usize::try_from(place.at).ok().and_then(|at| self.due.get_mut(at)) {
            *due = until;
            self.next_due = self.next_due.min(until);
        }
    }

    /// The streams with a key in a changed bucket, and those whose time has come.
    pub fn touched(&mut self, changes: &Changes, now: Timestamp) -> Vec<Place> {
        let mut touched = Vec::new();
        let changed = groups(changes.buckets());
        if changed != 0 {
            // Two of a stream's eight groups may stand for other buckets: the session knows its own.
            let hits = self.groups.iter().zip(&self.streams).zip(0..).filter(|((groups, _), _)| *groups & changed != 0);
            touched.extend(hits.filter_map(|((_, stream), at)| {
                let stream = stream.as_ref()?;
                changes.touch(stream.admitted.buckets()).then_some(Place { at, id: stream.id })
            }));
        }
        if self.next_due <= now {
            let mut next_due = Timestamp(u64::MAX);
            for ((due, stream), at) in self.due.iter().zip(&self.streams).zip(0..) {
                match stream {
                    Some(stream) if *due <= now => touched.push(Place { at, id: stream.id }),
                    _ => next_due = next_due.min(*due),
                }
            }
            self.next_due = next_due;
            touched.sort_unstable_by_key(|place| place.at);
            touched.dedup();
        }
        touched
    }

    /// All of them.
    pub fn all(&self) -> Vec<Place> {
        let all = self.streams.iter().zip(0..);
        all.filter_map(|(stream, at)| stream.as_ref().map(|stream| Place { at, id: stream.id })).collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.streams.len().saturating_sub(self.free.len())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Place {
    /// The number that the proxy gave the stream.
    pub fn id(&self) -> u32 {
        self.id
    }
}

/// One bit for each 64th of the buckets.
fn groups(buckets: impl IntoIterator<Item = u16>) -> u64 {
    buckets.into_iter().fold(0, |groups, bucket| groups | 1u64.rotate_left(u32::from(bucket)))
}
