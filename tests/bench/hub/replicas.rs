//! Two replicas of a hub over one PostgreSQL: how soon a signal at either is in force behind both, how many signals both
//! take together, and what becomes of the followers of one that is killed.

use std::time::{Duration, Instant};

use serde_json::json;
use taskfence_tests::{
    hub::Hub,
    mint,
    postgres::{Postgres, programs},
    stand_in::HUB,
};

use super::{
    PATIENCE, Part,
    followers::{self, Followers},
    intake, milliseconds, percentile, push, row_of,
};
use crate::{
    Error, Result, process,
    report::{Row, Spread},
};

/// So many follow, half of them each replica.
const FOLLOWERS: usize = 1_000;
/// What 99 of 100 signals must be applied by all within.
const ALL_WITHIN_MS: f64 = 500.0;
/// Signals a second that both must take together, durably.
const RATE: f64 = 2_000.0;
/// Signals a second that are offered to each.
const OFFERED_TO_EACH: u32 = 1_100;
/// Connections to each: a commit over the network takes as long for many signals as for few, so that it is their number that
/// decides.
const CONNECTIONS: usize = 100;
/// The followers of a replica that was killed must be fresh again within this.
const FRESH_WITHIN_S: f64 = 5.0;

/// All of it, over a server that is started for it.
pub async fn measure(part: &mut Part<'_>) -> Result<()> {
    if programs().is_none() {
        return Err(Error::new("PostgreSQL is not installed: run scripts/setup as root, or install it"));
    }
    let server = tokio::task::spawn_blocking(Postgres::start).await.map_err(Error::doing("start PostgreSQL"))?;
    server.run("postgres", "CREATE DATABASE taskfence");
    let url = server.url("taskfence");
    let mut first =
        Hub::start_with("bench-replica-a", |config| config["store"] = json!({"postgres": {"url": url}})).await?;
    let mut second = first.replica("bench-replica-b", |_| ())?;
    second.run().await?;
    for hub in [&first, &second] {
        process::pin(hub.pid(), &part.cores.two)?;
        process::allow_files(hub.pid(), FOLLOWERS + super::OTHER_FILES)?;
    }
    part.progress.begin(&format!("hub: {FOLLOWERS} followers of two replicas"));
    let groups = [follow(&first, &second)?, follow(&second, &first)?];
    for group in &groups {
        group.until("all followers start", PATIENCE, |watch| watch.caught_up == FOLLOWERS / 2).await?;
    }
    applied(part, [&first, &second], &groups).await?;
    taken(part, [&first, &second]).await?;
    killed(part, &mut first, &second, &groups).await
}

/// Half of the followers, of one replica first.
fn follow(hub: &Hub, other: &Hub) -> Result<Followers> {
    Followers::start(followers::Plan {
        hub: hub.address(),
        others: vec![other.address()],
        name: HUB.to_owned(),
        jwks: hub.jwks().clone(),
        token: Some(hub.sidecar().to_owned()),
        workload: None,
        count: FOLLOWERS / 2,
        stale_after: 90,
    })
}

/// One signal after the other, at one replica and at the other in turns.
async fn applied(part: &mut Part<'_>, hubs: [&Hub; 2], groups: &[Followers; 2]) -> Result<()> {
    let rounds = if part.options.quick { 20 } else { 100 };
    part.progress.begin(&format!("hub: {rounds} signals to two replicas"));
    let mut sent = Vec::new();
    for round in 0..rounds {
        expect_next(hubs[0], groups).await?;
        push_to(hubs[round % 2]).await?;
        sent.push(milliseconds(all_have(groups, Instant::now()).await?));
    }
    let about = format!(
        "From the answer 202 of one of two replicas over one PostgreSQL until {FOLLOWERS} followers, half of them at each, \
         have sent that they have applied it."
    );
    let row = row_of("hub/two replicas, 202 to applied by all", &about, "ms", &sent);
    let text = "applied behind both, 99 of 100 signals within 500 ms";
    part.rows.push(row.target(text, Some(percentile(&sent, 99)), Some(ALL_WITHIN_MS)));
    Ok(())
}

