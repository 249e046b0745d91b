//! All operations: the table of the interface. A file each noun; what a row says is what is served and what is documented.
//!
//! What is the console's alone is missing, and so is what takes longer than a page waits (checks, reclaim, counting anew): it would be broken off.

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
