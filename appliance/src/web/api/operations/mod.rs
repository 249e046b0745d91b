//! All operations: the table of the interface. A file each noun; what a row says is what is served and what is documented.
//!
//! What is the console's alone is missing. What takes longer than a request is waited for (checks, reclaim) is begun by one and looked at by another.

mod copies;
mod datasets;
mod limits;
mod peers;
mod snapshots;
mod system;

use super::table::Operation;

/// The whole table.
pub(super) fn all() -> Vec<Operation> {
    let nouns = [
        system::operations(),
        datasets::operations(),
        snapshots::operations(),
        peers::operations(),
        copies::operations(),
        limits::operations(),
    ];
    nouns.into_iter().flatten().collect()
}
