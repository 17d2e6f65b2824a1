//! A tree of hubs that no machine of ours can run: 1 root, 10 relays and 100,000 followers, in model time.
//!
//! [`measure`] takes the costs from a real hub in the same run, [`model`] runs with them, and the first rows say how near
//! it comes to that hub.

pub mod costs;
pub mod measure;
pub mod model;

use std::time::Duration;

use self::{
    costs::Costs,
    model::{Outcome, Plan},
};
use crate::{
    Result,
    cases::Progress,
    machine::Cores,
    options::Options,
    report::{Row, Spread},
};

/// The followers of the tree, and its relays.
const FOLLOWERS: usize = 100_000;
const RELAYS: usize = 10;
/// So far the model may be from the real hub, in either direction.
const FACTOR: f64 = 2.0;

/// All rows.
pub async fn measure(options: &Options, cores: &Cores, progress: &mut Progress) -> Result<Vec<Row>> {
    let signals = if options.quick { 10 } else { 50 };
    let real = measure::measure(options.followers, signals, cores, progress).await?;
    progress.begin("tree: the model");
    let mut rows = vec![compared(&real)];
    rows.extend(costs(&real.costs, options.followers));
    rows.extend(idle(real.costs));
    rows.extend(one_revocation(real.costs));
    rows.extend(a_thousand_a_second(real.costs));
    rows.extend(cold_start(real.costs));
    rows.extend(lost_relay(real.costs));
    Ok(rows)
}

/// A tree of this size, with one CPU time for all.
fn tree(costs: Costs) -> Plan {
    Plan {
        relays: RELAYS,
        followers: FOLLOWERS,
        cpus: 2,
        machine_cpus: 2,
        signals: Vec::new(),
        cold: false,
        lost_at: None,
        time: Duration::from_secs(60),
        clients_share_a_thread: false,
        wait: Duration::from_secs(25),
        seed: 7,
        costs,
    }
}

/// The hub that was measured, in the model: its followers share a thread, and the machine.
fn like_the_real_one(followers: usize, signals: usize, costs: Costs) -> Plan {
    Plan {
        relays: 0,
        followers,
        // The other core is that of the followers.
        cpus: 1,
        signals: (0..signals).map(|n| Duration::from_secs(2) * u32::try_from(n + 1).unwrap_or(1)).collect(),
        time: Duration::from_secs(2) * u32::try_from(signals + 2).unwrap_or(1),
        clients_share_a_thread: true,
        costs: Costs { way: Duration::from_micros(20), ..costs },
        ..tree(costs)
    }
}

fn compared(real: &measure::Measured) -> Row {
    let outcome = model::run(&like_the_real_one(real.followers, real.applied.len(), real.costs));
    let (model, measured) = (at(&outcome.applied, 50), at(&real.applied, 50));
    let factor = (model / measured).max(measured / model);
    let about = format!(
        "How far the model of one hub with {} followers is from the real one in this run: half of the signals were applied by \
         all after {measured:.0} ms, and in the model after {model:.0} ms.",
        real.followers
    );
    let row = Row::figure("tree/model against a real hub", &about, Spread::exactly(factor), "times", 1);
    row.target(&format!("the model is within a factor of {FACTOR}"), Some(factor), Some(FACTOR))
}

fn costs(costs: &Costs, followers: usize) -> Vec<Row> {
    let us = |time: Duration| time.as_secs_f64() * 1e6;
    let about =
        format!("CPU of the hub for a page and the request that acknowledges it, measured with {followers} followers.");
    let start = "CPU of the hub for a follower that connects and gets the state, beside its signature.";
    vec![
        figure("page and acknowledgement", &about, us(costs.page + costs.request), "us CPU"),
        figure("a new follower", start, us(costs.connect), "us CPU"),
        figure("page", "Bytes of a page without entries, with its headers.", costs.page_bytes as f64, "bytes"),
    ]
}

fn idle(costs: Costs) -> Vec<Row> {
    let plan = tree(costs);
    let outcome = model::run(&plan);
    let said = "nothing happens; `stale.after` of 75 s or more";
    load("idle", said, &plan, &outcome)
}

