//! Any octets as a configuration: the language's own sources, without the rest of csm-user and its program for the kernel.

#![no_main]
#![expect(dead_code, reason = "csmd and csm use more of the language than a text goes through")]

use libfuzzer_sys::fuzz_target;

#[path = "../../../csm-user/src/config/mod.rs"]
mod config;
#[path = "../../../csm-user/src/model/mod.rs"]
mod model;
#[path = "../../../csm-user/src/config/tests/oracle.rs"]
mod oracle;

fuzz_target!(|octets: &[u8]| {
    let host = config::HostFacts::default();
    oracle::examine(&String::from_utf8_lossy(octets), &host);
});
