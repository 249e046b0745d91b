//! Names that stand for data which nobody has: hashes of a counter, which is what real names look like to an index. At chunks of
//! 16 KiB on average, a million of them are 16 GB of unique data.

use narrowboat_storage::Result;
use narrowboat_storage::container::Class;
use narrowboat_storage::id::ContainerId;
use narrowboat_storage::index::{Index, Location, Record};
use narrowboat_storage::name::{Kind, Name};

/// Slots in one container.
const SLOTS: u64 = 1000;

/// The name with this number.
pub fn name(nth: u64) -> Name {
    Name(*blake3::hash(&nth.to_le_bytes()).as_bytes())
}

/// The containers, from `first` on, that have the names from `from` up to `to`.
pub fn containers(first: u64, from: u64, to: u64) -> impl Iterator<Item = ContainerId> {
    (from / SLOTS..to.div_ceil(SLOTS)).map(move |nth| ContainerId(first + nth))
}

/// Puts names into the index as the pool does: sorted, with their containers, of which `next` is the first that is free afterwards.
pub fn insert(index: &Index, first: u64, from: u64, to: u64, next: u64) -> Result<()> {
    let place = |nth: u64| Location {
        container: ContainerId(first + nth / SLOTS),
        offset: (nth % SLOTS) as u32 * 16_000,
        stored_len: 8_000,
        kind: Kind::Chunk,
    };
    let mut names: Vec<_> = (from..to).map(|nth| (name(nth), place(nth))).collect();
    names.sort_unstable_by_key(|(name, _)| *name);
    let (slots, raw_bytes, stored_bytes, file_bytes) = (SLOTS as u32, 16 << 20, 8 << 20, 8 << 20);
    // Dense already: nobody recompresses what is not there.
    let record = Record { class: Class::Data, complete: true, dense: true, slots, raw_bytes, stored_bytes, file_bytes };
    let records: Vec<_> = containers(first, from, to).map(|id| (id, record)).collect();
    index.insert(&records, &names, next.max(first + to.div_ceil(SLOTS)))
}
