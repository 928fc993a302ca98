//! See `session_checker::fuzzing`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| session_checker::fuzzing::run("log_stream", input));
