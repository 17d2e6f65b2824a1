//! Counts the uses of grants, and sends them to the hub: what is decided about it is in `taskfence_core::uses`; this file
//! moves the bytes.

use crate::clock::{last_milliseconds, milliseconds};
use crate::feed_follower::{FeedFollower, random, read_answer};
use crate::host::{self, HostError};
use crate::plugin::Shared;
use crate::ports::{self, EnvoyConnection, SharedData};
use crate::uses_counter::{Counted, UsesCounter};
use std::cell::RefCell;
use std::rc::{Rc, Weak};
use std::time::Duration;
use taskfence_core::decision::verdict::{Permit, Refusal};
use taskfence_core::encoding::digest::digest_text;
use taskfence_core::feed::follower::Answer;
use taskfence_core::feed::position;
use taskfence_core::http::connection::ConnectionInfo;
use taskfence_core::http::request::Request;
use taskfence_core::index::RuleIndex;
use taskfence_core::policy::policy::Policy;
use taskfence_core::signal::hub_source::HubSource;
use taskfence_core::uses::batch::{RuleRef, SeenKind};
use taskfence_core::uses::outline;
use taskfence_core::uses::row::Refused;
use taskfence_core::uses::sender::{self, Outcome, Posted, Proxy, TIMEOUT};
use taskfence_core::uses::table::{Moment, Table};

/// Outlines of so many configurations that were replaced are kept, for hubs that ask for them when their last uses come.
const MAX_REPLACED: usize = 4;

thread_local! {
    // A VM has one thread. The plugins of this VM, and for those that are gone the hash of the
    // configuration and its rules as JSON.
    static PLUGINS: RefCell<Vec<Weak<Shared>>> = const { RefCell::new(Vec::new()) };
    static REPLACED: RefCell<Vec<(String, String)>> = const { RefCell::new(Vec::new()) };
}

/// A request was permitted, or passes by shadow mode.
pub fn permitted(shared: &Shared, policy: &Policy, permit: &Permit, request: &Request<'_>) {
    let (Some(uses), Some(session)) = (counter(shared), permit.session()) else { return };
    if let Some(refusal) = permit.shadowed() {
        return count_refusal(uses, policy, refusal, (true, false));
    }
    let moment = moment(policy);
    count(uses, moment.now, |counted| {
        let rule = permit.rule().and_then(|at| place(uses, &mut counted.table, policy, at));
        let captures = permit.captured().of(request.path);
        let glass = permit.broken_glass();
        let look = counted.table.permitted(session, rule, request.method, captures, glass, moment);
        note_origin(counted, permit, look, moment);
    });
}

/// Notes who made a request. What the decision needed is known. The rest costs calls to the proxy, so it is asked for only
/// where `look` says so.
fn note_origin(counted: &mut Counted, permit: &Permit, look: bool, moment: Moment<'_>) {
    let Some(session) = permit.session() else { return };
    let known = permit.source().is_some() || permit.peer().is_some() || permit.proof_key().is_some();
    if !known && !look {
        return;
    }
    let source = permit.source().or_else(|| if look { EnvoyConnection.source() } else { None });
    let (uri, digest) = if look { ports::peer() } else { (None, None) };
    if let Some(source) = source {
        counted.table.seen(session, SeenKind::Source, &source.to_string(), moment);
    }
    if let Some(peer) = permit.peer().or(uri.as_deref()) {
        counted.table.seen(session, SeenKind::Peer, peer, moment);
    }
    if let Some(key) = permit.proof_key().or(digest.as_ref()) {
        counted.table.seen(session, SeenKind::Key, &digest_text(key), moment);
    }
}

/// A request was refused.
pub fn refused(shared: &Shared, policy: &Policy, refusal: &Refusal) {
    if let Some(uses) = counter(shared) {
        count_refusal(uses, policy, refusal, (false, false));
    }
}

/// A live stream was ended; with `shadow` it would have been.
pub fn ended(shared: &Shared, policy: &Policy, refusal: &Refusal, shadow: bool) {
    if let Some(uses) = counter(shared) {
        count_refusal(uses, policy, refusal, (shadow, true));
    }
}

