//! The relays that take a feed: when each last asked for a page, and when it last said what is behind it.
//!
//! With several replicas a relay may come now to one and then to another: each writes what came to it, and reads the rest.

use hashbrown::HashMap;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use taskfence_core::feed::revision::Revision;

/// A relay that takes pages must have said so long before at the latest what is behind it, in milliseconds.
const REPORT_AGE: u64 = 15_000;

/// For so long after there was no room for a proxy, receipts are not complete, in milliseconds. A relay tells of each proxy
/// once in a minute.
const OVERFLOW: u64 = 120_000;

/// A relay that is silent, and behind which nobody is known, is forgotten after so long, in milliseconds.
const SILENT: u64 = 360_000;

/// What other replicas know of a relay is this much older than what they say at most, in milliseconds.
const LAG: u64 = 10_000;

/// That a relay has asked for a page is told to other replicas this often, in milliseconds.
const TELL_POLLED: u64 = 1_000;

/// What a replica has written about relays is kept for so long, in milliseconds: no follower takes longer to leave.
const KEPT: u64 = 25 * 3_600_000;

/// The relays of one feed, by principal.
#[derive(Debug, Default)]
pub struct Relays {
    /// What came to this replica.
    own: HashMap<Arc<str>, Relay>,
    /// What came to the others.
    others: HashMap<Arc<str>, Relay>,
    /// Whether a relay has said something that the store does not have.
    has_news: bool,
    /// When the store was last told, in milliseconds since 1970.
    written: u64,
}

/// Times are in milliseconds since 1970; 0: never since the hub started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Relay {
    polled: u64,
    reported: u64,
    /// When there was no room for a proxy behind it.
    overflowed: u64,
    /// The run of the relay that said so, and when that was first heard of.
    instance: Box<str>,
    began: u64,
    /// Epoch and number of the head when its last report was answered. It looks who is behind it after that, for the next.
    answered: (u64, u64),
    /// Each proxy that was behind it when this was committed is known.
    covers: (u64, u64),
    /// Whether the store knows that there is this relay.
    #[serde(skip)]
    stored: bool,
}

/// One relay, for receipts. Times are in milliseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RelayMark {
    /// Its principal.
    pub relay: String,
    /// When it last asked for a page.
    pub polled: u64,
    /// When it last said what is behind it; 0: never since the hub started.
    pub reported: u64,
    /// Whether it says what is behind it, for as long as it takes pages, and has looked for that since the change.
    pub reports: bool,
}

/// A report of a relay.
#[derive(Debug, Clone, Copy)]
pub struct Heard<'h> {
    /// The run of the relay.
    pub instance: &'h str,
    /// Whether it was told of each proxy that it knew, and each is noted.
    pub is_whole: bool,
    /// The head before it is answered.
    pub head: Revision,
}

impl Relays {
    /// A relay asks for a page at `now`.
    pub fn polled(&mut self, relay: &Arc<str>, now: u64) {
        self.own.entry(relay.clone()).or_default().polled = now;
    }

    /// A relay has said at `now` what is behind it.
    pub fn reported(&mut self, relay: &str, heard: Heard<'_>, now: u64) {
        let relay = self.of(relay);
        if *relay.instance != *heard.instance {
            (relay.instance, relay.began) = (heard.instance.into(), now);
            (relay.answered, relay.covers) = Default::default();
        }
        if heard.is_whole {
            // It was made after the report before it was answered.
            relay.covers = relay.answered;
        }
        relay.answered = (heard.head.epoch, heard.head.number);
        relay.reported = now;
        self.has_news = true;
    }

    /// A relay has told at `now` of a proxy for which there is no room: receipts lack it.
    pub fn overflowed(&mut self, relay: &str, now: u64) {
        self.of(relay).overflowed = now;
        self.has_news = true;
    }

    /// There is such a relay: a follower of the store is behind it.
    pub fn known(&mut self, relay: &str) {
        self.of(relay);
    }

    fn of(&mut self, relay: &str) -> &mut Relay {
        self.own.entry(Arc::from(relay)).or_default()
    }

    /// When the relay last asked for a page that a follower which it heard of at `seen` may have got. One that it has not
    /// heard of in this run has got none of it.
    pub fn polled_at(&self, relay: &str, seen: u64) -> u64 {
        let late = self.others.get(relay).map_or(0, |other| other.polled.saturating_add(LAG));
        self.merged(relay).map_or(0, |relay| if seen < relay.began { relay.began } else { relay.polled.max(late) })
    }

    /// What all replicas know of a relay.
    fn merged(&self, relay: &str) -> Option<Relay> {
        match (self.own.get(relay), self.others.get(relay)) {
            (Some(own), Some(other)) => Some(own.clone().and(other)),
            (one, other) => one.or(other).cloned(),
        }
    }

