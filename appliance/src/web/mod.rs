//! The page worker.

pub mod start;
