use super::*;
use crate::store::testing::{FEED, commit, entry, lift, open, signal, store, stored, task};
use crate::store::{BACKUP, PRUNED, model::NewSignal, past_epochs};
use std::collections::BTreeSet;
use taskfence_core::feed::entry::{Decoded, decode};
use taskfence_core::state::fact::Fact;
use taskfence_core::state::key::Kind;

mod full_disk;
mod history;
mod undo;

const NOW: Timestamp = Timestamp(1_000);

fn add(store: &SqliteStore, new: NewSignal) -> Outcome {
    commit(store, Change::Signal(new))
}

fn all_after(store: &SqliteStore, after: u64, now: u64) -> Vec<StoredEntry> {
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

#[test]
fn every_entry_has_its_own_number_and_the_chain_covers_them_all() {
    let (store, _folder) = store();
    let (one, first, entries) = stored(add(&store, signal("idp", "1", &[("a", 9_000), ("b", 9_000)])));
    assert_eq!(numbers(&entries), [1, 2]);
    let chain = Chain::default().after(1, &entries[0].entry.bytes).after(2, &entries[1].entry.bytes);
    assert_eq!(first, Revision { epoch: 7, number: 2, chain });
    let (two, second, more) = stored(add(&store, signal("idp", "2", &[("c", 9_000)])));
    assert_eq!((second.number, second.chain), (3, chain.after(3, &more[0].entry.bytes)));
    assert!(two > one);
    assert_eq!(store.head(FEED), Ok(second));
    assert_eq!(store.chain(FEED, 2), Ok(Some(chain)));
    assert_eq!(store.chain(FEED, 0), Ok(Some(Chain::default())));
    assert_eq!(store.chain(FEED, 4), Ok(None));
    assert_eq!(store.entries_of(FEED, one), Ok(entries.clone()));
    assert_eq!(all_after(&store, 1, 1_000), [entries[1].clone(), more[0].clone()]);
}

#[test]
fn a_repeat_changes_nothing_and_another_signal_with_its_id_contradicts() {
    let (store, folder) = store();
    let new = signal("idp", "1", &[("a", 9_000)]);
    let (id, revision, _) = stored(add(&store, new.clone()));
    add(&store, signal("idp", "2", &[("b", 9_000)]));
    let head = store.head(FEED).unwrap();
    drop(store);
    let store = open(&folder);
    assert_eq!(add(&store, new.clone()), Outcome::Repeated { signal: id, revision });
    let other = NewSignal { fingerprint: vec![2], ..signal("idp", "1", &[("z", 9_000)]) };
    assert_eq!(add(&store, other), Outcome::Contradicts { signal: id });
    assert_eq!(store.head(FEED), Ok(head));
    // Also within one group; and another transmitter has ids of its own.
    let twice = signal("idp", "3", &[("c", 9_000)]);
    let group = [twice.clone(), twice, signal("mdm", "1", &[("a", 9_000)])].map(Change::Signal);
    let outcomes = store.commit(&group).unwrap();
    assert!(matches!(outcomes[1], Outcome::Repeated { revision, .. } if revision.number == 3));
    assert_eq!(stored(outcomes[2].clone()).1.number, 4);
}

#[test]
fn feeds_have_numbers_of_their_own() {
    let (store, _folder) = store();
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
    assert_eq!(commit(&store, lift(id)), Outcome::Unknown);
    assert_eq!(store.open_feed(FEED, 99), Ok(revisions[0]), "a feed keeps its epoch");
    let unknown = NewSignal { feed: "none".to_owned(), ..signal("idp", "1", &[]) };
    assert_eq!(store.commit(&[Change::Signal(unknown)]), Err(StoreError::NoFeed("none".to_owned())));
}

#[test]
fn a_lift_adds_the_entries_again_and_only_once() {
    let (store, folder) = store();
    let new = signal("idp", "1", &[("a", 9_000), ("b", 9_000)]);
    let (id, ..) = stored(add(&store, new.clone()));
    add(&store, signal("idp", "2", &[("a", 9_000)]));
    let (lifted, revision, entries) = stored(commit(&store, lift(id)));
    assert_eq!((lifted, numbers(&entries), revision.number), (id, vec![4, 5], 5));
    let lifted = |entries: &[StoredEntry]| entries.iter().map(is_lifted).collect::<Vec<_>>();
    assert_eq!(lifted(&entries), [false, true], "another signal completes `a`, and nobody else `b`");
    let after = all_after(&store, 0, 1_000);
    assert_eq!(numbers(&after), [3, 4, 5], "what was undone is there only as undone");
    assert!(!is_lifted(&after[0]), "the entry of the other signal stays");
    assert_eq!(commit(&store, lift(id)), Outcome::Repeated { signal: id, revision });
    drop(store);
    let store = open(&folder);
    assert_eq!(add(&store, new), Outcome::Repeated { signal: id, revision });
    assert_eq!(commit(&store, lift(id)), Outcome::Repeated { signal: id, revision });
    assert_eq!(commit(&store, lift(77)), Outcome::Unknown);
    assert_eq!(store.head(FEED), Ok(revision));
    let record = store.signals(FEED, &SignalQuery { id: Some(id), ..Default::default() }).unwrap().remove(0);
    assert_eq!((record.number, record.lifted), (5, Some(("ann".to_owned(), "mistake".to_owned(), 2_000_000))));
    assert_eq!(store.entries_of(FEED, id), Ok(entries));
}

#[test]
fn a_stop_that_was_undone_does_not_stand() {
    let (store, _folder) = store();
    let stop = |jti: &str| {
        let key = StateKey::new(Kind::Client, "https://jit.example", "agent");
        let entries = vec![entry("operator", key, Fact::Blocked, Timestamp::MAX.0)];
        NewSignal { event: "stop".to_owned(), entries, ..signal("operator", jti, &[]) }
    };
    let ids = ["1", "2"].map(|jti| stored(add(&store, stop(jti))).0);
    add(&store, signal("idp", "1", &[("a", 9_000)]));
    let standing = || {
        let query = SignalQuery { standing_stops: true, ..SignalQuery::default() };
        store.signals(FEED, &query).unwrap().iter().map(|record| record.id).collect::<Vec<_>>()
    };
    assert_eq!(standing(), [ids[1], ids[0]]);
    commit(&store, lift(ids[0]));
    assert_eq!(standing(), [ids[1]]);
    let key = StateKey::new(Kind::Client, "https://jit.example", "agent");
    let about = store.about(FEED, &key, Timestamp(3_000)).unwrap();
    let about: Vec<_> = about.iter().map(|(entry, signal)| (signal.id, is_lifted(entry))).collect();
    assert_eq!(about, [(ids[1], false), (ids[0], false)], "in the place of the first stands what the second said");
    let (.., entries) = stored(commit(&store, lift(ids[1])));
    assert!(is_lifted(&entries[0]));
    assert_eq!(standing(), [0; 0]);
    // What was undone goes after 30 days.
    let end = 2_000 + 30 * 86_400;
    assert_eq!((entries[0].entry.until, store.prune(Timestamp(end - 1))), (Timestamp(end), Ok(1)));
    assert_eq!(store.prune(Timestamp(end)), Ok(2));
    assert_eq!(store.about(FEED, &key, Timestamp(0)), Ok(Vec::new()));
}

#[test]
fn a_page_ends_where_its_bytes_are_used_up() {
    let (store, _folder) = store();
    let names: Vec<String> = (0..10).map(|n| format!("task-{n}")).collect();
    let tasks: Vec<_> = names.iter().map(|name| (name.as_str(), 9_000)).collect();
    let (_, head, entries) = stored(add(&store, signal("idp", "1", &tasks)));
    let size = entries[0].entry.bytes.len();
    let (page, upto) = store.entries_after(FEED, 2, size * 3, NOW).unwrap();
    assert_eq!((numbers(&page), upto.number), (vec![3, 4, 5], 5));
    assert_eq!(store.chain(FEED, 5), Ok(Some(upto.chain)));
    assert_eq!(numbers(&store.entries_after(FEED, 0, 1, NOW).unwrap().0), [1], "at least one");
    assert_eq!(store.entries_after(FEED, 10, size, NOW), Ok((Vec::new(), head)));
    // What has ended is left out, and the page says that nothing is missing.
    assert_eq!(store.entries_after(FEED, 0, size, Timestamp(9_000)), Ok((Vec::new(), head)));
}

#[test]
fn the_full_state_is_sorted_by_bucket_and_holds_what_is_kept() {
    let (store, _folder) = store();
    let names: Vec<String> = (0..200).map(|n| format!("task-{n}")).collect();
    let tasks: Vec<_> = names.iter().zip(0u64..).map(|(name, n)| (name.as_str(), 5_000 + n)).collect();
    let (_, head, entries) = stored(add(&store, signal("idp", "1", &tasks)));
    let mut state = Vec::new();
    assert_eq!(store.full_state(FEED, Timestamp(5_099), &mut |entry| state.push(entry)), Ok(head));
    assert_eq!(state.len(), 100);
    assert!(state.is_sorted_by_key(|stored| stored.entry.bucket));
    let kept: BTreeSet<u64> = state.iter().map(|stored| stored.number).collect();
    assert!(entries.iter().all(|stored| kept.contains(&stored.number) == (stored.entry.until.0 > 5_099)));
}

#[test]
fn what_has_ended_is_removed_and_never_the_heads_chain() {
    let (mut store, folder) = store();
    store.window = 2;
    let (first, ..) = stored(add(&store, signal("idp", "1", &[("a", 2_000), ("b", 3_000)])));
    add(&store, signal("idp", "2", &[("c", 2_000)]));
    let (last, head, _) = stored(add(&store, signal("idp", "3", &[("d", 2_000)])));
    let chains = |store: &SqliteStore| (0..=4).map(|n| store.chain(FEED, n).unwrap().is_some()).collect::<Vec<_>>();
    let ids = |store: &SqliteStore| {
        store.signals(FEED, &SignalQuery::default()).unwrap().iter().map(|record| record.id).collect::<Vec<_>>()
    };
    assert_eq!(store.prune(Timestamp(1_999)), Ok(0));
    assert_eq!(store.prune(Timestamp(2_000)), Ok(3));
    assert_eq!(chains(&store), [true, false, true, true, true], "2 has its entry; 3 and 4 are the last numbers");
    assert_eq!(ids(&store), [last, first], "one has an entry, the other is the last word of its transmitter");
    assert_eq!(store.prune(Timestamp(3_000)), Ok(1));
    assert_eq!(chains(&store), [true, false, false, true, true]);
    assert_eq!(ids(&store), [last]);
    assert_eq!(store.prune(Timestamp(3_000)), Ok(0));
    drop(store);
    let store = open(&folder);
    assert_eq!((store.head(FEED), store.chain(FEED, 4)), (Ok(head), Ok(Some(head.chain))));
    // Its id is free again, and numbers go on.
    let (again, revision, _) = stored(add(&store, signal("idp", "1", &[("a", 9_000)])));
    assert!(again > last && revision.number == 5);
    assert_eq!(store.prune(Timestamp(3_000)), Ok(0));
    assert_eq!(ids(&store), [again], "the last word of the transmitter is another now");
}

#[test]
fn entries_that_are_derived_again_take_the_place_of_those_before() {
    let (store, _folder) = store();
    let (first, ..) = stored(add(&store, signal("idp", "1", &[("a", 2_000), ("b", 3_000)])));
    let (second, ..) = stored(add(&store, signal("idp", "2", &[("c", 2_000)])));
    let (empty, ..) = stored(add(&store, signal("mdm", "1", &[])));
    let derive = |id: u64, jti: &str, tasks: &[(&str, u64)]| {
        let entries = signal("idp", jti, tasks).entries;
        commit(&store, Change::Derive { feed: FEED.to_owned(), signal: id, entries })
    };
    assert_eq!(derive(99, "1", &[("a", 9_000)]), Outcome::Unknown);
    let same = derive(first, "1", &[("a", 2_000), ("b", 3_000)]);
    assert!(matches!(same, Outcome::Repeated { signal, .. } if signal == first));
    let (_, revision, entries) = stored(derive(first, "1", &[("a", 5_000), ("b", 3_000), ("d", 4_000)]));
    assert_eq!((revision.number, numbers(&entries)), (6, vec![4, 5, 6]));
    assert_eq!(store.entries_of(FEED, first), Ok(entries));
    assert_eq!(numbers(&all_after(&store, 0, 1_000)), [3, 4, 5, 6]);
    // It is pruned by its new ends.
    assert_eq!(store.prune(Timestamp(4_500)), Ok(3));
    assert_eq!(numbers(&all_after(&store, 0, 1_000)), [4]);
    // What was undone stays undone, and says so also about what it did not say before.
    stored(commit(&store, lift(first)));
    let (_, head, entries) = stored(derive(first, "1", &[("a", 6_000), ("e", 6_000)]));
    assert!(entries.len() == 2 && entries.iter().all(is_lifted));
    assert!(store.signals(FEED, &SignalQuery { id: Some(first), ..Default::default() }).unwrap()[0].lifted.is_some());
    // A signal without entries may get some, and one whose entries have ended.
    stored(derive(empty, "1", &[("f", 6_000)]));
    assert_eq!(store.entries_of(FEED, second), Ok(Vec::new()));
    let (_, revision, _) = stored(derive(second, "2", &[("c", 7_000)]));
    assert_eq!((revision.number, store.head(FEED)), (head.number + 2, Ok(revision)));
}

#[test]
fn signals_are_kept_for_as_long_as_was_asked_for() {
    let (mut store, _folder) = store();
    store.keep = Span(5_000);
    let (first, ..) = stored(add(&store, signal("idp", "1", &[("a", 2_000)])));
    let (later, ..) = stored(add(&store, NewSignal { taken_in: 1_500_500, ..signal("idp", "2", &[]) }));
    add(&store, NewSignal { taken_in: 9_000_000, ..signal("idp", "3", &[]) });
    let ids = |store: &SqliteStore| {
        store.signals(FEED, &SignalQuery::default()).unwrap().iter().map(|record| record.id).collect::<Vec<_>>()
    };
    assert_eq!((store.prune(Timestamp(5_999)), store.get(PRUNED)), (Ok(1), Ok(None)));
    assert_eq!(ids(&store), [3, later, first], "its entry has ended, and it is there");
    store.prune(Timestamp(6_000)).unwrap();
    assert_eq!((ids(&store), store.get(PRUNED)), (vec![3, later], Ok(Some("1000000".to_owned()))));
    store.prune(Timestamp(7_000)).unwrap();
    assert_eq!((ids(&store), store.get(PRUNED)), (vec![3], Ok(Some("1500500".to_owned()))));
}

#[test]
fn a_signal_without_entries_is_kept_for_an_hour() {
    let (store, _folder) = store();
    let heartbeat = signal("idp", "1", &[]);
    let (id, revision, _) = stored(add(&store, heartbeat.clone()));
    assert_eq!(revision.number, 0);
    add(&store, signal("idp", "2", &[]));
    store.prune(Timestamp(1_000 + 3_599)).unwrap();
    assert_eq!(add(&store, heartbeat.clone()), Outcome::Repeated { signal: id, revision });
    store.prune(Timestamp(1_000 + 3_600)).unwrap();
    assert_ne!(stored(add(&store, heartbeat)).0, id);
}

#[test]
fn many_are_pruned_in_steps() {
    let (store, _folder) = store();
    let group: Vec<_> = (0..1_700)
        .map(|n| Change::Signal(signal("idp", &n.to_string(), &[(&format!("task-{n}"), 2_000 + n % 2)])))
        .collect();
    store.commit(&group).unwrap();
    assert_eq!(store.prune(Timestamp(2_000)), Ok(850));
    assert_eq!(all_after(&store, 0, 2_000).len(), 850);
    assert_eq!(store.prune(Timestamp(2_001)), Ok(850));
    assert_eq!(store.signals(FEED, &SignalQuery { limit: 5, ..Default::default() }).unwrap().len(), 1);
}

#[test]
fn signals_are_found_as_they_were_stored() {
    let (store, _folder) = store();
    let new = signal("idp", "1", &[("a", 9_000)]);
    let (id, ..) = stored(add(&store, new.clone()));
    add(&store, signal("mdm", "1", &[("a", 9_000)]));
    add(&store, signal("idp", "2", &[("b", 9_000)]));
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

#[test]
fn long_signals_are_found_a_few_at_a_time() {
    let (store, _folder) = store();
    for n in 0..50 {
        add(&store, NewSignal { claims: "x".repeat(60_000), ..signal("idp", &n.to_string(), &[]) });
    }
    let query = SignalQuery { limit: 1_000, ..SignalQuery::default() };
    let first = store.signals(FEED, &query).unwrap();
    assert_eq!(first.len(), 34, "2 MiB");
    let rest = store.signals(FEED, &SignalQuery { before: first.last().map(|last| last.id), ..query }).unwrap();
    assert_eq!(rest.len(), 16);
}

#[test]
fn other_records_are_kept() {
    let (store, folder) = store();
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
    store.remove_followers(FEED, &["1".to_owned(), "none".to_owned()]).unwrap();
    store.set("config", "one").unwrap();
    store.set("config", "two").unwrap();
    drop(store);

    let store = open(&folder);
    let audits = store.audits(None, 10).unwrap();
    assert_eq!(audits.iter().map(|(_, audit)| audit.status).collect::<Vec<_>>(), [403, 200]);
    assert_eq!(store.audits(Some(audits[0].0), 1).unwrap(), audits[1..]);
    assert_eq!(store.principals(), Ok(vec![ann]));
    let seen: Vec<_> = store.followers(FEED).unwrap();
    assert_eq!(seen, [FollowerRecord { seen: 8_000_000, ..follower("2") }, follower("3")]);
    assert_eq!(store.followers("other"), Ok(Vec::new()));
    assert_eq!((store.get("config"), store.get("none")), (Ok(Some("two".to_owned())), Ok(None)));
    assert_eq!(store.latest_time(), Ok(8_000_000));
    assert_eq!((store.remove_principal("ann"), store.remove_principal("ann")), (Ok(true), Ok(false)));
    assert_eq!(store.principals(), Ok(Vec::new()));
}

#[test]
fn the_latest_time_survives_what_it_was_stored_with() {
    let (store, _folder) = store();
    let late = NewSignal { taken_in: 9_000_000, ..signal("idp", "1", &[("a", 2_000)]) };
    let (id, ..) = stored(add(&store, late));
    add(&store, signal("idp", "2", &[("b", 2_000)]));
    store.prune(Timestamp(9_000)).unwrap();
    assert_eq!(store.signals(FEED, &SignalQuery { id: Some(id), ..Default::default() }), Ok(Vec::new()));
    assert_eq!(store.latest_time(), Ok(9_000_000));
}

#[test]
fn a_copy_is_of_one_moment_and_tells_that_it_is_one() {
    let (store, folder) = store();
    add(&store, signal("idp", "1", &[("a", 9_000)]));
    let head = store.head(FEED).unwrap();
    let to = folder.path().join("copy.sqlite");
    store.backup(&to).unwrap();
    add(&store, signal("idp", "2", &[("b", 9_000)]));
    let copy = SqliteStore::open(&to).unwrap();
    assert_eq!(copy.head(FEED), Ok(head));
    assert_eq!((store.get(BACKUP), copy.get(BACKUP)), (Ok(None), Ok(Some("1000000".to_owned()))));
    assert!(matches!(store.backup(&to), Err(StoreError::Failed(_))), "no file is overwritten");
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().contains("partial")), "{left:?}");
}

