//! `csmd --witness`: the third host of a pair.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;

use super::host;
use super::startup::Failure;
use crate::config::{self, HostFacts};
use crate::ft::witness::task;

/// Answers the pair whose FT group and keys stand in the file `path`, until the process ends. The pair's own configuration
/// will do: nothing else in it is looked at.
///
/// # Errors
/// If the file has faults, no group or no key, or the address cannot be listened on.
pub fn witness(path: &Path, address: SocketAddr) -> Result<Infallible, Failure> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(Failure::step("the configuration file"))?;
    let outcome = config::check(&name, &text, &HostFacts::default());
    let Some(config) = &outcome.config else {
        return Err(Failure::Config(config::render(&name, &text, &outcome.diagnostics)));
    };
    let lacks = |what| Failure::step("the configuration of the witness")(what);
    let Some(group) = &config.ft else { return Err(lacks("it has no `ft group`")) };
    if group.keys.sign.is_none() {
        return Err(lacks("its `ft group` has no `authentication key-string`"));
    }
    match task::run(address, group.group, &group.keys, host::nonce()) {
        Ok(never) => Ok(never),
        Err(error) => Err(Failure::step("the witness's socket")(error)),
    }
}
