//! Pieces of a command's grammar, and what each takes; how words are matched with them is in [`matcher`].

mod matcher;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv6Net};

use super::noun::Noun;
use super::service;
use super::token::Span;
use crate::model::{CHANNELS_MAX, KEY_MAX, Name, Secret, VlanSet, channel_name, host_mac, written_mac};

pub use matcher::fit;

/// Help of a keyword that is taken because a guide misprints it, and not offered.
pub const MISPRINT: &str = "The same, as the guide misprints it";

/// What a slot takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Decimal, both ends included.
    Number(u64, u64),
    /// Unicast IPv4 address.
    Host,
    /// IPv4 address of a network.
    Network,
    /// Contiguous IPv4 mask.
    Mask,
    /// Contiguous IPv4 wildcard: a mask turned around.
    Wildcard,
    /// Unicast address of either family.
    AnyHost,
    /// Unicast IPv6 address.
    Host6,
    /// Unicast IPv6 address of a host with the prefix length of its network.
    Interface6,
    /// IPv6 address with or without a prefix length.
    Prefix6,
    /// Name of anything else: 1–15 characters.
    Name,
    /// Name of a farm, probe, virtual server, …: the same.
    Named(Noun),
    /// Name of a Linux interface: 1–15 bytes.
    Interface,
    /// Slot and port that stand apart from the kind of interface: `3/6`.
    Unit,
    /// Text of an HSRP group: 1–8 characters, case counts.
    Text8,
    /// Text of a probe: 1–255 characters, case counts.
    Text255,
    /// All words to the end of the line, or to one that begins with `!`, with one blank between them: 1–255 characters, case counts.
    /// Last in its command.
    Line,
    /// Path of a request: begins with a slash, 1–255 characters.
    Path,
    /// Name of a field of a request's head: letters, digits, `-` and `_`.
    Field,
    /// Name of a host: labels of letters, digits, `-` and `_`.
    Domain,
    /// Port: number from 0 or service name.
    Port,
    /// VLANs: numbers and ranges, `2,3-5`.
    Vlans,
    /// MAC address of a host.
    Mac,
    /// A key as it is.
    Key,
    /// A key as IOS writes it after a `7`.
    ObscuredKey,
}

/// A piece of grammar.
#[derive(Clone, Copy, Debug)]
pub enum Piece {
    /// A keyword, and its help.
    Word(&'static str, &'static str),
    /// A value: its name (upper case), what it takes, its help.
    Slot(&'static str, Kind, &'static str),
    /// May be left out.
    Optional(&'static [Piece]),
    /// One of these.
    Either(&'static [&'static [Piece]]),
    /// Anything to the end of the line.
    Rest,
}

/// What a word of the file was taken for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// The keyword, in full.
    Word(&'static str),
    /// A number or port.
    Number(u64),
    /// An address or mask.
    Address(IpAddr),
    /// An IPv6 address and its prefix length, or the whole length if it had none.
    Net(IpNet),
    /// A name.
    Name(Name),
    /// An interface's name.
    Text(String),
    /// A set of VLANs.
    Vlans(VlanSet),
    /// A key.
    Key(Secret),
}

/// A matched piece.
#[derive(Clone, Debug)]
pub struct Arg {
    /// Name of the slot; of a keyword, itself.
    pub slot: &'static str,
    /// What was given.
    pub value: Value,
    /// Where.
    pub span: Span,
}

/// Why words do not fit a grammar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Index of the word that does not fit; the number of words: one is missing.
    pub at: usize,
    /// In which way.
    pub kind: FaultKind,
}

/// In which way words do not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// One of these would have fitted.
    Expected(Vec<String>),
    /// The right kind of word, but a value that is not allowed.
    Value(String),
    /// An abbreviation of each of these.
    Ambiguous(Vec<&'static str>),
}

