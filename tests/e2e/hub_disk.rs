//! The disk of a hub is full, or was lost and restored from a backup.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use taskfence_tests::{
    artefacts,
    bootstrap::Settings,
    client::Request,
    hub::{FEED, Hub, SOON, fresh, read_order, refused_as_ended, wait_ready, without_receiver},
    jwks,
    mint::{complete_task, now, unique},
    orders,
    refusal::{assert_allowed, assert_refused, assert_signal_accepted},
    sidecar::Sidecar,
};
use tokio::time;

/// The shortest that there is.
const STALE_AFTER: &str = "5s";

/// A small file system of its own; unmounted when dropped.
pub(crate) struct SmallDisk {
    /// Where it is mounted.
    pub(crate) at: PathBuf,
    /// What runs `mount` and `umount` as root.
    by: &'static [&'static str],
}

impl SmallDisk {
    /// Mounts one of `size`. Where that is not permitted: `None`, and with `CI` set a failed test.
    pub(crate) fn mount(name: &str, size: &str) -> Option<SmallDisk> {
        let at = artefacts::target().join("tests").join(unique(name));
        fs::create_dir_all(&at).unwrap();
        let options = format!("size={size},mode=0777");
        let mut reasons = Vec::new();
        for by in [&[][..], &["sudo", "-n"]] {
            let arguments = ["mount", "-t", "tmpfs", "-o", &options, "tmpfs", at.to_str().unwrap()];
            match run(by, &arguments) {
                Ok(()) => return Some(SmallDisk { at, by }),
                Err(reason) => reasons.push(reason),
            }
        }
        assert!(std::env::var_os("CI").is_none(), "no small disk can be mounted: {reasons:?}");
        eprintln!("skipped: no small disk can be mounted: {reasons:?}");
        None
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // A hub that is killed a moment later may still use it.
        let _ = run(self.by, &["umount", "-l", self.at.to_str().unwrap_or_default()]);
    }
}

fn run(by: &[&str], arguments: &[&str]) -> Result<(), String> {
    let all = [by, arguments].concat();
    let output = Command::new(all[0]).args(&all[1..]).output().map_err(|error| format!("{}: {error}", all[0]))?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if output.status.success() { Ok(()) } else { Err(said) }
}

/// Takes all room that is left, as another program would.
fn fill(path: &Path) {
    let mut file = File::create(path).unwrap();
    while file.write_all(&[b'x'; 4096]).is_ok() {}
}

/// A proxy that follows `hub`, and may not have caught up.
async fn starting(name: &str, hub: &Hub) -> Sidecar {
    let mut config = hub.followed_by(&orders::config());
    config["signals"]["stale"]["after"] = json!(STALE_AFTER);
    let settings = Settings::new(name, config).workers(1).patch(without_receiver);
    Sidecar::start(settings.patch(jwks::with_clusters(vec![hub.cluster()]))).await.unwrap()
}

/// The same, when it has.
async fn follower(name: &str, hub: &Hub) -> Sidecar {
    let proxy = starting(name, hub).await;
    wait_ready(&proxy).await.unwrap();
    proxy
}

/// Ends so many tasks at the hub; their names.
async fn end_tasks(hub: &Hub, count: usize) -> Vec<String> {
    let tasks: Vec<_> = (0..count).map(|_| unique("task")).collect();
    for task in &tasks {
        assert_signal_accepted(&hub.push(&complete_task(task)).await.unwrap());
    }
    tasks
}

