//! Names: what content is called. BLAKE3, keyed by kind and realm.
//!
//! * File bytes that happen to be shaped like a tree node never become one: the kind is part of the key.
//! * A name says nothing outside its realm: without the realm key nobody can tell whether known content is here.
//!
//! `docs/formats/names.md` owns the derivation.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use crate::error::Refusal;
use crate::id::{parse_hex, write_hex};

/// What an object is. Part of the key of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// A piece of a file's or volume's content.
    Chunk = 1,
    /// A node of a map tree: sorted keys to values.
    MapNode = 2,
    /// A node of a sequence tree: lengths to chunks, holes and inline bytes.
    SequenceNode = 3,
}

impl Kind {
    /// Every kind, in the order of their numbers.
    pub const ALL: [Kind; 3] = [Kind::Chunk, Kind::MapNode, Kind::SequenceNode];

    /// Reads the number that stands for a kind on disk and wire.
    pub fn from_u8(number: u8) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| *kind as u8 == number)
    }
    /// True for tree nodes, which live in containers of their own.
    pub fn is_node(self) -> bool {
        self != Kind::Chunk
    }
}

/// The name of one object: the keyed BLAKE3-256 of its bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Name(pub [u8; 32]);

impl Name {
    /// The first eight bytes as a number: uniformly distributed, for filters, shards and tree boundaries.
    pub fn prefix(&self) -> u64 {
        let mut first = [0; 8];
        first.copy_from_slice(&self.0[..8]);
        u64::from_le_bytes(first)
    }

    /// All names that begin so ([`Name::prefix`]).
    pub fn beginning(prefix: u64) -> RangeInclusive<Name> {
        let (mut low, mut high) = (Name([0; 32]), Name([0xFF; 32]));
        low.0[..8].copy_from_slice(&prefix.to_le_bytes());
        high.0[..8].copy_from_slice(&prefix.to_le_bytes());
        low..=high
    }

    /// The last sixteen bytes as a number: half of a name, enough to tell any two apart, for whoever remembers very many.
    pub(crate) fn half(&self) -> u128 {
        let mut half = [0; 16];
        half.copy_from_slice(&self.0[16..]);
        u128::from_le_bytes(half)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0[..6])?;
        f.write_str("…")
    }
}

impl FromStr for Name {
    type Err = Refusal;
    /// Reads the 64 hexadecimal digits that `Display` writes.
    fn from_str(text: &str) -> Result<Self, Refusal> {
        parse_hex(text).map(Name)
    }
}

/// The secret that names are keyed with, and the keys derived from it. Boxes of one realm understand one another's names.
#[derive(Clone)]
pub struct Realm {
    secret: [u8; 32],
    keys: [[u8; 32]; 3],
    boundary: [u8; 32],
    id: [u8; 16],
}

impl Realm {
    /// The realm key that is published with the format.
    pub const PUBLISHED: [u8; 32] = *b"narrowboat published realm key 1";

    /// Derives the keys of a realm from its secret.
    pub fn new(secret: [u8; 32]) -> Self {
        let derive = |context: &str| blake3::derive_key(context, &secret);
        let mut id = [0; 16];
        id.copy_from_slice(&derive("narrowboat 2026 v1 realm id")[..16]);
        Realm {
            secret,
            keys: [
                derive("narrowboat 2026 v1 chunk"),
                derive("narrowboat 2026 v1 map node"),
                derive("narrowboat 2026 v1 sequence node"),
            ],
            boundary: derive("narrowboat 2026 v1 map boundary"),
            id,
        }
    }
    /// The default realm.
    pub fn published() -> Self {
        Realm::new(Realm::PUBLISHED)
    }
    /// The public identifier: two boxes with different ones refuse to pair.
    pub fn id(&self) -> [u8; 16] {
        self.id
    }
    /// The secret itself, to be written into a new store.
    pub fn secret(&self) -> &[u8; 32] {
        &self.secret
    }
    /// The name of `content` as an object of `kind`.
    pub fn name(&self, kind: Kind, content: &[u8]) -> Name {
        Name(*blake3::keyed_hash(&self.keys[kind as usize - 1], content).as_bytes())
    }
    /// A keyed hash of a map key, which decides where map nodes end.
    pub fn boundary(&self, key: &[u8]) -> u64 {
        Name(*blake3::keyed_hash(&self.boundary, key).as_bytes()).prefix()
    }
}

impl fmt::Debug for Realm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Realm(")?;
        write_hex(f, &self.id)?;
        f.write_str(")")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_the_names_we_give() {
        let page = include_str!("../../docs/formats/names.md");
        let realm = Realm::published();
        let id: String = realm.id().iter().map(|byte| format!("{byte:02x}")).collect();
        let names = Kind::ALL.map(|kind| realm.name(kind, b"").to_string());
        for value in names.iter().chain([&id]) {
            assert!(page.contains(&format!("`{value}`")), "docs/formats/names.md lacks `{value}`");
        }
        assert_ne!(names[0], names[1], "the kind is part of the name");
    }
}
