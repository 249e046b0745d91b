//! Reservations as bytes: `docs/formats/reservations.md`.

use std::collections::BTreeMap;

use narrowboat_storage::error::{Damage, Refusal, Result};

use super::{Kind, REGISTRATIONS_MAX, Reservations};
use crate::ingest::iscsi::scsi::Nexus;
use crate::ingest::iscsi::target::NAME_BYTES_MAX;

const MAGIC: [u8; 4] = *b"NBPR";
const VERSION: u16 = 1;

impl Reservations {
    /// The bytes that a [`super::Keeper`] keeps.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(64 * (1 + self.registrations.len()));
        bytes.extend(MAGIC);
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend([0; 2]);
        for _feature_set in 0..3 {
            bytes.extend(0u32.to_le_bytes());
        }
        bytes.extend(self.generation.to_le_bytes());
        bytes.push(u8::from(self.kept));
        bytes.push(self.holder.as_ref().map_or(0, |(_, kind)| *kind as u8));
        bytes.extend([0; 2]);
        let held_by = |(holder, _): &(Nexus, Kind)| self.registrations.keys().position(|nexus| nexus == holder);
        let holder = self.holder.as_ref().and_then(held_by).map_or(u32::MAX, |at| at as u32);
        bytes.extend(holder.to_le_bytes());
        bytes.extend((self.registrations.len() as u32).to_le_bytes());
        for (nexus, key) in &self.registrations {
            bytes.extend(key.to_le_bytes());
            bytes.extend(nexus.isid);
            bytes.extend((nexus.initiator.len() as u16).to_le_bytes());
            bytes.extend(nexus.initiator.as_bytes());
        }
        bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
        bytes
    }

    /// Reads what [`Reservations::encode`] wrote. `place` names it in errors. Damage where the bytes are not sound, refused
    /// where a newer version wrote them.
    pub fn decode(place: &str, bytes: &[u8]) -> Result<Reservations> {
        let damage = |offset: usize, expected: &str| Damage::new(place, offset as u64, expected, "something else");
        let (body, crc) = bytes.split_last_chunk::<4>().ok_or_else(|| damage(0, "reservations"))?;
        let mut rest = Reader { bytes: body, at: 0 };
        if rest.take::<4>() != Some(MAGIC) {
            return Err(damage(0, "the magic NBPR").into());
        }
        if u32::from_le_bytes(*crc) != crc32c::crc32c(body) {
            return Err(damage(body.len(), "the checksum of what is before it").into());
        }
        let version = rest.u16();
        let _reserved = rest.take::<2>();
        let (_ignore, read_only, refuse) = (rest.u32(), rest.u32(), rest.u32());
        // What is kept here is always written again, so that "read only" is no less than "refuse".
        if version != Some(VERSION) || read_only != Some(0) || refuse != Some(0) {
            return Err(Refusal::Unsupported(format!("{place} was written by a newer version")).into());
        }
        rest.reservations().ok_or_else(|| damage(rest.at, "reservations of at most 1024 ports").into())
    }
}

/// Reads on, or nothing where the bytes end.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn slice(&mut self, len: usize) -> Option<&[u8]> {
        let slice = self.bytes.get(self.at..self.at.checked_add(len)?)?;
        self.at += len;
        Some(slice)
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.slice(N)?.try_into().ok()
    }

    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn reservations(&mut self) -> Option<Reservations> {
        let generation = self.u32()?;
        let [kept, kind, _, _] = self.take()?;
        let (holder, count) = (self.u32()?, self.u32()? as usize);
        if count > REGISTRATIONS_MAX || kept > 1 {
            return None;
        }
        let mut registrations = BTreeMap::new();
        let mut holding = None;
        for at in 0..count {
            let key = u64::from_le_bytes(self.take()?);
            let isid = self.take()?;
            let len = usize::from(self.u16()?);
            let name = self.slice(len).filter(|name| name.len() <= NAME_BYTES_MAX)?;
            let nexus = Nexus { initiator: std::str::from_utf8(name).ok()?.to_owned(), isid };
            if at == holder as usize {
                holding = Some(nexus.clone());
            }
            if key == 0 || registrations.insert(nexus, key).is_some() {
                return None;
            }
        }
        let holder = match (holding, kind) {
            (None, 0) if holder == u32::MAX => None,
            (Some(nexus), kind) => Some((nexus, Kind::of(kind)?)),
            _ => return None,
        };
        let whole = self.at == self.bytes.len();
        whole.then_some(Reservations { generation, registrations, holder, kept: kept == 1 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn example() -> Reservations {
        let nexus = |last| Nexus { initiator: "iqn.2025-01.org.example:a".into(), isid: [0x40, 0, 0, 0, 0, last] };
        Reservations {
            generation: 3,
            registrations: [(nexus(1), 0x1122_3344_5566_7788), (nexus(2), 7)].into(),
            holder: Some((nexus(2), Kind::WriteExclusiveRegistrants)),
            kept: true,
        }
    }

    #[test]
    fn the_page_has_the_bytes_that_are_written() {
        let page = include_str!("../../../../../../docs/formats/reservations.md");
        let block = page.split("```hex").nth(1).and_then(|rest| rest.split("```").next()).expect("a hex block");
        let hex: String = block.chars().filter(char::is_ascii_hexdigit).collect();
        let ours: String = example().encode().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, ours);
        let bytes: Vec<u8> =
            (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap()).collect();
        assert_eq!(Reservations::decode("page", &bytes).unwrap(), example());
    }

    #[test]
    fn damage_and_newer_versions_are_told_apart() {
        let sound = example().encode();
        for at in 0..sound.len() {
            let mut bytes = sound.clone();
            bytes[at] ^= 1;
            assert!(
                matches!(Reservations::decode("f", &bytes), Err(narrowboat_storage::Error::Damage(_))),
                "byte {at}"
            );
        }
        for (at, value) in [(4, 2), (12, 1), (16, 1)] {
            let mut bytes = sound[..sound.len() - 4].to_vec();
            bytes[at] = value;
            bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
            assert!(
                matches!(Reservations::decode("f", &bytes), Err(narrowboat_storage::Error::Refused(_))),
                "byte {at}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_without_harm(mut bytes in prop::collection::vec(any::<u8>(), 0..200), sealed: bool) {
            if sealed && bytes.len() > 20 {
                bytes[..4].copy_from_slice(&MAGIC);
                bytes[4..20].copy_from_slice(&[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
                bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
            }
            if let Ok(all) = Reservations::decode("f", &bytes) {
                prop_assert_eq!(Reservations::decode("f", &all.encode()).unwrap(), all);
            }
        }
    }
}
