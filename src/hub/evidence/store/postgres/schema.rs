//! The tables of evidence, in a schema of their own, `evidence`, beside that of the signals.
//!
//! A step only adds (tables, columns with a default, indexes, views), so that the hub of the version before can go on with
//! what it knows.

use crate::store::postgres::schema::Schema;

/// The tables whose rows are of one day, in the order in which they are written. Each has a partition for each day, which
/// goes as a whole.
pub(super) const DAILY: [&str; 8] =
    ["batch_day", "grant_day", "use_day", "other_day", "refusal_day", "sighting_day", "event_day", "record_day"];

/// The schema.
pub(super) const EVIDENCE: Schema =
    Schema { name: "evidence", table: "grant_day", steps: STEPS, lock: 0x5446_6865_0001 };

/// Text may be long, and an index takes 2,700 bytes: so rows are known by the first 16 bytes of a digest, `key`, and found
/// by the first 100 characters of what people ask for.
///
/// - `day` has a row for each day that has partitions. `since` is not after the oldest use in it, and `issued_from` and
///   `issued_to` not after and not before when its grants were issued: a query looks at no other days.
/// - `add` adds sums, which stay at the greatest number where they would not fit.
/// - `kept.day` is the first day that is kept: what is older is not taken any more.
/// - `batch_day` has one row for each principal, VM and hour, with the numbers of the batches that were cut in it.
/// - `use_day`, `other_day`, `refusal_day` and `sighting_day` are sums of one hour, that of the first use.
/// - `sender` has who sent evidence under the name of which node, by day.
/// - `feed.position` is the last position of a record. Who writes records or events locks that row, so that positions
///   become visible in order, and an event is known again on the day before and after.
const STEPS: &[&str] = &["
    CREATE TABLE evidence.kept (id int PRIMARY KEY CHECK (id = 1), day int NOT NULL);
    INSERT INTO evidence.kept VALUES (1, 0);
    CREATE FUNCTION evidence.add(a bigint, b bigint) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
        'SELECT CASE WHEN a > 9223372036854775807 - b THEN 9223372036854775807 ELSE a + b END';
    CREATE TABLE evidence.day (
        day int PRIMARY KEY,
        since bigint NOT NULL,
        issued_from bigint NOT NULL,
        issued_to bigint NOT NULL
    );
    CREATE TABLE evidence.value (key bytea PRIMARY KEY, name text NOT NULL, value text NOT NULL);
    CREATE TABLE evidence.feed (name text COLLATE \"C\" PRIMARY KEY, position bigint NOT NULL);
    CREATE TABLE evidence.config (
        feed text COLLATE \"C\" NOT NULL,
        key bytea NOT NULL,
        outline jsonb NOT NULL,
        named int,
        unnamed int,
        PRIMARY KEY (feed, key)
    );
    CREATE TABLE evidence.gap (
        feed text COLLATE \"C\" NOT NULL,
        key bytea NOT NULL,
        day int NOT NULL,
        node text COLLATE \"C\" NOT NULL,
        vm text COLLATE \"C\" NOT NULL,
        since bigint NOT NULL,
        until bigint NOT NULL,
        PRIMARY KEY (feed, key)
    );
    CREATE TABLE evidence.sender (
        feed text COLLATE \"C\" NOT NULL,
        key bytea NOT NULL,
        day int NOT NULL,
        node text COLLATE \"C\" NOT NULL,
        principal text COLLATE \"C\" NOT NULL,
        PRIMARY KEY (feed, key, day)
    );
    CREATE INDEX sender_node ON evidence.sender (feed, left(node, 100));
    CREATE TABLE evidence.dropped (
        feed text COLLATE \"C\" NOT NULL,
        hour bigint NOT NULL,
        count bigint NOT NULL,
        PRIMARY KEY (feed, hour)
    );
    CREATE TABLE evidence.batch_day (
        day int NOT NULL,
        feed text COLLATE \"C\" NOT NULL,
        key bytea NOT NULL,
        hour bigint NOT NULL,
        vm text COLLATE \"C\" NOT NULL,
        principal text COLLATE \"C\" NOT NULL,
        proxy text COLLATE \"C\" NOT NULL,
        node text COLLATE \"C\" NOT NULL,
        numbers int8multirange NOT NULL,
        since bigint NOT NULL,
        until bigint NOT NULL,
        other_permitted bigint NOT NULL,
        other_refused bigint NOT NULL,
        records_dropped bigint NOT NULL,
        PRIMARY KEY (feed, key, hour, day)
    ) PARTITION BY LIST (day);
    CREATE TABLE evidence.grant_day (
        day int NOT NULL,
        feed text COLLATE \"C\" NOT NULL,
        id bytea NOT NULL,
        issuer text COLLATE \"C\" NOT NULL,
        token text COLLATE \"C\" NOT NULL,
        fingerprint text COLLATE \"C\" NOT NULL,
        subject text COLLATE \"C\" NOT NULL,
        client text COLLATE \"C\",
        task text COLLATE \"C\",
        session text COLLATE \"C\",
        issued bigint NOT NULL,
        expires bigint NOT NULL,
        actors jsonb NOT NULL,
        scopes jsonb NOT NULL,
        details jsonb NOT NULL,
        masked jsonb NOT NULL,
        cut boolean NOT NULL,
        PRIMARY KEY (feed, id, day)
    ) PARTITION BY LIST (day);
    CREATE INDEX grant_token ON evidence.grant_day (left(token, 100));
    CREATE INDEX grant_fingerprint ON evidence.grant_day (left(fingerprint, 100));
    CREATE INDEX grant_subject ON evidence.grant_day (left(subject, 100));
    CREATE INDEX grant_client ON evidence.grant_day (left(client, 100)) WHERE client IS NOT NULL;
    CREATE INDEX grant_task ON evidence.grant_day (left(task, 100)) WHERE task IS NOT NULL;
    CREATE INDEX grant_session ON evidence.grant_day (left(session, 100)) WHERE session IS NOT NULL;
    CREATE TABLE evidence.use_day (
        day int NOT NULL,
        feed text COLLATE \"C\" NOT NULL,
        id bytea NOT NULL,
        key bytea NOT NULL,
        node text COLLATE \"C\" NOT NULL,
        config text COLLATE \"C\" NOT NULL,
        rule text COLLATE \"C\" NOT NULL,
        method text COLLATE \"C\" NOT NULL,
        captures jsonb NOT NULL,
        count bigint NOT NULL,
        break_glass bigint NOT NULL,
        first bigint NOT NULL,
        last bigint NOT NULL,
        PRIMARY KEY (feed, id, key, day)
    ) PARTITION BY LIST (day);
    CREATE TABLE evidence.other_day (
        day int NOT NULL,
        feed text COLLATE \"C\" NOT NULL,
        id bytea NOT NULL,
        hour bigint NOT NULL,
        count bigint NOT NULL,
        first bigint NOT NULL,
        last bigint NOT NULL,
        PRIMARY KEY (feed, id, hour, day)
    ) PARTITION BY LIST (day);
    CREATE TABLE evidence.refusal_day (
        day int NOT NULL,
        feed text COLLATE \"C\" NOT NULL,
        id bytea NOT NULL,
        key bytea NOT NULL,
        node text COLLATE \"C\" NOT NULL,
        config text COLLATE \"C\" NOT NULL,
        rule text COLLATE \"C\" NOT NULL,
        reason text COLLATE \"C\" NOT NULL,
        shadow boolean NOT NULL,
        ended boolean NOT NULL,
        count bigint NOT NULL,
        first bigint NOT NULL,
        last bigint NOT NULL,
        PRIMARY KEY (feed, id, key, day)
    ) PARTITION BY LIST (day);
    CREATE TABLE evidence.sighting_day (
        day int NOT NULL,
        feed text COLLATE \"C\" NOT NULL,
        id bytea NOT NULL,
        key bytea NOT NULL,
        kind text COLLATE \"C\" NOT NULL,
        value text COLLATE \"C\" NOT NULL,
        count bigint NOT NULL,
        first bigint NOT NULL,
        last bigint NOT NULL,
        PRIMARY KEY (feed, id, key, day)
    ) PARTITION BY LIST (day);
    CREATE TABLE evidence.event_day (
        day int NOT NULL,
        feed text COLLATE \"C\" NOT NULL,
        key bytea NOT NULL,
        source text COLLATE \"C\" NOT NULL,
        id text COLLATE \"C\" NOT NULL,
        kind text,
        at bigint NOT NULL,
        heard_at bigint NOT NULL,
        issuer text COLLATE \"C\" NOT NULL,
        task text COLLATE \"C\",
        session text COLLATE \"C\",
        subject text COLLATE \"C\",
        client text COLLATE \"C\",
        token text COLLATE \"C\",
        task_kind text COLLATE \"C\",
        by text COLLATE \"C\",
        reason text COLLATE \"C\",
        data jsonb NOT NULL,
        PRIMARY KEY (feed, key, day)
    ) PARTITION BY LIST (day);
    CREATE INDEX event_at ON evidence.event_day (feed, at);
    CREATE INDEX event_task ON evidence.event_day (left(task, 100)) WHERE task IS NOT NULL;
    CREATE INDEX event_session ON evidence.event_day (left(session, 100)) WHERE session IS NOT NULL;
    CREATE INDEX event_subject ON evidence.event_day (left(subject, 100)) WHERE subject IS NOT NULL;
    CREATE INDEX event_client ON evidence.event_day (left(client, 100)) WHERE client IS NOT NULL;
    CREATE INDEX event_token ON evidence.event_day (left(token, 100)) WHERE token IS NOT NULL;
    CREATE TABLE evidence.record_day (
        day int NOT NULL,
        feed text COLLATE \"C\" NOT NULL,
        position bigint NOT NULL,
        node text COLLATE \"C\" NOT NULL,
        at bigint NOT NULL,
        id bytea NOT NULL,
        record jsonb NOT NULL,
        principal text COLLATE \"C\" NOT NULL,
        PRIMARY KEY (feed, position, day)
    ) PARTITION BY LIST (day);
    CREATE INDEX record_grant ON evidence.record_day (feed, id);

    CREATE VIEW evidence.grants AS SELECT
        feed, encode(id, 'hex') AS \"grant\", issuer, token, fingerprint, subject, client, task, session,
        issued * 1000 AS issued_ms, expires * 1000 AS expires_ms, actors, scopes, details, masked, cut,
        (SELECT coalesce(sum(o.count), 0) FROM evidence.other_day o WHERE o.feed = g.feed AND o.id = g.id
            AND o.day = g.day) AS other
        FROM evidence.grant_day g;
    CREATE VIEW evidence.uses AS SELECT
        feed, encode(id, 'hex') AS \"grant\", node, config, rule, method, captures,
        first / 3600000 * 3600000 AS hour_ms, count, break_glass, first AS first_ms, last AS last_ms
        FROM evidence.use_day;
    CREATE VIEW evidence.refusals AS SELECT
        feed, encode(id, 'hex') AS \"grant\", node, config, rule, reason, shadow, ended,
        first / 3600000 * 3600000 AS hour_ms, count, first AS first_ms, last AS last_ms
        FROM evidence.refusal_day;
    CREATE VIEW evidence.sightings AS SELECT
        feed, encode(id, 'hex') AS \"grant\", kind, value, first / 3600000 * 3600000 AS hour_ms, count,
        first AS first_ms, last AS last_ms
        FROM evidence.sighting_day;
    CREATE VIEW evidence.records AS SELECT
        position, feed, node, at AS at_ms, encode(id, 'hex') AS \"grant\", record, principal
        FROM evidence.record_day;
    CREATE VIEW evidence.events AS SELECT
        feed, source, id, kind, at AS at_ms, heard_at AS heard_at_ms, issuer, task, session, subject, client, token,
        task_kind, by, reason, data
        FROM evidence.event_day;
    CREATE VIEW evidence.gaps AS SELECT feed, node, vm, since AS since_ms, until AS until_ms FROM evidence.gap;
    CREATE VIEW evidence.batches AS SELECT
        b.feed, b.vm, lower(r.numbers) AS first_number, upper(r.numbers) - 1 AS last_number, b.proxy, b.node,
        b.since AS since_ms, b.until AS until_ms,
        CASE r.n WHEN 1 THEN b.other_permitted ELSE 0 END AS other_permitted,
        CASE r.n WHEN 1 THEN b.other_refused ELSE 0 END AS other_refused,
        CASE r.n WHEN 1 THEN b.records_dropped ELSE 0 END AS records_dropped, b.principal
        FROM evidence.batch_day b, unnest(b.numbers) WITH ORDINALITY AS r (numbers, n);
    CREATE VIEW evidence.configs AS SELECT
        c.feed, c.outline ->> 'config' AS config, r.n - 1 AS position, r.rule ->> 'name' AS rule,
        r.rule ->> 'effect' AS effect, r.rule -> 'methods' AS methods, r.rule ->> 'path' AS path,
        r.rule -> 'captures' AS captures, r.rule -> 'scopes' AS scopes, r.rule -> 'detail' AS detail,
        coalesce((r.rule ->> 'shadow')::boolean, false) AS shadow
        FROM evidence.config c, jsonb_array_elements(c.outline -> 'rules') WITH ORDINALITY AS r (rule, n);
"];
