//! `/metrics`: what the hub counts, in the text format of Prometheus. Each scrape reads the parts of the hub.

use crate::api::audit_trail::AuditTrail;
use crate::api::operations::Operations;
use crate::evidence::measures::look::Look;
use crate::evidence::service::Evidence;
use crate::health::Health;
use crate::histogram::{BOUNDS, Snapshot};
use crate::operations::Parts;
use crate::ssf::client::failure::Step;
use crate::ssf::condition::Phase;
use crate::streams::follow_up::StreamLag;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeMetric, NoLabelSet, text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};
use taskfence_core::signal::set_error::SetErrorCode;

/// The media type of the answer.
pub const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What is read at each scrape.
pub struct Metrics {
    registry: Registry,
}

struct Source {
    parts: Arc<Parts>,
    health: Arc<Health>,
    audit: Arc<AuditTrail>,
    evidence: Arc<Evidence>,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").finish_non_exhaustive()
    }
}

impl Metrics {
    /// The metrics of a hub of these parts.
    pub fn new(parts: Arc<Parts>, health: Arc<Health>, (audit, evidence): (Arc<AuditTrail>, Arc<Evidence>)) -> Metrics {
        let mut registry = Registry::with_prefix("taskfence_hub");
        registry.register_collector(Box::new(Source { parts, health, audit, evidence }));
        Metrics { registry }
    }

    /// The text of one scrape.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// A label with its value.
pub(crate) type Label<'l> = (&'static str, &'l str);

impl Collector for Source {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        self.signals(&mut encoder)?;
        self.feeds(&mut encoder)?;
        self.receipts(&mut encoder)?;
        self.streams(&mut encoder)?;
        self.managed_streams(&mut encoder)?;
        self.evidence(&mut encoder)?;
        let counts = self.parts.writer.counts();
        let help = "Groups of changes that were committed, each with one fsync";
        counter(&mut encoder, "commits", help, [(Vec::new(), counts.groups)])?;
        let help = "Signals and lifts that were stored, and signals whose entries were derived again or renewed";
        counter(&mut encoder, "changes_stored", help, [(Vec::new(), counts.stored)])?;
        let help = "Seconds that a commit of a group took";
        histogram(&mut encoder, "commit_seconds", help, [(Vec::new(), self.parts.writer.commit_times())])?;
        let help = "Entries stored while more than 70% of the room of their class was used";
        counter(&mut encoder, "entries_nearly_full", help, [(Vec::new(), counts.nearly_full)])?;
        let ready = self.health.checks(Instant::now()).iter().all(|check| check.is_ok());
        gauge(&mut encoder, "ready", "Whether `/readyz` says yes", [(Vec::new(), i64::from(ready))])?;
        let help = "This process, by its name among those over one store";
        let label = vec![("replica", self.health.replica())];
        gauge(&mut encoder, "replica_info", help, [(label, 1i64)])?;
        let lag = Duration::from_millis(self.parts.clock.lag()).as_secs_f64();
        let help = "How far the clock of the system is behind that of the hub";
        gauge(&mut encoder, "clock_lag_seconds", help, [(Vec::new(), lag)])?;
        let signed = self.parts.feeds.keys().signed();
        counter(&mut encoder, "statements_signed", "Statements of feeds that were signed", [(Vec::new(), signed)])?;
        let written = self.audit.written();
        counter(&mut encoder, "audit_records", "Lines written into the audit log", [(Vec::new(), written)])?;
        let help = "Lines of the audit log that wait in memory for the store";
        let waiting = i64::try_from(self.audit.waiting()).unwrap_or(i64::MAX);
        gauge(&mut encoder, "audit_waiting", help, [(Vec::new(), waiting)])?;
        let help = "Lines of the audit log that were not stored: they are in the log of the process only";
        counter(&mut encoder, "audit_lost", help, [(Vec::new(), self.audit.lost())])
    }
}

