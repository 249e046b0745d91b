//! Keeps bytes: safe first, deduplicated second. No sockets, no clock, no async, no threads of its own.
//!
//! The modules stand in the order in which a byte travels.

pub mod codec;
mod database;
pub mod error;
pub mod id;
mod jumps;
pub mod name;
mod pressure;
mod stages;
pub mod steady;
pub mod units;

/// Stage 7b: the small truth: datasets, heads, snapshots, peers, settings.
pub mod catalogue;
/// Stage 4: cutting: FastCDC, holes.
pub mod chunk;
/// Stage 5: keeping: files that hold objects.
pub mod container;
/// Stage 1: what clients write to.
pub mod dataset;
/// Stage 3: the pump: from layers to chunks, containers and trees.
mod drain;
/// Stage 2b: what is kept of the journal for one dataset's window.
mod history;
/// Stage 6: finding: where an object lies.
pub mod index;
/// Stage 2: where a change becomes safe.
pub mod journal;
/// Stage 0: the disk as a small trait.
pub mod media;
/// Stages 5 and 6 as one thing: objects by name.
pub mod pool;
/// Stage 7: describing: trees of content-addressed nodes.
pub mod tree;

/// Stage 10: forgetting: what nobody needs gives its room back.
pub mod reclaim;

/// Whose what can't be read is that keeps reclaim from ending.
pub mod in_the_way;

/// Storing anew what is damaged, from whoever has the same tree.
pub mod heal;

/// The one public door.
pub mod store;

/// Whom damage hits.
pub mod affected;
/// Who would free what.
pub mod census;
/// Every invariant in one function.
pub mod check;
/// What changed between two snapshots.
pub mod compare;

pub use error::{Error, Result};
pub use jumps::Jump;
pub use pressure::PressureOptions;
pub use store::{Store, StoreOptions};
