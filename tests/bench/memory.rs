//! What the filter takes of memory for being there: the machine of each worker.

use serde_json::{Value, json};
use taskfence_tests::{client::Request, mint::Alg};

use crate::{
    Result,
    cases::Progress,
    machine::Cores,
    proxy::{self, Plan},
    report::{Row, Spread},
    service,
};

const FEW: u32 = 1;
const MANY: u32 = 9;

/// Bytes for each worker's machine, of Taskfence and of the filter that does nothing.
pub async fn measure(cores: &Cores, progress: &mut Progress) -> Result<Vec<Row>> {
    progress.begin("memory: six Envoys, one after the other");
    let config = service::config(json!([service::rule()]));
    let taskfence = proxy::taskfence(service::VM, "filter", &config)?;
    let bare = per_worker(cores, Vec::new()).await?;
    let mut rows = Vec::new();
    for (name, what, filter) in [
        ("memory/worker VM", "Taskfence, one rule", taskfence),
        ("memory/worker VM, no-op", "the filter that does nothing", proxy::noop()?),
    ] {
        let each = per_worker(cores, vec![filter]).await? - bare;
        let about = format!("Bytes of the process for each worker's VM of {what}, after some requests.");
        rows.push(Row::figure(name, &about, Spread::exactly(each), "bytes", u64::from(MANY - FEW)));
    }
    Ok(rows)
}

/// What one more worker takes.
async fn per_worker(cores: &Cores, filters: Vec<Value>) -> Result<f64> {
    let (few, many) = (of(cores, filters.clone(), FEW).await?, of(cores, filters, MANY).await?);
    Ok((many - few) / f64::from(MANY - FEW))
}

async fn of(cores: &Cores, filters: Vec<Value>, workers: u32) -> Result<f64> {
    let proxy = Plan::new("memory").workers(workers).listener("app", filters).start(&cores.two).await?;
    // Each worker serves some, so that what it makes at the first request is there. How they are answered says nothing
    // about that.
    let token = service::token(Alg::Es256).sign();
    for _ in 0..workers * 4 {
        proxy.ask("app", &Request::get("/v1/orders/1881").bearer(&token)).await?;
    }
    Ok(proxy.memory()? as f64)
}
