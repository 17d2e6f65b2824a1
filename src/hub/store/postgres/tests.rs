use super::*;
use crate::store::model::NewSignal;
use crate::store::testing::server::{self, Postgres as Server};
use crate::store::testing::{FEED, Home, commit, signal, stored};
use crate::store::{RESTORED, RESTORED_AT, past_epochs};
use std::sync::Barrier;

#[test]
fn two_hubs_give_out_each_number_once_and_in_order() {
    let Some(home) = Home::postgres("two_hubs_give_out_each_number_once_and_in_order") else { return };
    drop(home.store());
    let other = Home { folder: tempfile::tempdir().unwrap(), ..Home::at(&home.postgres.as_ref().unwrap().1) };
    let (barrier, end) = (Barrier::new(3), std::sync::atomic::AtomicBool::new(false));
    let write = |home: &Home, name: &'static str| {
        let store = home.try_open().unwrap();
        barrier.wait();
        for n in 0..40 {
            let group: Vec<_> = (0..5)
                .map(|m| {
                    let task = format!("{name}-{n}-{m}");
                    Change::Signal(signal(name, &task, &[(&task, 9_000), ("shared", 9_000)]))
                })
                .collect();
            store.commit(&group).unwrap();
        }
    };
    thread::scope(|scope| {
        let (one, two) = (scope.spawn(|| write(&home, "a")), scope.spawn(|| write(&other, "b")));
        let watch = scope.spawn(|| {
            let store = home.try_open().unwrap();
            barrier.wait();
            // What is seen once is complete: no number and no id comes later before another.
            let (mut number, mut chain, mut id) = (0, Chain::default(), 0);
            loop {
                let is_last = end.load(std::sync::atomic::Ordering::Acquire);
                let (entries, upto) = store.entries_after(FEED, number, usize::MAX, Timestamp(1_000)).unwrap();
                for entry in entries {
                    assert_eq!(entry.number, number + 1);
                    (number, chain) = (entry.number, chain.after(entry.number, &entry.entry.bytes));
                }
                assert_eq!((upto.number, upto.chain), (number, chain));
                for record in store.signals_after(FEED, id, 1_000).unwrap() {
                    assert!(record.id > id);
                    id = record.id;
                }
                let all = store.signals(FEED, &SignalQuery { limit: 10_000, ..SignalQuery::default() }).unwrap();
                assert!(all.iter().filter(|record| record.id <= id).count() <= usize::try_from(id).unwrap());
                if is_last {
                    return (number, all.len());
                }
            }
        });
        one.join().unwrap();
        two.join().unwrap();
        end.store(true, std::sync::atomic::Ordering::Release);
        assert_eq!(watch.join().unwrap(), (800, 400));
    });
}

#[test]
fn other_hubs_hear_of_a_change() {
    let Some(home) = Home::postgres("other_hubs_hear_of_a_change") else { return };
    drop(home.store());
    let (one, two) = (home.try_open().unwrap().for_hub().unwrap(), home.try_open().unwrap().for_hub().unwrap());
    let (mut own, mut heard) = (one.changes().unwrap(), two.changes().unwrap());
    // Both say so once when they have begun to listen.
    wait::wait(own.changed(), Duration::from_secs(5)).unwrap().unwrap();
    wait::wait(heard.changed(), Duration::from_secs(5)).unwrap().unwrap();
    commit(&one, Change::Signal(signal("idp", "1", &[("a", 9_000)])));
    wait::wait(heard.changed(), Duration::from_secs(5)).unwrap().unwrap();
    assert!(wait::wait(own.changed(), Duration::from_millis(300)).is_err(), "it knows of its own");
}

#[test]
fn another_server_is_a_restore_and_a_newer_timeline_a_new_epoch() {
    let Some(home) = Home::postgres("another_server_is_a_restore_and_a_newer_timeline_a_new_epoch") else { return };
    let store = home.store();
    stored(commit(&*store, Change::Signal(signal("idp", "1", &[("a", 9_000)]))));
    drop(store);
    assert_eq!(home.store().head(FEED).unwrap().epoch, 7, "nothing happened");
    home.run("UPDATE taskfence.origin SET timeline = 0");
    let store = home.store();
    let promoted = store.head(FEED).unwrap();
    assert!(promoted.epoch != 7 && promoted.number == 1);
    assert_eq!((store.get(&past_epochs(FEED)), store.get(RESTORED)), (Ok(Some("7".to_owned())), Ok(None)));
    drop(store);
    assert_eq!(home.store().head(FEED), Ok(promoted), "once");
    home.run("UPDATE taskfence.origin SET system = system + 1");
    let store = home.store();
    assert_ne!(store.head(FEED).unwrap().epoch, promoted.epoch);
    assert_eq!(store.get(RESTORED), Ok(Some("1000000".to_owned())));
    assert!(store.get(RESTORED_AT).unwrap().is_some_and(|at| at.len() == 13));
}

