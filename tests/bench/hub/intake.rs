//! Signals that the hub takes in: durably, and as fast as it can.

use std::time::{Duration, Instant};

use taskfence_tests::{
    hub::Hub,
    mint::{self, Alg},
};

use super::{Part, percentile, push, row_of};
use crate::{
    Error, Result, process,
    report::{Row, Spread},
};

const CONNECTIONS: usize = 50;
/// Signals a second that must be taken.
const RATE: f64 = 5_000.0;
/// Signals a second that are offered for the long time, and signals that are pushed as fast as the hub takes them. Signing
/// them takes longer than that.
const OFFERED: u32 = 6_000;
const BURST: usize = 90_000;
/// Signals for each second over one connection; more are not taken.
const SERIAL: usize = 5_000;

/// On one connection, then on many, and then the hub is killed.
pub async fn measure(part: &mut Part<'_>) -> Result<()> {
    let (serial, long) = if part.options.quick { (3, 10) } else { (5, 60) };
    let mut hub = Hub::start("bench-intake").await?;
    process::pin(hub.pid(), &part.cores.two)?;
    let count = OFFERED as usize * long;
    part.progress.begin(&format!("hub: {} signals are signed with RS256", count + BURST + SERIAL * serial));
    let (steady, burst) = (sign(part, count).await?, sign(part, BURST).await?);
    let one = sign(part, SERIAL * serial).await?;
    part.progress.begin(&format!("hub: one connection for {serial} s, then {CONNECTIONS} for {long} s"));
    let first = number(&hub).await?;
    let one = pushed(&hub, one, 1, serial, None).await?;
    let steady = pushed(&hub, steady, CONNECTIONS, long, Some(OFFERED)).await?;
    let cpu = process::cpu(hub.pid())?;
    let burst = pushed(&hub, burst, CONNECTIONS, long, None).await?;
    let cpu = process::cpu(hub.pid())?.saturating_sub(cpu);
    // What was answered 202 is there, whatever happens to the process.
    hub.kill();
    hub.run().await?;
    let kept = number(&hub).await?.saturating_sub(first);
    let taken = one.taken + steady.taken + burst.taken;
    if kept != taken {
        return Err(Error::new(format!(
            "{taken} signals were answered 202, and after a kill {kept} entries are there"
        )));
    }
    let about = format!(
        "RS256-signed signals, made before by another library, that the hub answered 202 in each second while {OFFERED} a \
         second were offered over {CONNECTIONS} connections for {:.0} s; all of them were there after the process was killed. \
         99 of 100 answers took at most {:.1} ms.",
        steady.took.as_secs_f64(),
        percentile(&steady.latencies, 99)
    );
    let rate = Spread::exactly(steady.rate());
    let row = Row::figure("hub/signals taken in", &about, rate, "signals/s", steady.taken);
    part.rows.push(row.target_at_least("5,000 signals a second, durably", steady.rate(), RATE));
    let about = "The same in the worst ten seconds that follow each other.";
    let worst = Spread::exactly(steady.worst(10));
    part.rows.push(Row::figure("hub/signals taken in, worst 10 s", about, worst, "signals/s", steady.taken));
    let about = format!(
        "As many as the hub takes over {CONNECTIONS} connections, for {:.1} s. 99 of 100 answers took at most {:.1} ms.",
        burst.took.as_secs_f64(),
        percentile(&burst.latencies, 99)
    );
    let rate = Spread::exactly(burst.rate());
    part.rows.push(Row::figure("hub/signals taken in, no pause", &about, rate, "signals/s", burst.taken));
    let each = Spread::exactly(cpu.as_secs_f64() * 1e6 / burst.taken as f64);
    part.rows.push(Row::figure("hub/CPU of a signal", "CPU of the hub for one of them.", each, "us CPU", burst.taken));
    let seconds = one.took.as_secs_f64();
    let about = format!("The same over one connection, one signal after the other, for {seconds:.0} s.");
    let rate = Spread::exactly(one.rate());
    part.rows.push(Row::figure("hub/signals taken in, one connection", &about, rate, "signals/s", one.taken));
    let about = "From a signal to its 202, over that one connection.";
    part.rows.push(row_of("hub/202 over one connection", about, "ms", &one.latencies));
    Ok(())
}

pub(super) async fn pushed(
    hub: &Hub,
    sets: Vec<String>,
    connections: usize,
    seconds: usize,
    rate: Option<u32>,
) -> Result<push::Pushed> {
    let plan = push::Plan {
        hub: hub.address(),
        kind: push::SIGNALS,
        token: hub.transmitter.clone(),
        sets,
        connections,
        time: Duration::from_secs(seconds as u64),
        rate,
    };
    plan.run().await
}

/// The number of the last entry.
pub(super) async fn number(hub: &Hub) -> Result<u64> {
    let head = hub.head().await?;
    let number = head.split('.').nth(1).unwrap_or(&head).parse();
    number.map_err(Error::doing(format!("the head of the feed, `{head}`")))
}

/// So many signals, made on all cores.
pub(super) async fn sign(part: &mut Part<'_>, count: usize) -> Result<Vec<String>> {
    let began = Instant::now();
    process::pin(std::process::id(), &part.cores.two)?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let signing: Vec<_> = (0..threads)
        .map(|_| {
            tokio::task::spawn_blocking(move || {
                let sign = |_| {
                    let signal = mint::revoke_session(&mint::unique("intake"));
                    signal.signed_by(mint::TRANSMITTER.signer(Alg::Rs256)).sign()
                };
                (0..count.div_ceil(threads)).map(sign).collect::<Vec<_>>()
            })
        })
        .collect();
    let mut sets = Vec::with_capacity(count);
    for signing in signing {
        sets.extend(signing.await.map_err(Error::doing("sign signals"))?);
    }
    process::pin(std::process::id(), &part.cores.load)?;
    part.progress.say(&format!("hub: {count} signals were signed in {:?}", began.elapsed()));
    Ok(sets)
}
