//! What every engine does: each of these tests runs on all of them.

use super::*;
use crate::store::model::NewSignal;
use crate::store::testing::{FEED, Home, commit, entry, lift, signal, stored, task};
use std::collections::BTreeSet;
use taskfence_core::feed::entry::{Decoded, decode};
use taskfence_core::feed::revision::Chain;
use taskfence_core::state::fact::Fact;
use taskfence_core::state::key::{Kind, StateKey};
use taskfence_core::time::Span;

const NOW: Timestamp = Timestamp(1_000);

/// Makes a test of each function for each engine. One of PostgreSQL is skipped by name where that is not installed.
macro_rules! on_every_engine {
    ($($name:ident),* $(,)?) => {
        mod sqlite {
            $(#[test] fn $name() { super::$name(&mut crate::store::testing::Home::sqlite()); })*
        }
        mod postgres {
            $(#[test] fn $name() {
                if let Some(mut home) = crate::store::testing::Home::postgres(stringify!($name)) {
                    super::$name(&mut home);
                }
            })*
        }
    };
}

mod audit;
mod history;
mod undo;

on_every_engine! {
    every_entry_has_its_own_number_and_the_chain_covers_them_all,
    a_repeat_changes_nothing_and_another_signal_with_its_id_contradicts,
    feeds_have_numbers_of_their_own,
    a_lift_adds_the_entries_again_and_only_once,
    a_stop_that_was_undone_does_not_stand,
    a_page_ends_where_its_bytes_are_used_up,
    the_full_state_is_sorted_by_bucket_and_holds_what_is_kept,
    what_has_ended_is_removed_and_never_the_heads_chain,
    entries_that_are_derived_again_take_the_place_of_those_before,
    signals_are_kept_for_as_long_as_was_asked_for,
    a_signal_without_entries_is_kept_for_an_hour,
    many_are_pruned_in_steps,
    signals_are_found_as_they_were_stored,
    long_signals_are_found_a_few_at_a_time,
    other_records_are_kept,
    the_latest_time_survives_what_it_was_stored_with,
    a_reader_sees_one_moment_while_others_write,
    a_feed_remembers_the_epochs_that_it_has_had,
    signals_after_an_id_come_oldest_first,
    values_are_listed_by_prefix_and_swapped_where_they_are_as_expected,
}

fn add(store: &dyn Store, new: NewSignal) -> Outcome {
    commit(store, Change::Signal(new))
}

fn all_after(store: &dyn Store, after: u64, now: u64) -> Vec<StoredEntry> {
    store.entries_after(FEED, after, usize::MAX, Timestamp(now)).unwrap().0
}

fn numbers(entries: &[StoredEntry]) -> Vec<u64> {
    entries.iter().map(|stored| stored.number).collect()
}

fn is_lifted(stored: &StoredEntry) -> bool {
    match decode(&stored.entry.bytes).next() {
        Some(Ok(Decoded::Known(read))) => read.entry.lifted,
        other => panic!("{other:?}"),
    }
}

fn every_entry_has_its_own_number_and_the_chain_covers_them_all(home: &mut Home) {
    let store = home.store();
    let (one, first, entries) = stored(add(&*store, signal("idp", "1", &[("a", 9_000), ("b", 9_000)])));
    assert_eq!(numbers(&entries), [1, 2]);
    let chain = Chain::default().after(1, &entries[0].entry.bytes).after(2, &entries[1].entry.bytes);
    assert_eq!(first, Revision { epoch: 7, number: 2, chain });
    let (two, second, more) = stored(add(&*store, signal("idp", "2", &[("c", 9_000)])));
    assert_eq!((second.number, second.chain), (3, chain.after(3, &more[0].entry.bytes)));
    assert!(two > one);
    assert_eq!(store.head(FEED), Ok(second));
    assert_eq!(store.chain(FEED, 2), Ok(Some(chain)));
    assert_eq!(store.chain(FEED, 0), Ok(Some(Chain::default())));
    assert_eq!(store.chain(FEED, 4), Ok(None));
    assert_eq!(store.entries_of(FEED, one), Ok(entries.clone()));
    assert_eq!(all_after(&*store, 1, 1_000), [entries[1].clone(), more[0].clone()]);
}

