//! Who may speak: the keys of a group, configured or agreed, and the tags made with them. Pure.
//!
//! A tag is HMAC-SHA-256 (RFC 2104), cut to 16 octets (RFC 4868), over the datagram before it. A configured key is the
//! hash of its string. Without one the pair agrees on one over the FT VLAN: each boot of a node says a public key
//! (X25519, RFC 7748) in each datagram, and the first one that is taken from a boot of the peer on the FT VLAN counts. The
//! FT VLAN itself is trusted then; what is said on any other is worth nothing without a good tag.

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use thiserror::Error;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use crate::ft::parked::Parked;
use crate::model::FtKeys;

/// Octets of a tag.
pub const TAG: usize = 16;
/// Octets of a public key.
pub const PUBLIC: usize = 32;
const NO_TAG: [u8; TAG] = [0; TAG];

type Key = Zeroizing<[u8; 32]>;

/// A datagram is not of one who has the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AuthError {
    /// It has no tag.
    #[error("no authentication")]
    Missing,
    /// Its tag was made with another key, or for another datagram.
    #[error("wrong key")]
    Wrong,
}

/// What speaks for this node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// No key yet: the FT VLAN alone is heard.
    #[default]
    None,
    /// A key agreed on over the FT VLAN.
    Agreed,
    /// A configured key that the peer need not use yet (`authentication accept` alone).
    Accepting,
    /// A configured key, and nothing without it.
    Configured,
}

/// The keys of a node.
#[derive(Clone, Default)]
pub struct Keyring {
    /// Makes this node's tags; also accepted.
    sign: Option<Key>,
    /// Accepted beside it.
    accept: Vec<Key>,
    secret: Option<StaticSecret>,
    /// The peer's boot, its public key, and what was agreed on.
    agreed: Option<(u64, [u8; PUBLIC], Key)>,
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keyring").field("trust", &self.trust()).finish_non_exhaustive()
    }
}

impl Keyring {
    /// The configured `keys`; `secret` is random for each boot, and only used while none is configured.
    #[must_use]
    pub fn new(keys: &FtKeys, secret: [u8; 32]) -> Self {
        let secret = Some(StaticSecret::from(*Zeroizing::new(secret)));
        Self { secret, ..Self::default() }.with(keys)
    }

    /// The same node with other configured keys.
    #[must_use]
    pub fn with(&self, keys: &FtKeys) -> Self {
        let hash = |text: &str| -> Key {
            Zeroizing::new(Sha256::new_with_prefix("csm ft key ").chain_update(text).finalize().into())
        };
        Self {
            sign: keys.sign.as_ref().map(|secret| hash(secret.text())),
            accept: keys.accept.iter().map(|secret| hash(secret.text())).collect(),
            secret: self.secret.clone(),
            agreed: self.agreed.clone(),
        }
    }

    /// The secret of this boot, and the peer's boot with its public key, for [`Keyring::restore`].
    #[must_use]
    pub fn parts(&self) -> (Key, Option<(u64, [u8; PUBLIC])>) {
        let secret = self.secret.as_ref().map_or([0; 32], StaticSecret::to_bytes);
        (Zeroizing::new(secret), self.agreed.as_ref().map(|&(boot, public, _)| (boot, public)))
    }

    /// Speaks as the same boot did before, but for the configured keys.
    pub fn restore(&mut self, group: u8, parked: &Parked) {
        self.secret = Some(StaticSecret::from(*parked.secret));
        if let Some((boot, public)) = parked.agreed {
            self.learn(group, boot, public);
        }
    }

    /// What speaks for this node.
    #[must_use]
    pub fn trust(&self) -> Trust {
        match (&self.sign, self.accept.first(), &self.agreed) {
            (Some(_), _, _) => Trust::Configured,
            (None, Some(_), _) => Trust::Accepting,
            (None, None, Some(_)) => Trust::Agreed,
            (None, None, None) => Trust::None,
        }
    }

    /// Said in each datagram; all 0 if a key is configured.
    #[must_use]
    pub fn public(&self) -> [u8; PUBLIC] {
        let secret = self.secret.as_ref().filter(|_| self.sign.is_none() && self.accept.is_empty());
        secret.map_or([0; PUBLIC], |secret| PublicKey::from(secret).to_bytes())
    }

    /// The tag of `bytes`; all 0 without a key.
    #[must_use]
    pub fn tag(&self, bytes: &[u8]) -> [u8; TAG] {
        let agreed = self.agreed.as_ref().map(|(_, _, key)| key);
        let Some(key) = self.sign.as_ref().or(self.accept.first()).or(agreed) else { return NO_TAG };
        let mut tag = NO_TAG;
        if let Some(mac) = mac(key, bytes) {
            tag.copy_from_slice(&mac.finalize().into_bytes()[..TAG]);
        }
        tag
    }

    /// Whether `tag` lets `bytes` in. On the FT VLAN a key that is not required may be missing.
    ///
    /// # Errors
    /// If it does not.
    pub fn check(&self, bytes: &[u8], tag: &[u8; TAG], on_ft_vlan: bool) -> Result<(), AuthError> {
        let fits = |key: &Key| mac(key, bytes).is_some_and(|mac| mac.verify_truncated_left(tag).is_ok());
        let is_signed = *tag != NO_TAG;
        let is_agreed = || self.agreed.as_ref().is_some_and(|(_, _, key)| is_signed && fits(key));
        if is_signed && self.sign.iter().chain(&self.accept).any(fits) {
            return Ok(());
        }
        let refused = Err(if is_signed { AuthError::Wrong } else { AuthError::Missing });
        match (&self.sign, self.accept.is_empty(), on_ft_vlan) {
            (Some(_), ..) => refused,
            // Both boxes get the key one after the other: what has no tag is still of the FT VLAN, what has a wrong one is not.
            (None, false, true) if !is_signed || is_agreed() => Ok(()),
            (None, true, true) => Ok(()),
            (None, true, false) if is_agreed() => Ok(()),
            (None, ..) => refused,
        }
    }

