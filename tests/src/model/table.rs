//! Connections: one record each, found from either side.

use std::collections::HashMap;
use std::net::IpAddr;

use csm_common::counter::Reason;

use super::frame::{Frame, Head, Transport};
use super::out::Name;

/// TCP flags.
pub const FIN: u8 = 1;
/// TCP flags.
pub const SYN: u8 = 2;
/// TCP flags.
pub const RST: u8 = 4;
/// TCP flags.
pub const ACK: u8 = 16;

/// What finds a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// Source port, or the echo's identifier.
    pub sport: u16,
    /// Destination port, or the echo's identifier.
    pub dport: u16,
    /// VLAN it comes in on.
    pub vlan: u16,
    /// IP protocol.
    pub proto: u8,
}

impl Key {
    /// The frame's.
    #[must_use]
    pub fn of(frame: &Frame, head: &Head, vlan: u16) -> Self {
        let (sport, dport) = frame.ports(head);
        Self { src: head.src, dst: head.dst, sport, dport, vlan, proto: head.proto }
    }
}

/// Where a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Opened.
    Syn,
    /// Answered.
    SynAck,
    /// Proven.
    Established,
    /// One side is at its end.
    Closing,
    /// Both are, or it was reset.
    Closed,
    /// By hand: each end's next segment is answered with a reset.
    Cleared,
}

/// Virtual server, and real if it has one; `None`: of a connection to no virtual server.
pub type Service = Option<(u32, Option<u32>)>;

/// A connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conn {
    /// As its opener's packets come in.
    pub key: Key,
    /// Address and port of the one who answers.
    pub server: Name,
    /// What the one who answers takes the opener for.
    pub source: Name,
    /// VLAN of the one who answers.
    pub server_vlan: u16,
    /// See there.
    pub service: Service,
    /// The one who answers may do so past this node.
    pub unidirectional: bool,
    /// Hop on the way to the one who answers.
    pub to_server: u32,
    /// Hop on the way to the opener.
    pub to_client: u32,
    /// Where the client is sticky: group and network.
    pub sticky: Option<(u32, IpAddr)>,
    /// The real that it came in by, if its virtual server looks for that.
    pub via: Option<u32>,
    /// Where it is.
    pub state: State,
    /// What the opener must acknowledge.
    pub expect: u32,
    /// That many numbers from there on prove it: more than one where it was rebuilt in the middle.
    pub window: u32,
    /// FIN seen: from the opener, from the other.
    pub fin: [bool; 2],
    /// What was acknowledged last on the server port: by the opener, by the other.
    pub acked: [Option<u32>; 2],
}

impl Conn {
    /// Whether packets of this direction come from the servers' side: what the opener of a routed connection sends, and
    /// the answers of a balanced one.
    #[must_use]
    pub fn is_servers(&self, forward: bool) -> bool {
        forward == self.service.is_none()
    }

    /// Opened by a packet of that key to whom it names.
    #[must_use]
    pub fn new(key: Key) -> Self {
        Self {
            key,
            server: (key.dst, key.dport),
            source: (key.src, key.sport),
            server_vlan: 0,
            service: None,
            unidirectional: false,
            to_server: 0,
            to_client: 0,
            sticky: None,
            via: None,
            state: State::Syn,
            expect: 0,
            window: 1,
            fin: [false; 2],
            acked: [None; 2],
        }
    }

    /// Over: its places are another one's to take.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        matches!(self.state, State::Closed | State::Cleared)
    }

    /// One side is at its end. A server that was never seen here will not show its own.
    fn end_of(&mut self, forward: bool) {
        self.fin[usize::from(!forward)] = true;
        let unseen = forward && self.unidirectional && self.acked[1].is_none();
        self.state = if self.fin == [true; 2] || unseen { State::Closed } else { State::Closing };
    }

    /// Address and port of the opener.
    #[must_use]
    pub const fn client(&self) -> Name {
        (self.key.src, self.key.sport)
    }

    /// Address and port that the opener speaks to.
    #[must_use]
    pub const fn virtual_server(&self) -> Name {
        (self.key.dst, self.key.dport)
    }

    /// Source and destination of a packet of that direction when it leaves.
    #[must_use]
    pub const fn leaves(&self, forward: bool) -> (Name, Name) {
        if forward { (self.source, self.server) } else { (self.virtual_server(), self.client()) }
    }

    /// The hop of that direction.
    #[must_use]
    pub const fn towards(&self, forward: bool) -> u32 {
        if forward { self.to_server } else { self.to_client }
    }

    /// As the other's packets come in.
    #[must_use]
    pub const fn return_key(&self) -> Key {
        Key {
            src: self.server.0,
            dst: self.source.0,
            sport: self.server.1,
            dport: self.source.1,
            vlan: self.server_vlan,
            proto: self.key.proto,
        }
    }
}

