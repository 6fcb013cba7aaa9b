//! Records and operations in octets, and a reader that names the frame it fails in.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytes::{Buf, BufMut, BytesMut};

use super::DecodeError;
use crate::model::StableId;
use crate::replication::delta::{Op, Record};
use crate::replication::record::{
    ConnGone, ConnKey, ConnRecord, ConnState, Handshake, StickyGroup, StickyKey, StickyRecord,
};

const CONNECTION: u8 = 1;
const CONNECTION_CLOSED: u8 = 2;
const STICKY: u8 = 3;
const STICKY_GONE: u8 = 4;
/// Added to a tag: the addresses are of IPv6.
const OF_V6: u8 = 4;
/// A connection whose way back is told: [`CONNECTION`], and the real. Of IPv6 the next number.
const CONNECTION_VIA: u8 = 9;

const GROUP_SHARED: u8 = 0;
const GROUP_PRIVATE: u8 = 1;

const STATE_ESTABLISHED: u8 = 1;
const STATE_CLOSING: u8 = 2;

/// The rest of a frame's body.
pub(super) struct Cursor<'a> {
    kind: u8,
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    /// `body` is kind and body of a frame and not empty.
    pub(super) const fn new(body: &'a [u8]) -> Self {
        match body {
            [kind, rest @ ..] => Self { kind: *kind, rest },
            [] => Self { kind: 0, rest: &[] },
        }
    }

    pub(super) const fn kind(&self) -> u8 {
        self.kind
    }

    pub(super) const fn end(&self) -> Result<(), DecodeError> {
        match self.rest.len() {
            0 => Ok(()),
            left => Err(DecodeError::Long { kind: self.kind, left }),
        }
    }

    pub(super) fn u8(&mut self) -> Result<u8, DecodeError> {
        self.rest.try_get_u8().map_err(|_| DecodeError::Short(self.kind))
    }

    pub(super) fn u16(&mut self) -> Result<u16, DecodeError> {
        self.rest.try_get_u16().map_err(|_| DecodeError::Short(self.kind))
    }

    pub(super) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.rest.try_get_u32().map_err(|_| DecodeError::Short(self.kind))
    }

    pub(super) fn u64(&mut self) -> Result<u64, DecodeError> {
        self.rest.try_get_u64().map_err(|_| DecodeError::Short(self.kind))
    }

    fn address(&mut self, v6: bool) -> Result<IpAddr, DecodeError> {
        if !v6 {
            return self.u32().map(|bits| Ipv4Addr::from_bits(bits).into());
        }
        let bits = self.rest.try_get_u128().map_err(|_| DecodeError::Short(self.kind))?;
        Ok(Ipv6Addr::from_bits(bits).into())
    }

    /// The next octet, a tag, as it stands.
    fn peek(&self) -> Result<u8, DecodeError> {
        self.rest.first().copied().ok_or(DecodeError::Short(self.kind))
    }

    /// A tag as of IPv4, and whether it was of IPv6.
    fn tag(&mut self) -> Result<(u8, bool), DecodeError> {
        let tag = self.u8()?;
        if tag == CONNECTION_VIA + 1 {
            return Ok((CONNECTION_VIA, true));
        }
        if tag >= CONNECTION_VIA {
            return Ok((tag, false));
        }
        Ok(if tag > OF_V6 { (tag - OF_V6, true) } else { (tag, false) })
    }
}

fn put_tag(out: &mut BytesMut, tag: u8, of: IpAddr) {
    out.put_u8(if of.is_ipv6() { tag + OF_V6 } else { tag });
}

fn put_connection_tag(out: &mut BytesMut, record: &ConnRecord) {
    if record.via == StableId::NONE {
        return put_tag(out, CONNECTION, record.key.client);
    }
    out.put_u8(CONNECTION_VIA + u8::from(record.key.client.is_ipv6()));
}

fn put_address(out: &mut BytesMut, address: IpAddr) {
    match address {
        IpAddr::V4(address) => out.put_u32(address.to_bits()),
        IpAddr::V6(address) => out.put_u128(address.to_bits()),
    }
}

fn put_conn_key(out: &mut BytesMut, key: &ConnKey) {
    let ConnKey { proto, client_vlan, client, client_port, virtual_address, virtual_port } = key;
    out.put_u8(*proto);
    out.put_u16(*client_vlan);
    put_address(out, *client);
    out.put_u16(*client_port);
    put_address(out, *virtual_address);
    out.put_u16(*virtual_port);
}

fn get_conn_key(body: &mut Cursor<'_>, v6: bool) -> Result<ConnKey, DecodeError> {
    Ok(ConnKey {
        proto: body.u8()?,
        client_vlan: body.u16()?,
        client: body.address(v6)?,
        client_port: body.u16()?,
        virtual_address: body.address(v6)?,
        virtual_port: body.u16()?,
    })
}

fn put_sticky_key(out: &mut BytesMut, key: &StickyKey) {
    let StickyKey { group, client } = key;
    let (kind, group) = match group {
        StickyGroup::Shared(group) => (GROUP_SHARED, u64::from(*group)),
        StickyGroup::Private(vserver) => (GROUP_PRIVATE, vserver.0),
    };
    out.put_u8(kind);
    out.put_u64(group);
    put_address(out, *client);
}

fn get_sticky_key(body: &mut Cursor<'_>, v6: bool) -> Result<StickyKey, DecodeError> {
    let (kind, value) = (body.u8()?, body.u64()?);
    let group = match kind {
        GROUP_SHARED => StickyGroup::Shared(
            u8::try_from(value).map_err(|_| DecodeError::Value { field: "sticky group", value })?,
        ),
        GROUP_PRIVATE => StickyGroup::Private(StableId(value)),
        kind => return Err(DecodeError::Value { field: "sticky group kind", value: u64::from(kind) }),
    };
    Ok(StickyKey { group, client: body.address(v6)? })
}