#[tokio::test]
async fn a_full_disk_refuses_signals_and_loses_none() {
    let Some(disk) = SmallDisk::mount("small-disk", "16m") else { return };
    let data = disk.at.join("data");
    let hub = Hub::start_with("disk-full", |config| {
        config["data"] = json!(data);
        // With a reserve, the hub has room once more when it gives the reserve up.
        config["reserve_mib"] = json!(0);
    });
    let mut hub = hub.await.unwrap();
    let proxy = follower("disk-full-envoy", &hub).await;
    let mut taken = end_tasks(&hub, 3).await;
    let others = disk.at.join("others");
    fill(&others);
    let mut refused = 0;
    // What the log of the database has allocated takes some more.
    for _ in 0..10_000 {
        let task = unique("task");
        let answer = hub.push(&complete_task(&task)).await.unwrap();
        match answer.status {
            202 => taken.push(task),
            503 => refused += 1,
            status => panic!("{status} {}", answer.text()),
        }
        if refused == 20 {
            break;
        }
    }
    assert_eq!(refused, 20, "the disk never was full: {} signals were taken", taken.len());
    eprintln!("{} signals were taken until the disk was full", taken.len());
    // The proxy has what was answered 202, and goes on. A new one is not let in: the hub could not remember it.
    for task in &taken {
        refused_in_the_end(&proxy, task).await;
    }
    assert_allowed(&proxy, &read_order(&proxy, &fresh().sign()).await.unwrap());
    let other = starting("disk-full-other", &hub).await;
    let until = Instant::now() + Duration::from_secs(7);
    while Instant::now() < until {
        assert_allowed(&proxy, &read_order(&proxy, &fresh().sign()).await.unwrap());
        assert_refused(&other, &read_order(&other, &fresh().sign()).await.unwrap(), "state_not_ready");
        time::sleep(Duration::from_millis(50)).await;
    }
    let ready = hub.send(&Request::get("/readyz")).await.unwrap();
    assert_eq!((ready.status, failed(&ready.json())), (503, vec!["store".to_owned()]), "{}", ready.text());
    fs::remove_file(&others).unwrap();
    let deadline = Instant::now() + SOON;
    loop {
        let task = unique("task");
        let answer = hub.push(&complete_task(&task)).await.unwrap();
        if answer.status == 202 {
            break taken.push(task);
        }
        assert!(Instant::now() < deadline, "{} {}\n{}", answer.status, answer.text(), hub.log());
        time::sleep(Duration::from_millis(100)).await;
    }
    taken.extend(end_tasks(&hub, 10).await);
    wait_ready(&other).await.unwrap();
    hub.kill();
    hub.run().await.unwrap();
    hub.wait_everywhere().await.unwrap();
    for task in &taken {
        refused_as_ended(&proxy, task).await.unwrap();
        refused_as_ended(&other, task).await.unwrap();
    }
    hub.kill();
}

