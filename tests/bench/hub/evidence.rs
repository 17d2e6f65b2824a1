//! Evidence: what it costs a request to be counted, what the hub needs to take in what proxies have counted, and whether
//! signals wait for it.

use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};
use taskfence_tests::{
    hub::Hub,
    mint::{self, Alg},
    orders,
    stand_in::HUB,
};
use tokio::time::sleep;

use super::{
    PATIENCE, Part, caught_up, follow,
    followers::{self, Followers},
    intake, milliseconds, percentile, push, row_of, start_hub,
};
use crate::{
    Error, Result,
    cases::{self, Case},
    load::Traffic,
    options::Options,
    process,
    report::{Row, Spread, Yardsticks},
    service, tokens,
};

/// Pairs of rounds, so that a tenth of a microsecond can be told from nothing.
const PAIRS: usize = 20;
/// What counting may add to a warm request, in microseconds.
const COUNTING_US: f64 = 0.2;
/// Batches a second that one hub takes in.
const RATE: u32 = 1_000;
/// What they may take of a core.
const CORES: f64 = 0.5;
/// Connections that they come over: the hub gathers what comes within 50 ms, so that one connection sends less than 20 a
/// second.
const CONNECTIONS: usize = 150;
/// Proxies that follow meanwhile.
const FOLLOWERS: usize = 1_000;
/// How much longer a revocation may take meanwhile.
const LONGER: f64 = 1.2;
/// Grants in one batch, and different uses of each.
const GRANTS: usize = 5;
const USES: usize = 2;

/// All of it.
pub async fn measure(part: &mut Part<'_>) -> Result<()> {
    counting(part).await?;
    taken_in(part).await
}

/// A warm request that is counted, beside one that is not.
async fn counting(part: &mut Part<'_>) -> Result<()> {
    part.progress.begin("hub: counting, starting two Envoys");
    let counted = service::config(json!([service::rule()]));
    let mut uncounted = counted.clone();
    uncounted["evidence"] = json!({"uses": false});
    let hub = start_hub("bench-counting", &counted, &part.cores.load).await?;
    let counting = follow("counting", &hub, hub.address(), &counted)?.start(&part.cores.proxy).await?;
    let not_counting = follow("not-counting", &hub, hub.address(), &uncounted)?.start(&part.cores.proxy).await?;
    for signal in service::context() {
        let answer = hub.push(&signal).await?;
        if answer.status != 202 {
            return Err(Error::new(format!("the hub answered {}: {}", answer.status, answer.text())));
        }
    }
    caught_up(&counting, "app").await?;
    caught_up(&not_counting, "app").await?;
    // What was said before is then applied by both.
    hub.wait_everywhere().await?;
    let traffic = Traffic::new(orders::ORDER_PATH, tokens::one("hub-counting", &service::token(Alg::Es256))?);
    let cases = vec![
        Case::new("not counted", &not_counting, "app", &traffic),
        Case::new("counted", &counting, "app", &traffic).against("not counted"),
    ];
    let options = Options { rounds: Some(part.options.rounds().max(PAIRS)), ..part.options.clone() };
    let loads = cases::measure("hub: counting", cases, &options, part.progress).await?;
    let find = |name: &str| loads.iter().find(|load| load.name == name);
    if let (Some(without), Some(with)) = (find("not counted"), find("counted")) {
        let about = "A warm request in a proxy that follows a hub, with `evidence: {uses: false}`.";
        part.rows.push(without.row("hub/warm, not counted", about, Yardsticks::default()));
        let about = format!("The same, counted, and sent to the hub every few seconds. {PAIRS} pairs of rounds.");
        let row = with.row("hub/warm, counted", &about, Yardsticks::default());
        let added = with.cpu.zip(without.cpu).map(|(with, without)| with.median - without.median);
        part.rows.push(row.target("counting adds at most 0.2 us", added, Some(COUNTING_US)));
    }
    Ok(())
}

/// What proxies have counted comes in, beside followers and revocations.
async fn taken_in(part: &mut Part<'_>) -> Result<()> {
    let (rounds, seconds) = if part.options.quick { (40, 10) } else { (200, 60) };
    let hub = Hub::start("bench-evidence").await?;
    process::pin(hub.pid(), &part.cores.two)?;
    process::allow_files(hub.pid(), FOLLOWERS + super::OTHER_FILES)?;
    let followers = Followers::start(followers::Plan {
        hub: hub.address(),
        others: Vec::new(),
        name: HUB.to_owned(),
        jwks: hub.jwks().clone(),
        token: Some(hub.sidecar().to_owned()),
        workload: None,
        count: FOLLOWERS,
        stale_after: 90,
    })?;
    followers.until("all followers start", PATIENCE, |watch| watch.caught_up == FOLLOWERS).await?;
    part.progress.begin(&format!("hub: {rounds} revocations, without uses"));
    let idle = revocations(&hub, &followers, rounds).await?;
    let resting = used_in(&hub, Duration::from_secs(5)).await?;
    part.progress.begin(&format!("hub: {RATE} batches of uses a second for {seconds} s"));
    let used = process::cpu(hub.pid())?;
    let posted = uses(&hub, seconds).run().await?;
    let cores = process::cpu(hub.pid())?.saturating_sub(used).as_secs_f64() / posted.took.as_secs_f64() - resting;
    part.progress.begin(&format!("hub: {rounds} revocations beside {RATE} batches a second"));
    // Until the revocations are done.
    let beside = tokio::spawn(uses(&hub, 4 * seconds).run());
    let busy = revocations(&hub, &followers, rounds).await?;
    let was_beside = !beside.is_finished();
    beside.abort();
    if !was_beside {
        return Err(Error::new("the uses had ended before the revocations did"));
    }
    rows(part, &posted, cores, &idle, &busy);
    Ok(())
}

