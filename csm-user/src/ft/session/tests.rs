mod rest;
mod witnessed;

use super::*;
use crate::ft::Reason;
use crate::ft::keyring::Trust;
use crate::ft::status::FlightKind;
use crate::ft::wire::Kind;
use crate::model::lease;

const MS: u64 = 1_000_000;
const HOST: Arrival =
    Arrival { path: 0, source: IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2)), hops: Some(255) };

fn datagram(message: &Message) -> [u8; DATAGRAM] {
    envelope::seal(message, [0; envelope::PATHS_MAX], &Keyring::default())
}

#[derive(Default)]
struct Recorded {
    gates: Vec<Gate>,
    events: Vec<FtEvent>,
    announced: u32,
    forced: Vec<Result<(), Refusal>>,
    not_held: Vec<Refusal>,
    promised: u64,
    mac: Option<[u8; 6]>,
    asked: Vec<witness::Word>,
    /// How long the thread is held up after it has read its clock, and when it last did.
    held_up: u64,
    read_at: u64,
    sent: Vec<[u8; DATAGRAM]>,
}

impl Port for Recorded {
    fn send(&mut self, _: usize, datagram: &[u8; DATAGRAM]) -> bool {
        self.sent.push(*datagram);
        true
    }

    fn ask(&mut self, request: &[u8; witness::DATAGRAM]) -> bool {
        self.asked.extend(witness::open(request).map(|(word, ..)| word));
        true
    }

    fn gate(&mut self, gate: Gate) {
        self.gates.push(gate);
    }

    fn now_ns(&self) -> u64 {
        self.read_at + self.held_up
    }

    fn adopt(&mut self, _: u64) {}

    fn announce(&mut self) {
        self.announced += 1;
    }

    fn peer_mac(&mut self, mac: [u8; 6]) {
        self.mac = Some(mac);
    }

    fn event(&mut self, event: FtEvent) -> bool {
        self.events.push(event);
        true
    }

    fn forced(&mut self, outcome: Result<(), Refusal>) {
        self.forced.push(outcome);
    }

    fn not_held(&mut self, refusal: Refusal) {
        self.not_held.push(refusal);
    }

    fn promised(&mut self, until_ns: u64) {
        self.promised = until_ns;
    }

    fn wall_ns(&self) -> u64 {
        77
    }
}

fn params() -> Params {
    let (heartbeat, failover) = (Duration::from_millis(50), Duration::from_millis(150));
    Params {
        group: 1,
        node: 1,
        nonce: 10,
        priority: 20,
        preempt: false,
        heartbeat,
        failover,
        lease: lease(heartbeat, failover).unwrap().length,
        hold: Duration::from_secs(8),
        proven_only: false,
        witness: false,
        damping: Duration::ZERO,
        mac: [2, 0, 0, 0, 0, 1],
        config_checksum: 1,
        software_checksum: 1,
    }
}

fn from_peer(sequence: u64) -> Message {
    let own = Election::new(Params { node: 2, nonce: 20, mac: [2, 0, 0, 0, 0, 2], ..params() });
    Message { sequence, state: State::Standby, ..own.message(Kind::Heartbeat) }
}

/// Active since 150 ms, by silence, awake all the time.
fn active(controls: Controls) -> (Session, Recorded) {
    let (mut session, mut port) =
        (Session::new(params(), 9, controls, Duration::from_secs(1)), Recorded::default());
    session.start(0, &mut port);
    session.alive(0, &mut port);
    session.command(Event::Forwardable(true), 0, &mut port);
    while session.election().state() != State::Active {
        let now = session.next_wake().unwrap();
        session.wake(now, &mut port);
    }
    assert_eq!(session.status(0).changed_mono_ns, 150 * MS);
    (session, port)
}

#[test]
fn each_tick_extends_the_lease_from_the_reading_of_the_clock_that_it_was_given() {
    let (mut session, mut port) = active(Controls::default());
    assert_eq!(*port.gates.last().unwrap(), Gate::new(GateState::Open, 150 * MS + 123_333_000));
    session.wake(203 * MS, &mut port);
    assert_eq!(*port.gates.last().unwrap(), Gate::new(GateState::Open, 203 * MS + 123_333_000));
}

