//! The statistics of an Envoy by name.

use std::collections::BTreeMap;

use serde_json::Value;

/// Counters and gauges.
#[derive(Debug, Default)]
pub struct Statistics(BTreeMap<String, u64>);

impl Statistics {
    /// What `/stats?format=json` shows.
    pub fn read(shown: &Value) -> Statistics {
        let list = shown.get("stats").and_then(Value::as_array).into_iter().flatten();
        let one = |item: &Value| Some((item.get("name")?.as_str()?.to_owned(), item.get("value")?.as_u64()?));
        Statistics(list.filter_map(one).collect())
    }

    /// The one of that name.
    pub fn get(&self, name: &str) -> Option<u64> {
        self.0.get(name).copied()
    }

    /// Those whose names begin with `prefix`, with the rest of their names.
    pub fn below<'s>(&'s self, prefix: &'s str) -> impl Iterator<Item = (&'s str, u64)> {
        self.0.iter().filter_map(move |(name, value)| Some((name.strip_prefix(prefix)?, *value)))
    }

    /// One of the filter.
    pub fn ours(&self, name: &str) -> Option<u64> {
        self.get(&format!("wasmcustom.taskfence.{name}"))
    }
}
