//! One router of one group: events in, effects out (RFC 2281 section 5.5 to 5.7). Pure; it knows no time.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::wire::{Authentication, Message, Op, State, Version};
use crate::model::Family;

/// IOS's hello time.
pub const HELLO: Duration = Duration::from_secs(3);
/// IOS's hold time.
pub const HOLD: Duration = Duration::from_secs(10);
/// IOS's priority.
pub const PRIORITY: u8 = 100;

/// What is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Params {
    /// Group.
    pub group: u16,
    /// Version; messages of the other one are not accepted.
    pub version: Version,
    /// This router's own address: the source of its messages; of two with the same priority the higher one wins. Its family is the
    /// group's; of IPv6 it is the link's.
    pub own: IpAddr,
    /// MAC address of its interface.
    pub mac: [u8; 6],
    /// Virtual address; `None`: learned.
    pub address: Option<IpAddr>,
    /// What may be learned.
    pub learns: Learns,
    /// Priority, less what tracking takes from it.
    pub priority: u8,
    /// Takes the role from a worse active router.
    pub preempt: bool,
    /// For how long after the start it does not.
    pub preempt_delay: Duration,
    /// Hello and hold time; `None`: learned from the active router, until then [`HELLO`] and [`HOLD`].
    pub timers: Option<(Duration, Duration)>,
    /// Text of the group.
    pub authentication: Authentication,
    /// Never speaks: stays in [`State::Learn`] or [`State::Listen`].
    pub listen_only: bool,
}

/// Which virtual address a router takes from the active one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Learns {
    /// Its network; `None`: any, for one that only listens.
    pub network: Option<IpNet>,
    /// Addresses that are others'.
    pub taken: Vec<IpAddr>,
}

impl Learns {
    fn admits(&self, address: IpAddr) -> bool {
        let is_host = self.network.is_none_or(|net| {
            let ends = match net {
                IpNet::V4(net) if net.prefix_len() < 31 => [net.network(), net.broadcast()].map(IpAddr::V4),
                _ => [net.addr(); 2],
            };
            net.contains(&address) && net.addr() != address && !ends.contains(&address)
        });
        is_host && !self.taken.contains(&address)
    }
}

/// A timer of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Timer {
    /// The active router was not heard since it was armed.
    Active,
    /// The standby router was not.
    Standby,
    /// The next hello.
    Hello,
    /// The preemption's delay is over.
    Delay,
}

impl Timer {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Active, Self::Standby, Self::Hello, Self::Delay];
}

/// What happens to it. In brackets the RFC's letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The interface is up (a).
    Up,
    /// The interface is down, or HSRP is taken away (b).
    Down,
    /// A timer fired (c, d, e).
    Timer(Timer),
    /// A message came from an address (f to l).
    Received(IpAddr, Message),
    /// Tracking has changed the priority.
    Priority(u8),
}

/// Why a well-formed message changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ignored {
    /// Of another group, version or family.
    OtherGroup,
    /// With another text.
    Authentication,
    /// From this router's own address: two are configured alike, or a loop.
    OwnAddress,
    /// With another virtual address than configured here, or one that cannot be learned.
    Address,
    /// HSRP does not run.
    Down,
}

/// What the shell does, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Send this (F, G, H).
    Send(Message),
    /// (Re)start a timer (A, B).
    Arm(Timer, Duration),
    /// Stop a timer (C, D).
    Disarm(Timer),
    /// Tell the network where the virtual address is now (I).
    Announce,
    /// The virtual address, of a group that learns it: what the active router says.
    Address(IpAddr),
    /// The state changed.
    Became(State),
    /// Another router is active or standby now, or none.
    Roles,
    /// A message was not accepted.
    Ignored(Ignored),
}

/// A router that was heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Router {
    /// Source of its messages.
    pub address: IpAddr,
    /// Its priority.
    pub priority: u8,
}

impl Router {
    /// Greater is better.
    const fn rank(self) -> (u8, IpAddr) {
        (self.priority, self.address)
    }
}

/// The machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    params: Params,
    state: State,
    /// Virtual address, configured or learned.
    address: Option<IpAddr>,
    hello: Duration,
    hold: Duration,
    active: Option<Router>,
    standby: Option<Router>,
    delayed: bool,
    /// The active timer ran out while it spoke.
    silent: bool,
}

