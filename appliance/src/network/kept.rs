//! What outlives the process: one file in the data folder (docs/formats/network.md).

use std::fs::File;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::wanted::Wanted;
use crate::whole::exchange;

/// The file.
const FILE: &str = "network.json";
/// Its version.
const VERSION: u32 = 1;
/// Longest file, in bytes: what somebody says about a network is shorter.
const BYTES_MAX: u64 = 256 << 10;

/// What is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    pub(super) version: u32,
    /// Which interface all of it is about; empty before anything was said.
    pub interface: String,
    /// What counts; nothing where the files of others do.
    pub kept: Option<Wanted>,
    /// What is tried.
    pub trial: Option<Tried>,
    /// How many trials there were.
    pub trials: u64,
}

/// A set-up that is tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tried {
    /// Its number: no two trials of a box have the same.
    pub number: u64,
    /// What is tried.
    pub wanted: Wanted,
}

impl Default for State {
    fn default() -> Self {
        State { version: VERSION, interface: String::new(), kept: None, trial: None, trials: 0 }
    }
}

impl State {
    /// As it is in the data folder; the beginning where there is none.
    pub fn load(data: &Path) -> io::Result<State> {
        use io::Read;
        let file = match File::open(data.join(FILE)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(State::default()),
            file => file?,
        };
        let mut bytes = Vec::new();
        file.take(BYTES_MAX).read_to_end(&mut bytes)?;
        State::read(&bytes).map_err(|why| io::Error::new(io::ErrorKind::InvalidData, format!("{FILE}: {why}")))
    }

    /// Reads a file; refused with what is wrong.
    pub fn read(bytes: &[u8]) -> Result<State, String> {
        let state: State = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if state.version != VERSION {
            return Err(format!("it is of version {}, this box reads version {VERSION}", state.version));
        }
        let trial = state.trial.as_ref().map(|trial| &trial.wanted);
        if let Some(failed) = state.kept.iter().chain(trial).find_map(|wanted| wanted.problems().into_iter().next()) {
            return Err(failed.to_string());
        }
        Ok(state)
    }

    /// Exchanges the file whole, durably.
    pub fn store(&self, data: &Path) -> io::Result<()> {
        exchange(data, FILE, &serde_json::to_vec_pretty(self)?, 0o600)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_is_kept_is_read_and_what_is_not_ours_is_refused() {
        let data = tempfile::tempdir().expect("a folder");
        assert_eq!(State::load(data.path()).expect("none"), State::default());
        let wanted = Wanted { vlan: Some("7".into()), ..Wanted::default() };
        let trial = Some(Tried { number: 4, wanted });
        let state = State { interface: "eth0".into(), trial, trials: 4, ..State::default() };
        fs::write(data.path().join("network.json.new"), "left by a power cut").expect("written");
        state.store(data.path()).expect("stored");
        assert_eq!(State::load(data.path()).expect("sound"), state);
        assert_eq!(fs::read_dir(data.path()).expect("there").count(), 1);
        let text = String::from_utf8(fs::read(data.path().join(FILE)).expect("there")).expect("text");
        for damaged in [
            text.replace("\"version\": 1", "\"version\": 2"),
            text.replace("\"7\"", "\"4095\""),
            text[..text.len() / 2].to_owned(),
            String::new(),
        ] {
            fs::write(data.path().join(FILE), &damaged).expect("written");
            assert!(State::load(data.path()).is_err(), "{damaged}");
        }
    }
}
