//! All calls to the proxy. They pass bytes only, and nothing here can panic: a panic would end the worker's VM.
//!
//! The SDK's own wrappers turn header names and values into `String`s and panic on a status they do not know, so this
//! file declares the functions of the proxy-wasm ABI 0.2.1 itself.

use proxy_wasm::hostcalls;
use proxy_wasm::types::Status;
use std::ptr::{null, null_mut};
use std::time::Duration;

/// A header map of the stream at hand.
#[derive(Debug, Clone, Copy)]
#[repr(u32)]
pub enum MapType {
    /// Request headers.
    RequestHeaders = 0,
    /// Request trailers.
    RequestTrailers = 1,
    /// Headers of the answer to a call of ours, while it is handed over.
    CallResponseHeaders = 6,
}

/// A buffer of the stream or plugin at hand.
#[derive(Debug, Clone, Copy)]
#[repr(u32)]
pub enum BufferType {
    /// The request body, as far as it has come.
    RequestBody = 0,
    /// The body of the answer to a call of ours, while it is handed over.
    CallResponseBody = 4,
    /// The configuration of the plugin.
    PluginConfiguration = 7,
}

/// A status of the proxy other than "ok".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostError {
    /// There is no such thing.
    NotFound,
    /// A value changed since it was read.
    CasMismatch,
    /// The proxy does not know what an argument names.
    BadArgument,
    /// Anything else, by its number.
    Other(u32),
}

mod abi {
    #[link(wasm_import_module = "env")]
    unsafe extern "C" {
        pub fn proxy_log(level: u32, message: *const u8, size: usize) -> u32;
        pub fn proxy_get_current_time_nanoseconds(time: *mut u64) -> u32;
        pub fn proxy_get_buffer_bytes(
            buffer: super::BufferType,
            start: usize,
            max_size: usize,
            data: *mut *mut u8,
            size: *mut usize,
        ) -> u32;
        pub fn proxy_get_header_map_pairs(map: super::MapType, data: *mut *mut u8, size: *mut usize) -> u32;
        pub fn proxy_get_property(path: *const u8, path_size: usize, data: *mut *mut u8, size: *mut usize) -> u32;
        pub fn proxy_replace_header_map_value(
            map: super::MapType,
            name: *const u8,
            name_size: usize,
            value: *const u8,
            value_size: usize,
        ) -> u32;
        pub fn proxy_remove_header_map_value(map: super::MapType, name: *const u8, name_size: usize) -> u32;
        pub fn proxy_set_property(path: *const u8, path_size: usize, value: *const u8, value_size: usize) -> u32;
        pub fn proxy_get_shared_data(
            key: *const u8,
            key_size: usize,
            data: *mut *mut u8,
            size: *mut usize,
            cas: *mut u32,
        ) -> u32;
        pub fn proxy_set_shared_data(
            key: *const u8,
            key_size: usize,
            value: *const u8,
            value_size: usize,
            cas: u32,
        ) -> u32;
        pub fn proxy_send_local_response(
            status: u32,
            details: *const u8,
            details_size: usize,
            body: *const u8,
            body_size: usize,
            headers: *const u8,
            headers_size: usize,
            grpc_status: i32,
        ) -> u32;
        pub fn proxy_call_foreign_function(
            name: *const u8,
            name_size: usize,
            argument: *const u8,
            argument_size: usize,
            data: *mut *mut u8,
            size: *mut usize,
        ) -> u32;
        pub fn proxy_set_tick_period_milliseconds(period: u32) -> u32;
        pub fn proxy_set_effective_context(id: u32) -> u32;
        pub fn proxy_register_shared_queue(name: *const u8, name_size: usize, id: *mut u32) -> u32;
        pub fn proxy_resolve_shared_queue(
            vm_id: *const u8,
            vm_id_size: usize,
            name: *const u8,
            name_size: usize,
            id: *mut u32,
        ) -> u32;
        pub fn proxy_dequeue_shared_queue(id: u32, data: *mut *mut u8, size: *mut usize) -> u32;
        pub fn proxy_enqueue_shared_queue(id: u32, data: *const u8, size: usize) -> u32;
        pub fn proxy_define_metric(kind: u32, name: *const u8, name_size: usize, id: *mut u32) -> u32;
        pub fn proxy_increment_metric(id: u32, offset: i64) -> u32;
        pub fn proxy_record_metric(id: u32, value: u64) -> u32;
        pub fn proxy_get_metric(id: u32, value: *mut u64) -> u32;
        pub fn proxy_get_log_level(level: *mut u32) -> u32;
        pub fn proxy_continue_stream(stream: u32) -> u32;
    }
}

