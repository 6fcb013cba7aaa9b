//! What a command is, and how a line finds its entry in [`super::table`] (`find`).
//!
//! Invariant: grammar, help, `no` form, default and printer of a command stand in one entry, nowhere else.

mod find;

pub use find::{Match, Miss, find_in};

use super::grammar::{Piece, Syntax, abbreviates};
use crate::model::{
    AccessList, Config, FtGroup, Interface, NamedReal, Natpool, Owner, Policy, Probe, Real, RouterInterface,
    Serverfarm, Static, StickyGroup, Vlan, Vserver,
};

/// Where a command is entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// In every mode.
    Any,
    /// Outside of everything.
    Global,
    /// `interface NAME`.
    Interface,
    /// The switch's own `vlan N`.
    SwitchVlan,
    /// `module csm N`.
    Module,
    /// IOS VLAN database, `vlan` without a number.
    VlanDatabase,
    /// `vlan N client|server`.
    Vlan,
    /// `probe NAME TYPE`.
    Probe,
    /// `static drop|nat virtual|nat A`.
    Static,
    /// `real NAME` of the module.
    NamedReal,
    /// `serverfarm NAME`.
    Serverfarm,
    /// `real ADDRESS` in a farm.
    Real,
    /// `vserver NAME`.
    Vserver,
    /// `ft group N vlan M`.
    Ft,
    /// `sticky N` of the module.
    StickyGroup,
    /// `policy NAME`.
    Policy,
    /// `owner NAME`.
    Owner,
    /// `ip access-list standard NAME`, `ipv6 access-list NAME`.
    AccessList,
    /// Inside something that was refused: its lines are passed over.
    Refused,
}

impl Mode {
    /// Every mode that has commands, in the order of the reference.
    pub const ALL: [Self; 18] = [
        Self::Any,
        Self::Global,
        Self::AccessList,
        Self::Interface,
        Self::SwitchVlan,
        Self::Module,
        Self::VlanDatabase,
        Self::Vlan,
        Self::Probe,
        Self::Static,
        Self::NamedReal,
        Self::Serverfarm,
        Self::Real,
        Self::Vserver,
        Self::Ft,
        Self::Policy,
        Self::StickyGroup,
        Self::Owner,
    ];

    /// Where `exit` leads, and where a command is looked up that this mode lacks.
    #[must_use]
    pub const fn parent(self) -> Option<Self> {
        match self {
            Self::Any | Self::Global => None,
            Self::Interface | Self::SwitchVlan | Self::Module | Self::AccessList => Some(Self::Global),
            Self::VlanDatabase
            | Self::Vlan
            | Self::Probe
            | Self::Static
            | Self::NamedReal
            | Self::Serverfarm
            | Self::Vserver
            | Self::Ft
            | Self::Policy
            | Self::StickyGroup
            | Self::Owner
            | Self::Refused => Some(Self::Module),
            Self::Real => Some(Self::Serverfarm),
        }
    }

    /// The line that enters it.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Any => "every mode",
            Self::Global => "the top level",
            Self::Interface => "interface NAME",
            Self::SwitchVlan => "vlan N",
            Self::Module => "module csm N",
            Self::VlanDatabase => "vlan",
            Self::Vlan => "vlan N client|server",
            Self::Probe => "probe NAME TYPE",
            Self::Static => "static drop|nat virtual|nat ADDRESS",
            Self::NamedReal => "real NAME",
            Self::Serverfarm => "serverfarm NAME",
            Self::Real => "real ADDRESS|name NAME [PORT]",
            Self::Vserver => "vserver NAME",
            Self::Ft => "ft group N vlan M",
            Self::Policy => "policy NAME",
            Self::StickyGroup => "sticky N netmask MASK",
            Self::Owner => "owner NAME",
            Self::AccessList => "ip access-list standard NAME, ipv6 access-list NAME",
            Self::Refused => "a refused section",
        }
    }
}

