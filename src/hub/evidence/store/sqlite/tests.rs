use super::*;
use crate::evidence::model::{EventKind, GrantId};
use crate::evidence::store::day::DAY;
use crate::evidence::store::testing::{
    ALWAYS, FEED, Home, ISSUER, MIDNIGHT, add, batch, count, event, events, grant, grants, of_event, of_gap, record,
    records, refused, seen, task, tokens, uses, write,
};
use rusqlite::Connection;
use rusqlite::types::Value;
use std::fs;
use std::path::PathBuf;
use taskfence_core::uses::batch::{GrantUses, SeenKind};

mod damage;

fn path(home: &Home) -> PathBuf {
    home.folder.path().join("evidence")
}

fn open(home: &Home) -> SqliteEvidence {
    SqliteEvidence::open(&path(home), home.kept).unwrap()
}

/// The names of all files, in order.
fn files(home: &Home) -> Vec<String> {
    let files = fs::read_dir(path(home)).unwrap();
    let mut names: Vec<_> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    names.sort_unstable();
    names
}

/// Everything of one kind on a day after [`MIDNIGHT`].
fn fill(store: &dyn EvidenceStore, day: u64) {
    let at = MIDNIGHT + day * DAY + 5;
    let uses = GrantUses {
        refused: vec![refused(Some(1), "scope", 2, at, at)],
        seen: vec![seen(SeenKind::Source, "10.0.0.7", 1, at, at)],
        ..uses(grant(&format!("t{day}")), 1, at, at)
    };
    let mut one = batch("n", &format!("vm-{day}"), 1, at, vec![uses]);
    one.batch.records = vec![record(&format!("t{day}"), at)];
    add(store, one);
    let ended = of_event(event(&day.to_string(), EventKind::Ended, "refund-1", at));
    assert_eq!(store.write(&[ended, of_gap("n", &format!("gap-{day}"), at, at)]), Ok(vec![Written::Stored; 2]));
}

#[test]
fn each_day_has_a_file_and_only_those_in_use_are_open() {
    let home = Home::sqlite();
    let store = open(&home);
    (0..10).for_each(|day| fill(&store, day));
    let names = files(&home);
    let days = names.iter().filter(|name| name.starts_with("2024-10-") && name.ends_with(".sqlite")).count();
    let logs = names.iter().filter(|name| name.starts_with("2024-10-") && name.ends_with("-wal")).count();
    assert_eq!((days, names[0].as_str(), logs <= 6), (10, "2024-10-04.sqlite", true), "{names:?}");
    drop(store);
    assert_eq!(files(&home).len(), 11, "with the index, and no logs: {:?}", files(&home));
    let store = open(&home);
    assert_eq!(count(&store, ALWAYS), 10);
    assert_eq!(store.prune(MIDNIGHT + 92 * DAY), Ok(3));
    assert_eq!(files(&home).iter().filter(|name| name.ends_with(".sqlite")).count(), 8);
}

#[cfg(unix)]
#[test]
fn only_the_owner_may_read_the_files() {
    use std::os::unix::fs::PermissionsExt;
    let home = Home::sqlite();
    let store = open(&home);
    fill(&store, 0);
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(path(&home)), 0o700);
    for name in files(&home) {
        assert_eq!(mode(path(&home).join(&name)), 0o600, "{name}");
    }
}

