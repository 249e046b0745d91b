//! The box: front doors, jobs, people.
//!
//! The modules stand in the order in which a byte travels.

/// Front doors: what clients speak to.
pub mod ingest;

pub mod accounts;
pub mod announce;
pub mod assess;
/// What peers lack.
pub mod backlog;
/// Caps of the box and its peers, and what was said about them.
pub mod caps;
/// The command line.
pub mod cli;
/// The only place that asks for the time.
pub mod clock;
/// The config file.
pub mod config;
/// One API for people.
pub mod control;
pub mod disk;
pub mod disks;
pub mod heal;
/// What quiets applications while a moment is marked.
pub mod hooks;
/// Work that takes its time.
pub mod jobs;
/// What peers have proved to have.
pub mod ledger;
pub mod losses;
pub mod network;
/// The running box.
pub mod node;
pub mod notices;
/// The slowest rate that meets a recovery point.
pub mod pace;
pub mod page;
pub mod percent;
/// Datasets that go to peers by themselves.
pub mod plans;
/// When datasets are deduplicated that wait for it.
pub mod policies;
mod qr;
pub mod quarantine;
pub mod recent;
/// What peers were refused.
pub mod refusals;
/// What programs asked for that is done once.
pub mod repeats;
/// What peers meet.
pub mod replicas;
pub mod retention;
/// How much the log says of the same thing.
pub mod said;
pub mod scrub;
pub mod setup;
/// Replications under way.
pub mod transfers;
pub mod trends;
/// Whom the box takes for who he says he is.
pub(crate) mod trust;
/// Sizes, rates and times for people.
pub mod units;
/// Who uses a dataset.
pub mod users;
pub mod web;
mod whole;