impl Piece {
    /// Whether `word` could begin this piece.
    fn starts(&self, word: &str) -> bool {
        match self {
            Self::Word(keyword, _) => abbreviates(word, keyword),
            Self::Slot(_, kind, _) => kind.looks_like(word),
            Self::Optional(pieces) => pieces.first().is_some_and(|piece| piece.starts(word)),
            Self::Either(choices) => choices.iter().filter_map(|c| c.first()).any(|piece| piece.starts(word)),
            Self::Rest => true,
        }
    }

    /// What could stand first, for a message.
    fn first(&self, expected: &mut Vec<String>) {
        match self {
            Self::Word(keyword, _) => expected.push(format!("`{keyword}`")),
            Self::Slot(slot, kind, _) => expected.push(kind.describe(slot)),
            Self::Optional(pieces) => pieces.iter().take(1).for_each(|piece| piece.first(expected)),
            Self::Either(choices) => {
                choices.iter().filter_map(|choice| choice.first()).for_each(|piece| piece.first(expected));
            }
            Self::Rest => {}
        }
    }
}

/// The syntax, as a reference document prints it.
impl fmt::Display for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(keyword, _) => f.write_str(keyword),
            Self::Slot(name, Kind::Number(min, max), _) => write!(f, "{name}<{min}-{max}>"),
            Self::Slot(name, Kind::Host6, _) => write!(f, "{name}-V6"),
            Self::Slot(name, Kind::Interface6, _) => write!(f, "{name}/LENGTH"),
            Self::Slot(name, Kind::Prefix6, _) => write!(f, "{name}[/LENGTH]"),
            Self::Slot(name, ..) => f.write_str(name),
            Self::Optional(pieces) => write!(f, "[{}]", Syntax(pieces)),
            Self::Either(choices) => {
                f.write_str("{")?;
                for (index, choice) in choices.iter().enumerate() {
                    let bar = if index == 0 { "" } else { " | " };
                    write!(f, "{bar}{}", Syntax(choice))?;
                }
                f.write_str("}")
            }
            Self::Rest => f.write_str("..."),
        }
    }
}

/// A whole grammar, for printing.
#[derive(Clone, Copy, Debug)]
pub struct Syntax<'a>(pub &'a [Piece]);

impl fmt::Display for Syntax<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, piece) in self.0.iter().enumerate() {
            let blank = if index == 0 { "" } else { " " };
            write!(f, "{blank}{piece}")?;
        }
        Ok(())
    }
}

impl Kind {
    /// What is expected in `slot`, for a message.
    fn describe(self, slot: &str) -> String {
        match self {
            Self::Number(min, max) => format!("{} {min}-{max}", slot.to_ascii_lowercase()),
            Self::Host => "an address".to_owned(),
            Self::Network => "the address of a network".to_owned(),
            Self::Mask => "a mask".to_owned(),
            Self::Wildcard => "a wildcard".to_owned(),
            Self::AnyHost => "an IPv4 or IPv6 address".to_owned(),
            Self::Host6 => "an IPv6 address".to_owned(),
            Self::Interface6 | Self::Prefix6 => "an IPv6 address with a prefix length".to_owned(),
            Self::Name | Self::Named(_) => "a name".to_owned(),
            Self::Interface => "the name of an interface".to_owned(),
            Self::Unit => "slot and port".to_owned(),
            Self::Text8 | Self::Text255 | Self::Line => "a text".to_owned(),
            Self::Path => "a path".to_owned(),
            Self::Field => "the name of a field".to_owned(),
            Self::Domain => "the name of a host".to_owned(),
            Self::Port => "a port number or service name".to_owned(),
            Self::Vlans => "a list of VLANs".to_owned(),
            Self::Mac => "a MAC address".to_owned(),
            Self::Key => "a key".to_owned(),
            Self::ObscuredKey => "a key of type 7".to_owned(),
        }
    }