#[tokio::test]
async fn the_reserve_is_for_signals_and_who_looks_is_answered_on_a_full_disk() {
    let Some(disk) = SmallDisk::mount("reserve-disk", "24m") else { return };
    let data = disk.at.join("data");
    let hub = Hub::start_with("disk-reserve", |config| {
        config["data"] = json!(data);
        config["reserve_mib"] = json!(4);
    });
    let hub = hub.await.unwrap();
    let reserve = data.join("hub.reserve");
    let proxy = follower("disk-reserve-envoy", &hub).await;
    let mut ended = end_tasks(&hub, 3).await;
    let others = disk.at.join("others");
    fill(&others);
    // Who only looks is answered, and uses up what the log of the database has allocated; the reserve stays.
    let reads = [
        "/v1/feeds",
        "/v1/feeds/orders/proxies",
        "/v1/feeds/orders/signals",
        "/v1/feeds/orders/receipts/1",
        "/v1/audit",
    ];
    let deadline = Instant::now() + SOON;
    while value(&hub, "taskfence_hub_audit_waiting").await < 20.0 {
        for path in reads {
            let path = path.replace("orders", FEED);
            let answer = hub.call("GET", &path, None).await.unwrap();
            assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        }
        assert!(Instant::now() < deadline, "the audit log was never full");
    }
    assert!(reserve.exists(), "only signals may use it");
    // A new proxy would have to be stored.
    let other = starting("disk-reserve-other", &hub).await;
    time::sleep(Duration::from_secs(3)).await;
    assert_refused(&other, &read_order(&other, &fresh().sign()).await.unwrap(), "state_not_ready");
    // Signals go on from the reserve, until the rest is kept for operators.
    let mut refused = 0;
    while refused < 20 {
        let task = unique("task");
        let answer = hub.push(&complete_task(&task)).await.unwrap();
        match answer.status {
            202 => ended.push(task),
            503 => refused += 1,
            status => panic!("{status} {}", answer.text()),
        }
    }
    assert!(!reserve.exists(), "{} signals were taken", ended.len());
    eprintln!("{} signals were taken", ended.len());
    let stop = json!({"issuer": orders::ISSUER, "what": "client", "name": "stopped-client", "reason": "full disk"});
    let answer = hub.call("POST", &format!("/v1/feeds/{FEED}/stops"), Some(&stop)).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let undo = json!({"signal": answer.json()["signal"], "reason": "it was a test"});
    let answer = hub.call("POST", &format!("/v1/feeds/{FEED}/undo"), Some(&undo)).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let (_, state) = hub.try_command(&["state", "--issuer", orders::ISSUER, "--task", &ended[0]]).unwrap();
    assert!(state.contains("task-completed"), "{state}");
    let (code, status) = hub.try_command(&["status"]).unwrap();
    assert!(code == 1 && status.contains("disk of the store is full"), "{code} {status}");
    for task in &ended {
        refused_in_the_end(&proxy, task).await;
    }
    assert_refused(&other, &read_order(&other, &fresh().sign()).await.unwrap(), "state_not_ready");
    let log = hub.log();
    assert!(!log.contains("the tokens cannot be read"), "{log}");
    assert!(log.contains("this line waits in memory"), "{log}");
    // With room on the disk the new proxy is let in, and what waited is in the audit log.
    fs::remove_file(&others).unwrap();
    wait_ready(&other).await.unwrap();
    let deadline = Instant::now() + SOON;
    while value(&hub, "taskfence_hub_audit_waiting").await > 0.0 {
        assert!(Instant::now() < deadline, "{}", hub.log());
        time::sleep(Duration::from_millis(100)).await;
    }
    let audit = hub.call("GET", "/v1/audit?limit=1000", None).await.unwrap().text();
    assert!(audit.contains("full disk") && audit.contains("it was a test"), "{audit}");
    assert_eq!(value(&hub, "taskfence_hub_audit_lost_total").await, 0.0);
    let ready = hub.send(&Request::get("/readyz")).await.unwrap();
    assert_eq!(ready.status, 200, "{}", ready.text());
}

