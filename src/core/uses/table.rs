//! What one VM has counted for one feed and has not cut into a batch yet.
//!
//! A request with a known token finds its grant by the slot that its session remembers, and its use by a comparison with the
//! use before it, or by a hash of its captures: nothing is allocated, and no string of the grant is read. Everything has a
//! bound, so that no client can make a worker grow: what does not fit is counted in one number, as `other`.

use crate::decision::session::{CountSlot, Session};
use crate::index::RuleIndex;
use crate::policy::evidence::Masks;
use crate::uses::batch::{RuleRef, SeenKind};
use crate::uses::grant_info;
use crate::uses::json_text::json_length;
use crate::uses::row::{GrantRow, Refused, Use};
use hashbrown::HashMap;
use std::collections::VecDeque;

/// So many grants at once. A worker that sees more in one period is rare, and their memory is bounded by [`MAX_BYTES`].
const MAX_GRANTS: usize = 4096;

/// What all grants and their uses may take together, in bytes as JSON: eight batches, of which the hub takes one at a time.
const MAX_BYTES: usize = 2 * 1024 * 1024;

/// So many rules, of all configurations of the VM, and so many bytes for their names: a quarter of a batch, since each batch
/// names all of them.
const MAX_RULES: usize = 1024;
const MAX_RULE_BYTES: usize = 64 * 1024;

/// So many single records wait, of so many bytes together, and none has more than the last number.
const MAX_RECORDS: usize = 512;
const MAX_RECORD_BYTES: usize = 128 * 1024;
const MAX_RECORD: usize = 16 * 1024;

/// So often a grant is looked at from where it is used, in each generation, before it is only for some of its uses.
const FIRST_LOOKS: u64 = 4;

/// Later one use of so many is looked at, by chance.
const LOOK_ONE_OF: u64 = 16;

/// Of a grant that was used more often than this in one generation, one of fewer: some hundred looks a second say no more than
/// some ten, and each is a call to the proxy.
const MANY: u64 = 256;
const LOOK_ONE_OF_MANY: u64 = 64;

/// The place of a grant that found no room.
const NO_ROOM: u32 = u32::MAX;

/// What one VM has counted for one feed. All times are in milliseconds since 1970.
#[derive(Debug)]
pub struct Table {
    /// Changes with each cut, which moves grants. Never 0.
    pub(crate) generation: u32,
    pub(crate) grants: Vec<GrantRow>,
    /// Places in `grants` by their identities. Issuers choose the names of tokens, so no client can make them collide.
    places: HashMap<Box<str>, usize>,
    pub(crate) rules: Vec<RuleRef>,
    rule_bytes: usize,
    pub(crate) bytes: usize,
    pub(crate) records: VecDeque<Box<str>>,
    pub(crate) record_bytes: usize,
    pub(crate) records_dropped: u64,
    pub(crate) other_permitted: u64,
    pub(crate) other_refused: u64,
    /// When the first use that is not in a row, or a record, was counted.
    pub(crate) loose_since: Option<u64>,
    random: u64,
    totals: Totals,
}

/// What a table has counted since its VM started.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Totals {
    /// Uses, permitted and refused, those of `other` included.
    pub counted: u64,
    /// Of these, those that are only in a number of their grant or batch.
    pub other: u64,
    /// Single records that found no room.
    pub records_dropped: u64,
}

/// Which rules of one configuration have which places in a [`Table`]. One for each configured plugin.
#[derive(Debug, Default)]
pub struct RulePlaces {
    known: Vec<CountSlot>,
}

impl RulePlaces {
    /// Knows no place of `rules` rules yet.
    pub fn new(rules: usize) -> RulePlaces {
        RulePlaces { known: vec![CountSlot::default(); rules] }
    }
}

/// When something is counted, and what must not be told of it.
#[derive(Debug, Clone, Copy)]
pub struct Moment<'m> {
    /// The masks of the configuration that decided.
    pub masks: &'m Masks,
    /// The time.
    pub now: u64,
}

impl Table {
    /// An empty table. `seed` is random.
    pub fn new(seed: u64) -> Table {
        Table {
            generation: 1,
            grants: Vec::new(),
            places: HashMap::new(),
            rules: Vec::new(),
            rule_bytes: 0,
            bytes: 0,
            records: VecDeque::new(),
            record_bytes: 0,
            records_dropped: 0,
            other_permitted: 0,
            other_refused: 0,
            loose_since: None,
            random: seed | 1,
            totals: Totals::default(),
        }
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.grants.is_empty() && self.loose_since.is_none()
    }

