//! `/livez` and `/readyz`: whether the process works, and whether it should get requests.

use crate::feed::follower::Follower;
use crate::intake::cut_off;
use crate::store::clock::MAX_SKEW;
use crate::store::model::{Audit, StoreError};
use crate::store::{BACKUP, RESTORED, Store};
use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use taskfence_core::encoding::digest::{digest_text, sha256};

/// A check of the store that is older than this counts as failed.
const MAX_AGE: Duration = Duration::from_secs(5);

/// What was found at the last look.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// Why the store does not answer.
    pub store: Option<String>,
    /// The hash that the store holds, if it is another one.
    pub other_config: Option<String>,
    /// The store was restored, and is complete up to this time in milliseconds since 1970.
    pub restored: Option<u64>,
    /// An older copy was put in place of the store.
    pub set_back: bool,
    /// The median of how far the proxies' clocks are ahead, in milliseconds; `None`: none follows.
    pub median_skew: Option<i64>,
    /// Proxies that have lately said that they have applied what another store holds.
    pub foreign: usize,
    /// What is wrong with the signing keys beside those of the other replicas.
    pub wrong_keys: Option<String>,
}

/// Whether this hub should get requests.
#[derive(Debug)]
pub struct Health {
    replica: String,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    draining: bool,
    found: Option<(Findings, Instant)>,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    name: &'static str,
    ok: bool,
    detail: String,
}

impl Check {
    /// Whether it is good.
    pub fn is_ok(&self) -> bool {
        self.ok
    }
}

impl Health {
    /// The health of the replica of this name, of which nothing is known yet.
    pub fn new(replica: &str) -> Health {
        Health { replica: replica.to_owned(), state: Mutex::new(State { draining: false, found: None }) }
    }

    /// The name of the replica.
    pub fn replica(&self) -> &str {
        &self.replica
    }

    /// Notes what was found at `at`.
    pub fn note(&self, findings: Findings, at: Instant) {
        self.lock().found = Some((findings, at));
    }

    /// From now on the hub is not ready: it is about to stop.
    pub fn drain(&self) {
        self.lock().draining = true;
    }

    /// The checks at `now`. The hub is ready when all are good.
    pub fn checks(&self, now: Instant) -> Vec<Check> {
        let state = self.lock();
        let mut checks = vec![Check {
            name: "running",
            ok: !state.draining,
            detail: if state.draining { "the hub is about to stop".to_owned() } else { String::new() },
        }];
        let Some((found, _)) = state.found.as_ref().filter(|(_, at)| now.duration_since(*at) <= MAX_AGE) else {
            let detail = "the store has not answered for 5 s: look at its disk and at the log".to_owned();
            checks.push(Check { name: "store", ok: false, detail });
            return checks;
        };
        checks.push(Check {
            name: "store",
            ok: found.store.is_none(),
            detail: found.store.clone().unwrap_or_default(),
        });
        let remedy = "give every replica the same feeds, name and skew, then run `taskfence hub accept-config`";
        checks.push(Check {
            name: "configuration",
            ok: found.other_config.is_none(),
            detail: found
                .other_config
                .as_ref()
                .map(|hash| format!("the store is used with the configuration {hash}: {remedy}"))
                .unwrap_or_default(),
        });
        checks.push(Check {
            name: "keys",
            ok: found.wrong_keys.is_none(),
            detail: found.wrong_keys.clone().unwrap_or_default(),
        });
        let restored = found.restored.map(|at| {
            format!("the store was restored from a backup of {at} ms since 1970; what was taken in later is only in proxies: stop or revoke it again, then run `taskfence hub accept-loss`, with `--cut-off` to refuse all that began before")
        });
        checks.push(Check { name: "restore", ok: restored.is_none(), detail: restored.unwrap_or_default() });
        let detail = match found.set_back {
            true => "half of the proxies have applied entries that the store does not have: an older copy was put in its place; start the hub again, and it goes on as after a restore".to_owned(),
            false => String::new(),
        };
        checks.push(Check { name: "history", ok: !found.set_back, detail });
        // Anybody who may read a feed can say so, and it passes by itself: the hub stays ready.
        let detail = match found.foreign {
            0 => String::new(),
            count => format!(
                "{count} proxies came with entries of another store in the last hour: is there a second hub of this name, or was the store replaced? What the other one took in is only there, and in these proxies"
            ),
        };
        checks.push(Check { name: "proxies", ok: true, detail });
        let skew = found.median_skew.unwrap_or_default();
        let is_near = skew.unsigned_abs() <= MAX_SKEW.unsigned_abs();
        let detail = format!("the clocks of most proxies are {skew} ms or more apart from this one: set this clock");
        checks.push(Check { name: "clock", ok: is_near, detail: if is_near { String::new() } else { detail } });
        checks
    }

