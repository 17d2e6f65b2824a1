//! `/metrics`: what the hub counts, in the text format of Prometheus. Each scrape reads the parts of the hub.

use crate::api::operations::Operations;
use crate::feed::latency::BOUNDS;
use crate::health::Health;
use crate::operations::Parts;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
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
    audited: Arc<AtomicU64>,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").finish_non_exhaustive()
    }
}

impl Metrics {
    /// The metrics of a hub of these parts.
    pub fn new(parts: Arc<Parts>, health: Arc<Health>, audited: Arc<AtomicU64>) -> Metrics {
        let mut registry = Registry::with_prefix("taskfence_hub");
        registry.register_collector(Box::new(Source { parts, health, audited }));
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
type Label<'l> = (&'static str, &'l str);

impl Collector for Source {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        self.signals(&mut encoder)?;
        self.feeds(&mut encoder)?;
        self.receipts(&mut encoder)?;
        let counts = self.parts.writer.counts();
        let all = [("groups", counts.groups), ("changes", counts.stored)];
        let commits = all.map(|(what, count)| (vec![("what", what)], count));
        counter(&mut encoder, "commits", "Groups that were committed, and changes in them", commits)?;
        let help = "Entries stored while more than 70% of the room of their class was used";
        counter(&mut encoder, "entries_nearly_full", help, [(Vec::new(), counts.nearly_full)])?;
        let ready = self.health.checks(Instant::now()).iter().all(|check| check.is_ok());
        gauge(&mut encoder, "ready", "Whether `/readyz` says yes", [(Vec::new(), i64::from(ready))])?;
        let lag = signed(self.parts.clock.lag());
        let help = "How far the clock of the system is behind that of the hub, in milliseconds";
        gauge(&mut encoder, "clock_lag_milliseconds", help, [(Vec::new(), lag)])?;
        let audited = self.audited.load(Ordering::Relaxed);
        counter(&mut encoder, "audit_records", "Lines written into the audit log", [(Vec::new(), audited)])
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
        let (mut heads, mut known, mut waiting, mut behind, mut bytes, mut seconds) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
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
            bytes.push((labels.clone(), sent));
            seconds.push((labels, u64::try_from(time.as_millis()).unwrap_or(u64::MAX)));
        }
        gauge(encoder, "feed_head", "The number of the last entry of the feed", heads)?;
        gauge(encoder, "proxies", "Proxies that follow the feed", known)?;
        gauge(encoder, "proxies_waiting", "Requests of proxies that wait for something new", waiting)?;
        gauge(encoder, "proxies_behind", "Proxies where the last entry is not in force", behind)?;
        counter(encoder, "page_bytes", "Bytes of pages sent to proxies", bytes)?;
        counter(encoder, "page_cpu_milliseconds", "CPU time that pages took", seconds)
    }

    fn receipts(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Seconds from the commit of a change until a proxy had applied it";
        let mut family = encoder.encode_descriptor("receipt_seconds", help, None, MetricType::Histogram)?;
        for feed in self.parts.feeds.iter() {
            let snapshot = feed.followers.latency.snapshot();
            let count: u64 = snapshot.buckets.iter().sum();
            let bounds = BOUNDS.iter().map(|bound| seconds(*bound)).chain([f64::MAX]);
            let buckets: Vec<_> = bounds.zip(snapshot.buckets).collect();
            let labels = [("feed", feed.name.as_str())];
            let mut metric = family.encode_family(&labels)?;
            metric.encode_histogram::<NoLabelSet>(seconds(snapshot.sum_ms), count, &buckets, None)?;
        }
        Ok(())
    }
}

fn counter<'l>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: impl IntoIterator<Item = (Vec<Label<'l>>, u64)>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (labels, value) in values {
        ConstCounter::new(value).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

fn gauge<'l>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: impl IntoIterator<Item = (Vec<Label<'l>>, i64)>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, value) in values {
        ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Milliseconds in seconds.
fn seconds(ms: u64) -> f64 {
    std::time::Duration::from_millis(ms).as_secs_f64()
}
