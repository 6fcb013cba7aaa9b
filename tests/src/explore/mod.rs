//! Every interleaving of two nodes in bounded trouble: the model that `tests/tests/explore` checks with stateright.
//!
//! The nodes are [`csm_user::ft::session::Session`], as in the daemon and in [`crate::sim`]; only their surroundings are
//! modelled. Time goes in ticks: within one, wakings, deliveries and faults happen in any order; it ends when nothing is due and
//! nothing on its way. States that differ only in absolute time, or in the absolute value of terms and sequence numbers,
//! are the same state, so runs without end make a finite space, bounded only by the number of faults in it.

pub mod ghost;
pub mod host;
pub mod print;
mod third;
pub mod world;
