//! Live streams: when the worker is woken and at every tick, this looks for streams that may not go on, and ends them.
//!
//! The VM of a worker serves several plugins: the receiver, and the filters of all listeners, also of configurations
//! that were replaced and still drain. So each plugin keeps its own streams, and a wake-up is for the whole VM.

use crate::callback_budget::CallbackBudget;
use crate::clock::now;
use crate::decision_record;
use crate::host::{self, HostError};
use crate::local_reply::claim_answer;
use crate::local_reply::{decision_id, reply};
use crate::plugin::Shared;
use crate::ports::SharedData;
use crate::uses;
use std::cell::RefCell;
use std::rc::{Rc, Weak};
use taskfence_core::decision::answer::answer;
use taskfence_core::decision::verdict::Permit;
use taskfence_core::http::request::Request;
use taskfence_core::live::admitted::{Admitted, Ending};
use taskfence_core::live::streams::StreamSlot;
use taskfence_core::live::wake_roster::{RENEW, Roster};
use taskfence_core::time::Timestamp;

/// The time between two ticks, in milliseconds. A worker that was not woken notices changes within this time, and a
/// stream whose time is over ends within it.
pub const TICK: u32 = 1000;

/// The workers that want to be woken, in shared data.
const ROSTER: &[u8] = b"taskfence/3/roster";

/// How often a write to the roster is tried when other workers write to it at the same time.
const MAX_TRIES: usize = 1000;

thread_local! {
    // A VM has one thread.
    static WORKER: RefCell<Worker> = const { RefCell::new(Worker { plugins: Vec::new(), owner: 0, slot: None }) };
}

/// What the plugins of one VM have in common.
struct Worker {
    plugins: Vec<Weak<Shared>>,
    /// A random number, drawn when it is first needed; 0 until then.
    owner: u64,
    slot: Option<RosterSlot>,
}

/// The worker's number in the roster.
#[derive(Clone, Copy)]
struct RosterSlot {
    number: usize,
    /// The root context that is called when something comes to the queue.
    root: u32,
    renewed_at: Timestamp,
}

/// Adds a configured plugin to this VM. Runs on the proxy's main thread first, before any worker can write.
pub fn configure(shared: &Rc<Shared>) -> Result<(), HostError> {
    if host::shared_data(ROSTER)?.is_none() {
        host::set_shared_data(ROSTER, &Roster::default().encode(), 0)?;
    }
    WORKER.with_borrow_mut(|worker| {
        worker.plugins.retain(|plugin| plugin.strong_count() > 0);
        worker.plugins.push(Rc::downgrade(shared));
    });
    Ok(())
}

/// The entry of one live stream. Dropping it, when the proxy has deleted the stream, removes the entry.
#[derive(Debug)]
pub struct Followed {
    shared: Rc<Shared>,
    place: StreamSlot,
}

impl Drop for Followed {
    fn drop(&mut self) {
        // If the stream was ended, its entry is gone already. The proxy deletes no stream during `look`: it carries out
        // what a callback asks for after the callback.
        if let Ok(mut streams) = self.shared.streams.try_borrow_mut() {
            streams.remove(self.place);
        }
    }
}

/// Adds the stream `id`, which was just permitted, to the live streams. `None` where no signal can be about it.
pub fn follow(shared: &Rc<Shared>, id: u32, permit: &Permit, request: &Request<'_>) -> Option<Followed> {
    let admitted = Admitted::new(permit, request)?;
    let now = permit.admitted_at();
    let until = shared.judge.try_borrow().ok()?.holds_until(&admitted, now);
    let place = shared.streams.try_borrow_mut().ok()?.insert(id, admitted, until)?;
    // Only a worker that has streams takes a slot. The main thread and the VM in which the proxy tries a configuration
    // never have streams, so they leave no queue behind.
    WORKER.with_borrow_mut(|worker| {
        if worker.slot.is_none() {
            worker.claim_slot(shared.root, now);
        }
    });
    Some(Followed { shared: Rc::clone(shared), place })
}

