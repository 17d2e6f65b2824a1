//! How long a hub takes for the report about many grants, on each engine of its store.

use std::{
    path::Path,
    time::{Duration, Instant, SystemTime},
};

use serde_json::json;
use taskfence_hub::{
    config::hub::Postgres as Database,
    evidence::{
        fixture::{DAY, Fixture},
        store::{EvidenceStore, kept::Kept, postgres::PostgresEvidence, sqlite::SqliteEvidence},
    },
};
use taskfence_tests::{
    hub::{FEED, Hub},
    postgres::{Postgres, programs},
};
use tokio::{task::spawn_blocking, time::sleep};

use super::{Part, milliseconds, row_of};
use crate::{Error, Result, process};

/// So many grants of one week.
const GRANTS: u64 = 1_000_000;
/// The same, of a quick run.
const FEW_GRANTS: u64 = 100_000;
/// A report about [`GRANTS`] may take so long.
const WITHIN_MS: f64 = 10_000.0;
/// How often it is asked for.
const ROUNDS: usize = 3;
/// For so many days it is kept: longer than the week.
const DAYS: u64 = 90;
/// So long after its start a hub has looked at its grants for its metrics, which takes its time too; the next look is minutes
/// later.
const LOOKED_WITHIN: Duration = Duration::from_secs(180);

/// On SQLite, and on PostgreSQL.
pub async fn measure(part: &mut Part<'_>) -> Result<()> {
    let hub =
        Hub::start_with("bench-report", |config| config["evidence"] = json!({"days": DAYS, "mib": 100_000})).await?;
    let folder = hub.folder().join("data/evidence");
    reports(part, hub, "SQLite", move || open_files(&folder)).await?;
    if programs().is_none() {
        return Err(Error::new("PostgreSQL is not installed: run scripts/setup as root, or install it"));
    }
    let server = spawn_blocking(Postgres::start).await.map_err(Error::doing("start PostgreSQL"))?;
    server.run("postgres", "CREATE DATABASE taskfence");
    let url = server.url("taskfence");
    let hub = Hub::start_with("bench-report-postgres", |config| {
        config["evidence"] = json!({"days": DAYS, "mib": 100_000});
        config["store"] = json!({"postgres": {"url": url}});
    })
    .await?;
    reports(part, hub, "PostgreSQL", move || open_database(&url)).await
}

/// Fills the store of a hub that stands still, and asks it for the report.
async fn reports(
    part: &mut Part<'_>,
    mut hub: Hub,
    engine: &str,
    open: impl FnOnce() -> Result<Box<dyn EvidenceStore>> + Send + 'static,
) -> Result<()> {
    let grants = if part.options.quick { FEW_GRANTS } else { GRANTS };
    part.progress.begin(&format!("hub: {grants} grants are written into {engine}"));
    hub.stop()?;
    let until = now();
    let filled = spawn_blocking(move || -> Result<()> {
        Fixture::before(until, grants).fill(&*open()?).map_err(Error::doing("fill the store of evidence"))?;
        Ok(())
    });
    filled.await.map_err(Error::doing("fill the store of evidence"))??;
    hub.run().await?;
    process::pin(hub.pid(), &part.cores.two)?;
    looked(&hub).await?;
    part.progress.begin(&format!("hub: {ROUNDS} reports about {grants} grants in {engine}"));
    let path = format!("/v1/feeds/{FEED}/report?since={}&until={}", until - 7 * DAY, until + DAY);
    let (mut took, mut seen) = (Vec::new(), 0);
    let used = process::cpu_with_ended(hub.pid())?;
    for _ in 0..ROUNDS {
        let began = Instant::now();
        let answer = hub.call("GET", &path, None).await?;
        took.push(milliseconds(began.elapsed()));
        if answer.status != 200 {
            return Err(Error::new(format!("the report was answered {}: {}", answer.status, answer.text())));
        }
        seen = answer.json()["total"]["grants"].as_u64().unwrap_or_default();
    }
    let used = process::cpu_with_ended(hub.pid())?.saturating_sub(used).as_secs_f64() / ROUNDS as f64;
    // Some expire after the window, and none is there twice.
    if seen > grants || seen < grants / 100 * 95 {
        return Err(Error::new(format!("the report is about {seen} grants, not {grants}")));
    }
    let about = format!(
        "`GET /v1/feeds/FEED/report` about a week with {seen} grants in {engine}: width, repeat, residual and sharing of each, \
         with {used:.1} s of CPU of the hub, in at most {} MiB of its memory.",
        process::most_memory(hub.pid())? / (1 << 20)
    );
    let row = row_of(&format!("hub/report, {engine}"), &about, "ms", &took);
    let limit = WITHIN_MS * grants as f64 / GRANTS as f64;
    let slowest = took.iter().copied().fold(0.0, f64::max);
    part.rows.push(row.target(
        "a report over 1,000,000 grants in 10 s, over fewer in their share of it",
        Some(slowest),
        Some(limit),
    ));
    Ok(())
}

/// Waits until the hub has looked at its grants.
async fn looked(hub: &Hub) -> Result<()> {
    let began = Instant::now();
    loop {
        let answer = hub.call("GET", "/metrics", None).await?;
        match answer.text().contains("taskfence_hub_evidence_grants{") {
            true => return Ok(()),
            false if began.elapsed() < LOOKED_WITHIN => sleep(Duration::from_millis(200)).await,
            false => return Err(Error::new(format!("nobody looked at the grants\n{}", hub.log()))),
        }
    }
}

fn kept() -> Kept {
    Kept { days: DAYS, bytes: u64::MAX }
}

fn open_files(folder: &Path) -> Result<Box<dyn EvidenceStore>> {
    Ok(Box::new(SqliteEvidence::open(folder, kept()).map_err(Error::doing("open the files of evidence"))?))
}

fn open_database(url: &str) -> Result<Box<dyn EvidenceStore>> {
    let url = url.parse().map_err(Error::doing("read the URL of the database"))?;
    let database = Database { url, password_file: None, ca: None, tls: false };
    Ok(Box::new(PostgresEvidence::open(&database, kept()).map_err(Error::doing("open the database"))?))
}

/// In milliseconds since 1970.
fn now() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}