fn a_repeat_changes_nothing_and_another_signal_with_its_id_contradicts(home: &mut Home) {
    let store = home.store();
    let new = signal("idp", "1", &[("a", 9_000)]);
    let (id, revision, _) = stored(add(&*store, new.clone()));
    add(&*store, signal("idp", "2", &[("b", 9_000)]));
    let head = store.head(FEED).unwrap();
    drop(store);
    let store = home.open();
    assert_eq!(add(&*store, new.clone()), Outcome::Repeated { signal: id, revision });
    let other = NewSignal { fingerprint: vec![2], ..signal("idp", "1", &[("z", 9_000)]) };
    assert_eq!(add(&*store, other), Outcome::Contradicts { signal: id });
    assert_eq!(store.head(FEED), Ok(head));
    // Also within one group; and another transmitter has ids of its own.
    let twice = signal("idp", "3", &[("c", 9_000)]);
    let group = [twice.clone(), twice, signal("mdm", "1", &[("a", 9_000)])].map(Change::Signal);
    let outcomes = store.commit(&group).unwrap();
    assert!(matches!(outcomes[1], Outcome::Repeated { revision, .. } if revision.number == 3));
    assert_eq!(stored(outcomes[2].clone()).1.number, 4);
}

fn feeds_have_numbers_of_their_own(home: &mut Home) {
    let store = home.store();
    store.open_feed("other", 8).unwrap();
    let other = NewSignal { feed: "other".to_owned(), ..signal("idp", "1", &[("b", 9_000)]) };
    let group = [Change::Signal(signal("idp", "1", &[("a", 9_000)])), Change::Signal(other)];
    let revisions: Vec<_> = store.commit(&group).unwrap().into_iter().map(|outcome| stored(outcome).1).collect();
    assert_eq!(
        revisions.iter().map(|revision| (revision.epoch, revision.number)).collect::<Vec<_>>(),
        [(7, 1), (8, 1)]
    );
    assert_eq!((store.head(FEED), store.head("other")), (Ok(revisions[0]), Ok(revisions[1])));
    assert_eq!(store.signals(FEED, &SignalQuery::default()).unwrap().len(), 1);
    let id = store.signals("other", &SignalQuery::default()).unwrap()[0].id;
    assert_eq!(store.entries_of(FEED, id), Ok(Vec::new()), "it is another feed's");
    assert_eq!(commit(&*store, lift(id)), Outcome::Unknown);
    assert_eq!(store.open_feed(FEED, 99), Ok(revisions[0]), "a feed keeps its epoch");
    let unknown = NewSignal { feed: "none".to_owned(), ..signal("idp", "1", &[]) };
    assert_eq!(store.commit(&[Change::Signal(unknown)]), Err(StoreError::NoFeed("none".to_owned())));
}

fn a_lift_adds_the_entries_again_and_only_once(home: &mut Home) {
    let store = home.store();
    let new = signal("idp", "1", &[("a", 9_000), ("b", 9_000)]);
    let (id, ..) = stored(add(&*store, new.clone()));
    add(&*store, signal("idp", "2", &[("a", 9_000)]));
    let (lifted, revision, entries) = stored(commit(&*store, lift(id)));
    assert_eq!((lifted, numbers(&entries), revision.number), (id, vec![4, 5], 5));
    let lifted = |entries: &[StoredEntry]| entries.iter().map(is_lifted).collect::<Vec<_>>();
    assert_eq!(lifted(&entries), [false, true], "another signal completes `a`, and nobody else `b`");
    let after = all_after(&*store, 0, 1_000);
    assert_eq!(numbers(&after), [3, 4, 5], "what was undone is there only as undone");
    assert!(!is_lifted(&after[0]), "the entry of the other signal stays");
    assert_eq!(commit(&*store, lift(id)), Outcome::Repeated { signal: id, revision });
    drop(store);
    let store = home.open();
    assert_eq!(add(&*store, new), Outcome::Repeated { signal: id, revision });
    assert_eq!(commit(&*store, lift(id)), Outcome::Repeated { signal: id, revision });
    assert_eq!(commit(&*store, lift(77)), Outcome::Unknown);
    assert_eq!(store.head(FEED), Ok(revision));
    let record = store.signals(FEED, &SignalQuery { id: Some(id), ..Default::default() }).unwrap().remove(0);
    assert_eq!((record.number, record.lifted), (5, Some(("ann".to_owned(), "mistake".to_owned(), 2_000_000))));
    assert_eq!(store.entries_of(FEED, id), Ok(entries));
}

