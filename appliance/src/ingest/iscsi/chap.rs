//! CHAP: who knows the secret (RFC 7143 section 12.1.3, RFC 1994).
//!
//! The challenge is random and comes in with the connection. A response is compared in constant time. An initiator that
//! sends our own challenge back as its own is refused: it would have us answer it for it.

use md5::Md5;
use sha2::{Digest, Sha256};

/// A password that does not show up in logs.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Takes the bytes of a password.
    pub fn new(secret: impl Into<Vec<u8>>) -> Self {
        Secret(secret.into())
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Who may come in, and how the target proves itself to them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The initiator's user name.
    pub name: String,
    /// The initiator's password.
    pub secret: Secret,
    /// The target's own name and password, for initiators that ask it to prove itself. It has to be another password than
    /// that of any account: one that is equal is not used (section 12.1.3). Else whoever knows the one could pose as the
    /// other, or have the target answer a challenge for it.
    pub mutual: Option<(String, Secret)>,
}

/// A digest that CHAP can use, by its number among IANA's PPP authentication algorithms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// 5, which everybody has to know.
    Md5,
    /// 7.
    Sha256,
}

impl Algorithm {
    /// The first of an initiator's list that is known here.
    pub fn choose(list: &str) -> Option<Algorithm> {
        list.split(',').find_map(|number| match number {
            "5" => Some(Algorithm::Md5),
            "7" => Some(Algorithm::Sha256),
            _ => None,
        })
    }

    /// Its number.
    pub fn number(self) -> u8 {
        match self {
            Algorithm::Md5 => 5,
            Algorithm::Sha256 => 7,
        }
    }

    /// The response to a challenge: the digest of identifier, secret and challenge.
    pub fn response(self, identifier: u8, secret: &Secret, challenge: &[u8]) -> Vec<u8> {
        let parts = [&[identifier][..], &secret.0, challenge];
        match self {
            Algorithm::Md5 => {
                parts.iter().fold(Md5::new(), |digest, part| digest.chain_update(part)).finalize().to_vec()
            }
            Algorithm::Sha256 => {
                parts.iter().fold(Sha256::new(), |digest, part| digest.chain_update(part)).finalize().to_vec()
            }
        }
    }
}

/// Compares without telling by its duration where the difference lies.
fn equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

/// A challenge that was sent.
#[derive(Clone, Debug)]
pub struct Challenge {
    /// Which digest.
    pub algorithm: Algorithm,
    /// Its identifier.
    pub identifier: u8,
    /// Random bytes.
    pub bytes: [u8; 16],
}

/// What an initiator says to a challenge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// Its user name.
    pub name: String,
    /// Its response.
    pub response: Vec<u8>,
    /// Its own identifier and challenge, where it wants the target to prove itself.
    pub counter: Option<(u8, Vec<u8>)>,
}

/// The target's answer to a claim that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// The target's name.
    pub name: String,
    /// Its response.
    pub response: Vec<u8>,
}

impl Challenge {
    /// Judges a claim. `None` where it does not hold, else what the target answers (nothing where nothing was asked).
    pub fn judge(&self, claim: &Claim, accounts: &[Account]) -> Option<Option<Proof>> {
        // Every account is looked at, so that the time says nothing about which names there are.
        let held = accounts.iter().fold(None, |held, account| {
            let expected = self.algorithm.response(self.identifier, &account.secret, &self.bytes);
            let holds = equal(&expected, &claim.response) & equal(account.name.as_bytes(), claim.name.as_bytes());
            if holds { Some(account) } else { held }
        })?;
        let Some((identifier, challenge)) = &claim.counter else { return Some(None) };
        let is_own = |secret: &Secret| accounts.iter().all(|account| account.secret != *secret);
        let (name, secret) = held.mutual.as_ref().filter(|(_, secret)| is_own(secret))?;
        if challenge.is_empty() || equal(challenge, &self.bytes) {
            return None;
        }
        let response = self.algorithm.response(*identifier, secret, challenge);
        Some(Some(Proof { name: name.clone(), response }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn challenge(algorithm: Algorithm) -> Challenge {
        Challenge { algorithm, identifier: 7, bytes: [3; 16] }
    }

    fn accounts() -> Vec<Account> {
        let mutual = Some(("box".to_owned(), Secret::new("another secret")));
        vec![
            Account { name: "other".into(), secret: Secret::new("something else"), mutual: None },
            Account { name: "backup".into(), secret: Secret::new("correct horse"), mutual },
        ]
    }

    #[test]
    fn the_digest_is_that_of_rfc_1994() {
        // MD5 of "\x07abc\x03\x03".
        let made = Algorithm::Md5.response(7, &Secret::new("abc"), &[3, 3]);
        assert_eq!(made, <[u8; 16]>::from(Md5::digest(b"\x07abc\x03\x03")));
        assert_eq!(Algorithm::choose("6,7,5"), Some(Algorithm::Sha256));
        assert_eq!(Algorithm::choose("6,8"), None);
    }

    #[test]
    fn only_the_right_name_with_the_right_secret_is_let_in() {
        for algorithm in [Algorithm::Md5, Algorithm::Sha256] {
            let asked = challenge(algorithm);
            let right = algorithm.response(7, &Secret::new("correct horse"), &[3; 16]);
            let claim = Claim { name: "backup".into(), response: right.clone(), counter: None };
            assert_eq!(asked.judge(&claim, &accounts()), Some(None));
            let other = Claim { name: "other".into(), ..claim.clone() };
            assert_eq!(asked.judge(&other, &accounts()), None);
            for response in
                [vec![], right[1..].to_vec(), algorithm.response(8, &Secret::new("correct horse"), &[3; 16])]
            {
                assert_eq!(asked.judge(&Claim { response, ..claim.clone() }, &accounts()), None);
            }
        }
    }

    #[test]
    fn the_target_proves_itself_but_not_to_a_mirror() {
        let asked = challenge(Algorithm::Md5);
        let response = Algorithm::Md5.response(7, &Secret::new("correct horse"), &[3; 16]);
        let claim = Claim { name: "backup".into(), response, counter: Some((9, vec![1, 2, 3])) };
        let proof = asked.judge(&claim, &accounts()).unwrap().unwrap();
        assert_eq!(proof.name, "box");
        assert_eq!(proof.response, Algorithm::Md5.response(9, &Secret::new("another secret"), &[1, 2, 3]));
        let mirror = Claim { counter: Some((9, vec![3; 16])), ..claim.clone() };
        assert_eq!(asked.judge(&mirror, &accounts()), None);
        let mut alike = accounts();
        alike[1].mutual = Some(("box".into(), Secret::new("correct horse")));
        assert_eq!(asked.judge(&claim, &alike), None, "one secret both ways is none");
        let mut alike = accounts();
        alike[0].secret = Secret::new("another secret");
        assert_eq!(asked.judge(&claim, &alike), None, "nor is that of another account");
        assert_eq!(format!("{:?}", Secret::new("x")), "Secret(..)");
    }
}
