//! The capacity of a bucket: how many entries of each class it holds, how many of one transmitter, and what becomes
//! uncertain when a class is full.
//!
//! Each class of entries has its own capacity that no other class can use. So a revocation always finds room, however
//! many entries about devices, risks, claims and session starts there are, and entries about devices take no room from
//! entries about users. One transmitter may use three quarters of each capacity.
//!
//! An entry that does not fit leaves a mark. The mark says which class of entries of which issuers is uncertain, and
//! until when: if the transmitter's share is full, the issuers that this transmitter sent entries about; if the class
//! is full, the issuers of all entries in the class. Which entries are lost depends on the order in which they come;
//! the marks do not, so the same grants are refused in any order.
//!
//! The functions here depend only on the contents of one bucket. All proxies have the same buckets, and whoever feeds
//! the proxies can compute the same result.

use crate::state::fact::Fact;
use crate::state::key::{IssuerTag, Kind, StateKey};
use crate::time::Timestamp;

/// A bucket holds this many marks. If there are more, one mark covers every issuer.
pub const MAX_MARKS: usize = 32;

/// The data of the entries of one class may have this many bytes for each entry of its capacity.
const DATA_PER_ENTRY: usize = 64;

/// The minimum for the data of one class: two changes of the largest size.
const LEAST_DATA: usize = 8 * 1024;

/// The topic of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topic {
    /// The grant is revoked, completed or narrowed.
    End,
    /// A claim or an assurance level has changed.
    Claim,
    /// The compliance of a device.
    Device,
    /// The risk level of a principal.
    Risk,
    /// The beginning of a session.
    Beginning,
}

/// The kind of thing that an entry is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// A token.
    Token,
    /// A task or a session.
    Work,
    /// A user, by any kind of identifier.
    User,
    /// A client, or all clients of an issuer.
    Client,
    /// An acting party.
    Actor,
    /// A device.
    Device,
    /// A tenant, or a group of users.
    Tenant,
}

/// A class of entries that share one capacity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Class {
    /// The topic.
    pub topic: Topic,
    /// The kind of thing that they are about.
    pub group: Group,
}

/// How much of a capacity is used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// The number of entries.
    pub entries: usize,
    /// The bytes of data of these entries.
    pub data: usize,
}

/// Which limit is exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overflow {
    /// The share of the transmitter.
    Share,
    /// The room of the class.
    Room,
}

/// The record that an entry did not fit: grants that it may have been about are uncertain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The class of the entry.
    pub class: Class,
    /// The issuer of the tokens that are affected.
    pub issuer: IssuerTag,
    /// When the entry would have ended.
    pub until: Timestamp,
}

impl Topic {
    const ALL: [Topic; 5] = [Topic::End, Topic::Claim, Topic::Device, Topic::Risk, Topic::Beginning];

    fn of(fact: Fact) -> Topic {
        match fact {
            Fact::Revoked | Fact::Completed | Fact::CutOff | Fact::Narrowed | Fact::Blocked => Topic::End,
            Fact::Claim(_) | Fact::Assurance(_) => Topic::Claim,
            Fact::Device(_) => Topic::Device,
            Fact::Risk(_) => Topic::Risk,
            Fact::Began => Topic::Beginning,
        }
    }

    fn number(self) -> u8 {
        match self {
            Topic::End => 1,
            Topic::Claim => 2,
            Topic::Device => 3,
            Topic::Risk => 4,
            Topic::Beginning => 5,
        }
    }
}

impl Group {
    const ALL: [Group; 7] =
        [Group::Token, Group::Work, Group::User, Group::Client, Group::Actor, Group::Device, Group::Tenant];

    fn of(kind: Kind) -> Group {
        match kind {
            Kind::Token => Group::Token,
            Kind::Task | Kind::Session => Group::Work,
            Kind::User | Kind::Email | Kind::Phone | Kind::Account | Kind::Did | Kind::Uri | Kind::ForeignUser => {
                Group::User
            }
            Kind::Client | Kind::Issuer => Group::Client,
            Kind::Actor => Group::Actor,
            Kind::Device => Group::Device,
            Kind::Tenant | Kind::Group => Group::Tenant,
        }
    }

    fn number(self) -> u8 {
        match self {
            Group::Token => 1,
            Group::Work => 2,
            Group::User => 3,
            Group::Client => 4,
            Group::Actor => 5,
            Group::Device => 6,
            Group::Tenant => 7,
        }
    }
}

impl Class {
    /// The class of an entry with `fact` under `key`.
    pub fn of(fact: Fact, key: &StateKey) -> Class {
        Class { topic: Topic::of(fact), group: Group::of(key.kind()) }
    }

    /// How many entries of the class a bucket holds.
    pub fn capacity(self) -> usize {
        match (self.topic, self.group) {
            (Topic::End, Group::Work) => 1024,
            (Topic::End, Group::Token) => 512,
            (Topic::End, Group::User) | (Topic::Beginning, Group::Work) => 256,
            (Topic::Device, Group::Device) => 512,
            (Topic::Risk, Group::User) => 128,
            (Topic::End, Group::Client | Group::Actor | Group::Device | Group::Tenant)
            | (Topic::Claim, Group::Token | Group::Work | Group::User)
            | (Topic::Risk, Group::Work | Group::Device) => 64,
            _ => 16,
        }
    }