fn one_revocation(costs: Costs) -> Vec<Row> {
    let signals = (1..=20).map(|n| Duration::from_secs(3 * n)).collect();
    let plan = Plan { signals, time: Duration::from_secs(70), ..tree(costs) };
    let outcome = model::run(&plan);
    applied("one revocation", "one signal each 3 s", &outcome)
}

fn a_thousand_a_second(costs: Costs) -> Vec<Row> {
    let signals = (0..10_000).map(|n| Duration::from_secs(2) + Duration::from_millis(n)).collect();
    let plan = Plan { signals, time: Duration::from_secs(20), ..tree(costs) };
    let outcome = model::run(&plan);
    let mut rows = applied("1,000 a second", "1,000 signals a second for 10 s", &outcome);
    let busy = Plan { time: Duration::from_secs(10), ..plan };
    rows.extend(load("1,000 a second", "1,000 signals a second", &busy, &outcome));
    rows
}

fn cold_start(costs: Costs) -> Vec<Row> {
    let plan = Plan { cold: true, time: Duration::from_secs(120), ..tree(costs) };
    back("cold start", "all followers start within one second, with a small state", &model::run(&plan))
}

fn lost_relay(costs: Costs) -> Vec<Row> {
    let lost = Duration::from_secs(5);
    let plan = Plan { lost_at: Some(lost), signals: vec![lost], time: Duration::from_secs(30), ..tree(costs) };
    let mut outcome = model::run(&plan);
    outcome.back.iter_mut().for_each(|at| *at -= lost);
    let mut rows =
        back("loss of a relay", "the process of one relay ends, and its followers go to the others", &outcome);
    rows.extend(applied("loss of a relay", "a signal in the moment in which a relay is lost", &outcome));
    rows
}

fn applied(name: &str, what: &str, outcome: &Outcome) -> Vec<Row> {
    let row = |part: &str, about: &str, values: &[Duration]| {
        let spread = Spread { median: at(values, 50), low: at(values, 1), high: at(values, 100) };
        let about = format!("{about}; {what}; 99 of 100 within {:.0} ms.", at(values, 99));
        Row::figure(&format!("tree/{name}, {part}"), &about, spread, "ms", values.len() as u64)
    };
    vec![
        row(
            "202 to applied by all",
            "From the 202 of the root until the last follower has applied the signal",
            &outcome.applied,
        ),
        row("202 to receipt", "From the 202 until the root knows that all have, which relays tell it", &outcome.known),
    ]
}

fn back(name: &str, what: &str, outcome: &Outcome) -> Vec<Row> {
    let values = &outcome.back;
    let spread = Spread { median: at(values, 50) / 1e3, low: at(values, 1) / 1e3, high: at(values, 100) / 1e3 };
    let about = format!(
        "When a follower has caught up: {what}; 99 of 100 within {:.1} s. CPU time of the root {:.1} s, of the busiest relay \
         {:.1} s.",
        at(values, 99) / 1e3,
        outcome.cpu.0.as_secs_f64(),
        outcome.cpu.1.as_secs_f64()
    );
    vec![Row::figure(&format!("tree/{name}, caught up"), &about, spread, "s", values.len() as u64)]
}

fn load(name: &str, what: &str, plan: &Plan, outcome: &Outcome) -> Vec<Row> {
    let seconds = plan.time.as_secs_f64();
    let percent = |cpu: Duration| 100.0 * cpu.as_secs_f64() / seconds;
    let mbit = |bytes: u64| bytes as f64 * 8.0 / 1e6 / seconds;
    let row = |part: &str, value: f64, unit| {
        figure(&format!("{name}, {part}"), &format!("In the model: {what}."), value, unit)
    };
    vec![
        row("CPU of the root", percent(outcome.cpu.0), "% of a core"),
        row("CPU of a relay", percent(outcome.cpu.1), "% of a core"),
        row("sent by the root", mbit(outcome.bytes.0), "Mbit/s"),
        row("sent by a relay", mbit(outcome.bytes.1), "Mbit/s"),
    ]
}

fn figure(name: &str, about: &str, value: f64, unit: &'static str) -> Row {
    Row::figure(&format!("tree/{name}"), about, Spread::exactly(value), unit, 1)
}