    /// All relays, by name, as a receipt for `revision` needs them.
    pub fn marks(&self, revision: Revision) -> Vec<RelayMark> {
        let names: BTreeSet<&Arc<str>> = self.own.keys().chain(self.others.keys()).collect();
        let mark = |name: &Arc<str>| {
            let relay = self.merged(name)?;
            let (epoch, number) = relay.covers;
            let reports = relay.reported > 0
                && relay.polled.saturating_sub(relay.reported) <= REPORT_AGE
                && relay.reported.saturating_sub(relay.overflowed) > OVERFLOW
                && epoch == revision.epoch
                && number >= revision.number;
            Some(RelayMark { relay: name.to_string(), polled: relay.polled, reported: relay.reported, reports })
        };
        names.into_iter().filter_map(mark).collect()
    }

    /// Forgets relays that are silent at `now`, and of which `has_followers` says no.
    pub fn expire(&mut self, now: u64, has_followers: impl Fn(&str) -> bool) {
        let stays = |name: &Arc<str>, relay: &mut Relay| {
            let seen = relay.polled.max(relay.reported);
            now.saturating_sub(seen) < SILENT || has_followers(name)
        };
        self.own.retain(stays);
        self.others.retain(stays);
    }

    /// Whether the store knows the relay.
    pub fn is_stored(&self, relay: &str) -> bool {
        self.own.get(relay).is_none_or(|relay| relay.stored)
    }

    /// What came to this replica, for the others, if that is to be written at `now`: always with `all`.
    pub fn unwritten(&mut self, now: u64, all: bool) -> Option<String> {
        let is_due = self.has_news || now.saturating_sub(self.written) >= TELL_POLLED;
        if self.own.is_empty() || !(is_due || all) {
            return None;
        }
        (self.has_news, self.written) = (false, now);
        let own: BTreeMap<&str, &Relay> = self.own.iter().map(|(name, relay)| (&**name, relay)).collect();
        serde_json::to_string(&own).ok()
    }

    /// `text` was written, or not.
    pub fn written(&mut self, text: &str, is_written: bool) {
        self.has_news |= !is_written;
        let written: BTreeMap<String, Relay> = serde_json::from_str(text).unwrap_or_default();
        for (_, relay) in self.own.iter_mut().filter(|(name, _)| is_written && written.contains_key(&***name)) {
            relay.stored = true;
        }
    }

    /// Takes in what the others have written.
    pub fn mirror<'t>(&mut self, texts: impl Iterator<Item = &'t str>) {
        self.others.clear();
        for (name, relay) in texts.filter_map(read).flatten() {
            let merged = match self.others.remove(&*name) {
                Some(known) => known.and(&relay),
                None => relay,
            };
            self.others.insert(name.into(), merged);
        }
    }
}

/// Whether nobody needs what a replica has written, at `now`.
pub fn is_old(text: &str, now: u64) -> bool {
    let seen = |relay: &Relay| relay.polled.max(relay.reported);
    read(text).is_none_or(|relays| relays.values().all(|relay| now.saturating_sub(seen(relay)) > KEPT))
}

fn read(text: &str) -> Option<BTreeMap<String, Relay>> {
    serde_json::from_str(text).ok()
}

impl Relay {
    /// What two replicas know of one relay. Each has noted for itself what a run of the relay covers.
    fn and(self, other: &Relay) -> Relay {
        let (polled, reported) = (self.polled.max(other.polled), self.reported.max(other.reported));
        let overflowed = self.overflowed.max(other.overflowed);
        let (earlier, later) = if other.reported > self.reported { (&self, other) } else { (other, &self) };
        let covers = match (self.instance == other.instance, later.covers) {
            (true, (0, 0)) => earlier.covers,
            (true, (epoch, _)) if epoch == earlier.covers.0 => self.covers.max(other.covers),
            _ => later.covers,
        };
        let began = if self.instance == other.instance { self.began.min(other.began) } else { later.began };
        let (instance, answered) = (later.instance.clone(), later.answered);
        Relay { polled, reported, overflowed, instance, began, answered, covers, stored: self.stored }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revision(number: u64) -> Revision {
        Revision { epoch: 7, number, ..Revision::START }
    }

    fn reports(relays: &Relays, number: u64) -> Vec<bool> {
        relays.marks(revision(number)).into_iter().map(|mark| mark.reports).collect()
    }

    fn heard(instance: &str, head: u64) -> Heard<'_> {
        Heard { instance, is_whole: true, head: revision(head) }
    }