    /// What a text that a probe sends has to be.
    const fn rule(self) -> &'static str {
        match self {
            Self::Path => {
                "a path: it begins with / and has 1-255 printable characters that may stand in a URL"
            }
            Self::Field => "the name of a field: 1-255 letters, digits, `-` and `_`",
            Self::Domain => {
                "the name of a host: labels of 1-63 letters, digits, `-` and `_`, with dots between them"
            }
            _ => "a text of 1-255 printable ASCII characters",
        }
    }

    /// Whether `word` is meant as one, right or wrong.
    pub(super) fn looks_like(self, word: &str) -> bool {
        let digit = word.starts_with(|c: char| c.is_ascii_digit());
        match self {
            Self::Number(..) => digit && !word.contains(['.', ':']),
            Self::Host | Self::Network | Self::Mask | Self::Wildcard => {
                digit && word.contains('.') && !word.contains(':')
            }
            Self::AnyHost => (digit && word.contains('.')) || word.contains(':'),
            Self::Host6 | Self::Interface6 | Self::Prefix6 => word.contains(':'),
            Self::Port => (digit && !word.contains(':')) || service::port(word).is_some(),
            Self::Vlans => digit,
            Self::Unit => digit && (word.contains('/') || word.parse::<u16>().is_ok()),
            Self::Name | Self::Named(_) | Self::Interface | Self::Text8 => true,
            Self::Key | Self::ObscuredKey => true,
            Self::Text255 | Self::Line | Self::Path | Self::Field | Self::Domain | Self::Mac => true,
        }
    }

    /// The value of `word`, or what is wrong with it.
    fn read(self, slot: &str, word: &str) -> Result<Value, String> {
        let address = || word.parse::<Ipv4Addr>().map_err(|_| format!("{word} is not an IPv4 address"));
        match self {
            Self::Number(min, max) => number(slot, word, min, max),
            Self::Network => address().map(|address| Value::Address(address.into())),
            Self::Host => host(address()?.into()).map(Value::Address),
            Self::AnyHost if !word.contains(':') => host(address()?.into()).map(Value::Address),
            Self::AnyHost | Self::Host6 => host(address6(word)?.into()).map(Value::Address),
            Self::Prefix6 => prefix6(word).map(|net| Value::Net(net.into())),
            Self::Interface6 if !word.contains('/') => {
                Err(format!("{word} lacks its prefix length: write {word}/64, say"))
            }
            Self::Interface6 => {
                let net = prefix6(word)?;
                host(net.addr().into())?;
                Ok(Value::Net(net.into()))
            }
            Self::Mask => match address()? {
                mask if ipnet::ipv4_mask_to_prefix(mask).is_ok() => Ok(Value::Address(mask.into())),
                mask => Err(format!("{mask} is not a mask: its ones must be to the left of its zeros")),
            },
            Self::Wildcard => match address()? {
                wildcard if wildcard.to_bits() & wildcard.to_bits().wrapping_add(1) == 0 => {
                    Ok(Value::Address(wildcard.into()))
                }
                other => Err(format!("{other} is no network's wildcard: write a line for each network")),
            },
            Self::Port => match service::port(word) {
                Some(port) => Ok(Value::Number(u64::from(port))),
                None => number(slot, word, 0, 65535),
            },
            Self::Name | Self::Named(_) => Name::new(word).map(Value::Name).ok_or_else(|| {
                format!("`{word}` is not a name: 1-{} printable ASCII characters", crate::model::NAME_MAX)
            }),
            Self::Text8 => {
                match (1..=8).contains(&word.len()) && word.bytes().all(|b| b.is_ascii_graphic()) {
                    true => Ok(Value::Text(word.to_owned())),
                    false => Err(format!("`{word}` is not a text of 1-8 printable ASCII characters")),
                }
            }
            Self::Line => match (1..=255).contains(&word.len())
                && word.bytes().all(|b| b.is_ascii_graphic() || b == b' ')
            {
                true => Ok(Value::Text(word.to_owned())),
                false => Err("this is not a text of 1-255 printable ASCII characters".to_owned()),
            },
            Self::Text255 | Self::Path | Self::Field | Self::Domain => match asked(self, word) {
                true => Ok(Value::Text(word.to_owned())),
                false => Err(format!("`{word}` is not {}", self.rule())),
            },
            Self::Mac => host_mac(word)
                .map(|mac| Value::Text(written_mac(mac)))
                .ok_or_else(|| format!("`{word}` is not a host's MAC address, such as 0002.fcbe.2e01")),
            Self::Unit => Ok(Value::Text(word.to_owned())),
            Self::Vlans => VlanSet::parse(word)
                .map(Value::Vlans)
                .ok_or_else(|| format!("`{word}` is not a list of VLANs 1-4094, such as `2,3-5`")),
            // What is wrong is not repeated: it may be most of a key.
            Self::Key if Secret::is_key(word) => Ok(Value::Key(Secret::new(word))),
            Self::Key => Err(format!("a key has 1-{KEY_MAX} printable ASCII characters")),
            Self::ObscuredKey => Secret::from_obscured(word)
                .map(Value::Key)
                .ok_or_else(|| "this is no key of type 7".to_owned()),
            Self::Interface => match interface_name(word) {
                Some(name) => Ok(Value::Text(name)),
                None => Err(format!("`{word}` is not the name of a Linux interface")),
            },
        }
    }
}

