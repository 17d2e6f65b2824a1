//! The bench: `scripts/bench` builds what it needs and runs it.

use std::{fs, process::ExitCode, time::Instant};

use clap::Parser;
use taskfence_bench::{
    Error, Result, calls,
    cases::Progress,
    hub,
    machine::{self, Cores, Machine},
    memory,
    options::{Options, Section},
    page, peers, process, propagation,
    report::{Results, Row, Yardsticks, table},
    scaling::Bench,
    tree,
};
use taskfence_tests::artefacts;

/// The order of the rows.
const SECTIONS: [&str; 12] = [
    "peers",
    "rules",
    "token size",
    "state",
    "cached tokens",
    "live streams",
    "workers",
    "propagation",
    "hub",
    "tree",
    "memory",
    "module",
];

fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options) {
        Ok(results) => summary(&options, &results),
        Err(error) => {
            eprintln!("\nbench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<Results> {
    machine::check()?;
    let cores = Cores::choose()?;
    let machine = Machine::look(cores.clone())?;
    if let Some(warning) = machine.warning() {
        eprintln!("bench: note: {warning}");
    }
    // All that is not a proxy, and what this starts, keeps away from the proxy's core.
    process::pin(std::process::id(), &cores.load)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(Error::doing("start the runtime"))?;
    let began = Instant::now();
    let rows = runtime.block_on(measure(options, &cores))?;
    let (rounds, seconds) = (options.rounds(), options.time().as_secs());
    Ok(Results { machine, rounds, seconds, took: began.elapsed().as_secs(), rows })
}

async fn measure(options: &Options, cores: &Cores) -> Result<Vec<Row>> {
    let mut progress = Progress::new();
    let (mut rows, mut yardsticks) = (Vec::new(), Yardsticks::default());
    if options.wants(Section::Peers) {
        (rows, yardsticks) = peers::measure(options, cores, &mut progress).await?;
    }
    let bench = Bench { options, cores, yardsticks };
    if options.wants(Section::Rules) {
        rows.extend(bench.rules(&mut progress).await?);
    }
    if options.wants(Section::State) {
        rows.extend(bench.state(&mut progress).await?);
    }
    if options.wants(Section::Tokens) {
        rows.extend(bench.tokens(&mut progress).await?);
    }
    if options.wants(Section::Streams) {
        rows.extend(bench.streams(&mut progress).await?);
    }
    if options.wants(Section::Workers) {
        rows.extend(bench.workers(&mut progress).await?);
    }
    if options.wants(Section::Propagation) {
        rows.extend(propagation::measure(options, cores, &mut progress).await?);
    }
    if options.wants(Section::Hub) {
        rows.extend(hub::measure(options, cores, &mut progress).await?);
    }
    if options.wants(Section::Tree) {
        rows.extend(tree::measure(options, cores, &mut progress).await?);
    }
    if options.wants(Section::Memory) {
        rows.extend(memory::measure(options, cores, &mut progress).await?);
    }
    if options.wants(Section::Calls) {
        rows.extend(calls::measure(cores, &mut progress).await?);
    }
    progress.begin("done");
    // Memory is measured where it is filled; the reader finds it in one place.
    rows.sort_by_key(|row| SECTIONS.iter().position(|section| *section == row.section()));
    Ok(rows)
}

/// Shows and writes what came out. Void rows fail the run; a target that is not met does not.
fn summary(options: &Options, results: &Results) -> ExitCode {
    println!("{}", table(&results.rows));
    let written = write(results).and_then(|path| {
        println!("bench: {} rows in {}", results.rows.len(), path.display());
        if options.publish { page::publish(results) } else { Ok(()) }
    });
    if let Err(error) = written {
        eprintln!("bench: {error}");
        return ExitCode::FAILURE;
    }
    if let Some(warning) = results.machine.warning() {
        println!("bench: note: {warning}");
    }
    let missed = results.rows.iter().filter(|row| row.met == Some(false)).count();
    let with_target = results.rows.iter().filter(|row| row.met.is_some()).count();
    println!("bench: {} of {with_target} rows with a target meet it", with_target - missed);
    let void: Vec<&str> = results.rows.iter().filter(|row| row.void.is_some()).map(|row| row.name.as_str()).collect();
    if void.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("bench: void: {}", void.join(", "));
    ExitCode::FAILURE
}

fn write(results: &Results) -> Result<std::path::PathBuf> {
    let folder = artefacts::target().join("bench");
    fs::create_dir_all(&folder).map_err(Error::doing(folder.display()))?;
    let path = folder.join("results.json");
    let text = serde_json::to_string_pretty(results).map_err(Error::doing("write the results"))?;
    fs::write(&path, text).map_err(Error::doing(path.display()))?;
    Ok(path)
}