#[test]
fn a_store_that_knows_less_than_the_hub_is_a_restore() {
    let Some(home) = Home::postgres("a_store_that_knows_less_than_the_hub_is_a_restore") else { return };
    let store = home.store();
    commit(&*store, Change::Signal(signal("idp", "1", &[("a", 9_000)])));
    home.copy(&*store, 1);
    commit(&*store, Change::Signal(signal("idp", "2", &[("b", 9_000)])));
    drop(store);
    // The file is written once a second at most; a hub that starts writes it.
    drop(home.store());
    home.set_back(1);
    let store = home.store();
    assert_eq!((store.head(FEED).unwrap().number, store.get(RESTORED)), (1, Ok(Some("1000000".to_owned()))));
}

#[test]
fn what_a_new_primary_lacks_is_missed_also_when_another_hub_has_gone_on_from_there() {
    let test = "what_a_new_primary_lacks_is_missed_also_when_another_hub_has_gone_on_from_there";
    let Some(home) = Home::postgres(test) else { return };
    let other = Home { folder: tempfile::tempdir().unwrap(), ..Home::at(&home.postgres.as_ref().unwrap().1) };
    let store = home.store();
    commit(&*store, Change::Signal(signal("idp", "1", &[("a", 9_000)])));
    home.copy(&*store, 1);
    commit(&*store, Change::Signal(signal("idp", "2", &[("b", 9_000)])));
    drop(store);
    drop(home.store());
    // A standby takes over without the second one, and the other hub notices that there is a new primary.
    home.set_back(1);
    home.run("UPDATE taskfence.origin SET timeline = 0");
    let file = home.folder.path().join("postgres.json");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("\"timeline\":1", "\"timeline\":0")).unwrap();
    let store = other.store();
    assert_eq!(store.get(RESTORED), Ok(None), "it has stored nothing before");
    for name in ["3", "4", "5"] {
        commit(&*store, Change::Signal(signal("idp", name, &[(name, 9_000)])));
    }
    assert_eq!(store.head(FEED).unwrap().number, 4);
    drop(store);
    assert!(home.store().get(RESTORED).unwrap().is_some(), "what it has answered is not there");
}

#[test]
fn an_old_primary_is_refused() {
    let Some(home) = Home::postgres("an_old_primary_is_refused") else { return };
    drop(home.store());
    let file = home.folder.path().join("postgres.json");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("\"timeline\":1", "\"timeline\":2")).unwrap();
    let refused = home.try_open().map(drop);
    assert!(matches!(&refused, Err(StoreError::Unavailable(why)) if why.contains("old primary")), "{refused:?}");
}

#[test]
fn a_character_that_the_database_does_not_have_is_no_reason_to_refuse() {
    let Some(home) = Home::postgres("a_character_that_the_database_does_not_have") else { return };
    let store = home.store();
    let odd = NewSignal { reason: "a\0b".to_owned(), ..signal("idp", "\0", &[("a", 9_000)]) };
    let (id, revision, _) = stored(commit(&*store, Change::Signal(odd.clone())));
    assert_eq!(commit(&*store, Change::Signal(odd)), Outcome::Repeated { signal: id, revision });
    let query = SignalQuery { jti: Some("\0".to_owned()), ..SignalQuery::default() };
    assert_eq!(store.signals(FEED, &query).unwrap().len(), 1);
}

#[test]
fn a_role_without_rights_is_told_what_it_needs() {
    let Some(home) = Home::postgres("a_role_without_rights_is_told_what_it_needs") else { return };
    let url = &home.postgres.as_ref().unwrap().1;
    let name = url.rsplit_once('/').unwrap().1;
    home.run(&format!("CREATE ROLE guest_{name} LOGIN; REVOKE CREATE ON DATABASE {name} FROM PUBLIC"));
    let guest = Home::at(&url.replace("//hub@", &format!("//guest_{name}@")));
    let refused = guest.try_open().map(drop);
    let wanted = "CREATE SCHEMA taskfence AUTHORIZATION";
    assert!(matches!(&refused, Err(StoreError::Failed(why)) if why.contains(wanted)), "{refused:?}");
    // With a schema of its own it needs no more.
    home.run(&format!("CREATE SCHEMA taskfence AUTHORIZATION guest_{name}"));
    stored(commit(&*guest.store(), Change::Signal(signal("idp", "1", &[("a", 9_000)]))));
}

