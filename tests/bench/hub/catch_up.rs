//! A fresh proxy before a large state: how soon it has caught up, what that does to requests beside it, and what the
//! entries take of its memory.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use taskfence_tests::{
    client::{Connection, Http, Request},
    hub::Hub,
    mint::{self, Alg},
    orders,
};
use tokio::{
    task::JoinHandle,
    time::{MissedTickBehavior, interval, sleep},
};

use super::{Part, caught_up, fill, follow, percentile, plain_rule, relay::Relay, row_of, start_hub};
use crate::{
    Error, Result, process,
    proxy::{self, Proxy},
    report::{Row, Spread},
    service,
};

/// A size of the state, what a proxy must have caught up with it within (seconds), and how often that is measured.
struct Size {
    entries: usize,
    within: f64,
    times: usize,
    name: &'static str,
}

const CONNECTIONS: usize = 4;
/// Each connection asks so often: 2,000 requests a second in all, which leaves the worker most of its time.
const PERIOD: Duration = Duration::from_millis(2);
/// How long requests are measured before the proxy reaches the hub.
const CALM: Duration = Duration::from_secs(3);
/// How much longer 99 of 100 requests may take meanwhile.
const SLOWER: f64 = 2.0;
/// What was freed has gone back to the system by then.
const SETTLE: Duration = Duration::from_secs(4);

/// One proxy that caught up.
struct Fresh {
    seconds: f64,
    /// Bytes that its memory grew by.
    grown: f64,
    /// How long requests took before, and while it caught up, in milliseconds.
    calm: Vec<f64>,
    meanwhile: Vec<f64>,
}

/// Both sizes.
pub async fn measure(part: &mut Part<'_>) -> Result<()> {
    let quick = part.options.quick;
    let sizes = [
        Size { entries: 100_000, within: 1.0, times: if quick { 3 } else { 9 }, name: "100,000" },
        Size { entries: 1_000_000, within: 8.0, times: if quick { 1 } else { 3 }, name: "1,000,000" },
    ];
    for size in sizes {
        of_size(part, &size).await?;
    }
    Ok(())
}

async fn of_size(part: &mut Part<'_>, size: &Size) -> Result<()> {
    let Size { name, times, .. } = size;
    part.progress.begin(&format!("hub: {name} entries are stored"));
    let filter = plain_rule();
    let mut hub = start_hub("bench-catch-up", &filter, &part.cores.two).await?;
    let revoked = mint::unique("revoked");
    let answer = hub.push(&mint::revoke_session(&revoked)).await?;
    if answer.status != 202 {
        return Err(Error::new(format!("a signal was answered {}: {}", answer.status, answer.text())));
    }
    hub.stop()?;
    let (data, entries) = (hub.folder().join("data"), size.entries);
    let filled = tokio::task::spawn_blocking(move || fill::fill(&data, entries));
    filled.await.map_err(Error::doing("fill the store of the hub"))??;
    hub.run().await?;
    process::pin(hub.pid(), &part.cores.two)?;
    let mut fresh = Vec::new();
    for time in 1..=*times {
        part.progress.begin(&format!("hub: a fresh Envoy before {name} entries, {time} of {times}"));
        fresh.push(start_fresh(part, &hub, &filter, &revoked).await?);
    }
    part.rows.extend(rows(size, &fresh));
    Ok(())
}

async fn start_fresh(part: &Part<'_>, hub: &Hub, filter: &serde_json::Value, revoked: &str) -> Result<Fresh> {
    let relay = Relay::start(hub.address()).await?;
    let mut beside = filter.clone();
    if let Some(beside) = beside.as_object_mut() {
        beside.remove("signals");
    }
    let proxy = follow("catch-up", hub, relay.address(), filter)?
        .listener("beside", vec![proxy::taskfence("beside", "filter", &beside)?])
        .releasing()
        .start(&part.cores.two)
        .await?;
    let traffic = Traffic::start(proxy.address("beside")?).await?;
    sleep(CALM).await;
    let request = Request::get(orders::ORDER_PATH).bearer(&service::token(Alg::Es256).sign());
    expect(&proxy, &request, "503 state_not_ready").await?;
    let memory = proxy.memory()?;
    let opened = Instant::now();
    relay.open();
    let ready = caught_up(&proxy, "app").await?;
    let answers = traffic.stop().await?;
    expect(&proxy, &request, "200").await?;
    let refused = Request::get(orders::ORDER_PATH).bearer(&service::token(Alg::Es256).session(revoked).sign());
    expect(&proxy, &refused, "401 session_revoked").await?;
    sleep(SETTLE).await;
    let between = |from: Option<Instant>, to: Instant| {
        let within = answers.iter().filter(|(at, _)| from.is_none_or(|from| *at >= from) && *at <= to);
        within.map(|(_, took)| super::milliseconds(*took)).collect()
    };
    Ok(Fresh {
        seconds: ready.duration_since(opened).as_secs_f64(),
        grown: proxy.memory()? as f64 - memory as f64,
        calm: between(None, opened),
        meanwhile: between(Some(opened), ready),
    })
}

