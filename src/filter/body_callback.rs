//! The callback for a request body, whose return value the SDK has no name for. `scripts/trim` exports it in place of
//! the SDK's.

use proxy_wasm::types::Action;
use std::cell::Cell;

/// Envoy's `StopIterationAndWatermark`: Envoy keeps the body so far, and stops reading from the client when its buffer
/// is full.
///
/// [`Action::Pause`] is `StopIterationAndBuffer`: Envoy reads on, and answers 413 when its buffer is full. Filters that
/// must see the whole body use that.
const STOP_AND_WATERMARK: u32 = 2;

thread_local! {
    // A VM has one thread, and the callback ends before another begins.
    static HOLDS: Cell<bool> = const { Cell::new(false) };
}

/// Holds the body, of any length. Call this only in `on_http_request_body`, and return its result.
pub fn hold_body() -> Action {
    HOLDS.set(true);
    Action::Pause
}

#[unsafe(no_mangle)]
extern "C" fn taskfence_on_request_body(context: u32, size: usize, end_of_stream: bool) -> u32 {
    unsafe extern "C" {
        fn proxy_on_request_body(context: u32, size: usize, end_of_stream: bool) -> u32;
    }
    // SAFETY: the SDK exports it with these types, for the proxy to call; its `Action` is a `u32`.
    let action = unsafe { proxy_on_request_body(context, size, end_of_stream) };
    if HOLDS.replace(false) { STOP_AND_WATERMARK } else { action }
}