#[test]
fn what_was_answered_is_there_after_a_crash() {
    let home = Home::sqlite();
    let store = open(&home);
    (0..3).for_each(|day| fill(&store, day));
    store.set("copied", "7").unwrap();
    // As the disk is when the process is killed now, with what else such a process leaves behind.
    let crashed = Home::sqlite();
    fs::create_dir(path(&crashed)).unwrap();
    for name in files(&home).iter().filter(|name| !name.ends_with("-shm")) {
        fs::copy(path(&home).join(name), path(&crashed).join(name)).unwrap();
    }
    for name in ["2024-11-01.sqlite.new", "2024-11-01.sqlite.new-wal", "2024-11-02.sqlite-wal", "2024-11-02.sqlite-shm"]
    {
        fs::write(path(&crashed).join(name), "half").unwrap();
    }
    let store = open(&crashed);
    assert_eq!((count(&store, ALWAYS), events(&store, ALWAYS).len()), (3, 3));
    assert_eq!(records(&store, 0, ALWAYS, 9).0, ["t0", "t1", "t2"]);
    assert_eq!(store.get("copied"), Ok(Some("7".to_owned())));
    assert!(files(&crashed).iter().all(|name| !name.starts_with("2024-11")), "{:?}", files(&crashed));
    let again = batch("n", "vm-1", 1, MIDNIGHT + DAY + 5, Vec::new());
    assert_eq!(write(&store, Write::Batch(Box::new(again))), Written::Repeated);
}

#[test]
fn a_call_that_fails_stores_nothing_of_any_day() {
    let home = Home::sqlite();
    let store = open(&home);
    (0..2).for_each(|day| fill(&store, day));
    let limit = |pages: i64| {
        let mut writer = store.writer();
        let day = Day::of(MIDNIGHT + DAY);
        writer.limit_pages(day, pages);
    };
    limit(1);
    let at = |day: u64| MIDNIGHT + day * DAY + 9;
    let mut large = batch("n", "large", 1, at(1), Vec::new());
    large.batch.records = vec![serde_json::json!("x".repeat(1_000_000))];
    let small = batch("n", "small", 1, at(0), vec![uses(grant("small"), 1, at(0), at(0))]);
    let both = [small, large].map(|one| Write::Batch(Box::new(one)));
    let refused = store.write(&both);
    assert!(matches!(&refused, Err(StoreError::Full(why)) if why.contains("2024-10-05.sqlite")), "{refused:?}");
    assert_eq!((count(&store, ALWAYS), records(&store, 0, ALWAYS, 9).0.len()), (2, 2));
    // The file was closed with the transaction, and has no limit any more.
    assert_eq!(store.write(&both), Ok(vec![Written::Stored; 2]));
    assert_eq!((count(&store, ALWAYS), records(&store, 0, ALWAYS, 9).0.len()), (3, 3));
}

#[test]
fn a_file_whose_commit_failed_is_synced_before_it_is_written_again() {
    let home = Home::sqlite();
    let store = open(&home);
    fill(&store, 0);
    store.writer().doubt(Day::of(MIDNIGHT));
    let log = path(&home).join("2024-10-04.sqlite-wal");
    assert!(fs::metadata(&log).is_err(), "the file was closed");
    fill(&store, 5);
    assert!(store.writer().is_doubted(Day::of(MIDNIGHT)));
    let repeated = of_event(event("0", EventKind::Ended, "refund-1", MIDNIGHT + 5));
    assert_eq!(write(&store, repeated), Written::Repeated);
    assert!(!store.writer().is_doubted(Day::of(MIDNIGHT)));
}

#[test]
fn the_newest_day_takes_no_more_than_the_quota() {
    let mut home = Home::sqlite();
    home.kept.bytes = 2 * 1024 * 1024;
    let store = open(&home);
    let at = |day: u64| MIDNIGHT + day * DAY + 9;
    let send = |day: u64, number: u64| {
        let mut large = batch("n", &format!("vm-{day}"), number, at(day), Vec::new());
        large.batch.records = vec![serde_json::json!({"time_ms": at(day), "x": "x".repeat(200_000)})];
        write(&store, Write::Batch(Box::new(large)))
    };
    let day = |day: u64| (1..40).map(|number| send(day, number)).collect::<Vec<_>>();
    let first = day(0);
    let stored = first.iter().filter(|written| **written == Written::Stored).count();
    assert!(stored > 3 && stored < 15 && first[38] == Written::Dropped, "{first:?}");
    let late = of_event(event("1", EventKind::Ended, "t", at(0)));
    assert_eq!(store.write(&[late, of_gap("n", "g", at(0), at(0))]), Ok(vec![Written::Dropped; 2]));
    let lost = store.losses(FEED, ALWAYS).unwrap().batches_dropped;
    assert_eq!(lost, 39 - u64::try_from(stored).unwrap());
    assert!(store.usage().unwrap().bytes < 3 * 1024 * 1024, "{:?}", store.usage());
    // A new day takes the room of the oldest one.
    assert_eq!(day(1)[38], Written::Dropped);
    assert_eq!(day(2)[0], Written::Dropped, "there is no room for the first batch of a day, which makes it");
    let usage = store.usage().unwrap();
    assert!(usage.first_day >= 20_001 && usage.bytes < 3 * 1024 * 1024, "{usage:?}");
}

