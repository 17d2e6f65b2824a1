//! Decides who fetches a JWK Set, and when: one VM for all workers of a proxy, by a lease in shared memory.
//!
//! Each source has two slots. The *record* holds the set that was last fetched, unchanged, and its generation. The
//! *status* is a few bytes: the generation, the results of the last fetches, and who is fetching now. Every VM reads
//! the status at each tick. The first VM that finds a fetch due, while nobody is fetching, takes the lease by
//! compare-and-swap and fetches. Then it writes the record first and the status second, so that a reader who sees a new
//! generation in the status finds the set in the record.
//!
//! The lease of a holder that dies expires. A clock that jumps cannot delay a fetch for longer than the span in
//! question: times further in the future than that count as past.
//!
//! All times here are milliseconds since 1970.

use crate::keys::keyring::{JwksError, Source};
use crate::state::store::SourceId;
use crate::state::store::{Slot, Store, StoreError, Stored};
use crate::time::{Span, Timestamp};

/// A lease lasts this many milliseconds longer than the request timeout.
const GRACE: u64 = 1_000;

/// The maximum length of a lease; see `config` for the longest `timeout`.
const LONGEST_LEASE: u64 = 61_000;

/// The shortest and the longest pause between two fetches while there are no keys.
const FIRST_RETRY: (u64, u64) = (100, 2_000);

/// The same while there are keys. The longest pause is also at most `refresh`.
const LATER_RETRY: (u64, u64) = (1_000, 300_000);

/// A refresh starts earlier by a random time of up to this part of `refresh`, so that proxies which started together do
/// not fetch together.
const EARLY: u64 = 10;

/// A random number with a uniform distribution. The caller supplies it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chance(pub u16);

impl Chance {
    /// This fraction of `whole`.
    fn of(self, whole: u64) -> u64 {
        whole.saturating_mul(u64::from(self.0)) >> 16
    }
}

/// The status of fetching, as all workers see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Status {
    /// The generation of the set in the record; 0 before the first. It increases when the set changes.
    pub generation: u64,
    /// When that set was last fetched.
    pub fetched_at: u64,
    /// The number of fetches that have ended.
    pub ended: u64,
    /// The number of consecutive failures.
    pub failures: u32,
    /// When the last fetch began.
    began_at: u64,
    /// The time of the next attempt after a failure; not earlier.
    retry_at: u64,
    /// How much earlier than `refresh` the next fetch is due, in milliseconds.
    early: u64,
    /// Who is fetching; 0: nobody.
    holder: u64,
    /// When the lease expires.
    held_until: u64,
}

impl Status {
    const FORMAT: u8 = 1;

    /// The time at which the set was last fetched, in seconds, rounded down.
    pub fn fetched_second(&self) -> Timestamp {
        Timestamp(self.fetched_at / 1_000)
    }

    /// When the next fetch is due.
    pub fn due_at(&self, source: &Source) -> u64 {
        match self.failures {
            0 if self.generation == 0 => 0,
            0 => self.fetched_at.saturating_add(millis(source.refresh)).saturating_sub(self.early),
            _ => self.retry_at,
        }
    }

    /// Whether a fetch is in progress.
    pub(crate) fn is_held(&self, now: u64) -> bool {
        self.holder != 0 && now < self.held_until && self.held_until <= now.saturating_add(LONGEST_LEASE)
    }

    /// Whether a fetch could bring an unknown `kid`: one may be requested, or is in progress.
    pub fn can_bring_more(&self, source: &Source, now: u64) -> bool {
        self.is_held(now) || self.may_refetch(source, now)
    }

    /// Whether a VM may start a fetch now: one is due, or `wanted` because of an unknown `kid`.
    fn may_begin(&self, source: &Source, now: u64, wanted: bool) -> bool {
        let due = self.due_at(source);
        let far = now.saturating_add(millis(source.refresh).max(LATER_RETRY.0));
        let due = due <= now || due > far;
        !self.is_held(now) && (due || wanted && self.may_refetch(source, now))
    }

