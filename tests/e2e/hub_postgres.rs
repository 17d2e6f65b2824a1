//! A hub whose store is in PostgreSQL, while servers crash, are replaced, and come back from a backup.

use std::{
    fs,
    sync::Arc,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use taskfence_tests::{
    client::Request,
    hub::{Hub, SOON},
    mint::{complete_task, unique},
    postgres::{Postgres, programs},
};
use tokio::time;

/// How long a hub may take to find its way after the database has changed, on a busy machine.
const RECOVERY: Duration = Duration::from_secs(60);

/// Whether the test is skipped: PostgreSQL is not installed.
fn is_skipped(test: &str) -> bool {
    let is_missing = programs().is_none();
    if is_missing {
        eprintln!("skipped: {test}: PostgreSQL is not installed");
    }
    is_missing
}

async fn start(name: &str, url: &str) -> Hub {
    let url = url.to_owned();
    Hub::start_with(name, move |config| config["store"] = json!({"postgres": {"url": url}})).await.unwrap()
}

/// Writes another configuration.
fn reconfigure(hub: &Hub, change: impl FnOnce(&mut Value)) {
    let mut config: Value = serde_json::from_str(&fs::read_to_string(hub.config_file()).unwrap()).unwrap();
    change(&mut config);
    fs::write(hub.config_file(), config.to_string()).unwrap();
}

/// Pushes the end of a task until that is answered 202.
async fn push_until_taken(hub: &Hub, task: &str) {
    let begin = Instant::now();
    loop {
        let answer = hub.push(&complete_task(task)).await;
        if answer.as_ref().is_ok_and(|answer| answer.status == 202) {
            return;
        }
        assert!(begin.elapsed() < RECOVERY, "{answer:?}\n{}", hub.log());
        time::sleep(Duration::from_millis(100)).await;
    }
}

async fn ready_again(hub: &Hub) {
    let begin = Instant::now();
    while !hub.send(&Request::get("/readyz")).await.is_ok_and(|answer| answer.status == 200) {
        assert!(begin.elapsed() < RECOVERY, "{}", hub.log());
        time::sleep(Duration::from_millis(100)).await;
    }
}

/// The tasks that the store has.
fn stored(server: &Postgres) -> String {
    server.run("postgres", "SELECT string_agg(claims, ' ') FROM taskfence.signal")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_killed_under_load_loses_nothing_that_was_answered() {
    if is_skipped("a_database_that_is_killed_under_load_loses_nothing_that_was_answered") {
        return;
    }
    let mut server = Postgres::start();
    let hub = Arc::new(start("postgres-killed", &server.url("postgres")).await);
    let pid = hub.pid();
    let end = Arc::new(AtomicBool::new(false));
    let load = |_| {
        let (hub, end) = (Arc::clone(&hub), Arc::clone(&end));
        tokio::spawn(async move {
            let (mut taken, mut refused) = (Vec::new(), 0usize);
            while !end.load(Ordering::Relaxed) {
                let task = unique("task");
                match hub.push(&complete_task(&task)).await {
                    Ok(answer) if answer.status == 202 => taken.push(task),
                    Ok(answer) => {
                        assert_eq!(answer.status, 503, "{}", answer.text());
                        refused += 1;
                        time::sleep(Duration::from_millis(20)).await;
                    }
                    Err(error) => panic!("the hub has gone: {error}"),
                }
            }
            (taken, refused)
        })
    };
    let loads: Vec<_> = (0..8).map(load).collect();
    for _ in 0..2 {
        time::sleep(Duration::from_secs(1)).await;
        server.kill();
        time::sleep(Duration::from_millis(500)).await;
        server.resume();
        push_until_taken(&hub, &unique("task")).await;
    }
    time::sleep(Duration::from_secs(1)).await;
    end.store(true, Ordering::Relaxed);
    let (mut taken, mut refused) = (Vec::new(), 0);
    for load in loads {
        let (more, not) = load.await.unwrap();
        taken.extend(more);
        refused += not;
    }
    let stored = stored(&server);
    let lost: Vec<_> = taken.iter().filter(|task| !stored.contains(task.as_str())).collect();
    eprintln!("{} answered 202, {refused} answered 503", taken.len());
    assert!(lost.is_empty(), "answered 202 and lost: {lost:?}");
    assert!(taken.len() > 20 && refused > 0, "{} and {refused}", taken.len());
    assert_eq!(hub.pid(), pid, "it did not end");
    ready_again(&hub).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_takes_over_and_the_old_primary_is_not_used_again() {
    if is_skipped("a_standby_takes_over_and_the_old_primary_is_not_used_again") {
        return;
    }
    let mut old = Postgres::start();
    old.configure("synchronous_standby_names = 'standby'\n");
    let mut new = old.standby();
    // The new primary waits for one, too.
    let _third = new.standby();
    old.reload();
    let url = format!("postgresql://hub@127.0.0.1:{},127.0.0.1:{}/postgres", old.port(), new.port());
    let mut hub = start("postgres-promoted", &url).await;
    let first = unique("task");
    push_until_taken(&hub, &first).await;
    let before = hub.head().await.unwrap();
    old.kill();
    let answer = hub.push(&complete_task(&unique("task"))).await.unwrap();
    assert_eq!(answer.status, 503, "nobody keeps it");
    new.promote();
    push_until_taken(&hub, &unique("task")).await;
    assert!(stored(&new).contains(&first), "what was answered was on the standby");
    let after = hub.head().await.unwrap();
    let epoch = |head: &str| head.split('.').next().unwrap_or_default().to_owned();
    assert_ne!(epoch(&before), epoch(&after), "proxies take everything anew");
    assert!(hub.log().contains("another server has become the primary"), "{}", hub.log());
    ready_again(&hub).await;
    // The old one comes back, the first in the URL. It is not used, also not by a hub that starts.
    old.configure("synchronous_standby_names = ''\n");
    old.resume();
    hub.kill();
    hub.run().await.unwrap();
    let task = unique("task");
    push_until_taken(&hub, &task).await;
    assert!(stored(&new).contains(&task) && !stored(&old).contains(&task));
    // Nor where it is the only one that answers.
    old.configure("synchronous_standby_names = 'anybody'\n");
    old.reload();
    new.stop();
    let begin = Instant::now();
    while !hub.log().contains("it is an old primary") {
        let answer = hub.push(&complete_task(&unique("task"))).await.unwrap();
        assert_eq!(answer.status, 503, "{}", answer.text());
        assert!(begin.elapsed() < RECOVERY, "{}", hub.log());
        time::sleep(Duration::from_millis(100)).await;
    }
    new.resume();
    push_until_taken(&hub, &unique("task")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_that_was_restored_is_not_ready_until_the_gap_has_a_name() {
    if is_skipped("a_dump_that_was_restored_is_not_ready_until_the_gap_has_a_name") {
        return;
    }
    let server = Postgres::start();
    let mut hub = start("postgres-restored", &server.url("postgres")).await;
    push_until_taken(&hub, &unique("task")).await;
    let dump = server.client("pg_dump", &["--schema=taskfence", "postgres"]);
    assert!(dump.status.success());
    push_until_taken(&hub, &unique("task")).await;
    let refused = hub.try_command(&["hub", "backup", "--config", &hub.config_file(), "/tmp/none"]).unwrap();
    assert!(refused.0 == 1 && refused.1.contains("pg_dump"), "{refused:?}");
    hub.stop().unwrap();
    let other = Postgres::start();
    let file = hub.folder().join("dump.sql");
    fs::write(&file, dump.stdout).unwrap();
    let restored =
        other.client("psql", &["-Xq", "-v", "ON_ERROR_STOP=1", "-f", &file.display().to_string(), "postgres"]);
    assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
    reconfigure(&hub, |config| config["store"]["postgres"]["url"] = json!(other.url("postgres")));
    let answer = hub.run_until(503).await.unwrap();
    let begin = Instant::now();
    let mut text = answer.text().to_owned();
    while !text.contains("restore") {
        assert!(begin.elapsed() < SOON, "{text}");
        time::sleep(Duration::from_millis(100)).await;
        text = hub.send(&Request::get("/readyz")).await.unwrap().text().to_owned();
    }
    // It takes signals meanwhile. The store may still be busy with what the restore means.
    push_until_taken(&hub, &unique("task")).await;
    hub.command(&["hub", "accept-loss", "--config", &hub.config_file(), "--by", "ann"]).unwrap();
    ready_again(&hub).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_is_moved_from_a_file_and_never_used_there_again() {
    if is_skipped("a_store_is_moved_from_a_file_and_never_used_there_again") {
        return;
    }
    let server = Postgres::start();
    let mut hub = Hub::start("postgres-moved").await.unwrap();
    let task = unique("task");
    push_until_taken(&hub, &task).await;
    let before = hub.head().await.unwrap();
    let data = hub.folder().join("data").display().to_string();
    let old = fs::read_to_string(hub.config_file()).unwrap();
    reconfigure(&hub, |config| config["store"] = json!({"postgres": {"url": server.url("postgres")}}));
    let file = hub.config_file();
    let step = ["hub", "move", "--config", &file, "--from", &data];
    let refused = hub.try_command(&step).unwrap();
    assert!(refused.0 == 1 && refused.1.contains("end it first"), "{refused:?}");
    hub.stop().unwrap();
    let moved = hub.command(&step).unwrap();
    assert!(moved.contains("signal: 1 rows"), "{moved}");
    hub.run().await.unwrap();
    assert_eq!(hub.head().await.unwrap(), before, "proxies go on where they were");
    assert!(stored(&server).contains(&task));
    push_until_taken(&hub, &unique("task")).await;
    hub.stop().unwrap();
    fs::write(hub.config_file(), old).unwrap();
    let refused = hub.try_command(&["hub", "token", "list", "--config", &file]).unwrap();
    assert!(refused.0 == 1 && refused.1.contains("was moved to"), "{refused:?}");
}
