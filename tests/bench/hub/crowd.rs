//! Many followers of one hub: when a signal has been acknowledged by all of them, and what they cost the hub.

use std::{
    fs,
    time::{Duration, Instant},
};

use serde_json::json;
use taskfence_tests::{
    artefacts,
    hub::{FEED, Hub},
    mint,
    stand_in::HUB,
    tls::{self, Workload},
};
use tokio::time::sleep;

use super::{
    PATIENCE, Part,
    followers::{self, Followers, Watch},
    milliseconds, percentile, row_of,
};
use crate::{
    Error, Result, process,
    report::{Row, Spread},
};

/// What all of them must acknowledge a signal within.
const ALL_WITHIN_MS: f64 = 1_000.0;
/// What all must have caught up within after a restart of the hub.
const RESTART_WITHIN_S: f64 = 30.0;
/// How much of a core the hub may use while nothing happens.
const IDLE_PERCENT: f64 = 5.0;
/// `signals.stale.after` of the table, how long each is measured, and the same for a quick run, in seconds. The target is
/// for the last one.
const IDLE: [(u64, u64, u64); 3] = [(10, 30, 12), (30, 40, 20), (90, 75, 25)];
const SIDECAR: &str = "spiffe://td/bench/sidecar";
/// What a process frees and makes once has settled after it.
const SETTLE: Duration = Duration::from_secs(3);

/// A hub and those who follow it.
struct Crowd {
    hub: Hub,
    followers: Followers,
    count: usize,
    /// What the rows are called.
    kind: &'static str,
    /// The memory of the hub before anybody followed it, and right after all had started.
    memory: (u64, u64),
}

/// Without TLS.
pub async fn plain(part: &mut Part<'_>) -> Result<()> {
    let hub = Hub::start("bench-crowd").await?;
    let mut crowd = Crowd::gather(part, hub, "", None).await?;
    crowd.revoke(part, Some(ALL_WITHIN_MS)).await?;
    crowd.memory(part, 16.0)?;
    crowd.idle(part).await?;
    crowd.restart(part).await
}

/// With TLS, and a certificate of the follower.
pub async fn mtls(part: &mut Part<'_>) -> Result<()> {
    let folder = artefacts::target().join("bench").join("work").join("tls");
    fs::create_dir_all(&folder).map_err(Error::doing(folder.display()))?;
    let server = Workload::server();
    let file = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text).map_err(Error::doing(path.display()))?;
        Ok::<_, Error>(path)
    };
    let (certificate, key) = (file("hub.pem", server.pem())?, file("hub.key", &server.key_pem())?);
    let authority = file("authority.pem", tls::authority())?;
    let hub = Hub::start_with("bench-crowd-mtls", |config| {
        config["listen"]["tls"] = json!({"certificate": certificate, "key": key, "client_ca": authority});
        config["access"] = json!([{"spiffe": SIDECAR, "role": "sidecar"}]);
    });
    let hub = hub.await?;
    let crowd = Crowd::gather(part, hub, ", mTLS", Some(Workload::new(SIDECAR))).await?;
    crowd.revoke(part, None).await?;
    crowd.memory(part, 48.0)
}