/// Whether `word` is what a probe may ask for, as `kind`.
fn asked(kind: Kind, word: &str) -> bool {
    let is_word = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    let is_text = (1..=255).contains(&word.len()) && word.bytes().all(|b| b.is_ascii_graphic());
    match kind {
        Kind::Path => {
            is_text
                && word.starts_with('/')
                && !word.contains(['"', '#', '<', '>', '\\', '^', '`', '{', '|', '}'])
        }
        Kind::Field => is_text && is_word(word),
        Kind::Domain => {
            word.len() <= 253
                && word.split('.').all(|label| (1..=63).contains(&label.len()) && is_word(label))
        }
        _ => is_text,
    }
}

fn number(slot: &str, word: &str, min: u64, max: u64) -> Result<Value, String> {
    let slot = slot.to_ascii_lowercase();
    match word.parse::<u64>() {
        Ok(value) if (min..=max).contains(&value) => Ok(Value::Number(value)),
        _ => Err(format!("{slot} is {min}-{max}, not {word}")),
    }
}

fn address6(word: &str) -> Result<Ipv6Addr, String> {
    word.parse().map_err(|_| format!("{word} is not an IPv6 address"))
}

/// `ADDRESS` or `ADDRESS/LENGTH`.
fn prefix6(word: &str) -> Result<Ipv6Net, String> {
    let Some((address, length)) = word.split_once('/') else { return address6(word).map(Ipv6Net::from) };
    let address = address6(address)?;
    let length = length.parse().ok().and_then(|length| Ipv6Net::new(address, length).ok());
    length.ok_or_else(|| format!("{word}: a prefix length of IPv6 is 0-128"))
}

/// `address`, if it may be a host's.
fn host(address: IpAddr) -> Result<IpAddr, String> {
    if is_unicast(address) { Ok(address) } else { Err(format!("{address} is not the address of a host")) }
}

/// Neither unspecified, loopback, multicast, reserved nor broadcast, and no IPv4 address in the form of an IPv6 one
/// (RFC 4291, section 2.5.5).
#[must_use]
pub fn is_unicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            !(address.octets()[0] == 0 || address.is_loopback() || address.octets()[0] >= 224)
        }
        IpAddr::V6(address) => !(address.is_multicast() || address.to_ipv4().is_some()),
    }
}