fn check(status: u32) -> Result<(), HostError> {
    match status {
        0 => Ok(()),
        1 => Err(HostError::NotFound),
        2 => Err(HostError::BadArgument),
        8 => Err(HostError::CasMismatch),
        other => Err(HostError::Other(other)),
    }
}

/// Takes over memory that the proxy had allocated through `proxy_on_memory_allocate`.
///
/// # Safety
/// `data` and `size` must be what the proxy just returned, and be passed here once.
unsafe fn take(data: *mut u8, size: usize) -> Vec<u8> {
    if data.is_null() || size == 0 {
        return Vec::new();
    }
    // SAFETY: the SDK allocates exactly `size` bytes with the global allocator and alignment 1, like a `Vec<u8>`.
    unsafe { Vec::from_raw_parts(data, size, size) }
}

/// Writes a line to the proxy's log. Levels: 0 trace, 1 debug, 2 info, 3 warn, 4 error.
pub fn log(level: u32, message: &str) {
    // SAFETY: the pointer and the length are those of `message`.
    unsafe { abi::proxy_log(level, message.as_ptr(), message.len()) };
}

/// The least level that the proxy writes to its log; `None` where it does not say.
pub fn log_level() -> Option<u32> {
    let mut level = 0;
    // SAFETY: `level` outlives the call.
    check(unsafe { abi::proxy_get_log_level(&mut level) }).ok()?;
    Some(level)
}

/// The wall clock, in nanoseconds since 1970.
pub fn now_nanoseconds() -> Result<u64, HostError> {
    let mut time = 0;
    // SAFETY: `time` outlives the call.
    check(unsafe { abi::proxy_get_current_time_nanoseconds(&mut time) })?;
    Ok(time)
}

/// Up to `limit` bytes of a buffer.
pub fn buffer(kind: BufferType, limit: usize) -> Result<Vec<u8>, HostError> {
    let (mut data, mut size) = (null_mut(), 0);
    // SAFETY: the return slots outlive the call; what they point to is taken over once.
    unsafe {
        check(abi::proxy_get_buffer_bytes(kind, 0, limit, &mut data, &mut size))?;
        Ok(take(data, size))
    }
}

/// A whole header map, in one call and one allocation.
pub fn headers(map: MapType) -> Result<Headers, HostError> {
    let (mut data, mut size) = (null_mut(), 0);
    // SAFETY: the return slots outlive the call; what they point to is taken over once.
    unsafe {
        check(abi::proxy_get_header_map_pairs(map, &mut data, &mut size))?;
        Ok(Headers { bytes: take(data, size) })
    }
}

/// A header map as the proxy serializes it: the count, then the sizes of each name and value, then names and values
/// with a zero byte behind each.
#[derive(Debug, Default)]
pub struct Headers {
    bytes: Vec<u8>,
}

impl Headers {
    /// How many bytes they take.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// The headers in order, repeated ones repeated.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let (count, rest) = read_u32(&self.bytes).unwrap_or((0, &[]));
        let (mut sizes, mut data) = rest.split_at_checked(count.saturating_mul(8)).unwrap_or((&[], &[]));
        std::iter::from_fn(move || {
            let (name_size, more) = read_u32(sizes)?;
            let (value_size, more) = read_u32(more)?;
            sizes = more;
            let (name, more) = data.split_at_checked(name_size)?;
            let (value, more) = more.get(1..)?.split_at_checked(value_size)?;
            data = more.get(1..).unwrap_or_default();
            Some((name, value))
        })
    }
}

fn read_u32(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<4>()?;
    Some((usize::try_from(u32::from_le_bytes(*head)).ok()?, rest))
}

/// Sets a header to one value.
pub fn set_header(map: MapType, name: &[u8], value: &[u8]) -> Result<(), HostError> {
    // SAFETY: the pointers and lengths are those of `name` and `value`.
    check(unsafe { abi::proxy_replace_header_map_value(map, name.as_ptr(), name.len(), value.as_ptr(), value.len()) })
}

