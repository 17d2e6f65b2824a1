//! The warm request again, with more of everything.

use serde_json::json;
use taskfence_tests::{client::Http, mint::Alg, orders};

use crate::{
    Result,
    cases::{self, Case, Progress},
    live::{Streams, Upstream},
    load::Traffic,
    machine::Cores,
    options::Options,
    proxy::{self, Plan, Proxy},
    report::{Load, Row, Spread, Yardsticks},
    service, state, tokens,
};

/// The most that a cached token of about 600 bytes may take of the process, in bytes.
const MAX_CACHED_TOKEN: f64 = 3_072.0;

/// What every section here needs.
pub struct Bench<'a> {
    /// What is asked for.
    pub options: &'a Options,
    /// Where.
    pub cores: &'a Cores,
    /// What to compare with.
    pub yardsticks: Yardsticks,
}

impl Bench<'_> {
    async fn run(&self, section: &str, cases: Vec<Case<'_>>, progress: &mut Progress) -> Result<Vec<Load>> {
        cases::measure(section, cases, &self.options.for_scaling(), progress).await
    }

    /// The rows of all but the first case, which they are compared with.
    fn rows(&self, section: &str, loads: &[Load], about: &str) -> Vec<Row> {
        let row = |load: &Load| {
            let jwt_authn = match section {
                // Theirs was another token.
                "token size" => None,
                _ if load.name.ends_with("cold") => self.yardsticks.jwt_authn_uncached,
                _ => self.yardsticks.jwt_authn,
            };
            load.row(&format!("{section}/{}", load.name), about, Yardsticks { jwt_authn, ..self.yardsticks })
        };
        loads.iter().skip(1).map(row).collect()
    }

    /// Rules 10, 100, 1,000; tokens of 0.5, 4 and 16 KiB.
    pub async fn rules(&self, progress: &mut Progress) -> Result<Vec<Row>> {
        progress.begin("rules, token sizes: starting Envoy");
        let mut plan = Plan::new("rules").listener("passthrough", Vec::new());
        let counts = [10, 100, 1_000];
        for count in counts {
            let config = service::config(service::rules(count));
            plan = plan.listener(&format!("rules{count}"), vec![proxy::taskfence(service::VM, "filter", &config)?]);
        }
        let config = service::config(json!([service::rule()]));
        let open = service::config(json!([{
            "name": "read-order",
            "match": {"methods": ["GET"], "path": "/v1/orders/{order}"},
            "require": {"scope": orders::SCOPE, "detail": {"type": "order", "action": "read", "identifier": "{order}"}}
        }]));
        let proxy = plan
            .listener("sizes", vec![proxy::taskfence(service::VM, "filter", &open)?])
            .listener("signals", vec![proxy::taskfence(service::VM, "receiver", &config)?])
            .start(&self.cores.proxy)
            .await?;
        for signal in service::context() {
            proxy.push("signals", &signal).await?;
        }
        let warm = one("rules", &service::token(Alg::Es256))?;
        let mut listed = vec![Case::new("passthrough", &proxy, "passthrough", &warm)];
        for count in counts {
            listed.push(Case::new(&count.to_string(), &proxy, &format!("rules{count}"), &warm));
        }
        let mut rows = Vec::new();
        progress.begin("rules: 10, 100 and 1,000");
        let loads = self.run("rules", listed, progress).await?;
        let least = loads.get(1).and_then(Load::added);
        for row in self.rows("rules", &loads, "So many rules, of which the last matches.") {
            let own = row.added_us;
            rows.push(match row.name.as_str() {
                "rules/1000" => row.target("1,000 rules add at most 1.3 times what 10 add", own, times(1.3, least)),
                _ => row,
            });
        }
        progress.begin("token sizes: 0.5, 4 and 16 KiB");
        let mut listed = vec![Case::new("passthrough", &proxy, "passthrough", &warm)];
        for (name, bytes) in [("0.5", 512), ("4", 4 * 1024), ("16", 16 * 1024)] {
            let token = tokens::sized(bytes);
            let traffic = one(&format!("size-{bytes}"), &token)?;
            // Reading a long header costs Envoy something too, which is not ours.
            let bare = format!("{name} KiB, no filter");
            let itself = Case::new(&bare, &proxy, "passthrough", &traffic).against(&bare);
            listed.push(itself);
            listed.push(Case::new(&format!("{name} KiB"), &proxy, "sizes", &traffic).against(&bare));
        }
        let loads = self.run("token sizes", listed, progress).await?;
        rows.extend(self.rows(
            "token size",
            &loads,
            "A warm ES256 token of that length; a rule with scope and detail.",
        ));
        Ok(rows)
    }

    /// State of 0, 10^4 and 10^6 entries.
    pub async fn state(&self, progress: &mut Progress) -> Result<Vec<Row>> {
        progress.begin("state: starting Envoy");
        let mut plan = Plan::new("state").listener("passthrough", Vec::new());
        let sizes = [("0", 0), ("10^4", 10_000), ("10^6", 1_000_000)];
        for (at, _) in sizes.iter().enumerate() {
            let vm = format!("state{at}");
            plan = plan
                .listener(&vm, vec![proxy::taskfence(&vm, "filter", &service::config(json!([service::rule()])))?])
                .listener(&format!("signals{at}"), vec![proxy::taskfence(&vm, "receiver", &state::receiver_config())?]);
        }
        let proxy = plan.start(&self.cores.proxy).await?;
        let mut rows = Vec::new();
        let mut unfilled = None;
        for (at, (name, entries)) in sizes.iter().enumerate() {
            let signals = format!("signals{at}");
            for signal in service::context() {
                proxy.push(&signals, &signal).await?;
            }
            if *entries == 0 {
                continue;
            }
            progress.begin(&format!("state: pushing {name} entries"));
            let before = proxy.memory()?;
            let about = "Bytes of the process for each entry of the pushed state.";
            match state::fill(&proxy, &signals, *entries).await {
                Ok(took) => {
                    progress.begin(&format!("state: {name} entries took {:.1} s", took.as_secs_f64()));
                    let rate = *entries as f64 / took.as_secs_f64();
                    let count = u64::try_from(*entries).unwrap_or_default();
                    if *entries > 100_000 {
                        let each = proxy.memory()?.saturating_sub(before) as f64 / *entries as f64;
                        rows.push(Row::figure("memory/state entry", about, Spread::exactly(each), "bytes", count));
                    }
                    rows.push(Row::figure(
                        &format!("state/{name} pushed"),
                        "Entries taken in each second, by signals that leave 100 entries each, on one core.",
                        Spread::exactly(rate),
                        "entries/s",
                        count,
                    ));
                }
                Err(error) => unfilled = Some(format!("the state could not be filled: {error}")),
            }
        }
        let warm = one("state", &service::token(Alg::Es256))?;
        let cold = Traffic::new(orders::ORDER_PATH, tokens::many("state-es", Alg::Es256, tokens::MANY)?);
        let mut listed = vec![Case::new("passthrough", &proxy, "passthrough", &warm)];
        for (at, (name, _)) in sizes.iter().enumerate() {
            listed.push(Case::new(name, &proxy, &format!("state{at}"), &warm));
        }
        for (at, (name, _)) in sizes.iter().enumerate().filter(|(_, (_, entries))| *entries != 10_000) {
            listed.push(Case::new(&format!("{name}, cold"), &proxy, &format!("state{at}"), &cold));
        }
        progress.begin("state: 0, 10^4 and 10^6 entries");
        let loads = self.run("state", listed, progress).await?;
        let empty = |name: &str| loads.iter().find(|load| load.name == name).and_then(Load::added);
        let about = "A request while the state holds so many entries; cold: an ES256 token for the first time, \
                     so that its entries are looked up.";
        for mut row in self.rows("state", &loads, about) {
            if row.name.contains("10^") {
                row.void = row.void.or_else(|| unfilled.clone());
            }
            let own = row.added_us;
            rows.push(match row.name.as_str() {
                "state/10^6" => {
                    row.target("a million entries add at most 1.2 times what none add", own, times(1.2, empty("0")))
                }
                "state/10^6, cold" => row.target(
                    "a million entries add at most 1.2 times what none add",
                    own,
                    times(1.2, empty("0, cold")),
                ),
                _ => row,
            });
        }
        Ok(rows)
    }

    /// 1, 10^3 and 10^5 tokens in the cache.
    pub async fn tokens(&self, progress: &mut Progress) -> Result<Vec<Row>> {
        const MOST: usize = 100_000;
        progress.begin("cached tokens: making 100,000");
        let mut config = service::config(json!([service::rule()]));
        // Below what a VM may have in all (1 GiB).
        config["limits"] = json!({"token_cache": 900_000_000});
        let proxy = Plan::new("tokens")
            .listener("passthrough", Vec::new())
            .listener("taskfence", vec![proxy::taskfence(service::VM, "filter", &config)?])
            .listener("signals", vec![proxy::taskfence(service::VM, "receiver", &config)?])
            .start(&self.cores.proxy)
            .await?;
        for signal in service::context() {
            proxy.push("signals", &signal).await?;
        }
        let traffic = |name: &str, count| {
            Ok::<_, crate::Error>(Traffic::new(orders::ORDER_PATH, tokens::many(name, Alg::Es256, count)?))
        };
        let sets = [
            ("1", traffic("cached-1", 1)?),
            ("10^3", traffic("cached-3", 1_000)?),
            ("10^5", traffic("cached-5", MOST)?),
        ];
        let mut rows = Vec::new();
        let mut lost = None;
        for (name, traffic) in &sets {
            progress.begin(&format!("cached tokens: filling with {name}"));
            let before = proxy.memory()?;
            if let Err(error) = traffic.clone().send_each(proxy.address("taskfence")?) {
                lost = Some(format!("the cache could not be filled: {error}"));
            } else if traffic.count == MOST {
                let each = proxy.memory()?.saturating_sub(before) as f64 / MOST as f64;
                let about = "Bytes of the process for each token of about 600 bytes in the cache of a worker.";
                let row = Row::figure("memory/cached token", about, Spread::exactly(each), "bytes", MOST as u64);
                rows.push(row.target("at most 3 KB", Some(each), Some(MAX_CACHED_TOKEN)));
            }
        }
        let mut listed = vec![Case::new("passthrough", &proxy, "passthrough", &sets[0].1)];
        listed.extend(sets.iter().map(|(name, traffic)| Case::new(name, &proxy, "taskfence", traffic)));
        progress.begin("cached tokens: 1, 10^3 and 10^5");
        let loads = self.run("cached tokens", listed, progress).await?;
        for mut row in self.rows("cached tokens", &loads, "So many tokens in turns, all of them in the cache.") {
            row.void = row.void.or_else(|| lost.clone());
            rows.push(row);
        }
        Ok(rows)
    }

    /// 10 and 10^4 streams open.
    pub async fn streams(&self, progress: &mut Progress) -> Result<Vec<Row>> {
        progress.begin("live streams: starting three Envoys");
        let upstream = Upstream::start().await?;
        let config = service::config(json!([service::rule(), service::live_rule()]));
        let start = async |name: &str, filters| -> Result<Proxy> {
            let receiver = proxy::taskfence(service::VM, "receiver", &config)?;
            let proxy = Plan::new(name)
                .live_listener("app", filters)
                .listener("passthrough", Vec::new())
                .listener("signals", vec![receiver])
                .cluster("upstream", upstream.address(), true)
                .start(&self.cores.proxy)
                .await?;
            for signal in service::context() {
                proxy.push("signals", &signal).await?;
            }
            Ok(proxy)
        };
        let filter = || Ok::<_, crate::Error>(vec![proxy::taskfence(service::VM, "filter", &config)?]);
        let few = start("streams-10", filter()?).await?;
        let many = start("streams-10000", filter()?).await?;
        let bare = start("streams-bare", Vec::new()).await?;
        const MANY: usize = 10_000;
        let open = async |proxy: &Proxy, count| -> Result<(Streams, f64)> {
            let before = proxy.memory()?;
            let token = service::token(Alg::Es256).sign();
            let streams = Streams::open(proxy.address("app")?, Http::Two, &token, count).await?;
            Ok((streams, proxy.memory()?.saturating_sub(before) as f64 / count as f64))
        };
        progress.begin("live streams: opening 10 and twice 10,000");
        let (_ten, _) = open(&few, 10).await?;
        let (_held, with) = open(&many, MANY).await?;
        let (_plain, without) = open(&bare, MANY).await?;
        let about = "Bytes of the process for each open stream, above what Envoy takes for it without the filter.";
        let each = Spread::exactly(with - without);
        let mut rows = vec![
            Row::figure("memory/live stream", about, each, "bytes", 10_000),
            Row::figure(
                "memory/live stream, no filter",
                "What Envoy takes for it.",
                Spread::exactly(without),
                "bytes",
                10_000,
            ),
        ];
        let warm = one("streams", &service::token(Alg::Es256))?;
        let listed = vec![
            Case::new("passthrough", &few, "passthrough", &warm),
            Case::new("10", &few, "app", &warm),
            Case::new("10^4", &many, "app", &warm),
        ];
        progress.begin("live streams: a request beside 10 and 10^4 of them");
        let loads = self.run("live streams", listed, progress).await?;
        rows.extend(self.rows("live streams", &loads, "A warm request while so many streams are open and silent."));
        Ok(rows)
    }

    /// 1 and 2 workers.
    pub async fn workers(&self, progress: &mut Progress) -> Result<Vec<Row>> {
        progress.begin("workers: starting two Envoys");
        let config = service::config(json!([service::rule()]));
        let start = async |name: &str, workers, cores: &str| -> Result<Proxy> {
            let plan = Plan::new(name)
                .listener("passthrough", Vec::new())
                .listener("taskfence", vec![proxy::taskfence(service::VM, "filter", &config)?])
                .listener("signals", vec![proxy::taskfence(service::VM, "receiver", &config)?]);
            let plan = if workers > 1 { plan.workers(workers) } else { plan };
            let proxy = plan.start(cores).await?;
            for signal in service::context() {
                proxy.push("signals", &signal).await?;
            }
            Ok(proxy)
        };
        let one_worker = start("workers-1", 1, &self.cores.proxy).await?;
        let two_workers = start("workers-2", 2, &self.cores.two).await?;
        let warm = one("workers", &service::token(Alg::Es256))?;
        let listed = vec![
            Case::new("passthrough", &one_worker, "passthrough", &warm),
            Case::new("1", &one_worker, "taskfence", &warm),
            Case::new("2, no filter", &two_workers, "passthrough", &warm).against("2, no filter"),
            Case::new("2", &two_workers, "taskfence", &warm).against("2, no filter"),
        ];
        progress.begin("workers: 1 and 2");
        let loads = self.run("workers", listed, progress).await?;
        let about = "A warm request in an Envoy with so many workers, each with a core; on a machine with two cores the \
                     load generator shares the second.";
        Ok(self.rows("workers", &loads, about))
    }
}

fn one(name: &str, token: &taskfence_tests::mint::Jwt) -> Result<Traffic> {
    Ok(Traffic::new(orders::ORDER_PATH, tokens::one(name, token)?))
}

fn times(factor: f64, of: Option<f64>) -> Option<f64> {
    of.map(|of| factor * of)
}