#[test]
fn a_reader_goes_on_while_its_day_is_removed() {
    let home = Home::sqlite();
    let store = open(&home);
    let at = MIDNIGHT + 5;
    add(&store, batch("n", "a", 1, at, (0..2_000).map(|n| uses(grant(&format!("t{n}")), 1, at, at)).collect()));
    let mut read = 0;
    let each = &mut |_| {
        if read == 0 {
            assert_eq!(store.prune(MIDNIGHT + 100 * DAY), Ok(1));
        }
        read += 1;
        true
    };
    store.grants(FEED, ALWAYS, each).unwrap();
    assert_eq!((read, count(&store, ALWAYS), files(&home).len()), (2_000, 0, 3));
}

#[test]
fn a_reader_sees_one_moment_while_others_write() {
    let home = Home::sqlite();
    let store = open(&home);
    let at = MIDNIGHT + 5;
    let send = |number: u64| {
        add(&store, batch("n", "a", number, at, (0..300).map(|n| uses(grant(&format!("t{n}")), 1, at, at)).collect()));
    };
    send(1);
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| (2..40).for_each(&send));
        while !writing.is_finished() {
            let counts: Vec<_> = grants(&store, ALWAYS).iter().map(|row| row.permitted[0].count).collect();
            assert!(counts.len() == 300 && counts.iter().all(|count| *count == counts[0]), "{counts:?}");
        }
    });
    assert_eq!(count(&store, ALWAYS), 39 * 300);
}

#[test]
fn a_gap_far_ahead_of_what_came_last_makes_no_day() {
    let home = Home::sqlite();
    let store = open(&home);
    fill(&store, 0);
    assert_eq!(write(&store, of_gap("n", "g", MIDNIGHT, MIDNIGHT + 900 * DAY)), Written::Dropped);
    assert_eq!(files(&home).iter().filter(|name| name.ends_with(".sqlite")).count(), 2);
}

