//! A disk that is really full. It needs a small file system of its own:
//!
//! ```text
//! mount -t tmpfs -o size=24m tmpfs DIR
//! TASKFENCE_SMALL_DISK=DIR cargo test -p taskfence-hub -- --ignored full_disk
//! ```

use super::*;
use std::io::Write;

const MIB: usize = 1024 * 1024;

#[test]
#[ignore = "needs a small file system"]
fn signals_are_still_stored_from_the_reserve_and_what_is_refused_is_told() {
    let folder = std::path::PathBuf::from(std::env::var_os("TASKFENCE_SMALL_DISK").unwrap());
    let folder = tempfile::tempdir_in(folder).unwrap();
    let store = open(&folder).claim(u64::try_from(6 * MIB).unwrap()).unwrap();
    store.open_feed(FEED, 7).unwrap();
    assert!(store.has_reserve());
    let signal_of = |n: usize| NewSignal {
        claims: "x".repeat(8_000),
        ..signal("idp", &n.to_string(), &[(&format!("task-{n}"), 9_000)])
    };
    add(&store, signal_of(0));

    // Another program takes all the rest.
    let others = folder.path().join("others");
    let mut file = std::fs::File::create(&others).unwrap();
    while file.write_all(&[b'x'; 4096]).is_ok() {}

    // Whoever reads fills the audit log, and not the reserve.
    let line = |call: &str| {
        let (call, detail) = (call.to_owned(), format!(r#"{{"query":"{}"}}"#, "x".repeat(4_000)));
        Audit { at: 5_000_000, by: "ann".to_owned(), call, status: 200, detail }
    };
    let refused = (0..2_000).find_map(|_| store.audit(&line("GET /v1/feeds/main/signals")).err());
    assert!(matches!(refused, Some(StoreError::Full(_))), "{refused:?}");
    assert!(store.has_reserve());
    assert!((0..200).all(|_| store.audit(&line("POST /v1/feeds/main/stops")).is_ok()));

    let mut taken = Vec::new();
    let refused = loop {
        let n = taken.len() + 1;
        match store.commit(&[Change::Signal(signal_of(n))]) {
            Ok(outcomes) => taken.extend(outcomes.into_iter().map(|outcome| stored(outcome).1)),
            Err(error) => break error,
        }
    };
    println!("{} signals of 8 KB from a reserve of 6 MiB, then: {refused}", taken.len());
    assert!(matches!(refused, StoreError::Full(_)));
    assert!(taken.len() > 100 && !store.has_reserve());
    assert_eq!(store.head(FEED).as_ref(), Ok(taken.last().unwrap()), "what was refused is not there");
    assert!(matches!(store.commit(&[Change::Signal(signal_of(taken.len() + 1))]), Err(StoreError::Full(_))));

    // Somebody makes room: the hub goes on, and has a reserve again.
    std::fs::remove_file(&others).unwrap();
    drop(file);
    assert_eq!(stored(add(&store, signal_of(taken.len() + 1))).1.number, taken.last().unwrap().number + 1);
    let head = store.head(FEED).unwrap();
    drop(store);
    let store = open(&folder);
    assert_eq!(store.head(FEED), Ok(head));
    assert_eq!(all_after(&store, 0, 1_000).len(), taken.len() + 2);
}