/// Looks at the streams of one plugin, also when the worker was not woken.
pub fn on_tick(shared: &Rc<Shared>, budget: &mut CallbackBudget) {
    let root = shared.root;
    if let Ok(mut judge) = shared.judge.try_borrow_mut() {
        judge.force_refresh();
    }
    // This comes before streams are ended: streams over the budget are ended when the queue calls, so the slot is
    // needed.
    WORKER.with_borrow_mut(|worker| {
        if worker.owner != 0
            && let Some(now) = now()
            && worker.slot.is_none_or(|slot| now.since(slot.renewed_at) >= RENEW)
        {
            worker.claim_slot(root, now);
        }
    });
    look(root, shared, None, budget);
}

/// The proxy deletes a root context, after the last stream under a configuration that was replaced. If the queue called
/// that root context, another one with streams opens the queue at once, and looks for changes: what was in the queue
/// may be lost.
pub fn on_root_gone(root: u32) {
    WORKER.with_borrow_mut(|worker| {
        if worker.slot.is_none_or(|slot| slot.root != root) {
            return;
        }
        worker.slot = None;
        let mut plugins = worker.plugins.iter().filter_map(Weak::upgrade);
        let other = plugins.find(|shared| shared.root != root && has_streams(shared)).map(|shared| shared.root);
        if let (Some(other), Some(now)) = (other, now())
            && host::set_effective_context(other).is_ok()
        {
            worker.claim_slot(other, now);
            worker.wake(None);
            let _ = host::set_effective_context(root);
        }
    });
}

fn has_streams(shared: &Shared) -> bool {
    let has_endings = shared.endings.try_borrow().is_ok_and(|endings| !endings.is_empty());
    has_endings || shared.streams.try_borrow().is_ok_and(|streams| !streams.is_empty())
}

/// The queue has a message: looks at the streams of all plugins of this VM.
pub fn on_queue_ready(root: u32, queue: u32, budget: &mut CallbackBudget) {
    // One look serves all messages that are in the queue now. The oldest says how long the streams went on.
    let mut since = None;
    while let Ok(Some(message)) = host::dequeue(queue) {
        let sent = message.try_into().ok().map(u64::from_le_bytes);
        since = since.into_iter().chain(sent).min();
    }
    let plugins: Vec<_> = WORKER.with_borrow(|worker| worker.plugins.iter().filter_map(Weak::upgrade).collect());
    plugins.iter().for_each(|shared| look(root, shared, since, budget));
}

/// Wakes every worker that has streams. A worker that cannot be woken notices the change at its next tick.
pub fn wake(now: Timestamp) {
    let Ok(Some((bytes, _))) = host::shared_data(ROSTER) else { return };
    let message = wake_up(host::now_nanoseconds().ok());
    for number in Roster::decode(&bytes).alive(now) {
        if let Ok(queue) = host::resolve_queue(&queue_name(number)) {
            let _ = host::enqueue(queue, &message);
        }
    }
}

/// The message that wakes a worker: since when there is something to look for, in nanoseconds since 1970, little-endian.
/// Where that is not known, and from other versions of the module, it has another length.
fn wake_up(since: Option<u64>) -> Vec<u8> {
    since.map_or(vec![1], |since| since.to_le_bytes().to_vec())
}

impl Worker {
    /// Takes a number in the roster or keeps it, and registers its queue for `root`. If that fails, the next tick tries
    /// again, and until then the worker notices changes at its ticks.
    fn claim_slot(&mut self, root: u32, now: Timestamp) {
        let Some(number) = self.claim(now) else { return };
        let root = match self.slot.filter(|slot| slot.number == number) {
            Some(slot) => slot.root,
            None if host::register_queue(&queue_name(number)).is_ok() => root,
            None => return,
        };
        self.slot = Some(RosterSlot { number, root, renewed_at: now });
    }

    /// Asks for another callback of this worker at once, about what is there `since`. If that fails, its next tick is the
    /// next callback.
    fn wake(&self, since: Option<u64>) {
        if let Some(queue) = self.slot.and_then(|slot| host::resolve_queue(&queue_name(slot.number)).ok()) {
            let _ = host::enqueue(queue, &wake_up(since));
        }
    }