#[test]
fn past_the_lease_it_fences_before_it_reads_or_sends() {
    let (mut session, mut port) = active(Controls::default());
    session.receive(&datagram(&from_peer(1)), HOST, 150 * MS + 123_333_000, &mut port);
    assert_eq!(port.gates.last(), Some(&Gate::CLOSED));
    let status = session.status(150 * MS + 123_333_000).clone();
    assert_eq!((status.state, status.reason), (State::Init, Reason::LeaseExpired));
    let flights: Vec<_> = status.flights.iter().map(|flight| (flight.kind, flight.reason)).collect();
    assert_eq!(flights, [(FlightKind::Claim, Reason::PeerSilent), (FlightKind::Fence, Reason::LeaseExpired)]);
}

/// Claimed at 150 ms and woken at 203 ms, held up after having read the clock.
fn renewed_after(held_up: u64) -> (Session, Recorded) {
    let (mut session, mut port) = active(Controls::default());
    (port.read_at, port.held_up) = (203 * MS, held_up);
    session.wake(203 * MS, &mut port);
    (session, port)
}

#[test]
fn a_lease_that_ends_between_the_reading_of_the_clock_and_its_renewal_is_not_renewed() {
    let (mut session, port) = renewed_after(70 * MS);
    assert_eq!(port.gates.last(), Some(&Gate::new(GateState::Open, 203 * MS + 123_333_000)));
    assert_eq!(session.status(0).state, State::Active);
    // The lease of the claim ends at 273.333 ms.
    let (mut session, port) = renewed_after(71 * MS);
    assert_eq!(port.gates[1..], [Gate::new(GateState::Open, 150 * MS + 123_333_000), Gate::CLOSED]);
    let status = session.status(0);
    assert_eq!((status.state, status.reason), (State::Init, Reason::LeaseExpired));
    // The heartbeat was due at 200 ms.
    assert_eq!(status.lateness.worst_ns, 74 * MS);
}

#[test]
fn a_claim_on_an_old_reading_of_the_clock_neither_opens_nor_announces() {
    let (mut session, mut port) =
        (Session::new(params(), 9, Controls::default(), Duration::from_secs(1)), Recorded::default());
    session.start(0, &mut port);
    session.alive(0, &mut port);
    session.command(Event::Forwardable(true), 0, &mut port);
    while session.next_wake().is_some_and(|due| due < 150 * MS) {
        let now = session.next_wake().unwrap();
        session.wake(now, &mut port);
    }
    (port.read_at, port.held_up) = (150 * MS, 76 * MS);
    session.wake(150 * MS, &mut port);
    assert!(port.gates.iter().all(|gate| *gate == Gate::CLOSED), "{:?}", port.gates);
    assert_eq!(port.announced, 0);
    assert_eq!(session.status(0).state, State::Init);
    // A waiting time later it is awake, and claims.
    port.held_up = 0;
    while session.election().state() == State::Init {
        let now = session.next_wake().unwrap();
        port.read_at = now;
        session.wake(now, &mut port);
    }
    assert_eq!(session.status(0).changed_mono_ns, (150 + 76 + 150) * MS);
    assert_eq!(port.gates.last().unwrap().state_at(376 * MS), GateState::Open);
}

#[test]
fn a_lone_active_that_was_away_opens_again_one_waiting_time_after_it_woke_and_says_how_late_it_was() {
    let (mut session, mut port) = active(Controls::default());
    // The heartbeat was due at 200 ms.
    session.wake(700 * MS, &mut port);
    assert_eq!(session.status(0).state, State::Init);
    while session.election().state() == State::Init {
        let now = session.next_wake().unwrap();
        session.wake(now, &mut port);
    }
    let status = session.status(0).clone();
    assert_eq!((status.state, status.term, status.changed_mono_ns), (State::Active, 2, 850 * MS));
    assert_eq!((status.lateness.worst_ns, status.lateness.too_late), (500 * MS, 1));
    let flights: Vec<_> = status.flights.iter().map(|it| (it.kind, it.term, it.mono_ns / MS)).collect();
    let (claim, fence) = (FlightKind::Claim, FlightKind::Fence);
    // The gate shut when the lease was over, 123 ms after the last heartbeat, and not when the thread learned of it.
    assert_eq!(flights, [(claim, 1, 150), (fence, 1, 273), (claim, 2, 850)]);
    assert_eq!(status.flights[1].lateness, Duration::from_millis(500));
}

