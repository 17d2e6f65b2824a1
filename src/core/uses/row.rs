//! What is counted about one grant.

use crate::http::path::Decoded;
use crate::policy::evidence::{Mask, Masks};
use crate::reason::Reason;
use crate::uses::batch::SeenKind;

/// So many different uses of one grant. With [`MAX_USE`] and the other bounds here a grant fits into half a batch.
const MAX_USES: usize = 128;

/// A use takes at most so many bytes: the method and all captures.
const MAX_USE: usize = 300;

/// A method that is longer is no use of its own.
const MAX_METHOD: usize = 32;

/// A use with a capture that is longer, percent-encoded, is no use of its own.
const MAX_CAPTURE: usize = 128;

/// So many different refusals of one grant.
const MAX_REFUSALS: usize = 32;

/// So many different peers, sources and keys of one grant, of each kind.
const MAX_SEEN: usize = 8;

/// A peer that is longer is not noted.
const MAX_SEEN_BYTES: usize = 512;

/// What the JSON of one use, refusal or origin takes beyond its texts, at the longest.
const OVERHEAD: usize = 128;

/// A refusal to count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// The place of the rule, by [`crate::uses::table::Table::rule`]; `None` without a rule.
    pub rule: Option<u32>,
    /// Why.
    pub reason: Reason,
    /// Whether it passed all the same, by shadow mode.
    pub shadow: bool,
    /// Whether a live stream was ended.
    pub ended: bool,
}

/// One grant.
#[derive(Debug)]
pub(crate) struct GrantRow {
    /// The issuer, the name of the token, and the masks, each after a zero byte.
    pub(crate) identity: Box<str>,
    /// [`crate::uses::batch::GrantInfo`] as JSON.
    pub(crate) info: Box<str>,
    /// When its first use was counted.
    pub(crate) since: u64,
    /// What it may take in a batch.
    pub(crate) bytes: usize,
    pub(crate) uses: Vec<UseRow>,
    /// For each of `uses`, [`Use::hash`].
    hashes: Vec<u32>,
    /// The place in `uses` of the last one.
    latest: usize,
    pub(crate) other: u64,
    pub(crate) refused: Vec<RefusedRow>,
    pub(crate) seen: Vec<SeenRow>,
    /// Permitted requests.
    pub(crate) requests: u64,
}

/// Permitted requests by one rule, with one method and the same captures.
#[derive(Debug)]
pub(crate) struct UseRow {
    pub(crate) rule: u32,
    /// The method, and before each capture a zero byte. Percent-encoded.
    pub(crate) key: Box<[u8]>,
    /// The captures as they are told, decoded.
    pub(crate) captures: Vec<String>,
    pub(crate) count: u64,
    pub(crate) break_glass: u64,
    pub(crate) first: u64,
    pub(crate) last: u64,
}

/// Refusals by one rule for one reason.
#[derive(Debug)]
pub(crate) struct RefusedRow {
    pub(crate) what: Refused,
    pub(crate) count: u64,
    pub(crate) first: u64,
    pub(crate) last: u64,
}

/// From where the grant was used.
#[derive(Debug)]
pub(crate) struct SeenRow {
    pub(crate) kind: SeenKind,
    pub(crate) value: Box<str>,
    pub(crate) count: u64,
    pub(crate) first: u64,
    pub(crate) last: u64,
}

/// A permitted request, as far as it makes a use of its own.
#[derive(Debug, Clone)]
pub(crate) struct Use<'m, I> {
    pub(crate) method: &'m [u8],
    pub(crate) captures: I,
    pub(crate) masks: &'m Masks,
}

impl<'c, I: Iterator<Item = &'c [u8]> + Clone> Use<'_, I> {
    /// Whether this is its key.
    fn has_key(&self, key: &[u8]) -> bool {
        let Some(mut rest) = key.strip_prefix(self.method) else { return false };
        for capture in self.captures.clone() {
            let Some(more) = rest.split_first().and_then(|(_, rest)| rest.strip_prefix(capture)) else { return false };
            rest = more;
        }
        rest.is_empty()
    }

    /// Its key; `None` if it is too long.
    fn key(&self) -> Option<Box<[u8]>> {
        let mut key = self.method.to_vec();
        for capture in self.captures.clone() {
            if capture.len() > MAX_CAPTURE {
                return None;
            }
            key.push(0);
            key.extend_from_slice(capture);
        }
        (self.method.len() <= MAX_METHOD && key.len() <= MAX_USE).then(|| key.into_boxed_slice())
    }

    /// The captures as they are told.
    fn told(&self) -> Vec<String> {
        // A canonical path decodes to UTF-8.
        let decoded = |piece: &[u8]| {
            let text = std::str::from_utf8(piece).unwrap_or_default();
            String::from_utf8(Decoded::new(text).collect()).unwrap_or_default()
        };
        let captures = self.captures.clone().map(decoded);
        match self.masks.of("captures") {
            None => captures.collect(),
            Some(Mask::Hash) => captures.map(|capture| self.masks.hash(&capture)).collect(),
            Some(Mask::Remove) => Vec::new(),
        }
    }

    /// A number by which most other uses are told apart without a comparison (FNV-1a).
    fn hash(&self, rule: u32) -> u32 {
        const PRIME: u32 = 0x0100_0193;
        let step = |hash: u32, byte: &u8| (hash ^ u32::from(*byte)).wrapping_mul(PRIME);
        let begin = self.method.iter().fold(0x811c_9dc5 ^ rule, step);
        self.captures.clone().fold(begin, |hash, capture| capture.iter().fold(step(hash, &0), step))
    }
}