fn rows(part: &mut Part<'_>, posted: &push::Pushed, cores: f64, idle: &[f64], busy: &[f64]) {
    let cells = GRANTS * USES;
    let about = format!(
        "Batches with {GRANTS} grants and {cells} different uses each, that one hub stores and answers, in each second, over \
         {CONNECTIONS} connections. 99 of 100 answers took at most {:.1} ms.",
        percentile(&posted.latencies, 99)
    );
    let rate = Spread::exactly(posted.rate());
    let row = Row::figure("hub/batches of uses", &about, rate, "batches/s", posted.taken);
    part.rows.push(row.target_at_least("1,000 batches a second", posted.rate(), 0.99 * f64::from(RATE)));
    let about = "CPU of the hub for that, without what its followers cost.";
    let row = Row::figure("hub/CPU of batches of uses", about, Spread::exactly(cores), "cores", posted.taken);
    part.rows.push(row.target("1,000 batches a second in under half a core", Some(cores), Some(CORES)));
    let (calm, limit) = (percentile(idle, 99), LONGER * percentile(idle, 99));
    let about = format!("From a push until {FOLLOWERS} followers have applied it. 99 of 100 within {calm:.1} ms.");
    part.rows.push(row_of("hub/revocation to applied by all, no uses", &about, "ms", idle));
    let about = format!(
        "The same beside 1,000 batches of uses a second. 99 of 100 within {:.1} ms; the median without them is {:.1} ms.",
        percentile(busy, 99),
        percentile(idle, 50)
    );
    let row = row_of("hub/revocation to applied by all, beside uses", &about, "ms", busy);
    part.rows.push(row.target(
        "99 of 100 within 1.2 times what they take without",
        Some(percentile(busy, 99)),
        Some(limit),
    ));
}

/// One revocation after the other: how long each took, in milliseconds.
async fn revocations(hub: &Hub, followers: &Followers, rounds: usize) -> Result<Vec<f64>> {
    let mut took = Vec::new();
    for _ in 0..rounds {
        let number = intake::number(hub).await?;
        followers.until("all have what is there", PATIENCE, |watch| watch.head >= number).await?;
        followers.expect(number + 1);
        let began = Instant::now();
        let answer = hub.push(&mint::revoke_session(&mint::unique("evidence"))).await?;
        if answer.status != 202 {
            return Err(Error::new(format!("a signal was answered {}: {}", answer.status, answer.text())));
        }
        let watch = followers.until("all acknowledge", PATIENCE, |watch| watch.reached == FOLLOWERS).await?;
        took.push(milliseconds(watch.reached_at.map_or(Duration::ZERO, |at| at.saturating_duration_since(began))));
    }
    Ok(took)
}

/// How many cores the hub uses when nothing comes in.
async fn used_in(hub: &Hub, time: Duration) -> Result<f64> {
    let before = process::cpu(hub.pid())?;
    sleep(time).await;
    Ok(process::cpu(hub.pid())?.saturating_sub(before).as_secs_f64() / time.as_secs_f64())
}

/// Batches for so many seconds.
fn uses(hub: &Hub, seconds: usize) -> push::Plan {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    let vm = mint::unique("vm");
    let vm = &vm[vm.len().saturating_sub(8)..];
    let count = RATE as usize * (seconds + 1);
    push::Plan {
        hub: hub.address(),
        kind: push::USES,
        token: hub.sidecar().to_owned(),
        sets: (0..count).map(|number| post(vm, number, now).to_string()).collect(),
        connections: CONNECTIONS,
        time: Duration::from_secs(seconds as u64),
        rate: Some(RATE),
    }
}

/// One batch of one worker. There are 400 workers, and each has grants of its own for ten batches.
fn post(run: &str, number: usize, now: u64) -> Value {
    let (worker, number) = (number % 400, number / 400 + 1);
    let hex: String = run.bytes().map(|byte| format!("{byte:02x}")).collect();
    let vm = format!("{}{worker:08x}", &hex[..8]);
    let grants: Vec<Value> = (0..GRANTS)
        .map(|grant| {
            let token = format!("{run}-{worker}-{grant}-{}", number / 10);
            let permitted: Vec<Value> = (0..USES)
                .map(|order| {
                    json!({"rule": 0, "method": "GET", "captures": [format!("{order}")], "count": 7, "first": now, "last": now})
                })
                .collect();
            json!({
                "grant": {
                    "issuer": orders::ISSUER, "token": token, "fingerprint": "00112233445566778899aabbccddeeff",
                    "subject": format!("user-{worker}"), "client": "agent", "task": token, "scopes": [orders::SCOPE],
                    "issued_at": now / 1000, "expires_at": now / 1000 + 900
                },
                "permitted": permitted,
                "seen": [{"kind": "source", "value": "10.0.0.7", "count": 4, "first": now, "last": now}]
            })
        })
        .collect();
    json!({
        "format": 1, "proxy": format!("{}{worker:08x}", &hex[..8]), "node": format!("node-{}", worker / 4),
        "batches": [{
            "vm": vm, "number": number, "since": now, "until": now,
            "rules": [{"config": "0123456789abcdef", "name": "read-order"}], "grants": grants
        }]
    })
}
