//! Where each member of a record goes in each format. `docs/decision-record-mapping.md` has the same table, and a test
//! compares them.

/// The places of one member. A dot goes into an object.
pub struct Mapping {
    /// The member of the record; of the hub where it begins with `hub:`.
    pub member: &'static str,
    /// In OCSF.
    pub ocsf: &'static str,
    /// In ECS.
    pub ecs: &'static str,
    /// In OpenTelemetry: the name of an attribute, of a field of the LogRecord (`log:`) or of an attribute of the resource
    /// (`resource:`).
    pub otel: &'static str,
}

/// All members.
pub const MAPPINGS: [Mapping; 39] = [
    of("hub:node", "metadata.log_provider", "observer.name", "resource:service.instance.id"),
    of("hub:principal", "unmapped.principal", "taskfence.principal", "taskfence.principal"),
    of("hub:position", "metadata.sequence", "event.sequence", "taskfence.position"),
    of("hub:grant", "unmapped.grant", "taskfence.grant", "taskfence.grant"),
    of("schema", "metadata.log_version", "taskfence.schema", "taskfence.schema"),
    of("decision", "metadata.uid", "event.id", "log.record.uid"),
    of("time", "metadata.original_time", "@timestamp", "taskfence.time"),
    of("time_ms", "time", "taskfence.time_ms", "log:timeUnixNano"),
    of("verdict", "metadata.event_code", "event.action", "taskfence.verdict"),
    of("reason", "status_code", "event.reason", "taskfence.reason"),
    of("break_glass", "unmapped.break_glass", "taskfence.break_glass", "taskfence.break_glass"),
    of("rule", "policy.name", "rule.name", "security_rule.name"),
    of("mode", "unmapped.mode", "taskfence.mode", "taskfence.mode"),
    of("config", "policy.uid", "rule.ruleset", "security_rule.ruleset.name"),
    of("state.revision", "unmapped.state.revision", "taskfence.state.revision", "taskfence.state.revision"),
    of("state.age_ms", "unmapped.state.age_ms", "taskfence.state.age_ms", "taskfence.state.age_ms"),
    of("issuer", "actor.session.issuer", "taskfence.issuer", "taskfence.issuer"),
    of("subject", "actor.user.uid", "user.id", "user.id"),
    of("actor", "unmapped.actor", "taskfence.actor", "taskfence.actor"),
    of("actors", "unmapped.actors", "taskfence.actors", "taskfence.actors"),
    of("client", "actor.app_uid", "taskfence.client", "taskfence.client"),
    of("task", "metadata.correlation_uid", "taskfence.task", "taskfence.task"),
    of("session", "actor.session.uid", "taskfence.session", "session.id"),
    of("token", "actor.session.credential_uid", "taskfence.token", "taskfence.token"),
    of("fingerprint", "unmapped.fingerprint", "taskfence.fingerprint", "taskfence.fingerprint"),
    of("method", "http_request.http_method", "http.request.method", "http.request.method"),
    of("host", "dst_endpoint.name", "url.domain", "server.address"),
    of("path", "http_request.url.path", "url.path", "url.path"),
    of("source", "src_endpoint.ip", "client.address", "client.address"),
    of("peer", "src_endpoint.svc_name", "taskfence.peer", "taskfence.peer"),
    of("trace_id", "trace.uid", "trace.id", "log:traceId"),
    of("claim", "unmapped.claim", "taskfence.claim", "taskfence.claim"),
    of("fault", "unmapped.fault", "taskfence.fault", "taskfence.fault"),
    of("ended.delay_ms", "unmapped.ended.delay_ms", "taskfence.ended.delay_ms", "taskfence.ended.delay_ms"),
    of("ended.lasted_ms", "duration", "taskfence.ended.lasted_ms", "taskfence.ended.lasted_ms"),
    of("ended.bytes_in", "unmapped.ended.bytes_in", "client.bytes", "taskfence.ended.bytes_in"),
    of("ended.bytes_out", "unmapped.ended.bytes_out", "server.bytes", "taskfence.ended.bytes_out"),
    of("masked", "unmapped.masked", "taskfence.masked", "taskfence.masked"),
    of("cut", "unmapped.cut", "taskfence.cut", "taskfence.cut"),
];

const fn of(member: &'static str, ocsf: &'static str, ecs: &'static str, otel: &'static str) -> Mapping {
    Mapping { member, ocsf, ecs, otel }
}
