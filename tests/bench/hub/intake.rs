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
/// Signals that are made for each second; more are not taken.
const PREPARED: usize = 9_000;

/// On one connection, then on many, and then the hub is killed.
pub async fn measure(part: &mut Part<'_>) -> Result<()> {
    let (serial, many) = if part.options.quick { (3, 10) } else { (10, 60) };
    let mut hub = Hub::start("bench-intake").await?;
    process::pin(hub.pid(), &part.cores.two)?;
    part.progress.begin(&format!("hub: {} signals are signed with RS256", PREPARED * many));
    let signals = sign(part, PREPARED * many).await?;
    let one = sign(part, 2_000 * serial).await?;
    part.progress.begin(&format!("hub: one connection for {serial} s, then {CONNECTIONS} for {many} s"));
    let first = number(&hub).await?;
    let one = pushed(&hub, one, 1, serial).await?;
    let cpu = process::cpu(hub.pid())?;
    let all = pushed(&hub, signals, CONNECTIONS, many).await?;
    let cpu = process::cpu(hub.pid())?.saturating_sub(cpu);
    // What was answered 202 is there, whatever happens to the process.
    hub.kill();
    hub.run().await?;
    let kept = number(&hub).await?.saturating_sub(first);
    if kept != one.taken + all.taken {
        let taken = one.taken + all.taken;
        return Err(Error::new(format!(
            "{taken} signals were answered 202, and after a kill {kept} entries are there"
        )));
    }
    let about = format!(
        "RS256-signed signals, made before by another library, that the hub answered 202 in each second over {CONNECTIONS} \
         connections for {:.0} s; all of them were there after the process was killed. An answer took {:.1} ms, and 99 of \
         100 at most {:.1} ms.",
        all.took.as_secs_f64(),
        percentile(&all.latencies, 50),
        percentile(&all.latencies, 99)
    );
    let row = Row::figure("hub/signals taken in", &about, Spread::exactly(all.rate()), "signals/s", all.taken);
    part.rows.push(row.target_at_least("5,000 signals a second, durably", all.rate(), RATE));
    let about = "The same in the worst ten seconds of it that follow each other.";
    let worst = Spread::exactly(all.worst(10));
    part.rows.push(Row::figure("hub/signals taken in, worst 10 s", about, worst, "signals/s", all.taken));
    let each = Spread::exactly(cpu.as_secs_f64() * 1e6 / all.taken as f64);
    part.rows.push(Row::figure("hub/CPU of a signal", "CPU of the hub for one of them.", each, "us CPU", all.taken));
    let about =
        format!("The same over one connection, one signal after the other, for {:.0} s.", one.took.as_secs_f64());
    let rate = Spread::exactly(one.rate());
    part.rows.push(Row::figure("hub/signals taken in, one connection", &about, rate, "signals/s", one.taken));
    let about = "From a signal to its 202, over that one connection.";
    part.rows.push(row_of("hub/202 over one connection", about, "ms", &one.latencies));
    Ok(())
}

async fn pushed(hub: &Hub, sets: Vec<String>, connections: usize, seconds: usize) -> Result<push::Pushed> {
    let plan = push::Plan {
        hub: hub.address(),
        token: hub.transmitter.clone(),
        sets,
        connections,
        time: Duration::from_secs(seconds as u64),
        rate: None,
    };
    plan.run().await
}

/// The number of the last entry.
async fn number(hub: &Hub) -> Result<u64> {
    let head = hub.head().await?;
    let number = head.split('.').nth(1).unwrap_or(&head).parse();
    number.map_err(Error::doing(format!("the head of the feed, `{head}`")))
}

/// So many signals, made on all cores.
async fn sign(part: &mut Part<'_>, count: usize) -> Result<Vec<String>> {
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