    /// Whether the hub is ready at `now`. The error says in words which checks failed.
    pub fn ready(&self, now: Instant) -> Result<(), String> {
        let checks = self.checks(now);
        let failed = checks.iter().filter(|check| !check.ok).map(|check| format!("{}: {}", check.name, check.detail));
        let failed: Vec<_> = failed.collect();
        if failed.is_empty() { Ok(()) } else { Err(failed.join("; ")) }
    }

    /// The answer to `/readyz`.
    pub fn answer(&self) -> Response {
        let checks = self.checks(Instant::now());
        let ready = checks.iter().all(|check| check.ok);
        let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        (status, Json(json!({"ready": ready, "replica": self.replica, "checks": checks}))).into_response()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How far the clocks of proxies are ahead: the median over the principals that they are, of the median of each.
/// `None` for no proxies.
///
/// A principal can report as many proxies as it likes, with any clock. So it has one voice, whatever it reports.
pub fn median_skew<'p>(reported: impl Iterator<Item = (&'p str, i64)>) -> Option<i64> {
    let mut by_principal: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
    reported.for_each(|(principal, skew)| by_principal.entry(principal).or_default().push(skew));
    median(by_principal.into_values().filter_map(median).collect())
}

/// The middle one; of two in the middle the one nearer to 0.
fn median(mut skews: Vec<i64>) -> Option<i64> {
    skews.sort_unstable();
    let half = skews.len() / 2;
    let middle = [half.saturating_sub(usize::from(skews.len().is_multiple_of(2))), half];
    middle.into_iter().filter_map(|at| skews.get(at)).min_by_key(|skew| skew.unsigned_abs()).copied()
}

/// The hash of what all replicas of a hub must agree on: its name, its feeds and its skew.
pub fn config_hash(config: &Value) -> String {
    let mut shared = json!({"name": config.get("name"), "skew": config.get("skew"), "feeds": config.get("feeds")});
    // SETs of two replicas must have one issuer. A configuration without it keeps the hash that it had.
    if let Some((members, issuer)) = shared.as_object_mut().zip(config.pointer("/streams/issuer")) {
        members.insert("streams".to_owned(), issuer.clone());
    }
    digest_text(&sha256(shared.to_string().as_bytes())).chars().take(16).collect()
}

/// Up to when a restored store is complete, in milliseconds since 1970; `None` for one that was not restored, or whose
/// gap was accepted.
pub fn restored(store: &dyn Store) -> Result<Option<u64>, StoreError> {
    let at = store.get(RESTORED)?.filter(|at| !at.is_empty());
    Ok(at.map(|at| at.parse().unwrap_or_default()))
}

/// What becomes of the gap that a restore has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gap {
    /// What was taken in after the backup is not in the store, and somebody has dealt with that.
    Accepted,
    /// All that began before the restore is refused.
    CutOff,
}

/// Decides in the name of `by` what becomes of the gap after a restore. A cut-off is done by the hub, which is ready then.
/// Returns the time of the backup, in milliseconds since 1970; `None`: there is no gap.
pub fn accept_loss(store: &dyn Store, by: &str, gap: Gap, now: u64) -> Result<Option<u64>, StoreError> {
    let Some(at) = restored(store)? else { return Ok(None) };
    let detail = json!({"complete_until_ms": at, "cut_off": gap == Gap::CutOff}).to_string();
    store.audit(&[Audit { at: now, by: by.to_owned(), call: "accept-loss".to_owned(), status: 200, detail }])?;
    match gap {
        Gap::Accepted => store.set(RESTORED, "")?,
        Gap::CutOff => cut_off::order(store, by)?,
    }
    Ok(Some(at))
}

/// Followers that have applied what the store does not have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ahead {
    ahead: usize,
    all: usize,
}

impl Ahead {
    /// Counts one that was heard of since the hub started.
    pub fn count(&mut self, follower: &Follower) {
        if follower.is_heard {
            self.all = self.all.saturating_add(1);
            self.ahead = self.ahead.saturating_add(usize::from(follower.is_ahead));
        }
    }

    /// Whether half of them are. What one says alone does not count: nobody signs it.
    pub fn is_most(&self) -> bool {
        self.ahead > 0 && self.ahead.saturating_mul(2) >= self.all
    }
}

