//! What the feed of a hub covers: which issuers' revocations come through it, and whether this proxy has caught up.
//!
//! It is part of the stored version, so that every worker sees it with the state itself. A feed is stored as: its id
//! (8 bytes), whether the proxy has caught up (1), the number of issuers (1), and for each issuer its id (8) and the two
//! retentions in seconds (5 each). Numbers are little-endian.

use crate::encoding::digest::short_hash;
use crate::state::corrupt::Corrupt;
use crate::state::freshness::TransmitterId;
use crate::state::key::IssuerTag;
pub use crate::state::store::FeedId;
use crate::time::Span;
use sha2::{Digest, Sha256};

/// A feed covers at most this many issuers.
pub const MAX_ISSUERS: usize = 30;

/// The state holds the feeds of this many configurations: the current one, and those that are being replaced.
const MAX_FEEDS: usize = 4;

/// An issuer with the names of the claims that its grants are known by: the tag of the issuer (2 bytes), and a hash of
/// all (6). A hub and a filter that read other claims have different ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct IssuerId(pub [u8; 8]);

impl IssuerId {
    /// The issuer whose names are hashed in the key space `name`, and whose `claims` are "what: claim" in a fixed order.
    pub fn new(name: &str, claims: &[String]) -> IssuerId {
        let parts: Vec<&str> = [name].into_iter().chain(claims.iter().map(String::as_str)).collect();
        let [_, _, hash @ ..] = short_hash(&parts);
        let mut id = [0; 8];
        let bytes = IssuerTag::new(name).encode().into_iter().chain(hash);
        id.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
        IssuerId(id)
    }

    /// The tag of the issuer, which the keys of its entries have too.
    pub fn tag(&self) -> IssuerTag {
        let [low, high, ..] = self.0;
        IssuerTag::decode([low, high])
    }

    /// The name under which the freshness of the issuer in `feed` is kept.
    pub fn transmitter(&self, feed: FeedId) -> TransmitterId {
        let mut hasher = Sha256::new();
        hasher.update(feed.0);
        hasher.update(self.0);
        let mut id = [0; TransmitterId::LEN];
        id.iter_mut().zip(hasher.finalize()).for_each(|(to, from)| *to = from);
        TransmitterId::from_bytes(id)
    }
}

/// An issuer that a feed covers, or that a filter needs covered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CoveredIssuer {
    /// The issuer and its claims.
    pub id: IssuerId,
    /// How long an entry about a token is kept.
    pub token_retention: Span,
    /// How long an entry about a session, a task or a principal is kept.
    pub session_retention: Span,
}

impl CoveredIssuer {
    /// Whether a feed that covers this serves a filter that needs `needed`.
    fn serves(&self, needed: &CoveredIssuer) -> bool {
        self.id == needed.id
            && self.token_retention >= needed.token_retention
            && self.session_retention >= needed.session_retention
    }
}

/// What one feed covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedStatus {
    /// The feed.
    pub feed: FeedId,
    /// Whether this proxy has applied everything that the feed held when the proxy first asked.
    pub caught_up: bool,
    /// The issuers, as the last statement of the hub named them.
    pub issuers: Vec<CoveredIssuer>,
}

/// Why a feed does not answer for an issuer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotReady {
    /// The proxy has not caught up with the feed.
    Behind,
    /// The feed does not cover the issuer, or covers it with other claims or shorter spans.
    NotCovered,
}

/// The feeds of a proxy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Feeds(Vec<FeedStatus>);

impl Feeds {
    /// Whether `feed` answers for the issuer that a filter needs as `needed`.
    pub fn check(&self, feed: FeedId, needed: &CoveredIssuer) -> Result<(), NotReady> {
        let status = self.of(feed).filter(|status| status.caught_up).ok_or(NotReady::Behind)?;
        let covers = status.issuers.iter().any(|covered| covered.serves(needed));
        if covers { Ok(()) } else { Err(NotReady::NotCovered) }
    }

    /// What is known about `feed`.
    pub fn of(&self, feed: FeedId) -> Option<&FeedStatus> {
        self.0.iter().find(|status| status.feed == feed)
    }

    /// Records what a statement of a feed said. A proxy that has caught up stays so.
    pub fn note(&mut self, new: FeedStatus) {
        match self.0.iter_mut().find(|status| status.feed == new.feed) {
            Some(known) => *known = FeedStatus { caught_up: known.caught_up || new.caught_up, ..new },
            None => {
                // Only configurations that replace each other quickly bring more. A feed that is dropped counts as not
                // caught up, so the proxy closes.
                if self.0.len() >= MAX_FEEDS {
                    self.0.remove(0);
                }
                self.0.push(new);
            }
        }
    }

    /// Whether something that `earlier` covered is not covered any more.
    pub fn is_worse_than(&self, earlier: &Feeds) -> bool {
        earlier.0.iter().any(|before| {
            before.issuers.iter().any(|issuer| before.caught_up && self.check(before.feed, issuer).is_err())
        })
    }

