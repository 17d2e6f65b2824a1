//! How soon a pushed signal acts, and what taking signals in costs the requests beside them.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use serde_json::json;
use taskfence_tests::{
    client::{Connection, Http, Request},
    mint::{self, Alg},
    orders,
};

use crate::{
    Error, Result,
    cases::Progress,
    live::{Streams, Upstream},
    load::Traffic,
    machine::Cores,
    options::Options,
    proxy::{self, Plan, Proxy},
    report::{Expected, Row, Spread},
    service, tokens,
};

/// Connections that each worker has, about.
const CONNECTIONS: usize = 4;
const WORKERS: u32 = 2;
const STREAMS: usize = 1_000;
/// Longer than any safety net: a stream that is there after this was not ended by the signal.
const ENDS_WITHIN: Duration = Duration::from_secs(5);

/// All rows.
pub async fn measure(options: &Options, cores: &Cores, progress: &mut Progress) -> Result<Vec<Row>> {
    progress.begin("propagation: starting Envoy with two workers");
    let upstream = Upstream::start().await?;
    let config = service::config(json!([service::rule(), service::live_rule()]));
    let filter = proxy::taskfence(service::VM, "filter", &config)?;
    let receiver = proxy::taskfence(service::VM, "receiver", &config)?;
    let proxy = Plan::new("propagation")
        .workers(WORKERS)
        .live_listener("app", vec![filter])
        .listener("signals", vec![receiver])
        .cluster("upstream", upstream.address(), true)
        .start(&cores.two)
        .await?;
    for signal in service::context() {
        proxy.push("signals", &signal).await?;
    }
    let mut rows = vec![first_denial(&proxy, if options.quick { 30 } else { 200 }, progress).await?];
    rows.extend(ends(&proxy, if options.quick { 1 } else { 9 }, progress).await?);
    drop(proxy);
    rows.extend(signals_beside_requests(options, cores, progress).await?);
    Ok(rows)
}

/// From the 202 to the first refusal, on connections to both workers.
async fn first_denial(proxy: &Proxy, rounds: usize, progress: &mut Progress) -> Result<Row> {
    const NAME: &str = "propagation/202 to first denial";
    let about = "From the answer 202 to a session-revoked until the next request with that session was refused; eight \
                 connections over two workers, each asked right after the 202. A target of 0 requests that passed.";
    progress.begin(&format!("propagation: {rounds} sessions revoked"));
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS * 2 {
        connections.push(Connection::open(proxy.address("app")?, Http::One).await?);
    }
    let mut receiver = Connection::open(proxy.address("signals")?, Http::One).await?;
    let (mut times, mut passed, mut seen) = (Vec::new(), 0u64, 0u64);
    for round in 1..=rounds {
        progress.say(&format!("propagation: session {round} of {rounds}"));
        let session = mint::unique("session");
        let token = service::token(Alg::Es256).session(&session).sign();
        let request = Request::get(orders::ORDER_PATH).bearer(&token);
        for answer in join_all(connections.iter_mut().map(|connection| connection.send(&request))).await {
            let answer = answer?;
            if answer.status != 200 {
                return Ok(Row::void(NAME, about, "us", format!("before the signal: `{}`", answer.line())));
            }
        }
        let set = Request::push(orders::SIGNALS_PATH, &mint::revoke_session(&session).sign());
        let answer = receiver.send(&set).await?;
        if answer.status != 202 {
            return Ok(Row::void(NAME, about, "us", format!("the signal was answered `{}`", answer.line())));
        }
        let pushed = Instant::now();
        let asked = connections.iter_mut().map(async |connection| {
            let answer = connection.send(&request).await;
            (answer, pushed.elapsed())
        });
        for (answer, took) in join_all(asked).await {
            match answer?.line().as_str() {
                "401 session_revoked" => {
                    times.push(took.as_secs_f64() * 1e6);
                    seen += 1;
                }
                "200" => passed += 1,
                other => return Ok(Row::void(NAME, about, "us", format!("after the signal: `{other}`"))),
            }
        }
    }
    let by_worker = connections_by_worker(proxy).await?;
    if by_worker.contains(&0) {
        return Ok(Row::void(NAME, about, "us", format!("a worker had no connection: {by_worker:?}")));
    }
    let Some(spread) = Spread::of(times.into_iter()) else {
        return Ok(Row::void(NAME, about, "us", "no request was refused after its signal"));
    };
    let row = Row::figure(NAME, about, spread, "us", seen + passed);
    Ok(row.target("requests that pass after the 202, on any worker", Some(passed as f64), Some(0.0)))
}

