//! A warm request in a proxy that follows the hub, beside one in a proxy that gets signals pushed.

use std::time::{Duration, Instant};

use serde_json::json;
use taskfence_tests::{
    hub::Hub,
    mint::{self, Alg},
    orders,
};
use tokio::time::sleep;

use super::{Part, caught_up, follow, push, start_hub};
use crate::{
    Error, Result,
    cases::{self, Case},
    load::Traffic,
    process,
    proxy::{self, Plan, Proxy},
    report::{Expected, Row, Spread, Yardsticks},
    service, tokens,
};

/// Entries a second that come in while requests are measured.
const RATE: u32 = 1_000;
/// How much more a warm request may take than without a hub: what a run of this bench cannot tell from nothing.
const NOTHING: f64 = 1.05;
/// After a pause the follower has asked and waits.
const SETTLE: Duration = Duration::from_secs(1);

/// At no entries a second, and at a thousand.
pub async fn measure(part: &mut Part<'_>) -> Result<()> {
    part.progress.begin("hub: warm requests, starting two Envoys");
    let filter = service::config(json!([service::rule()]));
    let hub = start_hub("bench-warm", &filter, &part.cores.load).await?;
    let following = follow("warm", &hub, hub.address(), &filter)?.start(&part.cores.proxy).await?;
    let pushed = Plan::new("warm-pushed")
        .listener("passthrough", Vec::new())
        .listener("app", vec![proxy::taskfence(service::VM, "filter", &filter)?])
        .listener("signals", vec![proxy::taskfence(service::VM, "receiver", &filter)?])
        .start(&part.cores.proxy)
        .await?;
    for signal in service::context() {
        pushed.push("signals", &signal).await?;
        let answer = hub.push(&signal).await?;
        if answer.status != 202 {
            return Err(Error::new(format!("the hub answered {}: {}", answer.status, answer.text())));
        }
    }
    caught_up(&following, "app").await?;
    sleep(SETTLE).await;
    let today = at_rest(part, &following, &pushed).await?;
    under_entries(part, &hub, &following, today).await
}

/// Nothing new: the row of today, and that of a proxy that follows. What a request takes today, in microseconds.
async fn at_rest(part: &mut Part<'_>, following: &Proxy, pushed: &Proxy) -> Result<Option<f64>> {
    let traffic = Traffic::new(orders::ORDER_PATH, tokens::one("hub-warm", &service::token(Alg::Es256))?);
    let cases = vec![
        Case::new("passthrough", pushed, "passthrough", &traffic),
        Case::new("today", pushed, "app", &traffic),
        Case::new("following", following, "app", &traffic),
    ];
    let loads = cases::measure("hub: warm requests", cases, part.options, part.progress).await?;
    let find = |name: &str| loads.iter().find(|load| load.name == name);
    let median = |name: &str| find(name).and_then(|load| load.cpu).map(|cpu| cpu.median);
    if let Some(load) = find("today") {
        let about = "The warm request of the first table in this part of the run: signals are pushed to the proxy.";
        part.rows.push(load.row("hub/warm, no hub", about, Yardsticks::default()));
    }
    let today = median("today");
    if let Some(load) = find("following") {
        let about = "The same in a proxy that follows the hub, while nothing is new.";
        let row = load.row("hub/warm, following", about, Yardsticks::default());
        let limit = today.map(|today| today * NOTHING);
        part.rows.push(row.target("costs what it costs without a hub, within 5%", median("following"), limit));
    }
    Ok(today)
}