    /// Appends the stored form to `bytes`, with the number of feeds first.
    pub(crate) fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.push(count(self.0.len()));
        for status in &self.0 {
            bytes.extend(status.feed.0);
            bytes.push(u8::from(status.caught_up));
            bytes.push(count(status.issuers.len()));
            for issuer in status.issuers.iter().take(MAX_ISSUERS) {
                bytes.extend(issuer.id.0);
                for span in [issuer.token_retention, issuer.session_retention] {
                    bytes.extend(span.0.min((1 << 40) - 1).to_le_bytes().into_iter().take(5));
                }
            }
        }
    }

    /// Reads the stored form from the start of `bytes`, and returns the rest.
    pub(crate) fn decode(bytes: &[u8]) -> Result<(Feeds, &[u8]), Corrupt> {
        let mut rest = bytes;
        let [feeds] = take(&mut rest)?;
        let mut all = Vec::new();
        for _ in 0..feeds {
            let feed = FeedId(take(&mut rest)?);
            let [caught_up, issuers] = take(&mut rest)?;
            let issuers = (0..issuers).map(|_| issuer(&mut rest)).collect::<Result<_, _>>()?;
            all.push(FeedStatus { feed, caught_up: caught_up == 1, issuers });
        }
        Ok((Feeds(all), rest))
    }
}

fn issuer(rest: &mut &[u8]) -> Result<CoveredIssuer, Corrupt> {
    let id = IssuerId(take(rest)?);
    Ok(CoveredIssuer { id, token_retention: span(rest)?, session_retention: span(rest)? })
}

fn span(rest: &mut &[u8]) -> Result<Span, Corrupt> {
    let [a, b, c, d, e] = take(rest)?;
    Ok(Span(u64::from_le_bytes([a, b, c, d, e, 0, 0, 0])))
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Corrupt> {
    let (head, tail) = rest.split_first_chunk::<N>().ok_or(Corrupt)?;
    *rest = tail;
    Ok(*head)
}

fn count(number: usize) -> u8 {
    u8::try_from(number.min(MAX_ISSUERS)).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issuer(name: &str, span: u64) -> CoveredIssuer {
        let id = IssuerId::new(name, &["task: txn".to_owned()]);
        CoveredIssuer { id, token_retention: Span(span), session_retention: Span(span * 10) }
    }

    fn status(caught_up: bool, issuers: Vec<CoveredIssuer>) -> FeedStatus {
        FeedStatus { feed: FeedId::new("hub", "main"), caught_up, issuers }
    }

    #[test]
    fn a_feed_answers_for_what_it_covers_once_the_proxy_has_caught_up() {
        let feed = FeedId::new("hub", "main");
        let mut feeds = Feeds::default();
        assert_eq!(feeds.check(feed, &issuer("a", 60)), Err(NotReady::Behind));
        feeds.note(status(false, vec![issuer("a", 60)]));
        assert_eq!(feeds.check(feed, &issuer("a", 60)), Err(NotReady::Behind));
        feeds.note(status(true, vec![issuer("a", 60)]));
        assert_eq!(feeds.check(feed, &issuer("a", 60)), Ok(()));
        assert_eq!(feeds.check(feed, &issuer("a", 30)), Ok(()), "a shorter span is served too");
        assert_eq!(feeds.check(feed, &issuer("a", 61)), Err(NotReady::NotCovered));
        assert_eq!(feeds.check(feed, &issuer("b", 60)), Err(NotReady::NotCovered));
        let other_claim = CoveredIssuer { id: IssuerId::new("a", &["task: task_id".to_owned()]), ..issuer("a", 60) };
        assert_eq!(feeds.check(feed, &other_claim), Err(NotReady::NotCovered));
        assert_eq!(feeds.check(FeedId::new("hub", "other"), &issuer("a", 60)), Err(NotReady::Behind));
        feeds.note(status(false, vec![issuer("a", 60)]));
        assert_eq!(feeds.check(feed, &issuer("a", 60)), Ok(()), "it stays caught up");
    }

    #[test]
    fn the_id_of_an_issuer_holds_its_tag() {
        let key = crate::state::key::StateKey::new(crate::state::key::Kind::Task, "https://jit.example", "t");
        assert_eq!(issuer("https://jit.example", 1).id.tag(), key.issuer());
        assert_ne!(issuer("https://other.example", 1).id.tag(), key.issuer());
    }

    #[test]
    fn an_issuer_that_is_not_covered_any_more_makes_it_worse() {
        let mut earlier = Feeds::default();
        earlier.note(status(true, vec![issuer("a", 60), issuer("b", 60)]));
        let mut later = earlier.clone();
        assert!(!later.is_worse_than(&earlier));
        later.note(status(true, vec![issuer("a", 60)]));
        assert!(later.is_worse_than(&earlier) && !earlier.is_worse_than(&later));
    }

    #[test]
    fn the_stored_form_survives() {
        let mut feeds = Feeds::default();
        feeds.note(status(true, vec![issuer("a", 60), issuer("b", 1 << 33)]));
        feeds.note(FeedStatus { feed: FeedId::new("hub", "two"), caught_up: false, issuers: Vec::new() });
        let mut bytes = Vec::new();
        feeds.encode(&mut bytes);
        let length = bytes.len();
        bytes.extend(b"rest");
        assert_eq!(Feeds::decode(&bytes), Ok((feeds, &b"rest"[..])));
        for cut in 0..length {
            assert_eq!(Feeds::decode(&bytes[..cut]), Err(Corrupt));
        }
    }
}
