//! `taskfence.wasm`: the proxy-wasm shell around the judge. It moves bytes between the proxy and core and decides
//! nothing itself.

mod body_callback;
mod build_info;
mod callback_budget;
mod change_gauge;
mod clock;
#[cfg(feature = "crash")]
mod crash;
mod decision_record;
mod envoy_signature;
mod es512_probe;
mod feed_follower;
mod feed_metrics;
mod host;
mod key_fetcher;
mod live_streams;
mod local_reply;
mod logger;
mod metrics;
mod parked_request;
mod plugin;
mod ports;
mod presence;
mod push_context;
mod readiness;
mod request_context;
mod root_context;
mod tally;
mod uses;
mod uses_counter;
mod uses_metrics;

use proxy_wasm::traits::RootContext;

/// What the proxy runs first in a new VM.
///
/// The module is a reactor, so the toolchain's constructors must have run before anything else does.
#[unsafe(no_mangle)]
pub extern "C" fn _initialize() {
    unsafe extern "C" {
        fn __wasm_call_ctors();
    }
    // SAFETY: the linker provides it, and the proxy calls `_initialize` once, before every other export.
    unsafe { __wasm_call_ctors() };
    logger::install();
    proxy_wasm::set_root_context(|id| -> Box<dyn RootContext> { Box::new(root_context::PluginRoot::new(id)) });
}