/// Sends a single record, as JSON, to the hub with the next batch: `docs/decision-record.md`. What has no room is counted as
/// dropped; records of refusals leave half of the room to the others.
pub fn record(shared: &Shared, record: &str, is_of_refusal: bool) {
    if let Some(uses) = counter(shared) {
        let now = last_milliseconds();
        count(uses, now, |counted| counted.table.record(record, is_of_refusal, now));
    }
}

/// What counts for this plugin, unless its configuration says that nothing is counted.
fn counter(shared: &Shared) -> Option<&UsesCounter> {
    shared.uses.as_ref().filter(|uses| uses.counts)
}

fn count_refusal(uses: &UsesCounter, policy: &Policy, refusal: &Refusal, (shadow, ended): (bool, bool)) {
    let Some(session) = &refusal.session else { return };
    let moment = moment(policy);
    count(uses, moment.now, |counted| {
        let rule = refusal.rule.and_then(|at| place(uses, &mut counted.table, policy, at));
        counted.table.refused(session, Refused { rule, reason: refusal.reason, shadow, ended }, moment);
    });
}

fn moment(policy: &Policy) -> Moment<'_> {
    Moment { masks: &policy.evidence().masks, now: last_milliseconds() }
}

/// Counts something, and says in shared memory that there is something that was not sent.
fn count(uses: &UsesCounter, now: u64, action: impl FnOnce(&mut Counted)) {
    let Ok(mut counted) = uses.counted.try_borrow_mut() else { return };
    action(&mut counted);
    if counted.outbox.needs_mark() {
        // Where that fails, the next tick does it.
        let _ = counted.outbox.mark(&mut SharedData, now);
    }
}

/// The place of a rule in the table.
fn place(uses: &UsesCounter, table: &mut Table, policy: &Policy, at: RuleIndex) -> Option<u32> {
    let name = || {
        let config = policy.signals().hub()?.config_hash.clone();
        Some(RuleRef { config, name: policy.rule(at)?.name().to_owned() })
    };
    table.rule(&mut *uses.rules.try_borrow_mut().ok()?, at, name)
}

/// Adds a configured plugin to this VM.
pub fn configure(shared: &Rc<Shared>) {
    PLUGINS.with_borrow_mut(|plugins| {
        plugins.retain(|plugin| plugin.strong_count() > 0);
        plugins.push(Rc::downgrade(shared));
    });
}

/// The proxy deletes a root context: what was counted under its rules may not have been sent yet.
pub fn on_root_gone(shared: &Shared) {
    let Ok(judge) = shared.judge.try_borrow() else { return };
    let (Some(uses), Some(source)) = (&shared.uses, judge.policy().signals().hub()) else { return };
    tell_lost(uses, source);
    let text = outline::text(judge.policy(), &source.config_hash);
    REPLACED.with_borrow_mut(|replaced| {
        replaced.retain(|(known, _)| *known != source.config_hash);
        if replaced.len() >= MAX_REPLACED {
            replaced.remove(0);
        }
        replaced.push((source.config_hash.clone(), text));
    });
}

/// Says what is lost if no other plugin of this VM counts for the feed.
fn tell_lost(uses: &UsesCounter, source: &HubSource) {
    let lost = uses.counted.try_borrow().map_or(0, |counted| counted.table.unsent());
    if lost > 0 && uses.is_last() {
        let HubSource { hub, feed, .. } = source;
        log::warn!(
            "feed `{feed}` of hub `{hub}`: this worker counts for it no longer: {lost} counted uses were not sent"
        );
    }
}

/// The rules of the configuration with that hash, as JSON.
fn outline(config: &str) -> Option<String> {
    let plugins: Vec<Rc<Shared>> = PLUGINS.with_borrow(|plugins| plugins.iter().filter_map(Weak::upgrade).collect());
    let live = plugins.iter().find_map(|shared| {
        let judge = shared.judge.try_borrow().ok()?;
        let is_it = judge.policy().signals().hub().is_some_and(|source| source.config_hash == config);
        is_it.then(|| outline::text(judge.policy(), config))
    });
    live.or_else(|| {
        REPLACED.with_borrow(|replaced| {
            let known = replaced.iter().find(|(known, _)| known == config);
            known.map(|(_, text)| text.clone())
        })
    })
}

