//! A real hub with real followers, from which the model has its costs, and with which it is compared.

use std::time::{Duration, Instant};

use taskfence_tests::{
    hub::{FEED, Hub},
    mint,
    stand_in::HUB,
};
use tokio::time::sleep;

use super::costs::Costs;
use crate::{
    Error, Result,
    cases::Progress,
    hub::followers::{Followers, Plan},
    machine::Cores,
    process,
};

const PATIENCE: Duration = Duration::from_secs(120);
/// What is made once has settled after it.
const SETTLE: Duration = Duration::from_secs(3);

/// What was measured.
#[derive(Clone, Debug)]
pub struct Measured {
    /// The costs, with those that cannot be measured here as recorded.
    pub costs: Costs,
    /// From the 202 to a signal until all followers had applied it.
    pub applied: Vec<Duration>,
    /// How many followers there were.
    pub followers: usize,
}

/// Measures with so many followers and signals.
pub async fn measure(count: usize, signals: u32, cores: &Cores, progress: &mut Progress) -> Result<Measured> {
    progress.begin(&format!("tree: the costs of a hub with {count} followers"));
    let hub = Hub::start("bench-tree").await?;
    process::pin(hub.pid(), &cores.two)?;
    process::allow_files(hub.pid(), count + 1_000)?;
    push(&hub).await?;
    sleep(SETTLE).await;
    let cpu = process::cpu(hub.pid())?;
    let plan = Plan {
        hub: hub.address(),
        others: Vec::new(),
        name: HUB.to_owned(),
        jwks: hub.jwks().clone(),
        token: Some(hub.sidecar().to_owned()),
        workload: None,
        count,
        stale_after: 90,
    };
    let followers = Followers::start(plan)?;
    followers.until("all followers start", PATIENCE, |watch| watch.caught_up == count).await?;
    let to_start = process::cpu(hub.pid())?.saturating_sub(cpu);
    sleep(SETTLE).await;

    let (hub_cpu, own_cpu) = (process::cpu(hub.pid())?, process::cpu(std::process::id())?);
    let sent = pages(&hub).await?;
    let mut applied = Vec::new();
    for _ in 0..signals {
        followers.expect(followers.watch().head + 1);
        push(&hub).await?;
        let answered = Instant::now();
        let watch = followers.until("all acknowledge", PATIENCE, |watch| watch.reached == count).await?;
        applied.push(watch.reached_at.map_or(Duration::ZERO, |at| at.saturating_duration_since(answered)));
    }
    let all = u32::try_from(count).unwrap_or(u32::MAX).saturating_mul(signals.max(1));
    let each = process::cpu(hub.pid())?.saturating_sub(hub_cpu) / all;
    let client = process::cpu(std::process::id())?.saturating_sub(own_cpu) / all;
    let (pages_sent, bytes) = pages(&hub).await?;
    let page_bytes = (bytes - sent.1) as f64 / (pages_sent - sent.0).max(1.0);
    let recorded = Costs::recorded();
    let costs = Costs {
        page: each / 2,
        request: each / 2,
        connect: (to_start / u32::try_from(count).unwrap_or(u32::MAX)).saturating_sub(recorded.sign),
        client,
        // One entry is in each page. The headers of the answer are not counted.
        page_bytes: page_bytes as u64 - recorded.entry_bytes.min(page_bytes as u64) + 150,
        ..recorded
    };
    Ok(Measured { costs, applied, followers: count })
}

/// How many pages the hub has sent, and how many bytes of them.
async fn pages(hub: &Hub) -> Result<(f64, f64)> {
    let metrics = hub.call("GET", "/metrics", None).await?.text();
    let value = |name: &str| {
        let line = format!("taskfence_hub_{name}_total{{feed=\"{FEED}\"}} ");
        let found = metrics.lines().find_map(|text| text.strip_prefix(&line)?.trim().parse::<f64>().ok());
        found.ok_or_else(|| Error::new(format!("the hub has no metric {line}")))
    };
    Ok((value("pages_sent")?, value("page_bytes")?))
}

async fn push(hub: &Hub) -> Result<()> {
    let answer = hub.push(&mint::revoke_session(&mint::unique("tree"))).await?;
    match answer.status {
        202 => Ok(()),
        status => Err(Error::new(format!("a signal was answered {status}: {}", answer.text()))),
    }
}
