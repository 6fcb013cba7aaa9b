//! What the model remembers beyond its hosts, to judge them: who heard whom when, whose table is the newest.

use csm_user::ft::election::Election;
use csm_user::ft::wire::Message;
use csm_user::ft::{Reason, State};

use crate::explore::host::Host;
use crate::sim::check::Violation;

/// Failover times without an active node that are too many (P2), and of calm after which the pair must have settled.
const PATIENCE: u8 = 6;
/// Ticks that the receiver of a rival's word may take, and a heartbeat.
const CONTACT_MAX: u8 = 2;

/// The judge's memory. Counts of ticks stop where they no longer matter.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ghost {
    /// The first promise broken.
    pub violation: Option<Violation>,
    /// Failover time in ticks of each host's own clock.
    failover: [u8; 2],
    /// Ticks since each host took a message.
    heard: [u8; 2],
    /// Each host's gate is open.
    open: [bool; 2],
    /// Both gates are open; for each host, ticks since it took the rival's word that it is active.
    overlap: Option<[Option<u8>; 2]>,
    /// A message was lost, or held up for a tick or more.
    lossy: bool,
    /// Ticks without an open gate.
    idle: u8,
    /// Ticks that each host has been awake and able, as far as no gate was open in them.
    able: [u8; 2],
    /// Ticks since the daemon last changed its word about that.
    able_changed: [u8; 2],
    /// Ticks since the last trouble.
    calm: u8,
    /// Highest term that each boot has known an active node in.
    pub known_term: [u64; 2],
    was_active: [bool; 2],
    /// Whose table is the newest: host and boot nonce.
    keeper: Option<(usize, u64)>,
    /// When that last changed, both were active.
    split: bool,
    /// The host's replica is that of the newest table.
    pub replica: [bool; 2],
    /// There is a witness: two gates are never open.
    strict: bool,
}

impl Ghost {
    /// At the beginning: nothing happened yet. `failover` in ticks of true time, as each host's clock has it.
    #[must_use]
    pub const fn new(failover: [u8; 2], strict: bool) -> Self {
        Self {
            violation: None,
            failover,
            heard: [u8::MAX; 2],
            open: [false; 2],
            overlap: None,
            lossy: false,
            idle: 0,
            able: [0; 2],
            able_changed: [u8::MAX; 2],
            calm: 0,
            known_term: [0; 2],
            was_active: [false; 2],
            keeper: None,
            split: false,
            replica: [false; 2],
            strict,
        }
    }

    fn longest(&self) -> u8 {
        self.failover[0].max(self.failover[1])
    }

    /// A tick passes; `still` tells that no trouble is under way, `served` that the host could have the role: without a witness
    /// always, else if two of the three are there to agree.
    pub fn tick(&mut self, hosts: &[Host; 2], served: [bool; 2], still: bool) {
        let longest = self.longest();
        let later = |count: &mut u8, most: u8| *count = count.saturating_add(1).min(most);
        for (index, host) in hosts.iter().enumerate() {
            later(&mut self.heard[index], longest);
            later(&mut self.able_changed[index], longest);
            if host.is_awake() && host.able && served[index] {
                later(&mut self.able[index], PATIENCE * longest + 1);
            } else {
                self.able[index] = 0;
            }
        }
        for contact in self.overlap.iter_mut().flatten().flatten() {
            later(contact, CONTACT_MAX + 1);
        }
        later(&mut self.idle, PATIENCE * longest + 1);
        self.able = self.able.map(|able| able.min(self.idle));
        later(&mut self.calm, PATIENCE * longest);
        if !still {
            self.calm = 0;
        }
    }

    /// Something happened to the pair that it must be given time to get over.
    pub const fn trouble(&mut self) {
        self.calm = 0;
    }

    /// A message was lost or held up.
    pub const fn lose(&mut self) {
        (self.lossy, self.calm) = (true, 0);
    }

    /// A host was switched on.
    pub const fn start(&mut self, index: usize) {
        (self.known_term[index], self.replica[index], self.able_changed[index]) = (0, false, u8::MAX);
        (self.was_active[index], self.able[index], self.calm) = (false, 0, 0);
    }

    /// The daemon says otherwise about being able to forward.
    pub const fn able_changed(&mut self, index: usize) {
        self.able_changed[index] = 0;
    }

