//! For tests: stops the VM where a request said so, as a mistake of ours would.

use crate::host::{self, Headers};

/// The header that says where: `page=N`, or anything else for at once.
const HEADER: &[u8] = b"x-taskfence-crash";

/// At which look at the clock a VM that applies a page stops; in the memory that all VMs share, so that it happens once.
const IN_PAGE: &[u8] = b"taskfence/test/crash_in_page";

/// Stops the VM if the request says so. With `page=N` the VM stops that looks at the clock for the N-th time while it
/// applies entries: once per batch that it decodes, and once per bucket that it merges.
pub fn on_request(headers: &Headers) {
    let Some((_, value)) = headers.iter().find(|(name, _)| *name == HEADER) else { return };
    match value.strip_prefix(b"page=") {
        Some(number) => set(number),
        None => std::process::abort(),
    }
}

/// A VM that applies entries looks at the clock.
pub fn on_look_at_clock() {
    let Ok(Some((bytes, _))) = host::shared_data(IN_PAGE) else { return };
    let Some(number) = std::str::from_utf8(&bytes).ok().and_then(|text| text.parse::<u32>().ok()) else { return };
    match number.saturating_sub(1) {
        0 => {
            set(b"");
            log::warn!("crash: in the middle of a page");
            std::process::abort();
        }
        left => set(left.to_string().as_bytes()),
    }
}

fn set(value: &[u8]) {
    if host::set_shared_data(IN_PAGE, value, 0).is_err() {
        log::error!("the proxy stores nothing");
    }
}