#[test]
fn a_standby_that_was_away_listens_again_instead_of_claiming() {
    let (mut session, mut port) = active(Controls::default());
    let rival = Message { state: State::Active, term: 9, ..from_peer(1) };
    session.receive(&datagram(&rival), HOST, 160 * MS, &mut port);
    assert_eq!(session.election().state(), State::Standby);
    session.wake(160 * MS + 400 * MS, &mut port);
    let status = session.status(0);
    assert_eq!((status.state, status.reason), (State::Init, Reason::WokeLate));
    assert_eq!((status.lateness.too_late, status.overlaps), (1, 1));
    assert_eq!(status.overlap_last, Duration::from_millis(10));
    assert_eq!(port.mac, Some([2, 0, 0, 0, 0, 2]));
    assert!(port.forced.is_empty());
}

#[test]
fn what_crossed_a_router_or_is_damaged_is_counted_and_changes_nothing() {
    let (mut session, mut port) = active(Controls::default());
    let rival = datagram(&Message { state: State::Active, term: 9, ..from_peer(1) });
    for hops in [None, Some(254), Some(1)] {
        session.receive(&rival, Arrival { hops, ..HOST }, 151 * MS, &mut port);
    }
    let mut damaged = rival;
    damaged[40] ^= 1;
    session.receive(&damaged, HOST, 151 * MS, &mut port);
    let counters = session.status(0).counters;
    assert_eq!((counters.packets, counters.dropped, counters.hop_limit), (4, 4, 3));
    assert_eq!(counters.decode.checksum, 1);
    assert_eq!(session.election().state(), State::Active);
}

#[test]
fn without_tokio_it_counts_as_unable_to_forward() {
    let (mut session, mut port) = active(Controls::default());
    while session.next_wake().is_some_and(|due| due < 999 * MS) {
        let now = session.next_wake().unwrap();
        session.wake(now, &mut port);
    }
    assert!(session.status(0).forwardable);
    session.wake(1_000 * MS, &mut port);
    assert!(!session.status(0).forwardable);
    session.alive(1_001 * MS, &mut port);
    assert!(session.status(0).forwardable);
}

#[test]
fn the_negative_controls_take_away_what_they_say() {
    let (session, port) =
        active(Controls { lease_off: true, announce_off: true, relay_off: true, ..Controls::default() });
    assert!(port.gates.last().unwrap().deadline_ns() > u64::MAX - 4);
    assert_eq!(port.announced, 0);
    assert_eq!(force(session, port), Gate::CLOSED);
    let (session, port) = active(Controls::default());
    assert_eq!(port.announced, 1);
    assert!(port.events.contains(&FtEvent::Announce(Reason::PeerSilent)));
    assert_eq!(force(session, port), Gate::new(GateState::RelayOut, 152 * MS + 10_000 * MS));
}

/// The gate after a switchover that was forced at 152 ms.
fn force(mut session: Session, mut port: Recorded) -> Gate {
    let peer = Message {
        forwardable: true,
        complete: true,
        hears_you: true,
        peer_nonce: params().nonce,
        ..from_peer(1)
    };
    let elect = Message { kind: Kind::Elect, state: State::Candidate, term: 2, sequence: 2, ..peer };
    session.receive(&datagram(&peer), HOST, 151 * MS, &mut port);
    session.command(Event::ForceStandby, 151 * MS, &mut port);
    session.receive(&datagram(&elect), HOST, 152 * MS, &mut port);
    assert_eq!(port.forced, [Ok(())]);
    assert_eq!(session.election().state(), State::RelayOut);
    *port.gates.last().unwrap()
}

const DATA: Arrival =
    Arrival { path: 1, source: IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2)), hops: Some(255) };