/// The value of a metric of the hub without labels.
async fn value(hub: &Hub, metric: &str) -> f64 {
    let text = hub.call("GET", "/metrics", None).await.unwrap().text();
    let line = text.lines().find_map(|line| line.strip_prefix(metric)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {metric} in {text}")).parse().unwrap()
}

#[tokio::test]
async fn a_restored_hub_is_not_ready_until_somebody_accepts_the_loss() {
    let mut hub = Hub::start("disk-restored").await.unwrap();
    let proxy = follower("disk-restored-envoy", &hub).await;
    let kept = end_tasks(&hub, 3).await;
    let copy = hub.folder().join("copy.sqlite");
    hub.command(&["hub", "backup", "--config", &hub.config_file(), copy.to_str().unwrap()]).unwrap();
    let lost = end_tasks(&hub, 3).await;
    hub.wait_everywhere().await.unwrap();
    hub.kill();
    put_in_place(&hub, &copy);
    hub.run_until(503).await.unwrap();
    wait_failed(&hub, &["restore"]).await;
    let live = hub.send(&Request::get("/livez")).await.unwrap();
    assert_eq!(live.status, 200);
    // It stays so by itself.
    time::sleep(Duration::from_secs(2)).await;
    let ready = hub.send(&Request::get("/readyz")).await.unwrap();
    assert_eq!(ready.status, 503);
    assert!(ready.text().contains("accept-loss"), "it says what to do: {}", ready.text());
    // Whoever reaches it all the same is served: a signal is better taken than refused.
    let meanwhile = end_tasks(&hub, 3).await;
    for task in kept.iter().chain(&lost).chain(&meanwhile) {
        refused_in_the_end(&proxy, task).await;
    }
    let said = hub.command(&["hub", "accept-loss", "--config", &hub.config_file(), "--by", "alice"]).unwrap();
    assert!(said.starts_with("accepted: what was taken in after"), "{said}");
    wait_failed(&hub, &[]).await;
    let audit = hub.call("GET", "/v1/audit", None).await.unwrap().text();
    assert!(audit.contains("accept-loss") && audit.contains("alice"), "{audit}");
    let again = hub.command(&["hub", "accept-loss", "--config", &hub.config_file(), "--by", "alice"]).unwrap();
    assert!(again.contains("nothing is lost"), "{again}");
    hub.wait_everywhere().await.unwrap();
    // The proxy that was there keeps what the store has lost. A new one cannot know of it.
    let other = follower("disk-restored-other", &hub).await;
    for task in kept.iter().chain(&meanwhile) {
        refused_as_ended(&other, task).await.unwrap();
    }
    for task in kept.iter().chain(&lost).chain(&meanwhile) {
        refused_as_ended(&proxy, task).await.unwrap();
    }
    hub.kill();
    hub.run().await.unwrap();
}

#[tokio::test]
async fn after_a_restore_all_that_began_before_may_be_cut_off() {
    let mut hub = Hub::start("disk-cut-off").await.unwrap();
    let copy = hub.folder().join("copy.sqlite");
    hub.command(&["hub", "backup", "--config", &hub.config_file(), copy.to_str().unwrap()]).unwrap();
    let lost = end_tasks(&hub, 1).await.remove(0);
    let began_before = || fresh().claim("auth_time", now());
    let (of_lost, bystander) = (began_before().task(&lost).sign(), began_before().sign());
    hub.kill();
    put_in_place(&hub, &copy);
    time::sleep(Duration::from_secs(1)).await;
    hub.run_until(503).await.unwrap();
    // None of the proxies of before is there any more: without more, the lost task goes on.
    let proxy = follower("disk-cut-off-envoy", &hub).await;
    assert_allowed(&proxy, &read_order(&proxy, &of_lost).await.unwrap());
    let config = hub.config_file();
    let said = hub.command(&["hub", "accept-loss", "--config", &config, "--by", "alice", "--cut-off"]).unwrap();
    assert!(said.starts_with("ordered: the hub cuts off"), "{said}");
    wait_failed(&hub, &[]).await;
    hub.wait_everywhere().await.unwrap();
    for token in [&of_lost, &bystander] {
        assert_refused(&proxy, &read_order(&proxy, token).await.unwrap(), "principal_revoked");
    }
    time::sleep(Duration::from_secs(1)).await;
    let new = began_before().sign();
    assert_allowed(&proxy, &read_order(&proxy, &new).await.unwrap());
    let audit = hub.call("GET", "/v1/audit", None).await.unwrap().text();
    assert!(audit.contains(r#""cut_off":true"#) && audit.contains("alice"), "{audit}");
    // It is a signal of an operator: it stays over a restart, and can be undone by its number.
    hub.kill();
    hub.run().await.unwrap();
    assert_refused(&proxy, &read_order(&proxy, &bystander).await.unwrap(), "principal_revoked");
    let signals = hub.call("GET", "/v1/feeds/main/signals?transmitter=operator", None).await.unwrap().json();
    let made: Vec<_> = signals.as_array().unwrap().iter().filter(|signal| signal["event"] == "cut-off").collect();
    assert_eq!((made.len(), &made[0]["by"]), (1, &json!("alice")), "{signals}");
    let undone = json!({"signal": made[0]["signal"], "reason": "the transmitter has sent all again"});
    let undone = hub.call("POST", "/v1/feeds/main/undo", Some(&undone)).await.unwrap();
    assert_eq!(undone.status, 200, "{}", undone.text());
    hub.wait_everywhere().await.unwrap();
    assert_allowed(&proxy, &read_order(&proxy, &bystander).await.unwrap());
}

#[tokio::test]
async fn an_older_copy_that_is_no_backup_is_noticed_by_proxies() {
    let mut hub = Hub::start("disk-set-back").await.unwrap();
    let proxy = follower("disk-set-back-envoy", &hub).await;
    let kept = end_tasks(&hub, 2).await;
    hub.wait_everywhere().await.unwrap();
    hub.stop().unwrap();
    let (database, copy) = (hub.folder().join("data/hub.sqlite"), hub.folder().join("copy.sqlite"));
    for end in ["", "-wal"] {
        let of = |path: &Path| format!("{}{end}", path.display());
        fs::copy(of(&database), of(&copy)).unwrap();
    }
    hub.run().await.unwrap();
    let lost = end_tasks(&hub, 2).await;
    hub.wait_everywhere().await.unwrap();
    hub.kill();
    put_in_place(&hub, &copy);
    hub.run_until(200).await.unwrap();
    wait_failed(&hub, &["history"]).await;
    let ready = hub.send(&Request::get("/readyz")).await.unwrap();
    assert!(ready.text().contains("start the hub again"), "it says what to do: {}", ready.text());
    hub.kill();
    hub.run_until(503).await.unwrap();
    wait_failed(&hub, &["restore"]).await;
    hub.command(&["hub", "accept-loss", "--config", &hub.config_file(), "--by", "alice"]).unwrap();
    wait_failed(&hub, &[]).await;
    let again = end_tasks(&hub, 1).await;
    hub.wait_everywhere().await.unwrap();
    for task in kept.iter().chain(&lost).chain(&again) {
        refused_in_the_end(&proxy, task).await;
    }
    assert_allowed(&proxy, &read_order(&proxy, &fresh().sign()).await.unwrap());
}

/// A copy takes the place of the database. The keys are still there.
fn put_in_place(hub: &Hub, copy: &Path) {
    let data = hub.folder().join("data");
    for name in ["hub.sqlite", "hub.sqlite-wal", "hub.sqlite-shm"] {
        let _ = fs::remove_file(data.join(name));
    }
    fs::copy(copy, data.join("hub.sqlite")).unwrap();
    // A backup is one file; another copy has a log.
    let log = copy.with_file_name("copy.sqlite-wal");
    if log.exists() {
        fs::copy(log, data.join("hub.sqlite-wal")).unwrap();
    }
}

/// Waits until these checks fail, and no other.
async fn wait_failed(hub: &Hub, expected: &[&str]) {
    let deadline = Instant::now() + SOON;
    loop {
        let checks = failed(&hub.send(&Request::get("/readyz")).await.unwrap().json());
        if checks == expected {
            return;
        }
        assert!(Instant::now() < deadline, "{checks:?}, not {expected:?}:\n{}", hub.log());
        time::sleep(Duration::from_millis(50)).await;
    }
}

/// The names of the checks that failed.
fn failed(ready: &Value) -> Vec<String> {
    let checks = ready["checks"].as_array().cloned().unwrap_or_default();
    let failed = checks.iter().filter(|check| check["ok"] == false);
    failed.map(|check| check["name"].as_str().unwrap_or_default().to_owned()).collect()
}

/// Asks until the task has ended; before that it may be allowed, as a new revocation is.
async fn refused_in_the_end(proxy: &Sidecar, task: &str) {
    let token = fresh().task(task).sign();
    let deadline = Instant::now() + SOON;
    while read_order(proxy, &token).await.unwrap().line() != "401 task_completed" {
        assert!(Instant::now() < deadline, "{}", proxy.envoy().log());
        time::sleep(Duration::from_millis(20)).await;
    }
}