/// What a command does to the configuration; `build.rs` has one arm for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each is the command of the same name in the table")]
pub enum Id {
    Interface,
    AccessVlan,
    PortMode,
    ChannelGroup,
    TrunkAllowed,
    TrunkAdd,
    TrunkNative,
    RouterAddress,
    RouterAddress6,
    StandbyVersion,
    StandbyIp,
    StandbyIpv6,
    StandbyPrefix,
    StandbyPriority,
    StandbyPreempt,
    StandbyTimers,
    StandbyAuthentication,
    StandbyName,
    StandbyTrack,
    IpRoute,
    Ipv6Route,
    XdpMode,
    Module,
    Vlan,
    IpAddress,
    Gateway,
    Alias,
    Ipv6Address,
    Ipv6Alias,
    Vmac,
    Route,
    Probe,
    Interval,
    Retries,
    Failed,
    Receive,
    Open,
    Recover,
    Port,
    ProbeAddress,
    ProbeRequest,
    ProbeHeader,
    ProbeCredentials,
    ExpectStatus,
    ProbeName,
    ExpectAddress,
    NamedReal,
    NamedAddress,
    RealProbe,
    StaticArp,
    GratuitousInterval,
    ReplyOutOfService,
    AdvertiseInterval,
    Natpool,
    Static,
    StaticReal,
    Serverfarm,
    NatServer,
    Failaction,
    NatClient,
    Encapsulation,
    Predictor,
    FarmProbe,
    Real,
    Weight,
    RealInservice,
    BackupReal,
    Vserver,
    Virtual,
    VserverFarm,
    VserverVlan,
    Client,
    Unidirectional,
    Idle,
    Pending,
    Sticky,
    ReverseSticky,
    ReplicateConnection,
    ReplicateSticky,
    Inservice,
    RateLimit,
    ClientRateLimit,
    MaxConns,
    VserverMaxConns,
    VserverOwner,
    Advertise,
    Owner,
    ContactInfo,
    BillingInfo,
    OwnerMaxConns,
    MinConns,
    FtGroup,
    Priority,
    Preempt,
    SyncAuto,
    TakeoverSynchronized,
    Heartbeat,
    Failover,
    AuthKey,
    AuthAccept,
    Witness,
    TrackGroup,
    TrackGateway,
    TrackInterface,
    TrackMode,
    TrackInterval,
    TrackRetries,
    TrackHoldDown,
    TrackVrrp,
    TrackFarm,
    InbandHealth,
    NumberedList,
    NamedList,
    NamedList6,
    ListLine,
    Policy,
    ClientGroup,
    PolicyFarm,
    PolicySticky,
    PolicyReverse,
    StickyGroup,
    StaticSticky,
    SetDscp,
    SlbPolicy,
    Exit,
    End,
    /// Changes nothing.
    Inert,
}

/// What becomes of a line.
#[derive(Clone, Copy, Debug)]
pub enum Effect {
    /// It is applied.
    Applies,
    /// It changes nothing and need not be mentioned.
    Silent,
    /// It changes nothing, and the user is told why.
    Note(&'static str),
    /// It is refused by name.
    Refused {
        /// After "`X` is not supported: ".
        why: &'static str,
        /// What to do in its place.
        remedy: &'static str,
    },
}

/// The `no` form.
#[derive(Clone, Copy, Debug)]
pub enum No {
    /// There is none.
    Absent,
    /// Restores the default; arguments may be left out.
    Restores,
    /// Removes what the full line entered.
    Removes,
    /// Removes the section; what follows its name may be left out.
    RemovesSection,
    /// Something else becomes of it.
    Other(Effect),
}

/// The same command with other arguments, again in the same section of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// Adds.
    Adds,
    /// The later line counts, with a warning.
    Replaces,
    /// A contradiction.
    Conflicts,
}

/// Prints the lines of a command from what is configured; empty at its default.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "named by what is printed")]
pub enum Print {
    Nothing,
    Global(fn(&Config) -> Vec<String>),
    Config(fn(&Config) -> Vec<String>),
    Router(fn(&RouterInterface) -> Vec<String>),
    Interface(fn(&Interface) -> Vec<String>),
    Vlan(fn(&Vlan) -> Vec<String>),
    Probe(fn(&Probe) -> Vec<String>),
    Natpool(fn(&Natpool) -> Vec<String>),
    Static(fn(&Static) -> Vec<String>),
    NamedReal(fn(&NamedReal) -> Vec<String>),
    AccessList(fn(&AccessList) -> Vec<String>),
    StickyGroup(fn(&StickyGroup) -> Vec<String>),
    Policy(fn(&Policy) -> Vec<String>),
    Owner(fn(&Owner) -> Vec<String>),
    Serverfarm(fn(&Serverfarm) -> Vec<String>),
    Real(fn(&Real) -> Vec<String>),
    Vserver(fn(&Vserver) -> Vec<String>),
    Ft(fn(&FtGroup) -> Vec<String>),
}

