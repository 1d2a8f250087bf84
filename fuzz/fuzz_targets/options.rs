#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| whyrst_fuzz::options::run(data));
