//! First packets: what connection one opens, if it may.

use std::net::IpAddr;

use csm_common::counter::Reason;

use super::frame::Transport;
use super::scene::{Choice, Mode, Net, Real, Reverse, Service, Source, Static, Way, is_host};
use super::table::{ACK, Conn, FIN, Key, RST, SYN, State};
use super::{Made, Model};

/// No connection was opened.
pub(super) struct Failed(pub(super) Reason);

impl From<Reason> for Failed {
    fn from(reason: Reason) -> Self {
        Self(reason)
    }
}

impl Model {
    /// The connection that a first packet opens, and whether the packet is its opener's: a server's own packet opens one
    /// anew that is not known here. `from`: its MAC address; `None`: lost on the way.
    pub(super) fn open(
        &mut self,
        key: &Key,
        transport: Transport,
        from: Option<[u8; 6]>,
        made: &dyn Fn(&Key) -> Option<Made>,
    ) -> Result<(u32, bool), Failed> {
        let (conn, pool) = match self.service(key).cloned() {
            Some(service) => self.balance(key, transport, &service, from, made)?,
            None => {
                let (way, egress) = self.way_on(key)?;
                if !transport.opens() {
                    let conn = self.rebuild(key, transport, from.is_none(), (way, egress))?;
                    self.tables.make_way(&conn.key);
                    let id = self.tables.open(conn)?;
                    self.load(id, 1);
                    return Ok((id, false));
                }
                self.route(key, way, egress)?
            }
        };
        let Some(number) = pool else {
            let id = self.tables.open(conn)?;
            self.settle(id);
            return Ok((id, true));
        };
        let pool = self.scene.pool(number);
        let Some(Made { source, .. }) = made(key) else {
            // Eight ports were tried, perhaps all the same one: at least one of the pool must be taken towards this real.
            let taken = |source| !self.tables.is_free(&Conn { source, ..conn.clone() });
            let own = (0..pool.addresses).map(|index| super::scene::plus(pool.first, index));
            let mut all = own.flat_map(|ip| {
                let ports = if matches!(key.proto, 6 | 17) {
                    pool.port..pool.port + pool.ports
                } else {
                    key.sport..key.sport + 1
                };
                ports.map(move |port| (ip, port))
            });
            let refused = all.any(taken);
            return Err(Failed(if refused { Reason::DropPoolExhausted } else { Reason::DropInternal }));
        };
        let conn = Conn { source, ..conn };
        if !pool.gives(source, key.proto, key.sport) || !self.tables.is_free(&conn) {
            return Err(Failed(Reason::DropInternal));
        }
        let id = self.tables.enter(conn);
        self.settle(id);
        Ok((id, true))
    }

    /// The client's choice is noted, and what its real has to do.
    fn settle(&mut self, id: u32) {
        let conn = self.tables.conn(id);
        if let (Some(back), Some(via)) = (self.turned(conn), conn.via) {
            self.sticky_half.insert(back, via);
        }
        if let (Some(client), Some((_, Some(real)))) = (conn.sticky, conn.service) {
            self.sticky_half.insert(client, real);
        }
        self.load(id, 1);
    }

    /// The virtual server that is meant: one for this address and port, that of the client's FTP or RTSP
    /// connection, or another.
    fn service(&self, key: &Key) -> Option<&Service> {
        let found = self.scene.service(key);
        let exact = found.filter(|service| service.net == Net::host(key.dst) && service.port != 0);
        let data = || {
            let of =
                |service: &&Service| service.data == Some(key.proto) && service.net == Net::host(key.dst);
            let service = self.scene.services.iter().find(of)?;
            (key.dport >= 1024 && self.stuck(service, key.src, key.dst).is_some()).then_some(service)
        };
        exact.or_else(data).or(found)
    }

    /// The real that a client, or who it speaks to, had before.
    fn stuck(&self, service: &Service, client: IpAddr, to: IpAddr) -> Option<Real> {
        let client = service.choice.sticks(client, to)?;
        let numbered = |number: &u32| service.ring.iter().find(|real| real.number == *number).copied();
        let proven = self.sticky.get(&client).and_then(numbered);
        proven.or_else(|| self.sticky_half.get(&client).and_then(numbered))
    }