impl Source {
    fn signals(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let (mut outcomes, mut refused, mut odd, mut keys) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (feed, counters) in self.parts.intake.counters() {
            let all = [
                ("taken", &counters.taken),
                ("without_effect", &counters.without_effect),
                ("repeated", &counters.repeated),
                ("contradicted", &counters.contradicted),
                ("not_a_push", &counters.not_a_push),
                ("no_room", &counters.no_room),
                ("overloaded", &counters.overloaded),
                ("failed", &counters.failed),
                ("by_operators", &counters.by_operators),
            ];
            outcomes
                .extend(all.map(|(outcome, counter)| (vec![("feed", feed), ("outcome", outcome)], counter.value())));
            let codes = SetErrorCode::ALL.into_iter();
            refused.extend(
                codes.map(|code| (vec![("feed", feed), ("code", code.code())], counters.refused(code).value())),
            );
            let kinds = [
                ("alarming", &counters.alarming),
                ("odd", &counters.odd),
                ("unknown_subject", &counters.unknown_subject),
            ];
            odd.extend(kinds.map(|(kind, counter)| (vec![("feed", feed), ("kind", kind)], counter.value())));
            let fetches = [("fetched", &counters.keys_fetched), ("failed", &counters.keys_failed)];
            keys.extend(
                fetches.map(|(outcome, counter)| (vec![("feed", feed), ("outcome", outcome)], counter.value())),
            );
        }
        counter(encoder, "signals", "Signals by what became of them", outcomes)?;
        counter(encoder, "signals_refused", "SETs that were refused, by the code of the answer", refused)?;
        counter(encoder, "signals_noted", "Signals with something to look at", odd)?;
        counter(encoder, "key_fetches", "Fetches of key sets of transmitters", keys)
    }

    fn feeds(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let (mut heads, mut known, mut waiting, mut behind) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (mut pages, mut bytes, mut seconds) = (Vec::new(), Vec::new(), Vec::new());
        for feed in self.parts.feeds.iter() {
            let labels = vec![("feed", feed.name.as_str())];
            heads.push((labels.clone(), signed(feed.head().number)));
            let (followers, polls) = feed.followers.count();
            known.push((labels.clone(), i64::try_from(followers).unwrap_or(i64::MAX)));
            waiting.push((labels.clone(), signed(polls)));
            let proxies = self.parts.proxies(&feed.name).unwrap_or_default();
            let late = proxies.iter().filter(|proxy| proxy.behind != Some(0)).count();
            behind.push((labels.clone(), i64::try_from(late).unwrap_or(i64::MAX)));
            let (time, sent) = feed.meter.total();
            pages.push((labels.clone(), feed.meter.pages()));
            bytes.push((labels.clone(), sent));
            seconds.push((labels, time.as_secs_f64()));
        }
        gauge(encoder, "feed_head", "The number of the last entry of the feed", heads)?;
        gauge(encoder, "proxies", "Proxies that follow the feed", known)?;
        gauge(encoder, "proxies_waiting", "Requests of proxies that wait for something new", waiting)?;
        gauge(encoder, "proxies_behind", "Proxies where the last entry is not in force", behind)?;
        counter(encoder, "pages_sent", "Pages sent to proxies, also those without entries", pages)?;
        counter(encoder, "page_bytes", "Bytes of pages sent to proxies", bytes)?;
        counter(encoder, "page_cpu_seconds", "CPU time that pages took", seconds)
    }

