//! The CSM's environment variables: those that set something here, and those whose purpose is another's business.

use crate::config::command::{Command, Effect, Id, Mode::Module, Print};
use crate::config::grammar::Kind::Number;
use crate::config::grammar::Piece::{self, Either, Rest, Slot, Word};
use crate::model::Variables;

const VARIABLE: Piece = Word("variable", "What the CSM sets by a variable of its environment");

pub(super) static APPLIED: &[Command] = &[
    Command::new(
        Id::GratuitousInterval,
        Module,
        &[
            VARIABLE,
            Word("ARP_GRATUITOUS_INTERVAL", "Time between two announcements of the active node's addresses"),
            Slot("SECONDS", Number(10, 31_536_000), "Seconds"),
        ],
        "Sets how often the active node tells the network its addresses while nothing else happens; the first announcements after a \
         takeover come within seconds all the same.",
    )
    .restores(Some(15))
    .prints(Print::Global(|config| {
        let seconds = config.variables.gratuitous.as_secs();
        let line = || format!("variable ARP_GRATUITOUS_INTERVAL {seconds}");
        (config.variables.gratuitous != Variables::default().gratuitous).then(line).into_iter().collect()
    })),
    Command::new(
        Id::AdvertiseInterval,
        Module,
        &[
            VARIABLE,
            Word("ADVERTISE_RHI_FREQ", "Time between two looks at the routes of advertised virtual servers"),
            Slot("SECONDS", Number(1, 65_535), "Seconds"),
        ],
        "Sets how often the kernel's table is read for routes of `advertise` that somebody has removed or added; what the \
         module itself changes is told at once.",
    )
    .restores(Some(10))
    .prints(Print::Global(|config| {
        let seconds = config.variables.advertised.as_secs();
        let line = || format!("variable ADVERTISE_RHI_FREQ {seconds}");
        (config.variables.advertised != Variables::default().advertised).then(line).into_iter().collect()
    })),
    Command::new(
        Id::ReplyOutOfService,
        Module,
        &[
            VARIABLE,
            Word("ARP_REPLY_FOR_NO_INSERVICE_VIP", "Whether addresses of virtual servers out of service are answered for"),
            Slot("ON", Number(0, 1), "1: they are"),
        ],
        "Has the active node answer ARP and neighbour discovery for, and announce, the addresses of virtual servers that are not in \
         service: their clients are refused at once, and nobody else gets the address meanwhile.",
    )
    .restores(Some(0))
    .prints(Print::Global(|config| {
        let line = || "variable ARP_REPLY_FOR_NO_INSERVICE_VIP 1".to_owned();
        config.variables.reply_out_of_service.then(line).into_iter().collect()
    })),
    Command::inert(
        Module,
        &[
            VARIABLE,
            Either(&[
                &[Word("ARP_INTERVAL", "")],
                &[Word("ARP_LEARNED_INTERVAL", "")],
                &[Word("ARP_LEARN_MODE", "")],
                &[Word("ARP_RATE", "")],
                &[Word("ARP_RETRIES", "")],
            ]),
            Rest,
        ],
        Effect::Note(
            "it has no effect: the kernel finds the neighbours, and `sysctl net.ipv4.neigh.default` says how often it asks",
        ),
    ),
    Command::inert(
        Module,
        &[
            VARIABLE,
            Either(&[
                &[Word("SYN_COOKIE_INTERVAL", "")],
                &[Word("SYN_COOKIE_THRESHOLD", "")],
                &[Word("TCP_MSS_OPTION", "")],
                &[Word("TCP_WND_SIZE_OPTION", "")],
            ]),
            Rest,
        ],
        Effect::Note("it has no effect: TCP connections end at the servers here, never at the balancer"),
    ),
    Command::inert(
        Module,
        &[
            VARIABLE,
            Either(&[
                &[Word("COOKIE_INSERT_EXPIRATION_DATE", "")],
                &[Word("HTTP_CASE_SENSITIVE_MATCHING", "")],
                &[Word("HTTP_URL_COOKIE_DELIMITERS", "")],
                &[Word("MAX_PARSE_LEN_MULTIPLIER", "")],
            ]),
            Rest,
        ],
        Effect::Note("it has no effect: it is about layer 7, and this balancer works on layers 3 and 4"),
    ),
    Command::inert(
        Module,
        &[VARIABLE, Either(&[&[Word("FT_FLOW_REFRESH_INT", "")]]), Rest],
        Effect::Note("it has no effect: the peer's table is compared and mended all the time (`show module csm N ft`)"),
    ),
    Command::inert(
        Module,
        &[VARIABLE, Either(&[&[Word("NO_RESET_UNIDIRECTIONAL_FLOWS", "")]]), Rest],
        Effect::Note("it has no effect: a connection that has been silent for too long goes without a reset"),
    ),
    Command::inert(
        Module,
        &[VARIABLE, Either(&[&[Word("NO_TIMEOUT_IP_STICKY_ENTRIES", "")]]), Rest],
        Effect::Note("it has no effect: a client's time begins anew whenever a connection of it is used"),
    ),
    Command::inert(
        Module,
        &[VARIABLE, Either(&[&[Word("NAT_CLIENT_HASH_SOURCE_PORT", "")]]), Rest],
        Effect::Note("it has no effect: a client keeps its address of the pool as long as that has ports"),
    ),
    Command::inert(
        Module,
        &[VARIABLE, Either(&[&[Word("ROUTE_UNKNOWN_FLOW_PKTS", "")]]), Rest],
        Effect::Note("it has no effect: a client's segment of a connection that is not known is dropped, and a server's brings it back where that can be"),
    ),
    Command::inert(
        Module,
        &[VARIABLE, Either(&[&[Word("VSERVER_ICMP_ALWAYS_RESPOND", "")]]), Rest],
        Effect::Note("it has no effect: an address answers as long as one of its virtual servers is in service, whether or not a server of it is up"),
    ),
];
