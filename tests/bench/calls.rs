//! What can be counted: calls of the host for one request, and the bytes of the module.

use std::{collections::BTreeMap, fs, time::Duration};

use serde_json::json;
use taskfence_tests::{artefacts, client::Request, mint::Alg, orders};

use crate::{
    Error, Result,
    cases::Progress,
    machine::Cores,
    proxy::{self, Plan, Proxy},
    report::{Row, Spread},
    service,
};

/// What the size of the module must stay under.
const MAX_MODULE: f64 = 1_600_000.0;
/// How many calls of the host a warm request that passes may make.
const MAX_CALLS: f64 = 8.0;

/// The rows.
pub async fn measure(cores: &Cores, progress: &mut Progress) -> Result<Vec<Row>> {
    progress.begin("host calls: tracing one request");
    let module = artefacts::wasm()?;
    let size = fs::metadata(&module).map_err(Error::doing(module.display()))?.len();
    let size = Row::figure("module/size", "Bytes of taskfence.wasm.", Spread::exactly(size as f64), "bytes", 1);
    let bytes = size_of(&size);
    let size = size.target("at most 1.6 MB", bytes, Some(MAX_MODULE));
    let config = service::config(json!([service::rule()]));
    let proxy = Plan::new("calls")
        .listener("app", vec![proxy::taskfence(service::VM, "filter", &config)?])
        .listener("noop", vec![proxy::noop()?])
        .listener("signals", vec![proxy::taskfence(service::VM, "receiver", &config)?])
        .start(&cores.proxy)
        .await?;
    for signal in service::context() {
        proxy.push("signals", &signal).await?;
    }
    let token = service::token(Alg::Es256).sign();
    let warm = row(&proxy, "app", "warm request", &token, progress).await?;
    let calls = size_of(&warm);
    let warm = warm.target("at most 8 calls of the host", calls, Some(MAX_CALLS));
    Ok(vec![size, warm, row(&proxy, "noop", "no-op", &token, progress).await?])
}

fn size_of(row: &Row) -> Option<f64> {
    row.value.map(|value| value.median)
}

/// The calls of one request after some like it, by the trace that Envoy writes.
async fn row(proxy: &Proxy, listener: &str, what: &str, token: &str, progress: &mut Progress) -> Result<Row> {
    let name = format!("module/host calls, {what}");
    let request = Request::get(orders::ORDER_PATH).bearer(token);
    for _ in 0..3 {
        let answer = proxy.ask(listener, &request).await?;
        if answer.status != 200 {
            return Ok(Row::void(&name, "", "calls", format!("a request was answered `{}`", answer.line())));
        }
    }
    let before = proxy.envoy().log().len();
    proxy.admin("POST", "/logging?wasm=trace").await?;
    proxy.ask(listener, &request).await?;
    // The stream is deleted after it was answered.
    tokio::time::sleep(Duration::from_millis(200)).await;
    proxy.admin("POST", "/logging?wasm=info").await?;
    let log = proxy.envoy().log();
    let calls = calls(log.get(before..).unwrap_or_default());
    let count: usize = calls.values().sum();
    if count == 0 && listener == "app" {
        return Ok(Row::void(&name, "", "calls", "the trace of Envoy names no call of the host"));
    }
    let named: Vec<_> = calls.iter().map(|(name, times)| format!("{times} {name}")).collect();
    progress.begin(&format!("host calls, {what}: {count} ({})", named.join(", ")));
    let about = format!("Calls of the host for one request, from Envoy's own trace: {}.", named.join(", "));
    Ok(Row::figure(&name, &about, Spread::exactly(count as f64), "calls", 1))
}

/// Calls of the host within the callbacks of a stream. Ticks and queues, which come by themselves, are left out.
///
/// ```text
/// [..][17][trace][wasm] [..] [host->vm] proxy_on_request_headers(2, 9, 1)
/// [..][17][trace][wasm] [..] [vm->host] env.proxy_get_header_map_pairs(0, 1234, 1238)
/// [..][17][trace][wasm] [..] [vm<-host] env.proxy_get_header_map_pairs return: 0
/// [..][17][trace][wasm] [..] [host<-vm] proxy_on_request_headers return: 0
/// ```
fn calls(log: &str) -> BTreeMap<String, usize> {
    const BY_THEMSELVES: [&str; 2] = ["proxy_on_tick", "proxy_on_queue_ready"];
    // By thread: what callback it is in.
    let mut within: BTreeMap<&str, &str> = BTreeMap::new();
    let mut calls = BTreeMap::new();
    for line in log.lines() {
        let thread = line.split(['[', ']']).nth(3).unwrap_or_default();
        let name_after = |mark: &str| {
            let (_, rest) = line.split_once(mark)?;
            Some(rest.split(['(', ' ']).next().unwrap_or_default())
        };
        if let Some(callback) = name_after("[host->vm] ") {
            // The VM may be asked for memory in the middle of a callback.
            if callback.starts_with("proxy_on_") && callback != "proxy_on_memory_allocate" {
                within.insert(thread, callback);
            }
        } else if let Some(call) = name_after("[vm->host] ")
            && within.get(thread).is_some_and(|callback| !BY_THEMSELVES.contains(callback))
        {
            let call = call.rsplit('.').next().unwrap_or(call);
            *calls.entry(call.to_owned()).or_default() += 1;
        }
    }
    calls
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_calls_of_streams_count() {
        let log = "\
[2026-11-21 22:00:00.000][17][trace][wasm] [x] [host->vm] proxy_on_tick(1)
[2026-11-21 22:00:00.000][17][trace][wasm] [x] [vm->host] env.proxy_get_shared_data(1, 2)
[2026-11-21 22:00:00.000][17][trace][wasm] [x] [host<-vm] proxy_on_tick return: 0
[2026-11-21 22:00:00.000][18][trace][wasm] [x] [host->vm] proxy_on_request_headers(2, 9, 1)
[2026-11-21 22:00:00.000][17][trace][wasm] [x] [vm->host] env.proxy_get_shared_data(1, 2)
[2026-11-21 22:00:00.000][18][trace][wasm] [x] [vm->host] env.proxy_get_header_map_pairs(0, 1, 2)
[2026-11-21 22:00:00.000][18][trace][wasm] [x] [host->vm] malloc(300)
[2026-11-21 22:00:00.000][18][trace][wasm] [x] [vm->host] wasi_snapshot_preview1.clock_time_get(0, 1, 2)
";
        let found = calls(log);
        let found: Vec<_> = found.iter().map(|(name, times)| (name.as_str(), *times)).collect();
        assert_eq!(found, [("clock_time_get", 1), ("proxy_get_header_map_pairs", 1)]);
    }
}