/// Cuts batches, and sends them if this VM follows the feed.
pub fn on_tick(shared: &Shared) {
    let (Some(uses), Some(feed), Some(now)) = (&shared.uses, &shared.feed, milliseconds()) else { return };
    let Ok(judge) = shared.judge.try_borrow() else { return };
    let Some(source) = judge.policy().signals().hub() else { return };
    if let Ok(mut counted) = uses.counted.try_borrow_mut() {
        let Counted { table, outbox, shown } = &mut *counted;
        if let Err(error) = outbox.tick(&mut SharedData, table, now) {
            log::debug!("uses cannot be laid out: {error}");
        }
        uses.metrics.counted(*shown, table.totals());
        *shown = table.totals();
    }
    if feed.holds() {
        if let Ok(age) = sender::unsent(&mut SharedData, source.id, now) {
            uses.metrics.unsent(age);
        }
        if let Some(body) = due(uses, feed, source, now) {
            drop(judge);
            send(shared, uses, &body);
        }
    }
}

/// The request that is due.
fn due(uses: &UsesCounter, feed: &FeedFollower, source: &HubSource, now: u64) -> Option<Vec<u8>> {
    let store = &mut SharedData;
    let follower = position::read(store, source.id).ok()?.follower_text();
    let proxy = Proxy { follower: &follower, node: feed.node() };
    let mut sender = uses.sender.try_borrow_mut().ok()?;
    sender.tick(store, source.id, proxy, (now, random()), outline).ok()?
}

fn send(shared: &Shared, uses: &UsesCounter, body: &[u8]) {
    let call = {
        let Ok(judge) = shared.judge.try_borrow() else { return };
        let Some(source) = judge.policy().signals().hub() else { return };
        let more: Vec<_> =
            source.authorization.as_ref().map(|secret| ("authorization", secret.reveal())).into_iter().collect();
        let path = format!("{}/uses", source.path);
        host::post(&source.cluster, &source.host, &path, &more, body, Duration::from_secs(TIMEOUT))
    };
    uses.call.set(call.ok());
    match call {
        Ok(_) => {}
        Err(HostError::BadArgument) => take(shared, uses, Answer::ClusterMissing),
        Err(HostError::NotFound | HostError::CasMismatch | HostError::Other(_)) => take(shared, uses, Answer::None),
    }
}

/// A call was answered; `answered` is false when it ended without. `false`: it is not a call with uses.
pub fn on_call_response(shared: &Shared, call: u32, answered: bool, body_size: usize) -> bool {
    let Some(uses) = shared.uses.as_ref().filter(|uses| uses.call.get() == Some(call)) else { return false };
    uses.call.set(None);
    take(shared, uses, if answered { read_answer(body_size) } else { Answer::None });
    true
}

fn take(shared: &Shared, uses: &UsesCounter, answer: Answer) {
    let (Ok(judge), Ok(mut sender), Some(now)) =
        (shared.judge.try_borrow(), uses.sender.try_borrow_mut(), milliseconds())
    else {
        return;
    };
    let Some(source) = judge.policy().signals().hub() else { return };
    if let Ok(Some(outcome)) = sender.answer(&mut SharedData, source.id, answer, (now, random())) {
        uses.metrics.posted(&outcome);
        tell(source, &outcome);
    }
}

fn tell(source: &HubSource, outcome: &Outcome) {
    let (HubSource { hub, feed, .. }, Some(times)) = (source, outcome.log) else { return };
    let (level, what, status) = match outcome.posted {
        Posted::Taken => return,
        Posted::Failed(status) => (log::Level::Warn, "it did not take them; they are sent again", status),
        Posted::Unknown => (log::Level::Warn, "it is older than this filter and takes none", None),
        Posted::Dropped(status) => (log::Level::Error, "it refused them; they are dropped", Some(status)),
    };
    let status = status.unwrap_or_default();
    log::log!(level, "feed `{feed}` of hub `{hub}`: counted uses: {what} (status {status}, {times} times)");
}