/// The name of an interface in this configuration: `vlanN` in lower case; a slot and port as Linux can have them, for it takes
/// no slash: `fa3-6` for `FastEthernet3/6` or `Fa3/6`; `Port-channelN`, also for `PoN`; all else as it is.
pub(super) fn interface_name(word: &str) -> Option<String> {
    const KINDS: [&str; 4] = ["FastEthernet", "GigabitEthernet", "TenGigabitEthernet", "Ethernet"];
    if crate::model::vlan_of_name(word).is_some() {
        return Some(word.to_ascii_lowercase());
    }
    let digit = word.find(|c: char| c.is_ascii_digit()).unwrap_or(word.len());
    let (kind, place) = word.split_at(digit);
    let known = KINDS.into_iter().find(|known| kind.len() >= 2 && abbreviates(kind, known));
    if is_channel(kind) && place.bytes().all(|byte| byte.is_ascii_digit()) {
        let number: u16 = place.parse().ok()?;
        return (1..=CHANNELS_MAX).contains(&number).then(|| channel_name(number));
    }
    let is_place = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let name = match known {
        Some(known) if place.contains('/') && place.split('/').all(is_place) => {
            format!("{}{}", known[..2].to_ascii_lowercase(), place.replace('/', "-"))
        }
        _ => word.to_owned(),
    };
    is_interface_name(&name).then_some(name)
}

/// Whether `kind` is that of port channels: `port7` may well be a name in Linux.
fn is_channel(kind: &str) -> bool {
    kind == "Po" || kind.contains('-') && abbreviates(kind, "Port-channel")
}

/// What Linux takes as a name (`dev_valid_name` in net/core/dev.c): up to 15 bytes without `/`, `:` or blanks.
fn is_interface_name(word: &str) -> bool {
    (1..=15).contains(&word.len())
        && word != "."
        && word != ".."
        && word.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/' && byte != b':')
}

/// Whether `word` is `keyword` or the beginning of it, in any case.
#[must_use]
pub fn abbreviates(word: &str, keyword: &str) -> bool {
    !word.is_empty() && keyword.get(..word.len()).is_some_and(|head| head.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_hosts_and_contiguous_masks_are_taken() {
        for bad in ["0.0.0.0", "127.0.0.1", "224.0.0.5", "255.255.255.255", "1.2.3", "1.2.3.256"] {
            assert!(Kind::Host.read("A", bad).is_err(), "{bad}");
        }
        assert!(Kind::Mask.read("M", "255.0.255.0").is_err());
        assert!(Kind::Mask.read("M", "0.0.0.0").is_ok());
    }

    #[test]
    fn addresses_of_ipv6_are_those_of_hosts_and_prefixes_are_whole() {
        for bad in ["::", "::1", "ff02::1", "::ffff:10.0.0.1", "::10.0.0.1", "fd00::g", "fd00::1/64"] {
            assert!(Kind::Host6.read("A", bad).is_err(), "{bad}");
            assert!(Kind::AnyHost.read("A", bad).is_err(), "{bad}");
        }
        assert_eq!(Kind::AnyHost.read("A", "FD00::A"), Ok(Value::Address("fd00::a".parse().unwrap())));
        assert!(
            Kind::AnyHost.read("A", "10.0.0.1").is_ok() && Kind::AnyHost.read("A", "10.0.0.256").is_err()
        );
        for bad in ["fd00::1/129", "fd00::1/", "fd00::1/x", "fd00::1/64/2"] {
            assert!(Kind::Interface6.read("A", bad).is_err(), "{bad}");
            assert!(Kind::Prefix6.read("A", bad).is_err(), "{bad}");
        }
        assert!(Kind::Interface6.read("A", "fd00::1").is_err(), "without a length");
        assert_eq!(Kind::Prefix6.read("A", "fd00::1"), Ok(Value::Net("fd00::1/128".parse().unwrap())));
        assert_eq!(Kind::Prefix6.read("A", "::/0"), Ok(Value::Net("::/0".parse().unwrap())));
    }
}