    /// To a virtual server.
    fn balance(
        &mut self,
        key: &Key,
        transport: Transport,
        service: &Service,
        from: Option<[u8; 6]>,
        made: &dyn Fn(&Key) -> Option<Made>,
    ) -> Result<(Conn, Option<u32>), Reason> {
        if !transport.opens() {
            return Err(Reason::DropNoConnection);
        }
        if !service.in_service {
            return Err(Reason::DropNoPolicy);
        }
        // By who sent it, that is looked for last.
        let to_client = match service.reverse {
            None => self.way_back(key)?,
            Some(_) if !is_host(key.src) || self.scene.is_ours(key.src, key.vlan) => {
                return Err(Reason::DropSource);
            }
            Some(_) => 0,
        };
        let pool = match service.source {
            Source::Own => None,
            Source::Pool(number) => Some(number),
            Source::Static => self.of_static(key)?,
        };
        let mut conn = Conn {
            to_client,
            unidirectional: service.unidirectional,
            service: Some((service.number, None)),
            ..Conn::new(*key)
        };
        if service.unidirectional
            && let Transport::Tcp { seq, .. } = transport
        {
            conn.expect = seq.wrapping_add(1);
        }
        if service.mode == Mode::Forward {
            let (way, vlan) = self.destination(key)?;
            if vlan == key.vlan {
                return Err(Reason::DropNoRoute);
            }
            conn.server_vlan = vlan;
            conn.to_server = self.scene.next(way, key.dst).ok_or(Reason::DropUnresolved)?;
            self.has_room(service, false)?;
            self.find_way_back(&mut conn, service, from)?;
            return Ok((conn, pool));
        }
        conn.sticky = service.choice.sticks(key.src, key.dst);
        // A data connection keeps the port that its server has named, and is never one too many.
        let control = (service.proto, service.port);
        let data = service.data == Some(key.proto) && (key.proto, key.dport) != control;
        self.has_room(service, data)?;
        let real = self.choose(key, service, made)?;
        conn.service = Some((service.number, Some(real.number)));
        conn.server_vlan = self.scene.hop(real.hop).vlan;
        conn.to_server = real.hop;
        if service.mode == Mode::Nat {
            let ported = real.port != 0 && !data && matches!(key.proto, 6 | 17);
            conn.server = (real.ip, if ported { real.port } else { key.dport });
        }
        self.find_way_back(&mut conn, service, from)?;
        Ok((conn, pool))
    }

    /// By which real a connection came in, and the hop that its answers go to.
    fn find_way_back(&self, conn: &mut Conn, service: &Service, from: Option<[u8; 6]>) -> Result<(), Reason> {
        let Some(reverse) = &service.reverse else { return Ok(()) };
        let key = conn.key;
        let own = self.sender(reverse, key.vlan, |real| real.ip == key.src);
        let via = own.or_else(|| match from {
            None => self.sender(reverse, key.vlan, |real| Some(real.number) == self.entered(conn)),
            Some(mac) => self.sender(reverse, key.vlan, |real| {
                let hop = self.scene.hop(real.hop);
                hop.resolved && hop.ip == real.ip && hop.mac == mac
            }),
        });
        conn.via = via.map(|real| real.number);
        conn.to_client = match via {
            Some(_) if matches!(self.scene.way(key.src), Some((Way::Connected(vlan), _)) if vlan != key.vlan) =>
            {
                return Err(Reason::DropSource);
            }
            Some(real) => real.hop,
            None => self.way_back(&key)?,
        };
        Ok(())
    }

