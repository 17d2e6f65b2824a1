//! What a relay says about proxies, and what rests on it.

use crate::feed::Settings;
use crate::feed::followers::Followers;
use crate::feed::followers::told::{Told, Word};
use crate::feed::followers::written::Which;
use crate::feed::receipts::{Closes, CommitTime};
use crate::feed::relays::Heard;
use crate::feed::report::Report;
use crate::feed::testing::SetClock;
use std::sync::Arc;
use taskfence_core::feed::revision::{Chain, Revision};

const NOW: u64 = 1_700_000_000_000;

fn revision(number: u64) -> Revision {
    Revision { epoch: 7, number, chain: Chain([1; 8]) }
}

/// A report of a relay, which is answered when the hub has number 5.
const HEARD: Heard<'_> =
    Heard { instance: "run", is_whole: true, head: Revision { epoch: 7, number: 5, chain: Chain([1; 8]) } };

fn report(id: &str) -> Report {
    Report { id: id.into(), node: id.into(), mode: "enforce".into(), stale_after: Some(30), ..Report::default() }
}

fn followers(most: usize) -> (Arc<Followers>, SetClock) {
    let clock = SetClock::default();
    clock.set(NOW);
    (Followers::new("main", Vec::new(), &settings(most), clock.now()), clock)
}

fn settings(most: usize) -> Settings {
    Settings { max_followers: 100, max_of_principal: most, ..Settings::new("taskfence-hub") }
}

/// That a change was committed at that time.
fn at(committed_at: Option<u64>) -> CommitTime {
    CommitTime { at: committed_at, by: None }
}

fn told(followers: &Followers, relay: &str, id: &str, number: u64, report: Option<Report>) -> Word {
    let told = Told { id, principal: "mesh", applied: revision(number), seen: NOW + 1_000_000, report };
    followers.told(relay, told, |_| None)
}

#[test]
fn a_relay_cannot_speak_for_a_proxy_that_follows_the_hub_or_another_relay() {
    let (followers, _) = followers(10);
    drop(followers.begin("mesh", report("follower-1")).unwrap());
    for relay in ["one", "two"] {
        assert_eq!(told(&followers, relay, "follower-1", 5, None), Word::Unknown);
        assert_eq!(told(&followers, relay, "follower-1", 5, Some(report("follower-1"))), Word::Noted);
    }
    assert_eq!(told(&followers, "two", "follower-1", 9, None), Word::Noted);
    let applied: Vec<_> =
        ["follower-1", "one/follower-1", "two/follower-1"].map(|id| followers.applied(id).unwrap().number).into();
    assert_eq!(applied, [0, 5, 9]);
    followers.told_gone("one", &["follower-1".to_owned()]);
    assert_eq!(followers.expire(), ["one/follower-1"]);
    // All of one node: it counts once, and confirmed is what all of them have.
    let receipt = followers.receipt(revision(5), at(None));
    assert_eq!((receipt.confirmed, receipt.waiting.len(), receipt.complete), (0, 1, false));
}

#[test]
fn the_closing_time_is_that_of_what_the_hub_has_signed() {
    let (followers, clock) = followers(10);
    followers.relay_reports("one", HEARD);
    followers.relay_reports("one", HEARD);
    told(&followers, "one", "follower-1", 5, Some(report("follower-1")));
    let receipt = followers.receipt(revision(5), at(None));
    assert_eq!((receipt.confirmed, receipt.confirmed_by_relays, receipt.complete), (1, 1, true));
    // A statement for another proxy: the relay may have passed it on.
    followers.sent("somebody", revision(5), 5, NOW + 4_000);
    followers.sent("somebody", revision(6), 6, NOW + 7_000);
    clock.set(NOW + 8_000);
    let closes = |committed_at| followers.receipt(revision(6), at(committed_at)).waiting[0].closes;
    assert_eq!(closes(None), Closes::At(NOW + 4_000 + 30_000 + 60_000));
    assert_eq!(closes(Some(NOW + 6_500)), Closes::At(NOW + 6_500 + 30_000 + 60_000), "any statement before the change");
    // What it says about a proxy is not newer than the hub's own clock.
    assert!(followers.all().iter().all(|(_, follower)| follower.seen <= NOW + 8_000));
}

#[test]
fn a_proxy_stays_in_receipts_for_as_long_as_its_relay_may_feed_it() {
    let (followers, clock) = followers(10);
    followers.relay_reports("one", HEARD);
    followers.relay_reports("one", HEARD);
    told(&followers, "one", "follower-1", 5, Some(report("follower-1")));
    clock.set(NOW + 500_000);
    drop(followers.begin_relay("one", "relay-id"));
    assert_eq!(followers.expire(), [""; 0], "the relay still takes pages, and has not said that it has left");
    clock.set(NOW + 500_000 + 90_001);
    assert_eq!(followers.expire(), ["one/follower-1"]);
}

#[test]
fn a_relay_has_its_share_and_its_proxies_are_stored_as_its_word() {
    let (followers, _) = followers(1);
    followers.relay_reports("one", HEARD);
    followers.relay_reports("one", HEARD);
    assert_eq!(told(&followers, "one", "follower-1", 5, Some(report("follower-1"))), Word::Noted);
    assert_eq!(told(&followers, "one", "follower-2", 5, Some(report("follower-2"))), Word::TooMany);
    assert!(!followers.receipt(revision(5), at(None)).complete, "one that it told of is missing");
    let records = followers.unwritten(Which::New, 10);
    assert_eq!((records[0].relay.as_str(), records[0].id.as_str()), ("one", "one/follower-1"));
    let again = Followers::new("main", records, &settings(1), SetClock::default().now());
    assert_eq!(again.all()[0].1.relay.as_deref(), Some("one"));
    assert_eq!(told(&again, "one", "follower-1", 6, None), Word::Noted);
}