    /// A datagram of the peer's boot `nonce` was taken on the FT VLAN.
    pub fn learn(&mut self, group: u8, nonce: u64, public: [u8; PUBLIC]) {
        let is_known = self.agreed.as_ref().is_some_and(|&(boot, known, _)| (boot, known) == (nonce, public));
        // A boot without a public key has a configured one, and no use for what its predecessor agreed on.
        self.agreed.take_if(|&mut (boot, ..)| boot != nonce);
        let Some(secret) = self.secret.as_ref().filter(|_| !is_known && public != [0; PUBLIC]) else {
            return;
        };
        let shared = secret.diffie_hellman(&PublicKey::from(public));
        // A public key of low order would make the secret known to everybody.
        if !shared.was_contributory() {
            return;
        }
        // What the boot says, or would say without a configured key.
        let own = PublicKey::from(secret).to_bytes();
        let (low, high) = if own < public { (own, public) } else { (public, own) };
        let key = Sha256::new_with_prefix("csm ft agreed ")
            .chain_update([group])
            .chain_update(low)
            .chain_update(high)
            .chain_update(shared.as_bytes())
            .finalize();
        self.agreed = Some((nonce, public, Zeroizing::new(key.into())));
    }
}

fn mac(key: &Key, bytes: &[u8]) -> Option<Hmac<Sha256>> {
    // A key of any length will do, so there is always one.
    Hmac::<Sha256>::new_from_slice(key.as_slice()).ok().map(|mac| mac.chain_update(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Secret;

    fn keys(sign: Option<&str>, accept: Option<&str>) -> FtKeys {
        FtKeys { sign: sign.map(Secret::new), accept: accept.map(Secret::new) }
    }

    fn ring(sign: Option<&str>, accept: Option<&str>) -> Keyring {
        Keyring::new(&keys(sign, accept), [7; 32])
    }

    /// What `to` makes of a datagram of `from`, on the FT VLAN and elsewhere.
    fn verdicts(from: &Keyring, to: &Keyring) -> [Result<(), AuthError>; 2] {
        let tag = from.tag(b"datagram");
        [true, false].map(|on_ft_vlan| to.check(b"datagram", &tag, on_ft_vlan))
    }

    #[test]
    fn a_configured_key_is_required_everywhere() {
        use AuthError::{Missing, Wrong};
        let strict = ring(Some("one"), None);
        assert_eq!(verdicts(&ring(Some("one"), None), &strict), [Ok(()); 2]);
        assert_eq!(verdicts(&ring(Some("two"), None), &strict), [Err(Wrong); 2]);
        assert_eq!(verdicts(&ring(None, None), &strict), [Err(Missing); 2]);
        let tag = strict.tag(b"datagram");
        assert_eq!(strict.check(b"Datagram", &tag, true), Err(Wrong));
    }

    #[test]
    fn keys_are_set_and_changed_without_a_gap() {
        // Each step is taken on one box after the other; at no time does either refuse the other.
        let steps = [
            (None, None),
            (None, Some("one")),
            (Some("one"), None),
            (Some("one"), Some("two")),
            (Some("two"), Some("one")),
            (Some("two"), None),
        ];
        for pair in steps.windows(2) {
            let (before, after) = (ring(pair[0].0, pair[0].1), ring(pair[1].0, pair[1].1));
            for (from, to) in [(&before, &after), (&after, &before), (&after, &after)] {
                assert_eq!(verdicts(from, to)[0], Ok(()), "{pair:?}");
            }
        }
    }

    #[test]
    fn a_pair_without_a_key_agrees_on_one_and_believes_nobody_else_off_the_ft_vlan() {
        let (mut a, mut b) =
            (Keyring::new(&FtKeys::default(), [1; 32]), Keyring::new(&FtKeys::default(), [2; 32]));
        assert_eq!(verdicts(&a, &b), [Ok(()), Err(AuthError::Missing)]);
        a.learn(1, 20, b.public());
        b.learn(1, 10, a.public());
        assert_eq!(
            (a.trust(), verdicts(&a, &b), verdicts(&b, &a)),
            (Trust::Agreed, [Ok(()); 2], [Ok(()); 2])
        );
        let mut stranger = Keyring::new(&FtKeys::default(), [3; 32]);
        stranger.learn(1, 20, b.public());
        assert_eq!(verdicts(&stranger, &b), [Ok(()), Err(AuthError::Wrong)]);
        // A boot that says no key, or a worthless one, ends the agreement.
        let mut one = [0; PUBLIC];
        one[0] = 1;
        for public in [[0; PUBLIC], one] {
            a.learn(1, 20, b.public());
            assert_eq!(a.trust(), Trust::Agreed);
            a.learn(1, 21, public);
            assert_eq!((a.trust(), a.tag(b"x")), (Trust::None, NO_TAG));
        }
    }

    #[test]
    fn no_key_is_printed() {
        assert_eq!(format!("{:?}", ring(Some("hidden"), None)), "Keyring { trust: Configured, .. }");
    }
}
