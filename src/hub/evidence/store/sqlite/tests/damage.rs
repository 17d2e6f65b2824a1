//! Files that are damaged.

use super::*;
use std::io::{Seek, SeekFrom, Write as _};

const DAMAGED: &str = "2024-10-05.sqlite.damaged-1";

/// Writes over a part of the file.
fn damage(home: &Home, name: &str, at: u64, bytes: usize) {
    let mut file = fs::OpenOptions::new().write(true).open(path(home).join(name)).unwrap();
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(&vec![0x5a; bytes]).unwrap();
}

/// A closed store with three days.
fn filled() -> Home {
    let home = Home::sqlite();
    let store = open(&home);
    (0..3).for_each(|day| fill(&store, day));
    home
}

/// What is left is read, what is lost is told, and the day takes new evidence.
fn lives_on(home: &Home, store: &SqliteEvidence) {
    assert_eq!(tokens(&grants(store, ALWAYS)), ["t0", "t2"]);
    assert_eq!(events(store, ALWAYS), ["0", "2"]);
    assert_eq!(records(store, 0, ALWAYS, 9).0, ["t0", "t2"]);
    assert!(files(home).contains(&DAMAGED.to_owned()), "{:?}", files(home));
    let gaps = store.gaps(FEED, ALWAYS).unwrap();
    let told = gaps.iter().find(|gap| gap.vm.contains(DAMAGED)).unwrap();
    assert_eq!((told.since, told.until), (MIDNIGHT + DAY, MIDNIGHT + 2 * DAY - 1));
    fill(store, 1);
    assert_eq!(tokens(&grants(store, ALWAYS)), ["t0", "t1", "t2"]);
    assert_eq!(store.usage().unwrap().grants, 3);
    // It goes with its day, and not before.
    assert_eq!(store.prune(MIDNIGHT + DAY + 89 * DAY), Ok(1));
    assert!(files(home).contains(&DAMAGED.to_owned()));
    assert_eq!(store.prune(MIDNIGHT + DAY + 90 * DAY), Ok(1));
    assert!(files(home).iter().all(|name| !name.contains("damaged")), "{:?}", files(home));
}

#[test]
fn a_damaged_file_is_set_aside_when_the_store_is_opened() {
    let home = filled();
    damage(&home, "2024-10-05.sqlite", 0, 100);
    let store = open(&home);
    assert!(files(&home).contains(&DAMAGED.to_owned()));
    lives_on(&home, &store);
}

#[test]
fn a_damaged_file_is_set_aside_when_it_is_read() {
    let home = filled();
    let store = open(&home);
    damage(&home, "2024-10-05.sqlite", 0, 100);
    assert_eq!(tokens(&grants(&store, ALWAYS)), ["t0", "t2"]);
    lives_on(&home, &store);
}

#[test]
fn a_damaged_file_is_set_aside_when_it_is_written() {
    let home = filled();
    let store = open(&home);
    damage(&home, "2024-10-05.sqlite", 0, 100);
    let at = MIDNIGHT + DAY + 9;
    let again = batch("n", "vm-1", 1, at, vec![uses(grant("again"), 1, at, at)]);
    add(&store, again);
    assert!(files(&home).contains(&DAMAGED.to_owned()));
    assert_eq!(tokens(&grants(&store, ALWAYS)), ["again", "t0", "t2"]);
}

#[test]
fn damage_in_the_middle_of_a_file_keeps_no_other_from_being_read() {
    let home = Home::sqlite();
    let store = open(&home);
    for day in 0..3 {
        let at = MIDNIGHT + day * DAY + 5;
        let many = (0..3_000).map(|n| uses(grant(&format!("{day}-{n}")), 1, at, at)).collect();
        add(&store, batch("n", "a", day + 1, at, many));
    }
    drop(store);
    let store = open(&home);
    let size = usize::try_from(fs::metadata(path(&home).join("2024-10-05.sqlite")).unwrap().len()).unwrap();
    damage(&home, "2024-10-05.sqlite", 64 * 1024, size - 64 * 1024);
    let rows = grants(&store, ALWAYS);
    let of = |day: &str| rows.iter().filter(|row| row.info.token.starts_with(day)).count();
    assert_eq!((of("0-"), of("2-")), (3_000, 3_000));
    assert!(of("1-") < 3_000 && rows.is_sorted_by(|a, b| a.id < b.id));
    assert!(files(&home).contains(&DAMAGED.to_owned()), "{:?}", files(&home));
    let again = grants(&store, ALWAYS);
    assert_eq!(again.len(), 6_000);
}

#[test]
fn a_second_damaged_file_has_a_name_of_its_own() {
    let home = filled();
    for number in 1..=3 {
        damage(&home, "2024-10-05.sqlite", 0, 100);
        let store = open(&home);
        fill(&store, 1);
        assert!(files(&home).contains(&format!("2024-10-05.sqlite.damaged-{number}")));
    }
}

#[test]
fn a_damaged_index_is_set_aside() {
    let home = filled();
    open(&home).set("copied", "7").unwrap();
    damage(&home, "index.sqlite", 0, 100);
    let store = open(&home);
    assert!(files(&home).contains(&"index.sqlite.damaged-1".to_owned()));
    assert_eq!((store.get("copied"), count(&store, ALWAYS)), (Ok(None), 3));
    let last = records(&store, 0, ALWAYS, 9).1;
    fill(&store, 3);
    assert_eq!(records(&store, last, ALWAYS, 9).0, ["t3"]);
}

#[test]
fn the_files_of_a_newer_hub_and_of_other_programs_are_left_alone() {
    let home = filled();
    let file = Connection::open(path(&home).join("2024-10-05.sqlite")).unwrap();
    file.pragma_update(None, "user_version", 99).unwrap();
    drop(file);
    let refused = SqliteEvidence::open(&path(&home), home.kept).map(drop);
    assert!(matches!(refused, Err(StoreError::Newer { found: 99, .. })), "{refused:?}");
    let home = filled();
    fs::write(path(&home).join("notes.txt"), "mine").unwrap();
    fs::write(path(&home).join("2024-10-05.sqlite.bak"), "mine").unwrap();
    let store = open(&home);
    assert_eq!(count(&store, ALWAYS), 3);
    assert!(files(&home).contains(&"notes.txt".to_owned()));
}