    fn may_refetch(&self, source: &Source, now: u64) -> bool {
        let pause = millis(source.refetch);
        now >= self.began_at.saturating_add(pause) || self.began_at > now
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![Status::FORMAT];
        let numbers = [self.generation, self.fetched_at, self.ended, u64::from(self.failures), self.began_at];
        for number in numbers.into_iter().chain([self.retry_at, self.early, self.holder, self.held_until]) {
            bytes.extend(number.to_le_bytes());
        }
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Status, StoreError> {
        let (format, mut rest) = bytes.split_first().ok_or(StoreError::Corrupt)?;
        let mut next = || -> Result<u64, StoreError> {
            let (number, tail) = rest.split_first_chunk::<8>().ok_or(StoreError::Corrupt)?;
            rest = tail;
            Ok(u64::from_le_bytes(*number))
        };
        let status = Status {
            generation: next()?,
            fetched_at: next()?,
            ended: next()?,
            failures: u32::try_from(next()?).map_err(|_| StoreError::Corrupt)?,
            began_at: next()?,
            retry_at: next()?,
            early: next()?,
            holder: next()?,
            held_until: next()?,
        };
        if *format == Status::FORMAT && rest.is_empty() { Ok(status) } else { Err(StoreError::Corrupt) }
    }
}

/// A fetched set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The generation.
    pub generation: u64,
    /// The body of the response; empty before the first fetch.
    pub jwks: Vec<u8>,
}

impl Record {
    const FORMAT: u8 = 1;

    fn encode(generation: u64, jwks: &[u8]) -> Vec<u8> {
        let mut bytes = vec![Record::FORMAT];
        bytes.extend(generation.to_le_bytes());
        bytes.extend(jwks);
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Record, StoreError> {
        let (format, rest) = bytes.split_first().ok_or(StoreError::Corrupt)?;
        let (generation, jwks) = rest.split_first_chunk::<8>().ok_or(StoreError::Corrupt)?;
        if *format != Record::FORMAT {
            return Err(StoreError::Corrupt);
        }
        Ok(Record { generation: u64::from_le_bytes(*generation), jwks: jwks.to_vec() })
    }
}

/// Creates the slots of a source that do not exist yet. Like [`crate::state::revocations::set_up`] it must run while
/// nobody else can write: while a configuration is loaded on the proxy's main thread.
pub fn set_up(store: &mut impl Store, id: SourceId) -> Result<(), StoreError> {
    if store.read(Slot::KeyStatus(id))?.is_some() {
        return Ok(());
    }
    store.seed(Slot::KeyRecord(id), &Record::encode(0, &[]))?;
    store.seed(Slot::KeyStatus(id), &Status::default().encode())
}

/// Reads the status.
pub fn status(store: &mut impl Store, id: SourceId) -> Result<Status, StoreError> {
    read_status(store, id).map(|(status, _)| status)
}

/// Reads the set that was last fetched.
pub fn record(store: &mut impl Store, id: SourceId) -> Result<Record, StoreError> {
    read_record(store, id).map(|(record, _)| record)
}

/// Takes the lease for `holder`, a number that is unique and not 0, if no fetch is in progress and one is due, or
/// `wanted` because of an unknown `kid`. `true`: fetch now, then call [`succeed`] or [`fail`].
pub fn begin(store: &mut impl Store, source: &Source, now: u64, holder: u64, wanted: bool) -> Result<bool, StoreError> {
    let id = source.id();
    let (status, cas) = read_status(store, id)?;
    if !status.may_begin(source, now, wanted) {
        return Ok(false);
    }
    let lease = millis(source.timeout).saturating_add(GRACE).min(LONGEST_LEASE);
    let taken = Status { began_at: now, holder, held_until: now.saturating_add(lease), ..status };
    // `false`: another VM was faster, and fetches.
    store.swap(Slot::KeyStatus(id), &taken.encode(), cas)
}

/// What a successful fetch changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    /// The set differs from the previous one.
    Changed(Status),
    /// The set is the same as before.
    Unchanged(Status),
    /// The lease had expired and another VM took over: nothing was written.
    Late,
}