#[cfg(unix)]
#[test]
fn only_the_owner_may_read_the_files() {
    use std::os::unix::fs::PermissionsExt;
    let (store, folder) = store();
    store.backup(&folder.path().join("copy")).unwrap();
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", file.file_name());
    }
}

#[test]
fn a_full_database_refuses_and_the_store_lives_on() {
    let (store, _folder) = store();
    let pages: i64 = store.connections.writer().pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
    store.connections.writer().pragma_update(None, "max_page_count", pages + 4).unwrap();
    let large = |jti: &str| NewSignal { claims: "x".repeat(40_000), ..signal("idp", jti, &[("a", 9_000)]) };
    let refused = store.commit(&[Change::Signal(large("1"))]);
    assert!(matches!(refused, Err(StoreError::Full(_))), "{refused:?}");
    assert_eq!(store.head(FEED).unwrap().number, 0);
    store.connections.writer().pragma_update(None, "max_page_count", pages + 1_000).unwrap();
    assert_eq!(stored(add(&store, large("1"))).1.number, 1);
}

#[test]
fn the_reserve_is_given_up_when_the_disk_is_full_and_comes_back() {
    let (store, folder) = store();
    let store = store.claim(1024 * 1024).unwrap();
    let reserve = folder.path().join("hub.reserve");
    assert_eq!(std::fs::metadata(&reserve).unwrap().len(), 1024 * 1024);
    assert!(store.has_reserve());
    let pages: i64 = store.connections.writer().pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
    store.connections.writer().pragma_update(None, "max_page_count", pages).unwrap();
    assert!(matches!(store.set("a", &"x".repeat(40_000)), Err(StoreError::Full(_))));
    let line = Audit { detail: "x".repeat(40_000), ..Audit::default() };
    assert!(matches!(store.audit(&[line]), Err(StoreError::Full(_))));
    assert!(store.has_reserve(), "only signals may use it");
    let large = NewSignal { claims: "x".repeat(40_000), ..signal("idp", "1", &[("a", 9_000)]) };
    assert!(matches!(store.commit(&[Change::Signal(large)]), Err(StoreError::Full(_))));
    assert!(!store.has_reserve() && !reserve.exists());
    store.prune(NOW).unwrap();
    assert!(store.has_reserve(), "the disk has room again");
}

