//! The box's identity: one Ed25519 key, made once, kept in a file that only its owner may read.
//!
//! The key never leaves this module but into the TLS library, is never printed, and is wiped from memory when dropped.
//! Lost, the box is another box and must be paired anew; copied, two boxes pass for one, so it belongs into no backup of
//! the data folder that others can read. `docs/formats/identity.md` owns the file's bytes.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use bytes::Bytes;
use ed25519_dalek::SigningKey;
use narrowboat_storage::codec::{Malformed, Put, Reader};
use narrowboat_storage::error::{Damage, Refusal, Result, io_error};

use crate::peer::PeerId;

const MAGIC: [u8; 4] = *b"NBID";
const VERSION: u16 = 1;
/// magic, version, zero, three feature sets, seed, public key, checksum
const LEN: usize = 4 + 2 + 2 + 12 + 32 + 32 + 4;

/// The private key of a box.
#[derive(Clone)]
pub struct Identity {
    key: SigningKey,
}

impl Identity {
    /// Reads the key from `path`, or makes one from 32 bytes of `entropy` where there is none yet. The file is complete
    /// and synced before it has its name, and readable by its owner alone; wider permissions are narrowed.
    pub fn load_or_create(path: &Path, entropy: impl FnOnce() -> [u8; 32]) -> Result<Identity> {
        let name = path.display().to_string();
        match File::open(path) {
            Ok(file) => Self::load(file, &name),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let identity = Self::from_seed(entropy());
                identity.create(path).map_err(|error| io_error("create", &name, error))?;
                Ok(identity)
            }
            Err(error) => Err(io_error("open", &name, error)),
        }
    }

    /// The key that follows from a seed (RFC 8032, section 5.1.5).
    pub fn from_seed(seed: [u8; 32]) -> Identity {
        Identity { key: SigningKey::from_bytes(&seed) }
    }

    /// The public key, by which peers know the box.
    pub fn id(&self) -> PeerId {
        PeerId(self.key.verifying_key().to_bytes())
    }

    /// The seed, for the TLS library.
    pub(super) fn seed(&self) -> &[u8; 32] {
        self.key.as_bytes()
    }

    fn load(file: File, name: &str) -> Result<Identity> {
        let narrow = |error| io_error("read", name, error);
        let mode = file.metadata().map_err(narrow)?.permissions().mode();
        if mode & 0o077 != 0 {
            tracing::warn!(file = name, mode = format!("{:o}", mode & 0o777), "the identity was readable by others");
            file.set_permissions(fs::Permissions::from_mode(0o600))
                .map_err(|error| io_error("protect", name, error))?;
        }
        let mut bytes = Vec::with_capacity(LEN + 1);
        file.take(LEN as u64 + 1).read_to_end(&mut bytes).map_err(narrow)?;
        Self::decode(&bytes, name)
    }

    fn create(&self, path: &Path) -> io::Result<()> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let temporary = path.with_extension("key.new");
        let _ = fs::remove_file(&temporary);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(&self.encode())?;
        file.sync_all()?;
        // A link, not a rename: it never replaces an identity that is there already.
        let linked = fs::hard_link(&temporary, path);
        fs::remove_file(&temporary)?;
        linked?;
        File::open(folder)?.sync_all()
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(LEN);
        out.extend_from_slice(&MAGIC);
        out.put_u16(VERSION);
        out.put_u16(0);
        (0..3).for_each(|_| out.put_u32(0));
        out.extend_from_slice(self.seed());
        out.extend_from_slice(&self.id().0);
        let check = crc32c::crc32c(&out);
        out.put_u32(check);
        out
    }

    fn decode(bytes: &[u8], name: &str) -> Result<Identity> {
        let damaged = |at: usize, expected: &str, found: &str| Damage::new(name, at as u64, expected, found);
        let Some((body, check)) = bytes.split_last_chunk::<4>().filter(|_| bytes.len() == LEN) else {
            return Err(damaged(0, "88 bytes", &format!("{}", bytes.len())).into());
        };
        if body[..4] != MAGIC || crc32c::crc32c(body).to_le_bytes() != *check {
            return Err(damaged(0, "an identity with a sound checksum", "something else").into());
        }
        let body = Bytes::copy_from_slice(body);
        let (version, refuse, seed, public) =
            Self::fields(&body).map_err(|error| damaged(error.at, "an identity", "a field cut short"))?;
        if version != VERSION || refuse != 0 {
            return Err(
                Refusal::Unsupported(format!("{name} was written by a newer Narrowboat (version {version})")).into()
            );
        }
        let identity = Self::from_seed(seed);
        if identity.id().0 != public {
            return Err(damaged(52, "the public key of this seed", "another").into());
        }
        Ok(identity)
    }

    fn fields(body: &Bytes) -> Result<(u16, u32, [u8; 32], [u8; 32]), Malformed> {
        let mut reader = Reader::new(body, "identity");
        reader.array::<4>()?;
        let version = reader.u16()?;
        reader.u16()?;
        let [_ignore, read_only, refuse] = [reader.u32()?, reader.u32()?, reader.u32()?];
        Ok((version, read_only | refuse, reader.array()?, reader.array()?))
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Identity({})", self.id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use narrowboat_storage::error::Error;

    #[test]
    fn it_is_made_once_and_only_its_owner_may_read_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("identity.key");
        let made = Identity::load_or_create(&path, || [7; 32]).expect("made");
        let read = Identity::load_or_create(&path, || unreachable!("it is there")).expect("read");
        assert_eq!(made.id(), read.id());
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1, "nothing else is left behind");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("ours");
        Identity::load_or_create(&path, || unreachable!("it is there")).expect("read");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_half_written_file_of_an_earlier_try_does_not_matter() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("identity.key");
        fs::write(folder.path().join("identity.key.new"), b"half").expect("ours");
        Identity::load_or_create(&path, || [7; 32]).expect("made");
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_damage() {
        let bytes = Identity::from_seed([9; 32]).encode();
        for bit in 0..bytes.len() * 8 {
            let mut harmed = bytes.clone();
            harmed[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(Identity::decode(&harmed, "f"), Err(Error::Damage(_))), "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert!(matches!(Identity::decode(&bytes[..len], "f"), Err(Error::Damage(_))), "cut at {len}");
        }
    }

    #[test]
    fn the_page_shows_an_identity() {
        let page = include_str!("../../../docs/formats/identity.md");
        let example = page.split("```hex").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
        let shown: String = example.split_whitespace().collect();
        // RFC 8032, section 7.1, test 1.
        let seed: narrowboat_storage::name::Name =
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60".parse().expect("hexadecimal");
        let encoded: String = Identity::from_seed(seed.0).encode().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(shown, encoded);
    }

    #[test]
    fn the_key_is_never_printed() {
        let identity = Identity::from_seed([0xAB; 32]);
        assert!(!format!("{identity:?}").contains("ab"), "{identity:?}");
    }
}