/// A session with a path over VLAN 2, and the keyring of its peer, which both have agreed or not.
fn with_data_path(agreed: bool) -> (Session, Recorded, Keyring) {
    let (session, mut port) = active(Controls::default());
    let ring = |secret| Keyring::new(&FtKeys::default(), [secret; 32]);
    let (own, mut peer) = (ring(1), ring(2));
    peer.learn(1, 10, own.public());
    let mut session = session.with_paths(own, &[2]);
    if agreed {
        let hello = envelope::seal(&from_peer(1), [9, 2, 0, 0, 0, 0, 0], &peer);
        session.receive(&hello, HOST, 151 * MS, &mut port);
    }
    (session, port, peer)
}

#[test]
fn what_is_said_off_the_ft_vlan_without_the_agreed_key_changes_nothing() {
    let rival = Message { state: State::Active, term: 9, ..from_peer(2) };
    let (mut session, mut port, peer) = with_data_path(false);
    for datagram in [datagram(&rival), envelope::seal(&rival, [0; 7], &peer)] {
        session.receive(&datagram, DATA, 152 * MS, &mut port);
    }
    let status = session.status(152 * MS);
    assert_eq!((status.counters.unauthenticated, status.counters.wrong_key), (1, 1));
    assert_eq!((status.state, status.peer, status.trust), (State::Active, None, Trust::None));
    assert_eq!(status.paths[1].unwrap().sent, 0, "nothing to prove it by");

    let (mut session, mut port, peer) = with_data_path(true);
    session.receive(&datagram(&rival), DATA, 152 * MS, &mut port);
    assert_eq!(session.election().state(), State::Active);
    let good = envelope::seal(&rival, [0; 7], &peer);
    let mut changed = good;
    changed[140] ^= 1;
    session.receive(&changed, DATA, 152 * MS, &mut port);
    assert_eq!(session.election().state(), State::Active);
    session.receive(&good, DATA, 152 * MS, &mut port);
    assert_eq!(session.election().state(), State::Standby);
}

#[test]
fn each_path_counts_what_came_and_what_did_not_and_a_copy_is_no_duplicate() {
    let (mut session, mut port, peer) = with_data_path(true);
    let sealed = |sequence| envelope::seal(&from_peer(sequence), [9, 0, 0, 0, 0, 0, 0], &peer);
    for (sequence, arrivals) in
        [(2, [Some(HOST), Some(DATA)]), (3, [None, Some(DATA)]), (5, [Some(DATA), Some(HOST)])]
    {
        for arrival in arrivals.into_iter().flatten() {
            session.receive(&sealed(sequence), arrival, (150 + sequence) * MS, &mut port);
        }
    }
    session.receive(&sealed(5), DATA, 155 * MS, &mut port);
    let status = session.status(160 * MS).clone();
    let counters = status.counters;
    assert_eq!((counters.heartbeat.received, counters.copies, counters.duplicates), (4, 2, 1));
    let [ft_vlan, data] = [status.paths[0].unwrap(), status.paths[1].unwrap()];
    assert_eq!((ft_vlan.vlan, ft_vlan.received, ft_vlan.missing, ft_vlan.hears_us), (9, 3, 2, true));
    assert_eq!((data.vlan, data.received, data.missing, data.hears_us), (2, 3, 1, false));
    assert!(data.is_heard && ft_vlan.is_heard);
    assert!(!session.status(400 * MS).paths[0].unwrap().is_heard);
}

#[test]
fn with_a_configured_key_a_recorded_boot_of_the_peer_is_not_believed() {
    let params = Params { proven_only: true, ..params() };
    let mut port = Recorded::default();
    let mut session = Session::new(params, 9, Controls::default(), Duration::from_secs(1));
    session.start(1, &mut port);
    let recorded = Message { state: State::Active, term: 40, ..from_peer(900) };
    session.receive(&datagram(&recorded), HOST, MS, &mut port);
    assert_eq!((session.election().peer(), session.election().term()), (None, 0));
    assert_eq!(session.status(MS).counters.stale_boot, 1);
    let live = Message { peer_nonce: params.nonce, ..recorded };
    session.receive(&datagram(&live), HOST, 2 * MS, &mut port);
    assert_eq!(session.election().term(), 40);
    // Nor is what an earlier boot said to this one, once another has spoken and both are silent.
    let next = Message { nonce: 21, sequence: 1, ..live };
    session.receive(&datagram(&next), HOST, 3 * MS, &mut port);
    session.command(Event::Timer(Timer::Silence), 300 * MS, &mut port);
    assert_eq!(session.election().peer(), None);
    let before = session.status(300 * MS).counters.duplicates;
    session.receive(&datagram(&live), HOST, 301 * MS, &mut port);
    assert_eq!(session.status(301 * MS).counters.duplicates, before + 1);
    assert_eq!(session.election().peer(), None);
}