async fn connections_by_worker(proxy: &Proxy) -> Result<Vec<u64>> {
    let stats = proxy.envoy().stats().await?;
    (0..WORKERS).map(|worker| stats.value(&format!("listener.app.worker_{worker}.downstream_cx_total"))).collect()
}

/// From the 202 to the end of a thousand streams of one session.
async fn ends(proxy: &Proxy, times: usize, progress: &mut Progress) -> Result<Vec<Row>> {
    const NAMES: [(&str, &str); 4] = [
        ("propagation/202 to first ended stream", "the first"),
        ("propagation/202 to half of 1,000 ended", "half"),
        ("propagation/202 to 990 of 1,000 ended", "990"),
        ("propagation/202 to last of 1,000 ended", "the last"),
    ];
    let about = |which: &str| {
        format!(
            "From the answer 202 to a session-revoked until {which} of 1,000 streams of that session had ended, on two \
             workers, by a direct push."
        )
    };
    let voids = |why: &str| NAMES.iter().map(|(name, which)| Row::void(name, &about(which), "ms", why)).collect();
    progress.begin("propagation: 1,000 streams");
    // One first: a filter that ends none would have us wait in vain.
    if end_streams(proxy, 1).await?.is_empty() {
        return Ok(voids(
            "this build of the filter does not end live streams: one that was open when its session was revoked went on",
        ));
    }
    // For each share of the streams, when it had ended, time after time.
    let mut found: [Vec<f64>; 4] = Default::default();
    for time in 1..=times {
        progress.say(&format!("propagation: 1,000 streams, {time} of {times}"));
        let ends = end_streams(proxy, STREAMS).await?;
        if ends.len() < STREAMS {
            return Ok(voids(&format!("of {STREAMS} streams only {} ended within {ENDS_WITHIN:?}", ends.len())));
        }
        for (found, at) in found.iter_mut().zip([0, STREAMS / 2 - 1, STREAMS * 99 / 100 - 1, STREAMS - 1]) {
            found.extend(ends.get(at).map(|end| end.as_secs_f64() * 1e3));
        }
    }
    let rows = NAMES.iter().zip(found).filter_map(|((name, which), found)| {
        let count = u64::try_from(STREAMS * times).unwrap_or_default();
        Some(Row::figure(name, &about(which), Spread::of(found.into_iter())?, "ms", count))
    });
    Ok(rows.collect())
}

/// When each of so many streams of one session had ended, since its revocation was answered 202; those that had not after
/// a while are left out.
async fn end_streams(proxy: &Proxy, count: usize) -> Result<Vec<Duration>> {
    let session = mint::unique("live");
    let token = service::token(Alg::Es256).session(&session).sign();
    let streams = Streams::open(proxy.address("app")?, Http::Two, &token, count).await?;
    proxy.push("signals", &mint::revoke_session(&session)).await?;
    // Some end before the 202 has been read; they count as ended with it.
    Ok(streams.ends(Instant::now(), ENDS_WITHIN).await)
}