fn a_stop_that_was_undone_does_not_stand(home: &mut Home) {
    let store = home.store();
    let stop = |jti: &str| {
        let key = StateKey::new(Kind::Client, "https://jit.example", "agent");
        let entries = vec![entry("operator", key, Fact::Blocked, Timestamp::MAX.0)];
        NewSignal { event: "stop".to_owned(), entries, ..signal("operator", jti, &[]) }
    };
    let ids = ["1", "2"].map(|jti| stored(add(&*store, stop(jti))).0);
    add(&*store, signal("idp", "1", &[("a", 9_000)]));
    let standing = || {
        let query = SignalQuery { standing_stops: true, ..SignalQuery::default() };
        store.signals(FEED, &query).unwrap().iter().map(|record| record.id).collect::<Vec<_>>()
    };
    assert_eq!(standing(), [ids[1], ids[0]]);
    commit(&*store, lift(ids[0]));
    assert_eq!(standing(), [ids[1]]);
    let key = StateKey::new(Kind::Client, "https://jit.example", "agent");
    let about = store.about(FEED, &key, Timestamp(3_000)).unwrap();
    let about: Vec<_> = about.iter().map(|(entry, signal)| (signal.id, is_lifted(entry))).collect();
    assert_eq!(about, [(ids[1], false), (ids[0], false)], "in the place of the first stands what the second said");
    let (.., entries) = stored(commit(&*store, lift(ids[1])));
    assert!(is_lifted(&entries[0]));
    assert_eq!(standing(), [0; 0]);
    // What was undone goes after 30 days.
    let end = 2_000 + 30 * 86_400;
    assert_eq!((entries[0].entry.until, store.prune(Timestamp(end - 1))), (Timestamp(end), Ok(1)));
    assert_eq!(store.prune(Timestamp(end)), Ok(2));
    assert_eq!(store.about(FEED, &key, Timestamp(0)), Ok(Vec::new()));
}

fn a_page_ends_where_its_bytes_are_used_up(home: &mut Home) {
    let store = home.store();
    let names: Vec<String> = (0..10).map(|n| format!("task-{n}")).collect();
    let tasks: Vec<_> = names.iter().map(|name| (name.as_str(), 9_000)).collect();
    let (_, head, entries) = stored(add(&*store, signal("idp", "1", &tasks)));
    let size = entries[0].entry.bytes.len();
    let (page, upto) = store.entries_after(FEED, 2, size * 3, NOW).unwrap();
    assert_eq!((numbers(&page), upto.number), (vec![3, 4, 5], 5));
    assert_eq!(store.chain(FEED, 5), Ok(Some(upto.chain)));
    assert_eq!(numbers(&store.entries_after(FEED, 0, 1, NOW).unwrap().0), [1], "at least one");
    assert_eq!(store.entries_after(FEED, 10, size, NOW), Ok((Vec::new(), head)));
    // What has ended is left out, and the page says that nothing is missing.
    assert_eq!(store.entries_after(FEED, 0, size, Timestamp(9_000)), Ok((Vec::new(), head)));
}

fn the_full_state_is_sorted_by_bucket_and_holds_what_is_kept(home: &mut Home) {
    let store = home.store();
    let names: Vec<String> = (0..200).map(|n| format!("task-{n}")).collect();
    let tasks: Vec<_> = names.iter().zip(0u64..).map(|(name, n)| (name.as_str(), 5_000 + n)).collect();
    let (_, head, entries) = stored(add(&*store, signal("idp", "1", &tasks)));
    let mut state = Vec::new();
    assert_eq!(store.full_state(FEED, Timestamp(5_099), &mut |entry| state.push(entry)), Ok(head));
    assert_eq!(state.len(), 100);
    assert!(state.is_sorted_by_key(|stored| stored.entry.bucket));
    let kept: BTreeSet<u64> = state.iter().map(|stored| stored.number).collect();
    assert!(entries.iter().all(|stored| kept.contains(&stored.number) == (stored.entry.until.0 > 5_099)));
}