/// Records that `holder` fetched `jwks` from `source`; [`crate::keys::keyring::read_jwks`] has accepted it.
pub fn succeed(
    store: &mut impl Store,
    source: &Source,
    holder: u64,
    jwks: &[u8],
    now: u64,
    chance: Chance,
) -> Result<Published, StoreError> {
    let id = source.id();
    let (status, cas) = read_status(store, id)?;
    if status.holder != holder {
        return Ok(Published::Late);
    }
    let (record, record_cas) = read_record(store, id)?;
    let changed = record.jwks != jwks || record.generation == 0;
    let generation = if changed { record.generation.saturating_add(1) } else { record.generation };
    if changed && !store.swap(Slot::KeyRecord(id), &Record::encode(generation, jwks), record_cas)? {
        return Ok(Published::Late);
    }
    let after = Status {
        generation,
        fetched_at: now,
        failures: 0,
        retry_at: 0,
        early: chance.of(millis(source.refresh) / EARLY),
        ..ended(status)
    };
    match store.swap(Slot::KeyStatus(id), &after.encode(), cas)? {
        false => Ok(Published::Late),
        // A holder may have died between its two writes: then the generation is new to the others although the set is
        // the same.
        true if generation != status.generation => Ok(Published::Changed(after)),
        true => Ok(Published::Unchanged(after)),
    }
}

/// Records that the fetch by `holder` failed. `None`: the lease had expired.
pub fn fail(
    store: &mut impl Store,
    source: &Source,
    holder: u64,
    now: u64,
    chance: Chance,
) -> Result<Option<Status>, StoreError> {
    let id = source.id();
    let (status, cas) = read_status(store, id)?;
    if status.holder != holder {
        return Ok(None);
    }
    let failures = status.failures.saturating_add(1);
    // Expired keys count as no keys.
    let given_up = now >= status.fetched_at.saturating_add(millis(source.keep));
    let pause = pause(failures, status.generation == 0 || given_up, source, chance);
    let after = Status { failures, retry_at: now.saturating_add(pause), ..ended(status) };
    Ok(store.swap(Slot::KeyStatus(id), &after.encode(), cas)?.then_some(after))
}

fn ended(status: Status) -> Status {
    Status { ended: status.ended.saturating_add(1), holder: 0, held_until: 0, ..status }
}

/// The pause after this many consecutive failures: it doubles each time, and is a random value between half and all of
/// that.
fn pause(failures: u32, first: bool, source: &Source, chance: Chance) -> u64 {
    let (shortest, longest) = if first { FIRST_RETRY } else { LATER_RETRY };
    let longest = if first { longest } else { longest.min(millis(source.refresh)) };
    let doubled = shortest.saturating_mul(1 << failures.saturating_sub(1).min(20)).min(longest);
    let half = doubled / 2;
    half.saturating_add(chance.of(half))
}

fn read_status(store: &mut impl Store, id: SourceId) -> Result<(Status, u32), StoreError> {
    let Stored { bytes, cas } = store.read(Slot::KeyStatus(id))?.ok_or(StoreError::Absent)?;
    Ok((Status::decode(&bytes)?, cas))
}

fn read_record(store: &mut impl Store, id: SourceId) -> Result<(Record, u32), StoreError> {
    let Stored { bytes, cas } = store.read(Slot::KeyRecord(id))?.ok_or(StoreError::Absent)?;
    Ok((Record::decode(&bytes)?, cas))
}

/// The span in milliseconds.
pub fn millis(span: Span) -> u64 {
    span.0.saturating_mul(1_000)
}