    /// A host took a message.
    pub fn took(&mut self, index: usize, message: &Message) {
        self.heard[index] = 0;
        if message.state == State::Active {
            self.known_term[index] = self.known_term[index].max(message.term);
            if let Some(contact) = &mut self.overlap {
                contact[index].get_or_insert(0);
            }
        }
    }

    /// Judges the hosts, at each its own time.
    ///
    /// # Errors
    /// With the promise that is broken.
    pub fn judge(&mut self, hosts: &[Host; 2], now: [u64; 2]) -> Result<(), Violation> {
        let before = self.open;
        for index in 0..2 {
            self.judge_claim(index, hosts)?;
            self.open[index] = hosts[index].is_open(now[index]);
        }
        self.judge_two(hosts, before)?;
        self.judge_none()?;
        let settled = matches!(
            [hosts[0].state(), hosts[1].state()],
            [Some(State::Active), Some(State::Standby | State::RelayOut)]
                | [Some(State::Standby | State::RelayOut), Some(State::Active)]
        );
        if self.calm >= PATIENCE * self.longest() && !settled { Err(Violation::NotSettled) } else { Ok(()) }
    }

    fn judge_two(&mut self, hosts: &[Host; 2], before: [bool; 2]) -> Result<(), Violation> {
        if self.open != [true; 2] {
            self.overlap = None;
            return Ok(());
        }
        if self.strict {
            return Err(Violation::TwoActiveWithWitness);
        }
        if let Some(contact) = self.overlap {
            let late = matches!(contact, [Some(one), Some(other)] if one.min(other) > CONTACT_MAX);
            return if late { Err(Violation::OverlapAfterContact) } else { Ok(()) };
        }
        self.overlap = Some([None; 2]);
        if hosts.iter().any(|host| host.holds) {
            return Err(Violation::OpenedInHold);
        }
        if !self.lossy {
            return Err(Violation::OverlapWithoutLoss);
        }
        if self.heard[0] < self.failover[0] && self.heard[1] < self.failover[1] {
            return Err(Violation::TwoActiveWithPath);
        }
        let (older, younger) = if before[0] { (0, 1) } else { (1, 0) };
        let accepted = hosts[younger].election().map(Election::last_accepted);
        let known = hosts[older].lease_message.zip(accepted);
        if known.is_some_and(|(lease, last)| lease.0 == last.0 && lease.1 <= last.1) {
            return Err(Violation::OpenedWithinLease);
        }
        Ok(())
    }

    fn judge_none(&mut self) -> Result<(), Violation> {
        if self.open != [false; 2] {
            (self.idle, self.able) = (0, [0; 2]);
        }
        let lasted = self.idle.min(self.able[0].max(self.able[1]));
        if lasted > PATIENCE * self.longest() { Err(Violation::NoneActive) } else { Ok(()) }
    }

    /// The term, and P4, at the moment that a host becomes active.
    fn judge_claim(&mut self, index: usize, hosts: &[Host; 2]) -> Result<(), Violation> {
        let machine = hosts[index].election().filter(|machine| machine.state() == State::Active);
        let was_active = std::mem::replace(&mut self.was_active[index], machine.is_some());
        let Some(machine) = machine.filter(|_| !was_active) else { return Ok(()) };
        let known = std::mem::replace(&mut self.known_term[index], machine.term());
        if known >= machine.term() {
            return Err(Violation::TermReused);
        }
        let own = (index, machine.params().nonce);
        let Some((other, nonce)) = self.keeper.replace(own).filter(|&keeper| keeper != own) else {
            return Ok(());
        };
        let covered = self.replica[index];
        // A new table begins with each claim; what was a replica of the last one is none of it.
        self.replica = [false; 2];
        let peer = hosts[other].election();
        // Two that were active at once have a table each, and neither is the truth. So have two of which the later did not know of
        // the earlier, and claimed a term that was used.
        let unknown = machine.term() <= self.known_term[other];
        let is_active = peer.is_some_and(|peer| peer.state() == State::Active);
        let is_split = std::mem::replace(&mut self.split, unknown || is_active);
        let lives = peer.is_some_and(|peer| peer.params().nonce == nonce);
        let is_excused = matches!(machine.reason(), Reason::PeerSilent | Reason::PeerLeft)
            || hosts[other].leaving
            || !hosts[other].able
            || self.able_changed[other] < self.longest()
            || peer.is_some_and(|peer| peer.reason() == Reason::Unable)
            || hosts[other].stopped.is_some();
        if lives && !covered && !is_excused && !is_split {
            return Err(Violation::RoleWithoutReplica);
        }
        Ok(())
    }
}
