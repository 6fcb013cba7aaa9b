//! The lab: the network of Figure 7-1 in namespaces on one machine, real traffic through it, and faults by name.
//!
//! One library for the demonstration (`csm-lab run`), for tests (which assert) and for measurements.
//!
//! - [`netns`], [`link`], [`trunk`], [`topology`]: the network. [`service`]: what runs on the servers.
//! - [`figure`]: the nodes' configuration. [`node`], [`status`]: csmd, what it says, and the faults.
//! - [`lab`]: all of that as one value, gone when dropped.
//! - [`traffic`]: programs that check every byte and measure every pause.
//! - [`capture`], [`ports`], [`checks`], [`announcement`]: what the switch saw, and whether it was right.
//! - [`loops`]: whether frames go round.
//! - [`stall`]: a controller whose runtime stands still.
//! - [`guest`]: a virtual machine in a node's place.
//! - [`strays`]: frames that reach the wrong node, on purpose.
//! - [`decapsulate`]: the far end of tunnels.
//! - [`racing`]: frames on two CPUs at once.
//! - [`scenario`], [`report`], [`picture`]: a fault from beginning to end, and its line, table and picture.
//! - [`matrix`]: each mode through each fault. [`timers`]: how soon, for each setting of the timers.
//! - [`stream`], [`endure`]: every datagram of a steady load accounted for, through what must not be noticed.
//! - [`edits`]: random changes of the configuration under traffic, and the kernel's maps after them.
//! - [`openapi`]: csmd's answers against the document of its API.
//! - [`standin`]: a small program in place of the product, to test the lab itself.

pub mod announcement;
pub mod apps;
pub mod capture;
pub mod channel;
pub mod checks;
pub mod cuts;
pub mod decapsulate;
pub mod drops;
pub mod edits;
pub mod endure;
pub mod explore;
pub mod figure;
pub mod flood;
pub mod guest;
pub mod lab;
pub mod link;
pub mod loops;
pub mod matrix;
pub mod model;
pub mod netns;
pub mod node;
pub mod openapi;
pub mod picture;
pub mod ports;
pub mod programs;
pub mod racing;
pub mod report;
pub mod rig;
pub mod rig6;
pub mod rig_bond;
mod rig_own;
pub mod rig_ports;
pub mod rig_router;
pub mod rig_router6;
pub mod scale;
pub mod scenario;
pub mod service;
pub mod sim;
pub mod stall;
pub mod standin;
pub mod status;
pub mod strays;
pub mod stream;
pub mod tc;
pub mod terminal;
pub mod timers;
pub mod topology;
pub mod traffic;
pub mod trunk;
pub mod wait;