/// Signals at both at once, while all followers take what is new.
async fn taken(part: &mut Part<'_>, hubs: [&Hub; 2]) -> Result<()> {
    let seconds = if part.options.quick { 10 } else { 30 };
    let each = OFFERED_TO_EACH as usize * seconds;
    part.progress.begin(&format!("hub: {} signals are signed with RS256", 2 * each));
    let sets = [intake::sign(part, each).await?, intake::sign(part, each).await?];
    part.progress.begin(&format!("hub: signals at two replicas for {seconds} s"));
    let before = intake::number(hubs[0]).await?;
    let [first, second] = sets;
    let push = |hub, sets| intake::pushed(hub, sets, CONNECTIONS, seconds, Some(OFFERED_TO_EACH));
    let (first, second): (Result<push::Pushed>, Result<push::Pushed>) =
        tokio::join!(push(hubs[0], first), push(hubs[1], second));
    let (first, second) = (first?, second?);
    let (taken, rate) = (first.taken + second.taken, first.rate() + second.rate());
    for hub in hubs {
        let kept = intake::number(hub).await?.saturating_sub(before);
        if kept != taken {
            return Err(Error::new(format!("{taken} signals were answered 202, and {kept} entries are there")));
        }
    }
    let latencies = [first.latencies, second.latencies].concat();
    let about = format!(
        "RS256-signed signals that two replicas over one PostgreSQL answered 202 in each second, together, while \
         {OFFERED_TO_EACH} a second were offered to each for {seconds} s and {FOLLOWERS} followers took them; each is in the \
         store once. 99 of 100 answers took at most {:.1} ms.",
        percentile(&latencies, 99)
    );
    let row = Row::figure("hub/two replicas, signals taken in", &about, Spread::exactly(rate), "signals/s", taken);
    part.rows.push(row.target_at_least("2,000 signals a second through both, durably", rate, RATE));
    Ok(())
}

/// One is killed; a signal at the other one shows that the followers of both are fresh.
async fn killed(part: &mut Part<'_>, first: &mut Hub, second: &Hub, groups: &[Followers; 2]) -> Result<()> {
    part.progress.begin("hub: one of two replicas is killed");
    expect_next(second, groups).await?;
    let began = Instant::now();
    first.kill();
    push_to(second).await?;
    let took = all_have(groups, began).await?.as_secs_f64();
    let about = format!(
        "From the kill of one of two replicas until all {FOLLOWERS} followers have applied a signal that was pushed to the \
         other one right after it. They pause as the filter does: 0.2 to 5 s."
    );
    let row = Row::figure("hub/two replicas, one killed", &about, Spread::exactly(took), "s", FOLLOWERS as u64);
    part.rows.push(row.target("all fresh again within 5 s", Some(took), Some(FRESH_WITHIN_S)));
    Ok(())
}

/// Waits until all have what is there, and begins to count who has the next one.
async fn expect_next(hub: &Hub, groups: &[Followers; 2]) -> Result<()> {
    let number = intake::number(hub).await?;
    for group in groups {
        group.until("all have what is there", PATIENCE, |watch| watch.head >= number).await?;
        group.expect(number + 1);
    }
    Ok(())
}

/// When the last follower of both groups had what is expected, after `from`.
async fn all_have(groups: &[Followers; 2], from: Instant) -> Result<Duration> {
    let mut last = Duration::ZERO;
    for group in groups {
        let watch = group.until("all acknowledge", PATIENCE, |watch| watch.reached == FOLLOWERS / 2).await?;
        let took = watch.reached_at.map_or(Duration::ZERO, |at| at.saturating_duration_since(from));
        last = last.max(took);
    }
    Ok(last)
}

async fn push_to(hub: &Hub) -> Result<()> {
    let answer = hub.push(&mint::revoke_session(&mint::unique("replicas"))).await?;
    match answer.status {
        202 => Ok(()),
        status => Err(Error::new(format!("a signal was answered {status}: {}", answer.text()))),
    }
}
