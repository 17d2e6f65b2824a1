//! The callback for a request body, whose return value the SDK has no name for. `scripts/trim` exports it in place of the
//! SDK's.

use proxy_wasm::types::Action;
use std::cell::Cell;

/// Envoy's `StopIterationAndWatermark`: Envoy keeps what has come, and reads no more from the client than its buffer takes.
///
/// [`Action::Pause`] is `StopIterationAndBuffer`: Envoy reads on, and answers 413 when its buffer is full. That is for
/// filters that must see the whole body.
const STOP_AND_WATERMARK: u32 = 2;

thread_local! {
    // A VM has one thread, and the callback ends before another begins.
    static HOLDS: Cell<bool> = const { Cell::new(false) };
}

/// Holds the body, however long it is. Only from `on_http_request_body`, as its return value.
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