/// While entries come in: all that the proxy used for a request, and what remains of it without what the same entries cost
/// without requests.
async fn under_entries(part: &mut Part<'_>, hub: &Hub, following: &Proxy, today: Option<f64>) -> Result<()> {
    let (rounds, time) = (part.options.rounds(), part.options.time());
    let mut traffic = Traffic::new(orders::ORDER_PATH, tokens::one("hub-beside", &service::token(Alg::Es256))?);
    let app = following.address("app")?;
    let (mut whole, mut remains, mut alone, mut p99, mut p50) = (vec![], vec![], vec![], vec![], vec![]);
    let mut answers = 0;
    for round in 1..=rounds {
        part.progress.say(&format!("hub: warm requests beside {RATE} entries a second, round {round} of {rounds}"));
        let entries = Entries::start(hub, 2 * time + 4 * SETTLE)?;
        sleep(SETTLE).await;
        let background = Used::since(following)?;
        sleep(time).await;
        let background = background.until_now(following)?;
        let used = Used::since(following)?;
        let run = traffic.run(app, time)?;
        let used = used.until_now(following)?;
        entries.end().await?;
        if run.refused > 0 || run.lost > 0 || run.answers == 0 {
            let (all, refused, lost) = (run.answers, run.refused, run.lost);
            return Err(Error::new(format!("of {all} answers {refused} were not 200, {lost} were lost")));
        }
        let idle = background.cores() * used.wall.as_secs_f64();
        let each = |seconds: f64| seconds * 1e6 / run.answers as f64;
        whole.push(each(used.cpu.as_secs_f64()));
        remains.push(each(used.cpu.as_secs_f64() - idle));
        alone.push(100.0 * background.cores());
        p50.push(run.p50 as f64);
        p99.push(run.p99 as f64);
        answers += run.answers;
    }
    let of = |values: &[f64]| Spread::of(values.iter().copied()).unwrap_or(Spread::exactly(0.0));
    let request = |name: &str, about: &str, values: &[f64]| {
        let mut row = Row::figure(name, about, of(values), "us", answers);
        row.cpu_us = row.value.map(|value| value.median);
        (row.p50_us, row.p99_us) = (Some(of(&p50).median), Some(of(&p99).median));
        row.expected = Some(Expected { answer: "200".to_owned(), seen: answers });
        row
    };
    let about = "The same while 1,000 entries a second come in, each by a signal of its own, without what the proxy uses for \
                 them when there are no requests.";
    let row = request("hub/warm, following 1,000 entries/s", about, &remains);
    let (value, limit) = (of(&remains).median, today.map(|today| today * NOTHING));
    part.rows.push(row.target("costs what it costs without a hub, within 5%", Some(value), limit));
    let about = "The same with it: all that the proxy used, divided by the requests.";
    part.rows.push(request("hub/warm, following 1,000 entries/s, with applying", about, &whole));
    let about = "CPU of a proxy without requests that applies 1,000 entries a second.";
    part.rows.push(Row::figure("hub/applying 1,000 entries/s", about, of(&alone), "% of a core", u64::from(RATE)));
    Ok(())
}

/// Signals at a steady rate.
struct Entries {
    task: tokio::task::JoinHandle<Result<push::Pushed>>,
}

impl Entries {
    fn start(hub: &Hub, time: Duration) -> Result<Self> {
        let count = u64::from(RATE) * (time.as_secs() + 1);
        let plan = push::Plan {
            hub: hub.address(),
            kind: push::SIGNALS,
            token: hub.transmitter.clone(),
            sets: (0..count).map(|_| mint::revoke_session(&mint::unique("entry")).sign()).collect(),
            connections: 4,
            time,
            rate: Some(RATE),
        };
        Ok(Self { task: tokio::spawn(plan.run()) })
    }

    /// Waits for the end, and sees that they came at the rate.
    async fn end(self) -> Result<()> {
        let pushed = self.task.await.map_err(Error::doing("push signals"))??;
        let least = 0.95 * f64::from(RATE);
        match pushed.rate() {
            rate if rate >= least => Ok(()),
            rate => Err(Error::new(format!("the hub took {rate:.0} signals a second, and {RATE} were to come"))),
        }
    }
}

/// What a process used in a time.
struct Used {
    cpu: Duration,
    wall: Duration,
    began: Instant,
}

impl Used {
    fn since(proxy: &Proxy) -> Result<Self> {
        Ok(Self { cpu: process::cpu(proxy.envoy().pid())?, wall: Duration::ZERO, began: Instant::now() })
    }

    fn until_now(self, proxy: &Proxy) -> Result<Self> {
        let cpu = process::cpu(proxy.envoy().pid())?.saturating_sub(self.cpu);
        Ok(Self { cpu, wall: self.began.elapsed(), ..self })
    }

    /// How many cores it kept busy.
    fn cores(&self) -> f64 {
        self.cpu.as_secs_f64() / self.wall.as_secs_f64()
    }
}