    /// The first real of those that fits, on that VLAN.
    fn sender<'a>(&self, reverse: &'a Reverse, vlan: u16, fits: impl Fn(&Real) -> bool) -> Option<&'a Real> {
        reverse.senders.iter().find(|real| self.scene.hop(real.hop).vlan == vlan && fits(real))
    }

    /// Where a connection is entered for those of the other direction: as one of who answers it, to what that takes the opener for.
    pub(super) fn turned(&self, conn: &Conn) -> Option<(u32, IpAddr)> {
        let (number, _) = conn.service?;
        let reverse = self.scene.numbered(number).reverse.as_ref()?;
        Some((reverse.group, reverse.by.key(reverse.bits, conn.server.0, conn.source.0)?))
    }

    /// The real that is entered there.
    fn entered(&self, conn: &Conn) -> Option<u32> {
        let back = self.turned(conn)?;
        self.sticky.get(&back).or_else(|| self.sticky_half.get(&back)).copied()
    }

    /// Whether a virtual server and its owner may have one more connection.
    fn has_room(&self, service: &Service, must: bool) -> Result<(), Reason> {
        let full = |number, max| {
            let has = self.places.get(&number).copied().unwrap_or(0);
            !must && max != 0 && has >= i64::from(max)
        };
        if full(service.number, service.max) {
            return Err(Reason::DropVserverFull);
        }
        match service.owner {
            Some((number, max)) if full(number, max) => Err(Reason::DropOwnerFull),
            _ => Ok(()),
        }
    }

    /// By stickiness, hash, or in turn.
    fn choose(
        &mut self,
        key: &Key,
        service: &Service,
        made: &dyn Fn(&Key) -> Option<Made>,
    ) -> Result<Real, Reason> {
        let numbered = |number: u32| service.ring.iter().find(|real| real.number == number).copied();
        if let Some(real) = self.stuck(service, key.src, key.dst) {
            return Ok(real);
        }
        if service.ring.is_empty() {
            return Err(Reason::DropNoReal);
        }
        if service.choice == Choice::Hash {
            // Whichever it is, it must be one of the ring, and always the same.
            let real = made(key).and_then(|made| made.real).and_then(numbered).ok_or(Reason::DropInternal)?;
            let before = *self.hashed.entry((service.number, key.src)).or_insert(real.number);
            return if before == real.number { Ok(real) } else { Err(Reason::DropInternal) };
        }
        let turn = self.turns.entry(service.number).or_default();
        *turn += 1;
        let first = (*turn - 1) % service.ring.len();
        let Choice::Least(weights) = service.choice else { return Ok(service.ring[first]) };
        let loaded = |index: usize| {
            let load = self.loads.get(&service.ring[index].number).copied().unwrap_or(0).max(0) + 1;
            // Of fractions of small numbers no two differ by less than this tells.
            load * 1_000_000 / i64::from(weights[index])
        };
        let turns = (0..service.ring.len()).map(|step| (first + step) % service.ring.len());
        let least = turns.min_by_key(|&index| loaded(index)).expect("a real");
        Ok(service.ring[least])
    }

    /// Where a packet to no virtual server goes on: from the servers to the clients' side alone.
    fn way_on(&self, key: &Key) -> Result<(Way, u16), Reason> {
        let (way, egress) = self.destination(key)?;
        match (key.vlan, egress) {
            (3, 2) => Ok((way, egress)),
            (2, 3) => Err(Reason::DropDirect),
            _ => Err(Reason::DropNoRoute),
        }
    }

    /// To no virtual server.
    fn route(&self, key: &Key, way: Way, egress: u16) -> Result<(Conn, Option<u32>), Reason> {
        let to_server = self.scene.next(way, key.dst).ok_or(Reason::DropUnresolved)?;
        let to_client = self.way_back(key)?;
        let mut conn = Conn { server_vlan: egress, to_server, to_client, ..Conn::new(*key) };
        // A server's data connection, to a client whose FTP or RTSP connection it has.
        let active = self.scene.data_origin(key).filter(|(origin, source)| {
            let service = self.scene.numbered(origin.service);
            service.in_service && self.stuck(service, key.dst, source.0) == Some(origin.real)
        });
        if let Some((origin, source)) = active {
            conn.service = Some((origin.service, None));
            conn.source = source;
            return Ok((conn, None));
        }
        let pool = self.of_static(key)?;
        Ok((conn, pool))
    }

    /// The connection that a server's segment belongs to, which is not known here.
    fn rebuild(
        &self,
        key: &Key,
        transport: Transport,
        relayed: bool,
        (way, egress): (Way, u16),
    ) -> Result<Conn, Reason> {
        let none = Reason::DropNoConnection;
        let Transport::Tcp { flags, seq, .. } = transport else { return Err(none) };
        if flags & (RST | ACK) != ACK || relayed {
            return Err(none);
        }
        let origin = self.scene.origin((key.src, key.sport));
        let (virtual_ip, virtual_port) = origin.map_or((key.src, key.sport), |origin| origin.virtual_server);
        let of_client = Key {
            src: key.dst,
            dst: virtual_ip,
            sport: key.dport,
            dport: virtual_port,
            vlan: egress,
            proto: key.proto,
        };
        let service = self.scene.service(&of_client).ok_or(none)?;
        if !service.in_service || self.tables.stands(&of_client) {
            return Err(none);
        }
        let (real, to_server) = match origin {
            Some(origin) if service.number == origin.service => (Some(origin.real.number), origin.real.hop),
            // The server is reached under its own address.
            None if service.mode == Mode::Forward
                && service.source == Source::Own
                && self.scene.statics_of(key.src).is_none() =>
            {
                let (way, vlan) = self.scene.way(key.src).ok_or(none)?;
                if vlan != key.vlan {
                    return Err(none);
                }
                (None, self.scene.next(way, key.src).ok_or(Reason::DropUnresolved)?)
            }
            _ => return Err(none),
        };
        let to_client = self.scene.next(way, key.dst).ok_or(Reason::DropUnresolved)?;
        let synchronizes = flags & SYN != 0;
        let mut conn = Conn {
            server: (key.src, key.sport),
            server_vlan: key.vlan,
            service: Some((service.number, real)),
            to_server,
            to_client,
            sticky: service.choice.sticks(of_client.src, of_client.dst),
            state: State::SynAck,
            expect: seq.wrapping_add(u32::from(synchronizes)),
            window: if synchronizes { 1 } else { 1 << 24 },
            fin: [false, flags & FIN != 0],
            ..Conn::new(of_client)
        };
        if let Some(reverse) = &service.reverse {
            let own = self.sender(reverse, egress, |real| real.ip == of_client.src);
            let entered = || self.sender(reverse, egress, |real| Some(real.number) == self.entered(&conn));
            if let Some(real) = own.or_else(entered) {
                (conn.via, conn.to_client) = (Some(real.number), real.hop);
            }
        }
        Ok(conn)
    }

    /// The way to a destination that is none of the group's own addresses.
    fn destination(&self, key: &Key) -> Result<(Way, u16), Reason> {
        if self.scene.is_ours(key.dst, key.vlan) {
            return Err(Reason::DropNoVserver);
        }
        if !is_host(key.dst) {
            return Err(Reason::DropNoRoute);
        }
        let (way, vlan) = self.scene.way(key.dst).ok_or(Reason::DropNoRoute)?;
        if self.scene.is_ours(key.dst, vlan) { Err(Reason::DropNoVserver) } else { Ok((way, vlan)) }
    }

    /// The hop on the way back to a first packet's source.
    fn way_back(&self, key: &Key) -> Result<u32, Reason> {
        if !is_host(key.src) || self.scene.is_ours(key.src, key.vlan) {
            return Err(Reason::DropSource);
        }
        let (way, vlan) = self.scene.way(key.src).ok_or(Reason::DropNoRoute)?;
        if vlan != key.vlan {
            return Err(Reason::DropSource);
        }
        self.scene.next(way, key.src).ok_or(Reason::DropUnresolved)
    }

    fn of_static(&self, key: &Key) -> Result<Option<u32>, Reason> {
        match self.scene.statics_of(key.src) {
            None => Ok(None),
            Some(Static::Pool(number)) => Ok(Some(number)),
            Some(Static::Drop) => Err(Reason::DropStatic),
        }
    }
}