#[test]
fn the_views_are_readable() {
    let home = Home::sqlite();
    let store = open(&home);
    fill(&store, 0);
    let outline = serde_json::json!({"config": "c0ffee", "rules": [{"name": "read", "effect": "require"}]});
    let outline = serde_json::from_value(outline).unwrap();
    write(&store, Write::Config { feed: FEED.to_owned(), outline });
    let id = GrantId::new(ISSUER, "t0").to_string();
    let at = i64::try_from(MIDNIGHT).unwrap();
    let text = |text: &str| Value::Text(text.to_owned());
    let feed = || text(FEED);
    let one = |file: &str, query: &str| {
        let connection = Connection::open(path(&home).join(file)).unwrap();
        let mut query = connection.prepare(query).unwrap();
        let columns = query.column_count();
        let row =
            query.query_row([], |row| (0..columns).map(|column| row.get(column)).collect::<Result<Vec<Value>, _>>());
        row.unwrap()
    };
    let day = |query: &str| one("2024-10-04.sqlite", query);
    let token = grant("t0");
    assert_eq!(
        day(
            "SELECT feed, \"grant\", issuer, token, fingerprint, subject, client, task, session, issued_ms, expires_ms,
             actors, scopes, cut, masked, other, details ->> '$[0].type' FROM grants"
        ),
        [
            feed(),
            text(&id),
            text(ISSUER),
            text("t0"),
            text(&token.fingerprint),
            text("ann"),
            text("agent"),
            text("task-of-t0"),
            text("session-of-t0"),
            Value::Integer(at - 3_600_000),
            Value::Integer(at + 3_600_000),
            text(r#"["agent-7","orchestrator"]"#),
            text(r#"["orders.read","orders.refund"]"#),
            Value::Integer(0),
            Value::Null,
            Value::Integer(0),
            text("order"),
        ]
    );
    let (hour, when, number) = (Value::Integer(at), Value::Integer(at + 5), |n| Value::Integer(n));
    assert_eq!(
        day("SELECT feed, \"grant\", node, config, rule, method, captures, hour_ms, count, break_glass, first_ms, last_ms
             FROM uses"),
        [
            feed(),
            text(&id),
            text("n"),
            text("c0ffee"),
            text("read"),
            text("GET"),
            text(r#"["1881"]"#),
            hour.clone(),
            number(1),
            number(0),
            when.clone(),
            when.clone(),
        ]
    );
    let refusal = day("SELECT \"grant\", rule, reason, shadow, ended, count, first_ms, hour_ms FROM refusals");
    let (zero, two) = (number(0), number(2));
    assert_eq!(refusal, [text(&id), text("write"), text("scope"), zero.clone(), zero, two, when.clone(), hour.clone()]);
    let sighting = day("SELECT \"grant\", kind, value, count, last_ms, hour_ms FROM sightings");
    assert_eq!(sighting, [text(&id), text("source"), text("10.0.0.7"), number(1), when.clone(), hour]);
    let found = day("SELECT position, feed, node, at_ms, \"grant\", record ->> '$.verdict' FROM records");
    assert_eq!(found, [number(1), feed(), text("n"), when.clone(), text(&id), text("denied")]);
    let found = day("SELECT feed, source, id, kind, at_ms, heard_at_ms, issuer, task, token, data FROM events");
    let heard = Value::Integer(at + 25);
    let (source, kind, none) = (text("jit"), text("ended"), Value::Null);
    let expected =
        [feed(), source, text("0"), kind, when.clone(), heard, text(ISSUER), text("refund-1"), none, text("null")];
    assert_eq!(found, expected);
    let found = day("SELECT feed, node, vm, since_ms, until_ms FROM gaps");
    assert_eq!(found, [feed(), text("n"), text("gap-0"), when.clone(), when.clone()]);
    let found = day("SELECT feed, vm, first_number, last_number, proxy, node, until_ms, records_dropped FROM batches");
    let proxy = text("follower-of-n");
    assert_eq!(found, [feed(), text("vm-0"), number(1), number(1), proxy, text("n"), when, number(0)]);
    let found = one("index.sqlite", "SELECT feed, config, position, rule, effect, methods, shadow FROM configs");
    let (rule, effect) = (text("read"), text("require"));
    assert_eq!(found, [feed(), text("c0ffee"), number(0), rule, effect, Value::Null, number(0)]);
    assert_eq!(tokens(&store.find(FEED, &task("task-of-t0"), None, ALWAYS, 9).unwrap().grants), ["t0"]);
}

#[test]
fn the_disk_of_the_folder_has_room() {
    let home = Home::sqlite();
    assert!(open(&home).free().unwrap() > 0);
}

#[test]
fn the_files_of_a_question_share_the_memory_for_pages() {
    let home = Home::sqlite();
    let store = open(&home);
    (0..20).for_each(|day| fill(&store, day));
    let folder = folder::Folder::new(&path(&home)).unwrap();
    let cached = |read: Result<Vec<source::Source>, StoreError>| -> Vec<i64> {
        let of = |one: &source::Source| one.connection.query_row("PRAGMA cache_size", [], |row| row.get(0)).unwrap();
        read.unwrap().iter().map(of).collect()
    };
    let mut faults = source::Faults::default();
    assert_eq!(cached(source::of_uses(&folder, FEED, ALWAYS, &mut faults)), [-6_553; 20]);
    let (first, last) = (Day::of(MIDNIGHT), Day::of(MIDNIGHT + DAY));
    assert_eq!(cached(source::of_days(&folder, FEED, (first, last), &mut faults)), [-16_384; 2]);
}
