//! The relays that take a feed: when each last asked for a page, and when it last said what is behind it.

use hashbrown::HashMap;
use serde::Serialize;
use std::sync::Arc;

/// A relay that takes pages must have said so long before at the latest what is behind it, in milliseconds.
const REPORT_AGE: u64 = 15_000;

/// For so long after there was no room for a proxy, receipts are not complete, in milliseconds. A relay tells of each proxy
/// once in a minute.
const OVERFLOW: u64 = 120_000;

/// A relay that is silent, and behind which nobody is known, is forgotten after so long, in milliseconds.
const SILENT: u64 = 360_000;

/// The relays of one feed, by principal.
#[derive(Debug, Default)]
pub struct Relays(HashMap<Arc<str>, Relay>);

/// Times are in milliseconds since 1970; 0: never since the hub started.
#[derive(Debug, Clone, Default)]
struct Relay {
    polled: u64,
    reported: u64,
    /// When there was no room for a proxy behind it.
    overflowed: u64,
    /// The run of the relay that said so, and when that was first heard of.
    instance: Box<str>,
    began: u64,
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
    /// Whether it says what is behind it, for as long as it takes pages.
    pub reports: bool,
}

impl Relays {
    /// A relay asks for a page at `now`.
    pub fn polled(&mut self, relay: &Arc<str>, now: u64) {
        self.0.entry(relay.clone()).or_default().polled = now;
    }

    /// The run `instance` of a relay says at `now` what is behind it.
    pub fn reported(&mut self, relay: &str, instance: &str, now: u64) {
        let relay = self.of(relay);
        relay.reported = now;
        if *relay.instance != *instance {
            (relay.instance, relay.began) = (instance.into(), now);
        }
    }

    /// A relay has told at `now` of a proxy for which there is no room: receipts lack it.
    pub fn overflowed(&mut self, relay: &str, now: u64) {
        self.of(relay).overflowed = now;
    }

    fn of(&mut self, relay: &str) -> &mut Relay {
        self.0.entry(Arc::from(relay)).or_default()
    }

    /// When the relay last asked for a page that a follower which it heard of at `seen` may have got. One that it has not
    /// heard of in this run has got none of it.
    pub fn polled_at(&self, relay: &str, seen: u64) -> u64 {
        self.0.get(relay).map_or(0, |relay| if seen < relay.began { relay.began } else { relay.polled })
    }

    /// All relays, by name.
    pub fn marks(&self) -> Vec<RelayMark> {
        let mark = |(name, relay): (&Arc<str>, &Relay)| RelayMark {
            relay: name.to_string(),
            polled: relay.polled,
            reported: relay.reported,
            reports: relay.reported > 0
                && relay.polled.saturating_sub(relay.reported) <= REPORT_AGE
                && relay.reported.saturating_sub(relay.overflowed) > OVERFLOW,
        };
        let mut marks: Vec<_> = self.0.iter().map(mark).collect();
        marks.sort_by(|a, b| a.relay.cmp(&b.relay));
        marks
    }

    /// Forgets relays that are silent at `now`, and of which `has_followers` says no.
    pub fn expire(&mut self, now: u64, has_followers: impl Fn(&str) -> bool) {
        self.0.retain(|name, relay| {
            let seen = relay.polled.max(relay.reported);
            now.saturating_sub(seen) < SILENT || has_followers(name)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reports(relays: &Relays) -> Vec<bool> {
        relays.marks().into_iter().map(|mark| mark.reports).collect()
    }

    #[test]
    fn a_relay_must_report_for_as_long_as_it_takes_pages() {
        let (mut relays, name) = (Relays::default(), Arc::from("one"));
        relays.polled(&name, 1_000_000);
        assert_eq!(reports(&relays), [false], "it has said nothing");
        relays.reported("one", "a", 1_000_100);
        relays.polled(&name, 1_000_100 + REPORT_AGE);
        assert_eq!(reports(&relays), [true]);
        relays.polled(&name, 1_000_101 + REPORT_AGE);
        assert_eq!(reports(&relays), [false]);
        relays.reported("one", "a", 1_100_000);
        relays.overflowed("one", 1_100_000);
        assert_eq!(reports(&relays), [false], "it has told of one that is missing here");
        relays.reported("one", "a", 1_100_001 + OVERFLOW);
        assert_eq!(reports(&relays), [true]);
    }

    #[test]
    fn what_an_earlier_run_told_of_ends_with_that_run() {
        let (mut relays, name) = (Relays::default(), Arc::from("one"));
        relays.reported("one", "a", 1_000);
        relays.polled(&name, 2_000);
        assert_eq!(relays.polled_at("one", 1_500), 2_000);
        relays.reported("one", "b", 3_000);
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
        assert_eq!(relays.marks().len(), 1);
        relays.expire(1_000 + SILENT, |_| false);
        assert_eq!(relays.marks().len(), 0);
    }
}