    /// Takes a number in the roster, or renews it.
    fn claim(&mut self, now: Timestamp) -> Option<usize> {
        if self.owner == 0 {
            let mut bytes = [0; 8];
            getrandom::fill(&mut bytes).ok()?;
            self.owner = u64::from_le_bytes(bytes).max(1);
        }
        for _ in 0..MAX_TRIES {
            let (bytes, cas) = host::shared_data(ROSTER).ok()??;
            let mut roster = Roster::decode(&bytes);
            let number = roster.claim(self.owner, now)?;
            match host::set_shared_data(ROSTER, &roster.encode(), cas) {
                Ok(()) => return Some(number),
                Err(HostError::CasMismatch) => {}
                Err(_) => return None,
            }
        }
        None
    }
}

fn queue_name(number: usize) -> String {
    format!("taskfence/3/wake/{number}")
}

/// Looks at the streams of one plugin, and ends those that may not go on, as far as `budget` allows. The next
/// callback ends the others. `since`: when the worker was to be woken, in nanoseconds; `None` at a tick.
fn look(root: u32, shared: &Rc<Shared>, since: Option<u64>, budget: &mut CallbackBudget) {
    let Ok(mut endings) = shared.endings.try_borrow_mut() else { return };
    endings.extend(find(shared));
    if endings.is_empty() {
        return;
    }
    while budget.left() > 0
        && let Some(ending) = endings.pop_front()
    {
        if !ending.enforced {
            note(shared, &ending, since);
            budget.spend_on_noted();
        } else if end(shared, &ending, since) {
            if let (Some(since), Ok(now)) = (since, host::now_nanoseconds()) {
                shared.metrics.end_delay.record(now.saturating_sub(since) / 1_000_000);
            }
            budget.spend_on_answered();
        }
    }
    let _ = host::set_effective_context(root);
    if !endings.is_empty() {
        WORKER.with_borrow(|worker| worker.wake(since));
    }
}

/// The streams that may not go on.
fn find(shared: &Shared) -> Vec<Ending> {
    let Ok(mut streams) = shared.streams.try_borrow_mut() else { return Vec::new() };
    if streams.is_empty() {
        return Vec::new();
    }
    let Ok(mut judge) = shared.judge.try_borrow_mut() else { return Vec::new() };
    let Some(now) = now() else { return Vec::new() };
    judge.look(&mut streams, &mut SharedData, now)
}

/// Ends one stream. It gets one terminal call only: it is no longer among the live streams, its own context does not
/// answer a permitted request, and another filter in the same chain sees the mark of [`claim_answer`].
///
/// If the response has not begun, the client gets the local reply as an answer. If it has begun, the proxy resets the
/// stream. `true`: this call ended the stream; `false`: the stream is gone, or was answered before.
fn end(shared: &Shared, ending: &Ending, since: Option<u64>) -> bool {
    if host::set_effective_context(ending.stream).is_err() {
        return false;
    }
    let Ok(judge) = shared.judge.try_borrow() else { return false };
    let (policy, refusal, decision) = (judge.policy(), &ending.refusal, decision_id());
    if !claim_answer(refusal.reason, &decision) {
        return false;
    }
    shared.metrics.ended(refusal.reason);
    uses::ended(shared, policy, refusal, false);
    decision_record::ended(shared, &judge, ending, &decision, since);
    reply(refusal.reason, &answer(refusal, policy, &decision, ending.grpc));
    true
}

/// Shadow mode: counts and logs a stream that would have been ended.
fn note(shared: &Shared, ending: &Ending, since: Option<u64>) {
    let Ok(judge) = shared.judge.try_borrow() else { return };
    shared.metrics.shadow_ended(ending.refusal.reason);
    uses::ended(shared, judge.policy(), &ending.refusal, true);
    if host::set_effective_context(ending.stream).is_ok() {
        decision_record::ended(shared, &judge, ending, &decision_id(), since);
        host::set_property("taskfence.shadow", ending.refusal.reason.code().as_bytes());
    }
}