/// Whether the store is an older copy of what it was: `found` now, or before by this hub. Then the next start goes on as
/// after a restore of a backup of `complete_until`, in milliseconds since 1970.
pub fn set_back(store: &dyn Store, found: bool, complete_until: u64) -> Result<bool, StoreError> {
    // The writer has emptied it when this hub started.
    let is_known = store.get(BACKUP)?.is_some_and(|made| !made.is_empty());
    if found && !is_known {
        tracing::error!("half of the proxies have applied entries that the store does not have");
        store.set(BACKUP, &complete_until.to_string())?;
    }
    Ok(found || is_known)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::clock::Clock;
    use crate::store::writer::Writer;
    use crate::store::{CUT_OFF, RESTORED_AT};

    fn failed(health: &Health, now: Instant) -> Vec<&'static str> {
        health.checks(now).iter().filter(|check| !check.ok).map(|check| check.name).collect()
    }

    #[test]
    fn ready_is_what_was_found_and_not_long_ago() {
        let (health, now) = (Health::new("a"), Instant::now());
        assert_eq!(failed(&health, now), ["store"], "nothing was found yet");
        health.note(Findings { median_skew: Some(-60_000), ..Findings::default() }, now);
        assert_eq!(failed(&health, now), [""; 0]);
        assert_eq!(failed(&health, now + MAX_AGE + Duration::from_millis(1)), ["store"]);
        let store = Some("disk".to_owned());
        health.note(
            Findings {
                store,
                other_config: Some("abc".into()),
                restored: Some(1),
                set_back: true,
                median_skew: Some(60_001),
                foreign: 2,
                wrong_keys: Some("no".into()),
            },
            now,
        );
        assert_eq!(failed(&health, now), ["store", "configuration", "keys", "restore", "history", "clock"]);
        health.drain();
        health.note(Findings::default(), now);
        assert_eq!(failed(&health, now), ["running"]);
    }

    #[test]
    fn the_median_is_not_moved_by_one() {
        assert_eq!(median(Vec::new()), None);
        assert_eq!(median(vec![5, -3, 1_000_000]), Some(5));
        assert_eq!(
            (median(vec![5]), median(vec![1_000_000, 7]), median(vec![-9, -8, 1, 2])),
            (Some(5), Some(7), Some(1))
        );
    }

    #[test]
    fn one_principal_that_reports_many_proxies_has_one_voice() {
        let liars = std::iter::repeat_n(("spiffe://mesh.example/ns/evil", i64::MAX), 1_000);
        let others = [("spiffe://mesh.example/ns/a", 3), ("spiffe://mesh.example/ns/b", -4)];
        assert_eq!(median_skew(liars.chain(others)), Some(3));
        assert_eq!(median_skew([("mesh", 5), ("mesh", 70_000), ("mesh", 80_000)].into_iter()), Some(70_000));
        assert_eq!(median_skew(std::iter::empty()), None);
    }

    #[test]
    fn a_gap_is_accepted_by_name() {
        let (_folder, store) = crate::testing::store();
        let accept = |gap| accept_loss(&*store, "root", gap, 5);
        assert_eq!((accept(Gap::Accepted), accept(Gap::CutOff)), (Ok(None), Ok(None)));
        store.set(RESTORED, "7").unwrap();
        assert_eq!((accept(Gap::CutOff), restored(&*store)), (Ok(Some(7)), Ok(Some(7))), "the hub has to do it");
        assert_eq!(store.get(CUT_OFF), Ok(Some("root".to_owned())));
        assert_eq!((accept(Gap::Accepted), restored(&*store)), (Ok(Some(7)), Ok(None)));
        assert_eq!(store.audits(None, 9).unwrap()[0].1.by, "root");
    }

    #[test]
    fn a_store_that_was_set_back_is_one_that_was_restored_after_the_next_start() {
        let (_folder, store) = crate::testing::store();
        let start = || {
            let clock = Clock::with_system(&*store, || 9_000).unwrap();
            drop(Writer::start(store.clone(), clock, &["main".to_owned()]).unwrap());
            store.head("main").unwrap().epoch
        };
        let first = start();
        assert_eq!((set_back(&*store, false, 7_000), start()), (Ok(false), first));
        assert_eq!(set_back(&*store, true, 7_000), Ok(true));
        assert_eq!(set_back(&*store, false, 8_000), Ok(true), "it stays so");
        assert_eq!(restored(&*store), Ok(None));
        assert_ne!(start(), first, "followers begin anew");
        assert_eq!((set_back(&*store, false, 8_000), restored(&*store)), (Ok(false), Ok(Some(7_000))));
        assert_eq!(store.get(RESTORED_AT), Ok(Some("9000".to_owned())));
    }

    #[test]
    fn the_hash_is_about_what_replicas_share() {
        let config = json!({"name": "h", "data": "/a", "feeds": [{"name": "main"}], "listen": {"address": "x"}});
        let moved = json!({"feeds": [{"name": "main"}], "data": "/b", "name": "h"});
        let other = json!({"name": "h", "feeds": [{"name": "other"}]});
        assert_eq!(config_hash(&config), config_hash(&moved));
        assert_ne!(config_hash(&config), config_hash(&other));
    }
}