    fn streams(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let Some(streams) = &self.parts.streams else { return Ok(()) };
        let (mut sets, mut paused) = (Vec::new(), Vec::new());
        for (feed, counters) in streams.counters() {
            let all = [
                ("pushed", &counters.pushed),
                ("acknowledged", &counters.acknowledged),
                ("refused", &counters.refused),
                ("failed", &counters.failed),
            ];
            sets.extend(all.map(|(outcome, counter)| (vec![("feed", feed), ("outcome", outcome)], counter.value())));
            paused.push((vec![("feed", feed)], counters.paused.value()));
        }
        counter(encoder, "stream_sets", "SETs for receivers by what became of them", sets)?;
        counter(encoder, "stream_pauses", "Streams that the hub paused", paused)?;
        let lags = streams.lags();
        let labels = |at: &'_ StreamLag| vec![("feed", at.feed.clone()), ("stream", at.stream.clone())];
        let waiting: Vec<_> = lags.iter().map(|lag| (labels(lag), signed(lag.waiting))).collect();
        let seconds = lags.iter().map(|lag| (labels(lag), Duration::from_millis(lag.behind_ms).as_secs_f64()));
        let seconds: Vec<_> = seconds.collect();
        gauge(
            encoder,
            "stream_waiting",
            "SETs that a stream has not got yet; at most 1000 are counted",
            borrowed(&waiting),
        )?;
        let help = "How long the oldest of them has waited";
        gauge(encoder, "stream_lag_seconds", help, borrowed(&seconds))
    }

    /// The streams that the hub manages at transmitters.
    fn managed_streams(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let (mut phases, mut polled, mut verified) = (Vec::new(), Vec::new(), Vec::new());
        let (mut polls, mut sets, mut failures) = (Vec::new(), Vec::new(), Vec::new());
        for condition in self.parts.managed.conditions() {
            let now = condition.snapshot();
            let labels = vec![("feed", condition.feed.as_str()), ("stream", condition.stream.as_str())];
            let with = |name: &'static str, value: &'static str| {
                let mut labels = labels.clone();
                labels.push((name, value));
                labels
            };
            phases.extend(Phase::ALL.map(|one| (with("state", one.as_str()), i64::from(one == now.phase))));
            let seconds = |ms: u64| Duration::from_millis(ms).as_secs_f64();
            polled.push((labels.clone(), seconds(now.polled)));
            verified.push((labels.clone(), seconds(now.verified)));
            polls.push((labels.clone(), now.polls));
            let outcomes = [("acknowledged", now.acknowledged), ("refused", now.refused), ("deferred", now.deferred)];
            sets.extend(outcomes.map(|(outcome, count)| (with("outcome", outcome), count)));
            failures.extend(
                Step::ALL.into_iter().zip(now.failures).map(|(step, count)| (with("step", step.as_str()), count)),
            );
        }
        gauge(encoder, "ssf_stream_state", "1 for the state that the stream at the transmitter is in", phases)?;
        gauge(encoder, "ssf_last_poll_seconds", "When the last poll was answered, since 1970; 0: never", polled)?;
        let help = "When the last verification came that this hub asked for, since 1970; 0: never";
        gauge(encoder, "ssf_last_verification_seconds", help, verified)?;
        counter(encoder, "ssf_polls", "Polls that were answered", polls)?;
        counter(encoder, "ssf_sets", "SETs that were fetched, by what became of them", sets)?;
        counter(encoder, "ssf_failures", "Steps at transmitters that failed", failures)
    }

