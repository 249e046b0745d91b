//! What opens an array: the keys in its LUKS2 header, read from the JSON that `cryptsetup` prints of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The kind of the tokens in which this program writes what a key is.
pub const TOKEN: &str = "narrowboat-key";
/// The kind of the tokens that `systemd-cryptenroll` makes for a TPM.
pub const TPM_TOKEN: &str = "systemd-tpm2";

/// What a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Sealed by this machine's TPM: opens by itself.
    Tpm,
    /// What is in a file, or typed.
    Passphrase,
    /// Printed once, for the safe.
    Recovery,
}

/// A key of an array.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// Its slot in the header.
    pub slot: u32,
    /// What it is; nothing where another program made it.
    pub kind: Option<Kind>,
    /// When it was made, RFC 3339, where that is known.
    pub made: Option<String>,
    /// Tokens that belong to it alone.
    #[serde(skip)]
    pub tokens: Vec<u32>,
}

/// A header, as far as it matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Its keys.
    pub keys: Vec<Key>,
    /// Whether its data is being encrypted anew, and that was broken off or is going on.
    pub reencrypting: bool,
    /// Tokens of keys that are gone: data that was encrypted anew leaves those of all other keys behind.
    pub orphans: Vec<(u32, Option<Kind>)>,
}

#[derive(Deserialize)]
struct Dump {
    keyslots: BTreeMap<String, serde_json::Value>,
    #[serde(default)]
    tokens: BTreeMap<String, Token>,
    #[serde(default)]
    config: Config,
}

#[derive(Deserialize, Serialize)]
struct Token {
    #[serde(rename = "type")]
    kind: String,
    keyslots: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    of: Option<Kind>,
    #[serde(skip_serializing_if = "Option::is_none")]
    made: Option<String>,
}

#[derive(Default, Deserialize)]
struct Config {
    #[serde(default)]
    requirements: Requirements,
}

#[derive(Default, Deserialize)]
struct Requirements {
    #[serde(default)]
    mandatory: Vec<String>,
}

impl Header {
    /// Takes apart what `cryptsetup luksDump --dump-json-metadata` said.
    pub fn parse(json: &[u8]) -> Result<Header, serde_json::Error> {
        let dump: Dump = serde_json::from_slice(json)?;
        let key = |slot: u32| {
            let of_slot = |token: &&Token| token.keyslots.iter().any(|other| other.parse() == Ok(slot));
            let ours = dump.tokens.values().filter(of_slot).find(|token| token.kind == TOKEN);
            let tpm = dump.tokens.values().filter(of_slot).any(|token| token.kind == TPM_TOKEN);
            let numbers = dump.tokens.iter().filter(|(_, token)| of_slot(token)).filter_map(|(id, _)| id.parse().ok());
            Key {
                slot,
                kind: if tpm { Some(Kind::Tpm) } else { ours.and_then(|token| token.of) },
                made: ours.and_then(|token| token.made.clone()),
                tokens: numbers.collect(),
            }
        };
        // A slot that a re-encryption works in holds no key.
        let slots = dump.keyslots.iter().filter(|(_, slot)| slot["type"] == "luks2");
        let mut keys: Vec<Key> = slots.filter_map(|(slot, _)| slot.parse().ok()).map(key).collect();
        keys.sort_by_key(|key| key.slot);
        let orphan = |(id, token): (&String, &Token)| {
            let kind = if token.kind == TPM_TOKEN { Some(Kind::Tpm) } else { token.of };
            Some((id.parse().ok()?, kind)).filter(|_| token.keyslots.is_empty())
        };
        let orphans = dump.tokens.iter().filter_map(orphan).collect();
        let reencrypting = dump.config.requirements.mandatory.iter().any(|what| what.starts_with("online-reencrypt"));
        Ok(Header { keys, reencrypting, orphans })
    }

    /// The keys of a kind.
    pub fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &Key> {
        self.keys.iter().filter(move |key| key.kind == Some(kind))
    }

    /// The slot that is there and was not `before`.
    pub fn added_since(&self, before: &Header) -> Option<u32> {
        self.keys.iter().map(|key| key.slot).find(|slot| before.keys.iter().all(|key| key.slot != *slot))
    }

    /// Whether a key may go: one that a person is known to have must stay, for a TPM can break, and forgets when the firmware changes; and who has what another program made nobody knows.
    pub fn may_remove(&self, slot: u32) -> Result<(), String> {
        let key = self.keys.iter().find(|key| key.slot == slot);
        if key.is_none() {
            return Err(format!(
                "there is no key in slot {slot}; `narrowboat disks key list` shows those that there are"
            ));
        }
        let stays = self.keys.iter().filter(|key| key.slot != slot);
        if stays.into_iter().any(|key| matches!(key.kind, Some(Kind::Passphrase | Kind::Recovery))) {
            return Ok(());
        }
        Err("no passphrase or recovery key would be left: then nobody opens the array when the TPM does not. Add one first".into())
    }
}

