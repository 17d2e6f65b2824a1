//! One configured plugin: reads the configuration, and makes a context for each stream.

use crate::host::{self, BufferType};
use crate::intake::Intake;
use crate::metrics::Metrics;
use crate::ports::Ports;
use crate::sidecar::Sidecar;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType};
use std::cell::RefCell;
use std::rc::Rc;
use taskfence_core::config::{self, Role};
use taskfence_core::judge::Judge;
use taskfence_core::{nonce, state};

/// What all streams of one plugin share, within one worker.
#[derive(Debug)]
pub struct Shared {
    /// The judge with its caches.
    pub judge: RefCell<Judge>,
    /// The counters.
    pub metrics: Metrics,
}

/// The root context.
#[derive(Default)]
pub struct Root {
    shared: Option<Rc<Shared>>,
}

impl Root {
    fn configure(&mut self) -> Result<(), String> {
        let text = host::buffer(BufferType::PluginConfiguration, usize::MAX)
            .map_err(|_| "the proxy gave no configuration".to_owned())?;
        let loaded = config::load(&text).map_err(|errors| errors.to_string())?;
        let mut epoch = [0; 8];
        getrandom::fill(&mut epoch).map_err(|error| error.to_string())?;
        state::set_up(&mut Ports, u64::from_le_bytes(epoch)).map_err(|error| error.to_string())?;
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(|error| error.to_string())?;
        nonce::set_up(&mut Ports, secret).map_err(|error| error.to_string())?;
        for warning in &loaded.warnings {
            log::warn!("configuration: {warning}");
        }
        let judge = RefCell::new(Judge::new(loaded.policy));
        self.shared = Some(Rc::new(Shared { judge, metrics: Metrics::define() }));
        Ok(())
    }
}

impl Context for Root {}

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

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }

    fn create_http_context(&self, _: u32) -> Option<Box<dyn HttpContext>> {
        let Some(shared) = &self.shared else { return Some(Box::new(Unconfigured)) };
        let role = shared.judge.try_borrow().map(|judge| judge.policy().role());
        Some(match role {
            Ok(Role::Filter) => Box::new(Sidecar::new(Rc::clone(shared))),
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
}