#[test]
fn what_is_left_of_the_disk_is_for_signals_and_the_last_of_it_for_operators() {
    let (store, _folder) = store();
    // More than any disk has, so that less than a tenth is left.
    let store = store.claim(u64::MAX).unwrap();
    assert!(!store.has_reserve());
    let full = |done: Result<(), StoreError>| matches!(done, Err(StoreError::Full(_)));
    assert!(full(store.check_room()) && full(store.set("a", "b")) && full(store.audit(&[Audit::default()])));
    assert!(full(store.put_followers(&[])) && full(store.set_for_signals("a", "b")));
    let (theirs, ours) = (signal("idp", "1", &[("a", 9_000)]), signal("operator", "1", &[("b", 9_000)]));
    let changes = [Change::Signal(theirs), Change::Signal(ours.clone())];
    assert!(full(store.commit(&changes).map(drop)), "both or none");
    stored(add(&store, ours));
    let lift = Change::Lift { feed: FEED.into(), signal: 1, by: "ann".into(), reason: String::new(), at: 1 };
    assert!(store.commit(&[lift]).is_ok() && store.prune(NOW).is_ok());
    assert_eq!(store.remove_principal("nobody"), Ok(false), "what removes something makes room");
}

#[test]
fn one_hub_at_a_time_uses_a_store() {
    let (store, folder) = store();
    let hub = store.claim(0).unwrap();
    assert!(matches!(open(&folder).claim(0), Err(StoreError::Failed(why)) if why.contains("another hub")));
    assert!(open(&folder).principals().is_ok(), "commands on the host still work");
    drop(hub);
    open(&folder).claim(0).unwrap();
}

