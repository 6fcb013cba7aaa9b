//! First packets: what connection one opens, if it may.

use csm_common::counter::Reason;

use super::frame::Transport;
use super::scene::{Choice, Mode, Net, Real, Service, Source, Static, Way, is_host};
use super::table::{Conn, Key};
use super::{Made, Model};

/// No connection was opened.
pub(super) struct Failed(pub(super) Reason);

impl From<Reason> for Failed {
    fn from(reason: Reason) -> Self {
        Self(reason)
    }
}

impl Model {
    /// The connection that a first packet opens.
    pub(super) fn open(
        &mut self,
        key: &Key,
        transport: Transport,
        made: &dyn Fn(&Key) -> Option<Made>,
    ) -> Result<u32, Failed> {
        let (conn, pool) = match self.scene.service(key.dst, key.proto, key.dport) {
            Some(index) => {
                let service = self.scene.services[index].clone();
                self.balance(key, transport, &service, made)?
            }
            None => self.route(key, transport)?,
        };
        let Some(number) = pool else {
            let id = self.tables.open(conn.clone())?;
            self.settle(&conn);
            return Ok(id);
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
        self.settle(&conn);
        Ok(self.tables.enter(conn))
    }

    /// The client's choice is noted.
    fn settle(&mut self, conn: &Conn) {
        if let (Some(client), Some((_, Some(real)))) = (conn.sticky, conn.service) {
            self.sticky_half.insert(client, real);
        }
    }

    /// To a virtual server.
    fn balance(
        &mut self,
        key: &Key,
        transport: Transport,
        service: &Service,
        made: &dyn Fn(&Key) -> Option<Made>,
    ) -> Result<(Conn, Option<u32>), Reason> {
        if !transport.opens() {
            return Err(Reason::DropNoConnection);
        }
        if !service.in_service {
            return Err(Reason::DropNoPolicy);
        }
        let to_client = self.way_back(key)?;
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
            return Ok((conn, pool));
        }
        if let Choice::Sticky { group, bits } = service.choice {
            conn.sticky = Some((group, Net::mask(key.src, bits)));
        }
        let real = self.choose(key, service, &conn, made)?;
        conn.service = Some((service.number, Some(real.number)));
        conn.server_vlan = 3;
        conn.to_server = real.hop;
        if service.mode == Mode::Nat {
            let ported = real.port != 0 && matches!(key.proto, 6 | 17);
            conn.server = (real.ip, if ported { real.port } else { key.dport });
        }
        Ok((conn, pool))
    }

    /// By stickiness, hash, or in turn.
    fn choose(
        &mut self,
        key: &Key,
        service: &Service,
        conn: &Conn,
        made: &dyn Fn(&Key) -> Option<Made>,
    ) -> Result<Real, Reason> {
        let numbered = |number: u32| service.ring.iter().find(|real| real.number == number).copied();
        let stuck = conn.sticky.and_then(|client| {
            let real = |of: Option<&u32>| of.copied().and_then(numbered);
            real(self.sticky.get(&client)).or_else(|| real(self.sticky_half.get(&client)))
        });
        if let Some(real) = stuck {
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
        Ok(service.ring[(*turn - 1) % service.ring.len()])
    }

    /// To no virtual server.
    fn route(&mut self, key: &Key, transport: Transport) -> Result<(Conn, Option<u32>), Reason> {
        let (way, egress) = self.destination(key)?;
        match (key.vlan, egress) {
            (3, 2) => {}
            (2, 3) => return Err(Reason::DropDirect),
            _ => return Err(Reason::DropNoRoute),
        }
        if !transport.opens() {
            return Err(Reason::DropNoConnection);
        }
        let to_server = self.scene.next(way, key.dst).ok_or(Reason::DropUnresolved)?;
        let to_client = self.way_back(key)?;
        let pool = self.of_static(key)?;
        Ok((Conn { server_vlan: egress, to_server, to_client, ..Conn::new(*key) }, pool))
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