/// The token that says what the key in a slot is.
pub fn token(slot: u32, kind: Kind, made: &str) -> String {
    let token = Token { kind: TOKEN.into(), keyslots: vec![slot.to_string()], of: Some(kind), made: Some(made.into()) };
    serde_json::to_string(&token).unwrap_or_default()
}

/// Letters and digits that are not taken for one another.
const ALPHABET: &[u8; 32] = b"abcdefghjkmnpqrstuvwxyz023456789";

/// A recovery key of 200 random bits, in eight groups of five that can be read out.
pub fn recovery_key(random: [u8; 40]) -> String {
    let letters = random.map(|byte| char::from(ALPHABET[usize::from(byte % 32)]));
    let groups: Vec<String> = letters.chunks(5).map(|group| group.iter().collect()).collect();
    groups.join("-")
}

/// Whether that is a recovery key, by its form.
pub fn is_recovery_key(text: &[u8]) -> bool {
    let groups: Vec<&[u8]> = text.split(|byte| *byte == b'-').collect();
    groups.len() == 8 && groups.iter().all(|group| group.len() == 5 && group.iter().all(|byte| ALPHABET.contains(byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUMP: &str = r#"{
      "keyslots": {
        "0": {"type": "luks2", "kdf": {"type": "pbkdf2"}}, "1": {"type": "luks2"}, "4": {"type": "luks2"},
        "5": {"type": "reencrypt", "mode": "reencrypt"}},
      "tokens": {
        "0": {"type": "systemd-tpm2", "keyslots": ["1"], "tpm2-blob": "AJ4A", "tpm2-pcrs": [7]},
        "2": {"type": "narrowboat-key", "keyslots": ["0"], "of": "recovery", "made": "2026-11-23T08:00:00Z"},
        "3": {"type": "systemd-tpm2", "keyslots": []}},
      "segments": {}, "digests": {},
      "config": {"json_size": "12288", "keyslots_size": "16744448"REQ}}"#;

    fn header(requirements: &str) -> Header {
        Header::parse(DUMP.replace("REQ", requirements).as_bytes()).expect("a header")
    }

    #[test]
    fn keys_are_told_from_the_header() {
        let header = header("");
        let kinds: Vec<_> = header.keys.iter().map(|key| (key.slot, key.kind)).collect();
        assert_eq!(kinds, [(0, Some(Kind::Recovery)), (1, Some(Kind::Tpm)), (4, None)]);
        assert_eq!(header.keys[0].tokens, [2]);
        assert_eq!(header.keys[0].made.as_deref(), Some("2026-11-23T08:00:00Z"));
        assert!(!header.reencrypting);
        assert_eq!(header.orphans, [(3, Some(Kind::Tpm))]);
    }

    #[test]
    fn a_re_encryption_that_was_broken_off_is_seen() {
        assert!(self::header(r#", "requirements": {"mandatory": ["online-reencrypt-v2"]}"#).reencrypting);
    }

    #[test]
    fn the_last_key_of_a_person_stays() {
        let mut header = header("");
        // What another program made is no key that anybody is known to have.
        for slot in [4, 1] {
            assert_eq!(header.may_remove(slot), Ok(()), "the recovery key stays");
        }
        assert!(header.may_remove(0).expect_err("refused").contains("no passphrase or recovery key would be left"));
        header.keys[2].kind = Some(Kind::Passphrase);
        assert_eq!(header.may_remove(0), Ok(()));
        header.keys.retain(|key| key.slot != 0);
        assert!(header.may_remove(4).is_err());
        assert_eq!(header.may_remove(1), Ok(()));
        assert!(header.may_remove(9).expect_err("refused").contains("no key in slot 9"));
    }

    #[test]
    fn tokens_say_what_a_key_is_and_are_read_again() {
        let json = token(4, Kind::Passphrase, "2026-11-23T08:00:00Z");
        let dump = DUMP.replace("REQ", "").replacen(r#""tokens": {"#, &format!(r#""tokens": {{"7": {json}, "#), 1);
        let header = Header::parse(dump.as_bytes()).expect("a header");
        assert_eq!(header.of_kind(Kind::Passphrase).map(|key| key.slot).collect::<Vec<_>>(), [4]);
        assert_eq!(header.added_since(&self::header("")), None);
    }

    #[test]
    fn recovery_keys_have_all_their_bits_and_no_letters_that_look_alike() {
        let key = recovery_key(std::array::from_fn(|place| place as u8));
        assert_eq!(key, "abcde-fghjk-mnpqr-stuvw-xyz02-34567-89abc-defgh");
        assert!(is_recovery_key(key.as_bytes()));
        assert!(!is_recovery_key(b"correct-horse") && !is_recovery_key(key.to_uppercase().as_bytes()));
        let mut letters = ALPHABET.to_vec();
        letters.sort_unstable();
        letters.dedup();
        assert_eq!(letters.len(), 32);
        assert!(!letters.iter().any(|letter| b"il1o".contains(letter)));
    }
}