/// Why a fetch failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The proxy does not know the cluster.
    #[error("the proxy has no cluster of this name")]
    ClusterMissing,
    /// The call failed before it was sent, for example because no host is healthy.
    #[error("no host of the cluster can be reached")]
    Unreachable,
    /// The call ended without a response.
    #[error("the connection ended without an answer")]
    NoAnswer,
    /// A status other than 200. The proxy itself returns 503 when it cannot connect, and 504 after `timeout`.
    #[error("status {0}{hint}", hint = status_hint(*.0))]
    Status(u16),
    /// A redirect that is not followed, because it is not to the same host.
    #[error("a redirect to `{location}`, and only `{host}` is asked")]
    #[allow(missing_docs, reason = "the message says it")]
    Redirect { location: String, host: String },
    /// Too many redirects.
    #[error("more than 3 redirects")]
    Redirects,
    /// A content coding that is not known here, or broken.
    #[error("compressed as {0}: the server must not compress, or use gzip")]
    Encoding(String),
    /// What should be the metadata of the issuer is something else.
    #[error("no metadata of an issuer: expected a JSON object with `issuer` and `jwks_uri`")]
    NoMetadata,
    /// The metadata is of another issuer.
    #[error("the metadata is of the issuer `{found}`, and the configuration names `{issuer}`")]
    #[allow(missing_docs, reason = "the message says it")]
    OtherIssuer { found: String, issuer: String },
    /// The metadata names no key set.
    #[error("the metadata has no `jwks_uri`")]
    NoJwksUri,
    /// The metadata names the key set by something else than an https URL.
    #[error("the `jwks_uri` of the metadata is no https URL: `{0}`")]
    JwksUri(String),
    /// The key set is at a host that the configuration does not allow.
    #[error(
        "the metadata names keys at the host `{found}`, and the configuration allows `{allowed}`: if both are right, write `jwks_host` and the `jwks_cluster` for it"
    )]
    #[allow(missing_docs, reason = "the message says it")]
    OtherHost { found: String, allowed: String },
    /// The file with the authorization cannot be used.
    #[error("the file of `authorization_file` cannot be used: {0}")]
    Authorization(String),
    /// The body is not a JWK Set.
    #[error("{0}")]
    Body(#[from] JwksError),
}

fn status_hint(status: u16) -> &'static str {
    match status {
        503 => " (unavailable, or no connection to the cluster)",
        504 => " (no answer within `timeout`)",
        _ => "",
    }
}

impl FetchError {
    /// The causes, as the metrics name them.
    pub const CAUSES: [&'static str; 10] = [
        "cluster_missing",
        "unreachable",
        "no_answer",
        "status",
        "redirect",
        "encoding",
        "metadata",
        "authorization",
        "too_large",
        "not_a_jwk_set",
    ];

