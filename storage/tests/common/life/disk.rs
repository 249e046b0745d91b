//! A volume with a window for its past, and who writes to it.

use narrowboat_storage::Store;
use narrowboat_storage::catalogue::Policy;
use narrowboat_storage::units::{Lsn, Timestamp};

use super::super::blocks::{Writer, all, device, expect};
use super::super::known::FOR_EVER;
use super::super::versions::Versions;

const SIZE: u64 = 1 << 20;

pub struct Disk {
    writer: Writer,
    versions: Versions,
}

impl Disk {
    pub fn new(store: &Store, seed: u64) -> Disk {
        store.create_volume("disk", SIZE, Policy::Inline, Timestamp(1)).expect("room");
        store.set_window("disk", Some(FOR_EVER), Timestamp(1)).expect("room");
        Disk { writer: Writer::new(SIZE, seed), versions: Versions::new(SIZE) }
    }

    /// A change, or what makes changes safe. What was refused left no trace.
    pub fn step(&mut self, store: &Store, now: Timestamp) -> String {
        let volume = device(store, "disk");
        let last = self.versions.since.last().map(|(_, lsn)| *lsn);
        match (self.writer.roll(8), last) {
            (0..=1, Some(lsn)) => match volume.make_stable(lsn) {
                Ok(()) => {
                    self.versions.made_stable(lsn);
                    "stable".into()
                }
                Err(error) => error.to_string(),
            },
            (2, _) => format!("{:?}", store.drain_step(now).map_err(|error| error.to_string())),
            _ => match self.writer.change(&*volume, now) {
                Ok((patch, lsn)) if lsn > Lsn(0) => {
                    self.versions.since.push((patch, lsn));
                    if self.writer.roll(2) == 0 && volume.write_out(lsn).is_ok() {
                        self.versions.written = lsn;
                    }
                    format!("record {lsn}")
                }
                Ok(_) => "nothing changed".into(),
                Err(error) => error.to_string(),
            },
        }
    }

    /// What a process that ended told its clients is there.
    pub fn killed(&mut self) {
        self.versions.made_stable(self.versions.written);
    }

    /// From here on the past may be shorter than its window.
    pub fn was_full(&mut self) {
        self.versions.may_be_short = true;
    }

    /// Compares what a crash left with what it may leave, and goes on from there.
    pub fn recovered(&mut self, store: &Store) {
        self.versions.recovered(all(&*device(store, "disk")), "the volume after a restart");
        self.writer.image = self.versions.stable.clone();
    }

    pub fn expect(&self, store: &Store, what: &str) {
        expect(&*device(store, "disk"), &self.writer.image, what);
    }

    /// Looks at some moments of the past; how many.
    pub fn look_back(&self, store: &Store, salt: u64) -> u64 {
        self.versions.look_back(store, "disk", salt, "the volume's past");
        self.versions.log.len().min(2) as u64
    }
}