#[test]
fn three_heartbeats_go_out_in_a_failover_time_however_rare_they_are_configured() {
    let params = Params { heartbeat: Duration::from_millis(60), ..params() };
    let mut port = Recorded::default();
    let mut session = Session::new(params, 9, Controls::default(), Duration::from_secs(1));
    session.start(0, &mut port);
    assert_eq!(session.next_wake(), Some(50 * MS));
}

#[test]
fn a_peer_of_the_version_before_is_answered_in_it_and_one_that_speaks_this_one_in_this() {
    let versions = |port: &Recorded| port.sent.iter().map(|datagram| datagram[4]).collect::<Vec<_>>();
    let keyring = Keyring::default();
    let said_as =
        |version, sequence| envelope::seal_as((version, NEWEST), &from_peer(sequence), [0; 7], &keyring);
    let beat = |session: &mut Session, port: &mut Recorded, at: u64| {
        port.sent.clear();
        session.wake(at * MS, port);
        versions(port)
    };
    let (mut session, mut port) = active(Controls::default());
    session.receive(&said_as(OLDEST, 1), HOST, 160 * MS, &mut port);
    let beats: Vec<_> = (0..10).map(|n| beat(&mut session, &mut port, 200 + 50 * n)).collect();
    assert!(beats.iter().all(|beat| beat[0] == OLDEST), "{beats:?}");
    assert_eq!(beats.iter().filter(|beat| beat[..] == [OLDEST, NEWEST]).count(), 1, "{beats:?}");
    // The same heartbeat again, in the newest version.
    session.receive(&said_as(OLDEST, 2), HOST, 660 * MS, &mut port);
    session.receive(&said_as(NEWEST, 2), HOST, 660 * MS, &mut port);
    let counters = session.status(660 * MS).counters;
    assert_eq!((counters.dropped, counters.copies), (0, 1));
    assert_eq!(beat(&mut session, &mut port, 700), [NEWEST]);
    // An old message that somebody says again tells nothing.
    let (mut older, mut port) = active(Controls { old_wire: true, ..Controls::default() });
    older.receive(&said_as(NEWEST, 1), HOST, 160 * MS, &mut port);
    assert_eq!(older.status(160 * MS).counters.decode.version, 1, "as a program before this one");
    assert_eq!(older.status(160 * MS).peer, None);
    older.receive(&said_as(OLDEST, 1), HOST, 161 * MS, &mut port);
    assert!(older.status(161 * MS).peer.is_some());
    assert_eq!(beat(&mut older, &mut port, 203), [OLDEST]);
}

#[test]
fn who_is_not_believed_is_remembered_with_its_vlan_and_group() {
    use crate::ft::foreign::Foreign;
    let (mut session, mut port) = active(Controls::default());
    let now = 160 * MS;
    session.receive(&datagram(&Message { group: 7, ..from_peer(1) }), HOST, now, &mut port);
    session.receive(&datagram(&Message { node: 1, ..from_peer(2) }), HOST, now, &mut port);
    session.set_keys(&FtKeys { sign: Some(crate::model::Secret::new("another")), ..FtKeys::default() });
    session.receive(&datagram(&from_peer(3)), HOST, now, &mut port);
    let said = session.status(now + 5 * MS).foreign.into_iter().flatten();
    let said: Vec<_> =
        said.map(|Foreign { vlan, group, why, count, age, .. }| (vlan, group, why, count, age)).collect();
    let age = Duration::from_millis(5);
    let of = |group, why| (9, group, why, 1, age);
    assert_eq!(said, [of(7, Why::Group), of(1, Why::Twin), of(1, Why::Unauthenticated)]);
}