/// Signals as fast as they are taken, alone and beside requests, on one core.
async fn signals_beside_requests(options: &Options, cores: &Cores, progress: &mut Progress) -> Result<Vec<Row>> {
    progress.begin("propagation: signals beside requests");
    let config = service::config(json!([service::rule()]));
    let proxy = Plan::new("signals")
        .listener("app", vec![proxy::taskfence(service::VM, "filter", &config)?])
        .listener("signals", vec![proxy::taskfence(service::VM, "receiver", &config)?])
        .start(&cores.proxy)
        .await?;
    for signal in service::context() {
        proxy.push("signals", &signal).await?;
    }
    let mut traffic = Traffic::new(orders::ORDER_PATH, tokens::one("beside", &service::token(Alg::Es256))?);
    let app = proxy.address("app")?;
    let options = &options.for_scaling();
    let time = options.time();
    let (mut alone, mut beside, mut calm, mut cost, mut after) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut applied, mut answers, mut p99) = (0, 0, Vec::new());
    for round in 1..=options.rounds() {
        progress.say(&format!("propagation: signals, round {round} of {}", options.rounds()));
        // What a request costs without signals, and a signal without requests.
        let cpu = proxy.cpu()?;
        let run = traffic.run(app, time)?;
        if let Some(row) = wrong(&run) {
            return Ok(row);
        }
        calm.push(micros(proxy.cpu()?.saturating_sub(cpu)) / run.answers as f64);
        let cpu = proxy.cpu()?;
        let signals = Signals::start(&proxy).await?;
        tokio::time::sleep(time).await;
        let (count, took) = signals.stop().await?;
        alone.push(count as f64 / took.as_secs_f64());
        let each = micros(proxy.cpu()?.saturating_sub(cpu)) / count.max(1) as f64;
        cost.push(each);
        // Both.
        let cpu = proxy.cpu()?;
        let signals = Signals::start(&proxy).await?;
        let run = traffic.run(app, time)?;
        let (count, took) = signals.stop().await?;
        if let Some(row) = wrong(&run) {
            return Ok(row);
        }
        let used = micros(proxy.cpu()?.saturating_sub(cpu));
        beside.push(count as f64 / took.as_secs_f64());
        after.push((used - each * count as f64) / run.answers as f64);
        p99.push(run.p99 as f64);
        applied += count;
        answers += run.answers;
    }
    let added = after.iter().zip(&calm).map(|(with, without)| with - without).collect::<Vec<_>>();
    let of = |values: Vec<f64>| Spread::of(values.into_iter()).unwrap_or(Spread::exactly(0.0));
    let p99 = of(p99).median;
    let mut request = Row::figure(
        "propagation/request beside signals",
        "CPU of a warm request while signals come in as fast as they are taken, without what the signals themselves \
         cost.",
        of(after),
        "us",
        answers,
    );
    request.cpu_us = request.value.map(|value| value.median);
    request.p99_us = Some(p99);
    request.expected = Some(Expected { answer: "200".to_owned(), seen: answers });
    Ok(vec![
        Row::figure(
            "propagation/signals alone",
            "Signals taken in each second, one entry each, ES256, on one core.",
            of(alone),
            "signals/s",
            applied,
        ),
        Row::figure("propagation/CPU of a signal", "CPU of one of them.", of(cost), "us CPU", applied),
        Row::figure(
            "propagation/signals beside requests",
            "Signals taken in each second while sixteen connections send requests without a pause.",
            of(beside),
            "signals/s",
            applied,
        ),
        request,
        Row::figure(
            "propagation/added by signals",
            "What that is above the same request without signals.",
            of(added),
            "us CPU",
            answers,
        ),
    ])
}

fn wrong(run: &crate::load::Run) -> Option<Vec<Row>> {
    (run.refused > 0 || run.lost > 0 || run.answers == 0).then(|| {
        let why = format!("of {} answers {} were not 200, {} were lost", run.answers, run.refused, run.lost);
        vec![Row::void("propagation/signals beside requests", "Signals and requests together.", "signals/s", why)]
    })
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// Pushes signals on some connections until it is stopped.
struct Signals {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
    began: Instant,
    tasks: Vec<tokio::task::JoinHandle<Result<()>>>,
}

impl Signals {
    async fn start(proxy: &Proxy) -> Result<Self> {
        const CONNECTIONS: usize = 4;
        // More than are taken in a round, made before so that the time is the receiver's; past them, they are made on
        // the way.
        const PREPARED: usize = 10_000;
        let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let sign = || mint::revoke_session(&mint::unique("over")).sign();
        let prepared: Vec<VecDeque<String>> =
            (0..CONNECTIONS).map(|_| (0..PREPARED / CONNECTIONS).map(|_| sign()).collect()).collect();
        let address = proxy.address("signals")?;
        let mut tasks = Vec::new();
        for mut sets in prepared {
            let mut connection = Connection::open(address, Http::One).await?;
            let (stop, count) = (Arc::clone(&stop), Arc::clone(&count));
            tasks.push(tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let set = sets.pop_front().unwrap_or_else(sign);
                    let answer = connection.send(&Request::push(orders::SIGNALS_PATH, &set)).await?;
                    if answer.status != 202 {
                        return Err(Error::new(format!("a signal was answered `{}`", answer.line())));
                    }
                    count.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            }));
        }
        Ok(Self { stop, count, began: Instant::now(), tasks })
    }

    async fn stop(self) -> Result<(u64, Duration)> {
        self.stop.store(true, Ordering::Relaxed);
        let took = self.began.elapsed();
        for task in self.tasks {
            task.await.map_err(Error::doing("push signals"))??;
        }
        Ok((self.count.load(Ordering::Relaxed), took))
    }
}
