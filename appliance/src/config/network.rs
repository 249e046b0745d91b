//! `[network]`: whether the box sets up the network of its machine.

use std::time::Duration;

use serde::Deserialize;

use crate::units::parse_duration;

/// How long a change may be tried, in seconds: time to open the page at its new address, and not a night without a network.
const TRIAL_SECONDS: std::ops::RangeInclusive<u64> = 5..=600;

/// `[network]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Network {
    /// Whether the box sets it up, by files of systemd-networkd that it owns; otherwise it is the machine's affair.
    pub manage: bool,
    /// Which interface, as in "eth0"; the one with the way to other networks where nothing is said.
    pub interface: Option<String>,
    /// How long a change is tried before it goes back by itself, as in "60s".
    pub trial: String,
}

impl Default for Network {
    fn default() -> Self {
        Network { manage: false, interface: None, trial: "60s".into() }
    }
}

impl Network {
    /// How long a change is tried.
    pub fn trial(&self) -> Result<Duration, String> {
        let seconds = parse_duration(&self.trial).map_err(|refusal| format!("network.trial: {refusal}"))?;
        match TRIAL_SECONDS.contains(&seconds) {
            true => Ok(Duration::from_secs(seconds)),
            false => {
                let (least, most) = (TRIAL_SECONDS.start(), TRIAL_SECONDS.end());
                Err(format!("network.trial = {:?}: from {least} s to {most} s", self.trial))
            }
        }
    }

    pub(super) fn check(&self) -> Result<(), String> {
        self.trial()?;
        match &self.interface {
            Some(name) if !is_a_name(name) => {
                Err(format!("network.interface = {name:?}: this is no name of an interface"))
            }
            _ => Ok(()),
        }
    }
}

/// A name as the kernel takes it, and as it stands for itself alone in files of networkd.
fn is_a_name(name: &str) -> bool {
    (1..16).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        && name != "."
        && name != ".."
}

#[cfg(test)]
mod tests {
    use super::super::Config;

    #[test]
    fn what_makes_no_sense_is_refused_by_its_key() {
        let read = |text: &str| Config::read(&format!("[network]\n{text}"));
        let config = read("").expect("sound");
        assert!(!config.network.manage && config.network.trial().expect("sound").as_secs() == 60);
        assert!(read("manage = true\ninterface = 'enp3s0.7'\ntrial = '5s'").is_ok());
        for (text, key) in [
            ("trial = '4s'", "network.trial"),
            ("trial = '1h'", "network.trial"),
            ("trial = 'soon'", "network.trial"),
            ("interface = '*'", "network.interface"),
            ("interface = '..'", "network.interface"),
            ("interface = 'a-very-long-name'", "network.interface"),
            ("interface = \"a\\nb\"", "network.interface"),
            ("managed = true", "managed"),
        ] {
            let refused = read(text).expect_err(text);
            assert!(refused.contains(key), "{text}: {refused}");
        }
    }
}
