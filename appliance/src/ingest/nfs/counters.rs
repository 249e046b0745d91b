//! What was asked, how often, and how much went through: read by status pages, written by every call.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::procedures::PROCEDURES;

/// Counts of one procedure.
#[derive(Debug, Default)]
struct Cell {
    calls: AtomicU64,
    errors: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
}

/// Counts since the start, by procedure. Each number only grows.
#[derive(Debug, Default)]
pub struct Counters {
    nfs: [Cell; PROCEDURES.len()],
    mount: Cell,
    refused: AtomicU64,
    repeated: AtomicU64,
}

/// Counts of one procedure at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcedureCount {
    /// The procedure's name in RFC 1813, or `MOUNT` for all of that program.
    pub name: &'static str,
    /// Calls that were carried out.
    pub calls: u64,
    /// Those that ended in a status other than `NFS3_OK`.
    pub errors: u64,
    /// Bytes of their arguments, bulk data included.
    pub bytes_in: u64,
    /// Bytes of their results, bulk data included.
    pub bytes_out: u64,
}

/// All counts at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counts {
    /// By procedure, in the order of their numbers, MOUNT last.
    pub procedures: Vec<ProcedureCount>,
    /// Calls that RPC itself refused: credentials, versions, garbage.
    pub refused: u64,
    /// Repeated calls that were dropped or answered from memory.
    pub repeated: u64,
}

impl Counters {
    pub(crate) fn nfs(&self, procedure: usize, failed: bool, bytes_in: usize, bytes_out: usize) {
        if let Some(cell) = self.nfs.get(procedure) {
            cell.count(failed, bytes_in, bytes_out);
        }
    }

    pub(crate) fn mount(&self, failed: bool, bytes_in: usize, bytes_out: usize) {
        self.mount.count(failed, bytes_in, bytes_out);
    }

    pub(crate) fn refused(&self) {
        self.refused.fetch_add(1, Relaxed);
    }

    pub(crate) fn repeated(&self) {
        self.repeated.fetch_add(1, Relaxed);
    }

    /// Reads all counts. Calls that end meanwhile may be in some of them.
    pub fn read(&self) -> Counts {
        let names = PROCEDURES.iter().map(|procedure| procedure.name);
        let nfs = self.nfs.iter().zip(names).map(|(cell, name)| cell.read(name));
        Counts {
            procedures: nfs.chain([self.mount.read("MOUNT")]).collect(),
            refused: self.refused.load(Relaxed),
            repeated: self.repeated.load(Relaxed),
        }
    }
}

impl Cell {
    fn count(&self, failed: bool, bytes_in: usize, bytes_out: usize) {
        self.calls.fetch_add(1, Relaxed);
        self.errors.fetch_add(u64::from(failed), Relaxed);
        self.bytes_in.fetch_add(bytes_in as u64, Relaxed);
        self.bytes_out.fetch_add(bytes_out as u64, Relaxed);
    }

    fn read(&self, name: &'static str) -> ProcedureCount {
        ProcedureCount {
            name,
            calls: self.calls.load(Relaxed),
            errors: self.errors.load(Relaxed),
            bytes_in: self.bytes_in.load(Relaxed),
            bytes_out: self.bytes_out.load(Relaxed),
        }
    }
}
