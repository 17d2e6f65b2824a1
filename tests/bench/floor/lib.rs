//! A filter that asks the proxy what Taskfence asks it for a warm request, and decides nothing: the headers, the time, one
//! gauge, and one counter. What it costs, no filter that reads a token at each request can go below.

#![expect(missing_docs, reason = "the SDK's macro makes the one public function")]

use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, MetricType};

proxy_wasm::main! {{
    proxy_wasm::set_root_context(|_| Box::new(Root::default()));
}}

#[derive(Default)]
struct Root {
    gauge: u32,
    counter: u32,
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _: usize) -> bool {
        let define = |kind, name| hostcalls::define_metric(kind, name).unwrap_or_default();
        self.gauge = define(MetricType::Gauge, "floor.gauge");
        self.counter = define(MetricType::Counter, "floor.counter");
        true
    }

    fn create_http_context(&self, _: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Stream { gauge: self.gauge, counter: self.counter }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

struct Stream {
    gauge: u32,
    counter: u32,
}

impl Context for Stream {}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        // The list that the SDK makes of the headers is not part of what is measured.
        let headers = raw::headers();
        let time = hostcalls::get_current_time();
        let gauge = hostcalls::get_metric(self.gauge);
        let counted = hostcalls::increment_metric(self.counter, 1);
        match headers && time.is_ok() && gauge.is_ok() && counted.is_ok() {
            true => Action::Continue,
            false => Action::Pause,
        }
    }
}

mod raw {
    use std::ptr::null_mut;

    #[link(wasm_import_module = "env")]
    unsafe extern "C" {
        fn proxy_get_header_map_pairs(map: u32, data: *mut *mut u8, size: *mut usize) -> u32;
    }

    /// Takes the request's headers over from the proxy, and lets them go.
    pub fn headers() -> bool {
        let (mut data, mut size) = (null_mut::<u8>(), 0);
        // SAFETY: the return slots outlive the call; what they point to was allocated by the SDK for this, with `size`
        // bytes, and is taken over once.
        unsafe {
            let status = proxy_get_header_map_pairs(0, &mut data, &mut size);
            if !data.is_null() {
                drop(Vec::from_raw_parts(data, size, size));
            }
            status == 0
        }
    }
}

/// Taskfence has a body callback of its own, so this has one too.
#[unsafe(no_mangle)]
pub extern "C" fn taskfence_on_request_body(_context: u32, _size: usize, _end_of_stream: bool) -> u32 {
    0
}
