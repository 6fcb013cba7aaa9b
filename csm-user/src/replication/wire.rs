//! Frames of the replication stream. Pure; `docs/replication.md` describes every octet.
//!
//! ```text
//!  0               4       5
//! +---------------+-------+------------------+
//! | length, u32   | kind  | body             |   length counts kind and body; all numbers big-endian
//! +---------------+-------+------------------+
//! ```
//!
//! The node that connects is the sender of its own changes and gets acknowledgements back on the same stream.
//! [`Begin`](Frame::Begin), [`Chunk`](Frame::Chunk), [`End`](Frame::End) and [`Delta`](Frame::Delta) are numbered from
//! 1 without gaps, and each is answered by one [`Ack`](Frame::Ack) in order. Within one frame a key stands once.

use bytes::{Buf, BufMut, BytesMut};

use super::delta::{BUCKETS, BucketSet, Op, Record};
use super::digest::{Bucket, Digests};
use super::record::{ConnRecord, Handshake, Refusal};
use crate::model::StableId;
use codec::{Cursor, get_handshake, get_op, get_record, put_handshake, put_op, put_record};

mod codec;

/// First octets of a hello's body: `CSMR`.
pub const MAGIC: u32 = 0x4353_4d52;
/// The protocol versions this code speaks. From version 5 on what is not known of an extension, and of the hello of one who
/// speaks a newer version, is passed over.
pub const VERSIONS: (u16, u16) = (4, 7);
/// Kinds from here on are extensions: not numbered, not answered, sent only to one who speaks the version that has them.
pub const EXTENSIONS: u8 = 128;
/// The version that brings [`Frame::Handshakes`].
pub const HANDSHAKES_SINCE: u16 = 6;
/// The version that brings [`ConnRecord::via`].
pub const WAYS_SINCE: u16 = 7;
/// Largest value of the length field, octets.
pub const FRAME_MAX: usize = 64 * 1024;
/// Most operations in a delta, records in a chunk, and refusals in an acknowledgement.
pub const ITEMS_MAX: usize = 512;

/// Who speaks, and to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Lowest and highest version spoken.
    pub versions: (u16, u16),
    /// FT group.
    pub group: u8,
    /// Boot nonce of the node that says this.
    pub from: u64,
    /// Boot nonce of the node it means to talk to.
    pub to: u64,
}

/// What the receiver is to make of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The sender is active: the receiver becomes equal to it in the transfer's buckets. Snapshot and repair.
    Mirror,
    /// The sender has ceased to be active: the receiver keeps what it has and takes what it has not.
    Merge,
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// First in each direction.
    Hello(Hello),
    /// A transfer begins: of all buckets, or some.
    Begin {
        /// Number.
        seq: u64,
        /// Which transfer.
        epoch: u64,
        /// What the receiver is to make of it.
        mode: Mode,
        /// What it speaks for.
        buckets: BucketSet,
    },
    /// Entries of a transfer.
    Chunk {
        /// Number.
        seq: u64,
        /// Which transfer.
        epoch: u64,
        /// Entries.
        records: Vec<Record>,
    },
    /// All is said: if the transfer mirrors, what the receiver holds in its buckets and was not named goes.
    End {
        /// Number.
        seq: u64,
        /// Which transfer.
        epoch: u64,
        /// Entries in all chunks.
        count: u64,
    },
    /// Changes.
    Delta {
        /// Number.
        seq: u64,
        /// Changes, no key twice.
        ops: Vec<Op>,
    },
    /// Frame `seq` was carried out: what it puts is usable here, except for `refused`.
    Ack {
        /// Number of the frame.
        seq: u64,
        /// Position within the frame, and why.
        refused: Vec<(u16, Refusal)>,
    },
    /// Asks for the receiver's digest, to be taken after all frames before this one were carried out.
    DigestRequest {
        /// Returned in the answer.
        round: u64,
    },
    /// The receiver's digest.
    Digest {
        /// Of the request.
        round: u64,
        /// By bucket.
        buckets: Digests,
    },
    /// From the sender, regularly.
    Heartbeat {
        /// Last transfer of everything that was acknowledged; 0: none.
        epoch: u64,
        /// By what the sender knows, the receiver's replica is complete.
        caught_up: bool,
        /// Age of the oldest change that is not acknowledged, milliseconds.
        lag_ms: u32,
    },
    /// From the receiver, regularly.
    Alive,
    /// Handshakes under way: an extension of version 6.
    Handshakes {
        /// At most [`ITEMS_MAX`].
        handshakes: Vec<Handshake>,
    },
    /// Something that a later version adds.
    Extension {
        /// Its kind, not below [`EXTENSIONS`], and none of those above.
        kind: u8,
    },
}

