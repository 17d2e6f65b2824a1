//! One configured plugin: reads the configuration, and makes a context for each stream.

use crate::doorbell;
use crate::host::{self, BufferType};
use crate::intake::Intake;
use crate::keys::{self, Keys};
use crate::live;
use crate::metrics::Metrics;
use crate::ports::Ports;
use crate::presence::Presence;
use crate::sidecar::Sidecar;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use taskfence_core::config::{self, Role};
use taskfence_core::judge::Judge;
use taskfence_core::review::Ending;
use taskfence_core::streams::Streams;
use taskfence_core::{nonce, state};

/// What all streams of one plugin share, within one worker.
#[derive(Debug)]
pub struct Shared {
    /// What the proxy calls the root context.
    pub root: u32,
    /// The judge with its caches.
    pub judge: RefCell<Judge>,
    /// The counters.
    pub metrics: Metrics,
    /// The streams that were admitted and go on.
    pub streams: RefCell<Streams>,
    /// Those that were found to have ended and have not been told yet.
    pub endings: RefCell<VecDeque<Ending>>,
    /// What fetches keys, and the requests that wait for them.
    pub keys: Keys,
    /// Whether there is a receiver that writes the state.
    pub presence: Presence,
}

/// The root context.
pub struct Root {
    id: u32,
    shared: Option<Rc<Shared>>,
}

impl Root {
    /// The root context of that number, not yet configured.
    pub fn new(id: u32) -> Root {
        Root { id, shared: None }
    }

    fn configure(&mut self) -> Result<(), String> {
        let text = host::buffer(BufferType::PluginConfiguration, usize::MAX)
            .map_err(|_| "the proxy gave no configuration".to_owned())?;
        let loaded = config::load(&text).map_err(|errors| errors.to_string())?;
        doorbell::set_up();
        if loaded.policy.role() == Role::Receiver {
            // Nobody would know of what it takes in.
            doorbell::ring().map_err(|error| format!("the proxy counts nothing for us ({error:?}): its capability restrictions must allow proxy_define_metric and proxy_increment_metric"))?;
        }
        state::set_up(&mut Ports, u64::from_le_bytes(random()?)).map_err(|error| error.to_string())?;
        nonce::set_up(&mut Ports, random()?).map_err(|error| error.to_string())?;
        for warning in &loaded.warnings {
            log::warn!("configuration: {warning}");
        }
        let presence = Presence::set_up(&loaded.policy).map_err(|_| "the proxy gave no shared data".to_owned())?;
        let keys = Keys::new(self.id, &loaded.policy)?;
        let judge = RefCell::new(Judge::seeded(loaded.policy, u64::from_le_bytes(random()?)));
        let (metrics, streams, endings) = (Metrics::define(), RefCell::default(), RefCell::default());
        let shared = Rc::new(Shared { root: self.id, judge, metrics, streams, endings, keys, presence });
        live::configure(&shared).map_err(|_| "the proxy gave no shared data".to_owned())?;
        let tick = if shared.keys.set_up(&shared)? { keys::TICK } else { live::TICK };
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

impl Drop for Root {
    fn drop(&mut self) {
        live::on_root_gone(self.id);
    }
}

impl Context for Root {
    fn on_http_call_response(&mut self, call: u32, headers: usize, body_size: usize, _: usize) {
        if let Some(shared) = &self.shared {
            shared.keys.on_call_response(shared, call, headers > 0, body_size);
        }
    }
}

impl RootContext for Root {
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
            live::on_tick(shared);
            shared.keys.on_tick(shared);
            shared.presence.on_tick();
        }
    }

    fn on_queue_ready(&mut self, queue: u32) {
        live::on_queue_ready(self.id, queue);
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }

    fn create_http_context(&self, id: u32) -> Option<Box<dyn HttpContext>> {
        let Some(shared) = &self.shared else { return Some(Box::new(Unconfigured)) };
        let role = shared.judge.try_borrow().map(|judge| judge.policy().role());
        Some(match role {
            Ok(Role::Filter) => Box::new(Sidecar::new(id, Rc::clone(shared))),
            Ok(Role::Receiver) => Box::new(Intake::new(Rc::clone(shared))),
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
