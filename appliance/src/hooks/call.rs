//! One call of a hook, whatever way it goes, and what became of it.

use std::sync::atomic::AtomicBool;

use super::{command, http};
use crate::config::{Call, Hook};

/// Characters of what somebody said that are shown.
const SHOWN_CHARS_MAX: usize = 1000;

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// It ran and said that all is well.
    Done,
    /// It ran and said that it failed.
    Refused {
        /// A command's exit status.
        code: Option<i32>,
        /// In words.
        why: String,
    },
    /// Nobody knows what it did, or whether it is at it still: its time was over, or the line broke.
    Unknown(String),
    /// It did nothing.
    NotBegun(String),
}

impl Ended {
    /// Why it did not end well; `None` where it did.
    pub(super) fn problem(&self) -> Option<&str> {
        match self {
            Ended::Done => None,
            Ended::Refused { why, .. } | Ended::Unknown(why) | Ended::NotBegun(why) => Some(why),
        }
    }
}

/// What a call is about, for whoever is called.
#[derive(Clone, Debug)]
pub(super) struct About {
    /// "freeze" or "thaw".
    pub(super) phase: &'static str,
    /// Which datasets are marked.
    pub(super) datasets: Vec<String>,
    /// The mark's name.
    pub(super) mark: String,
}

impl About {
    /// The same as variables of an environment. Several datasets are a line each.
    pub(super) fn variables(&self) -> [(&'static str, String); 3] {
        [
            ("NARROWBOAT_DATASET", self.datasets.join("\n")),
            ("NARROWBOAT_MARK", self.mark.clone()),
            ("NARROWBOAT_PHASE", self.phase.to_owned()),
        ]
    }
}

/// Calls a hook and waits for its end, at most as long as it may take. `cut` ends a command before.
pub(super) fn call(hook: &Hook, about: &About, cut: &AtomicBool) -> Ended {
    let (call, time) = match about.phase {
        "freeze" => (&hook.freeze, hook.freeze_timeout),
        _ => (&hook.thaw, hook.thaw_timeout),
    };
    match (call, &hook.ssh) {
        (Call::Url(address), _) => http::post(hook, address, about, time),
        (Call::Command(words), None) => command::run_here(words, about, time, cut),
        (Call::Command(words), Some(to)) => {
            command::run_there(to, hook.ssh_key_file.as_deref(), words, about, time, cut)
        }
    }
}

/// What somebody said, in one line that a person can read.
pub(super) fn one_line(said: &str, more_before: bool) -> String {
    let lines = said.lines().map(str::trim).filter(|line| !line.is_empty());
    let text = lines.collect::<Vec<_>>().join("; ").replace(|c: char| c.is_control(), " ");
    let surplus = text.chars().count().saturating_sub(SHOWN_CHARS_MAX);
    let shown: String = text.chars().skip(surplus).collect();
    if more_before || surplus > 0 { format!("…{shown}") } else { shown }
}