impl Frame {
    /// As it is said to one who speaks `version`: before [`WAYS_SINCE`] all ways back went by the routes.
    #[must_use]
    pub fn said_in(mut self, version: u16) -> Self {
        if version < WAYS_SINCE {
            let forget = |record: &mut ConnRecord| record.via = StableId::NONE;
            let of_record = |record: &mut Record| match record {
                Record::Connection(record) => forget(record),
                Record::Sticky(_) => {}
            };
            match &mut self {
                Self::Chunk { records, .. } => records.iter_mut().for_each(of_record),
                Self::Delta { ops, .. } => ops.iter_mut().for_each(|op| {
                    if let Op::Put(record) = op {
                        of_record(record);
                    }
                }),
                Self::Handshakes { handshakes } => {
                    handshakes.iter_mut().for_each(|handshake| forget(&mut handshake.becomes));
                }
                _ => {}
            }
        }
        self
    }
}

/// What is wrong with octets that came in. The stream is beyond repair and must be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The length field is 0 or above [`FRAME_MAX`].
    #[error("frame length {0} is outside 1-{FRAME_MAX}")]
    Length(u32),
    /// No such kind of frame.
    #[error("unknown frame kind {0}")]
    Kind(u8),
    /// The body ends within a field.
    #[error("frame kind {0} is cut short")]
    Short(u8),
    /// Octets are left after the last field.
    #[error("frame kind {kind} has {left} octets too many")]
    Long {
        /// Kind of the frame.
        kind: u8,
        /// Octets left.
        left: usize,
    },
    /// A count above [`ITEMS_MAX`].
    #[error("{0} items in one frame")]
    Items(u16),
    /// A field holds what no version means.
    #[error("{field} cannot be {value}")]
    Value {
        /// Which field.
        field: &'static str,
        /// What it held.
        value: u64,
    },
}

const HELLO: u8 = 1;
const BEGIN: u8 = 2;
const CHUNK: u8 = 3;
const END: u8 = 4;
const DELTA: u8 = 5;
const ACK: u8 = 6;
const DIGEST_REQUEST: u8 = 7;
const DIGEST: u8 = 8;
const HEARTBEAT: u8 = 9;
const ALIVE: u8 = 10;
const HANDSHAKES: u8 = EXTENSIONS;

const MODE_MIRROR: u8 = 0;
const MODE_MERGE: u8 = 1;