impl Machine {
    /// One whose interface is down.
    #[must_use]
    pub fn new(params: Params) -> Self {
        let (hello, hold) = params.timers.unwrap_or((HELLO, HOLD));
        let address = params.address;
        Self {
            params,
            state: State::Initial,
            address,
            hello,
            hold,
            active: None,
            standby: None,
            delayed: false,
            silent: false,
        }
    }

    /// What is configured; the priority as it is now.
    #[must_use]
    pub const fn params(&self) -> &Params {
        &self.params
    }

    /// State.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// Virtual address, configured or learned.
    #[must_use]
    pub const fn address(&self) -> Option<IpAddr> {
        self.address
    }

    /// Hello and hold time in force.
    #[must_use]
    pub const fn timers(&self) -> (Duration, Duration) {
        (self.hello, self.hold)
    }

    /// The active router, this one included.
    #[must_use]
    pub fn active(&self) -> Option<Router> {
        if self.state == State::Active { Some(self.own()) } else { self.active }
    }

    /// The standby router, this one included.
    #[must_use]
    pub fn standby(&self) -> Option<Router> {
        if self.state == State::Standby { Some(self.own()) } else { self.standby }
    }

    const fn own(&self) -> Router {
        Router { address: self.params.own, priority: self.params.priority }
    }

    /// What it would send.
    #[must_use]
    pub const fn message(&self, op: Op) -> Message {
        let Params { group, version, priority, authentication, mac, .. } = self.params;
        let identifier = match version {
            Version::V1 => [0; 6],
            Version::V2 => mac,
        };
        Message {
            version,
            op,
            state: self.state,
            group,
            priority,
            hello: self.hello,
            hold: self.hold,
            authentication,
            family: Family::of(self.params.own),
            address: self.address,
            identifier,
        }
    }

    /// Takes one event; appends what is to be done.
    pub fn on_event(&mut self, event: &Event, effects: &mut Vec<Effect>) {
        match *event {
            Event::Up if self.state == State::Initial => self.start(effects),
            Event::Up => {}
            Event::Down => self.stop(effects),
            Event::Priority(priority) => self.params.priority = priority,
            Event::Timer(Timer::Delay) => self.delayed = false,
            Event::Timer(timer) => self.timer(timer, effects),
            Event::Received(source, message) => match self.admits(source, &message) {
                Ok(()) => self.receive(source, &message, effects),
                Err(ignored) => effects.push(Effect::Ignored(ignored)),
            },
        }
    }

    /// a: AB.
    fn start(&mut self, effects: &mut Vec<Effect>) {
        self.delayed = !self.params.preempt_delay.is_zero();
        if self.delayed {
            effects.push(Effect::Arm(Timer::Delay, self.params.preempt_delay));
        }
        self.watch_active(self.hold, effects);
        effects.push(Effect::Arm(Timer::Standby, self.hold));
        self.enter(if self.address.is_some() { State::Listen } else { State::Learn }, effects);
    }

    /// b: CD, and H of the active router.
    fn stop(&mut self, effects: &mut Vec<Effect>) {
        if self.state == State::Initial {
            return;
        }
        if self.state == State::Active {
            effects.push(Effect::Send(self.message(Op::Resign)));
        }
        effects.extend(Timer::ALL.map(Effect::Disarm));
        (self.active, self.standby, self.delayed) = (None, None, false);
        // An address that was learned stays: this may be the only router left, and the next active one says it again.
        (self.hello, self.hold) = self.params.timers.unwrap_or((HELLO, HOLD));
        self.enter(State::Initial, effects);
    }