/// Removes a header, all of its values.
pub fn remove_header(map: MapType, name: &[u8]) -> Result<(), HostError> {
    // SAFETY: the pointer and the length are those of `name`.
    check(unsafe { abi::proxy_remove_header_map_value(map, name.as_ptr(), name.len()) })
}

/// A property of the stream by its path, whose parts are divided by zero bytes; `None` when there is no such property.
pub fn property(path: &[u8]) -> Option<Vec<u8>> {
    let (mut data, mut size) = (null_mut(), 0);
    // SAFETY: the pointer and the length are those of `path`; the return slots outlive the call; what they point to is
    // taken over once.
    unsafe {
        check(abi::proxy_get_property(path.as_ptr(), path.len(), &mut data, &mut size)).ok()?;
        Some(take(data, size))
    }
}

/// Sets a property of the stream; an access log prints it as `%FILTER_STATE(wasm.NAME:PLAIN)%`.
pub fn set_property(name: &str, value: &[u8]) {
    // SAFETY: the pointers and lengths are those of `name` and `value`.
    unsafe { abi::proxy_set_property(name.as_ptr(), name.len(), value.as_ptr(), value.len()) };
}

/// Whether the capability restrictions of the plugin allow properties. For the root context: where they do, the proxy
/// answers that there is no stream; where they do not, its stub answers that it failed.
pub fn allows_properties() -> bool {
    const NAME: &[u8] = b"taskfence.probe";
    const INTERNAL_FAILURE: u32 = 10;
    let (mut data, mut size) = (null_mut(), 0);
    // SAFETY: the pointers and lengths are those of `NAME`; the return slots outlive the call, and a root context has
    // no property of that name, so nothing is handed over in them.
    let statuses = unsafe {
        [
            abi::proxy_set_property(NAME.as_ptr(), NAME.len(), NAME.as_ptr(), NAME.len()),
            abi::proxy_get_property(NAME.as_ptr(), NAME.len(), &mut data, &mut size),
        ]
    };
    !statuses.contains(&INTERNAL_FAILURE)
}