fn what_has_ended_is_removed_and_never_the_heads_chain(home: &mut Home) {
    home.window = 2;
    let store = home.store();
    let (first, ..) = stored(add(&*store, signal("idp", "1", &[("a", 2_000), ("b", 3_000)])));
    add(&*store, signal("idp", "2", &[("c", 2_000)]));
    let (last, head, _) = stored(add(&*store, signal("idp", "3", &[("d", 2_000)])));
    let chains = |store: &dyn Store| (0..=4).map(|n| store.chain(FEED, n).unwrap().is_some()).collect::<Vec<_>>();
    let ids = |store: &dyn Store| {
        store.signals(FEED, &SignalQuery::default()).unwrap().iter().map(|record| record.id).collect::<Vec<_>>()
    };
    assert_eq!(store.prune(Timestamp(1_999)), Ok(0));
    assert_eq!(store.prune(Timestamp(2_000)), Ok(3));
    assert_eq!(chains(&*store), [true, false, true, true, true], "2 has its entry; 3 and 4 are the last numbers");
    assert_eq!(ids(&*store), [last, first], "one has an entry, the other is the last word of its transmitter");
    assert_eq!(store.prune(Timestamp(3_000)), Ok(1));
    assert_eq!(chains(&*store), [true, false, false, true, true]);
    assert_eq!(ids(&*store), [last]);
    assert_eq!(store.prune(Timestamp(3_000)), Ok(0));
    drop(store);
    let store = home.open();
    assert_eq!((store.head(FEED), store.chain(FEED, 4)), (Ok(head), Ok(Some(head.chain))));
    // Its id is free again, and numbers go on.
    let (again, revision, _) = stored(add(&*store, signal("idp", "1", &[("a", 9_000)])));
    assert!(again > last && revision.number == 5);
    assert_eq!(store.prune(Timestamp(3_000)), Ok(0));
    assert_eq!(ids(&*store), [again], "the last word of the transmitter is another now");
}

fn entries_that_are_derived_again_take_the_place_of_those_before(home: &mut Home) {
    let store = home.store();
    let (first, ..) = stored(add(&*store, signal("idp", "1", &[("a", 2_000), ("b", 3_000)])));
    let (second, ..) = stored(add(&*store, signal("idp", "2", &[("c", 2_000)])));
    let (empty, ..) = stored(add(&*store, signal("mdm", "1", &[])));
    let derive = |id: u64, jti: &str, tasks: &[(&str, u64)]| {
        let entries = signal("idp", jti, tasks).entries;
        commit(&*store, Change::Derive { feed: FEED.to_owned(), signal: id, entries })
    };
    assert_eq!(derive(99, "1", &[("a", 9_000)]), Outcome::Unknown);
    let same = derive(first, "1", &[("a", 2_000), ("b", 3_000)]);
    assert!(matches!(same, Outcome::Repeated { signal, .. } if signal == first));
    let (_, revision, entries) = stored(derive(first, "1", &[("a", 5_000), ("b", 3_000), ("d", 4_000)]));
    assert_eq!((revision.number, numbers(&entries)), (6, vec![4, 5, 6]));
    assert_eq!(store.entries_of(FEED, first), Ok(entries));
    assert_eq!(numbers(&all_after(&*store, 0, 1_000)), [3, 4, 5, 6]);
    // It is pruned by its new ends.
    assert_eq!(store.prune(Timestamp(4_500)), Ok(3));
    assert_eq!(numbers(&all_after(&*store, 0, 1_000)), [4]);
    // What was undone stays undone, and says so also about what it did not say before.
    stored(commit(&*store, lift(first)));
    let (_, head, entries) = stored(derive(first, "1", &[("a", 6_000), ("e", 6_000)]));
    assert!(entries.len() == 2 && entries.iter().all(is_lifted));
    assert!(store.signals(FEED, &SignalQuery { id: Some(first), ..Default::default() }).unwrap()[0].lifted.is_some());
    // A signal without entries may get some, and one whose entries have ended.
    stored(derive(empty, "1", &[("f", 6_000)]));
    assert_eq!(store.entries_of(FEED, second), Ok(Vec::new()));
    let (_, revision, _) = stored(derive(second, "2", &[("c", 7_000)]));
    assert_eq!((revision.number, store.head(FEED)), (head.number + 2, Ok(revision)));
}

