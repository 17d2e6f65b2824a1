//! Two replicas of a hub over one PostgreSQL: a revocation at one is in force behind the other, and one may die.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use taskfence_tests::{
    Error, Result,
    bootstrap::Settings,
    client::{self, Http, Request},
    hub::{FEED, Hub, SOON, wait_ready, without_receiver},
    jwks, orders,
    postgres::{Postgres, programs},
    services,
    sidecar::Sidecar,
    streaming::Connection,
};

use crate::{Demo, Steps, mint, read_json};

/// The tasks that end at one replica, and after the other was killed; and the one whose stream goes on.
const ENDED: &str = "task-48";
/// See [`ENDED`].
const ENDED_LATER: &str = "task-49";
/// See [`ENDED`].
const LIVE: &str = "task-50";

/// All of it. The server ends with it.
pub async fn show(demo: &mut Demo) -> Result<()> {
    if programs().is_none() {
        return Err(Error::new("PostgreSQL is not installed: run scripts/setup as root, or install it"));
    }
    println!("A PostgreSQL server for this demo alone, and a hub of two processes that share it.");
    let server = tokio::task::spawn_blocking(Postgres::start).await.map_err(Error::doing("start PostgreSQL"))?;
    server.run("postgres", "CREATE DATABASE taskfence");
    let url = server.url("taskfence");
    let folder = demo.folder.clone();
    let config = read_json(&folder.join("taskfence.json"))?;
    let jwks = |name: &str| read_json(&folder.join(format!("{name}.jwks.json")));
    let (issuer, transmitter) = (jwks("issuer")?, jwks("transmitter")?);
    let mut first = Hub::start_with("demo-replica-a", |hub| {
        hub["store"] = json!({"postgres": {"url": url}});
        hub["feeds"][0]["issuers"] = config["issuers"].clone();
        hub["feeds"][0]["issuers"][0]["keys"]["inline"] = issuer;
        hub["feeds"][0]["signals"]["transmitters"][0]["keys"]["inline"] = transmitter;
    })
    .await?;
    let mut second = first.replica("demo-replica-b", |_| ())?;
    second.run().await?;
    println!("  database     {url}");
    for (name, hub) in [("a", &first), ("b", &second)] {
        println!("  replica {name}    http://{}", hub.address());
    }
    println!("\nTwo proxies follow whichever of the replicas answers.");
    let a = proxy("demo-first", &config, &[&first, &second]).await?;
    let b = proxy("demo-second", &config, &[&second, &first]).await?;
    for (name, proxy) in [("first", &a), ("second", &b)] {
        println!("  {name:<12} http://{}  caught up", proxy.app());
    }
    println!();

    println!("A stream of events through the first, for {LIVE}, and tokens for the tasks that end.");
    let token = |demo: &Demo, task: &str| demo.command.show(&mint(&folder, task, &[]));
    let (live, ended, later) = (token(demo, LIVE)?, token(demo, ENDED)?, token(demo, ENDED_LATER)?);
    let mut connection = Connection::open(a.app(), Http::Two).await?;
    let mut events = connection.start(&Request::get(services::EVENTS).bearer(&live)).await?;
    events.read(100).await?;
    println!();
    let steps = &mut demo.steps;
    asked(steps, "Both proxies let the first one.", &[&a, &b], &ended, "200 and 200").await?;
    end(steps, "It ends at replica a; the receipt counts the proxies of both.", &first, ENDED).await?;
    asked(steps, "Both refuse it.", &[&a, &b], &ended, "401 task_completed and 401 task_completed").await?;

    steps.begin("Replica a is killed.");
    println!("      killed    process {}", first.pid());
    let pages = pages(&a).await?;
    first.kill();
    let until = Instant::now() + SOON;
    while self::pages(&a).await? <= pages && Instant::now() < until {
        // A signal makes the next page; the one before may have been of the replica that is gone.
        push_something(&second).await?;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let came = if self::pages(&a).await? > pages { "the proxies follow the other" } else { "no page comes" };
    steps.end("the proxies follow the other", came);
    end(steps, "Another task ends at replica b.", &second, ENDED_LATER).await?;
    asked(steps, "Both refuse it.", &[&a, &b], &later, "401 task_completed and 401 task_completed").await?;
    steps.begin("The stream of events went on all the time.");
    let goes_on = events.read(100).await.map_or_else(|error| error.to_string(), |_| "events come".to_owned());
    steps.end("events come", &goes_on);
    Ok(())
}

/// A proxy that follows whichever of the replicas answers.
async fn proxy(name: &'static str, config: &Value, replicas: &[&Hub]) -> Result<Sidecar> {
    let cluster = Hub::cluster_of(replicas);
    let settings = Settings::new(name, replicas[0].followed_by(config)).patch(jwks::with_clusters(vec![cluster]));
    let node = json!({"id": name, "cluster": "demo"});
    let settings = settings.patch(without_receiver).patch(move |bootstrap| bootstrap["node"] = node);
    let proxy = Sidecar::start(settings).await?;
    wait_ready(&proxy).await?;
    Ok(proxy)
}

/// Ends a task at a replica, before the reader's eyes.
async fn end(steps: &mut Steps, title: &str, hub: &Hub, task: &str) -> Result<()> {
    steps.begin(title);
    let url = format!("http://{}", hub.address());
    let words = ["signal", "complete", "--task", task, "--wait=10s", "--hub", &url, "--feed", FEED];
    println!("      $ taskfence {}", words.join(" "));
    let (_, printed) = hub.try_command(&words)?;
    printed.lines().for_each(|line| println!("        {line}"));
    let everywhere = "in force on 2 of 2 proxies";
    steps.end(everywhere, if printed.contains(everywhere) { everywhere } else { &printed });
    Ok(())
}

async fn asked(steps: &mut Steps, title: &str, proxies: &[&Sidecar], token: &str, expected: &str) -> Result<()> {
    steps.begin(title);
    let mut came = Vec::new();
    for proxy in proxies {
        let request = Request::get(orders::ORDER_PATH).host(&proxy.app().to_string()).bearer(token);
        println!("      request   {}", request.line());
        came.push(client::send(proxy.app(), Http::One, &request).await?.line());
    }
    steps.end(expected, &came.join(" and "));
    Ok(())
}

/// How many pages a proxy has applied.
async fn pages(proxy: &Sidecar) -> Result<u64> {
    proxy.envoy().stats().await?.value(&format!("wasmcustom.taskfence.feed_pages.{FEED}"))
}

/// A signal about nobody.
async fn push_something(hub: &Hub) -> Result<()> {
    let event =
        json!({"event": "task-completed", "subject": {"task": "nobody", "issuer": orders::ISSUER}, "reason": "r"});
    hub.call("POST", &format!("/v1/feeds/{FEED}/events"), Some(&event)).await.map(drop)
}