/// Appends `frame` to `out`.
///
/// # Panics
/// If the frame holds more than [`ITEMS_MAX`] items: the machines never make one.
pub fn encode(frame: &Frame, out: &mut BytesMut) {
    let start = out.len();
    out.put_u32(0);
    match frame {
        Frame::Hello(Hello { versions, group, from, to }) => {
            out.put_u8(HELLO);
            out.put_u32(MAGIC);
            out.put_u16(versions.0);
            out.put_u16(versions.1);
            out.put_u8(*group);
            out.put_u64(*from);
            out.put_u64(*to);
        }
        Frame::Begin { seq, epoch, mode, buckets } => {
            out.put_u8(BEGIN);
            out.put_u64(*seq);
            out.put_u64(*epoch);
            out.put_u8(match mode {
                Mode::Mirror => MODE_MIRROR,
                Mode::Merge => MODE_MERGE,
            });
            buckets.words().into_iter().for_each(|word| out.put_u64(word));
        }
        Frame::Chunk { seq, epoch, records } => {
            out.put_u8(CHUNK);
            out.put_u64(*seq);
            out.put_u64(*epoch);
            put_items(out, records, put_record);
        }
        Frame::End { seq, epoch, count } => {
            out.put_u8(END);
            out.put_u64(*seq);
            out.put_u64(*epoch);
            out.put_u64(*count);
        }
        Frame::Delta { seq, ops } => {
            out.put_u8(DELTA);
            out.put_u64(*seq);
            put_items(out, ops, put_op);
        }
        Frame::Ack { seq, refused } => {
            out.put_u8(ACK);
            out.put_u64(*seq);
            put_items(out, refused, |out, (position, refusal)| {
                out.put_u16(*position);
                out.put_u8(refusal_number(*refusal));
            });
        }
        Frame::DigestRequest { round } => {
            out.put_u8(DIGEST_REQUEST);
            out.put_u64(*round);
        }
        Frame::Digest { round, buckets } => {
            out.put_u8(DIGEST);
            out.put_u64(*round);
            for Bucket { connections, sticky, sum } in buckets.iter() {
                out.put_u32(*connections);
                out.put_u32(*sticky);
                out.put_u64(*sum);
            }
        }
        Frame::Heartbeat { epoch, caught_up, lag_ms } => {
            out.put_u8(HEARTBEAT);
            out.put_u64(*epoch);
            out.put_u8(u8::from(*caught_up));
            out.put_u32(*lag_ms);
        }
        Frame::Alive => out.put_u8(ALIVE),
        Frame::Handshakes { handshakes } => {
            out.put_u8(HANDSHAKES);
            put_items(out, handshakes, put_handshake);
        }
        Frame::Extension { kind } => out.put_u8(*kind),
    }
    let length = u32::try_from(out.len() - start - 4).expect("ITEMS_MAX keeps a frame below FRAME_MAX");
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

fn put_items<T>(out: &mut BytesMut, items: &[T], put: impl Fn(&mut BytesMut, &T)) {
    assert!(items.len() <= ITEMS_MAX, "{} items in one frame", items.len());
    out.put_u16(u16::try_from(items.len()).unwrap_or(u16::MAX));
    items.iter().for_each(|item| put(out, item));
}

/// Takes the next whole frame from `input`; `None` if it has not come in entirely.
///
/// # Errors
/// See [`DecodeError`]; `input` is then in no useful state.
pub fn decode(input: &mut BytesMut) -> Result<Option<Frame>, DecodeError> {
    let Some(prefix) = input.first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_be_bytes(*prefix);
    let octets = length as usize;
    if octets == 0 || octets > FRAME_MAX {
        return Err(DecodeError::Length(length));
    }
    if input.len() < 4 + octets {
        return Ok(None);
    }
    input.advance(4);
    let body = input.split_to(octets);
    let mut body = Cursor::new(&body);
    let frame = decode_body(&mut body)?;
    match frame {
        Frame::Extension { .. } => {}
        Frame::Hello(hello) if hello.versions.1 > VERSIONS.1 => {}
        _ => body.end()?,
    }
    Ok(Some(frame))
}

fn decode_body(body: &mut Cursor<'_>) -> Result<Frame, DecodeError> {
    Ok(match body.kind() {
        HELLO => {
            let magic = body.u32()?;
            if magic != MAGIC {
                return Err(DecodeError::Value { field: "magic", value: u64::from(magic) });
            }
            let versions = (body.u16()?, body.u16()?);
            Frame::Hello(Hello { versions, group: body.u8()?, from: body.u64()?, to: body.u64()? })
        }
        BEGIN => {
            let (seq, epoch) = (body.u64()?, body.u64()?);
            let mode = match body.u8()? {
                MODE_MIRROR => Mode::Mirror,
                MODE_MERGE => Mode::Merge,
                other => return Err(DecodeError::Value { field: "mode", value: u64::from(other) }),
            };
            let mut words = [0; BUCKETS / 64];
            for word in &mut words {
                *word = body.u64()?;
            }
            Frame::Begin { seq, epoch, mode, buckets: BucketSet::from_words(words) }
        }
        CHUNK => Frame::Chunk { seq: body.u64()?, epoch: body.u64()?, records: items(body, get_record)? },
        END => Frame::End { seq: body.u64()?, epoch: body.u64()?, count: body.u64()? },
        DELTA => Frame::Delta { seq: body.u64()?, ops: items(body, get_op)? },
        ACK => Frame::Ack { seq: body.u64()?, refused: items(body, get_refused)? },
        DIGEST_REQUEST => Frame::DigestRequest { round: body.u64()? },
        DIGEST => {
            let round = body.u64()?;
            let mut buckets = super::digest::empty();
            for bucket in buckets.iter_mut() {
                *bucket = Bucket { connections: body.u32()?, sticky: body.u32()?, sum: body.u64()? };
            }
            Frame::Digest { round, buckets }
        }
        HEARTBEAT => {
            let epoch = body.u64()?;
            let caught_up = match body.u8()? {
                0 => false,
                1 => true,
                other => return Err(DecodeError::Value { field: "caught up", value: u64::from(other) }),
            };
            Frame::Heartbeat { epoch, caught_up, lag_ms: body.u32()? }
        }
        ALIVE => Frame::Alive,
        HANDSHAKES => Frame::Handshakes { handshakes: items(body, get_handshake)? },
        kind @ EXTENSIONS.. => Frame::Extension { kind },
        kind => return Err(DecodeError::Kind(kind)),
    })
}

fn items<T>(
    body: &mut Cursor<'_>,
    get: impl Fn(&mut Cursor<'_>) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let count = body.u16()?;
    if usize::from(count) > ITEMS_MAX {
        return Err(DecodeError::Items(count));
    }
    (0..count).map(|_| get(body)).collect()
}

const fn refusal_number(refusal: Refusal) -> u8 {
    refusal as u8 + 1
}

fn get_refused(body: &mut Cursor<'_>) -> Result<(u16, Refusal), DecodeError> {
    let (position, number) = (body.u16()?, body.u8()?);
    let refusal = usize::from(number).checked_sub(1).and_then(|index| Refusal::ALL.get(index));
    let refusal = refusal.ok_or(DecodeError::Value { field: "refusal", value: u64::from(number) })?;
    Ok((position, *refusal))
}

#[cfg(test)]
mod tests;