#[test]
fn several_servers_without_a_standby_and_one_without_fsync_are_refused() {
    if server::programs().is_none() {
        return eprintln!("skipped: PostgreSQL is not installed");
    }
    let server = Server::start();
    let url = server.url("postgres");
    let several = url.replace("/postgres", &format!(",127.0.0.1:{}/postgres", server.port()));
    let refused = Home::at(&several).try_open().map(drop);
    let is_told = |refused: &Result<(), StoreError>, wanted: &str| {
        assert!(matches!(refused, Err(StoreError::Failed(why)) if why.contains(wanted)), "{refused:?}");
    };
    is_told(&refused, "synchronous_standby_names");
    server.configure("fsync = off\n");
    server.reload();
    thread::sleep(Duration::from_millis(300));
    is_told(&Home::at(&url).try_open().map(drop), "fsync");
}

#[test]
fn a_commit_that_no_standby_has_is_not_stored_until_one_has_it() {
    if server::programs().is_none() {
        return eprintln!("skipped: PostgreSQL is not installed");
    }
    let server = Server::start();
    let home = Home::at(&server.url("postgres"));
    let store = home.store();
    server.configure("synchronous_standby_names = 'standby'\n");
    server.reload();
    thread::sleep(Duration::from_millis(300));
    let cancel = "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    let begin = Instant::now();
    let answered = thread::scope(|scope| {
        let committing = scope.spawn(|| store.commit(&[Change::Signal(signal("idp", "1", &[("a", 9_000)]))]));
        thread::sleep(Duration::from_millis(500));
        // An operator loses patience: the server then says that it has committed, and warns.
        assert_eq!(server.run("postgres", cancel), "1");
        thread::sleep(Duration::from_secs(2));
        assert!(!committing.is_finished(), "it is on no standby");
        server.configure("synchronous_standby_names = ''\n");
        server.reload();
        committing.join().unwrap()
    });
    assert!(matches!(answered.unwrap()[0], Outcome::Stored { .. }), "in {:?}", begin.elapsed());
    assert_eq!(store.head(FEED).unwrap().number, 1);
}

#[test]
fn a_server_that_does_not_answer_holds_nobody_up_for_long() {
    if server::programs().is_none() {
        return eprintln!("skipped: PostgreSQL is not installed");
    }
    let mut server = Server::start();
    let home = Home::at(&server.url("postgres"));
    let store = home.store();
    server.freeze();
    let begin = Instant::now();
    let refused = store.head(FEED);
    let took = begin.elapsed();
    server.wake();
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    assert!(took < Duration::from_secs(20), "{took:?}");
    thread::sleep(Duration::from_millis(400));
    assert!(store.head(FEED).is_ok());
    // It goes on by itself after a crash.
    server.kill();
    assert!(matches!(store.head(FEED), Err(StoreError::Unavailable(_))));
    server.resume();
    thread::sleep(Duration::from_millis(400));
    assert!(store.head(FEED).is_ok());
}

