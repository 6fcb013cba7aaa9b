//! The lab: the network of Figure 7-1 in namespaces on one machine, real traffic through it, and faults by name.
//!
//! One library for the demonstration (`csm-lab run`), for tests (which assert) and for measurements.
//!
//! - [`netns`], [`link`], [`trunk`], [`topology`]: the network. [`service`]: what runs on the servers.
//! - [`figure`]: the nodes' configuration. [`node`], [`status`]: csmd, what it says, and the faults.
//! - [`lab`]: all of that as one value, gone when dropped.
//! - [`traffic`]: programs that check every byte and measure every pause.
//! - [`capture`], [`ports`], [`checks`]: what the switch saw, and whether it was right.
//! - [`loops`]: whether frames go round.
//! - [`strays`]: frames that reach the wrong node, on purpose.
//! - [`decapsulate`]: the far end of tunnels.
//! - [`scenario`], [`report`], [`picture`]: a fault from beginning to end, and its line, table and picture.
//! - [`matrix`]: each mode through each fault. [`timers`]: how soon, for each setting of the timers.
//! - [`standin`]: a small program in place of the product, to test the lab itself.

pub mod apps;
pub mod capture;
pub mod checks;
pub mod decapsulate;
pub mod explore;
pub mod figure;
pub mod lab;
pub mod link;
pub mod loops;
pub mod matrix;
pub mod model;
pub mod netns;
pub mod node;
pub mod picture;
pub mod ports;
pub mod programs;
pub mod report;
pub mod rig;
pub mod rig6;
pub mod rig_router;
pub mod scenario;
pub mod service;
pub mod sim;
pub mod standin;
pub mod status;
pub mod strays;
pub mod terminal;
pub mod timers;
pub mod topology;
pub mod traffic;
pub mod trunk;
pub mod wait;