/// What a packet meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A connection.
    Known {
        /// Its number.
        id: u32,
        /// The packet is its opener's.
        forward: bool,
        /// This packet has proven it.
        proven: bool,
    },
    /// None.
    Unknown,
    /// Its end.
    Dropped(Reason),
}

/// All connections. A place (key) belongs to one connection at a time; one that has lost a place is not whole.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    conns: Vec<Conn>,
    /// Places of the proven ones: connection, and whether it is the opener's place.
    pub proven: HashMap<Key, (u32, bool)>,
    /// Places of the half-open ones.
    pub half_open: HashMap<Key, (u32, bool)>,
    /// Those that have ended since this was emptied.
    pub ended: Vec<u32>,
    /// Those that had ended, and were answered all the same.
    pub resumed: Vec<u32>,
}

impl Tables {
    /// Connection number `id`.
    #[must_use]
    pub fn conn(&self, id: u32) -> &Conn {
        &self.conns[id as usize]
    }

    /// All that ever were.
    #[must_use]
    pub fn conns(&self) -> &[Conn] {
        &self.conns
    }

    /// Where a packet with `key` belongs, whatever it says: the connection, and whether it is its opener's place.
    #[must_use]
    pub fn place(&self, key: &Key) -> Option<(u32, bool)> {
        self.proven.get(key).or_else(|| self.half_open.get(key)).copied()
    }

    fn conn_mut(&mut self, id: u32) -> &mut Conn {
        &mut self.conns[id as usize]
    }

    fn whole(places: &HashMap<Key, (u32, bool)>, conn: &Conn, id: u32) -> bool {
        places.get(&conn.key) == Some(&(id, true)) && places.get(&conn.return_key()) == Some(&(id, false))
    }

    /// A packet comes in under `key`.
    pub fn meet(&mut self, key: &Key, transport: Transport) -> Outcome {
        if let Some(&(id, forward)) = self.proven.get(key) {
            if self.meets_proven(id, forward, transport) {
                return Outcome::Known { id, forward, proven: false };
            }
            return Outcome::Unknown;
        }
        let Some(&(id, forward)) = self.half_open.get(key) else { return Outcome::Unknown };
        self.meets_half_open(key, id, forward, transport)
    }

    /// False: the connection is over and gone, the packet opens another.
    fn meets_proven(&mut self, id: u32, forward: bool, transport: Transport) -> bool {
        let Transport::Tcp { flags, seq, .. } = transport else { return true };
        let conn = self.conn(id).clone();
        let whole = Self::whole(&self.proven, &conn, id);
        if transport.opens() && forward {
            if !conn.is_over() && whole {
                return true;
            }
            self.proven.remove(&conn.key);
            if whole {
                self.proven.remove(&conn.return_key());
            }
            return false;
        }
        if conn.is_over() {
            return true;
        }
        let conn = &mut self.conns[id as usize];
        if flags & RST != 0 {
            // What whoever gets the reset has acknowledged, in packets the other way.
            let acked = conn.acked[usize::from(forward)];
            let fits = acked.is_some_and(|acked| seq.wrapping_sub(acked) < 128 * 1024);
            if conn.is_servers(forward) || whole && fits {
                conn.state = State::Closed;
            }
        } else if flags & FIN != 0 {
            conn.end_of(forward);
        }
        if conn.is_over() {
            self.ended.push(id);
        }
        true
    }

    fn meets_half_open(&mut self, key: &Key, id: u32, forward: bool, transport: Transport) -> Outcome {
        let conn = self.conn(id).clone();
        if !Self::whole(&self.half_open, &conn, id) {
            self.half_open.remove(key);
            return if forward { Outcome::Unknown } else { Outcome::Dropped(Reason::DropNoConnection) };
        }
        let known = |proven| Outcome::Known { id, forward, proven };
        let anew = forward && transport.opens() && matches!(transport, Transport::Tcp { .. });
        if anew && conn.is_over() {
            self.half_open.remove(&conn.key);
            self.half_open.remove(&conn.return_key());
            return Outcome::Unknown;
        }
        if conn.state == State::Cleared {
            return known(false);
        }
        if !forward {
            self.answered(id, transport);
            return known(false);
        }
        let proves = match (transport, conn.state) {
            (Transport::Tcp { flags, seq, ack }, state) => {
                let goes_on = flags & ACK != 0 && flags & (SYN | RST) == 0;
                goes_on
                    && (state == State::SynAck && ack.wrapping_sub(conn.expect) < conn.window
                        || state == State::Syn && conn.unidirectional && seq == conn.expect)
            }
            (_, state) => state == State::SynAck,
        };
        if !proves {
            return known(false);
        }
        if self.proven.contains_key(&conn.return_key()) {
            return Outcome::Dropped(Reason::DropConflict);
        }
        for (key, forward) in [(conn.key, true), (conn.return_key(), false)] {
            self.half_open.remove(&key);
            self.proven.insert(key, (id, forward));
        }
        self.conn_mut(id).state = State::Established;
        if let Transport::Tcp { flags, .. } = transport
            && flags & FIN != 0
        {
            let conn = &mut self.conns[id as usize];
            conn.end_of(true);
            if conn.is_over() {
                self.ended.push(id);
            }
        }
        known(true)
    }

