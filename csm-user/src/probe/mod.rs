//! Health probes: checks of the reals, from an echo request to an application's answer, run by both nodes of a pair from their own addresses.
//!
//! Pure: [`target`] (what is to be checked), [`health`] (hysteresis of one check, health of a real), [`schedule`] (when
//! each check is next), [`board`] (all of these together), [`icmp`], [`tcp`] and [`application`] (request bytes, meaning of an
//! answer).
//! Shell: [`task`] (sockets, timers). Absent on purpose: what becomes of a failed real's connections, which is the
//! planner's business.

pub mod application;
pub mod board;
pub mod health;
pub mod icmp;
pub mod schedule;
pub mod target;
pub mod task;
pub mod tcp;