/// The time that so many of 100 are not above, in milliseconds.
fn at(values: &[Duration], of_100: usize) -> f64 {
    let mut values = values.to_vec();
    values.sort_unstable();
    let rank = (values.len() * of_100).div_ceil(100);
    values.get(rank.saturating_sub(1)).copied().unwrap_or_default().as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small(seed: u64) -> Plan {
        let signals = (1..=200).map(|n| Duration::from_millis(20 * n)).collect();
        Plan { followers: 2_000, relays: 4, signals, time: Duration::from_secs(40), seed, ..tree(Costs::recorded()) }
    }

    #[test]
    fn every_signal_reaches_every_follower_once_and_nothing_else_does() {
        for plan in [small(1), Plan { relays: 0, ..small(2) }, Plan { relays: 1, ..small(3) }] {
            let outcome = model::run(&plan);
            assert_eq!(outcome.stored, 200);
            assert_eq!((outcome.applied.len(), outcome.known.len()), (200, 200), "all are acknowledged");
            assert!(outcome.positions.iter().all(|position| *position == 200), "and applied by each");
            // No page is made up, and none is lost: those that are on their way at the end are few.
            let (sent, came) = outcome.pages;
            assert!(came <= sent && sent - came <= 2_000, "{sent} and {came}");
            // A follower acknowledges once for each page with something new, and there are at most as many as signals.
            assert!((2_000..=2_000 * 200).contains(&outcome.acknowledgements), "{}", outcome.acknowledgements);
            // The root cannot know before it happens.
            assert!(outcome.applied.iter().zip(&outcome.known).all(|(applied, known)| applied <= known));
            // What was sent was paid for: a page each, at the root and at the relays.
            let cpu = outcome.cpu.0 + outcome.cpu.1 * u32::try_from(plan.relays).unwrap();
            assert!(cpu >= plan.costs.page * u32::try_from(sent / 2).unwrap(), "{cpu:?} for {sent} pages");
        }
    }

    #[test]
    fn nobody_is_woken_while_nothing_happens() {
        let plan = Plan { signals: Vec::new(), time: Duration::from_secs(50), ..small(1) };
        let (sent, _) = model::run(&plan).pages;
        // A request of a follower waits for 20 to 25 s, and the four relays ask once a second.
        assert!((2_000 * 2 + 180..=2_000 * 5 / 2 + 204).contains(&sent), "{sent}");
    }

    #[test]
    fn the_same_seed_gives_the_same_and_another_one_another() {
        let run = |seed| model::run(&small(seed)).applied;
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    }

    #[test]
    fn a_signal_is_not_there_sooner_than_its_work_is_done() {
        let plan = Plan { signals: vec![Duration::from_secs(1)], ..small(1) };
        let outcome = model::run(&plan);
        // 500 followers of a relay, on two CPUs; a page of the root before them; and a way each.
        let work = (plan.costs.page + plan.costs.request) * 250 + plan.costs.take;
        assert!(outcome.applied[0] >= work, "{:?} and {work:?}", outcome.applied);
        assert!(outcome.applied[0] <= work * 3 + Duration::from_millis(10), "{:?} and {work:?}", outcome.applied);
    }

    #[test]
    fn a_cold_start_and_the_loss_of_a_relay_bring_everybody_back_once() {
        let cold = model::run(&Plan { cold: true, signals: Vec::new(), ..small(1) });
        assert_eq!(cold.back.len(), 2_000);
        let lost = Duration::from_millis(1_500);
        let outcome = model::run(&Plan { lost_at: Some(lost), ..small(1) });
        assert_eq!(outcome.back.len(), 500, "those of the relay that was lost");
        assert!(outcome.back.iter().all(|at| *at > lost + Duration::from_millis(200)));
        assert!(outcome.positions.iter().all(|position| *position == 200), "nobody misses a signal");
        assert_eq!(outcome.known.len(), 200, "and the root knows of all, also of those that a lost relay had not told");
    }

    /// The row `hub/202 to applied by all` of a run of `scripts/bench --only hub` on a machine with two cores: 238 to 496 ms.
    const RECORDED_MS: f64 = 419.0;

    #[test]
    fn it_comes_near_the_hub_that_was_measured() {
        let outcome = model::run(&like_the_real_one(10_000, 20, Costs::recorded()));
        let (model, real) = (at(&outcome.applied, 50), RECORDED_MS);
        assert!(model / real < FACTOR && real / model < FACTOR, "{model:.0} ms in the model, {real:.0} ms measured");
    }
}