#[test]
fn a_file_is_moved_with_all_that_it_has_and_the_history_goes_on() {
    let Some(home) = Home::postgres("a_file_is_moved_with_all_that_it_has_and_the_history_goes_on") else { return };
    let source = Home::sqlite();
    let old = source.store();
    let (id, ..) = stored(commit(&*old, Change::Signal(signal("idp", "1", &[("a", 9_000), ("b", 9_000)]))));
    commit(&*old, Change::Signal(NewSignal { jti: "n\0".to_owned(), ..signal("idp", "2", &[("a", 9_500)]) }));
    commit(&*old, crate::store::testing::lift(id));
    let token = (vec![1; 32], 5, 6);
    let ann =
        PrincipalRecord { name: "ann".into(), role: "operator".into(), tokens: vec![token], ..Default::default() };
    old.put_principal(&ann).unwrap();
    old.audit(&[Audit { detail: "{}".into(), ..Audit::default() }]).unwrap();
    old.set("config", "one").unwrap();
    let file = source.folder.path().join("hub.sqlite");
    let moved = home.try_open().unwrap().import(&file).unwrap();
    let count = |name: &str| moved.iter().find(|(table, _)| *table == name).unwrap().1;
    assert_eq!(["feed", "signal", "entry", "log", "audit", "token"].map(count), [1, 2, 3, 5, 1, 1]);
    let new = home.store();
    assert_eq!(new.head(FEED), old.head(FEED));
    let all = |store: &dyn Store| store.entries_after(FEED, 0, usize::MAX, Timestamp(1_000)).unwrap();
    assert_eq!(all(&*new), all(&*old));
    assert_eq!(new.entries_of(FEED, id), old.entries_of(FEED, id));
    assert_eq!((new.principals(), new.latest_time()), (Ok(vec![ann]), old.latest_time()));
    assert_eq!(new.get("config"), Ok(Some("one".to_owned())));
    // The next ones follow, in both alike.
    let next = |store: &dyn Store| commit(store, Change::Signal(signal("idp", "3", &[("c", 9_000)])));
    assert_eq!(next(&*new), next(&*old));
    let again = home.try_open().unwrap().import(&file);
    assert!(matches!(&again, Err(StoreError::Failed(why)) if why.contains("has a store already")), "{again:?}");
}

#[test]
fn the_certificate_of_the_server_is_verified() {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    if server::programs().is_none() {
        return eprintln!("skipped: PostgreSQL is not installed");
    }
    let authority = || {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        (certificate.pem(), Issuer::new(params, key))
    };
    let ((ours, issuer), (theirs, _)) = (authority(), authority());
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let server = Server::start();
    server.own_file("server.crt", &certificate.pem());
    server.own_file("server.key", &key.serialize_pem());
    server.configure("ssl = on\n");
    server.own_file("pg_hba.conf", "hostssl all all 127.0.0.1/32 trust\nhostnossl all all 127.0.0.1/32 reject\n");
    server.reload();
    thread::sleep(Duration::from_millis(300));
    let folder = tempfile::tempdir().unwrap();
    let with = |host: &str, ca: Option<&str>| {
        let url = format!("postgresql://hub@{host}:{}/postgres", server.port());
        let mut home = Home::at(&url);
        if let Some(ca) = ca {
            let file = folder.path().join("ca.pem");
            std::fs::write(&file, ca).unwrap();
            let postgres = &mut home.postgres.as_mut().unwrap().0;
            (postgres.ca, postgres.tls) = (Some(file), true);
        }
        home.try_open().map(drop)
    };
    let is_refused = |opened: &Result<(), StoreError>, wanted: &str| {
        assert!(matches!(opened, Err(StoreError::Unavailable(why)) if why.contains(wanted)), "{opened:?}");
    };
    is_refused(&with("127.0.0.1", None), "pg_hba.conf rejects");
    is_refused(&with("localhost", Some(&theirs)), "invalid peer certificate");
    is_refused(&with("127.0.0.1", Some(&ours)), "not valid for name");
    is_refused(&with("localhost", Some("no certificate")), "`store.postgres.ca`");
    assert_eq!(with("localhost", Some(&ours)), Ok(()));
}

#[test]
fn a_password_is_read_from_its_file_at_each_connection() {
    if server::programs().is_none() {
        return eprintln!("skipped: PostgreSQL is not installed");
    }
    let server = Server::start();
    server.run("postgres", "SET password_encryption = 'scram-sha-256'; ALTER ROLE hub PASSWORD 'first'");
    server.own_file("pg_hba.conf", "host all all 127.0.0.1/32 scram-sha-256\n");
    let mut home = Home::at(&server.url("postgres"));
    let file = home.folder.path().join("password");
    std::fs::write(&file, "first\n").unwrap();
    server.reload();
    thread::sleep(Duration::from_millis(300));
    let refused = home.try_open().map(drop);
    assert!(matches!(&refused, Err(StoreError::Unavailable(_) | StoreError::Failed(_))), "{refused:?}");
    home.postgres.as_mut().unwrap().0.password_file = Some(file.clone());
    home.store().set("a", "b").unwrap();
    std::fs::write(&file, "second").unwrap();
    let refused = home.try_open().map(drop);
    let is_told = |why: &str| why.contains("password") && !why.contains("second");
    assert!(matches!(&refused, Err(StoreError::Unavailable(why)) if is_told(why)), "{refused:?}");
}
