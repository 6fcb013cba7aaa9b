//! The witness: a third host whose word counts when a node hears nothing of its peer. With it two of three must agree
//! before a gate is open, and so no two gates ever are, whatever is cut.
//!
//! ```text
//!            heartbeats, each with the number of the newest one heard
//!      node A  <------------------------------------------------->  node B
//!         \                                                         /
//!          \  may I?  yes, for L / not for another X               /
//!           +---------------------->  witness  <------------------+
//! ```
//!
//! A gate that is open is so by one of two words, the later of which bounds its lease:
//!
//! - the peer's: "I have heard your message number N". Whoever is not active and says so opens no gate before its waiting
//!   time for that message is over, so the sender has a lease from when it sent it;
//! - the witness's: a grant, of which there is one at a time. It gives another only when the lease of the last one is
//!   over, by the same guard that the nodes wait, or when the holder says that it has shut its gate.
//!
//! A node that hears its peer on no path takes the role only with the grant. The active node renews it with each heartbeat, so it
//! runs out when the peer's waiting time does, and a takeover takes no longer than without a witness.
//!
//! Pure: [`wire`], [`grants`] (the third host), [`votes`] (a node's side). Shell: [`task`], the third host's process.

pub mod grants;
pub mod task;
pub mod votes;
pub mod wire;