    /// A packet of the one who answers, on a half-open connection.
    fn answered(&mut self, id: u32, transport: Transport) {
        let conn = &mut self.conns[id as usize];
        match transport {
            Transport::Tcp { flags, seq, .. } => {
                if flags & RST != 0 {
                    if conn.state != State::Closed {
                        self.ended.push(id);
                    }
                    conn.state = State::Closed;
                } else if flags & SYN != 0 && flags & ACK != 0 {
                    conn.expect = seq.wrapping_add(1);
                    conn.window = 1;
                    if conn.state == State::Closed {
                        self.resumed.push(id);
                    }
                    conn.state = State::SynAck;
                } else if flags & FIN != 0 {
                    conn.fin[1] = true;
                }
            }
            _ => conn.state = State::SynAck,
        }
    }

    /// Enters a connection among the half-open.
    ///
    /// # Errors
    /// If another one, live, has its place on the server's side.
    ///
    /// # Panics
    /// Never: there are fewer than 2^32.
    pub fn open(&mut self, conn: Conn) -> Result<u32, Reason> {
        let return_key = conn.return_key();
        if let Some(&(other, forward)) = self.proven.get(&return_key) {
            let other = self.conn(other).clone();
            let beside = if forward { other.return_key() } else { other.key };
            if !other.is_over() && self.proven.contains_key(&beside) {
                return Err(Reason::DropConflict);
            }
            self.proven.remove(&return_key);
            self.proven.remove(&beside);
        }
        Ok(self.enter(conn))
    }

    /// Whether the place on the server's side is free.
    #[must_use]
    pub fn is_free(&self, conn: &Conn) -> bool {
        let key = conn.return_key();
        !self.proven.contains_key(&key) && !self.half_open.contains_key(&key)
    }

    /// Enters a connection among the half-open, whatever has its places.
    ///
    /// # Panics
    /// Never: there are fewer than 2^32.
    pub fn enter(&mut self, conn: Conn) -> u32 {
        let id = u32::try_from(self.conns.len()).expect("a few");
        self.half_open.insert(conn.key, (id, true));
        self.half_open.insert(conn.return_key(), (id, false));
        self.conns.push(conn);
        id
    }

    /// Whether the opener has another connection under that key, which is not at its end.
    #[must_use]
    pub fn stands(&self, key: &Key) -> bool {
        let closed = |id: u32| self.conn(id).state == State::Closed;
        self.half_open.contains_key(key) || self.proven.get(key).is_some_and(|&(id, _)| !closed(id))
    }

    /// Forgets a finished connection under its opener's key.
    pub fn make_way(&mut self, key: &Key) {
        if let Some((id, true)) = self.proven.remove(key) {
            let back = self.conn(id).return_key();
            if self.proven.get(&back) == Some(&(id, false)) {
                self.proven.remove(&back);
            }
        }
    }

    /// Ends those that are taken by hand. What has no resets is forgotten.
    pub fn end_by_hand(&mut self, takes: impl Fn(&Conn) -> bool) {
        for (id, conn) in (0..).zip(&mut self.conns) {
            let places = [&mut self.half_open, &mut self.proven];
            let Some(places) = places.into_iter().find(|places| places.get(&conn.key) == Some(&(id, true)))
            else {
                continue;
            };
            if conn.is_over() || !takes(conn) {
                continue;
            }
            if conn.key.proto == 6 {
                conn.state = State::Cleared;
                continue;
            }
            places.remove(&conn.key);
            if places.get(&conn.return_key()) == Some(&(id, false)) {
                places.remove(&conn.return_key());
            }
        }
    }

    /// Something was acknowledged on the server port: noted once it has moved by 16 KiB.
    pub fn note_ack(&mut self, id: u32, forward: bool, ack: u32) {
        let noted = &mut self.conn_mut(id).acked[usize::from(!forward)];
        if noted.is_none_or(|before| ack.wrapping_sub(before) >= 16 * 1024) {
            *noted = Some(ack);
        }
    }

    /// Forgets every connection.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}
