//! What followers check of the pages that they get: the first of each kind wholly, and that the others are the same.

use std::collections::VecDeque;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::Value;
use taskfence_core::{
    feed::{page::Page, revision::Revision, statement::Part},
    jose::{algorithm::Algorithm, key::KeySet, signature::PureRust},
};

use crate::{Error, Result};

/// So many pages are remembered: heartbeats of a minute, and the parts of a full state.
const REMEMBERED: usize = 128;
/// Of pages that repeat the nonce of one follower, which differ in their statement, one of so many is verified.
const ONE_OF: u64 = 100;

/// Checks pages of one feed.
pub struct Checker {
    hub: String,
    feed: String,
    keys: KeySet,
    known: VecDeque<Known>,
    /// Pages whose signature was checked.
    pub verified: u64,
    /// Pages that had to be the same bytes as one of these, and were.
    pub compared: u64,
    with_nonce: u64,
}

/// What a page says about positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The page leads up to here.
    pub upto: Revision,
    /// The last number of the feed.
    pub head: u64,
    /// Which part of a full state it is.
    pub part: Option<Part>,
}

struct Known {
    bytes: Vec<u8>,
    seen: Seen,
}

impl Checker {
    /// For pages of `feed`, which `hub` signs with one of the keys of `jwks`.
    pub fn new(hub: &str, feed: &str, jwks: &Value) -> Result<Self> {
        let keys = KeySet::from_jwks(jwks, &[Algorithm::ES256]).map_err(Error::doing("the keys of the hub"))?;
        let (hub, feed) = (hub.to_owned(), feed.to_owned());
        Ok(Self { hub, feed, keys: keys.0, known: VecDeque::new(), verified: 0, compared: 0, with_nonce: 0 })
    }

    /// Checks one page. `nonce`: what its statement must repeat.
    pub fn check(&mut self, bytes: &[u8], nonce: Option<&str>) -> Result<Seen> {
        if let Some(nonce) = nonce {
            return self.check_with_nonce(bytes, nonce);
        }
        if let Some(known) = self.known.iter().find(|known| known.bytes == bytes) {
            self.compared += 1;
            return Ok(known.seen);
        }
        let seen = self.verify(bytes, None)?;
        self.remember(bytes, seen);
        Ok(seen)
    }

    fn remember(&mut self, bytes: &[u8], seen: Seen) {
        self.known.push_front(Known { bytes: bytes.to_vec(), seen });
        self.known.truncate(REMEMBERED);
    }

    fn verify(&mut self, bytes: &[u8], nonce: Option<&str>) -> Result<Seen> {
        let page = Page::verify(bytes, (&self.hub, &self.feed), &self.keys, &mut PureRust)
            .map_err(Error::doing("a page of the hub"))?;
        self.verified += 1;
        let statement = page.statement();
        if statement.nonce.as_deref() != nonce {
            return Err(Error::new(format!("asked with the nonce {nonce:?}, the page has {:?}", statement.nonce)));
        }
        Ok(Seen { upto: statement.upto, head: statement.head, part: statement.part })
    }

    /// The entries are compared with those of the first such page.
    fn check_with_nonce(&mut self, bytes: &[u8], nonce: &str) -> Result<Seen> {
        let (statement, entries) = split(bytes)?;
        let claims = claims(statement)?;
        if claims["nonce"] != nonce {
            return Err(Error::new(format!("asked with the nonce {nonce}, the page has {}", claims["nonce"])));
        }
        self.with_nonce += 1;
        let first = self.known.iter().find(|known| {
            known.seen.upto.number == claims["upto"] && split(&known.bytes).is_ok_and(|(_, same)| same == entries)
        });
        match first.map(|first| first.seen) {
            Some(first) if !self.with_nonce.is_multiple_of(ONE_OF) => {
                self.compared += 1;
                let head = claims["head"].as_u64().ok_or_else(|| Error::new("a statement without `head`"))?;
                Ok(Seen { head, ..first })
            }
            _ => {
                let seen = self.verify(bytes, Some(nonce))?;
                self.remember(bytes, seen);
                Ok(seen)
            }
        }
    }
}

fn split(bytes: &[u8]) -> Result<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| *byte == b'\n').ok_or_else(|| Error::new("the answer is not a page"))?;
    Ok((&bytes[..end], &bytes[end + 1..]))
}

fn claims(statement: &[u8]) -> Result<Value> {
    let payload = statement.split(|byte| *byte == b'.').nth(1).unwrap_or_default();
    let payload = URL_SAFE_NO_PAD.decode(payload).map_err(Error::doing("the statement of a page"))?;
    serde_json::from_slice(&payload).map_err(Error::doing("the statement of a page"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use taskfence_core::{
        feed::{entry::FeedEntry, revision::Chain},
        state::{
            bucket::{Entry, SourceTag},
            fact::Fact,
            freshness::TransmitterId,
            key::{Kind, StateKey},
        },
        time::Timestamp,
    };
    use taskfence_tests::{
        hub::FEED,
        stand_in::{HUB, Pages},
    };

    fn entry() -> FeedEntry {
        let entry = Entry {
            key: StateKey::new(Kind::Session, "issuer", "name"),
            fact: Fact::Revoked,
            at: Timestamp(1),
            until: Timestamp(9),
            conditions: Vec::new(),
            data: Vec::new(),
            source: SourceTag::new(FEED, "idp", 1),
            lifted: false,
        };
        FeedEntry { entry, by: TransmitterId::new("idp") }
    }

    #[test]
    fn the_first_page_is_verified_and_the_others_are_compared() {
        let pages = Pages::new(Vec::new());
        let mut checker = Checker::new(HUB, FEED, &pages.jwks()).unwrap();
        let revision = Revision { epoch: 7, number: 1, chain: Chain::default() };
        let page = pages.page(&[entry()], |statement| (statement.upto, statement.head) = (revision, 1));
        for _ in 0..3 {
            assert_eq!(checker.check(&page, None).unwrap(), Seen { upto: revision, head: 1, part: None });
        }
        assert_eq!((checker.verified, checker.compared), (1, 2));
        let mut changed = page.clone();
        *changed.last_mut().unwrap() ^= 1;
        assert!(checker.check(&changed, None).is_err(), "other bytes");
        assert!(checker.check(&page[..page.len() - 1], None).is_err(), "cut off");
    }

    #[test]
    fn a_nonce_must_come_back() {
        let pages = Pages::new(Vec::new());
        let mut checker = Checker::new(HUB, FEED, &pages.jwks()).unwrap();
        let revision = Revision { epoch: 7, number: 1, chain: Chain::default() };
        let page = |nonce: &str| pages.whole_state(&[entry()], revision, Some(nonce.to_owned()));
        checker.check(&page("one"), Some("one")).unwrap();
        checker.check(&page("two"), Some("two")).unwrap();
        assert_eq!((checker.verified, checker.compared), (1, 1));
        assert!(checker.check(&page("two"), Some("three")).is_err());
        assert!(checker.check(&page("two"), None).is_err(), "nobody asked for this nonce");
    }
}
