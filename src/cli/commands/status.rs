//! `taskfence status`: a hub, its feeds and the proxies that follow them.

use clap::Args;
use serde_json::{Value, json};
use taskfence_core::time::Timestamp;

use crate::commands::hub_options::{HubOptions, Output};
use crate::failure::Failure;
use crate::remote::table;
use crate::terminal::console::Console;
use crate::terminal::exit::Exit;
use crate::terminal::text::{printable, time_from};

/// Show whether a hub is ready, its feeds, and the proxies that follow them
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  taskfence status
  taskfence status --hub https://hub.example:8500 --output json

Exits with 0 when the hub is ready, with 1 when it is not.")]
pub struct Status {
    #[command(flatten)]
    options: HubOptions,
}

impl Status {
    /// Runs the command.
    pub fn run(&self, console: &mut Console<'_>) -> Result<Exit, Failure> {
        let client = self.options.connect()?;
        let (status, ready) = client.probe("/readyz")?;
        let feeds = client.get("/v1/feeds", &[])?;
        let mut proxies = Vec::new();
        for name in list(&feeds).iter().filter_map(|feed| feed.get("name").and_then(Value::as_str)) {
            for proxy in list(&client.get(&format!("/v1/feeds/{name}/proxies"), &[])?) {
                proxies.push((name.to_owned(), proxy.clone()));
            }
        }
        let exit = if status.is_success() { Exit::Done } else { Exit::Failed };
        if self.options.output == Output::Json {
            let proxies: Vec<_> = proxies.iter().map(|(feed, proxy)| json!({"feed": feed, "proxy": proxy})).collect();
            let all = json!({"hub": client.address(), "readiness": ready, "feeds": feeds, "proxies": proxies});
            writeln!(console.out, "{}", serde_json::to_string_pretty(&all)?)?;
            return Ok(exit);
        }
        let word = if status.is_success() { "ready" } else { "not ready" };
        writeln!(console.out, "{}: {word}", client.address())?;
        for check in list(ready.get("checks").unwrap_or(&Value::Null)) {
            let (name, detail) = (text(check, "name"), text(check, "detail"));
            match check.get("ok") == Some(&Value::Bool(true)) {
                false => writeln!(console.err, "error: {name}: {detail}")?,
                true if !detail.is_empty() => writeln!(console.err, "note: {name}: {detail}")?,
                true => {}
            }
        }
        let rows: Vec<_> = list(&feeds).iter().map(feed_row).collect();
        writeln!(console.out)?;
        table::print(&["FEED", "REVISION", "PROXIES", "BEHIND", "ISSUERS"], &rows, console.out)?;
        let now = Timestamp(console.now);
        let rows: Vec<_> = proxies.iter().map(|(feed, proxy)| proxy_row(feed, proxy, now)).collect();
        if !rows.is_empty() {
            writeln!(console.out)?;
            table::print(&PROXY_HEAD, &rows, console.out)?;
        }
        Ok(exit)
    }
}

/// The columns of [`proxy_row`].
pub const PROXY_HEAD: [&str; 7] = ["NODE", "FEED", "BEHIND", "SEEN", "CLOSES ITSELF", "MODE", "VERSION"];

/// A proxy as a row of a table.
pub fn proxy_row(feed: &str, proxy: &Value, now: Timestamp) -> Vec<String> {
    let time = |member: &str| {
        let ms = proxy.get(member).and_then(Value::as_u64);
        ms.map(|ms| Timestamp(ms / 1000))
    };
    let node = text(proxy, "node");
    let behind = proxy.get("behind").and_then(Value::as_u64);
    let name = if node.is_empty() { text(proxy, "id") } else { node };
    let relay = text(proxy, "relay");
    vec![
        // All of the line is what that relay says.
        if relay.is_empty() { name } else { format!("{name} (by {relay})") },
        feed.to_owned(),
        behind.map_or_else(|| "starting".to_owned(), |behind| behind.to_string()),
        time("seen_ms").map_or_else(String::new, |at| format!("{} ago", now.since(at))),
        time("closes_at_ms").map_or_else(|| "never".to_owned(), |at| distance(at, now)),
        text(proxy, "mode"),
        text(proxy, "version"),
    ]
}

fn distance(at: Timestamp, now: Timestamp) -> String {
    // The time itself would make the line too long; only how far away it is matters.
    time_from(at, now).split_once(", ").map(|(_, distance)| distance.to_owned()).unwrap_or_default()
}

fn feed_row(feed: &Value) -> Vec<String> {
    let number = |member: &str| feed.get(member).and_then(Value::as_u64).unwrap_or_default().to_string();
    let issuers: Vec<_> =
        list(feed.get("issuers").unwrap_or(&Value::Null)).iter().filter_map(Value::as_str).map(printable).collect();
    vec![text(feed, "name"), text(feed, "revision"), number("proxies"), number("behind"), issuers.join(", ")]
}

/// The members of a JSON array; none for anything else.
pub fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A member that is a string, safe to print; empty for anything else.
pub fn text(value: &Value, member: &str) -> String {
    value.get(member).and_then(Value::as_str).map(printable).unwrap_or_default()
}