pub(super) fn put_record(out: &mut BytesMut, record: &Record) {
    match record {
        Record::Connection(record) => {
            let ConnRecord {
                key,
                real,
                real_port,
                source,
                source_port,
                server_vlan,
                vserver,
                real_id,
                via,
                state,
                generation,
                idle_s,
            } = record;
            put_connection_tag(out, record);
            put_conn_key(out, key);
            put_address(out, *real);
            out.put_u16(*real_port);
            put_address(out, *source);
            out.put_u16(*source_port);
            out.put_u16(*server_vlan);
            out.put_u64(vserver.0);
            out.put_u64(real_id.0);
            out.put_u8(match state {
                ConnState::Established => STATE_ESTABLISHED,
                ConnState::Closing => STATE_CLOSING,
            });
            out.put_u32(*generation);
            out.put_u32(*idle_s);
            if *via != StableId::NONE {
                out.put_u64(via.0);
            }
        }
        Record::Sticky(record) => {
            let StickyRecord { key, real_id, life_s, idle_s } = record;
            put_tag(out, STICKY, key.client);
            put_sticky_key(out, key);
            out.put_u64(real_id.0);
            out.put_u32(*life_s);
            out.put_u32(*idle_s);
        }
    }
}

pub(super) fn put_handshake(out: &mut BytesMut, handshake: &Handshake) {
    let Handshake { becomes, answered, expect } = handshake;
    put_record(out, &Record::Connection(*becomes));
    out.put_u8(u8::from(*answered));
    out.put_u32(*expect);
}

pub(super) fn get_handshake(body: &mut Cursor<'_>) -> Result<Handshake, DecodeError> {
    let tag = body.peek()?;
    let becomes = match body.tag()? {
        (CONNECTION, v6) => get_connection(body, v6)?,
        (CONNECTION_VIA, v6) => get_connection_via(body, v6)?,
        _ => return Err(DecodeError::Value { field: "handshake", value: u64::from(tag) }),
    };
    let answered = match body.u8()? {
        0 => false,
        1 => true,
        other => return Err(DecodeError::Value { field: "answered", value: u64::from(other) }),
    };
    Ok(Handshake { becomes, answered, expect: body.u32()? })
}

pub(super) fn put_op(out: &mut BytesMut, op: &Op) {
    match op {
        Op::Put(record) => put_record(out, record),
        Op::Closed(ConnGone { key, generation }) => {
            put_tag(out, CONNECTION_CLOSED, key.client);
            put_conn_key(out, key);
            out.put_u32(*generation);
        }
        Op::StickyGone(key) => {
            put_tag(out, STICKY_GONE, key.client);
            put_sticky_key(out, key);
        }
    }
}

pub(super) fn get_op(body: &mut Cursor<'_>) -> Result<Op, DecodeError> {
    let tag = body.peek()?;
    Ok(match body.tag()? {
        (CONNECTION, v6) => Op::Put(Record::Connection(get_connection(body, v6)?)),
        (CONNECTION_VIA, v6) => Op::Put(Record::Connection(get_connection_via(body, v6)?)),
        (CONNECTION_CLOSED, v6) => {
            Op::Closed(ConnGone { key: get_conn_key(body, v6)?, generation: body.u32()? })
        }
        (STICKY, v6) => Op::Put(Record::Sticky(get_sticky(body, v6)?)),
        (STICKY_GONE, v6) => Op::StickyGone(get_sticky_key(body, v6)?),
        _ => return Err(DecodeError::Value { field: "operation", value: u64::from(tag) }),
    })
}

/// A chunk holds only entries that stand.
pub(super) fn get_record(body: &mut Cursor<'_>) -> Result<Record, DecodeError> {
    let tag = body.peek()?;
    Ok(match body.tag()? {
        (CONNECTION, v6) => Record::Connection(get_connection(body, v6)?),
        (CONNECTION_VIA, v6) => Record::Connection(get_connection_via(body, v6)?),
        (STICKY, v6) => Record::Sticky(get_sticky(body, v6)?),
        _ => return Err(DecodeError::Value { field: "record", value: u64::from(tag) }),
    })
}

fn get_connection(body: &mut Cursor<'_>, v6: bool) -> Result<ConnRecord, DecodeError> {
    Ok(ConnRecord {
        key: get_conn_key(body, v6)?,
        real: body.address(v6)?,
        real_port: body.u16()?,
        source: body.address(v6)?,
        source_port: body.u16()?,
        server_vlan: body.u16()?,
        vserver: StableId(body.u64()?),
        real_id: StableId(body.u64()?),
        via: StableId::NONE,
        state: match body.u8()? {
            STATE_ESTABLISHED => ConnState::Established,
            STATE_CLOSING => ConnState::Closing,
            state => return Err(DecodeError::Value { field: "connection state", value: u64::from(state) }),
        },
        generation: body.u32()?,
        idle_s: body.u32()?,
    })
}

fn get_connection_via(body: &mut Cursor<'_>, v6: bool) -> Result<ConnRecord, DecodeError> {
    let record = get_connection(body, v6)?;
    Ok(ConnRecord { via: StableId(body.u64()?), ..record })
}

fn get_sticky(body: &mut Cursor<'_>, v6: bool) -> Result<StickyRecord, DecodeError> {
    Ok(StickyRecord {
        key: get_sticky_key(body, v6)?,
        real_id: StableId(body.u64()?),
        life_s: body.u32()?,
        idle_s: body.u32()?,
    })
}