    /// The cause: one of [`FetchError::CAUSES`].
    pub fn cause(&self) -> &'static str {
        match self {
            FetchError::ClusterMissing => "cluster_missing",
            FetchError::Unreachable => "unreachable",
            FetchError::NoAnswer => "no_answer",
            FetchError::Status(_) => "status",
            FetchError::Redirect { .. } | FetchError::Redirects => "redirect",
            FetchError::Encoding(_) => "encoding",
            FetchError::NoMetadata
            | FetchError::OtherIssuer { .. }
            | FetchError::NoJwksUri
            | FetchError::JwksUri(_)
            | FetchError::OtherHost { .. } => "metadata",
            FetchError::Authorization(_) => "authorization",
            FetchError::Body(
                JwksError::TooLarge(_) | JwksError::Unpacked | JwksError::Dropped | JwksError::TooMany(_),
            ) => "too_large",
            FetchError::Body(JwksError::NotJson(_) | JwksError::NotAJwkSet) => "not_a_jwk_set",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::store::MemoryStore;
    use proptest::prelude::*;

    const START: u64 = 1_790_000_000_000;
    const MIDDLE: Chance = Chance(1 << 15);

    fn source() -> Source {
        Source {
            cluster: "jit".to_owned(),
            host: "jit.example".to_owned(),
            path: "/jwks.json".to_owned(),
            discovery: None,
            authorization: None,
            refresh: Span(300),
            timeout: Span(5),
            wait: Span(2),
            keep: Span(3600),
            refetch: Span(10),
        }
    }

    fn store() -> MemoryStore {
        let mut store = MemoryStore::default();
        set_up(&mut store, source().id()).unwrap();
        store
    }

    fn begins(store: &mut MemoryStore, now: u64, holder: u64) -> bool {
        begin(store, &source(), now, holder, false).unwrap()
    }

    fn succeeds(store: &mut MemoryStore, now: u64, holder: u64, jwks: &[u8]) -> Published {
        succeed(store, &source(), holder, jwks, now, MIDDLE).unwrap()
    }

    #[test]
    fn one_fetches_and_all_get_it() {
        let mut store = store();
        assert!(begins(&mut store, START, 1));
        assert!(!begins(&mut store, START, 2), "the first holds the lease");
        assert!(matches!(succeeds(&mut store, START + 40, 1, b"set"), Published::Changed(_)));
        assert_eq!(record(&mut store, source().id()).unwrap(), Record { generation: 1, jwks: b"set".to_vec() });
        assert!(!begins(&mut store, START + 1_000, 2), "nothing is due");
        // A tenth of 300 s early at most; half of it by this chance.
        assert!(!begins(&mut store, START + 40 + 284_999, 2));
        assert!(begins(&mut store, START + 40 + 285_000, 2));
        let Published::Unchanged(status) = succeeds(&mut store, START + 285_100, 2, b"set") else { panic!("same") };
        assert_eq!((status.generation, status.fetched_at), (1, START + 285_100));
    }

    #[test]
    fn a_dead_holder_is_replaced_and_comes_too_late() {
        let mut store = store();
        assert!(begins(&mut store, START, 1));
        assert!(!begins(&mut store, START + 5_999, 2));
        assert!(begins(&mut store, START + 6_000, 2));
        assert_eq!(succeeds(&mut store, START + 6_001, 1, b"old"), Published::Late);
        assert_eq!(fail(&mut store, &source(), 1, START + 6_001, MIDDLE).unwrap(), None);
        assert!(matches!(succeeds(&mut store, START + 6_002, 2, b"new"), Published::Changed(_)));
        assert_eq!(record(&mut store, source().id()).unwrap().jwks, b"new");
    }

    #[test]
    fn a_holder_that_died_between_its_writes_loses_nothing() {
        let mut store = store();
        assert!(begins(&mut store, START, 1));
        let id = source().id();
        let (_, cas) = read_record(&mut store, id).unwrap();
        assert!(store.swap(Slot::KeyRecord(id), &Record::encode(1, b"set"), cas).unwrap());
        assert!(begins(&mut store, START + 6_000, 2));
        let published = succeeds(&mut store, START + 6_001, 2, b"set");
        assert!(matches!(published, Published::Changed(Status { generation: 1, .. })), "{published:?}");
    }

    #[test]
    fn retries_are_fast_until_the_first_success() {
        let mut store = store();
        let mut now = START;
        let mut pauses = Vec::new();
        for _ in 0..8 {
            assert!(begins(&mut store, now, 1));
            let status = fail(&mut store, &source(), 1, now, Chance(u16::MAX)).unwrap().unwrap();
            pauses.push(status.due_at(&source()) - now);
            now = status.due_at(&source());
        }
        assert_eq!(pauses, [99, 199, 399, 799, 1_599, 1_999, 1_999, 1_999]);
        assert!(begins(&mut store, now, 1));
        succeeds(&mut store, now, 1, b"set");
        now += 300_000;
        pauses.clear();
        for _ in 0..11 {
            assert!(begins(&mut store, now, 1));
            let status = fail(&mut store, &source(), 1, now, Chance(0)).unwrap().unwrap();
            assert_eq!(status.generation, 1, "the last good set stays");
            pauses.push(status.due_at(&source()) - now);
            now = status.due_at(&source());
        }
        assert_eq!(pauses, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000, 128_000, 150_000, 150_000]);
        now += 3_600_000;
        assert!(begins(&mut store, now, 1));
        let status = fail(&mut store, &source(), 1, now, Chance(0)).unwrap().unwrap();
        assert_eq!(status.due_at(&source()) - now, 1_000, "without keys it is urgent again");
    }

    #[test]
    fn an_unknown_kid_asks_once_in_a_while() {
        let mut store = store();
        let wants = |store: &mut MemoryStore, now, holder| begin(store, &source(), now, holder, true).unwrap();
        assert!(begins(&mut store, START, 1));
        succeeds(&mut store, START, 1, b"set");
        assert!(!wants(&mut store, START + 9_999, 2));
        assert!(wants(&mut store, START + 10_000, 2));
        assert!(!wants(&mut store, START + 10_001, 3), "one flight");
        let status = status(&mut store, source().id()).unwrap();
        assert!(status.can_bring_more(&source(), START + 10_001));
        succeeds(&mut store, START + 10_002, 2, b"set");
        assert!(!wants(&mut store, START + 19_999, 3));
        assert!(wants(&mut store, START + 20_000, 3));
        // It failed. Whether it is known or not, there is nothing to gain before the pause is over.
        fail(&mut store, &source(), 3, START + 20_001, MIDDLE).unwrap();
        assert!(!wants(&mut store, START + 20_002, 3));
    }