    /// When the oldest use was counted that is still here.
    pub fn since(&self) -> Option<u64> {
        self.grants.iter().map(|grant| grant.since).chain(self.loose_since).min()
    }

    /// What was counted since the start.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// The place of the rule at `at` of a configuration, whose hash and name `name` gives when it is needed. `None`: there is
    /// no room for it.
    pub fn rule(
        &mut self,
        places: &mut RulePlaces,
        at: RuleIndex,
        name: impl FnOnce() -> Option<RuleRef>,
    ) -> Option<u32> {
        let slot = places.known.get_mut(at.position())?;
        if slot.generation != self.generation {
            *slot = CountSlot { generation: self.generation, place: self.add_rule(name()?) };
        }
        (slot.place != NO_ROOM).then_some(slot.place)
    }

    /// Counts a permitted request. `rule` is `None` where the rule has no room. `true`: say by [`Table::seen`] who made it.
    pub fn permitted<'c>(
        &mut self,
        session: &Session,
        rule: Option<u32>,
        method: &[u8],
        captures: impl Iterator<Item = &'c [u8]> + Clone,
        break_glass: bool,
        Moment { masks, now }: Moment<'_>,
    ) -> bool {
        self.totals.counted = self.totals.counted.saturating_add(1);
        let place = self.place(session, masks, now);
        let Some(grant) = place.and_then(|place| self.grants.get_mut(place)) else {
            self.totals.other = self.totals.other.saturating_add(1);
            self.other_permitted = self.other_permitted.saturating_add(1);
            self.loose(now);
            return false;
        };
        let one = Use { method, captures, masks };
        let room = MAX_BYTES.saturating_sub(self.bytes);
        match rule.and_then(|rule| grant.permitted(rule, &one, room, now)) {
            Some((row, added)) => {
                row.count = row.count.saturating_add(1);
                row.break_glass = row.break_glass.saturating_add(u64::from(break_glass));
                row.last = row.last.max(now);
                self.bytes = self.bytes.saturating_add(added);
            }
            None => {
                grant.other = grant.other.saturating_add(1);
                self.totals.other = self.totals.other.saturating_add(1);
            }
        }
        grant.requests = grant.requests.saturating_add(1);
        let one_of = if grant.requests <= MANY { LOOK_ONE_OF } else { LOOK_ONE_OF_MANY };
        grant.requests <= FIRST_LOOKS || draw(&mut self.random).is_multiple_of(one_of)
    }

    /// Counts a request that was refused, or a stream that was ended, with a verified grant.
    pub fn refused(&mut self, session: &Session, refused: Refused, Moment { masks, now }: Moment<'_>) {
        self.totals.counted = self.totals.counted.saturating_add(1);
        let place = self.place(session, masks, now);
        let Some(grant) = place.and_then(|place| self.grants.get_mut(place)) else { return self.refuse_other(now) };
        let room = MAX_BYTES.saturating_sub(self.bytes);
        match grant.refused(refused, room, now) {
            Some(added) => self.bytes = self.bytes.saturating_add(added),
            None => self.refuse_other(now),
        }
    }

    /// Notes from where the grant of `session` was used, if it has a place.
    pub fn seen(&mut self, session: &Session, kind: SeenKind, value: &str, Moment { masks, now }: Moment<'_>) {
        let slot = session.count_slot();
        let place = usize::try_from(slot.place).ok().filter(|_| slot.generation == self.generation);
        if let Some(grant) = place.and_then(|place| self.grants.get_mut(place)) {
            let room = MAX_BYTES.saturating_sub(self.bytes);
            if let Some(value) = masks.apply(kind.as_str(), value) {
                self.bytes = self.bytes.saturating_add(grant.seen(kind, &value, room, now));
            }
        }
    }

    /// Keeps a single record, which is JSON, or counts it as dropped. `is_of_refusal`: any holder of a token can cause it
    /// as often as he likes, so these leave half of the room to the others.
    pub fn record(&mut self, record: &str, is_of_refusal: bool, now: u64) {
        self.loose(now);
        let (most, most_bytes) = match is_of_refusal {
            true => (MAX_RECORDS / 2, MAX_RECORD_BYTES / 2),
            false => (MAX_RECORDS, MAX_RECORD_BYTES),
        };
        let bytes = self.record_bytes.saturating_add(record.len());
        if record.len() > MAX_RECORD || bytes > most_bytes || self.records.len() >= most {
            self.records_dropped = self.records_dropped.saturating_add(1);
            self.totals.records_dropped = self.totals.records_dropped.saturating_add(1);
            return;
        }
        self.record_bytes = bytes;
        self.records.push_back(record.into());
    }

    /// How many uses, permitted and refused, are in no batch.
    pub fn unsent(&self) -> u64 {
        let grants = self.grants.iter().map(GrantRow::sum).fold(0, u64::saturating_add);
        grants.saturating_add(self.other_permitted).saturating_add(self.other_refused)
    }

    /// Begins a new generation with what is left of the grants. Rules are named anew where nothing is left.
    pub(crate) fn renew(&mut self) {
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        self.places.clear();
        self.bytes = self.grants.iter().map(|grant| grant.bytes).fold(0, usize::saturating_add);
        for (place, grant) in self.grants.iter().enumerate() {
            self.places.entry(grant.identity.clone()).or_insert(place);
        }
        if self.grants.is_empty() {
            (self.grants, self.places) = (Vec::new(), HashMap::new());
            (self.rules, self.rule_bytes) = (Vec::new(), 0);
        }
    }

    /// The place of the grant of `session`; it gets one if there is room.
    fn place(&mut self, session: &Session, masks: &Masks, now: u64) -> Option<usize> {
        let slot = session.count_slot();
        let place = match slot.generation == self.generation {
            true => slot.place,
            false => self.find_or_add(session, masks, now),
        };
        usize::try_from(place).ok().filter(|_| place != NO_ROOM)
    }

    #[inline(never)]
    fn find_or_add(&mut self, session: &Session, masks: &Masks, now: u64) -> u32 {
        let grant = session.verified().grant();
        let mut identity = String::with_capacity(64);
        identity.push_str(&grant.issuer);
        identity.push('\0');
        identity.push_str(&grant.token_id.state_name());
        // Plugins with other masks share this table, and so do their replaced configurations.
        masks.identify(&mut identity);
        let place = match self.places.get(identity.as_str()) {
            Some(place) => Some(*place),
            None => self.add(session, masks, identity.into(), now),
        };
        let place = place.and_then(|place| u32::try_from(place).ok()).unwrap_or(NO_ROOM);
        session.count_at(CountSlot { generation: self.generation, place });
        place
    }

    fn add(&mut self, session: &Session, masks: &Masks, identity: Box<str>, now: u64) -> Option<usize> {
        if self.grants.len() >= MAX_GRANTS || self.bytes >= MAX_BYTES {
            return None;
        }
        let place = self.grants.len();
        let row = GrantRow::new(identity.clone(), grant_info::text(session, masks), now);
        self.bytes = self.bytes.saturating_add(row.bytes);
        self.grants.push(row);
        self.places.entry(identity).or_insert(place);
        Some(place)
    }

    fn add_rule(&mut self, rule: RuleRef) -> u32 {
        let known = self.rules.iter().position(|known| *known == rule);
        if let Some(place) = known {
            return u32::try_from(place).unwrap_or(NO_ROOM);
        }
        let bytes = rule.config.len().saturating_add(json_length(&rule.name)).saturating_add(24);
        let bytes = self.rule_bytes.saturating_add(bytes);
        if self.rules.len() >= MAX_RULES || bytes > MAX_RULE_BYTES {
            return NO_ROOM;
        }
        let place = u32::try_from(self.rules.len()).unwrap_or(NO_ROOM);
        self.rule_bytes = bytes;
        self.rules.push(rule);
        place
    }

    fn refuse_other(&mut self, now: u64) {
        self.totals.other = self.totals.other.saturating_add(1);
        self.other_refused = self.other_refused.saturating_add(1);
        self.loose(now);
    }

    fn loose(&mut self, now: u64) {
        self.loose_since = self.loose_since.or(Some(now));
    }
}

/// The next of a row of numbers (xorshift64*, Vigna 2016): which uses are looked at needs to be no secret.
fn draw(state: &mut u64) -> u64 {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32
}