fn signals_are_kept_for_as_long_as_was_asked_for(home: &mut Home) {
    home.keep = Span(5_000);
    let store = home.store();
    let (first, ..) = stored(add(&*store, signal("idp", "1", &[("a", 2_000)])));
    let (later, ..) = stored(add(&*store, NewSignal { taken_in: 1_500_500, ..signal("idp", "2", &[]) }));
    add(&*store, NewSignal { taken_in: 9_000_000, ..signal("idp", "3", &[]) });
    let ids = |store: &dyn Store| {
        store.signals(FEED, &SignalQuery::default()).unwrap().iter().map(|record| record.id).collect::<Vec<_>>()
    };
    assert_eq!((store.prune(Timestamp(5_999)), store.get(PRUNED)), (Ok(1), Ok(None)));
    assert_eq!(ids(&*store), [3, later, first], "its entry has ended, and it is there");
    store.prune(Timestamp(6_000)).unwrap();
    assert_eq!((ids(&*store), store.get(PRUNED)), (vec![3, later], Ok(Some("1000000".to_owned()))));
    store.prune(Timestamp(7_000)).unwrap();
    assert_eq!((ids(&*store), store.get(PRUNED)), (vec![3], Ok(Some("1500500".to_owned()))));
}

fn a_signal_without_entries_is_kept_for_an_hour(home: &mut Home) {
    let store = home.store();
    let heartbeat = signal("idp", "1", &[]);
    let (id, revision, _) = stored(add(&*store, heartbeat.clone()));
    assert_eq!(revision.number, 0);
    add(&*store, signal("idp", "2", &[]));
    store.prune(Timestamp(1_000 + 3_599)).unwrap();
    assert_eq!(add(&*store, heartbeat.clone()), Outcome::Repeated { signal: id, revision });
    store.prune(Timestamp(1_000 + 3_600)).unwrap();
    assert_ne!(stored(add(&*store, heartbeat)).0, id);
}

fn many_are_pruned_in_steps(home: &mut Home) {
    let store = home.store();
    let group: Vec<_> = (0..1_700)
        .map(|n| Change::Signal(signal("idp", &n.to_string(), &[(&format!("task-{n}"), 2_000 + n % 2)])))
        .collect();
    store.commit(&group).unwrap();
    assert_eq!(store.prune(Timestamp(2_000)), Ok(850));
    assert_eq!(all_after(&*store, 0, 2_000).len(), 850);
    assert_eq!(store.prune(Timestamp(2_001)), Ok(850));
    assert_eq!(store.signals(FEED, &SignalQuery { limit: 5, ..Default::default() }).unwrap().len(), 1);
}

