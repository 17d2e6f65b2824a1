//! `scripts/fuzz proof`

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    taskfence_fuzz::proof(bytes);
});
