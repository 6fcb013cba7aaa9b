//! The numbered messages of the long-lived connections.
//!
//! ```text
//!  0        4            12           20           28
//! +--------+------------+------------+------------+---------------------+
//! | length | connection | number     | ack        | payload ...         |
//! +--------+------------+------------+------------+---------------------+
//! ```
//! All integers big-endian; `length` counts the bytes after itself. Numbers start at 1 and rise by one; `ack` is the last
//! number received from the other side, or [`CORRUPT`]. The payload's length and bytes follow from (connection,
//! direction, number), so that a receiver knows every byte in advance.

/// Sent as `ack` by the end that received something other than what it expected.
pub(crate) const CORRUPT: u64 = u64::MAX;
/// Bytes before the payload, the length field included.
pub(crate) const HEADER: usize = 28;
/// Longest payload.
const LONGEST: u64 = 1_200;

/// Who sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    ToServer,
    ToClient,
}

/// What a message says besides its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) connection: u64,
    pub(crate) number: u64,
    pub(crate) ack: u64,
}

impl Message {
    /// The bytes on the wire.
    pub(crate) fn encode(&self, direction: Direction) -> Vec<u8> {
        let payload = Payload::new(self.connection, direction, self.number);
        let mut bytes = Vec::with_capacity(HEADER + payload.left);
        let length = u32::try_from(HEADER - 4 + payload.left).unwrap_or(u32::MAX);
        bytes.extend(length.to_be_bytes());
        bytes.extend(self.connection.to_be_bytes());
        bytes.extend(self.number.to_be_bytes());
        bytes.extend(self.ack.to_be_bytes());
        bytes.extend(payload);
        bytes
    }
}

/// The payload as a sequence of bytes (xorshift64*, Vigna 2016).
struct Payload {
    state: u64,
    word: [u8; 8],
    at: usize,
    left: usize,
}

impl Payload {
    fn new(connection: u64, direction: Direction, number: u64) -> Self {
        let side =
            if direction == Direction::ToServer { 0x9e37_79b9_7f4a_7c15 } else { 0xd1b5_4a32_d192_ed03 };
        let seed = (connection ^ number.rotate_left(32) ^ side).wrapping_mul(0x2545_f491_4f6c_dd1d) | 1;
        let mut payload = Self { state: seed, word: [0; 8], at: 8, left: 0 };
        payload.left = usize::try_from(payload.next_word() % LONGEST).unwrap_or(0);
        payload
    }

    fn next_word(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

impl Iterator for Payload {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        self.left = self.left.checked_sub(1)?;
        if self.at == 8 {
            self.word = self.next_word().to_be_bytes();
            self.at = 0;
        }
        self.at += 1;
        Some(self.word[self.at - 1])
    }
}

/// Reassembles a byte stream into messages and checks each byte.
#[derive(Debug)]
pub(crate) struct Checker {
    direction: Direction,
    buffer: Vec<u8>,
    /// Set by the first message; every later one must agree.
    connection: Option<u64>,
    /// Number of the last message that was right.
    pub(crate) last: u64,
}

/// The stream is not what the other end sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Corruption(pub(crate) String);

impl Checker {
    /// For messages going `direction`; `connection` where it is known in advance.
    pub(crate) fn new(direction: Direction, connection: Option<u64>) -> Self {
        Self { direction, buffer: Vec::new(), connection, last: 0 }
    }

    /// The connection's name, once known.
    pub(crate) fn connection(&self) -> Option<u64> {
        self.connection
    }

    /// Takes received bytes.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next complete message, `None` when more bytes are needed.
    pub(crate) fn take(&mut self) -> Result<Option<Message>, Corruption> {
        let Some(length) = self.buffer.first_chunk::<4>() else { return Ok(None) };
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        let longest = HEADER + usize::try_from(LONGEST).unwrap_or(0);
        if length < HEADER - 4 || length > longest {
            return Err(Corruption(format!("a length of {length} after message {}", self.last)));
        }
        let Some(bytes) = self.buffer.get(..4 + length) else { return Ok(None) };
        let field = |at: usize| {
            bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |word| u64::from_be_bytes(*word))
        };
        let message = Message { connection: field(4), number: field(12), ack: field(20) };
        if message.number != self.last + 1 {
            return Err(Corruption(format!("message {} after {}", message.number, self.last)));
        }
        if *self.connection.get_or_insert(message.connection) != message.connection {
            return Err(Corruption(format!("a message of connection {:#x}", message.connection)));
        }
        if bytes != message.encode(self.direction) {
            return Err(Corruption(format!("message {} has wrong bytes", message.number)));
        }
        self.buffer.drain(..4 + length);
        self.last = message.number;
        Ok(Some(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stream(count: u64) -> (Vec<Message>, Vec<u8>) {
        let messages: Vec<Message> =
            (1..=count).map(|number| Message { connection: 7, number, ack: number / 2 }).collect();
        let bytes = messages.iter().flat_map(|message| message.encode(Direction::ToServer)).collect();
        (messages, bytes)
    }

    proptest! {
        #[test]
        fn messages_survive_any_segmentation(cuts in prop::collection::vec(1usize..2_000, 1..20)) {
            let (sent, bytes) = stream(20);
            let mut checker = Checker::new(Direction::ToServer, None);
            let mut received = Vec::new();
            let mut rest = bytes.as_slice();
            let mut sizes = cuts.iter().cycle();
            while !rest.is_empty() {
                let (segment, after) = rest.split_at(rest.len().min(*sizes.next().unwrap_or(&1)));
                checker.feed(segment);
                rest = after;
                while let Some(message) = checker.take().map_err(|wrong| TestCaseError::fail(wrong.0))? {
                    received.push(message);
                }
            }
            prop_assert_eq!(received, sent);
        }

        #[test]
        fn any_changed_byte_is_noticed(at in 0usize..5_000, change in 1u8..) {
            let (sent, mut bytes) = stream(20);
            let at = at % bytes.len();
            bytes[at] ^= change;
            let mut checker = Checker::new(Direction::ToServer, Some(7));
            checker.feed(&bytes);
            // The ack is free to say anything: it is the only field that the receiver cannot know.
            let mut received = Vec::new();
            while let Ok(Some(message)) = checker.take() {
                received.push(message);
            }
            prop_assert_ne!(received, sent);
        }
    }

    #[test]
    fn a_repeated_or_missing_message_is_noticed() {
        let (messages, _) = stream(3);
        for order in [[0, 0], [0, 2]] {
            let mut checker = Checker::new(Direction::ToServer, None);
            for index in order {
                checker.feed(&messages[index].encode(Direction::ToServer));
            }
            assert!(matches!(checker.take(), Ok(Some(_))));
            assert!(checker.take().is_err());
        }
    }
}