fn signals_are_found_as_they_were_stored(home: &mut Home) {
    let store = home.store();
    let new = signal("idp", "1", &[("a", 9_000)]);
    let (id, ..) = stored(add(&*store, new.clone()));
    add(&*store, signal("mdm", "1", &[("a", 9_000)]));
    add(&*store, signal("idp", "2", &[("b", 9_000)]));
    let find = |query: SignalQuery| {
        store.signals(FEED, &query).unwrap().into_iter().map(|record| record.signal.jti).collect::<Vec<_>>()
    };
    let by_idp = SignalQuery { transmitter: Some("idp".to_owned()), ..SignalQuery::default() };
    assert_eq!(find(by_idp.clone()), ["2", "1"]);
    assert_eq!(find(SignalQuery { limit: 1, ..by_idp.clone() }), ["2"]);
    assert_eq!(find(SignalQuery { before: Some(id + 1), ..by_idp.clone() }), ["1"]);
    assert_eq!(find(SignalQuery { jti: Some("2".to_owned()), ..SignalQuery::default() }), ["2"]);
    let record = store.signals(FEED, &SignalQuery { id: Some(id), ..by_idp }).unwrap().remove(0);
    let signal = NewSignal { entries: Vec::new(), ..new };
    assert_eq!(record, SignalRecord { id, signal, number: 1, lifted: None });
    let about = store.about(FEED, &task("a"), NOW).unwrap();
    let about: Vec<_> = about.into_iter().map(|(_, signal)| signal.signal.transmitter).collect();
    assert_eq!(about, ["idp", "mdm"]);
    assert_eq!(store.about(FEED, &task("a"), Timestamp(9_000)), Ok(Vec::new()));
}

fn long_signals_are_found_a_few_at_a_time(home: &mut Home) {
    let store = home.store();
    for n in 0..50 {
        add(&*store, NewSignal { claims: "x".repeat(60_000), ..signal("idp", &n.to_string(), &[]) });
    }
    let query = SignalQuery { limit: 1_000, ..SignalQuery::default() };
    let first = store.signals(FEED, &query).unwrap();
    assert_eq!(first.len(), 34, "2 MiB");
    let rest = store.signals(FEED, &SignalQuery { before: first.last().map(|last| last.id), ..query }).unwrap();
    assert_eq!(rest.len(), 16);
}

fn other_records_are_kept(home: &mut Home) {
    let store = home.store();
    for status in [200, 403] {
        let call = "POST /v1/feeds/main/stops".to_owned();
        store.audit(&[Audit { at: 5_000_000, by: "ann".to_owned(), call, status, detail: "{}".to_owned() }]).unwrap();
    }
    let token = |byte: u8| (vec![byte; 32], 6_000_000 + u64::from(byte), 0);
    let mut ann = PrincipalRecord {
        name: "ann".to_owned(),
        role: "operator".to_owned(),
        feeds: vec!["main".to_owned()],
        tokens: vec![token(1), token(2)],
    };
    store.put_principal(&ann).unwrap();
    ann.tokens.remove(0);
    store.put_principal(&ann).unwrap();
    let follower = |id: &str| FollowerRecord {
        feed: FEED.to_owned(),
        id: id.to_owned(),
        principal: "spiffe://mesh/a".to_owned(),
        report: "{}".to_owned(),
        applied: Revision { epoch: u64::MAX, number: 3, chain: Chain([255; 8]) },
        seen: 7_000_000,
        statement_at: 7_000_001,
        replica: "r1".to_owned(),
        relay: "relay-a".to_owned(),
    };
    store.put_followers(&[follower("1"), follower("2"), follower("3")]).unwrap();
    store.put_followers(&[FollowerRecord { seen: 8_000_000, ..follower("2") }]).unwrap();
    // What another replica had written of it before it came here.
    store.put_followers(&[FollowerRecord { seen: 7_999_999, replica: "r2".to_owned(), ..follower("2") }]).unwrap();
    store.remove_followers(FEED, &["1".to_owned(), "none".to_owned()]).unwrap();
    store.set("config", "one").unwrap();
    store.set("config", "two").unwrap();
    drop(store);

    let store = home.open();
    let audits = store.audits(None, 10).unwrap();
    assert_eq!(audits.iter().map(|(_, audit)| audit.status).collect::<Vec<_>>(), [403, 200]);
    assert_eq!(store.audits(Some(audits[0].0), 1).unwrap(), audits[1..]);
    assert_eq!(store.principals(), Ok(vec![ann]));
    let seen: Vec<_> = store.followers(FEED).unwrap();
    assert_eq!(seen, [FollowerRecord { seen: 8_000_000, ..follower("2") }, follower("3")]);
    assert_eq!(store.followers("other"), Ok(Vec::new()));
    let of_others = |but, since| store.followers_seen(FEED, but, since).map(|all| all.len());
    assert_eq!((of_others("r2", 0), of_others("r2", 8_000_000), of_others("r2", 8_000_001)), (Ok(2), Ok(1), Ok(0)));
    assert_eq!(of_others("r1", 0), Ok(0));
    assert_eq!((store.get("config"), store.get("none")), (Ok(Some("two".to_owned())), Ok(None)));
    assert_eq!(store.latest_time(), Ok(8_000_000));
    assert_eq!((store.remove_principal("ann"), store.remove_principal("ann")), (Ok(true), Ok(false)));
    assert_eq!(store.principals(), Ok(Vec::new()));
}

