//! The keys of a share's table: order-preserving bytes.
//!
//! All keys of one inode lie together, and the entries of a directory lie in the order of their names and once more in
//! the order of their cookies. `docs/formats/namespace.md` owns the layout.

use crate::dataset::NAME_BYTES_MAX;
use crate::units::Inode;

const RECORD: u8 = 0x00;
const CONTENT: u8 = 0x01;
const ENTRY: u8 = 0x02;
const LISTED: u8 = 0x03;
const TARGET: u8 = 0x04;
const TOTALS: u8 = 0x05;

/// The longest key: an entry whose name has 255 bytes.
pub const KEY_BYTES_MAX: usize = 9 + NAME_BYTES_MAX;

/// What a key stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key<'a> {
    /// The totals of the share; stands before all else.
    Totals,
    /// The record of an inode.
    Record(Inode),
    /// The content of a regular file. Written by drain; the namespace only deletes it.
    Content(Inode),
    /// An entry of a directory, by its name.
    Entry(Inode, &'a [u8]),
    /// An entry of a directory, by its cookie.
    Listed(Inode, u64),
    /// A piece of a symlink's target that is too long for its record.
    Target(Inode, u8),
}

impl<'a> Key<'a> {
    /// The bytes of the key.
    pub fn encode(self) -> Vec<u8> {
        match self {
            Key::Totals => head(Inode(0), TOTALS, 0),
            Key::Record(inode) => head(inode, RECORD, 0),
            Key::Content(inode) => head(inode, CONTENT, 0),
            Key::Entry(dir, name) => {
                let mut key = head(dir, ENTRY, name.len());
                key.extend_from_slice(name);
                key
            }
            Key::Listed(dir, cookie) => {
                let mut key = head(dir, LISTED, 8);
                key.extend_from_slice(&cookie.to_be_bytes());
                key
            }
            Key::Target(inode, piece) => {
                let mut key = head(inode, TARGET, 1);
                key.push(piece);
                key
            }
        }
    }

    /// Reads a key; `None` where the bytes are no key of this layout.
    pub fn parse(bytes: &'a [u8]) -> Option<Key<'a>> {
        let (inode, rest) = bytes.split_first_chunk::<8>()?;
        let inode = Inode(u64::from_be_bytes(*inode));
        let (kind, rest) = rest.split_first()?;
        match (inode.0, *kind, rest.len()) {
            (0, TOTALS, 0) => Some(Key::Totals),
            (0, _, _) => None,
            (_, RECORD, 0) => Some(Key::Record(inode)),
            (_, CONTENT, 0) => Some(Key::Content(inode)),
            (_, ENTRY, 1..=NAME_BYTES_MAX) => Some(Key::Entry(inode, rest)),
            (_, LISTED, 8) => Some(Key::Listed(inode, u64::from_be_bytes(rest.try_into().ok()?))),
            (_, TARGET, 1) => Some(Key::Target(inode, *rest.first()?)),
            _ => None,
        }
    }
}

/// The bounds (from, and to without it) of the listing of `dir` behind `cookie`.
pub fn listing_behind(dir: Inode, cookie: u64) -> (Vec<u8>, Vec<u8>) {
    let from = match cookie.checked_add(1) {
        Some(next) => Key::Listed(dir, next).encode(),
        None => head(dir, LISTED + 1, 0),
    };
    (from, head(dir, LISTED + 1, 0))
}

/// The bounds (from, and to without it) of all keys of an inode.
pub fn all_of(inode: Inode) -> (Vec<u8>, Vec<u8>) {
    (head(inode, 0, 0), head(inode, 0xff, 0))
}

fn head(inode: Inode, kind: u8, more: usize) -> Vec<u8> {
    let mut key = Vec::with_capacity(9 + more);
    key.extend_from_slice(&inode.0.to_be_bytes());
    key.push(kind);
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keys_sort_by_inode_then_kind_then_name_or_cookie() {
        let keys = [
            Key::Totals,
            Key::Record(Inode(1)),
            Key::Content(Inode(1)),
            Key::Entry(Inode(1), b"a"),
            Key::Entry(Inode(1), b"a\0"),
            Key::Entry(Inode(1), b"b"),
            Key::Listed(Inode(1), 3),
            Key::Listed(Inode(1), 256),
            Key::Listed(Inode(1), u64::MAX),
            Key::Target(Inode(1), 0),
            Key::Target(Inode(1), 4),
            Key::Record(Inode(2)),
            Key::Record(Inode(256)),
        ];
        let bytes: Vec<_> = keys.iter().map(|key| key.encode()).collect();
        assert!(bytes.is_sorted_by(|a, b| a < b));
        for (key, bytes) in keys.iter().zip(&bytes) {
            assert_eq!(Key::parse(bytes), Some(*key));
        }
    }

    #[test]
    fn a_listing_resumes_strictly_behind_its_cookie_and_ends_before_the_next_kind() {
        for cookie in [0, 2, 3, u64::MAX - 1, u64::MAX] {
            let (from, to) = listing_behind(Inode(7), cookie);
            assert!(from > Key::Listed(Inode(7), cookie).encode());
            assert!(
                from <= to && to > Key::Listed(Inode(7), u64::MAX).encode() && to <= Key::Target(Inode(7), 0).encode()
            );
        }
    }

    proptest! {
        #[test]
        fn whatever_parses_encodes_to_the_same_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Some(key) = Key::parse(&bytes) {
                prop_assert_eq!(key.encode(), bytes);
            }
        }

        #[test]
        fn keys_with_a_likely_shape_too(inode in 0u64..3, kind in 0u8..7, rest in proptest::collection::vec(any::<u8>(), 0..260)) {
            let mut bytes = inode.to_be_bytes().to_vec();
            bytes.push(kind);
            bytes.extend(rest);
            if let Some(key) = Key::parse(&bytes) {
                prop_assert!(bytes.len() <= KEY_BYTES_MAX);
                prop_assert_eq!(key.encode(), bytes);
            }
        }
    }
}