    fn timer(&mut self, timer: Timer, effects: &mut Vec<Effect>) {
        use State as S;
        match (self.state, timer) {
            // e: F.
            (S::Speak | S::Standby | S::Active, Timer::Hello) => self.hello(effects),
            // c: AB and speak; of the standby router CDFI.
            (S::Learn | S::Listen, Timer::Active) => {
                self.set_active(None, effects);
                if self.may_speak() {
                    self.watch_active(self.hold, effects);
                    self.speak(effects);
                }
            }
            (S::Standby, Timer::Active) => self.become_active(false, effects),
            // The RFC's table has nothing here; both timers run out at once, in either order.
            (S::Speak, Timer::Active) => {
                self.silent = true;
                self.set_active(None, effects);
            }
            // d: B and speak; of a speaking router D.
            (S::Learn | S::Listen, Timer::Standby) => {
                self.set_standby(None, effects);
                if self.may_speak() {
                    self.speak(effects);
                }
            }
            (S::Speak, Timer::Standby) => self.become_standby(effects),
            (S::Active, Timer::Standby) => self.set_standby(None, effects),
            (S::Initial | S::Learn | S::Listen, Timer::Hello)
            | (S::Standby, Timer::Standby)
            | (S::Active, Timer::Active)
            | (S::Initial, Timer::Active | Timer::Standby)
            | (_, Timer::Delay) => {}
        }
    }

    /// Whether it may leave [`State::Listen`].
    const fn may_speak(&self) -> bool {
        !self.params.listen_only && self.address.is_some()
    }

    fn admits(&self, source: IpAddr, message: &Message) -> Result<(), Ignored> {
        if self.state == State::Initial {
            return Err(Ignored::Down);
        }
        let Params { group, version, own, .. } = self.params;
        if (message.group, message.version, message.family) != (group, version, Family::of(own)) {
            return Err(Ignored::OtherGroup);
        }
        if message.authentication != self.params.authentication {
            return Err(Ignored::Authentication);
        }
        if source == self.params.own {
            return Err(Ignored::OwnAddress);
        }
        match (self.params.address, message.address) {
            (Some(mine), Some(theirs)) if mine != theirs => Err(Ignored::Address),
            (None, Some(theirs)) if !self.params.learns.admits(theirs) => Err(Ignored::Address),
            _ => Ok(()),
        }
    }

    fn receive(&mut self, source: IpAddr, message: &Message, effects: &mut Vec<Effect>) {
        let sender = Router { address: source, priority: message.priority };
        let better = sender.rank() > self.own().rank();
        match (message.op, message.state) {
            (Op::Hello, State::Active) => self.heard_active(sender, better, message, effects),
            (Op::Hello, State::Standby) => self.heard_standby(sender, better, effects),
            (Op::Hello, State::Speak) => self.heard_speaking(better, effects),
            (Op::Hello, State::Initial | State::Learn | State::Listen) => {}
            // j: ABH.
            (Op::Coup, _) if better && self.state == State::Active => {
                effects.push(Effect::Send(self.message(Op::Resign)));
                self.watch_active(self.hold, effects);
                effects.push(Effect::Arm(Timer::Standby, self.hold));
                self.set_active(Some(sender), effects);
                self.speak(effects);
            }
            (Op::Coup, _) => {}
            (Op::Resign, _) => self.heard_resign(source, effects),
        }
    }

    /// g, h.
    fn heard_active(&mut self, sender: Router, better: bool, message: &Message, effects: &mut Vec<Effect>) {
        if self.state == State::Active {
            if better {
                self.watch_active(message.hold, effects);
                effects.push(Effect::Arm(Timer::Standby, self.hold));
                self.set_active(Some(sender), effects);
                self.speak(effects);
            } else {
                effects.push(Effect::Send(self.message(Op::Coup)));
            }
            return;
        }
        self.learn(message, effects);
        // As IOS does it: of two with the same priority the one that is active stays so.
        let preempts = self.params.preempt && sender.priority < self.params.priority;
        if preempts && self.may_speak() && !self.delayed && self.state != State::Learn {
            self.become_active(true, effects);
            return;
        }
        self.watch_active(message.hold, effects);
        self.set_active(Some(sender), effects);
        // The standby router has become the active one: nobody is standby until one is heard.
        if self.standby.is_some_and(|standby| standby.address == sender.address) {
            self.set_standby(None, effects);
        }
        if self.state == State::Learn && self.address.is_some() {
            effects.push(Effect::Arm(Timer::Standby, self.hold));
            self.enter(State::Listen, effects);
        }
    }