    /// Which limit a new entry exceeds, where `own` is the load of its transmitter and `all` the load of the class,
    /// both with the new entry; `None` when it fits.
    pub fn overflow(self, own: Load, all: Load) -> Option<Overflow> {
        let (capacity, data) = (self.capacity(), self.data());
        let exceeds = |load: Load, entries, data| load.entries > entries || load.data > data;
        // Check the share first: a transmitter that exceeds its share must not affect the others.
        if exceeds(own, share(capacity), share(data)) {
            Some(Overflow::Share)
        } else {
            exceeds(all, capacity, data).then_some(Overflow::Room)
        }
    }

    /// How many bytes of data the entries of the class may have together in a bucket.
    pub fn data(self) -> usize {
        self.capacity().saturating_mul(DATA_PER_ENTRY).max(LEAST_DATA)
    }

    /// The stored form.
    pub fn encode(self) -> u8 {
        self.topic.number() << 4 | self.group.number()
    }

    /// Reads the stored form.
    pub fn decode(byte: u8) -> Option<Class> {
        let topic = Topic::ALL.into_iter().find(|topic| topic.number() == byte >> 4)?;
        let group = Group::ALL.into_iter().find(|group| group.number() == byte & 0xf)?;
        Some(Class { topic, group })
    }
}

impl Mark {
    /// Whether the mark applies to grants that have `key`.
    pub fn applies_to(&self, key: &StateKey) -> bool {
        self.class.group == Group::of(key.kind()) && self.issuer.includes(key.issuer())
    }
}

/// How much of a capacity one transmitter may use: a flood leaves a quarter to the others.
const fn share(room: usize) -> usize {
    room.saturating_mul(3).div_ceil(4)
}

/// Adds `mark` to `marks`. Two marks of the same class and issuer become one that ends when the later of the two ends.
pub fn mark(marks: &mut Vec<Mark>, mark: Mark) {
    add(marks, mark);
    if marks.len() > MAX_MARKS {
        for mut mark in std::mem::take(marks) {
            mark.issuer = IssuerTag::ANY;
            add(marks, mark);
        }
    }
}

fn add(marks: &mut Vec<Mark>, new: Mark) {
    let known = marks.iter_mut().find(|mark| (mark.class, mark.issuer) == (new.class, new.issuer));
    match known {
        Some(known) => known.until = known.until.max(new.until),
        None => marks.push(new),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::fact::Compliance;

    fn classes() -> impl Iterator<Item = Class> {
        Topic::ALL.into_iter().flat_map(|topic| Group::ALL.map(|group| Class { topic, group }))
    }

    #[test]
    fn classes_survive_their_stored_form() {
        for class in classes() {
            assert_eq!(Class::decode(class.encode()), Some(class));
        }
        assert_eq!((Class::decode(0), Class::decode(0xff)), (None, None));
    }

    #[test]
    fn every_class_takes_some_and_leaves_some_to_another_transmitter() {
        for class in classes() {
            let own = Load { entries: share(class.capacity()), data: share(class.data()) };
            let more = Load { entries: own.entries + 1, ..own };
            let full = Load { entries: class.capacity() + 1, ..own };
            assert_eq!((class.overflow(own, own), class.overflow(own, more)), (None, None), "{class:?}");
            assert_eq!(class.overflow(more, full), Some(Overflow::Share), "{class:?}");
            assert_eq!(class.overflow(own, full), Some(Overflow::Room), "{class:?}");
            assert!(own.data >= crate::state::payload::MAX_DATA, "the largest change fits: {class:?}");
        }
    }

    /// The number that the documentation has.
    #[test]
    fn what_ends_has_room_for_eight_million() {
        let room = |end: bool| -> usize {
            let of = |class: &Class| (class.topic == Topic::End) == end && Class::is_said(*class);
            classes().filter(of).map(Class::capacity).sum()
        };
        assert_eq!((room(true), room(false)), (2048, 1344));
    }

    impl Class {
        /// A word about a device stands under the device, and the beginning of a session under the session.
        fn is_said(self) -> bool {
            match self.topic {
                Topic::Device => self.group == Group::Device,
                Topic::Beginning => self.group == Group::Work,
                _ => true,
            }
        }
    }

    #[test]
    fn a_mark_doubts_what_it_names() {
        let key = |kind, issuer| StateKey::new(kind, issuer, "x");
        let class = Class::of(Fact::Device(Compliance::Compliant), &key(Kind::Device, "a"));
        let mark = Mark { class, issuer: key(Kind::Device, "a").issuer(), until: Timestamp(9) };
        assert!(mark.applies_to(&key(Kind::Device, "a")));
        assert!(!mark.applies_to(&key(Kind::User, "a")) && !mark.applies_to(&key(Kind::Device, "b")));
        assert!(Mark { issuer: IssuerTag::ANY, ..mark }.applies_to(&key(Kind::Device, "b")));
    }

    #[test]
    fn marks_are_few() {
        let mut marks = Vec::new();
        let class = Class { topic: Topic::End, group: Group::User };
        for n in 0..1_000 {
            let issuer = StateKey::new(Kind::User, &n.to_string(), "x").issuer();
            mark(&mut marks, Mark { class, issuer, until: Timestamp(n) });
            assert!(marks.len() <= MAX_MARKS && marks.iter().any(|mark| mark.issuer.includes(issuer)));
        }
    }
}