    fn evidence(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        if !self.evidence.is_on() {
            return Ok(());
        }
        let (mut batches, mut lost) = (Vec::new(), Vec::new());
        let (mut uses, mut records, mut events) = (Vec::new(), Vec::new(), Vec::new());
        let (mut gaps, mut foreign) = (Vec::new(), Vec::new());
        for (feed, counters) in self.evidence.counters().iter() {
            let results = [
                ("stored", &counters.stored),
                ("repeated", &counters.repeated),
                ("dropped", &counters.dropped),
                ("refused", &counters.refused),
            ];
            batches
                .extend(results.map(|(result, counter)| (vec![("feed", feed), ("result", result)], counter.value())));
            let kinds = [
                ("permitted", &counters.lost_permitted),
                ("refused", &counters.lost_refused),
                ("records", &counters.lost_records),
            ];
            lost.extend(kinds.map(|(what, counter)| (vec![("feed", feed), ("what", what)], counter.value())));
            uses.push((vec![("feed", feed)], counters.uses.value()));
            records.push((vec![("feed", feed)], counters.records.value()));
            events.push((vec![("feed", feed)], counters.events.value()));
            gaps.push((vec![("feed", feed)], counters.gaps.value()));
            foreign.push((vec![("feed", feed)], counters.foreign_grants.value()));
        }
        let help = "Batches of uses by what became of them; `refused` were answered 400 or 503";
        counter(encoder, "evidence_batches", help, batches)?;
        counter(
            encoder,
            "evidence_uses",
            "Requests with verified grants that were counted, in batches that were stored",
            uses,
        )?;
        counter(encoder, "evidence_records", "Single decisions that were stored", records)?;
        counter(encoder, "evidence_events", "Events that were stored, also copies of signals", events)?;
        counter(encoder, "evidence_gaps", "Times for which uses of a worker or a proxy may be missing", gaps)?;
        counter(encoder, "evidence_lost", "What is not known one by one, for lack of room or of the issuer", lost)?;
        let help = "Grants that proxies told of and whose issuer the feed does not have";
        counter(encoder, "evidence_foreign_grants", help, foreign)?;
        let usage = self.evidence.usage();
        let bytes = usage.map(|usage| (Vec::new(), signed(usage.bytes)));
        gauge(encoder, "evidence_bytes", "Bytes that the evidence takes", bytes)?;
        let begins = usage.filter(|usage| usage.first_day > 0).map(|usage| usage.first_day.saturating_mul(86_400));
        let age = begins.map(|begins| (Vec::new(), signed((self.evidence.now() / 1_000).saturating_sub(begins))));
        gauge(encoder, "evidence_oldest_seconds", "How old the first day of evidence is", age)?;
        self.looks(encoder)
    }

    /// What a look each five minutes finds: see `docs/measures.md`.
    fn looks(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let looks = self.evidence.looks();
        let of = |number: fn(&Look) -> u64| {
            looks.iter().map(move |(feed, (look, _))| (vec![("feed", feed.as_str())], signed(number(look))))
        };
        let help = "Seconds since the look that gave the gauges of grants, or since the start of the hub if there was none yet";
        let (now, feeds) = (self.evidence.now(), self.parts.feeds.iter().filter(|_| self.evidence.is_on()));
        let ages = feeds.map(|feed| {
            let at = looks.get(&feed.name).map_or(self.evidence.begun(), |(_, at)| *at);
            (vec![("feed", feed.name.as_str())], signed(now.saturating_sub(at).checked_div(1_000).unwrap_or_default()))
        });
        gauge(encoder, "evidence_look_age_seconds", help, ages)?;
        gauge(encoder, "evidence_grants", "Grants that were used in the last 24 hours", of(|look| look.grants))?;
        let help = "Grants of the last 24 hours whose width is unbounded";
        gauge(encoder, "evidence_unbounded_grants", help, of(|look| look.unbounded))?;
        let help = "Grants of the last 24 hours that more than one workload used";
        gauge(encoder, "evidence_shared_grants", help, of(|look| look.shared))?;
        let help = "Series of the last 7 days in which broad grants are used for routine work";
        gauge(encoder, "evidence_routine_repeats", help, of(|look| look.routine_repeats))?;
        let residuals = looks.iter().map(|(feed, (look, _))| (vec![("feed", feed.as_str())], look.residual_seconds));
        let help = "The longest time for which a grant was used after its end, of those that ended or were so used in the last hour";
        gauge(encoder, "evidence_residual_seconds", help, residuals)?;
        let help = "Refused attempts of the last hour after the end of their grant";
        gauge(encoder, "evidence_attempts_after_end", help, of(|look| look.attempts_after_end))
    }

    fn receipts(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Seconds from the commit of a change until a proxy had applied it";
        let feeds = self.parts.feeds.iter();
        let all = feeds.map(|feed| (vec![("feed", feed.name.as_str())], feed.followers.latency.snapshot()));
        histogram(encoder, "receipt_seconds", help, all)
    }
}