/// A value of the shared data with its compare-and-swap number; `None` when it was never written.
pub fn shared_data(key: &[u8]) -> Result<Option<(Vec<u8>, u32)>, HostError> {
    let (mut data, mut size, mut cas) = (null_mut(), 0, 0);
    // SAFETY: the return slots outlive the call; what they point to is taken over once.
    unsafe {
        match check(abi::proxy_get_shared_data(key.as_ptr(), key.len(), &mut data, &mut size, &mut cas)) {
            Ok(()) => Ok(Some((take(data, size), cas))),
            Err(HostError::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Writes a value of the shared data. `cas` 0 writes without comparing.
pub fn set_shared_data(key: &[u8], value: &[u8], cas: u32) -> Result<(), HostError> {
    // SAFETY: the pointers and lengths are those of `key` and `value`.
    check(unsafe { abi::proxy_set_shared_data(key.as_ptr(), key.len(), value.as_ptr(), value.len(), cas) })
}

/// Answers the current request. Call it once per stream, and make no other call for the stream after it: a second
/// answer crashes the proxy.
pub fn send_local_response(
    status: u16,
    details: &str,
    headers: &[(&str, String)],
    body: &[u8],
    grpc_status: i32,
) -> Result<(), HostError> {
    let headers = serialize(headers);
    // SAFETY: the pointers and lengths are those of `details`, `body` and `headers`.
    check(unsafe {
        abi::proxy_send_local_response(
            u32::from(status),
            details.as_ptr(),
            details.len(),
            if body.is_empty() { null() } else { body.as_ptr() },
            body.len(),
            headers.as_ptr(),
            headers.len(),
            grpc_status,
        )
    })
}

/// Calls a function that the proxy offers beyond the ABI.
pub fn call_foreign_function(name: &str, argument: &[u8]) -> Result<Vec<u8>, HostError> {
    let (mut data, mut size) = (null_mut(), 0);
    // SAFETY: the pointers and lengths are those of `name` and `argument`; the return slots outlive the call; what they
    // point to is taken over once.
    unsafe {
        check(abi::proxy_call_foreign_function(
            name.as_ptr(),
            name.len(),
            argument.as_ptr(),
            argument.len(),
            &mut data,
            &mut size,
        ))?;
        Ok(take(data, size))
    }
}

/// Sends a request without a body, with the headers `more`, to a cluster of the proxy. Returns the number of the call; the
/// answer comes to `on_http_call_response` of the root context under that number. Call this only in callbacks of the root
/// context, and not while another context is the effective one.
///
/// Fails with [`HostError::BadArgument`] when the proxy does not know the cluster.
///
/// This call goes through the SDK, because the SDK panics when an answer comes to a call that it did not make. The
/// SDK's wrapper also panics on an unknown status, but the proxy returns no such status for this call.
pub fn call(
    cluster: &str,
    method: &str,
    host: &str,
    path: &str,
    accept: &str,
    more: &[(&str, &str)],
    timeout: Duration,
) -> Result<u32, HostError> {
    let mut headers = vec![(":method", method), (":path", path), (":authority", host), ("accept", accept)];
    headers.extend(more);
    hostcalls::dispatch_http_call(cluster, headers, None, Vec::new(), timeout).map_err(not_sent)
}

/// Sends JSON by POST, as [`call`] sends a request without a body.
pub fn post(
    cluster: &str,
    host: &str,
    path: &str,
    more: &[(&str, &str)],
    json: &[u8],
    timeout: Duration,
) -> Result<u32, HostError> {
    let mut headers = vec![(":method", "POST"), (":path", path), (":authority", host), ("accept", "application/json")];
    headers.push(("content-type", "application/json"));
    headers.extend(more);
    hostcalls::dispatch_http_call(cluster, headers, Some(json), Vec::new(), timeout).map_err(not_sent)
}

fn not_sent(status: Status) -> HostError {
    match status {
        Status::BadArgument => HostError::BadArgument,
        Status::NotFound => HostError::NotFound,
        Status::CasMismatch => HostError::CasMismatch,
        // "Internal failure": no host of the cluster can be reached.
        _ => HostError::Other(10),
    }
}

/// Sets how often the proxy calls `on_tick` of this root context. Do not call this in `on_tick`: the proxy would
/// replace the timer while its callback still runs.
pub fn set_tick_period(milliseconds: u32) -> Result<(), HostError> {
    // SAFETY: no pointers.
    check(unsafe { abi::proxy_set_tick_period_milliseconds(milliseconds) })
}

/// Makes the stream or root context with that number the effective one: later calls in this callback are about it.
pub fn set_effective_context(id: u32) -> Result<(), HostError> {
    // SAFETY: no pointers.
    check(unsafe { abi::proxy_set_effective_context(id) })
}

/// Continues the current, paused request. Its headers cannot be changed after that.
pub fn continue_request() -> Result<(), HostError> {
    // SAFETY: no pointers.
    check(unsafe { abi::proxy_continue_stream(0) })
}

fn serialize(headers: &[(&str, String)]) -> Vec<u8> {
    let size = |len: usize| u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes();
    let mut bytes = size(headers.len()).to_vec();
    for (name, value) in headers {
        bytes.extend(size(name.len()));
        bytes.extend(size(value.len()));
    }
    for (name, value) in headers {
        bytes.extend(name.as_bytes());
        bytes.push(0);
        bytes.extend(value.as_bytes());
        bytes.push(0);
    }
    bytes
}

/// Opens the queue of that name under the own `vm_id`. From then on the proxy calls the current root context, on this
/// thread, when a message comes, and no longer the one that opened the queue before.
pub fn register_queue(name: &str) -> Result<u32, HostError> {
    let mut id = 0;
    // SAFETY: the pointer and the length are those of `name`; `id` outlives the call.
    check(unsafe { abi::proxy_register_shared_queue(name.as_ptr(), name.len(), &mut id) })?;
    Ok(id)
}

/// The queue of that name under the own `vm_id`.
pub fn resolve_queue(name: &str) -> Result<u32, HostError> {
    let mut id = 0;
    // SAFETY: the pointer and the length are those of `name`, an empty `vm_id` is the own one; `id` outlives the call.
    check(unsafe { abi::proxy_resolve_shared_queue(null(), 0, name.as_ptr(), name.len(), &mut id) })?;
    Ok(id)
}

/// Removes one message from a queue. `Ok(None)` when it is empty.
pub fn dequeue(queue: u32) -> Result<Option<Vec<u8>>, HostError> {
    const EMPTY: HostError = HostError::Other(7);
    let (mut data, mut size) = (null_mut(), 0);
    // SAFETY: the return slots outlive the call; what they point to is taken over once.
    unsafe {
        match check(abi::proxy_dequeue_shared_queue(queue, &mut data, &mut size)) {
            Ok(()) => Ok(Some(take(data, size))),
            Err(EMPTY) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Adds a message to a queue.
pub fn enqueue(queue: u32, data: &[u8]) -> Result<(), HostError> {
    // SAFETY: the pointer and the length are those of `data`.
    check(unsafe { abi::proxy_enqueue_shared_queue(queue, data.as_ptr(), data.len()) })
}

/// A counter of the proxy, which all workers share. If it could not be defined, it counts nothing.
#[derive(Debug, Clone, Copy)]
pub struct Counter {
    id: Option<u32>,
}

impl Counter {
    /// Defines the counter `name`, or finds it.
    pub fn define(name: &str) -> Counter {
        let mut id = 0;
        // SAFETY: the pointer and the length are those of `name`; `id` outlives the call.
        let defined = check(unsafe { abi::proxy_define_metric(0, name.as_ptr(), name.len(), &mut id) });
        Counter { id: defined.is_ok().then_some(id) }
    }

    /// Adds one.
    pub fn increment(self) {
        self.add(1);
    }

    /// Adds that many.
    pub fn add(self, more: u64) {
        if let (Some(id), Ok(more)) = (self.id, i64::try_from(more)) {
            // SAFETY: no pointers.
            unsafe { abi::proxy_increment_metric(id, more) };
        }
    }
}

/// A gauge of the proxy, which all workers share: its value goes up and down. If it could not be defined, it shows
/// nothing.
#[derive(Debug, Clone, Copy)]
pub struct Gauge {
    id: Option<u32>,
}

impl Gauge {
    /// Defines the gauge `name`, or finds it.
    pub fn define(name: &str) -> Gauge {
        let mut id = 0;
        // SAFETY: the pointer and the length are those of `name`; `id` outlives the call.
        let defined = check(unsafe { abi::proxy_define_metric(1, name.as_ptr(), name.len(), &mut id) });
        Gauge { id: defined.is_ok().then_some(id) }
    }

    /// Sets it.
    pub fn set(self, value: u64) {
        if let Some(id) = self.id {
            // SAFETY: no pointers.
            unsafe { abi::proxy_record_metric(id, value) };
        }
    }

    /// Adds the difference between `before` and `after`, which one worker has seen, atomically: the gauge then shows the sum
    /// of all workers.
    pub fn shift(self, before: u64, after: u64) {
        let difference = i64::try_from(after.abs_diff(before)).unwrap_or(i64::MAX);
        if let Some(id) = self.id.filter(|_| difference != 0) {
            let signed = if after < before { difference.saturating_neg() } else { difference };
            // SAFETY: no pointers.
            unsafe { abi::proxy_increment_metric(id, signed) };
        }
    }

    /// Adds `more`, atomically.
    pub fn add(self, more: u32) -> Result<(), HostError> {
        let id = self.id.ok_or(HostError::NotFound)?;
        // SAFETY: no pointers.
        check(unsafe { abi::proxy_increment_metric(id, i64::from(more)) })
    }

    /// What it shows.
    pub fn value(self) -> Result<u64, HostError> {
        let id = self.id.ok_or(HostError::NotFound)?;
        let mut value = 0;
        // SAFETY: `value` outlives the call.
        check(unsafe { abi::proxy_get_metric(id, &mut value) })?;
        Ok(value)
    }
}

/// A histogram of the proxy, which all workers share. If it could not be defined, it keeps nothing.
#[derive(Debug, Clone, Copy)]
pub struct Histogram {
    id: Option<u32>,
}

impl Histogram {
    /// Defines the histogram `name`, or finds it.
    pub fn define(name: &str) -> Histogram {
        let mut id = 0;
        // SAFETY: the pointer and the length are those of `name`; `id` outlives the call.
        let defined = check(unsafe { abi::proxy_define_metric(2, name.as_ptr(), name.len(), &mut id) });
        Histogram { id: defined.is_ok().then_some(id) }
    }

    /// Adds one value.
    pub fn record(self, value: u64) {
        if let Some(id) = self.id {
            // SAFETY: no pointers.
            unsafe { abi::proxy_record_metric(id, value) };
        }
    }
}
