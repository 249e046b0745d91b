//! Whether contents look encrypted that did not before: some blocks of each side, by how much like chance they are.

use bytes::Bytes;
use narrowboat_storage::Store;
use narrowboat_storage::catalogue::DatasetKind;
use narrowboat_storage::dataset::{Credentials, DirEntry, FileTree, FileType};
use narrowboat_storage::error::Result;
use narrowboat_storage::id::SnapshotId;
use narrowboat_storage::units::Inode;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::core::bits_per_byte;

/// Blocks of each side.
const BLOCKS: usize = 32;
const BLOCK_BYTES: u64 = 64 << 10;
/// Of less nothing can be told: short contents carry fewer bits each.
const BLOCK_BYTES_MIN: usize = 16 << 10;
/// Fewer blocks than that tell nothing.
const BLOCKS_MIN: usize = 4;
/// Bits of a byte: less is no encryption (text, programs, databases; most images and archives have more), more may be.
const CLEAR: f64 = 7.2;
const ENCRYPTED: f64 = 7.95;
/// Folders deep that a file is looked for, and entries of each.
const DEEP: usize = 32;
const ENTRIES: usize = 512;

/// Whether the middle of the blocks of the earlier snapshot was in clear, and that of the later one is not.
pub(super) fn looks_encrypted(store: &Store, kind: DatasetKind, before: SnapshotId, after: SnapshotId) -> Result<bool> {
    let (before, after) = match kind {
        DatasetKind::Share => (of_files(&*store.snapshot_tree(before)?)?, of_files(&*store.snapshot_tree(after)?)?),
        DatasetKind::Volume => of_volumes(store, before, after)?,
    };
    Ok(is_jump(before, after))
}

fn is_jump(before: Vec<f64>, after: Vec<f64>) -> bool {
    let median = |mut bits: Vec<f64>| {
        bits.sort_by(f64::total_cmp);
        (bits.len() >= BLOCKS_MIN).then(|| bits[bits.len() / 2])
    };
    median(before).is_some_and(|bits| bits <= CLEAR) && median(after).is_some_and(|bits| bits >= ENCRYPTED)
}

/// Of files that are met by going down from the root at random; the same each time.
fn of_files(tree: &dyn FileTree) -> Result<Vec<f64>> {
    let mut chance = StdRng::seed_from_u64(43);
    let mut all = Vec::new();
    for _ in 0..4 * BLOCKS {
        if all.len() >= BLOCKS {
            break;
        }
        let Some(file) = some_file(tree, &mut chance)? else { continue };
        let size = tree.attributes(file)?.size;
        let offset = size.saturating_sub(BLOCK_BYTES) / 2;
        let read = tree.read(&Credentials::ROOT, file, offset, BLOCK_BYTES as u32)?;
        all.extend(bits(&read.pieces));
    }
    Ok(all)
}

fn some_file(tree: &dyn FileTree, chance: &mut StdRng) -> Result<Option<Inode>> {
    let mut at = Inode::ROOT;
    for _ in 0..DEEP {
        let listing = tree.read_dir(&Credentials::ROOT, at, 0, ENTRIES)?;
        let entries: Vec<&DirEntry> =
            listing.entries.iter().filter(|entry| &entry.name[..] != b"." && &entry.name[..] != b"..").collect();
        if entries.is_empty() {
            return Ok(None);
        }
        let attributes = &entries[chance.random_range(0..entries.len())].attributes;
        at = attributes.inode;
        match attributes.file_type {
            FileType::Regular => return Ok(Some(at)),
            FileType::Directory => {}
            _ => return Ok(None),
        }
    }
    Ok(None)
}

/// Of places where both volumes differ.
fn of_volumes(store: &Store, before: SnapshotId, after: SnapshotId) -> Result<(Vec<f64>, Vec<f64>)> {
    let (old, new) = (store.snapshot_volume(before)?, store.snapshot_volume(after)?);
    let blocks = old.size_bytes().min(new.size_bytes()) / BLOCK_BYTES;
    let mut chance = StdRng::seed_from_u64(43);
    let (mut olds, mut news) = (Vec::new(), Vec::new());
    for _ in 0..32 * BLOCKS {
        if olds.len() >= BLOCKS || blocks == 0 {
            break;
        }
        let offset = chance.random_range(0..blocks) * BLOCK_BYTES;
        let (old, new) = (old.read(offset, BLOCK_BYTES)?.concat(), new.read(offset, BLOCK_BYTES)?.concat());
        if old != new && old.iter().any(|byte| *byte != 0) {
            olds.push(bits_per_byte(&old));
            news.push(bits_per_byte(&new));
        }
    }
    Ok((olds, news))
}

fn bits(pieces: &[Bytes]) -> Option<f64> {
    let block = pieces.concat();
    (block.len() >= BLOCK_BYTES_MIN).then(|| bits_per_byte(&block))
}

#[cfg(test)]
mod tests {
    use super::is_jump;

    #[test]
    fn only_a_jump_counts() {
        assert!(is_jump(vec![4.0; 9], vec![7.99; 9]));
        assert!(!is_jump(vec![7.99; 9], vec![7.99; 9]), "it was encrypted before");
        assert!(!is_jump(vec![4.0; 9], vec![4.5; 9]));
        assert!(!is_jump(vec![4.0; 3], vec![7.99; 9]), "too few to tell");
        assert!(!is_jump(Vec::new(), Vec::new()));
    }
}
