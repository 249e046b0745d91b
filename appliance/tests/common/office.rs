//! A box in a network namespace of its own, and what is done with it.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::net::Site;
use super::{Served, facts, fine, noise, write_volume};

pub const MIB: usize = 1 << 20;

/// A box in a namespace of its own.
pub struct Office {
    pub site: Site,
    pub data: PathBuf,
    served: Option<Served>,
    /// What its command is prepared with.
    environment: Vec<(&'static str, PathBuf)>,
}

impl Office {
    /// A box with so many lines; `more` is further config.
    pub fn open(folder: &Path, number: u8, name: &str, lines: u8, more: &str) -> Office {
        Self::open_in(folder, number, name, lines, more, Vec::new())
    }

    /// The same with an environment.
    pub fn open_in(
        folder: &Path,
        number: u8,
        name: &str,
        lines: u8,
        more: &str,
        environment: Vec<(&'static str, PathBuf)>,
    ) -> Office {
        let site = Site::new(number, lines);
        let data = site.data(folder, name, more);
        let mut office = Office { site, data, served: None, environment };
        office.start();
        office
    }

    /// The running box.
    pub fn served(&self) -> &Served {
        self.served.as_ref().expect("it runs")
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.served.take().expect("it runs").kill();
    }

    /// Starts it again.
    pub fn start(&mut self) {
        self.served = Some(self.site.start_in(&self.data, &self.environment));
    }

    /// Writes noise from a seed to a volume, synchronised.
    pub fn write(&self, volume: &str, at: usize, seed: u64, len: usize) {
        write_volume(self.served(), volume, at, &noise(seed, len));
    }

    /// What a command says.
    pub fn say(&self, words: &str) -> String {
        fine(&self.data, &words.split_whitespace().collect::<Vec<_>>())
    }

    /// What a command says, as facts.
    pub fn ask(&self, words: &str) -> Value {
        facts(&self.data, &words.split_whitespace().collect::<Vec<_>>())
    }

    /// The root of a snapshot, once it has one.
    pub fn root(&self, dataset: &str, snapshot: &str) -> Option<Value> {
        let list = self.ask("snapshot list");
        let rows = list.as_array().expect("a list").clone();
        let found = rows.into_iter().find(|row| row["dataset"] == dataset && row["name"] == snapshot)?;
        Some(found["root"].clone()).filter(|root| !root.is_null())
    }

    /// What `peer list` says of a peer.
    pub fn peer(&self, name: &str) -> Value {
        let peers = self.ask("peer list");
        peers.as_array().expect("a list").iter().find(|peer| peer["name"] == name).cloned().expect("a peer")
    }

    /// Makes this box and the one that is reached at `address` peers.
    pub fn join(&self, other: &Office, address: &str) {
        let code = other.ask("peer invite")["code"].as_str().expect("a code").to_owned();
        self.say(&format!("peer join {code} {address}"));
    }
}

/// A number of a report.
pub fn bytes(report: &Value, field: &str) -> u64 {
    report[field].as_u64().unwrap_or_else(|| panic!("{field} of {report}"))
}
