//! One configured plugin: reads the configuration, and makes a context for each stream.

use crate::build_info;
use crate::callback_budget::CallbackBudget;
use crate::change_gauge;
use crate::clock::now;
use crate::es512_probe;
use crate::feed_follower::{self, FeedFollower};
use crate::host::{self, BufferType};
use crate::key_fetcher::{self, KeyFetcher};
use crate::live_streams;
use crate::metrics::Metrics;
use crate::plugin::Shared;
use crate::ports::SharedData;
use crate::presence::Presence;
use crate::push_context::PushContext;
use crate::request_context::RequestContext;
use crate::tally::Tally;
use crate::uses;
use crate::uses_counter::UsesCounter;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType};
use std::cell::RefCell;
use std::rc::Rc;
use taskfence_core::config::load;
use taskfence_core::decision::judge::Judge;
use taskfence_core::jose::algorithm::Algorithm;
use taskfence_core::policy::policy::Role;
use taskfence_core::state::revocations;
use taskfence_core::token::dpop_nonce;

/// The root context.
pub struct PluginRoot {
    id: u32,
    shared: Option<Rc<Shared>>,
}

impl PluginRoot {
    /// The root context of that number, not yet configured.
    pub fn new(id: u32) -> PluginRoot {
        PluginRoot { id, shared: None }
    }

    fn configure(&mut self) -> Result<(), String> {
        let text = host::buffer(BufferType::PluginConfiguration, usize::MAX)
            .map_err(|_| "the proxy gave no configuration".to_owned())?;
        let loaded = load::load(&text).map_err(|errors| errors.to_string())?;
        change_gauge::set_up();
        if loaded.policy.role() == Role::Receiver {
            // Without it no worker would notice the signals that it takes in.
            change_gauge::ring().map_err(|error| format!("cannot update the metric taskfence.state_doorbell ({error:?}): allow proxy_define_metric and proxy_increment_metric in its capability restrictions"))?;
        } else if !host::allows_properties() {
            // Two filters in one chain tell each other by a property which of them answers a stream. Two answers to one
            // stream crash Envoy.
            return Err("cannot use properties of streams: allow proxy_set_property and proxy_get_property in its capability restrictions".to_owned());
        }
        if loaded.policy.allows(Algorithm::ES512) && !es512_probe::is_checked() {
            return Err("cannot check signatures with ES512, which only the proxy can: allow proxy_call_foreign_function in its capability restrictions, or remove ES512 from `algorithms`".to_owned());
        }
        revocations::set_up(&mut SharedData, u64::from_le_bytes(random()?)).map_err(|error| error.to_string())?;
        dpop_nonce::set_up(&mut SharedData, random()?).map_err(|error| error.to_string())?;
        for warning in &loaded.warnings {
            log::warn!("configuration: {warning}");
        }
        build_info::publish(&loaded);
        let presence = Presence::set_up(&loaded.policy).map_err(|_| "the proxy gave no shared data".to_owned())?;
        let keys = KeyFetcher::new(&loaded.policy)?;
        let feed = FeedFollower::new(&loaded.policy)?;
        let uses = UsesCounter::new(&loaded.policy)?;
        let tally = Tally::new(&loaded.policy);
        let judge = RefCell::new(Judge::seeded(loaded.policy, u64::from_le_bytes(random()?)));
        let (metrics, streams, endings) = (Metrics::define(), RefCell::default(), RefCell::default());
        let shared =
            Rc::new(Shared { root: self.id, judge, metrics, tally, streams, endings, keys, presence, feed, uses });
        uses::configure(&shared);
        live_streams::configure(&shared).map_err(|_| "the proxy gave no shared data".to_owned())?;
        let own_tick = if shared.keys.set_up(&shared.judge)? { key_fetcher::TICK } else { live_streams::TICK };
        let tick = if shared.feed.is_some() { own_tick.min(feed_follower::TICK) } else { own_tick };
        if let Some(feed) = &shared.feed {
            feed.configure(&shared.judge);
            feed.set_tick(tick);
        }
        host::set_tick_period(tick).map_err(|error| format!("the proxy gave no tick: {error:?}"))?;
        self.shared = Some(shared);
        Ok(())
    }
}

fn random<const N: usize>() -> Result<[u8; N], String> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| error.to_string())?;
    Ok(bytes)
}