fn the_latest_time_survives_what_it_was_stored_with(home: &mut Home) {
    let store = home.store();
    let late = NewSignal { taken_in: 9_000_000, ..signal("idp", "1", &[("a", 2_000)]) };
    let (id, ..) = stored(add(&*store, late));
    add(&*store, signal("idp", "2", &[("b", 2_000)]));
    store.prune(Timestamp(9_000)).unwrap();
    assert_eq!(store.signals(FEED, &SignalQuery { id: Some(id), ..Default::default() }), Ok(Vec::new()));
    assert_eq!(store.latest_time(), Ok(9_000_000));
}

fn a_reader_sees_one_moment_while_others_write(home: &mut Home) {
    let store = home.store();
    add(&*store, signal("idp", "1", &[("a", 9_000), ("b", 9_000)]));
    let mut seen = Vec::new();
    let head = store.full_state(FEED, NOW, &mut |entry| {
        seen.push(entry.number);
        let jti = format!("during-{}", seen.len());
        add(&*store, signal("idp", &jti, &[("c", 9_000)]));
    });
    seen.sort_unstable();
    assert_eq!((seen, head.unwrap().number), (vec![1, 2], 2));
    assert_eq!(store.head(FEED).unwrap().number, 4);
}

fn a_feed_remembers_the_epochs_that_it_has_had(home: &mut Home) {
    let store = home.store();
    let first = store.head(FEED).unwrap().epoch;
    assert_eq!(store.get(&past_epochs(FEED)), Ok(None));
    store.renew_feed(FEED, 0xAB).unwrap();
    store.renew_feed(FEED, u64::MAX).unwrap();
    drop(store);
    let past = home.open().get(&past_epochs(FEED)).unwrap();
    assert_eq!(past, Some(format!("{first:x} ab")));
}

fn signals_after_an_id_come_oldest_first(home: &mut Home) {
    let store = home.store();
    let ids: Vec<_> = ["1", "2", "3"]
        .map(|jti| stored(commit(&*store, Change::Signal(signal("idp", jti, &[("a", 9_000)])))).0)
        .into();
    let after = |id, limit| {
        let found = store.signals_after(FEED, id, limit).unwrap();
        found.into_iter().map(|record| record.id).collect::<Vec<_>>()
    };
    assert_eq!(after(0, 9), ids);
    assert_eq!(after(ids[0], 1), [ids[1]]);
    assert_eq!(after(ids[2], 9), [0; 0]);
}

fn values_are_listed_by_prefix_and_swapped_where_they_are_as_expected(home: &mut Home) {
    let store = home.store();
    for (name, value) in [("a/1", "x"), ("a/2", "y"), ("b", "z"), ("a", "w"), ("a%", "v")] {
        store.set(name, value).unwrap();
    }
    let owned =
        |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect::<Vec<_>>();
    assert_eq!(store.values("a/").unwrap(), owned(&[("a/1", "x"), ("a/2", "y")]));
    assert_eq!(store.values("a%").unwrap(), owned(&[("a%", "v")]));
    assert_eq!(store.swap("a/1", Some("y"), Some("n")), Ok(false));
    assert_eq!(store.swap("a/1", Some("x"), Some("n")), Ok(true));
    assert_eq!(store.swap("a/3", None, Some("new")), Ok(true));
    assert_eq!(store.swap("a/3", None, Some("again")), Ok(false));
    assert_eq!(store.swap("a/2", Some("y"), None), Ok(true));
    assert_eq!(store.values("a/").unwrap(), owned(&[("a/1", "n"), ("a/3", "new")]));
}
