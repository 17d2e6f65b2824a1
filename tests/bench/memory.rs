//! What the filter takes of memory for being there: the machine of each worker.

use std::time::Duration;

use serde_json::{Value, json};
use taskfence_tests::{
    client::{Connection, Http, Request},
    mint::Alg,
    orders,
};

use crate::{
    Result,
    cases::Progress,
    machine::Cores,
    options::Options,
    proxy::{self, Plan},
    report::{Row, Spread},
    service,
};

/// Not one: what compiling the module leaves behind serves the machines of the first workers.
const FEW: u32 = 16;
const MANY: u32 = 48;

/// Bytes for each worker's machine, of Taskfence and of the filter that does nothing.
pub async fn measure(options: &Options, cores: &Cores, progress: &mut Progress) -> Result<Vec<Row>> {
    let times = if options.quick { 1 } else { 3 };
    progress.begin(&format!("memory: {} Envoys, one after the other", 6 * times));
    let config = service::config(json!([service::rule()]));
    let kinds = [
        ("memory/worker VM", "Taskfence, one rule", proxy::taskfence(service::VM, "filter", &config)?),
        ("memory/worker VM, no-op", "the filter that does nothing", proxy::noop()?),
    ];
    let mut found: [Vec<f64>; 2] = Default::default();
    for _ in 0..times {
        let bare = per_worker(cores, Vec::new()).await?;
        for ((_, _, filter), found) in kinds.iter().zip(&mut found) {
            found.push(per_worker(cores, vec![filter.clone()]).await? - bare);
        }
    }
    let rows = kinds.iter().zip(found).filter_map(|((name, what, _), found)| {
        let about = format!(
            "Bytes of the process for each worker's VM of {what}, after some requests, above those of a worker without \
             a filter."
        );
        Some(Row::figure(name, &about, Spread::of(found.into_iter())?, "bytes", u64::from(MANY - FEW)))
    });
    Ok(rows.collect())
}

/// What one more worker takes.
async fn per_worker(cores: &Cores, filters: Vec<Value>) -> Result<f64> {
    let (few, many) = (of(cores, filters.clone(), FEW).await?, of(cores, filters, MANY).await?);
    Ok((many - few) / f64::from(MANY - FEW))
}

async fn of(cores: &Cores, filters: Vec<Value>, workers: u32) -> Result<f64> {
    let proxy = Plan::new("memory").workers(workers).releasing().listener("app", filters).start(&cores.two).await?;
    // Each worker gets some connections, which stay open so that the next goes to another, and serves some requests, so
    // that what it makes at the first is there. How they are answered says nothing about that.
    let request = Request::get(orders::ORDER_PATH).bearer(&service::token(Alg::Es256).sign());
    let mut connections = Vec::new();
    for _ in 0..workers * 2 {
        let mut connection = Connection::open(proxy.address("app")?, Http::One).await?;
        for _ in 0..10 {
            connection.send(&request).await?;
        }
        connections.push(connection);
    }
    // Compiling goes on behind, and what it leaves behind goes back.
    tokio::time::sleep(Duration::from_secs(2)).await;
    Ok(proxy.memory()? as f64)
}