    /// k, l.
    fn heard_standby(&mut self, sender: Router, better: bool, effects: &mut Vec<Effect>) {
        match self.state {
            State::Initial | State::Learn => {}
            State::Listen if better || self.params.listen_only => {
                effects.push(Effect::Arm(Timer::Standby, self.hold));
                self.set_standby(Some(sender), effects);
            }
            State::Listen => {
                self.set_standby(Some(sender), effects);
                effects.push(Effect::Arm(Timer::Standby, self.hold));
                self.speak(effects);
            }
            State::Speak | State::Standby if better => {
                effects.push(Effect::Arm(Timer::Standby, self.hold));
                self.set_standby(Some(sender), effects);
                self.listen(effects);
            }
            State::Speak => self.become_standby(effects),
            State::Standby => {}
            State::Active => {
                effects.push(Effect::Arm(Timer::Standby, self.hold));
                self.set_standby(Some(sender), effects);
            }
        }
    }

    /// f.
    fn heard_speaking(&mut self, better: bool, effects: &mut Vec<Effect>) {
        if better && matches!(self.state, State::Speak | State::Standby) {
            effects.push(Effect::Arm(Timer::Standby, self.hold));
            self.listen(effects);
        }
    }

    /// i, if it comes from the active router.
    fn heard_resign(&mut self, source: IpAddr, effects: &mut Vec<Effect>) {
        if self.active.is_none_or(|active| active.address != source) {
            return;
        }
        match self.state {
            State::Standby => self.become_active(false, effects),
            State::Learn | State::Listen => {
                self.set_active(None, effects);
                self.watch_active(self.hold, effects);
                effects.push(Effect::Arm(Timer::Standby, self.hold));
                if self.may_speak() {
                    self.speak(effects);
                }
            }
            State::Speak => {
                self.set_active(None, effects);
                self.watch_active(self.hold, effects);
            }
            State::Initial | State::Active => {}
        }
    }

    /// E: what the active router says, unless it is configured here.
    fn learn(&mut self, message: &Message, effects: &mut Vec<Effect>) {
        if self.params.address.is_none()
            && let Some(address) = message.address
            && self.address.replace(address) != Some(address)
        {
            effects.push(Effect::Address(address));
        }
        if self.params.timers.is_none() {
            (self.hello, self.hold) = (message.hello, message.hold);
        }
    }

    fn hello(&self, effects: &mut Vec<Effect>) {
        effects.push(Effect::Send(self.message(Op::Hello)));
        effects.push(Effect::Arm(Timer::Hello, self.hello));
    }

    fn listen(&mut self, effects: &mut Vec<Effect>) {
        effects.push(Effect::Disarm(Timer::Hello));
        self.enter(State::Listen, effects);
    }

    fn speak(&mut self, effects: &mut Vec<Effect>) {
        effects.push(Effect::Arm(Timer::Standby, self.hold));
        self.enter(State::Speak, effects);
        self.hello(effects);
    }

    fn become_standby(&mut self, effects: &mut Vec<Effect>) {
        effects.push(Effect::Disarm(Timer::Standby));
        self.set_standby(None, effects);
        self.enter(State::Standby, effects);
        if self.silent {
            self.become_active(false, effects);
        } else {
            self.hello(effects);
        }
    }

    /// CDFI; by a coup BGFI.
    fn become_active(&mut self, coup: bool, effects: &mut Vec<Effect>) {
        effects.push(Effect::Disarm(Timer::Active));
        if coup {
            effects.push(Effect::Arm(Timer::Standby, self.hold));
        } else {
            effects.push(Effect::Disarm(Timer::Standby));
            self.set_standby(None, effects);
        }
        self.silent = false;
        self.set_active(None, effects);
        self.enter(State::Active, effects);
        if coup {
            effects.push(Effect::Send(self.message(Op::Coup)));
        }
        self.hello(effects);
        effects.push(Effect::Announce);
    }

    fn set_active(&mut self, router: Option<Router>, effects: &mut Vec<Effect>) {
        if self.active != router {
            self.active = router;
            effects.push(Effect::Roles);
        }
    }

    fn set_standby(&mut self, router: Option<Router>, effects: &mut Vec<Effect>) {
        if self.standby != router {
            self.standby = router;
            effects.push(Effect::Roles);
        }
    }

    fn watch_active(&mut self, time: Duration, effects: &mut Vec<Effect>) {
        self.silent = false;
        effects.push(Effect::Arm(Timer::Active, time));
    }

    fn enter(&mut self, state: State, effects: &mut Vec<Effect>) {
        if self.state != state {
            self.state = state;
            effects.push(Effect::Became(state));
        }
    }
}

#[cfg(test)]
mod tests;
