//! What `envoy/` ships, without a cluster and without an Envoy: resources against the published schemas, the filter's
//! configurations by `taskfence check`, the chart, and what `scripts/package` makes.

mod alerts;
mod capabilities;
mod chart;
mod package;
mod resources;
mod schemas;