#[test]
fn after_a_commit_whose_outcome_is_not_known_nothing_is_written() {
    let (store, _folder) = store();
    store.is_uncertain.store(true, Ordering::Release);
    let refused = store.commit(&[Change::Signal(signal("idp", "1", &[("a", 9_000)]))]);
    assert!(matches!(refused, Err(StoreError::Uncertain(_))));
    assert!(matches!(store.set("a", "b"), Err(StoreError::Uncertain(_))));
    assert_eq!(store.head(FEED).unwrap().number, 0);
}

#[test]
fn a_reader_sees_one_moment_while_others_write() {
    let (store, _folder) = store();
    add(&store, signal("idp", "1", &[("a", 9_000), ("b", 9_000)]));
    let mut seen = Vec::new();
    let head = store.full_state(FEED, NOW, &mut |entry| {
        seen.push(entry.number);
        let jti = format!("during-{}", seen.len());
        add(&store, signal("idp", &jti, &[("c", 9_000)]));
    });
    seen.sort_unstable();
    assert_eq!((seen, head.unwrap().number), (vec![1, 2], 2));
    assert_eq!(store.head(FEED).unwrap().number, 4);
}

#[test]
fn a_feed_remembers_the_epochs_that_it_has_had() {
    let (store, folder) = store();
    let first = store.head(FEED).unwrap().epoch;
    assert_eq!(store.get(&past_epochs(FEED)), Ok(None));
    store.renew_feed(FEED, 0xAB).unwrap();
    store.renew_feed(FEED, u64::MAX).unwrap();
    drop(store);
    let past = open(&folder).get(&past_epochs(FEED)).unwrap();
    assert_eq!(past, Some(format!("{first:x} ab")));
}

#[test]
fn signals_after_an_id_come_oldest_first() {
    let (store, _folder) = store();
    let ids: Vec<_> =
        ["1", "2", "3"].map(|jti| stored(commit(&store, Change::Signal(signal("idp", jti, &[("a", 9_000)])))).0).into();
    let after = |id, limit| {
        let found = store.signals_after(FEED, id, limit).unwrap();
        found.into_iter().map(|record| record.id).collect::<Vec<_>>()
    };
    assert_eq!(after(0, 9), ids);
    assert_eq!(after(ids[0], 1), [ids[1]]);
    assert_eq!(after(ids[2], 9), [0; 0]);
}

#[test]
fn values_are_listed_by_prefix_and_swapped_where_they_are_as_expected() {
    let (store, _folder) = store();
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
