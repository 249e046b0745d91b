//! What is kept of a set-up until it is done: one setting of the store, JSON.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use narrowboat_storage::Store;
use serde::{Deserialize, Serialize};

use super::SetUp;
use super::apply::Outcome;
use crate::clock;
use crate::control::Failed;

/// The setting.
const SETTING: &str = "set-up";
/// Most fields that are kept as they were typed, and the longest.
const FIELDS_MAX: usize = 64;
const FIELD_BYTES_MAX: usize = 8 << 10;

/// One change at a time.
static CHANGING: Mutex<()> = Mutex::new(());

/// Everything that outlives a restart.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Kept {
    /// What was typed on the page, by field.
    pub typed: BTreeMap<String, String>,
    /// What is to be done.
    pub applying: Option<SetUp>,
    /// Nobody is there who could find the box at another address: its network counts without a trial.
    pub unseen: bool,
    /// What became of the last one.
    pub outcomes: Vec<Outcome>,
    /// The hash of the set-up that the box was started with, once it has taken it.
    pub taken: Option<String>,
}

impl Kept {
    /// As the store has it.
    pub fn of(store: &Store) -> Result<Kept, Failed> {
        let Some(value) = store.setting(SETTING) else { return Ok(Kept::default()) };
        // Of a later version, or damaged: nothing that anybody needs, once the box is set up.
        Ok(serde_json::from_slice(&value).unwrap_or_else(|error| {
            tracing::warn!(%error, "what was typed for the set-up can't be read: it begins anew");
            Kept::default()
        }))
    }

    /// Changes it, if `change` takes it as it is.
    pub fn change<T>(store: &Store, change: impl FnOnce(&mut Kept) -> Result<T, Failed>) -> Result<T, Failed> {
        let _one = CHANGING.lock().unwrap_or_else(PoisonError::into_inner);
        let mut kept = Kept::of(store)?;
        let outcome = change(&mut kept)?;
        let value = serde_json::to_vec(&kept).map_err(|error| Failed::environment(error.to_string()))?;
        store.set_setting(SETTING, Some(&value), clock::now())?;
        Ok(outcome)
    }

    /// Keeps fields as they were typed, beside those that were typed before.
    pub fn type_in(&mut self, fields: BTreeMap<String, String>) -> Result<(), Failed> {
        if let Some((name, _)) = fields.iter().find(|(_, value)| value.len() > FIELD_BYTES_MAX) {
            return Err(Failed::about(name, format!("at most {FIELD_BYTES_MAX} bytes, please")));
        }
        self.typed.extend(fields);
        match self.typed.len() > FIELDS_MAX {
            true => Err(Failed::refused(format!("a set-up has at most {FIELDS_MAX} fields"))),
            false => Ok(()),
        }
    }
}
