//! `[hook.NAME]`: what quiets an application while a moment is marked.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use crate::units::parse_duration;

/// How long a freeze, a thaw, or staying frozen may take where nothing is said.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The longest that any of them may be given: an application that stands still for longer is one that fell over.
const TIMEOUT_MAX: Duration = Duration::from_secs(3600);

/// What is called before a mark and after it.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hook {
    /// Where commands run, as `ssh` takes it (`user@host`, `ssh://user@host:port`); on the box where nothing is said.
    pub ssh: Option<String>,
    /// The private key for it; what `ssh` finds by itself where nothing is said.
    pub ssh_key_file: Option<PathBuf>,
    /// Quiets the application. When it has ended well, nothing is under way.
    pub freeze: Call,
    /// Lets it go on. It should end well, too, where nothing is frozen.
    pub thaw: Call,
    /// How long the freeze may take.
    #[serde(default = "timeout", deserialize_with = "duration")]
    pub freeze_timeout: Duration,
    /// How long a thaw may take.
    #[serde(default = "timeout", deserialize_with = "duration")]
    pub thaw_timeout: Duration,
    /// How long the application may stay frozen behind a freeze that ended well.
    #[serde(default = "timeout", deserialize_with = "duration")]
    pub hold: Duration,
    /// File with a secret that calls over HTTP carry as `Authorization: Bearer`. Read anew for each call.
    pub token_file: Option<PathBuf>,
    /// File with the certificates (PEM) that an HTTPS server's is signed by; those that the system trusts where nothing is said.
    pub ca_file: Option<PathBuf>,
}

/// One of a hook's two calls.
#[derive(Clone, Deserialize)]
#[serde(untagged)]
pub enum Call {
    /// A POST to this address, `http://` or `https://`.
    Url(String),
    /// A command and its arguments. No shell looks at them on the box.
    Command(Vec<String>),
}

/// Arguments and addresses hold secrets now and then, so a config that is printed does not show them.
impl std::fmt::Debug for Hook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hook").finish_non_exhaustive()
    }
}

fn timeout() -> Duration {
    TIMEOUT
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_duration(&text).map(Duration::from_secs).map_err(serde::de::Error::custom)
}

impl Hook {
    /// Finds what TOML's types alone do not. `key` is what the hook is called in the file.
    pub(super) fn validate(&self, key: &str) -> Result<(), String> {
        for (name, call) in [("freeze", &self.freeze), ("thaw", &self.thaw)] {
            match call {
                Call::Command(words) if words.first().is_none_or(String::is_empty) => {
                    return Err(format!("{key}.{name} = []: expected a command and its arguments, or an address"));
                }
                Call::Command(words) if words.iter().any(|word| word.contains('\0')) => {
                    return Err(format!("{key}.{name}: a command has no NUL in it"));
                }
                Call::Url(address) if !(address.starts_with("http://") || address.starts_with("https://")) => {
                    let form = "\"https://HOST/PATH\", or a command as a list: [\"fsfreeze\", \"--freeze\", \"/srv\"]";
                    return Err(format!("{key}.{name}: expected {form}"));
                }
                Call::Url(address) if address.parse::<ureq::http::Uri>().is_err() => {
                    return Err(format!("{key}.{name}: this is no address that HTTP knows"));
                }
                _ => {}
            }
        }
        if self.ssh.as_ref().is_some_and(|to| to.is_empty() || to.starts_with('-') || to.contains(char::is_whitespace))
        {
            return Err(format!("{key}.ssh: expected USER@HOST"));
        }
        if self.ssh.is_some() && [&self.freeze, &self.thaw].iter().any(|call| matches!(call, Call::Url(_))) {
            return Err(format!("{key}.ssh: an address is called from the box itself, not over ssh"));
        }
        let times = [("freeze_timeout", self.freeze_timeout), ("thaw_timeout", self.thaw_timeout), ("hold", self.hold)];
        for (name, time) in times {
            if time.is_zero() || time > TIMEOUT_MAX {
                return Err(format!("{key}.{name}: expected 1s to {}s", TIMEOUT_MAX.as_secs()));
            }
        }
        Ok(())
    }
}