/// Labels that are borrowed from those that own their values.
fn borrowed<'l, N: Copy>(all: &'l [(Vec<(&'static str, String)>, N)]) -> impl Iterator<Item = (Vec<Label<'l>>, N)> {
    all.iter().map(|(labels, value)| (labels.iter().map(|(name, text)| (*name, text.as_str())).collect(), *value))
}

pub(crate) fn counter<'l, N: EncodeCounterValue + fmt::Debug>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: impl IntoIterator<Item = (Vec<Label<'l>>, N)>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (labels, value) in values {
        ConstCounter::new(value).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

pub(crate) fn gauge<'l, N: EncodeGaugeValue + fmt::Debug>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: impl IntoIterator<Item = (Vec<Label<'l>>, N)>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, value) in values {
        ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

fn histogram<'l>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: impl IntoIterator<Item = (Vec<Label<'l>>, Snapshot)>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
    for (labels, Snapshot { buckets, sum }) in values {
        let bounds = BOUNDS.iter().map(|bound| Duration::from_millis(*bound).as_secs_f64()).chain([f64::INFINITY]);
        let count: u64 = buckets.iter().sum();
        let buckets: Vec<_> = bounds.zip(buckets).collect();
        let mut metric = family.encode_family(&labels)?;
        metric.encode_histogram::<NoLabelSet>(sum.as_secs_f64(), count, &buckets, None)?;
    }
    Ok(())
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use crate::config::role::Role;
    use crate::testing::Running;
    use serde_json::json;
    use std::collections::BTreeSet;

    /// Every metric that the hub has, with its type.
    const METRICS: [(&str, &str); 45] = [
        ("taskfence_hub_audit_lost", "counter"),
        ("taskfence_hub_audit_records", "counter"),
        ("taskfence_hub_audit_waiting", "gauge"),
        ("taskfence_hub_changes_stored", "counter"),
        ("taskfence_hub_clock_lag_seconds", "gauge"),
        ("taskfence_hub_commit_seconds", "histogram"),
        ("taskfence_hub_commits", "counter"),
        ("taskfence_hub_entries_nearly_full", "counter"),
        ("taskfence_hub_evidence_attempts_after_end", "gauge"),
        ("taskfence_hub_evidence_batches", "counter"),
        ("taskfence_hub_evidence_bytes", "gauge"),
        ("taskfence_hub_evidence_events", "counter"),
        ("taskfence_hub_evidence_foreign_grants", "counter"),
        ("taskfence_hub_evidence_gaps", "counter"),
        ("taskfence_hub_evidence_grants", "gauge"),
        ("taskfence_hub_evidence_look_age_seconds", "gauge"),
        ("taskfence_hub_evidence_lost", "counter"),
        ("taskfence_hub_evidence_oldest_seconds", "gauge"),
        ("taskfence_hub_evidence_records", "counter"),
        ("taskfence_hub_evidence_residual_seconds", "gauge"),
        ("taskfence_hub_evidence_routine_repeats", "gauge"),
        ("taskfence_hub_evidence_shared_grants", "gauge"),
        ("taskfence_hub_evidence_unbounded_grants", "gauge"),
        ("taskfence_hub_evidence_uses", "counter"),
        ("taskfence_hub_feed_head", "gauge"),
        ("taskfence_hub_key_fetches", "counter"),
        ("taskfence_hub_page_bytes", "counter"),
        ("taskfence_hub_page_cpu_seconds", "counter"),
        ("taskfence_hub_pages_sent", "counter"),
        ("taskfence_hub_proxies", "gauge"),
        ("taskfence_hub_proxies_behind", "gauge"),
        ("taskfence_hub_proxies_waiting", "gauge"),
        ("taskfence_hub_ready", "gauge"),
        ("taskfence_hub_receipt_seconds", "histogram"),
        ("taskfence_hub_replica_info", "gauge"),
        ("taskfence_hub_signals", "counter"),
        ("taskfence_hub_signals_noted", "counter"),
        ("taskfence_hub_signals_refused", "counter"),
        ("taskfence_hub_ssf_failures", "counter"),
        ("taskfence_hub_ssf_last_poll_seconds", "gauge"),
        ("taskfence_hub_ssf_last_verification_seconds", "gauge"),
        ("taskfence_hub_ssf_polls", "counter"),
        ("taskfence_hub_ssf_sets", "counter"),
        ("taskfence_hub_ssf_stream_state", "gauge"),
        ("taskfence_hub_statements_signed", "counter"),
    ];

    #[tokio::test]
    async fn the_text_has_every_metric_and_counts_what_happened() {
        let hub = Running::start().await;
        let ops = hub.token("ops", Role::Operator, &[]).await;
        let stop = async |client: &str| {
            let stop = json!({"issuer": "https://jit.example", "what": "client", "name": client, "reason": "r"});
            let (status, taken) = hub.call("POST", "/v1/feeds/main/stops", Some(&ops), Some(stop)).await;
            assert_eq!(status, 200, "{taken}");
            taken["revision"].as_str().unwrap().to_owned()
        };
        let follow = async |applied: &str| {
            let url = format!("http://{}/v1/feeds/main?after={applied}&applied={applied}", hub.server.address());
            let request = reqwest::Client::builder().tls_certs_only([]).build().unwrap().get(url);
            let request = request.header("authorization", format!("Bearer {ops}"));
            let response = request.header("taskfence-follower", r#"{"id":"envoy-one"}"#).send().await.unwrap();
            assert_eq!(response.status().as_u16(), 200);
        };
        // Only from one revision of the feed to another it is known how long it took.
        follow("0000000000000000.0.0000000000000000").await;
        follow(&stop("a").await).await;
        follow(&stop("b").await).await;
        let response = hub.send("GET", "/metrics", Some(&ops), None).await;
        assert_eq!(response.headers()["content-type"], super::MEDIA_TYPE);
        let text = response.text().await.unwrap();
        let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
        assert_eq!(types.collect::<BTreeSet<_>>(), BTreeSet::from(METRICS), "{text}");
        let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/hub.md")).unwrap();
        let missing: Vec<_> = METRICS.iter().filter(|(name, _)| !page.contains(&format!("| `{name}"))).collect();
        assert!(missing.is_empty(), "docs/hub.md lacks {missing:?}");
        assert!(text.ends_with("# EOF\n"));
        let value = |sample: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
            line.unwrap_or_else(|| panic!("no {sample} in {text}")).parse::<f64>().unwrap()
        };
        assert_eq!(value("taskfence_hub_signals_total{feed=\"main\",outcome=\"by_operators\"}"), 2.0);
        assert_eq!(value("taskfence_hub_changes_stored_total"), 2.0);
        assert_eq!(value("taskfence_hub_commit_seconds_count"), 2.0);
        assert_eq!(value("taskfence_hub_commit_seconds_bucket{le=\"+Inf\"}"), 2.0);
        assert!(value("taskfence_hub_commit_seconds_sum") > 0.0);
        assert!(value("taskfence_hub_statements_signed_total") >= 2.0);
        assert_eq!(value("taskfence_hub_pages_sent_total{feed=\"main\"}"), 3.0);
        assert_eq!(value("taskfence_hub_pages_sent_total{feed=\"other\"}"), 0.0);
        assert!(value("taskfence_hub_page_bytes_total{feed=\"main\"}") > 200.0);
        assert_eq!(value("taskfence_hub_receipt_seconds_count{feed=\"main\"}"), 1.0);
        assert_eq!(value("taskfence_hub_feed_head{feed=\"main\"}"), 2.0);
        assert_eq!(value("taskfence_hub_proxies{feed=\"main\"}"), 1.0);
        hub.stop().await;
    }
}
