//! `scripts/fuzz config`

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    taskfence_fuzz::config(bytes);
});