impl Crowd {
    /// Starts all followers at once and waits until they have caught up.
    async fn gather(part: &mut Part<'_>, hub: Hub, kind: &'static str, workload: Option<Workload>) -> Result<Self> {
        let count = part.options.followers;
        part.progress.begin(&format!("hub{kind}: {count} followers start"));
        process::pin(hub.pid(), &part.cores.two)?;
        process::allow_files(hub.pid(), count + super::OTHER_FILES)?;
        // What the first signal and the first reader make is not what a follower costs.
        push(&hub).await?;
        sleep(SETTLE).await;
        let memory = process::memory(hub.pid())?;
        let plan = followers::Plan {
            hub: hub.address(),
            others: Vec::new(),
            name: HUB.to_owned(),
            jwks: hub.jwks().clone(),
            token: workload.is_none().then(|| hub.sidecar().to_owned()),
            workload,
            count,
            stale_after: 90,
        };
        let began = Instant::now();
        let followers = Followers::start(plan)?;
        let watch = followers.until("all followers start", PATIENCE, |watch| watch.caught_up == count).await?;
        let took = since(watch.caught_up_at, began).as_secs_f64();
        let about = format!(
            "Until {count} followers that start at once have connected and got the full state, which is nearly empty, each \
             with a statement that repeats its own nonce."
        );
        let name = format!("hub/start of all followers{kind}");
        part.rows.push(Row::figure(&name, &about, Spread::exactly(took), "s", count as u64));
        sleep(SETTLE).await;
        let memory = (memory, process::memory(hub.pid())?);
        Ok(Self { hub, followers, count, kind, memory })
    }

    /// One signal after the other, each until all have acknowledged it.
    async fn revoke(&self, part: &mut Part<'_>, limit: Option<f64>) -> Result<()> {
        let (count, kind) = (self.count, self.kind);
        let rounds = if part.options.quick { 20 } else { 100 };
        part.progress.begin(&format!("hub{kind}: {rounds} signals to {count} followers"));
        let (mut sent, mut receipts) = (Vec::new(), Vec::new());
        let before = self.followers.watch();
        for _ in 0..rounds {
            let (number, answered) = self.push_expected().await?;
            let receipt = async {
                let path = format!("/v1/feeds/{FEED}/receipts/{number}?wait=15");
                let answer = self.hub.call("GET", &path, None).await?;
                Ok::<_, Error>((answer, answered.elapsed()))
            };
            let (watch, receipt) = tokio::join!(self.acknowledged(), receipt);
            let watch = watch?;
            let (receipt, told) = receipt?;
            let said = receipt.json();
            if said["complete"] != true || said["confirmed"] != count {
                return Err(Error::new(format!("the receipt of {number}: {} {said}", receipt.status)));
            }
            sent.push(milliseconds(since(watch.reached_at, answered)));
            receipts.push(milliseconds(told));
        }
        let after = self.followers.watch();
        let checked = format!(
            "{} pages were verified and {} were the same bytes as one of these.",
            after.verified - before.verified,
            after.compared - before.compared
        );
        let about = format!(
            "From the answer 202 to a signal until {count} followers have sent that they have applied it, over HTTP/1{}. \
             {checked}",
            if kind.is_empty() { " without TLS" } else { " with TLS and client certificates" }
        );
        let row = row_of(&format!("hub/202 to applied by all{kind}"), &about, "ms", &sent);
        part.rows.push(with_p99(row, "applied by all, 99 of 100 signals within 1 s", &sent, limit));
        let about =
            "From the answer 202 until the hub's own receipt says that all have it, asked for right after the 202.";
        let row = row_of(&format!("hub/202 to receipt{kind}"), about, "ms", &receipts);
        part.rows.push(with_p99(row, "the receipt is complete, 99 of 100 within 1 s", &receipts, limit));
        Ok(())
    }

    /// What each follower adds to the memory of the hub.
    fn memory(&self, part: &mut Part<'_>, limit: f64) -> Result<()> {
        let (before, started) = self.memory;
        let of_each = |memory: u64| memory.saturating_sub(before) as f64 / 1024.0 / self.count as f64;
        let each = of_each(process::memory(self.hub.pid())?);
        let about = format!(
            "Growth of the hub's resident memory after all followers came and the signals went out, divided by their number; \
             before the signals it was {:.1} KiB.",
            of_each(started)
        );
        let row = Row::figure(
            &format!("hub/memory of a follower{}", self.kind),
            &about,
            Spread::exactly(each),
            "KiB",
            self.count as u64,
        );
        part.rows.push(row.target(&format!("at most {limit} KiB of the hub's memory"), Some(each), Some(limit)));
        Ok(())
    }