    #[test]
    fn setting_up_again_loses_nothing() {
        let mut store = store();
        assert!(begins(&mut store, START, 1));
        succeeds(&mut store, START, 1, b"set");
        set_up(&mut store, source().id()).unwrap();
        assert_eq!(status(&mut store, source().id()).unwrap().generation, 1);
    }

    #[test]
    fn foreign_and_absent_slots_are_errors() {
        let id = source().id();
        let mut store = MemoryStore::default();
        assert_eq!(status(&mut store, id), Err(StoreError::Absent));
        store.seed(Slot::KeyStatus(id), b"other").unwrap();
        store.seed(Slot::KeyRecord(id), b"").unwrap();
        assert_eq!(status(&mut store, id), Err(StoreError::Corrupt));
        assert_eq!(record(&mut store, id), Err(StoreError::Corrupt));
    }

    #[test]
    fn a_clock_set_back_stops_nothing_for_long() {
        let mut store = store();
        assert!(begins(&mut store, START, 1));
        succeeds(&mut store, START, 1, b"set");
        let before = START - 1_000_000_000;
        assert!(begins(&mut store, before, 2), "due at a time that is too far ahead to be meant");
        assert!(begin(&mut store, &source(), before - 1_000_000, 3, true).unwrap(), "and so is the lease");
    }

    proptest! {
        #[test]
        fn a_status_goes_through_its_bytes(numbers: [u64; 8], failures: u32) {
            let [generation, fetched_at, ended, began_at, retry_at, early, holder, held_until] = numbers;
            let status = Status { generation, fetched_at, ended, failures, began_at, retry_at, early, holder, held_until };
            prop_assert_eq!(Status::decode(&status.encode()), Ok(status));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = Status::decode(&bytes);
            if let Ok(record) = Record::decode(&bytes) {
                prop_assert_eq!(Record::encode(record.generation, &record.jwks), bytes);
            }
        }

        /// Whatever several VMs do and in whatever order, and however often one dies: at most one fetches at a time,
        /// the number only grows, and the record never lags behind the status.
        #[test]
        fn any_interleaving_keeps_one_flight(steps in proptest::collection::vec((0u64..4, 0u8..5, 0u64..3_000, any::<u16>()), 1..300)) {
            let (mut store, source, mut now) = (store(), source(), START);
            // By VM: when its fetch began.
            let mut flights: [Option<u64>; 4] = [None; 4];
            let mut generation = 0;
            for (vm, what, passed, chance) in steps {
                now = now.saturating_add(passed);
                let holder = vm.saturating_add(1);
                let slot = usize::try_from(vm).unwrap();
                match what {
                    0 | 1 if flights[slot].is_none() => {
                        if begin(&mut store, &source, now, holder, what == 1).unwrap() {
                            let alive = |began: &Option<u64>| began.is_some_and(|began| now < began.saturating_add(6_000));
                            prop_assert!(!flights.iter().any(alive), "two at once");
                            flights[slot] = Some(now);
                        }
                    }
                    2 => if flights[slot].take().is_some() {
                        let _ = succeed(&mut store, &source, holder, format!("set {}", chance % 3).as_bytes(), now, Chance(chance)).unwrap();
                    },
                    3 => if flights[slot].take().is_some() {
                        fail(&mut store, &source, holder, now, Chance(chance)).unwrap();
                    },
                    _ => flights[slot] = None,
                }
                let status = status(&mut store, source.id()).unwrap();
                prop_assert!(status.generation >= generation);
                generation = status.generation;
                prop_assert_eq!(record(&mut store, source.id()).unwrap().generation, generation);
                prop_assert!(status.due_at(&source) <= now.saturating_add(300_000), "no pause is longer than a refresh");
            }
        }
    }
}
