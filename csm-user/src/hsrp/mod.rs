//! HSRP, the Hot Standby Router Protocol (RFC 2281, and version 2): who forwards for a group's address.
//!
//! ```text
//!              +---------+  virtual address known   +--------+
//!   enabled -->|  Learn  |------------------------->| Listen |<----------------------------+
//!              +---------+                          +--------+                             |
//!                                     active silent,  |    ^ outranked by one that speaks  |
//!                                     standby silent  v    |                               |
//!                                                   +-------+                              |
//!                        a better active's hello ─> | Speak | <─ coup of a better router   |
//!                            |                      +-------+                  |           |
//!                            |     standby silent,  |                          |           |
//!                            |     or outranked     v                          |           |
//!                        +--------+ active silent, +---------+                 |           |
//!                        | Active |<───────────────| Standby |─────────────────┼───────────+
//!                        +--------+  or resigned   +---------+   outranked by one that speaks
//!                            |  ^ preempting: a worse active's hello, from Listen, Speak, Standby
//!                            +──────────────────────────────────────────────────+
//! ```
//!
//! This host speaks for the groups of its own interfaces, and forwards for one while its gate is open: see [`task::Authority`].
//! To groups that routers nearby speak for it listens, so that tracking can follow them.
//!
//! Pure: [`wire`], [`machine`], [`frame`], [`advert`]. Shell: [`task`] and its sockets, timers of one interface.

pub mod advert;
pub mod frame;
pub mod machine;
pub mod task;
pub mod wire;