    /// What the hub does while nothing happens.
    async fn idle(&self, part: &mut Part<'_>) -> Result<()> {
        for (stale_after, long, short) in IDLE {
            let time = Duration::from_secs(if part.options.quick { short } else { long });
            part.progress.begin(&format!("hub: idle, stale.after {stale_after} s"));
            self.followers.set_stale_after(stale_after);
            // Everybody asks anew, with the new wait.
            self.push_expected().await?;
            self.acknowledged().await?;
            sleep(SETTLE).await;
            let (before, cpu, began) = (self.followers.watch(), process::cpu(self.hub.pid())?, Instant::now());
            sleep(time).await;
            let used = process::cpu(self.hub.pid())?.saturating_sub(cpu).as_secs_f64();
            let percent = 100.0 * used / began.elapsed().as_secs_f64();
            let requests = self.followers.watch().requests - before.requests;
            let about = format!(
                "CPU of the hub while {} followers wait and nothing is new, measured for {} s, in which they asked {requests} \
                 times.",
                self.count,
                time.as_secs()
            );
            let name = format!("hub/idle, stale.after {stale_after} s");
            let row = Row::figure(&name, &about, Spread::exactly(percent), "% of a core", requests);
            part.rows.push(match stale_after {
                90 => row.target("idle below 5% of a core", Some(percent), Some(IDLE_PERCENT)),
                _ => row,
            });
        }
        Ok(())
    }

    /// The hub ends without warning and starts again.
    async fn restart(&mut self, part: &mut Part<'_>) -> Result<()> {
        part.progress.begin(&format!("hub: killed and started again before {} followers", self.count));
        let before = self.followers.watch();
        self.hub.kill();
        // All have noticed.
        let count = u64::try_from(self.count).unwrap_or(u64::MAX);
        self.followers.until("all are cut off", PATIENCE, |watch| watch.lost >= before.lost + count).await?;
        let began = Instant::now();
        self.hub.run().await?;
        process::pin(self.hub.pid(), &part.cores.two)?;
        let ready = began.elapsed().as_secs_f64();
        self.push_expected().await?;
        let watch = self.acknowledged().await?;
        let took = since(watch.reached_at, began).as_secs_f64();
        let about = format!(
            "From the start of the process, after it was killed, until all {} followers have connected again and acknowledged \
             a signal that was pushed once it was ready ({ready:.1} s). They pause as the filter does: 0.2 to 5 s.",
            self.count
        );
        let row = Row::figure("hub/restart, all caught up", &about, Spread::exactly(took), "s", count);
        part.rows.push(row.target("all caught up within 30 s", Some(took), Some(RESTART_WITHIN_S)));
        Ok(())
    }

    /// Pushes a signal that makes one entry: its number, and when it was answered 202.
    async fn push_expected(&self) -> Result<(u64, Instant)> {
        let number = self.followers.watch().head + 1;
        self.followers.expect(number);
        push(&self.hub).await?;
        Ok((number, Instant::now()))
    }

    /// Waits until all have acknowledged what is expected.
    async fn acknowledged(&self) -> Result<Watch> {
        self.followers.until("all acknowledge", PATIENCE, |watch| watch.reached == self.count).await
    }
}

async fn push(hub: &Hub) -> Result<()> {
    let answer = hub.push(&mint::revoke_session(&mint::unique("crowd"))).await?;
    match answer.status {
        202 => Ok(()),
        status => Err(Error::new(format!("a signal was answered {status}: {}", answer.text()))),
    }
}

fn since(at: Option<Instant>, from: Instant) -> Duration {
    at.map_or(Duration::ZERO, |at| at.saturating_duration_since(from))
}

fn with_p99(row: Row, text: &str, values: &[f64], limit: Option<f64>) -> Row {
    match limit {
        Some(limit) => row.target(text, Some(percentile(values, 99)), Some(limit)),
        None => row,
    }
}