/// Resumes or answers the requests of these streams, which waited for keys, as far as `budget` allows. The others keep
/// waiting, and the next callback finds them again.
fn resume(shared: &Rc<Shared>, ready: Vec<u32>, budget: &mut CallbackBudget) {
    if ready.is_empty() {
        return;
    }
    for stream in ready {
        if budget.left() == 0 {
            break;
        }
        // Its end would have been told, so it is alive; without it, nothing is done to it.
        if let Some((headers, waited)) = shared.keys.take(stream)
            && host::set_effective_context(stream).is_ok()
        {
            match RequestContext::new(stream, Rc::clone(shared)).resume(&headers, &waited) == Action::Continue {
                true => budget.spend_on_resumed(),
                false => budget.spend_on_answered(),
            }
        }
    }
    if host::set_effective_context(shared.root).is_err() {
        log::error!("the proxy does not know its own root context");
    }
}

/// Wakes the workers that have streams, if a page of the hub was applied.
fn wake(shared: &Shared) {
    if shared.feed.as_ref().is_some_and(FeedFollower::take_changed)
        && let Some(now) = now()
    {
        live_streams::wake(now);
    }
}

/// Brings to the proxy's metrics what this worker has counted.
fn flush(shared: &Shared) {
    if let (Ok(judge), Ok(streams)) = (shared.judge.try_borrow(), shared.streams.try_borrow()) {
        shared.tally.flush(judge.token_counts(), streams.len());
    }
}

impl Drop for PluginRoot {
    fn drop(&mut self) {
        if let Some(shared) = &self.shared {
            flush(shared);
            shared.tally.withdraw();
            uses::on_root_gone(shared);
        }
        live_streams::on_root_gone(self.id);
    }
}

impl Context for PluginRoot {
    fn on_http_call_response(&mut self, call: u32, headers: usize, body_size: usize, _: usize) {
        if let Some(shared) = &self.shared {
            let is_of_hub = |feed: &FeedFollower| feed.on_call_response(&shared.judge, call, headers > 0, body_size);
            if shared.feed.as_ref().is_some_and(is_of_hub) {
                return wake(shared);
            }
            if uses::on_call_response(shared, call, headers > 0, body_size) {
                return;
            }
            let ready = shared.keys.on_call_response(&shared.judge, call, headers > 0, body_size);
            resume(shared, ready, &mut CallbackBudget::new());
        }
    }
}

impl RootContext for PluginRoot {
    fn on_configure(&mut self, _: usize) -> bool {
        match self.configure() {
            Ok(()) => true,
            Err(error) => {
                log::error!("configuration refused: {error}");
                false
            }
        }
    }

    fn on_tick(&mut self) {
        if let Some(shared) = &self.shared {
            if shared.feed.as_ref().is_some_and(|feed| feed.take_tick(&shared.judge)) {
                return wake(shared);
            }
            let mut budget = CallbackBudget::new();
            live_streams::on_tick(shared, &mut budget);
            resume(shared, shared.keys.on_tick(&shared.judge), &mut budget);
            shared.presence.on_tick();
            flush(shared);
            if let Some(feed) = &shared.feed {
                feed.on_tick(&shared.judge);
                wake(shared);
            }
            uses::on_tick(shared);
        }
    }

    fn on_queue_ready(&mut self, queue: u32) {
        if let Some(shared) = &self.shared
            && shared.feed.as_ref().is_some_and(|feed| feed.on_queue_ready(&shared.judge, queue))
        {
            return wake(shared);
        }
        live_streams::on_queue_ready(self.id, queue, &mut CallbackBudget::new());
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }

    fn create_http_context(&self, id: u32) -> Option<Box<dyn HttpContext>> {
        let Some(shared) = &self.shared else { return Some(Box::new(Unconfigured)) };
        let role = shared.judge.try_borrow().map(|judge| judge.policy().role());
        Some(match role {
            Ok(Role::Filter) => Box::new(RequestContext::new(id, Rc::clone(shared))),
            Ok(Role::Receiver) => Box::new(PushContext::new(Rc::clone(shared))),
            Err(_) => Box::new(Unconfigured),
        })
    }
}

/// A stream that came before any configuration. Envoy does not let that happen; closed all the same.
struct Unconfigured;

impl Context for Unconfigured {}

impl HttpContext for Unconfigured {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        let _ = host::send_local_response(503, "taskfence_unconfigured", &[], &[], 14);
        Action::Pause
    }

    fn on_http_request_body(&mut self, _: usize, _: bool) -> Action {
        Action::Pause
    }

    fn on_http_request_trailers(&mut self, _: usize) -> Action {
        Action::Pause
    }
}
