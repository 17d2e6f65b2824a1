use super::*;
use crate::store::testing::{FEED, commit, open, signal, store, stored};
use crate::store::{BACKUP, model::NewSignal};

mod full_disk;

const NOW: Timestamp = Timestamp(1_000);

fn add(store: &SqliteStore, new: NewSignal) -> Outcome {
    commit(store, Change::Signal(new))
}

fn all_after(store: &SqliteStore, after: u64, now: u64) -> Vec<StoredEntry> {
    store.entries_after(FEED, after, usize::MAX, Timestamp(now)).unwrap().0
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