async fn expect(proxy: &Proxy, request: &Request, line: &str) -> Result<()> {
    let answer = proxy.ask("app", request).await?;
    match answer.line() == line {
        true => Ok(()),
        false => Err(Error::new(format!("expected `{line}`, got `{}`: {}", answer.line(), answer.text()))),
    }
}

fn rows(size: &Size, fresh: &[Fresh]) -> Vec<Row> {
    let Size { entries, within, name, .. } = size;
    let of = |pick: fn(&Fresh) -> f64| fresh.iter().map(pick).collect::<Vec<f64>>();
    let seconds = of(|one| one.seconds);
    let about = format!(
        "From the moment a running Envoy that knows nothing can reach the hub until its filter has caught up with {name} \
         entries, 30% with one condition. Until then it refused, and afterwards it refused a session that was revoked."
    );
    let worst = percentile(&seconds, 100);
    let row = row_of(&format!("hub/caught up with {name} entries"), &about, "s", &seconds);
    let mut rows = vec![row.target(&format!("caught up within {within} s"), Some(worst), Some(*within))];
    let all = |pick: fn(&Fresh) -> &Vec<f64>| fresh.iter().flat_map(pick).copied().collect::<Vec<f64>>();
    let (calm, meanwhile) = (all(|one| &one.calm), all(|one| &one.meanwhile));
    let (before, during) = (percentile(&calm, 99), percentile(&meanwhile, 99));
    let about = format!(
        "Requests to another listener of that Envoy, without the hub, while it catches up: 99 of 100 took at most {during:.2} \
         ms, and before {before:.2} ms."
    );
    let row = row_of(&format!("hub/requests beside {name} entries"), &about, "ms", &meanwhile);
    rows.push(row.target("their p99 within 2 times calm", Some(during), Some(SLOWER * before)));
    let grown: Vec<f64> = of(|one| one.grown).iter().map(|bytes| bytes / f64::from(1 << 20)).collect();
    let each =
        Spread::of(grown.iter().copied()).map_or(0.0, |grown| grown.median * f64::from(1 << 20) / *entries as f64);
    let about = format!("What they add to the memory of an Envoy with one worker: {each:.0} bytes for each entry.");
    rows.push(row_of(&format!("hub/memory of {name} entries in a proxy"), &about, "MiB", &grown));
    rows
}

/// When each answer came, and how long it took.
type Answers = Vec<(Instant, Duration)>;

/// Requests at a steady pace, well below what the proxy can answer, so that what takes long is the proxy's doing.
struct Traffic {
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<Result<Answers>>>,
}

impl Traffic {
    async fn start(to: SocketAddr) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let request = Request::get(orders::ORDER_PATH).bearer(&service::token(Alg::Es256).sign());
        let mut tasks = Vec::new();
        for _ in 0..CONNECTIONS {
            let mut connection = Connection::open(to, Http::One).await?;
            let (stop, request) = (Arc::clone(&stop), request.clone());
            tasks.push(tokio::spawn(async move {
                let mut answers = Vec::new();
                let mut ticks = interval(PERIOD);
                ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
                while !stop.load(Ordering::Relaxed) {
                    ticks.tick().await;
                    let sent = Instant::now();
                    let answer = connection.send(&request).await?;
                    if answer.status != 200 {
                        return Err(Error::new(format!("beside the hub: `{}`", answer.line())));
                    }
                    answers.push((Instant::now(), sent.elapsed()));
                }
                Ok(answers)
            }));
        }
        Ok(Self { stop, tasks })
    }

    async fn stop(self) -> Result<Answers> {
        self.stop.store(true, Ordering::Relaxed);
        let mut answers = Vec::new();
        for task in self.tasks {
            answers.extend(task.await.map_err(Error::doing("send requests"))??);
        }
        Ok(answers)
    }
}