    #[test]
    fn a_relay_must_report_for_as_long_as_it_takes_pages() {
        let (mut relays, name) = (Relays::default(), Arc::from("one"));
        relays.polled(&name, 1_000_000);
        assert_eq!(reports(&relays, 5), [false], "it has said nothing");
        relays.reported("one", heard("a", 5), 1_000_050);
        relays.reported("one", heard("a", 5), 1_000_100);
        relays.polled(&name, 1_000_100 + REPORT_AGE);
        assert_eq!(reports(&relays, 5), [true]);
        relays.polled(&name, 1_000_101 + REPORT_AGE);
        assert_eq!(reports(&relays, 5), [false]);
        relays.reported("one", heard("a", 5), 1_100_000);
        relays.overflowed("one", 1_100_000);
        assert_eq!(reports(&relays, 5), [false], "it has told of one that is missing here");
        relays.reported("one", heard("a", 5), 1_100_001 + OVERFLOW);
        assert_eq!(reports(&relays, 5), [true]);
    }

    #[test]
    fn a_report_says_who_was_behind_the_relay_when_the_one_before_it_was_answered() {
        let mut relays = Relays::default();
        relays.reported("one", heard("a", 4), 1_000_000);
        relays.reported("one", heard("a", 5), 2_000_000);
        assert_eq!((reports(&relays, 4), reports(&relays, 5)), (vec![true], vec![false]), "a proxy may be on its way");
        relays.reported("one", Heard { is_whole: false, ..heard("a", 6) }, 3_000_000);
        assert_eq!(reports(&relays, 5), [false], "there is more to tell");
        relays.reported("one", heard("a", 6), 4_000_000);
        assert_eq!((reports(&relays, 6), reports(&relays, 7)), (vec![true], vec![false]));
        relays.reported("one", heard("b", 6), 5_000_000);
        assert_eq!(reports(&relays, 4), [false], "another run has said nothing before");
        let other = Revision { epoch: 8, ..revision(1) };
        relays.reported("one", heard("b", 6), 6_000_000);
        assert!(!relays.marks(other).iter().any(|mark| mark.reports), "numbers of another epoch");
    }

    #[test]
    fn what_an_earlier_run_told_of_ends_with_that_run() {
        let (mut relays, name) = (Relays::default(), Arc::from("one"));
        relays.reported("one", heard("a", 5), 1_000);
        relays.polled(&name, 2_000);
        assert_eq!(relays.polled_at("one", 1_500), 2_000);
        relays.reported("one", heard("b", 5), 3_000);
        relays.polled(&name, 9_000);
        assert_eq!((relays.polled_at("one", 1_500), relays.polled_at("one", 3_500)), (3_000, 9_000));
        assert_eq!(relays.polled_at("other", 1), 0);
    }

    #[test]
    fn a_relay_is_forgotten_when_it_is_silent_and_nobody_is_behind_it() {
        let mut relays = Relays::default();
        relays.polled(&Arc::from("one"), 1_000);
        relays.expire(1_000 + SILENT, |_| true);
        relays.expire(999 + SILENT, |_| false);
        assert_eq!(relays.marks(revision(1)).len(), 1);
        relays.expire(1_000 + SILENT, |_| false);
        assert_eq!(relays.marks(revision(1)).len(), 0);
    }

    #[test]
    fn replicas_know_together_what_a_relay_does() {
        let (mut a, mut b, name) = (Relays::default(), Relays::default(), Arc::from("one"));
        let tell = |from: &mut Relays, to: &mut Relays| {
            let text = from.unwritten(0, true).unwrap();
            from.written(&text, true);
            to.mirror([&*text].into_iter());
        };
        // Each report goes to another replica than the pages come from.
        a.reported("one", heard("x", 5), 1_000_000);
        a.reported("one", heard("x", 6), 1_000_500);
        b.polled(&name, 1_001_000);
        assert!(!b.is_stored("one"), "others do not know yet that it takes pages here");
        assert_eq!((reports(&b, 5), reports(&a, 5)), (vec![false], vec![true]));
        tell(&mut a, &mut b);
        tell(&mut b, &mut a);
        assert!(b.is_stored("one"));
        for relays in [&a, &b] {
            assert_eq!((reports(relays, 5), reports(relays, 6)), (vec![true], vec![false]));
            assert!((1_001_000..=1_001_000 + LAG).contains(&relays.polled_at("one", 1_000_700)));
        }
        // Both have heard of the run: it began when the first one did.
        b.reported("one", heard("x", 8), 1_002_000);
        assert!(b.polled_at("one", 1_001_500) >= 1_001_000);
        assert_eq!(reports(&b, 5), [true], "what the other one has heard counts");
        tell(&mut b, &mut a);
        b.polled(&name, 1_100_000);
        tell(&mut b, &mut a);
        assert_eq!(reports(&a, 5), [false], "it takes pages at the other one, and says nothing");
        let text = b.unwritten(0, true).unwrap();
        assert_eq!((is_old(&text, 1_100_000 + KEPT), is_old(&text, 1_100_001 + KEPT)), (false, true));
    }
}
