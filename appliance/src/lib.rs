//! The box: front doors, jobs, people.
//!
//! The modules stand in the order in which a byte travels.

/// Front doors: what clients speak to.
pub mod ingest;