impl GrantRow {
    /// A grant without uses.
    pub(crate) fn new(identity: Box<str>, info: String, since: u64) -> GrantRow {
        let bytes = info.len().saturating_add(OVERHEAD);
        GrantRow {
            identity,
            info: info.into(),
            since,
            bytes,
            uses: Vec::new(),
            hashes: Vec::new(),
            latest: 0,
            other: 0,
            refused: Vec::new(),
            seen: Vec::new(),
            requests: 0,
        }
    }

    /// How many requests it stands for.
    pub(crate) fn sum(&self) -> u64 {
        let counts = self.uses.iter().map(|row| row.count).chain(self.refused.iter().map(|row| row.count));
        counts.fold(self.other, u64::saturating_add)
    }

    /// The row of that use by `rule`, and how many bytes were added for it. `None`: there is no room.
    pub(crate) fn permitted<'c>(
        &mut self,
        rule: u32,
        one: &Use<'_, impl Iterator<Item = &'c [u8]> + Clone>,
        room: usize,
        now: u64,
    ) -> Option<(&mut UseRow, usize)> {
        let is_it = |row: &UseRow| row.rule == rule && one.has_key(&row.key);
        if self.uses.get(self.latest).is_some_and(is_it) {
            return Some((self.uses.get_mut(self.latest)?, 0));
        }
        let hash = one.hash(rule);
        let mut rows = self.hashes.iter().zip(&self.uses);
        let mut added = 0;
        self.latest = match rows.position(|(known, row)| *known == hash && is_it(row)) {
            Some(at) => at,
            None => {
                let key = one.key()?;
                let captures = one.told();
                let told = captures.iter().map(String::len).fold(0, usize::saturating_add);
                added = one.method.len().saturating_add(told).saturating_add(OVERHEAD);
                if self.uses.len() >= MAX_USES || added > room {
                    return None;
                }
                self.hashes.push(hash);
                self.uses.push(UseRow { rule, key, captures, count: 0, break_glass: 0, first: now, last: now });
                self.bytes = self.bytes.saturating_add(added);
                self.uses.len().saturating_sub(1)
            }
        };
        Some((self.uses.get_mut(self.latest)?, added))
    }

    /// Counts a refusal; how many bytes were added. `None`: there is no room.
    pub(crate) fn refused(&mut self, refused: Refused, room: usize, now: u64) -> Option<usize> {
        if let Some(row) = self.refused.iter_mut().find(|row| row.what == refused) {
            (row.count, row.last) = (row.count.saturating_add(1), row.last.max(now));
            return Some(0);
        }
        if self.refused.len() >= MAX_REFUSALS || OVERHEAD > room {
            return None;
        }
        self.refused.push(RefusedRow { what: refused, count: 1, first: now, last: now });
        self.bytes = self.bytes.saturating_add(OVERHEAD);
        Some(OVERHEAD)
    }

    /// Notes from where it was used; how many bytes were added.
    pub(crate) fn seen(&mut self, kind: SeenKind, value: &str, room: usize, now: u64) -> usize {
        if let Some(row) = self.seen.iter_mut().find(|row| row.kind == kind && *row.value == *value) {
            (row.count, row.last) = (row.count.saturating_add(1), row.last.max(now));
            return 0;
        }
        let bytes = value.len().saturating_add(OVERHEAD);
        let of_kind = self.seen.iter().filter(|row| row.kind == kind).count();
        if of_kind >= MAX_SEEN || value.len() > MAX_SEEN_BYTES || bytes > room {
            return 0;
        }
        self.seen.push(SeenRow { kind, value: value.into(), count: 1, first: now, last: now });
        self.bytes = self.bytes.saturating_add(bytes);
        bytes
    }
}