/// An entry of the table.
#[derive(Clone, Copy, Debug)]
pub struct Command {
    /// What it does.
    pub id: Id,
    /// Where it is entered.
    pub mode: Mode,
    /// Its words.
    pub grammar: &'static [Piece],
    /// One line of help.
    pub help: &'static str,
    /// What becomes of it.
    pub effect: Effect,
    /// Its `no` form.
    pub no: No,
    /// Value without it, in the unit of its first number.
    pub default: Option<u64>,
    /// Given twice.
    pub repeat: Repeat,
    /// Mode that it enters.
    pub opens: Option<Mode>,
    /// Its printer.
    pub print: Print,
}

impl Command {
    /// A command that is applied and has no `no` form, default or printer.
    #[must_use]
    pub const fn new(id: Id, mode: Mode, grammar: &'static [Piece], help: &'static str) -> Self {
        Self {
            id,
            mode,
            grammar,
            help,
            effect: Effect::Applies,
            no: No::Absent,
            default: None,
            repeat: Repeat::Replaces,
            opens: None,
            print: Print::Nothing,
        }
    }

    /// A command that changes nothing.
    #[must_use]
    pub const fn inert(mode: Mode, grammar: &'static [Piece], effect: Effect) -> Self {
        let mut command = Self::new(Id::Inert, mode, grammar, "");
        command.effect = effect;
        command.no = No::Other(effect);
        command.repeat = Repeat::Adds;
        command
    }

    /// A command that is refused by name. Its `no` form is accepted: it asks for what is the case.
    #[must_use]
    pub const fn refused(
        mode: Mode,
        grammar: &'static [Piece],
        why: &'static str,
        remedy: &'static str,
    ) -> Self {
        let mut command = Self::inert(mode, grammar, Effect::Refused { why, remedy });
        command.no = No::Other(Effect::Silent);
        command
    }

    /// `no` restores `default`.
    #[must_use]
    pub const fn restores(mut self, default: Option<u64>) -> Self {
        self.no = No::Restores;
        self.default = default;
        self
    }

    /// `no` with all its words removes one of several.
    #[must_use]
    pub const fn removes(mut self) -> Self {
        self.no = No::Removes;
        self
    }

    /// `no` with its name removes the section.
    #[must_use]
    pub const fn removes_section(mut self) -> Self {
        self.no = No::RemovesSection;
        self
    }

    /// Without a `no` form.
    #[must_use]
    pub const fn without_no(mut self) -> Self {
        self.no = No::Absent;
        self
    }

    /// With another `no` form.
    #[must_use]
    pub const fn no(mut self, effect: Effect) -> Self {
        self.no = No::Other(effect);
        self
    }

    /// Given twice.
    #[must_use]
    pub const fn repeats(mut self, repeat: Repeat) -> Self {
        self.repeat = repeat;
        self
    }

    /// Enters `mode`.
    #[must_use]
    pub const fn opens(mut self, mode: Mode) -> Self {
        self.opens = Some(mode);
        self
    }

    /// Printed by `print`.
    #[must_use]
    pub const fn prints(mut self, print: Print) -> Self {
        self.print = print;
        self
    }

    /// The first word.
    #[must_use]
    pub const fn keyword(&self) -> &'static str {
        match self.grammar {
            [Piece::Word(keyword, _), ..] => keyword,
            _ => "",
        }
    }

    /// Whether its first word decides alone.
    #[must_use]
    pub const fn takes_anything(&self) -> bool {
        matches!(self.grammar, [Piece::Word(..), Piece::Rest])
    }

    /// Whether `word` may stand for its first word. What takes any rest of the line without effect must be written out:
    /// no slip of the pen shall vanish in it.
    fn begins_with(&self, word: &str) -> bool {
        let swallows = self.takes_anything() && !matches!(self.effect, Effect::Refused { .. });
        // `sticky` below a policy is the module's section that follows it.
        if matches!(self.id, Id::PolicySticky) && word.len() <= "sticky".len() {
            false
        } else if swallows {
            self.keyword().eq_ignore_ascii_case(word)
        } else {
            abbreviates(word, self.keyword())
        }
    }

    /// The leading words, e.g. `switchport mode trunk`.
    #[must_use]
    pub fn name(&self) -> String {
        let words = self.grammar.iter().take_while(|piece| matches!(piece, Piece::Word(..)));
        Syntax(&words.copied().collect::<Vec<_>>()).to_string()
    }
}
