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
//! This host speaks for no group yet, since it does not forward for one: a speaker that cannot forward must not become
//! the active router. It listens, so that tracking can follow groups that routers nearby speak; the lab's routers speak
//! with the whole machine.
//!
//! Pure: [`wire`], [`machine`]. Shell: [`task`], sockets and timers of one interface.

pub mod machine;
pub mod task;
pub mod wire;
