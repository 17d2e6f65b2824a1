//! The room of a bucket: how many entries of which class it takes, of whom, and what is in doubt once a class is full.
//!
//! Each class of entries has room of its own that no other class can take: what ends a grant always finds its room,
//! whatever is said about devices, risks, claims and the beginning of sessions, and words about devices take nothing
//! from users. Of each room one transmitter may take three quarters.
//!
//! What finds no room leaves a mark, which says which class of which issuers is in doubt and until when: of those that
//! the transmitter spoke about where its share is full, of all that stand in the class where its room is. Which entries
//! are lost depends on the order in which they come; the marks do not, so the same grants are refused in any order.
//!
//! Everything here is arithmetic over one bucket. All proxies have the same buckets, and so has whoever feeds them.

use crate::state::fact::Fact;
use crate::state::key::{IssuerTag, Kind, StateKey};
use crate::time::Timestamp;

/// A bucket keeps this many marks apart. With more of them a mark stands for every issuer.
pub const MAX_MARKS: usize = 32;

/// Changes of one class may have this many bytes of data together for each entry that its room takes.
const DATA_PER_ENTRY: usize = 64;

/// And never less than this: two changes of the largest size.
const LEAST_DATA: usize = 8 * 1024;

/// What an entry says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Matter {
    /// The grant is over, or less than it was.
    End,
    /// A claim or an assurance is another.
    Claim,
    /// How a device stands.
    Device,
    /// How risky a principal is.
    Risk,
    /// When a session began.
    Beginning,
}

/// About what it says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// A token.
    Token,
    /// A task or a session.
    Work,
    /// A user, by whatever name.
    User,
    /// A client.
    Client,
    /// An acting party.
    Actor,
    /// A device.
    Device,
    /// A tenant, or a group of users.
    Tenant,
}

/// Entries that share one room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Class {
    /// What they say.
    pub topic: Matter,
    /// About what.
    pub group: Group,
}

/// How much of a room is taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// Entries.
    pub entries: usize,
    /// Bytes of data that they carry.
    pub data: usize,
}

/// What is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overflow {
    /// The share of the transmitter.
    Share,
    /// The room of the class.
    Room,
}

/// An entry found no room: nothing is certain about the grants that it may have been about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// What is in doubt.
    pub class: Class,
    /// Whose grants are.
    pub issuer: IssuerTag,
    /// Until when the entry would have stood.
    pub until: Timestamp,
}

impl Matter {
    const ALL: [Matter; 5] = [Matter::End, Matter::Claim, Matter::Device, Matter::Risk, Matter::Beginning];

    fn of(fact: Fact) -> Matter {
        match fact {
            Fact::Revoked | Fact::Completed | Fact::CutOff | Fact::Narrowed => Matter::End,
            Fact::Claim(_) | Fact::Assurance(_) => Matter::Claim,
            Fact::Device(_) => Matter::Device,
            Fact::Risk(_) => Matter::Risk,
            Fact::Began => Matter::Beginning,
        }
    }

    fn number(self) -> u8 {
        match self {
            Matter::End => 1,
            Matter::Claim => 2,
            Matter::Device => 3,
            Matter::Risk => 4,
            Matter::Beginning => 5,
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
            Kind::Client => Group::Client,
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
    /// The class of what says `fact` under `key`.
    pub fn of(fact: Fact, key: &StateKey) -> Class {
        Class { topic: Matter::of(fact), group: Group::of(key.kind()) }
    }

    /// How many entries of it a bucket takes.
    pub fn capacity(self) -> usize {
        match (self.topic, self.group) {
            (Matter::End, Group::Work) => 1024,
            (Matter::End, Group::Token) => 512,
            (Matter::End, Group::User) | (Matter::Beginning, Group::Work) => 256,
            (Matter::Device, Group::Device) => 512,
            (Matter::Risk, Group::User) => 128,
            (Matter::End, Group::Client | Group::Actor | Group::Device | Group::Tenant)
            | (Matter::Claim, Group::Token | Group::Work | Group::User)
            | (Matter::Risk, Group::Work | Group::Device) => 64,
            _ => 16,
        }
    }

    /// What is full for an entry of it, where `own` of its transmitter and `all` of everybody would stand with it.
    pub fn overflow(self, own: Load, all: Load) -> Option<Overflow> {
        let (capacity, data) = (self.capacity(), self.data());
        let exceeds = |load: Load, entries, data| load.entries > entries || load.data > data;
        // The share first: whoever exceeds it is not a burden to the others.
        if exceeds(own, share(capacity), share(data)) {
            Some(Overflow::Share)
        } else {
            exceeds(all, capacity, data).then_some(Overflow::Room)
        }
    }

    /// How many bytes of data its entries may have together.
    fn data(self) -> usize {
        self.capacity().saturating_mul(DATA_PER_ENTRY).max(LEAST_DATA)
    }

    /// The stored form.
    pub fn encode(self) -> u8 {
        self.topic.number() << 4 | self.group.number()
    }

    /// Reads the stored form.
    pub fn decode(byte: u8) -> Option<Class> {
        let topic = Matter::ALL.into_iter().find(|topic| topic.number() == byte >> 4)?;
        let group = Group::ALL.into_iter().find(|group| group.number() == byte & 0xf)?;
        Some(Class { topic, group })
    }
}

impl Mark {
    /// Whether it leaves something in doubt about whoever has `key`.
    pub fn doubts(&self, key: &StateKey) -> bool {
        self.class.group == Group::of(key.kind()) && self.issuer.includes(key.issuer())
    }
}

/// What one transmitter may take of a room: one flood leaves the others a quarter.
const fn share(room: usize) -> usize {
    room.saturating_mul(3).div_ceil(4)
}

/// Adds `mark` to `marks`. One of the same class and issuer lasts for the longer of both.
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
        Matter::ALL.into_iter().flat_map(|topic| Group::ALL.map(|group| Class { topic, group }))
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
            let of = |class: &Class| (class.topic == Matter::End) == end && Class::is_said(*class);
            classes().filter(of).map(Class::capacity).sum()
        };
        assert_eq!((room(true), room(false)), (2048, 1344));
    }

    impl Class {
        /// A word about a device stands under the device, and the beginning of a session under the session.
        fn is_said(self) -> bool {
            match self.topic {
                Matter::Device => self.group == Group::Device,
                Matter::Beginning => self.group == Group::Work,
                _ => true,
            }
        }
    }

    #[test]
    fn a_mark_doubts_what_it_names() {
        let key = |kind, issuer| StateKey::new(kind, issuer, "x");
        let class = Class::of(Fact::Device(Compliance::Compliant), &key(Kind::Device, "a"));
        let mark = Mark { class, issuer: key(Kind::Device, "a").issuer(), until: Timestamp(9) };
        assert!(mark.doubts(&key(Kind::Device, "a")));
        assert!(!mark.doubts(&key(Kind::User, "a")) && !mark.doubts(&key(Kind::Device, "b")));
        assert!(Mark { issuer: IssuerTag::ANY, ..mark }.doubts(&key(Kind::Device, "b")));
    }

    #[test]
    fn marks_are_few() {
        let mut marks = Vec::new();
        let class = Class { topic: Matter::End, group: Group::User };
        for n in 0..1_000 {
            let issuer = StateKey::new(Kind::User, &n.to_string(), "x").issuer();
            mark(&mut marks, Mark { class, issuer, until: Timestamp(n) });
            assert!(marks.len() <= MAX_MARKS && marks.iter().any(|mark| mark.issuer.includes(issuer)));
        }
    }
}
